// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"context"
	"errors"

	"evensong/client"
	"evensong/internal/proto/flush"
)

// Join asks to become a member of a group. It returns when the request is on its way; the group's first View says that
// the session is a member, which needs the consent of all members. ErrIllegalGroup if it is a member or becoming one.
func (c *Conn) Join(ctx context.Context, group string) error {
	return c.request(ctx, "join", group, func() error { return c.machine.Join(group, &c.fx) }, c.under.Join)
}

// Leave asks to end the membership in a group. SelfLeave says that it took effect. It needs no flush. ErrIllegalGroup
// if the session is not a full member, or is leaving.
func (c *Conn) Leave(ctx context.Context, group string) error {
	return c.request(ctx, "leave", group, func() error { return c.machine.Leave(group, &c.fx) }, func(ctx context.Context, group string) error {
		return c.under.Leave(context.WithoutCancel(ctx), group) // the machine has noted it
	})
}

// request asks the machine, then makes the request to the daemon.
func (c *Conn) request(ctx context.Context, verb, group string, ask func() error, send func(context.Context, string) error) error {
	if err := c.acquire(ctx); err != nil {
		return &client.Error{Op: op(verb, group), Err: err}
	}
	defer c.release()
	if err := ask(); err != nil {
		c.fx.Reset()
		return refused(verb, group, err)
	}
	c.fx.Reset()
	return send(ctx, group)
}

// Flush is the answer to a FlushRequest: the program has sent all it wants to send in the current view. From here to the
// next View it cannot send to the group. ErrIllegalState without a request that was received; ErrIllegalGroup if the
// session is not a member, or is leaving.
func (c *Conn) Flush(ctx context.Context, group string) error {
	if err := c.acquire(ctx); err != nil {
		return &client.Error{Op: op("flush", group), Err: err}
	}
	defer c.release()
	if c.machine.Membership(group) == flush.Joined && !c.in.of(group).asked {
		// It may be on its way to the program: what was not seen cannot be answered.
		return refused("flush", group, flush.RefuseState)
	}
	if err := c.machine.Flush(c.now(), group, &c.fx); err != nil {
		return refused("flush", group, err)
	}
	c.in.answered(group)
	return c.perform()
}

// Multicast sends a message to the members of the current view of a group; or to somebody's private group, which needs
// no membership and has no view. messType is a tag for the receiving application, at least MinMessageType. Data may be
// empty; it is not kept.
//
// It returns when the message is in the send buffer, like client.Conn.Multicast. ErrIllegalGroup if the session is not a
// full member; ErrIllegalState between Flush and the next View. With WithAutoFlush it waits for the view instead.
func (c *Conn) Multicast(ctx context.Context, group string, service client.Service, messType int16, data []byte) error {
	return c.MulticastParts(ctx, group, service, messType, [][]byte{data})
}

// MulticastParts is Multicast with a message in several pieces, which the receiver gets as one.
func (c *Conn) MulticastParts(ctx context.Context, group string, service client.Service, messType int16, parts [][]byte) error {
	return c.cast(ctx, "multicast to", group, parts, func() error {
		return c.machine.Multicast(group, flush.Service(service), messType, nil, &c.fx)
	})
}

// Subgroupcast sends to some members of the current view, given by their private groups: ErrIllegalReceivers if one is
// not in it. To the receivers the message is one of the group, in the view in which it was sent. At most
// client.MaxGroups receivers.
func (c *Conn) Subgroupcast(ctx context.Context, group string, receivers []string, service client.Service, messType int16, data []byte) error {
	return c.SubgroupcastParts(ctx, group, receivers, service, messType, [][]byte{data})
}

// SubgroupcastParts is Subgroupcast with a message in several pieces.
func (c *Conn) SubgroupcastParts(ctx context.Context, group string, receivers []string, service client.Service, messType int16, parts [][]byte) error {
	return c.cast(ctx, "subgroupcast in", group, parts, func() error {
		return c.machine.Subgroupcast(group, receivers, flush.Service(service), messType, nil, &c.fx)
	})
}

// Unicast is Subgroupcast to one member.
func (c *Conn) Unicast(ctx context.Context, group, receiver string, service client.Service, messType int16, data []byte) error {
	return c.Subgroupcast(ctx, group, []string{receiver}, service, messType, data)
}

// cast sends a message of the program: ask lets the machine say how.
func (c *Conn) cast(ctx context.Context, verb, group string, parts [][]byte, ask func() error) error {
	for {
		if err := c.acquire(ctx); err != nil {
			return &client.Error{Op: op(verb, group), Err: err}
		}
		err := c.mayCast(group)
		if err == nil {
			err = ask()
		}
		if err == nil {
			s := &c.fx.Sends[0]
			all := append(append(make([][]byte, 0, len(parts)+1), parts...), s.Tail)
			err = c.under.MulticastParts(ctx, client.Service(s.Service), s.Type, all, s.Groups...)
			c.fx.Reset()
			c.release()
			return err
		}
		c.fx.Reset()
		changed := c.changed
		over := c.ended
		c.release()
		if !c.opts.autoFlush || over || !errors.Is(err, flush.RefuseState) {
			return refused(verb, group, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &client.Error{Op: op(verb, group), Err: ctx.Err()}
		}
	}
}

// mayCast holds back what the program would send in a view that it has not received yet. The lock is held.
func (c *Conn) mayCast(group string) error {
	if c.opts.autoFlush {
		return nil
	}
	if id, ok := c.machine.Installed(group); ok && c.in.of(group).view != client.ViewID(id) {
		return flush.RefuseState
	}
	return nil
}
