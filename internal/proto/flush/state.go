// SPDX-License-Identifier: Apache-2.0

package flush

import "fmt"

// Membership says how far the session's membership in a group is.
type Membership uint8

const (
	// Joining lasts from the first membership message until the first view is installed. Flush answers are automatic.
	Joining Membership = iota + 1
	// Joined lasts until the user leaves.
	Joined
	// Leaving lasts until the self-leave.
	Leaving
)

// String is the lower-case word.
func (s Membership) String() string {
	switch s {
	case Joining:
		return "joining"
	case Joined:
		return "joined"
	case Leaving:
		return "leaving"
	}
	return fmt.Sprintf("Membership(%d)", uint8(s))
}

// State is where a record is between two views (client-protocol 8.2).
type State uint8

const (
	// Steady: every member of the view is known to have installed it and no other view is pending. Ends with a
	// membership message.
	Steady State = iota + 1
	// Authorize: a view is pending, the user was asked. Sending is still allowed. Ends with the user's answer.
	Authorize
	// Agree: this session has answered for the head of the pending views and sends nothing to the group. Ends when all
	// members of the head have answered.
	Agree
	// Verify: a view was installed and nothing is pending, but others may still be in the old view. Ends when all have
	// said that they installed it, or with a membership message.
	Verify
)

// String is the lower-case word.
func (s State) String() string {
	switch s {
	case Steady:
		return "steady"
	case Authorize:
		return "authorize"
	case Agree:
		return "agree"
	case Verify:
		return "verify"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// moves are the allowed changes of State.
var moves = [...][]State{
	Steady:    {Authorize},
	Authorize: {Agree},
	Agree:     {Verify},
	Verify:    {Authorize, Steady},
}

// Reason says why a record changed its state, or was given up.
type Reason uint8

const (
	// ReasonPending: a membership message opened a pending view.
	ReasonPending Reason = iota + 1
	// ReasonFlushed: the user answered.
	ReasonFlushed
	// ReasonAutomatic: answered for the user, who wants it so.
	ReasonAutomatic
	// ReasonInstalled: all members of the pending view have answered.
	ReasonInstalled
	// ReasonSettled: all members have said that they installed the view.
	ReasonSettled
	// ReasonTooManyViews: more views are pending than are kept.
	ReasonTooManyViews
	// ReasonTooMuchPostponed: more messages wait for the pending view than are kept.
	ReasonTooMuchPostponed
)

var reasonTexts = [...]string{
	ReasonPending: "a view is pending", ReasonFlushed: "the user has flushed", ReasonAutomatic: "flushed for the user",
	ReasonInstalled: "all members have flushed", ReasonSettled: "all members have the view",
	ReasonTooManyViews: "too many views are pending", ReasonTooMuchPostponed: "too many messages wait for the pending view",
}

// String is a short sentence.
func (r Reason) String() string {
	if r >= ReasonPending && r <= ReasonTooMuchPostponed {
		return reasonTexts[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Refusal is why a request of the user was not carried out. Nothing was sent.
type Refusal uint8

const (
	// RefuseGroup: the group's membership does not allow it: not joined, already joined, leaving; or no legal name.
	RefuseGroup Refusal = iota + 1
	// RefuseState: not now: a flush without a request, or a message between the flush and the next view (VS-4).
	RefuseState
	// RefuseType: the message type is one of the flush layer's own.
	RefuseType
	// RefuseService: not exactly one level, or a bit that is not a user's.
	RefuseService
	// RefuseReceivers: a receiver of a subgroup cast is not in the view.
	RefuseReceivers
	// RefuseParam: a subgroup cast to nobody.
	RefuseParam
)

var refusalTexts = [...]string{
	RefuseGroup:     "not a group that this is possible in now: it must be joined, and not yet be left",
	RefuseState:     "not in this state of the view change: flush once after a request; send nothing between flush and view",
	RefuseType:      "the message types -32768 to -32766 belong to the flush protocol",
	RefuseService:   "give exactly one of the six levels, and self-discard if wanted",
	RefuseReceivers: "every receiver must be a member of the current view",
	RefuseParam:     "no receivers",
}

// Error is a sentence that says what is possible.
func (r Refusal) Error() string {
	if r >= RefuseGroup && r <= RefuseParam {
		return refusalTexts[r]
	}
	return fmt.Sprintf("Refusal(%d)", uint8(r))
}
