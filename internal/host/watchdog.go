// SPDX-License-Identifier: Apache-2.0

package host

import (
	"sync"
	"sync/atomic"
	"time"
)

// leastNap and mostNap bound how long the watchdog sleeps at a time.
const (
	leastNap = 10 * time.Millisecond
	mostNap  = time.Second
)

// watchdog finds out whether the process itself was stopped or starved: then a lost token is no news about the
// network, and the log should say so. It sleeps again and again, as long as limit, and what it oversleeps is time that the process
// did not run: so it sees each stall of twice the limit. While the loop is idle it rests, since its timer would cost more
// than all else that an idle daemon does; the loop then tells what it overslept itself.
type watchdog struct {
	limit func() time.Duration
	late  func(time.Duration) // is called for each stall longer than limit, which is far more than what other goroutines can make it wait
	stats *Stats

	mu      sync.Mutex // of the figures of stalls
	resting atomic.Bool
	up      chan struct{}
}

func newWatchdog(limit func() time.Duration, stats *Stats, late func(time.Duration)) *watchdog {
	return &watchdog{limit: limit, late: late, stats: stats, up: make(chan struct{}, 1)}
}

// run watches until stop is closed.
func (w *watchdog) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		if w.resting.Load() {
			select {
			case <-stop:
				return
			case <-w.up:
			}
			continue
		}
		nap := min(max(w.limit(), leastNap), mostNap)
		before := time.Now()
		timer.Reset(nap)
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		w.overslept(time.Since(before) - nap)
	}
}

// rest has the watchdog sleep until work is called. Until then whoever called it reports what it oversleeps.
func (w *watchdog) rest() { w.resting.Store(true) }

// work ends rest.
func (w *watchdog) work() {
	w.resting.Store(false)
	select {
	case w.up <- struct{}{}:
	default: // it has not noticed the last time yet
	}
}

// overslept notes that somebody wanted to wake so long ago.
func (w *watchdog) overslept(over time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if int64(over) > w.stats.longestStall.Load() {
		w.stats.longestStall.Store(int64(over))
	}
	if over > w.limit() {
		w.stats.stalls.Add(1)
		w.stats.lastStall.Store(int64(over))
		w.late(over)
	}
}
