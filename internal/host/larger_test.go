// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"evensong/internal/config"
	"evensong/internal/seal"
)

// What a ring may try goes over the network at its length, sealed or not, in fragments between near daemons only, and not where somebody chose a length.
func TestLargerPacketsOf(t *testing.T) {
	var near, far, chosen, sealed config.Config
	far.Timers.Profile = config.ProfileWAN
	chosen.Ring.PacketBytes = 1472
	sealed.Local.KeyFile = "key"
	for _, x := range []struct {
		name     string
		c        *config.Config
		segments bool
		n        int
		cut      bool
	}{
		{"runs", &near, true, jumboBytes, false},
		{"one by one", &near, false, cutBytes, true},
		{"one by one, far", &far, false, jumboBytes, false},
		{"chosen", &chosen, false, 0, false},
		{"sealed", &sealed, true, jumboBytes - seal.Overhead, false},
	} {
		if n, cut := largerPackets(x.c, x.segments); n != x.n || cut != x.cut {
			t.Errorf("%s: %d, in fragments %v; want %d, %v", x.name, n, cut, x.n, x.cut)
		}
	}
}
