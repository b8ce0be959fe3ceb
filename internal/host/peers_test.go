// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"evensong/internal/config"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
	"evensong/internal/transport"
)

// table is a resolver without a network.
type table struct {
	mu    sync.Mutex
	hosts map[string]string
	asked int
}

func (r *table) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	list, ok := r.hosts[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	return addrsOf(list), nil
}

// set changes what a host stands for, and returns how often anything was asked since the last call.
func (r *table) set(host, addrs string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[host] = addrs
	n := r.asked
	r.asked = 0
	return n
}

func addrsOf(list string) (out []netip.Addr) {
	for a := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// Of a name all addresses are tried that the daemon can send to, but for its own.
func TestPeersAt(t *testing.T) {
	const here = "127.0.0.1 10.0.0.1 fd00::1 fe80::1"
	for _, x := range []struct{ what, addrs, bind, want string }{
		{"all of them, in order", "10.0.0.3 10.0.0.2 10.0.0.3", "0.0.0.0:4803", "10.0.0.2:4803 10.0.0.3:4803"},
		{"not the own one", "10.0.0.1 10.0.0.2 127.0.1.1", "0.0.0.0:4803", "10.0.0.2:4803"},
		{"another daemon of this machine", "10.0.0.1", "0.0.0.0:4900", "10.0.0.1:4803"},
		{"bound to one", "10.0.0.1 10.0.0.2", "10.0.0.1:4803", "10.0.0.2:4803"},
		{"and another one", "10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.1:4803 10.0.0.3:4803", "10.0.0.2:4803"},
		{"IPv4 where there is both", "fd00::2 10.0.0.2", "0.0.0.0:4803", "10.0.0.2:4803"},
		{"IPv4 where there is both, by a socket for both", "fd00::2 10.0.0.2", "[::]:4803", "10.0.0.2:4803"},
		{"IPv6", "fd00::2 fd00::1", "[::]:4803", "[fd00::2]:4803"},
		{"IPv6 where there is both, by a socket for IPv6", "fd00::2 10.0.0.2", "[fd00::1]:4803", "[fd00::2]:4803"},
		{"IPv6 by a socket for IPv4", "fd00::2", "0.0.0.0:4803", ""},
		{"mapped", "::ffff:10.0.0.2", "0.0.0.0:4803", "10.0.0.2:4803"},
		{"of no use", "0.0.0.0 224.0.0.1", "0.0.0.0:4803", ""},
		{"from loopback", "10.0.0.2 127.0.0.1", "127.0.0.1:4900", "127.0.0.1:4803"},
	} {
		var bind []netip.AddrPort
		for b := range strings.FieldsSeq(x.bind) {
			bind = append(bind, netip.MustParseAddrPort(b))
		}
		got := fmt.Sprint(peersAt(addrsOf(x.addrs), 4803, bind, addrsOf(here)))
		if want := "[" + x.want + "]"; got != want {
			t.Errorf("%s: %s, want %s", x.what, got, want)
		}
	}
}

// A name that is not found keeps its addresses, and that is said rarely; other addresses are said each time.
func TestNamesThatAreNotFound(t *testing.T) {
	var log bytes.Buffer
	r := &table{hosts: map[string]string{"b.example": "10.0.0.2"}}
	f := newFinder(&Peers{
		Fixed: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:1")},
		Names: []PeerName{{Host: "a.example", Port: 1}, {Host: "b.example", Port: 2, Sought: true, Addrs: addrsOf("10.0.0.2")}, {Host: "c.example", Port: 3, Sought: true}},
		Here:  func() ([]netip.Addr, error) { return nil, nil }, Resolver: r,
	}, []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:4803")}, slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Now()
	step := func(after time.Duration, peers string, lines ...string) {
		t.Helper()
		log.Reset()
		now = now.Add(after)
		f.find(t.Context(), now)
		if got := fmt.Sprint(f.peers()); got != "["+peers+"]" {
			t.Errorf("peers %s, want %s", got, peers)
		}
		if n := strings.Count(log.String(), "\n"); n != len(lines) {
			t.Errorf("%d lines, want %d:\n%s", n, len(lines), &log)
		}
		for _, l := range lines {
			if !strings.Contains(log.String(), l) {
				t.Errorf("no %q in\n%s", l, &log)
			}
		}
	}
	step(0, "10.0.0.9:1 10.0.0.2:2", `level=WARN msg="peers: a host name is not found, and is looked up again" peer=a.example reason="no such host" kept=0`)
	step(findWarn/2, "10.0.0.9:1 10.0.0.2:2") // that c.example is not found was said before the start
	r.set("b.example", "10.0.0.4 10.0.0.3")
	step(findWarn/4, "10.0.0.9:1 10.0.0.3:2 10.0.0.4:2", `peer=b.example address="[10.0.0.3:2 10.0.0.4:2]"`)
	delete(r.hosts, "b.example")
	step(findWarn/2, "10.0.0.9:1 10.0.0.3:2 10.0.0.4:2", `peer=a.example`, `peer=b.example reason="no such host" kept=2`, `peer=c.example`)
	r.set("a.example", "10.0.0.9")
	r.set("b.example", "")
	step(time.Second, "10.0.0.9:1 10.0.0.3:2 10.0.0.4:2", `peer=a.example address=[10.0.0.9:1]`)
}

// Daemons find each other by a name that stands for nobody at first, then for all of them, and later for one more: in virtual
// time, by way of the event loop.
func TestPeersByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network transport.Mem
		dns := &table{hosts: map[string]string{}}
		daemon := func(name, addr string) *Host {
			at := netip.MustParseAddrPort(addr + ":4803")
			conn, err := network.Open(at)
			if err != nil {
				t.Fatal(err)
			}
			return start(t, Config{Conn: conn, Peers: Peers{
				Names: []PeerName{{Host: "all.example", Port: 4803}}, Resolver: dns,
				Here: func() ([]netip.Addr, error) { return []netip.Addr{at.Addr()}, nil },
			}}, newMachine(t, name))
		}
		members := func(h *Host) string {
			list, err := h.Members(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range list {
				names = append(names, p.Name)
			}
			return strings.Join(names, " ")
		}
		a, b := daemon("a", "10.0.0.1"), daemon("b", "10.0.0.2")
		time.Sleep(time.Minute)
		if got := members(a) + "|" + members(b); got != "a|b" {
			t.Fatalf("without an address: %s", got)
		}
		if n := dns.set("all.example", "10.0.0.1 10.0.0.2"); n < 2*6 || n > 2*9 {
			t.Errorf("two daemons alone asked %d times in a minute", n)
		}
		time.Sleep(findAlone + time.Second)
		if got := members(a) + "|" + members(b); got != "a b|a b" {
			t.Fatalf("with two addresses: %s", got)
		}
		dns.set("all.example", "10.0.0.1 10.0.0.2")
		time.Sleep(10 * time.Minute)
		if n := dns.set("all.example", "10.0.0.1 10.0.0.2 10.0.0.3"); n < 2*8 || n > 2*10 {
			t.Errorf("two daemons together asked %d times in ten minutes", n)
		}
		// Whoever comes later, and knows nobody, is found by those who are there.
		conn, err := network.Open(netip.MustParseAddrPort("10.0.0.3:4803"))
		if err != nil {
			t.Fatal(err)
		}
		c := start(t, Config{Conn: conn}, newMachine(t, "c"))
		time.Sleep(findTogether + findAlone + time.Second)
		if got := members(c); got != "a b c" {
			t.Fatalf("with three addresses: %s", got)
		}
	})
}

// newMachine is a daemon without peers.
func newMachine(t *testing.T, name string) *node.Machine {
	inc, rnd, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	m, err := node.New(node.Config{Me: evs.ProcID{Name: name, Inc: inc}, Accelerated: true}, rnd, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// peersFrom is a resolved configuration without a file.
func peersFrom(t *testing.T, dns *table, env map[string]string) config.Config {
	t.Helper()
	c, err := config.Assemble(nil, nil, func(k string) (string, bool) { s, ok := env[k]; return s, ok }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = config.Resolve(t.Context(), c, dns); err != nil {
		t.Fatal(err)
	}
	return c
}

// A daemon starts with names that nobody knows yet; those that are known are peers from the start, and its own address is none.
func TestAssemblePeersByName(t *testing.T) {
	env := map[string]string{"EVENSONG_NAME": "a", "EVENSONG_BIND": "10.0.0.1", "EVENSONG_PEER": "all.example,c=later.example:4900,10.0.0.9"}
	c := peersFrom(t, &table{hosts: map[string]string{"all.example": "10.0.0.2 10.0.0.1 10.0.0.3"}}, env)
	h, _, err := Assemble(&c, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	access, err := config.LoadAccess(&c)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := nodeConfig(&c, 0, access)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(n.Peers); got != "[10.0.0.9:4803 10.0.0.2:4803 10.0.0.3:4803]" {
		t.Errorf("peers %s", got)
	}
	if !slices.Equal(n.Daemons, []string{"a", "c"}) {
		t.Errorf("daemons %v", n.Daemons)
	}
	if got := fmt.Sprint(h.Peers.Names); got != "[{all.example 4803 true [10.0.0.2 10.0.0.1 10.0.0.3]} {later.example 4900 true []}]" {
		t.Errorf("names %s", got)
	}
}

// A daemon whose own name is not found, at the start or at a reload, has not moved.
func TestReloadOwnName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network transport.Mem
		dns := &table{hosts: map[string]string{}}
		env := map[string]string{"EVENSONG_NAME": "a", "EVENSONG_PEER": "a=me.example,b=b.example"}
		c := peersFrom(t, dns, env)
		cfg, build, err := Assemble(&c, 0, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Conn, err = network.Open(netip.MustParseAddrPort("10.0.0.1:4803")); err != nil {
			t.Fatal(err)
		}
		cfg.Listen, cfg.Unix, cfg.Peers.Resolver = nil, nil, dns
		cfg.Reread = func(context.Context) (config.Config, error) { return peersFrom(t, dns, env), nil }
		h, err := Start(cfg, build)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		reload := func(me, window string, changed int) {
			t.Helper()
			dns.set("me.example", me)
			env["EVENSONG_WINDOW"] = window
			if r, err := h.Reload(t.Context()); err != nil || len(r.Changed) != changed {
				t.Errorf("me at %q: %v, %v", me, r.Changed, err)
			}
		}
		reload("10.0.0.1", "100", 1)
		reload("10.0.0.1", "100", 0)
		reload("", "200", 1)
	})
}
