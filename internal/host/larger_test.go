// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"evensong/internal/config"
)

// What a ring may try is a multiple of what it has, in fragments between near daemons only, and not where somebody chose a length.
func TestLargerPacketsOf(t *testing.T) {
	var near, far, chosen config.Config
	far.Timers.Profile = config.ProfileWAN
	chosen.Ring.PacketBytes = 1472
	for _, x := range []struct {
		name     string
		c        *config.Config
		segments bool
		n        int
		cut      bool
	}{
		{"runs", &near, true, 6 * 1428, false},
		{"one by one", &near, false, 22 * 1428, true},
		{"one by one, far", &far, false, 6 * 1428, false},
		{"chosen", &chosen, false, 0, false},
	} {
		if n, cut := largerPackets(x.c, x.segments, 1428); n != x.n || cut != x.cut {
			t.Errorf("%s: %d, in fragments %v; want %d, %v", x.name, n, cut, x.n, x.cut)
		}
	}
}
