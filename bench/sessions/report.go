// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is one figure: of one measurement, or of several in the order in which they were taken.
type row struct {
	What   string
	Unit   string
	Bar    string `json:",omitempty"` // "<50", ">95": what the median must be; empty if nothing is demanded
	Median float64
	Values []float64
}

// result is everything that is needed to judge the figures.
type result struct {
	Machine string
	Commit  string
	Options string // the command
	Time    time.Time
	Rows    []row
}

func (r *result) add(what, unit, bar string, values ...float64) {
	r.Rows = append(r.Rows, row{what, unit, bar, median(values), values})
}

// median is the middle, or the mean of both middles.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// met says whether the bar is reached: "yes", "no", or nothing without a bar.
func (r *row) met() string {
	if r.Bar == "" {
		return ""
	}
	limit, err := strconv.ParseFloat(r.Bar[1:], 64)
	if err != nil {
		panic("sessions: bar " + r.Bar)
	}
	if r.Bar[0] == '<' && r.Median < limit || r.Bar[0] == '>' && r.Median > limit {
		return "yes"
	}
	return "no"
}

// spread is least and most, if there are several values.
func (r *row) spread() string {
	if len(r.Values) < 2 {
		return ""
	}
	return number(slices.Min(r.Values)) + " to " + number(slices.Max(r.Values)) + " (" + strconv.Itoa(len(r.Values)) + ")"
}

// number shows three digits at least.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
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

var titles = []string{"figure", "unit", "median", "least to most (of)", "bar", "met"}

func (r *row) cells() []string {
	return []string{r.What, r.Unit, number(r.Median), r.spread(), strings.NewReplacer("<", "below ", ">", "above ").Replace(r.Bar), r.met()}
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
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *result) text(w io.Writer) error {
	all := [][]string{titles}
	for i := range r.Rows {
		all = append(all, r.Rows[i].cells())
	}
	width := make([]int, len(titles))
	for _, cells := range all {
		for i, c := range cells {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s\n\n", r.Machine, r.Commit)
	for _, cells := range all {
		for i, c := range cells {
			fmt.Fprintf(&b, "%-*s  ", width[i], c)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
