// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"evensong/client"
)

// workload is clients that send, come and go until it is stopped.
type workload struct {
	stopped chan struct{}
	all     sync.WaitGroup
}

// work lets every member send about rate messages per second. Those that are not in room from the start also join,
// leave, and connect again.
func (c *cluster) work(rnd *rand.Rand, rate int) *workload {
	w := &workload{stopped: make(chan struct{})}
	for _, m := range c.members {
		r := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		_, wants := m.state()
		restless := !slices.Contains(wants, room)
		w.all.Go(func() {
			for {
				select {
				case <-w.stopped:
					return
				case <-time.After(time.Duration(r.Int64N(int64(2 * time.Second / time.Duration(rate))))):
				}
				m.step(r, restless)
			}
		})
	}
	return w
}

func (w *workload) stop() {
	close(w.stopped)
	w.all.Wait()
}

var levels = []client.Service{client.Unreliable, client.Reliable, client.FIFO, client.Causal, client.Agreed, client.Safe}

// step does one thing that clients do.
func (m *member) step(r *rand.Rand, restless bool) {
	switch k := r.IntN(100); {
	case restless && k < 2:
		m.hang(k == 0)
	case restless && k < 7:
		m.join(usual[1+r.IntN(2)])
	case restless && k < 12:
		m.leave(usual[1+r.IntN(2)])
	default:
		service := levels[r.IntN(len(levels))]
		if r.IntN(8) == 0 {
			service |= client.SelfDiscard
		}
		size := headBytes + r.IntN(500)
		if r.IntN(50) == 0 {
			size = r.IntN(100 << 10) // in many packets
		}
		to := [][]string{{room}, {"red"}, {"green"}, {room, "red"}, {"green", "red"}, nil}[r.IntN(6)]
		if to == nil {
			to = []string{"nobody's"}
			if name, _ := m.c.members[r.IntN(len(m.c.members))].state(); name != "" {
				to[0] = name
			}
		}
		m.multicast(service, 0, size, to...)
	}
}

// fault is something that happens to daemons or cables, and how it ends.
type fault struct {
	text  string
	begin func()
	end   func()
}

// someFault draws a fault of daemon i. Two at a time are of different daemons.
func (c *cluster) someFault(r *rand.Rand, i int) fault {
	d := c.daemons[i]
	other := (i + 1 + r.IntN(len(c.daemons)-1)) % len(c.daemons)
	kinds := 4
	if c.net != nil {
		kinds = 9
	}
	switch r.IntN(kinds) {
	case 0:
		return fault{"kill " + d.name, d.kill, d.start}
	case 1:
		return fault{"restart " + d.name, func() { d.kill(); d.start() }, func() {}}
	case 2:
		return fault{"hold " + d.name, d.hold, d.resume}
	case 3:
		return fault{"stop " + d.name, func() { d.signal(syscall.SIGTERM) }, func() { d.await(); d.start() }}
	case 4:
		return fault{"unplug " + d.name, func() { c.net.cable(i, false) }, func() { c.net.cable(i, true) }}
	case 5:
		return fault{fmt.Sprintf("cut %s to %s", d.name, c.daemons[other].name), func() { c.net.cut(i, other) }, func() { c.net.mend(i, other) }}
	case 6:
		return fault{"cut all to " + d.name, func() {
			for k := range c.daemons {
				if k != i {
					c.net.cut(k, i)
				}
			}
		}, func() {
			for k := range c.daemons {
				if k != i {
					c.net.mend(k, i)
				}
			}
		}}
	case 7:
		return fault{fmt.Sprintf("split %s %s from the others", d.name, c.daemons[other].name), func() { c.net.split(i, other) }, func() { c.net.split() }}
	default:
		return fault{fmt.Sprintf("%s and %s are strangers", d.name, c.daemons[other].name),
			func() { c.net.strangers(true, i, other) }, func() { c.net.strangers(false, i, other) }}
	}
}

// segment is how many faults one cluster lives through: longer histories do not fit into memory.
const segment = 25

// Random faults, one or two at a time, while clients send, come and go; sometimes the next one strikes before the
// cluster has settled. In the end everything heals, and the histories must keep every promise.
func TestRandomFaults(t *testing.T) {
	enabled(t)
	cycles := number(t, "EVENSONG_E2E_CYCLES", 10)
	seed := uint64(time.Now().UnixNano()) % 1000000
	if s := os.Getenv("EVENSONG_E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EVENSONG_E2E_SEED=%d (the faults repeat; what they meet does not)", seed)
	var settle samples
	records := 0
	for done := 0; done < cycles && !t.Failed(); done += segment {
		t.Run(strconv.Itoa(done), func(t *testing.T) {
			s, n := randomFaults(t, seed+uint64(done), min(segment, cycles-done))
			settle = append(settle, s...)
			records += n
		})
	}
	settle.report(t, "random faults: settled after the last one", 0)
	figures.add("random faults: cycles, records judged", strconv.Itoa(cycles), "", strconv.Itoa(records), "", "no violation")
}

func randomFaults(t *testing.T, seed uint64, cycles int) (settle samples, records int) {
	c := newCluster(t, 5)
	r := rand.New(rand.NewPCG(seed, 1))
	c.started()
	for i, d := range c.daemons {
		c.addMember(d, "w"+strconv.Itoa(i+1))
	}
	c.settled(20 * time.Second)
	w := c.work(r, 60)
	running := true
	halt := func() {
		if running {
			running = false
			w.stop()
		}
	}
	// A client may wait for a daemon that is held; that ends with the client.
	defer func() {
		for _, m := range c.members {
			m.end()
			m.hang(false)
		}
		halt()
	}()
	for cycle := range cycles {
		first := r.IntN(len(c.daemons))
		faults := []fault{c.someFault(r, first)}
		if r.IntN(3) == 0 {
			second := c.someFault(r, (first+1+r.IntN(len(c.daemons)-1))%len(c.daemons))
			// The same cable or the same pair cannot be broken twice.
			if word(second.text) != word(faults[0].text) && !(strings.HasPrefix(second.text, "cut") && strings.HasPrefix(faults[0].text, "cut")) {
				faults = append(faults, second)
			}
		}
		var texts []string
		for _, f := range faults {
			texts = append(texts, f.text)
			f.begin()
			time.Sleep(time.Duration(r.Int64N(int64(200 * time.Millisecond))))
		}
		hold := time.Duration(r.Int64N(int64(1200 * time.Millisecond)))
		time.Sleep(hold)
		for _, f := range faults {
			f.end()
		}
		if cycle < cycles-1 && r.IntN(4) == 0 {
			t.Logf("%3d: %s for %v", cycle, strings.Join(texts, ", "), hold.Round(time.Millisecond))
			continue
		}
		took := c.connected(30 * time.Second)
		settle = append(settle, took)
		t.Logf("%3d: %s for %v, settled after %v", cycle, strings.Join(texts, ", "), hold.Round(time.Millisecond), took.Round(time.Millisecond))
	}
	halt()
	c.quiesce(30 * time.Second)
	c.judge(true)
	return settle, c.history.len()
}

// word is the first word.
func word(s string) string { w, _, _ := strings.Cut(s, " "); return w }

// connected waits until room, which nobody leaves, has all its members at each of them; the restless go on.
func (c *cluster) connected(limit time.Duration) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for {
		why := ""
		var truth []string
		in := c.in(room)
		for _, m := range in {
			name, _ := m.state()
			truth = append(truth, name)
		}
		slices.Sort(truth)
		if len(in) < len(c.daemons) {
			why = fmt.Sprintf("%d of %d clients are connected", len(in), len(c.daemons))
		}
		for _, m := range in {
			if s := m.sees(room, truth); s != "" {
				why = s
			}
		}
		if why == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			c.alive()
			c.logTails()
			c.t.Fatalf("not together after %v: %s", limit, why)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Cuts that stay: whatever they are, the daemons must settle, and come together when they end. LIVE-5.
func TestLastingCuts(t *testing.T) {
	cables(t)
	c := newCluster(t, 5)
	c.started()
	n := c.net
	cases := []struct {
		name       string
		begin, end func()
	}{
		{"one-way cut from the representative", func() { n.cut(0, 2) }, func() { n.mend(0, 2) }},
		{"one-way cut to the representative", func() { n.cut(3, 0) }, func() { n.mend(3, 0) }},
		{"two that are strangers", func() { n.strangers(true, 1, 3) }, func() { n.strangers(false, 1, 3) }},
		{"one that hears nobody", func() {
			for k := range 4 {
				n.cut(k, 4)
			}
		}, func() {
			for k := range 4 {
				n.mend(k, 4)
			}
		}},
		{"one that nobody hears", func() {
			for k := 1; k < 5; k++ {
				n.cut(0, k)
			}
		}, func() {
			for k := 1; k < 5; k++ {
				n.mend(0, k)
			}
		}},
	}
	const stay = 8 * time.Second
	for _, cut := range cases {
		w := c.work(rand.New(rand.NewPCG(1, 2)), 30)
		begin := time.Now()
		cut.begin()
		time.Sleep(stay)
		var settled time.Duration
		for _, d := range c.daemons {
			count, last := d.installed(begin)
			if count > 2*len(c.daemons) {
				t.Errorf("%s: %s installed %d configurations; LIVE-5 allows %d", cut.name, d.name, count, 2*len(c.daemons))
			}
			if count > 0 {
				settled = max(settled, last.Sub(begin))
			}
		}
		if settled > stay*3/4 {
			t.Logf("stalls: %v", c.stalls(begin))
			t.Errorf("%s: configurations still change %v after the cut", cut.name, settled)
		}
		samples{settled}.report(t, cut.name+": last configuration", 0)
		cut.end()
		samples{c.connected(20 * time.Second)}.report(t, cut.name+": together after its end", 0)
		w.stop()
	}
	c.quiesce(20 * time.Second)
	c.judge(true)
}
