// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"
)

// VS-8 takes a bound, so it is not one of the rules of Check. Records are 1000 ns apart here.
func TestFlushBounded(t *testing.T) {
	for _, c := range []struct {
		name, text string
		end, bound int64
		want       int
	}{
		{"in time", vgroup + vtogether, 100_000, 6000, 0},
		{"too late", `x@a vview g 3.1 join x@a; x@a vreq g; x@a vsig g; x@a vsig g; x@a vsig g; x@a vok g; x@a vview g 3.2 net x@a`, 100_000, 4000, 1},
		{"never", vgroup + `x@a vreq g; x@a vok g`, 100_000, 6000, 1},
		{"still time", vgroup + `x@a vreq g; x@a vok g`, 8000, 6000, 0},
		{"removed", vgroup + `x@a vreq g; x@a vself g`, 100_000, 6000, 0},
		{"gone", vgroup + `x@a vreq g; x@a bye`, 100_000, 6000, 0},
		{"removed too late", vgroup + `x@a vreq g; y@b vsig g; y@b vsig g; x@a vself g`, 100_000, 2000, 1},
	} {
		got := FlushBounded(&History{Records: parseHistory(t, c.text)}, c.end, c.bound)
		if len(got) != c.want {
			t.Errorf("%s: %v, want %d violations", c.name, got, c.want)
		}
		for _, v := range got {
			if v.Rule != "VS-8" || !strings.Contains(v.Text, "x") || len(v.Window) == 0 {
				t.Errorf("%s: %v", c.name, v)
			}
		}
	}
}
