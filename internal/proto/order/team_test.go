// SPDX-License-Identifier: Apache-2.0

package order

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/seq"
)

// team is a few machines on a network without losses, but for what drop says, in virtual time.
type team struct {
	t       *testing.T
	now     time.Duration
	players []*player
	flying  []parcel
	drop    func(from, to int, kind packet.Kind) bool
	sent    func(from int, sends []packet.Send) // sees the sends of each input; may be nil
}

type player struct {
	m    *Machine
	fx   Effects
	dead bool
	got  int // messages
	safe int // Safe ones among them
}

type parcel struct {
	at       time.Duration
	from, to int
	b        []byte
}

func teamAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4803)
}

// newTeam starts machines whose datagrams hold so many bytes and waits until they are together.
func newTeam(t *testing.T, packetBytes ...int) *team {
	t.Helper()
	w := &team{t: t, drop: func(int, int, packet.Kind) bool { return false }}
	var peers []netip.AddrPort
	for i := range packetBytes {
		peers = append(peers, teamAddr(i))
	}
	for i, n := range packetBytes {
		cfg := Config{
			Me: evs.ProcID{Rank: uint16(i), Name: fmt.Sprintf("d%d", i), Inc: evs.Incarnation(100 + i)}, Cluster: "team",
			Ring: ring.Config{PacketBytes: n, WholeVisit: 1}, Membership: membership.Config{Peers: peers, Accelerated: true},
		}
		m, err := New(cfg, rand.New(rand.NewPCG(1, uint64(i))), 0)
		if err != nil {
			t.Fatal(err)
		}
		p := &player{m: m}
		w.players = append(w.players, p)
		m.Start(0, &p.fx)
		w.after(i)
	}
	w.pass(time.Second)
	for i := range w.players {
		w.want(i, len(packetBytes))
	}
	return w
}

func (w *team) want(i, members int) {
	w.t.Helper()
	if n := len(w.players[i].m.Configuration().Members); n != members {
		w.t.Fatalf("daemon %d: %d members after %v, want %d", i, n, w.now, members)
	}
}

func (w *team) after(i int) {
	w.t.Helper()
	p := w.players[i]
	if w.sent != nil {
		w.sent(i, p.fx.Sends)
	}
	for _, s := range p.fx.Sends {
		for _, to := range s.To {
			if k := int(to.Addr().As4()[3]) - 1; !w.drop(i, k, s.Kind) {
				w.flying = append(w.flying, parcel{w.now + 50*time.Microsecond, i, k, append([]byte(nil), s.Bytes...)})
			}
		}
	}
	for _, e := range p.fx.Events {
		if e.Kind == Deliver {
			p.got++
			if e.Message.Service == evs.Safe {
				p.safe++
			}
		} else if e.Conf.ID.Kind == evs.Regular {
			p.m.Open()
		}
	}
	p.fx = Effects{Sends: p.fx.Sends[:0], Events: p.fx.Events[:0]}
	if err := p.m.CheckInvariants(); err != nil {
		w.t.Fatalf("daemon %d: %v", i, err)
	}
	if p.m.HandUp(&p.fx) {
		w.after(i)
	}
}

func (w *team) pass(d time.Duration) {
	w.t.Helper()
	for end := w.now + d; ; {
		who, at := -1, end
		if len(w.flying) > 0 && w.flying[0].at < at {
			at = w.flying[0].at
		}
		for i, p := range w.players {
			if d := p.m.Deadline(); !p.dead && d != 0 && d < at {
				who, at = i, d
			}
		}
		if at >= end {
			w.now = end
			return
		}
		w.now = max(w.now, at)
		if who < 0 {
			d := w.flying[0]
			w.flying = w.flying[1:]
			who = d.to
			if p := w.players[who]; !p.dead {
				p.m.Settle()
				room := packet.NewRoom(d.b, func(r *packet.Room) { clear(r.Bytes) })
				p.m.HandleDatagram(w.now, teamAddr(d.from), d.b, room, &p.fx)
				room.Leave()
				w.after(who)
			}
			continue
		}
		p := w.players[who]
		p.m.Settle()
		p.m.Advance(w.now, &p.fx)
		w.after(who)
	}
}

func (w *team) submit(i, messages, size int) { w.send(i, evs.Agreed, messages, size) }

func (w *team) send(i int, service evs.Service, messages, size int) {
	p := w.players[i]
	p.m.Settle()
	for range messages {
		h, buf := p.m.Begin(1, service)
		p.m.End(h, append(buf, make([]byte, size)...))
	}
	p.m.Kick(w.now, &p.fx)
	w.after(i)
}

// Packets that follow each other in a visit are equally long, but for the last, whatever the sizes of the messages, so that
// they go through the system as one. What is sent again is what was sent first.
func TestPacketsOfAVisitAreEquallyLong(t *testing.T) {
	for _, sizes := range [][]int{{100}, {1377}, {1381}, {8223}, {64826}, {40, 700, 1300, 9, 5000, 333}} {
		w := newTeam(t, 1472, 1472, 1472)
		type place struct {
			ring evs.RingID
			seq  seq.Num
		}
		first := map[place][]byte{}
		filled, again, longest := 0, 0, 0
		w.sent = func(from int, sends []packet.Send) {
			run := 0 // packets in a row
			for i, s := range sends {
				if s.Kind != packet.KindData {
					run = 0
					continue
				}
				_, body, err := packet.Open(packet.ClusterID("team"), append([]byte(nil), s.Bytes...))
				if err != nil {
					t.Fatal(err)
				}
				var d packet.Data
				if err := packet.ParseData(body, &d); err != nil {
					t.Fatal(err)
				}
				at := place{d.Ring, d.Seq}
				if d.Flags&packet.FlagRetransmit != 0 {
					d.Flags &^= packet.FlagRetransmit
					b := append([]byte(nil), s.Bytes...)
					packet.PutDataHeader(b, &d)
					if !bytes.Equal(b[packet.HeaderSize:], first[at]) {
						t.Fatalf("sizes %v: position %d was sent again as something else", sizes, d.Seq)
					}
					again++
					continue
				}
				first[at] = body
				if d.Filler > 0 {
					filled++
				}
				if run++; run > 1 && len(s.Bytes) > len(sends[i-1].Bytes) {
					t.Errorf("sizes %v: a packet of %d bytes is followed by one of %d", sizes, len(sends[i-1].Bytes), len(s.Bytes))
				}
				if run > 2 && len(sends[i-1].Bytes) != len(sends[i-2].Bytes) {
					t.Errorf("sizes %v: a packet of %d bytes in the middle follows one of %d", sizes, len(sends[i-1].Bytes), len(sends[i-2].Bytes))
				}
				longest = max(longest, run)
			}
		}
		w.submit(0, 1, 10)
		w.pass(time.Second)
		if filled > 0 {
			t.Errorf("sizes %v: a packet alone has a filler", sizes)
		}
		before, lost := w.players[2].got, 0
		w.drop = func(from, to int, kind packet.Kind) bool {
			if kind == packet.KindData && to == 2 {
				lost++
				return lost%7 == 0
			}
			return false
		}
		messages := 0
		for n := 0; n < 2<<20; messages++ {
			size := sizes[messages%len(sizes)]
			p, buf := w.players[0].m.Begin(1, evs.Agreed)
			w.players[0].m.End(p, append(buf, make([]byte, size)...))
			n += size
		}
		w.submit(0, 0, 0)
		w.pass(5 * time.Second)
		if got := w.players[2].got - before; got != messages || again == 0 || longest < 15 {
			t.Errorf("sizes %v: %d of %d messages, %d packets sent again, at most %d in a row", sizes, got, messages, again, longest)
		}
		// Messages of which as many fit each packet leave the same room in all, which needs no filler.
		if (filled == 0) != (len(sizes) == 1 && sizes[0] < 1380) {
			t.Errorf("sizes %v: %d packets have a filler", sizes, filled)
		}
	}
}

// A lone sender has its Agreed messages back in the turn in which it sends them. The token that it keeps for that goes round at
// once when a Safe message is its own, and does not make another daemon's wait.
func TestLoneSenderIsNotInTheWayOfSafe(t *testing.T) {
	w := newTeam(t, 1472, 1472, 1472)
	me, other := w.players[1], w.players[2]
	const rotation = 150 * time.Microsecond
	w.submit(1, 1, 100)
	w.pass(20 * time.Millisecond)
	for range 3 {
		got := me.got
		if w.submit(1, 1, 100); me.got != got+1 {
			t.Fatalf("the sender has %d of %d Agreed messages, want its own at once", me.got, got+1)
		}
		w.pass(10 * time.Microsecond)
	}
	got := me.got
	w.send(1, evs.Safe, 1, 100)
	if w.pass(3*rotation + 50*time.Microsecond); me.got != got+1 {
		t.Errorf("three rotations after the sender's Safe message it is not delivered")
	}
	w.pass(20 * time.Millisecond)
	w.submit(1, 1, 100) // the token stays here now
	safe := other.safe
	w.send(2, evs.Safe, 1, 100)
	for range 8 { // a hurry, two hops, and four rotations
		w.submit(1, 1, 100)
		w.pass(100 * time.Microsecond)
	}
	if other.safe != safe+1 {
		t.Errorf("another daemon's Safe message waits while one sends one message after the other")
	}
}

// LIVE-7: recovery ends however many packets it takes. Daemon 1 has small datagrams, and has to rebroadcast the large ones
// of daemon 0, which has died, to daemon 2, which lacks them: many times more packets than any window.
func TestRecoveryOfMorePacketsThanTheStoreHolds(t *testing.T) {
	w := newTeam(t, 65000, 512, 512)
	w.drop = func(_, to int, kind packet.Kind) bool { return to == 2 && kind == packet.KindData }
	w.submit(0, 300, 60000)
	for i := 0; w.players[1].got < 300; i++ {
		if w.pass(time.Millisecond); i == 200 {
			t.Fatalf("daemon 1 has %d of 300 messages", w.players[1].got)
		}
	}
	w.players[0].dead = true
	w.drop = func(int, int, packet.Kind) bool { return false }
	w.pass(9 * time.Second)
	w.want(1, 2)
	w.want(2, 2)
	if got := w.players[2].got; got != 300 {
		t.Errorf("daemon 2 got %d of 300 messages, want all: daemon 1 has them (EVS-10)", got)
	}
}

// EVS-7: an entry of a Commit token that claims my ring, from a daemon that was never in it, is not of the transitional
// set, and no reason to fall over.
func TestEntryOfAStranger(t *testing.T) {
	m := old(t)
	m.cfg.Ring = m.cfg.Ring.WithDefaults()
	c := &packet.Commit{Ring: evs.RingID{Seq: 9, Rep: 1}, Entries: []packet.CommitEntry{
		{ID: evs.ProcID{Name: "0", Inc: 77}, OldRing: m.conf.ID.New, OldStable: 99, Obligation: obligation(2)},
		{ID: m.conf.Members[0], OldRing: m.conf.ID.New},
		{ID: m.conf.Members[1], OldRing: m.conf.ID.New},
	}}
	m.recover(0, &membership.Step{Commit: c, Me: 1, Addrs: make([]netip.AddrPort, 3)}, &Effects{})
	if a := m.next; fmt.Sprint(a.together) != "[1 2]" || a.stable != 0 || a.owed.Has(2) {
		t.Errorf("transitional set %v, stable line %d, owed %v; want [1 2], 0, and 0 and 1", a.together, a.stable, a.owed)
	}
}

// A piece of four bytes that claims to begin the longest message takes no such memory: 255 of each sender may do so.
func TestClaimedLengthIsNotAllocated(t *testing.T) {
	m := old(t)
	m.cursor.mem = &m.parts
	first := packet.Piece{Service: evs.Agreed, First: true, Stream: 1, Bytes: binary.LittleEndian.AppendUint32(nil, packet.MaxMessage)}
	if _, _, ok := m.cursor.join(1, &first); !ok {
		t.Fatal("the longest message was refused")
	}
	if n := cap(m.cursor.parts[partKey(1, 1)].buf); n > maxAssemblyBytes {
		t.Errorf("%d bytes allocated, want at most %d", n, maxAssemblyBytes)
	}
	rest := packet.Piece{Service: evs.Agreed, Stream: 1, Bytes: make([]byte, packet.MaxPiece)}
	for range packet.MaxMessage / packet.MaxPiece {
		m.cursor.join(1, &rest)
	}
	rest.Last, rest.Bytes = true, make([]byte, packet.MaxMessage%packet.MaxPiece)
	if whole, _, ok := m.cursor.join(1, &rest); !ok || len(whole) != packet.MaxMessage {
		t.Errorf("the longest message came as %d bytes, %v", len(whole), ok)
	}
}
