// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// Effects is filled by inputs and emptied by the caller, who reuses it. Sends must be done in order. Events are in the
// order in which the user must see them; between sends and events there is no order.
type Effects struct {
	Sends  []Send
	Events []Event
	Notes  []Note
}

// Reset empties fx for the next input and keeps no reference to what was in it.
func (fx *Effects) Reset() {
	clear(fx.Sends)
	clear(fx.Events)
	clear(fx.Notes)
	fx.Sends, fx.Events, fx.Notes = fx.Sends[:0], fx.Events[:0], fx.Notes[:0]
}

// SendKind says what a Send asks of the daemon.
type SendKind uint8

const (
	// SendMulticast is a message: Groups, Service, Type; the data is Data and then Tail.
	SendMulticast SendKind = iota + 1
	// SendJoin asks for membership in Group.
	SendJoin
	// SendLeave asks for the end of the membership in Group.
	SendLeave
	// SendEvict asks the daemon to remove Member from Group while View is the group's view (VS-8). Daemons of the
	// original cannot; then it is left out.
	SendEvict
)

// String is the lower-case word.
func (k SendKind) String() string {
	switch k {
	case SendMulticast:
		return "multicast"
	case SendJoin:
		return "join"
	case SendLeave:
		return "leave"
	case SendEvict:
		return "evict"
	}
	return fmt.Sprintf("SendKind(%d)", uint8(k))
}

// Send is one request to the daemon.
type Send struct {
	Kind    SendKind
	Group   string
	Groups  []string
	Service Service
	Type    int16
	Data    []byte // the slice that the user gave, unchanged
	Tail    []byte
	Member  string
	View    evs.ViewID
}

// EventKind says what an Event tells the user.
type EventKind uint8

const (
	// EventView is a new view: View.
	EventView EventKind = iota + 1
	// EventRequest is a flush request: the view of Group is about to change, Flush is the answer.
	EventRequest
	// EventSignal is the transitional signal: members of the view ID are known to have gone, Members. None: daemons are
	// out of reach, and the next view will say whose members they take along.
	EventSignal
	// EventMessage is a message: Message.
	EventMessage
	// EventSelfLeave is the end of the membership. Asked says whether the user wanted it.
	EventSelfLeave
	// EventStuck names Members that have not answered for FlushTimeout, and in Silent those of them that have not
	// answered for any view since this session can see them: they may not use the flush protocol at all. ID is the
	// daemon's view.
	EventStuck
	// EventGaveUp says that the machine leaves Group because of Reason. A self-leave follows.
	EventGaveUp
)

// String is the lower-case word.
func (k EventKind) String() string {
	switch k {
	case EventView:
		return "view"
	case EventRequest:
		return "flush request"
	case EventSignal:
		return "signal"
	case EventMessage:
		return "message"
	case EventSelfLeave:
		return "self-leave"
	case EventStuck:
		return "stuck"
	case EventGaveUp:
		return "gave up"
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// Event is one thing for the user. Its slices are the user's from here on.
type Event struct {
	Kind    EventKind
	Group   string
	ID      evs.ViewID
	View    *View
	Message *Message
	Asked   bool
	Members []string
	Silent  []string
	Reason  Reason
}

// View is what the user gets as a view.
type View struct {
	Group   string
	ID      evs.ViewID
	Cause   evs.Cause
	Detail  evs.Detail // none when several changes became one view
	Members []string
	// Changed is the member that joined, left or disconnected; empty for the cause network.
	Changed string
	// Came are the members that came with me from my previous view, in its order, me included (VS-7).
	Came []string
}

// Message is a message as it comes from the daemon and as it goes to the user.
type Message struct {
	Sender    string
	Groups    []string // for the user of a subgroup cast: the receivers, then the group
	Service   Service
	Type      int16
	BigEndian bool // the sender's byte order
	Data      []byte
}

// NoteKind says what a Note is about.
type NoteKind uint8

const (
	// NoteState is a change of a record's view state: From, To, Reason.
	NoteState NoteKind = iota + 1
	// NoteDrop is an input that was ignored on purpose: Drop, From tells whose it was.
	NoteDrop
)

// Note is for logs and counters.
type Note struct {
	Kind   NoteKind
	Group  string
	From   State
	To     State
	Reason Reason
	Drop   Drop
	Sender string
}

// String is one line for logs.
func (n Note) String() string {
	if n.Kind == NoteState {
		return fmt.Sprintf("%s: %v to %v: %v", n.Group, n.From, n.To, n.Reason)
	}
	return fmt.Sprintf("%s: dropped, from %s: %v", n.Group, n.Sender, n.Drop)
}

// Drop says why an input was ignored.
type Drop uint8

const (
	// DropNoRecord: it is about a group that this session is not in.
	DropNoRecord Drop = iota + 1
	// DropNotInView: the sender is not in the view that the user sees, or has gone from it (VS-5).
	DropNotInView
	// DropOtherView: the message names a view that is neither mine nor the one being agreed (VS-1).
	DropOtherView
	// DropMalformed: too short, or not in the form of its type.
	DropMalformed
	// DropNotMember: an answer by somebody who is not a member of the view it answers for.
	DropNotMember
	// DropViewTwice: a membership message with an id that the record knows already.
	DropViewTwice
	// DropViewWithoutMe: a membership message that does not list this session.
	DropViewWithoutMe
	// DropEarlyFull: more answers for unknown views than are kept.
	DropEarlyFull
	// DropEarlyOld: answers for a view that no membership message named in time.
	DropEarlyOld
	// DropGivenUp: the group was given up and its self-leave has not come yet.
	DropGivenUp
)

var dropTexts = [...]string{
	DropNoRecord: "not a member of the group", DropNotInView: "the sender is not in the view", DropOtherView: "sent in another view",
	DropMalformed: "malformed", DropNotMember: "an answer from outside the view", DropViewTwice: "a view id came twice",
	DropViewWithoutMe: "a view without this session", DropEarlyFull: "too many answers for unknown views",
	DropEarlyOld: "answers for a view that never came", DropGivenUp: "the group was given up",
}

// String is what happened, for logs.
func (d Drop) String() string {
	if d >= DropNoRecord && d <= DropGivenUp {
		return dropTexts[d]
	}
	return fmt.Sprintf("Drop(%d)", uint8(d))
}
