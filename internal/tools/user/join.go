// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/tools/amount"
)

// Conversation is "evensong join": one group, to talk in and to watch.
type Conversation struct {
	Options
	Group   string
	Service client.Service // of what is said
	Color   bool
}

// Converse joins the group, prints its messages and views in words, and sends each line of in, until the end of in, of
// ctx or of the session. When in ends it leaves the group in order, so that all lines of a pipe have been printed when it
// returns. Reading in may outlive it, and what the daemon refuses is an error and goes to errOut, as with Run.
func Converse(ctx context.Context, c Conversation, in io.Reader, out, errOut io.Writer) error {
	conn, err := dialWatching(ctx, c.Options)
	if err != nil {
		return Explain(err, c.Options)
	}
	scr, restore, err := newScreen(in, out, errOut)
	if err != nil {
		return err
	}
	defer restore()
	if err := converse(ctx, conn, c, scr); err != nil {
		return Explain(err, c.Options)
	}
	return nil
}

// Words that are no message when they begin a line that a person types. In a pipe every line is a message.
const talkHelp = "/members shows who is here, /quit or Ctrl-D leaves, //text sends /text"

func converse(ctx context.Context, conn Conn, c Conversation, scr screen) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(conn, scr)
	t := &talk{narrator: narrator{me: conn.PrivateGroup()}, color: c.Color, left: make(chan struct{}), lost: s.lost}
	s.tell = t.tell
	defer func() {
		cancel()
		s.receiveOff()
		scr.setPrompt("")
		if closeErr := conn.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = s.refusals()
		}
	}()
	go s.readLines(ctx)
	if scr.interactive() {
		scr.print(fmt.Sprintf("you are %s; each line is sent to %s (%v). %s", t.me, printable(c.Group), c.Service, talkHelp))
	}
	if err := conn.Join(ctx, c.Group); err != nil {
		return err
	}
	s.receiveOn(ctx)
	for {
		text, err := s.ask(ctx, prompt)
		switch {
		case err == nil:
		case errors.Is(err, errLineTooLong):
			scr.print(err.Error())
			continue
		case errors.Is(err, io.EOF) && !errors.Is(err, client.ErrConnectionClosed):
			return t.leave(ctx, s, c)
		default:
			return err
		}
		if scr.interactive() && strings.HasPrefix(text, "/") {
			switch word := strings.TrimSpace(text); {
			case word == "/quit" || word == "/q":
				return t.leave(ctx, s, c)
			case word == "/members" || word == "/m":
				scr.print(t.members())
				continue
			case strings.HasPrefix(text, "//"):
				text = text[1:]
			default:
				scr.print("unknown: " + printable(word) + "; " + talkHelp)
				continue
			}
		}
		if text == "" && scr.interactive() {
			continue
		}
		switch err := conn.Multicast(ctx, c.Service, 0, []byte(text), c.Group); {
		case err == nil:
		case isMistake(err):
			scr.print(err.Error())
		default:
			return err
		}
	}
}

// talk tells events of a conversation. The receiver calls tell, the loop the other methods.
type talk struct {
	narrator
	color bool
	left  chan struct{} // closed when the own leave was ordered
	lost  chan error    // ends the conversation

	mu  sync.Mutex
	now []string // the members, in order
}

// tell is shorter than the narrator about messages: who says what, and only what is not usual in a conversation.
func (t *talk) tell(ev client.Event) string {
	switch ev := ev.(type) {
	case *client.Message:
		who := ev.Sender
		if who == t.me {
			who += " (you)"
		}
		head := paint(t.color, colorName, printable(who))
		if strings.HasPrefix(ev.GroupName(), "#") {
			head += " to you alone"
		}
		if data := describeData(ev.Data); data != "" {
			return head + data
		}
		return head + " sent an empty message"
	case *client.View:
		t.mu.Lock()
		t.now = ev.Members
		t.mu.Unlock()
	case *client.Peers:
		return "" // other daemons are no news of the group; its views tell who is lost with one
	case *client.SelfLeave:
		close(t.left) // once: we leave one group, once
	case *client.Rejected:
		if ev.Request != client.RequestMulticast { // without the join, or the leave, there is no more to wait for
			select {
			case t.lost <- &ExitError{exitRefused, "", errors.New(describe(ev, t.me, nil))}:
			default:
			}
			return "" // the error says it
		}
	}
	return paint(t.color, colorOf(ev), t.narrator.tell(ev))
}

// members is a line about who is in the group.
func (t *talk) members() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.now) == 0 {
		return "no view yet"
	}
	return amount.Of(len(t.now), "member") + ": " + memberList(t.now, t.me)
}

// leave ends the conversation in order: what was sent before comes back before the leave does.
func (t *talk) leave(ctx context.Context, s *session, c Conversation) error {
	if err := s.conn.Leave(ctx, c.Group); err != nil {
		return err
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-t.left:
		return nil
	case err := <-s.lost:
		return err
	case <-late.C:
		return fmt.Errorf("the daemon did not order the leave within %v: %w", timeout, context.DeadlineExceeded)
	case <-ctx.Done():
		return ctx.Err()
	}
}
