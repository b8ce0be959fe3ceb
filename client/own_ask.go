// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// This file has the requests that are answered. They need a session in Evensong's own dialect (an evensong:// address);
// on others they fail with ErrUnsupported. ctx bounds the waiting: a request that was sent is not undone.

// Ack is the answer to a join, leave or eviction: it has taken its place in the order.
type Ack struct {
	// Changed says that it changed the group. A join of a group one is in, and a leave of one that one is not in, do not.
	Changed bool
	// View is the group's view behind it; zero if there is no such group any more.
	View ViewID
}

// JoinAcked is Join, and waits until the join has taken its place in the order. The View that it caused is among the
// events then, or was received. The daemon's access rules may refuse (ErrAuth).
func (c *Conn) JoinAcked(ctx context.Context, group string) (Ack, error) {
	return c.acked(ctx, "join", group, frame.AppendOwnJoin)
}

// LeaveAcked is Leave, and waits until the leave has taken its place in the order.
func (c *Conn) LeaveAcked(ctx context.Context, group string) (Ack, error) {
	return c.acked(ctx, "leave", group, frame.AppendOwnLeave)
}

func (c *Conn) acked(ctx context.Context, verb, group string, encode func([]byte, uint32, string) []byte) (Ack, error) {
	op := verb + " " + strconv.Quote(group)
	if err := c.checkGroup(group); err != nil {
		err.Op = op
		return Ack{}, err
	}
	a, err := ask[frame.OwnAckInfo](ctx, c, op, frame.OwnSize(5+len(group)), func(buf []byte, n uint32) []byte { return encode(buf, n, group) })
	return Ack{a.Status == frame.OwnDone, ViewID(a.View)}, err
}

// Errors of Evict. Test with errors.Is.
var (
	// ErrViewGone: the view named is no longer the group's, so the eviction did nothing.
	ErrViewGone = errors.New("the view is no longer the group's")
	// ErrNotMember: who asks is no member of the group, or the one to evict was none.
	ErrNotMember = errors.New("no member of the group")
)

// Evict removes a member from a group: a forced leave at its place in the order. It does nothing unless id is the group's
// view there and this session is a member. The evicted one gets a SelfLeave with the detail DetailEvicted, the others a
// view after a leave.
func (c *Conn) Evict(ctx context.Context, group, member string, id ViewID) error {
	op := fmt.Sprintf("evict %s from %q", member, group)
	if err := c.checkGroup(group); err != nil {
		err.Op = op
		return err
	}
	if len(member) == 0 || len(member) > frame.MaxOwnName {
		return &Error{Op: op, Code: ErrIllegalGroup, Detail: "this is no private group"}
	}
	a, err := ask[frame.OwnAckInfo](ctx, c, op, frame.OwnSize(18+len(group)+len(member)), func(buf []byte, n uint32) []byte {
		return frame.AppendOwnEvict(buf, n, evs.ViewID(id), group, member)
	})
	if err != nil {
		return err
	}
	switch a.Status {
	case frame.OwnDone:
		return nil
	case frame.OwnVoid:
		return &Error{Op: op, Err: ErrViewGone}
	case frame.OwnUnchanged, frame.OwnForbidden:
		return &Error{Op: op, Err: ErrNotMember}
	}
	return &Error{Op: op, Code: ErrIllegalMessage, Detail: "the daemon answered " + a.Status.String()}
}

// MulticastAcked is Multicast, and waits until the message has been delivered at this session's daemon in the sense of its
// service: a Safe one is at every daemon of the configuration then.
func (c *Conn) MulticastAcked(ctx context.Context, service Service, messType int16, data []byte, groups ...string) error {
	op := multicastOp(groups)
	if err := c.checkMulticast(service, len(data), groups); err != nil {
		err.Op = op
		return err
	}
	_, err := ask[receipt](ctx, c, op, frame.OwnMulticastSize(groups, len(data)), func(buf []byte, n uint32) []byte {
		return frame.AppendOwnMulticast(buf, c.own.nextStream(), n, frame.Type(service), frame.NewHint(messType, nativeOrder), groups, data)
	})
	return err
}

// receipt is the answer to a message.
type receipt struct{}

// GroupInfo is a group as a daemon's table has it.
type GroupInfo struct {
	Name    string
	View    ViewID
	Members int
}

// Groups lists the groups that this session may see, in the order of their names' bytes: one page after another, so a group
// that comes or goes meanwhile may be in the list or not.
func (c *Conn) Groups(ctx context.Context) ([]GroupInfo, error) {
	var out []GroupInfo
	for after := ""; ; {
		l, err := ask[*frame.OwnGroupList](ctx, c, "list groups", frame.OwnSize(7+len(after)), func(buf []byte, n uint32) []byte {
			return frame.AppendOwnListGroups(buf, n, 0, after)
		})
		if err != nil {
			return nil, err
		}
		for _, g := range l.Groups {
			out = append(out, GroupInfo{g.Name, ViewID(g.View), int(g.Members)})
		}
		if l.Flags&frame.OwnQueryMore == 0 || len(l.Groups) == 0 {
			return out, nil
		}
		after = l.Groups[len(l.Groups)-1].Name
	}
}

// Members lists a group without joining it: its view and its members in the order of views. ok is false if there is no
// such group. If the view changes while pages come, Members begins again.
func (c *Conn) Members(ctx context.Context, group string) (id ViewID, members []string, ok bool, err error) {
	op := "list members of " + strconv.Quote(group)
	if bad := c.checkGroup(group); bad != nil {
		bad.Op = op
		return id, nil, false, bad
	}
	for {
		l, err := ask[*frame.OwnMemberList](ctx, c, op, frame.OwnSize(11+len(group)), func(buf []byte, n uint32) []byte {
			return frame.AppendOwnListMembers(buf, n, uint32(len(members)), 0, group)
		})
		switch {
		case err != nil:
			return id, nil, false, err
		case l.Flags&frame.OwnQueryNone != 0:
			return id, nil, false, nil
		case len(members) > 0 && ViewID(l.View) != id:
			members = nil
			continue
		}
		id = ViewID(l.View)
		members = append(members, l.Members...)
		if l.Flags&frame.OwnQueryMore == 0 || len(l.Members) == 0 {
			return id, members, true, nil
		}
	}
}
