// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in log-linear buckets: each power of two is cut into subBuckets equal parts, so a
// quantile is off by at most one part in subBuckets, whatever its size. The zero value is empty.
type histogram struct {
	counts [buckets]uint64
	n      uint64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
	// topBits bounds what is told apart: 2^40 ns, about 18 minutes. Longer ones count as that.
	topBits = 40
	buckets = (topBits - subBits + 1) * subBuckets
)

// bucket is where a duration in nanoseconds counts. Below 2*subBuckets every value has its own.
func bucket(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	if ns >= 1<<topBits {
		return buckets - 1
	}
	shift := bits.Len64(ns) - 1 - subBits
	return shift<<subBits + int(ns>>shift)
}

// lower is the smallest value that counts in a bucket.
func lower(b int) uint64 {
	if b < 2*subBuckets {
		return uint64(b)
	}
	shift := b>>subBits - 1
	return uint64(b-shift<<subBits) << shift
}

func (h *histogram) record(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
}

func (h *histogram) reset() { *h = histogram{} }

// quantile is the middle of the bucket that holds the value with the share q, 0 to 1, of all below or at it; zero if
// there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want := uint64(q*float64(h.n-1)) + 1
	var sum uint64
	for b, k := range h.counts {
		if sum += k; sum >= want {
			low := lower(b)
			high := low
			if b+1 < buckets {
				high = lower(b+1) - 1
			}
			return time.Duration(low + (high-low)/2)
		}
	}
	panic("histogram: more counted than is in its buckets")
}
