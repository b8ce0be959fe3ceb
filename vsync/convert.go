// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"evensong/client"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/flush"
)

// inMessage is a message of the session as the machine takes it. The machine may keep its slices: nobody else has them.
func inMessage(m *client.Message) *flush.Message {
	return &flush.Message{Sender: m.Sender, Groups: m.Groups, Service: flush.Service(m.Service), Type: m.Type,
		BigEndian: m.EndianMismatch != bigEndian, Data: m.Data}
}

func inView(v *client.View) *flush.DaemonView {
	out := &flush.DaemonView{Group: v.Group, ID: evs.ViewID(v.ID), Detail: evs.Detail(v.Detail), Members: v.Members, Changed: v.Joined + v.Left + v.Disconnected}
	switch v.Cause {
	case client.CausedByJoin:
		out.Cause = evs.CausedByJoin
	case client.CausedByLeave:
		out.Cause = evs.CausedByLeave
	case client.CausedByDisconnect:
		out.Cause = evs.CausedByDisconnect
	case client.CausedByNetwork:
		out.Cause = evs.CausedByNetwork
		out.Mine = v.VSSets[v.Mine]
	}
	return out
}

// outEvent is an event of the machine as the program gets it.
func outEvent(e *flush.Event) Event {
	id := client.ViewID(e.ID)
	switch e.Kind {
	case flush.EventView:
		return outView(e.View)
	case flush.EventRequest:
		return &FlushRequest{Group: e.Group, ID: id}
	case flush.EventSignal:
		return &Transition{Group: e.Group, ID: id, Gone: e.Members}
	case flush.EventSelfLeave:
		return &SelfLeave{Group: e.Group, Evicted: !e.Asked}
	case flush.EventGaveUp:
		return &GaveUp{Group: e.Group, Reason: e.Reason.String()}
	case flush.EventMessage:
		m := e.Message
		out := &Message{Group: e.Group, View: id, Sender: m.Sender, Groups: m.Groups, Service: client.Service(m.Service &^ flush.SubgroupCast),
			Subgroup: m.Service&flush.SubgroupCast != 0, Type: m.Type, EndianMismatch: m.BigEndian != bigEndian, Data: m.Data}
		if out.Subgroup { // the original puts the group behind the receivers
			out.Groups = out.Groups[:len(out.Groups)-1]
		}
		return out
	case flush.EventStuck:
	}
	panic("vsync: unhandled event " + e.Kind.String())
}

func outView(v *flush.View) *View {
	out := &View{Group: v.Group, ID: client.ViewID(v.ID), Detail: client.Detail(v.Detail), Members: v.Members, Came: v.Came}
	switch v.Cause {
	case evs.CausedByJoin:
		out.Cause, out.Joined = client.CausedByJoin, v.Changed
	case evs.CausedByLeave:
		out.Cause, out.Left = client.CausedByLeave, v.Changed
	case evs.CausedByDisconnect:
		out.Cause, out.Disconnected = client.CausedByDisconnect, v.Changed
	case evs.CausedByNetwork:
		out.Cause = client.CausedByNetwork
	}
	return out
}
