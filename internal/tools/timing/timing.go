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
	// Flush has all members use view synchrony: the load members flush before each view.
	Flush bool
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
	var open []member
	defer func() {
		var wg sync.WaitGroup
		for _, m := range open {
			wg.Go(m.close)
		}
		wg.Wait()
	}()
	next := func() (member, error) {
		o := c.Session
		o.Address = c.Servers[len(open)%len(c.Servers)]
		if o.Name != "" && len(open) > 0 {
			number := fmt.Sprintf("-%d", len(open)+1)
			o.Name = o.Name[:min(len(o.Name), client.MaxPrivateName-len(number))] + number
		}
		m, err := dial(ctx, o, c.Flush)
		if err == nil {
			open = append(open, m)
		}
		return m, err
	}
	var measuring member
	if c.Role != Load {
		var err error
		if measuring, err = next(); err != nil {
			return nil, err
		}
	}
	var load sync.WaitGroup
	if c.Role != Measure {
		for range c.Size - 1 {
			m, err := next()
			if err == nil {
				err = c.enter(ctx, m)
			}
			if err != nil {
				cancel(err)
				load.Wait()
				return nil, err
			}
			load.Go(func() {
				if err := c.stay(ctx, m); err != nil {
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
		m := &meter{Config: c, member: measuring}
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

// enter joins and waits for the view that says so.
func (c *Config) enter(ctx context.Context, m member) error {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	err := m.join(ctx, c.Group)
	if err == nil {
		err = m.await(ctx, c.Group, isView)
	}
	if err != nil {
		return user.Explain(fmt.Errorf("a load member joins: %w", err), c.Session)
	}
	return nil
}

// isView reports whether this is a view: all that a session gets have it as a member.
func isView(h happened) bool { return h.members > 0 }

func hasLeft(h happened) bool { return h.left }

// stay is a load member's part.
func (c *Config) stay(ctx context.Context, m member) error {
	done := map[string]bool{}
	err := m.await(ctx, c.Group, func(h happened) bool {
		if h.done != "" {
			done[h.done] = true
		}
		return len(done) >= c.Measuring
	})
	if err != nil && ctx.Err() != nil {
		return nil // who ended it knows why
	}
	return err
}

// meter is the measuring member.
type meter struct {
	Config
	member
}

func (m *meter) run(ctx context.Context) ([]Sample, error) {
	// A first visit to the group ends when the others are there. That may take long: somebody may start them by hand.
	if err := m.join(ctx, m.Group); err != nil {
		return nil, err
	}
	if err := m.await(ctx, m.Group, func(h happened) bool { return h.members >= m.Size }); err != nil {
		return nil, err
	}
	if _, err := m.time(ctx, m.leave, hasLeft); err != nil {
		return nil, err
	}
	samples := make([]Sample, 0, m.Count)
	for n := range m.Count {
		var s Sample
		var err error
		if err = m.pause(ctx); err != nil {
			return nil, err
		}
		if s.Join, err = m.time(ctx, m.join, isView); err != nil {
			return nil, err
		}
		if err = m.pause(ctx); err != nil {
			return nil, err
		}
		if s.Leave, err = m.time(ctx, m.leave, hasLeft); err != nil {
			return nil, err
		}
		samples = append(samples, s)
		if m.Progress != nil {
			m.Progress(n+1, m.Count)
		}
	}
	// With view synchrony only members may send, so a last visit says that this was all.
	if _, err := m.time(ctx, m.join, isView); err != nil {
		return nil, err
	}
	if _, err := m.time(ctx, m.sayDone, func(h happened) bool { return h.done == m.name() }); err != nil {
		return nil, err
	}
	return samples, nil
}

// time asks for a change and waits until it took effect.
func (m *meter) time(ctx context.Context, change func(context.Context, string) error, effect func(happened) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Patience)
	defer cancel()
	start := time.Now()
	if err := change(ctx, m.Group); err != nil {
		return 0, err
	}
	err := m.await(ctx, m.Group, effect)
	return time.Since(start), err
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
