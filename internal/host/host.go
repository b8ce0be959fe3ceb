// SPDX-License-Identifier: Apache-2.0

// Package host runs a machine: it waits for datagrams, clients and the clock, calls one input of the machine at a
// time, and performs the effects. It decides nothing about the protocol.
//
// One goroutine, the loop, owns the machine. On Linux it waits in an epoll of its own for
// everything at once; elsewhere goroutines read and write, and hand their bytes over through channels. Both pass the
// same tests; docs/decisions/0004-event-loop.md has the figures. Datagrams come before clients: while clients are
// served the datagram sockets are looked at every few operations, so that a busy client cannot hold the token up.
//
// Beside the loop there are goroutines for what may take long: stable storage, the log, operators (admin.go, which has
// the loop run functions between two inputs), and a watchdog that notices when the process itself was not running.
package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/proto/evs"
	"evensong/internal/seal"
	"evensong/internal/transport"
)

// The bounds of the host. What happens at each is said with it.
const (
	// readBufferBytes is offered to one read of a client.
	readBufferBytes = 256 << 10
	// restBytes of refused input may be kept for all clients together before reads become short (shortReadBytes each).
	restBytes      = 64 << 20
	shortReadBytes = 16 << 10
	// lingerTime is how long a connection that the machine closed may take to swallow its last bytes and to close its
	// side; then it is cut. lingerBytes of what it still sends are read and thrown away.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// refusedLinger connections over the session limit may linger at a time; more are closed at once, at the risk that
	// their answer is lost.
	refusedLinger = 256
	// leaveTime is how long an orderly exit may take before the host stops anyway, and farewellTime how long clients
	// have after it to take their last bytes.
	leaveTime    = 2 * time.Second
	farewellTime = 500 * time.Millisecond
	// acceptPause is how long no connection is accepted after descriptors ran out.
	acceptPause = 50 * time.Millisecond
	// memoryPause is how long a client is not written to after the kernel had no memory for it.
	memoryPause = 20 * time.Millisecond
	// DefaultMaxSessions applies if Config.MaxSessions is zero.
	DefaultMaxSessions = 20000
	// descriptorsTLS is what a client with TLS takes: its connection, and the pair of sockets to the loop.
	descriptorsTLS = 3
	// spareFiles are kept of the descriptor limit for all that is no session.
	spareFiles = 64
	// DefaultTokenTimeout applies if Config.TokenTimeout is zero.
	DefaultTokenTimeout = 250 * time.Millisecond
)

// rejectQuota is all that a client over the limit gets: the code -3 (client-protocol 2.5).
var rejectQuota = []byte{0xfd}

// ErrBind marks errors of Start that are about addresses, sockets and their files; ErrConfig those about a Config that
// cannot work anywhere. ErrLeaveTimeout is Err after an orderly exit that took too long and was cut, ErrTerminated after
// an operator had it end without a good-bye.
var (
	ErrBind         = errors.New("cannot bind")
	ErrConfig       = errors.New("configuration")
	ErrLeaveTimeout = errors.New("the exit took too long and was cut short")
	ErrTerminated   = errors.New("terminated by an operator")
)

// PanicError is Err after the machine broke one of its invariants: a bug of ours. The host has stopped without
// another word to anybody, as if it had crashed.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("internal error: %v", e.Value) }

// LoopKind chooses how the host waits.
type LoopKind uint8

const (
	// LoopAuto is LoopEpoll where it exists and LoopPortable elsewhere.
	LoopAuto LoopKind = iota
	// LoopEpoll is one thread that waits for everything (Linux only).
	LoopEpoll
	// LoopPortable is goroutines on the net package.
	LoopPortable
)

// Config is what a host needs to know. Not modified after Start.
type Config struct {
	// Transport says where datagrams are received.
	Transport transport.Config
	// Conn is used in place of a socket if not nil (and closed by the host); it needs LoopPortable or LoopAuto.
	Conn transport.Conn
	// Keys are the cluster's: what is sent is sealed, and only what is sealed is received. Nil: nothing is sealed.
	Keys *seal.Keys
	// Loop chooses the event loop; the zero value is right.
	Loop LoopKind

	// Listen are the TCP addresses for clients. The unspecified IPv6 address also serves IPv4.
	Listen []netip.AddrPort
	// Unix are the paths of Unix sockets for clients, UnixMode their permissions (zero means 0666), and UnixGroup their
	// group, a name or a number (empty means that of the process). Missing directories are made.
	Unix      []string
	UnixMode  fs.FileMode
	UnixGroup string
	// MaxSessions bounds the connections; more are answered with REJECT_QUOTA. Zero means DefaultMaxSessions, or what
	// the limit of open files allows if that is less.
	MaxSessions int

	// NoReuse forbids TCP listeners to take an address that connections of an earlier daemon still hold.
	NoReuse bool

	// TLS, if not nil, is what clients over TCP get who begin with a TLS hello. Version 1.3 is the least, whatever it says. The
	// name in a verified client's certificate is what access rules know as cert. That TLS is required is the machine's matter.
	TLS *tls.Config

	// StateDir is where the ring sequence number survives a crash. Empty means nowhere.
	StateDir string

	// TokenTimeout is the machine's; the watchdog reports stalls longer than half of it. Zero means
	// DefaultTokenTimeout.
	TokenTimeout time.Duration

	// Peers are looked for by name while the host runs. Without names there is nothing to do.
	Peers Peers

	// Admin says where and how this host can be looked at and steered.
	Admin AdminConfig

	// Logger gets the machine's notes and the host's. Nil means none.
	Logger *slog.Logger
	// Differences says in sentences how the configuration that another daemon describes differs from ours; known are names
	// of daemons that it may be about beside those of ours. Nil: notes about it name the daemon only.
	Differences func(facts []byte, known []string) []string
	// Bound, if not nil, is called by Start when everything is bound and opened and nothing was received yet: the place to
	// give up rights. An error ends Start.
	Bound func() error
	// Started, if not nil, is called by Run with the host that it has started.
	Started func(*Host)
	// Reread reads the configuration again for Reload, names resolved. Nil: there is nothing to read again. It runs on the
	// goroutine that calls Reload.
	Reread func(context.Context) (config.Config, error)
	// Reloadables are what a reload changes besides the machine and what the host itself knows of.
	Reloadables []Reloadable
	// Trace, if not nil, is called by the loop with the machine's trace, which is borrowed until it returns.
	Trace func([]evs.Trace)

	alone       bool                // nothing but this host works in this process: Run
	started     *config.Config      // what Assemble was given; nil without it
	certificate *config.Certificate // what its files came to; nil without TLS
	name        string              // of the daemon in it
	foreign     bool                // its address there is none of this machine, and nothing says that this is meant
}

// Validate returns all that is wrong with c at once, or nil.
func (c *Config) Validate() error {
	var errs []error
	if c.Conn == nil {
		errs = append(errs, c.Transport.Validate())
	} else if c.Loop == LoopEpoll {
		errs = append(errs, errors.New("the epoll loop needs sockets of its own"))
	}
	if c.Loop == LoopEpoll && !haveEpoll {
		errs = append(errs, fmt.Errorf("the epoll loop does not exist on %s", runtime.GOOS))
	}
	for _, a := range c.Listen {
		if !a.Addr().IsValid() {
			errs = append(errs, errors.New("listen: no address"))
		}
	}
	for _, p := range c.Unix {
		if p == "" {
			errs = append(errs, errors.New("unix socket: no path"))
		}
	}
	if c.MaxSessions < 0 {
		errs = append(errs, fmt.Errorf("%d sessions: must not be negative", c.MaxSessions))
	}
	if c.TokenTimeout < 0 {
		errs = append(errs, fmt.Errorf("token timeout %v: must not be negative", c.TokenTimeout))
	}
	errs = append(errs, c.Admin.validate())
	return errors.Join(errs...)
}

// Boot is what is known only once the host has bound its sockets and read its state.
type Boot struct {
	Addr    netip.AddrPort   // where datagrams are received
	RingSeq uint64           // stored ring sequence number, zero if none
	Stable  bool             // Stores will be performed
	Listen  []netip.AddrPort // TCP addresses for clients
	// Segments says that runs of datagrams are sent as one (transport.PathSegment). A route may refuse them later.
	Segments bool
}

// Host is a running machine. Its methods may be called concurrently.
type Host struct {
	stats Stats
	addr  netip.AddrPort
	tcp   []netip.AddrPort
	mail  mailbox
	core  *core
	stop  sync.Once
	quit  chan struct{} // stop at once
	over  chan struct{} // the loop has ended
	done  chan struct{} // everything has ended
	admin *adminPlane   // nil: none

	reload reload

	drainSince, drainUntil atomic.Pointer[time.Time] // nil: not draining
	drained, told          chan struct{}             // closed when a drain is over, and when somebody has asked how it ended
	tellOnce               sync.Once                 // closes told
	drainEnd               admin.DrainEnd            // readable once drained is closed
	terminated             atomic.Bool               // by an operator

	err error // readable once done is closed
}

// Start binds everything, builds the machine and runs it. It returns once clients can connect.
func Start(cfg Config, build func(Boot) (Machine, error)) (_ *Host, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = sessionLimit(0, cfg.TLS != nil)
	}
	if cfg.TokenTimeout == 0 {
		cfg.TokenTimeout = DefaultTokenTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Host{quit: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}), drained: make(chan struct{}), told: make(chan struct{})}
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()

	var st *store
	if cfg.StateDir != "" {
		if st, err = openStore(cfg.StateDir, &h.stats); err != nil {
			return nil, err
		}
		undo = append(undo, func() { st.lock.Close() })
	}
	ls, err := bindListeners(&cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBind, err)
	}
	undo = append(undo, func() { closeListeners(ls) })
	for _, l := range ls {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			h.tcp = append(h.tcp, a.AddrPort())
		}
	}
	if h.admin, err = openAdmin(h, &cfg); err != nil {
		return nil, err
	}
	undo = append(undo, h.admin.close)
	n := newNotes(cfg.Logger, &h.stats)
	c := &core{cfg: &cfg, stats: &h.stats, notes: n, store: st, mail: &h.mail, quit: h.quit, over: h.over, tls: newTLSSide(cfg.TLS, &h.stats)}
	if cfg.Keys != nil {
		c.sealing.box = seal.New(cfg.Keys)
		cfg.Logger.Info("datagrams between daemons are sealed", "key", cfg.Keys.String())
	}
	if text := textOf(cfg.certificate); text != "" {
		cfg.Logger.Info("TLS for clients", "certificate", text)
	}
	h.core = c
	h.reload.init(&cfg)
	var l loop
	if cfg.Conn == nil && cfg.Loop != LoopPortable && haveEpoll {
		l, err = newEpollLoop(c, ls)
	} else {
		l, err = newPortableLoop(c, ls)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBind, err)
	}
	undo = append(undo, l.release)
	c.shell = l
	h.addr = l.localAddr()
	if cfg.Bound != nil {
		if err := cfg.Bound(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	boot := Boot{Addr: h.addr, Stable: st != nil, Listen: h.tcp, Segments: h.stats.Transport.Path() == transport.PathSegment}
	if st != nil {
		boot.RingSeq = st.last
	}
	if c.m, err = build(boot); err != nil {
		return nil, err
	}
	h.mail.wake = l.wake
	if err := h.admin.serve(); err != nil {
		return nil, err
	}
	h.run(l, &cfg)
	return h, nil
}

// run starts the goroutines and sees to it that they all end.
func (h *Host) run(l loop, cfg *Config) {
	c := h.core
	c.start = time.Now()
	var side sync.WaitGroup
	stopWatch := make(chan struct{})
	c.dog = newWatchdog(h.reload.stallLimit, &h.stats, func(d time.Duration) {
		h.mail.post(func() { c.note(slog.LevelWarn, "not scheduled", slog.Duration("for", d)) })
	})
	side.Go(func() { c.dog.run(stopWatch) })
	ctx, cancel := context.WithCancel(context.Background())
	if len(cfg.Peers.Names) > 0 {
		f := newFinder(&cfg.Peers, append([]netip.AddrPort{h.addr}, cfg.Transport.Also...), cfg.Logger)
		side.Go(func() { f.run(ctx, h.setPeers) })
	}
	go c.notes.run()
	if c.store != nil {
		c.store.stored = func(id uint64, err error) {
			h.mail.post(func() {
				if err != nil {
					c.note(slog.LevelError, "stable storage", slog.String("reason", err.Error()))
				}
				c.m.HandleStored(c.now, id, err, &c.fx)
				c.perform()
			})
		}
		go c.store.run()
	}
	go func() {
		defer close(h.done)
		h.err = protect(l.run)
		h.mail.close()
		close(h.over)
		if h.err == nil && h.terminated.Load() {
			h.err = ErrTerminated
		}
		h.admin.close()
		l.release()
		if c.store != nil {
			c.store.close()
		}
		close(stopWatch)
		cancel()
		side.Wait()
		if h.err != nil {
			c.note(slog.LevelError, "stopped", slog.String("reason", h.err.Error()))
		}
		c.notes.close()
	}()
}

// protect turns a panic of the machine into an error: what is left is to let go of everything, not to carry on.
func protect(run func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return run()
}

// interrupts reports whether Go's runtime interrupts a goroutine that does not call it, which ends a wait that the collector would wait for. It
// does unless this value of GODEBUG says otherwise, where the last setting counts.
func interrupts(godebug string) bool {
	for _, s := range slices.Backward(strings.Split(godebug, ",")) {
		if off, ok := strings.CutPrefix(s, "asyncpreemptoff="); ok {
			return off == "0"
		}
	}
	return true
}

// Run is Start, then waiting until the host has ended. The end of ctx or the first signal begins an orderly exit, a
// second signal stops at once. A nil channel never signals. The process should do nothing else.
func Run(ctx context.Context, cfg Config, build func(Boot) (Machine, error), signals <-chan os.Signal) error {
	cfg.alone = interrupts(os.Getenv("GODEBUG"))
	h, err := Start(cfg, build)
	if err != nil {
		return err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Info("ready", "clients", fmt.Sprint(h.tcp), "sockets", fmt.Sprint(cfg.Unix), "daemons", h.addr.String())
	if cfg.Started != nil {
		cfg.Started(h)
	}
	why := "the context ended"
	select {
	case <-ctx.Done():
	case s := <-signals:
		why = "signal: " + s.String()
	case <-h.done:
		return h.err
	}
	log.Info("stopping", "reason", why)
	h.Leave()
	select {
	case <-signals:
		log.Info("stopping at once", "reason", "a second signal")
		h.Stop()
		<-h.done
	case <-h.done:
	}
	log.Info("stopped")
	return h.err
}

// Leave begins an orderly exit and returns at once: the cluster and the clients are told, then the host ends.
func (h *Host) Leave() { h.mail.post(h.core.leave) }

// Stop ends the host at once and returns without waiting for it.
func (h *Host) Stop() {
	h.stop.Do(func() { close(h.quit) })
	h.mail.post(func() {}) // wakes the loop
}

// Close makes an orderly exit and waits for it, at most a few seconds. It returns what Err then returns, and may be
// called again.
func (h *Host) Close() error {
	h.Leave()
	<-h.done
	return h.err
}

// Done is closed once the host has ended and nothing of it is left.
func (h *Host) Done() <-chan struct{} { return h.done }

// Err is nil while the host runs and after an orderly exit, else what ended it.
func (h *Host) Err() error {
	select {
	case <-h.done:
		return h.err
	default:
		return nil
	}
}

// Do runs f in the loop, where f may read the machine, and waits for it. It fails when ctx ends before f runs, or when the
// host has ended. Once Do has returned f does not run any more: what f writes is the caller's again.
func (h *Host) Do(ctx context.Context, f func(now time.Duration)) error {
	ran := make(chan struct{})
	var taken atomic.Bool // by the loop, which runs f, or by Do, which gives up
	run := func() {
		if taken.CompareAndSwap(false, true) {
			f(h.core.now)
			close(ran)
		}
	}
	if !h.mail.post(run) {
		return net.ErrClosed
	}
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		if taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
	case <-h.over:
	}
	select { // f runs, or has run, or the loop has ended
	case <-ran:
		return nil
	case <-h.over:
	}
	select {
	case <-ran: // before the end
		return nil
	default:
		return net.ErrClosed
	}
}

// Addr is where datagrams are received.
func (h *Host) Addr() netip.AddrPort { return h.addr }

// ListenAddrs are the TCP addresses where clients connect, in the order of Config.Listen.
func (h *Host) ListenAddrs() []netip.AddrPort { return h.tcp }

// Stats may be read at any time.
func (h *Host) Stats() *Stats { return &h.stats }

// openFiles is how many descriptors this process may have.
func openFiles() int {
	n := fileLimit()
	if n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(n)
}
