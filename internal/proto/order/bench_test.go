// SPDX-License-Identifier: Apache-2.0

package order

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

// payloads are those by which group communication systems are compared. The larger two are cut into packets.
var payloads = []int{100, 1350, 8192, 65000}

// alone is a daemon's order in a configuration of its own: a message goes from Begin through packets to delivery
// within one input.
type alone struct {
	m   *Machine
	fx  Effects
	now time.Duration
}

func newAlone(t testing.TB) *alone {
	me := evs.ProcID{Name: "a", Inc: 7}
	m, err := New(Config{Me: me, Cluster: "bench"}, rand.New(rand.NewPCG(1, 2)), 0)
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{m: m}
	m.Start(0, &a.fx)
	for range 100 {
		if m.Configuration() != nil {
			break
		}
		a.now = m.Deadline()
		m.Advance(a.now, &a.fx)
	}
	if c := m.Configuration(); c == nil || len(c.Members) != 1 {
		t.Fatalf("configuration %v, want one of one member", c)
	}
	m.Open()
	a.reset()
	return a
}

// reset empties the effects as their owner does.
func (a *alone) reset() {
	a.fx = Effects{Sends: a.fx.Sends[:0], Events: a.fx.Events[:0], Notes: a.fx.Notes[:0]}
}

// submit sends a burst of messages of one lane, and returns how many are delivered by it.
func (a *alone) submit(service evs.Service, payload []byte, burst int) int {
	a.m.Settle()
	for range burst {
		p, buf := a.m.Begin(1, service)
		a.m.End(p, append(buf, payload...))
	}
	a.m.Kick(a.now, &a.fx)
	n := len(a.fx.Events)
	// Each input visits the ring a few times; what is left, and the token's last rounds, come with the next ones.
	for d := a.m.Deadline(); d != 0 && d <= max(a.now, 1); d = a.m.Deadline() {
		a.now = max(a.now, 1)
		a.reset()
		a.m.Settle()
		a.m.Advance(a.now, &a.fx)
		n += len(a.fx.Events)
	}
	a.reset()
	return n
}

// TestAloneAllocs guards the path of a message: nothing is allocated for it once buffers have grown.
func TestAloneAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own; the plain run of this test counts")
	}
	for _, size := range payloads {
		for _, service := range []evs.Service{evs.Agreed, evs.Safe} {
			for _, burst := range []int{1, 25} {
				if burst*size > 256<<10 {
					continue // more than a session may have waiting
				}
				a := newAlone(t)
				payload := bytes.Repeat([]byte{'x'}, size)
				delivered := 0
				step := func() { delivered += a.submit(service, payload, burst) }
				for range 50 {
					step() // windows, pools and lists grow
				}
				delivered = 0
				const runs = 30
				if got := testing.AllocsPerRun(runs, step); got != 0 {
					t.Errorf("%v, %d bytes, %d at once: %v allocations for each burst, want none", service, size, burst, got)
				}
				if want := (runs + 1) * burst; delivered != want {
					t.Errorf("%v, %d bytes, %d at once: delivered %d of %d messages", service, size, burst, delivered, want)
				}
			}
		}
	}
}

// BenchmarkAlone is the cost of ordering and delivering a message without a network: in one second about all that one
// core could do.
func BenchmarkAlone(b *testing.B) {
	for _, size := range payloads {
		for _, burst := range []int{1, 25} {
			b.Run(fmt.Sprintf("%d/burst=%d", size, burst), func(b *testing.B) {
				a := newAlone(b)
				payload := bytes.Repeat([]byte{'x'}, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				// One iteration is one message, so that figures of different bursts compare.
				left := 0
				for b.Loop() {
					if left--; left <= 0 {
						a.submit(evs.Agreed, payload, burst)
						left = burst
					}
				}
			})
		}
	}
}

// An event's payload may lie in the memory of a cut message: it is not lent again before Settle.
func TestAssembliesRestUntilSettle(t *testing.T) {
	var s assemblies
	a := s.get(1000, true)
	a.buf = append(a.buf, "payload of an event"...)
	s.put(a)
	if b := s.get(10, true); b == a {
		t.Error("memory was lent again within the same input")
	}
	s.settle()
	if b := s.get(1000, true); b != a || len(b.buf) != 0 || b.want != 1000 {
		t.Errorf("after settle: %+v, want the same memory, empty", b)
	}
	for i := range 30_000 {
		s.put(s.get(1+i%7*100, true))
		s.put(&assembly{buf: make([]byte, 0, 256+i%5)}) // only the first of five is of a size that is kept
	}
	s.put(&assembly{buf: make([]byte, 0, maxAssemblyBytes+1)})
	s.settle()
	for range 100 {
		s.put(s.get(maxAssemblyBytes, true))
		s.put(s.get(maxAssemblyBytes-20_000, true))
	}
	s.settle()
	kept := 0
	for _, free := range s.free {
		for _, a := range free {
			kept += cap(a.buf)
		}
	}
	if kept > maxFreeBytes || kept < maxFreeBytes/4 || kept != s.bytes || len(s.limbo) != 0 {
		t.Errorf("%d bytes are kept, counted as %d, and %d at rest; want at most %d and none", kept, s.bytes, len(s.limbo), maxFreeBytes)
	}
}

func TestPartClass(t *testing.T) {
	for want, size := range map[int]int{0: 256, 1: 256, 256: 256, 257: 512, 1024: 1024, 1025: 2048, 128 << 10: 128 << 10, 128<<10 + 1: 160 << 10, 160 << 10: 160 << 10, 16 << 20: 160 << 10} {
		class, got := partClass(want)
		again, same := partClass(got)
		if got != size || again != class || same != size || class < 0 || class >= partClasses {
			t.Errorf("%d bytes: class %d, %d bytes, want %d; the class of these is %d, %d bytes", want, class, got, size, again, same)
		}
	}
}

// A visit of the largest window cuts a message with each packet: they are all there again at the next one.
func TestAssembliesOfAVisit(t *testing.T) {
	var s assemblies
	visit := func() {
		var all [512]*assembly
		for i := range all {
			all[i] = s.get(1200, true)
		}
		for _, a := range all {
			s.put(a)
		}
		s.settle()
	}
	visit()
	if n := testing.AllocsPerRun(20, visit); n != 0 {
		t.Errorf("%v allocations in a visit", n)
	}
}
