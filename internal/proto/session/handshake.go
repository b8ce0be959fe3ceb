// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// What other protocols begin with. As connect messages these would be the versions 69.86.83 and 22.3, which no library
// has. Only complete prefixes count, so that all other versions are what the original takes them for.
var (
	ownDialect = []byte("EVS")
	tlsHello   = []byte{0x16, 0x03}
)

// tlsRefusal is a word of TLS, the fatal alert "handshake failure": without it a client whose hello nobody answers would see
// an end for which there are many reasons.
var tlsRefusal = []byte{0x15, 3, 3, 0, 2, 2, 40}

// collect moves bytes of b to small until it has want of them.
func (m *Machine) collect(b []byte, want int) (n int) {
	n = copy(m.small[m.have:want], b)
	m.have += uint8(n)
	return n
}

// readConnect collects and judges the connect message (client-protocol 2.1). What follows it stays in b.
func (m *Machine) readConnect(now time.Duration, b []byte, fx *Effects) int {
	if m.own != nil {
		return m.readHello(now, b, fx)
	}
	before := int(m.have)
	taken := m.collect(b, frame.MaxConnect)
	got := m.small[:m.have]
	switch {
	case bytes.HasPrefix(got, ownDialect):
		m.beginOwn()
		if m.exposed() {
			m.closeOwn(now, ReasonPlain, "use TLS: dial evensongs:// in place of evensong://, or the Unix socket on the daemon's machine", fx)
			return taken
		}
		return taken + m.readHello(now, b[taken:], fx)
	case bytes.HasPrefix(got, tlsHello):
		m.refusal = "give it TLSCertificate and TLSKey, or have the client connect without TLS"
		if m.peer == netip.IPv4Unspecified() {
			m.refusal = "Unix sockets do without; have the client connect without TLS"
		}
		fx.Out = append(fx.Out, tlsRefusal...)
		m.Close(now, ReasonTLS, fx)
		return taken
	}
	c, n, code := frame.ParseConnect(got)
	if code != 0 {
		m.Close(now, reasonOf(code), fx)
		return taken
	}
	if n == 0 {
		return taken
	}
	if m.exposed() {
		m.refusal = "have it dial with TLS, or by the Unix socket on this machine"
		m.Close(now, ReasonPlain, fx)
		return taken
	}
	m.info = Info{Version: c.Version, User: c.User, Membership: c.Membership(), Priority: c.Priority()}
	m.transition(now, StateName)
	fx.Ops = append(fx.Ops, Op{Kind: OpName, Name: c.User})
	return n - before
}

// NameDecided is the node's answer to OpName. With code zero the client gets the name user, which is the one it asked
// for if it did; otherwise it is refused with code. The name is the session's until the node is told of the end.
// After the end it does nothing: the client may go while the decision is pending.
func (m *Machine) NameDecided(now time.Duration, user string, code frame.Code, fx *Effects) {
	switch m.state {
	case StateName:
	case StateClosed:
		return
	case StateConnect, StateAuth, StateCredentials, StateOpen:
		panic("session: a name decided in state " + m.state.String())
	default:
		panic("session: impossible state " + m.state.String())
	}
	if code != 0 {
		m.Close(now, reasonOf(code), fx)
		return
	}
	legal := frame.LegalUser(user) || m.own != nil && frame.LegalOwnUser(user, frame.MaxOwnUser(m.cfg.Daemon))
	if !legal || m.info.User != "" && user != m.info.User {
		panic("session: name " + user + " decided for a client that asked for " + m.info.User)
	}
	m.info.User, m.info.Private = user, frame.PrivateName(user, m.cfg.Daemon)
	if m.own != nil {
		m.offerOwn(now, fx)
		return
	}
	if !m.info.Version.HasAuth() {
		m.authOld(now, fx)
		return
	}
	offered := m.offered()
	fx.Out = frame.AppendAuthList(fx.Out, offered)
	if len(offered) == 0 {
		m.Close(now, ReasonNoMethod, fx) // an empty list, then the code (client-protocol 2.2)
		return
	}
	m.transition(now, StateAuth)
}

// offered are the names of the methods that a client may choose.
func (m *Machine) offered() []string {
	names := make([]string, 0, 4)
	for i := range m.cfg.Methods {
		if a := &m.cfg.Methods[i]; !a.Unlisted {
			names = append(names, a.Name)
		}
	}
	return names
}

// authOld decides about clients that know no authentication: IP if it is allowed, else NULL (client-protocol 2.6).
//
// Deviation: required methods count for them, too, and one with credentials refuses them. Otherwise an old version number
// would be a way around what the operator requires.
func (m *Machine) authOld(now time.Duration, fx *Effects) {
	chosen := m.method(frame.AuthIP)
	if chosen < 0 {
		chosen = m.method(frame.AuthNull)
	}
	m.run, m.yes = m.run[:0], true
	for i := range m.cfg.Methods {
		a := &m.cfg.Methods[i]
		if a.Required && a.CredentialBytes > 0 {
			m.refusal = "method " + a.Name + " is required, and a client of this version knows no methods"
			m.Close(now, ReasonAuth, fx)
			return
		}
		if a.Required || i == chosen {
			m.run = append(m.run, uint8(i))
		}
	}
	if chosen < 0 {
		m.Close(now, ReasonNoMethod, fx)
		return
	}
	m.runMethods(now, fx)
}

func (m *Machine) check(method int, credentials []byte) bool {
	c := m.cfg.Methods[method].Check
	return c == nil || c(m.peer, credentials)
}

// readChoice collects and judges the chosen methods (client-protocol 2.3). Repetitions count once.
func (m *Machine) readChoice(now time.Duration, b []byte, fx *Effects) int {
	taken := m.collect(b, frame.AuthChoiceSize)
	if int(m.have) < frame.AuthChoiceSize {
		return taken
	}
	chosen := frame.ParseAuthChoice(m.small[:])
	run := make([]uint8, 0, len(m.cfg.Methods))
	add := func(i int) {
		if !bytes.Contains(run, []byte{uint8(i)}) {
			run = append(run, uint8(i))
		}
	}
	for _, name := range chosen {
		i := m.method(name)
		if i < 0 {
			m.refusal = fmt.Sprintf("method %q is not offered here", name)
			m.Close(now, ReasonAuth, fx)
			return taken
		}
		add(i)
	}
	if len(chosen) == 0 {
		m.refusal = "it chose no method"
		m.Close(now, ReasonAuth, fx)
		return taken
	}
	listed := len(run)
	for i := range m.cfg.Methods {
		if m.cfg.Methods[i].Required {
			add(i)
		}
	}
	for _, i := range run[listed:] {
		if m.cfg.Methods[i].CredentialBytes > 0 {
			// The client does not know that it should send something, so nobody would end this.
			m.refusal = "method " + m.cfg.Methods[i].Name + " is required and was not chosen"
			m.Close(now, ReasonAuth, fx)
			return taken
		}
	}
	m.run, m.yes = run, true
	m.have = 0
	m.runMethods(now, fx)
	return taken
}

// method is the index of a method that a client may choose, or -1. Case counts.
func (m *Machine) method(name string) int {
	for i := range m.cfg.Methods {
		if a := &m.cfg.Methods[i]; a.Name == name && !a.Unlisted {
			return i
		}
	}
	return -1
}

// runMethods runs methods up to one that has to wait for credentials. The result counts when the last one is done.
func (m *Machine) runMethods(now time.Duration, fx *Effects) {
	for len(m.run) > 0 {
		i := int(m.run[0])
		if m.cfg.Methods[i].CredentialBytes > 0 {
			if m.state != StateCredentials {
				m.transition(now, StateCredentials)
			}
			return
		}
		m.finishMethod(i, nil, fx)
	}
	m.run = nil
	if !m.yes {
		m.Close(now, ReasonAuth, fx)
		return
	}
	m.accept(now, fx)
}

// finishMethod runs the method whose turn it is.
func (m *Machine) finishMethod(i int, credentials []byte, fx *Effects) {
	yes := m.check(i, credentials)
	m.yes = m.yes && yes
	m.run = m.run[1:]
	a := &m.cfg.Methods[i]
	switch {
	case yes:
		m.passed |= 1 << i
		if a.Proves != nil {
			m.proved = a.Proves(credentials)
		}
	case a.Proves != nil && len(credentials) == a.CredentialBytes:
		m.refuse(fmt.Sprintf("method %s refused the user %q", a.Name, a.Proves(credentials)))
	default:
		m.refuse("method " + a.Name + " refused it")
	}
	if !a.Answer || m.own != nil {
		return
	}
	if yes {
		fx.Out = append(fx.Out, 1)
	} else {
		fx.Out = append(fx.Out, 0)
	}
}

// refuse keeps for the log that a method refused this client; several may.
func (m *Machine) refuse(text string) {
	if m.refusal != "" {
		text = m.refusal + ", " + text
	}
	m.refusal = text
}

// readCredentials collects what the current method wants.
func (m *Machine) readCredentials(now time.Duration, b []byte, fx *Effects) int {
	i := int(m.run[0])
	want := m.cfg.Methods[i].CredentialBytes
	taken := m.collect(b, want)
	if int(m.have) < want {
		return taken
	}
	m.finishMethod(i, m.small[:want], fx)
	clear(m.small[:])
	m.have = 0
	m.runMethods(now, fx)
	return taken
}

// accept opens the session (client-protocol 2.4), if the rules let this client in. In the own dialect the node writes the
// welcome: it knows what stands there.
func (m *Machine) accept(now time.Duration, fx *Effects) {
	m.judge = m.rules.For(m.principal())
	if ok, by := m.judge.May(access.Open, nil); !ok {
		fx.Ops = append(fx.Ops, Op{Kind: OpRefused, At: access.Open, Rule: by})
		m.Close(now, ReasonRules, fx)
		return
	}
	if m.own == nil {
		fx.Out = frame.AppendAccept(fx.Out, m.info.Version, m.info.Private)
	}
	m.transition(now, StateOpen)
	if m.own != nil && m.own.every > 0 {
		m.deadline = now + m.own.every
	}
	fx.Ops = append(fx.Ops, Op{Kind: OpEstablished, Info: &m.info})
}
