// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"evensong/internal/proto/packet"
)

// runOf is a run of datagrams to one address, which say their number in each byte.
func runOf(to *Batch, number, n, size int) (sends []packet.Send) {
	for range n {
		sends = append(sends, packet.Send{To: []netip.AddrPort{to.LocalAddr()}, Bytes: bytes.Repeat([]byte{byte(number)}, size)})
	}
	return sends
}

// sendAndReceive sends and takes what came, with one call.
func sendAndReceive(t *testing.T, a, b *Batch, sends []packet.Send) []Datagram {
	t.Helper()
	a.Send(sends)
	ds, err := b.Receive(0)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// What is kept of a run stays what it is through any number of receives. When mostOut slots are kept nothing is lent until one of them
// is left, and then it is used.
func TestKeptSlots(t *testing.T) {
	a, b := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
	var kept []Datagram
	for i := range mostOut + 20 {
		ds := sendAndReceive(t, a, b, runOf(b, i, 20, 1472))
		if len(ds) != 20 {
			t.Fatalf("round %d: %d datagrams", i, len(ds))
		}
		for _, d := range ds {
			if (d.Room != nil) != (i < mostOut) || d.Room != ds[0].Room {
				t.Fatalf("round %d: room %v of a run in %v", i, d.Room, ds[0].Room)
			}
			if cap(d.Bytes) != 1472 || d.Bytes[0] != byte(i) {
				t.Fatalf("round %d: capacity %d, datagrams of round %d", i, cap(d.Bytes), d.Bytes[0])
			}
		}
		if d := ds[i%20]; d.Room != nil {
			d.Room.Keep()
			kept = append(kept, d)
		}
	}
	for i, d := range kept {
		if !bytes.Equal(d.Bytes, bytes.Repeat([]byte{byte(i)}, 1472)) {
			t.Errorf("what was kept in round %d has changed", i)
		}
	}
	if b.in.slots.out != mostOut {
		t.Errorf("%d slots are out, want %d", b.in.slots.out, mostOut)
	}
	kept[7].Room.Leave()
	if d := sendAndReceive(t, a, b, runOf(b, 0, 20, 1472))[0]; d.Room == nil {
		t.Error("one slot is back, and nothing is lent")
	} else {
		d.Room.Keep()
	}
	sendAndReceive(t, a, b, nil)
	if r := b.in.rooms[0]; r != kept[7].Room {
		t.Error("the slot that came back is not used next")
	}
}

// Slots are used last in, first out, and those that are not needed for a period go.
func TestSlotsAreUsedAgain(t *testing.T) {
	a, b := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
	var rooms []*packet.Room
	for i := range 10 {
		r := sendAndReceive(t, a, b, runOf(b, i, 30, 1472))[0].Room
		if slices.Contains(rooms, r) {
			t.Fatal("a slot that is kept was lent again")
		}
		r.Keep()
		rooms = append(rooms, r)
	}
	sendAndReceive(t, a, b, nil) // the last of them is replaced
	for _, r := range rooms {
		r.Leave()
	}
	if s := &b.in.slots; s.out != 0 || !slices.Equal(s.free, rooms) {
		t.Fatalf("%d slots are out and %d free, want none and those that were kept", s.out, len(s.free))
	}
	sendAndReceive(t, a, b, runOf(b, 0, 30, 1472))[0].Room.Keep()
	sendAndReceive(t, a, b, nil)
	if b.in.rooms[0] != rooms[9] {
		t.Error("what is received next does not go to the slot that came back last")
	}
	for range slotsPeriod {
		sendAndReceive(t, a, b, nil)
	}
	if n := len(b.in.slots.free); n != 9 {
		t.Errorf("%d slots are free in the period in which 10 were needed, want 9", n)
	}
	for range slotsPeriod {
		sendAndReceive(t, a, b, nil)
	}
	if n := len(b.in.slots.free); n != 0 {
		t.Errorf("%d slots are free after a period in which none was needed", n)
	}
}

// Only what fills a quarter of its slot is lent, a run or a datagram.
func TestSmallIsNotLent(t *testing.T) {
	a, b := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
	for _, r := range []struct {
		n, size int
		lent    bool
	}{{1, 100, false}, {1, leastLent - 1, false}, {1, leastLent, true}, {1, packet.MaxDatagram, true}, {11, 1472, false}, {12, 1472, true}, {44, 1472, true}} {
		ds := sendAndReceive(t, a, b, runOf(b, 1, r.n, r.size))
		if len(ds) != r.n || (ds[0].Room != nil) != r.lent {
			t.Errorf("%d of %d bytes: %d datagrams, lent %v", r.n, r.size, len(ds), ds[0].Room != nil)
		}
	}
}

// Loss takes datagrams out of runs; the others stay in their room, which is free again when these are left.
func TestLossInRooms(t *testing.T) {
	a := openSegment(t, "127.0.0.1:0")
	cfg := on(PathSegment, "127.0.0.1:0")
	cfg.Loss = 0.5
	b := openBatch(t, cfg)
	var kept []Datagram
	sent := 0
	for i := range 50 {
		n := 12 + i%20
		sent += n
		for _, d := range sendAndReceive(t, a, b, runOf(b, i, n, 1472)) {
			d.Room.Keep()
			kept = append(kept, d)
		}
	}
	lost := int(b.Stats().DropsInjected.Load())
	if lost == 0 || len(kept)+lost != sent {
		t.Errorf("of %d datagrams %d are lost and %d left", sent, lost, len(kept))
	}
	last := 0
	for _, d := range kept {
		if n := int(d.Bytes[0]); n < last || !bytes.Equal(d.Bytes, bytes.Repeat(d.Bytes[:1], 1472)) {
			t.Fatalf("a datagram of run %d behind run %d", n, last)
		}
		last = int(d.Bytes[0])
		d.Room.Leave()
	}
	sendAndReceive(t, a, b, nil)
	if b.in.slots.out != 0 {
		t.Errorf("%d slots are out", b.in.slots.out)
	}
}

// Nothing is allocated for slots that are kept for a while.
func TestKeptSlotsDoNotAllocate(t *testing.T) {
	a, b := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
	sends := runOf(b, 1, 40, 1472)
	var kept [10]*packet.Room
	next := 0
	if n := testing.AllocsPerRun(200, func() {
		a.Send(sends)
		ds, _ := b.Receive(0)
		r := ds[0].Room
		r.Keep()
		if kept[next] != nil {
			kept[next].Leave()
		}
		kept[next], next = r, (next+1)%len(kept)
	}); n != 0 {
		t.Errorf("%v allocations for a run", n)
	}
}
