// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/participle/v2/lexer"

	"evensong/internal/proto/session"
)

// quickDetection is the token timeout up to which a file's timers are not called slow: our own default is below a
// second, that of the original 1.25 s.
const quickDetection = 500 * time.Millisecond

// finish checks what several directives must have in common, after all of the file was read.
func (r *reader) finish() {
	c := &r.cfg
	for key, pos := range r.seen {
		c.origins[key] = Origin{Kind: FromFile, Where: fmt.Sprintf("%s:%d", r.file, pos.Line)}
	}
	r.warnDormant()
	if pos, ok := r.seen["AccessRulesFile"]; ok && len(c.Auth.Rules) > 0 {
		r.errorf(pos, "remove one of them", "there are access rules here and in a file of their own")
	}
	for _, p := range slices.Concat(c.authProblems(), c.tlsProblems(), c.windowProblems(), c.primaryProblems()) {
		r.problems = append(r.problems, r.at(p))
	}
	if pos, ok := r.seen["AcceleratedWindow"]; ok && c.Ring.AcceleratedWindow == 0 {
		if c.Ring.Accelerated {
			r.report(Warning, pos, "remove one of the two", "AcceleratedWindow = 0 leaves nothing to send after the token; AcceleratedRing has no effect")
		}
		c.Ring.Accelerated = false
		c.origins["AcceleratedRing"] = Origin{Kind: Derived, Where: "AcceleratedWindow = 0"}
	}
	r.checkTimers()
	r.problems = append(r.problems, c.addressProblems()...)
	c.decide()
}

// at gives a problem that names directives the place of the one that stands last in the file.
func (r *reader) at(p keyedProblem) Problem {
	var pos lexer.Position
	for _, k := range p.keys {
		if q, ok := r.seen[k]; ok && q.Offset >= pos.Offset {
			pos = q
		}
	}
	if pos.Line > 0 {
		p.File, p.Line, p.Col = r.file, pos.Line, pos.Column
	}
	return p.Problem
}

// keyedProblem is a problem between the values of some directives, wherever they came from.
type keyedProblem struct {
	Problem
	keys []string
}

func (r *reader) warnDormant() {
	if len(r.dormant) == 0 {
		return
	}
	slices.SortStableFunc(r.dormant, func(a, b dormantUse) int { return a.pos.Offset - b.pos.Offset })
	var uses []string
	for _, d := range r.dormant {
		uses = append(uses, fmt.Sprintf("%s (line %d)", d.key, d.pos.Line))
	}
	r.report(Warning, r.dormant[0].pos, "", "accepted without effect: %s", strings.Join(uses, ", "))
}

// windowProblems checks the windows that are given against each other.
func (c *Config) windowProblems() []keyedProblem {
	var out []keyedProblem
	ring := c.Ring
	if ring.Global > 0 && ring.Personal > ring.Global {
		out = append(out, keyedProblem{Problem{Severity: Error, Text: fmt.Sprintf("PersonalWindow (%d) is greater than Window (%d)", ring.Personal, ring.Global),
			Hint: "a daemon cannot send more than all together; lower PersonalWindow or raise Window"}, []string{"PersonalWindow", "Window"}})
	}
	limit, name := ring.Personal, "PersonalWindow"
	if limit == 0 {
		limit, name = ring.Global, "Window"
	}
	if limit > 0 && ring.AcceleratedWindow > limit {
		out = append(out, keyedProblem{Problem{Severity: Error, Text: fmt.Sprintf("AcceleratedWindow (%d) is greater than %s (%d)", ring.AcceleratedWindow, name, limit),
			Hint: "it is the part of a daemon's packets that follows the token; choose 0 to " + fmt.Sprint(limit)}, []string{"AcceleratedWindow", name}})
	}
	return out
}

// primaryProblems checks that there are names to count.
func (c *Config) primaryProblems() []keyedProblem {
	switch nameless := slices.ContainsFunc(c.Daemons, func(d Daemon) bool { return d.Name == "" }); {
	case c.Primary != PrimaryMajority:
		return nil
	case !nameless && len(c.Daemons) == 2:
		return []keyedProblem{{Problem{Severity: Notice, Text: "of two daemons both are needed for a majority: when one stops, nothing is primary",
			Hint: "a third one on another host, without clients, is the usual remedy"}, []string{"PrimaryRule", "peer"}}}
	case !nameless:
		return nil
	}
	return []keyedProblem{{Problem{Severity: Error, Text: "PrimaryRule = majority wants the names of all daemons, and a peer is given by its address alone",
		Hint: "write --peer NAME=HOST:PORT for each, the same on all daemons, or use a file"}, []string{"PrimaryRule", "peer"}}}
}

// problems checks the bounds of sessions against each other.
func (s Sessions) problems() []keyedProblem {
	budget, hard := s.ByteBudget, s.HardBytes
	if budget == 0 {
		budget = session.DefaultQueueBytes
	}
	if hard == 0 || hard >= budget {
		return nil
	}
	return []keyedProblem{{Problem{Severity: Error, Text: fmt.Sprintf("client-hard-bytes (%d) is less than client-bytes (%d)", hard, budget),
		Hint: "a client is closed at the one and slow from the other on; raise client-hard-bytes or lower client-bytes"}, []string{"client-hard-bytes", "client-bytes"}}}
}

// Problems checks timers against each other, those that are zero left out. All are warnings: such a ring works, only
// slower or less steadily than its author thinks.
func (t Timers) Problems() []Problem {
	var out []Problem
	for _, p := range t.problems() {
		out = append(out, p.Problem)
	}
	return out
}

func (t Timers) problems() []keyedProblem {
	var out []keyedProblem
	atLeast := func(big string, bigValue time.Duration, factor float64, small string, smallValue time.Duration, why string) {
		least := time.Duration(factor * float64(smallValue))
		if bigValue == 0 || smallValue == 0 || bigValue >= least {
			return
		}
		relation := "at least " + map[float64]string{0.5: "half of ", 1: "", 2: "twice "}[factor] + small
		out = append(out, keyedProblem{Problem{Severity: Warning,
			Text: fmt.Sprintf("%s (%v) should be %s (%v): %s", big, bigValue, relation, smallValue, why),
			Hint: fmt.Sprintf("raise %s to %d ms or more, or lower %s", big, (least + time.Millisecond - 1).Milliseconds(), small)}, []string{big, small}})
	}
	atLeast("TokenTimeout", t.TokenTimeout, 2, "HurryTimeout", t.Hurry, "one lost token would end the ring before it is sent again")
	atLeast("SegTimeout", t.Seg, 2, "AliveTimeout", t.Alive, "daemons of the segment whose packet is lost once would be left out")
	atLeast("RepTimeout", t.Rep, 2, "AliveTimeout", t.Alive, "one lost packet would make a daemon give up its representative")
	atLeast("GatherTimeout", t.Gather, 2, "JoinTimeout", t.Join, "daemons whose packet is lost once would be left out")
	// The wide-area values of the original have exactly this relation (2.5 s to 5 s).
	atLeast("GatherTimeout", t.Gather, 0.5, "TokenTimeout", t.TokenTimeout, "the new ring would form without daemons that have not yet missed the token of the old one")
	atLeast("GatherTimeout", t.Gather, 1, "SegTimeout", t.Seg, "representatives would stop collecting before segments have chosen theirs")
	atLeast("LookupTimeout", t.Lookup, 1, "GatherTimeout", t.Gather, "a stable ring would look for missing daemons without pause")
	return out
}

func (r *reader) checkTimers() {
	t := &r.cfg.Timers
	for _, p := range t.problems() {
		r.problems = append(r.problems, r.at(p))
	}
	var first lexer.Position
	for _, f := range t.fields() {
		if pos, ok := r.seen[f.key]; ok && (first.Line == 0 || pos.Offset < first.Offset) {
			first = pos
		}
	}
	if first.Line == 0 || t.TokenTimeout > 0 && t.TokenTimeout <= quickDetection {
		return
	}
	detection := "as far as they are given"
	if t.TokenTimeout > 0 {
		detection = fmt.Sprintf("a failed daemon is noticed after %v", t.TokenTimeout)
	}
	r.report(Notice, first, "remove the timers to get Evensong's own, which detect a failure faster",
		timersInForce+": %s", detection)
}

// timersInForce begins the notice about slow timers, which Assemble withdraws when a flag replaces them.
const timersInForce = "the timers of this file are in force"

// decide derives what a file may leave open from the addresses of the first daemons of all segments, as soon as they are
// known. It runs before Facts are computed, and again with the same result after a reload.
func (c *Config) decide() {
	known, wide := true, false
	var common netip.Prefix
	for _, s := range c.Segments {
		d := c.Daemons[s.Daemons[0]]
		a := d.Addr.Addr()
		if only := PreferIPv4(d.Addrs); len(only) == 1 {
			a = only[0]
		}
		if !a.IsValid() && (d.Host == "" || !c.Ranked) {
			continue // this daemon without an address of its own, or a name for nobody yet, or for several
		}
		if !a.IsValid() {
			known = false
			break
		}
		n := network(a)
		wide = wide || common.IsValid() && n != common
		common = n
	}
	c.Wide = known && wide
	if o, given := c.origins["AcceleratedRing"]; given && o.Where != derivedFromNetwork {
		return
	}
	c.Ring.Accelerated = known && !wide && len(c.Segments) > 0
	c.origins["AcceleratedRing"] = Origin{Kind: Derived, Where: derivedFromNetwork}
}

// derivedFromNetwork is the origin of a value that decide found.
const derivedFromNetwork = "first daemons of the segments in one network or not"

// addressProblems checks the addresses that are known against each other. Resolve calls it again when all are.
func (c *Config) addressProblems() Problems {
	var out Problems
	add := func(s Severity, pos lexer.Position, hint, format string, args ...any) {
		p := Problem{Severity: s, Text: fmt.Sprintf(format, args...), Hint: hint}
		if pos.Line > 0 {
			p.File, p.Line, p.Col = c.where.file, pos.Line, pos.Column
		}
		out = append(out, p)
	}
	taken := make(map[netip.AddrPort]int)
	local, remote := -1, -1
	for i, d := range c.Daemons {
		a := c.placeIn(i)
		if !a.IsValid() {
			continue
		}
		if old, ok := taken[d.Addr]; ok && d.Addr.Addr().IsValid() {
			add(Error, c.daemonPlace(i), "give each its own address, or its own segment with another port",
				"daemons %q and %q%s have the same address %s", c.label(old), c.label(i), c.placeOf(old), d.Addr)
		} else {
			taken[d.Addr] = i
		}
		if a.IsLoopback() && local < 0 {
			local = i
		} else if !a.IsLoopback() && remote < 0 {
			remote = i
		}
		c.checkInterfaces(i, add)
	}
	if local >= 0 && remote >= 0 {
		later := max(local, remote)
		add(Error, c.daemonPlace(later), "use loopback addresses for all daemons, or for none; a name may resolve to 127.0.0.1 or 127.0.1.1 by /etc/hosts",
			"daemon %q has the loopback address %s but daemon %q%s has %s, and they cannot reach each other",
			c.label(local), c.placeIn(local), c.label(remote), c.placeOf(min(local, remote)), c.placeIn(remote))
	}
	for i, s := range c.Segments {
		a := s.Addr.Addr()
		if s.Kind != Broadcast || i >= len(c.where.segments) || local >= 0 && remote >= 0 {
			continue
		}
		for _, n := range s.Daemons {
			if d := c.Daemons[n].Addr.Addr(); d.IsValid() && (d.Is6() || d.IsLoopback() != a.IsLoopback()) {
				add(Error, c.where.segments[i], "write unicast as the address of the segment, or put the daemon in a segment of its own",
					"a packet to the broadcast address %s cannot reach daemon %q at %s", a, c.label(n), d)
				break
			}
		}
	}
	return out
}

// placeIn is the address by which daemon i is on this machine or on others: of a name that stands for several, one of another
// machine. A name without a daemon's name that stands for this machine alone may mean this daemon, and says nothing.
func (c *Config) placeIn(i int) netip.Addr {
	d := c.Daemons[i]
	for _, a := range d.Addrs {
		if !a.IsLoopback() {
			return a
		}
	}
	if len(d.Addrs) > 0 && d.Name != "" {
		return d.Addrs[0]
	}
	return d.Addr.Addr()
}

// checkInterfaces warns of a stanza that leaves the daemon unreachable.
func (c *Config) checkInterfaces(i int, add func(s Severity, pos lexer.Position, hint, format string, args ...any)) {
	d := c.Daemons[i]
	if len(d.Interfaces) == 0 {
		return
	}
	var client, traffic, reached bool
	for _, in := range d.Interfaces {
		client = client || in.Client
		traffic = traffic || in.DaemonTraffic
		reached = reached || in.DaemonTraffic && (!in.Addr.IsValid() || in.Addr.IsUnspecified() || in.Addr == d.Addr.Addr())
	}
	switch {
	case !traffic && len(c.Daemons) > 1:
		add(Error, c.daemonPlace(i), "give one address the letter D, or no letter", "no interface of daemon %q is for daemon traffic, so it could never join the others", c.label(i))
	case traffic && !reached:
		add(Warning, c.daemonPlace(i), "", "other daemons send to %s, which is not among the interfaces of daemon %q for daemon traffic", d.Addr.Addr(), c.label(i))
	}
	if !client {
		add(Warning, c.daemonPlace(i), "", "no interface of daemon %q is for clients: they can connect by its Unix sockets only", c.label(i))
	}
}

func (c *Config) daemonPlace(i int) lexer.Position {
	if i < len(c.where.daemons) {
		return c.where.daemons[i]
	}
	return lexer.Position{}
}

// placeOf is " (line 7)" where a daemon has a place in a file.
func (c *Config) placeOf(i int) string {
	if pos := c.daemonPlace(i); pos.Line > 0 {
		return fmt.Sprintf(" (line %d)", pos.Line)
	}
	return ""
}

// label is the name of a daemon in messages: its address where a peer has no name.
func (c *Config) label(i int) string {
	d := c.Daemons[i]
	switch {
	case d.Name != "":
		return d.Name
	case d.Host != "":
		return fmt.Sprintf("%s:%d", d.Host, d.Addr.Port())
	}
	return d.Addr.String()
}
