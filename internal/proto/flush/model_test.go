// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
)

// TestModel runs machines over a simulated order with joins, leaves, disconnects, splits, merges, members that do not
// answer and messages that overtake, and lets the checkers of VS-1 to VS-9 judge what the users saw.
// EVENSONG_FLUSH_SEEDS=from-to runs others.
func TestModel(t *testing.T) {
	from, to := uint64(1), uint64(60)
	if v := os.Getenv("EVENSONG_FLUSH_SEEDS"); v != "" {
		if _, err := fmt.Sscanf(v, "%d-%d", &from, &to); err != nil {
			t.Fatal(err)
		}
	}
	total := map[string]int64{}
	causes := map[evs.Cause]int{}
	wrapped, evicted := 0, 0
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			w := newWorld(t, seed, 1+int(seed%4), 2+int(seed%5))
			for range 2000 {
				w.step()
			}
			w.settle()
			rep := w.judge()
			for _, r := range rep.Rules {
				if strings.HasPrefix(r.Rule, "VS-") {
					total[r.Rule] += r.Antecedents
				}
			}
			for i := range w.trace {
				if w.trace[i].Kind == evs.TraceVSView {
					causes[w.trace[i].View.Cause]++
				}
			}
			for _, c := range w.comps {
				for _, e := range c.log {
					if e.send.Type == TypeVulnerable {
						wrapped++
					}
					if e.send.Kind == SendEvict {
						evicted++
					}
				}
			}
		})
		if t.Failed() {
			t.Fatalf("to repeat: EVENSONG_FLUSH_SEEDS=%d-%d go test -run TestModel ./internal/proto/flush", seed, seed)
		}
	}
	for _, rule := range check.RuleNames() {
		if strings.HasPrefix(rule, "VS-") && total[rule] == 0 && from != to {
			t.Errorf("nothing in all runs tests %s", rule)
		}
	}
	t.Logf("antecedents %v; views by %v; in the last components %d messages wrapped, %d requests to evict", total, causes, wrapped, evicted)
}

// VS-8 without faults: a member that does not answer is removed, and every request is followed by a view in time.
func TestStuckMemberIsRemoved(t *testing.T) {
	for seed := uint64(0); seed < 30; seed += 3 { // daemons that evict
		w := newWorld(t, seed, 2, 0)
		var all []*simSession
		for i := range 4 {
			s := w.connect()
			s.stuck = i == 1
			all = append(all, s)
		}
		w.calm = true
		rest := func() {
			for range 300 {
				w.now += time.Millisecond
				for _, s := range w.alive() {
					for s.submit() || s.receive() {
					}
					s.act()
				}
				for _, d := range w.daemons {
					for d.next() {
					}
				}
				w.timers()
			}
		}
		for _, s := range all {
			s.do(func(fx *Effects) { s.m.Join(testGroup, fx) })
			rest()
			rest()
		}
		w.judge()
		if all[1].member || all[1].m.Membership(testGroup) != 0 {
			t.Error("the stuck member is still there")
		}
		if v, ok := all[3].m.Installed(testGroup); !ok || v != w.daemons[0].view || len(w.daemons[0].table) != 3 {
			t.Errorf("the last one is in view %v, the daemon's is %v", v, w.daemons[0].view)
		}
		for _, v := range check.FlushBounded(&check.History{Records: w.trace}, int64(w.now), int64(modelTimeout+50*time.Millisecond)) {
			t.Error(v)
		}
	}
}
