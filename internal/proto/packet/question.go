// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"

	"evensong/internal/proto/evs"
)

// Question asks whether it reaches whoever receives it, or answers that. Of KindReach it is about the group address that Asker sends to, and
// goes there. Of KindSize it is about its own length: it is filled up to the length that it asks about, with bytes that nobody looks at. The
// answer is the same with the answerer as its sender and nothing behind it, and goes to Asker alone.
//
//	+0  ring sequence 8 · ring representative 8
//	+16 sender 2 · asker 2 · number 4
//
// Sender and Asker are indices in the ring. Number counts the questions of one asker and kind in one ring, from 1.
type Question struct {
	Ring   evs.RingID
	Sender uint16
	Asker  uint16 // the sender itself: a question
	Number uint32
}

// QuestionSize is the length of its body, without what fills it.
const QuestionSize = 24

// AppendQuestion appends q's body to b, without what fills it.
func AppendQuestion(b []byte, q Question) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, q.Ring.Seq)
	b = le.AppendUint64(b, uint64(q.Ring.Rep))
	b = le.AppendUint16(b, q.Sender)
	b = le.AppendUint16(b, q.Asker)
	return le.AppendUint32(b, q.Number)
}

// ParseQuestion reads the body of a question or an answer; k is KindReach or KindSize.
func ParseQuestion(k Kind, body []byte) (Question, error) {
	if len(body) < QuestionSize {
		return Question{}, ErrBody
	}
	le := binary.LittleEndian
	q := Question{
		Ring:   evs.RingID{Seq: le.Uint64(body), Rep: evs.Incarnation(le.Uint64(body[8:]))},
		Sender: le.Uint16(body[16:]), Asker: le.Uint16(body[18:]), Number: le.Uint32(body[20:]),
	}
	filled := len(body) > QuestionSize
	if q.Number == 0 || filled && (k != KindSize || q.Sender != q.Asker) {
		return Question{}, ErrBody
	}
	return q, nil
}
