// SPDX-License-Identifier: Apache-2.0

package ring

import "time"

// trip is how long the token takes to give a sign of life after I have sent it on: data of a later visit, or its return. From
// that comes how long to wait for one before the token is sent again, much as from round-trip times in RFC 6298: the mean and
// twice the spread (a copy too many costs one datagram, a wait too long holds up everybody), doubled with every vain wait until a
// trip was measured again; but no longer than Config.TokenRetransmit, nor shorter than a small part of it.
//
// Deviation: the papers have one time for it, which must be longer than an idle token is held. Of four daemons that lose one
// datagram of twenty every fifth rotation would wait for it, ten times as long as a rotation takes. While there is a load
// nobody holds the token, so a sign is due soon.
type trip struct {
	soon         bool          // nobody will hold the token that I sent
	sentAt       time.Duration // when, if its trip is measured; else zero
	mean, spread time.Duration
	vain         uint // waits since the last measured trip
}

// shortestWait is the part of Config.TokenRetransmit that is waited for at least: 0.8 ms by default. The timers of a busy
// machine are no more exact than that.
const shortestWait = 32

// start notes that the token is sent, and returns how long to wait for a sign. soon says that nobody will hold it.
func (p *trip) start(now, longest time.Duration, soon bool) time.Duration {
	p.soon, p.sentAt = soon, 0
	if soon {
		p.sentAt = now
	}
	return p.wait(longest)
}

func (p *trip) wait(longest time.Duration) time.Duration {
	if !p.soon || p.mean == 0 {
		return longest
	}
	return min(max(p.mean+2*p.spread, longest/shortestWait)<<p.vain, longest)
}

// again notes that the token is sent again, and returns how long to wait then. Of which of both a sign is cannot be told, so
// it does not count.
func (p *trip) again(longest time.Duration) time.Duration {
	p.sentAt = 0
	p.vain = min(p.vain+1, 5) // 2 to this power is shortestWait
	return p.wait(longest)
}

// end notes a sign.
func (p *trip) end(now time.Duration) {
	if p.sentAt == 0 {
		return
	}
	took := max(now-p.sentAt, 1)
	p.sentAt, p.vain = 0, 0
	if p.mean == 0 {
		p.mean, p.spread = took, took/2
		return
	}
	off := max(took-p.mean, p.mean-took)
	p.spread += (off - p.spread) / 4
	p.mean += (took - p.mean) / 8
}
