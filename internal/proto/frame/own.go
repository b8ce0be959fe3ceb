// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// Evensong's own dialect, docs/wire/own-dialect.md. Its names begin with Own. All integers are little-endian.
//
//	own.go            names, limits, faults; the header of a frame     own-dialect 1, 3
//	own_pieces.go     bodies in pieces, both ways                      own-dialect 3
//	own_handshake.go  hello, authentication, welcome, close            own-dialect 2
//	own_request.go    what a client sends                              own-dialect 4
//	own_answer.go     what a daemon answers                            own-dialect 5
//	own_event.go      what a daemon tells                              own-dialect 6

// Limits of the own dialect.
const (
	// OwnVersion is the version of the dialect in hello and welcome.
	OwnVersion = 1
	// MaxOwnName bounds group names, private names and daemon names, in bytes.
	MaxOwnName = 255
	// OwnFragment is the largest body of one frame, in bytes. Longer bodies travel in pieces.
	OwnFragment = 128 << 10
	// OwnStreams is how many bodies in pieces one side may have under way at once.
	OwnStreams = 8
	// DefaultOwnMessage is the largest data of one message, in bytes, where nothing else is configured; MaxOwnMessage
	// bounds what can be configured.
	DefaultOwnMessage = 16 << 20
	MaxOwnMessage     = 64 << 20
	// MaxOwnGroups bounds the destinations of one message.
	MaxOwnGroups = 1000
	// OwnSlack is what a body may have beyond the data of a message: fixed fields, and a thousand names of 255 bytes.
	OwnSlack = 16 + MaxOwnGroups*(1+MaxOwnName)
	// MaxOwnBody bounds the body of anything that a daemon sends, whatever was agreed on: a view has all its members.
	MaxOwnBody = 1 << 27
	// MaxCredentials bounds what a client shows for one authentication method, in bytes.
	MaxCredentials = 4096
)

// LegalOwnUser reports whether s can be the user part of a private name of the own dialect: 1 to max bytes of UTF-8
// without control characters and '#', and not beginning with '!', which marks the short names of evs.ShortPrivate. max is
// MaxOwnUser.
func LegalOwnUser(s string, max int) bool {
	return len(s) <= max && legalOwn(s) && s[0] != '!'
}

// MaxOwnUser is how long the user part of a private name may be at a daemon: both parts, each with its '#', have one
// length byte.
func MaxOwnUser(daemon string) int { return MaxOwnName - 2 - len(daemon) }

// LegalOwnGroup reports whether s can be joined in the own dialect: 1 to 255 bytes of UTF-8 without control characters
// and '#'.
func LegalOwnGroup[T ~string | ~[]byte](s T) bool {
	return len(s) <= MaxOwnName && legalOwn(string(s))
}

func legalOwn(s string) bool {
	for _, r := range s {
		if r < ' ' || r == '#' || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// OwnType is the type of a frame.
type OwnType uint8

// The types. Below 16 both sides send them, below 64 clients, from 64 on daemons.
const (
	OwnPiece       OwnType = 1  // the next piece of a body
	OwnPing        OwnType = 2  // asks for a pong with the same eight bytes
	OwnPong        OwnType = 3  // answers a ping
	OwnChoice      OwnType = 16 // authentication methods chosen
	OwnCredentials OwnType = 17 // what a method wants to see
	OwnBye         OwnType = 18 // good-bye; the daemon answers with a close
	OwnJoin        OwnType = 19
	OwnLeave       OwnType = 20
	OwnMulticast   OwnType = 21
	OwnEvict       OwnType = 22
	OwnListGroups  OwnType = 23
	OwnListMembers OwnType = 24
	OwnMethods     OwnType = 64 // authentication methods offered
	OwnWelcome     OwnType = 65 // the session is accepted
	OwnClose       OwnType = 66 // why the connection ends now, also in the handshake
	OwnAck         OwnType = 67 // a join, leave or evict has taken its place in the order
	OwnReceipt     OwnType = 68 // a message has been delivered here
	OwnReject      OwnType = 69 // a request was refused; the session goes on
	OwnGroups      OwnType = 70 // answer to OwnListGroups
	OwnMembers     OwnType = 71 // answer to OwnListMembers
	OwnMessage     OwnType = 72
	OwnView        OwnType = 73
	OwnTransition  OwnType = 74
	OwnSelfLeave   OwnType = 75
	OwnDaemons     OwnType = 76 // where other daemons listen
	OwnPrimary     OwnType = 77 // whether what follows belongs to a primary configuration
)

var ownTypeNames = map[OwnType]string{
	OwnPiece: "PIECE", OwnPing: "PING", OwnPong: "PONG", OwnChoice: "CHOICE", OwnCredentials: "CREDENTIALS", OwnBye: "BYE",
	OwnJoin: "JOIN", OwnLeave: "LEAVE", OwnMulticast: "MULTICAST", OwnEvict: "EVICT", OwnListGroups: "LIST_GROUPS",
	OwnListMembers: "LIST_MEMBERS", OwnMethods: "METHODS", OwnWelcome: "WELCOME", OwnClose: "CLOSE", OwnAck: "ACK",
	OwnReceipt: "RECEIPT", OwnReject: "REJECT", OwnGroups: "GROUPS", OwnMembers: "MEMBERS", OwnMessage: "MESSAGE",
	OwnView: "VIEW", OwnTransition: "TRANSITION", OwnSelfLeave: "SELF_LEAVE", OwnDaemons: "DAEMONS",
	OwnPrimary: "PRIMARY",
}

// String is the name in the document, such as "SELF_LEAVE".
func (t OwnType) String() string {
	if s, ok := ownTypeNames[t]; ok {
		return s
	}
	return "type " + strconv.Itoa(int(t))
}

// FromClient and FromDaemon report whether a side may send frames of this type.
func (t OwnType) FromClient() bool {
	return t >= OwnPiece && t <= OwnPong || t >= OwnChoice && t <= OwnListMembers
}

// FromDaemon is the same for a daemon.
func (t OwnType) FromDaemon() bool {
	return t >= OwnPiece && t <= OwnPong || t >= OwnMethods && t <= OwnPrimary
}

// OwnFault says what is wrong with bytes of the own dialect. Zero is nothing.
type OwnFault uint8

// The faults.
const (
	OwnFine OwnFault = iota
	OwnFaultMagic
	OwnFaultVersion
	OwnFaultLength
	OwnFaultType
	OwnFaultFlags
	OwnFaultStream
	OwnFaultStreams
	OwnFaultTooLong
	OwnFaultPiece
	OwnFaultShort
	OwnFaultTrailing
	OwnFaultReserved
	OwnFaultText
	OwnFaultCount
	OwnFaultService
	OwnFaultHint
	OwnFaultIndex
	OwnFaultCapability
)

var ownFaultTexts = [...]string{
	OwnFine:          "nothing wrong",
	OwnFaultMagic:    "the hello does not begin with EVS",
	OwnFaultVersion:  "the version of the dialect is not 1",
	OwnFaultLength:   "the length is larger than one frame can have",
	OwnFaultType:     "the frame type is unknown, or belongs to the other side or to another phase",
	OwnFaultFlags:    "flags are set that do not exist",
	OwnFaultStream:   "the stream number does not fit: a body in pieces needs one that is free, a piece the one of its body, a whole body none",
	OwnFaultStreams:  "more than 8 bodies in pieces are under way",
	OwnFaultTooLong:  "the body is longer than the welcome allows",
	OwnFaultPiece:    "the pieces of a body have together not the length that the first one said",
	OwnFaultShort:    "the body ends inside a field",
	OwnFaultTrailing: "bytes follow the last field",
	OwnFaultReserved: "a reserved field is not zero",
	OwnFaultText:     "a name is empty or a text is not UTF-8",
	OwnFaultCount:    "a count is larger than the limit",
	OwnFaultService:  "the type word has not exactly one service, or has bits that clients may not set",
	OwnFaultHint:     "the hint word has bits outside the message type",
	OwnFaultIndex:    "a number is none of those that can be there",

	OwnFaultCapability: "it needs a capability that the hello did not ask for",
}

// String is a sentence without a full stop.
func (f OwnFault) String() string {
	if int(f) < len(ownFaultTexts) {
		return ownFaultTexts[f]
	}
	return "OwnFault(" + strconv.Itoa(int(f)) + ")"
}

// OwnHeaderSize is the size of the header of a frame.
//
//	 0        4      5       6        8
//	+--------+------+-------+--------+-----------------+
//	| length | type | flags | stream | body (length)   |
//	+--------+------+-------+--------+-----------------+
const OwnHeaderSize = 8

// ownMore is the only flag: more pieces of this body follow.
const ownMore = 1

// OwnHeader is the fixed part of a frame.
type OwnHeader struct {
	Length int // bytes of the body in this frame, up to OwnFragment
	Type   OwnType
	More   bool   // further pieces follow
	Stream uint16 // names a body in pieces; zero for whole ones
}

// ParseOwnHeader reads the first 8 bytes of b, which must be there, and checks what can be seen in them alone.
func ParseOwnHeader(b []byte) (h OwnHeader, fault OwnFault) {
	b = b[:OwnHeaderSize]
	length := binary.LittleEndian.Uint32(b)
	h = OwnHeader{Type: OwnType(b[4]), More: b[5]&ownMore != 0, Stream: binary.LittleEndian.Uint16(b[6:])}
	inPieces := h.More || h.Type == OwnPiece
	switch {
	case length > OwnFragment:
		return h, OwnFaultLength
	case b[5]&^ownMore != 0:
		return h, OwnFaultFlags
	case inPieces != (h.Stream != 0):
		return h, OwnFaultStream
	}
	h.Length = int(length)
	return h, OwnFine
}

// Append writes the header.
func (h *OwnHeader) Append(dst []byte) []byte {
	flags := byte(0)
	if h.More {
		flags = ownMore
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Length))
	dst = append(dst, byte(h.Type), flags)
	return binary.LittleEndian.AppendUint16(dst, h.Stream)
}

// OwnNames is a list of names or texts as it travels: a length byte before each.
type OwnNames []byte

// All yields the names in order; they alias the list.
func (l OwnNames) All() func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for rest := l; len(rest) > 0; {
			end := 1 + int(rest[0])
			if !yield(rest[1:end:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// Len counts the names.
func (l OwnNames) Len() (n int) {
	for range l.All() {
		n++
	}
	return n
}

// Strings copies the names.
func (l OwnNames) Strings() []string {
	out := make([]string, 0, l.Len())
	for s := range l.All() {
		out = append(out, string(s))
	}
	return out
}

// reader takes a body apart. The first fault stays, and after it everything reads as zero.
type reader struct {
	b     []byte
	fault OwnFault
}

func (r *reader) take(n int) []byte {
	if r.fault != OwnFine || len(r.b) < n {
		r.bad(OwnFaultShort)
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) bad(f OwnFault) {
	if r.fault == OwnFine {
		r.fault = f
	}
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) zero(n int) {
	for _, c := range r.take(n) {
		if c != 0 {
			r.bad(OwnFaultReserved)
		}
	}
}

// text is a length byte and that many bytes of UTF-8.
func (r *reader) text() []byte {
	b := r.take(int(r.u8()))
	if !utf8.Valid(b) {
		r.bad(OwnFaultText)
	}
	return b
}

// bytes is a length byte and that many bytes of anything: names that came from clients of the original.
func (r *reader) bytes() []byte { return r.take(int(r.u8())) }

// name is bytes that are not empty.
func (r *reader) name() []byte {
	b := r.bytes()
	if len(b) == 0 {
		r.bad(OwnFaultText)
	}
	return b
}

// names is a list of n names, each with its length byte.
func (r *reader) names(n int) OwnNames {
	start := r.b
	for i := 0; i < n && r.fault == OwnFine; i++ {
		r.bytes()
	}
	if r.fault != OwnFine {
		return nil
	}
	k := len(start) - len(r.b)
	return OwnNames(start[:k:k])
}

func (r *reader) rest() []byte {
	if r.fault != OwnFine {
		return nil
	}
	return r.take(len(r.b))
}

// end says whether all is well and nothing is left.
func (r *reader) end() OwnFault {
	if len(r.b) > 0 {
		r.bad(OwnFaultTrailing)
	}
	return r.fault
}

// appendText appends a length byte and the text, of which more than 255 bytes are not sent: callers have checked names,
// and a sentence that long says enough.
func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	s = s[:min(len(s), MaxOwnName)]
	return append(append(dst, byte(len(s))), s...)
}
