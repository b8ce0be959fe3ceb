// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"evensong/client"
	"evensong/vsync"
)

// FlushMain is Main with view synchrony: the program flush_user of the Spread toolkit. A view changes only when its
// members have flushed, which is a command here; g sends to some members. receive tells whether events appear by
// themselves at the start; the original has no such thing.
func FlushMain(ctx context.Context, o Options, receive bool, in io.Reader, out, errOut io.Writer) error {
	conn, err := dialWatching(ctx, o)
	if err != nil {
		return Explain(err, o)
	}
	vs, err := vsync.Wrap(conn)
	if err != nil {
		conn.Close()
		return Explain(err, o)
	}
	address := o.Address
	if address == "" {
		address = client.DefaultAddress
	}
	fmt.Fprintf(out, "connected to %s as %s, with view synchrony\n", address, vs.PrivateGroup())
	scr, restore, err := newScreen(in, out, errOut)
	if err != nil {
		vs.Close()
		return err
	}
	defer restore()
	if err := newFlushSession(vs, scr).run(ctx, receive); err != nil {
		return Explain(err, o)
	}
	return nil
}

func newFlushSession(vs *vsync.Conn, scr screen) *session {
	known := &roll{}
	s := newSession(flushConn{vs, known}, scr)
	s.roll = known
	s.commands = flushCommands
	words := &narrator{me: vs.PrivateGroup()}
	s.next = func(ctx context.Context) (told, error) {
		ev, err := vs.Next(ctx)
		if err != nil {
			return told{}, err
		}
		known.sawFlush(ev)
		switch ev := ev.(type) {
		case *vsync.Message:
			if isFarewell(&client.Message{Sender: ev.Sender, Type: ev.Type, Data: ev.Data}, words.me) {
				return told{end: true}, nil
			}
		case *vsync.Rejected:
			return told{text: words.tellFlush(ev), refused: true, end: isFarewell(&ev.Rejected, words.me)}, nil
		}
		return told{text: words.tellFlush(ev)}, nil
	}
	return s
}

// flushConn is a session with view synchrony in the shape of one without. Its Next is not used. Of what
// it refuses, messages are told in the words of this program here; joins, leaves and flushes where they are asked for.
type flushConn struct {
	*vsync.Conn
	roll *roll
}

// Multicast sends to one group: messages of two groups have no common view.
func (f flushConn) Multicast(ctx context.Context, service client.Service, messType int16, data []byte, groups ...string) error {
	if len(groups) != 1 {
		return mistake("with view synchrony a message goes to one group")
	}
	return f.roll.plainly("send", groups[0], f.Conn.Multicast(ctx, groups[0], service, messType, data))
}

func (f flushConn) Next(context.Context) (client.Event, error) {
	panic("user: a session with view synchrony receives its own events")
}

// flushCommands is filled by init because its help command lists it.
var flushCommands []command

// maxSubgroup is how many members g sends to, as in the original.
const maxSubgroup = 9

func init() {
	flushCommands = []command{
		{"j", "join", "j GROUP", "join a group", (*session).join, 1, 1},
		{"l", "leave", "l GROUP", "leave a group", (*session).leave, 1, 1},
		{"s", "send", "s GROUP", "send one line to a group or a private group, safe, type 1", (*session).sendLine, 1, 1},
		{"m", "multi", "m GROUP", "send several lines as one message; an empty line ends it", (*session).sendLines, 1, 1},
		{"g", "subgroup", "g GROUP MEMBER...", fmt.Sprintf("send one line to 1 to %d members of a group, safe, type 1", maxSubgroup), (*session).sendSubgroup, 2, 1 + maxSubgroup},
		{"b", "burst", "b GROUP", "send ten messages of a size that is asked for, FIFO, type 2", (*session).burst, 1, 1},
		{"f", "flush", "f GROUP", "flush: send no more in the group's view, so that it may change", (*session).flush, 1, 1},
		{"r", "receive", "r", "wait for one event (when automatic receive is off)", (*session).receiveOne, 0, 0},
		{"p", "poll", "p", "tell how many messages are buffered", (*session).pollFlush, 0, 0},
		{"e", "enable", "e", "turn automatic receive on", (*session).enable, 0, 0},
		{"d", "disable", "d", "turn automatic receive off", (*session).disable, 0, 0},
		{"h", "help", "h", "show this", (*session).help, 0, 0},
		{"q", "quit", "q", "disconnect and end", (*session).quit, 0, 0},
	}
}

// FlushHelp is the list of commands with view synchrony, a line each.
func FlushHelp() string { return helpOf(flushCommands) }

func (s *session) sendSubgroup(ctx context.Context, words []string) error {
	text, err := s.ask(ctx, "message: ")
	if err != nil {
		return err
	}
	f := s.conn.(flushConn)
	return f.roll.plainly("send", words[0], f.Subgroupcast(ctx, words[0], words[1:], lineService, lineType, []byte(text)))
}

func (s *session) flush(ctx context.Context, groups []string) error {
	return s.roll.plainly("flush", groups[0], s.conn.(flushConn).Flush(ctx, groups[0]))
}

// pollFlush counts what this side has received and not delivered.
func (s *session) pollFlush(context.Context, []string) error {
	n := s.conn.Waiting()
	if n == 1 {
		s.scr.print("1 message is buffered")
	} else {
		s.scr.print(fmt.Sprintf("%d messages are buffered", n))
	}
	return nil
}

// tellFlush is an event with view synchrony in words.
func (n *narrator) tellFlush(ev vsync.Event) string {
	switch ev := ev.(type) {
	case *vsync.Message:
		m := &client.Message{Sender: ev.Sender, Groups: ev.Groups, Service: ev.Service, Type: ev.Type, EndianMismatch: ev.EndianMismatch, Data: ev.Data}
		if ev.Subgroup {
			return "to a part of " + printable(ev.Group) + ": " + describeMessage(m)
		}
		return describeMessage(m)
	case *vsync.View:
		v := &client.View{Group: ev.Group, ID: ev.ID, Members: ev.Members, Cause: ev.Cause, Detail: ev.Detail, Joined: ev.Joined, Left: ev.Left, Disconnected: ev.Disconnected}
		if ev.Cause == client.CausedByNetwork {
			v.VSSets = [][]string{ev.Came}
			if others := slices.DeleteFunc(slices.Clone(ev.Members), func(m string) bool { return slices.Contains(ev.Came, m) }); len(others) > 0 {
				v.VSSets = append(v.VSSets, others)
			}
		}
		return n.tell(v)
	case *vsync.FlushRequest:
		return fmt.Sprintf("%s: the view is about to change; send what must be said in it, then: f %s", printable(ev.Group), printable(ev.Group))
	case *vsync.Transition:
		if len(ev.Gone) == 0 {
			return n.tell(&client.Transition{Group: ev.Group, ID: ev.ID})
		}
		// Here somebody who merely left is enough.
		return fmt.Sprintf("%s: gone from the view: %s; until the next view, safe means safe only among those that come along (id %v)",
			printable(ev.Group), memberList(ev.Gone, n.me), ev.ID)
	case *vsync.SelfLeave:
		text := n.tell(&client.SelfLeave{Group: ev.Group})
		if ev.Evicted {
			return "you were removed from " + printable(ev.Group)
		}
		return text
	case *vsync.Stuck:
		text := fmt.Sprintf("%s: the next view waits for %s to flush", printable(ev.Group), memberList(ev.Members, n.me))
		if len(ev.Silent) > 0 {
			text += "; no answer was ever seen from " + memberList(ev.Silent, n.me)
		}
		switch {
		case errors.Is(ev.Err, vsync.ErrCannotEvict):
			return text + "; this daemon cannot remove them"
		case ev.Err != nil:
			return text + "; removing them failed: " + ev.Err.Error()
		}
		return text + "; the daemon was asked to remove them"
	case *vsync.GaveUp:
		return fmt.Sprintf("%s: giving up: %s", printable(ev.Group), ev.Reason)
	case *vsync.PrimaryChange:
		return describePrimary(ev.Primary)
	case *vsync.Rejected:
		return n.tell(&ev.Rejected)
	}
	panic(fmt.Sprintf("user: unknown event %T", ev))
}
