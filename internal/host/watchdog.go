// SPDX-License-Identifier: Apache-2.0

package host

import "time"

// watchdogNap is how long the watchdog sleeps at a time. What it oversleeps is time that the process did not run.
const watchdogNap = 50 * time.Millisecond

// watchdog finds out whether the process itself was stopped or starved: then a lost token is no news about the
// network, and the log should say so. It runs until stop is closed. late is called for each stall longer than limit, which is
// far more than what other goroutines can make it wait.
func watchdog(stop <-chan struct{}, limit func() time.Duration, stats *Stats, late func(time.Duration)) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		before := time.Now()
		time.Sleep(watchdogNap)
		over := time.Since(before) - watchdogNap
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
