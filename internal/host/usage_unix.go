// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPU is user and system time of this process since it started; zero if the system does not tell.
func ProcessCPU() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
