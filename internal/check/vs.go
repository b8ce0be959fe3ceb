// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"evensong/internal/proto/evs"
)

// vsIndex is the view-synchrony level of an index: for each member of each group the views that its user got, and what
// happened in them. It is built when a checker first asks.
type vsIndex struct {
	members []vsMember
	stays   []vsStay
	casts   map[uint64]int32 // multicast by digest: record
	gots    map[uint64]int32 // some delivery by digest: record
	resent  []int32          // multicasts with a digest that another one has
	byName  map[string][]int32
	loose   []int32 // deliveries, multicasts and answers of sessions that have no view of the group
}

// vsMember is one session in one group, over all its memberships there.
type vsMember struct {
	session evs.SessionID
	group   string
	stays   []int32
	gone    bool // the session has disconnected
}

// vsStay is one member's time in one view.
type vsStay struct {
	member     int32
	rec        int32
	info       *evs.TraceViewInfo
	prev, next int32   // stays before and after in the same membership; -1
	left       int32   // the self-leave that ended it, -1
	events     []int32 // records in it, in order
	got        map[uint64]int32
	twice      []int32 // deliveries of what was delivered before
}

// came are the members that came along from the previous view.
func (s *vsStay) came() []string {
	if s.info.Mine < 0 || s.info.Mine >= len(s.info.Sets) {
		return nil
	}
	return s.info.Sets[s.info.Mine]
}

func isVS(k evs.TraceKind) bool { return k >= evs.TraceVSMulticast && k <= evs.TraceVSSelfLeave }

func (x *index) vs() *vsIndex {
	if x.vsLevel == nil {
		x.vsLevel = newVSIndex(x)
	}
	return x.vsLevel
}

func newVSIndex(x *index) *vsIndex {
	v := &vsIndex{casts: map[uint64]int32{}, gots: map[uint64]int32{}, byName: map[string][]int32{}}
	type key struct {
		session evs.SessionID
		group   string
	}
	memberOf := map[key]int32{}
	current := []int32{} // by member: its stay, -1 if none
	for i := range x.recs {
		t := &x.recs[i]
		rec := int32(i)
		if t.Kind == evs.TraceDisconnect {
			for m := range v.members {
				v.members[m].gone = v.members[m].gone || v.members[m].session == t.Session
			}
		}
		if !isVS(t.Kind) {
			continue
		}
		k := key{t.Session, t.Group}
		m, ok := memberOf[k]
		if !ok {
			m = int32(len(v.members))
			memberOf[k] = m
			v.members = append(v.members, vsMember{session: t.Session, group: t.Group})
			current = append(current, -1)
			v.byName[t.Session.Name] = append(v.byName[t.Session.Name], m)
		}
		if t.Kind == evs.TraceVSMulticast {
			if _, again := v.casts[t.Digest]; again {
				v.resent = append(v.resent, rec)
			} else {
				v.casts[t.Digest] = rec
			}
		}
		at := current[m]
		if t.Kind == evs.TraceVSView {
			if t.View == nil {
				continue // TRACE
			}
			n := int32(len(v.stays))
			v.stays = append(v.stays, vsStay{member: m, rec: rec, info: t.View, prev: at, next: -1, left: -1, got: map[uint64]int32{}})
			if at >= 0 {
				v.stays[at].next = n
			}
			v.members[m].stays = append(v.members[m].stays, n)
			current[m] = n
			continue
		}
		if at < 0 {
			if t.Kind != evs.TraceVSSelfLeave { // of one who left before the first view
				v.loose = append(v.loose, rec)
			}
			continue
		}
		s := &v.stays[at]
		s.events = append(s.events, rec)
		switch t.Kind {
		case evs.TraceVSMessage:
			v.gots[t.Digest] = rec
			if _, again := s.got[t.Digest]; again {
				s.twice = append(s.twice, rec)
			}
			s.got[t.Digest] = rec
		case evs.TraceVSSelfLeave:
			s.left = rec
			current[m] = -1
		}
	}
	return v
}

func (v *vsIndex) name(s *vsStay) string { return v.members[s.member].session.Name }

func (v *vsIndex) text(s *vsStay) string {
	return fmt.Sprintf("%s in view %x of %s", v.name(s), s.info.ID, v.members[s.member].group)
}

// vsAddressed reports whether a multicast is for a member: all but the sender that discards its own, or those named.
func vsAddressed(t *evs.Trace, name string) bool {
	if t.SelfDiscard && t.Session.Name == name {
		return false
	}
	return len(t.Groups) == 0 || slices.Contains(t.Groups, name)
}

// together cuts the stays into classes of those that went from one view to the same next one together: the transitional
// set of the next view says who. In a history that ends quietly the views at its end count as left together by all that
// are in them.
func (v *vsIndex) together(quiescent bool) [][]int32 {
	type key struct {
		group    string
		from, to evs.ViewID
		with     string
	}
	classes := map[key]int{}
	var out [][]int32
	for i := range v.stays {
		s := &v.stays[i]
		k := key{group: v.members[s.member].group, from: s.info.ID}
		switch {
		case s.next >= 0:
			n := &v.stays[s.next]
			k.to, k.with = n.info.ID, fmt.Sprint(slices.Sorted(slices.Values(n.came())))
		case quiescent && s.left < 0 && !v.members[s.member].gone:
			k.with = "end"
		default:
			continue
		}
		c, ok := classes[k]
		if !ok {
			c = len(out)
			classes[k] = c
			out = append(out, nil)
		}
		out[c] = append(out[c], int32(i))
	}
	return out
}
