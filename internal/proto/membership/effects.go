// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"fmt"
	"net/netip"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Effects is filled by inputs and emptied by the caller, who reuses it. Steps are for order, in their order; Sends go
// to the network after them.
type Effects struct {
	Sends  []packet.Send
	Stores []Store
	Steps  []Step
	Notes  []Note
}

// Reset empties fx for reuse.
func (fx *Effects) Reset() {
	clear(fx.Sends)
	clear(fx.Steps)
	clear(fx.Notes)
	fx.Sends, fx.Stores, fx.Steps, fx.Notes = fx.Sends[:0], fx.Stores[:0], fx.Steps[:0], fx.Notes[:0]
}

// Store asks for a stable write of a ring sequence, some way above the highest known. Its outcome comes back as HandleStored(ID, err).
// Several may be under way; they must be carried out in order.
type Store struct {
	ID      uint64
	RingSeq uint64
}

// StepKind says what order has to do.
type StepKind uint8

const (
	// StepSingleton: install Ring, a regular configuration of this daemon alone, the first of this incarnation (EVS-18).
	StepSingleton StepKind = iota + 1
	// StepGather: leave the ring or abandon the attempt, because of Reason. No token is accepted any more; the
	// ban on old-ring packets is lifted (8.4.8), and what they complete may be delivered until the next promise.
	StepGather
	// StepCommit: this daemon is the representative of a ring to be. Order must hand Commit back through HandleCommit,
	// with its entry, before any other input: the entry is order's to compute.
	StepCommit
	// StepPromise: my entry is in the Commit token of Ring. Old-ring packets are ignored from now (8.4.8).
	StepPromise
	// StepRecover: everybody's entry is known and Ring's number stored: recover on the new ring. The member with Me 0
	// gets this step when the Commit token has completed its second rotation, and starts the token.
	StepRecover
)

var stepNames = [...]string{StepSingleton: "singleton", StepGather: "gather", StepCommit: "commit", StepPromise: "promise", StepRecover: "recover"}

// String is the lower-case name.
func (k StepKind) String() string {
	if k > 0 && int(k) < len(stepNames) {
		return stepNames[k]
	}
	return fmt.Sprintf("StepKind(%d)", uint8(k))
}

// Step is something order must do now. Which fields are set depends on Kind. Commit and Addrs may be kept, not changed.
type Step struct {
	Kind   StepKind
	Ring   evs.RingID
	Reason Reason           // StepGather
	Commit *packet.Commit   // StepCommit, StepRecover
	Me     int              // StepRecover: my index in Commit.Entries
	Addrs  []netip.AddrPort // StepRecover: where I reach each member; my own may be invalid

	Primary evs.Primary // StepSingleton, StepRecover: of the configuration
}

// State is what the machine is doing.
type State uint8

const (
	// StateStarting: no configuration yet; the number of the first is being stored. Ends when it is.
	StateStarting State = iota + 1
	// StateGather: no ring; proposals are exchanged. Ends with consensus and a Commit token (SRP95, 6.2.2, Gather).
	StateGather
	// StateCommit: promised to a ring to be, or its representative; the Commit token is on its way (SRP95, Commit).
	StateCommit
	// StateRecover: order recovers on the new ring. Ends with its install, or with failure (SRP95, Recovery).
	StateRecover
	// StateOperational: a configuration is installed and its ring turns. Probes look for others.
	StateOperational
	// StateLeaving: saying good-bye. Ends by itself after a few Joins.
	StateLeaving
	// StateLeft: done; nothing is sent or accepted any more.
	StateLeft

	stateCount
)

var stateNames = [...]string{StateStarting: "starting", StateGather: "gather", StateCommit: "commit", StateRecover: "recover",
	StateOperational: "operational", StateLeaving: "leaving", StateLeft: "left"}

// String is the lower-case name.
func (s State) String() string {
	if s > 0 && s < stateCount {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Reason says why the machine left a state, blamed somebody or dropped a packet.
type Reason uint8

const (
	reasonNone Reason = iota

	// Why a ring was left or an attempt abandoned.

	// ReasonStart: a daemon looks for others when it starts.
	ReasonStart
	// ReasonTokenLost: no token for the token timeout.
	ReasonTokenLost
	// ReasonMemberLeft: a member's Join shows that it has left this ring. It may have been the first to notice something.
	ReasonMemberLeft
	// ReasonMemberLeaving: a member said good-bye.
	ReasonMemberLeaving
	// ReasonRestarted: a new incarnation of a member's name proves that the member is dead.
	ReasonRestarted
	// ReasonVanished: a member is gone without a good-bye, and nobody heard of it since: a crash, or a cut.
	ReasonVanished
	// ReasonHearsNobody: a member lives and says that it hears nobody: it cannot receive, or has found that it could not.
	ReasonHearsNobody
	// ReasonMerge: foreign daemons are in mutual reach of all of us.
	ReasonMerge
	// ReasonUnreachable: two members have not heard each other for longer than the reach timeout.
	ReasonUnreachable
	// ReasonRemoved: no configuration lists a member any more.
	ReasonRemoved
	// ReasonPrimaryRule: by another list of daemons, this daemon would say something else of whether its configuration is
	// primary.
	ReasonPrimaryRule
	// ReasonFailedToReceive: a member did not receive what the others have.
	ReasonFailedToReceive
	// ReasonRecoveryFailed: recovery on the new ring gave up.
	ReasonRecoveryFailed
	// ReasonChangedMind: a member proposes another membership before it got the Commit token.
	ReasonChangedMind
	// ReasonCommitTimeout: the Commit token did not come round in time.
	ReasonCommitTimeout
	// ReasonRecoverTimeout: recovery took longer than any can.
	ReasonRecoverTimeout
	// ReasonStoreFailed: the ring's number could not be stored, so the ring was refused.
	ReasonStoreFailed
	// ReasonRetry: the time after a refused ring is over.
	ReasonRetry

	// Other transitions.

	// ReasonConsensus: all members of the proposal agree.
	ReasonConsensus
	// ReasonCommitToken: the Commit token of the agreed membership came.
	ReasonCommitToken
	// ReasonAllKnown: the second rotation shows the entries of all.
	ReasonAllKnown
	// ReasonInstalled: recovery ended and the configuration is installed.
	ReasonInstalled
	// ReasonLeave: the operator stops this daemon.
	ReasonLeave
	// ReasonSaidGoodbye: the last good-bye is sent.
	ReasonSaidGoodbye

	// Why a packet was dropped.

	// ReasonStale: an older or repeated packet of its sender.
	ReasonStale
	// ReasonOwn: my own packet, come back.
	ReasonOwn
	// ReasonNotMine: a Commit token for a membership that is not what I propose.
	ReasonNotMine
	// ReasonWrongState: a packet that means nothing in this state.
	ReasonWrongState
	// ReasonBadToken: a Commit token that contradicts what I put into it.
	ReasonBadToken
	// ReasonDeadSender: an incarnation that a later one has replaced.
	ReasonDeadSender
	// ReasonSameName: another daemon uses this daemon's name.
	ReasonSameName
	// ReasonTableFull: more daemons than the table holds.
	ReasonTableFull

	reasonCount
)

var reasonTexts = [...]string{
	reasonNone:            "no reason",
	ReasonStart:           "start: looking for others",
	ReasonTokenLost:       "token lost",
	ReasonMemberLeft:      "member looks for a new ring",
	ReasonMemberLeaving:   "member said good-bye",
	ReasonRestarted:       "member was restarted",
	ReasonVanished:        "member vanished without a word",
	ReasonHearsNobody:     "member says that it hears nobody",
	ReasonMerge:           "merge with daemons in reach",
	ReasonUnreachable:     "members do not hear each other",
	ReasonRemoved:         "member was removed from the configuration of all",
	ReasonPrimaryRule:     "what counts as primary has changed",
	ReasonFailedToReceive: "member failed to receive",
	ReasonRecoveryFailed:  "recovery failed",
	ReasonChangedMind:     "member changed its mind",
	ReasonCommitTimeout:   "commit token did not come round",
	ReasonRecoverTimeout:  "recovery took too long",
	ReasonStoreFailed:     "ring number could not be stored",
	ReasonRetry:           "trying again after a refused ring",
	ReasonConsensus:       "all members agree",
	ReasonCommitToken:     "commit token of the agreed membership",
	ReasonAllKnown:        "entries of all members known",
	ReasonInstalled:       "configuration installed",
	ReasonLeave:           "leaving on request",
	ReasonSaidGoodbye:     "said good-bye",
	ReasonStale:           "stale packet",
	ReasonOwn:             "own packet",
	ReasonNotMine:         "commit token for another membership",
	ReasonWrongState:      "packet means nothing in this state",
	ReasonBadToken:        "commit token contradicts my entry",
	ReasonDeadSender:      "sender was replaced by a later incarnation",
	ReasonSameName:        "another daemon has this daemon's name",
	ReasonTableFull:       "too many daemons",
}

// String is the reason in a few words.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonTexts[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// NoteKind says what a Note is about.
type NoteKind uint8

const (
	// NoteState: a transition From, To, for Reason. Peer is who caused it, if somebody did; Ring is the ring concerned.
	NoteState NoteKind = iota + 1
	// NoteInstalled: Ring with Members is installed. Gone lists who was in the configuration before it and is not now;
	// Causes say why that configuration was left, and because of whom.
	NoteInstalled
	// NoteDrop: a packet from Peer was dropped for Reason.
	NoteDrop
	// NoteSuspect: Peer is not counted as heard for a while, for Reason.
	NoteSuspect
	// NoteTimeoutDiffers: Peer runs with another token timeout.
	NoteTimeoutDiffers
	// NoteVariantDiffers: Peer runs the other ring variant; its representative's decides for each ring.
	NoteVariantDiffers
	// NoteFactsDiffer: Peer says other facts about its configuration.
	NoteFactsDiffer
	// NoteFactsAgree: Peer, whose facts differed, says the same as this daemon now.
	NoteFactsAgree
	// NoteStillListed: my configuration does not list Peer, but another daemon's does, so it takes part.
	NoteStillListed
	// NoteKeptOut: no configuration but its own, or those of others that are kept out, lists Peer, so it is kept out.
	NoteKeptOut
	// NoteNotListed: Peer's configuration does not list this daemon.
	NoteNotListed
	// NoteSameName: Peer uses this daemon's name. Two daemons of one name are never in one configuration.
	NoteSameName
	// NoteMissing: Missing are the daemons of my configuration that are not in the one installed, some seconds after its
	// install; none: those that were missing have come.
	NoteMissing
	// NoteStoreFailed: a stable write failed with Err; the ring is refused and tried again later.
	NoteStoreFailed
)

// Note tells the shell what happened and why. Which fields are set depends on Kind.
type Note struct {
	Kind          NoteKind
	From, To      State
	Reason        Reason
	Peer          evs.ProcID
	Ring          evs.RingID
	Members, Gone []evs.ProcID
	Missing       []string
	Causes        []Cause // NoteInstalled; may be kept
	Facts         []byte  // NoteFactsDiffer: the peer's; may be kept
	Err           error
}
