// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"evensong/client"
	"evensong/internal/tools/amount"
	"evensong/internal/tools/latency"
	"evensong/internal/tools/user"
)

// The types of a flood's messages tell members what they need to know of each other.
const (
	typeData     int16 = iota
	typeLast           // the sender's last one
	typeListener       // not counted: the sender only receives
	typeEnd            // not counted: from a session that only sends, to itself
)

// session is one connection of a flood: a goroutine that sends and one that receives.
type session struct {
	*flood
	conn    *client.Conn
	options user.Options

	// pending has when each own message was sent that has not come back, oldest first. Its capacity is the window, so
	// sending waits for a place in it.
	pending chan time.Time
	// Of the receiver, or of the sender if it only sends: how long messages took, and when the first and the last were.
	times              *latency.Histogram
	sending, receiving span

	// start is closed when all members are there; slowest is the number of messages received from the slowest member that
	// still sends, and step tells the sender that it has changed.
	start   chan struct{}
	slowest atomic.Int64
	step    chan struct{}

	// Of the receiver: what each member has sent, by its place in the view that began the flood.
	members []string
	index   map[string]int
	got     []int64
	ended   []bool // has sent its last message, or never sends
	open    int    // members that are not ended
	own     int
	heard   int // messages of all
}

func newSession(f *flood, conn *client.Conn, o user.Options) *session {
	return &session{flood: f, conn: conn, options: o, pending: make(chan time.Time, f.Window), times: latency.New(),
		start: make(chan struct{}), step: make(chan struct{}, 1)}
}

// run is one session's part of the flood.
func (s *session) run(ctx context.Context) error {
	if s.Direction == SendOnly {
		return s.sendOnly(ctx)
	}
	if err := s.conn.Join(ctx, s.Group); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.send(ctx); err != nil {
			cancel(err)
		}
	})
	err := s.receive(ctx)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// send sends all messages as fast as the windows allow. The last one ends the session's part for the members.
func (s *session) send(ctx context.Context) error {
	if s.Members > 0 {
		select {
		case <-s.start:
		case <-ctx.Done():
			return nil // the receiver knows why
		}
	}
	if s.Direction == ReceiveOnly {
		if s.Members == 0 {
			return nil
		}
		return s.conn.Multicast(ctx, s.Service, typeListener, nil, s.Group)
	}
	s.due.Add(1)
	for n := 1; n <= s.Messages; n++ {
		for s.Members > 0 && int64(n)-s.slowest.Load() > int64(s.Window) {
			select {
			case <-s.step:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case s.pending <- time.Now():
		case <-ctx.Done():
			return nil
		}
		t := typeData
		if n == s.Messages {
			t = typeLast
		}
		if err := s.conn.Multicast(ctx, s.Service, t, s.data, s.Group); err != nil {
			return err
		}
		s.sent.Add(1)
		if s.Step != nil && n%1000 == 0 {
			s.Step(n)
		}
	}
	return nil
}

// sendOnly sends all messages without waiting, and then until they are ordered.
func (s *session) sendOnly(ctx context.Context) error {
	s.due.Add(1)
	defer s.due.Add(-1)
	s.sending.add(time.Now())
	for n := 1; n <= s.Messages; n++ {
		if err := s.conn.Multicast(ctx, s.Service, typeData, s.data, s.Group); err != nil {
			return err
		}
		s.sent.Add(1)
		if s.Step != nil && n%1000 == 0 {
			s.Step(n)
		}
	}
	if err := s.conn.Multicast(ctx, client.Agreed, typeEnd, nil, s.conn.PrivateGroup()); err != nil {
		return err
	}
	for {
		ev, err := s.conn.Next(ctx)
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case *client.Message:
			if ev.Sender == s.conn.PrivateGroup() && ev.Type == typeEnd {
				s.sending.add(time.Now())
				return nil
			}
		case *client.Rejected:
			return refused(ev)
		}
	}
}

func refused(r *client.Rejected) error {
	return user.Refused(fmt.Errorf("the daemon's access rules refused the %v to %s", r.Request, r.GroupName()))
}

// receive takes messages until all are there that this session waits for.
func (s *session) receive(ctx context.Context) error {
	for !s.finished() {
		ev, err := s.conn.Next(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		switch ev := ev.(type) {
		case *client.Message:
			if ev.GroupName() == s.Group {
				if err := s.note(ev); err != nil {
					return err
				}
			}
			ev.Release()
		case *client.View:
			if err := s.view(ev); err != nil {
				return err
			}
		case *client.Rejected:
			return refused(ev)
		case *client.Transition, *client.SelfLeave:
		}
	}
	if s.Direction == Both {
		s.due.Add(-1)
	}
	return nil
}

// finished reports whether nothing more is due.
func (s *session) finished() bool {
	switch {
	case s.Members > 0:
		return s.index != nil && s.open == 0
	case s.Direction == ReceiveOnly:
		return s.heard >= s.Messages
	}
	return s.own >= s.Messages
}

// view looks for the members: all must be there before anybody sends, and stay until each has sent its last message.
func (s *session) view(v *client.View) error {
	if v.Group != s.Group || s.Members == 0 {
		return nil
	}
	if s.index == nil {
		n := len(v.Members)
		if s.Waiting != nil && s == s.sessions[0] && s.Members > s.Sessions {
			s.Waiting(min(n, s.Members), s.Members)
		}
		switch {
		case n < s.Members:
			return nil
		case n > s.Members:
			return fmt.Errorf("the group %s has %s, more than the %d of this flood: choose another group, or another number", s.Group, amount.Of(n, "member"), s.Members)
		}
		s.members, s.open = slices.Clone(v.Members), s.Members
		s.got, s.ended = make([]int64, s.Members), make([]bool, s.Members)
		s.index = make(map[string]int, s.Members)
		for i, m := range s.members {
			s.index[m] = i
		}
		close(s.start)
		return nil
	}
	for i, m := range s.members {
		if !s.ended[i] && v.Rank(m) < 0 {
			return fmt.Errorf("%s is gone after %s, before its last one", m, amount.Of(s.got[i], "message"))
		}
	}
	return nil
}

// note counts a message.
func (s *session) note(m *client.Message) error {
	i := -1
	if s.Members > 0 {
		var ok bool
		if i, ok = s.index[m.Sender]; !ok {
			return nil // somebody else's
		}
	}
	if m.Type == typeListener {
		if i >= 0 {
			s.end(i)
		}
		return nil
	}
	now := time.Now()
	if m.Sender == s.conn.PrivateGroup() {
		if s.Direction != Both {
			return errors.New("a message of this session came back although it only receives")
		}
		sent := <-s.pending // never waits: the message was entered before it was sent
		if s.own == 0 {
			s.sending.add(sent)
		}
		s.sending.add(now)
		s.times.Record(now.Sub(sent))
		s.own++
	}
	s.heard++
	s.received.Add(1)
	s.receiving.add(now)
	if s.Step != nil && s.Direction == ReceiveOnly && s.heard%1000 == 0 {
		s.Step(s.heard)
	}
	if i < 0 {
		return nil
	}
	s.got[i]++
	if m.Type == typeLast {
		s.end(i)
	} else if s.got[i]-1 == s.slowest.Load() {
		s.advance()
	}
	return nil
}

// end is the last that a member had to say.
func (s *session) end(i int) {
	if !s.ended[i] {
		s.ended[i] = true
		s.open--
		s.advance()
	}
}

// advance looks for the slowest member anew.
func (s *session) advance() {
	low := int64(-1)
	for i, n := range s.got {
		if !s.ended[i] && (low < 0 || n < low) {
			low = n
		}
	}
	if low < 0 {
		low = int64(s.Messages) // nobody to wait for
	}
	if s.slowest.Swap(low) != low {
		select {
		case s.step <- struct{}{}:
		default:
		}
	}
}
