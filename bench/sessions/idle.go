// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"evensong/bench/run"
	"evensong/internal/proto/frame"
)

const (
	largeGroup = "large"
	// settleTime is how long the daemon's memory is left alone before it is looked at.
	settleTime = 3 * time.Second
)

// idle measures what many clients that do nothing cost, and joins of a large group.
func (b *bench) idle(ctx context.Context) error {
	d, err := b.startDaemon(ctx)
	if err != nil {
		return err
	}
	defer d.Terminate()
	if err := b.idleAt(ctx, d); err != nil {
		return d.Problem(err.Error())
	}
	return nil
}

func (b *bench) idleAt(ctx context.Context, d *daemon) error {
	o := b.o
	before, _ := d.resident()

	// The size of the large group's view that each of its members has last seen. A view of k members counts as k.
	var joined, full atomic.Int64
	want := int64(o.members)
	counts := make([]atomic.Int64, o.clients)
	prepare := func(i int, c *client) {
		first := true
		c.on = func(h *frame.Header, body []byte) {
			if h.Type.Kind() != frame.KindView {
				return
			}
			if first {
				first = false
				joined.Add(1)
			}
			if string(h.Name) != largeGroup {
				return
			}
			members := int64(h.NumGroups)
			if counts[i].Swap(members); members == want {
				full.Add(1)
			}
		}
	}
	b.p.Say("idle: connecting %d clients", o.clients)
	start := time.Now()
	all, err := dialAll(ctx, d, o.clients, true, 512, prepare)
	if err != nil {
		return err
	}
	defer hangUp(all)
	connected := time.Since(start)
	start = time.Now()
	for i, c := range all {
		if err := c.join(fmt.Sprintf("g%d", i%o.groups)); err != nil {
			return err
		}
	}
	if err := await(ctx, "clients that have joined", &joined, int64(o.clients)); err != nil {
		return err
	}
	b.r.add("connections accepted", "per second", "", float64(o.clients)/connected.Seconds())
	b.r.add(fmt.Sprintf("joins of %d groups, all at once", o.groups), "per second", "", float64(o.clients)/time.Since(start).Seconds())
	b.p.Say("idle: waiting for the memory to settle")
	if err := run.Pause(ctx, settleTime); err != nil {
		return err
	}
	if now, _ := d.resident(); now > 0 {
		b.r.add(fmt.Sprintf("memory per idle client, %d of them", o.clients), "KiB", "<32", (now-before)/float64(o.clients)/1024)
	}

	b.p.Say("idle: %d clients join one group", o.members-1)
	start = time.Now()
	for i, c := range all[:o.members-1] {
		if err := c.join(largeGroup); err != nil {
			return err
		}
		if !o.storm {
			if err := b.awaitCount(ctx, all, &counts[i], int64(i)+1); err != nil {
				return err
			}
		}
	}
	for i := range o.members - 1 {
		if err := b.awaitCount(ctx, all, &counts[i], want-1); err != nil {
			return err
		}
	}
	how := "one after the other"
	if o.storm {
		how = "all at once"
	}
	b.r.add(fmt.Sprintf("%d joins of one group, %s, until all have the last view", o.members-1, how), "s", "", time.Since(start).Seconds())

	var own, everybody []float64
	last := all[o.members-1]
	for i := range o.joins {
		b.p.Say("idle: join %d of %d", i+1, o.joins)
		full.Store(0)
		mine := &counts[o.members-1]
		mine.Store(0)
		start := time.Now()
		if err := last.join(largeGroup); err != nil {
			return err
		}
		for mine.Load() != want {
			if err := last.ended(); err != nil {
				return err
			}
			time.Sleep(20 * time.Microsecond)
		}
		own = append(own, ms(time.Since(start)))
		if err := await(ctx, "members that have the last view", &full, want); err != nil {
			return err
		}
		everybody = append(everybody, ms(time.Since(start)))
		if err := last.leave(largeGroup); err != nil {
			return err
		}
		for i := range o.members - 1 {
			if err := b.awaitCount(ctx, all, &counts[i], want-1); err != nil {
				return err
			}
		}
	}
	b.r.add(fmt.Sprintf("join of member %d, until it has its view", o.members), "ms", "<50", own...)
	b.r.add("... until all members have it", "ms", "", everybody...)
	if now, most := d.resident(); now > 0 {
		b.r.add("daemon's memory afterwards", "MiB", "", now/(1<<20))
		b.r.add("... and at most", "MiB", "", most/(1<<20))
	}
	for _, c := range all {
		if err := c.ended(); err != nil {
			return err
		}
	}
	return nil
}

// awaitCount waits until a member has seen a view of so many.
func (b *bench) awaitCount(ctx context.Context, all []*client, count *atomic.Int64, want int64) error {
	for deadline := time.Now().Add(patience); count.Load() != want; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Microsecond):
		}
		if time.Now().After(deadline) {
			for _, c := range all {
				if err := c.ended(); err != nil {
					return err
				}
			}
			return fmt.Errorf("a member still sees %d members, want %d", count.Load(), want)
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
