// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/binary"
	"time"
)

// Join asks for membership in a group that the session is not in. The first view says that it is a member.
func (m *Machine) Join(group string, fx *Effects) error {
	if m.records[group] != nil || isPrivate(group) {
		return RefuseGroup
	}
	fx.Sends = append(fx.Sends, Send{Kind: SendJoin, Group: group})
	return nil
}

// Leave asks for the end of a full membership. It needs no flush.
func (m *Machine) Leave(group string, fx *Effects) error {
	r := m.records[group]
	if r == nil || r.membership != Joined {
		return RefuseGroup
	}
	r.membership = Leaving
	fx.Sends = append(fx.Sends, Send{Kind: SendLeave, Group: group})
	return nil
}

// Flush is the user's answer to a flush request: it has finished the view. From here on it sends nothing to the group
// until the next view.
func (m *Machine) Flush(now time.Duration, group string, fx *Effects) error {
	r := m.records[group]
	if r == nil || r.membership == Leaving {
		return RefuseGroup
	}
	if r.state != Authorize {
		return RefuseState
	}
	m.transition(r, Agree, ReasonFlushed, fx)
	m.sendOK(now, r, fx)
	return nil
}

// Multicast sends to the current view of a group, or to a private group, which needs no membership. The effect refers
// to data.
func (m *Machine) Multicast(group string, service Service, messType int16, data []byte, fx *Effects) error {
	r, err := m.mayCast(group, service, messType)
	if err != nil {
		return err
	}
	messType, tail := wrap(r, service, messType)
	fx.Sends = append(fx.Sends, Send{Kind: SendMulticast, Group: group, Groups: []string{group}, Service: service,
		Type: messType, Data: data, Tail: tail})
	return nil
}

// Subgroupcast sends to some members of the current view. The effect refers to receivers and data.
func (m *Machine) Subgroupcast(group string, receivers []string, service Service, messType int16, data []byte, fx *Effects) error {
	r, err := m.mayCast(group, service, messType)
	if err != nil {
		return err
	}
	if len(receivers) == 0 {
		return RefuseParam
	}
	for _, name := range receivers {
		if r == nil && name != group || r != nil && !r.installed.has(name) {
			return RefuseReceivers
		}
	}
	messType, tail := wrap(r, service, messType)
	fx.Sends = append(fx.Sends, Send{Kind: SendMulticast, Group: group, Groups: receivers, Service: service | SubgroupCast,
		Type: messType, Data: data, Tail: appendGroup(tail, group)})
	return nil
}

// mayCast checks what all messages of the user have in common. The record is nil for a private group.
func (m *Machine) mayCast(group string, service Service, messType int16) (*record, error) {
	switch {
	case !service.legal():
		return nil, RefuseService
	case messType < MinType:
		return nil, RefuseType
	case group == "" || len(group) >= groupBytes:
		return nil, RefuseGroup
	case isPrivate(group):
		return nil, nil
	}
	r := m.records[group]
	if r == nil || r.membership != Joined {
		return nil, RefuseGroup
	}
	if r.state == Agree {
		return nil, RefuseState
	}
	return r, nil
}

// wrap returns the message type and the appendix of a message: while others may be in another view, a message that can
// overtake FLUSH_OKs says in which view it was sent.
func wrap(r *record, service Service, messType int16) (int16, []byte) {
	if r == nil || r.state == Steady || service&overtaking == 0 {
		return messType, nil
	}
	tail := make([]byte, 0, typeBytes+idBytes+groupBytes)
	tail = binary.LittleEndian.AppendUint16(tail, uint16(messType))
	return TypeVulnerable, appendID(tail, r.installed.id)
}
