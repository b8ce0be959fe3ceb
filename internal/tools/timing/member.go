// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"context"
	"fmt"

	"evensong/client"
	"evensong/internal/tools/user"
	"evensong/vsync"
)

// member is a session of a measurement, with view synchrony or without.
type member struct {
	plain *client.Conn
	flush *vsync.Conn // nil without view synchrony
}

// dial opens a session. With view synchrony it flushes by itself, as the members of the original do.
func dial(ctx context.Context, o user.Options, flush bool) (member, error) {
	conn, err := user.Dial(ctx, o)
	if err != nil {
		return member{}, user.Explain(err, o)
	}
	m := member{plain: conn}
	if flush {
		if m.flush, err = vsync.Wrap(conn, vsync.WithAutoFlush()); err != nil {
			conn.Close()
			return member{}, err
		}
	}
	return m, nil
}

func (m member) name() string { return m.plain.PrivateGroup() }

func (m member) join(ctx context.Context, group string) error {
	if m.flush != nil {
		return m.flush.Join(ctx, group)
	}
	return m.plain.Join(ctx, group)
}

func (m member) leave(ctx context.Context, group string) error {
	if m.flush != nil {
		return m.flush.Leave(ctx, group)
	}
	return m.plain.Leave(ctx, group)
}

// sayDone tells the load members that this measuring member is done. It must be in the group.
func (m member) sayDone(ctx context.Context, group string) error {
	if m.flush != nil {
		return m.flush.Multicast(ctx, group, client.Safe, doneType, nil)
	}
	return m.plain.Multicast(ctx, client.Safe, doneType, nil, group)
}

func (m member) close() {
	if m.flush != nil {
		m.flush.Close()
		return
	}
	m.plain.Close()
}

// happened is what matters of an event; the zero value is one that does not.
type happened struct {
	group   string
	members int    // of a view with this session
	left    bool   // the own leave was ordered
	done    string // a measuring member is done: this one
}

// next waits for an event. A refused request is an error.
func (m member) next(ctx context.Context) (happened, error) {
	if m.flush != nil {
		ev, err := m.flush.Next(ctx)
		if err != nil {
			return happened{}, err
		}
		switch ev := ev.(type) {
		case *vsync.View:
			return happened{group: ev.Group, members: len(ev.Members)}, nil
		case *vsync.SelfLeave:
			return happened{group: ev.Group, left: true}, nil
		case *vsync.Message:
			return message(ev.Group, ev.Sender, ev.Service, ev.Type), nil
		case *vsync.Rejected:
			return happened{}, refused(&ev.Rejected)
		}
		return happened{}, nil
	}
	ev, err := m.plain.Next(ctx)
	if err != nil {
		return happened{}, err
	}
	switch ev := ev.(type) {
	case *client.View:
		return happened{group: ev.Group, members: len(ev.Members)}, nil
	case *client.SelfLeave:
		return happened{group: ev.Group, left: true}, nil
	case *client.Message:
		return message(ev.GroupName(), ev.Sender, ev.Service, ev.Type), nil
	case *client.Rejected:
		return happened{}, refused(ev)
	}
	return happened{}, nil
}

func message(group, sender string, service client.Service, messType int16) happened {
	if messType == doneType && service.Level() == client.Safe {
		return happened{group: group, done: sender}
	}
	return happened{}
}

func refused(r *client.Rejected) error {
	return user.Refused(fmt.Errorf("the daemon's access rules refused the %v to %s", r.Request, r.GroupName()))
}

// await receives until something happened in the group.
func (m member) await(ctx context.Context, group string, what func(happened) bool) error {
	for {
		h, err := m.next(ctx)
		if err != nil {
			return err
		}
		if h.group == group && what(h) {
			return nil
		}
	}
}
