// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"math/bits"
	"strconv"
)

// Sizes and limits (client-protocol 3.5).
const (
	HeaderSize = 48
	// MaxGroups is the number of destinations of one message.
	MaxGroups = 100
	// MaxBody is what names and data may have together, 32 bytes per name, from a client to a daemon.
	MaxBody = 144000 - HeaderSize
	// MaxFrame is a whole frame from a client.
	MaxFrame = HeaderSize + MaxBody
	// SafeGroups and SafeBody are what the original daemon, version 4.4.0, really handles: more groups reach nobody,
	// more bytes stop it. A client that may talk to one stays below.
	SafeGroups = 43
	SafeBody   = 100*1432 - HeaderSize
	// MaxReceivedNames and MaxReceivedData are the sanity limits of a client for what a daemon sends: a list of members
	// may be much longer than 100, and its data has every name again (client-protocol 5.7).
	MaxReceivedNames = 1 << 20
	MaxReceivedData  = 1 << 26
)

// Header is the fixed part of a frame.
type Header struct {
	Type      Type   // without the mark
	Order     Order  // of type, counts and the integers in membership data; Append writes it
	HalfMark  bool   // the type word had half of a mark: no order can be told
	Name      []byte // visible part; Parse aliases its input
	NumGroups int32
	Hint      Hint // as it travels; the mark in it is its own
	DataLen   int32
}

// ParseHeader is Parse where a copy does not matter.
func ParseHeader(b []byte) (h Header) {
	h.Parse(b)
	return h
}

// Parse reads the first 48 bytes of b, which must be there. It interprets but does not judge: see CheckClient and
// CheckDaemon. The name aliases b. To parse where the header stays is quicker than to copy it there: it is written in small stores.
func (h *Header) Parse(b []byte) {
	b = b[:HeaderSize]
	o, ok := markedOrder(b)
	h.Order, h.HalfMark = o, !ok
	h.Type = Type(o.Uint32(b) &^ Mark)
	h.Name = Name(b[4 : 4+NameSize])
	h.NumGroups = int32(o.Uint32(b[36:]))
	h.Hint = Hint(b[40:44])
	h.DataLen = int32(o.Uint32(b[44:]))
}

// Append writes the header in its own order.
func (h *Header) Append(dst []byte) []byte {
	dst = h.Order.AppendUint32(dst, uint32(h.Type)&^Mark|h.Order.mark())
	dst = AppendName(dst, h.Name)
	return h.appendCounts(dst)
}

func (h *Header) appendCounts(dst []byte) []byte {
	dst = h.Order.AppendUint32(dst, uint32(h.NumGroups))
	dst = append(dst, h.Hint[:]...)
	return h.Order.AppendUint32(dst, uint32(h.DataLen))
}

// Fault says what is wrong with a header. Zero is nothing.
type Fault uint8

// The faults, in the order in which headers are checked (client-protocol 4.5).
const (
	FaultNone Fault = iota
	FaultMark
	FaultService
	FaultDaemonOnly
	FaultNameForm
	FaultNameOther
	FaultGroups
	FaultHint
	FaultLength
)

var faultTexts = [...]string{
	FaultNone:       "nothing wrong",
	FaultMark:       "the type word has half of a byte-order mark",
	FaultService:    "the type word has not exactly one service or command",
	FaultDaemonOnly: "the type word has bits that only daemons may set",
	FaultNameForm:   "the name field is not of the form #user#daemon",
	FaultNameOther:  "the name field is not this session's private name",
	FaultGroups:     "the number of groups is out of range",
	FaultHint:       "the hint word has bits outside the message type",
	FaultLength:     "the length of data and names is out of range",
}

// String is a sentence without a full stop.
func (f Fault) String() string {
	if int(f) < len(faultTexts) {
		return faultTexts[f]
	}
	return "Fault(" + strconv.Itoa(int(f)) + ")"
}

// CheckClient is a daemon's check of what a client sent (client-protocol 4.5, and 4.6 where the original goes wrong):
// private is the private name of the session. It does not allocate.
func (h *Header) CheckClient(private string) Fault {
	t := h.Type
	switch {
	case h.HalfMark:
		return FaultMark
	case bits.OnesCount32(uint32(t&(MaskRegular|MaskCommand))) != 1:
		// Rule 1. More than one service, more than one command, or one of each are all "not exactly one of nine".
		return FaultService
	case t&MaskDaemonOnly != 0:
		return FaultDaemonOnly
	case string(h.Name) != private:
		if _, _, ok := SplitPrivate(h.Name); !ok {
			return FaultNameForm
		}
		return FaultNameOther
	case h.NumGroups < 0 || h.NumGroups > MaxGroups:
		return FaultGroups
	case !h.Hint.Valid():
		return FaultHint
	case h.DataLen < 0 || int64(h.DataLen)+NameSize*int64(h.NumGroups) > MaxBody:
		return FaultLength
	}
	return FaultNone
}

// CheckDaemon is a client's check of what a daemon sent (client-protocol 5.7). After it BodySize is between zero and
// about 100 MB: read bodies in pieces, so that a wrong length costs only what really arrives.
func (h *Header) CheckDaemon() Fault {
	switch {
	case h.HalfMark:
		return FaultMark
	case h.NumGroups < 0 || h.NumGroups > MaxReceivedNames:
		return FaultGroups
	case h.DataLen < 0 || h.DataLen > MaxReceivedData:
		return FaultLength
	}
	return FaultNone
}

// BodySize is the number of bytes behind the header; the header must have passed a check. A reject message has four
// bytes more than its header counts (client-protocol 4.6).
func (h *Header) BodySize() int {
	n := NameSize*int(h.NumGroups) + int(h.DataLen)
	if h.Type&TypeReject != 0 {
		n += 4
	}
	return n
}

// Message is one frame taken apart. Its slices alias the input of Parse.
type Message struct {
	Header
	OldType Type // of reject messages: the refused type word, JOIN and LEAVE as CAUSED_BY_JOIN and CAUSED_BY_LEAVE
	Groups  Groups
	Data    []byte
}

// Split takes the body apart that belongs to m's header, which was checked. body must have BodySize bytes; of a regular message the
// destinations are enough, and Data is then what is there of it.
func (m *Message) Split(body []byte) {
	m.OldType = 0
	if m.Type&TypeReject != 0 {
		m.OldType = Type(m.Order.Uint32(body) &^ Mark)
		body = body[4:]
	}
	names := NameSize * int(m.NumGroups)
	m.Groups = Groups(body[:names:names])
	end := min(names+int(m.DataLen), len(body))
	m.Data = body[names:end:end]
}

// ParseReceived reads one frame of a daemon from the start of b. n is its size; zero if b does not hold all of it yet
// or fault says that it never will.
func ParseReceived(b []byte) (m Message, n int, fault Fault) {
	if len(b) < HeaderSize {
		return m, 0, FaultNone
	}
	m.Parse(b)
	if fault = m.CheckDaemon(); fault != FaultNone {
		return Message{}, 0, fault
	}
	size := m.BodySize()
	if len(b)-HeaderSize < size {
		return Message{}, 0, FaultNone
	}
	m.Split(b[HeaderSize : HeaderSize+size])
	return m, HeaderSize + size, FaultNone
}

// Append writes the frame again, in the header's order. The counts are those of Groups and Data, whatever the header
// says. It gives the bytes that Parse had, except behind the NULs of names.
func (m *Message) Append(dst []byte) []byte {
	h := m.Header
	h.NumGroups, h.DataLen = int32(m.Groups.Len()), int32(len(m.Data))
	dst = h.Append(dst)
	if h.Type&TypeReject != 0 {
		dst = h.Order.AppendUint32(dst, uint32(m.OldType)&^Mark|h.Order.mark())
	}
	dst = appendGroups(dst, m.Groups)
	return append(dst, m.Data...)
}
