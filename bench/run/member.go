// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"evensong/internal/tools/latency"
)

const (
	// MaxMembers is how many members a message can speak of.
	MaxMembers = 8
	// MinPayload holds what a message of a member says:
	//
	//	+0  sender 8   +8  its number 8   +16 when it was sent, or was due, 8, nanoseconds of the sender's clock
	//	+24 for each member the number of the last message that the sender has received from it, 8 each
	MinPayload = 24 + 8*MaxMembers
	// ExitChanged is how a member ends for ErrChanged.
	ExitChanged = 3
	// silence is how long nothing may arrive before a member gives up.
	silence = 10 * time.Second
)

// ErrChanged says that there is no figure, but nothing is wrong either.
var ErrChanged = errors.New("the configuration changed while it was measured, so a daemon missed the token")

// Link is a member's way to the others, itself included: each message also comes back to its sender.
type Link interface {
	// Send hands a message over, and may be called while Receive waits. The data is the caller's when it returns.
	Send(ctx context.Context, service string, data []byte) error
	// Receive returns the next message, valid until the next call.
	Receive(ctx context.Context) ([]byte, error)
}

// Report is what a member measured since the last mark.
type Report struct {
	Seconds  float64
	Received uint64 // messages of all, own ones included
	Own      uint64
	Lost     uint64  // of links that lose messages
	P50, P99 float64 // of own messages, from when each was sent or due until it was received, microseconds
}

// member is one of those who send and receive. Its loop owns everything but asked, commands, sent and what pace has.
type member struct {
	link  Link
	me, n int
	start time.Time

	service string
	sending bool // what the window allows
	alone   bool // nobody else sends, so nobody says what he received
	window  uint64
	lead    uint64 // messages
	data    []byte
	pacing  *pacer

	sent  atomic.Uint64
	got   [MaxMembers]uint64 // the last message received of each
	acked [MaxMembers]uint64 // the last message of ours that each has said to have
	told  [MaxMembers]uint64 // the last message of each that we have said to have

	since    time.Time
	received uint64
	latency  *latency.Histogram

	asked    atomic.Bool // a command waits; Receive returns, or its message is the last before the command
	commands chan []string
	out      io.Writer
}

// Member is the life of member me of n: it says "ready", reads commands and answers each with a line. It ends with its
// input.
//
//	send SERVICE BYTES WINDOW LEAD ALONE   send, with so many messages of its own under way, and so many bytes ahead of
//	                                       what the slowest other has; that is not known to one who sends alone
//	pace SERVICE BYTES RATE                send so many each second by schedule, whatever comes back. Latencies count
//	                                       from when a message was due
//	mark                                   forget what was measured
//	report                                 a Report as JSON
//	stop                                   send no more; answered when all own messages have come back
func Member(ctx context.Context, link Link, me, n int, in io.Reader, out io.Writer) error {
	m := &member{link: link, me: me, n: n, start: time.Now(), latency: latency.New(), commands: make(chan []string, 1), out: out}
	defer m.endPace()
	fmt.Fprintln(out, "ready")
	return m.loop(ctx, in)
}

// loop receives, and sends what the window allows.
func (m *member) loop(ctx context.Context, in io.Reader) error {
	var interrupt atomic.Pointer[context.CancelFunc]
	var wait context.Context
	waitFor := func(d time.Duration) {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, d)
		if old := interrupt.Swap(&cancel); old != nil {
			(*old)()
		}
	}
	waitFor(time.Hour)
	defer func() { (*interrupt.Load())() }()
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			m.commands <- strings.Fields(lines.Text())
			m.asked.Store(true)
			(*interrupt.Load())()
		}
		close(m.commands)
		m.asked.Store(true)
		(*interrupt.Load())()
	}()
	stopping := false
	for {
		if m.asked.Load() {
			// The flag is cleared before the command is taken: one that comes in between sets it again.
			m.asked.Store(false)
			waitFor(silence)
			select {
			case c, ok := <-m.commands:
				if !ok {
					return nil
				}
				stop, err := m.command(ctx, c)
				if err != nil {
					return err
				}
				stopping = stopping || stop
			default:
			}
		}
		if stopping && m.got[m.me] == m.sent.Load() {
			stopping = false
			fmt.Fprintln(m.out, "stopped")
		}
		data, err := m.link.Receive(wait)
		switch {
		case errors.Is(err, context.Canceled):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// The command may be carried out already: its flag was seen before its interrupt, which then hit this wait.
			waitFor(silence)
			continue
		case errors.Is(err, context.DeadlineExceeded) && !m.sending && !stopping:
			waitFor(silence)
			continue
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("stuck: %d messages sent, %d of them received, %v acknowledged, nothing arrives", m.sent.Load(), m.got[m.me], m.acked[:m.n])
		case err != nil:
			return err
		}
		if err := m.receive(data); err != nil {
			return err
		}
		if err := m.send(ctx); err != nil {
			return err
		}
	}
}

// command carries out a command, and reports whether it was "stop".
func (m *member) command(ctx context.Context, c []string) (stop bool, err error) {
	switch {
	case len(c) == 6 && c[0] == "send":
		var v [3]int
		for i := range v {
			if v[i], err = strconv.Atoi(c[2+i]); err != nil {
				return false, err
			}
		}
		m.service, m.data, m.alone = c[1], make([]byte, v[0]), c[5] == "alone"
		// What the others have is known one window late.
		m.lead = max(uint64(v[2]/v[0]), 2)
		m.window = min(uint64(v[1]), m.lead/2)
		for i := range m.acked {
			m.acked[i] = max(m.acked[i], m.got[m.me]) // all from before has been received by now
		}
		m.sending = true
		fmt.Fprintln(m.out, "sending")
		return false, m.send(ctx)
	case len(c) == 4 && c[0] == "pace":
		bytes, err := strconv.Atoi(c[2])
		if err != nil {
			return false, err
		}
		rate, err := strconv.ParseFloat(c[3], 64)
		if err != nil {
			return false, err
		}
		m.pacing = m.pace(ctx, c[1], bytes, rate)
		fmt.Fprintln(m.out, "sending")
		return false, nil
	case len(c) == 1 && c[0] == "mark":
		m.since, m.received = time.Now(), 0
		m.latency.Reset()
		fmt.Fprintln(m.out, "marked")
		return false, nil
	case len(c) == 1 && c[0] == "report":
		us := func(q float64) float64 { return float64(m.latency.Quantile(q)) / 1e3 }
		return false, json.NewEncoder(m.out).Encode(Report{
			Seconds: time.Since(m.since).Seconds(), Received: m.received, Own: m.latency.Count(), P50: us(0.5), P99: us(0.99),
		})
	case len(c) == 1 && c[0] == "stop":
		m.sending = false
		return true, m.endPace()
	}
	return false, fmt.Errorf("unknown command %q", c)
}

// send sends what may be sent now.
func (m *member) send(ctx context.Context) error {
	if !m.sending {
		return nil
	}
	for {
		flying := m.sent.Load() - m.got[m.me]
		if flying >= m.window || !m.alone && m.sent.Load()-m.slowest() >= m.lead && (flying > 0 || !m.isAwaited()) {
			return nil
		}
		m.told = m.got
		for i := range m.n {
			binary.LittleEndian.PutUint64(m.data[24+8*i:], m.got[i])
		}
		if err := m.handOver(ctx, m.service, m.data, time.Since(m.start)); err != nil {
			return err
		}
	}
}

// isAwaited reports whether another member may be waiting to hear what we have. If all waited for that, nobody would say it;
// and if all said it at any time, nothing would keep them from running away from one that is not scheduled.
func (m *member) isAwaited() bool {
	for i := range m.n {
		if i != m.me && m.got[i]-m.told[i] >= m.lead {
			return true
		}
	}
	return false
}

// handOver sends one message that counts from when.
func (m *member) handOver(ctx context.Context, service string, data []byte, when time.Duration) error {
	le := binary.LittleEndian
	le.PutUint64(data, uint64(m.me))
	le.PutUint64(data[8:], m.sent.Add(1))
	le.PutUint64(data[16:], uint64(when))
	return m.link.Send(ctx, service, data)
}

// slowest is the number of the last message of ours that all others have.
func (m *member) slowest() uint64 {
	m.acked[m.me] = m.sent.Load()
	return slices.Min(m.acked[:m.n])
}

func (m *member) receive(data []byte) error {
	le := binary.LittleEndian
	if len(data) < MinPayload {
		return fmt.Errorf("a message of %d bytes is not ours", len(data))
	}
	from, number := le.Uint64(data), le.Uint64(data[8:])
	if from >= uint64(m.n) || number != m.got[from]+1 {
		return fmt.Errorf("message %d of member %d, want %d: lost, or not ours", number, from, m.got[min(from, MaxMembers-1)]+1)
	}
	m.got[from] = number
	m.received++
	if int(from) == m.me {
		m.latency.Record(time.Since(m.start) - time.Duration(le.Uint64(data[16:])))
		return nil
	}
	m.acked[from] = max(m.acked[from], le.Uint64(data[24+8*m.me:]))
	return nil
}

// pacer sends by schedule, beside the loop.
type pacer struct {
	stop  chan struct{}
	ended chan error
}

func (m *member) pace(ctx context.Context, service string, bytes int, rate float64) *pacer {
	p := &pacer{stop: make(chan struct{}), ended: make(chan error, 1)}
	interval := time.Duration(float64(time.Second) / rate)
	data := make([]byte, bytes)
	// The members' schedules are not in step.
	due := time.Since(m.start) + interval*time.Duration(m.me+1)/time.Duration(m.n)
	go func() {
		for {
			select {
			case <-p.stop:
				p.ended <- nil
				return
			default:
			}
			if left := due - time.Since(m.start); left > 0 {
				latency.Nap(min(left, 10*time.Millisecond)) // and see whether it ends
				continue
			}
			if err := m.handOver(ctx, service, data, due); err != nil {
				p.ended <- err
				return
			}
			due += interval
		}
	}()
	return p
}

func (m *member) endPace() error {
	if m.pacing == nil {
		return nil
	}
	close(m.pacing.stop)
	err := <-m.pacing.ended
	m.pacing = nil
	return err
}
