// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// Loss takes its share of the datagrams, each by itself also where they came as a run, and what it took is counted. Two
// receivers lose different ones.
func TestLoss(t *testing.T) {
	forEachKind(t, func(t *testing.T, open func(Config) opened) {
		cfg := bindTo("127.0.0.1:0")
		a := open(cfg)
		cfg.Loss = 0.25
		receivers := []opened{open(cfg), open(cfg)}
		const blocks, each = 40, 50 // so few at once that they fit any buffer
		var kept [2][]byte
		var whole [2]int // blocks that are lost or left as a whole
		deadline := time.After(20 * time.Second)
		for block := range blocks {
			var sends []packet.Send
			for i := range each {
				sends = append(sends, packet.Send{To: []netip.AddrPort{receivers[0].LocalAddr(), receivers[1].LocalAddr()}, Bytes: []byte{byte(block), byte(i)}})
			}
			a.Send(sends)
			for k, r := range receivers {
				for before := len(kept[k]); ; {
					lost := int(r.Stats().DropsInjected.Load())
					if len(kept[k])+lost == (block+1)*each {
						if n := len(kept[k]) - before; n == 0 || n == each {
							whole[k]++
						}
						break
					}
					select {
					case d := <-r.in:
						kept[k] = append(kept[k], d.Bytes[1])
					case <-deadline:
						t.Fatalf("of %d datagrams %d were received and %d lost", (block+1)*each, len(kept[k]), lost)
					default:
						runtime.Gosched()
					}
				}
			}
		}
		for k, r := range receivers {
			lost := int(r.Stats().DropsInjected.Load())
			if n := int(r.Stats().DatagramsIn.Load()); n != blocks*each || len(kept[k])+lost != n {
				t.Errorf("DatagramsIn = %d, of which %d are lost and %d are left; want %d", n, lost, len(kept[k]), blocks*each)
			}
			if whole[k] > 2 { // by chance one in two million is
				t.Errorf("%d of %d blocks are lost or left as a whole", whole[k], blocks)
			}
			if share := float64(lost) / (blocks * each); share < 0.19 || share > 0.31 { // six standard deviations
				t.Errorf("%.3f of the datagrams are lost, want 0.25", share)
			}
		}
		if slices.Equal(kept[0], kept[1]) {
			t.Error("both receivers lost the same datagrams")
		}
	})
}
