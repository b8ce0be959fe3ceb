// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"evensong/internal/proto/evs"
)

// RegularSize is the size of a regular message.
func RegularSize(groups Groups, data int) int { return HeaderSize + len(groups) + data }

// AppendRegular writes a message as every receiver gets it (client-protocol 5.1): the type word as sent but in our
// order, the sender's private name, all destinations, the hint untouched. Data may come in several pieces.
func AppendRegular[T ~string | ~[]byte](dst []byte, t Type, sender T, hint Hint, groups Groups, data ...[]byte) []byte {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	dst = appendHead(dst, t, sender, groups.Len(), hint, n)
	dst = appendGroups(dst, groups)
	for _, d := range data {
		dst = append(dst, d...)
	}
	return dst
}

// RejectSize is the size of a reject message.
func RejectSize(groups Groups, data int) int {
	return HeaderSize + 4 + NameSize*min(groups.Len()+1, MaxGroups) + data
}

// AppendRejectMessage writes the answer to a request that the access rules refuse (client-protocol 4.6): the request
// itself with type REJECT, its old type in four bytes that data_len does not count, and the sender's private name as
// last group. SELF_DISCARD, if it was asked for, stands in both type words.
//
// Deviation: a list that is full comes back as it was sent, without the sender, who stands in the header anyway. The
// original overwrites the last name with the sender's.
func AppendRejectMessage(dst []byte, t Type, private string, hint Hint, groups Groups, data []byte) []byte {
	full := groups.Len() >= MaxGroups
	old := t
	switch {
	case t&TypeJoin != 0:
		old = t&^TypeJoin | TypeCausedByJoin
	case t&TypeLeave != 0:
		old = t&^TypeLeave | TypeCausedByLeave
	}
	dst = appendHead(dst, TypeReject|t&TypeSelfDiscard, private, min(groups.Len()+1, MaxGroups), hint, len(data))
	dst = LittleEndian.AppendUint32(dst, uint32(old)&^Mark|Mark)
	dst = appendGroups(dst, groups)
	if !full {
		dst = AppendName(dst, private)
	}
	return append(dst, data...)
}

// TransitionSize is the size of a transitional signal.
const TransitionSize = HeaderSize + 12

// AppendTransition writes the transitional signal of a group (client-protocol 5.4); id is the view that ends.
func AppendTransition(dst []byte, group string, id evs.ViewID) []byte {
	dst = appendHead(dst, TypeTransition, group, 0, NewHint(0, LittleEndian), 12)
	return appendViewID(dst, LittleEndian, id)
}

// AppendSelfLeave writes the answer to a leave, 48 bytes without any body (client-protocol 5.5).
func AppendSelfLeave(dst []byte, group string) []byte {
	return appendHead(dst, TypeCausedByLeave, group, 0, NewHint(0, LittleEndian), 0)
}

func appendViewID(dst []byte, o Order, id evs.ViewID) []byte {
	for _, w := range id {
		dst = o.AppendUint32(dst, w)
	}
	return dst
}

// View is a regular membership message (client-protocol 5.3).
//
// For the causes join, leave and disconnect there is one set with one name: who joined, left or disconnected. For
// network the sets partition the members by the view they came from.
type View struct {
	Group   string
	Cause   evs.Cause
	ID      evs.ViewID
	Members []string
	Sets    [][]string
	Order   Order // zero is ours, little-endian; other values are for tests that play another daemon
}

// Offsets in the data of a view. The offset of the receiver's own set counts from viewSets.
const (
	viewCount = 12
	viewOwn   = 16
	viewSets  = 20
)

// OwnOffset is what AppendView writes for a receiver in set own: bytes from data offset 20 to that set.
func (v *View) OwnOffset(own int) uint32 {
	at := 0
	for _, s := range v.Sets[:own] {
		at += 4 + NameSize*len(s)
	}
	return uint32(at)
}

// Size is the size of the whole frame.
func (v *View) Size() int {
	n := HeaderSize + NameSize*len(v.Members) + viewSets
	for _, s := range v.Sets {
		n += 4 + NameSize*len(s)
	}
	return n
}

// AppendView writes the view as a member of set number own receives it. All receivers get the same bytes except for
// four, which PatchOwn changes in a copy for members of another set; in all but interim views the members at one daemon
// are in one set.
func AppendView(dst []byte, v *View, own int) []byte {
	start := len(dst)
	dst = v.Order.AppendUint32(dst, uint32(TypeRegMemb|TypeOfCause(v.Cause))|v.Order.mark())
	dst = AppendName(dst, v.Group)
	h := Header{Order: v.Order, NumGroups: int32(len(v.Members)), Hint: NewHint(0, v.Order)}
	h.DataLen = int32(v.Size() - HeaderSize - NameSize*len(v.Members))
	dst = h.appendCounts(dst)
	for _, m := range v.Members {
		dst = AppendName(dst, m)
	}
	dst = appendViewID(dst, v.Order, v.ID)
	dst = v.Order.AppendUint32(dst, uint32(len(v.Sets)))
	dst = v.Order.AppendUint32(dst, 0)
	for _, s := range v.Sets {
		dst = v.Order.AppendUint32(dst, uint32(len(s)))
		for _, m := range s {
			dst = AppendName(dst, m)
		}
	}
	v.PatchOwn(dst[start:], own)
	return dst
}

// OwnAt is where the four bytes of the own set's offset are in the frame, for callers that share what is before and
// behind them.
func (v *View) OwnAt() int { return HeaderSize + NameSize*len(v.Members) + viewOwn }

// PatchOwn changes the own set in a frame that AppendView wrote for v.
func (v *View) PatchOwn(frame []byte, own int) {
	v.Order.PutUint32(frame[v.OwnAt():], v.OwnOffset(own))
}
