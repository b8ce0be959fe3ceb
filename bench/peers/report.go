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
	What, Against string
	Figure        string
	First, Second []float64 // of each pair
	Ratio         []float64
	Median        float64 // of the ratios
}

func (r *row) ratio() {
	for i := range r.First {
		q := 0.0
		if r.Second[i] > 0 {
			q = r.First[i] / r.Second[i]
		}
		r.Ratio = append(r.Ratio, q)
	}
	r.Median = median(r.Ratio)
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
	Sweep   []swept  `json:",omitempty"`
	Failed  []string `json:",omitempty"` // what could not be measured
}

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
	return []string{fmt.Sprint(r.Nodes), fmt.Sprint(r.Bytes), r.What, r.Against, r.Figure, number(median(r.First)), number(median(r.Second)), number(r.Median),
		fmt.Sprintf("%s to %s (%d)", number(slices.Min(r.Ratio)), number(slices.Max(r.Ratio)), len(r.Ratio))}
}

func (r *result) markdown(w io.Writer) error {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&b, "Machine: %s. Commit %s, %s. Command:\n\n    %s\n\n", r.Machine, r.Commit, r.Time.Format(time.DateOnly), r.Options)
	line(titles)
	line(slices.Repeat([]string{"---"}, len(titles)))
	for i := range r.Rows {
		line(r.Rows[i].cells())
	}
	if len(r.Sweep) > 0 {
		b.WriteString("\n")
		line(sweepTitles)
		line(slices.Repeat([]string{"---"}, len(sweepTitles)))
		for i := range r.Sweep {
			line(r.Sweep[i].cells())
		}
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var sweepTitles = []string{"nodes", "bytes", "sweep", "messages/s per receiver"}

func (s *swept) cells() []string {
	return []string{fmt.Sprint(s.Nodes), fmt.Sprint(s.Bytes), s.System, number(s.Rate)}
}

func (r *result) text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s\n\n", r.Machine, r.Commit)
	table := [][]string{titles}
	for i := range r.Rows {
		table = append(table, r.Rows[i].cells())
	}
	align(&b, table)
	if len(r.Sweep) > 0 {
		table = [][]string{sweepTitles}
		for i := range r.Sweep {
			table = append(table, r.Sweep[i].cells())
		}
		b.WriteString("\n")
		align(&b, table)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nnot measured: %s\n", f)
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
	for i := range r.Rows {
		x := &r.Rows[i]
		fmt.Fprintf(&b, " %d/%d/%s:%s/%s=%s", x.Nodes, x.Bytes, x.What, x.Against, strings.ReplaceAll(strings.ReplaceAll(x.Figure, ",", ""), " ", "-"), strings.ReplaceAll(number(x.Median), " ", ""))
	}
	return b.String()
}
