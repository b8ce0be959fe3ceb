// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster starts n daemons on loopback that know each other.
func cluster(t *testing.T, n int) []*Daemon {
	t.Helper()
	return keyed(t, n, "")
}

// keyed is cluster with a file that has the cluster's key.
func keyed(t *testing.T, n int, file string) []*Daemon {
	t.Helper()
	var peers []netip.AddrPort
	for range n {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peers = append(peers, c.LocalAddr().(*net.UDPAddr).AddrPort())
		c.Close()
	}
	var ds []*Daemon
	for i, p := range peers {
		// A busy machine must not look like a broken ring: nothing here waits for the timeout.
		d, err := Start(t.Context(), Config{
			TokenTimeout: time.Second,
			Name:         fmt.Sprintf("d%d", i), Cluster: t.Name(), Bind: p, Peers: peers,
			Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
			StateDir: filepath.Join(t.TempDir(), "state"), ClusterKeyFile: file,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		ds = append(ds, d)
	}
	return ds
}

func waitMembers(t *testing.T, d *Daemon, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var err error
		if got, err = d.Members(context.Background()); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("%s has members %v, want %v", d.Name(), got, want)
}

func TestClusterInOneProcess(t *testing.T) { serveClients(t, cluster(t, 3)) }

// TestSealedClusterInOneProcess: the same, sealed; and who has another key, or a file that is none, is not in it.
func TestSealedClusterInOneProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(strings.Repeat("01", 31)+"02\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ds := keyed(t, 3, file)
	d, err := Start(t.Context(), Config{Name: "d9", Cluster: t.Name(), Bind: netip.MustParseAddrPort("127.0.0.1:0"), Peers: []netip.AddrPort{ds[1].Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	serveClients(t, ds)
	waitMembers(t, d, "d9")
	if _, err := Start(t.Context(), Config{Name: "x", Bind: netip.MustParseAddrPort("127.0.0.1:0"), ClusterKeyFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, ErrConfig) {
		t.Errorf("a key that is not there: %v", err)
	}
}

func serveClients(t *testing.T, ds []*Daemon) {
	t.Helper()
	for _, d := range ds {
		waitMembers(t, d, "d0", "d1", "d2")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var cs []*client.Conn
	for i, d := range ds {
		c, err := client.Dial(ctx, d.ListenAddrs()[0].String(), client.WithName(fmt.Sprintf("c%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Join(ctx, "g"); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	next := func(c *client.Conn, want func(client.Event) bool) {
		t.Helper()
		for ev, err := range c.Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if want(ev) {
				return
			}
		}
	}
	for _, c := range cs {
		next(c, func(ev client.Event) bool { v, ok := ev.(*client.View); return ok && len(v.Members) == 3 })
	}
	const each = 50
	for i := range each {
		for _, c := range cs {
			if err := c.Multicast(ctx, client.Safe, int16(i), []byte(c.PrivateGroup()), "g"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var orders [3][]string
	for i, c := range cs {
		next(c, func(ev client.Event) bool {
			if m, ok := ev.(*client.Message); ok {
				orders[i] = append(orders[i], fmt.Sprint(m.Sender, m.Type))
			}
			return len(orders[i]) == 3*each
		})
	}
	if !slices.Equal(orders[0], orders[1]) || !slices.Equal(orders[0], orders[2]) {
		t.Error("the clients got the messages in different orders")
	}
	if err := ds[0].Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	next(cs[1], func(ev client.Event) bool {
		v, ok := ev.(*client.View)
		return ok && len(v.Members) == 2 && v.Cause == client.CausedByNetwork
	})
	waitMembers(t, ds[1], "d1", "d2")
}

// Strangers who send noise, on either port, harm nobody.
func TestGarbage(t *testing.T) {
	d := cluster(t, 1)[0]
	waitMembers(t, d, "d0")
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(d.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for i := range 200 {
		u.Write(noise(i * 7))
		u.Write(append([]byte{'E', 'V', 1, byte(i % 8)}, noise(i)...))
		c, err := net.Dial("tcp", d.ListenAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(noise(i))
		c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, d.ListenAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Join(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	for ev, err := range c.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := ev.(*client.View); ok {
			break
		}
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}

func TestEndOfContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	d, err := Start(ctx, Config{Name: "x", Bind: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-d.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("still running")
	}
	if err := errors.Join(d.Err(), d.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Start(ctx, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("start after the end: %v", err)
	}
	if _, err := d.Members(context.Background()); err == nil {
		t.Error("members of a daemon that ended")
	}
}

// A peer can be given by the name of its host.
func TestPeerHosts(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	a, err := Start(t.Context(), Config{Name: "a", Bind: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Start(t.Context(), Config{Name: "b", Bind: loopback, PeerHosts: []string{fmt.Sprintf("localhost:%d", a.Addr().Port())}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if names, err := a.Members(t.Context()); len(names) == 2 {
			return
		} else if err != nil || time.Now().After(end) {
			t.Fatalf("members %v, %v", names, err)
		}
	}
}

func TestStartErrors(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := Start(t.Context(), Config{Name: "x", Bind: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, tc := range []struct {
		cfg  Config
		want error
	}{
		{Config{Name: "y", Bind: d.Addr()}, ErrBind},
		{Config{Name: "no blanks", Bind: loopback}, ErrConfig},
		{Config{Name: "y", Bind: loopback, TokenTimeout: time.Millisecond}, ErrConfig},
		{Config{Name: "y", Bind: loopback, MaxSessions: -1}, ErrConfig},
		{Config{Name: "y", Bind: loopback, PeerHosts: []string{"127.0.0.1:4803"}}, ErrConfig},
	} {
		if d, err := Start(t.Context(), tc.cfg); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.cfg, err, tc.want)
			if err == nil {
				d.Close()
			}
		}
	}
}
