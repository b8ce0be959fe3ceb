// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// A configuration is primary (guarantees PC-7) if every member vouches for it: its file asks for a majority, and more than half of
// the daemons that this file lists are here. Each says so in its entry of the Commit token, when the membership is
// settled; all see all entries, so all come to the same answer, and it holds for the life of the ring. Since two majorities
// of one list have a daemon in common, no two primary configurations are without one; nothing needs to be stored for that.
//
// Lists change while daemons run, one daemon after the other. Therefore:
//
//   - Nobody takes a list over whose majorities need not meet those of the list before (CheckReconfigure). One daemon more or
//     less always does.
//   - A daemon counts by all lists that it has had since it was last in a primary configuration whose members all had its
//     newest one. After that no configuration can be primary by an older list: a majority of it would have a member of
//     that configuration, which has the newer one.
//   - A daemon that would now say another thing of its configuration than it did leaves it, to form it anew.
//
// Names count, not incarnations: a daemon that was restarted is the same voter.

// maxPastVoters is how many lists a daemon counts by besides its own. More are refused.
const maxPastVoters = 8

// verdict is what a member says of a configuration in its Commit entry.
type verdict struct {
	rule    uint64 // of its list; zero: its file has no rule
	vouches bool
}

// Ballot is how a configuration came to be primary or not, as far as this daemon can tell. A status shows it.
type Ballot struct {
	// Changed: this daemon has read another list or rule since, and would say another thing; the next configuration comes
	// soon. What follows is by what it has read.
	Changed      bool
	Voters, Here int      // of this daemon's list: all, and those in the configuration; no voters: its file has no rule
	Past         []string // a list it has had before and counts by all the same, if the majority of that is not here; nil: none
	Votes        []Vote   // of the other members, in ring order
}

// Vote is what another member has said of the configuration.
type Vote struct {
	Name     string
	Rule     bool // its file has one
	SameList bool // it counts by the list that this daemon had when the configuration was formed
	Vouches  bool
}

// Ballot is that of the configuration installed last.
func (m *Machine) Ballot() Ballot {
	members := m.ids(m.confSet)
	b := Ballot{Changed: m.changedVerdict(), Voters: len(m.cfg.Voters), Here: present(m.cfg.Voters, members), Votes: m.votes}
	for _, past := range m.pastVoters {
		if b.Past == nil && m.cfg.Voters != nil && !majority(past, members) {
			b.Past = past
		}
	}
	return b
}

// Reason says why a configuration that came about so is not primary, though one of its members has the rule.
func (b *Ballot) Reason() string {
	switch {
	case b.Changed:
		return "this daemon has read its configuration again, and what it says now counts from the next configuration on, which comes soon"
	case b.Voters > 0 && b.Here <= b.Voters/2:
		verb := "are"
		if b.Here == 1 {
			verb = "is"
		}
		return fmt.Sprintf("of %d configured daemons %d %s here, and the majority is %d", b.Voters, b.Here, verb, b.Voters/2+1)
	case b.Past != nil:
		return "the list that this daemon had before a reload counts as well, and the majority of it is not here: " + strings.Join(b.Past, " ")
	}
	voters := func(which func(v *Vote) bool) (names []string) {
		for i := range b.Votes {
			if which(&b.Votes[i]) {
				names = append(names, b.Votes[i].Name)
			}
		}
		return names
	}
	if b.Voters == 0 {
		return "the file of this daemon has no PrimaryRule, and there is one in that of " + list(voters(func(v *Vote) bool { return v.Rule }))
	}
	if names := voters(func(v *Vote) bool { return !v.Rule }); len(names) > 0 {
		return "there is no PrimaryRule in the file of " + list(names)
	}
	if names := voters(func(v *Vote) bool { return !v.SameList && !v.Vouches }); len(names) > 0 {
		return "another list of daemons, whose majority is not here, is that of " + list(names)
	}
	return "an older list of daemons, whose majority is not here, counts as well for " + list(voters(func(v *Vote) bool { return !v.Vouches }))
}

// list is "a", "a and b", "a, b and c".
func list(names []string) string {
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return strings.Join(names, "")
}

// present counts the voters among members.
func present(voters []string, members []evs.ProcID) int {
	n := 0
	for _, v := range voters {
		if slices.ContainsFunc(members, func(p evs.ProcID) bool { return p.Name == v }) {
			n++
		}
	}
	return n
}

// majority reports whether more than half of voters are among members.
func majority(voters []string, members []evs.ProcID) bool {
	return present(voters, members) > len(voters)/2
}

// MajoritiesMeet reports whether each majority of the names a has a name in common with each majority of b.
func MajoritiesMeet(a, b []string) bool {
	union := len(a)
	for _, n := range b {
		if !slices.Contains(a, n) {
			union++
		}
	}
	return len(a)/2+1+len(b)/2+1 > union
}

// judge is what I say of a configuration.
func (m *Machine) judge(members []evs.ProcID) verdict {
	if m.cfg.Voters == nil {
		return verdict{}
	}
	v := verdict{rule: ruleOf(m.cfg.Voters), vouches: majority(m.cfg.Voters, members)}
	for _, past := range m.pastVoters {
		v.vouches = v.vouches && majority(past, members)
	}
	return v
}

// ruleOf identifies a list of voters, in whatever order. It is never zero.
func ruleOf(voters []string) uint64 {
	names := slices.Clone(voters)
	slices.Sort(names)
	h := fnv.New64a()
	h.Write([]byte("majority"))
	for _, n := range names {
		h.Write([]byte{byte(len(n))})
		h.Write([]byte(n))
	}
	return max(1, h.Sum64())
}

// primaryOf is what the entries of all members come to.
func primaryOf(entries []packet.CommitEntry) evs.Primary {
	rules, vouchers := 0, 0
	for i := range entries {
		if entries[i].Rule != 0 {
			rules++
		}
		if entries[i].Vouches {
			vouchers++
		}
	}
	switch {
	case rules == 0:
		return evs.PrimaryUnclaimed
	case vouchers == len(entries):
		return evs.PrimaryYes
	}
	return evs.PrimaryNo
}

// entered takes over what I said of the configuration that is installed now, and forgets lists that nobody can be primary
// by any more.
func (m *Machine) entered(entries []packet.CommitEntry, said verdict) {
	m.said, m.votes = said, nil
	for i := range entries {
		if e := &entries[i]; e.ID != m.cfg.Me {
			m.votes = append(m.votes, Vote{Name: e.ID.Name, Rule: e.Rule != 0, SameList: e.Rule == said.rule, Vouches: e.Vouches})
		}
	}
	if primaryOf(entries) != evs.PrimaryYes || said.rule != m.judge(nil).rule {
		return
	}
	if !slices.ContainsFunc(entries, func(e packet.CommitEntry) bool { return e.Rule != said.rule }) {
		m.pastVoters = nil
	}
}

// changedVerdict reports whether I would say another thing of my configuration than I did when it was formed.
func (m *Machine) changedVerdict() bool {
	if m.cfg.Voters == nil {
		return m.said.rule != 0
	}
	now := m.judge(m.ids(m.confSet))
	return now.vouches != m.said.vouches || (now.rule == 0) != (m.said.rule == 0)
}

// keepVoters remembers the list that another one replaces.
func (m *Machine) keepVoters(old []string) {
	if old != nil && !sameVoters(old, m.cfg.Voters) {
		m.pastVoters = append(m.pastVoters, old)
	}
	m.pastVoters = slices.DeleteFunc(m.pastVoters, func(past []string) bool { return sameVoters(past, m.cfg.Voters) })
}

func sameVoters(a, b []string) bool {
	return a != nil && b != nil && ruleOf(a) == ruleOf(b)
}

// CheckReconfigure reports why a running daemon cannot take cfg over, besides what Validate says.
func (m *Machine) CheckReconfigure(cfg Config) error {
	old := m.cfg.Voters
	switch {
	case old == nil || sameVoters(old, cfg.Voters):
		return nil
	case cfg.Voters != nil && !MajoritiesMeet(old, cfg.Voters):
		return fmt.Errorf("with PrimaryRule = majority the list of daemons can change by one daemon at a time: more than half of (%s) and more than half of (%s) could both be primary",
			strings.Join(old, " "), strings.Join(cfg.Voters, " "))
	case len(m.pastVoters) >= maxPastVoters:
		return fmt.Errorf("with PrimaryRule = majority a daemon counts by all its lists since it was last in a primary configuration of daemons with one list, and these are %d already: let the daemons meet first",
			len(m.pastVoters)+1)
	}
	return nil
}
