// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"slices"
	"time"

	"evensong/internal/proto/evs"
)

// HandleMessage takes a message that the daemon delivered. The machine may keep msg; it may come back, changed, as an
// event's Message.
func (m *Machine) HandleMessage(now time.Duration, msg *Message, fx *Effects) {
	// Which group it belongs to: the first name, or the reference group of a subgroup cast (client-protocol 8.1).
	group := ""
	if len(msg.Groups) > 0 {
		group = msg.Groups[0]
	}
	subgroup := msg.Service&SubgroupCast != 0
	data := msg.Data
	if subgroup {
		var ok bool
		if group, data, ok = cutGroup(data); !ok {
			m.drop(group, msg.Sender, DropMalformed, fx)
			return
		}
	}
	if r := m.records[group]; r != nil {
		if r.gaveUp {
			m.drop(group, msg.Sender, DropGivenUp, fx)
			return
		}
		m.handleOfGroup(now, r, msg, data, subgroup, fx)
		return
	}
	if group != m.cfg.Private {
		m.drop(group, msg.Sender, DropNoRecord, fx)
		return
	}
	if subgroup {
		msg.Data, msg.Groups = data, append(slices.Clone(msg.Groups), group)
	}
	fx.Events = append(fx.Events, Event{Kind: EventMessage, Group: group, Message: msg})
}

// handleOfGroup takes a message of a group with a record; data is without the reference group.
func (m *Machine) handleOfGroup(now time.Duration, r *record, msg *Message, data []byte, subgroup bool, fx *Effects) {
	o := order(msg.BigEndian)
	messType, named := msg.Type, evs.ViewID{}
	switch msg.Type {
	case TypeFlushOK, TypeFlushRecv:
		if subgroup || len(data) != idBytes {
			m.drop(r.name, msg.Sender, DropMalformed, fx)
		} else if msg.Type == TypeFlushOK {
			m.handleOK(now, r, msg.Sender, parseID(data, o), fx)
		} else {
			m.handleRecv(r, msg.Sender, parseID(data, o), fx)
		}
		return
	case TypeVulnerable:
		var ok bool
		if messType, named, data, ok = cutVulnerable(data, o); !ok {
			m.drop(r.name, msg.Sender, DropMalformed, fx)
			return
		}
	}
	postpone := false
	switch v := r.head(); {
	case msg.Type == TypeVulnerable && r.state == Agree && named == v.id:
		// Its sender has installed the view that we still agree on.
		if !v.current(msg.Sender) {
			m.drop(r.name, msg.Sender, DropNotInView, fx)
			return
		}
		postpone = true
	case !r.installed.current(msg.Sender):
		m.drop(r.name, msg.Sender, DropNotInView, fx)
		return
	case msg.Type == TypeVulnerable && named != r.installed.id:
		m.drop(r.name, msg.Sender, DropOtherView, fx)
		return
	}
	msg.Type, msg.Data = messType, data
	if subgroup {
		msg.Groups = append(slices.Clone(msg.Groups), r.name)
	}
	if !postpone {
		fx.Events = append(fx.Events, Event{Kind: EventMessage, Group: r.name, ID: r.installed.id, Message: msg})
		return
	}
	r.postponed = append(r.postponed, msg)
	r.postponedBytes += len(data) + postponedOverhead
	if r.postponedBytes > maxPostponedBytes {
		m.giveUp(r, ReasonTooMuchPostponed, fx)
	}
}

// handleOK takes a FLUSH_OK. It can come ahead of the membership message that names the view.
func (m *Machine) handleOK(now time.Duration, r *record, sender string, id evs.ViewID, fx *Effects) {
	v := r.find(id)
	if v == nil {
		m.answerEarly(r, sender, id, fx)
		return
	}
	m.answer(r, v, sender, fx)
	if r.state == Agree && v == r.head() && v.complete() {
		m.install(now, r, fx)
	}
}

func (m *Machine) answerEarly(r *record, sender string, id evs.ViewID, fx *Effects) {
	if r.earlyN >= maxEarly {
		m.drop(r.name, sender, DropEarlyFull, fx)
		return
	}
	_, e := r.findEarly(id)
	if e == nil {
		e = &early{id: id, has: map[string]bool{}}
		r.early = append(r.early, e)
	}
	if !e.has[sender] {
		e.has[sender] = true
		e.answers = append(e.answers, sender)
		r.earlyN++
	}
}

// handleRecv takes a FLUSH_RECV: its sender has installed the view. It only serves to leave Verify.
func (m *Machine) handleRecv(r *record, sender string, id evs.ViewID, fx *Effects) {
	v := r.installed
	if r.state == Agree {
		v = r.head()
	}
	if (r.state != Verify && r.state != Agree) || v.id != id {
		return // of a view that more changes have overtaken
	}
	if !v.has(sender) {
		m.drop(r.name, sender, DropNotMember, fx)
		return
	}
	r.received[sender] = true
	if r.state == Verify && len(r.received) == len(v.gone) {
		m.transition(r, Steady, ReasonSettled, fx)
	}
}
