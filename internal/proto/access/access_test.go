// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		p    Pattern
		name string
		want bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "A", false}, {"a", "ab", false}, {"ab", "a", false},
		{"*", "", true}, {"*", "anything", true}, {"chat*", "chat", true}, {"chat*", "chatter", true}, {"chat*", "cha", false},
		{"*room", "room", true}, {"*room", "bedroom", true}, {"*room", "rooms", false}, {"a*b*c", "abc", true}, {"a*b*c", "axxbyybzc", true},
		{"a*b*c", "axxbyybz", false}, {"?", "", false}, {"?", "x", true}, {"a?c", "abc", true}, {"#*#alpha", "#bob#alpha", true},
		{"#*#alpha", "#bob#beta", false}, {"**a**", "banana", true}, {"*?", "", false}, {"*?", "x", true}, {"[a]", "a", false},
	} {
		if got := Match(c.p, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.p, c.name, got)
		}
		if got := Match(c.p, []byte(c.name)); got != c.want {
			t.Errorf("Match(%q, bytes of %q) = %v", c.p, c.name, got)
		}
	}
}

// TestPatternOracle compares with path.Match on names and patterns of few letters.
func TestPatternOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(from string, most int) string {
		var b strings.Builder
		for range rnd.IntN(most + 1) {
			b.WriteByte(from[rnd.IntN(len(from))])
		}
		return b.String()
	}
	for range 20000 {
		p, name := pick("ab*?", 8), pick("ab", 10)
		want, err := path.Match(p, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := Match(Pattern(p), name); got != want {
			t.Fatalf("Match(%q, %q) = %v", p, name, got)
		}
	}
}

func TestNetworks(t *testing.T) {
	n := Networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "11.1.2.3": false, "::1": true, "::2": false, "::ffff:10.0.0.1": true, "127.9.9.9": true, "0.0.0.0": false,
	} {
		if n.Contains(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: want %v", addr, want)
		}
	}
	if !(Networks{UnixNetwork}).Contains(netip.IPv4Unspecified()) {
		t.Error("a Unix socket is not in its own network")
	}
	if (Networks{UnixNetwork}).Contains(netip.MustParseAddr("0.0.0.1")) {
		t.Error("an address is taken for a Unix socket")
	}
}

var (
	someone = &Principal{User: "alice", Addr: netip.MustParseAddr("10.0.0.7"), Methods: []string{"NULL"}}
	proved  = &Principal{User: "bob", Addr: netip.MustParseAddr("fd00::7"), Methods: []string{"IP", "PWORD"}, Name: "robert"}
	local   = &Principal{User: "carol", Methods: []string{"NULL"}, UID: 1000, HasUID: true}
)

// TestConditions: each condition by itself, for three clients.
func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name string
		rule Rule
		who  string // those whom it concerns
	}{
		{"none", Rule{}, "alice bob carol"},
		{"user", Rule{User: []Pattern{"a*", "carol"}}, "alice carol"},
		{"network", Rule{From: []From{{Net: netip.MustParsePrefix("10.0.0.0/8")}}}, "alice"},
		{"network 6", Rule{From: []From{{Net: netip.MustParsePrefix("fd00::/8")}}}, "bob"},
		{"unix", Rule{From: []From{{Unix: true}}}, "carol"},
		{"every IPv4 address", Rule{From: []From{{Net: netip.MustParsePrefix("0.0.0.0/0")}}}, "alice"},
		{"method", Rule{Method: []string{"PWORD"}}, "bob"},
		{"methods", Rule{Method: []string{"IP", "NULL"}}, "alice bob carol"},
		{"name", Rule{Name: []Pattern{"*"}}, "bob"},
		{"uid", Rule{UID: []UIDs{{0, 0}, {1000, 1999}}}, "carol"},
		{"other uid", Rule{UID: []UIDs{{0, 999}}}, ""},
		{"two conditions", Rule{User: []Pattern{"alice"}, From: []From{{Unix: true}}}, ""},
	} {
		c.rule.Points = AllPoints
		rules := &Rules{List: []Rule{c.rule}}
		var got []string
		for _, p := range []*Principal{someone, proved, local} {
			if ok, _ := rules.For(p).May(Open, nil); !ok {
				got = append(got, p.User)
			}
		}
		if strings.Join(got, " ") != c.who {
			t.Errorf("%s: concerns %v, want %v", c.name, got, c.who)
		}
	}
}

// TestFirstMatchWins, and which rule it was.
func TestFirstMatchWins(t *testing.T) {
	rules := &Rules{List: []Rule{
		{Allow: true, Points: PointsOf(Join, Multicast), Group: []Pattern{"chat*"}, User: []Pattern{"alice"}, Text: "0"},
		{Points: PointsOf(Join), Group: []Pattern{"chat*", "log"}, Text: "1"},
		{Points: PointsOf(Multicast), User: []Pattern{"bob"}, Text: "2"},
		{Allow: true, Points: PointsOf(Multicast), Group: []Pattern{"chat"}, Text: "3"},
	}}
	for _, c := range []struct {
		who   *Principal
		at    Point
		group string
		ok    bool
		by    string
	}{
		{someone, Join, "chatter", true, "0"}, {someone, Join, "log", false, "1"}, {someone, Join, "x", true, ""},
		{proved, Join, "chat", false, "1"}, {proved, Leave, "chat", true, ""}, {proved, Multicast, "chat", false, "2"},
		{local, Multicast, "chat", true, "3"}, {local, Multicast, "x", true, ""}, {local, Open, "", true, ""},
	} {
		ok, by := rules.For(c.who).May(c.at, []byte(c.group))
		text := ""
		if by != nil {
			text = by.Text
		}
		if ok != c.ok || text != c.by {
			t.Errorf("%s %v %q: %v by %q, want %v by %q", c.who.User, c.at, c.group, ok, text, c.ok, c.by)
		}
	}
	rules.Deny = true
	if ok, by := rules.For(local).May(Send, []byte("#x#d")); ok || by != nil {
		t.Errorf("the default permits: %v", by)
	}
}

// TestJudgeOracle: what a judge left out never decided.
func TestJudgeOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	patterns := [][]Pattern{nil, nil, {"a*"}, {"*b", "c"}, {"b"}, {"*"}}
	for range 2000 {
		rules := &Rules{Deny: rnd.IntN(2) == 0}
		for range rnd.IntN(8) {
			r := Rule{Allow: rnd.IntN(2) == 0, Points: Points(rnd.IntN(int(AllPoints) + 1)), User: patterns[rnd.IntN(len(patterns))], Group: patterns[rnd.IntN(len(patterns))]}
			if rnd.IntN(4) == 0 {
				r.From = []From{{Unix: rnd.IntN(2) == 0, Net: netip.MustParsePrefix("10.0.0.0/8")}}
			}
			rules.List = append(rules.List, r)
		}
		for _, p := range []*Principal{someone, proved, local} {
			j := rules.For(p)
			for at := range Point(NumPoints) {
				group := []string{"a", "ab", "b", "c", "d"}[rnd.IntN(5)]
				want := !rules.Deny
				for i := range rules.List {
					r := &rules.List[i]
					if r.Points.Has(at) && r.concerns(p) && (len(r.Group) == 0 || at != Open && matchAny(r.Group, group)) {
						want = r.Allow
						break
					}
				}
				if got, _ := j.May(at, []byte(group)); got != want {
					t.Fatalf("%+v: %s %v %q: %v", rules, p.User, at, group, got)
				}
			}
		}
	}
}

// TestRemembered: what a judge remembers is what it would find, however many groups it is asked about.
func TestRemembered(t *testing.T) {
	rules := manyRules()
	rules.List = append(rules.List, Rule{Allow: true, Points: PointsOf(Multicast), Group: []Pattern{"group-*"}}, Rule{Points: PointsOf(Multicast, Join), Group: []Pattern{"*9"}})
	j := rules.For(someone)
	for range 3 {
		for i := range 3 * rememberMost {
			group := []byte(fmt.Sprint([]string{"group-a", "group-", "other"}[i%3], i))
			for _, at := range []Point{Multicast, Join} {
				want := !(at == Multicast && i%3 == 0) && !(at == Join && i%10 == 9) && !(at == Multicast && i%3 == 2 && i%10 == 9)
				if got, _ := j.May(at, group); got != want {
					t.Fatalf("%v %s: %v", at, group, got)
				}
			}
			if n := len(j.known[Multicast]); n > rememberMost || len(j.known[Join]) > 0 {
				t.Fatalf("remembers %d and %d groups", n, len(j.known[Join]))
			}
		}
	}
}

func TestNothingToJudge(t *testing.T) {
	var none *Rules
	for _, r := range []*Rules{none, {}} {
		if j := r.For(someone); j != nil {
			t.Error("a judge without rules")
		}
	}
	if ok, _ := (*Judge)(nil).May(Multicast, []byte("g")); !ok {
		t.Error("refused without rules")
	}
}

func TestMayAllocatesNothing(t *testing.T) {
	j := manyRules().For(someone)
	group := []byte("nothing-of-them")
	if n := testing.AllocsPerRun(100, func() { j.May(Multicast, group) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNames(t *testing.T) {
	for i, name := range PointNames() {
		if p, ok := ParsePoint(name); !ok || int(p) != i || p.String() != name {
			t.Errorf("point %d %q", i, name)
		}
	}
	if _, ok := ParsePoint("monitor"); ok {
		t.Error("monitor is a point")
	}
	if s := PointsOf(Join, See).String(); s != "join see" {
		t.Error(s)
	}
	if AllPoints.String() != "all" || Point(9).String() != "Point(9)" {
		t.Error("names")
	}
	if s := (&Rule{Where: "f:3", Text: "deny all"}).String(); s != "f:3: deny all" {
		t.Error(s)
	}
}

func manyRules() *Rules {
	r := &Rules{}
	for i := range 100 {
		r.List = append(r.List, Rule{Points: PointsOf(Multicast), Group: []Pattern{Pattern("group-" + string(rune('a'+i%26)) + "*")}})
	}
	return r
}

func BenchmarkMay(b *testing.B) {
	group := []byte("nothing-of-them")
	for name, j := range map[string]*Judge{
		"permit":    nil,
		"1 rule":    (&Rules{List: []Rule{{Points: PointsOf(Multicast), Group: []Pattern{"chat*"}}}}).For(someone),
		"100 rules": manyRules().For(someone),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				j.May(Multicast, group)
			}
		})
	}
}
