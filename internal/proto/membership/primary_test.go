// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

func names(who ...int) []string {
	out := []string{}
	for _, k := range who {
		out = append(out, fmt.Sprintf("d%02d", k))
	}
	return out
}

// votes lets daemon i read a file with the rule and these daemons; none: a file without the rule.
func (c *cluster) votes(i int, who ...int) error {
	next := c.nodes[i].m.cfg
	if next.Voters = names(who...); len(who) == 0 {
		next.Voters = nil
	}
	if err := c.nodes[i].m.CheckReconfigure(next); err != nil {
		return err
	}
	c.nodes[i].input(func(now time.Duration, fx *Effects) { c.nodes[i].m.Reconfigure(now, next, fx) })
	return nil
}

// primaries is what each daemon has: y, n, or u for unclaimed.
func (c *cluster) primaries() string {
	var b strings.Builder
	for _, d := range c.nodes {
		b.WriteByte(d.primary.String()[0])
	}
	return b.String()
}

func (c *cluster) becomes(want string) {
	c.t.Helper()
	c.within(4*time.Second, want, func() bool { return c.primaries() == want })
}

func voting(t *testing.T, seed uint64, n int, who ...int) *cluster {
	c := newCluster(t, seed, n)
	c.tweak = func(_ int, cfg *Config) { cfg.Voters = names(who...) }
	c.startAll(0)
	c.within(3*time.Second, "start", func() bool { return c.together(c.all()...) })
	return c
}

// PC-7: the majority is primary, half is not, and a lone daemon is if nobody else is listed.
func TestPrimaryIsTheMajority(t *testing.T) {
	for _, x := range []struct {
		n, first  int // the first so many are cut off the others
		want, all string
	}{{5, 2, "nnyyy", "yyyyy"}, {4, 2, "nnnn", "yyyy"}, {4, 1, "nyyy", "yyyy"}, {2, 1, "nn", "yy"}, {3, 1, "nyy", "yyy"}} {
		c := voting(t, 1, x.n, []int{0, 1, 2, 3, 4}[:x.n]...)
		c.becomes(x.all)
		c.cut = halves(x.first)
		c.becomes(x.want)
		c.within(4*time.Second, "ballots", func() bool {
			for i, d := range c.nodes {
				here := x.first
				if i >= x.first {
					here = x.n - x.first
				}
				if b := d.m.Ballot(); b.Changed || b.Voters != x.n || b.Here != here || b.Past != nil || len(b.Votes) != here-1 {
					return false
				}
			}
			return true
		})
		c.cut = nil
		c.becomes(x.all)
	}
	alone := voting(t, 1, 1, 0)
	alone.becomes("y")
}

// A rule that comes and goes while the daemons run: nothing is primary before the last has read it, and nobody waits for a
// change of members to see that.
func TestPrimaryRuleReload(t *testing.T) {
	c := newCluster(t, 2, 3)
	c.startAll(0)
	c.within(3*time.Second, "start", func() bool { return c.together(0, 1, 2) })
	c.becomes("uuu")
	for i, want := range []string{"nnn", "nnn", "yyy"} {
		if err := c.votes(i, 0, 1, 2); err != nil {
			t.Fatal(err)
		}
		if b := c.nodes[i].m.Ballot(); !b.Changed {
			t.Errorf("daemon %d has a rule now, and its ballot does not tell: %+v", i, b)
		}
		c.becomes(want)
		c.within(4*time.Second, "ballots", func() bool {
			for k, d := range c.nodes {
				b, mine := d.m.Ballot(), k <= i
				ok := !b.Changed && (b.Voters == 3) == mine && len(b.Votes) == 2
				for _, v := range b.Votes {
					rule := v.Name <= names(i)[0]
					ok = ok && v == Vote{Name: v.Name, Rule: rule, SameList: rule == mine, Vouches: rule}
				}
				if !ok {
					return false
				}
			}
			return true
		})
	}
	if !slices.ContainsFunc(c.nodes[2].notes, func(n timed) bool { return n.Kind == NoteState && n.Reason == ReasonPrimaryRule }) {
		t.Error("no note says why the ring was left")
	}
	for i, want := range []string{"nnn", "nnn", "uuu"} {
		if err := c.votes(i); err != nil {
			t.Fatal(err)
		}
		c.becomes(want)
	}
}

// A daemon is added behind a cut that parts the old majority from those who have read the new list, which would be the
// majority of it; and lists that are left behind count until a configuration has made them void.
func TestPrimaryWhileListsDiffer(t *testing.T) {
	c := newCluster(t, 3, 5)
	c.tweak = func(i int, cfg *Config) {
		cfg.Voters = names(0, 1, 2)
		if i > 2 {
			cfg.Voters = names(0, 1, 2, 3, 4) // started with a file that went too far
		}
	}
	c.startAll(0)
	c.within(3*time.Second, "start", func() bool { return c.together(c.all()...) })
	c.becomes("yyyyy") // all five are the majority of both lists
	c.cut = halves(2)
	c.within(3*time.Second, "cut", func() bool { return c.together(0, 1) && c.together(2, 3, 4) })
	if got := c.primaries(); got != "yynnn" {
		t.Fatalf("behind the cut: %s", got)
	}
	if b := c.nodes[3].m.Ballot(); b.Here != 3 || b.Voters != 5 || len(b.Votes) != 2 || b.Votes[0] != (Vote{Name: "d02", Rule: true}) || b.Votes[1] != (Vote{"d04", true, true, true}) {
		t.Errorf("a member counts by another list: %+v", b)
	}
	// Daemon 2 reads one list after the other: by the newest it has the majority, by the first it has not.
	if err := c.votes(2, 0, 1, 2, 3, 4); err == nil || !strings.Contains(err.Error(), "one daemon at a time") {
		t.Errorf("two daemons at once: %v", err)
	}
	for _, list := range [][]int{{0, 1, 2, 3}, {0, 1, 2, 3, 4}} {
		if err := c.votes(2, list...); err != nil {
			t.Fatal(err)
		}
		c.run(2 * time.Second)
		if got := c.primaries(); got != "yynnn" {
			t.Fatalf("after list %v: %s", list, got)
		}
	}
	if b := c.nodes[2].m.Ballot(); b.Here != 3 || b.Voters != 5 || !slices.Equal(b.Past, names(0, 1, 2)) {
		t.Errorf("the first list still counts: %+v", b)
	}
	c.cut = nil
	c.becomes("yyyyy")
	for i := range 2 {
		for _, list := range [][]int{{0, 1, 2, 3}, {0, 1, 2, 3, 4}} {
			if err := c.votes(i, list...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(c.nodes[2].m.pastVoters); n != 2 {
		t.Errorf("daemon 2 counts by %d lists besides its own, want 2", n)
	}
	c.kill(4) // a change, in which all have one list
	c.within(3*time.Second, "without one", func() bool { return c.together(0, 1, 2, 3) })
	for i := range 4 {
		if n := len(c.nodes[i].m.pastVoters); n != 0 {
			t.Errorf("daemon %d still counts by %d old lists", i, n)
		}
	}
	c.cut = halves(2)
	c.within(3*time.Second, "cut again", func() bool { return c.together(0, 1) && c.together(2, 3) })
	if got := c.primaries(); got[:4] != "nnnn" {
		t.Errorf("two of five and two of five: %s", got)
	}
}

// Lists without an end are refused: each has to be counted by.
func TestPastVotersBound(t *testing.T) {
	c := voting(t, 4, 2, 0, 1, 2)
	c.becomes("yy")
	c.cut = halves(1)
	c.becomes("nn")
	list := []int{0, 1, 2}
	for k := 3; ; k++ {
		list = append(list, k)
		err := c.votes(0, list...)
		if err == nil {
			if k > 3+maxPastVoters {
				t.Fatal("no bound")
			}
			continue
		}
		if k != 3+maxPastVoters || !strings.Contains(err.Error(), "let the daemons meet first") {
			t.Errorf("list %d: %v", k-2, err)
		}
		break
	}
}

// MajoritiesMeet against all subsets.
func TestMajoritiesMeet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	draw := func() (list []string) {
		for len(list) == 0 {
			for k := range 7 {
				if rnd.IntN(2) == 0 {
					list = append(list, names(k)...)
				}
			}
		}
		return list
	}
	ids := func(mask int) (out []evs.ProcID) {
		for k := range 7 {
			if mask&(1<<k) != 0 {
				out = append(out, evs.ProcID{Name: names(k)[0]})
			}
		}
		return out
	}
	for range 300 {
		a, b := draw(), draw()
		want := true
		for mask := range 1 << 7 {
			if majority(a, ids(mask)) && majority(b, ids(1<<7-1-mask)) {
				want = false
			}
		}
		if got := MajoritiesMeet(a, b); got != want {
			t.Fatalf("%v and %v: %v, want %v", a, b, got, want)
		}
	}
}

// The rule is the same in whatever order a file lists the daemons, and another for other names.
func TestRuleOf(t *testing.T) {
	if ruleOf([]string{"a", "b"}) != ruleOf([]string{"b", "a"}) || ruleOf([]string{"a", "b"}) == ruleOf([]string{"ab"}) || ruleOf([]string{"a"}) == ruleOf([]string{"b"}) {
		t.Error("rules are confused")
	}
	for _, x := range []struct {
		entries []packet.CommitEntry
		want    evs.Primary
	}{
		{[]packet.CommitEntry{{}, {}}, evs.PrimaryUnclaimed},
		{[]packet.CommitEntry{{Rule: 1, Vouches: true}, {}}, evs.PrimaryNo},
		{[]packet.CommitEntry{{Rule: 1, Vouches: true}, {Rule: 2}}, evs.PrimaryNo},
		{[]packet.CommitEntry{{Rule: 1, Vouches: true}, {Rule: 2, Vouches: true}}, evs.PrimaryYes},
	} {
		if got := primaryOf(x.entries); got != x.want {
			t.Errorf("%+v: %v, want %v", x.entries, got, x.want)
		}
	}
}
