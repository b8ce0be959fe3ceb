// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// end is one transport under test, read by whatever means it needs.
type end interface {
	Send([]packet.Send)
	LocalAddr() netip.AddrPort
	Stats() *Stats
	Close() error
}

// opened is an end and the datagrams that it received, copied.
type opened struct {
	end
	in chan Datagram
}

// wait returns the next datagram, or fails the test.
func (o opened) wait(t *testing.T) Datagram {
	t.Helper()
	select {
	case d := <-o.in:
		return d
	case <-time.After(5 * time.Second):
		t.Fatal("no datagram")
	}
	panic("unreachable")
}

// none fails the test if a datagram arrives shortly.
func (o opened) none(t *testing.T) {
	t.Helper()
	select {
	case d := <-o.in:
		t.Fatalf("unexpected datagram of %d bytes from %v", len(d.Bytes), d.From)
	case <-time.After(30 * time.Millisecond):
	}
}

func openConn(t *testing.T, c Conn) opened {
	in := make(chan Datagram, 10000)
	done := make(chan struct{})
	sources := c.Sources()
	for _, s := range sources {
		go func() {
			defer func() { done <- struct{}{} }()
			b := make([]byte, packet.MaxDatagram)
			for {
				n, from, err := s.Receive(b)
				if err != nil {
					return
				}
				in <- Datagram{From: from, Bytes: bytes.Clone(b[:n])}
			}
		}()
	}
	t.Cleanup(func() {
		c.Close()
		for range sources {
			<-done
		}
	})
	return opened{c, in}
}

// kinds are the ways to open a UDP transport on this system; batch_linux_test.go adds to it.
var kinds = map[string]func(t *testing.T, cfg Config) (opened, error){
	"portable": func(t *testing.T, cfg Config) (opened, error) {
		p, err := OpenPortable(cfg)
		if err != nil {
			return opened{}, err
		}
		return openConn(t, p), nil
	},
}

func forEachKind(t *testing.T, f func(t *testing.T, open func(cfg Config) opened)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			f(t, func(cfg Config) opened {
				t.Helper()
				if err := cfg.Validate(); err != nil {
					t.Fatal(err)
				}
				o, err := kind(t, cfg)
				if err != nil {
					t.Fatal(err)
				}
				return o
			})
		})
	}
}

func bindTo(s string) Config { return Config{Bind: netip.MustParseAddrPort(s)} }

func hasIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestUnicastOrderAndSizes(t *testing.T) {
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
			if strings.HasPrefix(addr, "[") && !hasIPv6() {
				continue
			}
			a, b, c := open(bindTo(addr)), open(bindTo(addr)), open(bindTo(addr))
			to := []netip.AddrPort{b.LocalAddr(), c.LocalAddr()}
			var sends []packet.Send
			for i := range 200 {
				sends = append(sends, packet.Send{To: to, Bytes: bytes.Repeat([]byte{byte(i)}, i*7+1)})
			}
			sends = append(sends, packet.Send{To: to, Bytes: bytes.Repeat([]byte{9}, 65000)})
			a.Send(sends)
			for _, r := range []opened{b, c} {
				for i, s := range sends {
					d := r.wait(t)
					if d.From != a.LocalAddr() || !bytes.Equal(d.Bytes, s.Bytes) {
						t.Fatalf("datagram %d: got %d bytes from %v, want %d from %v", i, len(d.Bytes), d.From, len(s.Bytes), a.LocalAddr())
					}
				}
			}
			st := a.Stats()
			if got := st.DatagramsOut.Load(); got != uint64(2*len(sends)) {
				t.Errorf("DatagramsOut = %d, want %d", got, 2*len(sends))
			}
			if b.Stats().DatagramsIn.Load() != uint64(len(sends)) || b.Stats().BytesIn.Load() == 0 {
				t.Errorf("receiver counted %d datagrams, %d bytes", b.Stats().DatagramsIn.Load(), b.Stats().BytesIn.Load())
			}
		}
	})
}

// A wildcard IPv6 socket serves peers of both versions, and IPv4 peers have their usual addresses.
func TestDualStack(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 here")
	}
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		both, v4 := open(bindTo("[::]:0")), open(bindTo("127.0.0.1:0"))
		port := both.LocalAddr().Port()
		v4.Send([]packet.Send{{To: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}, Bytes: []byte("up")}})
		d := both.wait(t)
		if d.From != v4.LocalAddr() {
			t.Fatalf("from %v, want %v", d.From, v4.LocalAddr())
		}
		both.Send([]packet.Send{{To: []netip.AddrPort{d.From}, Bytes: []byte("down")}})
		if d := v4.wait(t); string(d.Bytes) != "down" {
			t.Fatalf("got %q", d.Bytes)
		}
	})
}

func TestSendErrorsAreCountedAndDoNotStopTheRest(t *testing.T) {
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		a, b := open(bindTo("127.0.0.1:0")), open(bindTo("127.0.0.1:0"))
		dead := netip.MustParseAddrPort("127.0.0.1:9") // nobody: ICMP port unreachable
		v6 := netip.MustParseAddrPort("[::1]:9")       // wrong family
		for range 3 {
			a.Send([]packet.Send{
				{To: []netip.AddrPort{dead, v6, b.LocalAddr()}, Bytes: []byte("x")},
				{To: []netip.AddrPort{b.LocalAddr()}, Bytes: make([]byte, 70000)}, // too long for UDP
				{To: []netip.AddrPort{dead, b.LocalAddr()}, Bytes: []byte("y")},
			})
			for _, want := range []string{"x", "y"} {
				if d := b.wait(t); string(d.Bytes) != want {
					t.Fatalf("got %q, want %q", d.Bytes, want)
				}
			}
		}
		if n := a.Stats().DropsError.Load(); n != 6 {
			t.Errorf("DropsError = %d, want 6 (last: %v)", n, a.Stats().LastError())
		}
		if a.Stats().LastError() == nil {
			t.Error("no LastError")
		}
		// The ICMP answers must not have broken receiving.
		b.Send([]packet.Send{{To: []netip.AddrPort{a.LocalAddr()}, Bytes: []byte("z")}})
		if d := a.wait(t); string(d.Bytes) != "z" {
			t.Fatalf("got %q", d.Bytes)
		}
	})
}

// Portable cannot promise that a datagram stays whole, and sends none of which that is asked; what is around it goes.
func TestPortableLeavesOutWhole(t *testing.T) {
	a, b := portable(t), portable(t)
	to := []netip.AddrPort{b.LocalAddr()}
	a.Send([]packet.Send{{To: to, Bytes: []byte("x")}, {To: to, Bytes: []byte("whole"), Whole: true}, {To: to, Bytes: []byte("y")}})
	for _, want := range []string{"x", "y"} {
		if d := b.wait(t); string(d.Bytes) != want {
			t.Errorf("got %q, want %q", d.Bytes, want)
		}
	}
	if s := a.Stats(); s.SendCalls.Load() != 2 || s.DropsError.Load()+s.DropsFull.Load() != 0 {
		t.Errorf("%d send calls, %d and %d dropped; want 2 and none", s.SendCalls.Load(), s.DropsError.Load(), s.DropsFull.Load())
	}
}

func portable(t *testing.T) opened {
	t.Helper()
	o, err := kinds["portable"](t, bindTo("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTakenAddress(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			a, err := kind(t, bindTo("127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kind(t, Config{Bind: a.LocalAddr()}); err == nil {
				t.Fatal("two sockets on one address")
			}
		})
	}
}

func freePort(t *testing.T) uint16 {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func TestGroups(t *testing.T) {
	for _, tc := range []struct{ name, group, a, b, c, iface string }{
		{"multicast IPv4", "239.11.22.33", "127.0.0.1", "127.0.0.2", "127.0.0.3", "lo"},
		{"broadcast", "127.255.255.255", "127.0.0.1", "127.0.0.2", "127.0.0.3", "lo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			forEachKind(t, func(t *testing.T, open func(Config) opened) {
				if _, err := net.InterfaceByName(tc.iface); err != nil {
					t.Skip("the loopback interface has another name here")
				}
				// One port for all: the addresses differ.
				port := freePort(t)
				at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), port) }
				cfg := func(s string) Config {
					return Config{Bind: at(s), Interface: tc.iface, Loop: true, Groups: []Group{{
						Addr: at(tc.group), Members: []netip.AddrPort{at(tc.a), at(tc.b), at(tc.c)}, Join: true}}}
				}
				if strings.HasSuffix(t.Name(), "/portable") {
					t.Skip("with the net package, several daemons on one host cannot share a group's port")
				}
				a, b, c := open(cfg(tc.a)), open(cfg(tc.b)), open(cfg(tc.c))
				a.Send([]packet.Send{
					{To: []netip.AddrPort{b.LocalAddr()}, Bytes: []byte("token")},
					{To: []netip.AddrPort{b.LocalAddr(), c.LocalAddr()}, Ring: true, Bytes: []byte("data")},
				})
				got := []string{string(b.wait(t).Bytes), string(b.wait(t).Bytes)}
				slices.Sort(got) // two sockets: no order between them
				if !slices.Equal(got, []string{"data", "token"}) {
					t.Errorf("b got %q", got)
				}
				d := c.wait(t)
				if string(d.Bytes) != "data" || d.From != a.LocalAddr() {
					t.Errorf("c got %q from %v", d.Bytes, d.From)
				}
				c.none(t)
				if n := a.Stats().GroupSends.Load(); n != 1 {
					t.Errorf("GroupSends = %d, want 1", n)
				}
			})
		})
	}
}

func TestGroupAlone(t *testing.T) {
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		if _, err := net.InterfaceByName("lo"); err != nil {
			t.Skip("the loopback interface has another name here")
		}
		for _, bind := range []string{"0.0.0.0", "127.0.0.1"} {
			port := freePort(t)
			group := netip.AddrPortFrom(netip.MustParseAddr("239.11.22.34"), port)
			x, y := netip.MustParseAddrPort("127.0.0.2:1"), netip.MustParseAddrPort("127.0.0.3:1")
			g := Group{Addr: group, Members: []netip.AddrPort{x, y}, Join: true}
			a := open(Config{Bind: netip.AddrPortFrom(netip.MustParseAddr(bind), port), Interface: "lo", Loop: true, Groups: []Group{g}})
			for range 5 { // a datagram may be dropped, and is counted then
				a.Send([]packet.Send{{To: []netip.AddrPort{x, y}, Ring: true, Bytes: []byte("all")}})
				if a.Stats().DatagramsOut.Load() > 0 {
					break
				}
			}
			if d := a.wait(t); string(d.Bytes) != "all" {
				t.Fatalf("got %q", d.Bytes)
			}
			a.none(t)
		}
	})
}

func TestMulticastIPv6(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 here")
	}
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		if _, err := net.InterfaceByName("lo"); err != nil {
			t.Skip("the loopback interface has another name here")
		}
		port := freePort(t)
		group := netip.AddrPortFrom(netip.MustParseAddr("ff01::1234"), port)
		x, y := netip.MustParseAddrPort("[::1]:1"), netip.MustParseAddrPort("[::1]:2")
		a := open(Config{Bind: netip.AddrPortFrom(netip.IPv6Unspecified(), port), Interface: "lo", Loop: true,
			Groups: []Group{{Addr: group, Members: []netip.AddrPort{x, y}, Join: true}}})
		a.Send([]packet.Send{{To: []netip.AddrPort{x, y}, Ring: true, Bytes: []byte("six")}})
		if a.Stats().DropsError.Load() > 0 {
			t.Skipf("IPv6 multicast has no route here: %v", a.Stats().LastError())
		}
		if d := a.wait(t); string(d.Bytes) != "six" {
			t.Fatalf("got %q", d.Bytes)
		}
	})
}

func TestPlanner(t *testing.T) {
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4803)
	}
	list := func(is ...int) (out []netip.AddrPort) {
		for _, i := range is {
			out = append(out, addr(i))
		}
		return out
	}
	p := planner{groups: []Group{{Addr: addr(100), Members: list(1, 2, 3)}, {Addr: addr(200), Members: list(4, 5)}}}
	for _, tc := range []struct {
		ring   bool
		to     []int
		want   []int
		groups int
	}{
		{false, []int{1, 2}, []int{1, 2}, 0},
		{true, []int{1, 2}, []int{100}, 1},
		{true, []int{1, 2, 3}, []int{100}, 1},
		{true, []int{1}, []int{1}, 0},
		{true, []int{3, 4}, []int{3, 4}, 0},
		{true, []int{1, 2, 4, 5}, []int{100, 200}, 2},
		{true, []int{9, 1, 2, 4}, []int{100, 9, 4}, 1},
		{true, nil, nil, 0},
	} {
		for range 2 { // the second answer comes from memory
			got, n := p.destinations(&packet.Send{Ring: tc.ring, To: list(tc.to...)})
			if !slices.Equal(got, list(tc.want...)) || n != tc.groups {
				t.Errorf("ring %v to %v: got %v, %d groups; want %v, %d", tc.ring, tc.to, got, n, tc.want, tc.groups)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	m := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}
	for _, tc := range []struct {
		cfg  Config
		want []string
	}{
		{bindTo("127.0.0.1:0"), nil},
		{Config{}, []string{"bind: no address"}},
		{bindTo("239.1.1.1:1"), []string{"multicast address"}},
		{Config{Bind: netip.MustParseAddrPort("1.2.3.4:1"), BufferBytes: -1, TTL: 256, Loss: 1}, []string{"buffer of -1", "ttl 256", "loss of 1"}},
		{Config{Bind: netip.MustParseAddrPort("1.2.3.4:1"), Groups: []Group{{}}}, []string{"needs an address", "no members"}},
		{Config{Bind: netip.MustParseAddrPort("1.2.3.4:1"), Groups: []Group{{Addr: netip.MustParseAddrPort("[ff02::1]:1"), Members: m}}}, []string{"same IP version"}},
		{Config{Bind: netip.MustParseAddrPort("[::]:1"), Groups: []Group{{Addr: netip.MustParseAddrPort("[fe80::1]:1"), Members: m}}}, []string{"no broadcast"}},
	} {
		err := tc.cfg.Validate()
		if tc.want == nil {
			if err != nil {
				t.Errorf("%+v: %v", tc.cfg, err)
			}
			continue
		}
		for _, w := range tc.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: got %v, want %q", tc.cfg, err, w)
			}
		}
	}
}

func TestMem(t *testing.T) {
	var net Mem
	addr := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1) }
	var ends []opened
	for i := range 3 {
		c, err := net.Open(addr(i))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, openConn(t, c))
	}
	if _, err := net.Open(addr(1)); err == nil {
		t.Error("an address opened twice")
	}
	to := []netip.AddrPort{addr(1), addr(2), addr(77)}
	for i := range 50 {
		ends[0].Send([]packet.Send{{To: to, Ring: true, Bytes: fmt.Appendf(nil, "m%d", i)}})
	}
	for _, e := range ends[1:] {
		for i := range 50 {
			if d := e.wait(t); string(d.Bytes) != fmt.Sprintf("m%d", i) || d.From != addr(0) {
				t.Fatalf("got %q from %v, want m%d", d.Bytes, d.From, i)
			}
		}
	}
	net.SetDrop(func(from, to netip.AddrPort) bool { return to == addr(1) })
	ends[0].Send([]packet.Send{{To: to, Bytes: []byte("cut")}})
	ends[2].wait(t)
	ends[1].none(t)
}

func TestSeveralAddresses(t *testing.T) {
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		port := freePort(t)
		at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), port) }
		a := open(Config{Bind: at("127.0.0.1"), Also: []netip.AddrPort{at("127.0.0.2"), at("127.0.0.3")}})
		b := open(Config{Bind: at("127.0.0.4")})
		for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
			b.Send([]packet.Send{{To: []netip.AddrPort{at(to)}, Bytes: []byte(to)}})
			if d := a.wait(t); string(d.Bytes) != to || d.From != b.LocalAddr() {
				t.Errorf("got %q from %v, want %q from %v", d.Bytes, d.From, to, b.LocalAddr())
			}
		}
		// All of 127/8 is the network of the main address.
		a.Send([]packet.Send{{To: []netip.AddrPort{b.LocalAddr()}, Bytes: []byte("out")}})
		if d := b.wait(t); d.From != at("127.0.0.1") {
			t.Errorf("sent from %v", d.From)
		}
	})
}

func TestHomes(t *testing.T) {
	nets := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, s := range list {
			p, _ := netip.ParsePrefix(s) // "?" is invalid: the system does not know the address
			out = append(out, p)
		}
		return out
	}
	h := &homes{nets: nets("10.1.0.0/16", "?", "10.2.3.0/24", "10.0.0.0/8", "fe80::/64"), known: map[netip.Addr]int{}}
	for range 2 { // the second time from memory
		for to, want := range map[string]int{"10.1.9.9": 0, "10.2.3.4": 2, "10.2.4.4": 3, "192.168.0.1": 0, "fe80::7%eth0": 4, "239.1.2.3": 0} {
			if got := h.from(netip.MustParseAddr(to)); got != want {
				t.Errorf("to %s by socket %d, want %d", to, got, want)
			}
		}
	}
	for i := range 2 * maxHomes {
		h.from(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}))
	}
	if len(h.known) > maxHomes {
		t.Errorf("%d addresses remembered, at most %d", len(h.known), maxHomes)
	}
	if (*homes)(nil).from(netip.MustParseAddr("10.0.0.1")) != 0 {
		t.Error("one address alone is not the main one")
	}
}
