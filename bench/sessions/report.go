// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strconv"
	"strings"

	"evensong/bench/run"
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
	run.Origin
	Rows []row
}

func (r *result) add(what, unit, bar string, values ...float64) {
	r.Rows = append(r.Rows, row{what, unit, bar, run.Median(values), values})
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
	return run.Number(slices.Min(r.Values)) + " to " + run.Number(slices.Max(r.Values)) + " (" + strconv.Itoa(len(r.Values)) + ")"
}

var titles = []string{"figure", "unit", "median", "least to most (of)", "bar", "met"}

func (r *row) cells() []string {
	return []string{r.What, r.Unit, run.Number(r.Median), r.spread(), strings.NewReplacer("<", "below ", ">", "above ").Replace(r.Bar), r.met()}
}

// table is all rows.
func (r *result) table() run.Table {
	t := run.Table{titles}
	for i := range r.Rows {
		t = append(t, r.Rows[i].cells())
	}
	return t
}

// Markdown implements run.Result.
func (r *result) Markdown() string { return r.InMarkdown(r.table()) }

// Text implements run.Result.
func (r *result) Text() string { return r.InText(run.Left, r.table()) }
