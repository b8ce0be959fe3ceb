// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// Result is the outcome of one run.
type Result struct {
	Seed       uint64
	Profile    string
	Violations []check.Violation
	Rules      []check.RuleReport
	Coverage   []check.Counter
	Counters   Counters
	History    []evs.Trace
}

// Repeat is the command that repeats the run.
func (r *Result) Repeat() string {
	return fmt.Sprintf("evensong sim --seed %d --profile %s --schedules 1", r.Seed, r.Profile)
}

// Failed reports whether a promise was broken.
func (r *Result) Failed() bool { return len(r.Violations) > 0 }

// Run runs the schedule that a seed makes of a profile and judges it. It is a function of its arguments.
func Run(seed uint64, profile string) (*Result, error) {
	var a Arena
	return a.Run(seed, profile)
}

// Arena is the memory of one run after another. A result's History is valid until the next run. The zero value is ready.
type Arena struct {
	// Unchecked leaves the invariants of nodes unchecked, so that an error is found by what it does, not by how it looks
	// inside: for proving the checkers with mutants.
	Unchecked bool

	history []evs.Trace
	events  []event
	free    []*datagram
	buffers [][]byte
	rooms   rooms
}

// Run is the function Run with memory that is used again.
func (a *Arena) Run(seed uint64, profile string) (*Result, error) {
	p, err := profileByName(profile)
	if err != nil {
		return nil, err
	}
	w := newWorld(seed)
	clear(a.history)
	w.history, w.events.heap, w.unchecked = a.history[:0], a.events[:0], a.Unchecked
	end := w.build(&p)
	w.net.free = a.free
	w.buffers, w.rooms = a.buffers, &a.rooms
	w.runUntil(end)
	if w.failure == nil && w.chance(p.asym) {
		w.guard(w.asymmetric)
	}
	if w.failure == nil && w.chance(0.3) {
		w.guard(w.rest)
	}
	if w.failure == nil && w.chance(0.05) {
		w.guard(w.deafen)
	}
	if w.failure == nil {
		w.guard(w.settle)
	}
	if w.failure == nil && len(w.live) == 0 && p.group {
		w.guard(w.finds)
	}
	if w.failure == nil && len(w.live) == 0 {
		w.runUntil(max(w.now, p.least))
	}
	r := w.judge()
	r.Seed, r.Profile = seed, profile
	clear(w.events.heap)
	for _, c := range w.clients {
		if c.conn != nil {
			w.buffers = append(w.buffers, c.conn.toClient[:0])
		}
		if c.rbuf != nil {
			w.buffers = append(w.buffers, c.rbuf[:0])
		}
	}
	a.history, a.events, a.free, a.buffers = w.history, w.events.heap, w.net.free, w.buffers
	return r, nil
}

// judge has the history checked.
func (w *World) judge() *Result {
	h := check.History{
		Records: w.history, Quiescent: w.failure == nil && len(w.live) == 0, Volatile: map[string]bool{},
		TokenTimeout: int64(w.ring.TokenTimeout), MaxPrivateName: frame.MaxPrivateName, MaxGroupName: frame.MaxGroupName,
	}
	for _, host := range w.hosts {
		h.Lossy = h.Lossy || host.slow.policy == session.PolicyDrop
		if !host.stable {
			h.Volatile[host.name] = true
		}
	}
	rep := check.Check(&h)
	for _, host := range w.hosts {
		host.countSlow()
	}
	w.stats.Virtual, w.stats.Records = w.now, len(w.history)
	w.stats.Datagrams, w.stats.Lost = w.net.sent, w.net.lost+w.net.cutOff
	res := &Result{Rules: rep.Rules, Coverage: rep.Coverage, Counters: w.stats, History: w.history}
	if w.failure != nil {
		res.Violations = append(res.Violations, *w.failure)
	}
	res.Violations = append(res.Violations, w.live...)
	res.Rules = append(res.Rules, w.liveness(res.Violations)...)
	res.Violations = append(res.Violations, rep.Violations...)
	return res
}

// liveness reports the rules that the simulator judges itself.
func (w *World) liveness(found []check.Violation) []check.RuleReport {
	rules := []check.RuleReport{
		{Rule: "LIVE-1", Title: "convergence, and merge without traffic (LIVE-4)", Antecedents: int64(w.stats.Settled)},
		{Rule: "LIVE-2", Title: "multicast", Antecedents: int64(len(w.final.list))},
		{Rule: "LIVE-3", Title: "detection", Antecedents: int64(w.stats.Rested)},
		{Rule: "LIVE-5", Title: "no livelock behind a lasting cut", Antecedents: int64(w.stats.Faults[lastingCut])},
		{Rule: "LIVE-6", Title: "who cannot receive is left out", Antecedents: int64(w.stats.Faults[dataLost])},
		{Rule: "LIVE-7", Title: "recovery terminates", Antecedents: int64(w.stats.Settled)},
		{Rule: "LIVE-9", Title: "no packet storm", Antecedents: 1},
		{Rule: "LIVE-10", Title: "the group address is used where it reaches everybody", Antecedents: int64(w.net.grouped)},
	}
	for i := range rules {
		r := &rules[i]
		for _, v := range found {
			if v.Rule == r.Rule {
				r.Violations++
			}
		}
		switch {
		case r.Violations > 0:
			r.Verdict = check.Violated
		case r.Antecedents > 0:
			r.Verdict = check.OK
		default:
			r.Verdict = check.Untested
		}
	}
	return rules
}

// WriteHistory writes a history, one record per line.
func WriteHistory(out io.Writer, records []evs.Trace) error {
	b := bufio.NewWriter(out)
	for i := range records {
		fmt.Fprintf(b, "%12d %s\n", records[i].At, check.Describe(&records[i]))
	}
	return b.Flush()
}

// Hash is a fingerprint of a history: equal for equal histories only.
func Hash(records []evs.Trace) string {
	h := sha256.New()
	_ = WriteHistory(h, records) // writing to a hash cannot fail
	return hex.EncodeToString(h.Sum(nil)[:16])
}
