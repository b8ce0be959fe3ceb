// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// answer sends what the token asks for and I hold, takes it off the list, and returns how many units that were. 8.1.3.
func (m *Machine) answer(t *packet.Token, fx *Effects) int {
	if len(t.RTR) == 0 {
		return 0
	}
	limit := m.cfg.GlobalWindow
	sent := 0 // units
	old := t.RTR
	var left []packet.Range
	for _, r := range old {
		for i := range seq.Num(r.Count) {
			n := r.First + i
			p := m.Packet(n)
			if p == nil || sent >= limit || m.restsFrom(n) {
				left = addRange(left, n)
				continue
			}
			times := min(m.answered[n].times+1, longestRest)
			m.answered[n] = reply{m.accepted, times}
			m.resend(p, times > 1, fx)
			sent += m.units(len(p.Buf))
			fx.Retried++
			m.size.failed = m.size.failed || times > 1 && int(p.Sender) == m.me && m.units(len(p.Buf)) > 1 && !m.cfg.LargerCut
		}
	}
	t.RTR = append(t.RTR[:0], left...)
	return sent
}

// longestRest bounds the rests between answers to requests for one packet: at most two to this power rotations.
const longestRest = 3

// reply notes that a member sent a packet again.
type reply struct {
	visit uint64
	times uint8
}

// restsFrom reports whether I leave a request for n to others this time. I have answered it, and it is there again, so
// my way to the one who asks may be dead, and I would take the request off the token before anybody who can help sees
// it (P-11). The rest grows with every answer, so that members with dead links do not take turns for ever.
func (m *Machine) restsFrom(n seq.Num) bool {
	r, ok := m.answered[n]
	return ok && m.n > 2 && m.accepted < r.visit+uint64(m.n)<<r.times
}

// resend sends p to everybody again, a copy for each if the group address may be why it is asked for once more.
func (m *Machine) resend(p *Packet, each bool, fx *Effects) {
	m.sentAgain(int(p.Sender))
	d := packet.Data{
		Ring: m.id, Seq: p.Seq, Visit: p.Visit, Count: p.Count, Sender: p.Sender,
		Flags: packet.FlagRetransmit | packet.DataFlags(p.Buf)&packet.FlagPostToken, Filler: p.Filler,
	}
	packet.PutDataHeader(p.Buf, &d)
	m.sealer.Seal(p.Buf, packet.KindData)
	fx.Sends = append(fx.Sends, packet.Send{To: m.others, Bytes: p.Buf, Kind: packet.KindData, Ring: m.reach.open && !each})
}

// request adds what I lack to the token's list, the lowest first. 8.1.7. On the accelerated ring only what the token of
// the previous rotation knew of: later packets may be behind it on their way (ARP14, III.A.2; P-10). Deviation: and what lies
// between two packets of one visit. Its sender sent it before the second of them, so it is lost, unless the network changes
// the order of what one sends (m.straight); and it is repaired a rotation sooner, for which everything behind it waits.
func (m *Machine) request(t *packet.Token, arrivedSeq seq.Num) {
	limit := arrivedSeq
	if !m.noAccel {
		limit = min(limit, m.prevSeq)
	}
	last := limit
	if m.straight >= straightVisits {
		last = max(limit, m.win.High())
	}
	if m.win.ARU() >= last {
		return
	}
	others := t.RTR
	var mine []packet.Range
	for n := m.win.NextHole(m.win.ARU(), last); n != 0 && len(mine) < packet.MaxRanges; {
		end := n + 1
		for end <= last && !m.win.Has(end) {
			end++
		}
		upTo := end - 1
		if before, behind := m.Packet(n-1), m.Packet(end); before == nil || behind == nil || before.Visit != behind.Visit {
			upTo = min(upTo, limit)
		}
		for ; n <= upTo; n++ {
			mine = addRange(mine, n)
		}
		n = m.win.NextHole(end, last)
	}
	t.RTR = mergeRanges(mine, others)
}

// straightVisits is how many visits must have passed since the network was last seen to change the order of what one sends,
// until a packet that is overtaken counts as lost.
const straightVisits = 100

// soundVisits is for how many visits after a sign of loss (a request, an answer to one, a token that was sent again) the token
// goes out twice. Of four daemons that lose one datagram of a hundred, every 25th rotation would wait for a lost token.
const soundVisits = 100

// watchOrder notes that a new packet that is no retransmission came behind the one that was sent after it.
func (m *Machine) watchOrder(d *packet.Data) {
	if d.Flags&packet.FlagRetransmit != 0 || d.Seq >= m.win.High() {
		return
	}
	if p := m.Packet(d.Seq + 1); p != nil && p.Visit == d.Visit {
		m.straight = 0
	}
}

// addRange adds position n, which is above all in rs.
func addRange(rs []packet.Range, n seq.Num) []packet.Range {
	if k := len(rs); k > 0 && rs[k-1].First+seq.Num(rs[k-1].Count) == n {
		rs[k-1].Count++
		return rs
	}
	return append(rs, packet.Range{First: n, Count: 1})
}

// mergeRanges is the union of two ascending lists, cut to what a token has room for: the lowest are kept (P-27).
func mergeRanges(a, b []packet.Range) []packet.Range {
	out := make([]packet.Range, 0, min(len(a)+len(b), packet.MaxRanges))
	for len(a) > 0 || len(b) > 0 {
		var r packet.Range
		if len(b) == 0 || len(a) > 0 && a[0].First <= b[0].First {
			r, a = a[0], a[1:]
		} else {
			r, b = b[0], b[1:]
		}
		if k := len(out); k > 0 {
			last := &out[k-1]
			end := last.First + seq.Num(last.Count)
			if r.First <= end {
				if e := r.First + seq.Num(r.Count); e > end {
					last.Count = uint32(e - last.First)
				}
				continue
			}
		}
		if len(out) == packet.MaxRanges {
			break
		}
		out = append(out, r)
	}
	return out
}
