// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// sized is a ring whose members may try packets of 5000 bytes in place of 1000, and send as long ones as they may.
func sized(t *testing.T, cut bool, n int) *net {
	w := newNet(t, 3, n, Config{PacketBytes: 1000, Larger: 5000, LargerCut: cut}, true)
	for _, m := range w.members {
		m.src.bulk = true
	}
	w.start()
	w.run(w.now + 100*time.Millisecond)
	return w
}

// pour lets members have so much to send for so long that every visit is a full one.
func (w *net) pour(d time.Duration, members ...int) {
	for end := w.now + d; w.now < end; {
		for _, i := range members {
			if w.members[i].src.waiting < 200 {
				w.submit(i, 200)
			}
		}
		w.run(w.now + 2*time.Millisecond)
	}
}

// Who has much to send asks once, and its packets are longer from then on; others neither ask nor change.
func TestLargerPackets(t *testing.T) {
	for _, cut := range []bool{false, true} {
		w := sized(t, cut, 4)
		w.pour(50*time.Millisecond, 1, 2)
		for i, m := range w.members {
			want, datagrams := PacketsUsual, 2 // answers to the two that ask
			if i == 1 || i == 2 {
				want, datagrams = PacketsLarger, 3+1 // a question to each of three, and an answer
			}
			if s := m.m.Status(); s.Packets != want || (m.long > 10) != (want == PacketsLarger) || m.sent[packet.KindSize][0] != datagrams {
				t.Errorf("cut %v, member %d: %d bytes (%v), %d long packets, %d questions and answers; want %v and %d", cut, i, s.PacketBytes, s.Packets, m.long, m.sent[packet.KindSize][0], want, datagrams)
			}
		}
	}
}

// Nobody asks about anything for a few packets.
func TestFewPacketsAskNothing(t *testing.T) {
	w := sized(t, false, 3)
	for range 50 {
		w.submit(0, 7)
		w.run(w.now + 5*time.Millisecond)
	}
	if m := w.members[0]; m.sent[packet.KindSize][0] != 0 || m.long > 0 {
		t.Errorf("%d questions, %d long packets", m.sent[packet.KindSize][0], m.long)
	}
}

// Longer packets take as much of the windows as they hold.
func TestLargerPacketsFillWindows(t *testing.T) {
	w := sized(t, false, 3)
	w.pour(50*time.Millisecond, 0)
	m := w.members[0].m
	personal, full := m.Status().Personal, 0
	for range 300 {
		w.submit(0, 20)
		w.run(w.now + 100*time.Microsecond)
		if m.lastNew > personal || int(m.lastSent) > personal {
			t.Fatalf("a visit of %d units (%d with what was sent again), the window is %d", m.lastNew, m.lastSent, personal)
		}
		full = max(full, m.lastNew)
	}
	if s := m.Status(); s.Packets != PacketsLarger || full < personal {
		t.Errorf("visits of at most %d units with a window of %d, packets %v", full, personal, s.Packets)
	}
}

// Where one member does not get them nobody's packets grow, and questions become rare.
func TestLargerPacketsThatOneLacks(t *testing.T) {
	w := sized(t, false, 3)
	w.members[0].short[2] = true
	w.pour(3*time.Second, 0)
	m := w.members[0]
	if s := m.m.Status(); s.Packets != PacketsUsual || m.long > 0 {
		t.Errorf("%v, %d long packets, which member 2 does not get", s.Packets, m.long)
	}
	if q := m.sent[packet.KindSize][0] / 2; q < 5 || q > 15 {
		t.Errorf("%d questions in 3 seconds, want about 8", q)
	}
}

// A way that does not carry them any longer, and loses packets: they end when nobody answers.
func TestLargerPacketsEnd(t *testing.T) {
	w := sized(t, false, 3)
	w.pour(50*time.Millisecond, 0)
	m := w.members[0]
	m.short[1] = true
	w.loss = 0.02
	for wait := 0; m.m.Status().Packets == PacketsLarger; wait++ {
		w.pour(20*time.Millisecond, 0)
		if w.run(w.now + 80*time.Millisecond); wait > 100 {
			t.Fatal("larger packets go on without an answer")
		}
	}
}

// In fragments they end with losses, not with what comes late once, and come back later.
func TestLargerPacketsInFragmentsEnd(t *testing.T) {
	w := sized(t, true, 3)
	w.pour(50*time.Millisecond, 0)
	m := w.members[0]
	if m.m.Status().Packets != PacketsLarger {
		t.Fatal("no larger packets in fragments")
	}
	for range 3 { // once in a token timeout something is asked for, by both others one after the other
		for range 2 {
			m.m.sentAgain(0)
			w.pour(4*time.Millisecond, 0)
		}
		w.pour(250*time.Millisecond, 0)
	}
	if s := m.m.Status(); s.Packets != PacketsLarger {
		t.Errorf("%v although some were only late", s.Packets)
	}
	w.loss = 0.02
	w.pour(300*time.Millisecond, 0)
	if s := m.m.Status(); s.Packets != PacketsUsual {
		t.Errorf("%v although some were lost", s.Packets)
	}
	w.loss = 0
	w.run(w.now + (reachRest+2)*250*time.Millisecond)
	w.pour(100*time.Millisecond, 0)
	if s := m.m.Status(); s.Packets != PacketsLarger {
		t.Errorf("%v long after the last loss", s.Packets)
	}
}

// That holds where a group address closes and opens at the same time, for the same reason.
func TestLargerPacketsInFragmentsRest(t *testing.T) {
	w := newNet(t, 3, 3, Config{PacketBytes: 1000, Larger: 5000, LargerCut: true, Group: everybody(0, 1, 2)}, true)
	w.members[0].src.bulk = true
	w.start()
	w.pour(100*time.Millisecond, 0)
	w.run(w.now + 3*time.Second) // the group address is in use for long enough to be doubted
	w.pour(100*time.Millisecond, 0)
	m := w.members[0]
	if s := m.m.Status(); s.Packets != PacketsLarger || s.Group.Reach != ReachAll {
		t.Fatalf("%+v", s)
	}
	w.loss = 0.02
	for m.m.Status().Packets == PacketsLarger {
		w.pour(2*time.Millisecond, 0)
	}
	w.loss = 0
	asked, long := m.sent[packet.KindSize], m.long
	for range reachRest - 1 {
		w.pour(20*time.Millisecond, 0)
		w.run(w.now + 230*time.Millisecond)
	}
	if m.sent[packet.KindSize] != asked || m.long != long {
		t.Errorf("questions %v, then %v; %d long packets within eight token timeouts", asked, m.sent[packet.KindSize], m.long-long)
	}
	w.pour(500*time.Millisecond, 0)
	if s := m.m.Status(); s.Packets != PacketsLarger {
		t.Errorf("%v long after the last loss", s.Packets)
	}
}

// An answer to a question from before everything was asked anew says nothing.
func TestLateAnswersAboutLength(t *testing.T) {
	w := sized(t, false, 3)
	w.pour(50*time.Millisecond, 0)
	m := w.members[0].m
	old := m.size.number
	m.askSizeAnew(w.now)
	for from := range 3 {
		m.HandleQuestion(packet.KindSize, packet.Question{Ring: m.id, Sender: uint16(from), Asker: 0, Number: old}, &Effects{})
	}
	if m.size.lacking != 2 {
		t.Errorf("%d answers lack after old ones, want 2", m.size.lacking)
	}
}

// A longer packet that has to be sent again twice ends them at once, whatever answers there are.
func TestLargerPacketsThatFail(t *testing.T) {
	w := sized(t, false, 3)
	w.pour(50*time.Millisecond, 0)
	m := w.members[0].m
	m.size.failed = true
	w.pour(20*time.Millisecond, 0)
	if s := m.Status(); s.Packets != PacketsUsual {
		t.Errorf("%v", s.Packets)
	}
}

// Little to say does not keep a large buffer, and nobody sends more than usual packets when somebody is far behind.
func TestLargerPacketsTakeLittleMemory(t *testing.T) {
	w := sized(t, false, 3)
	for _, m := range w.members {
		m.pool.classes = append(m.pool.classes, poolClass{size: 5000})
	}
	w.pour(50*time.Millisecond, 0)
	m := w.members[0]
	m.src.bulk = false
	w.run(w.now + 100*time.Millisecond)
	w.submit(0, 1)
	if p := m.m.Packet(m.m.High()); p == nil || cap(p.Buf) > 1472 {
		t.Errorf("a packet of %d bytes in %d", len(p.Buf), cap(p.Buf))
	}
	far := packet.Token{Seq: 1000, ARU: 1000 - 512}
	if near := (packet.Token{Seq: 1000, ARU: 1001 - 512}); m.m.longest(&near) != 5000 || m.m.longest(&far) != 1000 {
		t.Errorf("%d bytes near, %d far from the aru", m.m.longest(&near), m.m.longest(&far))
	}
}
