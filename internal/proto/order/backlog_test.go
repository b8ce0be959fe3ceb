// SPDX-License-Identifier: Apache-2.0

package order

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// unpack reads pieces as a receiver does and returns the messages that they complete.
func unpack(t *testing.T, parts map[uint8][]byte, pieces []byte) (out []string) {
	t.Helper()
	if err := packet.CheckPieces(pieces); err != nil {
		t.Fatalf("malformed pieces: %v", err)
	}
	for len(pieces) > 0 {
		var p packet.Piece
		pieces = p.Take(pieces)
		b := p.Bytes
		if p.First && !p.Last {
			want := binary.LittleEndian.Uint32(b)
			if parts[p.Stream] != nil {
				t.Fatalf("stream %d begins again before it ended", p.Stream)
			}
			parts[p.Stream] = binary.LittleEndian.AppendUint32(nil, want)
			b = b[4:]
		}
		if p.First && p.Last {
			out = append(out, string(b))
			continue
		}
		parts[p.Stream] = append(parts[p.Stream], b...)
		if p.Last {
			whole := parts[p.Stream]
			delete(parts, p.Stream)
			if int(binary.LittleEndian.Uint32(whole)) != len(whole)-4 {
				t.Fatalf("stream %d: %d bytes, announced %d", p.Stream, len(whole)-4, binary.LittleEndian.Uint32(whole))
			}
			out = append(out, string(whole[4:]))
		}
	}
	return out
}

// Whatever the sizes and the packets' room: every lane's messages come out whole, once and in the lane's order; and after
// a restart in between, what was cut comes again from its beginning.
func TestBacklogKeepsEveryLanesOrder(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		b := newBacklog()
		b.open = true
		next, got := map[uint64]int{}, map[uint64]int{}
		parts := map[uint8][]byte{}
		waiting := 0
		for step := 0; step < 400 || waiting > 0; step++ {
			if step < 400 && rnd.IntN(3) == 0 {
				lane := uint64(1 + rnd.IntN(5))
				size := 16 + rnd.IntN(200)
				if rnd.IntN(10) == 0 {
					size = rnd.IntN(20000) + 16
				}
				body := make([]byte, size)
				binary.LittleEndian.PutUint64(body, lane)
				binary.LittleEndian.PutUint64(body[8:], uint64(next[lane]))
				next[lane]++
				l, buf, start := b.begin(lane, evs.Agreed)
				b.end(l, append(buf, body...), start)
				waiting++
			}
			if rnd.IntN(40) == 0 {
				b.restart()
				parts = map[uint8][]byte{}
			}
			dst := make([]byte, 500+rnd.IntN(1000))
			more := rnd.IntN(2) == 0
			n := b.Fill(seq.Num(step), dst, more)
			if n == 0 && waiting > 0 {
				t.Fatalf("seed %d step %d: nothing filled while %d messages wait", seed, step, waiting)
			}
			for _, m := range unpack(t, parts, dst[:n]) {
				lane := binary.LittleEndian.Uint64([]byte(m))
				if i := int(binary.LittleEndian.Uint64([]byte(m)[8:])); i != got[lane] {
					t.Fatalf("seed %d step %d: lane %d gave message %d, want %d", seed, step, lane, i, got[lane])
				}
				got[lane]++
				waiting--
			}
		}
		if b.bytes != 0 || b.count != 0 || len(b.active) != 0 {
			t.Errorf("seed %d: empty backlog says %d bytes, %d messages, %d active lanes", seed, b.bytes, b.count, len(b.active))
		}
		for lane, n := range next {
			if got[lane] != n {
				t.Errorf("seed %d: lane %d: %d of %d messages", seed, lane, got[lane], n)
			}
		}
	}
}

// GRP-17: beside a lane that floods, another one's message goes with the next packets, not behind the flood.
func TestBacklogIsFair(t *testing.T) {
	b := newBacklog()
	b.open = true
	submit := func(lane uint64, n int) {
		l, buf, start := b.begin(lane, evs.Agreed)
		b.end(l, append(buf, make([]byte, n)...), start)
	}
	for range 10000 {
		submit(1, 1000)
	}
	var quiet int
	b.ended = func(_ seq.Num, _ uint32, l *lane, _ evs.Service, _ []byte) {
		if l.id == 2 {
			quiet++
		}
	}
	dst := make([]byte, 1400)
	for range 5 {
		b.Fill(1, dst, true)
	}
	submit(2, 100)
	packets := 0
	for quiet == 0 {
		b.Fill(1, dst, true)
		packets++
	}
	if most := quantum/1400 + 3; packets > most {
		t.Errorf("a small message waited for %d packets of a flood, want at most a turn of %d", packets, most)
	}
}

// GRP-14: until the layer above is ready, only the daemon's own messages go; and those are forgotten with their
// configuration, unlike clients'.
func TestBacklogControlLane(t *testing.T) {
	b := newBacklog()
	put := func(lane uint64, s string) {
		l, buf, start := b.begin(lane, evs.Agreed)
		b.end(l, append(buf, s...), start)
	}
	put(7, "client")
	put(ControlLane, "state")
	dst := make([]byte, 500)
	if got := unpack(t, map[uint8][]byte{}, dst[:b.Fill(1, dst, true)]); fmt.Sprint(got) != "[state]" {
		t.Errorf("closed backlog gave %v, want the state only", got)
	}
	if b.Pending() != 0 {
		t.Errorf("closed backlog with a client's message: pending %d", b.Pending())
	}
	put(ControlLane, "stale")
	b.restart()
	b.open = true
	if got := unpack(t, map[uint8][]byte{}, dst[:b.Fill(1, dst, true)]); fmt.Sprint(got) != "[client]" {
		t.Errorf("after a restart: %v, want the client's message only", got)
	}
}

func TestBacklogDoesNotCutForNothing(t *testing.T) {
	b := newBacklog()
	b.open = true
	for range 2 {
		l, buf, start := b.begin(1, evs.Agreed)
		b.end(l, append(buf, make([]byte, 900)...), start)
	}
	dst := make([]byte, 1400)
	// The last packet of a visit: the second message would fit a packet of its own, so it waits whole.
	if n := b.Fill(1, dst, false); n != 904 {
		t.Errorf("last packet of a visit has %d bytes, want one whole message of 904", n)
	}
	if n := b.Fill(2, dst, true); n != 904 {
		t.Errorf("next packet has %d bytes, want the other one", n)
	}
}

// Clients that have sent much and are silent now keep next to nothing; what they needed serves the next ones, within a bound.
func TestIdleLanesKeepLittle(t *testing.T) {
	b := newBacklog()
	b.open = true
	const lanes, size = 200, 100_000
	dst := make([]byte, 1400)
	drain := func() {
		for at := seq.Num(1); b.Pending() > 0; at++ {
			b.Fill(at, dst, true)
		}
	}
	for id := range uint64(lanes) {
		l, buf, start := b.begin(id+1, evs.Agreed)
		b.end(l, append(buf, make([]byte, size)...), start)
	}
	drain()
	kept := 0
	for _, l := range b.lanes {
		kept += cap(l.buf)
	}
	spare := 0
	for _, s := range b.spare {
		spare += cap(s)
	}
	if len(b.lanes) != lanes || kept > lanes*idleLane || spare != b.spareBytes || spare > maxSpare || spare < maxSpare/2 {
		t.Errorf("%d silent lanes keep %d bytes, and %d are spare (%d counted); want at most %d and %d", len(b.lanes), kept, spare, b.spareBytes, lanes*idleLane, maxSpare)
	}
	if !raceEnabled {
		if n := testing.AllocsPerRun(100, func() {
			l, buf, start := b.begin(7, evs.Agreed)
			b.end(l, append(buf, dst...), start)
			drain()
		}); n != 0 {
			t.Errorf("a message of a lane that was silent allocates %v times, though there is spare memory", n)
		}
	}
}
