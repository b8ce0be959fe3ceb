// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"strconv"
	"strings"

	"evensong/internal/proto/evs"
)

// Order is the byte order of a word, as its mark tells. The zero value is LittleEndian, which is what our daemon and
// our client write (client-protocol 3.1: several clients never look at the marks of what they receive).
type Order uint8

// The two orders.
const (
	LittleEndian Order = iota
	BigEndian
)

// String is "little-endian" or "big-endian".
func (o Order) String() string {
	if o == BigEndian {
		return "big-endian"
	}
	return "little-endian"
}

// Uint32 reads the word at the start of b.
func (o Order) Uint32(b []byte) uint32 {
	if o == BigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// PutUint32 writes the word to the start of b.
func (o Order) PutUint32(b []byte, v uint32) {
	if o == BigEndian {
		binary.BigEndian.PutUint32(b, v)
		return
	}
	binary.LittleEndian.PutUint32(b, v)
}

// AppendUint32 appends the word to dst.
func (o Order) AppendUint32(dst []byte, v uint32) []byte {
	if o == BigEndian {
		return binary.BigEndian.AppendUint32(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, v)
}

// Mark is the byte-order mark: the same pattern after a swap of the bytes. Both bits set: the word is little-endian;
// both clear: big-endian (client-protocol 3.1).
const Mark uint32 = 0x80000080

// mark is what o adds to a word that carries a mark.
func (o Order) mark() uint32 {
	if o == BigEndian {
		return 0
	}
	return Mark
}

// markedOrder reads the mark of the four bytes at the start of b. It is false when only half of the mark is there.
func markedOrder(b []byte) (Order, bool) {
	switch lo, hi := b[0]&0x80 != 0, b[3]&0x80 != 0; {
	case lo && hi:
		return LittleEndian, true
	case !lo && !hi:
		return BigEndian, true
	}
	return BigEndian, false
}

// Type is the type word without its mark (client-protocol 3.2).
type Type uint32

// The bits of the type word.
const (
	TypeUnreliable         Type = 0x00000001
	TypeReliable           Type = 0x00000002
	TypeFIFO               Type = 0x00000004
	TypeCausal             Type = 0x00000008
	TypeAgreed             Type = 0x00000010
	TypeSafe               Type = 0x00000020
	TypeSelfDiscard        Type = 0x00000040 // with a service: not to me
	TypeCausedByJoin       Type = 0x00000100
	TypeCausedByLeave      Type = 0x00000200 // alone: self-leave
	TypeCausedByDisconnect Type = 0x00000400
	TypeCausedByNetwork    Type = 0x00000800
	TypeRegMemb            Type = 0x00001000 // a view
	TypeTransition         Type = 0x00002000 // the transitional signal
	TypeJoin               Type = 0x00010000
	TypeLeave              Type = 0x00020000
	TypeKill               Type = 0x00040000
	TypeGroups             Type = 0x00080000 // between daemons of the original; refused from clients
	TypeReject             Type = 0x00400000 // refused by the access rules
	TypeDropRecv           Type = 0x01000000 // of the receive call; transported when a client sends it
	TypeDontBlock          Type = 0x10000000 // of the flush layer's receive call; transported
	TypeFlushReq           Type = 0x20000000 // inside the flush layer only; transported
	TypeSubgroupCast       Type = 0x40000000 // flush layer, travels
)

// The masks of the type word.
const (
	MaskRegular    Type = 0x0000003F // the six services
	MaskCause      Type = 0x00000F00
	MaskMembership Type = 0x00003F00 // views, transitional signal, self-leave
	MaskCommand         = TypeJoin | TypeLeave | TypeKill
	MaskReserved   Type = 0x003FC000 // the public mask of reserved bits; the three commands are in it
	// MaskDaemonOnly is what no client may send: bits that only a daemon sets, and the original's internal ones. The
	// original transports some of them and stops at others; we refuse all (client-protocol 4.6, trap 10).
	MaskDaemonOnly = MaskMembership | (MaskReserved &^ MaskCommand) | TypeReject
)

// typeNames is in the order of bits, for String.
var typeNames = [...]struct {
	bit  Type
	name string
}{
	{TypeUnreliable, "UNRELIABLE"}, {TypeReliable, "RELIABLE"}, {TypeFIFO, "FIFO"}, {TypeCausal, "CAUSAL"}, {TypeAgreed, "AGREED"},
	{TypeSafe, "SAFE"}, {TypeSelfDiscard, "SELF_DISCARD"}, {TypeCausedByJoin, "CAUSED_BY_JOIN"}, {TypeCausedByLeave, "CAUSED_BY_LEAVE"},
	{TypeCausedByDisconnect, "CAUSED_BY_DISCONNECT"}, {TypeCausedByNetwork, "CAUSED_BY_NETWORK"}, {TypeRegMemb, "REG_MEMB"},
	{TypeTransition, "TRANSITION"}, {TypeJoin, "JOIN"}, {TypeLeave, "LEAVE"}, {TypeKill, "KILL"}, {TypeGroups, "GROUPS"},
	{TypeReject, "REJECT"}, {TypeDropRecv, "DROP_RECV"}, {TypeDontBlock, "DONT_BLOCK"}, {TypeFlushReq, "FLUSH_REQ"},
	{TypeSubgroupCast, "SUBGROUP_CAST"},
}

// String lists the names of the bits, "AGREED|SELF_DISCARD"; unknown bits are one hexadecimal number at the end.
func (t Type) String() string {
	var parts []string
	for _, n := range typeNames {
		if t&n.bit != 0 {
			parts = append(parts, n.name)
			t &^= n.bit
		}
	}
	if t != 0 || len(parts) == 0 {
		parts = append(parts, "0x"+strconv.FormatUint(uint64(t), 16))
	}
	return strings.Join(parts, "|")
}

// Service is the service that the word asks for; false when it has none or several of the six bits.
func (t Type) Service() (evs.Service, bool) {
	switch t & MaskRegular {
	case TypeUnreliable:
		return evs.Unreliable, true
	case TypeReliable:
		return evs.Reliable, true
	case TypeFIFO:
		return evs.FIFO, true
	case TypeCausal:
		return evs.Causal, true
	case TypeAgreed:
		return evs.Agreed, true
	case TypeSafe:
		return evs.Safe, true
	}
	return 0, false
}

// TypeOf is the type word of a service; zero for a value that is none of the six.
func TypeOf(s evs.Service) Type {
	if !s.Valid() {
		return 0
	}
	return TypeUnreliable << (s - evs.Unreliable)
}

// Cause is the cause of a view; false when there is not exactly one.
func (t Type) Cause() (evs.Cause, bool) {
	switch t & MaskCause {
	case TypeCausedByJoin:
		return evs.CausedByJoin, true
	case TypeCausedByLeave:
		return evs.CausedByLeave, true
	case TypeCausedByDisconnect:
		return evs.CausedByDisconnect, true
	case TypeCausedByNetwork:
		return evs.CausedByNetwork, true
	}
	return 0, false
}

// TypeOfCause is the cause's bit; zero for a value that is none of the four.
func TypeOfCause(c evs.Cause) Type {
	if c < evs.CausedByJoin || c > evs.CausedByNetwork {
		return 0
	}
	return TypeCausedByJoin << (c - evs.CausedByJoin)
}

// Kind is what a client received (client-protocol 3.2, classification).
type Kind uint8

// The kinds of frames that a daemon sends.
const (
	KindUnknown    Kind = iota // none of the below; a client ignores it
	KindRegular                // a message of a client
	KindReject                 // own request, refused by the access rules
	KindView                   // regular membership message
	KindTransition             // transitional signal
	KindSelfLeave              // own leave was ordered
)

// String is the lower-case name.
func (k Kind) String() string {
	switch k {
	case KindRegular:
		return "regular"
	case KindReject:
		return "reject"
	case KindView:
		return "view"
	case KindTransition:
		return "transition"
	case KindSelfLeave:
		return "self-leave"
	case KindUnknown:
		return "unknown"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Kind classifies the type word of a frame from a daemon.
func (t Type) Kind() Kind {
	switch {
	case t&TypeReject != 0:
		return KindReject
	case t&MaskRegular != 0:
		return KindRegular
	case t&TypeRegMemb != 0:
		return KindView
	case t&TypeTransition != 0:
		return KindTransition
	case t&TypeCausedByLeave != 0:
		return KindSelfLeave
	}
	return KindUnknown
}

// Hint is the hint word as it travels, mark included. Daemons pass it on untouched: its order is the sender's and by
// convention that of the application's data (client-protocol 3.1, 3.3).
//
//	little-endian: 80 lo hi 80     big-endian: 00 hi lo 00
type Hint [4]byte

// NewHint is the hint of a message type.
func NewHint(messType int16, o Order) (h Hint) {
	o.PutUint32(h[:], uint32(uint16(messType))<<8|o.mark())
	return h
}

// Order is the sender's byte order. Half a mark counts as big-endian.
func (h Hint) Order() Order {
	o, _ := markedOrder(h[:])
	return o
}

// MessType is the sixteen bits that the application chose.
func (h Hint) MessType() int16 { return int16(uint16(h.Order().Uint32(h[:]) >> 8)) }

// Valid reports whether no bit outside mark and message type is set (client-protocol 4.5, rule 4). The rule is the
// same in both orders, and half a mark is inside it.
func (h Hint) Valid() bool { return h[0]&0x7f == 0 && h[3]&0x7f == 0 }
