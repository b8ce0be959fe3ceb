// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"evensong/bench/run"
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

// misbehave is the process of a client that behaves badly: which one, and the daemon's network and address. It says that it has
// begun, and goes on until its standard input ends. It is not a part of the measuring process because there its goroutines
// would keep those that measure from running.
func misbehave(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 3 {
		return errors.New("usage: ill NUMBER NETWORK ADDRESS")
	}
	k, err := strconv.Atoi(args[0])
	if err != nil || k < 0 || k >= len(ills) {
		return fmt.Errorf("no ill %q", args[0])
	}
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- ills[k].run(&daemon{network: args[1], address: args[2]}, stop) }()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(ended)
	}()
	fmt.Fprintln(stdout, "begun")
	select {
	case err := <-failed:
		if err == nil {
			err = errors.New("has ended by itself")
		}
		return err
	case <-ended:
		close(stop)
		<-failed // how a connection ends that is cut on purpose says nothing
		return nil
	}
}

// The places of an ill: nowhere, at another daemon of the machine, at the daemon that is measured. The second one is what a
// machine of few cores makes of any load, whatever the daemon does.
const (
	nowhere = iota
	elsewhere
	here
	places
)

// fair measures what a client that behaves badly costs another one, which sends at a pace below its fair share.
func (b *bench) fair(ctx context.Context) error {
	for k := range ills {
		var rates, tails [places][]float64
		var share, factor, own []float64
		for i := range b.o.pairs {
			for n := range places {
				place := (i + n) % places // each is first in turn
				b.p.Say("fair: a client that %s, round %d of %d, %s", ills[k].name, i+1, b.o.pairs, [...]string{"without it", "at another daemon", "at this daemon"}[place])
				rate, tail, err := b.fairRun(ctx, k, place)
				if err != nil {
					return err
				}
				rates[place], tails[place] = append(rates[place], rate), append(tails[place], tail)
			}
			share = append(share, 100*rates[here][i]/rates[nowhere][i])
			factor = append(factor, tails[here][i]/tails[nowhere][i])
			own = append(own, tails[here][i]/tails[elsewhere][i])
		}
		b.r.add("a client "+ills[k].name+": the other's rate, of the undisturbed", "%", ">90", share...)
		b.r.add("... its p99 undisturbed", "ms", "", tails[nowhere]...)
		b.r.add("... its p99 while that client does so at another daemon", "ms", "", tails[elsewhere]...)
		b.r.add("... its p99 beside that client", "ms", "", tails[here]...)
		b.r.add("... of the undisturbed", "times", "", factor...)
		b.r.add("... of the one beside another daemon", "times", "<2", own...)
	}
	return nil
}

// fairRun is one run: messages received per second of those sent at the pace, and their 99th percentile in milliseconds.
func (b *bench) fairRun(ctx context.Context, k, place int) (rate, p99 float64, err error) {
	d, err := b.startDaemon(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer d.Terminate()
	other, err := b.startDaemon(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer other.Terminate()
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
	if place != nowhere {
		target := d
		if place == elsewhere {
			target = other
		}
		self, e := os.Executable() // not err, which what is deferred here adds to
		if e != nil {
			return 0, 0, e
		}
		ill, e := run.Start(b.dir, "ill", run.Environment(), self, "ill", strconv.Itoa(k), target.network, target.address)
		if e != nil {
			return 0, 0, e
		}
		defer ill.End(func() { ill.In.Close() })
		if _, err := ill.Ask(ctx, ""); err != nil {
			return 0, 0, err
		}
		defer func() {
			select {
			case <-ill.Ended:
				err = errors.Join(err, ill.Problem("it has ended"))
			default:
			}
		}()
	}

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
