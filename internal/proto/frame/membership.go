// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// ParseView takes a regular membership message apart, in either order. own is the receiver's set. Every offset and
// count is held against the bytes that are there; bytes behind the last set are ignored (client-protocol 5.7). What
// cannot be read is ErrIllegalMessage. The result is a copy.
func ParseView(m *Message) (v View, own int, err error) {
	bad := func(what string, args ...any) (View, int, error) {
		return View{}, 0, fmt.Errorf("membership message of %q: %s: %w", m.Name, fmt.Sprintf(what, args...), ErrIllegalMessage)
	}
	if m.Type.Kind() != KindView {
		return bad("type %v is not a view", m.Type)
	}
	cause, ok := m.Type.Cause()
	if !ok {
		return bad("type %v has not one cause", m.Type)
	}
	o, data := m.Order, m.Data
	if len(data) < viewSets {
		return bad("%d bytes of data, a view has at least %d", len(data), viewSets)
	}
	v = View{Group: string(m.Name), Cause: cause, ID: parseViewID(o, data), Order: o}
	count, mine := o.Uint32(data[viewCount:]), o.Uint32(data[viewOwn:])
	if count == 0 || uint64(count) > uint64(len(data)-viewSets)/4 {
		return bad("%d vs sets in %d bytes", count, len(data))
	}
	own = -1
	v.Sets = make([][]string, 0, count)
	for at := viewSets; len(v.Sets) < int(count); {
		if len(data)-at < 4 {
			return bad("vs set %d of %d is missing", len(v.Sets)+1, count)
		}
		if uint32(at-viewSets) == mine {
			own = len(v.Sets)
		}
		size := o.Uint32(data[at:])
		at += 4
		if uint64(size)*NameSize > uint64(len(data)-at) {
			return bad("vs set %d has %d names in %d bytes", len(v.Sets)+1, size, len(data)-at)
		}
		end := at + int(size)*NameSize
		v.Sets = append(v.Sets, Groups(data[at:end]).Strings())
		at = end
	}
	if own < 0 {
		return bad("no vs set at offset %d", mine)
	}
	v.Members = m.Groups.Strings()
	return v, own, nil
}

// ParseTransition is the view that a transitional signal ends; false if the body is too short to have one, which some
// documentation claims is always so (client-protocol 5.4).
func ParseTransition(m *Message) (id evs.ViewID, ok bool) {
	if len(m.Data) < 12 {
		return id, false
	}
	return parseViewID(m.Order, m.Data), true
}

func parseViewID(o Order, b []byte) evs.ViewID {
	return evs.ViewID{o.Uint32(b), o.Uint32(b[4:]), o.Uint32(b[8:])}
}

// Changed is the member that joined, left or disconnected; false for the cause network.
func (v *View) Changed() (string, bool) {
	if v.Cause == evs.CausedByNetwork || len(v.Sets) == 0 || len(v.Sets[0]) == 0 {
		return "", false
	}
	return v.Sets[0][0], true
}
