// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
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
	r.Median = median(r.Ratio)
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
	Machine string
	Commit  string
	Options string // the command
	Time    time.Time
	Rows    []row
	Sweep   []swept `json:",omitempty"`
	// Tried are the short runs of our own sweep, the best of each size first; Verdicts are what the comparison was made for.
	Tried, Verdicts []row    `json:",omitempty"`
	Failed          []string `json:",omitempty"` // what could not be measured
	Interrupted     bool     `json:",omitempty"` // there should be more
}

// interrupted is what a reader of such a result must know.
const interrupted = "interrupted: what should follow is missing"

// empty reports whether nothing was measured.
func (r *result) empty() bool { return len(r.Rows)+len(r.Sweep)+len(r.Tried) == 0 }

// median is the middle, or the mean of both middles.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// number shows three digits at least, and groups of three.
func number(v float64) string {
	switch {
	case v >= 100:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + " " + s[i:]
		}
		return s
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *result) write(w io.Writer, format string) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(r)
	case "markdown":
		return r.markdown(w)
	}
	return r.text(w)
}

var titles = []string{"nodes", "bytes", "first", "second", "figure", "first", "second", "ratio", "least to most (of)"}

func (r *row) cells() []string {
	return []string{r.nodes(), fmt.Sprint(r.Bytes), r.What, r.Against, r.Figure, number(median(r.First)), number(median(r.Second)), number(r.Median), r.spread()}
}

// tables are all that there is to show, each with its titles.
func (r *result) tables() [][][]string {
	rows := func(list []row) (t [][]string) {
		for i := range list {
			t = append(t, list[i].cells())
		}
		return t
	}
	var sweep [][]string
	for i := range r.Sweep {
		sweep = append(sweep, r.Sweep[i].cells())
	}
	verdicts := slices.Clone(titles)
	verdicts[4] = "verdict"
	var tables [][][]string
	for _, t := range []struct {
		titles []string
		rows   [][]string
	}{{titles, rows(r.Rows)}, {sweepTitles, sweep}, {triedTitles, rows(r.Tried)}, {verdicts, rows(r.Verdicts)}} {
		if len(t.rows) > 0 {
			tables = append(tables, append([][]string{t.titles}, t.rows...))
		}
	}
	return tables
}

func (r *result) markdown(w io.Writer) error {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&b, "Machine: %s. Commit %s, %s. Command:\n\n    %s\n\n", r.Machine, r.Commit, r.Time.Format(time.DateOnly), r.Options)
	for i, t := range r.tables() {
		if i > 0 {
			b.WriteString("\n")
		}
		line(t[0])
		line(slices.Repeat([]string{"---"}, len(t[0])))
		for _, cells := range t[1:] {
			line(cells)
		}
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", f)
	}
	if r.Interrupted {
		fmt.Fprintf(&b, "\nThis run was %s.\n", interrupted)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var (
	sweepTitles = []string{"nodes", "bytes", "sweep", "messages/s per receiver"}
	triedTitles = []string{"nodes", "bytes", "sweep", "second", "figure", "first", "second", "ratio", "least to most (of)"}
)

func (s *swept) cells() []string {
	return []string{fmt.Sprint(s.Nodes), fmt.Sprint(s.Bytes), s.System, number(s.Rate)}
}

func (r *result) text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s\n\n", r.Machine, r.Commit)
	for i, t := range r.tables() {
		if i > 0 {
			b.WriteString("\n")
		}
		align(&b, t)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nnot measured: %s\n", f)
	}
	if r.Interrupted {
		b.WriteString("\n" + interrupted + "\n")
	}
	b.WriteString("\n" + r.line() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func align(b *strings.Builder, table [][]string) {
	width := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, cells := range table {
		for i, c := range cells {
			fmt.Fprintf(b, "%-*s  ", width[i], c)
		}
		b.WriteString("\n")
	}
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
