// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// tuned is a net of n members with small windows, which may go up to four times what they are, in which a rotation takes some
// three milliseconds, and in which those who send never run out of messages.
func tuned(t *testing.T, seed uint64, n int, senders ...int) *net {
	w := newNet(t, seed, n, Config{PersonalWindow: 4, GlobalWindow: 16, AcceleratedWindow: 2, Tune: 16}, true)
	w.jitter = time.Millisecond
	w.start()
	w.run(w.now + 100*time.Millisecond) // into operation
	for _, i := range senders {
		w.submit(i, 1<<20)
	}
	w.run(w.now + 300*time.Millisecond)
	return w
}

// Windows that nobody chose go up where there is much to send and nothing is lost, and no further than they may.
func TestWindowsGoUp(t *testing.T) {
	w := tuned(t, 1, 4, 1)
	for i, m := range w.members {
		s, want := m.m.Status(), 4
		if i == 1 {
			want = 16
		}
		if s.Personal != want || s.Global != 64 || s.AcceleratedWindow != want/2 || (s.Windows == WindowsRaised) != (i == 1) {
			t.Errorf("member %d, of which 1 sends: %+v", i, s)
		}
	}
	for i := range w.members {
		w.submit(i, 1<<20)
	}
	w.run(w.now + 300*time.Millisecond)
	for i, m := range w.members {
		if s := m.m.Status(); s.Personal < 12 {
			t.Errorf("window of member %d is %d after 100 full visits of all", i, s.Personal)
		}
	}
}

// While long messages wait windows go on to room for six of them, as far as they may, and come back with shorter ones.
func TestWindowsForLongMessages(t *testing.T) {
	w := newNet(t, 1, 3, Config{PersonalWindow: 4, GlobalWindow: 16, AcceleratedWindow: 2, Tune: 16, TuneLong: 40}, true)
	w.start()
	w.run(w.now + 100*time.Millisecond)
	m := w.members[1]
	w.submit(1, 1<<20)
	for _, x := range []struct{ packets, want int }{{0, 16}, {2, 16}, {3, 18}, {5, 30}, {4, 24}, {7, 40}, {1000, 40}, {0, 16}} {
		m.src.mean = x.packets * 1472
		for tries := 0; tries < 100 && m.m.Status().Personal != x.want; tries++ { // now and then a packet counts as lost
			w.run(w.now + 20*time.Millisecond)
		}
		if s := m.m.Status(); s.Personal != x.want || s.AcceleratedWindow != x.want/2 {
			t.Errorf("messages of %d packets: %+v, want a window of %d", x.packets, s, x.want)
		}
		if most := m.m.cfg.top(m.src.mean); most != x.want {
			t.Errorf("messages of %d packets: windows go to %d, want %d", x.packets, most, x.want)
		}
	}
	if s := m.m.Status(); s.Windows != WindowsShorter {
		t.Errorf("windows that came down for shorter messages say %v", s.Windows)
	}
	if s := w.members[0].m.Status(); s.Personal != 4 {
		t.Errorf("a member that sends nothing: %+v", s)
	}
}

// A loss of more than a sixteenth takes them down, everywhere, and they come back. A bad line does not. What is lost by chance moves
// windows this small at any moment, so it is each member's mean over time and seeds that counts.
func TestWindowsGoDown(t *testing.T) {
	const seeds = 6
	losses := []float64{0.02, 0.15, 0}
	var means [3][3]float64 // by loss and member
	for seed := range uint64(seeds) {
		w := tuned(t, seed, 3, 0, 1, 2)
		for k, loss := range losses {
			w.loss = loss
			w.run(w.now + 300*time.Millisecond)
			for range 200 {
				w.run(w.now + time.Millisecond)
				for i, m := range w.members {
					s := m.m.Status()
					means[k][i] += float64(s.Personal) / (seeds * 200)
					if s.Windows == WindowsGiven {
						t.Fatalf("member %d: %v", i, s.Windows)
					}
				}
			}
		}
	}
	for i := range 3 {
		if means[0][i] < 12 || means[1][i] > 6 || means[2][i] < 12 {
			t.Errorf("member %d: windows of %.1f, %.1f, %.1f on average with losses of %v; want at least 12, at most 6, at least 12 again",
				i, means[0][i], means[1][i], means[2][i], losses)
		}
	}
}

// Only requests for more than a sixteenth of what was sent since the last visit count as much.
func TestMuchLost(t *testing.T) {
	for _, x := range []struct {
		sent, asked uint32
		much        bool
	}{{160, 10, false}, {160, 11, true}, {16, 1, false}, {0, 0, false}} {
		tok := packet.Token{Seq: seq.Num(1000 + x.sent)}
		if x.asked > 1 {
			tok.RTR = []packet.Range{{First: 990, Count: 1}, {First: 995, Count: x.asked - 1}}
		} else if x.asked == 1 {
			tok.RTR = []packet.Range{{First: 990, Count: 1}}
		}
		if got := muchLost(&tok, 1000); got != x.much {
			t.Errorf("%d of %d packets asked for: much is %v", x.asked, x.sent, got)
		}
	}
}

// Rotations on their way to the token timeout take them down.
func TestWindowsSlowRotations(t *testing.T) {
	w := tuned(t, 3, 3, 0)
	w.jitter = 40 * time.Millisecond
	w.run(w.now + 2*time.Second)
	lowered := false
	for range 100 { // now and then a few rotations in a row are quick
		w.run(w.now + 10*time.Millisecond)
		s := w.members[0].m.Status()
		lowered = lowered || s.Windows == WindowsSlow || s.Windows == WindowsLoss
		if s.Personal > 6 {
			t.Fatalf("window %d (%v) with rotations of some 60 ms", s.Personal, s.Windows)
		}
	}
	if !lowered {
		t.Error("nothing ever lowered the window")
	}
}

// Windows that somebody chose stay.
func TestWindowsStay(t *testing.T) {
	w := tuned(t, 4, 2, 0)
	m := w.members[0].m
	cfg := m.Config()
	if s := m.Status(); s.Personal <= 4 {
		t.Fatalf("%+v", s)
	}
	chosen, err := cfg.WithWindows(0, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.Reconfigure(w.now, chosen)
	w.run(w.now + 100*time.Millisecond)
	if s := m.Status(); s.Personal != 3 || s.Global != 16 || s.AcceleratedWindow != 2 || s.Windows != WindowsGiven {
		t.Errorf("%+v after somebody chose a window", s)
	}
	m.Reconfigure(w.now, cfg)
	if s := m.Status(); s.Personal != 4 || s.Global != 64 || s.Windows != WindowsStart {
		t.Errorf("%+v after it was left to the ring", s)
	}
	w.run(w.now + 300*time.Millisecond)
	if s := m.Status(); s.Personal <= 4 {
		t.Errorf("%+v some visits later", s)
	}
}

// More members that always have something to send than full windows fit into the global one: each gets its share.
func TestWindowsAreShared(t *testing.T) {
	for _, tune := range []int{0, 16} {
		w := newNet(t, 5, 8, Config{PersonalWindow: 4, GlobalWindow: 16, AcceleratedWindow: 2, Tune: tune}, true)
		w.jitter = time.Millisecond
		w.start()
		w.run(w.now + 100*time.Millisecond)
		for i := range w.members {
			w.submit(i, 1<<20)
		}
		w.run(w.now + 500*time.Millisecond)
		total := 0
		for _, m := range w.members {
			total += int(m.src.next)
		}
		for i, m := range w.members {
			if share := total / len(w.members); int(m.src.next) < share/2 || int(m.src.next) > 2*share {
				t.Errorf("tuning up to %d: member %d has sent %d packets of %d by all, want about %d", tune, i, int(m.src.next), total, share)
			}
		}
	}
}

// What is sent again takes its part of a visit's window, long packets by what they hold, but a quarter is left for new ones.
func TestAnswersCountInTheWindow(t *testing.T) {
	for _, x := range []struct{ bytes, asked, again, fresh int }{
		{1000, 5, 5, 35}, {1000, 29, 29, 11}, {1000, 31, 31, 10}, {1000, 60, 60, 10},
		{5000, 2, 2, 6}, {5000, 8, 8, 2}, // of five units each, and no room for a third one
	} {
		procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}}
		m := New(Config{PacketBytes: 1000, Larger: 5000}.WithDefaults(), evs.RingID{Seq: 1, Rep: 1}, procs, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", procs[0]), NewPool(1000, 5000), 0)
		m.Operational()
		m.Start(0)
		m.size.larger = x.bytes > 1000
		src := &script{waiting: 1 << 20, bulk: true}
		var fx Effects
		for now := time.Duration(1); ; now++ {
			fx = Effects{}
			before := src.next
			m.Visit(now, src, &fx)
			if now == 5 {
				if again, fresh := fx.Retried, int(src.next-before); again != x.again || fresh != x.fresh {
					t.Errorf("packets of %d bytes, %d asked for: %d again and %d new ones with a window of %d", x.bytes, x.asked, again, fresh, m.cfg.PersonalWindow)
				}
				break
			}
			back := m.token
			back.TokenSeq, back.Sender, back.ARU, back.ARUID = back.TokenSeq+1, 1, 0, 1
			if back.RTR = nil; now == 4 {
				back.RTR = []packet.Range{{First: 41, Count: uint32(x.asked)}} // of the second visit
			}
			if v := m.Accept(now, &back); v != Accepted {
				t.Fatal(v)
			}
			m.size.larger, m.size.doubt = x.bytes > 1000, false
		}
	}
}
