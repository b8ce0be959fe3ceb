// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"evensong/internal/tools/amount"
)

// Stats describes some times, in seconds.
type Stats struct {
	Count    int     `json:"count"`
	Total    float64 `json:"total"`
	Min      float64 `json:"min"`
	Quartile float64 `json:"first_quartile"`
	Median   float64 `json:"median"`
	Upper    float64 `json:"third_quartile"`
	Max      float64 `json:"max"`
	Mean     float64 `json:"mean"`
	SD       float64 `json:"standard_deviation"`
}

// Describe takes the statistics of times in seconds. Quartiles are interpolated between the two nearest times; the
// standard deviation is that of a sample, zero for fewer than two.
func Describe(seconds []float64) Stats {
	s := Stats{Count: len(seconds)}
	if s.Count == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(seconds))
	at := func(q float64) float64 {
		place := q * float64(len(sorted)-1)
		low := int(place)
		high := min(low+1, len(sorted)-1)
		return sorted[low] + (sorted[high]-sorted[low])*(place-float64(low))
	}
	for _, x := range sorted {
		s.Total += x
	}
	s.Min, s.Quartile, s.Median, s.Upper, s.Max = sorted[0], at(0.25), at(0.5), at(0.75), sorted[len(sorted)-1]
	s.Mean = s.Total / float64(s.Count)
	if s.Count > 1 {
		squares := 0.0
		for _, x := range sorted {
			squares += (x - s.Mean) * (x - s.Mean)
		}
		s.SD = math.Sqrt(squares / float64(s.Count-1))
	}
	return s
}

// trim is the times without the outer 5 % at either end.
func trim(seconds []float64) []float64 {
	sorted := slices.Sorted(slices.Values(seconds))
	cut := len(sorted) / 20
	return sorted[cut : len(sorted)-cut]
}

// Figures are the statistics of one sort of change, over all times, and without the outer 5 % at either end.
type Figures struct {
	All     Stats `json:"all"`
	Trimmed Stats `json:"trimmed"`
}

// Report is the outcome of a measurement.
type Report struct {
	Group string  `json:"group"`
	Size  int     `json:"members"`
	Join  Figures `json:"join_seconds"`
	Leave Figures `json:"leave_seconds"`
	Sum   Figures `json:"sum_seconds"`
}

// NewReport describes samples.
func NewReport(c Config, samples []Sample) *Report {
	c.fill()
	of := func(pick func(Sample) time.Duration) Figures {
		var all []float64
		for _, s := range samples {
			all = append(all, pick(s).Seconds())
		}
		return Figures{Describe(all), Describe(trim(all))}
	}
	return &Report{Group: c.Group, Size: c.Size,
		Join:  of(func(s Sample) time.Duration { return s.Join }),
		Leave: of(func(s Sample) time.Duration { return s.Leave }),
		Sum:   of(func(s Sample) time.Duration { return s.Join + s.Leave }),
	}
}

// Write prints the report for people, in milliseconds.
func (r *Report) Write(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "group %s, %s with the measuring one, times in ms\n%-16s %7s %10s %9s %9s %9s %9s %9s %9s %9s\n",
		r.Group, amount.Of(r.Size, "member"), "", "count", "total", "min", "quarter", "median", "3/4", "max", "mean", "sd"); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		Figures
	}{{"join", r.Join}, {"leave", r.Leave}, {"sum", r.Sum}} {
		for _, row := range []struct {
			name string
			s    Stats
		}{{f.name, f.All}, {f.name + ", inner 90%", f.Trimmed}} {
			s := row.s
			if _, err := fmt.Fprintf(w, "%-16s %7d %10.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f\n", row.name, s.Count,
				1e3*s.Total, 1e3*s.Min, 1e3*s.Quartile, 1e3*s.Median, 1e3*s.Upper, 1e3*s.Max, 1e3*s.Mean, 1e3*s.SD); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteRaw prints each sample: join and leave in milliseconds.
func WriteRaw(w io.Writer, samples []Sample) error {
	for _, s := range samples {
		if _, err := fmt.Fprintf(w, "%.3f %.3f\n", 1e3*s.Join.Seconds(), 1e3*s.Leave.Seconds()); err != nil {
			return err
		}
	}
	return nil
}
