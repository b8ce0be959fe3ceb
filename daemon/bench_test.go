// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"evensong/client"
)

// BenchmarkAgreed is messages through a cluster in one process: every daemon has one client that sends and receives
// all. One operation is one message, delivered to all clients.
func BenchmarkAgreed(b *testing.B) {
	for _, daemons := range []int{1, 3} {
		for _, size := range []int{100, 1350, 8192, 65000} {
			b.Run(fmt.Sprintf("%d daemons/%d bytes", daemons, size), func(b *testing.B) { agreed(b, daemons, size) })
		}
	}
}

func agreed(b *testing.B, daemons, size int) {
	var peers []netip.AddrPort
	for range daemons {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		peers = append(peers, c.LocalAddr().(*net.UDPAddr).AddrPort())
		c.Close()
	}
	ctx := context.Background()
	var cs []*client.Conn
	for i, p := range peers {
		path := fmt.Sprintf("%s/s%d", b.TempDir(), i)
		d, err := Start(ctx, Config{Name: fmt.Sprintf("d%d", i), Cluster: b.Name(), Bind: p, Peers: peers, Unix: []string{path}})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		c, err := client.Dial(ctx, "unix:"+path, client.WithName(fmt.Sprintf("c%d", i)))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if err := c.Join(ctx, "g"); err != nil {
			b.Fatal(err)
		}
		cs = append(cs, c)
	}
	for _, c := range cs {
		for ev, err := range c.Events(ctx) {
			if err != nil {
				b.Fatal(err)
			}
			if v, ok := ev.(*client.View); ok && len(v.Members) == daemons {
				break
			}
		}
	}
	b.SetBytes(int64(size))
	b.ResetTimer()
	var wg sync.WaitGroup
	window := make(chan struct{}, 400) // messages under way
	for i, c := range cs {
		wg.Go(func() {
			p := make([]byte, size)
			for n := i; n < b.N; n += daemons {
				window <- struct{}{}
				if err := c.Multicast(ctx, client.Agreed, 0, p, "g"); err != nil {
					b.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			got := 0
			for ev, err := range c.Events(ctx) {
				if err != nil {
					b.Error(err)
					return
				}
				if _, ok := ev.(*client.Message); !ok {
					continue
				}
				if i == 0 {
					<-window
				}
				if got++; got == b.N {
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
