// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strconv"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// OpKind says what a session asks the node for.
type OpKind uint8

// The kinds of requests, with the fields of Op that they set.
const (
	// OpName asks for a decision about the private name Name; empty: invent a unique one of at most 10 characters. The
	// node answers with NameDecided, at once or later; until then the machine takes no input.
	OpName OpKind = iota + 1
	// OpEstablished tells that the client was accepted; Info. No other request comes before it, except OpName and OpRefused
	// at access.Open.
	OpEstablished
	// OpJoin and OpLeave name a legal Group.
	OpJoin
	OpLeave
	// OpMulticast is a message: Service, Type, Hint, Groups, Data.
	OpMulticast
	// OpKill is the client's wish to go. Close follows in the same effects.
	OpKill
	// OpRefused is a request that the access rules refuse: At, Rule (nil if none decided), Group if the decision was about
	// one, and, except at access.Open, the request itself in Type, Hint, Groups and Data, which the client gets back.
	OpRefused
	// The others exist in the own dialect only. OpEvict asks that Member leaves the legal Group, if View is still its view;
	// Request.
	OpEvict
	// OpListGroups asks for at most Most names of groups behind Group, OpListMembers for at most Most members of Group from
	// number First on; Most zero: as many as fit. Request.
	OpListGroups
	OpListMembers
	// OpPing wants a sign of life from the client: a ping, unless something waits to be written anyway.
	OpPing
)

// String is the lower-case name.
func (k OpKind) String() string {
	switch k {
	case OpName:
		return "name"
	case OpEstablished:
		return "established"
	case OpJoin:
		return "join"
	case OpLeave:
		return "leave"
	case OpMulticast:
		return "multicast"
	case OpKill:
		return "kill"
	case OpRefused:
		return "refused"
	case OpEvict:
		return "evict"
	case OpListGroups:
		return "list groups"
	case OpListMembers:
		return "list members"
	case OpPing:
		return "ping"
	}
	return "OpKind(" + strconv.Itoa(int(k)) + ")"
}

// Op is one request. Group, Groups and Data alias the input of HandleInput or a buffer of the session; both stay as they
// are until the caller resets the effects or reuses its input, whichever it does first. Whoever needs them longer copies.
type Op struct {
	Kind    OpKind
	Service evs.Service // multicast
	Hint    frame.Hint  // multicast, as sent
	Type    frame.Type  // join, leave, multicast: as sent, without the mark
	Name    string      // name
	Info    *Info       // established; belongs to the machine and does not change any more
	Group   []byte      // join, leave, refused: visible part; evict, queries
	Groups  frame.Groups
	Data    []byte
	At      access.Point // refused
	Rule    *access.Rule // refused

	// In the own dialect.
	Request uint32         // what the answer repeats; zero: none is wanted
	Frame   frame.OwnType  // refused: what was, in place of the request itself
	Names   frame.OwnNames // multicast: destinations, in place of Groups
	Member  []byte         // evict: private name
	View    evs.ViewID     // evict
	Most    int            // queries
	First   uint32         // list members
}

// Info is what a client said of itself.
type Info struct {
	Version    frame.Version
	User       string // private name, the node's invention if the client gave none
	Private    string // "#user#daemon"
	Membership bool   // wants membership messages
	Priority   uint8  // 0 to 15, stored and otherwise unused

	// In the own dialect.
	Program      string        // who the client says it is
	Capabilities []string      // in force
	Ping         time.Duration // interval in force; zero: none
	MessageLimit int           // data of one message, bytes
}

// NoteKind says which odd request was ignored.
type NoteKind uint8

// The requests that are ignored (client-protocol 4.6).
const (
	// NoteJoinNoGroup and NoteLeaveNoGroup: num_groups is 0.
	NoteJoinNoGroup NoteKind = iota + 1
	NoteLeaveNoGroup
	// NoteJoinName: the name is empty, has 32 bytes or illegal characters, or is a private name.
	NoteJoinName
	// NoteLeaveName: the same; nobody can be a member of such a group. One client says so for good-bye and closes.
	NoteLeaveName
	// NoteJoinMore and NoteLeaveMore: more than one name; the first counts.
	NoteJoinMore
	NoteLeaveMore
)

var noteTexts = [...]string{
	NoteJoinNoGroup:  "join without a group ignored",
	NoteLeaveNoGroup: "leave without a group ignored",
	NoteJoinName:     "join of an illegal group name ignored",
	NoteLeaveName:    "leave of an illegal group name ignored",
	NoteJoinMore:     "join of several groups: only the first is joined",
	NoteLeaveMore:    "leave of several groups: only the first is left",
}

// String is a sentence without a full stop.
func (k NoteKind) String() string {
	if k > 0 && int(k) < len(noteTexts) {
		return noteTexts[k]
	}
	return "NoteKind(" + strconv.Itoa(int(k)) + ")"
}

// Note is something odd that the shell logs and counts.
type Note struct {
	Kind  NoteKind
	Group []byte // visible part, if there is one; valid as long as the fields of an Op
}

// Effects is what one or more inputs of one machine ask for. The caller performs it, then calls Reset and uses it again.
type Effects struct {
	// Out is written to the client before anything that Ops cause. Handshake answers must reach the kernel in one write
	// each; there is at most one answer per input, so writing Out as one piece does it (client-protocol 2.2, 2.4).
	Out []byte
	// Ops are requests in order.
	Ops []Op
	// Close is why the session is over; zero if it is not. The shell writes Out, shuts down its sending side, drains
	// briefly and closes (client-protocol 2.5); after OpKill and for slow readers it closes at once. The node orders the
	// disconnect if there was OpEstablished, and gives the name free if there was only OpName.
	Close Reason
	// Notes are for the log.
	Notes []Note

	retired [][]byte // buffers that Ops alias
	buffers Buffers
}

// retire keeps a buffer that Ops alias until Reset.
func (fx *Effects) retire(b []byte, to Buffers) {
	if fx.buffers = to; to != nil {
		fx.retired = append(fx.retired, b)
	}
}

// Reset makes the effects empty. Slices of their Ops are not valid any more.
func (fx *Effects) Reset() {
	for i, b := range fx.retired {
		fx.buffers.Put(b)
		fx.retired[i] = nil
	}
	clear(fx.Ops)
	clear(fx.Notes)
	fx.Out, fx.Ops, fx.Notes, fx.retired, fx.Close = fx.Out[:0], fx.Ops[:0], fx.Notes[:0], fx.retired[:0], Running
}

func (fx *Effects) note(k NoteKind, group []byte) {
	fx.Notes = append(fx.Notes, Note{Kind: k, Group: group})
}
