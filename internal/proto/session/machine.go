// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// Default times of a Config.
const (
	// DefaultConnectTimeout is more generous than the original's second, because nobody else waits for this client.
	DefaultConnectTimeout = 5 * time.Second
	// DefaultAuthTimeout leaves time for somebody to type a password. The original has no limit.
	DefaultAuthTimeout = time.Minute
)

// Config is what all sessions of a daemon have in common. It is not modified after the first New.
type Config struct {
	// Daemon is this daemon's name, 1 to 19 legal characters; the second half of private names.
	Daemon string
	// Methods are the allowed authentication methods in the order in which they are offered; NULL should be first,
	// because some clients take the first. Empty: nobody is accepted.
	Methods []AuthMethod
	// Rules say what accepted clients may do; nil: everything.
	Rules *access.Rules
	// TLSRequired refuses clients that come over a network without TLS.
	TLSRequired bool
	// ConnectTimeout limits the time until the connect message is complete. Zero means 5s.
	ConnectTimeout time.Duration
	// AuthTimeout limits the time from the authentication list to acceptance. Zero means 1min.
	AuthTimeout time.Duration
	// Buffers gives memory for messages that arrive in pieces. Nil: each such message allocates.
	Buffers Buffers
	// MessageLimit bounds the data of one message in the own dialect, in bytes. Zero means frame.DefaultOwnMessage.
	MessageLimit int
}

// AuthMethod is one authentication method (client-protocol 2.3).
type AuthMethod struct {
	// Name as it travels: NULL, IP, PWORD. 1 to 29 bytes without blanks.
	Name string
	// Required methods run even when a client did not choose them. One that needs credentials cannot: such a client is
	// refused.
	Required bool
	// Unlisted methods are not offered and cannot be chosen: they are required, and need no credentials.
	Unlisted bool
	// CredentialBytes is what the client sends when it is the method's turn, 0 to 90; 40 for PWORD.
	CredentialBytes int
	// Answer: the daemon says in one byte, 1 or 0, whether the credentials are right, before the next method runs.
	Answer bool
	// Check decides. It must depend on its arguments only. Nil says yes. peer is 0.0.0.0 for a Unix socket; credentials
	// are valid during the call. From a client of the own dialect they may have any length up to frame.MaxCredentials.
	Check func(peer netip.Addr, credentials []byte) bool
	// Proves is the name that credentials prove after Check has accepted them, and that they claim if it has not, for the
	// log. Nil: none. It is called with CredentialBytes bytes, and what it returns must not alias them.
	Proves func(credentials []byte) string
}

// Null is the method NULL, which asks for nothing.
func Null() AuthMethod { return AuthMethod{Name: frame.AuthNull} }

// Validate returns all that is wrong with the configuration, one problem per line.
func (c *Config) Validate() error {
	var bad []string
	add := func(what string, args ...any) { bad = append(bad, fmt.Sprintf(what, args...)) }
	if !frame.LegalDaemon(c.Daemon) {
		add("daemon name %q: want 1 to %d characters from '$' to '~'", c.Daemon, frame.MaxDaemonName)
	}
	list, names := 0, map[string]bool{}
	for _, m := range c.Methods {
		if !m.Unlisted {
			list += len(m.Name) + 1
		}
		if m.Name == "" || len(m.Name) >= frame.AuthNameSize || strings.ContainsAny(m.Name, " \x00") {
			add("authentication method %q: want 1 to %d bytes without blanks", m.Name, frame.AuthNameSize-1)
		}
		if names[m.Name] {
			add("authentication method %q is there twice", m.Name)
		}
		names[m.Name] = true
		if m.Unlisted && (!m.Required || m.CredentialBytes > 0) {
			add("authentication method %q is not offered: it must be required and need no credentials", m.Name)
		}
		if m.CredentialBytes < 0 || m.CredentialBytes > frame.AuthChoiceSize {
			add("authentication method %q: %d bytes of credentials, want 0 to %d", m.Name, m.CredentialBytes, frame.AuthChoiceSize)
		}
	}
	if list > frame.MaxAuthList {
		add("the names of the authentication methods have %d bytes with blanks, clients take %d", list, frame.MaxAuthList)
	}
	if c.ConnectTimeout < 0 || c.AuthTimeout < 0 {
		add("connect timeout %v, authentication timeout %v: want no negative times", c.ConnectTimeout, c.AuthTimeout)
	}
	if c.MessageLimit < 0 || c.MessageLimit > frame.MaxOwnMessage {
		add("message limit %d: want 1 to %d bytes", c.MessageLimit, frame.MaxOwnMessage)
	}
	if bad != nil {
		return fmt.Errorf("session configuration: %s", strings.Join(bad, "\n"))
	}
	return nil
}

// State is where a conversation stands.
type State uint8

// The states.
const (
	// StateConnect collects the connect message; nobody knows yet who this is. (client-protocol 2.1)
	StateConnect State = iota + 1
	// StateName waits for the node's NameDecided. No input is taken.
	StateName
	// StateAuth collects the 90 bytes of the authentication choice. The name is taken. (client-protocol 2.3)
	StateAuth
	// StateCredentials collects what the method whose turn it is wants to see.
	StateCredentials
	// StateOpen is an accepted session; input is frames. (client-protocol 4)
	StateOpen
	// StateClosed is the end. Input is taken and ignored, so that the shell can drain.
	StateClosed
)

// String is the lower-case name.
func (s State) String() string {
	switch s {
	case StateConnect:
		return "connect"
	case StateName:
		return "name"
	case StateAuth:
		return "auth"
	case StateCredentials:
		return "credentials"
	case StateOpen:
		return "open"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// allowed is the table of transitions. Every state may end in StateClosed.
var allowed = [...][]State{
	StateConnect:     {StateName},
	StateName:        {StateAuth, StateOpen},
	StateAuth:        {StateCredentials, StateOpen},
	StateCredentials: {StateOpen},
	StateOpen:        {},
	StateClosed:      {},
}

// A Machine is one client's conversation. Methods must not be called concurrently. There is one per connection, so it is
// small: a message in pieces has a buffer from Config.Buffers, and none between messages.
type Machine struct {
	cfg   *Config
	peer  netip.Addr
	state State

	deadline time.Duration // of the state; zero: none
	info     Info

	// small holds what a state collects: connect message, choice, credentials, header; have bytes of it are there.
	small [frame.AuthChoiceSize]byte
	have  uint8

	// Authentication: methods still to run, as indexes of cfg.Methods, and whether all so far said yes.
	// passed has a bit for each method that said yes, for the first 64; proved is the name that the last of them proved;
	// refusal says for the log which method refused whom, or what the choice lacked.
	run     []uint8
	yes     bool
	passed  uint64
	proved  string
	refusal string

	// Access: see access.go. judge is nil before the session is open, and where everything is permitted.
	rules  *access.Rules
	judge  *access.Judge
	uid    uint32
	hasUID bool
	secure bool   // through TLS
	cert   string // the name in its certificate

	// Open: body has the part that arrived of the body behind the header in small; it is nil while no byte of it has
	// arrived, and then the body may still be used in place.
	size int
	body []byte

	own *own // in the own dialect
}

// New starts a conversation that was accepted now from peer; the zero address is that of a Unix socket. cfg must be
// valid and stay unchanged.
func New(cfg *Config, peer netip.Addr, now time.Duration) *Machine {
	if !peer.IsValid() {
		peer = netip.IPv4Unspecified()
	}
	m := &Machine{cfg: cfg, rules: cfg.Rules, peer: peer.Unmap(), state: StateConnect}
	m.deadline = now + orDefault(cfg.ConnectTimeout, DefaultConnectTimeout)
	return m
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// HandleInput takes bytes from the client. It returns how many it consumed; the caller offers the rest again, together
// with what arrives later. It consumes less than all in two cases: while a decision about the name is pending (offer the
// rest right after NameDecided), and when room is used up (offer it when there is room). b is borrowed: see Op.
//
// room is how many bytes of frames the node can take now. In an open session no byte is consumed once it is zero or less;
// the message that exceeds it is still delivered, so at most frame.MaxFrame bytes more than room become requests. It is
// how back-pressure reaches senders (client-protocol 6). The handshake does not need room.
//
// When the client's stream ends the caller offers everything that arrived before it calls HandleClosed: complete
// messages count (client-protocol 4.3).
func (m *Machine) HandleInput(now time.Duration, b []byte, room int, fx *Effects) (consumed int) {
	consumed = m.read(now, b, room, fx)
	m.heard(len(b), consumed < len(b))
	return consumed
}

func (m *Machine) read(now time.Duration, b []byte, room int, fx *Effects) (consumed int) {
	for {
		was := m.state
		if m.own != nil && (was == StateAuth || was == StateCredentials || was == StateOpen) {
			consumed += m.readOwn(now, b[consumed:], room, fx)
			if m.state == was {
				return consumed
			}
			continue
		}
		switch m.state {
		case StateConnect:
			consumed += m.readConnect(now, b[consumed:], fx)
		case StateName:
			return consumed
		case StateAuth:
			consumed += m.readChoice(now, b[consumed:], fx)
		case StateCredentials:
			consumed += m.readCredentials(now, b[consumed:], fx)
			if m.state == StateCredentials && consumed < len(b) {
				continue // the next method's
			}
		case StateOpen:
			consumed += m.readFrames(now, b[consumed:], room, fx)
		case StateClosed:
			return len(b)
		default:
			panic("session: impossible state " + m.state.String())
		}
		if m.state == was {
			return consumed
		}
	}
}

// HandleClosed is the end of the client's stream. A client that only shut down its sending side may still get the answer
// to a handshake message that it did not complete.
func (m *Machine) HandleClosed(now time.Duration, fx *Effects) {
	switch m.state {
	case StateConnect:
		if frame.ConnectInName(m.small[:m.have]) {
			m.Close(now, ReasonIllegalName, fx) // client-protocol 2.1, rule 7
			return
		}
		m.Close(now, ReasonGoneEarly, fx)
	case StateAuth:
		if m.have > 0 {
			m.Close(now, ReasonAuth, fx) // client-protocol 2.3: less than 90 bytes
			return
		}
		m.Close(now, ReasonGoneEarly, fx)
	case StateName, StateCredentials:
		m.Close(now, ReasonGoneEarly, fx)
	case StateOpen:
		if m.have > 0 || m.own != nil && (m.own.buf != nil || m.own.asm.Pending()) {
			m.Close(now, ReasonGoneInMessage, fx)
			return
		}
		m.Close(now, ReasonGone, fx)
	case StateClosed:
	default:
		panic("session: impossible state " + m.state.String())
	}
}

// Advance does what is due at now.
func (m *Machine) Advance(now time.Duration, fx *Effects) {
	if m.deadline == 0 || now < m.deadline {
		return
	}
	switch m.state {
	case StateConnect:
		if frame.ConnectInName(m.small[:m.have]) {
			m.Close(now, ReasonIllegalName, fx)
			return
		}
		m.Close(now, ReasonSilent, fx)
	case StateAuth, StateCredentials:
		m.Close(now, ReasonAuthTimeout, fx)
	case StateOpen:
		m.advanceOwn(now, fx)
	case StateName, StateClosed:
		panic("session: a timer in state " + m.state.String())
	default:
		panic("session: impossible state " + m.state.String())
	}
}

// Deadline is when Advance must be called; zero if never.
func (m *Machine) Deadline() time.Duration { return m.deadline }

// State is where the conversation stands.
func (m *Machine) State() State { return m.state }

// Info is what is known of the client so far; complete once the session is open.
func (m *Machine) Info() *Info { return &m.info }

// Close ends the session. A client that is still in the handshake is told the reason's code. Closing again does nothing.
func (m *Machine) Close(now time.Duration, why Reason, fx *Effects) {
	if m.state == StateClosed {
		return
	}
	if m.own != nil {
		m.sayClose(why, fx)
	} else if code := why.Code(); code != 0 && m.state != StateOpen {
		fx.Out = append(fx.Out, code.Byte())
	}
	fx.Close = why
	if m.body != nil {
		m.put(m.body)
		m.body = nil
	}
	m.transition(now, StateClosed)
}

// transition is the only place where the state changes. It cancels the old state's timer and arms the new one's.
func (m *Machine) transition(now time.Duration, to State) {
	ok := to == StateClosed
	for _, s := range allowed[m.state] {
		ok = ok || s == to
	}
	if !ok {
		panic(fmt.Sprintf("session: transition from %v to %v", m.state, to))
	}
	from := m.state
	m.state, m.have = to, 0
	switch to {
	case StateAuth:
		m.deadline = now + orDefault(m.cfg.AuthTimeout, DefaultAuthTimeout)
	case StateCredentials:
		// One limit for the whole authentication, begun in StateAuth.
	case StateConnect, StateName, StateOpen, StateClosed:
		m.deadline = 0
	default:
		panic(fmt.Sprintf("session: transition from %v to %v", from, to))
	}
}

// CheckInvariants says what must hold between inputs.
func (m *Machine) CheckInvariants() error {
	switch {
	case int(m.have) > len(m.small):
		return fmt.Errorf("session: collected %d bytes of %d", m.have, len(m.small))
	case m.state != StateOpen && m.body != nil:
		return fmt.Errorf("session: a message body in state %v", m.state)
	case m.state == StateOpen && m.body != nil && (m.have != frame.HeaderSize || len(m.body) >= m.size || m.size > frame.MaxBody):
		return fmt.Errorf("session: %d of %d bytes of a body behind %d of a header", len(m.body), m.size, m.have)
	case (m.state == StateConnect || m.state == StateAuth || m.state == StateCredentials) != (m.deadline != 0) && (m.own == nil || m.state != StateOpen):
		return fmt.Errorf("session: deadline %v in state %v", m.deadline, m.state)
	case m.state == StateOpen && m.info.Private == "":
		return fmt.Errorf("session: open without a name")
	}
	if m.own != nil {
		return m.checkOwn()
	}
	return nil
}
