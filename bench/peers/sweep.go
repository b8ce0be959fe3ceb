// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"evensong/internal/proto/ring"
)

// A sweep over settings of our own finds out what the defaults leave on the table. Its short runs only choose: in each round
// every candidate that is left runs beside the system that it is compared with, in turn with it, and at each size the better
// half goes on. The best two of a size are then measured like everything else, from the beginning: to be chosen by luck
// helps nobody.

// finalists are as many candidates of each size as are measured in the end.
const finalists = 2

// Values of a list of choices, in place of a number: what a daemon does that is not told.
const (
	tuned  = "tuned"   // windows
	preset = "default" // packets
)

// choices are numbers in a list of a flag; zero for the word.
func choices(name, list, word string, low, high int) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		switch {
		case s == word:
			n = 0
		case err != nil || n < low || n > high:
			return nil, fmt.Errorf("-%s %s: want %s and numbers from %d to %d, separated by commas", name, s, word, low, high)
		}
		out = append(out, n)
	}
	return out, once(name, strings.Split(join(out, word), ","))
}

// join is what choices reads.
func join(list []int, word string) string {
	var out []string
	for _, n := range list {
		if n == 0 {
			out = append(out, word)
		} else {
			out = append(out, strconv.Itoa(n))
		}
	}
	return strings.Join(out, ",")
}

// sweptFlags are the flags that a sweep gives its candidates.
var sweptFlags = []string{"--window", "--personal-window", "--accelerated-window", "--packet-bytes"}

// setsSwept returns the first flag that a sweep would change, or nothing.
func setsSwept(flags []string) string {
	for _, f := range flags {
		name, _, _ := strings.Cut(f, "=")
		if slices.Contains(sweptFlags, name) {
			return name
		}
	}
	return ""
}

// candidates are evensong with the options of s, once for each pair of a window and a packet size. What would only repeat the
// defaults is left out.
func (o *options) candidates(s system) (list []system) {
	base := evensong + strings.TrimPrefix(s.text, evensongBest)
	defaults := ring.Config{}.WithDefaults()
	var packets []int
	for _, p := range o.packets {
		if p == defaults.PacketBytes {
			p = 0
		}
		if !slices.Contains(packets, p) {
			packets = append(packets, p)
		}
	}
	for _, w := range o.windows {
		for _, p := range packets {
			if w == 0 && p == 0 {
				continue
			}
			text := base
			if w > 0 { // the one of all is as large as where windows tune themselves, and the others are in their proportion
				text += fmt.Sprintf("+--window=%d+--personal-window=%d+--accelerated-window=%d", max(1024, w), w, max(1, w/2))
			}
			if p > 0 {
				text += fmt.Sprintf("+--packet-bytes=%d", p)
			}
			c, err := parseSystem(text)
			if err != nil { // the options were parsed before, and numbers checked
				panic(err)
			}
			list = append(list, c)
		}
	}
	return list
}

// entrant is a candidate at one size.
type entrant struct {
	s   system
	row row
}

// field are the candidates at one size; the first ones are left, the others in the order in which they went, last ones
// first.
type field struct {
	list []*entrant
	left int
}

// find returns the candidate, if it is left.
func (f *field) find(s system) *entrant {
	for _, e := range f.list[:f.left] {
		if e.s.text == s.text {
			return e
		}
	}
	return nil
}

// drop removes one that does not work.
func (f *field) drop(s system) {
	f.list = slices.DeleteFunc(f.list, func(e *entrant) bool { return e.s.text == s.text })
	f.left = min(f.left, len(f.list))
}

// halve ends a round.
func (f *field) halve() {
	slices.SortStableFunc(f.list[:f.left], func(a, b *entrant) int { return cmp.Compare(a.row.Median, b.row.Median) })
	f.left = min(f.left, max(finalists, (f.left+1)/2))
}

// tried are the rows of all that had a turn. Who is left lacks rounds only after an interrupt.
func (f *field) tried(rounds int) (rows []row) {
	for i, e := range f.list {
		if len(e.row.First) == 0 {
			continue
		}
		if i < f.left && len(e.row.First) < rounds {
			e.row.Wanted = rounds
		}
		rows = append(rows, e.row)
	}
	return rows
}

// rival compares a system with the best of our own settings at each size.
func (b *bench) rival(ctx context.Context, what, against system, n int) error {
	list := b.o.candidates(against)
	best, err := b.choose(ctx, what, list, n)
	if err != nil {
		return b.failed(ctx, err, fmt.Sprintf("%s : %s, %d nodes", what.text, against.text, n))
	}
	from := len(b.r.Rows)
	for _, s := range list {
		var sizes []int // those that have the same finalist share its daemons
		for _, bytes := range b.o.bytes {
			if slices.ContainsFunc(best[bytes], func(f system) bool { return f.text == s.text }) {
				sizes = append(sizes, bytes)
			}
		}
		if len(sizes) == 0 {
			continue
		}
		if err := b.compareSizes(ctx, what, s, n, sizes); err != nil {
			return err
		}
	}
	b.r.Verdicts = append(b.r.Verdicts, verdicts(b.r.Rows[from:], b.o.bytes, len(list))...)
	return nil
}

// verdicts are, of each size, the comparison with the best of the finalists.
func verdicts(rows []row, sizes []int, candidates int) (out []row) {
	for _, bytes := range sizes {
		var best *row
		for i := range rows {
			if r := &rows[i]; r.Bytes == bytes && r.Figure == rateFigure && (best == nil || r.Median < best.Median) {
				best = r
			}
		}
		if best != nil { // else it is among those that failed
			v := *best
			v.Figure = fmt.Sprintf("messages/s, first / best of %d settings", candidates)
			out = append(out, v)
		}
	}
	return out
}

// choose returns the finalists of each size.
func (b *bench) choose(ctx context.Context, what system, list []system, n int) (map[int][]system, error) {
	d := &duel{b: b, systems: [2]system{what}, nodes: [2]int{n, n}, prime: true, time: b.o.sweeps}
	defer d.stop()
	fields := map[int]*field{}
	defer func() { // what was tried is told also after an interrupt
		for _, bytes := range b.o.bytes {
			b.r.Tried = append(b.r.Tried, fields[bytes].tried(b.o.rounds)...)
		}
	}()
	for _, bytes := range b.o.bytes {
		f := &field{left: len(list)}
		for _, s := range list {
			f.list = append(f.list, &entrant{s: s})
		}
		fields[bytes] = f
	}
	sizes := slices.Sorted(slices.Values(b.o.bytes))
	slices.Reverse(sizes) // daemons that are used to long messages need not be primed for short ones
	for round := range b.o.rounds {
		for i := range list {
			s := list[i]
			if round%2 == 1 { // whoever came early comes late
				s = list[len(list)-1-i]
			}
			d.end(1)
			d.systems[1] = s
			for _, bytes := range sizes {
				e := fields[bytes].find(s)
				if e == nil {
					continue
				}
				b.p.Say("sweep, round %d of %d: %v, %d bytes", round+1, b.o.rounds, d, bytes)
				if err := d.short(ctx, e, bytes, (round+i)%2); ctx.Err() != nil {
					return nil, ctx.Err()
				} else if err != nil { // it does not hold together, or is too slow for the time
					b.p.Note("sweep: %v", err)
					b.r.Failed = append(b.r.Failed, fmt.Sprintf("sweep: %v, %d bytes", d, bytes))
					fields[bytes].drop(s)
				}
			}
		}
		for _, f := range fields {
			f.halve()
		}
	}
	best := map[int][]system{}
	for _, bytes := range b.o.bytes {
		f := fields[bytes]
		if len(f.list) == 0 {
			return nil, errors.New("sweep: no settings work; see the notes above, or try a longer -sweep-time")
		}
		for _, e := range f.list[:min(finalists, f.left)] {
			best[bytes] = append(best[bytes], e.s)
		}
	}
	return best, nil
}

// short is a candidate's turn in one round at one size.
func (d *duel) short(ctx context.Context, e *entrant, bytes, first int) error {
	var s [2]sample
	for k := range 2 {
		side := (first + k) % 2
		var err error
		if s[side], err = d.b.once(d, ctx, side, load, bytes, 0); err != nil {
			return err
		}
	}
	d.label(&e.row, bytes, rateFigure)
	e.row.First, e.row.Second = append(e.row.First, s[0].rate), append(e.row.Second, s[1].rate)
	e.row.ratio()
	return nil
}
