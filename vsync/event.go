// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"fmt"
	"slices"
	"strings"

	"evensong/client"
)

// Event is what a session delivers. It is one of
//
//	*View          a new view of a group
//	*Message       a message, in the view in which it was sent
//	*FlushRequest  the view is about to change: finish, then Flush
//	*Transition    members of the view have gone
//	*SelfLeave     the end of this session's membership in a group
//	*Stuck         members that hold up a view change
//	*GaveUp        the session leaves a group because it cannot keep up with it
//	*Rejected      one of this session's own requests, refused by the daemon's access rules
//	*PrimaryChange the daemons are in a primary configuration, or no more (client.WithPrimary only)
//
// The set is closed. Events are values of their receiver.
type Event interface {
	// GroupName is the group the event is about; for a message to the session's private group that one.
	GroupName() string
	// String is one line for logs; its form may change.
	String() string
	sealed()
}

func (m *Message) sealed()      {}
func (v *View) sealed()         {}
func (r *FlushRequest) sealed() {}
func (t *Transition) sealed()   {}
func (s *SelfLeave) sealed()    {}
func (s *Stuck) sealed()        {}
func (g *GaveUp) sealed()       {}
func (r *Rejected) sealed()     {}

// Message is a message.
type Message struct {
	// Group is the group in whose view the message is, also for a subgroup cast; for a message to the session's private
	// group that one.
	Group string
	// View is the view in which it was sent and is delivered. Zero for a message to the private group, which has none.
	View client.ViewID
	// Sender is the private group of the sending session.
	Sender string
	// Groups are the destinations as the sender wrote them: the group, or the receivers of a subgroup cast.
	Groups []string
	// Subgroup says that the message is a subgroup cast.
	Subgroup bool
	// Service is what the sender asked for.
	Service client.Service
	// Type is the 16-bit tag that the sending application chose.
	Type int16
	// EndianMismatch says that the sender's machine has another byte order than this one. Data is never converted.
	EndianMismatch bool
	Data           []byte
}

// GroupName is Group.
func (m *Message) GroupName() string { return m.Group }

// String is sender, group, service, type and the beginning of the data.
func (m *Message) String() string {
	data, more := m.Data, ""
	if len(data) > maxStringBytes {
		data, more = data[:maxStringBytes], fmt.Sprintf(" and %d bytes more", len(m.Data)-maxStringBytes)
	}
	to := m.Group
	if m.Subgroup {
		to = strings.Join(m.Groups, " ") + " of " + m.Group
	}
	return fmt.Sprintf("%s to %s (%v, type %d): %q%s", m.Sender, to, m.Service, m.Type, data, more)
}

// maxStringBytes keeps log lines readable.
const maxStringBytes = 64

// View is a membership that all its members have agreed to change to.
type View struct {
	Group string
	ID    client.ViewID
	// Members are private groups in an order that is the same at all members.
	Members []string
	// Cause is network also when several changes became one view.
	Cause client.Cause
	// Detail says more than Cause. DetailUnknown when several changes became one view, and on a session that speaks the
	// original's protocol.
	Detail client.Detail
	// Joined, Left and Disconnected name the member that changed, if Cause is that.
	Joined, Left, Disconnected string
	// Came are the members that came with me from my previous view, me included, in its order: those that delivered the
	// same messages in it. A newcomer came alone.
	Came []string
	// Primary says whether the daemons' configuration is primary when the view is installed here; PrimaryUnclaimed without
	// client.WithPrimary. It can change while the view lasts: see PrimaryChange.
	Primary client.Primary
}

// GroupName is the group.
func (v *View) GroupName() string { return v.Group }

// String is group, identity, cause and members.
func (v *View) String() string {
	cause := v.Cause.String()
	if changed := v.Joined + v.Left + v.Disconnected; changed != "" {
		cause += " of " + changed
	}
	return fmt.Sprintf("view %v of %s after %s: %s", v.ID, v.Group, cause, strings.Join(v.Members, " "))
}

// Rank is the place of a private group in Members, from 0; -1 if it is not a member.
func (v *View) Rank(member string) int { return slices.Index(v.Members, member) }

// FlushRequest says that the group's view is about to change. Until Flush the session may still send, in the old view.
type FlushRequest struct {
	Group string
	// ID is the view that is ending.
	ID client.ViewID
}

// GroupName is the group.
func (r *FlushRequest) GroupName() string { return r.Group }

// String is group and view.
func (r *FlushRequest) String() string {
	return fmt.Sprintf("flush request in view %v of %s", r.ID, r.Group)
}

// Transition says, once in a view, that members of it are known to have gone, by leaving, disconnecting or a change
// between daemons. Safe means from here on safe among those that come along to the next view.
type Transition struct {
	Group string
	// ID is the view that is ending.
	ID client.ViewID
	// Gone are members of the view that left, disconnected, or were lost with their daemons; more may follow them before
	// the next view. Nil if all that is known is that daemons are out of reach: which members are lost with them, the next
	// view tells.
	Gone []string
}

// GroupName is the group.
func (t *Transition) GroupName() string { return t.Group }

// String is group and view.
func (t *Transition) String() string {
	s := fmt.Sprintf("transitional signal in view %v of %s: ", t.ID, t.Group)
	if len(t.Gone) == 0 {
		return s + "daemons are out of reach"
	}
	return s + "gone are " + strings.Join(t.Gone, " ")
}

// SelfLeave is the end of the membership in a group. Nothing of the group follows unless the session joins again.
type SelfLeave struct {
	Group string
	// Evicted says that it was not this session that wanted it: it did not answer a flush request in time, or somebody
	// with the right to do so removed it.
	Evicted bool
}

// GroupName is the group.
func (s *SelfLeave) GroupName() string { return s.Group }

// String names the group.
func (s *SelfLeave) String() string {
	if s.Evicted {
		return "removed from " + s.Group
	}
	return "left " + s.Group
}

// Stuck says that members have not answered a view change for the time of WithFlushTimeout. It comes again after each
// further such time, and always before the View or SelfLeave that ends the change.
type Stuck struct {
	Group string
	// ID is the view of the daemon that they hold up.
	ID client.ViewID
	// Members have not answered.
	Members []string
	// Silent are those of Members that have never answered since this session can see them: perhaps sessions that do
	// not use the flush protocol at all, which no group of it can have.
	Silent []string
	// Err is nil if the daemon was asked to remove them, or the change ended while it was being asked; ErrCannotEvict if
	// it cannot; else why asking failed.
	Err error
}

// GroupName is the group.
func (s *Stuck) GroupName() string { return s.Group }

// String names group and members.
func (s *Stuck) String() string {
	line := fmt.Sprintf("%s waits for %s", s.Group, strings.Join(s.Members, " "))
	if len(s.Silent) > 0 {
		line += fmt.Sprintf(" (no answer was ever seen from %s)", strings.Join(s.Silent, " "))
	}
	if s.Err != nil {
		return line + ": " + s.Err.Error()
	}
	return line + ": the daemon was asked to remove them"
}

// GaveUp says that the session is leaving a group because more of it waits than is kept: it did not flush through
// thousands of changes, or messages of a view that it cannot install grew too many. A SelfLeave follows.
type GaveUp struct {
	Group  string
	Reason string
}

// GroupName is the group.
func (g *GaveUp) GroupName() string { return g.Group }

// String is group and reason.
func (g *GaveUp) String() string { return "giving up " + g.Group + ": " + g.Reason }

// Rejected brings back a request that the daemon's access rules refused. Requests of the flush protocol itself, with
// the types below MinMessageType, can be among them: a policy that forbids them keeps the group from changing its view.
type Rejected struct {
	client.Rejected
}
