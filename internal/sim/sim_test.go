// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// failed reports a failed run with the line that repeats it, and keeps its history.
func failed(t *testing.T, r *Result) {
	t.Helper()
	for i, v := range r.Violations {
		if i == 3 {
			t.Logf("... and %d more", len(r.Violations)-i)
			break
		}
		t.Errorf("%v", v)
	}
	t.Logf("repeat: %s", r.Repeat())
	name := filepath.Join(t.ArtifactDir(), fmt.Sprintf("%s-%d.txt", r.Profile, r.Seed))
	var b bytes.Buffer
	if err := WriteHistory(&b, r.History); err == nil && os.WriteFile(name, b.Bytes(), 0o644) == nil {
		t.Logf("history: %s (go test -artifacts keeps it)", name)
	}
}

// TestSchedules runs a modest number of schedules of each profile; evensong sim runs as many as one likes.
func TestSchedules(t *testing.T) {
	for _, x := range []struct {
		profile string
		n       int
	}{{"mixed", 60}, {"calm", 15}, {"partition", 25}, {"restart", 25}, {"asym", 10}, {"churn", 15}, {"reload", 25}, {"primary", 25}, {"pressure", 12}, {"group", 25}, {"big", 1}} {
		t.Run(x.profile, func(t *testing.T) {
			t.Parallel()
			n := x.n
			if testing.Short() {
				n = (n + 9) / 10
			}
			s, err := RunBatch(context.Background(), Batch{Seed: 1, Schedules: n, Profile: x.profile, Each: func(r *Result) {
				if r.Failed() {
					failed(t, r)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			if testing.Verbose() {
				t.Log(b.String())
			}
		})
	}
}

// TestPressure: the profile of slow readers brings about all that can happen to one, so that the rules, GRP-16 above all, are
// judged over it.
func TestPressure(t *testing.T) {
	s, err := RunBatch(context.Background(), Batch{Seed: 100, Schedules: 60, Profile: "pressure", Each: func(r *Result) {
		if r.Failed() {
			failed(t, r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"readers over their budgets", "messages left out", "waits for a reader", "closed: stalled", "closed: waited", "closed: slow-bytes", "closed: crowded"} {
		if s.Steps[what] == 0 {
			t.Errorf("no %s in %d schedules: %v", what, s.Schedules, s.Steps)
		}
	}
}

// TestGroupAddress: the profile of the group address has both ends: daemons that use it, and daemons that know not to.
func TestGroupAddress(t *testing.T) {
	s, err := RunBatch(context.Background(), Batch{Seed: 100, Schedules: 12, Profile: "group", Each: func(r *Result) {
		if r.Failed() {
			failed(t, r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"group address known: true", "group address known: false"} {
		if s.Steps[what] == 0 {
			t.Errorf("no %s in %d schedules: %v", what, s.Schedules, s.Steps)
		}
	}
}

// TestRepeatable: one seed is one history, to the byte.
func TestRepeatable(t *testing.T) {
	var used Arena
	for _, profile := range []string{"mixed", "restart", "churn", "pressure", "group"} {
		for seed := uint64(100); seed < 103; seed++ {
			first, err := Run(seed, profile)
			if err != nil {
				t.Fatal(err)
			}
			second, err := used.Run(seed, profile)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := Hash(first.History), Hash(second.History); a != b {
				t.Errorf("%s %d: two runs of one seed differ: %s, %s", profile, seed, a, b)
				for i := range min(len(first.History), len(second.History)) {
					var x, y strings.Builder
					_ = WriteHistory(&x, first.History[i:i+1]) // a strings.Builder takes everything
					_ = WriteHistory(&y, second.History[i:i+1])
					if x.String() != y.String() {
						t.Logf("record %d:\n%s%s", i, x.String(), y.String())
						break
					}
				}
			}
		}
	}
}

// TestSeeds replays the seeds of testdata/seeds, which failed once.
func TestSeeds(t *testing.T) {
	files, err := filepath.Glob("testdata/seeds/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			var profile string
			var seed uint64
			if _, err := fmt.Sscan(line, &profile, &seed); err != nil {
				t.Fatalf("%s:%d: want profile and seed: %v", file, n, err)
			}
			t.Run(fmt.Sprintf("%s-%d", profile, seed), func(t *testing.T) {
				t.Parallel()
				r, err := Run(seed, profile)
				if err != nil {
					t.Fatal(err)
				}
				if r.Failed() {
					failed(t, r)
				}
			})
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnknownProfile: the error names the profiles there are.
func TestUnknownProfile(t *testing.T) {
	if _, err := Run(1, "nonsense"); err == nil || !strings.Contains(err.Error(), "mixed") {
		t.Errorf("Run with an unknown profile: %v", err)
	}
}

// TestQueue holds the heap against sorting.
func TestQueue(t *testing.T) {
	w := newWorld(1)
	var q queue
	for range 1000 {
		q.push(event{at: w.between(0, 50)})
		if w.chance(0.3) && len(q.heap) > 0 {
			q.pop()
		}
	}
	last := event{at: -1}
	for len(q.heap) > 0 {
		e := q.pop()
		if !q.less(&last, &e) {
			t.Fatalf("event %v/%d after %v/%d", e.at, e.order, last.at, last.order)
		}
		last = e
	}
}

// FuzzSim lets the fuzzer choose seeds.
func FuzzSim(f *testing.F) {
	for i := range Profiles() {
		f.Add(uint64(7), uint8(i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, profile uint8) {
		all := Profiles()
		p := all[int(profile)%len(all)]
		if p.Name == "big" {
			t.Skip("too slow for fuzzing")
		}
		r, err := Run(seed, p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if r.Failed() {
			failed(t, r)
		}
	})
}

func BenchmarkMixed(b *testing.B) {
	b.ReportAllocs()
	seed := uint64(1)
	var a Arena
	for b.Loop() {
		if _, err := a.Run(seed, "mixed"); err != nil {
			b.Fatal(err)
		}
		seed++
	}
}
