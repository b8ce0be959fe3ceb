// SPDX-License-Identifier: Apache-2.0

// Package packet is the encoding that daemons speak among each other, one packet to a UDP datagram.
//
// Every packet has the same outer header, and a body:
//
//	 0               4               8                               16
//	+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
//	|'E' 'V'|ver|knd| flags |  tag  |          cluster id           |   tag: low 16 bits of the sender's name hash
//	+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
//	|      sender incarnation       |            counter            |
//	+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
//	|   key epoch   |   checksum    |  body ...
//	+---+---+---+---+---+---+---+---+
//
// All integers are little-endian. The key epoch is 0, and the checksum is the CRC32C of the whole packet with the checksum
// taken as zero, so corruption counts as loss (M-3). Where daemons have a key, the shell seals packets as a whole, header and
// all (internal/seal, decision 0010); what is here knows nothing of that. Other epochs are kept for a body sealed behind this
// header, and refused.
//
// Parsing never trusts a length: every bound is checked before it is used, and nothing is allocated on failure. Parsed
// packets borrow their slices from the datagram.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"evensong/internal/proto/crc32c"
	"evensong/internal/proto/evs"
)

// Version is the packet format. A daemon refuses others by name, so that a rolling upgrade can tell.
const Version = 1

// HeaderSize is the length of the outer header in bytes.
const HeaderSize = 40

// MaxDatagram is the largest packet ever sent or accepted: what UDP over IPv4 can carry.
const MaxDatagram = 65507

// SealRoom is how much longer a packet may become before it is sent, where the shell seals datagrams: it is left free where a
// packet's length is bounded by MaxDatagram alone.
const SealRoom = 64

// Kind says what a packet's body is.
type Kind uint8

const (
	// KindData carries pieces of messages at a position of a ring.
	KindData Kind = iota + 1
	// KindToken is the ring's token.
	KindToken
	// KindJoin is a daemon's proposal while it gathers.
	KindJoin
	// KindProbe is the same body sent in operational state, so that connectivity is known and components find each other.
	KindProbe
	// KindCommit is the Commit token.
	KindCommit
	// KindHurry asks who holds the token for it.
	KindHurry
	// KindReach asks whether a group address reaches its receiver, or answers that.
	KindReach
	// KindSize asks whether datagrams of its length reach their receiver, or answers that.
	KindSize

	kindEnd
)

var kindNames = [...]string{KindData: "data", KindToken: "token", KindJoin: "join", KindProbe: "probe", KindCommit: "commit", KindHurry: "hurry", KindReach: "reach", KindSize: "size"}

// String is the lower-case name.
func (k Kind) String() string {
	if k > 0 && k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// The ways in which a packet is unusable. Each is a reason to drop and count, never to stop.
var (
	ErrShort    = errors.New("packet too short")
	ErrMagic    = errors.New("not an Evensong packet")
	ErrVersion  = errors.New("other packet version")
	ErrKind     = errors.New("unknown packet kind")
	ErrCluster  = errors.New("packet of another cluster")
	ErrSealed   = errors.New("sealed packet, and no key")
	ErrChecksum = errors.New("checksum differs")
	ErrBody     = errors.New("malformed body")
)

// Header is a parsed outer header.
type Header struct {
	Kind    Kind
	Sender  evs.Incarnation
	Counter uint64
}

// ClusterID turns a cluster's name into the number that packets carry.
func ClusterID(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte("evensong cluster\x00"))
	h.Write([]byte(name))
	return h.Sum64()
}

// Sealer finishes packets of one sender: it writes outer headers, with a counter that never repeats. It belongs to
// the owner of the machine and is not safe for concurrent use.
type Sealer struct {
	cluster uint64
	sender  evs.Incarnation
	tag     uint16
	counter uint64
}

// NewSealer returns the sealer of the daemon me in the named cluster.
func NewSealer(cluster string, me evs.ProcID) *Sealer {
	h := fnv.New32a()
	h.Write([]byte(me.Name))
	return &Sealer{cluster: ClusterID(cluster), sender: me.Inc, tag: uint16(h.Sum32())}
}

// Seal writes the outer header into the first HeaderSize bytes of b, of which the rest is the body.
func (s *Sealer) Seal(b []byte, kind Kind) {
	s.counter++
	b[0], b[1], b[2], b[3] = 'E', 'V', Version, byte(kind)
	le := binary.LittleEndian
	le.PutUint16(b[4:], 0)
	le.PutUint16(b[6:], s.tag)
	le.PutUint64(b[8:], s.cluster)
	le.PutUint64(b[16:], uint64(s.sender))
	le.PutUint64(b[24:], s.counter)
	le.PutUint32(b[32:], 0)
	le.PutUint32(b[36:], 0)
	le.PutUint32(b[36:], crc32c.Sum(b))
}

// Open checks the outer header of a datagram and returns it with the body, which aliases b. The checksum field of b
// is zeroed in passing and restored, so b must be writable and not shared.
func Open(cluster uint64, b []byte) (Header, []byte, error) {
	if len(b) < HeaderSize {
		return Header{}, nil, ErrShort
	}
	if b[0] != 'E' || b[1] != 'V' {
		return Header{}, nil, ErrMagic
	}
	if b[2] != Version {
		return Header{}, nil, ErrVersion
	}
	k := Kind(b[3])
	if k == 0 || k >= kindEnd {
		return Header{}, nil, ErrKind
	}
	le := binary.LittleEndian
	if le.Uint64(b[8:]) != cluster {
		return Header{}, nil, ErrCluster
	}
	if le.Uint32(b[32:]) != 0 {
		return Header{}, nil, ErrSealed
	}
	sum := le.Uint32(b[36:])
	le.PutUint32(b[36:], 0)
	got := crc32c.Sum(b)
	le.PutUint32(b[36:], sum)
	if got != sum {
		return Header{}, nil, ErrChecksum
	}
	return Header{Kind: k, Sender: evs.Incarnation(le.Uint64(b[16:])), Counter: le.Uint64(b[24:])}, b[HeaderSize:], nil
}
