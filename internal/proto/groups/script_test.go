// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// merged is d1, d2, d3 in one configuration, with a session "a", "b", "c" in each, all members of "g".
func merged(t *testing.T) *cluster {
	c := newCluster(t, "d1", "d2", "d3")
	for _, n := range []string{"d1", "d2", "d3"} {
		c.transitional(n)
	}
	c.regular("d1", "d2", "d3")
	for i, n := range []string{"d1", "d2", "d3"} {
		user := string(rune('a' + i))
		c.deliver(n, evs.Agreed, AppendJoin(nil, c.ds[n].open(user, true), user, "g"), "d1", "d2", "d3")
	}
	c.expect(`
		#a#d1: view g v1 join [#a#d1] [[#a#d1]] own 0
		#a#d1: view g v2 join [#a#d1 #b#d2] [[#b#d2]] own 0
		#a#d1: view g v3 join [#a#d1 #b#d2 #c#d3] [[#c#d3]] own 0
		#b#d2: view g v2 join [#a#d1 #b#d2] [[#b#d2]] own 0
		#b#d2: view g v3 join [#a#d1 #b#d2 #c#d3] [[#c#d3]] own 0
		#c#d3: view g v3 join [#a#d1 #b#d2 #c#d3] [[#c#d3]] own 0`)
	return c
}

// expect compares what sessions got since the last call, and forgets it. Ids are named in the order of their
// appearance.
func (c *cluster) expect(want string) {
	c.t.Helper()
	var names []string
	for n := range c.x.lines {
		names = append(names, n)
	}
	slices.Sort(names)
	var got []string
	for _, n := range names {
		for _, l := range c.x.lines[n] {
			got = append(got, n+": "+l)
		}
	}
	c.x.lines = map[string][]string{}
	var w []string
	for l := range strings.Lines(want) {
		if l = strings.TrimSpace(l); l != "" {
			w = append(w, l)
		}
	}
	if !slices.Equal(got, w) {
		c.t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(w, "\n"))
	}
}

func mcast(num uint64, user, body string, typ uint32, groups ...string) []byte {
	d := Data{Session: num, Sender: user, Type: typ, Body: []byte(body)}
	for _, g := range groups {
		d.Groups = append(d.Groups, []byte(g))
	}
	return AppendData(nil, &d)
}

// Changes ordered on the old ring and delivered after the signal give interim views, each with another signal; members
// out of reach are listed in sets of their own; the final view follows (client-protocol 5.4).
func TestInterimViews(t *testing.T) {
	c := merged(t)
	here := []string{"d1", "d2"}
	num := c.ds["d1"].open("e", true)
	c.transitional(here...)
	c.expect(`
		#a#d1: signal g v3
		#b#d2: signal g v3`)

	c.deliver("d1", evs.Agreed, AppendJoin(nil, num, "e", "g"), here...)
	c.expect(`
		#a#d1: view g v4 network [#a#d1 #e#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3] [#e#d1]] own 0
		#a#d1: signal g v4
		#b#d2: view g v4 network [#a#d1 #e#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3] [#e#d1]] own 0
		#b#d2: signal g v4
		#e#d1: view g v4 network [#a#d1 #e#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3] [#e#d1]] own 2
		#e#d1: signal g v4`)

	// Somebody out of reach joins, by a message that reached us: it is alone, then with its daemon.
	c.deliver("d3", evs.Agreed, AppendJoin(nil, 7, "f", "g"), here...)
	c.deliver("d2", evs.Agreed, AppendLeave(nil, 1, "b", "g"), here...)
	c.expect(`
		#a#d1: view g v5 network [#a#d1 #e#d1 #b#d2 #c#d3 #f#d3] [[#a#d1 #e#d1 #b#d2] [#c#d3] [#f#d3]] own 0
		#a#d1: signal g v5
		#a#d1: view g v6 network [#a#d1 #e#d1 #c#d3 #f#d3] [[#a#d1 #e#d1] [#c#d3 #f#d3]] own 0
		#a#d1: signal g v6
		#b#d2: view g v5 network [#a#d1 #e#d1 #b#d2 #c#d3 #f#d3] [[#a#d1 #e#d1 #b#d2] [#c#d3] [#f#d3]] own 0
		#b#d2: signal g v5
		#b#d2: self-leave g
		#e#d1: view g v5 network [#a#d1 #e#d1 #b#d2 #c#d3 #f#d3] [[#a#d1 #e#d1 #b#d2] [#c#d3] [#f#d3]] own 0
		#e#d1: signal g v5
		#e#d1: view g v6 network [#a#d1 #e#d1 #c#d3 #f#d3] [[#a#d1 #e#d1] [#c#d3 #f#d3]] own 0
		#e#d1: signal g v6`)

	c.deliver("d1", evs.Agreed, mcast(1, "a", "late", 0x10, "g"), here...)
	c.deliver("d1", evs.Safe, AppendDisconnect(nil, 1, "a", evs.DetailAsked), here...)
	c.expect(`
		#a#d1: data #a#d1[g]late
		#e#d1: data #a#d1[g]late
		#e#d1: view g v7 network [#e#d1 #c#d3 #f#d3] [[#e#d1] [#c#d3 #f#d3]] own 0
		#e#d1: signal g v7`)

	c.regular(here...)
	c.expect(`#e#d1: view g v8 network [#e#d1] [[#e#d1]] own 0`)
}

// A group that loses nobody has ordinary views after the signal too, with ids of the transitional configuration; when
// a session out of reach joins it, that view has ended at once.
func TestUntouchedGroupInTransition(t *testing.T) {
	c := merged(t)
	all, here := []string{"d1", "d2", "d3"}, []string{"d1", "d2"}
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "h"), all...)
	c.expect(`#a#d1: view h v4 join [#a#d1] [[#a#d1]] own 0`)
	c.transitional(here...)
	c.transitional("d3")
	c.expect(`
		#a#d1: signal g v3
		#b#d2: signal g v3
		#c#d3: signal g v3`)
	c.deliver("d2", evs.Agreed, AppendJoin(nil, 1, "b", "h"), here...)
	c.deliver("d3", evs.Agreed, AppendJoin(nil, 1, "c", "k"), all...)
	c.expect(`
		#a#d1: view h v5 join [#a#d1 #b#d2] [[#b#d2]] own 0
		#b#d2: view h v5 join [#a#d1 #b#d2] [[#b#d2]] own 0
		#c#d3: view k v6 join [#c#d3] [[#c#d3]] own 0`)
	c.deliver("d3", evs.Agreed, AppendJoin(nil, 1, "c", "h"), here...)
	c.expect(`
		#a#d1: view h v7 join [#a#d1 #b#d2 #c#d3] [[#c#d3]] own 0
		#a#d1: signal h v7
		#b#d2: view h v7 join [#a#d1 #b#d2 #c#d3] [[#c#d3]] own 0
		#b#d2: signal h v7`)
	c.regular(here...)
	c.regular("d3")
	c.expect(`
		#a#d1: view g v8 network [#a#d1 #b#d2] [[#a#d1 #b#d2]] own 0
		#a#d1: view h v8 network [#a#d1 #b#d2] [[#a#d1 #b#d2]] own 0
		#b#d2: view g v8 network [#a#d1 #b#d2] [[#a#d1 #b#d2]] own 0
		#b#d2: view h v8 network [#a#d1 #b#d2] [[#a#d1 #b#d2]] own 0
		#c#d3: view g v9 network [#c#d3] [[#c#d3]] own 0`)

	// A merge tells members of g; k, on one side only, keeps its view and h has nobody on the other.
	c.transitional(here...)
	c.transitional("d3")
	c.regular(all...)
	c.expect(`
		#a#d1: view g v10 network [#a#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3]] own 0
		#b#d2: view g v10 network [#a#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3]] own 0
		#c#d3: view g v10 network [#a#d1 #b#d2 #c#d3] [[#a#d1 #b#d2] [#c#d3]] own 1`)
	for _, n := range all {
		if id, ok := c.ds[n].m.ViewID("k"); !ok || rename(c.x.ids, fmt.Sprint(id)) != "v6" {
			t.Fatalf("%s has %v for k", n, id)
		}
	}
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "k"), all...)
	c.expect(`
		#a#d1: view k v11 join [#a#d1 #c#d3] [[#a#d1]] own 0
		#c#d3: view k v11 join [#a#d1 #c#d3] [[#a#d1]] own 0`)
}

// A merge in which one side loses somebody: only that side has a signal. A restarted daemon changes nothing in
// groups without it.
func TestMergeAndCrash(t *testing.T) {
	c := merged(t)
	c.transitional("d1")
	c.transitional("d2", "d3")
	c.regular("d1")
	c.regular("d2", "d3")
	c.x.lines = map[string][]string{}
	c.transitional("d1")
	c.transitional("d2") // d3 is gone
	c.regular("d1", "d2")
	c.expect(`
		#a#d1: view g v6 network [#a#d1 #b#d2] [[#a#d1] [#b#d2]] own 0
		#b#d2: signal g v5
		#b#d2: view g v6 network [#a#d1 #b#d2] [[#a#d1] [#b#d2]] own 1`)
	id := c.ds["d3"].id
	id.Inc += 100
	c.ds["d3"] = &node{c: c, id: id, m: New(Config{Me: id}), users: map[uint64]string{}}
	c.regular("d3")
	c.transitional("d1", "d2")
	c.transitional("d3")
	c.regular("d1", "d2", "d3")
	c.expect("")
	if got := privates(c.ds["d3"].m.Members("g")); fmt.Sprint(got) != "[#a#d1 #b#d2]" {
		t.Fatalf("d3 knows %v", got)
	}
}

// Leave, disconnect, repetition, recreation (client-protocol 4.1 to 4.3, vectors 13, 16, 17 with ids never reused).
func TestLeaveAndDisconnect(t *testing.T) {
	c := merged(t)
	all := []string{"d1", "d2", "d3"}
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "g"), all...)
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 1, "a", "x"), all...)
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 9, "z", "g"), all...)
	c.expect("")
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "b-group"), all...)
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 1, "a", "b-group"), all...)
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "b-group"), all...)
	c.deliver("d2", evs.Agreed, AppendJoin(nil, 1, "b", "b-group"), all...)
	c.expect(`
		#a#d1: view b-group v4 join [#a#d1] [[#a#d1]] own 0
		#a#d1: self-leave b-group
		#a#d1: view b-group v5 join [#a#d1] [[#a#d1]] own 0
		#a#d1: view b-group v6 join [#a#d1 #b#d2] [[#b#d2]] own 0
		#b#d2: view b-group v6 join [#a#d1 #b#d2] [[#b#d2]] own 0`)

	d := c.ds["d1"]
	d.m.Close(1)
	d.m.Close(1)
	c.deliver("d2", evs.Agreed, mcast(1, "b", "unheard", 0x10, "g", "#a#d1"), "d1")
	d.m.HandleMessage(d.id, evs.Safe, AppendDisconnect(nil, 1, "a", evs.DetailAsked), &d.fx)
	if !slices.Equal(d.fx.Gone, []uint64{1}) {
		t.Fatalf("gone %v", d.fx.Gone)
	}
	d.flush()
	c.deliver("d1", evs.Safe, AppendDisconnect(nil, 1, "a", evs.DetailAsked), "d2", "d3")
	c.expect(`
		#b#d2: view b-group v7 disconnect [#b#d2] [[#a#d1]] own 0
		#b#d2: view g v8 disconnect [#b#d2 #c#d3] [[#a#d1]] own 0
		#c#d3: view g v8 disconnect [#b#d2 #c#d3] [[#a#d1]] own 0`)
	d.open("a", false) // the name is free
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 2, "a", "g"), all...)
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 2, "a", "g"), all...)
	c.expect(`
		#b#d2: view g v9 join [#a#d1 #b#d2 #c#d3] [[#a#d1]] own 0
		#b#d2: view g v10 leave [#b#d2 #c#d3] [[#a#d1]] own 0
		#c#d3: view g v9 join [#a#d1 #b#d2 #c#d3] [[#a#d1]] own 0
		#c#d3: view g v10 leave [#b#d2 #c#d3] [[#a#d1]] own 0`)
}

// Who gets a message (client-protocol 4.4, vectors 10 to 12).
func TestRouting(t *testing.T) {
	c := merged(t)
	all := []string{"d1", "d2", "d3"}
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "h"), all...)
	c.ds["d1"].open("quiet", false)
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 2, "quiet", "h"), all...)
	c.x.lines = map[string][]string{}
	c.deliver("d3", evs.Agreed, mcast(1, "c", "1", 0x10, "h", "g", "nosuch", "h", "#a#d1"), all...)
	c.expect(`
		#a#d1: data #c#d3[h g nosuch h #a#d1]1
		#b#d2: data #c#d3[h g nosuch h #a#d1]1
		#c#d3: data #c#d3[h g nosuch h #a#d1]1
		#quiet#d1: data #c#d3[h g nosuch h #a#d1]1`)
	c.deliver("d1", evs.Agreed, mcast(1, "a", "2", 0x50, "g", "h"), all...) // same number elsewhere still gets it
	c.expect(`
		#b#d2: data #a#d1[g h]2
		#c#d3: data #a#d1[g h]2
		#quiet#d1: data #a#d1[g h]2`)
	c.deliver("d2", evs.FIFO, mcast(1, "b", "3", 0x04, "#quiet#d1", "#quiet#d2", "#nope", "#", "##", "", "#a#", "#b#d"), all...)
	c.expect(`#quiet#d1: data #b#d2[#quiet#d1 #quiet#d2 #nope # ##  #a# #b#d]3`)
	c.deliver("d2", evs.FIFO, mcast(1, "b", "4", 0x04), all...)
	c.deliver("d2", evs.FIFO, mcast(99, "stranger", "5", 0x04, "h"), all...)
	c.expect(`
		#a#d1: data #stranger#d2[h]5
		#quiet#d1: data #stranger#d2[h]5`)
}

// A group that ends, by a leave or with its daemons, and begins anew is another one to messages that follow.
func TestRoutingToAGroupThatBeginsAnew(t *testing.T) {
	c := merged(t)
	all := []string{"d1", "d2", "d3"}
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "h"), all...)
	c.deliver("d3", evs.Agreed, mcast(1, "c", "1", 0x10, "h"), all...)
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 1, "a", "h"), all...)
	c.deliver("d3", evs.Agreed, mcast(1, "c", "2", 0x10, "h"), all...)
	c.deliver("d2", evs.Agreed, AppendJoin(nil, 1, "b", "h"), all...)
	c.x.lines = map[string][]string{}
	c.deliver("d3", evs.Agreed, mcast(1, "c", "3", 0x10, "h"), all...)
	c.expect(`#b#d2: data #c#d3[h]3`)
	c.transitional("d1", "d3")
	c.transitional("d2")
	c.regular("d1", "d3") // where h has no member any more
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "h"), "d1", "d3")
	c.x.lines = map[string][]string{}
	c.deliver("d3", evs.Agreed, mcast(1, "c", "4", 0x10, "h"), "d1", "d3")
	c.expect(`#a#d1: data #c#d3[h]4`)
}

// Nothing is allocated per message once the machine is warm.
func TestRouteAllocations(t *testing.T) {
	c := merged(t)
	m, from := c.ds["d1"].m, c.ds["d2"].id
	p := mcast(1, "b", strings.Repeat("x", 1000), 0x50, "g", "nosuch", "#a#d1")
	var fx Effects
	run := func() {
		for range 10 {
			m.HandleMessage(from, evs.Agreed, p, &fx)
		}
		if len(fx.Deliveries) != 10 || fx.Deliveries[9].Sender != "#b#d2" {
			t.Fatalf("%d deliveries", len(fx.Deliveries))
		}
		fx.Reset()
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations for 10 messages", n)
	}
}
