// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Pauses between rounds of attempts to connect: the first, and the longest.
const (
	roamPause    = 50 * time.Millisecond
	roamPauseMax = 2 * time.Second
)

// A Roamer is a session with whichever of several daemons can be had. When the session is lost, Next says so (*Lost),
// connects to another daemon, joins the groups again, and says that, too (*Moved). Nothing of it happens silently, because
// it is another session: it has another private group, it was in no group for a while, and messages of that while are
// not seen. What the lost session had accepted and nobody has confirmed may or may not have been ordered; a Roamer never
// sends it again.
//
// With evensong:// or evensongs:// addresses it learns of further daemons from the one that it is connected to. Its methods may be called
// by several goroutines, except that one at a time receives. It must be closed.
type Roamer struct {
	opts []Option

	mu     sync.Mutex
	addrs  []string // given, then learned
	given  int
	at     int    // index of the present or last daemon in addrs
	conn   *Conn  // nil: none now
	lost   string // address of the session that was lost, until Moved was said
	wants  []string
	queue  []Event // to be returned before anything else
	closed bool
}

// Lost says that the session of a Roamer is lost. What follows, behind a *Moved, is of another session.
type Lost struct {
	// Address of the daemon, as it was dialed.
	Address string
	// Err is why: a *Error, with the daemon's reason if it gave one.
	Err error
}

// GroupName is empty: the event is about no group.
func (l *Lost) GroupName() string { return "" }

// String is address and reason.
func (l *Lost) String() string { return fmt.Sprintf("session with %s lost: %v", l.Address, l.Err) }

func (l *Lost) sealed() {}

// Moved says that a Roamer has a session again.
type Moved struct {
	// Address of the daemon, as it was dialed.
	Address string
	// PrivateGroup is the name of the new session.
	PrivateGroup string
	// Rejoins are the groups that it asks to be a member of again. Their views follow.
	Rejoins []string
}

// GroupName is empty: the event is about no group.
func (m *Moved) GroupName() string { return "" }

// String is address, name and groups.
func (m *Moved) String() string {
	return fmt.Sprintf("now %s at %s, joining %s again", m.PrivateGroup, m.Address, strings.Join(m.Rejoins, " "))
}

func (m *Moved) sealed() {}

// Roam connects to the first daemon of addrs that accepts, in their order, with the options of Dial. It tries each once; the
// error is that of the last.
func Roam(ctx context.Context, addrs []string, opts ...Option) (*Roamer, error) {
	if len(addrs) == 0 {
		return nil, &Error{Op: "roam", Code: ErrIllegalAddress, Detail: "no address"}
	}
	r := &Roamer{opts: opts, addrs: slices.Clone(addrs), given: len(addrs)}
	var err error
	for i, a := range r.addrs {
		var c *Conn
		if c, err = Dial(ctx, a, opts...); err == nil {
			r.conn, r.at = c, i
			r.learn(c.Peers())
			return r, nil
		}
	}
	return nil, err
}

// Conn is the present session, nil while there is none. It is closed by the Roamer; receive from the Roamer only.
func (r *Roamer) Conn() *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn
}

// Join makes the session a member of a group, now and after each move. While there is no session it takes effect with the
// next one.
func (r *Roamer) Join(ctx context.Context, group string) error {
	c := r.want(group, true)
	if c == nil {
		return nil
	}
	return r.forgive(c.Join(ctx, group))
}

// Leave ends the membership in a group, and joins it no more after a move.
func (r *Roamer) Leave(ctx context.Context, group string) error {
	c := r.want(group, false)
	if c == nil {
		return nil
	}
	return r.forgive(c.Leave(ctx, group))
}

// forgive takes the loss of the session for success: what is wanted is kept for the next one.
func (r *Roamer) forgive(err error) error {
	if errors.Is(err, ErrConnectionClosed) {
		return nil
	}
	return err
}

func (r *Roamer) want(group string, in bool) *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wants = slices.DeleteFunc(r.wants, func(g string) bool { return g == group })
	if in {
		r.wants = append(r.wants, group)
	}
	return r.conn
}

// Multicast is that of the present session. While there is none it fails with ErrConnectionClosed: the caller knows better
// than a queue whether the message still means something in the next session.
func (r *Roamer) Multicast(ctx context.Context, service Service, messType int16, data []byte, groups ...string) error {
	c := r.Conn()
	if c == nil {
		return &Error{Op: multicastOp(groups), Code: ErrConnectionClosed, Detail: "no daemon at the moment; Next looks for one"}
	}
	return c.Multicast(ctx, service, messType, data, groups...)
}

// Next returns the next event, as Conn.Next does. When the session is lost it returns *Lost; the next call looks for a
// daemon, going round the addresses with growing pauses until one accepts or ctx ends, and returns *Moved. A refusal that
// will not change by itself (an illegal name, authentication) is an error at once, if no daemon accepts in the same round.
func (r *Roamer) Next(ctx context.Context) (Event, error) {
	for {
		r.mu.Lock()
		if len(r.queue) > 0 {
			ev := r.queue[0]
			r.queue = r.queue[1:]
			r.mu.Unlock()
			return ev, nil
		}
		c, closed := r.conn, r.closed
		r.mu.Unlock()
		switch {
		case closed:
			return nil, wrap("receive", errClosed)
		case c == nil:
			if err := r.move(ctx); err != nil {
				return nil, err
			}
			continue
		}
		ev, err := c.Next(ctx)
		if err == nil {
			if p, ok := ev.(*Peers); ok {
				r.mu.Lock()
				r.learn(p.List)
				r.mu.Unlock()
			}
			return ev, nil
		}
		if !errors.Is(err, ErrConnectionClosed) && !errors.Is(err, ErrIllegalMessage) {
			return nil, err // ctx has ended, or Close was called
		}
		c.Abort()
		r.mu.Lock()
		r.conn, r.lost = nil, r.addrs[r.at]
		l := &Lost{Address: r.lost, Err: err}
		r.mu.Unlock()
		return l, nil
	}
}

// Events is Next as a loop, as Conn.Events is.
func (r *Roamer) Events(ctx context.Context) iter.Seq2[Event, error] { return loop(ctx, r.Next) }

// move finds another daemon and queues the event about it.
func (r *Roamer) move(ctx context.Context) error {
	for pause := roamPause; ; pause = min(2*pause, roamPauseMax) {
		r.mu.Lock()
		addrs, first := slices.Clone(r.addrs), r.at+1 // the one that was lost comes last
		r.mu.Unlock()
		var last error
		for k := range addrs {
			i := (first + k) % len(addrs)
			c, err := Dial(ctx, addrs[i], r.opts...)
			if ctx.Err() != nil {
				if c != nil {
					c.Abort()
				}
				return wrap("receive", ctx.Err())
			}
			if err != nil {
				last = err
				continue
			}
			return r.moved(ctx, c, addrs[i])
		}
		for _, lasting := range []error{ErrIllegalName, ErrAuth, ErrVersion, ErrIllegalAddress} {
			if errors.Is(last, lasting) {
				return last
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return wrap("receive", ctx.Err())
		}
		r.mu.Lock()
		closed := r.closed
		r.mu.Unlock()
		if closed {
			return wrap("receive", errClosed)
		}
	}
}

// moved takes a new session over.
func (r *Roamer) moved(ctx context.Context, c *Conn, addr string) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		c.Abort()
		return wrap("receive", errClosed)
	}
	r.conn, r.at = c, max(slices.Index(r.addrs, addr), 0)
	r.learn(c.Peers())
	m := &Moved{Address: addr, PrivateGroup: c.PrivateGroup(), Rejoins: slices.Clone(r.wants)}
	r.queue = append(r.queue, m)
	r.mu.Unlock()
	for _, g := range m.Rejoins {
		// A session that is lost again says so by itself; what the daemon refuses comes as *Rejected.
		if err := c.Join(ctx, g); err != nil && !errors.Is(err, ErrConnectionClosed) {
			return err
		}
	}
	return nil
}

// learn replaces what was learned of other daemons; what was given stays. The lock is held, or nobody else knows r.
func (r *Roamer) learn(list []Peer) {
	if len(list) == 0 {
		return
	}
	here, with := r.addrs[r.at], scheme
	if strings.HasPrefix(here, secureScheme) {
		with = secureScheme // what began with TLS does not go on without
	}
	r.addrs = r.addrs[:r.given]
	for _, p := range list {
		for _, a := range p.Addresses {
			if a = with + a; !slices.Contains(r.addrs, a) {
				r.addrs = append(r.addrs, a)
			}
		}
	}
	if r.at = slices.Index(r.addrs, here); r.at < 0 {
		r.addrs = append(r.addrs, here)
		r.at = len(r.addrs) - 1
	}
}

// Close ends the present session in order, and with it the Roamer. It may be called again.
func (r *Roamer) Close() error {
	r.mu.Lock()
	c := r.conn
	r.closed, r.conn = true, nil
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Close()
}
