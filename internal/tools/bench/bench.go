// SPDX-License-Identifier: Apache-2.0

// Package bench measures a cluster as its clients see it: how many messages each receiver gets, how long they take, and what
// a delivery costs clients and daemons.
//
// A load is a service, a size and a rate. At the rate "max" each sender keeps a window of messages ahead of the slowest
// receiver, so the load is what the cluster takes and no more. At any other rate messages are sent by a schedule that
// does not wait for anybody, and a latency counts from the time at which the message was due: a cluster, or a sender, that
// stands still for a second is seen by all messages of that second, not by one.
//
// All sessions are of this process, so there is one clock, and every receiver's latencies count. All messages are counted:
// one that is missing, doubled or out of its sender's order ends the benchmark with an error, and so do receivers that
// were given different orders of Agreed or Safe messages, and a group that changes while it is measured.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/host"
	"evensong/internal/tools/amount"
	"evensong/internal/tools/monitor"
	"evensong/internal/tools/user"
)

// What is used where a Config says nothing.
const (
	DefaultBytes  = 1350
	DefaultWindow = 200
	DefaultWarm   = 300 * time.Millisecond
	DefaultTime   = 2 * time.Second
	// DefaultPatience is how long nothing may arrive while something is due before a benchmark gives up.
	DefaultPatience = 20 * time.Second
)

// Bounds.
const (
	MinBytes    = headerBytes
	MaxBytes    = 16 << 20
	MaxSessions = 200
	MaxGroups   = 1000
)

// Rate is how fast all senders together send. The zero value is as fast as the cluster takes it.
type Rate struct {
	PerSecond float64 // messages
	Percent   float64 // of what the zero value has given, for the same service and size
}

// ParseRate reads "max", "N%" or a number of messages per second.
func ParseRate(s string) (Rate, error) {
	if s == "max" {
		return Rate{}, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v > 1e8 {
		return Rate{}, fmt.Errorf("rate %q: want max, messages per second, or a share of max such as 50%%", s)
	}
	if percent {
		return Rate{Percent: v}, nil
	}
	return Rate{PerSecond: v}, nil
}

// String is what ParseRate reads.
func (r Rate) String() string {
	switch {
	case r.Percent > 0:
		return strconv.FormatFloat(r.Percent, 'g', -1, 64) + "%"
	case r.PerSecond > 0:
		return strconv.FormatFloat(r.PerSecond, 'f', -1, 64)
	}
	return "max"
}

// max reports whether messages are sent as fast as the cluster takes them.
func (r Rate) max() bool { return r == Rate{} }

// Config says what to measure. The zero value is one sender that receives what it sends, 1350 bytes, Agreed, as fast as it
// goes and then at half of that.
type Config struct {
	// Session describes the sessions. If there are several, its Name gets a number behind it.
	Session user.Options
	// Servers are daemons' addresses; the sessions are dealt out to them. Empty means Session.Address.
	Servers []string

	// Every service is measured with every size, and each of these at every rate.
	Services []client.Service
	Bytes    []int
	Rates    []Rate
	// Senders also receive; Receivers only do that. Zero senders means one for each server.
	Senders, Receivers int
	// Groups are joined by everybody, and the messages go to one after the other.
	Groups int
	// Window is how many messages a sender is ahead of the slowest receiver at the rate "max".
	Window int
	// Each load is under way for Warm before it is measured for Time. Negative: no warming up.
	Warm, Time time.Duration
	// Patience as for DefaultPatience; zero means that.
	Patience time.Duration

	// Reach is how the daemons are asked for their own figures; with NoDaemons they are not.
	Reach     monitor.Reach
	NoDaemons bool

	// Stop, if not nil, ends the load that is being measured when it is closed, and leaves out those behind it.
	Stop <-chan struct{}
	// Progress, if not nil, is called a few times per second.
	Progress func(Progress)
}

// Progress is what is being done.
type Progress struct {
	Load           string        // in words
	Elapsed, Total time.Duration // of measuring; Elapsed is negative while it warms up
	Rate           float64       // messages per second and receiver since the last call
	Received       uint64        // messages by all receivers so far
}

func (c *Config) fill() {
	if len(c.Servers) == 0 {
		c.Servers = []string{c.Session.Address}
	}
	if len(c.Services) == 0 {
		c.Services = []client.Service{client.Agreed}
	}
	if len(c.Bytes) == 0 {
		c.Bytes = []int{DefaultBytes}
	}
	if len(c.Rates) == 0 {
		c.Rates = []Rate{{}, {Percent: 50}}
	}
	if c.Senders == 0 {
		c.Senders = len(c.Servers)
	}
	if c.Groups == 0 {
		c.Groups = 1
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	switch {
	case c.Warm == 0:
		c.Warm = DefaultWarm
	case c.Warm < 0:
		c.Warm = 0
	}
	if c.Time == 0 {
		c.Time = DefaultTime
	}
	if c.Patience == 0 {
		c.Patience = DefaultPatience
	}
}

// Validate reports what cannot be, as somebody with flags would say it.
func (c Config) Validate() error {
	c.fill()
	var errs []error
	check := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	for _, n := range c.Bytes {
		check(n >= MinBytes && n <= MaxBytes, "%d bytes: want %d, which a message of a benchmark says, to %d", n, MinBytes, MaxBytes)
	}
	check(c.Senders >= 1 && c.Senders <= MaxSessions, "%d senders: want 1 to %d", c.Senders, MaxSessions)
	check(c.Receivers >= 0 && c.Senders+c.Receivers <= MaxSessions, "%d receivers beside %d senders: want 0 to %d", c.Receivers, c.Senders, max(MaxSessions-c.Senders, 0))
	check(c.Senders < 1 || c.Senders+max(c.Receivers, 0) >= len(c.Servers), "%s and %s for %s: some would have none; want a session for each at least",
		amount.Of(c.Senders, "sender"), amount.Of(c.Receivers, "receiver"), amount.Of(len(c.Servers), "server"))
	check(c.Groups >= 1 && c.Groups <= MaxGroups, "%d groups: want 1 to %d", c.Groups, MaxGroups)
	check(c.Window >= 1, "a window of %d: want at least 1", c.Window)
	check(c.Time >= 10*time.Millisecond, "%v is too short to measure: want at least 10ms", c.Time)
	share := func(r Rate) bool { return r.Percent > 0 }
	check(!slices.ContainsFunc(c.Rates, share) || slices.ContainsFunc(c.Rates, Rate.max), "a share of max needs max among the rates")
	return errors.Join(errs...)
}

// bench is what one run has.
type bench struct {
	Config
	start    time.Time // what times of messages count from
	groups   []string
	sessions []*session // the senders first
	warnings []string
	daemons  *sampler
}

// Run measures all loads. It fails if a session is lost, a message is missing or out of order, the group changes, nothing
// arrives for the patience, or ctx ends; then the report has the loads that were measured before, and is nil if there are none.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.fill()
	b := &bench{Config: c, start: time.Now()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Nobody else shall be in these groups, another benchmark neither.
	prefix := fmt.Sprintf("bench-%08x", rand.Uint32())
	for i := range c.Groups {
		b.groups = append(b.groups, fmt.Sprintf("%s-%d", prefix, i+1))
	}
	if err := b.open(ctx); err != nil {
		b.close()
		return nil, err
	}
	defer b.close()
	if !c.NoDaemons {
		b.findDaemons(ctx)
	}
	var wg sync.WaitGroup
	for _, s := range b.sessions {
		wg.Go(func() {
			if err := s.receive(ctx); err != nil {
				cancel(user.Explain(err, s.options))
			}
		})
	}
	defer wg.Wait()
	defer cancel(nil)
	r := b.report()
	for _, service := range c.Services {
		for _, bytes := range c.Bytes {
			if err := b.rates(ctx, cancel, r, service, bytes); err != nil {
				if len(r.Runs) == 0 {
					return nil, err
				}
				r.Warnings = append(b.warnings, "not all was measured: "+err.Error())
				return r, err
			}
		}
	}
	r.Warnings = b.warnings
	return r, nil
}

// rates measures one service and size at all rates, max first: the shares are of it.
func (b *bench) rates(ctx context.Context, cancel context.CancelCauseFunc, r *Report, service client.Service, bytes int) error {
	most := 0.0
	rates := slices.Clone(b.Rates)
	slices.SortStableFunc(rates, func(x, y Rate) int {
		switch {
		case x.max() && !y.max():
			return -1
		case y.max() && !x.max():
			return 1
		}
		return 0
	})
	for _, rate := range rates {
		if b.stopped() {
			return nil
		}
		perSecond := rate.PerSecond
		if rate.Percent > 0 {
			perSecond = max(most*rate.Percent/100, 1)
		}
		p := newPhase(b, len(r.Runs)+1, service, bytes, perSecond)
		run, err := b.measure(ctx, cancel, p)
		if err != nil {
			return err
		}
		run.Rate = rate.String()
		if rate.max() {
			most = run.Messages.PerSecond
		}
		r.Runs = append(r.Runs, run)
	}
	return nil
}

func (b *bench) stopped() bool {
	select {
	case <-b.Stop:
		return true
	default:
		return false
	}
}

// now is the time that messages carry.
func (b *bench) now() time.Duration { return time.Since(b.start) }

// open connects all sessions and waits until each sees all in every group.
func (b *bench) open(ctx context.Context) error {
	for i := range b.Senders + b.Receivers {
		s, err := b.dial(ctx, i)
		if err != nil {
			return err
		}
		b.sessions = append(b.sessions, s)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.Patience, fmt.Errorf("not all %d sessions see each other after %v", len(b.sessions), b.Patience))
	defer cancel()
	for _, s := range b.sessions {
		for _, g := range b.groups {
			if err := s.conn.Join(ctx, g); err != nil {
				return user.Explain(err, s.options)
			}
		}
	}
	for _, s := range b.sessions {
		if err := s.awaitAll(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return user.Explain(err, s.options)
		}
	}
	return nil
}

func (b *bench) dial(ctx context.Context, i int) (*session, error) {
	o := b.Session
	o.Address = b.Servers[i%len(b.Servers)]
	if o.Name != "" && i > 0 {
		number := fmt.Sprintf("-%d", i+1)
		o.Name = o.Name[:min(len(o.Name), client.MaxPrivateName-len(number))] + number
	}
	conn, err := user.Dial(ctx, o, client.WithPooledMessages())
	if err != nil {
		return nil, user.Explain(err, o)
	}
	return &session{bench: b, index: i, conn: conn, options: o, step: make(chan struct{}, 1), starts: make(chan *phase, 1)}, nil
}

func (b *bench) close() {
	var wg sync.WaitGroup
	for _, s := range b.sessions {
		wg.Go(func() { s.conn.Close() })
	}
	wg.Wait()
}

// measure is one load from its first message until the last was received.
func (b *bench) measure(ctx context.Context, cancel context.CancelCauseFunc, p *phase) (*Load, error) {
	for _, s := range b.sessions {
		select {
		case s.starts <- p:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	var wg sync.WaitGroup
	for _, s := range b.sessions[:b.Senders] {
		wg.Go(func() {
			if err := s.send(ctx, p); err != nil {
				cancel(user.Explain(err, s.options))
			}
		})
	}
	defer wg.Wait()
	var before, after usage
	<-p.begun // by a sender, whatever happens
	watch := &watcher{b: b, p: p, cancel: cancel}
	if err := watch.warm(ctx); err != nil {
		return nil, err
	}
	from := time.Duration(p.from.Load()) // of a schedule it is known long before
	if err := watch.until(ctx, from); err != nil {
		return nil, err
	}
	before = b.usage(ctx, p)
	if err := watch.until(ctx, from+b.Time); err != nil {
		return nil, err
	}
	after = b.usage(ctx, p)
	for _, s := range b.sessions {
		if err := watch.done(ctx, p.measures[s.index].done); err != nil {
			return nil, err
		}
	}
	wg.Wait()
	if after.received == before.received { // all of it came late: so did what it cost
		after = b.usage(ctx, p)
	}
	return p.result(before, after)
}

// watcher shows progress and ends the benchmark when it stands still.
type watcher struct {
	b      *bench
	p      *phase
	cancel context.CancelCauseFunc

	shown, moved time.Duration // when progress was shown, and when a message had arrived
	received     uint64        // at shown
	last         uint64
}

// tick is how often the watcher looks.
const tick = 100 * time.Millisecond

// warm waits until it is known when measuring begins, or for the end that Config.Stop asked for.
func (w *watcher) warm(ctx context.Context) error {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for {
		select {
		case <-w.p.measured:
			return nil
		case <-w.b.Stop:
			w.p.measureFrom(w.b.now())
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			if err := w.look(); err != nil {
				return err
			}
		}
	}
}

// until waits for a time, or for the end that Config.Stop asked for.
func (w *watcher) until(ctx context.Context, t time.Duration) error {
	for {
		left := t - w.b.now()
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, tick))
		select {
		case <-w.b.Stop:
			timer.Stop()
			w.p.to.Store(min(w.p.to.Load(), max(int64(w.b.now()), w.p.from.Load())))
			return nil
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
			if err := w.look(); err != nil {
				return err
			}
		}
	}
}

// done waits for a receiver.
func (w *watcher) done(ctx context.Context, ch <-chan struct{}) error {
	for {
		timer := time.NewTimer(tick)
		select {
		case <-ch:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
			if err := w.look(); err != nil {
				return err
			}
		}
	}
}

func (w *watcher) look() error {
	now, received := w.b.now(), w.p.received()
	if received != w.last || w.moved == 0 {
		w.last, w.moved = received, now
	} else if now-w.moved > w.b.Patience && (w.p.perSecond == 0 || time.Duration(float64(time.Second)/w.p.perSecond) < w.b.Patience/2) {
		err := fmt.Errorf("stuck after %d messages received: nothing arrived for %v", received, w.b.Patience)
		w.cancel(err)
		return err
	}
	if w.b.Progress != nil && now-w.shown >= 2*tick {
		if w.shown > 0 {
			elapsed := now - time.Duration(w.p.from.Load())
			if elapsed < 0 {
				elapsed = min(now-w.p.warm, -1)
			}
			w.b.Progress(Progress{
				Load: w.p.String(), Elapsed: elapsed, Total: w.b.Time, Received: received,
				Rate: float64(received-w.received) / float64(len(w.b.sessions)) / (now - w.shown).Seconds(),
			})
		}
		w.shown, w.received = now, received
	}
	return nil
}

// usage is what was used at one moment.
type usage struct {
	at        time.Duration
	received  uint64
	cpu       time.Duration // of this process
	daemons   []counted     // empty if they are not known
	processes time.Duration // CPU of the daemons' processes
}

func (b *bench) usage(ctx context.Context, p *phase) usage {
	u := usage{at: b.now(), received: p.received(), cpu: host.ProcessCPU()}
	if b.daemons != nil {
		u.daemons, u.processes = b.daemons.sample(ctx)
	}
	return u
}

// report is what is known before anything was measured.
func (b *bench) report() *Report {
	r := &Report{
		Machine: Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()},
		Time:    time.Now().UTC().Truncate(time.Second), Senders: b.Senders, Receivers: len(b.sessions), Groups: b.Groups, Window: b.Window,
		Servers: slices.Clone(b.Servers), Daemons: []string{},
	}
	for i, s := range r.Servers {
		if s == "" {
			r.Servers[i] = client.DefaultAddress
		}
	}
	if b.daemons != nil {
		r.Daemons, r.Version = b.daemons.names, b.daemons.version
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				r.Machine.Model = strings.TrimSpace(v)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Machine.Kernel = strings.TrimSpace(string(text))
	}
	return r
}
