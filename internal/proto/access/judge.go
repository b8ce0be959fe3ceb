// SPDX-License-Identifier: Apache-2.0

package access

import "slices"

// Bounds of what a judge remembers.
const (
	// rememberFrom is how many rules must come into question at a point before remembering is quicker than looking.
	rememberFrom = 8
	// rememberMost is how many groups are remembered for a point; when there are more, all are forgotten.
	rememberMost = 128
)

// A Judge decides about one client. The nil Judge permits everything. A judge has one owner, because it remembers which
// rule decided about a group.
type Judge struct {
	rules *Rules
	known [NumPoints]map[string]int32 // index of the rule that decides about a group, or -1; only where there are many rules
	// open[p] are the rules that may decide at point p, by index and in order: what does not concern the client is left
	// out, and so is everything behind a rule that decides in any case.
	open [NumPoints][]uint16
}

// For is the judge for a client; nil if everything is permitted to everybody. It keeps nothing of p.
func (r *Rules) For(p *Principal) *Judge {
	if r.Empty() {
		return nil
	}
	j := &Judge{rules: r}
	var done Points
	for i := range r.List[:min(len(r.List), MaxRules)] {
		rule := &r.List[i]
		if rule.Points&^done == 0 || !rule.concerns(p) {
			continue
		}
		for at := range Point(NumPoints) {
			if !rule.Points.Has(at) || done.Has(at) || at == Open && len(rule.Group) > 0 {
				continue
			}
			j.open[at] = append(j.open[at], uint16(i))
			if len(rule.Group) == 0 {
				done |= PointsOf(at)
			}
		}
	}
	for at := range j.open {
		j.open[at] = slices.Clip(j.open[at])
	}
	return j
}

// May reports whether the client may do at a point what concerns group, which is empty at Open. by is the rule that
// decided, nil if none did. It allocates nothing, except to remember a group where there are many rules.
func (j *Judge) May(at Point, group []byte) (ok bool, by *Rule) {
	if j == nil {
		return true, nil
	}
	var i int32
	if len(j.open[at]) < rememberFrom {
		i = j.find(at, group)
	} else {
		var known bool
		if i, known = j.known[at][string(group)]; !known {
			i = j.find(at, group)
			j.remember(at, group, i)
		}
	}
	if i < 0 {
		return !j.rules.Deny, nil
	}
	by = &j.rules.List[i]
	return by.Allow, by
}

// find is the index of the rule that decides, or -1.
func (j *Judge) find(at Point, group []byte) int32 {
	for _, i := range j.open[at] {
		if rule := &j.rules.List[i]; len(rule.Group) == 0 || matchAny(rule.Group, group) {
			return int32(i)
		}
	}
	return -1
}

func (j *Judge) remember(at Point, group []byte, i int32) {
	if j.known[at] == nil {
		j.known[at] = make(map[string]int32)
	}
	if len(j.known[at]) >= rememberMost {
		clear(j.known[at])
	}
	j.known[at][string(group)] = i
}
