// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"slices"
	"testing"
	"time"
)

// Who is missing is noted once for a configuration, some seconds after it, and again only when it is somebody else, or
// nobody any more. Daemons that come in time are not missed, nor are those that a reload has just brought.
func TestMissing(t *testing.T) {
	c := newCluster(t, 1, 3)
	c.tweak = func(_ int, cfg *Config) { cfg.Daemons = []string{"d00", "d01", "d02"} }
	said := func() (out [][]string) {
		for _, n := range c.nodes[0].notes {
			if n.Kind == NoteMissing {
				out = append(out, n.Missing)
			}
		}
		return out
	}
	want := [][]string{}
	check := func(what string, more ...[]string) {
		t.Helper()
		want = append(want, more...)
		if got := said(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%s: noted %v, want %v", what, got, want)
		}
	}
	c.start(0)
	c.run(missingAfter / 2)
	check("too early")
	c.run(missingAfter)
	check("alone", []string{"d01", "d02"})
	c.run(time.Minute)
	check("said already")
	c.start(1)
	c.run(2 * missingAfter)
	check("one has come", []string{"d02"})
	c.start(2)
	c.run(2 * missingAfter)
	check("all have come", nil)
	c.kill(1)
	c.run(2 * missingAfter)
	check("one has gone", []string{"d01"})
	c.nodes[0].input(func(now time.Duration, fx *Effects) {
		next := c.nodes[0].m.cfg
		next.Daemons = []string{"d00", "d02", "d03"}
		c.nodes[0].m.Reconfigure(now, next, fx)
	})
	c.run(missingAfter / 2)
	check("just listed")
	c.run(missingAfter)
	check("listed and not there", []string{"d03"})
}
