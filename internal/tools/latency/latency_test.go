// SPDX-License-Identifier: Apache-2.0

package latency

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAgainstSorting compares quantiles with those of the sorted times.
func TestAgainstSorting(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	h, a, b := New(), New(), New()
	var all []time.Duration
	for i := range 10001 {
		d := time.Duration(1) << rnd.IntN(36)
		d += time.Duration(rnd.Int64N(int64(d)))
		all = append(all, d)
		h.Record(d)
		if i%2 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	a.Add(b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if got := h.Quantile(q); got < want*99/100 || got > want*101/100 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
		if h.Quantile(q) != a.Quantile(q) {
			t.Errorf("quantile %v of two halves: %v, of all %v", q, a.Quantile(q), h.Quantile(q))
		}
	}
	if h.Count() != 10001 {
		t.Errorf("counted %d", h.Count())
	}
	h.Reset()
	if h.Summary() != (Summary{}) {
		t.Errorf("after a reset: %+v", h.Summary())
	}
}

func TestEnds(t *testing.T) {
	h := New()
	if h.Summary() != (Summary{}) {
		t.Errorf("empty: %+v", h.Summary())
	}
	h.Record(-time.Second)
	h.Record(1000 * time.Hour)
	if h.Quantile(0) != 1 || h.Quantile(1) < Longest*99/100 {
		t.Errorf("from %v to %v", h.Quantile(0), h.Quantile(1))
	}
	if s := h.Summary(); s.Count != 2 || s.Max < Longest.Seconds()*0.99 {
		t.Errorf("%+v", s)
	}
}

func TestBars(t *testing.T) {
	h := New()
	for _, d := range []time.Duration{1, 1500, 1600, 1700, 9000} {
		h.Record(d)
	}
	var out bytes.Buffer
	if err := h.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := "up to        1µs         1  20.00% #################\n" +
		"up to        2µs         3  80.00% ##################################################\n" +
		"up to       16µs         1 100.00% #################\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
