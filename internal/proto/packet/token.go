// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/seq"
)

// Range is a run of positions that somebody lacks: First, First+1, ... Count of them.
type Range struct {
	First seq.Num
	Count uint32
}

// MaxRanges bounds the requests on one token, so that it fits one datagram of the smallest common MTU (P-27): who
// lacks more asks again next round, the lowest first.
const MaxRanges = 100

// NoMember is the empty AruID.
const NoMember = 1<<16 - 1

// Token is the ring's token: the right to send, and what the members tell each other in passing.
//
//	+0  ring sequence 8 · ring representative 8
//	+16 token seq 8     +24 seq 8       +32 aru 8      +40 install 8
//	+48 aru id 2 · sender 2 · fcc 4     +56 backlog 4 · flags 1 · zero 1 · number of ranges 2
//	+64 ranges: first 8 · count 4
//
// TokenSeq rises at every hop. Install is the install point of recovery, valid with HasInstall: a flag, not a magic
// number (P-37). Backlog is the sum of recovery packets that members still have to send.
type Token struct {
	Ring       evs.RingID
	TokenSeq   uint64
	Seq        seq.Num
	ARU        seq.Num
	Install    seq.Num
	ARUID      uint16 // index of the member that lowered the aru last, or NoMember
	Sender     uint16 // index of the member that sent this copy
	FCC        uint32 // packets sent in the last round, retransmissions included
	Backlog    uint32
	HasInstall bool
	RTR        []Range // ascending, disjoint
}

const (
	tokenFixed = 64
	rangeSize  = 12
)

// MaxTokenSize is the length of the body of a token with all the requests it has room for.
const MaxTokenSize = tokenFixed + rangeSize*MaxRanges

// AppendToken appends t's body to b, which already has room for the outer header.
func AppendToken(b []byte, t *Token) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, t.Ring.Seq)
	b = le.AppendUint64(b, uint64(t.Ring.Rep))
	b = le.AppendUint64(b, t.TokenSeq)
	b = le.AppendUint64(b, uint64(t.Seq))
	b = le.AppendUint64(b, uint64(t.ARU))
	b = le.AppendUint64(b, uint64(t.Install))
	b = le.AppendUint16(b, t.ARUID)
	b = le.AppendUint16(b, t.Sender)
	b = le.AppendUint32(b, t.FCC)
	b = le.AppendUint32(b, t.Backlog)
	var flags byte
	if t.HasInstall {
		flags = 1
	}
	b = append(b, flags, 0)
	b = le.AppendUint16(b, uint16(len(t.RTR)))
	for _, r := range t.RTR {
		b = le.AppendUint64(b, uint64(r.First))
		b = le.AppendUint32(b, r.Count)
	}
	return b
}

// ParseToken reads a token's body into t, whose RTR slice is reused.
func ParseToken(body []byte, t *Token) error {
	if len(body) < tokenFixed {
		return ErrBody
	}
	le := binary.LittleEndian
	n := int(le.Uint16(body[62:]))
	if n > MaxRanges || len(body) != tokenFixed+rangeSize*n || body[60] > 1 || body[61] != 0 {
		return ErrBody
	}
	rtr := t.RTR[:0]
	*t = Token{
		Ring:       evs.RingID{Seq: le.Uint64(body[0:]), Rep: evs.Incarnation(le.Uint64(body[8:]))},
		TokenSeq:   le.Uint64(body[16:]),
		Seq:        seq.Num(le.Uint64(body[24:])),
		ARU:        seq.Num(le.Uint64(body[32:])),
		Install:    seq.Num(le.Uint64(body[40:])),
		ARUID:      le.Uint16(body[48:]),
		Sender:     le.Uint16(body[50:]),
		FCC:        le.Uint32(body[52:]),
		Backlog:    le.Uint32(body[56:]),
		HasInstall: body[60] == 1,
	}
	var last seq.Num
	for i := range n {
		p := body[tokenFixed+rangeSize*i:]
		r := Range{First: seq.Num(le.Uint64(p)), Count: le.Uint32(p[8:])}
		if r.First <= last || r.Count == 0 || r.First+seq.Num(r.Count)-1 > t.Seq || r.First+seq.Num(r.Count) < r.First {
			return ErrBody
		}
		last = r.First + seq.Num(r.Count) - 1
		rtr = append(rtr, r)
	}
	t.RTR = rtr
	if t.ARU > t.Seq {
		return ErrBody
	}
	return nil
}

// Hurry asks the member of a ring who holds the token to let it go.
//
//	+0  ring sequence 8 · ring representative 8
//	+16 sender 2
type Hurry struct {
	Ring   evs.RingID
	Sender uint16 // index of the member that wants the token
}

// HurrySize is the length of a hurry's body.
const HurrySize = 18

// AppendHurry appends h's body to b.
func AppendHurry(b []byte, h Hurry) []byte {
	b = binary.LittleEndian.AppendUint64(b, h.Ring.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Ring.Rep))
	return binary.LittleEndian.AppendUint16(b, h.Sender)
}

// ParseHurry reads a hurry's body.
func ParseHurry(body []byte) (Hurry, error) {
	if len(body) != HurrySize {
		return Hurry{}, ErrBody
	}
	le := binary.LittleEndian
	return Hurry{Ring: evs.RingID{Seq: le.Uint64(body), Rep: evs.Incarnation(le.Uint64(body[8:]))}, Sender: le.Uint16(body[16:])}, nil
}
