// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"evensong/internal/proto/evs"
)

// Times in these tests: record number k, counted from 1, is at k microseconds.
const us = 1000

func TestConverged(t *testing.T) {
	h := &History{Records: parseHistory(t, boot)} // a installs ring 3 at 10 us, b at 12 us
	both := testProcs("a,b")
	if v := Converged(h, both, 6*us, 6*us); len(v) != 0 {
		t.Errorf("converged: %v", v)
	}
	if v := Converged(h, both, 6*us, 5*us); len(v) != 1 {
		t.Errorf("too late: %v", v)
	}
	if v := Converged(h, testProcs("a,b,c"), 6*us, 6*us); len(v) != 3 {
		t.Errorf("one missing: %v", v)
	}
	if v := Converged(h, testProcs("a"), 6*us, 6*us); len(v) != 1 {
		t.Errorf("one too many: %v", v)
	}
	h = &History{Records: parseHistory(t, boot+apart)}
	if v := Converged(h, both, 6*us, 100*us); len(v) != 2 {
		t.Errorf("apart again: %v", v)
	}
	if v := Merged(&History{Records: parseHistory(t, boot)}, both, 6*us, 6*us); len(v) != 0 {
		t.Errorf("merged: %v", v)
	}
	busy := &History{Records: parseHistory(t, boot+`x@a cast m1 agreed g`)}
	if v := Merged(busy, both, 6*us, 20*us); len(v) != 1 {
		t.Errorf("merged, busy: %v", v)
	}
}

func TestDelivered(t *testing.T) {
	h := &History{Records: parseHistory(t, boot+`a send 3/1 agreed; a dlv 3/1; b dlv 3/1; a send 3/2 safe; a dlv 3/2`)} // sends at 13 and 16 us
	if v := Delivered(h, 0, 17*us, 2*us, 4*us); len(v) != 0 {
		t.Errorf("in time, the second not yet due: %v", v)
	}
	if v := Delivered(h, 0, 17*us, 1*us, 4*us); len(v) != 1 {
		t.Errorf("late: %v", v)
	}
	if v := Delivered(h, 0, 30*us, 2*us, 4*us); len(v) != 1 {
		t.Errorf("never: %v", v)
	}
	if v := Delivered(h, 17*us, 30*us, 2*us, 4*us); len(v) != 0 {
		t.Errorf("before the time asked about: %v", v)
	}
}

func TestNoLivelock(t *testing.T) {
	h := &History{Records: parseHistory(t, boot+together)}
	all := func(_, _ evs.ProcID) bool { return true }
	if v := NoLivelock(h, testProcs("a,b"), 0, 3, all); len(v) != 0 {
		t.Errorf("bounded: %v", v)
	}
	if v := NoLivelock(h, testProcs("a,b"), 0, 2, all); len(v) != 2 {
		t.Errorf("too many: %v", v)
	}
	oneWay := func(from, _ evs.ProcID) bool { return from == testProc("a") }
	if v := NoLivelock(h, testProcs("a,b"), 0, 3, oneWay); len(v) != 2 {
		t.Errorf("not mutual: %v", v)
	}
}

func TestFairness(t *testing.T) {
	run := func(gap, latency int64) *History {
		h := &History{}
		for i := range int64(100) {
			at := (i + 1) * gap
			h.Records = append(h.Records,
				evs.Trace{Kind: evs.TraceMulticast, Session: testSession("x@a"), Digest: uint64(i + 1), At: at},
				evs.Trace{Kind: evs.TraceClientMsg, Session: testSession("y@a"), Digest: uint64(i + 1), At: at + latency})
		}
		return h
	}
	others := func(evs.SessionID) bool { return true }
	for _, c := range []struct {
		name         string
		gap, latency int64
		share        float64
		want         int
	}{
		{"the same", 10 * us, 20 * us, 1, 0},
		{"a little slower", 10*us + 500, 39 * us, 1, 0},
		{"starved", 20 * us, 20 * us, 1, 1},
		{"half is fair", 20 * us, 20 * us, 0.5, 0},
		{"delayed", 10 * us, 41 * us, 1, 1},
	} {
		if v := Fairness(run(10*us, 20*us), run(c.gap, c.latency), others, c.share); len(v) != c.want {
			t.Errorf("%s: %v", c.name, v)
		}
	}
	if v := Fairness(&History{}, run(10*us, 20*us), others, 1); len(v) != 1 {
		t.Errorf("nothing to compare: %v", v)
	}
}
