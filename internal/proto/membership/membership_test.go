// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

// seedsFlag makes the randomised tests longer: go test -run Schedules -seeds 2000.
var seedsFlag = flag.Uint64("seeds", 0, "number of seeds of the randomised tests")

func seeds(n uint64) uint64 {
	if *seedsFlag > 0 {
		return *seedsFlag
	}
	if testing.Short() {
		return n / 5
	}
	return n
}

func TestColdStart(t *testing.T) {
	for _, n := range []int{1, 2, 5, 24, 32} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			for seed := range uint64(max(1, 10/n)) {
				c := newCluster(t, seed, n)
				c.quiet = n > 5
				c.startAll(100 * time.Millisecond)
				took := c.within(time.Second, "cold start", func() bool { return c.together(c.all()...) })
				most := 0
				for i := range c.nodes {
					most = max(most, len(c.nodes[i].installs))
				}
				t.Logf("seed %d: %v, at most %d installs, %d packets", seed, took, most, c.sends)
				c.run(1500 * time.Millisecond)
				if !c.together(c.all()...) || c.installsSince(0, c.now-time.Second) > 0 {
					t.Fatal("does not stay together")
				}
			}
		})
	}
}

func settled(t *testing.T, seed uint64, n int) *cluster {
	c := newCluster(t, seed, n)
	c.quiet = true
	c.startAll(50 * time.Millisecond)
	c.within(2*time.Second, "start", func() bool { return c.together(c.all()...) })
	c.run(time.Duration(max(1, 20/n)) * 500 * time.Millisecond)
	c.quiet = n > 5
	return c
}

func TestKill(t *testing.T) {
	for seed := range uint64(5) {
		c := settled(t, seed, 5)
		i := int(seed)
		c.kill(i)
		at := c.now
		took := c.within(500*time.Millisecond, "kill", func() bool { return c.together(c.all()...) })
		t.Logf("killed %d: %v", i, took)
		for _, j := range c.all() {
			if n := c.installsSince(j, at); n != 1 {
				t.Errorf("d%02d installed %d configurations", j, n)
			}
		}
		c.start(i)
		t.Logf("back: %v", c.within(time.Second, "restart", func() bool { return c.together(0, 1, 2, 3, 4) }))
	}
}

func TestRestartInsideTokenTimeout(t *testing.T) {
	for seed := range uint64(10) {
		c := settled(t, seed, 5)
		for range 3 {
			i := int(seed) % 5
			c.kill(i)
			c.run(time.Millisecond)
			c.start(i)
			t.Log(c.within(time.Second, "restart", func() bool { return c.together(0, 1, 2, 3, 4) }))
			c.run(time.Duration(c.rnd.Int64N(int64(300 * time.Millisecond))))
		}
	}
}

// TestKillDuringGather sweeps a second crash over all phases of the attempt that follows a first one: LIVE-3, LIVE-7.
func TestKillDuringGather(t *testing.T) {
	worst := time.Duration(0)
	for k := range 24 {
		for _, second := range []int{0, 3} { // the representative, and a member in the middle
			c := settled(t, uint64(k), 5)
			c.quiet = true
			c.kill(1)
			c.run(335*time.Millisecond + time.Duration(k)*time.Millisecond)
			c.kill(second)
			took := c.within(700*time.Millisecond, fmt.Sprintf("second crash of %d at %d", second, k), func() bool { return c.together(c.all()...) })
			worst = max(worst, took)
		}
	}
	t.Log("worst:", worst)
}

// TestHealConstantGraph: when a graph with one-way cuts becomes whole, all are together soon.
func TestHealConstantGraph(t *testing.T) {
	for seed := range uint64(5) {
		c := settled(t, seed, 5)
		c.quiet = true
		a, b := int(seed), int(seed+2)%5
		c.cut = func(from, to int) bool { return from == a && to == b }
		c.run(6 * time.Second)
		if c.together(c.all()...) {
			t.Fatal("one-way cut went unnoticed")
		}
		c.cut = nil
		t.Log(c.within(time.Second, "heal", func() bool { return c.together(c.all()...) }))
	}
}

func TestLeave(t *testing.T) {
	c := settled(t, 1, 5)
	d := c.nodes[2]
	at := c.now
	d.input(func(now time.Duration, fx *Effects) { d.m.Leave(now, fx) })
	d.on = false
	d.epoch++
	took := c.within(50*time.Millisecond, "leave", func() bool { return c.together(0, 1, 3, 4) })
	t.Log(took)
	c.run(2 * time.Second)
	if d.m.State() != StateLeft || !c.together(0, 1, 3, 4) || c.installsSince(0, at) != 1 {
		t.Fatal("not stable after a leave")
	}
}

// An exit does not take as long as timers for slow networks are.
func TestLeaveWithLongTimers(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.tweak = func(_ int, cfg *Config) { *cfg = Config{Me: cfg.Me, Stable: true, TokenTimeout: 20 * time.Second} }
	c.startAll(0)
	c.run(time.Minute)
	d := c.nodes[0]
	d.input(func(now time.Duration, fx *Effects) { d.m.Leave(now, fx) })
	c.run(50 * time.Millisecond)
	if d.m.State() != StateLeft {
		t.Errorf("%v 50 ms after the order to leave", d.m.State())
	}
}

func halves(k int) func(from, to int) bool {
	return func(from, to int) bool { return (from < k) != (to < k) }
}

func TestPartitionAndMerge(t *testing.T) {
	for _, lasting := range []time.Duration{100 * time.Millisecond, 600 * time.Millisecond, 10 * time.Second, 3 * time.Minute} {
		c := settled(t, 3, 5)
		c.cut = halves(3)
		if lasting > 500*time.Millisecond {
			c.within(500*time.Millisecond, "partition", func() bool { return c.together(0, 1, 2) && c.together(3, 4) })
			c.run(lasting - 500*time.Millisecond)
		} else {
			c.run(lasting)
		}
		c.cut = nil
		at := c.now
		took := c.within(time.Second, "merge", func() bool { return c.together(c.all()...) })
		t.Logf("partition of %v: merged in %v, %d installs", lasting, took, c.installsSince(0, at))
		c.run(3 * time.Second)
		if !c.together(c.all()...) || c.installsSince(0, at) > 2 {
			t.Fatalf("unstable after merge: %d installs", c.installsSince(0, at))
		}
	}
}

func TestMerge32(t *testing.T) {
	c := settled(t, 3, 32)
	c.cut = halves(15)
	c.run(2 * time.Second)
	c.cut = nil
	t.Log(c.within(5*time.Second, "merge", func() bool { return c.together(c.all()...) }))
}

// TestConstantGraphs: LIVE-5. The cuts stay for ever, one-way and not transitive.
func TestConstantGraphs(t *testing.T) {
	for seed := range seeds(40) {
		n := 3 + int(seed%5)
		c := settled(t, seed, n)
		c.quiet = true
		cut := map[[2]int]bool{}
		for i := range n {
			for j := range n {
				if i != j && c.rnd.Float64() < 0.25 {
					cut[[2]int{i, j}] = true
				}
			}
		}
		c.cut = func(from, to int) bool { return cut[[2]int{from, to}] }
		at := c.now
		c.run(20 * time.Second)
		late := c.now
		c.run(20 * time.Second)
		for i, d := range c.nodes {
			if k := c.installsSince(i, at); k > 2*n {
				t.Errorf("seed %d: d%02d of %d installed %d configurations", seed, i, n, k)
			}
			if c.installsSince(i, late) > 0 || d.m.State() != StateOperational {
				c.dump()
				t.Fatalf("seed %d: d%02d still changes: %v", seed, i, d.m.State())
			}
			for _, p := range d.members {
				for _, q := range d.members {
					if cut[[2]int{int(p.Rank), int(q.Rank)}] {
						t.Errorf("seed %d: d%02d ends with %v, who do not reach each other", seed, i, d.members)
					}
				}
			}
		}
	}
}

// TestTokenLinkBroken: probes pass and tokens do not, on one link. The ring must change, and not too often.
func TestTokenLinkBroken(t *testing.T) {
	c := settled(t, 1, 4)
	c.noToken = func(from, to int) bool { return from == 1 && to == 2 }
	at := c.now
	c.run(30 * time.Second)
	for i := range c.nodes {
		t.Logf("d%02d: %d installs, last %v", i, c.installsSince(i, at), c.nodes[i].members)
		if n := c.installsSince(i, at); n > 40 || n == 0 {
			t.Errorf("d%02d: %d installs in 30 s", i, n)
		}
	}
	c.noToken = nil
	c.within(6*time.Second, "repair", func() bool { return c.together(c.all()...) })
}

func TestPause(t *testing.T) {
	for seed := range uint64(10) {
		c := settled(t, seed, 5)
		i := int(seed) % 5
		c.nodes[i].pause()
		c.run(time.Duration(200+c.rnd.IntN(3000)) * time.Millisecond)
		at := c.now
		c.nodes[i].resume()
		took := c.within(1500*time.Millisecond, "resume", func() bool { return c.together(c.all()...) })
		c.run(3 * time.Second)
		if !c.together(c.all()...) {
			t.Fatal("apart again")
		}
		t.Logf("seed %d: %v, %d installs", seed, took, c.installsSince((i+1)%5, at))
	}
}

func TestSuspect(t *testing.T) {
	c := settled(t, 1, 4)
	blamed := c.nodes[2]
	for _, d := range c.nodes {
		d.on = false
		d.input(func(now time.Duration, fx *Effects) { d.m.Suspect(now, blamed.id, ReasonFailedToReceive, fx) })
	}
	c.within(200*time.Millisecond, "suspect", func() bool { return c.together(0, 1, 3) && c.together(2) })
	c.within(2*time.Second, "second chance", func() bool { return c.together(c.all()...) })
}

// A disk that cannot be written to does not matter as long as numbers are stored ahead.
func TestStoredAhead(t *testing.T) {
	c := settled(t, 1, 4)
	c.failing[1] = true
	c.kill(3)
	c.within(600*time.Millisecond, "with the one whose disk is full", func() bool { return c.together(0, 1, 2) })
}

func TestStoreFails(t *testing.T) {
	c := settled(t, 1, 4)
	c.nodes[1].m.stored = c.nodes[1].m.known // what was stored ahead is used up
	c.failing[1] = true
	c.kill(3)
	c.within(1500*time.Millisecond, "without the one whose disk is full", func() bool { return c.together(0, 2) })
	c.failing[1] = false
	c.within(5*time.Second, "disk repaired", func() bool { return c.together(0, 1, 2) })
}

// schedule drives random faults by seed, then heals everything and wants LIVE-1. It returns a digest of all packets.
func schedule(t *testing.T, seed uint64) uint64 {
	n := 2 + int(seed%8)
	c := newCluster(t, 1000+seed, n)
	c.quiet = true
	c.loss, c.dup, c.delay = 0.1*c.rnd.Float64(), 0.1, time.Duration(1+c.rnd.IntN(5))*time.Millisecond
	c.startAll(100 * time.Millisecond)
	cut := map[[2]int]bool{}
	c.cut = func(from, to int) bool { return cut[[2]int{from, to}] }
	for range 30 {
		i := c.rnd.IntN(n)
		switch c.rnd.IntN(7) {
		case 0:
			c.kill(i)
		case 1:
			if c.nodes[i].dead {
				c.start(i)
			}
		case 2:
			c.kill(i)
			c.start(i)
		case 3:
			cut[[2]int{i, c.rnd.IntN(n)}] = true
		case 4:
			clear(cut)
		case 5:
			k := c.rnd.IntN(n)
			for a := range n {
				for b := range n {
					cut[[2]int{a, b}] = (a < k) != (b < k)
				}
			}
		case 6:
			if c.nodes[i].isPaused {
				c.nodes[i].resume()
			} else {
				c.nodes[i].pause()
			}
		}
		c.run(time.Duration(c.rnd.Int64N(int64(600 * time.Millisecond))))
	}
	clear(cut)
	for i, d := range c.nodes {
		if d.dead {
			c.start(i)
		} else if d.isPaused {
			d.resume()
		}
	}
	took := c.within(3*time.Second, fmt.Sprintf("seed %d: heal", seed), func() bool { return c.together(c.all()...) })
	t.Logf("seed %d, %d daemons: %v", seed, n, took)
	return c.digest
}

func TestSchedules(t *testing.T) {
	for seed := range seeds(60) {
		schedule(t, seed)
	}
}

// TestSameInputsSameEffects: a recording replays only if nothing but inputs counts.
func TestSameInputsSameEffects(t *testing.T) {
	for seed := range uint64(3) {
		if a, b := schedule(t, seed), schedule(t, seed); a != b {
			t.Fatalf("seed %d: %x and %x", seed, a, b)
		}
	}
}

func FuzzSchedules(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { schedule(t, seed) })
}

// told are the causes that daemon i gives for its configuration.
func (c *cluster) told(i int) string { return CausesText(c.nodes[i].m.Causes()) }

// Every survivor names who is gone or came, and why, whoever told it first. What a daemon cannot know it does not claim.
func TestCausesTold(t *testing.T) {
	everywhere := func(c *cluster, want string, who ...int) {
		t.Helper()
		for _, i := range who {
			if got := c.told(i); got != want {
				t.Errorf("d%02d says %q, want %q", i, got, want)
			}
			notes := c.nodes[i].notes
			for k := len(notes) - 1; k >= 0; k-- {
				if n := notes[k]; n.Kind == NoteInstalled {
					if got := CausesText(n.Causes); got != want {
						t.Errorf("d%02d notes %q, want %q", i, got, want)
					}
					break
				}
			}
		}
	}
	leave := func(c *cluster, i int) {
		d := c.nodes[i]
		d.input(func(now time.Duration, fx *Effects) { d.m.Leave(now, fx) })
		d.on = false
		d.epoch++
	}
	for seed := range seeds(10) {
		c := settled(t, seed, 5)
		c.kill(2)
		c.within(time.Second, "crash", func() bool { return c.together(0, 1, 3, 4) })
		everywhere(c, "member vanished without a word (d02)", 0, 1, 3, 4)
		c.start(2)
		c.within(2*time.Second, "restart", func() bool { return c.together(c.all()...) })
		everywhere(c, "merge with daemons in reach (d02)", 0, 1, 3, 4)
		everywhere(c, "start: looking for others (d00 d01 d03 d04)", 2)
		leave(c, 3)
		c.within(time.Second, "leave", func() bool { return c.together(0, 1, 2, 4) })
		everywhere(c, "member said good-bye (d03)", 0, 1, 2, 4)
		c.kill(0)
		c.kill(1)
		c.within(time.Second, "crash of two", func() bool { return c.together(2, 4) })
		everywhere(c, "member vanished without a word (d00 d01)", 2, 4)

		c = settled(t, seed, 5)
		c.cut = halves(2)
		c.within(2*time.Second, "cut", func() bool { return c.together(0, 1) && c.together(2, 3, 4) })
		everywhere(c, "member vanished without a word (d02 d03 d04)", 0, 1)
		everywhere(c, "member vanished without a word (d00 d01)", 2, 3, 4)
		c.cut = nil
		c.within(4*time.Second, "merge", func() bool { return c.together(c.all()...) })
		everywhere(c, "merge with daemons in reach (d02 d03 d04)", 0, 1)
		everywhere(c, "merge with daemons in reach (d00 d01)", 2, 3, 4)

		// One crashes while the others say good-bye to another.
		c = settled(t, seed, 5)
		at := c.now
		c.kill(1)
		leave(c, 4)
		c.within(2*time.Second, "crash and leave", func() bool { return c.together(0, 2, 3) })
		for _, i := range []int{0, 2, 3} {
			var all []string // in one configuration or in two
			for _, n := range c.nodes[i].notes {
				if n.Kind == NoteInstalled && n.at >= at {
					all = append(all, CausesText(n.Causes))
				}
			}
			if text := strings.Join(all, "; "); !strings.Contains(text, "member vanished without a word (d01)") || !strings.Contains(text, "member said good-bye (d04)") {
				t.Errorf("d%02d says %q", i, text)
			}
		}
	}

	// Who blames it knows that it cannot receive; who only hears that the others leave it out knows that it speaks.
	c := settled(t, 1, 4)
	for _, i := range []int{0, 1} {
		d := c.nodes[i]
		d.on = false
		d.input(func(now time.Duration, fx *Effects) { d.m.Suspect(now, c.nodes[2].id, ReasonFailedToReceive, fx) })
	}
	c.within(time.Second, "suspect", func() bool { return c.together(0, 1, 3) && c.together(2) })
	everywhere(c, "member failed to receive (d02)", 0, 1)
	everywhere(c, "members do not hear each other (d02)", 3)

	// Who leaves by itself knows why.
	c = settled(t, 1, 4)
	d := c.nodes[2]
	d.on = false
	d.input(func(now time.Duration, fx *Effects) { d.m.Suspect(now, d.id, ReasonFailedToReceive, fx) })
	c.within(time.Second, "own failure", func() bool { return c.together(0, 1, 3) && c.together(2) })
	everywhere(c, "member failed to receive (d02)", 2)
	everywhere(c, "member says that it hears nobody (d02)", 0, 1, 3)

	// So do the others if nothing reaches it any more.
	for seed := range seeds(10) {
		c := settled(t, seed, 5)
		c.cut = func(from, to int) bool { return to == 3 }
		c.within(2*time.Second, "deafness", func() bool { return c.together(0, 1, 2, 4) && c.together(3) })
		everywhere(c, "member says that it hears nobody (d03)", 0, 1, 2, 4)
		everywhere(c, "member vanished without a word (d00 d01 d02 d04)", 3)

		// One that nobody hears has vanished; it knows that the others live.
		c = settled(t, seed, 5)
		c.cut = func(from, to int) bool { return from == 3 }
		c.within(2*time.Second, "silence", func() bool { return c.together(0, 1, 2, 4) && c.together(3) })
		everywhere(c, "member vanished without a word (d03)", 0, 1, 2, 4)
		everywhere(c, "members do not hear each other (d00 d01 d02 d04)", 3)

		// A broken link between two: nobody is dead, and all know.
		c = settled(t, seed, 5)
		c.cut = func(from, to int) bool { return from+to == 4 && from*to == 0 }
		c.within(4*time.Second, "broken link", func() bool { return c.together(0, 1, 2, 3) && c.together(4) })
		everywhere(c, "members do not hear each other (d04)", 0, 1, 2, 3)
		everywhere(c, "members do not hear each other (d00 d01 d02 d03)", 4)
	}
}
