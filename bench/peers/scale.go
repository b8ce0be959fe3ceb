// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
)

// scale compares a system on many nodes with itself on few. Only the side that is measured runs: a ring that is idle takes
// the more of the processors the more daemons it has, so that it would slow the wrong side.
func (b *bench) scale(ctx context.Context, what system, many, few int) error {
	from := len(b.r.Rows)
	d := &duel{b: b, systems: [2]system{what, what}, nodes: [2]int{many, few}, alone: true, prime: true, time: b.o.time}
	err := b.duel(ctx, d, b.o.bytes)
	for _, r := range b.r.Rows[from:] {
		if r.Figure == rateFigure {
			b.r.Verdicts = append(b.r.Verdicts, deliveries(r, b.members(many), b.members(few)))
		}
	}
	return err
}

// deliveries is a row of rates as deliveries to all receivers, of which the first side has m and the second k. Where all
// processors are busy and a delivery costs the same on both, both sides have as many, so with m = 8 and k = 4 a receiver
// of the first side has half: the ratio is 2·T(8)/T(4).
func deliveries(r row, m, k int) row {
	first, second := r.First, r.Second
	r.First, r.Second = nil, nil
	for i := range first {
		r.First = append(r.First, first[i]*float64(m))
		r.Second = append(r.Second, second[i]*float64(k))
	}
	r.Figure = fmt.Sprintf("deliveries/s, %.3g·T(%d)/T(%d)", float64(m)/float64(k), r.Nodes, r.AgainstNodes)
	r.ratio()
	return r
}
