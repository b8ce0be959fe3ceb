// SPDX-License-Identifier: Apache-2.0

// Package ring passes the token on one ring of daemons and so gives every packet its place in one order.
//
// It sends packets that a Source fills, stores those of others, asks for and answers retransmissions, and computes two
// lines: the local aru (everything up to here has arrived) and the stable line (every member has everything up to
// here). It knows nothing of messages: package order, above, cuts them into packets and delivers them.
//
// One ring lives in two phases. While Recovering, the members exchange what they hold of their old rings, and the
// token finds out when that is done (the install point); Operational, it orders new packets. Both share one numbering.
//
//	input             recovering                 operational              lost
//	HandleData        store                      store                    store: it may save recovery some work
//	Accept (token)    handle, maybe install      handle, maybe hold       drop (EVS-20)
//	HandleHurry       ignore                     let a held token go      drop
//	HandleQuestion    answer, count              answer, count            drop
//	Wake              ignore                     visit, or send hurry     ignore
//	Advance           retransmit, loss           retransmit, loss, hold   nothing
//	Reconfigure       taken, in every phase; it ends nothing by itself
//
// Sources: Totem (TOCS 1995), section 5, total ordering, and section 8, flow control; Accelerated Ring
// (CNDS-2014-2), III; the step numbers in comments are those of docs/guarantees.md, 8.1, 8.2 and 8.4.
package ring

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// Config has the windows and timers of a ring. Zero fields mean their defaults. All members should agree on them, but
// nothing breaks if they do not.
type Config struct {
	PersonalWindow    int           // packets per member and visit, those sent again among them, in units of PacketBytes; default 40
	GlobalWindow      int           // units per rotation by all; default 160
	AcceleratedWindow int           // units sent after the token; default 20; at most PersonalWindow
	WholeVisit        int           // packets of a visit that may be so many bytes together all go before the token; default 65535: what the system takes as one piece
	Tune              int           // how far the personal window goes by itself, and the accelerated one with it; zero: all stay
	TuneLong          int           // how far while the messages that wait are so long that Tune is less than a few of them; default Tune
	TuneGlobal        int           // the global window while Tune is in force; default GlobalWindow in proportion, and at least TuneLong
	MaxGap            int           // how far the newest packet may be ahead of the ring's aru, in packets; default 2048, at most MaxSpan/2
	PacketBytes       int           // largest datagram; default 1472: an Ethernet frame
	Larger            int           // length of datagrams that are tried in place of PacketBytes where there is much to send; zero: none are
	LargerCut         bool          // they may go in fragments, and end with packets that have to be sent again, see size
	TokenTimeout      time.Duration // without a token or new data for this long, the ring is lost; default 250 ms
	TokenRetransmit   time.Duration // resend the token after this long without progress; default TokenTimeout/10
	Hold              time.Duration // an idle token comes round once in this time: the last sender holds it; default three tenths of TokenTimeout
	Linger            time.Duration // a lone sender keeps the token this long; default TokenTimeout/48, at most four fifths of TokenRetransmit
	HurryInterval     time.Duration // a member that waits for a held token asks this often; default TokenTimeout/60
	Group             *Group        // address that packets may go to once for several members; nil: none. What it points to does not change
	FailToReceive     int           // rotations in which one member's aru may stand still, at least for TokenTimeout; default 100, or 20 with a TokenTimeout of a second or more
}

// MaxSpan is twice the largest MaxGap.
const MaxSpan = 1 << 14

// storeSpan bounds how far above the discarded line a packet may be to be stored, whatever its sender's windows are.
// That line is the aru of a rotation or two ago, and up to three windows of MaxSpan/2 can have been sent since then. What
// is refused is lost to recovery as well (EVS-10).
const storeSpan = 2 * MaxSpan

// WithDefaults returns c with zero fields filled in.
func (c Config) WithDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.PersonalWindow, 40)
	def(&c.GlobalWindow, max(160, c.PersonalWindow))
	def(&c.AcceleratedWindow, min(20, c.PersonalWindow))
	def(&c.WholeVisit, 65535)
	def(&c.TuneLong, c.Tune)
	def(&c.TuneGlobal, max(c.GlobalWindow*c.Tune/c.PersonalWindow, c.TuneLong))
	def(&c.MaxGap, 2048)
	def(&c.PacketBytes, 1472)
	if c.TokenTimeout == 0 {
		c.TokenTimeout = 250 * time.Millisecond
	}
	if c.FailToReceive == 0 {
		c.FailToReceive = 100
		if c.TokenTimeout >= time.Second {
			c.FailToReceive = 20 // where timeouts are long, rotations may take half a second each
		}
	}
	if c.TokenRetransmit == 0 {
		c.TokenRetransmit = c.TokenTimeout / 10
	}
	if c.Hold == 0 {
		c.Hold = c.TokenTimeout * 3 / 10
	}
	if c.Linger == 0 {
		c.Linger = min(c.TokenTimeout/48, c.TokenRetransmit*4/5)
	}
	if c.HurryInterval == 0 {
		c.HurryInterval = c.TokenTimeout / 60
	}
	return c
}

// Validate reports everything that is wrong with c, which has its defaults filled in.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	bad(c.PersonalWindow > 0, "personal window %d: must be positive", c.PersonalWindow)
	bad(c.GlobalWindow >= c.PersonalWindow, "window %d is below the personal window %d", c.GlobalWindow, c.PersonalWindow)
	bad(c.AcceleratedWindow >= 0 && c.AcceleratedWindow <= c.PersonalWindow, "accelerated window %d: must be 0 to the personal window %d", c.AcceleratedWindow, c.PersonalWindow)
	bad(c.Tune == 0 || c.Tune >= c.PersonalWindow, "tuning up to %d: must be 0 or at least the personal window %d", c.Tune, c.PersonalWindow)
	bad(c.TuneLong >= c.Tune, "tuning up to %d for long messages: must be at least %d, as for short ones", c.TuneLong, c.Tune)
	bad(c.Tune == 0 || c.TuneGlobal >= c.TuneLong && c.TuneGlobal <= c.MaxGap, "tuning up to %d: the window of all, %d, must be at least that and at most the maximal gap %d", c.TuneLong, c.TuneGlobal, c.MaxGap)
	bad(c.MaxGap >= c.GlobalWindow && c.MaxGap <= MaxSpan/2, "maximal gap %d: must be %d (the window) to %d", c.MaxGap, c.GlobalWindow, MaxSpan/2)
	bad(c.PacketBytes >= 512 && c.PacketBytes <= packet.MaxDatagram, "packet size %d: must be 512 to %d bytes", c.PacketBytes, packet.MaxDatagram)
	bad(c.Larger == 0 || c.Larger > c.PacketBytes && c.Larger <= packet.MaxDatagram, "larger packets of %d bytes: must be above the usual ones, %d, and at most %d", c.Larger, c.PacketBytes, packet.MaxDatagram)
	bad(c.WholeVisit > 0, "visits of %d bytes before the token: must be positive", c.WholeVisit)
	bad(c.TokenTimeout >= time.Millisecond, "token timeout %v: must be at least 1 ms", c.TokenTimeout)
	bad(2*c.TokenRetransmit <= c.TokenTimeout, "token retransmission %v: must be at most half the token timeout %v", c.TokenRetransmit, c.TokenTimeout)
	bad(c.Hold > 0 && 2*c.Hold <= c.TokenTimeout, "hold time %v: must be positive and at most half the token timeout %v, or a lost token ends an idle ring", c.Hold, c.TokenTimeout)
	bad(c.Linger > 0 && c.Linger < c.TokenRetransmit, "linger time %v: must be positive and below the token retransmission %v, or tokens are sent again that are held", c.Linger, c.TokenRetransmit)
	bad(c.HurryInterval > 0 && c.FailToReceive > 0, "hurry interval %v and fail-to-receive %d: must be positive", c.HurryInterval, c.FailToReceive)
	return errors.Join(errs...)
}

// Phase is what a ring is for at the moment.
type Phase uint8

const (
	// Recovering: members rebroadcast what they hold of old rings. It ends when order installs the configuration.
	// Totem (TOCS 1995), section 7.
	Recovering Phase = iota + 1
	// Operational: new packets are ordered. It ends with the loss of the token.
	Operational
	// Lost: this member has given the ring up. Nothing that arrives for it counts any more (EVS-20).
	Lost
)

// String is the lower-case name.
func (p Phase) String() string {
	switch p {
	case Recovering:
		return "recovering"
	case Operational:
		return "operational"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// Reason says why a ring was given up.
type Reason uint8

const (
	// TokenTimeout: neither token nor new data for the token timeout.
	TokenTimeout Reason = iota + 1
	// CannotReceive: my own aru has stood still although others retransmitted (LIVE-6).
	CannotReceive
	// MemberCannotReceive: another member's aru has stood still, and it did not leave by itself.
	MemberCannotReceive
)

// String is a sentence for operators.
func (r Reason) String() string {
	switch r {
	case TokenTimeout:
		return "the token was lost: neither it nor new data came within the token timeout"
	case CannotReceive:
		return "this daemon could not receive a packet that others sent again and again"
	case MemberCannotReceive:
		return "a member could not receive a packet that others sent again and again"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Source gives the packets that a member originates. The machine calls it only inside Visit.
type Source interface {
	// Pending is how much waits: zero if nothing. While recovering the unit is old packets, and the sum over the
	// members is what the token counts.
	Pending() int
	// Mean is about how many bytes one of the messages that wait has; zero if that is not known.
	Mean() int
	// Fill writes pieces for the packet at position at into dst and returns their length; zero if nothing is left. more
	// says that the visit allows another packet, so that a message may be cut here at no cost.
	Fill(at seq.Num, dst []byte, more bool) int
}

// Effects collects what an input wants done.
type Effects struct {
	Sends    []packet.Send
	Lost     Reason // not zero: the machine has given the ring up
	Suspect  int    // with MemberCannotReceive: the member's index
	Retried  int    // retransmissions sent, of packets and tokens
	Repeats  int    // those of tokens among them
	Sent     int    // packets originated
	Released int    // tokens forwarded
	Reach    Reach  // ReachAll, ReachLacks: operators are to be told so
}

// Machine passes the token on one ring. Its methods must not be called concurrently.
type Machine struct {
	cfg     Config
	id      evs.RingID
	me, n   int
	sealer  *packet.Sealer
	others  []netip.AddrPort // everybody else, for data
	addrs   []netip.AddrPort // of all, for the token and hurries
	pool    *Pool
	phase   Phase
	noAccel bool
	flow    flow
	reach   reach
	size    size

	answerBuf []byte // the last answer to a question

	// Packets.
	win   seq.Window[*Packet]
	count uint64 // packets I originated in this ring

	// Token. accepted is the sequence number of the last one accepted, expect the one that is due next (8.1.1).
	token      packet.Token // the one I have: being visited, or held
	accepted   uint64
	expect     uint64
	copyBuf    []byte
	copyTo     []netip.AddrPort // whom the token went to
	retryAt    time.Duration    // zero: nothing to retransmit
	trip       trip
	lossAt     time.Duration
	held       bool
	holdUntil  time.Duration // zero: not held since it came
	releasedAt time.Duration // when I sent it on last
	goOn       bool          // do not keep the token that I have
	hurried    bool          // a hurry came while the token was away: do not keep it at its next visit
	hurryAt    time.Duration // zero: not asking
	asker      int           // who had the hold of the token end; -1: nobody
	passedOver bool          // I sent the token past somebody when I had it last
	self       bool          // ring of one: the token is on its way to myself
	waiting    bool          // Accept took a token that Visit has not handled yet

	// The visit under way: from take until the token goes on.
	arrivedSeq, arrivedARU seq.Num // of the token as it came
	begun                  bool    // requests are answered
	visitNew, visitSent    int     // new packets sent, in units; those sent again, too
	alone                  bool    // for a while nobody else has sent anything, and nobody lacks anything

	// Lines.
	prevSeq   seq.Num // seq of the token at my previous visit: the limit of requests on the accelerated ring
	putARU    seq.Num // aru I put on the token at the previous visit
	puts      int     // visits so far
	stable    seq.Num
	last      int           // member that originated the highest packet I hold; the representative if there is none. An idle token rests there
	lastSeq   seq.Num       // that packet's position
	foreign   seq.Num       // the highest position of another member's packet that I hold
	lastSent  uint32        // what I added to fcc last round
	lastNew   int           // new packets of my previous visit, in units
	throttled bool          // see Throttle
	idleSeq   seq.Num       // seq at the last arrival
	idle      int           // arrivals running with that seq and nothing to do
	quiet     bool          // at my last visit nothing was going on, so the token may be held
	rotation  time.Duration // how long the token was away last
	stuckARU  seq.Num
	stuckID   uint16
	stuck     int
	stuckFrom time.Duration
	straight  int               // visits since the network changed the order of what one member sent, up to straightVisits
	sound     int               // visits since a sign that the network loses something, up to soundVisits
	answered  map[seq.Num]reply // retransmissions of mine (P-11)

	// Recovery.
	lastBacklog uint32
	clear       int
	install     seq.Num
	hasInstall  bool
	promised    bool
	putInstall  bool // at the previous visit I put an aru at or above the install point
}

// New returns the machine of member me of a ring whose members are in ring order with their addresses. accelerated
// selects the variant, the same for all members (8.2.6). The pool lends packet buffers and outlives the ring.
func New(cfg Config, id evs.RingID, members []evs.ProcID, addrs []netip.AddrPort, me int, accelerated bool, sealer *packet.Sealer, pool *Pool, now time.Duration) *Machine {
	m := &Machine{
		cfg: cfg, id: id, me: me, n: len(members), sealer: sealer, pool: pool,
		phase: Recovering, noAccel: !accelerated, expect: uint64(me), answered: map[seq.Num]reply{}, asker: -1,
		lossAt: now + cfg.TokenTimeout, addrs: slices.Clone(addrs), straight: straightVisits, sound: soundVisits,
	}
	m.startWindows()
	for i, a := range addrs {
		if i != me {
			m.others = append(m.others, a)
		}
	}
	m.startReach(now)
	return m
}

// ID is the ring's identity.
func (m *Machine) ID() evs.RingID { return m.id }

// Phase is the current phase.
func (m *Machine) Phase() Phase { return m.phase }

// ARU is the local all-received-up-to line.
func (m *Machine) ARU() seq.Num { return m.win.ARU() }

// High is the highest position held.
func (m *Machine) High() seq.Num { return m.win.High() }

// Stable is the line up to which every member is known to hold everything (8.1.10). It never falls.
func (m *Machine) Stable() seq.Num { return m.stable }

// Install is the install point, if it is known.
func (m *Machine) Install() (seq.Num, bool) { return m.install, m.hasInstall }

// Promised reports whether this member has passed the install point and told so, or is about to (8.4.4).
func (m *Machine) Promised() bool { return m.promised }

// Packet is the packet at position n, or nil. It stays valid until it is discarded.
func (m *Machine) Packet(n seq.Num) *Packet {
	p, _ := m.win.Get(n)
	return p
}

// Has reports whether position n was stored, now or before it was discarded.
func (m *Machine) Has(n seq.Num) bool { return m.win.Has(n) }

// Base is the position up to which packets were discarded.
func (m *Machine) Base() seq.Num { return m.win.Base() }

// Discard forgets the packets up to n, which must be stable and delivered. Their buffers are reused from the next
// input on.
func (m *Machine) Discard(n seq.Num) {
	if n > m.stable {
		panic("ring: discard above the stable line")
	}
	m.win.Discard(n, m.pool.Put)
	if len(m.answered) > 0 {
		for s := range m.answered {
			if s <= n {
				delete(m.answered, s)
			}
		}
	}
}

// Drop gives all packets back. The machine must not be used afterwards.
func (m *Machine) Drop() {
	for n := m.win.Base() + 1; n <= m.win.High(); n++ {
		if p, ok := m.win.Get(n); ok {
			m.pool.Put(p)
		}
	}
	m.win = seq.Window[*Packet]{}
	m.phase = Lost
}

// Give inserts a packet that came by another way: wrapped, in the recovery of a later ring. It reports whether it was
// new. The packet's buffer belongs to the ring from then on if it was.
func (m *Machine) Give(p *Packet) bool {
	if p.Seq > m.win.Base()+storeSpan {
		return false
	}
	return m.win.Put(p.Seq, p)
}

// Operational ends recovery: order has installed the configuration. What the members still lack above the install
// point is ordered as usual from here.
func (m *Machine) Operational() {
	m.phase = Operational
}

// GiveUp ends the ring here: nothing for it is acted upon any more.
func (m *Machine) GiveUp() {
	m.phase = Lost
	m.held, m.self, m.waiting = false, false, false
	m.retryAt, m.lossAt, m.hurryAt = 0, 0, 0
}

// Start makes the ring's first token; only the representative calls it. Visit must follow.
func (m *Machine) Start(now time.Duration) {
	m.token = packet.Token{Ring: m.id, ARUID: packet.NoMember, RTR: m.token.RTR[:0]}
	m.take(now, 0)
}

// take notes that a token was accepted.
func (m *Machine) take(now time.Duration, tokenSeq uint64) {
	m.accepted, m.rotation = tokenSeq, now-m.releasedAt
	m.arrivedSeq, m.arrivedARU = m.token.Seq, m.token.ARU
	m.holdUntil = 0
	m.begun, m.visitNew, m.visitSent, m.goOn, m.asker = false, 0, 0, false, -1
	m.expect = tokenSeq + uint64(m.n)
	m.trip.end(now)
	m.retryAt, m.hurryAt = 0, 0
	m.lossAt = now + m.cfg.TokenTimeout
	m.waiting = true
}

// HandleData stores a packet of this ring. datagram is the whole packet, of which d was parsed; both are borrowed, but for a datagram
// that lies in a room: that is kept where it is, and is the ring's if it was new. It reports whether the packet was new.
func (m *Machine) HandleData(now time.Duration, d *packet.Data, datagram []byte, room *packet.Room) bool {
	if int(d.Sender) >= m.n || d.Seq > m.win.Base()+storeSpan {
		return false
	}
	// Somebody had the token after me, so mine arrived (8.1, on receipt of data). Post-token data of my predecessor
	// belongs to an earlier visit and proves nothing.
	if m.retryAt != 0 && int(d.Sender) != m.me && d.Visit > m.accepted {
		m.retryAt = 0
		m.trip.end(now)
	}
	if d.Flags&packet.FlagRetransmit != 0 {
		m.sound = 0
		m.sentAgain(int(d.Sender))
	}
	if m.win.Has(d.Seq) {
		return false
	}
	m.watchOrder(d)
	var p *Packet
	if room != nil {
		p = m.pool.In(room, datagram)
	} else {
		p = m.pool.Get(len(datagram))
		p.Buf = append(p.Buf[:0], datagram...)
	}
	p.Describe(d)
	m.store(p)
	if m.phase != Lost {
		m.lossAt = now + m.cfg.TokenTimeout
	}
	return true
}

// store keeps a new packet.
func (m *Machine) store(p *Packet) {
	m.win.Put(p.Seq, p)
	if p.Seq > m.lastSeq {
		m.last, m.lastSeq = int(p.Sender), p.Seq
	}
	if int(p.Sender) != m.me && p.Seq > m.foreign {
		m.foreign = p.Seq
	}
}

// Deadline is when Advance must be called; zero if never.
func (m *Machine) Deadline() time.Duration {
	if m.phase == Lost {
		return 0
	}
	var d time.Duration
	add := func(t time.Duration) {
		if t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	switch {
	case m.n == 1: // nobody to wait for
	case m.held:
		add(m.holdUntil)
	default:
		add(m.lossAt)
		add(m.retryAt)
		add(m.hurryAt)
	}
	return d
}

func count(set []bool) (n int) {
	for _, is := range set {
		if is {
			n++
		}
	}
	return n
}

// CheckInvariants states what holds between inputs.
func (m *Machine) CheckInvariants() error {
	switch {
	case m.win.Base() > m.stable:
		return fmt.Errorf("ring %v: discarded %d above the stable line %d", m.id, m.win.Base(), m.stable)
	case m.stable > m.win.ARU() && m.phase != Lost:
		return fmt.Errorf("ring %v: stable line %d above the local aru %d (P-1)", m.id, m.stable, m.win.ARU())
	case m.hasInstall && m.phase == Recovering && m.stable > m.install:
		return fmt.Errorf("ring %v: stable line %d passed the install point %d before installation (EVS-16)", m.id, m.stable, m.install)
	case m.cfg.Tune == 0 && m.flow.personal != m.cfg.PersonalWindow, m.cfg.Tune != 0 && (m.flow.personal < m.cfg.PersonalWindow || m.flow.personal > m.cfg.TuneLong),
		m.flow.accelerated > m.flow.personal, m.flow.global < m.flow.personal:
		return fmt.Errorf("ring %v: windows %+v of %d, tuned up to %d", m.id, m.flow, m.cfg.PersonalWindow, m.cfg.TuneLong)
	case m.size.lacking != count(m.size.wanted), m.size.larger && (m.size.wanted == nil || m.cfg.Larger == 0):
		return fmt.Errorf("ring %v: larger packets %+v of %d bytes", m.id, m.size, m.cfg.Larger)
	case m.held && m.phase != Operational:
		return fmt.Errorf("ring %v: the token is held while %v", m.id, m.phase)
	}
	return nil
}
