// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of a server. What is beyond them is closed or answered with an error; nothing waits for long.
const (
	maxConns        = 64        // connections of all kinds; more are closed at once
	maxRequestBytes = 128 << 10 // body of a request: a partition of MaxComponents daemons fits
	maxHeaderBytes  = 16 << 10
	headerTime      = 5 * time.Second
	requestTime     = 10 * time.Second // to read a request, and for the daemon to answer
	answerTime      = 20 * time.Second // to write the answer; profiles take their own time beside it
	idleTime        = 2 * time.Minute
	drainedTime     = time.Second            // that a request waits for the end of a drain
	closeTime       = 500 * time.Millisecond // answers under way when the daemon ends
)

// Daemon is what a server shows and steers. Methods may be called concurrently; their cost does not depend on how busy the
// daemon is, except that it grows with the page asked for. An error that is an *Error goes to the client as it is.
type Daemon interface {
	Status(ctx context.Context) (Status, error)
	Members(ctx context.Context) (Members, error)
	// Groups is the groups whose names come after a name, at most limit of them.
	Groups(ctx context.Context, after string, limit int) (GroupPage, error)
	Group(ctx context.Context, name string) (Group, error)
	// Sessions is the clients with numbers above after, at most limit of them.
	Sessions(ctx context.Context, after uint64, limit int) (SessionPage, error)
	CloseSession(ctx context.Context, id uint64) error
	Set(ctx context.Context, s Settings) (Settings, error)
	Partition(ctx context.Context, p Partition) error
	Heal(ctx context.Context) error
	Reload(ctx context.Context) (Reloaded, error)
	// Drain begins and returns; Status shows how it goes on. wait is how long to wait for clients.
	Drain(ctx context.Context, wait time.Duration) error
	// Drained waits until a drain is over, at most until ctx ends, which is no error.
	Drained(ctx context.Context) (DrainEnd, error)
	Terminate(ctx context.Context) error
}

// Config is what a server needs to know beside its daemon.
type Config struct {
	Tokens    *Tokens      // who may come over TCP; nil: nobody
	TLS       *tls.Config  // for TCP; nil: plain
	Dangerous bool         // the dangerous commands are permitted
	Logger    *slog.Logger // gets the audit; nil means none
}

// Server answers requests of people and programs. Its methods may be called concurrently.
type Server struct {
	cfg       Config
	daemon    Daemon
	log       *slog.Logger
	dangerous atomic.Bool
	registry  *prometheus.Registry
	http      *http.Server
	slots     chan struct{}
	wg        sync.WaitGroup

	noise struct { // refusals for want of a token that were not logged
		sync.Mutex
		at     time.Time
		missed int
	}
}

// NewServer returns a server that listens nowhere yet.
func NewServer(cfg Config, d Daemon) *Server {
	s := &Server{cfg: cfg, daemon: d, log: cfg.Logger, slots: make(chan struct{}, maxConns)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.dangerous.Store(cfg.Dangerous)
	s.registry = newRegistry(d)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       withPeer,
		// What clients do wrong with HTTP is no news for operators.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s
}

// SetDangerous permits or forbids the dangerous commands from now on, after a reload for example.
func (s *Server) SetDangerous(on bool) { s.dangerous.Store(on) }

// Serve answers on l until Close. A listener that is no Unix socket asks every client for a token; without Config.Tokens
// it is refused: there is no control without proof of who asks.
func (s *Server) Serve(l net.Listener) error {
	_, unix := l.Addr().(*net.UnixAddr)
	if !unix && s.cfg.Tokens == nil {
		return errors.New("the admin plane over TCP needs a token file; give one with --admin-token-file")
	}
	l = &limited{Listener: l, slots: s.slots}
	if s.cfg.TLS != nil && !unix {
		l = tls.NewListener(l, s.cfg.TLS)
	}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the admin plane stopped", "reason", err.Error(), "address", l.Addr().String())
		}
	})
	return nil
}

// Close ends the server: answers under way may be finished for a moment.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.wg.Wait()
}

// limited is a listener with a bounded number of connections.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &slotted{Conn: c, slots: l.slots}, nil
		default:
			c.Close() // the others have time limits, so there is room again soon
		}
	}
}

type slotted struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *slotted) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
