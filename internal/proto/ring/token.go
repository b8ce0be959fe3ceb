// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"net/netip"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// Verdict is what Accept makes of a token.
type Verdict uint8

const (
	// Dropped: not acceptable here and now; nothing happened.
	Dropped Verdict = iota
	// Accepted: Visit must be called next.
	Accepted
	// AcceptedInstall: as Accepted, and recovery has ended: order installs the configuration and calls Operational,
	// then Visit.
	AcceptedInstall
	// Held: accepted, and kept because the ring is idle.
	Held
)

// idleArrivals is how often the token must have come round with the same seq, everything received and nothing asked
// for, before its next such arrival is held. Deviation: one more than the step list has. When the aru arrives equal to
// seq for the first time, a member may have put a lower one on the token in that rotation, before its owner raised it;
// only after two full rotations has everybody put this aru on the token twice, and so delivered what is Safe.
const idleArrivals = 2

// Accept judges a token of this ring. t is borrowed. 8.1.1.
func (m *Machine) Accept(now time.Duration, t *packet.Token) Verdict {
	if m.phase == Lost || m.waiting || m.held || m.self {
		return Dropped
	}
	if int(t.Sender) >= m.n || int(t.Sender) == m.me {
		return Dropped
	}
	// Due is the next one, from my predecessor or straight from who held it; or that of a later round, when it was handed over past me.
	if t.TokenSeq < m.expect || (t.TokenSeq-m.expect)%uint64(m.n) != 0 {
		// A copy of the one I accepted last would allow me to send mine again. I do not: my own timer does that, and
		// answering copies with copies feeds a storm on a network that doubles packets (LIVE-9).
		return Dropped
	}
	// The order begins behind what I hold and ends where I could still store it. Anything else did not come from this
	// ring's members, and would have me originate in a taken place, or ask for more than there is.
	if t.Seq < m.win.High() || t.Seq > m.win.Base()+storeSpan {
		return Dropped
	}
	rtr := append(m.token.RTR[:0], t.RTR...)
	m.token = *t
	m.token.RTR = rtr
	m.take(now, t.TokenSeq)
	return m.judge(now)
}

// judge decides what to do with the token just taken: install, hold, or go on.
func (m *Machine) judge(now time.Duration) Verdict {
	t := &m.token
	if m.phase == Recovering {
		m.goOn = true
		// 8.4.4. Everybody who lacks something below the install point has had the chance to lower the aru since I put
		// it there, so all have what recovery demands, and have promised.
		if m.putInstall && t.HasInstall && t.ARU >= t.Install {
			return AcceptedInstall
		}
		return Accepted
	}
	switch {
	case t.ARU != t.Seq || len(t.RTR) != 0:
		m.idle = 0
	case t.Seq != m.idleSeq:
		m.idle = 1
	default:
		m.idle++
	}
	m.idleSeq = t.Seq
	m.goOn, m.hurried = m.hurried, false
	// Deviation: the step list has the representative hold it. Who sent last is who most likely sends next, and all know who
	// that is, since they have all packets.
	if m.last != m.me || m.idle <= idleArrivals || m.goOn {
		return Accepted
	}
	// Deviation: not so long from now on, but from when I sent it last. Who waits for the next token looks at its clock since then, and one
	// that came late, because it was lost on its way, must not be late once more.
	until := m.releasedAt + m.cfg.Hold
	if until <= now {
		return Accepted
	}
	m.hold(until)
	return Held
}

// hold keeps the token until then.
func (m *Machine) hold(until time.Duration) {
	m.held, m.waiting = true, false
	m.holdUntil = until
}

// Release ends the hold of the token, if there is one, and reports whether Visit must be called, which sends it on.
func (m *Machine) Release() bool {
	if !m.held {
		return false
	}
	m.held, m.waiting, m.goOn = false, true, true
	return true
}

// Wake tells that there is something to send. It reports whether Visit must be called now, since the token is held here.
// Otherwise, if it may be held elsewhere, that member is asked to hurry.
func (m *Machine) Wake(now time.Duration, fx *Effects) bool {
	if m.phase != Operational {
		return false
	}
	if m.held {
		m.held, m.waiting = false, true // whether it goes on, Visit decides
		return true
	}
	if m.n > 1 && m.quiet && m.hurryAt == 0 {
		m.expectSign(now)
		if m.last == m.me {
			m.hurryAt = now + m.cfg.HurryInterval // it rests with nobody but me; in case others see that differently
		} else {
			m.sendHurry(now, m.addrs[m.last:m.last+1], fx)
		}
	}
	return false
}

// HandleHurry handles the wish of member from for the token and reports whether Visit must be called now.
func (m *Machine) HandleHurry(now time.Duration, from int) bool {
	if m.phase != Operational || from >= m.n || from == m.me {
		return false
	}
	if m.Release() {
		m.asker = from
		return true
	}
	// Deviation: a hurry that finds the token away is remembered for its next arrival, since it may have crossed the
	// token on the last hop to its hold (P-34); the step list would have the sender ask again.
	m.hurried = true
	m.expectSign(now)
	return false
}

// expectSign notes that nobody holds the token that I sent any longer, since somebody wants it: if there is no sign of it soon it is
// lost.
func (m *Machine) expectSign(now time.Duration) {
	if m.retryAt != 0 {
		m.retryAt = min(m.retryAt, now+m.cfg.TokenRetransmit)
	}
}

// nearTime is how long a rotation may take so that who has something to send need not hurry to say so.
const nearTime = 2 * time.Millisecond

// TokenNear reports whether the token is under way and should be here within nearTime by itself, on a ring that has something to
// do but not much: a visit under load has better things to do than to look for more.
func (m *Machine) TokenNear(now time.Duration) bool {
	return m.phase == Operational && m.n > 1 && !m.held && !m.waiting && !m.quiet && m.visitSent <= lingerBurst &&
		m.rotation <= nearTime && now-m.releasedAt <= nearTime
}

// Asked reports whether there is something to send, and whoever is taken to hold the token was asked for it and has not given it.
func (m *Machine) Asked() bool { return m.phase == Operational && m.n > 1 && m.hurryAt != 0 && m.quiet }

// Quiet reports whether nothing went on at my last visit, nor before it.
func (m *Machine) Quiet() bool { return m.quiet && !m.trip.soon }

// Pass reports whether a ring of one has its token ready for another visit, and takes it.
func (m *Machine) Pass(now time.Duration) bool {
	if !m.self || m.phase == Lost {
		return false
	}
	m.self = false
	m.take(now, m.token.TokenSeq)
	return true
}

// Passing reports whether Pass would return true.
func (m *Machine) Passing() bool { return m.self && m.phase != Lost }

// Away reports whether the token is not here.
func (m *Machine) Away() bool { return m.n > 1 && !m.held && !m.waiting }

// PassVerdict is Accept for the token of a ring of one, after Pass.
func (m *Machine) PassVerdict(now time.Duration) Verdict { return m.judge(now) }

// Visit handles the accepted token: retransmissions, new packets, lines, requests, and on it goes. 8.1.3 to 8.1.9. A lone
// sender may keep it for a moment after the packets: then it is held again, and a later call goes on from there.
func (m *Machine) Visit(now time.Duration, src Source, fx *Effects) {
	if !m.waiting {
		panic("ring: visit without a token")
	}
	m.waiting = false
	t := &m.token
	if !m.begun {
		m.watchFailure(now, t, fx)
		if fx.Lost != 0 {
			m.GiveUp()
			return
		}
		m.begun = true
		m.maybeAsk(now, fx)
		m.maybeAskSize(now, fx)
		m.flow.loss = muchLost(t, m.prevSeq)
		m.visitSent = m.answer(t, fx) // 3: before the token, and counted against flow control
		m.alone = m.lastSeq == t.Seq && m.foreign <= m.stable && m.visitSent == 0 && len(t.RTR) == 0
		t.FCC -= min(t.FCC, m.lastSent) // 4: my last round's count is still in it
	}

	// What was sent again takes its part of the personal window, so that a visit stays as long as the system's runs, but for a quarter of it: who
	// answers for somebody that lacks much would not come to say anything itself.
	personal := m.flow.personal - min(m.visitSent-m.visitNew, m.flow.personal*3/4) - m.visitNew
	allowed := min(personal, m.flow.global-int(t.FCC)-m.visitSent)
	if t.FCC < throttle {
		// Deviation: those who sent first would otherwise keep the whole window for good.
		allowed = max(allowed, min(personal, m.flow.global/m.n-m.visitSent))
	}
	if room := int64(t.ARU) + int64(m.cfg.MaxGap) - int64(t.Seq); int64(allowed) > room {
		allowed = int(room)
	}
	length := m.longest(t)
	first, sent, used := len(fx.Sends), 0, 0
	for used < allowed {
		room := (allowed - used) * m.cfg.PacketBytes
		p := m.originate(t, src, min(room, length), room > length)
		if p == nil {
			break
		}
		used += m.units(len(p.Buf))
		fx.Sends = append(fx.Sends, packet.Send{To: m.others, Bytes: p.Buf, Kind: packet.KindData, Ring: m.reach.open})
		sent++
	}
	fx.Sent += sent
	m.visitNew += used
	m.visitSent += used
	full := sent > 0 && used >= allowed && src.Pending() > 0
	if m.n == 1 {
		fx.Sends = fx.Sends[:first]
	}
	if m.lingers(used, src) {
		m.sealNew(fx.Sends[first:], sent)
		calm(fx.Sends[first:])
		until := m.holdUntil
		if m.visitNew == used && (until == 0 || until > now+m.cfg.Linger) {
			until = now + m.cfg.Linger
		}
		m.hold(until)
		return
	}

	if m.phase == Recovering {
		m.countBacklog(t, src)
	}
	m.putLine(t)
	m.straight = min(m.straight+1, straightVisits)
	m.sound = min(m.sound+1, soundVisits)
	m.request(t, m.arrivedSeq)
	if len(t.RTR) > 0 {
		m.sound = 0
	}

	// 8
	m.lastSent, m.lastNew = uint32(m.visitSent), m.visitNew
	if m.throttled && m.phase == Operational {
		m.lastSent += throttle
	}
	t.FCC += m.lastSent
	wasQuiet := m.quiet
	m.quiet = m.visitSent == 0 && len(t.RTR) == 0
	// Whoever gets a token after packets that are not stable sends it on, and so does a sender of more than it may linger with.
	loaded := m.visitNew > 0 || m.arrivedSeq > m.prevSeq+lingerPackets
	m.prevSeq = m.arrivedSeq

	// 9, and 8.2.2: all but the last packets of the accelerated window, the token, the rest. Deviation: what the system takes as one
	// piece is not cut in two, which would cost more than the next member gains, and the aru a rotation.
	hops := 1
	if m.handsOver() {
		hops = (m.asker + m.n - m.me) % m.n
	}
	if m.passedOver = hops > 1; m.passedOver {
		m.putARU = m.stable // those passed over have not answered for more
	}
	m.asker = -1
	t.TokenSeq += uint64(hops)
	t.Sender = uint16(m.me)
	if m.n == 1 {
		m.self = !m.maybeRest(src)
		fx.Released++
		m.tune(now, full, wasQuiet, src.Mean())
		return
	}
	before := sent // with the windows of this visit
	if !m.noAccel && used > m.cfg.WholeVisit/m.cfg.PacketBytes {
		for behind := 0; before > 0; before-- {
			if behind += m.units(len(fx.Sends[first+before-1].Bytes)); behind > m.flow.accelerated {
				break
			}
		}
	}
	m.sealNew(fx.Sends[first:], before)
	m.copyTo = m.addrs[(m.me+hops)%m.n:][:1]
	m.buildCopy(t)
	at := len(fx.Sends) - sent + before
	fx.Sends = append(fx.Sends, packet.Send{})
	copy(fx.Sends[at+1:], fx.Sends[at:])
	fx.Sends[at] = packet.Send{To: m.copyTo, Bytes: m.copyBuf, Kind: packet.KindToken}
	if m.sound < soundVisits {
		// Deviation: the papers send a token again when no sign of life comes. Everybody waits for that, and a copy costs little.
		// Behind the last packets it is not lost together with the first one.
		fx.Sends = append(fx.Sends, fx.Sends[at])
	}
	if wasQuiet && sent > 0 && used <= lingerBurst && src.Pending() == 0 && len(t.RTR) == 0 && m.phase == Operational {
		calm(fx.Sends[first:]) // most likely this is why the token is under way
	}
	fx.Released++
	m.tune(now, full, wasQuiet, src.Mean())
	longest := m.cfg.TokenRetransmit
	if m.quiet && !loaded {
		// It may be held, until Hold after its holder sent it on last: that was before now, and at most Hold after I did so last.
		longest = max(longest, min(now, m.releasedAt+m.cfg.Hold)+m.cfg.Hold*5/4-now)
	}
	m.retryAt = now + m.trip.start(now, longest, loaded)
	m.releasedAt = now
	m.lossAt = now + m.cfg.TokenTimeout
}

// calm marks what a visit sends for somebody who has said little on a ring where nothing was under way.
func calm(sends []packet.Send) {
	for i := range sends {
		sends[i].Calm = true
	}
}

// handsOver reports whether a token that was held goes straight to who asked for it. Deviation: the step list has it pass those
// between, who have nothing to do with it; each costs the asker a wake-up. They keep their chance to lower the aru of whatever was sent
// before this visit, as that is known to be stable; of what this visit sends I count nothing as stable until the token has passed all.
// Not twice in a row, so that who lacks something can say so.
func (m *Machine) handsOver() bool {
	return m.asker >= 0 && !m.passedOver && m.phase == Operational && m.stable >= m.arrivedSeq && len(m.token.RTR) == 0
}

// The token stays with a lone sender for Config.Linger, but in all no longer than an idle one. lingerPackets is how many packets
// it may send meanwhile, and lingerBurst how many at once: more than that is a load, which is better served by many messages
// in each packet and the token under way.
const (
	lingerPackets = 16
	lingerBurst   = 8
)

// lingers reports whether the token stays for a moment after this visit's new packets. Deviation: the step list sends it on
// at once. Who alone sends, one message after the other, would wait a rotation for each. Not if anybody else wants the token or
// lacks a packet, nor before all know that all have what others sent (by now everybody has put this aru on the token twice): their
// Safe messages do not wait for this.
func (m *Machine) lingers(sent int, src Source) bool {
	return sent > 0 && sent <= lingerBurst && m.visitNew < min(lingerPackets, m.flow.personal) &&
		m.n > 1 && m.phase == Operational && m.alone && !m.goOn && !m.hurried && !m.throttled && src.Pending() == 0
}

// throttle is more than any window, and 32 bits hold it for every member of the largest ring.
const throttle = 1 << 20

// Throttle leaves the other members no room for new packets until it is called with false: from my next visit on I count as
// if I had filled the window (flow control of the token). What I originate myself is up to my source. Messages of the
// recovery are not held up.
func (m *Machine) Throttle(on bool) { m.throttled = on }

// maybeRest keeps the token of a ring of one when there is nothing to do with it, until Wake.
func (m *Machine) maybeRest(src Source) bool {
	if m.phase != Operational || src.Pending() != 0 || m.stable != m.token.Seq {
		return false
	}
	m.held = true
	m.begun, m.visitNew, m.visitSent = false, 0, 0 // what Wake begins is another visit; this one has been counted
	return true
}

// originate fills the next packet, of at most room bytes, or returns nil if the source has nothing. 8.1.5.
func (m *Machine) originate(t *packet.Token, src Source, room int, more bool) *Packet {
	p := m.pool.Get(room)
	buf := p.Buf[:room]
	n := src.Fill(t.Seq+1, buf[packet.DataOffset:], more)
	if n == 0 {
		m.pool.Put(p)
		return nil
	}
	t.Seq++
	m.count++
	p.Buf = buf[:packet.DataOffset+n]
	if len(p.Buf) <= m.cfg.PacketBytes && room > m.cfg.PacketBytes { // little to say does not keep a large buffer
		q := m.pool.Get(m.cfg.PacketBytes)
		q.Buf = append(q.Buf[:0], p.Buf...)
		m.pool.Put(p)
		p = q
	}
	p.Describe(&packet.Data{Seq: t.Seq, Visit: m.accepted, Count: m.count, Sender: uint16(m.me)})
	m.store(p)
	return p
}

// sealNew writes the headers of new packets, now that it is known that those behind the first so many follow the token.
func (m *Machine) sealNew(sends []packet.Send, before int) {
	base := m.token.Seq - seq.Num(len(sends))
	m.level(sends[:before], base)
	m.level(sends[before:], base+seq.Num(before))
	for i, s := range sends {
		p := m.Packet(base + seq.Num(i) + 1)
		d := packet.Data{Ring: m.id, Seq: p.Seq, Visit: p.Visit, Count: p.Count, Sender: p.Sender, Filler: p.Filler}
		if i >= before {
			d.Flags |= packet.FlagPostToken
		}
		packet.PutDataHeader(s.Bytes, &d)
		m.sealer.Seal(s.Bytes, packet.KindData)
	}
}

// level gives packets that are sent one behind the other, from the position after base on, the length of the longest where a
// filler can: equally long ones go through the system as one. A source leaves no more room than that if it has more to send.
func (m *Machine) level(sends []packet.Send, base seq.Num) {
	long := 0
	for _, s := range sends {
		long = max(long, len(s.Bytes))
	}
	for i := range sends {
		s := &sends[i]
		if n := long - len(s.Bytes); n > 0 && n <= packet.MaxFiller {
			p := m.Packet(base + seq.Num(i) + 1)
			p.Buf, p.Filler = packet.AppendFiller(p.Buf, n), uint8(n)
			s.Bytes = p.Buf
		}
	}
}

// putLine applies the aru rule and moves the stable line. 8.1.6, 8.1.10.
func (m *Machine) putLine(t *packet.Token) {
	mine := m.win.ARU()
	if m.phase == Recovering && m.hasInstall {
		// Until I have installed, I answer for nothing behind the install point: a message there must not become safe
		// in a configuration that a member has not installed (EVS-16).
		mine = min(mine, m.install)
	}
	switch {
	case m.arrivedARU == m.arrivedSeq && mine >= t.Seq:
		t.ARU = t.Seq
	case mine < t.ARU, m.arrivedARU == m.arrivedSeq:
		// Whenever the aru is below seq somebody must answer for it, or nobody could raise it again (P-2).
		t.ARU, t.ARUID = min(t.ARU, mine), uint16(m.me)
	case t.ARUID == uint16(m.me):
		t.ARU = mine
	}
	if t.ARU == t.Seq {
		t.ARUID = packet.NoMember
	}
	if m.puts > 0 {
		m.stable = max(m.stable, min(m.putARU, t.ARU))
	}
	m.putARU = t.ARU
	m.puts++
	m.putInstall = m.phase == Recovering && t.HasInstall && t.ARU >= t.Install
}

// countBacklog keeps the sum of what members still have to rebroadcast, and finds the install point. 8.4.4.
func (m *Machine) countBacklog(t *packet.Token, src Source) {
	t.Backlog -= min(t.Backlog, m.lastBacklog)
	m.lastBacklog = uint32(src.Pending())
	t.Backlog += m.lastBacklog
	if t.Backlog == 0 {
		m.clear++
	} else {
		m.clear = 0
	}
	if !t.HasInstall && m.clear >= 2 {
		// Everybody was visited since the sum was last clear and nobody had anything left, so nothing is originated any
		// more before somebody installs. Deviation: who finds it writes it on the token; others would otherwise have to
		// tell it from packets of a member that has installed already.
		t.HasInstall, t.Install = true, t.Seq
	}
	if t.HasInstall && !m.hasInstall {
		m.hasInstall, m.install = true, t.Install
	}
	if m.hasInstall && m.win.ARU() >= m.install {
		m.promised = true
	}
}

// watchFailure finds a member that cannot receive: its aru stands still although it is answered. LIVE-6, P-12.
func (m *Machine) watchFailure(now time.Duration, t *packet.Token, fx *Effects) {
	if t.ARUID == packet.NoMember || t.ARU == t.Seq || t.ARU != m.stuckARU || t.ARUID != m.stuckID {
		m.stuckARU, m.stuckID, m.stuck, m.stuckFrom = t.ARU, t.ARUID, 0, now
		return
	}
	m.stuck++
	stuckFor := now - m.stuckFrom
	switch {
	case int(t.ARUID) == m.me && m.stuck >= m.cfg.FailToReceive && stuckFor >= m.cfg.TokenTimeout:
		fx.Lost = CannotReceive
	case int(t.ARUID) != m.me && int(t.ARUID) < m.n && m.stuck >= m.cfg.FailToReceive+2 && stuckFor >= m.cfg.TokenTimeout*5/4:
		// The member had its chance to leave by itself.
		fx.Lost, fx.Suspect = MemberCannotReceive, int(t.ARUID)
	}
}

func (m *Machine) buildCopy(t *packet.Token) {
	if cap(m.copyBuf) == 0 {
		m.copyBuf = make([]byte, 0, packet.HeaderSize+packet.MaxTokenSize)
	}
	m.copyBuf = packet.AppendToken(m.copyBuf[:packet.HeaderSize], t)
	m.sealer.Seal(m.copyBuf, packet.KindToken)
}

func (m *Machine) sendCopy(now time.Duration, fx *Effects) {
	m.sealer.Seal(m.copyBuf, packet.KindToken)
	fx.Sends = append(fx.Sends, packet.Send{To: m.copyTo, Bytes: m.copyBuf, Kind: packet.KindToken})
	longest := m.cfg.TokenRetransmit
	if m.quiet && !m.trip.soon {
		longest /= 2 // the first wait was long, and as many copies as on a busy ring shall go out before the ring is given up
	}
	m.retryAt = now + m.trip.again(longest)
	m.sound = 0
	fx.Retried++
	fx.Repeats++
}

func (m *Machine) sendHurry(now time.Duration, to []netip.AddrPort, fx *Effects) {
	b := packet.AppendHurry(make([]byte, packet.HeaderSize, packet.HeaderSize+packet.HurrySize), packet.Hurry{Ring: m.id, Sender: uint16(m.me)})
	m.sealer.Seal(b, packet.KindHurry)
	fx.Sends = append(fx.Sends, packet.Send{To: to, Bytes: b, Kind: packet.KindHurry})
	m.hurryAt = now + m.cfg.HurryInterval
}

// Advance handles the timers due at now and reports whether Visit must be called: the hold of a token has ended.
func (m *Machine) Advance(now time.Duration, fx *Effects) bool {
	if m.phase == Lost || m.n == 1 {
		return false
	}
	if m.held {
		if now >= m.holdUntil {
			return m.Release()
		}
		return false
	}
	if now >= m.lossAt {
		m.GiveUp()
		fx.Lost = TokenTimeout
		return false
	}
	if m.retryAt != 0 && now >= m.retryAt {
		m.sendCopy(now, fx)
	}
	if m.hurryAt != 0 && now >= m.hurryAt {
		m.sendHurry(now, m.others, fx) // whom I believed to have it has not let it go
	}
	return false
}
