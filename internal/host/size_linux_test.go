// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/proto/node"
	"evensong/internal/proto/ring"
)

// TestLargerPackets: three real daemons on loopback, which carries 64 KB in one piece. Under load their packets grow: by datagrams that must not
// be cut where runs go to the system as one, and else by such as may be.
func TestLargerPackets(t *testing.T) {
	for _, r := range []struct {
		path string
		want int
	}{{"segment", 6 * 1472}, {"batch", 22 * 1472}} {
		t.Run(r.path, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("Spread_Segment unicast:%d { a 127.0.0.1  b 127.0.0.2  c 127.0.0.3 }\nDatagramPath = %s\n", freeAddr(t).Port(), r.path)
			var daemons []*filed
			for _, name := range []string{"a", "b", "c"} {
				daemons = append(daemons, startFiled(t, name, text))
			}
			for _, d := range daemons {
				d.until("a b c")
			}
			c, err := dial(t, "evensong://"+daemons[1].host.ListenAddrs()[0].String(), client.WithMembership(false))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := c.JoinAcked(ctx, "room"); err != nil {
				t.Fatal(err)
			}
			status := func() (s ring.Status) {
				daemons[1].look(func(m *node.Machine) { s = m.Status(0).Ring })
				return s
			}
			if s := status(); s.PacketBytes != 1472 || s.Packets != ring.PacketsUsual {
				t.Fatalf("before anything was sent: %d bytes, %v", s.PacketBytes, s.Packets)
			}
			body := make([]byte, 100_000)
			for s := status(); s.PacketBytes != r.want || s.Packets != ring.PacketsLarger; s = status() {
				if ctx.Err() != nil {
					t.Fatalf("%d bytes, %v; want %d\n%s", s.PacketBytes, s.Packets, r.want, daemons[1].log)
				}
				if err := c.Multicast(ctx, client.Agreed, 0, body, "room"); err != nil {
					t.Fatal(err)
				}
				for got := false; !got; {
					e, err := c.Next(ctx)
					if err != nil {
						t.Fatal(err)
					}
					_, got = e.(*client.Message)
				}
			}
		})
	}
}
