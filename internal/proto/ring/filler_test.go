// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"net/netip"
	"slices"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// lengths is a Source whose packets are one piece each, of the lengths listed.
type lengths []int

func (s *lengths) Pending() int { return len(*s) }
func (s *lengths) Mean() int    { return 0 }

func (s *lengths) Fill(_ seq.Num, dst []byte, _ bool) int {
	if len(*s) == 0 {
		return 0
	}
	n := (*s)[0]
	*s = (*s)[1:]
	b := packet.AppendPieceHeader(dst[:0], packet.Piece{Service: evs.Agreed, First: true, Last: true}, n-packet.PieceHeaderSize)
	for len(b) < n {
		b = append(b, 'x')
	}
	return n
}

// Packets get a filler for the longest of their side of the token, none that is longer than the bound, and keep their pieces.
func TestFillerIsBounded(t *testing.T) {
	const most = packet.MaxFiller
	given := []int{200, 200 - most, 200 - most - 1, 190, 180, 200, 1000, 999, 300} // more than a lone sender keeps the token for
	want := [][]int{{200, 200, 200 - most - 1, 200, 200, 200}, {1000, 1000, 300}}  // before the token, after it

	cfg := Config{AcceleratedWindow: len(want[1]), WholeVisit: 1}.WithDefaults()
	procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}}
	m := New(cfg, evs.RingID{Seq: 1, Rep: 1}, procs, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", procs[0]), NewPool(1472), 0)
	m.Operational()
	m.Start(0)
	src, fx := slices.Clone(lengths(given)), Effects{}
	m.Visit(1, &src, &fx)
	got, side := make([][]int, 2), 0
	for _, s := range fx.Sends {
		if s.Kind == packet.KindToken {
			side = 1
			continue
		}
		_, body, err := packet.Open(packet.ClusterID("t"), s.Bytes)
		var d packet.Data
		if err == nil {
			err = packet.ParseData(body, &d)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := given[len(got[0])+len(got[1])]; len(d.Pieces) != n || len(m.Packet(d.Seq).Pieces()) != n {
			t.Errorf("packet %d has pieces of %d bytes, want %d", d.Seq, len(d.Pieces), n)
		}
		got[side] = append(got[side], len(s.Bytes)-packet.DataOffset)
	}
	if !slices.EqualFunc(got, want, slices.Equal[[]int]) {
		t.Errorf("lengths %v before and after the token, want %v", got, want)
	}
}

// A visit that the system takes as one piece goes before the token. A longer one is cut.
func TestOnePieceIsNotCut(t *testing.T) {
	for _, x := range []struct{ bytes, packets, behind int }{
		{1472, 44, 0}, {1472, 45, 20}, {8972, 7, 0}, {8972, 8, 8}, {32768, 1, 0}, {32768, 2, 2}, {65507, 2, 2},
	} {
		cfg := Config{PersonalWindow: 88, AcceleratedWindow: 20, PacketBytes: x.bytes}.WithDefaults()
		procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}}
		m := New(cfg, evs.RingID{Seq: 1, Rep: 1}, procs, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", procs[0]), NewPool(x.bytes), 0)
		m.Operational()
		m.hurried = true // so that a lone sender does not keep it
		m.Start(0)
		src, fx := lengths(slices.Repeat([]int{100}, x.packets)), Effects{}
		m.Visit(1, &src, &fx)
		token := slices.IndexFunc(fx.Sends, func(s packet.Send) bool { return s.Kind == packet.KindToken })
		if len(fx.Sends) != x.packets+1 || x.packets-token != x.behind {
			t.Errorf("%d packets of up to %d bytes: token at place %d of %d, want %d packets behind it", x.packets, x.bytes, token, len(fx.Sends), x.behind)
		}
	}
}
