// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"evensong/internal/proto/evs"
)

var worldNames = []string{"d0", "d1", "d2", "d3", "d4"}

// act is one random event.
func (w *world) act() {
	r := w.rnd
	live := w.live()
	d := live[r.IntN(len(live))]
	switch r.IntN(40) {
	case 0:
		if r.IntN(2) == 0 {
			w.shuffle()
		}
	case 1:
		if r.IntN(10) == 0 && len(live) > 2 {
			i := slices.Index(w.daemons, d)
			d.dead = true
			w.cover["crash"]++
			if r.IntN(2) == 0 {
				w.boot(i, d.id.Name, d.seq)
			}
		}
	case 2, 3, 4, 5, 6, 7, 8, 9, 10:
		d.originate()
	case 11, 12, 13:
		d.pass()
	case 14, 15, 16, 17, 18:
		w.client(d)
	default:
		for range r.IntN(4) {
			d.step()
		}
	}
}

// shuffle makes new components of the living.
func (w *world) shuffle() {
	live := w.live()
	n := 1 + w.rnd.IntN(3)
	comps := make([][]*daemon, n)
	for _, d := range live {
		i := w.rnd.IntN(n)
		comps[i] = append(comps[i], d)
	}
	for _, c := range comps {
		if len(c) > 0 && w.rnd.IntN(5) > 0 {
			// Now and then a component stays behind on its old ring.
			w.reconfigure(c)
		}
	}
}

func (w *world) client(d *daemon) {
	r := w.rnd
	groups := []string{"g1", "g2", "g3"}
	if len(d.sessions) == 0 || len(d.sessions) < 4 && r.IntN(4) == 0 {
		if c := d.connect(fmt.Sprintf("u%d", r.IntN(6)), r.IntN(5) > 0); c != nil {
			c.join(groups[r.IntN(3)])
		}
		return
	}
	nums := slices.Sorted(maps.Keys(d.sessions))
	c := d.sessions[nums[r.IntN(len(nums))]]
	if c.closed {
		return
	}
	switch r.IntN(12) {
	case 0, 1, 2:
		c.join(groups[r.IntN(3)])
	case 3:
		c.leave(groups[r.IntN(3)])
	case 4:
		c.close()
	case 5, 6, 7:
		c.send(evs.Reliable, r.IntN(4) == 0, groups[r.IntN(3)], groups[r.IntN(3)])
	case 8:
		c.send(evs.FIFO, false, "#u1#d0", "nobody", "#x", "")
	default:
		c.send(evs.Agreed, r.IntN(4) == 0, groups[r.IntN(3)], groups[r.IntN(3)])
	}
}

func TestWorld(t *testing.T) {
	cover := map[string]int{}
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := runWorld(t, seed, 600)
			for k, n := range w.cover {
				cover[k] += n
			}
		})
	}
	t.Log(cover)
	for _, k := range []string{
		"abort", "crash", "interim", "interim with newcomer", "queued", "signal", "message", "delivered behind a hole", "network view with 3 sets",
		"drop: " + DropAborted.String(), "drop: " + DropStaleState.String(),
	} {
		if cover[k] == 0 && !t.Failed() {
			t.Errorf("%s never happened", k)
		}
	}
}

func runWorld(t testing.TB, seed uint64, steps int) *world {
	w := newWorld(t, seed, worldNames...)
	for range steps {
		w.act()
	}
	w.settle()
	w.reconfigure(w.live())
	w.settle()
	w.judge()
	return w
}

func FuzzWorld(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(func(t *testing.T, seed uint64) { runWorld(t, seed, 300) })
}

// TestAbortAtEachStep interrupts the exchange of a three-way merge after each of its messages, at each number of
// daemons that have read it, by each possible next configuration; and that one's exchange once more.
func TestAbortAtEachStep(t *testing.T) {
	next := map[string][][]int{
		"together": {{0, 1, 2, 3}}, "old sides": {{0}, {1, 2}, {3}}, "crossing": {{0, 1}, {2, 3}}, "alone": {{0}, {1}, {2}, {3}},
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		for step := range 40 {
			w := newWorld(t, uint64(step), "d0", "d1", "d2", "d3")
			pick := func(sides [][]int) (out [][]*daemon) {
				for _, s := range sides {
					var c []*daemon
					for _, i := range s {
						c = append(c, w.daemons[i])
					}
					out = append(out, c)
				}
				return out
			}
			w.reconfigure(pick([][]int{{0}, {1, 2}, {3}})...)
			for i, d := range w.daemons {
				c := d.connect("a", true)
				c.join("all")
				c.join(fmt.Sprint("own", i))
				c = d.connect("b", i%2 == 0)
				c.join("all")
			}
			w.settle()
			w.reconfigure(w.daemons)
			w.run(step)
			w.reconfigure(pick(next[name])...)
			w.run(step / 2)
			w.reconfigure(w.daemons)
			w.settle()
			w.judge()
		}
	}
}

// run is settle for a number of single actions only.
func (w *world) run(n int) {
	for n > 0 {
		busy := false
		for _, d := range w.live() {
			for _, f := range []func() bool{d.originate, d.step} {
				if n > 0 && f() {
					n--
					busy = true
				}
			}
		}
		if !busy {
			return
		}
	}
}
