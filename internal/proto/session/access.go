// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// HandleUser tells which user of the operating system is at the other end of a Unix socket. It must come before the
// client's first bytes, or the session is opened without knowing.
func (m *Machine) HandleUser(uid uint32) { m.uid, m.hasUID = uid, true }

// HandleTLS tells that what the client says comes through TLS, and the name in its certificate; empty: it showed none, or one
// without a name. It must come before the client's first bytes.
func (m *Machine) HandleTLS(cert string) { m.secure, m.cert = true, cert }

// RefuseTLS ends a session whose TLS handshake has failed; why is the reason for people. Nothing is said to the client: whoever
// ran the handshake has done so.
func (m *Machine) RefuseTLS(now time.Duration, why string, fx *Effects) {
	if m.state != StateClosed {
		m.refusal = why
	}
	m.Close(now, ReasonTLSFailed, fx)
}

// TLS reports whether the client's bytes come through TLS, and the name in its certificate.
func (m *Machine) TLS() (cert string, secure bool) { return m.cert, m.secure }

// exposed reports whether everybody on the way could read along, which is not wanted here. Nobody is on the way of a Unix
// socket.
func (m *Machine) exposed() bool {
	return m.cfg.TLSRequired && !m.secure && m.peer != netip.IPv4Unspecified()
}

// User is the user of the operating system that HandleUser told, if it did.
func (m *Machine) User() (uid uint32, known bool) { return m.uid, m.hasUID }

// Peer is where the client comes from: 0.0.0.0 for a Unix socket.
func (m *Machine) Peer() netip.Addr { return m.peer }

// principal is what is known about the client.
func (m *Machine) principal() *access.Principal {
	p := &access.Principal{User: m.info.User, Addr: m.peer, Name: m.proved, Cert: m.cert, UID: m.uid, HasUID: m.hasUID}
	if m.peer == netip.IPv4Unspecified() {
		p.Addr = netip.Addr{}
	}
	for i := range m.cfg.Methods {
		if m.passed>>i&1 != 0 {
			p.Methods = append(p.Methods, m.cfg.Methods[i].Name)
		}
	}
	return p
}

// Proved is the name that the client has proved by an authentication method; empty: none.
func (m *Machine) Proved() string { return m.proved }

// May reports whether the client may do at a point what concerns group, and which rule said so; nil: none decided.
func (m *Machine) May(at access.Point, group []byte) (ok bool, by *access.Rule) {
	return m.judge.May(at, group)
}

// Reconfigure brings the machine over to another configuration between two inputs. A client that was not yet asked for its
// authentication methods will be asked for the new ones; others have passed, or go on with, the old ones, and are judged by
// the new rules from now on. A session that is open stays open.
func (m *Machine) Reconfigure(cfg *Config) {
	m.rules = cfg.Rules
	switch m.state {
	case StateConnect, StateName:
		m.cfg = cfg
	case StateAuth, StateCredentials, StateClosed:
	case StateOpen:
		m.judge = m.rules.For(m.principal())
	default:
		panic("session: impossible state " + m.state.String())
	}
}

// may judges a join or leave, and gives the request back if it is refused.
func (m *Machine) may(at access.Point, group []byte, h *frame.Header, groups frame.Groups, body []byte, fx *Effects) bool {
	ok, by := m.judge.May(at, group)
	if !ok {
		fx.Ops = append(fx.Ops, Op{
			Kind: OpRefused, At: at, Rule: by, Group: group, Type: h.Type, Hint: h.Hint, Groups: groups, Data: body[len(groups):len(body):len(body)],
		})
	}
	return ok
}

// maySend judges a message by each of its destinations: a private name is a point-to-point send, all others are groups. One
// that is refused refuses the message as a whole, because a part of it would be another message.
func (m *Machine) maySend(h *frame.Header, groups frame.Groups, body []byte, fx *Effects) bool {
	for _, g := range groups.All() {
		at := access.Multicast
		if len(g) > 0 && g[0] == '#' {
			at = access.Send
		}
		if !m.may(at, g, h, groups, body, fx) {
			return false
		}
	}
	return true
}
