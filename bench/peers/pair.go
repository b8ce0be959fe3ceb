// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"evensong/bench/run"
)

// bench is one run of this program.
type bench struct {
	o       *options
	dir     string
	p       *run.Progress
	r       result
	started int // clusters
	// once measures a side of a duel once; it is the method of that name, but in tests.
	once func(d *duel, ctx context.Context, side int, way string, bytes int, rate float64) (sample, error)

	bests map[[2]int]system // of the sweeps, by nodes and bytes
}

// members is how many there are on n nodes.
func (b *bench) members(n int) int { return max(n, b.o.members) }

// sample is what one run of one system gave. Times are microseconds; what was not measured is zero.
type sample struct {
	rate     float64 // messages per second and receiver, the mean of all
	cpu      float64 // of daemons and members, per delivery
	daemons  float64 // the daemons' part of it
	p50, p99 float64 // of own messages: the mean of the members' medians, the worst of their 99th percentiles
	core     float64 // of all daemons, in percent of one core
	memory   float64 // MiB of the largest daemon: at present if idle, else at most
	lost     float64 // share of what was sent
}

// rateFigure is the one of rates.
const rateFigure = "messages/s per receiver"

// figures are those of a sample that a way of sending is about.
var figures = map[string][]struct {
	name string
	of   func(sample) float64
}{
	load: {
		{rateFigure, func(s sample) float64 { return s.rate }},
		{"CPU µs per delivery", func(s sample) float64 { return s.cpu }},
		{"... of which daemons", func(s sample) float64 { return s.daemons }},
		{"under load, p50 µs", func(s sample) float64 { return s.p50 }},
		{"under load, p99 µs", func(s sample) float64 { return s.p99 }},
		{"largest daemon at most, MiB", func(s sample) float64 { return s.memory }},
	},
	idle: {
		{"idle, all daemons, % of a core", func(s sample) float64 { return s.core }},
		{"idle, largest daemon, MiB", func(s sample) float64 { return s.memory }},
	},
	ping: {
		{"one in flight, p50 µs", func(s sample) float64 { return s.p50 }},
		{"one in flight, p99 µs", func(s sample) float64 { return s.p99 }},
	},
	low: {
		{"low rate, p50 µs", func(s sample) float64 { return s.p50 }},
		{"low rate, p99 µs", func(s sample) float64 { return s.p99 }},
		{"low rate, CPU µs per delivery", func(s sample) float64 { return s.cpu }},
	},
	half: {
		{"half of the second's rate, p50 µs", func(s sample) float64 { return s.p50 }},
		{"half of the second's rate, p99 µs", func(s sample) float64 { return s.p99 }},
		{"half of the second's rate, CPU µs per delivery", func(s sample) float64 { return s.cpu }},
	},
}

// errNothing says that a run was too short for the state of the machine.
var errNothing = errors.New("nothing of its own was delivered")

// tries is how often a pair is begun again, with new daemons, before the run gives up.
const tries = 3

// primeTime is how long daemons have to be under load until their memory and their windows are what they will be: on two
// busy cores four new ones carried a quarter of their later rate at 65000 bytes in the first third of a second.
const primeTime = time.Second

// compare measures two systems on n nodes.
func (b *bench) compare(ctx context.Context, what, against system, n int) error {
	switch against.name {
	case corosync:
	case evensongBest:
		return b.rival(ctx, what, against, n)
	default:
		return b.compareSizes(ctx, what, against, n, b.o.bytes)
	}
	if err := b.sweep(ctx, n); err != nil {
		return err
	}
	// Sizes that have the same best share its daemons.
	done := map[string]bool{}
	for _, bytes := range b.o.bytes {
		best := b.bests[[2]int{n, bytes}]
		if best.text == "" {
			err := errors.New("sweep: no settings of corosync work; see the notes above")
			if err := b.failed(ctx, err, fmt.Sprintf("%s : %s, %d nodes, %d bytes", what.text, against.text, n, bytes)); err != nil {
				return err
			}
			continue
		}
		if done[best.text] {
			continue
		}
		done[best.text] = true
		var sizes []int
		for _, other := range b.o.bytes {
			if b.bests[[2]int{n, other}].text == best.text {
				sizes = append(sizes, other)
			}
		}
		if err := b.compareSizes(ctx, what, best, n, sizes); err != nil {
			return err
		}
	}
	return nil
}

// duel is two systems that are measured in turn.
type duel struct {
	b        *bench
	systems  [2]system
	nodes    [2]int
	alone    bool          // the one that is not measured does not run; else both run beside each other
	prime    bool          // what was started first has a load that does not count: for sides that are not started at the same time
	time     time.Duration // of each run
	clusters [2]*cluster
}

// String names the two, with their nodes.
func (d *duel) String() string {
	return fmt.Sprintf("%s : %s, %s nodes", d.systems[0].text, d.systems[1].text, versus(d.nodes[0], d.nodes[1]))
}

// start starts what has to run while a side is measured, and does not run yet.
func (d *duel) start(ctx context.Context, side int) error {
	if d.alone {
		d.end(1 - side)
	}
	for i, s := range d.systems {
		if d.clusters[i] != nil || d.alone && i != side {
			continue
		}
		d.b.p.Say("starting %s on %d nodes", s.text, d.nodes[i])
		var err error
		if d.clusters[i], err = d.b.start(ctx, s, d.nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *duel) end(side int) {
	d.clusters[side].stop()
	d.clusters[side] = nil
}

func (d *duel) stop() {
	d.end(0)
	d.end(1)
}

func (b *bench) compareSizes(ctx context.Context, what, against system, n int, sizes []int) error {
	return b.duel(ctx, &duel{b: b, systems: [2]system{what, against}, nodes: [2]int{n, n}, time: b.o.time}, sizes)
}

// duel measures sizes one after the other.
func (b *bench) duel(ctx context.Context, d *duel, sizes []int) error {
	defer d.stop()
	for _, bytes := range sizes {
		err := d.compare(ctx, bytes)
		if err := b.failed(ctx, err, fmt.Sprintf("%v, %d bytes", d, bytes)); err != nil {
			return err
		}
	}
	return nil
}

// failed notes what could not be measured, if err is not nil: what else is measured is still worth something. After an interrupt
// it is the error of ctx.
func (b *bench) failed(ctx context.Context, err error, what string) error {
	if err != nil && ctx.Err() == nil {
		b.p.Note("%v", err)
		b.r.Failed = append(b.r.Failed, what)
	}
	return ctx.Err()
}

// compare measures one size.
func (d *duel) compare(ctx context.Context, bytes int) error {
	b := d.b
	var most []float64 // what the second one carries
	for _, way := range b.o.measures {
		var rates [2]float64 // of each member of a side, for those ways that need one
		switch way {
		case low:
			rates = [2]float64{b.o.low, b.o.low}
		case half:
			if most == nil {
				s, err := b.once(d, ctx, 1, load, bytes, 0)
				if err != nil {
					return err
				}
				most = []float64{s.rate}
			}
			for side := range rates {
				rates[side] = run.Median(most) / 2
				if !b.o.one {
					rates[side] /= float64(b.members(d.nodes[side]))
				}
			}
		}
		rows := make([]row, len(figures[way]))
		for i := range rows {
			d.label(&rows[i], bytes, figures[way][i].name)
		}
		for i := range b.o.pairs {
			b.p.Say("%v, %d bytes, %s, pair %d of %d", d, bytes, way, i+1, b.o.pairs)
			var s [2]sample
			for k := range 2 {
				side := (i + k) % 2 // each is first in turn
				var err error
				if s[side], err = b.once(d, ctx, side, way, bytes, rates[side]); err != nil {
					if ctx.Err() != nil { // the pairs before this one are as good as ever
						b.keep(rows, i)
					}
					return err
				}
			}
			if way == load {
				most = append(most, s[1].rate)
			}
			for k, f := range figures[way] {
				rows[k].First = append(rows[k].First, f.of(s[0]))
				rows[k].Second = append(rows[k].Second, f.of(s[1]))
			}
			for k := range s {
				if s[k].lost > 0.01 {
					b.p.Note("%s lost %.0f %% of what was sent", d.systems[k].text, 100*s[k].lost)
				}
			}
		}
		b.keep(rows, b.o.pairs)
	}
	return nil
}

// keep takes the figures of as many pairs as are complete into the result.
func (b *bench) keep(rows []row, complete int) {
	if complete == 0 {
		return
	}
	for _, r := range rows {
		if slices.Max(r.First) == 0 || slices.Max(r.Second) == 0 {
			continue // raw sockets have no daemons
		}
		if complete < b.o.pairs {
			r.Wanted = b.o.pairs
		}
		r.ratio()
		b.r.Rows = append(b.r.Rows, r)
	}
}

// label says what a row is about.
func (d *duel) label(r *row, bytes int, figure string) {
	r.Nodes, r.Bytes, r.What, r.Against, r.Figure = d.nodes[0], bytes, d.systems[0].text, d.systems[1].text, figure
	if d.nodes[1] != d.nodes[0] {
		r.AgainstNodes = d.nodes[1]
	}
}

// once runs one side, again and with new daemons if nothing came through or the configuration changed, which on a busy
// machine happens: a daemon was not scheduled for as long as a token timeout.
func (d *duel) once(ctx context.Context, side int, way string, bytes int, rate float64) (sample, error) {
	for try := 1; ; try++ {
		err := d.start(ctx, side)
		var s sample
		if c := d.clusters[side]; err == nil && d.prime && way != idle && c.primed < bytes {
			c.primed = bytes
			_, err = d.b.run(ctx, c, d.systems[side].service, load, bytes, 0, primeTime)
		}
		if err == nil {
			s, err = d.b.run(ctx, d.clusters[side], d.systems[side].service, way, bytes, rate, d.time)
		}
		if err == nil {
			return s, nil
		}
		err = fmt.Errorf("%s, %d nodes, %d bytes, %s: %w%s", d.systems[side].text, d.nodes[side], bytes, way, err, d.clusters[side].lastWords())
		d.stop()
		if ctx.Err() != nil || try == tries || !errors.Is(err, run.ErrChanged) && !errors.Is(err, errNothing) {
			return s, err
		}
		d.b.p.Note("once more: %v", err)
	}
}

// run measures a cluster once.
func (b *bench) run(ctx context.Context, c *cluster, service, way string, bytes int, rate float64, length time.Duration) (s sample, err error) {
	if way == idle {
		if err := run.Pause(ctx, b.o.warm); err != nil {
			return s, err
		}
		before := used(c.daemons)
		if err := run.Pause(ctx, length); err != nil {
			return s, err
		}
		s.core = 100 * (used(c.daemons) - before).Seconds() / length.Seconds()
		s.memory = largest(c.daemons, "VmRSS")
		return s, nil
	}
	senders, alone := c.members, "together"
	if b.o.one {
		senders, alone = senders[:1], "alone"
	}
	var order string
	switch way {
	case load:
		order = fmt.Sprintf("send %s %d %d %d %s", service, bytes, b.o.window, b.o.lead, alone)
	case ping:
		order = fmt.Sprintf("send %s %d 1 %d alone", service, bytes, b.o.lead)
		senders = senders[:1]
	default:
		order = fmt.Sprintf("pace %s %d %f", service, bytes, rate)
	}
	if _, err := all(ctx, senders, order); err != nil {
		return s, err
	}
	if err := run.Pause(ctx, b.o.warm); err != nil {
		return s, err
	}
	if _, err := all(ctx, c.members, "mark"); err != nil {
		return s, err
	}
	daemons, members := used(c.daemons), used(c.members)
	if err := run.Pause(ctx, length); err != nil {
		return s, err
	}
	daemons, members = used(c.daemons)-daemons, used(c.members)-members
	answers, err := all(ctx, c.members, "report")
	if err != nil {
		return s, err
	}
	if _, err := all(ctx, senders, "stop"); err != nil {
		return s, err
	}
	var received, lost float64
	for i, a := range answers {
		var r run.Report
		if err := json.Unmarshal([]byte(a), &r); err != nil {
			return s, fmt.Errorf("%s: %q: %w", c.members[i].Name, a, err)
		}
		s.rate += float64(r.Received) / r.Seconds / float64(len(answers))
		received += float64(r.Received)
		lost += float64(r.Lost)
		if i < len(senders) {
			if r.Own == 0 {
				return s, fmt.Errorf("%s: %w", c.members[i].Name, errNothing)
			}
			s.p50 += r.P50 / float64(len(senders))
			s.p99 = max(s.p99, r.P99)
		}
	}
	s.daemons = daemons.Seconds() * 1e6 / received
	s.cpu = s.daemons + members.Seconds()*1e6/received
	s.lost = lost / (received + lost)
	s.memory = largest(c.daemons, "VmHWM")
	return s, nil
}

// all asks each member the same and returns the answers.
func all(ctx context.Context, members []*run.Child, command string) ([]string, error) {
	for _, m := range members {
		if err := m.Tell(command); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, m := range members {
		answer, err := m.Ask(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Fields(command)[0], err)
		}
		out = append(out, answer)
	}
	return out, nil
}

// used is user and system time of processes since they started.
func used(list []*run.Child) (t time.Duration) {
	for _, k := range list {
		t += run.ProcessTime(k.PID())
	}
	return t
}

// largest is the most memory of one of some processes, in MiB, by its name in /proc.
func largest(list []*run.Child, name string) (most float64) {
	for _, k := range list {
		most = max(most, run.ProcessMemory(k.PID(), name))
	}
	return most
}

// sweep finds the best settings of corosync for each size, for which there may be none.
func (b *bench) sweep(ctx context.Context, n int) error {
	if b.bests == nil {
		b.bests = map[[2]int]system{}
	}
	rates := map[int]float64{}
	for _, bytes := range b.o.bytes {
		if _, ok := b.bests[[2]int{n, bytes}]; ok {
			return nil
		}
	}
	for _, t := range transports {
		for _, setting := range b.o.sweep {
			s, err := parseSystem(candidate(t, setting))
			if err != nil {
				return err
			}
			if err := b.try(ctx, s, n, rates); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil { // it refuses the setting, or does not hold together with it
				b.p.Note("sweep: %s on %d nodes: %v", s.text, n, err)
			}
		}
	}
	return nil
}

// try is a candidate's turn in the sweep. The best rate of each size is in rates.
func (b *bench) try(ctx context.Context, s system, n int, rates map[int]float64) error {
	b.p.Say("sweep: %s on %d nodes", s.text, n)
	c, err := b.start(ctx, s, n)
	defer c.stop()
	if err != nil {
		return err
	}
	for _, bytes := range b.o.bytes {
		m, err := b.run(ctx, c, s.service, load, bytes, 0, b.o.sweeps)
		if err != nil {
			return err
		}
		b.r.Sweep = append(b.r.Sweep, swept{n, bytes, s.text, m.rate})
		if m.rate > rates[bytes] {
			rates[bytes], b.bests[[2]int{n, bytes}] = m.rate, s
		}
	}
	return nil
}
