// SPDX-License-Identifier: Apache-2.0

package packet

import "testing"

// A room goes back when the last one leaves it, and can be kept again then. Who leaves too often is an error of ours.
func TestRoom(t *testing.T) {
	back := 0
	r := NewRoom(make([]byte, 10), func(*Room) { back++ })
	for round := 1; round <= 2; round++ {
		if r.Shared() {
			t.Error("shared by its maker alone")
		}
		r.Keep()
		if !r.Shared() {
			t.Error("not shared by two")
		}
		r.Leave()
		if r.Shared() || back != round-1 {
			t.Errorf("round %d: one of two has left: shared %v, back %d times", round, r.Shared(), back)
		}
		r.Leave()
		if back != round {
			t.Errorf("round %d: back %d times", round, back)
		}
		r.Keep()
	}
	r.Leave()
	defer func() {
		if recover() == nil {
			t.Error("left by nobody, and no panic")
		}
	}()
	r.Leave()
}
