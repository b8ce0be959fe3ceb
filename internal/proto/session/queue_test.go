// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// push encodes n bytes and queues them in all queues.
func push(a *Arena, n int, next *byte, queues ...*Queue) []byte {
	b := a.Begin(n)
	for range n {
		*next++
		b = append(b, *next)
	}
	e := a.End(b)
	for _, q := range queues {
		q.Push(e)
	}
	return e.Bytes()
}

// naive is the oracle: one slice of bytes and one of message lengths.
type naive struct {
	bytes []byte
	msgs  []int
}

func (n *naive) push(b []byte) { n.bytes = append(n.bytes, b...); n.msgs = append(n.msgs, len(b)) }

func (n *naive) written(k int) {
	n.bytes = n.bytes[k:]
	for k > 0 {
		if k < n.msgs[0] {
			n.msgs[0] -= k
			return
		}
		k -= n.msgs[0]
		n.msgs = n.msgs[1:]
	}
}

// TestQueueAgainstNaive pushes shared messages of all sizes to several queues that drain at different speeds and break
// writes at any byte, and compares each queue with the oracle after every step.
func TestQueueAgainstNaive(t *testing.T) {
	const queues = 4
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pool := &Pool{}
		arena := NewArena(pool)
		qs, want := make([]*Queue, queues), make([]naive, queues)
		for i := range qs {
			qs[i] = NewQueue(pool, Limits{Bytes: 1 << 30})
		}
		vecs := make([][][]byte, queues)
		var next byte
		sizes := []int{1, 50, 100, 1400, 8192, 20000, 65000, 144000}
		most := rnd.IntN(len(sizes)) + 1
		for step := range 1500 {
			if rnd.IntN(3) > 0 {
				to := rnd.IntN(1 << queues)
				if rnd.IntN(4) == 0 {
					to = 1<<queues - 1
				}
				b := arena.Begin(sizes[most-1] + 1)
				for range rnd.IntN(sizes[rnd.IntN(most)]) + 1 {
					next++
					b = append(b, next)
				}
				e := arena.End(b)
				for i, q := range qs {
					if to&(1<<i) == 0 {
						continue
					}
					if v := q.Push(e); v != Queued {
						t.Fatal(v)
					}
					want[i].push(e.Bytes())
				}
			}
			// Queue 0 is fast, the others ever slower, the last hardly reads.
			i := rnd.IntN(queues)
			q := qs[i]
			switch {
			case !q.InFlight() && rnd.IntN(1+i*i*10) == 0:
				vecs[i] = q.Vec(vecs[i][:0], 1+rnd.IntN(20))
			case q.InFlight() && rnd.IntN(1+i*5) == 0:
				flat := bytes.Join(vecs[i], nil)
				if !bytes.HasPrefix(want[i].bytes, flat) {
					t.Fatalf("seed %d step %d: queue %d handed out wrong bytes", seed, step, i)
				}
				n := len(flat)
				if rnd.IntN(2) == 0 {
					n = rnd.IntN(n + 1)
				}
				q.Written(n)
				want[i].written(n)
			}
			for i, q := range qs {
				if err := q.CheckInvariants(); err != nil {
					t.Fatalf("seed %d step %d: queue %d: %v", seed, step, i, err)
				}
				if q.Bytes() != len(want[i].bytes) || q.Messages() != len(want[i].msgs) {
					t.Fatalf("seed %d step %d: queue %d has %d bytes, %d messages, want %d, %d",
						seed, step, i, q.Bytes(), q.Messages(), len(want[i].bytes), len(want[i].msgs))
				}
				if bound := pinFactor*q.Bytes() + pinSlack + 2*DefaultChunkBytes; !q.InFlight() && q.Pinned() > bound {
					t.Fatalf("seed %d step %d: queue %d: %d bytes pin %d", seed, step, i, q.Bytes(), q.Pinned())
				}
			}
		}
		for i, q := range qs {
			if q.InFlight() {
				// What is in flight stays readable after Discard.
				flat := bytes.Clone(bytes.Join(vecs[i], nil))
				q.Discard()
				push(arena, 60000, &next)
				push(arena, 60000, &next)
				if !bytes.Equal(flat, bytes.Join(vecs[i], nil)) {
					t.Fatalf("seed %d: bytes in flight changed after Discard", seed)
				}
				q.Written(rnd.IntN(len(flat) + 1))
			} else {
				got := bytes.Join(q.Vec(nil, 1<<30), nil)
				if !bytes.Equal(got, want[i].bytes) {
					t.Fatalf("seed %d: queue %d drains wrong bytes", seed, i)
				}
				q.Written(len(got))
			}
			if q.Bytes() != 0 || q.Pinned() != 0 || q.Messages() != 0 && !q.closed {
				t.Fatalf("seed %d: queue %d: %d bytes, %d pinned, %d messages at the end", seed, i, q.Bytes(), q.Pinned(), q.Messages())
			}
		}
		arena.Close()
		if pool.LentChunks() != 0 {
			t.Fatalf("seed %d: %d chunks never came back", seed, pool.LentChunks())
		}
	}
}

// TestQueueMerges: consecutive deliveries to one session are one element of a write.
func TestQueueMerges(t *testing.T) {
	pool := &Pool{}
	a, q, other := NewArena(pool), NewQueue(pool, Limits{}), NewQueue(pool, Limits{})
	var next byte
	for range 10 {
		push(a, 100, &next, q)
	}
	if v := q.Vec(nil, 100); len(v) != 1 || len(v[0]) != 1000 {
		t.Errorf("%d pieces", len(v))
	}
	q.Written(0)
	push(a, 100, &next, other) // between two of ours
	push(a, 100, &next, q)
	if v := q.Vec(nil, 100); len(v) != 2 {
		t.Errorf("%d pieces", len(v))
	}
	q.Written(1050)
	if q.Bytes() != 50 || q.Messages() != 1 || q.Pinned() != DefaultChunkBytes {
		t.Errorf("%d bytes, %d messages, %d pinned", q.Bytes(), q.Messages(), q.Pinned())
	}
}

// TestQueuePinned: a client that does not read and gets one small message among many of others keeps little memory.
func TestQueuePinned(t *testing.T) {
	pool := &Pool{}
	a, slow, fast := NewArena(pool), NewQueue(pool, Limits{}), NewQueue(pool, Limits{})
	var next byte
	var want []byte
	stuck := slow.Vec(nil, 10)
	for i := range 20000 {
		push(a, 1400, &next, fast)
		if i%50 == 0 {
			want = append(want, push(a, 60, &next, slow)...)
		}
		n := 0
		for _, b := range fast.Vec(nil, 10) {
			n += len(b)
		}
		fast.Written(n)
		if i == 2000 {
			slow.Written(0)
			stuck = slow.Vec(stuck, 3)
		}
	}
	if slow.Pinned() > pinFactor*slow.Bytes()+pinSlack+DefaultChunkBytes || pool.LentChunks() > 12 {
		t.Errorf("%d bytes pin %d; %d chunks lent", slow.Bytes(), slow.Pinned(), pool.LentChunks())
	}
	if !bytes.HasPrefix(want, bytes.Join(stuck, nil)) {
		t.Error("bytes in flight changed")
	}
	slow.Written(0)
	if got := bytes.Join(slow.Vec(nil, 1<<20), nil); !bytes.Equal(got, want) {
		t.Error("wrong bytes after compaction")
	}
}

// TestQueueInFlight: what a writer holds stays in place when the rest is compacted.
func TestQueueInFlight(t *testing.T) {
	pool := &Pool{}
	a, slow := NewArena(pool), NewQueue(pool, Limits{})
	var next byte
	var want []byte
	var vec [][]byte
	for i := range 200 {
		want = append(want, push(a, 60, &next, slow)...)
		if i == 1 {
			vec = slow.Vec(nil, 10)
		}
		push(a, DefaultChunkBytes-100, &next) // the next one is in another chunk
	}
	if len(vec) != 2 {
		t.Fatalf("%d pieces", len(vec))
	}
	if got := bytes.Join(vec, nil); !bytes.Equal(got, want[:120]) {
		t.Error("bytes in flight changed")
	}
	if slow.Pinned() > 8*DefaultChunkBytes {
		t.Errorf("%d bytes pin %d", slow.Bytes(), slow.Pinned())
	}
	slow.Written(61)
	if got := bytes.Join(slow.Vec(nil, 1000), nil); !bytes.Equal(got, want[61:]) {
		t.Error("wrong bytes behind them")
	}
}

func TestQueueLimits(t *testing.T) {
	pool := &Pool{}
	a := NewArena(pool)
	ext := func(n int) Extent { return a.End(append(a.Begin(n), make([]byte, n)...)) }

	q := NewQueue(pool, Limits{Bytes: 600, HardBytes: 1000})
	if v := q.Push(ext(5000)); v != Queued {
		t.Errorf("one message of any size: %v", v)
	}
	if v := q.Push(ext(1)); v != TooManyBytes || v.Reason() != ReasonSlowBytes || q.Bytes() != 5000 || q.Messages() != 1 {
		t.Error(v, q.Bytes())
	}
	q.Vec(nil, 9)
	q.Written(4500)
	if v := q.Push(ext(500)); v != Queued {
		t.Error(v)
	}
	if v := q.Push(ext(1)); v != TooManyBytes {
		t.Error(v)
	}
	for _, x := range []struct {
		left           int
		over, caughtUp bool
	}{{601, true, false}, {600, false, false}, {301, false, false}, {300, false, true}, {0, false, true}} {
		q.Vec(nil, 9)
		q.Written(q.Bytes() - x.left)
		if q.Over() != x.over || q.CaughtUp() != x.caughtUp {
			t.Errorf("%d bytes of a budget of 600: over %t, caught up %t, want %t and %t", x.left, q.Over(), q.CaughtUp(), x.over, x.caughtUp)
		}
	}
	if q.High() != 5000 {
		t.Errorf("the most that waited was 5000 bytes, not %d", q.High())
	}

	q = NewQueue(pool, Limits{Messages: 2})
	q.PushHandshake(ext(21))
	for i, want := range []Verdict{Queued, Queued, TooManyMessages} {
		if v := q.Push(ext(100)); v != want {
			t.Errorf("message %d: %v", i, v)
		}
	}
	q.Vec(nil, 9)
	q.Written(21 + 99) // the first message is written but for one byte, and still counts
	if v := q.Push(ext(1)); v != TooManyMessages || v.Reason() != ReasonSlowMessages {
		t.Error(v)
	}
	q.Vec(nil, 9)
	q.Written(1)
	if v := q.Push(ext(1)); v != Queued {
		t.Error(v)
	}

	q = NewQueue(pool, Limits{Messages: -1})
	q.PushHandshake(ext(21))
	if v := q.Push(ext(1)); v != TooManyMessages {
		t.Error(v)
	}
	if v := NewQueue(pool, Limits{}).Push(ext(0)); v != Queued {
		t.Error(v)
	}
}

// TestSharedView: members of two vs sets get one view with different offsets.
func TestSharedView(t *testing.T) {
	v := frame.View{Group: "g", Cause: evs.CausedByNetwork, Members: []string{"#a#d", "#b#d"}, Sets: [][]string{{"#a#d"}, {"#b#d"}}}
	pool := &Pool{}
	a := NewArena(pool)
	for _, pushed := range []bool{true, false} {
		first, second := NewQueue(pool, Limits{}), NewQueue(pool, Limits{})
		e := a.End(frame.AppendView(a.Begin(v.Size()), &v, 0))
		if pushed {
			first.Push(e)
		}
		b := a.BeginCopy(e)
		v.PatchOwn(b, 1)
		second.Push(a.End(b))
		if got := second.Vec(nil, 9); !bytes.Equal(got[0], frame.AppendView(nil, &v, 1)) {
			t.Errorf("second set: %x", got)
		}
		if got := first.Vec(nil, 9); pushed && !bytes.Equal(got[0], frame.AppendView(nil, &v, 0)) {
			t.Errorf("first set: %x", got)
		}
		second.Written(10)
		if second.Wrote() != 10 {
			t.Error(second.Wrote())
		}
		second.Discard()
	}
}

func TestQueueMisuse(t *testing.T) {
	pool := &Pool{}
	a := NewArena(pool)
	mustPanic := func(what string, do func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", what)
			}
		}()
		do()
	}
	old := a.End(append(a.Begin(1), 1))
	a.End(a.Begin(1))
	mustPanic("stale extent", func() { NewQueue(pool, Limits{}).Push(old) })
	mustPanic("too much appended", func() { a.End(append(a.Begin(1), 1, 2)) })
	q := NewQueue(pool, Limits{})
	mustPanic("Written without Vec", func() { q.Written(0) })
	q.Push(a.End(append(a.Begin(1), 1)))
	q.Vec(nil, 1)
	mustPanic("Vec twice", func() { q.Vec(nil, 1) })
	mustPanic("too much written", func() { q.Written(2) })
	q.Discard()
	mustPanic("push after Discard", func() { q.Push(a.End(append(a.Begin(1), 1))) })
	q.Written(0)
	q.Discard() // again does nothing
}

// TestQueueSteadyState: no allocation per message, neither for a client that keeps up nor for one with a backlog.
func TestQueueSteadyState(t *testing.T) {
	for _, size := range []int{100, 1350, 8192, 65000, 144000} {
		for _, backlog := range []int{0, 50} {
			pool := &Pool{}
			a, q, p := NewArena(pool), NewQueue(pool, Limits{Bytes: 1 << 30}), NewQueue(pool, Limits{Bytes: 1 << 30})
			msg := make([]byte, size)
			vec := make([][]byte, 0, 64)
			one := func() {
				e := a.End(append(a.Begin(size), msg...))
				q.Push(e)
				if size%3 != 0 {
					p.Push(e)
				}
				for _, x := range []*Queue{q, p} {
					if x.Bytes() <= backlog*size {
						continue
					}
					vec = x.Vec(vec[:0], cap(vec))
					x.Written(min(x.inFlight, size))
				}
			}
			for range 1000 {
				one()
			}
			if n := testing.AllocsPerRun(2000, one); n != 0 {
				t.Errorf("size %d, backlog %d: %v allocations", size, backlog, n)
			}
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{100, 1350, 8192, 65000} {
		for _, members := range []int{1, 10} {
			b.Run(fmt.Sprintf("%d/%d", size, members), func(b *testing.B) {
				pool := &Pool{}
				a, msg, vec := NewArena(pool), make([]byte, size), make([][]byte, 0, 64)
				qs := make([]*Queue, members)
				for i := range qs {
					qs[i] = NewQueue(pool, Limits{})
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					e := a.End(append(a.Begin(size), msg...))
					for _, q := range qs {
						q.Push(e)
					}
					if i++; i%16 != 0 {
						continue
					}
					for _, q := range qs {
						vec = q.Vec(vec[:0], 64)
						q.Written(q.inFlight)
					}
				}
			})
		}
	}
}
