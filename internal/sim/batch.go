// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"evensong/internal/check"
)

// Batch says which runs to make: schedules of a profile, with seeds Seed, Seed+1 and so on.
type Batch struct {
	Seed      uint64
	Schedules int
	Profile   string
	Workers   int                 // runs side by side; zero means 1
	Progress  func(done *Summary) // called after each run, by one goroutine at a time; may be nil
	Each      func(r *Result)     // likewise, with the run's history; may be nil
}

// Failure is one failed run.
type Failure struct {
	Seed   uint64   `json:"seed"`
	Rules  []string `json:"rules"`
	First  string   `json:"first"`
	Repeat string   `json:"repeat"`
}

// RuleSum is one rule over many runs.
type RuleSum struct {
	Rule        string `json:"rule"`
	Title       string `json:"title"`
	Antecedents int64  `json:"antecedents"`
	Violations  int64  `json:"violations"`
	Runs        int    `json:"runs"` // in which its antecedent occurred
}

// Summary adds runs up.
type Summary struct {
	Profile    string           `json:"profile"`
	Schedules  int              `json:"schedules"`
	Elapsed    time.Duration    `json:"elapsed_ns"`
	Workers    int              `json:"workers"`
	Virtual    time.Duration    `json:"virtual_ns"`
	Converged  time.Duration    `json:"slowest_convergence_ns"`
	Messages   int64            `json:"messages"`
	Deliveries int64            `json:"deliveries"`
	Records    int64            `json:"records"`
	Inputs     uint64           `json:"inputs"`
	Datagrams  uint64           `json:"datagrams"`
	Lost       uint64           `json:"lost"`
	Installs   int64            `json:"installs"`
	Faults     map[string]int64 `json:"faults"`
	Steps      map[string]int64 `json:"faults_by_step"`
	Rules      []RuleSum        `json:"rules"`
	Coverage   map[string]int64 `json:"coverage"`
	Failures   []Failure        `json:"failures"`
}

// Rate is schedules per second and core.
func (s *Summary) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Schedules) / s.Elapsed.Seconds() / float64(max(1, s.Workers))
}

// Untested lists the rules whose antecedent never occurred.
func (s *Summary) Untested() []string {
	var out []string
	for _, r := range s.Rules {
		if r.Antecedents == 0 {
			out = append(out, r.Rule)
		}
	}
	return out
}

// add counts one run.
func (s *Summary) add(r *Result) {
	c := &r.Counters
	s.Schedules++
	s.Virtual += c.Virtual
	s.Converged = max(s.Converged, c.Converged)
	s.Messages += int64(c.Messages)
	s.Deliveries += int64(c.Deliveries)
	s.Records += int64(c.Records)
	s.Inputs += c.Inputs
	s.Datagrams += c.Datagrams
	s.Lost += c.Lost
	s.Installs += int64(c.Installs)
	for k, n := range c.Faults {
		s.Faults[k] += int64(n)
	}
	for k, n := range c.Steps {
		s.Steps[k] += int64(n)
	}
	for _, x := range r.Coverage {
		s.Coverage[x.Name] += x.Count
	}
	for _, x := range r.Rules {
		s.rule(x)
	}
	for _, v := range r.Violations {
		if !slices.ContainsFunc(r.Rules, func(x check.RuleReport) bool { return x.Rule == v.Rule }) {
			s.rule(check.RuleReport{Rule: v.Rule, Title: "judged by the simulator", Antecedents: 1, Violations: 1})
		}
	}
	if r.Failed() {
		f := Failure{Seed: r.Seed, First: r.Violations[0].String(), Repeat: r.Repeat()}
		for _, v := range r.Violations {
			if !slices.Contains(f.Rules, v.Rule) {
				f.Rules = append(f.Rules, v.Rule)
			}
		}
		at, _ := slices.BinarySearchFunc(s.Failures, f, func(a, b Failure) int { return cmp.Compare(a.Seed, b.Seed) })
		s.Failures = slices.Insert(s.Failures, at, f)
	}
}

func (s *Summary) rule(x check.RuleReport) {
	k := slices.IndexFunc(s.Rules, func(y RuleSum) bool { return y.Rule == x.Rule })
	if k < 0 {
		k = len(s.Rules)
		s.Rules = append(s.Rules, RuleSum{Rule: x.Rule, Title: x.Title})
	}
	y := &s.Rules[k]
	y.Antecedents += x.Antecedents
	y.Violations += x.Violations
	if x.Antecedents > 0 {
		y.Runs++
	}
}

// RunBatch makes the runs of b until they are done or ctx ends, and adds them up.
func RunBatch(ctx context.Context, b Batch) (*Summary, error) {
	if _, err := profileByName(b.Profile); err != nil {
		return nil, err
	}
	workers := max(1, min(b.Workers, b.Schedules))
	s := &Summary{Profile: b.Profile, Workers: workers, Faults: map[string]int64{}, Steps: map[string]int64{}, Coverage: map[string]int64{}}
	begin := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	for range workers {
		wg.Go(func() {
			var arena Arena
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= b.Schedules || ctx.Err() != nil {
					return
				}
				r, err := arena.Run(b.Seed+uint64(i), b.Profile)
				if err != nil {
					panic("sim: " + err.Error()) // the profile is known
				}
				mu.Lock()
				s.add(r)
				s.Elapsed = time.Since(begin)
				if b.Each != nil {
					b.Each(r)
				}
				if b.Progress != nil {
					b.Progress(s)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return s, ctx.Err()
}

// Write renders the summary as tables.
func (s *Summary) Write(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("profile", "%s", s.Profile)
	row("schedules", "%d", s.Schedules)
	row("failed", "%d", len(s.Failures))
	row("rate", "%.1f schedules per second and core", s.Rate())
	row("elapsed", "%v with %d workers", s.Elapsed.Round(time.Millisecond), s.Workers)
	row("virtual time", "%v", s.Virtual.Round(time.Second))
	row("slowest convergence", "%v after the last fault", s.Converged.Round(time.Millisecond))
	row("messages", "%d sent by clients, %d deliveries by daemons", s.Messages, s.Deliveries)
	row("configurations", "%d installs", s.Installs)
	row("datagrams", "%d, %d lost or cut off", s.Datagrams, s.Lost)
	row("records", "%d", s.Records)
	t.Flush()
	counts := func(title string, m map[string]int64) {
		fmt.Fprintf(out, "\n%s\n", title)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(out, "%12d  %s\n", m[k], k)
		}
	}
	counts("faults", s.Faults)
	counts("faults by what the daemon was doing", s.Steps)
	counts("coverage", s.Coverage)
	fmt.Fprintf(out, "\n%-10s %14s %10s %10s\n", "rule", "antecedents", "runs", "violations")
	for _, r := range s.Rules {
		fmt.Fprintf(out, "%-10s %14d %10d %10d  %s\n", r.Rule, r.Antecedents, r.Runs, r.Violations, r.Title)
	}
	if u := s.Untested(); len(u) > 0 {
		fmt.Fprintf(out, "\nuntested: %v\n", u)
	}
	for i, f := range s.Failures {
		if i == 20 {
			fmt.Fprintf(out, "... and %d more\n", len(s.Failures)-i)
			break
		}
		first := f.First
		if len(first) > 600 {
			first = first[:600] + " ..."
		}
		fmt.Fprintf(out, "\nFAILED %v: %s\n  repeat: %s\n", f.Rules, first, f.Repeat)
	}
	return nil
}
