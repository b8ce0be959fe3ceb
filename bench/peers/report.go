// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"evensong/bench/run"
)

// row is one figure of two systems that were measured in turn.
type row struct {
	Nodes, Bytes  int
	AgainstNodes  int `json:",omitempty"` // those of the second one, where they are not as many
	What, Against string
	Figure        string
	First, Second []float64 // of each pair
	Ratio         []float64
	Median        float64 // of the ratios
	Wanted        int     `json:",omitempty"` // how many pairs there should be, where an interrupt left fewer
}

// ratio counts the ratios of all pairs.
func (r *row) ratio() {
	r.Ratio = nil
	for i := range r.First {
		q := 0.0
		if r.Second[i] > 0 {
			q = r.First[i] / r.Second[i]
		}
		r.Ratio = append(r.Ratio, q)
	}
	r.Median = run.Median(r.Ratio)
}

// nodes are those of both.
func (r *row) nodes() string {
	if r.AgainstNodes == 0 {
		return fmt.Sprint(r.Nodes)
	}
	return versus(r.Nodes, r.AgainstNodes)
}

// versus is one number if both are equal.
func versus(first, second int) string {
	if first == second {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d:%d", first, second)
}

// spread is the range of the ratios.
func (r *row) spread() string {
	of := fmt.Sprint(len(r.Ratio))
	if r.Wanted > 0 {
		of += fmt.Sprintf(" of %d pairs, interrupted", r.Wanted)
	}
	return fmt.Sprintf("%s to %s (%s)", number(slices.Min(r.Ratio)), number(slices.Max(r.Ratio)), of)
}

// swept is what settings of corosync gave in the sweep.
type swept struct {
	Nodes, Bytes int
	System       string
	Rate         float64
}

// result is everything that is needed to judge the figures.
type result struct {
	run.Origin
	Rows  []row
	Sweep []swept `json:",omitempty"`
	// Tried are the short runs of our own sweep, the best of each size first; Verdicts are what the comparison was made for.
	Tried, Verdicts []row    `json:",omitempty"`
	Failed          []string `json:",omitempty"` // what could not be measured
	Interrupted     bool     `json:",omitempty"` // there should be more
}

// interrupted is what a reader of such a result must know.
const interrupted = "interrupted: what should follow is missing"

// empty reports whether nothing was measured.
func (r *result) empty() bool { return len(r.Rows)+len(r.Sweep)+len(r.Tried) == 0 }

// number shows three digits at least, and groups of three.
func number(v float64) string {
	if v >= 100 {
		return run.Thousands(v)
	}
	return run.Number(v)
}

var titles = []string{"nodes", "bytes", "first", "second", "figure", "first", "second", "ratio", "least to most (of)"}

func (r *row) cells() []string {
	return []string{r.nodes(), fmt.Sprint(r.Bytes), r.What, r.Against, r.Figure, number(run.Median(r.First)), number(run.Median(r.Second)), number(r.Median), r.spread()}
}

// tables are all that there is to show, each with its titles.
func (r *result) tables() []run.Table {
	rows := func(list []row) (t run.Table) {
		for i := range list {
			t = append(t, list[i].cells())
		}
		return t
	}
	var sweep run.Table
	for i := range r.Sweep {
		sweep = append(sweep, r.Sweep[i].cells())
	}
	verdicts := slices.Clone(titles)
	verdicts[4] = "verdict"
	var tables []run.Table
	for _, t := range []struct {
		titles []string
		rows   run.Table
	}{{titles, rows(r.Rows)}, {sweepTitles, sweep}, {triedTitles, rows(r.Tried)}, {verdicts, rows(r.Verdicts)}} {
		if len(t.rows) > 0 {
			tables = append(tables, append(run.Table{t.titles}, t.rows...))
		}
	}
	return tables
}

var (
	sweepTitles = []string{"nodes", "bytes", "sweep", "messages/s per receiver"}
	triedTitles = []string{"nodes", "bytes", "sweep", "second", "figure", "first", "second", "ratio", "least to most (of)"}
)

func (s *swept) cells() []string {
	return []string{fmt.Sprint(s.Nodes), fmt.Sprint(s.Bytes), s.System, number(s.Rate)}
}

// Markdown implements run.Result.
func (r *result) Markdown() string {
	s := r.InMarkdown(r.tables()...)
	for _, f := range r.Failed {
		s += fmt.Sprintf("\nNot measured: %s.\n", f)
	}
	if r.Interrupted {
		s += "\nThis run was " + interrupted + ".\n"
	}
	return s
}

// Text implements run.Result.
func (r *result) Text() string {
	s := r.InText(run.Left, r.tables()...)
	for _, f := range r.Failed {
		s += fmt.Sprintf("\nnot measured: %s\n", f)
	}
	if r.Interrupted {
		s += "\n" + interrupted + "\n"
	}
	return s + "\n" + r.line() + "\n"
}

// line is all in one line, to compare two runs by eye or with diff.
func (r *result) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "peers %s", r.Commit)
	for _, list := range [][]row{r.Rows, r.Verdicts} {
		for i := range list {
			x := &list[i]
			figure := strings.ReplaceAll(strings.ReplaceAll(x.Figure, ",", ""), " ", "-")
			fmt.Fprintf(&b, " %s/%d/%s:%s/%s=%s", x.nodes(), x.Bytes, x.What, x.Against, figure, strings.ReplaceAll(number(x.Median), " ", ""))
			if x.Wanted > 0 {
				fmt.Fprintf(&b, "(%d-of-%d)", len(x.Ratio), x.Wanted)
			}
		}
	}
	return b.String()
}
