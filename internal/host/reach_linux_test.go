// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/proto/node"
	"evensong/internal/proto/ring"
)

// TestGroupAddress: three real daemons on this host with a broadcast address. 127.255.255.255 is that of the loopback network and
// reaches all; 127.0.0.255 looks like one and reaches nobody, so that tokens come and packets sent there do not. Clients of both
// exchange messages, and the daemons stay together.
func TestGroupAddress(t *testing.T) {
	for _, r := range []struct {
		addr   string
		reach  ring.Reach
		silent time.Duration // what is said comes behind it
		line   string
	}{
		{"127.255.255.255", ring.ReachAll, 0, "the group address reaches everybody"},
		{"127.0.0.255", ring.ReachLacks, 5 * time.Second, "the group address does not reach everybody"},
	} {
		t.Run(r.addr, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("Spread_Segment %s:%d { a 127.0.0.1  b 127.0.0.2  c 127.0.0.3 }\n", r.addr, freeAddr(t).Port())
			var daemons []*filed
			var conns []*client.Conn
			for _, name := range []string{"a", "b", "c"} {
				daemons = append(daemons, startFiled(t, name, text))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			for _, d := range daemons {
				d.until("a b c")
				c, err := dial(t, "evensong://"+d.host.ListenAddrs()[0].String(), client.WithMembership(false))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.JoinAcked(ctx, "room"); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			installs := func(d *filed) (n uint64) {
				d.look(func(m *node.Machine) { n = m.Stats().Order.Installs })
				return n
			}
			reach := func(d *filed) (g ring.GroupStatus) {
				d.look(func(m *node.Machine) { g = m.Status(0).Ring.Group })
				return g
			}
			var before []uint64
			for _, d := range daemons {
				before = append(before, installs(d))
			}
			// Rounds of messages of some packets, until all that is to be said must have been.
			for end, n := time.Now().Add(r.silent), 0; n < 20 || time.Now().Before(end); n++ {
				want := map[string]bool{}
				for i, c := range conns {
					body := fmt.Sprintf("%d of %d ", n, i) + strings.Repeat("x", 5000)
					want[body] = true
					if err := c.Multicast(ctx, []client.Service{client.Agreed, client.Safe}[n%2], 0, []byte(body), "room"); err != nil {
						t.Fatal(err)
					}
				}
				for i, c := range conns {
					got := map[string]bool{}
					for len(got) < len(want) {
						e, err := c.Next(ctx)
						if err != nil {
							t.Fatalf("round %d: client %d has %d of %d messages: %v\n%s", n, i, len(got), len(want), err, daemons[i].log)
						}
						if m, ok := e.(*client.Message); ok && want[string(m.Data)] {
							got[string(m.Data)] = true
						}
					}
				}
			}
			for i, d := range daemons {
				for end := time.Now().Add(15 * time.Second); reach(d).Reach != r.reach; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%+v, want %v\n%s", reach(d), r.reach, d.log)
					}
				}
				// A ring that data cannot turn on ends four times a second. A busy machine may lose one.
				if n := installs(d) - before[i]; n > 2 {
					t.Errorf("%d more configurations\n%s", n, d.log)
				}
				if s := d.log.String(); !strings.Contains(s, r.line) {
					t.Errorf("not in the log: %s\n%s", r.line, s)
				}
			}
			sent := daemons[0].host.Stats().Transport.GroupSends.Load()
			if used := sent > 60; used != (r.reach == ring.ReachAll) {
				t.Errorf("%d datagrams to %s", sent, r.addr)
			}
		})
	}
}
