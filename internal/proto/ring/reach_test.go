// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// everybody is a group address of the members of a test ring, or of some of them.
func everybody(members ...int) *Group {
	g := &Group{Addr: netip.MustParseAddrPort("239.1.2.3:4803")}
	for _, i := range members {
		g.Members = append(g.Members, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4803))
	}
	return g
}

func grouped(t *testing.T, n int) *net {
	var all []int
	for i := range n {
		all = append(all, i)
	}
	return newNet(t, 1, n, Config{Group: everybody(all...)}, true)
}

// talk lets every member send for so long, some packets every two milliseconds, and returns how many that were.
func (w *net) talk(d time.Duration) int {
	total := 0
	for end := w.now + d; w.now < end; {
		for i := range w.members {
			w.submit(i, 3)
			total += 3
		}
		w.run(w.now + 2*time.Millisecond)
	}
	return total
}

// data are the datagrams of data that a member sends in a while: how many go to single members, how many to the group address.
func (w *net) data(i int, f func()) (each, group int) {
	before := w.members[i].sent[packet.KindData]
	f()
	after := w.members[i].sent[packet.KindData]
	return after[0] - before[0], after[1] - before[1]
}

// Where the group address reaches everybody each member asks once, and all data but the first goes there.
func TestReachAll(t *testing.T) {
	for _, n := range []int{3, 4, 5, 8, 32} {
		w := grouped(t, n)
		w.start()
		total := w.talk(20 * time.Millisecond)
		var more int
		each, group := w.data(1, func() { more = w.talk(20 * time.Millisecond) })
		w.run(w.now + time.Second)
		w.wantAll(total + more)
		if each != 0 || group == 0 {
			t.Errorf("%d members: %d packets to each, %d to the group address", n, each, group)
		}
		for i, m := range w.members {
			if got := m.sent[packet.KindReach]; got != [2]int{n - 1, 1} {
				t.Errorf("member %d of %d: %d answers and %d questions", i, n, got[0], got[1])
			}
			if !slices.Equal(m.said, []Reach{ReachAll}) {
				t.Errorf("member %d of %d says %v", i, n, m.said)
			}
			if g := m.m.Status().Group; g.Reach != ReachAll || len(g.Missing) > 0 || g.Addr.Port() != 4803 {
				t.Errorf("member %d of %d: %+v", i, n, g)
			}
		}
	}
}

// A member that the group address does not reach from the start: nothing goes there, nothing is lost, and it is said who.
// One answer lacks, so that the others must not stand for it.
func TestReachLacksOne(t *testing.T) {
	w := grouped(t, 4)
	for _, m := range w.members {
		m.deaf[2] = true // not from itself either, but that is nobody
	}
	w.start()
	total := w.talk(8 * time.Second)
	w.run(w.now + time.Second)
	w.wantAll(total)
	for i, m := range w.members {
		d := m.sent[packet.KindData]
		if i == 2 { // its own way is open
			if d[1] == 0 || !slices.Equal(m.said, []Reach{ReachAll}) {
				t.Errorf("member 2 reaches all: %v, says %v", d, m.said)
			}
			continue
		}
		if d[1] != 0 {
			t.Errorf("member %d sent %d packets to a group address that does not reach member 2", i, d[1])
		}
		if !slices.Equal(m.said, []Reach{ReachLacks}) {
			t.Errorf("member %d says %v", i, m.said)
		}
		if g := m.m.Status().Group; g.Reach != ReachLacks || !slices.Equal(g.Missing, []int{2}) {
			t.Errorf("member %d: %+v", i, g)
		}
		if q := m.sent[packet.KindReach][1]; q < 5 || q > 15 {
			t.Errorf("member %d asked %d times in 9 s", i, q)
		}
	}
	// The network is mended: the next question finds that out, and it is said.
	for _, m := range w.members {
		clear(m.deaf)
	}
	w.run(w.now + 11*time.Second)
	for i, m := range w.members {
		if g := m.m.Status().Group; g.Reach != ReachAll || m.said[len(m.said)-1] != ReachAll {
			t.Errorf("member %d, when the network is mended: %+v, says %v", i, g, m.said)
		}
	}
}

// A group address that stops working in the middle costs no ring: the packets come after some rotations, and then each by itself.
func TestReachBreaks(t *testing.T) {
	for n := 3; n <= 8; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := grouped(t, n)
			w.start()
			total := w.talk(3 * time.Second)
			for _, m := range w.members {
				m.deaf[1] = true
			}
			total += w.talk(200 * time.Millisecond)
			var more int
			for i := range w.members {
				if _, group := w.data(i, func() { more += w.talk(50 * time.Millisecond) }); group != 0 && i != 1 {
					t.Errorf("member %d still sends %d packets to the group address", i, group)
				}
			}
			total += more
			w.run(w.now + 10*time.Second)
			w.wantAll(total)
			for i, m := range w.members {
				want := []Reach{ReachAll, ReachLacks}
				if i == 1 {
					want = want[:1]
				}
				if !slices.Equal(m.said, want) {
					t.Errorf("member %d says %v, want %v", i, m.said, want)
				}
			}
		})
	}
}

// Right after the group address was found to work a doubt must wait. Even so nothing is lost if it breaks then.
func TestReachBreaksAtOnce(t *testing.T) {
	w := grouped(t, 5)
	w.start()
	total := w.talk(10 * time.Millisecond)
	for _, m := range w.members {
		m.deaf[4] = true
	}
	total += w.talk(3 * time.Second)
	w.run(w.now + 3*time.Second)
	w.wantAll(total)
	for i, m := range w.members[:4] {
		if g := m.m.Status().Group; g.Reach == ReachAll {
			t.Errorf("member %d: %+v", i, g)
		}
	}
}

// A network that loses much is no reason to leave the group address for long, nor to ask all the time.
func TestReachLoss(t *testing.T) {
	w := grouped(t, 4)
	w.loss = 0.05
	w.start()
	total := w.talk(time.Second)
	var more int
	each, group := w.data(0, func() { more = w.talk(10 * time.Second) })
	w.loss = 0
	w.run(w.now + 3*time.Second)
	w.wantAll(total + more)
	if each > group/2 {
		t.Errorf("%d packets to the group address, %d datagrams to single members", group, each)
	}
	for i, m := range w.members {
		if q := m.sent[packet.KindReach][1]; q > 40 {
			t.Errorf("member %d asked %d times in 11 s", i, q)
		}
		if !slices.Equal(m.said, []Reach{ReachAll}) {
			t.Errorf("member %d says %v", i, m.said)
		}
	}
}

// Without a group address, or with one for fewer than two others, there are no questions.
func TestReachNone(t *testing.T) {
	for name, g := range map[string]*Group{"none": nil, "of others": everybody(9, 10, 11), "of one other": everybody(0, 1)} {
		w := newNet(t, 1, 4, Config{Group: g}, true)
		w.start()
		total := w.talk(20 * time.Millisecond)
		w.run(w.now + time.Second)
		w.wantAll(total)
		for i, m := range w.members {
			if name == "of one other" && i > 1 { // for these it is of two
				continue
			}
			if m.sent[packet.KindReach][1] != 0 || m.sent[packet.KindData][1] != 0 || m.m.Status().Group.Reach != ReachNone || len(m.said) > 0 {
				t.Errorf("%s: member %d sent %v, %+v", name, i, m.sent, m.m.Status().Group)
			}
		}
	}
}

// The group address of some members: only these must answer.
func TestReachSegment(t *testing.T) {
	w := newNet(t, 1, 6, Config{Group: everybody(0, 1, 2, 3)}, true)
	for _, m := range w.members {
		m.deaf[4], m.deaf[5] = true, true
	}
	w.start()
	w.run(w.now + 20*time.Millisecond)
	if g := w.members[0].m.Status().Group; g.Reach != ReachAll {
		t.Errorf("a group address of four of six: %+v", g)
	}
}

// Which answers count: those of members that were asked, to a question of this ring and this time of asking.
func TestReachAnswers(t *testing.T) {
	w := grouped(t, 4)
	w.start()
	m := w.members[0].m
	var fx Effects
	if m.reach.number != 1 || m.reach.lacking != 3 {
		t.Fatalf("after the first visit: question %d, %d lack", m.reach.number, m.reach.lacking)
	}
	answer := func(from, asker uint16, number uint32) int {
		before := m.reach.lacking
		m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.id, Sender: from, Asker: asker, Number: number}, &fx)
		return before - m.reach.lacking
	}
	for _, x := range []struct {
		what        string
		from, asker uint16
		number      uint32
		counts      int
	}{
		{"an answer", 1, 0, 1, 1},
		{"the same again", 1, 0, 1, 0},
		{"one to a question that was not asked", 2, 0, 2, 0},
		{"one to somebody else", 2, 1, 1, 0},
		{"one of myself", 0, 0, 1, 0},
		{"one of nobody", 4, 0, 1, 0},
		{"the second", 3, 0, 1, 1},
	} {
		if got := answer(x.from, x.asker, x.number); got != x.counts {
			t.Errorf("%s counts %d times, want %d", x.what, got, x.counts)
		}
	}
	if len(fx.Sends) > 0 {
		t.Errorf("%d answers to answers", len(fx.Sends))
	}
	m.askAnew(w.now)
	if answer(2, 0, 1) != 0 {
		t.Error("an answer from before counts")
	}
	// A question is answered to who asks, also where no group address is known.
	w = newNet(t, 1, 3, Config{}, true)
	m = w.members[2].m
	m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.id, Sender: 1, Asker: 1, Number: 7}, &fx)
	if len(fx.Sends) != 1 || fx.Sends[0].Ring || !slices.Equal(fx.Sends[0].To, m.addrs[1:2]) {
		t.Fatalf("answers: %+v", fx.Sends)
	}
	_, body, err := packet.Open(packet.ClusterID("test"), fx.Sends[0].Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := packet.ParseQuestion(packet.KindReach, body); err != nil || p != (packet.Question{Ring: evs.RingID{Seq: 5, Rep: 100}, Sender: 2, Asker: 1, Number: 7}) {
		t.Errorf("answer %+v, %v", p, err)
	}
	m.GiveUp()
	fx = Effects{}
	if m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.id, Sender: 1, Asker: 1, Number: 8}, &fx); len(fx.Sends) > 0 {
		t.Error("a ring that is lost answers")
	}
}

// All packets of a visit go the same way, also when the last answer comes while a lone sender keeps the token.
func TestReachWithinVisit(t *testing.T) {
	w := grouped(t, 3)
	m := w.members[0]
	m.deaf[2] = true
	w.start()
	w.run(w.now + 20*time.Millisecond)
	for range 40 {
		if m.m.held && m.m.visitNew > 0 {
			break
		}
		w.submit(0, 1)
		w.run(w.now + 200*time.Microsecond)
	}
	if !m.m.held || m.m.visitNew == 0 || m.m.reach.lacking != 1 {
		t.Fatalf("held %v with %d packets of this visit, %d lack", m.m.held, m.m.visitNew, m.m.reach.lacking)
	}
	m.m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.m.id, Sender: 2, Asker: 0, Number: m.m.reach.number}, &m.fx)
	if _, group := w.data(0, func() { w.submit(0, 1) }); group != 0 {
		t.Error("a visit changes its way")
	}
	clear(m.deaf)
	w.run(w.now + 20*time.Millisecond)
	if each, group := w.data(0, func() { w.submit(0, 1); w.run(w.now + 20*time.Millisecond) }); each != 0 || group != 1 {
		t.Errorf("the next visit sends %d packets to each and %d to the group address", each, group)
	}
}

// Neither the group address nor a question about it costs memory once the ring turns.
func TestReachAllocatesNothing(t *testing.T) {
	procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}, {Name: "c", Inc: 3}}
	pool := NewPool(1472)
	m := New(Config{Group: everybody(0, 1, 2)}.WithDefaults(), evs.RingID{Seq: 1, Rep: 1}, procs, everybody(0, 1, 2).Members, 0, true, packet.NewSealer("t", procs[0]), pool, 0)
	m.Operational()
	m.Start(0)
	src, fx, now := script{waiting: 30}, Effects{}, time.Duration(1)
	m.Visit(now, &src, &fx)
	tok := packet.Token{Ring: m.id, TokenSeq: 3, Sender: 2, ARUID: packet.NoMember}
	group := 0
	round := func() {
		pool.Settle()
		fx.Sends = fx.Sends[:0]
		tok.Seq, tok.ARU = m.token.Seq, m.token.Seq
		src.waiting = 30
		now += 50 * time.Microsecond
		if m.Accept(now, &tok) != Accepted {
			t.Fatal("token not accepted")
		}
		m.Visit(now, &src, &fx)
		m.Discard(m.Stable())
		tok.TokenSeq += 3
		for _, s := range fx.Sends {
			if s.Kind == packet.KindData && s.Ring {
				group++
			}
		}
		if m.reach.open {
			m.reach.doubt, m.reach.since = true, -time.Hour // the next visit asks anew
		}
		for i := range uint16(2) {
			m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.id, Sender: i + 1, Asker: 0, Number: m.reach.number}, &fx)
			m.HandleQuestion(packet.KindReach, packet.Question{Ring: m.id, Sender: i + 1, Asker: i + 1, Number: 1}, &fx)
		}
	}
	for range 100 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 0 {
		t.Errorf("%v allocations per rotation", n)
	}
	if group < 1000 {
		t.Errorf("%d packets to the group address", group)
	}
}
