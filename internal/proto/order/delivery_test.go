// SPDX-License-Identifier: Apache-2.0

package order

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/seq"
)

// old is a machine whose current ring of three members holds what a test gives it.
func old(t *testing.T) *Machine {
	t.Helper()
	m := &Machine{pool: ring.NewPool(1472), backlog: newBacklog()}
	m.conf = &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: 4, Rep: 1}), Members: []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}, {Name: "c", Inc: 3}}}
	m.ring = ring.New(ring.Config{}.WithDefaults(), m.conf.ID.New, m.conf.Members, make([]netip.AddrPort, 3), 0, true, packet.NewSealer("t", m.conf.Members[0]), m.pool, 0)
	m.cursor = newCursor(m.ring, 3)
	m.ring.Operational()
	return m
}

// give stores packets "seq sender count: service text, service text ...", a message each; "(" begins and ")" ends one
// that is cut.
func give(t *testing.T, m *Machine, packets ...string) {
	t.Helper()
	services := map[byte]evs.Service{'u': evs.Unreliable, 'r': evs.Reliable, 'f': evs.FIFO, 'c': evs.Causal, 'a': evs.Agreed, 's': evs.Safe}
	for _, line := range packets {
		head, body, _ := strings.Cut(line, ": ")
		var n, sender, count int
		if _, err := fmt.Sscanf(head, "%d %d %d", &n, &sender, &count); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p := m.pool.Get(1472)
		p.Buf = p.Buf[:packet.DataOffset]
		for _, msg := range strings.Split(body, ", ") {
			piece := packet.Piece{Service: services[msg[0]], First: true, Last: true}
			text := []byte(msg[2:])
			switch {
			case strings.HasSuffix(msg, "("):
				piece.Last, piece.Stream = false, 1
				text = append([]byte{20, 0, 0, 0}, "0123456789"...)
			case strings.HasSuffix(msg, ")"):
				piece.First, piece.Stream = false, 1
				text = []byte("abcdefghij")
			}
			p.Buf = packet.AppendPieceHeader(p.Buf, piece, len(text))
			p.Buf = append(p.Buf, text...)
		}
		p.Describe(&packet.Data{Seq: seq.Num(n), Sender: uint16(sender), Count: uint64(count)})
		if !m.ring.Give(p) {
			t.Fatalf("%q: not new", line)
		}
	}
}

func texts(fx *Effects) string {
	var out []string
	for _, e := range fx.Events {
		out = append(out, string(e.Message.Payload))
	}
	fx.Events = nil
	return strings.Join(out, " ")
}

func obligation(members ...int) packet.Bits {
	b := packet.MakeBits(3)
	for _, i := range members {
		b.Set(i)
	}
	return b
}

// 8.1.10: Agreed when all before it is delivered and nothing Safe is in front that is not stable.
func TestDeliverStopsAtGapsAndUnstableSafe(t *testing.T) {
	m := old(t)
	give(t, m, "1 0 1: a one, s two, a three", "2 1 1: r four", "4 1 2: a six")
	fx := &Effects{}
	for _, step := range []struct {
		stable seq.Num
		want   string
	}{{0, "one"}, {0, ""}, {1, "two three four"}, {9, ""}} {
		m.deliver(&m.cursor, step.stable, fx)
		if got := texts(fx); got != step.want {
			t.Errorf("stable line %d: delivered %q, want %q", step.stable, got, step.want)
		}
	}
	give(t, m, "3 2 1: s five")
	m.deliver(&m.cursor, 3, fx)
	if got := texts(fx); got != "five six" {
		t.Errorf("after the gap was filled: delivered %q, want \"five six\"", got)
	}
}

// What data has made deliverable is not handed up by its input, but by HandUp in portions, whole packets each, until nothing is left.
func TestHandUpInPortions(t *testing.T) {
	m := old(t)
	m.cursor.mem = &m.parts
	give(t, m, "2 1 1: a two, r (", "3 1 2: r )", "12 2 9: a behind a gap")
	for n := 4; n <= 10; n++ {
		give(t, m, fmt.Sprintf("%d 2 %d: a %d", n, n-3, n))
	}
	from := old(t)
	give(t, from, "1 0 1: a one")
	first := from.ring.Packet(1).Buf
	packet.PutDataHeader(first, &packet.Data{Ring: m.conf.ID.New, Seq: 1, Count: 1})
	fx := &Effects{}
	m.handleData(0, first, first[packet.HeaderSize:], nil, fx)
	got := []string{texts(fx)}
	for m.HandUp(fx) {
		got = append(got, texts(fx))
	}
	if want := []string{"", "one two 0123456789abcdefghij 4 5 6 7 8", "9 10"}; !slices.Equal(got, want) {
		t.Errorf("portions %q, want %q", got, want)
	}
	if m.cursor.pos != 10 || m.HandUp(fx) {
		t.Errorf("at the end: position %d, events %v", m.cursor.pos, fx.Events)
	}
}

// EVS-2: what was handed up ahead of a gap is not handed up again at its place, and keeps its index.
func TestEarlyOnce(t *testing.T) {
	m := old(t)
	give(t, m, "2 1 1: r early, a late, u early2, r (")
	fx := &Effects{}
	m.deliverEarly(&m.cursor, m.ring.Packet(2), fx)
	if got := texts(fx); got != "early early2" {
		t.Errorf("ahead of a gap: delivered %q, want \"early early2\"", got)
	}
	m.deliverEarly(&m.cursor, m.ring.Packet(2), fx)
	give(t, m, "1 0 1: a first", "3 1 2: r )")
	m.deliver(&m.cursor, 0, fx)
	var got []string
	for _, e := range fx.Events {
		got = append(got, fmt.Sprintf("%s@%d.%d", e.Message.Payload, e.Message.Seq, e.Message.Index))
	}
	if fmt.Sprint(got) != "[first@1.0 late@2.1 0123456789abcdefghij@3.0]" {
		t.Errorf("at their places: %v", got)
	}
}

// 8.4.6 (c), step by step. Position 2 is a hole; its sender is unknown.
func TestDeliverRestBehindHole(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets []string
		owed    []int
		want    string
	}{
		{"before the hole everything, also what is not stable", []string{"1 0 1: s one"}, nil, "one"},
		{"owed senders deliver everything", []string{"1 0 1: a one", "3 0 2: c two, a three, s four"}, []int{0}, "one two three four"},
		{"others' ordered messages are withheld (P-16)", []string{"1 0 1: a one", "3 1 1: c two, a three, s four"}, []int{0}, "one"},
		{"others' Reliable are delivered", []string{"1 0 1: a one", "3 1 1: r two, u three, a four, r five"}, []int{0}, "one two three five"},
		{"others' FIFO without a gap", []string{"1 1 1: a one", "3 1 2: f two, f three"}, []int{0}, "one two three"},
		{"others' FIFO behind something left out", []string{"1 1 1: a one", "3 1 2: f two, a three, f four"}, []int{0}, "one two"},
		{"others' FIFO behind their own gap", []string{"1 1 1: a one", "3 1 3: f two"}, []int{0}, "one"},
		{"two holes", []string{"1 0 1: a one", "4 0 2: a two", "7 1 1: a three, r four"}, []int{0}, "one two four"},
		{"a cut message whose beginning is lost", []string{"1 1 1: a one", "3 1 3: a ), r two"}, []int{0, 1}, "one two"},
		{"a cut message across the hole, all pieces there", []string{"1 0 1: a one, a (", "3 0 2: a ), a two"}, []int{0}, "one 0123456789abcdefghij two"},
		{"a cut message that never ends", []string{"1 0 1: a one", "3 0 2: a ("}, []int{0}, "one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := old(t)
			give(t, m, c.packets...)
			fx := &Effects{}
			m.deliverRest(&m.cursor, obligation(c.owed...), fx)
			if got := texts(fx); got != c.want {
				t.Errorf("delivered %q, want %q", got, c.want)
			}
		})
	}
}

// 8.4.3: who rebroadcasts what. Members 0 and 2 of the new ring come from the old one; 0's aru covers 2.
func TestRebroadcastList(t *testing.T) {
	m := old(t)
	give(t, m, "1 0 1: a one", "2 0 2: a two", "4 1 1: a four", "5 0 3: a five")
	c := &packet.Commit{Entries: []packet.CommitEntry{
		{ID: evs.ProcID{Name: "a", Inc: 1}, OldRing: m.conf.ID.New, OldARU: 2},
		{ID: evs.ProcID{Name: "x", Inc: 9}},
		{ID: evs.ProcID{Name: "c", Inc: 3}, OldRing: m.conf.ID.New, OldARU: 0},
	}}
	if s := m.rebroadcast(c, []int{0, 2}, 0, 0); fmt.Sprint(s.queue) != "[1 2 4 5]" {
		t.Errorf("the first holder sends %v, want all it holds above the lowest aru", s.queue)
	}
	if s := m.rebroadcast(c, []int{0, 2}, 2, 0); fmt.Sprint(s.queue) != "[4 5]" {
		t.Errorf("a later holder sends %v, want what nobody holds for sure", s.queue)
	}
	if s := m.rebroadcast(c, []int{2}, 2, 0); len(s.queue) != 0 {
		t.Errorf("alone from its old ring it sends %v, want nothing", s.queue)
	}
	s := m.rebroadcast(c, []int{0, 2}, 2, 0)
	s.seen[4] = true
	dst := make([]byte, 1300)
	s.Fill(1, dst, true)
	if s.Pending() != 0 || strings.Contains(string(dst), "four") || !strings.Contains(string(dst), "five") {
		t.Errorf("what came by already must not be sent again")
	}
}
