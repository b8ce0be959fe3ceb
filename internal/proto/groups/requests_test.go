// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// asked is a join, leave or evict of a session of d1, delivered everywhere.
func (c *cluster) asked(from string, appendTo func([]byte, *Change) []byte, ch Change) {
	c.t.Helper()
	c.deliver(from, evs.Agreed, appendTo(nil, &ch), "d1", "d2", "d3")
}

// An answer comes to who asked, behind what the request caused, and to nobody else.
func TestAnswers(t *testing.T) {
	c := merged(t)
	c.x.details = true
	c.asked("d1", AppendJoinRequest, Change{Session: 1, User: "a", Group: "h", Request: 7})
	c.asked("d1", AppendJoinRequest, Change{Session: 1, User: "a", Group: "h", Request: 8})
	c.asked("d1", AppendLeaveRequest, Change{Session: 1, User: "a", Group: "h", Request: 9})
	c.asked("d1", AppendLeaveRequest, Change{Session: 1, User: "a", Group: "h", Request: 10})
	c.asked("d1", AppendLeaveRequest, Change{Session: 1, User: "a", Group: "g", Request: 11})
	c.expect(`
		#a#d1: view h v4 join [#a#d1] [[#a#d1]] own 0 asked
		#a#d1: ack 7 done h v4
		#a#d1: ack 8 unchanged h v4
		#a#d1: self-leave h asked
		#a#d1: ack 9 done h -
		#a#d1: ack 10 unchanged h -
		#a#d1: self-leave g asked
		#a#d1: ack 11 done g v5
		#b#d2: view g v5 leave [#b#d2 #c#d3] [[#a#d1]] own 0 asked
		#c#d3: view g v5 leave [#b#d2 #c#d3] [[#a#d1]] own 0 asked`)
}

// A receipt comes behind the message, also when nobody receives that.
func TestReceipts(t *testing.T) {
	c := merged(t)
	c.x.details = true
	cast := func(body string, request uint32, groups ...string) {
		d := Data{Session: 1, Sender: "a", Type: 0x10, Body: []byte(body), Request: request}
		for _, g := range groups {
			d.Groups = append(d.Groups, []byte(g))
		}
		c.deliver("d1", evs.Agreed, AppendData(nil, &d), "d1", "d2", "d3")
	}
	cast("one", 3, "g")
	cast("two", 4, "nobody")
	c.expect(`
		#a#d1: data #a#d1[g]one
		#a#d1: receipt 3
		#a#d1: receipt 4
		#b#d2: data #a#d1[g]one
		#c#d3: data #a#d1[g]one`)
	c.ds["d1"].m.Close(1)
	cast("three", 5, "nobody")
	c.expect("")
}

// VS-8: an evict is a forced leave at its place in the order. It is void when the view has gone, and only for members.
func TestEvict(t *testing.T) {
	c := merged(t)
	c.x.details = true
	view, _ := c.ds["d1"].m.ViewID("g")
	evict := func(request uint32, view evs.ViewID, group, member string) {
		t.Helper()
		c.asked("d1", AppendEvict, Change{Session: 1, User: "a", Group: group, Member: member, View: view, Request: request})
	}
	evict(1, evs.ViewID{1, 2, 3}, "g", "#b#d2")
	evict(2, view, "g", "#nobody#d2")
	evict(3, view, "h", "#b#d2")
	c.deliver("d1", evs.Agreed, AppendEvict(nil, &Change{Session: 9, User: "x", Group: "g", Member: "#b#d2", View: view, Request: 4}), "d1", "d2", "d3")
	c.expect(`
		#a#d1: ack 1 void g v3
		#a#d1: ack 2 unchanged g v3
		#a#d1: ack 3 forbidden h -`)
	evict(5, view, "g", "#b#d2")
	evict(6, view, "g", "#c#d3")
	c.expect(`
		#a#d1: view g v4 leave [#a#d1 #c#d3] [[#b#d2]] own 0 evicted
		#a#d1: ack 5 done g v4
		#a#d1: ack 6 void g v4
		#b#d2: self-leave g evicted
		#c#d3: view g v4 leave [#a#d1 #c#d3] [[#b#d2]] own 0 evicted`)
}

// A session that wants no notices hears of its own eviction all the same: node decides who understands it.
func TestEvictWithoutNotices(t *testing.T) {
	c := merged(t)
	c.x.details = true
	d := c.ds["d2"]
	num := d.open("quiet", false)
	c.deliver("d2", evs.Agreed, AppendJoin(nil, num, "quiet", "h"), "d1", "d2", "d3")
	c.asked("d2", AppendJoinRequest, Change{Session: num, User: "quiet", Group: "h", Request: 1})
	c.asked("d1", AppendJoinRequest, Change{Session: 1, User: "a", Group: "h"})
	view, _ := d.m.ViewID("h")
	c.asked("d1", AppendEvict, Change{Session: 1, User: "a", Group: "h", Member: "#quiet#d2", View: view})
	var got []string
	for _, l := range c.x.lines["#quiet#d2"] {
		got = append(got, strings.Fields(l)[0])
	}
	if fmt.Sprint(got) != "[ack self-leave]" {
		t.Errorf("it got %q", c.x.lines["#quiet#d2"])
	}
	if got := d.m.Members("h"); len(got) != 1 || got[0].Private != "#a#d1" {
		t.Errorf("members %v", privates(got))
	}
}

// A session with a name that clients of the original have no room for is addressed by its short name, too.
func TestShortNames(t *testing.T) {
	c := merged(t)
	c.x.details = true
	d := c.ds["d2"]
	long := "a-name-of-twenty-two"
	num := d.open(long, true)
	c.deliver("d2", evs.Agreed, AppendJoin(nil, num, long, "h"), "d1", "d2", "d3")
	x := c.ds["d3"].m.Members("h")[0]
	if x.Private != "#"+long+"#d2" || x.Short != fmt.Sprintf("#!%d#d2", num) {
		t.Fatalf("private name %q, short %q", x.Private, x.Short)
	}
	c.x.lines = map[string][]string{}
	for _, to := range []string{x.Short, x.Private, "#!99#d2", "#!1#d2", "#!#d2", x.Short[:len(x.Short)-1] + "1"} {
		c.deliver("d1", evs.Agreed, mcast(1, "a", "to "+to, 0x10, to), "d1", "d2", "d3")
	}
	c.expect(fmt.Sprintf(`
		#%s#d2: data #a#d1[%s]to %s
		#%s#d2: data #a#d1[%s]to %s`, long, x.Short, x.Short, long, x.Private, x.Private))
}

func TestPagesOfTheTable(t *testing.T) {
	c := merged(t)
	c.x.details = true
	m := c.ds["d1"].m
	for i := range 5 {
		c.deliver("d1", evs.Agreed, AppendJoin(nil, 1, "a", fmt.Sprint("p", i)), "d1", "d2", "d3")
	}
	if got := fmt.Sprint(m.GroupsAfter("")); got != "[g p0 p1 p2 p3 p4]" {
		t.Error(got)
	}
	c.deliver("d1", evs.Agreed, AppendLeave(nil, 1, "a", "p3"), "d1", "d2", "d3")
	for after, want := range map[string]string{"": "[g p0 p1 p2 p4]", "p1": "[p2 p4]", "p3": "[p4]", "p4": "[]", "zz": "[]"} {
		if got := fmt.Sprint(m.GroupsAfter(after)); got != want {
			t.Errorf("after %q: %s, want %s", after, got, want)
		}
	}
	for _, x := range []struct {
		group string
		first uint32
		n     int
		want  string
		total int
	}{{"g", 0, 2, "[#a#d1 #b#d2]", 3}, {"g", 2, 2, "[#c#d3]", 3}, {"g", 3, 2, "[]", 3}, {"g", 1 << 31, 2, "[]", 3}, {"none", 0, 2, "[]", 0}} {
		page, total := m.MembersFrom(x.group, x.first, x.n)
		if got := fmt.Sprint(privates(page)); got != x.want || total != x.total {
			t.Errorf("%+v: %s of %d", x, got, total)
		}
	}
	if !m.IsMember(1, "g") || m.IsMember(1, "p3") || m.IsMember(2, "g") {
		t.Error("who is a member")
	}
}
