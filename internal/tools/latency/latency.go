// SPDX-License-Identifier: Apache-2.0

// Package latency counts how long things took, for all tools that measure: one kind of histogram, so that their figures
// compare.
package latency

import (
	"fmt"
	"io"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Longest is what is told apart. Longer times count as that.
const Longest = 20 * time.Minute

// digits are the decimal digits that a recorded time keeps.
const digits = 3

// A Histogram counts times with three digits, about 250 KB whatever their number. Its methods must not be called
// concurrently.
type Histogram struct{ h *hdr.Histogram }

// New is an empty histogram.
func New() *Histogram { return &Histogram{hdr.New(1, int64(Longest), digits)} }

// Record counts one time. One below a nanosecond counts as that.
func (h *Histogram) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN counts one time n times.
func (h *Histogram) RecordN(d time.Duration, n uint64) {
	if err := h.h.RecordValues(int64(min(max(d, 1), Longest)), int64(n)); err != nil {
		panic("latency: " + err.Error()) // the range was made for it
	}
}

// Count is how many times were recorded.
func (h *Histogram) Count() uint64 { return uint64(h.h.TotalCount()) }

// Quantile is the time that the share q, 0 to 1, of all was not longer than; zero if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	return time.Duration(h.h.ValueAtQuantile(100 * q))
}

// Mean is the arithmetic mean; zero if there are none.
func (h *Histogram) Mean() time.Duration {
	if h.h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.h.Mean())
}

// Add counts all that o has counted.
func (h *Histogram) Add(o *Histogram) { h.h.Merge(o.h) }

// Reset forgets everything.
func (h *Histogram) Reset() { h.h.Reset() }

// Summary is the usual selection, in seconds.
type Summary struct {
	Count uint64  `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Summary is taken from what was recorded so far.
func (h *Histogram) Summary() Summary {
	q := func(q float64) float64 { return h.Quantile(q).Seconds() }
	return Summary{Count: h.Count(), Min: q(0), Mean: h.Mean().Seconds(), P50: q(0.5), P90: q(0.9), P99: q(0.99), P999: q(0.999), Max: q(1)}
}

// barWidth is the longest bar of Write.
const barWidth = 50

// Write prints the distribution as bars, one for each doubling of time that occurs, with the count and the share of all
// that were not longer.
func (h *Histogram) Write(w io.Writer) error {
	type bar struct {
		to time.Duration
		n  int64
	}
	var bars []bar
	var most, sum int64
	to := time.Microsecond
	for _, b := range h.h.Distribution() {
		if b.Count == 0 {
			continue
		}
		for time.Duration(b.From) > to {
			to *= 2
		}
		if len(bars) == 0 || bars[len(bars)-1].to != to {
			bars = append(bars, bar{to: to})
		}
		last := &bars[len(bars)-1]
		last.n += b.Count
		most = max(most, last.n)
	}
	for _, b := range bars {
		sum += b.n
		length := int((b.n*barWidth + most - 1) / most)
		if _, err := fmt.Fprintf(w, "up to %10s %9d %6.2f%% %s\n", b.to, b.n, 100*float64(sum)/float64(h.h.TotalCount()), strings.Repeat("#", length)); err != nil {
			return err
		}
	}
	return nil
}
