// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"net/netip"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// A packet that stays in the room it came in keeps that until Settle after Put, and what is lent next for another room is the same
// packet without anything of the first.
func TestPacketsInRooms(t *testing.T) {
	pool := NewPool(100)
	free := 0
	room := packet.NewRoom(make([]byte, 200), func(*packet.Room) { free++ })
	p, q := pool.In(room, room.Bytes[:100]), pool.In(room, room.Bytes[100:150])
	room.Leave()
	if &p.Buf[0] != &room.Bytes[0] || len(p.Buf) != 100 || cap(p.Buf) != 100 || len(q.Buf) != 50 || cap(q.Buf) != 50 {
		t.Errorf("packets of %d and %d bytes in %d and %d", len(p.Buf), len(q.Buf), cap(p.Buf), cap(q.Buf))
	}
	pool.Put(p)
	pool.Settle()
	if pool.Put(q); free != 0 {
		t.Error("the room is left before Settle")
	}
	if pool.Settle(); free != 1 {
		t.Errorf("the room is free %d times after Settle, want once", free)
	}
	if p := pool.Get(100); p.room != nil || cap(p.Buf) != 100 {
		t.Errorf("%+v is lent, with memory of the room", p)
	}
	again := packet.NewRoom(make([]byte, 10), func(*packet.Room) {})
	if r := pool.In(again, again.Bytes); r != p && r != q || r.room != again || &r.Buf[0] != &again.Bytes[0] {
		t.Errorf("%+v is lent, want one of those before, in another room", r)
	}
}

// receiver is member 1 of a ring of two, and what member 0 sends it in one room.
type receiver struct {
	m     *Machine
	pool  *Pool
	fx    Effects
	src   script
	tok   packet.Token
	seal  *packet.Sealer
	high  seq.Num
	count uint64
}

const receivedBytes = 200

func newReceiver() *receiver {
	procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}}
	r := &receiver{pool: NewPool(1472), seal: packet.NewSealer("t", procs[0])}
	id := evs.RingID{Seq: 1, Rep: 1}
	r.m = New(Config{}.WithDefaults(), id, procs, make([]netip.AddrPort, 2), 1, true, packet.NewSealer("t", procs[1]), r.pool, 0)
	r.m.Operational()
	r.tok = packet.Token{Ring: id, TokenSeq: 1, ARUID: packet.NoMember}
	return r
}

// fill writes the next packets into a room.
func (r *receiver) fill(b []byte, n int) {
	for i := range n {
		r.high, r.count = r.high+1, r.count+1
		at := b[i*receivedBytes:][:receivedBytes]
		d := packet.Data{Ring: r.m.ID(), Seq: r.high, Visit: r.tok.TokenSeq, Count: r.count}
		head := packet.AppendPieceHeader(at[:packet.DataOffset], packet.Piece{Service: evs.Agreed, First: true, Last: true}, receivedBytes-packet.DataOffset-packet.PieceHeaderSize)
		for k := range at[len(head):] {
			at[len(head)+k] = byte(r.high)
		}
		packet.PutDataHeader(at, &d)
		r.seal.Seal(at, packet.KindData)
	}
}

// take hands the packets in a room to the ring, each as its own input.
func (r *receiver) take(t *testing.T, room *packet.Room, n int) (fresh int) {
	for i := range n {
		r.pool.Settle()
		b := room.Bytes[i*receivedBytes:][:receivedBytes:receivedBytes]
		var d packet.Data
		if err := packet.ParseData(b[packet.HeaderSize:], &d); err != nil {
			t.Fatal(err)
		}
		if r.m.HandleData(1, &d, b, room) {
			fresh++
		}
	}
	return fresh
}

// visit has the token come and go, and forgets what is stable.
func (r *receiver) visit(t *testing.T) {
	r.pool.Settle()
	r.fx.Sends = r.fx.Sends[:0]
	r.tok.Seq, r.tok.ARU = r.high, r.high
	if r.m.Accept(2, &r.tok) != Accepted {
		t.Fatal("token not accepted")
	}
	r.m.Visit(2, &r.src, &r.fx)
	r.m.Discard(r.m.Stable())
	r.tok.TokenSeq += 2
}

// What a ring receives in a room stays there, also when it is sent again, until all of it is discarded; what it has already keeps no
// room.
func TestReceivedInRooms(t *testing.T) {
	r := newReceiver()
	free := 0
	room := packet.NewRoom(make([]byte, 3*receivedBytes), func(*packet.Room) { free++ })
	r.fill(room.Bytes, 3)
	same := packet.NewRoom(bytes.Clone(room.Bytes), func(*packet.Room) {})
	if n := r.take(t, room, 3); n != 3 {
		t.Fatalf("%d of 3 packets are new", n)
	}
	room.Leave()
	if n := r.take(t, same, 3); n != 0 || same.Shared() {
		t.Errorf("%d packets are new for the second time; kept %v", n, same.Shared())
	}
	if p := r.m.Packet(2); &p.Buf[0] != &room.Bytes[receivedBytes] || !bytes.Equal(p.Buf, same.Bytes[receivedBytes:2*receivedBytes]) {
		t.Error("the second packet is not where it came")
	}
	r.tok.RTR = []packet.Range{{First: 2, Count: 1}}
	r.visit(t)
	r.tok.RTR = nil
	if len(r.fx.Sends) == 0 || packet.DataFlags(r.fx.Sends[0].Bytes)&packet.FlagRetransmit == 0 || &r.fx.Sends[0].Bytes[0] != &room.Bytes[receivedBytes] {
		t.Fatal("the second packet is not sent again from where it came")
	}
	for i := range room.Bytes {
		if in := i / receivedBytes; in != 1 && room.Bytes[i] != same.Bytes[i] {
			t.Fatalf("byte %d of packet %d has changed", i%receivedBytes, in+1)
		}
	}
	visits := 0
	for ; r.m.Base() < 3 && visits < 10; visits++ {
		r.visit(t)
	}
	if free != 0 {
		t.Error("the room is left in the input that discards the last of its packets")
	}
	if r.pool.Settle(); free != 1 {
		t.Errorf("after %d visits the room is free %d times, want once", visits, free)
	}
}

// Nothing is allocated for what is received in rooms once that has run in.
func TestNoAllocationInRooms(t *testing.T) {
	r := newReceiver()
	const most = 30
	var rooms []*packet.Room
	back := func(x *packet.Room) { rooms = append(rooms, x) }
	made := 0
	round := func() {
		if len(rooms) == 0 {
			made++
			packet.NewRoom(make([]byte, most*receivedBytes), back).Leave()
		}
		room := rooms[len(rooms)-1]
		rooms = rooms[:len(rooms)-1]
		room.Keep()
		r.fill(room.Bytes, most)
		if n := r.take(t, room, most); n != most {
			t.Fatalf("%d of %d packets are new", n, most)
		}
		room.Leave()
		r.visit(t)
	}
	for range 100 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 0 {
		t.Errorf("%v allocations for %d packets, want none", n, most)
	}
	if made > 6 {
		t.Errorf("%d rooms of a visit each are in use", made)
	}
}
