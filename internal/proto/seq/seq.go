// SPDX-License-Identifier: Apache-2.0

// Package seq has the numbers that order packets on a ring and the window that stores packets under them.
package seq

// Num is the position of a packet in its ring's order. The first packet of a ring has 1; zero means none. 64 bits do
// not wrap in any life of a ring (pitfall P-8).
type Num uint64

// Window stores values by position, with holes, between a moving base and an end. It is a ring of slots that grows by
// doubling up to the span its owner allows, so that an idle ring costs little. The zero value is an empty window
// whose base is 0. A Window is not safe for concurrent use.
type Window[T any] struct {
	slots []slot[T] // length zero or a power of two
	base  Num       // everything up to base was discarded
	high  Num       // highest position stored, at least base
	aru   Num       // all positions up to here are stored or discarded
	held  int       // number of occupied slots
}

type slot[T any] struct {
	set bool
	val T
}

// Base is the position up to which everything was discarded.
func (w *Window[T]) Base() Num { return w.base }

// High is the highest position ever stored, or the base.
func (w *Window[T]) High() Num { return w.high }

// ARU is the local all-received-up-to: the highest position with no hole at or below it.
func (w *Window[T]) ARU() Num { return w.aru }

// Held is the number of values stored.
func (w *Window[T]) Held() int { return w.held }

// Put stores v at n and reports whether it was new. Positions at or below the base, and occupied ones, are refused: a
// late copy of what is done with changes nothing. The caller bounds n above (flow control), since the window grows to
// hold it.
func (w *Window[T]) Put(n Num, v T) bool {
	if n <= w.base {
		return false
	}
	w.grow(n)
	s := &w.slots[w.index(n)]
	if s.set {
		return false
	}
	s.set, s.val = true, v
	w.held++
	w.high = max(w.high, n)
	for w.aru < w.high && w.slots[w.index(w.aru+1)].set {
		w.aru++
	}
	return true
}

// Get returns the value at n, if stored.
func (w *Window[T]) Get(n Num) (v T, ok bool) {
	if n <= w.base || n > w.high {
		return v, false
	}
	s := &w.slots[w.index(n)]
	return s.val, s.set
}

// Has reports whether position n is stored or was discarded: whether nothing more is needed for it.
func (w *Window[T]) Has(n Num) bool {
	if n <= w.base {
		return true
	}
	return n <= w.high && w.slots[w.index(n)].set
}

// Discard forgets everything up to n, which must not exceed the ARU, and hands each value to free, which may be nil.
func (w *Window[T]) Discard(n Num, free func(T)) {
	if n > w.aru {
		panic("seq: discard above the all-received mark")
	}
	var zero T
	for w.base < n {
		w.base++
		s := &w.slots[w.index(w.base)]
		if free != nil {
			free(s.val)
		}
		s.set, s.val = false, zero
		w.held--
	}
}

// NextHole is the lowest position above after, and not above limit, that is neither stored nor discarded; zero if
// there is none.
func (w *Window[T]) NextHole(after, limit Num) Num {
	for n := max(after, w.aru) + 1; n <= limit; n++ {
		if !w.Has(n) {
			return n
		}
	}
	return 0
}

func (w *Window[T]) index(n Num) uint64 { return uint64(n) & uint64(len(w.slots)-1) }

// grow makes room for position n.
func (w *Window[T]) grow(n Num) {
	need := uint64(n - w.base)
	if uint64(len(w.slots)) >= need {
		return
	}
	size := uint64(max(64, 2*len(w.slots)))
	for size < need {
		size *= 2
	}
	old := w.slots
	oldMask := uint64(len(old) - 1)
	w.slots = make([]slot[T], size)
	if len(old) == 0 {
		return
	}
	for p := w.base + 1; p <= w.high; p++ {
		w.slots[w.index(p)] = old[uint64(p)&oldMask]
	}
}
