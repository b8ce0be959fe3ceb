// SPDX-License-Identifier: Apache-2.0

package seal

// windowSize is how far behind the highest counter of a sender a datagram may come and still be taken: more than what a sender
// has under way in two rounds of the largest windows, and a network that changes the order by more delays by more than a token.
const windowSize = 8192

// window remembers which counters of one sender were taken. The zero value has taken none but 0, which nobody uses.
type window struct {
	high uint64 // the highest taken
	// floor and what is below was never taken and never will be: it was sent before the sender was known to live.
	floor uint64
	bits  [windowSize / 64]uint64 // of the counters above high-windowSize, each at its place modulo windowSize
}

// isNew reports whether a counter may be taken.
func (w *window) isNew(n uint64) bool {
	switch {
	case n > w.high:
		return true
	case n <= w.floor || w.high-n >= windowSize:
		return false
	}
	return w.bits[n/64%(windowSize/64)]&(1<<(n%64)) == 0
}

// take notes a counter that is new.
func (w *window) take(n uint64) {
	if n > w.high {
		if n-w.high >= windowSize {
			w.bits = [windowSize / 64]uint64{}
		} else {
			for i := w.high + 1; i < n; i++ { // usually none: what was skipped may still come
				w.bits[i/64%(windowSize/64)] &^= 1 << (i % 64)
			}
		}
		w.high = n
	}
	w.bits[n/64%(windowSize/64)] |= 1 << (n % 64)
}
