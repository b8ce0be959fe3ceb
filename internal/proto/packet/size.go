// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"

	"evensong/internal/proto/evs"
)

// Size asks whether a datagram as long as this one reaches its receiver: a question is filled up to the length it asks about, with
// bytes that nobody looks at. The answer is the same with the answerer as its sender, and nothing behind it.
//
//	+0  ring sequence 8 · ring representative 8
//	+16 sender 2 · asker 2 · number 4
//
// Sender and Asker are indices in the ring. Number counts the questions of one asker in one ring, from 1.
type Size struct {
	Ring   evs.RingID
	Sender uint16
	Asker  uint16 // the sender itself: a question
	Number uint32
}

// SizeSize is the length of an answer's body, and the least of a question's.
const SizeSize = 24

// AppendSize appends s's body to b, without what fills a question.
func AppendSize(b []byte, s Size) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, s.Ring.Seq)
	b = le.AppendUint64(b, uint64(s.Ring.Rep))
	b = le.AppendUint16(b, s.Sender)
	b = le.AppendUint16(b, s.Asker)
	return le.AppendUint32(b, s.Number)
}

// ParseSize reads the body of a question or an answer.
func ParseSize(body []byte) (Size, error) {
	if len(body) < SizeSize {
		return Size{}, ErrBody
	}
	le := binary.LittleEndian
	s := Size{
		Ring:   evs.RingID{Seq: le.Uint64(body), Rep: evs.Incarnation(le.Uint64(body[8:]))},
		Sender: le.Uint16(body[16:]), Asker: le.Uint16(body[18:]), Number: le.Uint32(body[20:]),
	}
	if s.Number == 0 || s.Sender != s.Asker && len(body) != SizeSize {
		return Size{}, ErrBody
	}
	return s, nil
}
