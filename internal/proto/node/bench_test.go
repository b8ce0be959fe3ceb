// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// payloads are those by which group communication systems are compared.
var payloads = []int{100, 1350, 8192, 65000}

// solo is a daemon in a configuration of its own with some clients in one group, and the least of a shell around it.
type solo struct {
	t     testing.TB
	m     *Machine
	fx    Effects
	now   time.Duration
	ids   []uint64
	vec   [][]byte
	dirty []uint64
	got   int // bytes written to all clients
}

const soloMembers = 3

func newSolo(t testing.TB) *solo {
	m, err := New(Config{Me: evs.ProcID{Name: "a", Inc: 7}, Cluster: "bench"}, rand.New(rand.NewPCG(1, 2)), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &solo{t: t, m: m}
	m.Start(0, &s.fx)
	s.settle()
	for i := range soloMembers {
		id := m.HandleAccept(s.now, true, netip.AddrPort{}, &s.fx)
		s.ids = append(s.ids, id)
		user := fmt.Sprintf("u%d", i)
		s.input(id, append([]byte{4, 4, 0, 1, byte(len(user))}, user...))
		choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
		if err != nil {
			t.Fatal(err)
		}
		s.input(id, choice)
		s.input(id, frame.AppendJoin(nil, "#"+user+"#a", "chat"))
	}
	if n := len(m.Groups().Members("chat")); n != soloMembers {
		t.Fatalf("%d members, want %d", n, soloMembers)
	}
	s.got = 0
	return s
}

// input offers bytes of a client and performs what follows, as a host does in one turn.
func (s *solo) input(id uint64, b []byte) {
	if n := s.m.HandleInput(s.now, id, b, &s.fx); n != len(b) {
		s.t.Fatalf("took %d of %d bytes", n, len(b))
	}
	s.settle()
}

// settle performs effects, and calls what is due, until nothing is left.
func (s *solo) settle() {
	for {
		s.dirty = append(s.dirty[:0], s.fx.Outputs...)
		s.fx.Reset()
		for _, id := range s.dirty {
			s.write(id)
		}
		d := s.m.Deadline()
		if len(s.dirty) == 0 && (d == 0 || d > max(s.now, 1)) && s.m.Configuration() != nil {
			return
		}
		if d != 0 && len(s.dirty) == 0 {
			s.now = max(s.now, d)
			s.m.Advance(s.now, &s.fx)
		}
	}
}

func (s *solo) write(id uint64) {
	for {
		s.vec = s.m.Output(id, s.vec[:0], 256)
		total := 0
		for _, b := range s.vec {
			total += len(b)
		}
		if total == 0 {
			return
		}
		s.got += total
		s.m.HandleWritten(s.now, id, total, &s.fx)
	}
}

// burst is what a client writes at once: so many messages, no more than a session may have waiting.
func burst(size, n int) (b []byte, messages int) {
	one := frame.AppendMulticast(nil, "#u0#a", frame.MulticastType(evs.Agreed, false), 1, []string{"chat"}, bytes.Repeat([]byte{'x'}, size))
	messages = min(n, max(200<<10/len(one), 1))
	return bytes.Repeat(one, messages), messages
}

// TestDeliveryAllocs guards the path from a client's bytes to the bytes for three local members: nothing is allocated
// for a message once buffers have grown.
func TestDeliveryAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own; the plain run of this test counts")
	}
	for _, size := range payloads {
		for _, n := range []int{1, 25} {
			s := newSolo(t)
			b, messages := burst(size, n)
			step := func() { s.input(s.ids[0], b) }
			for range 50 {
				step() // windows, pools, queues and lists grow
			}
			s.got = 0
			const runs = 30
			if got := testing.AllocsPerRun(runs, step); got != 0 {
				t.Errorf("%d bytes, %d at once: %v allocations, want none", size, messages, got)
			}
			if want := (runs + 1) * messages * soloMembers * frame.RegularNamesSize(1, size); s.got != want {
				t.Errorf("%d bytes, %d at once: clients got %d bytes, want %d", size, messages, s.got, want)
			}
		}
	}
}

// BenchmarkDeliver is a message of a client delivered to three local members, without system calls.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range payloads {
		for _, n := range []int{1, 25} {
			b.Run(fmt.Sprintf("%d/burst=%d", size, n), func(b *testing.B) {
				s := newSolo(b)
				in, messages := burst(size, n)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				// One iteration is one message, so that figures of different bursts compare.
				left := 0
				for b.Loop() {
					if left--; left <= 0 {
						s.input(s.ids[0], in)
						left = messages
					}
				}
			})
		}
	}
}
