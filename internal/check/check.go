// SPDX-License-Identifier: Apache-2.0

// Package check judges histories: it knows the guarantees of docs/guarantees.md (sections 3, 4, 5 and 7) and nothing of
// the code that is meant to keep them. The simulator runs it after every run, the real-cluster harness over merged
// trace files.
//
// A history is a list of evs.Trace records in which the records of each process, and those of each session, keep their
// own order. Nothing else is assumed about the order of the list: safety is decided without a global clock. (The order
// of incarnations of one name, and of sessions that share a name, is taken from Step, then At, then the place in the
// list; so either all times of a history are of one clock, or they are zero.) A history may hold daemon-level records only,
// session-level records only, or both.
//
// Every rule is a checker of its own with a verdict of its own:
//
//	ok              the rule's antecedent occurred and nothing broke it
//	VIOLATED        with the few records that prove it
//	untested        nothing in the history could have broken the rule; this is not a pass
//	not applicable  the history lacks the kind of record that the rule speaks of
//
// A property that is still pending when the history ends is held against it only if History.Quiescent says that the
// run ended in a quiet tail long enough for everything to finish (guarantees, section 2).
package check

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// History is what a run wrote down, and what the reader must know about the run. Check does not change it and keeps
// references to its records in the violations it returns.
type History struct {
	// Records of all processes and sessions; each process's and each session's records are in its own order.
	Records []evs.Trace

	// Quiescent says that the run ended with faults off, every pair of live daemons connected, and time for all that
	// was pending to be done, clients' reading included. Then pending counts as violated, and the end of the history is
	// treated like a common next configuration (EVS-9, EVS-10) and a common next view (GRP-6, GRP-7).
	Quiescent bool

	// Volatile holds the names of daemons that run without a state directory; "*" stands for all. They are exempt from
	// the clauses of EVS-8 and EVS-18 that need stable storage; monotonicity binds each incarnation alone.
	Volatile map[string]bool

	// Lossy says that daemons may leave out Unreliable messages for sessions that read too slowly. They are bound by no rule
	// then (M-8); else the checkers hold them to what Reliable promises, as all daemons order them alike.
	Lossy bool

	// TokenTimeout in nanoseconds lets the report count restarts that happened inside it. Zero: not counted.
	TokenTimeout int64

	// MaxPrivateName and MaxGroupName in bytes are the limits at the edge (GRP-15). Zero: not checked.
	MaxPrivateName, MaxGroupName int
}

// Verdict is what a report says about one rule.
type Verdict uint8

// The verdicts; see the package comment.
const (
	OK Verdict = iota + 1
	Violated
	Untested
	NotApplicable
)

// String is the word that reports use.
func (v Verdict) String() string {
	switch v {
	case OK:
		return "ok"
	case Violated:
		return "VIOLATED"
	case Untested:
		return "untested"
	case NotApplicable:
		return "not applicable"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// Violation is one broken promise with its proof.
type Violation struct {
	Rule   string
	Text   string
	Window []evs.Trace // the fewest records that show it, each process's in its own order
}

// String is "rule: text" without the window.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// RuleReport is the outcome of one checker.
type RuleReport struct {
	Rule        string
	Title       string
	Verdict     Verdict
	Antecedents int64 // how often the rule's condition occurred
	Violations  int64 // all found; at most maxViolationsPerRule of them are listed
	Needs       string
}

// Counter is a named coverage count.
type Counter struct {
	Name  string
	Count int64
}

// Report is the outcome of Check: every rule in the order of the guarantees, the violations in the same order, and how
// often the interesting things happened.
type Report struct {
	Records    int
	Rules      []RuleReport
	Violations []Violation
	Coverage   []Counter
}

// maxViolationsPerRule bounds a report: one broken rule usually breaks at thousands of places, and the first few tell
// the story. All of them are counted.
const maxViolationsPerRule = 8

// OK reports whether no rule is violated. Untested rules do not make a report bad.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// Untested lists the rules whose antecedent never occurred.
func (r *Report) Untested() []string { return r.with(Untested) }

// Violated lists the rules that are violated.
func (r *Report) Violated() []string { return r.with(Violated) }

func (r *Report) with(v Verdict) []string {
	var out []string
	for i := range r.Rules {
		if r.Rules[i].Verdict == v {
			out = append(out, r.Rules[i].Rule)
		}
	}
	return out
}

// Rule is the outcome for one rule by its name; the zero value if there is no such rule.
func (r *Report) Rule(name string) RuleReport {
	for i := range r.Rules {
		if r.Rules[i].Rule == name {
			return r.Rules[i]
		}
	}
	return RuleReport{}
}

// Count is the value of a coverage counter by its name, zero if there is none.
func (r *Report) Count(name string) int64 {
	for _, c := range r.Coverage {
		if c.Name == name {
			return c.Count
		}
	}
	return 0
}

// need says which records a checker cannot do without.
type need uint8

const (
	needNothing need = iota
	needConfs
	needTokens
	needSessions
	needViews
	needQuietSessions
	needVS
)

var needText = [...]string{
	needNothing: "", needConfs: "daemon-level records", needTokens: "token records", needSessions: "session-level records",
	needViews: "views in session-level records", needQuietSessions: "session-level records and a quiescent end",
	needVS: "view-synchrony records",
}

// rule is one checker.
type rule struct {
	name, title string
	needs       need
	check       func(*index, *sink)
}

// rules in the order of the guarantees. GRP-17 compares two histories and is Fairness; the LIVE rules and VS-8 take
// bounds and are functions of their own (live.go, FlushBounded).
var rules = []rule{
	{"TRACE", "the history is well formed", needNothing, checkTrace},
	{"EVS-1", "integrity", needConfs, checkEVS1},
	{"EVS-2", "no duplication", needConfs, checkEVS2},
	{"EVS-3", "delivery configuration", needConfs, checkEVS3},
	{"EVS-4", "self-inclusion", needConfs, checkEVS4},
	{"EVS-5", "configuration agreement and uniqueness", needConfs, checkEVS5},
	{"EVS-6", "alternation", needConfs, checkEVS6},
	{"EVS-7", "transitional membership", needConfs, checkEVS7},
	{"EVS-8", "monotonic identifiers", needConfs, checkEVS8},
	{"EVS-9", "self-delivery", needConfs, checkEVS9},
	{"EVS-10", "virtual synchrony", needConfs, checkEVS10},
	{"EVS-11", "FIFO", needConfs, checkEVS11},
	{"EVS-12", "causal", needConfs, checkEVS12},
	{"EVS-13", "agreed: one total order", needConfs, checkEVS13},
	{"EVS-14", "agreed: no gaps", needConfs, checkEVS14},
	{"EVS-15", "safe", needConfs, checkEVS15},
	{"EVS-16", "safe needs installation", needConfs, checkEVS16},
	{"EVS-17", "the signal is exact", needConfs, checkEVS17},
	{"EVS-18", "restart", needConfs, checkEVS18},
	{"EVS-19", "prefix", needConfs, checkEVS19},
	{"EVS-20", "token discipline", needTokens, checkEVS20},
	{"PC-7", "primary configurations", needConfs, checkPC7},
	{"GRP-1", "self-inclusion", needViews, checkGRP1},
	{"GRP-2", "view agreement", needViews, checkGRP2},
	{"GRP-3", "view identifiers", needViews, checkGRP3},
	{"GRP-4", "views are ordered with messages", needViews, checkGRP4},
	{"GRP-5", "VS sets", needViews, checkGRP5},
	{"GRP-6", "same messages", needViews, checkGRP6},
	{"GRP-7", "signal", needViews, checkGRP7},
	{"GRP-8", "integrity, no duplication, no foreign delivery", needSessions, checkGRP8},
	{"GRP-9", "session FIFO and total order across groups", needSessions, checkGRP9},
	{"GRP-10", "prefix on disconnect", needSessions, checkGRP10},
	{"GRP-11", "leave is final", needSessions, checkGRP11},
	{"GRP-12", "no ghosts", needQuietSessions, checkGRP12},
	{"GRP-13", "open groups", needSessions, checkGRP13},
	{"GRP-14", "state before data", needViews, checkGRP14},
	{"GRP-15", "names", needSessions, checkGRP15},
	{"GRP-16", "no message skipped for a session that stays", needSessions, checkGRP16},
	{"GRP-18", "self-discard changes who receives only", needSessions, checkGRP18},
	{"VS-1", "sending view delivery", needVS, checkVS1},
	{"VS-2", "same set", needVS, checkVS2},
	{"VS-3", "permission", needVS, checkVS3},
	{"VS-4", "no send between flush and view", needVS, checkVS4},
	{"VS-5", "insulation", needVS, checkVS5},
	{"VS-6", "self-delivery and self-inclusion", needVS, checkVS6},
	{"VS-7", "transitional set", needVS, checkVS7},
	{"VS-9", "which pending views are installed", needVS, checkVS9},
}

// RuleNames lists the checkers that Check runs, in order.
func RuleNames() []string {
	out := make([]string, len(rules))
	for i := range rules {
		out[i] = rules[i].name
	}
	return out
}

// Check judges a history by every rule. Its time is linear in the number of records, apart from the search for a short
// explanation once something is wrong.
func Check(h *History) *Report {
	x := newIndex(h)
	rep := &Report{Records: len(h.Records)}
	for i := range rules {
		rl := &rules[i]
		rr := RuleReport{Rule: rl.name, Title: rl.title, Needs: needText[rl.needs]}
		if !x.has(rl.needs) {
			rr.Verdict = NotApplicable
			rep.Rules = append(rep.Rules, rr)
			continue
		}
		s := &sink{rule: &rr, report: rep}
		rl.check(x, s)
		switch {
		case rr.Violations > 0:
			rr.Verdict = Violated
		case rr.Antecedents > 0:
			rr.Verdict = OK
		default:
			rr.Verdict = Untested
		}
		rep.Rules = append(rep.Rules, rr)
	}
	rep.Coverage = x.coverage()
	return rep
}

// sink takes what a checker finds.
type sink struct {
	rule   *RuleReport
	report *Report
}

// seen counts occurrences of the rule's antecedent.
func (s *sink) seen(n int) { s.rule.Antecedents += int64(n) }

// full reports whether further violations would only be counted, so that the search for an explanation can be left out.
func (s *sink) full() bool { return s.rule.Violations >= maxViolationsPerRule }

// fail notes a violation.
func (s *sink) fail(window []evs.Trace, format string, args ...any) {
	s.rule.Violations++
	if s.rule.Violations > maxViolationsPerRule {
		return
	}
	s.report.Violations = append(s.report.Violations, Violation{Rule: s.rule.Rule, Text: fmt.Sprintf(format, args...), Window: window})
}
