// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"evensong/internal/proto/evs"
)

// The liveness rules take bounds, so they are functions and not part of Check. They read the At times of the records,
// in nanoseconds of one clock: virtual time, or the monotonic clock of one machine. All need daemon-level records.

// Converged is LIVE-1: from time stable on the daemons of set are well connected among themselves; by stable+bound all of
// them have the same regular configuration with exactly these members, and keep it to the end of the history.
func Converged(h *History, set []evs.ProcID, stable, bound int64) []Violation {
	return converged("LIVE-1", h, set, stable, bound)
}

// Merged is LIVE-4: idle components that become connected at a time find each other by connected+bound without traffic of
// clients. A send of any of them between the two makes the history prove nothing, and is reported as such.
func Merged(h *History, set []evs.ProcID, connected, bound int64) []Violation {
	for i := range h.Records {
		t := &h.Records[i]
		if t.Kind == evs.TraceMulticast && t.At >= connected && t.At <= connected+bound && slices.Contains(set, t.Proc) {
			return []Violation{{Rule: "LIVE-4", Text: "the components are not idle: a client sent while they were to find each other", Window: []evs.Trace{*t}}}
		}
	}
	return converged("LIVE-4", h, set, connected, bound)
}

func converged(rule string, h *History, set []evs.ProcID, stable, bound int64) []Violation {
	var out []Violation
	last := map[evs.ProcID]int{} // record + 1 of the last installation
	for i := range h.Records {
		if t := &h.Records[i]; t.Kind == evs.TraceConf {
			last[t.Proc] = i + 1
		}
	}
	want := slices.SortedFunc(slices.Values(set), evs.ProcID.Compare)
	for _, p := range want {
		i := last[p] - 1
		if i < 0 {
			out = append(out, Violation{Rule: rule, Text: fmt.Sprintf("%s never installs a configuration", p)})
			continue
		}
		t := &h.Records[i]
		w := []evs.Trace{*t}
		switch {
		case t.Conf.Kind != evs.Regular:
			out = append(out, Violation{rule, fmt.Sprintf("%s ends in a transitional configuration", p), w})
		case !slices.Equal(slices.SortedFunc(slices.Values(t.Members), evs.ProcID.Compare), want):
			out = append(out, Violation{rule, fmt.Sprintf("%s ends in a configuration of %v; connected are %v", p, t.Members, want), w})
		case t.At > stable+bound:
			out = append(out, Violation{rule, fmt.Sprintf("%s installs its last configuration %d ns after all was stable; the bound is %d", p, t.At-stable, bound), w})
		case t.Conf != h.Records[max(last[want[0]]-1, 0)].Conf:
			out = append(out, Violation{rule, fmt.Sprintf("%s and %s end in different configurations of the same members", p, want[0]), []evs.Trace{h.Records[max(last[want[0]]-1, 0)], *t}})
		}
	}
	return out
}

// Delivered is LIVE-2: every message sent from time on in a configuration that lasts to the end of the history is
// delivered by all its members within a bound, Safe messages within safeBound, all others within bound. Messages sent so
// late that the history ends before their bound are not judged; end is the time at which the history ends.
func Delivered(h *History, from, end, bound, safeBound int64) []Violation {
	x := newIndex(h)
	var out []Violation
	for r := range x.rings {
		rg := &x.rings[r]
		c := &x.confs[rg.conf]
		if c.rec < 0 {
			continue
		}
		lasts := true
		for _, q := range c.members {
			s := x.stayOn(int32(r), q)
			lasts = lasts && s >= 0 && x.stays[s].end == int32(len(x.procs[q].events)) && x.stays[s].trans < 0 && !x.procs[q].dead
		}
		if !lasts {
			continue
		}
		for _, mi := range rg.msgs {
			m := &x.msgs[mi]
			if m.send < 0 {
				continue
			}
			sent := x.recs[m.send].At
			limit := bound
			if m.service == evs.Safe {
				limit = safeBound
			}
			if sent < from || sent+limit > end {
				continue
			}
			for _, q := range c.members {
				st := &x.stays[x.stayOn(int32(r), q)]
				if !st.has(m.ord) {
					out = append(out, Violation{"LIVE-2", fmt.Sprintf("%s does not deliver %s within %d ns, or ever", x.name(q), x.msgText(mi), limit), x.window(m.send)})
				} else if rec := x.rec(q, st.pos[m.ord]-1); x.recs[rec].At-sent > limit {
					out = append(out, Violation{"LIVE-2", fmt.Sprintf("%s delivers %s after %d ns; the bound is %d", x.name(q), x.msgText(mi), x.recs[rec].At-sent, limit), x.window(m.send, rec)})
				}
			}
		}
	}
	return out
}

// NoLivelock is LIVE-5: from time constant on reachability does not change, symmetric and transitive or not. After it
// each of the daemons installs at most maxConfs regular configurations (guarantees: 2n), and ends in one whose members
// reach each other in both directions.
func NoLivelock(h *History, daemons []evs.ProcID, constant int64, maxConfs int, reach func(from, to evs.ProcID) bool) []Violation {
	var out []Violation
	count := map[evs.ProcID]int{}
	last := map[evs.ProcID]*evs.Trace{}
	for i := range h.Records {
		t := &h.Records[i]
		if t.Kind != evs.TraceConf || t.Conf.Kind != evs.Regular {
			continue
		}
		last[t.Proc] = t
		if t.At > constant {
			count[t.Proc]++
		}
	}
	for _, p := range daemons {
		t := last[p]
		if t == nil {
			out = append(out, Violation{Rule: "LIVE-5", Text: fmt.Sprintf("%s never installs a configuration", p)})
			continue
		}
		if n := count[p]; n > maxConfs {
			out = append(out, Violation{"LIVE-5", fmt.Sprintf("%s installs %d configurations after all was constant; the bound is %d", p, n, maxConfs), []evs.Trace{*t}})
		}
		for i, a := range t.Members {
			for _, b := range t.Members[i+1:] {
				if !reach(a, b) || !reach(b, a) {
					out = append(out, Violation{"LIVE-5", fmt.Sprintf("%s ends in a configuration in which %s and %s do not reach each other", p, a, b), []evs.Trace{*t}})
				}
			}
		}
	}
	return out
}

// Load is what one history shows of some sessions: how many messages they sent and got, in which time, and how long
// messages took from their sender to them.
type Load struct {
	Sent, Received int
	Span           int64 // nanoseconds from the first to the last of these records
	P99            int64 // nanoseconds from TraceMulticast to TraceClientMsg of messages between these sessions
}

// Rate is messages sent and received per second.
func (l Load) Rate() float64 {
	if l.Span <= 0 {
		return 0
	}
	return float64(l.Sent+l.Received) / (float64(l.Span) / 1e9)
}

// MeasureLoad reads the Load of the sessions that of selects.
func MeasureLoad(h *History, of func(evs.SessionID) bool) Load {
	var l Load
	sent := map[uint64]int64{}
	first, last := int64(-1), int64(-1)
	for pass := range 2 { // the list need not have a message's multicast before its receipts
		var took []int64
		for i := range h.Records {
			t := &h.Records[i]
			if t.Kind != evs.TraceMulticast && t.Kind != evs.TraceClientMsg || !of(t.Session) {
				continue
			}
			switch {
			case pass == 0 && t.Kind == evs.TraceMulticast:
				sent[t.Digest] = t.At
				l.Sent++
			case pass == 1 && t.Kind == evs.TraceClientMsg:
				l.Received++
				if at, ok := sent[t.Digest]; ok {
					took = append(took, t.At-at)
				}
			}
			if first < 0 || t.At < first {
				first = t.At
			}
			last = max(last, t.At)
		}
		if len(took) > 0 {
			slices.Sort(took)
			l.P99 = took[(len(took)*99-1)/100]
		}
	}
	l.Span = last - first
	return l
}

// The bounds of GRP-17: what the sessions beside an ill-behaved one must keep.
const (
	fairRate    = 0.9 // of their rate without it
	fairLatency = 2   // times their p99 latency without it
)

// Fairness is GRP-17: it compares the well-behaved sessions (those that of selects) in a run with an ill-behaved session
// on their daemon to a run without it. share is the part of the capacity that is fairly theirs in the run with it, 1 if
// the ill-behaved session takes no capacity (it does not read, or only opens and closes).
func Fairness(without, with *History, of func(evs.SessionID) bool, share float64) []Violation {
	a, b := MeasureLoad(without, of), MeasureLoad(with, of)
	var out []Violation
	if a.Received == 0 {
		return []Violation{{Rule: "GRP-17", Text: "the run without the ill-behaved session has no messages to compare with"}}
	}
	if want := a.Rate() * share * fairRate; b.Rate() < want {
		out = append(out, Violation{Rule: "GRP-17", Text: fmt.Sprintf("the other sessions reach %.0f messages/s; they must keep %.0f", b.Rate(), want)})
	}
	if b.P99 > fairLatency*a.P99 {
		out = append(out, Violation{Rule: "GRP-17", Text: fmt.Sprintf("the p99 latency of the other sessions grows from %d to %d ns", a.P99, b.P99)})
	}
	return out
}
