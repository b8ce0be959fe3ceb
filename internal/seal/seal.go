// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	saltSize   = 12
	headerSize = 4 + 4 + saltSize + 8
	tagSize    = 16
	// Overhead is how much longer a datagram is when it is sealed.
	Overhead = headerSize + tagSize

	version = 1
	// maxSenders bounds the table of senders: twice as many as a cluster can have, so that all may restart at a time. Past it
	// the one that was silent longest is forgotten, and has to prove again that it lives; but not before forgetAfter, when no
	// answer of it that was recorded counts any more. Until then newcomers wait.
	maxSenders  = 512
	forgetAfter = 2 * cookiePeriod
)

// The kinds of sealed datagrams.
const (
	kindPacket = iota
	kindHello
	kindEnd
)

// Salt is what a daemon draws when it starts, and what its ciphers are derived with.
type Salt [saltSize]byte

// Verdict is what became of a datagram.
type Verdict uint8

const (
	// Opened: it is a packet for the machine.
	Opened Verdict = iota
	// Hello: it was between two boxes, and is done with.
	Hello
	// Own: it came back to its sender, as multicasts do.
	Own
	// Sealed: it is sealed, and this daemon has no key.
	Sealed
	// Plain: it is not sealed.
	Plain
	// Malformed: it is too short, or of a version that is not known here.
	Malformed
	// OtherKey: it is sealed with a key that is none of ours.
	OtherKey
	// Forged: it does not open with the key that it names.
	Forged
	// Replayed: it was taken before, or may have been.
	Replayed
	// Unproven: its sender has yet to prove that it lives, and is asked to.
	Unproven
	// Silent: its sender was asked for a while, and nothing came back.
	Silent

	verdicts
)

var verdictNames = [verdicts]string{"opened", "hello", "own", "sealed", "unsealed", "format", "key", "forged", "replayed", "unproven", "silent"}

// String is a word for metrics.
func (v Verdict) String() string { return verdictNames[v] }

// Stats counts verdicts. Any goroutine may read it.
type Stats struct {
	counts [verdicts]atomic.Uint64
}

// Count counts a verdict.
func (s *Stats) Count(v Verdict) { s.counts[v].Add(1) }

// Of is how often a verdict was given.
func (s *Stats) Of(v Verdict) uint64 { return s.counts[v].Load() }

// Ignored are the counts of all verdicts that made a datagram useless, by name; those that never occurred are left out.
func (s *Stats) Ignored() map[string]uint64 {
	m := map[string]uint64{}
	for v := Sealed; v < verdicts; v++ {
		if n := s.Of(v); n > 0 {
			m[v.String()] = n
		}
	}
	return m
}

// IsSealed reports whether b looks like a sealed datagram, for daemons that have no key.
func IsSealed(b []byte) bool { return len(b) >= 2 && b[0] == 'E' && b[1] == 'S' }

// KeyOf is the ID of the key that a sealed datagram says it is sealed with; false if it is too short to say.
func KeyOf(b []byte) (KeyID, bool) {
	if len(b) < Overhead {
		return 0, false
	}
	return KeyID(binary.LittleEndian.Uint32(b[4:])), true
}

// sender is a daemon that has proved to live.
type sender struct {
	ciphers [MaxKeys]cipher.AEAD // by key; nil: it has not used that one yet
	seen    window
	heard   time.Duration
}

// Box seals what one daemon sends and opens what it receives. It is not safe for concurrent use.
type Box struct {
	keys     *Keys
	derivers [MaxKeys]*deriver

	salt    Salt
	own     cipher.AEAD
	counter uint64
	nonce   [12]byte // the counter, behind four zero bytes; here because what goes through an interface is on the heap

	senders map[Salt]*sender

	cookies   hash.Hash // HMAC under a secret of this start
	cookieSum [sha256.Size]byte
	asked     [askSlots]asked
	helloBody [helloSize]byte
	helloBuf  []byte
}

// New returns the box of a daemon that starts, with a salt drawn at random.
func New(keys *Keys) *Box {
	x := &Box{senders: make(map[Salt]*sender), helloBuf: make([]byte, 0, helloBytes)}
	rand.Read(x.salt[:]) // never fails
	var secret [32]byte
	rand.Read(secret[:])
	x.cookies = hmac.New(sha256.New, secret[:])
	x.SetKeys(keys)
	return x
}

// Keys are those in force.
func (x *Box) Keys() *Keys { return x.keys }

// SetKeys replaces the keys. What is sealed from now on is sealed with the first of them; who was known stays known, and what
// only a key that is gone would open stays closed. The counter goes on, so that a key which comes back has no nonce twice.
func (x *Box) SetKeys(keys *Keys) {
	before := x.keys
	x.keys = keys
	x.derivers = [MaxKeys]*deriver{}
	for i := range keys.list {
		x.derivers[i] = newDeriver(&keys.list[i])
	}
	x.own = x.derivers[0].cipher(&x.salt)
	for _, s := range x.senders {
		old := s.ciphers
		s.ciphers = [MaxKeys]cipher.AEAD{}
		for i := range keys.list {
			for j := range before.list {
				if keys.list[i].equal(&before.list[j]) {
					s.ciphers[i] = old[j]
				}
			}
		}
	}
}

// Seal appends p, sealed, to dst, which must not overlap it.
func (x *Box) Seal(dst, p []byte) []byte { return x.seal(dst, kindPacket, p) }

func (x *Box) seal(dst []byte, kind byte, p []byte) []byte {
	x.counter++
	le := binary.LittleEndian
	at := len(dst)
	dst = append(dst, 'E', 'S', version, kind)
	dst = le.AppendUint32(dst, uint32(x.keys.list[0].id))
	dst = append(dst, x.salt[:]...)
	dst = le.AppendUint64(dst, x.counter)
	le.PutUint64(x.nonce[4:], x.counter)
	return x.own.Seal(dst, x.nonce[:], p, dst[at:])
}

// Open opens b, which came from an address, in place. packet is there if the verdict is Opened, and is a part of b. A hello that is not nil is to be sent
// to where b came from; it is valid until the next call of any method. What a datagram of an outsider costs at most is the
// derivation of a cipher and one attempt to open it, and a hello that is not longer than the shortest datagram he must have
// recorded for that.
func (x *Box) Open(now time.Duration, from netip.AddrPort, b []byte) (packet, hello []byte, v Verdict) {
	switch {
	case !IsSealed(b):
		return nil, nil, Plain
	case len(b) < Overhead || b[2] != version || b[3] >= kindEnd:
		return nil, nil, Malformed
	}
	salt := (*Salt)(b[8:])
	if *salt == x.salt {
		return nil, nil, Own
	}
	id, _ := KeyOf(b)
	k := x.keys.index(id)
	if k < 0 {
		return nil, nil, OtherKey
	}
	counter := binary.LittleEndian.Uint64(b[8+saltSize:])
	s := x.senders[*salt]
	if s != nil && !s.seen.isNew(counter) {
		return nil, nil, Replayed
	}
	var open cipher.AEAD
	if s != nil {
		open = s.ciphers[k]
	}
	if open == nil {
		open = x.derivers[k].cipher(salt)
	}
	binary.LittleEndian.PutUint64(x.nonce[4:], counter)
	p, err := open.Open(b[headerSize:headerSize], x.nonce[:], b[headerSize:], b[:headerSize])
	if err != nil {
		return nil, nil, Forged
	}
	if s != nil {
		s.ciphers[k] = open
		s.seen.take(counter)
		s.heard = now
	}
	switch {
	case b[3] == kindHello:
		hello = x.handleHello(now, salt, counter, p)
		if s == nil && x.senders[*salt] != nil {
			x.senders[*salt].ciphers[k] = open
		}
		return nil, hello, Hello
	case s == nil:
		hello, silent := x.ask(now, salt, from)
		if silent {
			return nil, hello, Silent
		}
		return nil, hello, Unproven
	}
	return p, nil, Opened
}

// admit puts a sender into the table that has proved to live by the datagram with a counter. What it has sent before that is
// never taken. It reports whether there was room.
func (x *Box) admit(now time.Duration, salt *Salt, counter uint64) bool {
	if len(x.senders) >= maxSenders {
		oldest, silentSince := Salt{}, now
		for salt, s := range x.senders {
			if s.heard < silentSince {
				oldest, silentSince = salt, s.heard
			}
		}
		if now-silentSince < forgetAfter {
			return false
		}
		delete(x.senders, oldest)
	}
	s := &sender{heard: now}
	s.seen.high, s.seen.floor = counter, counter
	x.senders[*salt] = s
	return true
}
