// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/hmac"
	"encoding/binary"
	"net/netip"
	"time"
)

// A hello is what two daemons prove with that they live: a datagram of this package's own.
//
//	+0  salt of whom it is for 12
//	+12 the cookie that was asked with, or zero  16
//	+28 a cookie that is to come back, or zero   16
//
// Cookies are made anew from the sender's salt and the time when they are looked at, so that asking takes no memory.
const (
	helloSize  = saltSize + 2*cookieSize
	cookieSize = 16
	helloBytes = helloSize + Overhead // of the datagram
)

const (
	// cookiePeriod is for how long a cookie is the same; it counts until the end of the next period. An answer comes within a
	// round trip.
	cookiePeriod = 10 * time.Second
	// askInterval is how often one sender is asked at most at one address: it may send a window of packets before its answer is
	// here.
	askInterval = 20 * time.Millisecond
	// askSlots bounds what is remembered of who was asked. Senders that share a slot are asked more often, not less: an
	// outsider who sends what dead daemons have sent cannot keep a living one from being asked. Nor can one who sends again
	// what a living newcomer has sent: the question goes to where the datagram came from, and at each address the sender is
	// asked as if there were no other. If he puts the newcomer's own address on it, the question goes to the newcomer.
	askSlots = 256
	// silentAfter is how long a sender may stay without proof before that is told apart from a beginning.
	silentAfter = 2 * time.Second
)

type cookie [cookieSize]byte

// asked is who was asked last, and where, of those who share a slot.
type asked struct {
	salt   Salt
	from   netip.AddrPort
	known  bool
	first  time.Duration
	latest time.Duration
}

// cookieFor is what the sender with a salt has to bring back.
func (x *Box) cookieFor(salt *Salt, period uint64) cookie {
	x.cookies.Reset()
	x.cookies.Write(salt[:])
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], period)
	x.cookies.Write(p[:])
	return cookie(x.cookies.Sum(x.cookieSum[:0])[:cookieSize])
}

func period(now time.Duration) uint64 { return uint64(now / cookiePeriod) }

// isMine reports whether c is a cookie that I have given the sender with a salt lately.
func (x *Box) isMine(now time.Duration, salt *Salt, c *cookie) bool {
	for back := range uint64(2) {
		if p := period(now); p >= back {
			want := x.cookieFor(salt, p-back)
			if hmac.Equal(want[:], c[:]) {
				return true
			}
		}
	}
	return false
}

// askSlot is where it is remembered that a sender was asked at an address. It need only spread: sharing harms nobody.
func askSlot(salt *Salt, from netip.AddrPort) int {
	ip := from.Addr().As16()
	n := uint32(salt[0])
	for _, b := range ip {
		n = n*31 + uint32(b)
	}
	n = n*31 + uint32(from.Port())
	return int((n ^ n>>8 ^ n>>16) % askSlots)
}

// ask is the hello for a sender that is not known to live, or nil if it was asked just now at the address that its datagram came
// from. silent says that it has been asked there for a while.
func (x *Box) ask(now time.Duration, salt *Salt, from netip.AddrPort) (hello []byte, silent bool) {
	s := &x.asked[askSlot(salt, from)]
	switch {
	case !s.known || s.salt != *salt || s.from != from:
		*s = asked{salt: *salt, from: from, known: true, first: now, latest: now}
	case now-s.latest >= cookiePeriod:
		s.first, s.latest = now, now // it was away
	case now-s.latest < askInterval:
		return nil, now-s.first >= silentAfter
	default:
		s.latest = now
	}
	c := x.cookieFor(salt, period(now))
	return x.hello(salt, nil, &c), now-s.first >= silentAfter
}

// hello seals one. Nil cookies are zero.
func (x *Box) hello(to *Salt, back, ask *cookie) []byte {
	b := &x.helloBody
	*b = [helloSize]byte{}
	copy(b[:], to[:])
	if back != nil {
		copy(b[saltSize:], back[:])
	}
	if ask != nil {
		copy(b[saltSize+cookieSize:], ask[:])
	}
	x.helloBuf = x.seal(x.helloBuf[:0], kindHello, b[:])
	return x.helloBuf
}

// handleHello acts on a hello that has opened, of the sender with a salt, and returns the answer, if it wants one.
func (x *Box) handleHello(now time.Duration, salt *Salt, counter uint64, body []byte) []byte {
	if len(body) != helloSize || Salt(body[:saltSize]) != x.salt {
		return nil
	}
	back, ask := cookie(body[saltSize:]), cookie(body[saltSize+cookieSize:])
	_, known := x.senders[*salt]
	if !known && back != (cookie{}) && x.isMine(now, salt, &back) {
		known = x.admit(now, salt, counter)
	}
	if ask == (cookie{}) {
		return nil
	}
	if known {
		return x.hello(salt, &ask, nil)
	}
	// Who asks wants to talk, and my own question goes the same way: it saves a datagram that would be lost.
	mine := x.cookieFor(salt, period(now))
	return x.hello(salt, &ask, &mine)
}
