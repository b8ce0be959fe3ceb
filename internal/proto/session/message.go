// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// readFrames takes frames apart. A frame whose body lies in b is used in place. Of others the header goes to small and
// the body, as it arrives, to a buffer: each byte is copied once.
func (m *Machine) readFrames(now time.Duration, b []byte, room int, fx *Effects) (consumed int) {
	for room > 0 {
		rest := b[consumed:]
		var h frame.Header
		if m.have == 0 && len(rest) >= frame.HeaderSize {
			// The usual case: no copy of the header either, unless the body is not there.
			h.Parse(rest)
			if m.refused(now, &h, fx) {
				return len(b)
			}
			size := h.BodySize()
			if len(rest) < frame.HeaderSize+size {
				m.have = uint8(copy(m.small[:], rest[:frame.HeaderSize]))
				m.size = size
				consumed += frame.HeaderSize
				continue
			}
			end := frame.HeaderSize + size
			consumed += end
			room -= end
			m.request(&h, rest[frame.HeaderSize:end], fx)
			continue
		}
		if m.have < frame.HeaderSize {
			if len(rest) == 0 {
				return consumed
			}
			consumed += m.collect(rest, frame.HeaderSize)
			if m.have < frame.HeaderSize {
				return consumed
			}
			h.Parse(m.small[:])
			if m.refused(now, &h, fx) {
				return len(b)
			}
			m.size = h.BodySize()
			continue
		}
		// The header is in small.
		if m.body == nil {
			if len(rest) >= m.size {
				// All of the body in one piece behind a header of its own: some clients write them so.
				h.Parse(m.small[:])
				m.have = 0
				consumed += m.size
				room -= frame.HeaderSize + m.size
				m.request(&h, rest[:m.size], fx)
				continue
			}
			if len(rest) == 0 {
				return consumed
			}
		}
		n := min(m.size-len(m.body), len(rest))
		m.body = append(m.makeRoom(m.body, m.size, n), rest[:n]...)
		consumed += n
		if len(m.body) < m.size {
			return consumed
		}
		h.Parse(m.small[:])
		m.have = 0
		room -= frame.HeaderSize + m.size
		m.request(&h, m.body, fx)
		fx.retire(m.body, m.cfg.Buffers)
		m.body = nil
	}
	return consumed
}

// makeRoom sees to it that n bytes more fit into what has arrived of something that will have size bytes. Its memory follows
// what has arrived, not what a header promises: else any client could have the daemon keep a message's worth of memory for a
// few bytes.
func (m *Machine) makeRoom(got []byte, size, n int) []byte {
	need := len(got) + n
	if need <= cap(got) {
		return got
	}
	b := m.get(min(size, bodyAhead*need))
	if got != nil {
		b = append(b, got...)
		m.put(got)
	}
	return b
}

// bodyAhead is how many times what has arrived of a body its buffer may be, apart from the least class of Buffers. A large
// message that the reads of a fast client cut then has its whole buffer at once.
const bodyAhead = 8

func (m *Machine) get(n int) []byte {
	if m.cfg.Buffers == nil {
		return make([]byte, 0, n)
	}
	return m.cfg.Buffers.Get(n)
}

func (m *Machine) put(b []byte) {
	if m.cfg.Buffers != nil {
		m.cfg.Buffers.Put(b)
	}
}

// refused judges a header, and ends the session if it is malformed or a disconnect. The group behind a disconnect does
// not matter, so it need not be waited for (client-protocol 4.3).
func (m *Machine) refused(now time.Duration, h *frame.Header, fx *Effects) bool {
	if fault := h.CheckClient(m.info.Private); fault != frame.FaultNone {
		m.Close(now, faultReasons[fault], fx)
		return true
	}
	if h.Type&frame.TypeKill != 0 {
		fx.Ops = append(fx.Ops, Op{Kind: OpKill})
		m.Close(now, ReasonKill, fx)
		return true
	}
	return false
}

// request turns a complete frame into an Op, or a Note if it asks for nothing that could be done (client-protocol 4.6).
func (m *Machine) request(h *frame.Header, body []byte, fx *Effects) {
	names := frame.NameSize * int(h.NumGroups)
	groups := frame.Groups(body[:names:names])
	switch {
	case h.Type&frame.TypeJoin != 0:
		if group, ok := oneGroup(groups, NoteJoinNoGroup, NoteJoinName, NoteJoinMore, fx); ok && m.may(access.Join, group, h, groups, body, fx) {
			fx.Ops = append(fx.Ops, Op{Kind: OpJoin, Type: h.Type, Group: group})
		}
	case h.Type&frame.TypeLeave != 0:
		if group, ok := oneGroup(groups, NoteLeaveNoGroup, NoteLeaveName, NoteLeaveMore, fx); ok && m.may(access.Leave, group, h, groups, body, fx) {
			fx.Ops = append(fx.Ops, Op{Kind: OpLeave, Type: h.Type, Group: group})
		}
	default:
		service, ok := h.Type.Service()
		if !ok {
			panic("session: a checked header without a service: " + h.Type.String())
		}
		if m.judge != nil && !m.maySend(h, groups, body, fx) {
			return
		}
		fx.Ops = append(fx.Ops, Op{
			Kind: OpMulticast, Service: service, Type: h.Type, Hint: h.Hint, Groups: groups, Data: body[names:len(body):len(body)],
		})
	}
}

// oneGroup is the group of a join or leave.
func oneGroup(groups frame.Groups, none, illegal, more NoteKind, fx *Effects) (group []byte, ok bool) {
	if groups.Len() == 0 {
		fx.note(none, nil)
		return nil, false
	}
	group = groups.At(0)
	if !frame.LegalGroup(group) {
		fx.note(illegal, group)
		return nil, false
	}
	if groups.Len() > 1 {
		fx.note(more, group)
	}
	return group, true
}
