// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"
	"time"
)

// forget lets the switch take a daemon for one that nobody sends multicasts to, as one does that has forgotten who listens,
// or lets it remember.
func (n *network) forget(i int, forgotten bool) {
	n.t.Helper()
	state := "on"
	if forgotten {
		state = "off"
	}
	n.must("", "bridge", "-n", n.sw, "link", "set", "dev", port(i), "mcast_flood", state)
}

// TestSwitchForgets: multicasts do not reach d3 from the start, then they do, then not any more. All the while clients have
// their messages, and the daemons stay in one configuration; multicast is used only where it reaches all.
func TestSwitchForgets(t *testing.T) {
	c := sited(t, "Spread_Segment 239.77.0.2:4803 { d1 %[1]s  d2 %[2]s  d3 %[3]s }\n", 3)
	c.net.forget(2, true)
	c.started()
	since := time.Now()
	multicast := func(what string, want bool) {
		t.Helper()
		before := c.daemons[1].counter("InMcastOctets")
		c.talk(15)
		const some = 100_000 // see TestSegments
		if got := c.daemons[1].counter("InMcastOctets") - before; (got > some) != want {
			t.Errorf("%s: d2 received %d multicast bytes; wanted data among them: %v", what, got, want)
		}
	}
	says := func(want bool, who ...int) {
		t.Helper()
		texts := map[bool]string{
			true:  "the group address reaches everybody; packets go there once for all",
			false: "the group address does not reach everybody; packets go to each daemon by itself. Look for multicast snooping, a firewall or a wrong broadcast address, or make the segment unicast",
		}
		c.until("the log to say: "+texts[want], func() bool {
			return !slices.ContainsFunc(who, func(i int) bool {
				last := ""
				for _, l := range logLines(c.daemons[i].log()) {
					if l.Msg == texts[true] || l.Msg == texts[false] {
						last = l.Msg
					}
				}
				return last != texts[want]
			})
		})
	}
	// d3 itself reaches the others, and so its own messages are multicast: wait for the first two to know that they are not to.
	for _, m := range c.members[2:] {
		m.stop()
	}
	c.members = c.members[:2]
	c.settled(20 * time.Second)
	multicast("d3 forgotten from the start", false)
	says(false, 0, 1)
	c.net.forget(2, false)
	says(true, 0, 1, 2)
	multicast("d3 not forgotten", true)
	time.Sleep(2 * time.Second) // a doubt is taken up two seconds after the last one
	c.net.forget(2, true)
	c.talk(3) // some go there, and are repaired
	multicast("d3 forgotten later", false)
	says(false, 0, 1)
	for _, d := range c.daemons {
		if n, last := d.installed(since); n > 0 && len(c.stalls(since)) == 0 {
			t.Errorf("%s installed %d configurations, the last one at %v", d.name, n, last)
		}
	}
	c.quiesce(20 * time.Second)
	c.judge(true)
}
