// SPDX-License-Identifier: Apache-2.0

// Sessions measures what many clients cost one daemon, and what clients that behave badly cost the others. A real daemon
// process, real sockets; all clients are connections of this program, which speaks the client protocol as plainly as it
// can, so that its own share of the machine stays small.
//
//	go run ./bench/sessions                      # everything, about six minutes
//	go run ./bench/sessions -part idle           # memory per idle client, joins of a large group
//	go run ./bench/sessions -part slow -pairs 3  # one slow reader among many
//	go run ./bench/sessions -part fair           # clients that flood, do not read, open and close
//	go run ./bench/sessions -o markdown          # the tables of docs/performance.md
//
// Part idle: -clients connections, each in one of -groups groups; what the daemon's resident memory grew by, divided by the
// clients. Then -members clients join one group, for which the daemon writes views of a third of the cube of that many names;
// with -storm all at once, and nobody may be cut off for it. Then a further client joins and leaves -joins times: the time until
// it has its view, and until all members have.
//
// Part slow: a sender and -readers readers of one group. Runs in pairs, one undisturbed and one in which a reader stops
// reading, each first in turn, with a new daemon each. The rate of the other readers is taken until the slow one is cut off, at
// most for -time, and divided by that of the undisturbed run.
//
// Part fair: a sender and a reader at a fixed pace, alone, beside a client of the same daemon that behaves badly, and beside one
// that does the same at another daemon of the machine, each first in turn: how much of the pace is kept, and how the 99th
// percentile of the latency grows (GRP-17). The last of the three is what the load alone does to this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"evensong/bench/run"
)

// options are what the flags say.
type options struct {
	parts   []string
	clients int
	groups  int
	members int
	storm   bool
	joins   int
	readers int
	bytes   int
	window  int
	pairs   int
	load    time.Duration
	pace    int
	tcp     bool
	serve   string
	output  string
	binary  string
	quiet   bool
}

var parts = []string{"idle", "slow", "fair"}

func main() {
	// The role of a process that this program starts; not for people.
	if len(os.Args) > 1 && os.Args[1] == "ill" {
		if err := misbehave(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "sessions ill: %v\n", err)
			os.Exit(1)
		}
		return
	}
	run.Main("sessions", parse, measure)
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{}
	fs := flag.NewFlagSet("sessions", flag.ContinueOnError)
	fs.SetOutput(stderr)
	list := fs.String("part", strings.Join(parts, ","), "`PARTS` to measure")
	fs.IntVar(&o.clients, "clients", 5000, "idle: `CLIENTS` connected")
	fs.IntVar(&o.groups, "groups", 1000, "idle: `GROUPS` that they are members of, one each")
	fs.IntVar(&o.members, "members", 1000, "idle: `MEMBERS` of the large group, at most as many as clients")
	fs.BoolVar(&o.storm, "storm", false, "idle: the members of the large group join all at once, so that each has many views waiting")
	fs.IntVar(&o.joins, "joins", 20, "idle: `TIMES` that the last member joins")
	fs.IntVar(&o.readers, "readers", 50, "slow: `READERS` of the group")
	fs.IntVar(&o.bytes, "bytes", 1000, "slow: payload `BYTES`")
	fs.IntVar(&o.window, "window", 500, "slow: `MESSAGES` that the sender may be ahead of a reader that reads")
	fs.IntVar(&o.pairs, "pairs", 9, "slow, fair: `PAIRS` of runs")
	fs.DurationVar(&o.load, "time", 6*time.Second, "slow, fair: longest time of a run")
	fs.IntVar(&o.pace, "pace", 1000, "fair: `MESSAGES` per second of the sender")
	fs.BoolVar(&o.tcp, "tcp", false, "clients use TCP in place of a Unix socket")
	fs.StringVar(&o.serve, "serve", "", "further `FLAGS` of the daemon, separated by blanks")
	fs.StringVar(&o.output, "o", "text", "output: text, markdown, json")
	fs.StringVar(&o.binary, "binary", "", "evensong program to measure (default: built from this checkout)")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for p := range strings.SplitSeq(*list, ",") {
		if !slices.Contains(parts, p) {
			return o, fmt.Errorf("-part %s: want some of %s", p, strings.Join(parts, ","))
		}
		o.parts = append(o.parts, p)
	}
	switch {
	case o.clients < 1 || o.groups < 1 || o.joins < 1 || o.readers < 2 || o.pairs < 1 || o.pace < 1 || o.window < 1 || o.load <= 0:
		return o, errors.New("numbers and times must be positive, and there must be two readers")
	case o.members < 2 || o.members > o.clients:
		return o, fmt.Errorf("-members %d: want 2 to the number of clients, %d", o.members, o.clients)
	case o.bytes < leastBytes || o.bytes > 100_000:
		return o, fmt.Errorf("-bytes %d: want %d to 100000", o.bytes, leastBytes)
	case o.output != "text" && o.output != "markdown" && o.output != "json":
		return o, fmt.Errorf("-o %s: want text, markdown or json", o.output)
	}
	return o, nil
}

// words is the command that repeats this measurement.
func (o *options) words() string {
	s := "go run ./bench/sessions -part " + strings.Join(o.parts, ",")
	if slices.Contains(o.parts, "idle") {
		s += fmt.Sprintf(" -clients %d -groups %d -members %d -joins %d", o.clients, o.groups, o.members, o.joins)
		if o.storm {
			s += " -storm"
		}
	}
	if slices.Contains(o.parts, "slow") {
		s += fmt.Sprintf(" -readers %d -bytes %d -window %d", o.readers, o.bytes, o.window)
	}
	if slices.Contains(o.parts, "fair") {
		s += fmt.Sprintf(" -pace %d", o.pace)
	}
	if len(o.parts) > 1 || o.parts[0] != "idle" {
		s += fmt.Sprintf(" -pairs %d -time %v", o.pairs, o.load)
	}
	if o.tcp {
		s += " -tcp"
	}
	if o.serve != "" {
		s += fmt.Sprintf(" -serve %q", o.serve)
	}
	return s
}

// measure measures everything and writes the result.
func measure(ctx context.Context, o options, stdout io.Writer, stderr *os.File) error {
	dir, err := os.MkdirTemp("", "evensong-sessions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := &run.Progress{W: stderr, Terminal: term.IsTerminal(int(stderr.Fd())), Off: o.quiet}
	defer p.Done()
	if o.binary == "" {
		p.Say("building evensong")
		if o.binary, err = run.Build(ctx, dir); err != nil {
			return err
		}
	}
	r := result{Origin: run.From(ctx, o.words())}
	b := &bench{o: &o, dir: dir, p: p, r: &r}
	for _, part := range o.parts {
		var err error
		switch part {
		case "idle":
			err = b.idle(ctx)
		case "slow":
			err = b.slow(ctx)
		case "fair":
			err = b.fair(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	p.Done()
	return run.Write(stdout, o.output, &r)
}

// bench is one run of this program.
type bench struct {
	o       *options
	dir     string
	p       *run.Progress
	r       *result
	daemons int // started so far
}
