// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"

	"evensong/internal/proto/evs"
)

// Reach asks whether the group address that Asker sends to reaches whoever receives it; it goes to that address. The answer
// is the same with the answerer as its sender, and goes to Asker alone.
//
//	+0  ring sequence 8 · ring representative 8
//	+16 sender 2 · asker 2 · number 4
//
// Sender and Asker are indices in the ring. Number counts the questions of one asker in one ring, from 1.
type Reach struct {
	Ring   evs.RingID
	Sender uint16
	Asker  uint16 // the sender itself: a question
	Number uint32
}

// ReachSize is the length of its body.
const ReachSize = 24

// AppendReach appends r's body to b.
func AppendReach(b []byte, r Reach) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, r.Ring.Seq)
	b = le.AppendUint64(b, uint64(r.Ring.Rep))
	b = le.AppendUint16(b, r.Sender)
	b = le.AppendUint16(b, r.Asker)
	return le.AppendUint32(b, r.Number)
}

// ParseReach reads the body of a question or an answer.
func ParseReach(body []byte) (Reach, error) {
	if len(body) != ReachSize {
		return Reach{}, ErrBody
	}
	le := binary.LittleEndian
	r := Reach{
		Ring:   evs.RingID{Seq: le.Uint64(body), Rep: evs.Incarnation(le.Uint64(body[8:]))},
		Sender: le.Uint16(body[16:]), Asker: le.Uint16(body[18:]), Number: le.Uint32(body[20:]),
	}
	if r.Number == 0 {
		return Reach{}, ErrBody
	}
	return r, nil
}
