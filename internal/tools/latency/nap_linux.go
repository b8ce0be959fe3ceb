// SPDX-License-Identifier: Apache-2.0

package latency

import (
	"syscall"
	"time"
)

// Nap sleeps as exactly as the kernel can. The runtime's own timers may be a millisecond late, which a latency that counts
// from when a message was due would show.
func Nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal only ends it early
}
