// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"evensong/client"
	"evensong/internal/tools/latency"
)

const (
	maxClients = 8
	// minPayload holds what a message of a client says:
	//
	//	+0  sender 8   +8  its number 8   +16 when it was sent 8, nanoseconds of the sender's clock
	//	+24 for each client the number of the last message that the sender has received from it, 8 each
	minPayload = 24 + 8*maxClients
	group      = "baseline"
	// silence is how long nothing may arrive before a client gives up.
	silence = 10 * time.Second
)

var services = map[string]client.Service{"agreed": client.Agreed, "safe": client.Safe}

// errChanged says that there is no figure, but nothing is wrong either. A client ends with exitChanged then.
var errChanged = errors.New("the configuration changed while it was measured, so a daemon missed the token")

const exitChanged = 3

// report is what a client measured since the last mark.
type report struct {
	Seconds  float64
	Received uint64 // messages of all, own ones included
	Own      uint64
	P50, P99 float64 // of own messages from Multicast to Next, microseconds
}

// worker is one client. Its loop owns everything but asked and commands.
type worker struct {
	conn  *client.Conn
	me, n int
	start time.Time

	service client.Service
	sending bool
	alone   bool // nobody else sends, so nobody says what he received
	window  uint64
	lead    uint64 // messages
	data    []byte

	sent  uint64
	got   [maxClients]uint64 // the last message received of each
	acked [maxClients]uint64 // the last message of ours that each has said to have

	since    time.Time
	received uint64
	latency  *latency.Histogram

	asked    atomic.Bool // a command waits; Next returns, or its event is the last before the command
	commands chan []string
	out      io.Writer
}

// runClient is the role "client": ADDRESS ME CLIENTS [PROFILE]. It reads commands and answers each with a line.
//
//	send SERVICE BYTES WINDOW LEAD ALONE   start sending
//	mark                                   forget what was measured
//	report                                 a report as JSON
//	stop                                   send no more; answered when all own messages have come back
func runClient(args []string, in io.Reader, out io.Writer) error {
	if len(args) < 3 {
		return errors.New("the role client is started by the program itself")
	}
	w := &worker{start: time.Now(), latency: latency.New(), commands: make(chan []string, 1), out: out}
	var err1, err2 error
	w.me, err1 = strconv.Atoi(args[1])
	w.n, err2 = strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(args) > 3 && args[3] != "" {
		f, err := os.Create(args[3])
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx := context.Background()
	var err error
	for try := 0; ; try++ {
		if w.conn, err = client.Dial(ctx, args[0], client.WithName("c"+args[1]), client.WithPooledMessages()); err == nil {
			break
		}
		if try == 100 {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the daemon is starting
	}
	defer w.conn.Abort()
	if err := w.conn.Join(ctx, group); err != nil {
		return err
	}
	if err := w.awaitAll(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	return w.loop(ctx, in)
}

// awaitAll waits for the view with all clients.
func (w *worker) awaitAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ev, err := w.conn.Next(ctx)
		if err != nil {
			return fmt.Errorf("wait for the view with all %d clients: %w", w.n, err)
		}
		if v, ok := ev.(*client.View); ok && len(v.Members) == w.n {
			return nil
		}
	}
}

// loop receives, and sends what the window allows. It ends with its input.
func (w *worker) loop(ctx context.Context, in io.Reader) error {
	var interrupt atomic.Pointer[context.CancelFunc]
	wait, cancel := context.WithTimeout(ctx, time.Hour)
	interrupt.Store(&cancel)
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			w.commands <- splitWords(lines.Text())
			w.asked.Store(true)
			(*interrupt.Load())()
		}
		close(w.commands)
		w.asked.Store(true)
		(*interrupt.Load())()
	}()
	stopping := false
	for {
		if w.asked.Load() {
			// The flag is cleared before the command is taken: one that comes in between sets it again.
			w.asked.Store(false)
			wait, cancel = context.WithTimeout(ctx, silence)
			interrupt.Store(&cancel)
			select {
			case c, ok := <-w.commands:
				if !ok {
					cancel()
					return nil
				}
				stop, err := w.command(ctx, c)
				if err != nil {
					return err
				}
				stopping = stopping || stop
			default:
			}
		}
		if stopping && w.got[w.me] == w.sent {
			stopping = false
			fmt.Fprintln(w.out, "stopped")
		}
		ev, err := w.conn.Next(wait)
		switch {
		case errors.Is(err, context.Canceled):
			continue
		case errors.Is(err, context.DeadlineExceeded) && !w.sending && !stopping:
			wait, cancel = context.WithTimeout(ctx, silence)
			interrupt.Store(&cancel)
			continue
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("stuck: %d messages sent, %d of them received, %v acknowledged, nothing arrives", w.sent, w.got[w.me], w.acked[:w.n])
		case err != nil:
			return err
		}
		switch ev := ev.(type) {
		case *client.Message:
			if err := w.receive(ev); err != nil {
				return err
			}
			ev.Release()
			if err := w.send(ctx); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: %v", errChanged, ev)
		}
	}
}

func splitWords(s string) (words []string) {
	for len(s) > 0 {
		i := 0
		for i < len(s) && s[i] != ' ' {
			i++
		}
		words = append(words, s[:i])
		s = s[min(i+1, len(s)):]
	}
	return words
}

// command carries out a command, and reports whether it was "stop".
func (w *worker) command(ctx context.Context, c []string) (stop bool, err error) {
	switch {
	case len(c) == 6 && c[0] == "send":
		var v [3]int
		for i := range v {
			if v[i], err = strconv.Atoi(c[2+i]); err != nil {
				return false, err
			}
		}
		w.service, w.data, w.window, w.alone = services[c[1]], make([]byte, v[0]), uint64(v[1]), c[5] == "alone"
		w.lead = max(uint64(v[2]/v[0]), 1)
		for i := range w.acked {
			w.acked[i] = max(w.acked[i], w.got[w.me]) // all from before has been received by now
		}
		w.sending = true
		fmt.Fprintln(w.out, "sending")
		return false, w.send(ctx)
	case len(c) == 1 && c[0] == "mark":
		w.since, w.received = time.Now(), 0
		w.latency.Reset()
		fmt.Fprintln(w.out, "marked")
		return false, nil
	case len(c) == 1 && c[0] == "report":
		us := func(q float64) float64 { return float64(w.latency.Quantile(q)) / 1e3 }
		return false, json.NewEncoder(w.out).Encode(report{
			Seconds: time.Since(w.since).Seconds(), Received: w.received, Own: w.latency.Count(), P50: us(0.5), P99: us(0.99),
		})
	case len(c) == 1 && c[0] == "stop":
		w.sending = false
		return true, nil
	}
	return false, fmt.Errorf("unknown command %q", c)
}

// send sends what may be sent now.
func (w *worker) send(ctx context.Context) error {
	if !w.sending {
		return nil
	}
	le := binary.LittleEndian
	for w.sent-w.got[w.me] < w.window && (w.alone || w.sent-w.slowest() < w.lead) {
		w.sent++
		le.PutUint64(w.data, uint64(w.me))
		le.PutUint64(w.data[8:], w.sent)
		for i := range w.n {
			le.PutUint64(w.data[24+8*i:], w.got[i])
		}
		le.PutUint64(w.data[16:], uint64(time.Since(w.start)))
		if err := w.conn.Multicast(ctx, w.service, 0, w.data, group); err != nil {
			return err
		}
	}
	return nil
}

// slowest is the number of the last message of ours that all others have.
func (w *worker) slowest() uint64 {
	w.acked[w.me] = w.sent
	return slices.Min(w.acked[:w.n])
}

func (w *worker) receive(m *client.Message) error {
	le := binary.LittleEndian
	if len(m.Data) < minPayload {
		return fmt.Errorf("a message of %d bytes is not ours", len(m.Data))
	}
	from, number := le.Uint64(m.Data), le.Uint64(m.Data[8:])
	if from >= uint64(w.n) || number != w.got[from]+1 {
		return fmt.Errorf("message %d of client %d, want %d: lost, or not ours", number, from, w.got[min(from, maxClients-1)]+1)
	}
	w.got[from] = number
	w.received++
	if int(from) == w.me {
		w.latency.Record(time.Since(w.start) - time.Duration(le.Uint64(m.Data[16:])))
		return nil
	}
	w.acked[from] = max(w.acked[from], le.Uint64(m.Data[24+8*w.me:]))
	return nil
}
