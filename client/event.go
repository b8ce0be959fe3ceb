// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"slices"
	"strings"
)

// Event is what a session delivers, in the order in which the daemon delivered it. It is one of
//
//	*Message     an ordinary message
//	*View        a new view of a group this session is a member of
//	*Transition  the transitional signal: the view is about to lose members
//	*SelfLeave   the end of this session's membership in a group
//	*Rejected    one of this session's own requests, refused by the daemon's access rules
//	*Peers       other daemons to which a client could turn (Evensong's own dialect only)
//	*PrimaryChange what follows belongs to a primary configuration, or does not (WithPrimary only)
//	*Lost        the session of a Roamer is lost
//	*Moved       a Roamer has another session
//
// The set is closed: a switch over these is complete. A Conn gives the first seven. Events are values of their receiver;
// nothing in the package keeps or changes one after it was returned.
type Event interface {
	// GroupName is the group the event is about; for a message the first of its destinations, empty if it has none.
	GroupName() string
	// String is one line for logs; its form may change.
	String() string
	sealed()
}

func (m *Message) sealed()    {}
func (v *View) sealed()       {}
func (t *Transition) sealed() {}
func (s *SelfLeave) sealed()  {}
func (r *Rejected) sealed()   {}

// Message is an ordinary message, delivered in the view that is current at its place in the order (which can be later
// than the view in which it was sent).
type Message struct {
	// Sender is the private group of the sending session. It can be used as destination for an answer.
	Sender string
	// Groups are all destinations as the sender wrote them, also those that nobody is a member of.
	Groups []string
	// Service is what the sender asked for, with SelfDiscard and other marks if the sender set them.
	Service Service
	// Type is the 16-bit tag that the sending application chose.
	Type int16
	// EndianMismatch says that the sender's machine has another byte order than this one. Data is never converted.
	EndianMismatch bool
	// Data belongs to the receiver. With WithPooledMessages it is valid until Release.
	Data []byte

	one   [1]string // backs Groups for the usual case of one destination: saves an allocation per message
	class *poolClass
	freed bool // in its pool
}

// GroupName is the first destination.
func (m *Message) GroupName() string {
	if len(m.Groups) == 0 {
		return ""
	}
	return m.Groups[0]
}

// String is sender, destinations, service, type and the beginning of the data.
func (m *Message) String() string {
	data, more := m.Data, ""
	if len(data) > maxStringBytes {
		data, more = data[:maxStringBytes], fmt.Sprintf(" and %d bytes more", len(m.Data)-maxStringBytes)
	}
	return fmt.Sprintf("%s to %s (%v, type %d): %q%s", m.Sender, strings.Join(m.Groups, " "), m.Service, m.Type, data, more)
}

// maxStringBytes keeps log lines readable.
const maxStringBytes = 64

// Clone is a copy of m that does not belong to a pool: what a receiver keeps when it wants to Release the original.
func (m *Message) Clone() *Message {
	return &Message{Sender: m.Sender, Groups: slices.Clone(m.Groups), Service: m.Service, Type: m.Type,
		EndianMismatch: m.EndianMismatch, Data: slices.Clone(m.Data)}
}

// ViewID identifies a view of one group. All members see the same one. Only equality has a meaning that holds with
// every daemon (client-protocol 5.2): the original's daemon can use an id again after a group was empty, Evensong never
// does. The zero value identifies no view.
type ViewID [3]uint32

// String shows all three words: the first two, which name the daemons' configuration, in hexadecimal.
func (id ViewID) String() string {
	return fmt.Sprintf("%08x.%08x.%d", id[0], id[1], id[2])
}

// Cause says why there is a new view.
type Cause uint8

const (
	// CausedByJoin is a member more: View.Joined.
	CausedByJoin Cause = iota + 1
	// CausedByLeave is a member that left on its own: View.Left.
	CausedByLeave
	// CausedByDisconnect is a member whose session ended, orderly or not: View.Disconnected.
	CausedByDisconnect
	// CausedByNetwork is a change between daemons (crash, partition, merge). VSSets tells who came with whom.
	CausedByNetwork
)

var causeNames = [...]string{CausedByJoin: "join", CausedByLeave: "leave", CausedByDisconnect: "disconnect", CausedByNetwork: "network"}

// String is "join", "leave", "disconnect" or "network".
func (c Cause) String() string {
	if c >= CausedByJoin && c <= CausedByNetwork {
		return causeNames[c]
	}
	return fmt.Sprintf("Cause(%d)", uint8(c))
}

// View is a membership of a group. It is a value: it does not change when the group does; the next View says so.
type View struct {
	Group string
	ID    ViewID
	// Members are private groups in an order that is the same at all members: by daemon, then by name.
	Members []string
	Cause   Cause
	// Joined, Left and Disconnected name the member that changed. At most the one that Cause speaks of is not empty;
	// with CausedByNetwork all three are, because who came and who went depends on the view one comes from.
	Joined, Left, Disconnected string
	// Detail says more than Cause; DetailUnknown on a session that speaks the original's protocol.
	Detail Detail
	// Primary says whether the daemons' configuration at this place of the order is primary; PrimaryUnclaimed without
	// WithPrimary. It can change while the view lasts: see PrimaryChange.
	Primary Primary
	// VSSets are the virtual synchrony sets. With CausedByNetwork they divide Members: two are in one set if they came
	// together from the same previous view and so delivered the same messages in it. With the other causes there is one
	// set with the member that changed (client-protocol 5.3): everybody who is in both views came together. Came
	// is the answer in both cases.
	VSSets [][]string
	// Mine is the index in VSSets of the receiver's own set.
	Mine int
}

// GroupName is the group.
func (v *View) GroupName() string { return v.Group }

// String is group, identity, cause and members.
func (v *View) String() string {
	cause := v.Cause.String()
	if changed := v.Joined + v.Left + v.Disconnected; changed != "" {
		cause += " of " + changed
	}
	if d := v.Detail.String(); d != "" {
		cause += " (" + d + ")"
	}
	return fmt.Sprintf("view %v of %s after %s: %s", v.ID, v.Group, cause, strings.Join(v.Members, " "))
}

// Rank is the place of a private group in Members, from 0; -1 if it is not a member. Rank 0 is a coordinator that all
// members agree on without a message.
func (v *View) Rank(member string) int { return slices.Index(v.Members, member) }

// Came returns the members that came together with me (a member's private group, usually the receiver's own) from its
// previous view, me included: those that delivered the same messages before this view. Somebody who just joined came
// alone. The slice is new.
func (v *View) Came(me string) []string {
	if v.Cause == CausedByNetwork {
		for _, set := range v.VSSets {
			if slices.Contains(set, me) {
				return slices.Clone(set)
			}
		}
		return nil
	}
	if v.Rank(me) < 0 {
		return nil
	}
	if v.Joined == me {
		return []string{me}
	}
	return slices.DeleteFunc(slices.Clone(v.Members), func(m string) bool { return m == v.Joined })
}

// Transition is the transitional signal of a group: members have become unreachable. From here to the group's next
// View, Safe means safe only among those that move on together, and messages may be missing at the others.
type Transition struct {
	Group string
	// ID is the view that is ending.
	ID ViewID
}

// GroupName is the group.
func (t *Transition) GroupName() string { return t.Group }

// String is group and identity of the view.
func (t *Transition) String() string {
	return fmt.Sprintf("transitional signal in view %v of %s", t.ID, t.Group)
}

// SelfLeave says that this session's leave was ordered. Nothing of the group follows unless the session joins again.
type SelfLeave struct {
	Group string
	// Detail says whether the leave was this session's wish or an eviction; DetailUnknown on a session that speaks the
	// original's protocol.
	Detail Detail
}

// GroupName is the group.
func (s *SelfLeave) GroupName() string { return s.Group }

// String names the group.
func (s *SelfLeave) String() string {
	if s.Detail == DetailEvicted {
		return "evicted from " + s.Group
	}
	return "left " + s.Group
}

// Rejected brings back a request that the daemon's access rules refused. Nobody else has seen it.
type Rejected struct {
	// Request is what was refused.
	Request Request
	// Groups are the destinations or the group of the join or leave; the sender's own private group, which the daemon
	// appends, is already cut off.
	Groups []string
	// Service, Type and Data are those of a refused message; Service is zero for a join or leave.
	Service Service
	Type    int16
	Data    []byte
	// Reason is a sentence; empty on a session that speaks the original's protocol. Sessions in Evensong's own dialect get
	// no copy of what they sent, and the first destination only.
	Reason string
}

// GroupName is the first group.
func (r *Rejected) GroupName() string {
	if len(r.Groups) == 0 {
		return ""
	}
	return r.Groups[0]
}

// String is what was refused.
func (r *Rejected) String() string {
	return fmt.Sprintf("refused: %v to %s", r.Request, strings.Join(r.Groups, " "))
}

// Request is a kind of request that can be refused.
type Request uint8

const (
	// RequestMulticast is a message.
	RequestMulticast Request = iota + 1
	// RequestJoin is a join.
	RequestJoin
	// RequestLeave is a leave.
	RequestLeave
)

// String is "multicast", "join" or "leave".
func (r Request) String() string {
	switch r {
	case RequestMulticast:
		return "multicast"
	case RequestJoin:
		return "join"
	case RequestLeave:
		return "leave"
	}
	return fmt.Sprintf("Request(%d)", uint8(r))
}

// Service is the delivery guarantee of a message: exactly one of the six levels, with SelfDiscard if wanted, as in
// Agreed|SelfDiscard. The values are those of the protocol, so programs for the Spread toolkit keep their numbers.
// A higher level includes what the lower ones promise (client-protocol 3.6).
type Service uint32

const (
	// Unreliable promises nothing. Daemons treat it like Reliable.
	Unreliable Service = 0x01
	// Reliable is delivered once to every member that stays, in no promised order.
	Reliable Service = 0x02
	// FIFO keeps the order of each sending session.
	FIFO Service = 0x04
	// Causal is delivered behind everything that its sender had received.
	Causal Service = 0x08
	// Agreed is one order for all messages of all groups, the same at every receiver.
	Agreed Service = 0x10
	// Safe is Agreed, and delivered only when every daemon of the configuration has the message.
	Safe Service = 0x20
	// SelfDiscard keeps the message from the sending session itself.
	SelfDiscard Service = 0x40

	levels Service = 0x3F
	// passed are bits without a meaning to daemons that travel unchanged; the flush layer marks subgroup casts with one
	// of them (client-protocol 3.2). DROP_RECV (0x01000000) is a flag of the C receive call and has no place here.
	passed Service = 0x70000000
)

var levelNames = map[Service]string{Unreliable: "unreliable", Reliable: "reliable", FIFO: "fifo", Causal: "causal", Agreed: "agreed", Safe: "safe"}

// Level is the service without marks.
func (s Service) Level() Service { return s & levels }

// Has reports whether all bits of mark are set.
func (s Service) Has(mark Service) bool { return s&mark == mark }

// Valid reports whether s may be given to Multicast.
func (s Service) Valid() bool {
	l := s.Level()
	return l != 0 && l&(l-1) == 0 && s&^(levels|SelfDiscard|passed) == 0
}

// String is the level in lower case, with marks behind it: "agreed", "safe|self-discard".
func (s Service) String() string {
	var parts []string
	rest := s
	if name, ok := levelNames[s.Level()]; ok {
		parts = append(parts, name)
		rest &^= levels
	}
	if rest.Has(SelfDiscard) {
		parts = append(parts, "self-discard")
		rest &^= SelfDiscard
	}
	if rest != 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%#x", uint32(rest)))
	}
	return strings.Join(parts, "|")
}
