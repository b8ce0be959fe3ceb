// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"evensong/internal/proto/frame"
)

// ills are the ways to behave badly. Each runs until stop is closed.
var ills = []struct {
	name string
	run  func(d *daemon, stop <-chan struct{}) error
}{
	{"floods", func(d *daemon, stop <-chan struct{}) error {
		c, err := dial(d, "flood", false)
		if err != nil {
			return err
		}
		c.start(512)
		return floodUntil(c, stop)
	}},
	{"floods its own group and does not read", func(d *daemon, stop <-chan struct{}) error {
		for {
			c, err := dial(d, "", true)
			if err != nil {
				return err
			}
			if err := c.join("bad"); err != nil {
				return err
			}
			_ = floodUntil(c, stop) // it is cut off, and comes again
			select {
			case <-stop:
				return nil
			default:
			}
		}
	}},
	{"opens and closes", func(d *daemon, stop <-chan struct{}) error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			c, err := dial(d, "", true)
			if err != nil {
				return err
			}
			err = c.join("bad")
			c.conn.Close()
			if err != nil {
				return err
			}
		}
	}},
}

// floodUntil sends as fast as the daemon takes it; an error means that the daemon closed the connection.
func floodUntil(c *client, stop <-chan struct{}) error {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(ended)
	wg.Go(func() {
		select {
		case <-stop:
		case <-ended:
		}
		c.conn.Close() // a write that blocks ends with it
	})
	b := multicast(c, "bad", make([]byte, 8000))
	for {
		if err := c.write(b); err != nil {
			return err
		}
	}
}

// fair measures what a client that behaves badly costs another one, which sends at a pace below its fair share.
func (b *bench) fair(ctx context.Context) error {
	var kept, plain [8][]float64
	var p99, p99With [8][]float64
	for i := range b.o.pairs {
		for k := range ills {
			for n := range 2 {
				with := (i+n)%2 == 1
				b.p.Say("fair: pair %d of %d, beside a client that %s: %t", i+1, b.o.pairs, ills[k].name, with)
				ill := ills[k].run
				if !with {
					ill = nil
				}
				rate, tail, err := b.fairRun(ctx, ill)
				if err != nil {
					return err
				}
				if with {
					kept[k], p99With[k] = append(kept[k], rate), append(p99With[k], tail)
				} else {
					plain[k], p99[k] = append(plain[k], rate), append(p99[k], tail)
				}
			}
		}
	}
	for k := range ills {
		var share []float64
		for i := range kept[k] {
			share = append(share, 100*kept[k][i]/plain[k][i])
		}
		b.r.add("a client "+ills[k].name+": the other's rate, of the undisturbed", "%", ">90", share...)
		b.r.add("... its p99 undisturbed", "ms", "", p99[k]...)
		b.r.add("... its p99 beside it", "ms", "", p99With[k]...)
	}
	return nil
}

// fairRun is one run: messages received per second of those sent at the pace, and their 99th percentile in milliseconds.
func (b *bench) fairRun(ctx context.Context, ill func(*daemon, <-chan struct{}) error) (rate, p99 float64, err error) {
	d, err := b.startDaemon(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer d.Terminate()
	begun := time.Now()
	var joined, got atomic.Int64
	var mu sync.Mutex
	var latency []float64
	var counting atomic.Bool
	all, err := dialAll(ctx, d, 1, true, 64<<10, func(_ int, c *client) {
		c.on = func(h *frame.Header, body []byte) {
			switch h.Type.Kind() {
			case frame.KindView:
				joined.Add(1)
			case frame.KindRegular:
				if !counting.Load() {
					return
				}
				at := time.Duration(binary.LittleEndian.Uint64(body[frame.NameSize:]))
				got.Add(1)
				mu.Lock()
				latency = append(latency, ms(time.Since(begun)-at))
				mu.Unlock()
			}
		}
	})
	if err != nil {
		return 0, 0, err
	}
	defer hangUp(all)
	if err := all[0].join("good"); err != nil {
		return 0, 0, err
	}
	if err := await(ctx, "readers", &joined, 1); err != nil {
		return 0, 0, err
	}
	sender, err := dial(d, "sender", false)
	if err != nil {
		return 0, 0, err
	}
	defer sender.conn.Close()
	sender.start(512)
	stop := make(chan struct{})
	failed := make(chan error, 1)
	if ill != nil {
		go func() { failed <- ill(d, stop) }()
	} else {
		failed <- nil
	}
	defer func() { close(stop); <-failed }()

	data := make([]byte, 200)
	tick := time.Second / time.Duration(b.o.pace)
	start := time.Now()
	var from time.Time
	for n := 0; ; n++ {
		now := time.Now()
		if from.IsZero() && now.Sub(start) >= warmTime {
			counting.Store(true)
			from = now
		}
		if !from.IsZero() && now.Sub(from) >= b.o.load/3 {
			break
		}
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		binary.LittleEndian.PutUint64(data, uint64(now.Sub(begun)))
		if err := sender.write(multicast(sender, "good", data)); err != nil {
			return 0, 0, err
		}
		if due := start.Add(time.Duration(n+1) * tick); time.Now().Before(due) {
			time.Sleep(time.Until(due))
		}
	}
	seconds := time.Since(from).Seconds()
	mu.Lock()
	defer mu.Unlock()
	if len(latency) == 0 {
		return 0, 0, fmt.Errorf("nothing was received in %.1f s", seconds)
	}
	slices.Sort(latency)
	return float64(got.Load()) / seconds, latency[len(latency)*99/100], nil
}
