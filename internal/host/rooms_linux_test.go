// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/host"
	"evensong/internal/proto/node"
	"evensong/internal/proto/packet"
)

// lent is a machine that counts the datagrams that come in a room.
type lent struct {
	*node.Machine
	inRooms, outside int
}

func (m *lent) HandleDatagram(now time.Duration, from netip.AddrPort, b []byte, room *packet.Room, fx *host.Effects) {
	if room != nil {
		m.inRooms++
	} else {
		m.outside++
	}
	m.Machine.HandleDatagram(now, from, b, room, fx)
}

// Two real daemons send each other runs of datagrams, sealed and not, of which some are lost. What they keep where it came is delivered as it
// was sent, also what is sent again or has waited for others.
func TestRooms(t *testing.T) {
	const each, size = 150, 30_000
	for name, line := range map[string]string{"as they are": "", "sealed": keyLine(t, secretA)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("Spread_Segment unicast:%d { a 127.0.0.1  b 127.0.0.2 }\nDatagramPath = segment\nTokenTimeout = 3000\n%s", freeAddr(t).Port(), line)
			machines := make([]lent, 2)
			var ds []*filed
			for i, n := range []string{"a", "b"} {
				ds = append(ds, startChanged(t, n, text, func(c *host.Config) { c.Transport.Loss = 0.02 }, func(m *node.Machine) host.Machine {
					machines[i].Machine = m
					return &machines[i]
				}))
			}
			var cs []*client.Conn
			for _, d := range ds {
				d.until("a b")
				c, err := dial(t, "evensong://"+d.host.ListenAddrs()[0].String(), client.WithMembership(false))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.JoinAcked(t.Context(), "g"); err != nil {
					t.Fatal(err)
				}
				cs = append(cs, c)
			}
			for k, c := range cs {
				go func() {
					for i := range each {
						if err := c.Multicast(t.Context(), client.Agreed, int16(k), numberedBody(k, i, size), "g"); err != nil {
							t.Error(err)
							return
						}
					}
				}()
			}
			for _, c := range cs {
				next := make([]int, len(cs))
				for next[0]+next[1] < 2*each {
					e, err := c.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if m, ok := e.(*client.Message); ok {
						k := int(m.Type)
						if !bytes.Equal(m.Data, numberedBody(k, next[k], size)) {
							t.Fatalf("what came as message %d of client %d is not what was sent", next[k], k)
						}
						next[k]++
					}
				}
			}
			for i, d := range ds {
				d.look(func(*node.Machine) {
					if machines[i].inRooms < 100 {
						t.Errorf("daemon %d: %d datagrams in rooms, %d outside", i, machines[i].inRooms, machines[i].outside)
					}
				})
			}
		})
	}
}

// numberedBody is message i of client k: nothing in it repeats, nor stands in another one.
func numberedBody(k, i, size int) []byte {
	r := rand.NewPCG(uint64(k), uint64(i))
	b := make([]byte, 0, size)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}
