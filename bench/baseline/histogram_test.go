// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for b := range buckets - 1 {
		low, next := lower(b), lower(b+1)
		if low >= next {
			t.Fatalf("bucket %d begins at %d, the next one at %d", b, low, next)
		}
		if bucket(low) != b || bucket(next-1) != b {
			t.Fatalf("bucket %d holds %d to %d, but these count in %d and %d", b, low, next-1, bucket(low), bucket(next-1))
		}
	}
	if got := bucket(1 << 60); got != buckets-1 {
		t.Errorf("a long time counts in bucket %d, want the last, %d", got, buckets-1)
	}
}

// TestQuantiles compares with the sorted values themselves.
func TestQuantiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000} {
		var h histogram
		var all []time.Duration
		for range n {
			d := time.Duration(rnd.ExpFloat64() * 1e5)
			all = append(all, d)
			h.record(d)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			want := all[int(q*float64(n-1))]
			got := h.quantile(q)
			if diff := (got - want).Abs(); diff > want/subBuckets+1 {
				t.Errorf("%d values, quantile %v: %v, want %v", n, q, got, want)
			}
		}
	}
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("a quantile of nothing is not zero")
	}
}
