// SPDX-License-Identifier: Apache-2.0

// Baseline measures what the daemon and the Go client cost together: real daemons on loopback, one client at each, all
// of them sending and receiving. It answers "did this change make us slower?", not "how fast is Evensong on my
// network?": daemons and clients share one machine, so a throughput here is a CPU figure.
//
//	go run ./bench/baseline                  # everything, about two minutes
//	go run ./bench/baseline -quick           # a look, some twenty seconds
//	go run ./bench/baseline -o markdown      # the tables of docs/performance.md
//	go run ./bench/baseline -daemons 4 -bytes 100 -service agreed -profile /tmp/profiles
//
// It builds evensong, and starts "evensong serve" processes and one process per client: this program again, in the role
// "client". A message of a client goes to a group that all are members of. Throughput is taken with every client
// keeping -window messages of its own in flight; before that one client alone sends one message at a time. A client
// also stops sending when it is -lead bytes ahead of what another one has received (each message says so), because a
// daemon would end the session of a client that falls too far behind.
//
// With -counters the daemons run in processes of this program, with the same host and the same configuration, because
// "evensong serve" does not tell its counters: system calls per delivery come from there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"evensong/bench/run"
)

// options are what the flags say.
type options struct {
	daemons  []int
	bytes    []int
	services []string
	window   int
	lead     int
	warm     time.Duration
	load     time.Duration
	ping     time.Duration
	repeat   int
	output   string
	profile  string
	binary   string
	counters bool
	path     string
	packet   int
	seal     bool
	quiet    bool
}

func main() {
	// The roles of the processes that this program starts; not for people.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "client":
			os.Exit(role(runClient(os.Args[2:], os.Stdin, os.Stdout)))
		case "daemon":
			os.Exit(role(runDaemon(os.Args[2:], os.Stdin, os.Stdout)))
		}
	}
	run.Main("baseline", parse, measure)
}

// role turns the result of a child into its exit code. The parent shows what the child says on standard error.
func role(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "baseline %s: %v\n", os.Args[1], err)
	if errors.Is(err, run.ErrChanged) {
		return run.ExitChanged
	}
	return 1
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{}
	fs := flag.NewFlagSet("baseline", flag.ContinueOnError)
	fs.SetOutput(stderr)
	daemons := fs.String("daemons", "1,3,4", "`NUMBERS` of daemons")
	bytes := fs.String("bytes", "100,1350,8192", "payload `BYTES`, at least "+strconv.Itoa(run.MinPayload))
	service := fs.String("service", "agreed,safe", "`SERVICES`: agreed, safe")
	quick := fs.Bool("quick", false, "1 and 3 daemons, 100 and 1350 bytes, agreed, half a second each")
	fs.IntVar(&o.window, "window", 200, "`MESSAGES` of its own that a client keeps in flight")
	fs.IntVar(&o.lead, "lead", 4<<20, "`BYTES` that a client may be ahead of the slowest receiver")
	fs.DurationVar(&o.warm, "warm", 500*time.Millisecond, "warm-up before each load")
	fs.DurationVar(&o.load, "time", 2*time.Second, "time under load of each row")
	fs.DurationVar(&o.ping, "ping", time.Second, "time with one message in flight of each row")
	fs.IntVar(&o.repeat, "repeat", 1, "`TIMES` that everything is measured; medians are shown")
	fs.StringVar(&o.output, "o", "text", "output: text, markdown, json")
	fs.StringVar(&o.profile, "profile", "", "write a CPU profile of each daemon and client process into `DIR`")
	fs.StringVar(&o.binary, "binary", "", "evensong program to measure (default: built from this checkout)")
	fs.BoolVar(&o.counters, "counters", false, "run the daemons in this program and show system calls per delivery")
	fs.StringVar(&o.path, "datagram-path", "", "`PATH` of the daemons' datagrams: segment, batch or single (default: theirs)")
	fs.IntVar(&o.packet, "packet-bytes", 0, "largest datagram of the daemons, in `BYTES` (default: theirs)")
	fs.BoolVar(&o.seal, "seal", false, "the daemons have a cluster key, and seal their datagrams")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick {
		short := func(name string, d *time.Duration) {
			if !given[name] {
				*d = 500 * time.Millisecond
			}
		}
		short("time", &o.load)
		short("ping", &o.ping)
		for name, to := range map[string]struct {
			v *string
			s string
		}{"daemons": {daemons, "1,3"}, "bytes": {bytes, "100,1350"}, "service": {service, "agreed"}} {
			if !given[name] {
				*to.v = to.s
			}
		}
	}
	var err error
	if o.daemons, err = numbers("daemons", *daemons, 1, run.MaxMembers); err != nil {
		return o, err
	}
	if o.bytes, err = numbers("bytes", *bytes, run.MinPayload, 100_000); err != nil {
		return o, err
	}
	for s := range strings.SplitSeq(*service, ",") {
		if s != "agreed" && s != "safe" {
			return o, fmt.Errorf("-service %s: want agreed or safe", s)
		}
		o.services = append(o.services, s)
	}
	switch {
	case o.counters && o.binary != "":
		return o, errors.New("-counters runs the daemons in this program, so it does not go with -binary")
	case o.window < 1 || o.repeat < 1 || o.lead < 1 || o.load <= 0 || o.warm < 0 || o.ping < 0:
		return o, errors.New("windows, times and repetitions must be positive")
	case o.output != "text" && o.output != "markdown" && o.output != "json":
		return o, fmt.Errorf("-o %s: want text, markdown or json", o.output)
	}
	return o, nil
}

func numbers(name, list string, low, high int) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return nil, fmt.Errorf("-%s %s: want numbers from %d to %d, separated by commas", name, s, low, high)
		}
		out = append(out, n)
	}
	return out, nil
}

// measure measures everything and writes the result.
func measure(ctx context.Context, o options, stdout io.Writer, stderr *os.File) error {
	dir, err := os.MkdirTemp("", "evensong-baseline-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
		if o.profile, err = filepath.Abs(o.profile); err != nil {
			return err
		}
	}
	p := &run.Progress{W: stderr, Terminal: term.IsTerminal(int(stderr.Fd())), Off: o.quiet}
	defer p.Done()
	if o.binary == "" && !o.counters {
		p.Say("building evensong")
		if o.binary, err = run.Build(ctx, dir); err != nil {
			return err
		}
	}
	r := result{Origin: run.From(ctx, o.words())}
	cells := newCells(o)
	for i := range o.repeat {
		for _, n := range o.daemons {
			if err := measureCluster(ctx, &o, dir, n, i, cells, p); err != nil {
				return err
			}
		}
	}
	for _, c := range cells {
		r.Rows = append(r.Rows, c.median())
	}
	p.Done()
	return run.Write(stdout, o.output, &r)
}

// tries is how often a row is begun again, with new daemons, before the run gives up. On a machine that is busy with other
// things a daemon may not run for as long as the token timeout; then the configuration changes, and there is no figure.
const tries = 3

// measureCluster fills the cells of n daemons once.
func measureCluster(ctx context.Context, o *options, dir string, n, round int, cells []*cell, p *run.Progress) error {
	var c *cluster
	defer func() { c.stop() }()
	started := 0
	for _, cell := range cells {
		if cell.Daemons != n {
			continue
		}
		for try := 1; ; try++ {
			var r row
			var err error
			if c == nil {
				p.Say("starting %d daemons and their clients", n)
				started++
				c, err = startCluster(ctx, o, filepath.Join(dir, fmt.Sprintf("%d-%d-%d", n, round, started)), n)
			}
			if err == nil {
				p.Say("%d daemons, %s, %d bytes (%d of %d)", n, cell.Service, cell.Bytes, round+1, o.repeat)
				r, err = c.measure(ctx, o, cell.key)
			}
			if err == nil {
				cell.rows = append(cell.rows, r)
				break
			}
			err = fmt.Errorf("%d daemons, %s, %d bytes: %w%s", n, cell.Service, cell.Bytes, err, c.lastWords())
			c.stop()
			c = nil
			if ctx.Err() != nil || try == tries || !errors.Is(err, run.ErrChanged) {
				return err
			}
			p.Note("once more: %v", err)
		}
	}
	return nil
}

// words is the command that repeats this measurement.
func (o *options) words() string {
	list := func(v []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]") }
	s := fmt.Sprintf("go run ./bench/baseline -daemons %s -bytes %s -service %s -window %d -lead %d -warm %v -time %v -ping %v -repeat %d",
		list(o.daemons), list(o.bytes), strings.Join(o.services, ","), o.window, o.lead, o.warm, o.load, o.ping, o.repeat)
	if o.path != "" {
		s += " -datagram-path " + o.path
	}
	if o.packet != 0 {
		s += fmt.Sprintf(" -packet-bytes %d", o.packet)
	}
	if o.seal {
		s += " -seal"
	}
	if o.counters {
		s += " -counters"
	}
	return s
}
