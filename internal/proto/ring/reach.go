// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Group is an address that should reach several daemons with one datagram: IP multicast, or the broadcast address of a network.
type Group struct {
	Addr    netip.AddrPort
	Members []netip.AddrPort // whom it should reach; this daemon may be among them
}

// reach finds out whether the group address reaches whom it should, and decides how this member's packets go. That is never
// taken for granted: a switch that forgets who listens, a firewall or a wrong broadcast address would keep every packet from a
// member that tokens do reach, and rings would end for that reason one after the other.
//
// Deviation: the papers have a multicast that loses a packet now and then. Here a ring begins with a copy for each member. At a visit
// of the token a member sends a question to the group address, which receivers answer to it alone, and again at later visits, after
// longer and longer times, until all have answered. From the next visit on its packets go to the group address. A ring that ends has a
// successor that asks anew. Besides, who sees one of its own packets sent again asks anew while the ring turns, with copies for
// each meanwhile; and a packet that is sent again more than once goes to each. So a group address that stops working costs a few
// rotations, and no configuration.
//
// Each member asks for itself, since what one sends may arrive where another's does not. The way can only change between two visits: packets of
// one visit take the same one, or their order would say nothing about loss (watchOrder).
type reach struct {
	questions
	to    []netip.AddrPort // whom the group address should reach: of the others in the ring, two or more; else empty, and nothing of this happens
	open  bool             // all have answered: packets go to the group address
	doubt bool             // since then one of my packets had to be sent again

	since time.Duration // when this began: to ask, or to be open
	said  Reach         // what operators know
	noted bool          // the first visit of the operational ring is over: its configuration has been told
}

// Times, in token timeouts, whose default is 250 ms.
const (
	reachFirst    = 32 // one by this: between the first question and the second. Each time that follows is twice as long,
	reachSlowest  = 40 // up to this one
	reachPatience = 20 // an operator is told when answers have lacked for so long
	reachRest     = 8  // a doubt does not count before: on a network that loses much there is always one
)

// Reach says what has become of the group address.
type Reach uint8

const (
	// ReachNone: there is none, or fewer than two of the other members should be reached by it.
	ReachNone Reach = iota
	// ReachAsked: not everybody has answered yet. Packets go to each member by itself.
	ReachAsked
	// ReachAll: it reaches everybody. Packets go there.
	ReachAll
	// ReachLacks: as ReachAsked, for so long that something is wrong.
	ReachLacks
)

// String is a sentence for operators, about "the group address".
func (r Reach) String() string {
	switch r {
	case ReachNone:
		return "of no use here"
	case ReachAsked:
		return "asked whom it reaches; until then packets go to each daemon by itself"
	case ReachAll:
		return "reaches everybody; packets go there once for all"
	case ReachLacks:
		return "does not reach everybody; packets go to each daemon by itself"
	}
	return fmt.Sprintf("Reach(%d)", uint8(r))
}

// GroupStatus is a picture of the use of a group address.
type GroupStatus struct {
	Addr    netip.AddrPort
	Reach   Reach
	Missing []int // members that have not answered
}

// startReach begins to ask, if there is anything to ask.
func (m *Machine) startReach(now time.Duration) {
	g, r := m.cfg.Group, &m.reach
	if g == nil {
		return
	}
	for i, a := range m.addrs {
		if i != m.me && slices.Contains(g.Members, a) {
			r.to = append(r.to, a)
		}
	}
	if len(r.to) < 2 {
		r.to = nil // one copy is no less than one
		return
	}
	r.wanted = make([]bool, m.n)
	r.question = make([]byte, packet.HeaderSize, packet.HeaderSize+packet.QuestionSize)
	m.askAnew(now)
}

// askAnew forgets all answers.
func (m *Machine) askAnew(now time.Duration) {
	r := &m.reach
	r.open, r.doubt, r.before, r.lacking = false, false, r.number, len(r.to)
	for i, a := range m.addrs {
		r.wanted[i] = i != m.me && slices.Contains(m.cfg.Group.Members, a)
	}
	r.askAt, r.every, r.since = now, m.cfg.TokenTimeout/reachFirst, now
}

// maybeAsk begins a visit: it decides how the packets of this visit go, and asks if it is time to.
func (m *Machine) maybeAsk(now time.Duration, fx *Effects) {
	r := &m.reach
	if len(r.to) == 0 {
		return
	}
	switch {
	case r.open:
		if r.doubt && now-r.since >= reachRest*m.cfg.TokenTimeout {
			m.askAnew(now)
		}
	case r.lacking == 0:
		r.open, r.doubt, r.since = true, false, now
	}
	if !r.open && now >= r.askAt {
		r.number++
		r.question = packet.AppendQuestion(r.question[:packet.HeaderSize], packet.Question{Ring: m.id, Sender: uint16(m.me), Asker: uint16(m.me), Number: r.number})
		m.sealer.Seal(r.question, packet.KindReach)
		fx.Sends = append(fx.Sends, packet.Send{To: r.to, Bytes: r.question, Kind: packet.KindReach, Ring: true})
		r.askAt, r.every = now+r.every, min(2*r.every, reachSlowest*m.cfg.TokenTimeout)
	}
	switch {
	case !r.noted:
		r.noted = m.phase == Operational
	case r.open && r.said != ReachAll:
		r.said, fx.Reach = ReachAll, ReachAll
	case !r.open && r.said != ReachLacks && now-r.since >= reachPatience*m.cfg.TokenTimeout:
		r.said, fx.Reach = ReachLacks, ReachLacks
	}
}

// sentAgain notes that a packet of member sender had to be sent again: if it is mine, the group address or its length may be why.
func (m *Machine) sentAgain(sender int) {
	if sender == m.me {
		m.reach.doubt, m.size.doubt = true, true
	}
}

// Names are those of the members that are missing.
func (s GroupStatus) Names(members []evs.ProcID) []string {
	names := []string{}
	for _, i := range s.Missing {
		names = append(names, members[i].Name)
	}
	return names
}

// Group is the present use of the group address.
func (m *Machine) Group() GroupStatus {
	r := &m.reach
	if len(r.to) == 0 {
		return GroupStatus{}
	}
	s := GroupStatus{Addr: m.cfg.Group.Addr, Reach: ReachAsked}
	switch {
	case r.open:
		s.Reach = ReachAll
	case r.said == ReachLacks:
		s.Reach = ReachLacks
	}
	for i, w := range r.wanted {
		if w {
			s.Missing = append(s.Missing, i)
		}
	}
	return s
}
