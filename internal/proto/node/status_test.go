// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/groups"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/order"
)

// members are the names of the daemons in node i's configuration.
func (c *cluster) members(i int) string {
	var names []string
	for _, p := range c.nodes[i].m.Configuration().Members {
		names = append(names, p.Name)
	}
	return fmt.Sprint(names)
}

// partition has all nodes hear of a partition that ends after lease.
func (c *cluster) partition(components map[string]int, lease time.Duration) {
	for i, n := range c.nodes {
		n.m.Partition(c.now, c.now+lease, components, &n.fx)
		c.after(i)
	}
}

// TestPartition: daemons that an operator puts into different components form rings of their own, and come together again
// when the partition is healed, or when its lease is over and nobody has renewed it.
func TestPartition(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	check := func(when string, want ...string) {
		t.Helper()
		for i := range c.nodes {
			if got := c.members(i); got != want[i] {
				t.Errorf("%s: %s is with %s, want %s", when, c.nodes[i].m.cfg.Me.Name, got, want[i])
			}
		}
	}
	all := []string{"[a b c]", "[a b c]", "[a b c]"}
	cut := []string{"[a b]", "[a b]", "[c]"}
	check("at first", all...)

	c.partition(map[string]int{"a": 1, "b": 1}, time.Minute) // c is not named: component 0
	c.run(c.now + 3*time.Second)
	check("cut", cut...)
	st := c.nodes[0].m.Status(c.now)
	if st.Partition["b"] != 1 || st.PartitionUntil-c.now != 57*time.Second {
		t.Errorf("status: partition %v until %v at %v", st.Partition, st.PartitionUntil, c.now)
	}
	if st.Stats.Order.Drops[order.DropPartition] == 0 {
		t.Error("nothing was ignored")
	}
	for i, n := range c.nodes {
		n.m.Heal(c.now, &n.fx)
		c.after(i)
	}
	c.run(c.now + 5*time.Second)
	check("healed", all...)

	c.partition(map[string]int{"c": 7}, 4*time.Second)
	c.run(c.now + 3*time.Second)
	check("cut again", cut...)
	c.partition(map[string]int{"c": 7}, 4*time.Second)
	c.run(c.now + 3*time.Second)
	check("renewed", cut...)
	c.run(c.now + 6*time.Second)
	check("after the lease", all...)
	if st := c.nodes[2].m.Status(c.now); st.Partition != nil {
		t.Errorf("status after the lease: %v", st.Partition)
	}
}

// TestStatus: what a status says of a ring at rest, and why configurations came.
func TestStatus(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	st := c.nodes[1].m.Status(c.now)
	if st.Me.Name != "b" || st.Membership != membership.StateOperational || st.GroupState != groups.Stable || len(st.Conf.Members) != 3 {
		t.Errorf("%+v", st)
	}
	if !st.Ring.Accelerated || st.Ring.ARU != st.Ring.High || st.Ring.Stable != st.Ring.High || st.Ring.High == 0 || st.Ring.Lagging != -1 || st.Ring.Global != 160 {
		t.Errorf("ring %+v", st.Ring)
	}
	o := st.Stats.Order
	if o.Sent == 0 || o.Received == 0 || o.Packets != o.Sent+o.Received || o.Rotations == 0 {
		t.Errorf("sent %d and received %d packets, delivered %d, %d rotations", o.Sent, o.Received, o.Packets, o.Rotations)
	}
	last := st.Changes[len(st.Changes)-1]
	if len(last.Members) != 3 || membership.CausesText(last.Causes) != "start: looking for others (a c)" || len(st.Changes) != 2 {
		t.Errorf("changes %+v", st.Changes)
	}
	c.nodes[2].m.Leave(c.now, &c.nodes[2].fx)
	c.after(2)
	c.run(c.now + time.Second)
	st = c.nodes[0].m.Status(c.now)
	last = st.Changes[len(st.Changes)-1]
	if len(last.Gone) != 1 || last.Gone[0].Name != "c" || membership.CausesText(last.Causes) != "member said good-bye (c)" {
		t.Errorf("after c left: %+v", last)
	}
	for range maxChanges {
		st.Changes = nil
		c.nodes[0].m.remember(c.now, nil, st.Conf)
	}
	if n := len(c.nodes[0].m.Status(c.now).Changes); n != maxChanges {
		t.Errorf("%d changes are remembered, want %d", n, maxChanges)
	}
}

// TestSessionPages: pages hold each session once, in order; the slow ones are sorted by what waits for them.
func TestSessionPages(t *testing.T) {
	c := newCluster(t, "a")
	m := c.nodes[0].m
	var want []uint64
	for i := range 7 {
		want = append(want, c.connect(0, fmt.Sprintf("u%d", i), true).id)
	}
	var got []uint64
	for after := uint64(0); ; {
		page := m.SessionPage(after, 3)
		if len(page) == 0 {
			break
		}
		for _, s := range page {
			got = append(got, s.ID)
			after = s.ID
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages %v, want %v", got, want)
	}
	if slow := m.SlowSessions(3); len(slow) != 0 {
		t.Errorf("nothing waits, and yet %v", slow)
	}
	if !m.CloseSession(c.now, want[2], &c.nodes[0].fx) || m.CloseSession(c.now, want[2], &c.nodes[0].fx) || m.CloseSession(c.now, 999, &c.nodes[0].fx) {
		t.Error("a session is closed once, and only if it is there")
	}
	c.after(0)
	if k := c.nodes[0].conns[want[2]]; !k.closed || k.reason != "evicted" {
		t.Errorf("closed session: %+v", k)
	}
	if n := len(m.SessionPage(0, 100)); n != 6 {
		t.Errorf("%d sessions after the end of one of 7", n)
	}
}
