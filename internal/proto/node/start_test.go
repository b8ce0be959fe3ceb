// SPDX-License-Identifier: Apache-2.0

package node

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

// TestQuietStart: a daemon that starts alone tells operators of the configuration that it installs, and of nothing else.
func TestQuietStart(t *testing.T) {
	m, err := New(Config{Me: evs.ProcID{Name: "solo", Inc: 1}, Cluster: "test", Peers: []netip.AddrPort{testAddr(0)}, Accelerated: true}, rand.New(rand.NewPCG(1, 2)), 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, side: make([]int, 1), nodes: []*testNode{{m: m, conns: map[uint64]*testConn{}}}}
	fx := &c.nodes[0].fx
	var told []string
	m.Start(0, fx)
	for now := time.Duration(0); now <= time.Second; now += time.Millisecond {
		c.now = now
		for i, n := 0, len(c.flying); i < n; i++ {
			m.HandleDatagram(now, testAddr(0), c.flying[i].b, nil, fx)
		}
		c.flying = c.flying[:0]
		if d := m.Deadline(); d != 0 && d <= now {
			m.Advance(now, fx)
		}
		for _, n := range fx.Notes {
			if n.Level >= evs.Info {
				told = append(told, n.Text)
			}
		}
		c.after(0)
	}
	if m.Configuration() == nil || len(told) != 1 || told[0] != "configuration installed" {
		t.Errorf("configuration %v, told %q", m.Configuration(), told)
	}
}
