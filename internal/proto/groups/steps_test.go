// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"
	"testing"

	"evensong/internal/proto/evs"
)

// Step tests for guarantees.md, 8.5.

// 1. On the transitional configuration, groups that lose members are signalled, once, and no others.
func TestStep1Signal(t *testing.T) {
	c := merged(t)
	c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", "h"), "d1", "d2", "d3")
	c.x.lines = map[string][]string{}
	c.transitional("d1", "d2")
	c.expect(`
		#a#d1: signal g v3
		#b#d2: signal g v3`)
}

// begin takes d1, d2 of merged and a fresh d4 into one configuration without delivering any state.
func begin(t *testing.T) (*cluster, map[string][]Submit) {
	c := merged(t)
	id := evs.ProcID{Rank: 4, Name: "d4", Inc: 0x4000}
	c.ds["d4"] = &node{c: c, id: id, m: New(Config{Me: id}), users: map[uint64]string{}}
	c.regular("d4")
	d4 := c.ds["d4"]
	c.deliver("d4", evs.Agreed, AppendJoin(nil, d4.open("x", true), "x", "g"), "d4")
	c.transitional("d1", "d2")
	c.transitional("d4")
	c.x.lines = map[string][]string{}
	return c, c.install("d1", "d2", "d4")
}

// install is regular without delivering the states.
func (c *cluster) install(names ...string) map[string][]Submit {
	c.t.Helper()
	c.ring++
	conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: c.ring, Rep: c.ds[names[0]].id.Inc}), Members: c.ids(names)}
	for _, n := range names {
		conf.Origins = append(conf.Origins, c.ds[n].ring)
	}
	out := map[string][]Submit{}
	for _, n := range names {
		d := c.ds[n]
		d.ring = conf.ID.New
		d.m.HandleRegular(conf, evs.DetailDaemons, &d.fx)
		out[n] = d.flush()
	}
	return out
}

// 2. On the regular configuration everything waits, and one daemon per table set sends the set's state: members, their
// previous view, and whether it has ended.
func TestStep2Exchange(t *testing.T) {
	c, states := begin(t)
	if len(states["d1"]) != 1 || len(states["d2"]) != 0 || len(states["d4"]) != 1 {
		t.Fatalf("states %v", states)
	}
	s, ok := parseState(states["d1"][0].Payload, 3)
	id, _ := c.ds["d1"].m.ViewID("g")
	want := []stateGroup{{name: "g", id: id, signalled: true, members: []stateMember{{0, 1, "a"}, {1, 1, "b"}}}}
	if !ok || !slices.Equal(s.cover, []uint16{0, 1}) || fmt.Sprint(s.groups) != fmt.Sprint(want) || !s.last {
		t.Fatalf("state %+v, want %+v", s, want)
	}
	c.deliver("d2", evs.Reliable, mcast(1, "b", "fast", 2, "g"), "d1")
	c.deliver("d1", evs.Agreed, states["d1"][0].Payload, "d1")
	c.expect("")
	if !c.ds["d1"].m.Exchanging() {
		t.Fatal("the exchange ended too early")
	}
}

// 3. A further change aborts the exchange everywhere: what came of it is forgotten, old states are dropped, and the
// next exchange starts from the last views that members saw, by sets that hold one table.
func TestStep3Abort(t *testing.T) {
	c, states := begin(t)
	c.deliver("d1", evs.Agreed, states["d1"][0].Payload, "d1", "d2", "d4")
	c.transitional("d1", "d4") // one ring, two tables; d2 is gone
	c.expect("")               // signalled already
	c.deliver("d4", evs.Agreed, states["d4"][0].Payload, "d1", "d4")
	next := c.install("d1", "d4")
	c.deliver("d4", evs.Agreed, states["d4"][0].Payload, "d1", "d4") // late, for the ring before
	c.expect("")
	if len(next["d1"]) != 1 || len(next["d4"]) != 1 {
		t.Fatalf("states %v", next)
	}
	for _, n := range []string{"d4", "d1"} {
		c.deliver(n, evs.Agreed, next[n][0].Payload, "d1", "d4")
	}
	c.expect(`
		#a#d1: view g v5 network [#a#d1 #x#d4] [[#a#d1] [#x#d4]] own 0
		#x#d4: view g v5 network [#a#d1 #x#d4] [[#a#d1] [#x#d4]] own 1`)
}

// 4. When all states are in: views in the order of names, numbered from the configuration, then the daemon is ready.
func TestStep4Views(t *testing.T) {
	c, states := begin(t)
	c.deliver("d4", evs.Agreed, states["d4"][0].Payload, "d1", "d2", "d4")
	c.expect("")
	c.deliver("d1", evs.Agreed, states["d1"][0].Payload, "d1", "d2", "d4")
	c.expect(`
		#a#d1: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 0
		#b#d2: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 0
		#x#d4: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 1`)
	d := c.ds["d1"]
	if id, _ := d.m.ViewID("g"); id != viewID(evs.RegularID(d.ring), d.id, 1) {
		t.Fatalf("id %v", id)
	}
}

// 5. Changes ordered in the old ring and delivered after the signal give interim views (TestInterimViews). Those that
// come during the exchange wait behind the views, in their order, and are ordinary changes of the new configuration.
func TestStep5Queue(t *testing.T) {
	c, states := begin(t)
	all := []string{"d1", "d2", "d4"}
	c.deliver("d2", evs.Agreed, AppendLeave(nil, 1, "b", "g"), all...)
	c.deliver("d4", evs.Agreed, states["d4"][0].Payload, all...)
	c.deliver("d1", evs.Agreed, states["d1"][0].Payload, all...)
	c.expect(`
		#a#d1: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 0
		#a#d1: view g v6 leave [#a#d1 #x#d4] [[#b#d2]] own 0
		#b#d2: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 0
		#b#d2: self-leave g
		#x#d4: view g v5 network [#a#d1 #b#d2 #x#d4] [[#a#d1 #b#d2] [#x#d4]] own 1
		#x#d4: view g v6 leave [#a#d1 #x#d4] [[#b#d2]] own 0`)
}
