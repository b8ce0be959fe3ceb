// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"cmp"
	"fmt"
	"strings"

	"evensong/internal/proto/evs"
)

// Member is a session as member of groups. Members are shared between views and must not be changed.
type Member struct {
	Proc    evs.ProcID // its daemon
	Session uint64     // its number there
	User    string     // user part of the private name
	Private string     // private name, "#user#daemon"
	Short   string     // what clients of the original see of it: the same, or evs.ShortPrivate
}

// compare is the order of members in views: that of the daemons, then of the names' bytes (client-protocol 5.3).
func (a *Member) compare(b *Member) int {
	return cmpMember(a.Proc.Compare(b.Proc), a.User, b.User, a.Session, b.Session)
}

func cmpMember(procs int, userA, userB string, sessionA, sessionB uint64) int {
	if procs != 0 {
		return procs
	}
	if c := strings.Compare(userA, userB); c != 0 {
		return c
	}
	return cmp.Compare(sessionA, sessionB)
}

// View is a membership of a group as its members see it. One View is shared by all recipients and must not be changed.
type View struct {
	Group   string
	ID      evs.ViewID
	Cause   evs.Cause
	Detail  evs.Detail
	Members []*Member
	// Changed is who joined, left or disconnected, also where the cause is network because the view had ended already; nil if
	// daemons came or went.
	Changed *Member
	// Sets are the VS sets in wire order. For join, leave and disconnect there is one set of one member, the one
	// concerned. Otherwise they partition Members (GRP-5).
	Sets [][]*Member
}

// DeliveryKind says what a Delivery brings.
type DeliveryKind uint8

const (
	// KindData is a client's message: Sender, Service, Data.
	KindData DeliveryKind = iota + 1
	// KindView is a membership message: Group, ID, View, Own.
	KindView
	// KindSignal is the transitional signal of Group; ID is the view that ends (client-protocol 5.4).
	KindSignal
	// KindSelfLeave tells the leaver that it is out of Group (client-protocol 5.5); Detail is asked or evicted, ID the view
	// of those who stay. It comes to sessions with notices, and about an eviction to all: node knows who understands it.
	KindSelfLeave
	// KindAck answers a join, leave or evict of the one recipient: Request, Outcome, Group, ID.
	KindAck
	// KindReceipt tells the one recipient that its message was delivered here: Request.
	KindReceipt
	// KindPrimary says what holds for all that follows: Primary. It is for every session that wants to know, which node
	// knows: Sessions is empty.
	KindPrimary
)

// String is the lower-case word.
func (k DeliveryKind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindView:
		return "view"
	case KindSignal:
		return "signal"
	case KindSelfLeave:
		return "self-leave"
	case KindAck:
		return "ack"
	case KindReceipt:
		return "receipt"
	case KindPrimary:
		return "primary"
	}
	return fmt.Sprintf("DeliveryKind(%d)", uint8(k))
}

// Delivery is one thing for some local sessions. Sessions holds each number once; it is empty for KindPrimary only.
type Delivery struct {
	Kind     DeliveryKind
	Sessions []uint64

	Sender  string // private name, "#user#daemon"
	Service evs.Service
	Data    Data // aliases the payload given to HandleMessage

	Group string
	ID    evs.ViewID
	View  *View
	Own   int // which of View.Sets is the recipients' own (client-protocol 5.3)

	Detail  evs.Detail
	Request uint32
	Outcome Outcome
	Primary evs.Primary
}

// Outcome is what became of a request at its place in the order. The numbers are those of docs/wire/own-dialect.md.
type Outcome uint8

// The outcomes.
const (
	Done      Outcome = iota // the view was changed
	Unchanged                // join: member already; leave, evict: no member
	Void                     // evict: the view is no longer the group's
	Forbidden                // evict: who asked is no member
)

// Submit is a message that this daemon must multicast, in order, before anything of its clients, also before what waits
// for the ring already. What has not been originated when the configuration ends may be thrown away; if it is sent
// after all, everybody drops it (DropStaleState).
type Submit struct {
	Service evs.Service
	Payload []byte // the caller's from here on
}

// Drop says why an input was ignored.
type Drop uint8

const (
	// DropMalformed: the payload breaks the format.
	DropMalformed Drop = iota + 1
	// DropService: a change of the table came at a level without total order.
	DropService
	// DropSender: the daemon is not in the configuration, or speaks for others.
	DropSender
	// DropName: the session has another name than before, or the group's name is illegal.
	DropName
	// DropStaleState: a state for another configuration, or after the end of the exchange (P-29).
	DropStaleState
	// DropStatePart: a state whose parts do not follow each other, or that overlaps with another one.
	DropStatePart
	// DropAborted: sent in a configuration whose exchange was aborted here; see the package documentation.
	DropAborted
	// DropEarly: a message before the first configuration.
	DropEarly
	// DropQueueFull: more than MaxQueueBytes waited for the end of an exchange. The stream has a gap now (GRP-16), so
	// the daemon must stop.
	DropQueueFull
)

var dropNames = [...]string{
	DropMalformed: "malformed", DropService: "service without order", DropSender: "foreign sender", DropName: "name",
	DropStaleState: "stale state", DropStatePart: "state part", DropAborted: "exchange aborted",
	DropEarly: "no configuration", DropQueueFull: "queue full",
}

// String is the reason in words.
func (d Drop) String() string {
	if d >= DropMalformed && int(d) < len(dropNames) {
		return dropNames[d]
	}
	return fmt.Sprintf("Drop(%d)", uint8(d))
}

// NoteKind says what a Note is about.
type NoteKind uint8

const (
	// NoteDrop: an input was ignored. Drop, Proc.
	NoteDrop NoteKind = iota + 1
	// NoteView: a group changed. Group, ID, Cause, Member (not for network), Count = members left.
	NoteView
	// NoteExchange: an exchange began. Ring, Count = daemons in this table set, Proc = who speaks for it.
	NoteExchange
	// NoteReady: it ended. Ring, Count = groups.
	NoteReady
	// NoteAbort: it was cut short by a configuration change. Ring, Count = daemons whose state had not come.
	NoteAbort
	// NoteUnready: Proc originated an ordered message before the end of the exchange. It was queued, but its daemon
	// breaks the rule that clients wait for Ready.
	NoteUnready
	// NoteDiverged: the table that Proc sent for our set is not ours. Ours is given up for it. This is a bug: the
	// daemon must stop.
	NoteDiverged
)

var noteNames = [...]string{
	NoteDrop: "drop", NoteView: "view", NoteExchange: "exchange", NoteReady: "ready", NoteAbort: "abort",
	NoteUnready: "unready", NoteDiverged: "diverged",
}

// String is the lower-case word.
func (k NoteKind) String() string {
	if k >= NoteDrop && int(k) < len(noteNames) {
		return noteNames[k]
	}
	return fmt.Sprintf("NoteKind(%d)", uint8(k))
}

// Note is something to be logged or counted. Which fields are set depends on Kind.
type Note struct {
	Kind   NoteKind
	Drop   Drop
	Proc   evs.ProcID
	Ring   evs.RingID
	Group  string
	ID     evs.ViewID
	Cause  evs.Cause
	Member string // private name of who joined, left or disconnected
	Count  int
}

// Effects is filled by inputs and emptied by the caller with Reset. Several inputs may add to it in between; the
// payloads given to them must not change until then.
type Effects struct {
	Submits    []Submit
	Deliveries []Delivery
	Ready      bool     // the exchange ended: clients' messages may be originated from here on
	Gone       []uint64 // sessions whose disconnect took its place in the order: their names are free
	Notes      []Note

	sessions []uint64 // holds Deliveries' Sessions
	names    [][]byte // holds Deliveries' Data.Groups
}

// Reset empties e and keeps its memory.
func (e *Effects) Reset() {
	clear(e.Submits)
	clear(e.Deliveries)
	clear(e.Notes)
	clear(e.names)
	// One by one, since that writes lengths only.
	e.Submits, e.Deliveries, e.Gone, e.Notes = e.Submits[:0], e.Deliveries[:0], e.Gone[:0], e.Notes[:0]
	e.sessions, e.names, e.Ready = e.sessions[:0], e.names[:0], false
}

// since returns the recipients noted from position first on.
func (e *Effects) since(first int) []uint64 {
	return e.sessions[first:len(e.sessions):len(e.sessions)]
}

func (e *Effects) drop(why Drop, from evs.ProcID) {
	e.Notes = append(e.Notes, Note{Kind: NoteDrop, Drop: why, Proc: from})
}
