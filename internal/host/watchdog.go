// SPDX-License-Identifier: Apache-2.0

package host

import "time"

// leastNap and mostNap bound how long the watchdog sleeps at a time.
const (
	leastNap = 10 * time.Millisecond
	mostNap  = time.Second
)

// watchdog finds out whether the process itself was stopped or starved: then a lost token is no news about the
// network, and the log should say so. It sleeps again and again, as long as limit, and what it oversleeps is time that the process
// did not run: so it sees each stall of twice the limit, and an idle daemon hardly wakes up for it. It runs until stop is closed.
// late is called for each stall longer than limit, which is far more than what other goroutines can make it wait.
func watchdog(stop <-chan struct{}, limit func() time.Duration, stats *Stats, late func(time.Duration)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		nap := min(max(limit(), leastNap), mostNap)
		before := time.Now()
		timer.Reset(nap)
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		over := time.Since(before) - nap
		if int64(over) > stats.longestStall.Load() {
			stats.longestStall.Store(int64(over)) // the only writer
		}
		if over > limit() {
			stats.stalls.Add(1)
			stats.lastStall.Store(int64(over))
			late(over)
		}
	}
}
