// SPDX-License-Identifier: Apache-2.0

// Package flood sends as many messages as a cluster takes and says how many that were, and how long each took. It does
// what the program spflooder of the Spread toolkit does, with its modes and its pacing, and measures.
//
// A session that sends and receives runs up to a window of messages ahead of what has come back to it, so the flood is as
// fast as the cluster and no faster. Alone, that is its own messages. In a flood of several members, each sends when all
// are there and keeps within the window of the slowest of them, so nobody is left behind.
package flood

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"evensong/client"
	"evensong/internal/proto/frame"
	"evensong/internal/tools/amount"
	"evensong/internal/tools/user"
)

// What the original does, and what is used where a Config says nothing.
const (
	DefaultGroup    = "flooder"
	DefaultMessages = 10000
	DefaultBytes    = 1000
	DefaultWindow   = 200
	MaxBytes        = client.MaxMessage - frame.NameSize // with its destination; in the own dialect the daemon says it
	MaxMembers      = 100
	// DefaultPatience is how long nothing may arrive while something is due before a flood gives up.
	DefaultPatience = 20 * time.Second
)

// Direction is what the sessions of a flood do.
type Direction uint8

const (
	// Both sends and receives.
	Both Direction = iota
	// ReceiveOnly joins and receives as many messages as others send: Config.Messages of them, or with members all of
	// the others'.
	ReceiveOnly
	// SendOnly does not join, and sends without waiting for what comes back.
	SendOnly
)

// Config says what to send. The zero value is the original's flood, but for the name.
type Config struct {
	// Session describes the sessions. If there are several, its Name gets a number behind it.
	Session user.Options
	// Servers are daemons' addresses; the sessions are dealt out to them. Empty means Session.Address.
	Servers []string
	Group   string
	// Messages of each sender, and their size. Zero means the defaults; a negative size means empty messages.
	Messages, Bytes int
	// Service zero means Reliable, and FIFO with members.
	Service client.Service
	// Window is how many messages a sender may be ahead. Zero means the default.
	Window    int
	Direction Direction
	// Sessions in this process. Zero means one for each server.
	Sessions int
	// Members is how many must be in the group before anybody sends, those of other processes included. Each of them
	// waits for the slowest. Zero means that nobody waits for another, if there is one session, else all sessions.
	Members int
	// Patience as for DefaultPatience; zero means that.
	Patience time.Duration

	// Waiting, if not nil, is called each time another number of members is there, until all are. It is not called if all
	// members are of this process.
	Waiting func(there, wanted int)
	// Started, if not nil, is called when the sessions are there, before the first message, with their names.
	Started func(names []string)
	// Progress, if not nil, is called a few times per second while messages flow.
	Progress func(sent, received, total int)
	// Step, if not nil, is called for each thousandth message that a session has sent, or received if it only receives.
	// Several sessions may call it at the same time.
	Step func(n int)
}

func (c *Config) fill() {
	if c.Group == "" {
		c.Group = DefaultGroup
	}
	if c.Messages == 0 {
		c.Messages = DefaultMessages
	}
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	c.Bytes = max(c.Bytes, 0)
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{c.Session.Address}
	}
	if c.Sessions == 0 {
		c.Sessions = len(c.Servers)
	}
	if c.Members == 0 && c.Sessions > 1 && c.Direction == Both {
		c.Members = c.Sessions
	}
	if c.Service == 0 {
		c.Service = client.Reliable
		if c.Members > 0 {
			c.Service = client.FIFO
		}
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
	check(c.Messages > 0, "%d messages: want at least 1", c.Messages)
	limit := frame.MaxOwnMessage
	for _, address := range c.Servers {
		if !user.IsOwn(address) {
			limit = MaxBytes
		}
	}
	check(c.Bytes <= limit, "%d bytes: a message has at most %d", c.Bytes, limit)
	check(c.Window > 0, "a window of %d: want at least 1", c.Window)
	check(c.Sessions >= 1 && c.Sessions <= MaxMembers, "%d senders: want 1 to %d", c.Sessions, MaxMembers)
	check(c.Sessions < 1 || c.Sessions >= len(c.Servers), "%s for %s: some would have none; want a sender for each at least", amount.Of(c.Sessions, "sender"), amount.Of(len(c.Servers), "server"))
	check(c.Members >= 0 && c.Members <= MaxMembers, "%d members: want 1 to %d", c.Members, MaxMembers)
	check(c.Members == 0 || c.Members >= c.Sessions, "%s in all, fewer than the %s of this program", amount.Of(c.Members, "member"), amount.Of(c.Sessions, "session"))
	check(c.Members == 0 || c.Direction != SendOnly, "who only sends is no member, so it cannot wait for members")
	return errors.Join(errs...)
}

// Run floods until all messages were sent and all that are due were received. It fails if a session is lost, a member
// leaves before its last message, nothing arrives for the patience, or ctx ends.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.fill()
	f := &flood{Config: c, data: make([]byte, c.Bytes)}
	copy(f.data, "evensong flood")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i := range c.Sessions {
		s, err := f.dial(ctx, i)
		if err != nil {
			f.close()
			return nil, err
		}
		f.sessions = append(f.sessions, s)
	}
	defer f.close()
	if c.Started != nil {
		var names []string
		for _, s := range f.sessions {
			names = append(names, s.conn.PrivateGroup())
		}
		c.Started(names)
	}
	var wg sync.WaitGroup
	for _, s := range f.sessions {
		wg.Go(func() {
			if err := s.run(ctx); err != nil {
				if len(c.Servers) > 1 {
					err = fmt.Errorf("the session at %s: %w", s.options.Address, err)
				}
				cancel(user.Explain(err, s.options))
			}
		})
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { f.watch(done, cancel) })
	wg.Wait()
	close(done)
	watch.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return f.report(), nil
}

// flood is what the sessions of one run share.
type flood struct {
	Config
	data     []byte // of every message; read only
	sessions []*session
	// sent and received count messages of all sessions; due is set while a message should arrive soon.
	sent, received atomic.Int64
	due            atomic.Int32
}

func (f *flood) dial(ctx context.Context, i int) (*session, error) {
	o := f.Session
	o.Address = f.Servers[i%len(f.Servers)]
	if o.Name != "" && i > 0 {
		number := fmt.Sprintf("-%d", i+1)
		o.Name = o.Name[:min(len(o.Name), client.MaxPrivateName-len(number))] + number
	}
	conn, err := user.Dial(ctx, o, client.WithPooledMessages())
	if err != nil {
		return nil, user.Explain(err, o)
	}
	return newSession(f, conn, o), nil
}

func (f *flood) close() {
	var wg sync.WaitGroup
	for _, s := range f.sessions {
		wg.Go(func() { s.conn.Close() })
	}
	wg.Wait()
}

// watch shows progress and ends the flood when it stands still.
func (f *flood) watch(done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last int64
	since := time.Now()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		sent, received := f.sent.Load(), f.received.Load()
		if f.Progress != nil && sent+received > 0 {
			f.Progress(int(sent), int(received), f.Messages*f.Sessions)
		}
		if sent+received != last || f.due.Load() == 0 {
			last, since = sent+received, time.Now()
		} else if time.Since(since) > f.Patience {
			cancel(fmt.Errorf("stuck after %s sent and %d received: nothing arrived for %v", amount.Of(sent, "message"), received, f.Patience))
			return
		}
	}
}

// span is from the first to the last of some events; the zero value is none.
type span struct{ first, last time.Time }

func (s *span) add(t time.Time) {
	if s.first.IsZero() {
		s.first = t
	}
	s.last = t
}

func (s *span) join(o span) {
	if o.first.IsZero() {
		return
	}
	if s.first.IsZero() || o.first.Before(s.first) {
		s.first = o.first
	}
	if o.last.After(s.last) {
		s.last = o.last
	}
}
