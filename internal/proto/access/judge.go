// SPDX-License-Identifier: Apache-2.0

package access

import "slices"

// A Judge decides about one client. The nil Judge permits everything.
type Judge struct {
	rules *Rules
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
// decided, nil if none did. It allocates nothing.
func (j *Judge) May(at Point, group []byte) (ok bool, by *Rule) {
	if j == nil {
		return true, nil
	}
	for _, i := range j.open[at] {
		rule := &j.rules.List[i]
		if len(rule.Group) == 0 || matchAny(rule.Group, group) {
			return rule.Allow, rule
		}
	}
	return !j.rules.Deny, nil
}
