// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// Evensong's own dialect (docs/wire/own-dialect.md): the same states, inputs and effects, other bytes.

// Bounds of the own dialect's pings.
const (
	MinPing = time.Second
	MaxPing = time.Hour
	// quietPings is how many intervals a client may give no sign of life.
	quietPings = 3
)

// queryCost is what a query takes of the room for input, in bytes: the daemon looks at its table for each, and has others to
// serve (GRP-17).
const queryCost = 64 << 10

// ownCapabilities are those that every daemon of this version offers.
var ownCapabilities = []string{frame.OwnCapEvict, frame.OwnCapQuery, frame.OwnCapReceipt, frame.OwnCapPrimary}

// own is what a conversation in the own dialect has beyond one in the original's.
type own struct {
	buf []byte // an incomplete hello or frame
	asm frame.OwnAssembly

	caps  []string      // asked for, all of them offered
	every time.Duration // interval of pings; zero: none
	quiet int           // intervals without a sign of life, so far
	held  bool          // the node has not taken all that the client sent, so its silence means nothing

	sentence string // more about the reason of the end
}

// Own says whether the client speaks the own dialect; false while nobody knows.
func (m *Machine) Own() bool { return m.own != nil }

// Dialect is what the client speaks, with its version: "original 4.4.0" or "own 1"; empty until it has said so.
func (m *Machine) Dialect() string {
	switch {
	case m.own != nil && m.info.MessageLimit > 0:
		return fmt.Sprintf("own %d", frame.OwnVersion)
	case m.info.Version != frame.Version{}:
		return "original " + m.info.Version.String()
	}
	return ""
}

// Unfinished is the memory that messages hold of which only a part has arrived, in bytes.
func (m *Machine) Unfinished() int {
	if m.own == nil {
		return 0
	}
	return m.own.asm.Bytes()
}

// Detail is more about why the session ended than its reason says; empty if there is nothing more.
func (m *Machine) Detail() string {
	if m.own == nil || m.own.sentence == "" {
		return m.refusal
	}
	return m.own.sentence
}

// beginOwn goes on in the own dialect, with the bytes that readConnect has collected.
func (m *Machine) beginOwn() {
	m.own = &own{buf: append(m.get(frame.OwnHelloHeader), m.small[:m.have]...)}
	m.have = 0
}

// readHello collects and judges the hello (own-dialect 2.1).
func (m *Machine) readHello(now time.Duration, b []byte, fx *Effects) (consumed int) {
	o := m.own
	for {
		h, n, fault := frame.ParseOwnHello(o.buf)
		switch {
		case fault == frame.OwnFaultVersion:
			m.closeOwn(now, ReasonOwnVersion, fmt.Sprintf("the hello is of version %d; this daemon speaks version %d", o.buf[3], frame.OwnVersion), fx)
			return len(b)
		case fault != frame.OwnFine:
			m.closeOwn(now, ReasonMalformed, "hello: "+fault.String(), fx)
			return len(b)
		case n > 0:
			m.put(o.buf)
			o.buf = nil
			m.hello(now, &h, fx)
			return consumed
		}
		want := frame.OwnHelloHeader
		if len(o.buf) >= want {
			want += int(binary.LittleEndian.Uint32(o.buf[4:]))
		}
		k := min(want-len(o.buf), len(b)-consumed)
		if k == 0 {
			return consumed
		}
		o.buf = append(o.buf, b[consumed:consumed+k]...)
		consumed += k
	}
}

// hello judges a complete hello.
func (m *Machine) hello(now time.Duration, h *frame.OwnHello, fx *Effects) {
	for _, c := range h.Capabilities {
		if !slices.Contains(ownCapabilities, c) {
			m.closeOwn(now, ReasonCapability, fmt.Sprintf("this daemon does not offer the capability %q; it offers %q", c, ownCapabilities), fx)
			return
		}
	}
	most := frame.MaxOwnUser(m.cfg.Daemon)
	if h.User != "" && !frame.LegalOwnUser(h.User, most) {
		m.closeOwn(now, ReasonIllegalName, fmt.Sprintf("the user name %q is illegal: 1 to %d bytes of UTF-8 at this daemon, no control characters, no '#', no '!' at the beginning", h.User, most), fx)
		return
	}
	o := m.own
	o.caps = h.Capabilities
	if h.PingMillis > 0 {
		o.every = min(max(time.Duration(h.PingMillis)*time.Millisecond, MinPing), MaxPing)
	}
	o.asm.Limit = m.messageLimit() + frame.OwnSlack
	m.info = Info{User: h.User, Membership: h.Membership, Program: h.Program, Capabilities: o.caps, Ping: o.every, MessageLimit: m.messageLimit()}
	m.transition(now, StateName)
	fx.Ops = append(fx.Ops, Op{Kind: OpName, Name: h.User})
}

func (m *Machine) messageLimit() int {
	if m.cfg.MessageLimit == 0 {
		return frame.DefaultOwnMessage
	}
	return m.cfg.MessageLimit
}

// offerOwn offers the authentication methods (own-dialect 2.2).
func (m *Machine) offerOwn(now time.Duration, fx *Effects) {
	list := make([]frame.OwnMethod, 0, len(m.cfg.Methods))
	for i := range m.cfg.Methods {
		a := &m.cfg.Methods[i]
		if a.Unlisted {
			continue
		}
		list = append(list, frame.OwnMethod{Name: a.Name, Credentials: a.CredentialBytes > 0, Required: a.Required})
	}
	if len(list) == 0 {
		m.Close(now, ReasonNoMethod, fx)
		return
	}
	fx.Out = frame.AppendOwnMethods(fx.Out, list)
	m.transition(now, StateAuth)
}

// chooseOwn judges the chosen methods (own-dialect 2.3). Repetitions count once.
func (m *Machine) chooseOwn(now time.Duration, body []byte, fx *Effects) {
	names, fault := frame.ParseOwnChoice(body)
	if fault != frame.OwnFine {
		m.malformed(now, frame.OwnChoice, fault, fx)
		return
	}
	run := make([]uint8, 0, len(m.cfg.Methods))
	for name := range names.All() {
		i := m.method(string(name))
		if i < 0 {
			m.closeOwn(now, ReasonAuth, fmt.Sprintf("authentication method %q is not offered here", name), fx)
			return
		}
		if !bytes.Contains(run, []byte{uint8(i)}) {
			run = append(run, uint8(i))
		}
	}
	if len(run) == 0 {
		m.closeOwn(now, ReasonAuth, "no authentication method was chosen", fx)
		return
	}
	for i := range m.cfg.Methods {
		a := &m.cfg.Methods[i]
		if !a.Required || bytes.Contains(run, []byte{uint8(i)}) {
			continue
		}
		if a.CredentialBytes > 0 {
			m.closeOwn(now, ReasonAuth, fmt.Sprintf("authentication method %q is required here and was not chosen", a.Name), fx)
			return
		}
		run = append(run, uint8(i))
	}
	m.run, m.yes = run, true
	m.runMethods(now, fx)
}

// proveOwn takes what the method whose turn it is wanted to see.
func (m *Machine) proveOwn(now time.Duration, body []byte, fx *Effects) {
	method, credentials, fault := frame.ParseOwnCredentials(body)
	if fault != frame.OwnFine {
		m.malformed(now, frame.OwnCredentials, fault, fx)
		return
	}
	i := int(m.run[0])
	if a := &m.cfg.Methods[i]; string(method) != a.Name {
		m.closeOwn(now, ReasonAuth, fmt.Sprintf("credentials for the authentication method %q, but it is the turn of %q", method, a.Name), fx)
		return
	}
	m.finishMethod(i, credentials, fx)
	m.runMethods(now, fx)
}

// readOwn takes frames apart, in every state behind the hello. A frame that lies in b whole is used in place.
func (m *Machine) readOwn(now time.Duration, b []byte, room int, fx *Effects) (consumed int) {
	o, was := m.own, m.state
	for m.state == was && (room > 0 || m.state != StateOpen) {
		rest := b[consumed:]
		src := rest
		if len(o.buf) > 0 {
			if k := min(frame.OwnHeaderSize-len(o.buf), len(rest)); k > 0 {
				o.buf = append(o.buf, rest[:k]...)
				consumed += k
				continue
			}
			src = o.buf
		}
		if len(src) < frame.OwnHeaderSize {
			if len(rest) > 0 {
				o.buf = append(m.get(frame.OwnHeaderSize), rest...)
			}
			return consumed + len(rest)
		}
		h, fault := frame.ParseOwnHeader(src)
		if fault == frame.OwnFine && !h.Type.FromClient() {
			fault = frame.OwnFaultType
		}
		if fault != frame.OwnFine {
			m.malformed(now, h.Type, fault, fx)
			return len(b)
		}
		size := frame.OwnHeaderSize + h.Length
		if len(src) < size {
			if len(rest) == 0 {
				return consumed
			}
			if len(o.buf) == 0 {
				o.buf = m.get(frame.OwnHeaderSize)
			}
			k := min(size-len(o.buf), len(rest))
			o.buf = m.makeRoom(o.buf, size, k)
			o.buf = append(o.buf, rest[:k]...)
			consumed += k
			if len(o.buf) < size {
				return consumed
			}
			continue
		}
		if len(o.buf) > 0 {
			// Ops may refer to it: it goes back with the effects.
			fx.retire(o.buf, m.cfg.Buffers)
			o.buf = nil
		} else {
			consumed += size
		}
		room -= m.ownFrame(now, h, src[frame.OwnHeaderSize:size:size], fx)
	}
	return consumed
}

// ownFrame handles one frame and returns what it takes of the room: pieces nothing before the last.
func (m *Machine) ownFrame(now time.Duration, h frame.OwnHeader, body []byte, fx *Effects) (cost int) {
	if m.state != StateOpen {
		if h.Stream != 0 {
			m.malformed(now, h.Type, frame.OwnFaultStream, fx)
			return 0
		}
		switch {
		case m.state == StateAuth && h.Type == frame.OwnChoice:
			m.chooseOwn(now, body, fx)
		case m.state == StateCredentials && h.Type == frame.OwnCredentials:
			m.proveOwn(now, body, fx)
		default:
			m.malformed(now, h.Type, frame.OwnFaultType, fx)
		}
		return 0
	}
	t, whole, done, fault := m.own.asm.Add(h, body)
	if fault != frame.OwnFine {
		m.malformed(now, t, fault, fx)
		return 0
	}
	if !done {
		return 0
	}
	if fault := m.ownRequest(now, t, whole, fx); fault != frame.OwnFine {
		m.malformed(now, t, fault, fx)
	}
	if t == frame.OwnListGroups || t == frame.OwnListMembers {
		return queryCost
	}
	return frame.OwnHeaderSize + len(whole)
}

// ownRequest turns a complete body into an Op, or an answer.
func (m *Machine) ownRequest(now time.Duration, t frame.OwnType, body []byte, fx *Effects) (fault frame.OwnFault) {
	op := Op{Kind: OpMulticast}
	switch t {
	case frame.OwnPing:
		token, fault := frame.ParseOwnToken(body)
		if fault == frame.OwnFine {
			fx.Out = frame.AppendOwnPong(fx.Out, token)
		}
		return fault
	case frame.OwnPong:
		_, fault := frame.ParseOwnToken(body)
		return fault
	case frame.OwnBye:
		if fault = frame.ParseOwnBye(body); fault != frame.OwnFine {
			return fault
		}
		fx.Ops = append(fx.Ops, Op{Kind: OpKill})
		m.Close(now, ReasonKill, fx)
		return frame.OwnFine
	case frame.OwnJoin, frame.OwnLeave:
		op.Kind = OpJoin
		if t == frame.OwnLeave {
			op.Kind = OpLeave
		}
		if op.Request, op.Group, fault = frame.ParseOwnGroup(body); fault != frame.OwnFine {
			return fault
		}
		at := access.Join
		if t == frame.OwnLeave {
			at = access.Leave
		}
		if !m.legalOwnGroup(t, op.Request, op.Group, fx) || !m.mayOwn(at, op.Group, t, op.Request, fx) {
			return frame.OwnFine
		}
	case frame.OwnMulticast:
		c, fault := frame.ParseOwnMulticast(body)
		if fault != frame.OwnFine {
			return fault
		}
		if len(c.Data) > m.info.MessageLimit {
			return frame.OwnFaultTooLong
		}
		op.Service, _ = c.Type.Service()
		op.Request, op.Type, op.Hint, op.Names, op.Data = c.Request, c.Type, c.Hint, c.Groups, c.Data
		if op.Request != 0 && !slices.Contains(m.own.caps, frame.OwnCapReceipt) {
			return frame.OwnFaultCapability
		}
		if !m.maySendOwn(op.Names, t, op.Request, fx) {
			return frame.OwnFine
		}
	case frame.OwnEvict:
		e, fault := frame.ParseOwnEvict(body)
		if fault != frame.OwnFine {
			return fault
		}
		if !slices.Contains(m.own.caps, frame.OwnCapEvict) {
			return frame.OwnFaultCapability
		}
		op.Kind, op.Request, op.View, op.Group, op.Member = OpEvict, e.Request, e.View, e.Group, e.Member
		if !m.legalOwnGroup(t, op.Request, op.Group, fx) {
			return frame.OwnFine
		}
	case frame.OwnListGroups:
		q, fault := frame.ParseOwnListGroups(body)
		if fault != frame.OwnFine {
			return fault
		}
		op.Kind, op.Request, op.Most, op.Group = OpListGroups, q.Request, q.Most, q.After
	case frame.OwnListMembers:
		q, fault := frame.ParseOwnListMembers(body)
		if fault != frame.OwnFine {
			return fault
		}
		op.Kind, op.Request, op.Most, op.First, op.Group = OpListMembers, q.Request, q.Most, q.First, q.Group
	default:
		return frame.OwnFaultType
	}
	if (op.Kind == OpListGroups || op.Kind == OpListMembers) && !slices.Contains(m.own.caps, frame.OwnCapQuery) {
		return frame.OwnFaultCapability
	}
	fx.Ops = append(fx.Ops, op)
	return frame.OwnFine
}

// mayOwn judges a request by the access rules, and hands it to the node if it is refused.
func (m *Machine) mayOwn(at access.Point, group []byte, t frame.OwnType, request uint32, fx *Effects) bool {
	ok, by := m.judge.May(at, group)
	if !ok {
		fx.Ops = append(fx.Ops, Op{Kind: OpRefused, At: at, Rule: by, Group: group, Frame: t, Request: request})
	}
	return ok
}

// maySendOwn is maySend.
func (m *Machine) maySendOwn(groups frame.OwnNames, t frame.OwnType, request uint32, fx *Effects) bool {
	if m.judge == nil {
		return true
	}
	for g := range groups.All() {
		at := access.Multicast
		if len(g) > 0 && g[0] == '#' {
			at = access.Send
		}
		if !m.mayOwn(at, g, t, request, fx) {
			return false
		}
	}
	return true
}

// legalOwnGroup refuses a request about a group that cannot be.
func (m *Machine) legalOwnGroup(t frame.OwnType, request uint32, group []byte, fx *Effects) bool {
	if frame.LegalOwnGroup(group) {
		return true
	}
	fx.Out = frame.AppendOwnReject(fx.Out, &frame.OwnRejectInfo{
		Request: request, Code: frame.ErrIllegalGroup, Type: t, Group: group,
		Sentence: "illegal group name: 1 to 255 bytes of UTF-8, no control characters, no '#'",
	})
	return false
}

// advanceOwn counts an interval without a sign of life, or asks for one.
func (m *Machine) advanceOwn(now time.Duration, fx *Effects) {
	o := m.own
	if o.held {
		o.quiet = 0
	}
	if o.quiet++; o.quiet > quietPings {
		m.closeOwn(now, ReasonUnresponsive, fmt.Sprintf("the client gave no sign of life for %d intervals of %v", quietPings, o.every), fx)
		return
	}
	m.deadline = now + o.every
	fx.Ops = append(fx.Ops, Op{Kind: OpPing})
}

// heard notes a sign of life, and whether the node has left some of it for later.
func (m *Machine) heard(bytes int, left bool) {
	if m.own != nil {
		if bytes > 0 {
			m.own.quiet = 0
		}
		m.own.held = left
	}
}

func (m *Machine) malformed(now time.Duration, t frame.OwnType, fault frame.OwnFault, fx *Effects) {
	m.closeOwn(now, ReasonMalformed, fmt.Sprintf("%v: %v", t, fault), fx)
}

// closeOwn is Close with a sentence of its own.
func (m *Machine) closeOwn(now time.Duration, why Reason, sentence string, fx *Effects) {
	m.own.sentence = sentence
	m.Close(now, why, fx)
}

// sayClose tells the client why the connection ends, if it can still hear it (own-dialect 2.5).
func (m *Machine) sayClose(why Reason, fx *Effects) {
	o := m.own
	if o.buf != nil {
		m.put(o.buf)
		o.buf = nil
	}
	o.asm.Drop()
	switch why {
	case ReasonGone, ReasonGoneEarly, ReasonGoneInMessage, ReasonWriteFailed:
		return
	default:
	}
	code := why.Code()
	if code == 0 {
		code = frame.ErrConnectionClosed
	}
	sentence := why.Sentence()
	if o.sentence != "" {
		sentence = o.sentence
	}
	if !utf8.ValidString(sentence) {
		sentence = why.Sentence()
	}
	fx.Out = frame.AppendOwnClose(fx.Out, &frame.OwnCloseInfo{Code: code, Reason: why.String(), Sentence: sentence})
}

// checkOwn is the part of CheckInvariants about the own dialect.
func (m *Machine) checkOwn() error {
	o := m.own
	switch {
	case m.state == StateClosed && (o.buf != nil || o.asm.Pending()):
		return fmt.Errorf("session: a closed session keeps %d bytes", len(o.buf)+o.asm.Bytes())
	case len(o.buf) > frame.OwnHeaderSize+frame.OwnFragment || o.asm.Bytes() > o.asm.Limit:
		return fmt.Errorf("session: %d bytes of a frame, %d of bodies in pieces", len(o.buf), o.asm.Bytes())
	case m.state == StateOpen && (o.every != 0) != (m.deadline != 0):
		return fmt.Errorf("session: deadline %v with pings every %v", m.deadline, o.every)
	case o.quiet > quietPings && m.state == StateOpen:
		return fmt.Errorf("session: %d quiet intervals", o.quiet)
	}
	return nil
}
