// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package latency

import "time"

// Nap sleeps.
func Nap(d time.Duration) { time.Sleep(d) }
