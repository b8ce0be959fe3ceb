// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/membership"
)

// dialPrimary opens a session that wants to know about primary configurations, and returns what it was told first.
func (c *cluster) dialPrimary(node int, user string) (*ownConn, string) {
	c.t.Helper()
	n := c.nodes[node]
	k := &ownConn{testConn: &testConn{node: node}, asm: frame.OwnAssembly{Limit: frame.MaxOwnBody}}
	k.id = n.m.HandleAccept(c.now, true, testAddr(node), &n.fx)
	n.conns[k.id] = k.testConn
	c.after(node)
	h := frame.OwnHello{Membership: true, User: user, Program: "test", Capabilities: []string{frame.OwnCapPrimary}}
	c.send(k.testConn, append(h.Append(nil), frame.AppendOwnChoice(nil, frame.AuthNull)...))
	bodies := c.bodies(k)
	if len(bodies) != 3 || bodies[1].t != frame.OwnWelcome || bodies[2].t != frame.OwnPrimary {
		c.t.Fatalf("%q got %v", user, bodies)
	}
	p, fault := frame.ParseOwnPrimary(bodies[2].b)
	if fault != frame.OwnFine {
		c.t.Fatal(fault)
	}
	return k, p.String()
}

// told is what a session is told of primary configurations and views.
func (c *cluster) told(k *ownConn) string {
	var out []string
	for _, e := range c.events(k, map[evs.ViewID]string{}) {
		if f := strings.Fields(e); f[0] == "primary" {
			out = append(out, f[1])
		} else if f[0] == "view" || f[0] == "signal" {
			out = append(out, f[0])
		}
	}
	return strings.Join(out, " ")
}

// PC-7: sessions that ask are told at once and at each change, also where no group of theirs changes; others get what they always
// got. The log says when a daemon comes and goes.
func TestPrimaryIsTold(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) { cfg.Voters = []string{"a", "b", "c"} }, "a", "b", "c")
	x, first := c.dialPrimary(0, "x")
	if first != "yes" {
		t.Errorf("first word: %s", first)
	}
	z, _ := c.dialPrimary(2, "z")
	plain, old := c.dialOwn(0, "plain"), c.connect(1, "old", true)
	c.send(x.testConn, frame.AppendOwnJoin(nil, 0, "g"))
	c.send(old, frame.AppendJoin(nil, "#old#b", "g"))
	c.pass(100 * time.Millisecond)
	expect := func(step string, k *ownConn, want string) {
		t.Helper()
		if got := c.told(k); got != want {
			t.Errorf("%s: got %q, want %q", step, got, want)
		}
	}
	expect("joins", x, "view view")
	c.messages(old)
	c.told(z)

	c.side[2] = 1
	c.pass(time.Second)
	expect("a cut, seen by the majority", x, "no yes") // the group is whole: no view, and no signal
	expect("a cut, seen by the minority", z, "no")
	if _, word := c.dialPrimary(2, "late"); word != "no" {
		t.Errorf("who comes to the minority hears %s", word)
	}
	c.side[1] = 2
	c.pass(time.Second)
	expect("alone", x, "no signal view")
	c.side = make([]int, 3)
	c.pass(3 * time.Second)
	for _, k := range []*ownConn{x, z} { // they meet in one step or in two
		if got := c.told(k); !strings.HasSuffix(strings.TrimSuffix(got, " view"), "yes") {
			t.Errorf("all together: got %q", got)
		}
	}
	if got := c.told(plain); got != "" {
		t.Errorf("who did not ask got %q", got)
	}
	for _, m := range c.messages(old) {
		if m.Type.Kind() == frame.KindRegular {
			t.Errorf("a client of the original got %+v", m)
		}
	}
	var last []evs.Primary
	for _, n := range c.nodes {
		last = append(last, n.m.Status(c.now).Conf.Primary)
	}
	if !slices.Equal(last, []evs.Primary{evs.PrimaryYes, evs.PrimaryYes, evs.PrimaryYes}) {
		t.Errorf("status %v", last)
	}
}

// A list that could have a majority apart from that of the list in force is refused; the daemon goes on with the old one.
func TestReconfigureVoters(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) { cfg.Voters = []string{"a", "b", "c"} }, "a", "b", "c")
	n := c.nodes[0]
	next := n.m.cfg
	next.Voters = []string{"a", "b", "c", "d", "e"}
	if err := n.m.Reconfigure(c.now, next, &n.fx); err == nil || !strings.Contains(err.Error(), "one daemon at a time") || len(n.m.cfg.Voters) != 3 {
		t.Errorf("error %v, voters %v", err, n.m.cfg.Voters)
	}
	for i := range 3 {
		c.reconfigure(i, func(n *Config) { n.Voters = []string{"a", "b", "c", "d"} })
	}
	before := n.m.Configuration()
	c.pass(time.Second)
	if now := n.m.Configuration(); now != before || now.Primary != evs.PrimaryYes {
		t.Errorf("three of four: %v became %v", before, now)
	}
	c.side[2] = 1
	c.pass(time.Second)
	if now := n.m.Configuration(); len(now.Members) != 2 || now.Primary != evs.PrimaryNo {
		t.Errorf("two of four: %v", now)
	}
	c.reconfigure(0, func(n *Config) { n.Voters = []string{"a", "b", "c"} })
	c.reconfigure(1, func(n *Config) { n.Voters = []string{"a", "b", "c"} })
	c.pass(2 * time.Second)
	if now := n.m.Configuration(); now.Primary != evs.PrimaryNo {
		t.Errorf("two of three, and c may still be with d: %v", now)
	}
}

// The two lines of the log; the second one has the reason, not all that there could be.
func TestPrimaryIsLogged(t *testing.T) {
	var fx Effects
	conf := func(p evs.Primary) *evs.Configuration { return &evs.Configuration{Primary: p} }
	const unclaimed, no, yes = evs.PrimaryUnclaimed, evs.PrimaryNo, evs.PrimaryYes
	for _, x := range []struct {
		before, now *evs.Configuration
		ballot      membership.Ballot
		want        string
	}{
		{nil, conf(no), membership.Ballot{Voters: 3, Here: 1}, ""},
		{conf(no), conf(yes), membership.Ballot{Voters: 3, Here: 2}, "info primary: this configuration has the majority"},
		{conf(yes), conf(yes), membership.Ballot{Voters: 3, Here: 2}, ""},
		{conf(yes), conf(no), membership.Ballot{Voters: 3, Here: 1}, "warn primary no more: of 3 configured daemons 1 is here, and the majority is 2"},
		{conf(yes), conf(no), membership.Ballot{Voters: 3, Here: 3, Votes: []membership.Vote{{Name: "b"}}}, "warn primary no more: there is no PrimaryRule in the file of b"},
		{conf(yes), conf(unclaimed), membership.Ballot{}, "warn primary no more: no daemon of this configuration has a PrimaryRule any more"},
	} {
		fx.Reset()
		notePrimary(x.before, x.now, x.ballot, &fx)
		got := ""
		for _, n := range fx.Notes {
			got += map[evs.Level]string{evs.Info: "info ", evs.Warn: "warn "}[n.Level] + n.Text
			for _, a := range n.Attrs {
				if a.Key == "reason" {
					got += fmt.Sprintf(": %v", a.Value)
				}
			}
		}
		if got != x.want {
			t.Errorf("%+v: got %q, want %q", x.ballot, got, x.want)
		}
	}
}
