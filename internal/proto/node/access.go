// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strconv"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// HandleUser tells which user of the operating system is at the other end of a connection that came by a Unix socket. It
// belongs between HandleAccept and the first HandleInput of the connection; without it rules about users do not fit.
func (m *Machine) HandleUser(id uint64, uid uint32) {
	if c := m.conns[id]; c != nil && !c.closing {
		c.session.HandleUser(uid)
	}
}

// HandleTLS tells that what a connection says comes through TLS, and the name in the client's certificate, if there is one. It
// belongs before the first HandleInput of the connection.
func (m *Machine) HandleTLS(id uint64, cert string) {
	if c := m.conns[id]; c != nil && !c.closing {
		c.session.HandleTLS(cert)
	}
}

// RefuseTLS ends a connection whose TLS handshake has failed, for the reason why.
func (m *Machine) RefuseTLS(now time.Duration, id uint64, why string, fx *Effects) {
	m.begin(now, fx)
	c := m.conns[id]
	if c == nil || c.closing {
		return
	}
	c.session.RefuseTLS(now, why, &m.sfx)
	m.perform(now, c, fx)
	m.finish(now, forSends, fx)
}

// setSessions replaces the configuration of sessions, see session.Machine.Reconfigure for those that are here.
func (m *Machine) setSessions(next *session.Config) {
	m.sessions = next
	for _, c := range m.conns {
		c.session.Reconfigure(next)
	}
}

// refuse counts and logs what the access rules refused, and gives the request back to its sender (client-protocol 4.6).
// Nobody else hears of it: the request was never submitted. The answer counts against the sender's budget as any delivery
// does.
func (m *Machine) refuse(now time.Duration, c *conn, op *session.Op, fx *Effects) {
	m.stats.Refused[op.At]++
	by := "AccessControlPolicy"
	if op.Rule != nil {
		by = op.Rule.String()
	}
	attrs := []evs.Attr{{Key: "request", Value: op.At.String()}, {Key: "session", Value: sessionName(c)}, {Key: "reason", Value: by}}
	if op.At == access.Open {
		fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: "client refused by the access rules", Attrs: append(attrs, peerAttr(c))})
		return // the session says so with its code
	}
	fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: "request refused by the access rules", Attrs: append(attrs, evs.Attr{Key: "group", Value: string(op.Group)})})
	m.answer(now, c, fx) // the client may have sent this right behind its handshake
	if c.queue.Bytes() == 0 {
		c.moved = now // from here on the peer has something to take
	}
	var buf []byte
	if c.session.Own() {
		r := frame.OwnRejectInfo{Request: op.Request, Code: frame.ErrRejectAuth, Type: op.Frame, Group: op.Group, Sentence: "the access rules do not permit this: " + by}
		buf = frame.AppendOwnReject(m.arena.Begin(frame.OwnRejectSize(&r)), &r)
	} else {
		buf = m.arena.Begin(frame.RejectSize(op.Groups, len(op.Data)))
		buf = frame.AppendRejectMessage(buf, op.Type, c.session.Info().Private, op.Hint, op.Groups, op.Data)
	}
	if v := c.queue.Push(m.arena.End(buf)); v != session.Queued {
		c.session.Close(now, v.Reason(), &m.sfx) // perform, which called this, sees it
		return
	}
	m.refused = true // HandleInput looks at what all of them have waiting
	m.queued(now, c, fx)
	m.list(c, fx)
}

// sessionName is the private name as far as it is known.
func sessionName(c *conn) string {
	if private := c.session.Info().Private; private != "" {
		return private
	}
	return c.session.Info().User
}

// peerAttr says where a client came from.
func peerAttr(c *conn) evs.Attr {
	if a := c.session.Peer(); !a.IsUnspecified() {
		return evs.Attr{Key: "peer", Value: a.String()}
	}
	if uid, known := c.session.User(); known {
		return evs.Attr{Key: "peer", Value: "unix, uid " + strconv.FormatUint(uint64(uid), 10)}
	}
	return evs.Attr{Key: "peer", Value: "unix"}
}
