// SPDX-License-Identifier: Apache-2.0

package evs

// TraceKind says what a trace record is about; the names are those of docs/guarantees.md, section 2.
type TraceKind uint8

// The events of a trace. Daemon level first, then the session level.
const (
	TraceStart      TraceKind = iota + 1 // incarnation begins; Number = stored ring sequence (0: none)
	TraceConf                            // configuration installed; Conf, Members, Origins, Primary
	TraceSend                            // message originated; Conf = regular configuration, Seq, Index, Number = sender's own counter, Service, Digest, Length
	TraceDeliver                         // message delivered by the daemon; Conf = current configuration, Origin = sender, Seq, Index, Service, Digest, Length
	TraceFail                            // crash, written by whoever crashed it
	TraceStop                            // orderly exit
	TraceStore                           // stable write of a ring sequence completed; Number
	TraceToken                           // token accepted; Conf = its ring, Number = token sequence
	TraceTokenLost                       // token declared lost; Conf = its ring, Number = last token sequence accepted
	TraceConnect                         // session accepted; Session
	TraceDisconnect                      // session over; Session, Reason (empty: the client closed it; anything else: the daemon did, and the client noticed later)
	TraceJoin                            // client asked to join Group
	TraceLeave                           // client asked to leave Group
	TraceMulticast                       // client handed a message over: Groups, Service, Digest, Length, Number = session's own counter, SelfDiscard
	TraceClientMsg                       // session got a message: Sender (private name), Groups, Service, Digest, Length
	TraceView                            // session got a view of Group: View
	TraceSignal                          // session got the transitional signal of Group; View.ID = the view that ends
	TraceSelfLeave                       // session got the self-leave of Group
	TracePrimary                         // session was told whether it is in a primary configuration: Primary

	// What users of view synchrony see, one level above the session's own views; all name Session and Group.
	TraceVSMulticast    // handed a message over: View.ID = the view it sends in, Service, Digest, SelfDiscard; Groups = the receivers of a subgroup cast
	TraceVSMessage      // got a message: Sender, Service, Digest
	TraceVSView         // got a view: View, whose only set is who came along
	TraceVSSignal       // got the transitional signal
	TraceVSFlushRequest // was asked to flush
	TraceVSFlushOK      // flushed
	TraceVSSelfLeave    // got the self-leave
)

// SessionID names one client connection for a trace: the daemon's incarnation, the connection's number there, and the
// private name "#user#daemon".
type SessionID struct {
	Daemon ProcID
	Number uint64
	Name   string
}

// ViewID is what identifies a view of a group to its members: the three words of the client protocol (5.2).
type ViewID [3]uint32

// Cause says why a view was installed.
type Cause uint8

// The causes of a view, as clients of the original see them.
const (
	CausedByJoin Cause = iota + 1
	CausedByLeave
	CausedByDisconnect
	CausedByNetwork
)

// String is the lower-case word.
func (c Cause) String() string {
	switch c {
	case CausedByJoin:
		return "join"
	case CausedByLeave:
		return "leave"
	case CausedByDisconnect:
		return "disconnect"
	case CausedByNetwork:
		return "network"
	}
	return "unknown cause"
}

// TraceViewInfo describes a view in a trace. Sets are the VS sets in the order of the notice; Mine indexes the receiver's.
type TraceViewInfo struct {
	ID      ViewID
	Cause   Cause
	Members []string
	Sets    [][]string
	Mine    int
}

// Trace is one record of a history: what happened at one process, in its own order. Only the fields that the kind
// names are set. Checkers judge lists of these (internal/check); the simulator, real daemons and test clients write
// them. Proc is the daemon, or for session-level records the daemon that serves the session.
type Trace struct {
	Kind        TraceKind
	Proc        ProcID
	Session     SessionID // session level only
	Conf        ConfID
	Members     []ProcID
	Origins     []RingID
	Primary     Primary
	Origin      ProcID // sender of a delivered message
	Seq         uint64 // position of the packet with the last fragment
	Index       uint32 // which message inside that packet, counted from 0
	Number      uint64
	Service     Service
	Digest      uint64
	Length      int
	Group       string
	Groups      []string
	Sender      string
	SelfDiscard bool
	Reason      string
	View        *TraceViewInfo
	Step        uint64 // global step of the simulator; zero elsewhere. No safety rule needs it.
	At          int64  // virtual or monotonic nanoseconds, for liveness only

	// Ring on TraceDeliver: the ring whose order Seq is a position of. Zero means Conf.Reg(), and no other value is
	// right (EVS-3); the field exists so that a delivery that breaks the rule can be written down as what it is.
	Ring RingID
	// NoViews on TraceConnect: the session asked for no membership notices, so it records no views, signals or
	// self-leaves and the checkers must not miss them.
	NoViews bool
	// Asked on TraceConnect: the private name that the client asked for; empty if it left the choice to the daemon or
	// the writer does not know (GRP-15).
	Asked string
}
