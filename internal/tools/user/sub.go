// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"evensong/client"
	"evensong/internal/tools/amount"
)

// Format is how a subscription prints events.
type Format string

const (
	// Text is a line in words for each event, more for messages of several lines.
	Text Format = "text"
	// JSON is an object on a line for each event.
	JSON Format = "json"
	// Raw is the bytes of each message and a newline, and nothing of other events.
	Raw Format = "raw"
)

// Formats are all of them.
var Formats = []Format{Text, JSON, Raw}

// Subscription is what "evensong sub" prints.
type Subscription struct {
	Options
	Groups []string
	Format Format
	Views  bool // print views, transitional signals and self-leaves too
	// Count ends the subscription after so many messages. Zero means never.
	Count int
	// For ends it after a time. Zero means never. It is a failure if Count messages have not come by then.
	For   time.Duration
	Color bool
}

// Subscribe joins the groups and prints to out until Count, For, the end of ctx, which is an orderly end, or the end of
// the session.
func Subscribe(ctx context.Context, s Subscription, out io.Writer) error {
	if s.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.For)
		defer cancel()
	}
	conn, err := dialWatching(ctx, s.Options)
	if err != nil && s.For > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) { // the daemon need not be at fault
		err = fmt.Errorf("there was no session within %v", s.For)
		if s.Count > 0 {
			err = fmt.Errorf("0 messages came within %v, want %d; there was no session by then", s.For, s.Count)
		}
		return &ExitError{exitFailure, "", err}
	}
	if err != nil {
		return Explain(err, s.Options)
	}
	return subscribe(ctx, conn, s, out)
}

func subscribe(ctx context.Context, conn Conn, s Subscription, out io.Writer) error {
	got, err := s.run(ctx, conn, out)
	// Errors of the end are told by the end of ctx and not by what it interrupted.
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
		if s.Count > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = &ExitError{exitFailure, "", fmt.Errorf("%s came within %v, want %d", amount.Of(got, "message"), s.For, s.Count)}
		}
	}
	closeErr := conn.Close()
	if err == nil {
		err = closeErr
	}
	if _, ok := errors.AsType[*ExitError](err); ok || err == nil {
		return err
	}
	return Explain(err, s.Options)
}

func (s *Subscription) run(ctx context.Context, conn Conn, out io.Writer) (got int, err error) {
	w := bufio.NewWriter(out)
	defer func() {
		if flushErr := w.Flush(); err == nil {
			err = flushErr
		}
	}()
	for _, g := range s.Groups {
		if err := conn.Join(ctx, g); err != nil {
			return 0, err
		}
	}
	told := &narrator{me: conn.PrivateGroup()}
	for s.Count == 0 || got < s.Count {
		if conn.Waiting() == 0 { // nothing more to print together with this
			if err := w.Flush(); err != nil {
				return got, err
			}
		}
		if err := ctx.Err(); err != nil { // Next prefers events to ctx
			return got, err
		}
		ev, err := conn.Next(ctx)
		if err != nil {
			return got, err
		}
		m, isMessage := ev.(*client.Message)
		if r, ok := ev.(*client.Rejected); ok && r.Request == client.RequestJoin {
			return got, &ExitError{exitRefused, "", errors.New(describe(r, told.me, nil))}
		}
		if isMessage {
			got++
		} else if !s.Views {
			told.remember(ev)
			continue
		}
		switch {
		case s.Format == JSON:
			w.Write(told.asJSON(ev))
			w.WriteByte('\n')
		case s.Format == Raw && isMessage:
			w.Write(m.Data)
			w.WriteByte('\n')
		case s.Format == Raw:
			told.remember(ev)
		default:
			w.WriteString(paint(s.Color, colorOf(ev), told.tell(ev)))
			w.WriteByte('\n')
		}
	}
	return got, nil
}

// ParseFormat is the format of a name.
func ParseFormat(name string) (Format, error) {
	if f := Format(name); slices.Contains(Formats, f) {
		return f, nil
	}
	return "", fmt.Errorf("-o %q: want text, json or raw", name)
}
