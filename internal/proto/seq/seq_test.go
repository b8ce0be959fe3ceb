// SPDX-License-Identifier: Apache-2.0

package seq

import (
	"math/rand/v2"
	"testing"
)

// naive is the window as one would write it without thinking of speed.
type naive struct {
	vals map[Num]int
	base Num
	high Num
}

func (w *naive) put(n Num, v int) bool {
	if _, ok := w.vals[n]; n <= w.base || ok {
		return false
	}
	w.vals[n] = v
	w.high = max(w.high, n)
	return true
}

func (w *naive) has(n Num) bool { _, ok := w.vals[n]; return ok || n <= w.base }

func (w *naive) aru() Num {
	n := w.base
	for w.has(n + 1) {
		n++
	}
	return n
}

func TestWindowAgainstNaive(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var w Window[int]
		o := naive{vals: map[Num]int{}}
		for step := range 2000 {
			switch rnd.IntN(4) {
			case 0, 1:
				n := o.base + Num(rnd.IntN(300))
				if got, want := w.Put(n, step), o.put(n, step); got != want {
					t.Fatalf("seed %d step %d: Put(%d) = %v, want %v", seed, step, n, got, want)
				}
			case 2:
				n := o.base + Num(rnd.IntN(320))
				got, ok := w.Get(n)
				want, wok := o.vals[n]
				if ok != wok || got != want || w.Has(n) != o.has(n) {
					t.Fatalf("seed %d step %d: Get(%d) = %d, %v; want %d, %v", seed, step, n, got, ok, want, wok)
				}
			case 3:
				upTo := o.base + Num(rnd.IntN(int(o.aru()-o.base)+1))
				freed := 0
				w.Discard(upTo, func(int) { freed++ })
				for n := o.base + 1; n <= upTo; n++ {
					delete(o.vals, n)
					freed--
				}
				o.base = max(o.base, upTo)
				if freed != 0 {
					t.Fatalf("seed %d step %d: Discard(%d) freed %d too many", seed, step, upTo, freed)
				}
			}
			limit := o.base + 310
			after := o.base + Num(rnd.IntN(200))
			var hole Num
			for n := max(after, o.aru()) + 1; n <= limit; n++ {
				if !o.has(n) {
					hole = n
					break
				}
			}
			if w.ARU() != o.aru() || w.Base() != o.base || w.Held() != len(o.vals) || w.High() != max(o.high, o.base) || w.NextHole(after, limit) != hole {
				t.Fatalf("seed %d step %d: aru %d base %d held %d high %d hole %d; want %d %d %d %d %d",
					seed, step, w.ARU(), w.Base(), w.Held(), w.High(), w.NextHole(after, limit), o.aru(), o.base, len(o.vals), o.high, hole)
			}
		}
	}
}

func TestDiscardAboveARUPanics(t *testing.T) {
	var w Window[int]
	w.Put(2, 1)
	defer func() {
		if recover() == nil {
			t.Error("discarding a hole did not panic")
		}
	}()
	w.Discard(2, nil)
}

func BenchmarkPutDiscard(b *testing.B) {
	var w Window[*int]
	v := new(int)
	n := Num(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		w.Put(n, v)
		if n > 100 {
			w.Discard(n-100, nil)
		}
	}
}
