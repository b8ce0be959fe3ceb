// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"evensong/internal/proto/frame"
)

// scheme begins addresses at which Evensong's own dialect is spoken.
const scheme = "evensong://"

// ErrUnsupported is in errors of requests that only Evensong's own dialect has, on a session that speaks the original's
// protocol: use an evensong:// address. Test with errors.Is.
var ErrUnsupported = errors.ErrUnsupported

const (
	// defaultPing is the wish for the interval of signs of life.
	defaultPing = 10 * time.Second
	// silentIntervals is after how many intervals without a byte the other side counts as gone (own-dialect 3.1).
	silentIntervals = 3
	// maxOwnHandshake bounds what a daemon may say before it has accepted a session: a welcome with all other daemons.
	maxOwnHandshake = 1 << 20
)

// ownSession is what a session in Evensong's own dialect has beyond one in the original's.
type ownSession struct {
	welcome frame.OwnWelcomeInfo
	ping    time.Duration // interval in force; zero: none

	stream   uint16 // of the last message in pieces; under the lock of the outbox
	sentSize uint64 // what the outbox had accepted at the last look; of the goroutine that sends pings

	mu      sync.Mutex
	daemons []Peer
	asked   map[uint32]chan answer // requests that wait
	last    uint32                 // request number
	err     error                  // why no answer will come any more
}

// answer is what a daemon says to a request.
type answer struct {
	value any
	err   error
}

// Peer is another daemon of the configuration, and where it serves clients.
type Peer struct {
	Name      string
	Addresses []string // host:port; Dial takes them with evensong:// in front
}

// Session says what the daemon told when it accepted a session in Evensong's own dialect.
type Session struct {
	Daemon  string // name of the daemon
	Program string // its program and version
	Cluster string
	Number  uint64 // of the session, never used twice by the daemon
	// ShortName is what clients of the original's protocol see of this session, and can send to; the private group itself
	// if that fits their fields.
	ShortName  string
	MaxMessage int           // limit for the data of a message, in bytes
	MaxGroups  int           // limit for destinations
	Ping       time.Duration // interval of signs of life; zero: none
}

// Session is what the daemon told about itself; ok is false if the session speaks the original's protocol, which has
// nothing of it.
func (c *Conn) Session() (s Session, ok bool) {
	if c.own == nil {
		return Session{}, false
	}
	w := &c.own.welcome
	return Session{Daemon: w.Daemon, Program: w.Program, Cluster: w.Cluster, Number: w.Session, ShortName: w.Short,
		MaxMessage: int(w.MessageLimit), MaxGroups: int(w.GroupsLimit), Ping: c.own.ping}, true
}

// Peers are the other daemons to which a client could turn, as this daemon knows them now; the event *Peers tells about
// changes. None if the session speaks the original's protocol.
func (c *Conn) Peers() []Peer {
	if c.own == nil {
		return nil
	}
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	return slices.Clone(c.own.daemons)
}

func peers(list []frame.OwnDaemon) []Peer {
	var out []Peer
	for _, d := range list {
		out = append(out, Peer{d.Name, d.Addresses})
	}
	return out
}

// ownHandshake is the conversation of own-dialect 2.
type ownHandshake struct {
	nc      net.Conn
	pending []byte
	parts   frame.OwnAssembly
}

func (h *ownHandshake) run(o *options) (*ownSession, error) {
	h.parts.Limit = maxOwnHandshake
	hello := frame.OwnHello{Membership: o.membership, PingMillis: uint32(o.ping.Milliseconds()), User: o.name, Program: "evensong client for Go",
		Capabilities: []string{frame.OwnCapEvict, frame.OwnCapQuery, frame.OwnCapReceipt}}
	if o.primary {
		hello.Capabilities = append(hello.Capabilities, frame.OwnCapPrimary)
	}
	if _, err := h.nc.Write(hello.Append(nil)); err != nil {
		return nil, &Error{Code: ErrConnectionClosed, Detail: "handshake", Err: err}
	}
	body, err := h.expect(frame.OwnMethods)
	if err != nil {
		return nil, err
	}
	offered, fault := frame.ParseOwnMethods(body)
	if fault != frame.OwnFine {
		return nil, ownIllegal(frame.OwnMethods, fault)
	}
	if err := h.authenticate(o.auth, offered); err != nil {
		return nil, err
	}
	if body, err = h.expect(frame.OwnWelcome); err != nil {
		return nil, err
	}
	s := &ownSession{asked: map[uint32]chan answer{}}
	if s.welcome, fault = frame.ParseOwnWelcome(body); fault != frame.OwnFine {
		return nil, ownIllegal(frame.OwnWelcome, fault)
	}
	s.ping = time.Duration(s.welcome.PingMillis) * time.Millisecond
	s.daemons = peers(s.welcome.Daemons)
	return s, nil
}

// authenticate chooses the methods and shows what they want to see.
func (h *ownHandshake) authenticate(methods []Auth, offered []frame.OwnMethod) error {
	var names, all []string
	wants := map[string]bool{}
	for _, m := range offered {
		all = append(all, m.Name)
		wants[m.Name] = m.Credentials
	}
	for _, m := range methods {
		if !slices.Contains(all, m.Name) {
			return &Error{Code: ErrAuth, Detail: fmt.Sprintf("the daemon offers %q, not %s", all, m.Name)}
		}
		names = append(names, m.Name)
	}
	out := frame.AppendOwnChoice(nil, names...)
	for _, m := range methods {
		if !wants[m.Name] {
			continue
		}
		credentials, err := m.credentials()
		if err != nil {
			return &Error{Code: ErrAuth, Detail: "method " + m.Name, Err: err}
		}
		out = frame.AppendOwnCredentials(out, m.Name, credentials)
	}
	if _, err := h.nc.Write(out); err != nil {
		return &Error{Code: ErrConnectionClosed, Detail: "handshake", Err: err}
	}
	return nil
}

// credentials are what a method would send in the original's protocol; a daemon of ours answers for all methods at once.
func (a Auth) credentials() ([]byte, error) {
	if a.Exchange == nil {
		return nil, errors.New("the daemon wants credentials, and this method has none")
	}
	var s scripted
	if err := a.Exchange(&s); err != nil {
		return nil, err
	}
	if len(s.said) == 0 || len(s.said) > frame.MaxCredentials {
		return nil, fmt.Errorf("%d bytes of credentials, 1 to %d are possible", len(s.said), frame.MaxCredentials)
	}
	return s.said, nil
}

// scripted is the daemon's side of an exchange that consists of credentials and a yes.
type scripted struct{ said []byte }

func (s *scripted) Write(p []byte) (int, error) { s.said = append(s.said, p...); return len(p), nil }

func (s *scripted) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	p[0] = 1
	return 1, nil
}

// expect reads until a frame of the given type is whole. A CLOSE is the refusal.
func (h *ownHandshake) expect(want frame.OwnType) ([]byte, error) {
	for {
		for {
			t, body, n, err := h.frame()
			if err != nil {
				return nil, err
			}
			if n == 0 {
				break
			}
			h.pending = h.pending[n:]
			switch t {
			case 0: // a piece
			case want:
				return body, nil
			case frame.OwnClose:
				return nil, refusal(body)
			default:
				return nil, ownIllegal(t, frame.OwnFaultType)
			}
		}
		buf := make([]byte, 64<<10)
		n, err := h.nc.Read(buf)
		h.pending = append(h.pending, buf[:n]...)
		switch {
		case n > 0:
		case isEnd(err):
			return nil, &Error{Code: ErrConnectionClosed, Detail: "the daemon ended the connection during the handshake; one of the original does not speak Evensong's dialect", Err: err}
		case err != nil:
			return nil, &Error{Code: ErrConnectionClosed, Detail: "handshake", Err: err}
		}
	}
}

// frame takes the frame at the start of pending; n is zero while it is not whole, and t is while its body is not.
func (h *ownHandshake) frame() (t frame.OwnType, body []byte, n int, err error) {
	b := h.pending
	if len(b) > 0 && b[0] >= 0x80 && len(b) < frame.OwnHeaderSize {
		// A daemon that could not know the dialect says one byte, as in the original's protocol.
		return 0, nil, 0, &Error{Code: Code(b[0]), Detail: "refused by the daemon"}
	}
	if len(b) < frame.OwnHeaderSize {
		return 0, nil, 0, nil
	}
	head, fault := frame.ParseOwnHeader(b)
	if fault != frame.OwnFine || !head.Type.FromDaemon() {
		return 0, nil, 0, &Error{Code: ErrIllegalMessage, Detail: "this is no daemon that speaks Evensong's dialect"}
	}
	if n = frame.OwnHeaderSize + head.Length; len(b) < n {
		return 0, nil, 0, nil
	}
	t, body, done, fault := h.parts.Add(head, b[frame.OwnHeaderSize:n])
	if fault != frame.OwnFine {
		return 0, nil, 0, ownIllegal(head.Type, fault)
	}
	if !done {
		t = 0
	}
	return t, body, n, nil
}

// refusal is the error of a CLOSE in the handshake.
func refusal(body []byte) error {
	c, fault := frame.ParseOwnClose(body)
	if fault != frame.OwnFine {
		return ownIllegal(frame.OwnClose, fault)
	}
	return &Error{Code: c.Code, Reason: c.Reason, Detail: c.Sentence}
}

func ownIllegal(t frame.OwnType, fault frame.OwnFault) error {
	return &Error{Op: "receive", Code: ErrIllegalMessage, Detail: fmt.Sprintf("%v: %v", t, fault)}
}

// dialOwn is the rest of Dial for an evensong:// address.
func dialOwn(nc net.Conn, o options) (*Conn, error) {
	hs := ownHandshake{nc: nc}
	s, err := hs.run(&o)
	if err != nil {
		return nil, err
	}
	return newConn(nc, o, s.welcome.Private, Version(frame.Ours), hs.pending, s), nil
}

// beat sends a sign of life whenever nothing else was sent for half an interval. It ends with the writer.
func (c *Conn) beat() {
	defer close(c.beatDone)
	if c.own == nil || c.own.ping == 0 {
		return
	}
	tick := time.NewTicker(c.own.ping / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.writerDone:
			return
		case <-tick.C:
		}
		c.own.sentSize = c.out.hurry(func(buf []byte, accepted uint64) []byte {
			if accepted != c.own.sentSize {
				return buf
			}
			return frame.AppendOwnPing(buf, [8]byte{})
		})
	}
}

// ask sends a request and waits for its answer. encode writes the request with its number.
func ask[T any](ctx context.Context, c *Conn, op string, size int, encode func(buf []byte, number uint32) []byte) (T, error) {
	var none T
	if c.own == nil {
		return none, &Error{Op: op, Detail: "this session speaks the original's protocol; dial " + scheme + "...", Err: ErrUnsupported}
	}
	number, ch, err := c.own.register()
	if err != nil {
		return none, wrap(op, err)
	}
	defer c.own.forget(number)
	buf, err := c.out.begin(ctx, size)
	if err != nil {
		return none, wrap(op, err)
	}
	c.out.commit(encode(buf, number))
	select {
	case a := <-ch:
		if a.err != nil {
			return none, wrap(op, a.err)
		}
		v, ok := a.value.(T)
		if !ok {
			return none, &Error{Op: op, Code: ErrIllegalMessage, Detail: fmt.Sprintf("the daemon answered with %T", a.value)}
		}
		return v, nil
	case <-ctx.Done():
		return none, wrap(op, ctx.Err())
	}
}

// register takes a number that no waiting request has; zero would mean that no answer is wanted.
func (s *ownSession) register() (uint32, chan answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	for s.last++; s.last == 0 || s.asked[s.last] != nil; s.last++ {
	}
	ch := make(chan answer, 1)
	s.asked[s.last] = ch
	return s.last, ch, nil
}

func (s *ownSession) forget(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asked, number)
}

// answer wakes who waits for a request, and reports whether somebody does.
func (s *ownSession) answer(number uint32, a answer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.asked[number]
	if ch == nil {
		return false
	}
	delete(s.asked, number)
	ch <- a
	return true
}

// end tells all who wait, and all who will ask, that no answer comes.
func (s *ownSession) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	for n, ch := range s.asked {
		delete(s.asked, n)
		ch <- answer{err: s.err}
	}
}

// nextStream names the next message that travels in pieces. The lock of the outbox is held.
func (s *ownSession) nextStream() uint16 {
	if s.stream++; s.stream == 0 {
		s.stream = 1
	}
	return s.stream
}
