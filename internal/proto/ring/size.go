// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"time"

	"evensong/internal/proto/packet"
)

// size finds out whether larger datagrams than usual reach everybody, and decides how long this member's packets are. Config.Larger is
// the one size that is tried, by a question of that length, which is answered by everybody whom it reaches; only a member that has much to send asks.
// From the next visit on packets may be that long. Where they must not be cut on the way (jumbo frames, loopback), a question does not
// arrive unless the path carries it whole. Where they may (Config.LargerCut), it is because the system takes datagrams one by one: handing it
// one of 22 fragments is a twentieth of the work, at the price that one lost fragment loses all; so packets that have to be sent again end
// it, for eight token timeouts: not the first ones, which may be late only, but the next ones within a token timeout. A path that stops
// carrying larger ones without a word costs a configuration: what has its place in the order must arrive. The next ring begins with usual
// ones.
//
// Windows go on counting what packets of the usual length hold: a longer one takes as much of them as it holds.
//
// Source: none of the papers speaks of it; the questions are those of reach.
type size struct {
	questions
	larger bool          // everybody gets the larger ones
	group  bool          // asked by way of the group address
	doubt  bool          // since then one of my packets had to be sent again, and that was not forgiven
	once   time.Duration // when that was last forgiven, as late and not lost; zero: never
	failed bool          // one of my longer ones that must not be cut had to be sent again twice
	rest   time.Duration // no question before

	since time.Duration // when asking began, or the larger ones
}

const (
	// sizeLoad is how much a visit must have sent, in units, for larger packets to be worth a question: more than a lone sender keeps the token for.
	sizeLoad = lingerPackets + 1
	// sizePatience, in token timeouts, is how long larger packets go on without everybody's answer when they are in doubt.
	sizePatience = 4
)

// PacketReason is why packets are at most as long as they are.
type PacketReason uint8

const (
	// PacketsGiven: it is the configured length, and stays.
	PacketsGiven PacketReason = iota
	// PacketsUsual: the usual ones. Larger ones do not reach everybody, or nobody had enough to send to ask.
	PacketsUsual
	// PacketsLarger: everybody gets them.
	PacketsLarger
)

// String is a short phrase for operators.
func (r PacketReason) String() string {
	switch r {
	case PacketsGiven:
		return "as configured"
	case PacketsUsual:
		return "what an Ethernet frame holds"
	case PacketsLarger:
		return "larger ones, which everybody gets"
	}
	return fmt.Sprintf("PacketReason(%d)", uint8(r))
}

// longest is how long a packet may be at a visit of token t. Longer ones end when somebody has fallen behind by a quarter of the gap, since
// everybody keeps what one lacks.
func (m *Machine) longest(t *packet.Token) int {
	if m.size.larger && 4*int64(t.Seq-t.ARU) < int64(m.cfg.MaxGap) {
		return m.cfg.Larger
	}
	return m.cfg.PacketBytes
}

// units is what a packet of n bytes takes of a window.
func (m *Machine) units(n int) int { return (n + m.cfg.PacketBytes - 1) / m.cfg.PacketBytes }

// maybeAskSize begins a visit, behind maybeAsk: it decides how long the packets of this visit are, and asks if it is time to.
func (m *Machine) maybeAskSize(now time.Duration, fx *Effects) {
	s := &m.size
	if m.cfg.Larger <= m.cfg.PacketBytes || m.phase != Operational || m.n < 2 {
		return
	}
	switch {
	case s.larger && (s.failed || s.doubt && m.cfg.LargerCut && !m.forgives(now)):
		s.larger = false
		s.rest = now + reachRest*m.cfg.TokenTimeout
		m.askSizeAnew(now)
	case s.wanted == nil, s.group != m.reach.open: // another way
		s.larger = false
		m.askSizeAnew(now)
	case s.doubt && s.larger && s.lacking == 0 && now-s.since >= reachRest*m.cfg.TokenTimeout:
		m.askSizeAnew(now) // and go on meanwhile
	case s.larger && s.lacking > 0 && now-s.since >= sizePatience*m.cfg.TokenTimeout:
		s.larger = false
	case !s.larger && s.lacking == 0:
		s.larger, s.doubt, s.failed, s.since = true, false, false, now
	}
	if s.lacking == 0 || now < s.askAt || m.lastNew < sizeLoad {
		return
	}
	s.number++
	if s.question == nil {
		s.question = make([]byte, m.cfg.Larger)
	}
	packet.AppendQuestion(s.question[:packet.HeaderSize], packet.Question{Ring: m.id, Sender: uint16(m.me), Asker: uint16(m.me), Number: s.number})
	m.sealer.Seal(s.question, packet.KindSize)
	fx.Sends = append(fx.Sends, packet.Send{To: m.others, Bytes: s.question, Kind: packet.KindSize, Ring: m.reach.open, Whole: !m.cfg.LargerCut})
	s.askAt, s.every = now+s.every, min(2*s.every, reachSlowest*m.cfg.TokenTimeout)
}

// lateShare is the part of a token timeout in which packets may be asked for that were late together: by several members, in rotations
// that follow.
const lateShare = 25

// forgives reports whether packets in fragments that had to be sent again are taken to be late rather than lost: once in a token
// timeout. On a line that loses a fragment in a thousand, one packet in fifteen is lost to one of three others.
func (m *Machine) forgives(now time.Duration) bool {
	s := &m.size
	switch since := now - s.once; {
	case s.once == 0 || since >= m.cfg.TokenTimeout:
		s.once = max(now, 1)
	case since > m.cfg.TokenTimeout/lateShare:
		return false
	}
	s.doubt = false
	return true
}

// askSizeAnew forgets all answers.
func (m *Machine) askSizeAnew(now time.Duration) {
	s := &m.size
	s.wanted = make([]bool, m.n)
	for i := range s.wanted {
		s.wanted[i] = i != m.me
	}
	s.group, s.doubt, s.failed, s.before, s.lacking = m.reach.open, false, false, s.number, m.n-1
	s.askAt, s.every, s.since = max(now, s.rest), m.cfg.TokenTimeout/reachFirst, now
}
