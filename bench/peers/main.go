// SPDX-License-Identifier: Apache-2.0

// Peers compares Evensong with others that multicast, on one Linux machine, as root: corosync's closed process groups,
// NATS, which orders the messages of one sender only, and what the sockets carry without any order. Every figure is a ratio
// of two systems that were measured in turn within one run; what a machine does at another time, or another machine, does
// not matter.
//
//	apt-get install corosync libcpg-dev nats-server gcc iproute2
//	go run ./bench/peers -against corosync-knet,corosync-udpu           # 4 nodes, 100 bytes
//	go run ./bench/peers -what evensong+safe -against evensong -bytes 100,1350
//	go run ./bench/peers -against corosync -bytes 100,1350,8192,65000   # the best of a sweep over its settings
//	go run ./bench/peers -against evensong-best -bytes 100,1350,8192,65000   # our defaults, and what other windows and packets give
//	go run ./bench/peers -scale -nodes 4,8 -bytes 100,1350,8192,65000   # does a delivery cost more with more daemons?
//	go run ./bench/peers -against corosync-udpu -measure load,ping,low,half
//	go run ./bench/peers -against nats -nodes 1 -members 2 -one-sender
//	go run ./bench/peers -what evensong+causal -against raw-multicast -o markdown
//
// Each node is a network namespace; cables join them in one bridge, which carries multicast. A system has a network of its
// own, and both of a pair run beside each other, one of them idle. On each node is a daemon and a member, a process that
// sends to all, itself included, and counts what it receives. Members of Evensong are this program again, in the role
// "member", with the Go client; those of others are in the folders c and nats, built when they are needed. They do the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"evensong/bench/run"
	"evensong/internal/proto/packet"
)

// options are what the flags say.
type options struct {
	what     []system
	against  []system
	nodes    []int
	bytes    []int
	members  int  // at least; more than nodes share them
	one      bool // only the first one sends
	measures []string
	pairs    int
	window   int
	lead     int
	low      float64
	warm     time.Duration
	time     time.Duration
	sweep    []string // settings of corosync that are tried
	windows  []int    // those of our own that are tried, in packets of a daemon; zero: tuned
	packets  []int    // the same in bytes; zero: the default
	rounds   int      // of short runs of our own sweep
	sweeps   time.Duration
	scale    bool // each system against itself, on other numbers of nodes
	serve    []string
	output   string
	binary   string
	quiet    bool
}

// Ways to send, each measured by itself.
const (
	load = "load" // as much as the window allows
	ping = "ping" // one member, one message in flight
	low  = "low"  // by schedule, slowly
	idle = "idle" // nothing at all
	half = "half" // by schedule, half of what the second system carries
)

// Bounds of what evensong serve takes.
const (
	maxWindow = 999_999 // packets
	minPacket = 512     // bytes
)

// defaultSweep are the settings of corosync that are tried beside its defaults, for each transport.
const defaultSweep = "default,window_size=100+max_messages=50,window_size=300+max_messages=100,window_size=300+max_messages=100+netmtu=8000"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "member" { // not for people
		os.Exit(role(os.Args[2:]))
	}
	run.Main("peers", parse, measure)
}

// role is the life of a member of Evensong: ADDRESS ME MEMBERS.
func role(args []string) int {
	runtime.GOMAXPROCS(1) // a member in C is one thread, too; eight processes and more share the machine
	err := errors.New("the role member is started by the program itself")
	if len(args) == 3 {
		me, err1 := strconv.Atoi(args[1])
		n, err2 := strconv.Atoi(args[2])
		if err = errors.Join(err1, err2); err == nil {
			err = run.EvensongMember(context.Background(), args[0], me, n, func(ctx context.Context, l run.Link) error {
				return run.Member(ctx, l, me, n, os.Stdin, os.Stdout)
			})
		}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "peers member: %v\n", err)
	if errors.Is(err, run.ErrChanged) {
		return run.ExitChanged
	}
	return 1
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{}
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	fs.SetOutput(stderr)
	what := fs.String("what", evensong, "`SYSTEMS` that are compared")
	against := fs.String("against", corosync, "`SYSTEMS` each of them is compared with: "+strings.Join(names(), ", ")+
		".\nOptions follow with +: evensong+SERVICE (fifo, causal, agreed, safe), evensong+unicast, evensong+loss=0.01 (of the datagrams that each daemon receives), evensong+--FLAG=VALUE of serve,\ncorosync-TRANSPORT+SETTING=VALUE of totem or system; corosync alone is the best of -sweep with all transports.\nevensong-best is at each size the best of -sweep-windows times -sweep-packets, with options as evensong has them")
	nodes := fs.String("nodes", "4", "`NUMBERS` of nodes, one after the other")
	fs.BoolVar(&o.scale, "scale", false, "in place of -against: each of -what on the second and each further of -nodes against itself on the first, in turn, and whether deliveries cost as much CPU")
	bytes := fs.String("bytes", "100", "payload `BYTES`, at least "+strconv.Itoa(run.MinPayload))
	measures := fs.String("measure", load, "`WAYS` to send: load, ping (one in flight), low (by schedule), half (by schedule, half of what the second of the pair carries), idle (nothing)")
	fs.IntVar(&o.members, "members", 0, "`MEMBERS`, if there are more than nodes, in turn on each; not for raw sockets")
	fs.BoolVar(&o.one, "one-sender", false, "only the first member sends")
	fs.IntVar(&o.pairs, "pairs", 9, "`PAIRS` of runs of each comparison; medians are shown")
	fs.IntVar(&o.window, "window", 200, "load: `MESSAGES` of its own that a member keeps in flight")
	fs.IntVar(&o.lead, "lead", 2<<20, "load: `BYTES` that a member may be ahead of the slowest receiver")
	fs.Float64Var(&o.low, "rate", 100, "low: `MESSAGES` per second of each member")
	fs.DurationVar(&o.warm, "warm", 300*time.Millisecond, "warm-up before each run")
	fs.DurationVar(&o.time, "time", time.Second, "time of each run")
	sweep := fs.String("sweep", defaultSweep, "`SETTINGS` of corosync to try with each transport, each as behind corosync-TRANSPORT+")
	windows := fs.String("sweep-windows", "tuned,20,40,80,160,256", "evensong-best: `PACKETS` that a daemon may send per visit of the token; half as many may follow it")
	packets := fs.String("sweep-packets", "default,1472,8192,32768", "evensong-best: largest datagrams, in `BYTES`")
	fs.IntVar(&o.rounds, "sweep-rounds", 3, "evensong-best: `ROUNDS` of short runs; after each the better half goes on at each size, after the last the best two to -pairs")
	fs.DurationVar(&o.sweeps, "sweep-time", time.Second, "time of each run of a sweep")
	serve := fs.String("serve", "", "further `FLAGS` of each daemon of Evensong, separated by blanks")
	fs.StringVar(&o.output, "o", "text", "output: text, markdown, json")
	fs.StringVar(&o.binary, "binary", "", "evensong program to measure (default: built from this checkout)")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var err error
	if o.nodes, err = numbers("nodes", *nodes, 1, run.MaxMembers); err != nil {
		return o, err
	}
	if o.bytes, err = numbers("bytes", *bytes, run.MinPayload, 65000); err != nil {
		return o, err
	}
	if o.windows, err = choices("sweep-windows", *windows, tuned, 1, maxWindow); err != nil {
		return o, err
	}
	if o.packets, err = choices("sweep-packets", *packets, preset, minPacket, packet.MaxDatagram); err != nil {
		return o, err
	}
	for _, list := range []struct{ name, text string }{{"what", *what}, {"against", *against}, {"measure", *measures}, {"sweep", *sweep}} {
		if err := once(list.name, strings.Split(list.text, ",")); err != nil {
			return o, err
		}
	}
	for _, list := range []struct {
		name, text string
		to         *[]system
	}{{"what", *what, &o.what}, {"against", *against, &o.against}} {
		if o.scale && list.to == &o.against {
			continue
		}
		for text := range strings.SplitSeq(list.text, ",") {
			s, err := parseSystem(text)
			if err != nil {
				return o, fmt.Errorf("-%s %w", list.name, err)
			}
			*list.to = append(*list.to, s)
		}
	}
	for _, s := range o.what {
		if s.name == corosync || s.name == evensongBest {
			return o, fmt.Errorf("-what %s: the best of a sweep can only be on the other side", s.text)
		}
	}
	for m := range strings.SplitSeq(*measures, ",") {
		if !slices.Contains([]string{load, ping, low, half, idle}, m) {
			return o, fmt.Errorf("-measure %s: want some of load, ping, low, half, idle", m)
		}
		o.measures = append(o.measures, m)
	}
	o.serve = strings.Fields(*serve)
	o.sweep = strings.Split(*sweep, ",")
	for _, s := range o.sweep {
		if _, err := parseSystem(candidate(transports[0], s)); err != nil {
			return o, fmt.Errorf("-sweep %s: %w", s, err)
		}
	}
	for _, s := range slices.Concat(o.what, o.against) {
		if o.members > 0 && strings.HasPrefix(s.name, "raw-") {
			return o, fmt.Errorf("-members %d: %s has one on each node", o.members, s.text)
		}
	}
	swept := slices.ContainsFunc(o.against, func(s system) bool { return s.name == evensongBest })
	switch {
	case swept && !slices.Contains(o.measures, load):
		return o, fmt.Errorf("-against %s: the best is the one that carries most; add %s to -measure", evensongBest, load)
	case swept && setsSwept(o.serve) != "":
		return o, fmt.Errorf("-serve %s: it is what the sweep of %s chooses; leave it out", setsSwept(o.serve), evensongBest)
	case swept && len(o.candidates(system{text: evensongBest})) == 0:
		return o, errors.New("-sweep-windows, -sweep-packets: they only repeat the defaults; add a number")
	case o.scale && given["against"]:
		return o, errors.New("-scale: each of -what is compared with itself; leave -against out")
	case o.scale && len(o.nodes) < 2:
		return o, errors.New("-scale: want two numbers of -nodes at least; for example -nodes 4,8")
	case o.scale && !slices.Contains(o.measures, load):
		return o, fmt.Errorf("-scale: the verdict is about deliveries under load; add %s to -measure", load)
	case o.rounds < 1:
		return o, fmt.Errorf("-sweep-rounds %d: want at least 1", o.rounds)
	case o.members < 0 || o.members > run.MaxMembers:
		return o, fmt.Errorf("-members %d: want at most %d", o.members, run.MaxMembers)
	case o.pairs < 1 || o.window < 1 || o.lead < 1 || o.low <= 0 || o.warm < 0 || o.time <= 0 || o.sweeps <= 0:
		return o, errors.New("numbers and times must be positive")
	case o.output != "text" && o.output != "markdown" && o.output != "json":
		return o, fmt.Errorf("-o %s: want text, markdown or json", o.output)
	}
	return o, nil
}

// candidate is corosync with one setting of a sweep.
func candidate(transport, setting string) string {
	if setting == "default" {
		return corosync + "-" + transport
	}
	return corosync + "-" + transport + "+" + setting
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
	return out, once(name, out)
}

// once refuses a list of a flag in which something stands twice: it would be measured again, into rows that look the same.
func once[T comparable](name string, list []T) error {
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return fmt.Errorf("-%s: %v stands there twice; leave one out (-pairs has more runs of the same)", name, v)
		}
	}
	return nil
}

// words is the command that repeats this measurement.
func (o *options) words() string {
	list := func(v []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]") }
	systems := func(v []system) string {
		var t []string
		for _, s := range v {
			t = append(t, s.text)
		}
		return strings.Join(t, ",")
	}
	against := "-against " + systems(o.against)
	if o.scale {
		against = "-scale"
	}
	s := fmt.Sprintf("go run ./bench/peers -what %s %s -nodes %s -bytes %s -measure %s -pairs %d -window %d -lead %d -warm %v -time %v",
		systems(o.what), against, list(o.nodes), list(o.bytes), strings.Join(o.measures, ","), o.pairs, o.window, o.lead, o.warm, o.time)
	if o.members > 0 {
		s += fmt.Sprintf(" -members %d", o.members)
	}
	if o.one {
		s += " -one-sender"
	}
	if slices.Contains(o.measures, low) {
		s += fmt.Sprintf(" -rate %v", o.low)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(o.against, func(s system) bool { return s.name == name })
	}
	if has(corosync) {
		s += " -sweep " + strings.Join(o.sweep, ",")
	}
	if has(evensongBest) {
		s += fmt.Sprintf(" -sweep-windows %s -sweep-packets %s -sweep-rounds %d", join(o.windows, tuned), join(o.packets, preset), o.rounds)
	}
	if has(corosync) || has(evensongBest) {
		s += fmt.Sprintf(" -sweep-time %v", o.sweeps)
	}
	if len(o.serve) > 0 {
		s += fmt.Sprintf(" -serve %q", strings.Join(o.serve, " "))
	}
	return s
}

// measure measures everything and writes the result.
func measure(ctx context.Context, o options, stdout io.Writer, stderr *os.File) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root, on Linux")
	}
	sweepUp()
	dir, err := os.MkdirTemp("", "evensong-peers-")
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
	b := &bench{o: &o, dir: dir, p: p, once: (*duel).once}
	b.r = result{Origin: run.From(ctx, o.words())}
	err = b.all(ctx)
	p.Done()
	return b.end(ctx, err, stdout)
}

// all makes the comparisons that were asked for.
func (b *bench) all(ctx context.Context) error {
	o := b.o
	if o.scale {
		for _, n := range o.nodes[1:] {
			for _, what := range o.what {
				if err := b.scale(ctx, what, n, o.nodes[0]); err != nil {
					return err
				}
			}
		}
	}
	for _, n := range o.nodes { // with -scale there is nothing else to compare with
		for _, against := range o.against {
			for _, what := range o.what {
				if err := b.compare(ctx, what, against, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// end writes what was measured until all came to its end with err. After an interrupt that is what is complete.
func (b *bench) end(ctx context.Context, err error, stdout io.Writer) error {
	if b.r.Interrupted = err != nil && ctx.Err() != nil; err != nil && (!b.r.Interrupted || b.r.empty()) {
		return err
	}
	if err := errors.Join(err, run.Write(stdout, b.o.output, &b.r)); err != nil {
		return err
	}
	if len(b.r.Failed) > 0 {
		return fmt.Errorf("%d comparisons failed", len(b.r.Failed))
	}
	return nil
}
