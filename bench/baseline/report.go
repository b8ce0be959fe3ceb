// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"evensong/bench/run"
)

// key is what a row is about.
type key struct {
	Daemons int
	Service string
	Bytes   int
}

// row is what was measured of it. Times are microseconds; a delivery is one message received by one client, so with
// four clients a message is four deliveries. What could not be measured is zero.
type row struct {
	key
	Rate      float64 // messages per second and receiver, the mean of all
	PingP50   float64 // of a message of the first client, the only one in the cluster
	PingP99   float64
	LoadP50   float64 // of own messages under load: the mean of the clients' medians
	LoadP99   float64 // the worst client's
	DaemonCPU float64 // of all daemons, per delivery
	ClientCPU float64
	Switches  float64 // times a daemon went to wait, per delivery
	Calls     *calls  `json:",omitempty"` // system calls of the daemons, per delivery
}

// cell collects the repetitions of a row.
type cell struct {
	key
	rows []row
}

func newCells(o options) []*cell {
	var out []*cell
	for _, n := range o.daemons {
		for _, s := range o.services {
			for _, b := range o.bytes {
				out = append(out, &cell{key: key{n, s, b}})
			}
		}
	}
	return out
}

// median takes each figure's middle by itself.
func (c *cell) median() row {
	middle := func(f func(*row) float64) float64 {
		var v []float64
		for i := range c.rows {
			v = append(v, f(&c.rows[i]))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	r := row{key: c.key}
	r.Rate = middle(func(r *row) float64 { return r.Rate })
	r.PingP50 = middle(func(r *row) float64 { return r.PingP50 })
	r.PingP99 = middle(func(r *row) float64 { return r.PingP99 })
	r.LoadP50 = middle(func(r *row) float64 { return r.LoadP50 })
	r.LoadP99 = middle(func(r *row) float64 { return r.LoadP99 })
	r.DaemonCPU = middle(func(r *row) float64 { return r.DaemonCPU })
	r.ClientCPU = middle(func(r *row) float64 { return r.ClientCPU })
	r.Switches = middle(func(r *row) float64 { return r.Switches })
	r.Calls = c.rows[len(c.rows)/2].Calls
	return r
}

// result is everything that is needed to judge the figures.
type result struct {
	run.Origin
	Rows []row
}

// columns are the same in all tables.
var columns = []struct {
	title, short string
	show         func(r *row) string
}{
	{"daemons", "daemons", func(r *row) string { return fmt.Sprint(r.Daemons) }},
	{"service", "service", func(r *row) string { return r.Service }},
	{"bytes", "bytes", func(r *row) string { return fmt.Sprint(r.Bytes) }},
	{"messages/s per receiver", "msg/s", func(r *row) string { return run.Thousands(r.Rate) }},
	{"MB/s", "MB/s", func(r *row) string { return fmt.Sprintf("%.1f", r.Rate*float64(r.Bytes)/1e6) }},
	{"latency under load, µs p50 / p99", "load p50/p99 µs", func(r *row) string { return pair(r.LoadP50, r.LoadP99) }},
	{"one in flight, µs p50 / p99", "ping p50/p99 µs", func(r *row) string { return pair(r.PingP50, r.PingP99) }},
	{"CPU µs per delivery, daemons + clients", "CPU µs d+c", func(r *row) string { return cpu(r) }},
	{"waits per 1000 deliveries", "waits/1000", func(r *row) string { return figure(r.Switches*1000, "%.0f") }},
	{"system calls per 1000 deliveries", "calls/1000", func(r *row) string { return syscalls(r) }},
}

func pair(a, b float64) string {
	if a == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f / %.0f", a, b)
}

func figure(v float64, format string) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func cpu(r *row) string {
	if r.DaemonCPU == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f + %.2f", r.DaemonCPU, r.ClientCPU)
}

// syscalls are all, and what they were for.
func syscalls(r *row) string {
	c := r.Calls
	if c == nil {
		return "-"
	}
	k := func(v float64) string { return fmt.Sprintf("%.0f", v*1000) }
	return fmt.Sprintf("%s: wait %s, recv %s, send %s, read %s, write %s; datagrams in %s, out %s; runs in %s, out %s",
		k(c.sum()), k(c.Waits), k(c.Receives), k(c.Sends), k(c.Reads), k(c.Writes), k(c.DatagramsIn), k(c.DatagramsOut), k(c.RunsIn), k(c.RunsOut))
}

// shown leaves out columns in which nothing was measured.
func (r *result) shown() (titles, shorts []string, rows [][]string) {
	rows = make([][]string, len(r.Rows))
	for _, c := range columns {
		empty := true
		for i := range r.Rows {
			empty = empty && c.show(&r.Rows[i]) == "-"
		}
		if empty {
			continue
		}
		titles, shorts = append(titles, c.title), append(shorts, c.short)
		for i := range r.Rows {
			rows[i] = append(rows[i], c.show(&r.Rows[i]))
		}
	}
	return titles, shorts, rows
}

// Markdown implements run.Result.
func (r *result) Markdown() string {
	titles, _, rows := r.shown()
	return r.InMarkdown(append(run.Table{titles}, rows...))
}

// Text implements run.Result.
func (r *result) Text() string {
	_, titles, rows := r.shown()
	return r.InText(run.Right, append(run.Table{titles}, rows...)) + "\n" + r.line() + "\n"
}

// line is all in one line, to compare two runs by eye or with diff.
func (r *result) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "baseline %s", r.Commit)
	for i := range r.Rows {
		x := &r.Rows[i]
		fmt.Fprintf(&b, " %d/%s/%d=%.0f@%.2fus", x.Daemons, x.Service, x.Bytes, x.Rate, x.DaemonCPU+x.ClientCPU)
	}
	return b.String()
}
