// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"evensong/internal/proto/frame"
)

// Join asks to become a member of a group. It returns when the request is in the send buffer; the group's next View
// with this session among its members says that the join took effect. Joining twice has no effect and no answer.
//
// A group name has 1 to 31 characters from $ to ~ (codes 36 to 126); a longer or other one is an error.
func (c *Conn) Join(ctx context.Context, group string) error {
	if c.own != nil {
		return c.ownGroupRequest(ctx, "join", frame.AppendOwnJoin, group)
	}
	return c.groupRequest(ctx, "join", frame.AppendJoin, group)
}

// Leave asks to end the membership in a group. SelfLeave says that it took effect. Leaving a group one is not in has no
// effect and no answer.
func (c *Conn) Leave(ctx context.Context, group string) error {
	if c.own != nil {
		return c.ownGroupRequest(ctx, "leave", frame.AppendOwnLeave, group)
	}
	return c.groupRequest(ctx, "leave", frame.AppendLeave, group)
}

// ownGroupRequest asks for a join or leave without an answer, which has the request number zero.
func (c *Conn) ownGroupRequest(ctx context.Context, verb string, encode func(dst []byte, request uint32, group string) []byte, group string) error {
	return c.groupRequest(ctx, verb, func(dst []byte, _, group string) []byte { return encode(dst, 0, group) }, group)
}

func (c *Conn) groupRequest(ctx context.Context, verb string, encode func(dst []byte, private, group string) []byte, group string) error {
	if err := c.checkGroup(group); err != nil {
		err.Op = verb + " " + strconv.Quote(group)
		return err
	}
	buf, err := c.out.begin(ctx, frame.CommandSize)
	if err != nil {
		return wrap(verb+" "+strconv.Quote(group), err)
	}
	c.out.commit(encode(buf, c.privateGroup, group))
	return nil
}

// Multicast sends one message to all members of one or several groups and to the sessions whose private groups are
// among the destinations. The sender need not be a member. Each receiver gets one copy, however many of the groups it
// is in. messType is a tag for the receiving application. Data may be empty; it is not kept after the call.
//
// Up to MaxGroups destinations. Mind that the original's daemon delivers a message with more than MaxGroupsEverywhere
// to nobody and does not say so.
//
// Multicast returns when the message is in the send buffer; it waits only while that is full. An error means that the
// message was not sent, and that is all that ctx can do: a message that was accepted will be ordered even if ctx ends
// later. Flush waits for the daemon's machine to have it. Only the message's own delivery, or an answer, says that it
// was ordered. Messages of one goroutine keep their order on the way to the daemon.
func (c *Conn) Multicast(ctx context.Context, service Service, messType int16, data []byte, groups ...string) error {
	one := [1][]byte{data}
	return c.MulticastParts(ctx, service, messType, one[:], groups...)
}

// MulticastParts is Multicast with a message in several pieces, which the receiver gets as one.
func (c *Conn) MulticastParts(ctx context.Context, service Service, messType int16, parts [][]byte, groups ...string) error {
	dataBytes := 0
	for _, p := range parts {
		dataBytes += len(p)
	}
	if err := c.checkMulticast(service, dataBytes, groups); err != nil {
		err.Op = multicastOp(groups)
		return err
	}
	if c.own != nil {
		return c.ownMulticast(ctx, service, messType, parts, dataBytes, groups)
	}
	buf, err := c.out.begin(ctx, frame.MulticastSize(len(groups), dataBytes))
	if err != nil {
		return wrap(multicastOp(groups), err)
	}
	c.out.commit(appendMulticast(buf, c.privateBytes, service, messType, parts, dataBytes, groups))
	return nil
}

// ownMulticast sends a message in Evensong's own dialect; it was checked.
func (c *Conn) ownMulticast(ctx context.Context, service Service, messType int16, parts [][]byte, dataBytes int, groups []string) error {
	var data []byte
	if len(parts) == 1 {
		data = parts[0]
	} else {
		data = slices.Concat(parts...)
	}
	buf, err := c.out.begin(ctx, frame.OwnMulticastSize(groups, dataBytes))
	if err != nil {
		return wrap(multicastOp(groups), err)
	}
	c.out.commit(frame.AppendOwnMulticast(buf, c.own.nextStream(), 0, frame.Type(service), frame.NewHint(messType, nativeOrder), groups, data))
	return nil
}

func multicastOp(groups []string) string {
	switch len(groups) {
	case 0:
		return "multicast"
	case 1:
		return "multicast to " + strconv.Quote(groups[0])
	}
	return fmt.Sprintf("multicast to %q and %d more", groups[0], len(groups)-1)
}

func (c *Conn) checkMulticast(service Service, dataBytes int, groups []string) *Error {
	if !service.Valid() {
		return &Error{Code: ErrIllegalService, Detail: fmt.Sprintf("service %v: give exactly one of the six levels, and SelfDiscard if wanted", service)}
	}
	if len(groups) == 0 {
		return &Error{Code: ErrIllegalGroup, Detail: "no destination"}
	}
	if c.own != nil {
		return c.checkOwnMulticast(dataBytes, groups)
	}
	if len(groups) > MaxGroups {
		return &Error{Code: ErrIllegalGroup, Detail: fmt.Sprintf("%d destinations, %d are possible", len(groups), MaxGroups)}
	}
	for _, g := range groups {
		if err := checkDestination(g); err != nil {
			return err
		}
	}
	if n := dataBytes + frame.NameSize*len(groups); n > c.opts.maxMessage {
		return &Error{Code: ErrMessageTooLong, Detail: fmt.Sprintf("%d bytes with the destinations, %d are possible", n, c.opts.maxMessage)}
	}
	return nil
}

// checkOwnMulticast judges sizes and destinations by what the daemon said in its welcome. A destination may be anything
// that fits; nobody receives at a name that is no group's.
func (c *Conn) checkOwnMulticast(dataBytes int, groups []string) *Error {
	w := &c.own.welcome
	if len(groups) > int(w.GroupsLimit) {
		return &Error{Code: ErrIllegalGroup, Detail: fmt.Sprintf("%d destinations, %d are possible", len(groups), w.GroupsLimit)}
	}
	for _, g := range groups {
		if len(g) == 0 || len(g) > frame.MaxOwnName {
			return &Error{Code: ErrIllegalGroup, Detail: fmt.Sprintf("destination %.40q has %d bytes, 1 to %d are possible", g, len(g), frame.MaxOwnName)}
		}
	}
	if dataBytes > int(w.MessageLimit) {
		return &Error{Code: ErrMessageTooLong, Detail: fmt.Sprintf("%d bytes, %d are possible", dataBytes, w.MessageLimit)}
	}
	return nil
}

// Flush waits until the operating system has taken all that was accepted before the call.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.out.flush(ctx); err != nil {
		return wrap("flush", err)
	}
	return nil
}

// outbox collects encoded frames for the writer goroutine. While one write is under way the next one grows, so many
// small messages share a system call without a timer and without delay when there is only one.
type outbox struct {
	limit int
	// turn is held by the one sender that may wait for space: senders behind it queue here, first come, first served.
	turn chan struct{}
	// wake tells the writer that buf is not empty or that finished or err is set.
	wake chan struct{}
	// direct writes what the socket takes without waiting, and returns how much that was; nil where that is not possible.
	direct func([]byte) int

	mu sync.Mutex
	// buf holds frames not yet given to the writer, spare the writer's previous buffer for reuse.
	buf, spare []byte
	// progress is closed at every step of the writer; nil while nobody waits.
	progress chan struct{}
	// accepted and written count bytes since the start.
	accepted, written uint64
	// idle means that the writer waits for frames, pausedAt when it, or a sender, wrote last.
	idle     bool
	pausedAt time.Time
	// finished means that no more is accepted; what is in buf is still written.
	finished bool
	// err is why nothing can be written any more. Set once.
	err error
}

// directPause is for how long nothing was written when a sender writes its frame itself, which spares it to wake the writer: as
// long as a write and two wake-ups take. Frames that come faster than that are better off with several in a write.
const directPause = 30 * time.Microsecond

func (o *outbox) init(limit int, direct func([]byte) int) {
	o.limit, o.direct = limit, direct
	o.turn = make(chan struct{}, 1)
	o.wake = make(chan struct{}, 1)
}

// begin waits until there is space for a frame of the given size and returns the buffer to append it to. Without an
// error the outbox is locked until commit; with one nothing is.
func (o *outbox) begin(ctx context.Context, bytes int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case o.turn <- struct{}{}:
	default:
		select {
		case o.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	o.mu.Lock()
	for {
		err := o.refusal()
		if err == nil && (len(o.buf) == 0 || len(o.buf)+bytes <= o.limit) {
			return o.buf, nil
		}
		if err == nil {
			err = o.await(ctx)
		}
		if err != nil {
			o.mu.Unlock()
			<-o.turn
			return nil, err
		}
	}
}

// commit takes the buffer of begin with the frame appended.
func (o *outbox) commit(buf []byte) {
	alone := len(o.buf) == 0
	o.accepted += uint64(len(buf) - len(o.buf))
	o.buf = buf
	if alone && o.idle && o.direct != nil && time.Since(o.pausedAt) >= directPause {
		n := o.direct(buf)
		o.written += uint64(n)
		o.buf = buf[:copy(buf, buf[n:])] // the rest is the writer's, and so is any error
		o.pausedAt = time.Now()
	}
	left := len(o.buf) > 0
	o.mu.Unlock()
	<-o.turn
	if left {
		wake(o.wake)
	}
}

// hurry appends to what will be written without regard to the limit, and returns how many bytes were accepted so far. f
// gets that number, too, and may append nothing. After the end nothing happens.
func (o *outbox) hurry(f func(buf []byte, accepted uint64) []byte) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finished || o.err != nil {
		return o.accepted
	}
	before := len(o.buf)
	o.buf = f(o.buf, o.accepted)
	o.accepted += uint64(len(o.buf) - before)
	wake(o.wake)
	return o.accepted
}

// refusal is why a sender gets nothing more accepted. The lock is held.
func (o *outbox) refusal() error {
	if o.finished {
		return errClosed
	}
	return o.err
}

// await releases the lock until the writer made a step, and has it again on return.
func (o *outbox) await(ctx context.Context) error {
	if o.progress == nil {
		o.progress = make(chan struct{})
	}
	step := o.progress
	o.mu.Unlock()
	defer o.mu.Lock()
	select {
	case <-step:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step lets those that await look again. The lock is held.
func (o *outbox) step() {
	if o.progress != nil {
		close(o.progress)
		o.progress = nil
	}
}

func (o *outbox) flush(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for target := o.accepted; o.written < target; {
		if o.err != nil {
			return o.err
		}
		if err := o.await(ctx); err != nil {
			return err
		}
	}
	return o.refusal()
}

// finish appends a last frame without regard to the limit and accepts nothing more. It reports false if the session
// was lost before.
func (o *outbox) finish(encode func([]byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
	o.step()
	wake(o.wake)
	if o.err != nil {
		return false
	}
	before := len(o.buf)
	o.buf = encode(o.buf)
	o.accepted += uint64(len(o.buf) - before)
	return true
}

// fail gives up writing; only the first reason counts.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	o.step()
	wake(o.wake)
}

func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// unwritten reports whether accepted frames were not written.
func (o *outbox) unwritten() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written < o.accepted
}

// take waits for frames and hands them to the writer, who gives the previous buffer back. It reports false when there
// is nothing more to write.
func (o *outbox) take(previous []byte) ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.written += uint64(len(previous))
	o.spare = previous[:0]
	if len(previous) > 0 {
		o.step()
		o.pausedAt = time.Now()
	}
	o.idle = true
	for len(o.buf) == 0 && !o.finished && o.err == nil {
		o.mu.Unlock()
		<-o.wake
		o.mu.Lock()
	}
	o.idle = false
	if len(o.buf) == 0 || o.err != nil {
		return nil, false
	}
	full := o.buf
	o.buf = o.spare
	o.step() // there is space again
	return full, true
}

// writeLoop is the writer goroutine.
func (c *Conn) writeLoop() {
	defer close(c.writerDone)
	var buf []byte
	direct := directWriter(c.nc)
	for {
		var ok bool
		if buf, ok = c.out.take(buf); !ok {
			return
		}
		n := 0
		if direct != nil {
			n = direct(buf)
		}
		if n == len(buf) {
			continue
		}
		if _, err := c.nc.Write(buf[n:]); err != nil {
			c.out.fail(&Error{Code: ErrConnectionClosed, Detail: "writing to the daemon", Err: err})
			// What the daemon sent before is still worth delivering, but the session must end even if the
			// daemon keeps its side open.
			c.boundReader()
			return
		}
	}
}
