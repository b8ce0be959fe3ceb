// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/sim"
)

// errViolation ends the command when a promise was broken; the report has said all there is to say.
var errViolation = errors.New("a guarantee was violated")

// newSimCommand is "evensong sim": clusters in virtual time, from seeds.
func newSimCommand() *cobra.Command {
	b := sim.Batch{Seed: 1, Schedules: 100, Workers: runtime.GOMAXPROCS(0)}
	output, history := "table", ""
	var names []string
	for _, p := range sim.Profiles() {
		names = append(names, fmt.Sprintf("  %-10s %s", p.Name, p.Text))
	}
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate clusters with faults and judge them by the guarantees",
		Long: `Sim runs whole clusters with clients in virtual time. A seed decides everything that happens: work, faults, delays.
After the faults the cluster must come together, and the history of the run must keep every guarantee of
docs/guarantees.md. Schedule number i of a command has seed S+i, so each failure names the one command that repeats it.

Profiles:
` + strings.Join(names, "\n"),
		Example: `  evensong sim --schedules 1000
  evensong sim --seed 4711 --profile partition --schedules 1 --history history.txt`,
		Args:          arguments(0, 0),
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return failure{fmt.Errorf("output %q: want table or json", output), exitUsage}
			}
			if b.Schedules < 1 {
				return failure{fmt.Errorf("%d schedules: at least 1 is needed", b.Schedules), exitUsage}
			}
			if history != "" && b.Schedules != 1 {
				return failure{fmt.Errorf("a history is written for one schedule: --history needs --schedules 1"), exitUsage}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), terminationSignals...)
			defer stop()
			return runSim(ctx, cmd, b, output, history)
		},
	}
	f := c.Flags()
	f.Uint64Var(&b.Seed, "seed", b.Seed, "seed of the first schedule")
	f.IntVar(&b.Schedules, "schedules", b.Schedules, "number of schedules")
	f.StringVar(&b.Profile, "profile", sim.Profiles()[0].Name, "sort of schedules")
	f.IntVarP(&b.Workers, "jobs", "j", b.Workers, "schedules that run side by side")
	f.StringVar(&history, "history", "", "write the history of the one schedule to this file, one record per line")
	f.StringVarP(&output, "output", "o", output, "table or json")
	return c
}

func runSim(ctx context.Context, cmd *cobra.Command, b sim.Batch, output, history string) error {
	var writeErr error
	hash := ""
	b.Each = func(r *sim.Result) {
		if b.Schedules == 1 {
			hash = sim.Hash(r.History)
		}
		if history != "" {
			writeErr = writeHistory(history, r)
		}
	}
	if e := cmd.ErrOrStderr(); output == "table" && isTerminal(e) {
		last := time.Now()
		b.Progress = func(s *sim.Summary) {
			if time.Since(last) >= 200*time.Millisecond {
				last = time.Now()
				fmt.Fprintf(e, "\r%d of %d schedules, %.1f per second and core, %d failed ", s.Schedules, b.Schedules, s.Rate(), len(s.Failures))
			}
		}
		defer fmt.Fprint(e, "\r\x1b[K")
	}
	// A schedule leaves much garbage and little that lives; collecting less often is a fifth of the time.
	debug.SetGCPercent(1000)
	s, err := sim.RunBatch(ctx, b)
	if s == nil {
		return err
	}
	if output == "json" {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		err = errors.Join(err, enc.Encode(struct {
			*sim.Summary
			Untested []string `json:"untested"`
			Hash     string   `json:"history_hash,omitempty"`
		}{s, s.Untested(), hash}))
	} else {
		err = errors.Join(err, s.Write(cmd.OutOrStdout()))
		if hash != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "history %s\n", hash)
		}
	}
	if err = errors.Join(err, writeErr); err != nil {
		return err
	}
	if len(s.Failures) > 0 {
		return fmt.Errorf("%d of %d schedules: %w", len(s.Failures), s.Schedules, errViolation)
	}
	return nil
}

// writeHistory writes the violations, then the history of a run, to a file.
func writeHistory(path string, r *sim.Result) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, v := range r.Violations {
		fmt.Fprintf(f, "# %s\n", strings.ReplaceAll(v.String(), "\n", "\n# "))
	}
	return errors.Join(sim.WriteHistory(f, r.History), f.Close())
}
