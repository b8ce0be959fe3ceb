// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/proto/flush"
)

// session is what a Conn needs of a client session; *client.Conn is one.
type session interface {
	Next(ctx context.Context) (client.Event, error)
	Waiting() int
	Join(ctx context.Context, group string) error
	Leave(ctx context.Context, group string) error
	MulticastParts(ctx context.Context, service client.Service, messType int16, parts [][]byte, groups ...string) error
	PrivateGroup() string
	Close() error
	Abort()
}

// evicter is a session whose daemon can remove a member from a group as long as id is the group's view (VS-8).
type evicter interface {
	Evict(ctx context.Context, group, member string, id client.ViewID) error
}

// Conn is a session with view synchrony. Its methods may be called by several goroutines at the same time. It must be
// closed.
type Conn struct {
	under session
	conn  *client.Conn // the same, for Client
	opts  options
	start time.Time

	in inbox

	// ctx ends when the session does; it bounds what the protocol itself sends.
	ctx    context.Context
	cancel context.CancelFunc
	// work are the goroutines of the session: the pump, and requests to evict.
	work sync.WaitGroup

	// lock guards what follows. It is a channel so that waiting for it ends with a context: it may be held while the
	// client's send buffer is full.
	lock    chan struct{}
	machine *flush.Machine
	fx      flush.Effects
	// timer fires at the machine's deadline; nil until there is one.
	timer *time.Timer
	// changed is closed when a view was installed or a membership ended: senders that wait for it look again.
	changed chan struct{}
	// stuck are events that wait for the daemon to take a request to evict. They come before the end of the view change
	// that they are about.
	stuck   []*Stuck
	ended   bool           // no timer any more
	primary client.Primary // of the session beneath
}

// Dial opens a session with a daemon and puts view synchrony on it. The address is that of client.Dial.
func Dial(ctx context.Context, addr string, opts ...Option) (*Conn, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, addr, append(o.client, client.WithMembership(true))...)
	if err != nil {
		return nil, err
	}
	return newConn(c, c, o)
}

// Wrap puts view synchrony on a session, which belongs to the Conn from then on: nobody else may receive from it, and
// closing the Conn closes it. It must get membership messages and must not be a member of a group yet. Options of
// WithClient have no effect.
func Wrap(c *client.Conn, opts ...Option) (*Conn, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if !c.Membership() {
		return nil, &client.Error{Op: "wrap " + c.PrivateGroup(), Code: ErrIllegalParam,
			Detail: "the session gets no membership messages; dial it without WithMembership(false)"}
	}
	return newConn(c, c, o)
}

func newConn(under session, conn *client.Conn, o options) (*Conn, error) {
	m, err := flush.New(flush.Config{Private: under.PrivateGroup(), AutoFlush: o.autoFlush, FlushTimeout: o.flushTimeout})
	if err != nil {
		under.Close()
		return nil, err
	}
	c := &Conn{under: under, conn: conn, opts: o, start: time.Now(), lock: make(chan struct{}, 1), machine: m, changed: make(chan struct{})}
	c.in.init(o.receiveQueue)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.pump)
	return c, nil
}

// PrivateGroup is the name of this session, "#name#daemon": how it appears as sender and as member.
func (c *Conn) PrivateGroup() string { return c.under.PrivateGroup() }

// Client is the session underneath, for what it can tell. Receiving from it, or sending to groups that are joined here,
// would break the protocol.
func (c *Conn) Client() *client.Conn { return c.conn }

// Close ends the session in order; see client.Conn.Close. When it returns, no goroutine of the session is left.
func (c *Conn) Close() error {
	c.end()
	err := c.under.Close()
	c.work.Wait()
	return err
}

// Abort ends the session at once without telling the daemon.
func (c *Conn) Abort() {
	c.end()
	c.under.Abort()
	c.work.Wait()
}

func (c *Conn) end() {
	c.in.fail(&client.Error{Op: "receive", Code: client.ErrClosed, Detail: "closed by this program"}, true)
	c.cancel()
}

// Next returns the next event, waiting for it if need be. An event that is already there is returned even if ctx has
// ended. When the session is lost Next first returns all events received before, then an error, the same one from then
// on; after Close it is client.ErrClosed. If ctx ends the wait, no event is lost.
//
// A View or FlushRequest counts as received when Next returns it: from then on the program sends in that view, or may
// Flush.
func (c *Conn) Next(ctx context.Context) (Event, error) {
	for {
		ev, err := c.in.pop()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-c.in.ready:
		case <-ctx.Done():
			return nil, &client.Error{Op: "receive", Err: ctx.Err()}
		}
	}
}

// TryNext is Next that does not wait: ErrWouldBlock if there is nothing to receive now.
func (c *Conn) TryNext() (Event, error) {
	ev, err := c.in.pop()
	if ev == nil && err == nil {
		err = &client.Error{Op: "receive", Code: ErrWouldBlock}
	}
	return ev, err
}

// Events is Next as a loop. It ends without an error after Close, and with one, delivered as its last pair, when the
// session is lost or ctx ends. Leaving the loop early loses no event.
func (c *Conn) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			err := ctx.Err()
			var ev Event
			if err != nil {
				err = &client.Error{Op: "receive", Err: err}
			} else {
				ev, err = c.Next(ctx)
			}
			if err != nil {
				if !errors.Is(err, client.ErrClosed) {
					yield(nil, err)
				}
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// More is the number of events that Next returns without waiting.
func (c *Conn) More() int { return c.in.waiting() }

// Waiting is More and what the session underneath has received and this layer not yet looked at.
func (c *Conn) Waiting() int { return c.in.waiting() + c.under.Waiting() }

// acquire takes the lock, for at most ctx.
func (c *Conn) acquire(ctx context.Context) error {
	select {
	case c.lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Conn) release() { <-c.lock }

// now is the machine's time.
func (c *Conn) now() time.Duration { return time.Since(c.start) }

// pump is the goroutine that runs the protocol: it takes what the session received to the machine.
func (c *Conn) pump() {
	defer c.cancel()
	defer c.stopTimer()
	for {
		for c.in.full() {
			<-c.in.space
		}
		ev, err := c.under.Next(c.ctx)
		if err == nil {
			err = c.acquire(c.ctx)
		}
		if err != nil {
			c.in.fail(err, false)
			return
		}
		c.handle(ev)
		// All that is there is taken in one turn, so that senders, which take turns with this goroutine one message at a
		// time, cannot make the session a slow reader.
		for err == nil && c.under.Waiting() > 0 && !c.in.full() {
			if ev, err = c.under.Next(c.ctx); err == nil {
				c.handle(ev)
			}
		}
		c.release()
	}
}

// handle gives one event of the session to the machine and does what comes of it. The lock is held.
func (c *Conn) handle(ev client.Event) {
	now := c.now()
	switch ev := ev.(type) {
	case *client.Message:
		c.machine.HandleMessage(now, inMessage(ev), &c.fx)
	case *client.View:
		c.machine.HandleView(now, inView(ev), &c.fx)
	case *client.Transition:
		c.machine.HandleSignal(ev.Group, &c.fx)
	case *client.SelfLeave:
		c.machine.HandleSelfLeave(ev.Group, &c.fx)
	case *client.Rejected:
		if ev.Request == client.RequestLeave {
			c.machine.HandleLeaveRefused(now, ev.GroupName(), &c.fx)
		}
		c.in.put(&Rejected{*ev})
	case *client.PrimaryChange:
		c.primary = ev.Primary
		c.in.put(&PrimaryChange{*ev})
	}
	c.perform() // an error means that the session is over, and Next will say so
}

// perform does the effects of an input of the protocol and returns the first error of a request to the daemon. The lock
// is held.
func (c *Conn) perform() (failed error) {
	for i := range c.fx.Sends {
		s := &c.fx.Sends[i]
		var err error
		switch s.Kind {
		case flush.SendMulticast:
			err = c.under.MulticastParts(c.ctx, client.Service(s.Service), s.Type, [][]byte{s.Data, s.Tail}, s.Groups...)
		case flush.SendJoin:
			err = c.under.Join(c.ctx, s.Group)
		case flush.SendLeave:
			err = c.under.Leave(c.ctx, s.Group)
		case flush.SendEvict: // with the event that names the members
		}
		if failed == nil {
			failed = err
		}
	}
	for i := range c.fx.Events {
		c.deliver(&c.fx.Events[i])
	}
	c.fx.Reset()
	c.arm()
	return failed
}

// deliver hands an event of the machine to the program.
func (c *Conn) deliver(e *flush.Event) {
	switch e.Kind {
	case flush.EventView, flush.EventSelfLeave, flush.EventGaveUp:
		close(c.changed)
		c.changed = make(chan struct{})
		c.tellStuck(func(s *Stuck) bool { return s.Group == e.Group })
	case flush.EventStuck:
		c.evict(e)
		return
	case flush.EventRequest, flush.EventSignal, flush.EventMessage:
	}
	ev := outEvent(e)
	if v, ok := ev.(*View); ok {
		v.Primary = c.primary
	}
	c.in.put(ev)
}

// evict asks the daemon to remove those that do not answer, if it can, and tells the program about them.
func (c *Conn) evict(e *flush.Event) {
	stuck := &Stuck{Group: e.Group, ID: client.ViewID(e.ID), Members: e.Members, Silent: e.Silent}
	can, ok := c.under.(evicter)
	if !ok {
		stuck.Err = ErrCannotEvict
		c.in.put(stuck)
		return
	}
	c.stuck = append(c.stuck, stuck)
	c.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, evictTimeout)
		defer cancel()
		var err error
		for _, member := range stuck.Members {
			if err = can.Evict(ctx, stuck.Group, member, stuck.ID); err != nil {
				break // what hinders one hinders all
			}
		}
		if errors.Is(err, client.ErrUnsupported) {
			err = ErrCannotEvict
		}
		c.lock <- struct{}{} // not held for long once the session has ended
		defer c.release()
		c.tellStuck(func(s *Stuck) bool {
			if s == stuck {
				s.Err = err
			}
			return s == stuck
		})
	})
}

// tellStuck hands those of the waiting events to the program that are meant. The lock is held.
func (c *Conn) tellStuck(meant func(*Stuck) bool) {
	c.stuck = slices.DeleteFunc(c.stuck, func(s *Stuck) bool {
		tell := meant(s)
		if tell {
			c.in.put(s)
		}
		return tell
	})
}

// arm sets the timer to the machine's deadline. The lock is held.
func (c *Conn) arm() {
	at := c.machine.Deadline()
	if at == 0 || c.ended {
		if c.timer != nil {
			c.timer.Stop()
		}
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(at-c.now(), c.advance)
		return
	}
	c.timer.Reset(at - c.now())
}

// advance is what the timer calls. The machine is asked whether it is due, so a call too many does nothing.
func (c *Conn) advance() {
	if c.acquire(c.ctx) != nil {
		return
	}
	defer c.release()
	if now := c.now(); !c.ended && c.machine.Deadline() != 0 && c.machine.Deadline() <= now {
		c.machine.Advance(now, &c.fx)
	}
	c.perform()
}

// stopTimer sees to it that nothing of the timer is left.
func (c *Conn) stopTimer() {
	c.lock <- struct{}{}
	defer c.release()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// bigEndian is this machine's byte order.
var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1
