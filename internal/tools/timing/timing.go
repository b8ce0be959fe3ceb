// SPDX-License-Identifier: Apache-2.0

// Package timing measures how long group changes take: joins and leaves of one member, over and over, while others are in
// the group. It does what the programs sp_time_memb and fl_time_memb of the Spread toolkit do.
//
// Load members join and stay. A measuring member joins, waits for the view that has it, leaves, waits until its leave was
// ordered, and so on. When it is done it tells the load members, with a Safe message.
package timing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/tools/user"
)

// What the original does, and what is used where a Config says nothing.
const (
	DefaultGroup = "test"
	DefaultSize  = 10
	DefaultCount = 100
	MaxSize      = 1000
	// DefaultPause is between two changes, so that each is measured alone.
	DefaultPause = 10 * time.Millisecond
	// DefaultPatience bounds the wait for one view.
	DefaultPatience = 20 * time.Second

	// doneType marks the Safe message that ends the load members.
	doneType = 2048
)

// Role is a member's part.
type Role uint8

const (
	// All opens the load members and measures, in one process.
	All Role = iota
	// Load opens load members, and ends when all measuring members have said that they are done.
	Load
	// Measure waits until the load members are there, and measures.
	Measure
)

// Config says what to measure. The zero value measures 100 joins and leaves of the tenth member.
type Config struct {
	Session user.Options
	// Servers are daemons' addresses; the sessions are dealt out to them. Empty means Session.Address.
	Servers []string
	Group   string
	Role    Role
	// Size is the number of members with the measuring one. Zero means the default. Load opens one less.
	Size int
	// Count is how often one joins and leaves. Zero means the default.
	Count int
	// Pause between two changes. Zero means the default, less than zero means none.
	Pause time.Duration
	// Measuring is how many measuring members the load members wait for. Zero means one.
	Measuring int
	// Patience is how long one change may take. Zero means the default.
	Patience time.Duration

	// Progress, if not nil, is called after each of the Count steps.
	Progress func(done, total int)
	// Ready, if not nil, is called when the load members of this process have all joined.
	Ready func()
}

func (c *Config) fill() {
	if c.Group == "" {
		c.Group = DefaultGroup
	}
	if c.Size == 0 {
		c.Size = DefaultSize
	}
	if c.Count == 0 {
		c.Count = DefaultCount
	}
	if c.Pause == 0 {
		c.Pause = DefaultPause
	}
	if c.Measuring == 0 {
		c.Measuring = 1
	}
	if c.Patience == 0 {
		c.Patience = DefaultPatience
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{c.Session.Address}
	}
}

// Validate reports what cannot be.
func (c Config) Validate() error {
	c.fill()
	var errs []error
	if c.Size < 1 || c.Size > MaxSize {
		errs = append(errs, fmt.Errorf("a group of %d: want 1 to %d members", c.Size, MaxSize))
	}
	if c.Role == Load && c.Size == 1 {
		errs = append(errs, errors.New("a group of 1 has no load members"))
	}
	if c.Count < 1 {
		errs = append(errs, fmt.Errorf("%d times: want at least 1", c.Count))
	}
	if c.Measuring < 1 {
		errs = append(errs, fmt.Errorf("%d measuring members: want at least 1", c.Measuring))
	}
	return errors.Join(errs...)
}

// A Sample is one join and the leave after it.
type Sample struct{ Join, Leave time.Duration }

// Run plays the role. The samples are nil for Load.
func Run(ctx context.Context, c Config) ([]Sample, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.fill()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var conns []*client.Conn
	defer func() {
		var wg sync.WaitGroup
		for _, conn := range conns {
			wg.Go(func() { conn.Close() })
		}
		wg.Wait()
	}()
	dial := func() (*client.Conn, error) {
		o := c.Session
		o.Address = c.Servers[len(conns)%len(c.Servers)]
		if o.Name != "" && len(conns) > 0 {
			number := fmt.Sprintf("-%d", len(conns)+1)
			o.Name = o.Name[:min(len(o.Name), client.MaxPrivateName-len(number))] + number
		}
		conn, err := user.Dial(ctx, o)
		if err != nil {
			return nil, user.Explain(err, o)
		}
		conns = append(conns, conn)
		return conn, nil
	}
	var measuring *client.Conn
	if c.Role != Load {
		var err error
		if measuring, err = dial(); err != nil {
			return nil, err
		}
	}
	var load sync.WaitGroup
	if c.Role != Measure {
		for range c.Size - 1 {
			conn, err := dial()
			if err != nil {
				cancel(err)
				load.Wait()
				return nil, err
			}
			if err := c.join(ctx, conn); err != nil {
				cancel(err)
				load.Wait()
				return nil, err
			}
			load.Go(func() {
				if err := c.stay(ctx, conn); err != nil {
					cancel(user.Explain(err, c.Session))
				}
			})
		}
		if c.Ready != nil {
			c.Ready()
		}
	}
	var samples []Sample
	if c.Role != Load {
		m := &meter{Config: c, conn: measuring}
		var err error
		if samples, err = m.run(ctx); err != nil {
			err = user.Explain(err, c.Session)
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			cancel(err)
			load.Wait()
			return nil, err
		}
	}
	load.Wait()
	return samples, context.Cause(ctx)
}

// join joins and waits for the view that says so.
func (c *Config) join(ctx context.Context, conn *client.Conn) error {
	if err := conn.Join(ctx, c.Group); err != nil {
		return user.Explain(err, c.Session)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	for {
		ev, err := conn.Next(ctx)
		if err != nil {
			return user.Explain(fmt.Errorf("wait for the view after joining: %w", err), c.Session)
		}
		switch ev := ev.(type) {
		case *client.View:
			if ev.Rank(conn.PrivateGroup()) >= 0 {
				return nil
			}
		case *client.Rejected:
			return user.Refused(fmt.Errorf("the daemon's access policy refused the %v to %s", ev.Request, ev.GroupName()))
		}
	}
}

// stay is a load member's part.
func (c *Config) stay(ctx context.Context, conn *client.Conn) error {
	done := map[string]bool{}
	for len(done) < c.Measuring {
		ev, err := conn.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // who ended it knows why
			}
			return err
		}
		if m, ok := ev.(*client.Message); ok && m.Type == doneType && m.Service.Level() == client.Safe && m.GroupName() == c.Group {
			done[m.Sender] = true
		}
	}
	return nil
}

// meter is the measuring member.
type meter struct {
	Config
	conn *client.Conn
}

func (m *meter) run(ctx context.Context) ([]Sample, error) {
	if err := m.waitForLoad(ctx); err != nil {
		return nil, err
	}
	samples := make([]Sample, 0, m.Count)
	for n := range m.Count {
		var s Sample
		var err error
		if err = m.pause(ctx); err != nil {
			return nil, err
		}
		if s.Join, err = m.time(ctx, m.conn.Join, func(ev client.Event) bool {
			v, ok := ev.(*client.View)
			return ok && v.Group == m.Group && v.Joined == m.conn.PrivateGroup()
		}); err != nil {
			return nil, err
		}
		if err = m.pause(ctx); err != nil {
			return nil, err
		}
		if s.Leave, err = m.time(ctx, m.conn.Leave, func(ev client.Event) bool {
			l, ok := ev.(*client.SelfLeave)
			return ok && l.Group == m.Group
		}); err != nil {
			return nil, err
		}
		samples = append(samples, s)
		if m.Progress != nil {
			m.Progress(n+1, m.Count)
		}
	}
	if err := m.conn.Multicast(ctx, client.Safe, doneType, nil, m.Group); err != nil {
		return nil, err
	}
	return samples, m.conn.Flush(ctx)
}

// waitForLoad is a first visit to the group, which ends when the other members are there.
func (m *meter) waitForLoad(ctx context.Context) error {
	if err := m.conn.Join(ctx, m.Group); err != nil {
		return err
	}
	// As long as it takes: somebody may have to start the others by hand.
	if err := m.await(ctx, func(ev client.Event) bool {
		v, ok := ev.(*client.View)
		return ok && v.Group == m.Group && len(v.Members) >= m.Size
	}); err != nil {
		return err
	}
	_, err := m.time(ctx, m.conn.Leave, func(ev client.Event) bool {
		_, ok := ev.(*client.SelfLeave)
		return ok
	})
	return err
}

// time asks for a change and waits until it took effect.
func (m *meter) time(ctx context.Context, change func(context.Context, string) error, effect func(client.Event) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Patience)
	defer cancel()
	start := time.Now()
	if err := change(ctx, m.Group); err != nil {
		return 0, err
	}
	err := m.await(ctx, effect)
	return time.Since(start), err
}

func (m *meter) await(ctx context.Context, effect func(client.Event) bool) error {
	for {
		ev, err := m.conn.Next(ctx)
		if err != nil {
			return err
		}
		if r, ok := ev.(*client.Rejected); ok {
			return user.Refused(fmt.Errorf("the daemon's access policy refused the %v to %s", r.Request, r.GroupName()))
		}
		if effect(ev) {
			return nil
		}
	}
}

func (m *meter) pause(ctx context.Context) error {
	if m.Pause < 0 {
		return nil
	}
	t := time.NewTimer(m.Pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
