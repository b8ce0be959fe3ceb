// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"evensong/bench/run"
	"evensong/internal/proto/frame"
)

// leastBytes holds what a message says: its number.
const leastBytes = 8

// warmTime is how long a run goes on before it counts.
const warmTime = 500 * time.Millisecond

// slow measures what one reader that stops costs the others.
func (b *bench) slow(ctx context.Context) error {
	var ratios, plain, cuts, costs []float64
	length := b.o.load // of an undisturbed run: as long as the last disturbed one, because the beginning of a run is not like its end
	for i := range b.o.pairs {
		var rates, cpu [2]float64 // undisturbed, disturbed
		for k := range 2 {
			which := (i + k + 1) % 2 // each is first in turn
			b.p.Say("slow: pair %d of %d, %s", i+1, b.o.pairs, [...]string{"undisturbed", "with a reader that stops"}[which])
			f, err := b.slowRun(ctx, which == 1, length)
			if err != nil {
				return err
			}
			rates[which], cpu[which] = f.rate, f.cpu
			if which == 1 {
				cuts = append(cuts, f.took.Seconds())
				length = f.took
			}
		}
		plain = append(plain, rates[0])
		ratios = append(ratios, 100*rates[1]/rates[0])
		if cpu[0] > 0 {
			costs = append(costs, 100*cpu[1]/cpu[0])
		}
		b.p.Say("slow: pair %d of %d: %.0f and %.0f messages/s, %.1f %%", i+1, b.o.pairs, rates[0], rates[1], 100*rates[1]/rates[0])
	}
	b.r.add(fmt.Sprintf("messages to each of %d readers, undisturbed", b.o.readers), "per second", "", plain...)
	b.r.add("the others' rate beside a reader that stops, of the undisturbed", "%", ">95", ratios...)
	if len(costs) > 0 {
		b.r.add("... the daemon's CPU time for each message to one of them, of the undisturbed", "%", "", costs...)
	}
	b.r.add("until that one was cut off, or the run ended", "s", "", cuts...)
	return nil
}

// reader counts what a client has received.
type reader struct {
	*client
	got atomic.Int64
}

// slowFigures are of the readers other than the last.
type slowFigures struct {
	rate float64 // messages per second to each
	cpu  float64 // seconds of the daemon for each message to one of them; zero where it cannot be known
	took time.Duration
}

// slowRun is one run. It ends after so long, a disturbed one when the reader is cut off or with the longest time.
func (b *bench) slowRun(ctx context.Context, disturb bool, length time.Duration) (f slowFigures, err error) {
	o := b.o
	d, err := b.startDaemon(ctx)
	if err != nil {
		return f, err
	}
	defer d.Terminate()
	const group = "readers"
	readers := make([]reader, o.readers)
	var joined atomic.Int64
	cut := make(chan struct{}, 1)
	wake := make(chan struct{}, 1)
	var waiting atomic.Bool
	prepare := func(i int, c *client) {
		r := &readers[i]
		r.client = c
		next, batch := int64(0), int64(0)
		c.on = func(h *frame.Header, body []byte) {
			switch h.Type.Kind() {
			case frame.KindRegular:
				if n := int64(binary.LittleEndian.Uint64(body[frame.NameSize:])); n != next {
					c.deaf.Store(true)
					c.err = fmt.Errorf("message %d, want %d", n, next)
				}
				next++
				batch++
			case frame.KindView:
				if h.NumGroups < int32(o.readers) && joined.Load() == int64(o.readers) && i == 0 {
					cut <- struct{}{}
				}
				if int(h.NumGroups) == o.readers && i == 0 {
					joined.Store(int64(o.readers))
				}
			}
		}
		c.batch = func() {
			r.got.Add(batch)
			batch = 0
			if waiting.Load() {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
	}
	all, err := dialAll(ctx, d, o.readers, true, 256<<10, prepare)
	if err != nil {
		return f, err
	}
	defer hangUp(all)
	for _, c := range all {
		if err := c.join(group); err != nil {
			return f, err
		}
	}
	if err := await(ctx, "readers that have joined", &joined, int64(o.readers)); err != nil {
		return f, err
	}
	sender, err := dial(d, "sender", false)
	if err != nil {
		return f, err
	}
	defer sender.conn.Close()
	sender.start(512)

	// behind is what the slowest reader that reads has got.
	behind := func() int64 {
		least := int64(math.MaxInt64)
		for i := range readers {
			if !readers[i].deaf.Load() {
				least = min(least, readers[i].got.Load())
			}
		}
		return least
	}
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- send(sender, group, o.bytes, int64(o.window), behind, &waiting, wake, stop) }()
	defer func() { <-ended }()
	defer close(stop)
	if err := run.Pause(ctx, warmTime); err != nil {
		return f, err
	}
	others := func() (sum int64) {
		for i := range readers[:o.readers-1] {
			sum += readers[i].got.Load()
		}
		return sum
	}
	from, start, used := others(), time.Now(), run.ProcessTime(d.PID())
	if disturb {
		length = o.load
		readers[o.readers-1].deaf.Store(true)
	}
	select {
	case <-cut:
	case <-time.After(length):
	case <-ctx.Done():
		return f, ctx.Err()
	}
	f.took = time.Since(start)
	got := float64(others() - from)
	f.rate = got / float64(o.readers-1) / f.took.Seconds()
	f.cpu = (run.ProcessTime(d.PID()) - used).Seconds() / got
	for i := range readers[:o.readers-1] {
		if err := readers[i].ended(); err != nil {
			return f, err
		}
	}
	return f, nil
}

// send sends numbered messages, as fast as the readers and the daemon take them.
func send(c *client, group string, bytes int, window int64, behind func() int64, waiting *atomic.Bool, wake, stop chan struct{}) error {
	const together = 32 << 10 // bytes per write
	sent := int64(0)
	data := make([]byte, bytes)
	var buf []byte
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		room := window - (sent - behind())
		if room <= 0 {
			waiting.Store(true)
			if window-(sent-behind()) <= 0 {
				select {
				case <-wake:
				case <-stop:
					return nil
				}
			}
			waiting.Store(false)
			continue
		}
		buf = buf[:0]
		for room > 0 && len(buf) < together {
			binary.LittleEndian.PutUint64(data, uint64(sent))
			buf = append(buf, multicast(c, group, data)...)
			sent++
			room--
		}
		if err := c.write(buf); err != nil {
			return err
		}
	}
}
