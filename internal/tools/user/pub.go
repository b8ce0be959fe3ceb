// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/proto/frame"
	"evensong/internal/tools/amount"
)

// Publication is what "evensong pub" sends: one message, or a message for each line of an input.
type Publication struct {
	Options
	Groups  []string
	Message []byte
	// Lines, if not nil, is read instead of Message, to its end. A line is at most as long as a message may be,
	// without its end, which is not sent.
	Lines   io.Reader
	Service client.Service
	Type    int16
	// Repeat is how often each message is sent. Zero means once.
	Repeat int
	// Rate is how many messages are sent per second, at most. Zero means as fast as the daemon takes them.
	Rate float64
}

// farewell is what a session sends to itself behind its last request. It comes back when all before it have their place in
// the order, or were refused: messages of one sender keep their order.
var farewell = []byte("evensong: end")

const farewellType = 0x7EAD

// isFarewell reports whether the farewell of session me comes back, delivered or refused. A refusal in Evensong's own
// dialect says only where to; nothing else is sent there.
func isFarewell(ev client.Event, me string) bool {
	switch ev := ev.(type) {
	case *client.Message:
		return ev.Sender == me && ev.Type == farewellType && bytes.Equal(ev.Data, farewell)
	case *client.Rejected:
		return ev.Type == farewellType && bytes.Equal(ev.Data, farewell) || ev.Reason != "" && ev.Request == client.RequestMulticast && ev.GroupName() == me
	}
	return false
}

// Publish sends, and returns how many messages were ordered by the daemons. The end of ctx ends the sending; what was
// sent by then is still waited for, at most for the time of Options.Timeout after the last message. Reading Lines may
// outlive it.
func Publish(ctx context.Context, p Publication) (sent int, err error) {
	conn, err := Dial(ctx, p.Options)
	if err != nil {
		return 0, Explain(err, p.Options)
	}
	return publish(ctx, conn, p)
}

func publish(ctx context.Context, conn Conn, p Publication) (sent int, err error) {
	defer func() {
		if closeErr := conn.Close(); err == nil && closeErr != nil {
			err = Explain(closeErr, p.Options)
		}
	}()
	receive, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	sending, stop := context.WithCancel(ctx)
	defer stop()
	refused := 0
	done := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		defer stop() // without a receiver, sending is in vain
		var err error
		refused, err = awaitFarewell(receive, conn)
		done <- err
	})
	sent, err = p.sendAll(sending, conn)
	if err == nil || errors.Is(err, context.Canceled) {
		if err = conn.Multicast(receive, client.Agreed, farewellType, farewell, conn.PrivateGroup()); err == nil {
			timeout := p.Timeout
			if timeout <= 0 {
				timeout = DefaultTimeout
			}
			late := time.AfterFunc(timeout, func() {
				cancel(fmt.Errorf("the daemon did not order the last message within %v: %w", timeout, context.DeadlineExceeded))
			})
			err = <-done
			late.Stop()
			if cause := context.Cause(receive); err != nil && cause != nil {
				err = cause
			}
		}
	}
	if err != nil {
		return sent, Explain(err, p.Options)
	}
	if refused > 0 {
		return sent - refused, &ExitError{exitRefused, "", fmt.Errorf("the daemon's access rules refused %d of %s", refused, amount.Of(sent, "message"))}
	}
	return sent, nil
}

// awaitFarewell receives until the last message came back, and counts what the daemon refused before it.
func awaitFarewell(ctx context.Context, conn Conn) (refused int, err error) {
	for {
		ev, err := conn.Next(ctx)
		if err != nil {
			return refused, err
		}
		if isFarewell(ev, conn.PrivateGroup()) {
			return refused, nil
		}
		if _, ok := ev.(*client.Rejected); ok {
			refused++
		}
	}
}

// sendAll sends everything there is to send.
func (p *Publication) sendAll(ctx context.Context, conn Conn) (sent int, err error) {
	pace := newPace(p.Rate)
	defer pace.stop()
	send := func(data []byte) error {
		for range max(p.Repeat, 1) {
			if err := pace.wait(ctx); err != nil {
				return err
			}
			if err := conn.Multicast(ctx, p.Service, p.Type, data, p.Groups...); err != nil {
				return err
			}
			sent++
		}
		return nil
	}
	if p.Lines == nil {
		err = send(p.Message)
		return sent, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for l := range readMessages(ctx, p.Lines, largest(conn, len(p.Groups))) {
		if l.err != nil {
			return sent, l.err
		}
		if err := send([]byte(l.text)); err != nil {
			return sent, err
		}
	}
	return sent, ctx.Err()
}

// largest is how many bytes a message to so many groups may have.
func largest(conn Conn, groups int) int {
	if c, ok := conn.(interface {
		Session() (client.Session, bool)
	}); ok {
		if s, own := c.Session(); own {
			return s.MaxMessage
		}
	}
	return client.MaxMessage - frame.NameSize*groups
}

// readLine is the next line with its end, or as much of it as shows that it is longer than limit.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > limit+len("\r\n") {
			return line, err
		}
	}
}

// readMessages gives the lines of an input, without their ends, and last an error if there was one. The reading goroutine
// ends with the input; after the end of ctx it gives nothing more, but may wait in a last Read.
func readMessages(ctx context.Context, in io.Reader, limit int) func(yield func(line) bool) {
	lines := make(chan line)
	go func() {
		defer close(lines)
		r := bufio.NewReaderSize(in, 64<<10)
		for n := 1; ; n++ {
			text, err := readLine(r, limit)
			l := line{text: string(bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")))}
			switch {
			case len(l.text) > limit:
				l.err = &ExitError{exitFailure, "", fmt.Errorf("line %d is longer than %d bytes; the lines before it were sent", n, limit)}
			case errors.Is(err, io.EOF) && len(text) == 0:
				return
			case err != nil && !errors.Is(err, io.EOF):
				l.err = fmt.Errorf("read line %d: %w", n, err)
			}
			select {
			case lines <- l:
			case <-ctx.Done():
				return
			}
			if err != nil || l.err != nil {
				return
			}
		}
	}()
	return func(yield func(line) bool) {
		for {
			select {
			case l, ok := <-lines:
				if !ok || !yield(l) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// pace lets a number of steps per second through; the first one at once.
type pace struct {
	every time.Duration // zero: no limit
	next  time.Time
	timer *time.Timer
}

func newPace(perSecond float64) *pace {
	p := &pace{}
	if perSecond > 0 {
		p.every = time.Duration(float64(time.Second) / perSecond)
		p.next = time.Now()
		p.timer = time.NewTimer(0)
		<-p.timer.C
	}
	return p
}

// wait returns when the next step is due. Steps that are late are not made up for by a burst of more than a tenth of a
// second's worth.
func (p *pace) wait(ctx context.Context) error {
	if p.every == 0 {
		return nil
	}
	now := time.Now()
	if behind := now.Add(-100 * time.Millisecond); p.next.Before(behind) {
		p.next = behind
	}
	if early := p.next.Sub(now); early > 0 {
		p.timer.Reset(early)
		select {
		case <-p.timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.next = p.next.Add(p.every)
	return nil
}

func (p *pace) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
