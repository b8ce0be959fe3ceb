// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"evensong/client"
	"evensong/internal/tools/latency"
	"evensong/internal/tools/user"
)

// A message begins with what its receivers need:
//
//	+0  sender 4   +4  phase 4   +8  its number 8, from 1   +16 when it was sent, or was due, 8, nanoseconds since the start
const headerBytes = 24

const (
	typeData int16 = iota
	typeEnd        // the sender's last one of a phase, with the number of the last message; Agreed, so that it stays behind
)

// phase is one load.
type phase struct {
	bench     *bench
	number    uint32
	service   client.Service
	bytes     int
	perSecond float64 // of all senders together; zero: as many as the windows allow

	begin    sync.Once
	begun    chan struct{} // closed: warm is known
	warm     time.Duration // when it has been under way for Config.Warm
	measure  sync.Once
	measured chan struct{} // closed: from is known
	from     atomic.Int64  // measured from here on, time.Duration; until measured never
	to       atomic.Int64  // until here; may be brought forward

	measures []*measure // of each session
	senders  []sender
}

// sender is what receivers tell a sender, and what it says at its end.
type sender struct {
	wake   atomic.Uint64 // the receiver that has so many of its messages wakes it; zero: nobody does
	sent   uint64
	unsent uint64        // were due and never sent, in the order of their times
	first  time.Duration // when the first of them was due
	_      [64]byte      // of another sender's cache line
}

// measure is what one receiver has seen of a phase. Its owner is the receiver until done is closed; got is for all.
type measure struct {
	got   []atomic.Uint64 // of each sender: messages received
	seen  []uint64        // the number of the last one
	lost  uint64
	order uint64 // digest of what came, in its order
	open  int    // senders that have not ended
	done  chan struct{}

	received uint64 // in the time measured
	times    *latency.Histogram
	series   series
}

func newPhase(b *bench, number int, service client.Service, bytes int, perSecond float64) *phase {
	p := &phase{bench: b, number: uint32(number), service: service, bytes: bytes, perSecond: perSecond,
		begun: make(chan struct{}), measured: make(chan struct{}), senders: make([]sender, b.Senders)}
	p.from.Store(math.MaxInt64)
	p.to.Store(math.MaxInt64)
	for range b.sessions {
		p.measures = append(p.measures, &measure{got: make([]atomic.Uint64, b.Senders), seen: make([]uint64, b.Senders), open: b.Senders,
			done: make(chan struct{}), times: latency.New(), series: newSeries()})
	}
	return p
}

// beginNow has the load be under way. Each sender calls it in front of its first message: until one of them has a processor
// the load has not begun, and on a busy machine that may take longer than a short load.
func (p *phase) beginNow() {
	p.begin.Do(func() {
		p.warm = p.bench.now() + p.bench.Warm
		close(p.begun)
	})
}

// measureFrom has the time that is measured begin, the first time it is called. Senders call it with the time of a message, so
// there is one at least that counts, however busy the machine is.
func (p *phase) measureFrom(t time.Duration) {
	p.measure.Do(func() {
		p.to.Store(int64(t + p.bench.Time))
		p.from.Store(int64(t))
		close(p.measured)
	})
}

// String is the load in words.
func (p *phase) String() string {
	if p.perSecond == 0 {
		return fmt.Sprintf("%v, %d bytes, as fast as it goes", p.service, p.bytes)
	}
	return fmt.Sprintf("%v, %d bytes, %.0f messages/s", p.service, p.bytes, p.perSecond)
}

// received is how many messages all receivers have received so far.
func (p *phase) received() (n uint64) {
	for _, m := range p.measures {
		for i := range m.got {
			n += m.got[i].Load()
		}
	}
	return n
}

// slowest is how many messages of a sender every receiver has.
func (p *phase) slowest(sender int) uint64 {
	least := uint64(math.MaxUint64)
	for _, m := range p.measures {
		least = min(least, m.got[sender].Load())
	}
	return least
}

// session is one connection: a goroutine that receives, and during a phase perhaps one that sends.
type session struct {
	*bench
	index   int
	conn    *client.Conn
	options user.Options
	step    chan struct{} // something was received that its sender waits for
	starts  chan *phase   // the next phase, before anybody sends in it
}

// awaitAll waits until every group has all sessions.
func (s *session) awaitAll(ctx context.Context) error {
	left := len(s.groups)
	for left > 0 {
		ev, err := s.conn.Next(ctx)
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case *client.View:
			if len(ev.Members) == len(s.sessions) {
				left--
			}
		case *client.Rejected:
			return refused(ev)
		}
	}
	return nil
}

func refused(r *client.Rejected) error {
	return user.Refused(fmt.Errorf("the daemon's access policy refused the %v to %s", r.Request, r.GroupName()))
}

// send sends what a phase wants of this session.
func (s *session) send(ctx context.Context, p *phase) error {
	data := make([]byte, p.bytes)
	copy(data[headerBytes:], "evensong bench")
	me := &p.senders[s.index]
	p.beginNow()
	var err error
	if p.perSecond > 0 {
		err = s.sendBySchedule(ctx, p, me, data)
	} else {
		err = s.sendByWindow(ctx, p, me, data)
	}
	if err != nil || ctx.Err() != nil {
		return err // the receiver knows why the context has ended
	}
	return s.multicast(ctx, p, client.Agreed, typeEnd, data[:headerBytes], me.sent, 0)
}

func (s *session) multicast(ctx context.Context, p *phase, service client.Service, t int16, data []byte, number uint64, when time.Duration) error {
	le := binary.LittleEndian
	le.PutUint32(data, uint32(s.index))
	le.PutUint32(data[4:], p.number)
	le.PutUint64(data[8:], number)
	le.PutUint64(data[16:], uint64(when))
	err := s.conn.Multicast(ctx, service, t, data, s.groups[number%uint64(len(s.groups))])
	if err != nil && ctx.Err() != nil {
		return nil
	}
	return err
}

// sendByWindow keeps a window of messages ahead of the slowest receiver.
func (s *session) sendByWindow(ctx context.Context, p *phase, me *sender, data []byte) error {
	window := uint64(s.Window)
	for {
		for me.sent-p.slowest(s.index) >= window {
			// To be woken for each message would cost more than the message.
			me.wake.Store(me.sent - window + max(window/4, 1))
			if me.sent-p.slowest(s.index) < window {
				break // meanwhile
			}
			select {
			case <-s.step:
			case <-ctx.Done():
				return nil
			}
		}
		me.wake.Store(0)
		now := s.now()
		if now >= p.warm {
			p.measureFrom(now)
		}
		if int64(now) >= p.to.Load() {
			return nil
		}
		me.sent++
		if err := s.multicast(ctx, p, p.service, typeData, data, me.sent, now); err != nil {
			return err
		}
	}
}

// sendBySchedule sends what is due, whatever comes back. A message that cannot be sent in time is sent late and counts from
// when it was due; what is later than all that was measured is given up, and counted.
func (s *session) sendBySchedule(ctx context.Context, p *phase, me *sender, data []byte) error {
	interval := float64(time.Second) * float64(len(p.senders)) / p.perSecond
	p.measureFrom(p.warm) // late or not, what was due counts
	from := p.warm
	// The senders' schedules are not in step. The first has a message due when measuring begins, so that there is one in a
	// short time, too.
	offset := interval * float64(s.index) / float64(len(p.senders))
	for k := -math.Floor(float64(s.Warm) / interval); ; k++ {
		due := from + time.Duration(interval*k+offset)
		for left := due - s.now(); left > 0 && ctx.Err() == nil; left = due - s.now() {
			if int64(s.now()) >= p.to.Load() {
				return nil
			}
			latency.Nap(min(left, 10*time.Millisecond)) // and see whether it ends
		}
		to := time.Duration(p.to.Load())
		if due >= to || ctx.Err() != nil {
			return nil
		}
		if s.now() > to+(to-from) {
			me.unsent, me.first = uint64(max(math.Ceil(float64(to-due)/interval-1e-6), 1)), due
			return nil
		}
		me.sent++
		if err := s.multicast(ctx, p, p.service, typeData, data, me.sent, due); err != nil {
			return err
		}
	}
}

// receive takes everything until ctx ends.
func (s *session) receive(ctx context.Context) error {
	var p *phase
	for {
		ev, err := s.conn.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		switch ev := ev.(type) {
		case *client.Message:
			if len(ev.Data) < headerBytes || ev.Type != typeData && ev.Type != typeEnd {
				return fmt.Errorf("a message of %s is none of this benchmark", ev.Sender)
			}
			if number := binary.LittleEndian.Uint32(ev.Data[4:]); p == nil || number != p.number {
				select {
				case p = <-s.starts:
				default:
				}
				if p == nil || number != p.number {
					return errors.New("a message of an earlier load came late")
				}
			}
			if err := s.note(p, ev); err != nil {
				return err
			}
			ev.Release()
		case *client.View:
			if len(ev.Members) != len(s.sessions) {
				return fmt.Errorf("the group changed while it was measured: %d of %d members are left at %s; there are no figures", len(ev.Members), len(s.sessions), s.conn.PrivateGroup())
			}
		case *client.Rejected:
			return refused(ev)
		case *client.Transition, *client.SelfLeave:
		}
	}
}

// note counts a message.
func (s *session) note(p *phase, ev *client.Message) error {
	le := binary.LittleEndian
	from, number, when := int(le.Uint32(ev.Data)), le.Uint64(ev.Data[8:]), time.Duration(le.Uint64(ev.Data[16:]))
	m := p.measures[s.index]
	if from >= len(m.seen) {
		return fmt.Errorf("a message of %s is none of this benchmark", ev.Sender)
	}
	if ev.Type == typeEnd {
		if got := m.got[from].Load(); got != number {
			if lossless(p.service) {
				return fmt.Errorf("%s has %d messages of %s, which has sent %d", s.conn.PrivateGroup(), got, ev.Sender, number)
			}
			m.lost += number - min(got, number)
		}
		if m.open--; m.open == 0 {
			close(m.done)
		}
		return nil
	}
	if number != m.seen[from]+1 && lossless(p.service) {
		return fmt.Errorf("%s got message %d of %s after message %d", s.conn.PrivateGroup(), number, ev.Sender, m.seen[from])
	}
	m.seen[from] = number
	m.order = (m.order ^ (uint64(from)<<48 + number)) * 0x9e3779b97f4a7c15
	now := s.now()
	first, to := time.Duration(p.from.Load()), time.Duration(p.to.Load())
	if when >= first && when < to {
		m.times.Record(now - when)
	}
	if now >= first && now < to {
		m.received++
		m.series.add(now-first, now-when)
	}
	got := m.got[from].Add(1)
	if wake := p.senders[from].wake.Load(); wake > 0 && got >= wake {
		select {
		case s.sessions[from].step <- struct{}{}:
		default:
		}
	}
	return nil
}

// lossless reports whether all messages come, in their sender's order.
func lossless(s client.Service) bool {
	return s != client.Unreliable && s != client.Reliable
}

// totallyOrdered reports whether all receivers get messages in one order.
func totallyOrdered(s client.Service) bool { return s == client.Agreed || s == client.Safe }

// result is taken when all receivers are done.
func (p *phase) result(before, after usage) (*Load, error) {
	b := p.bench
	from, to := time.Duration(p.from.Load()), time.Duration(p.to.Load())
	l := &Load{Service: p.service.String(), Bytes: p.bytes, Scheduled: p.perSecond, Seconds: (to - from).Seconds()}
	all := latency.New()
	var merged series
	for i, m := range p.measures {
		if totallyOrdered(p.service) && m.order != p.measures[0].order {
			return nil, fmt.Errorf("%s and %s were given the messages in different orders", b.sessions[0].conn.PrivateGroup(), b.sessions[i].conn.PrivateGroup())
		}
		all.Add(m.times)
		rate := 0.0
		if l.Seconds > 0 {
			rate = float64(m.received) / l.Seconds
		}
		if i == 0 || rate < l.Slowest {
			l.Slowest = rate
		}
		l.Fastest = max(l.Fastest, rate)
		l.Messages.Received += m.received
		l.Lost += m.lost
		if i == 0 {
			merged = m.series
		} else {
			merged.merge(&m.series)
		}
	}
	for i := range p.senders {
		l.Messages.Sent += p.senders[i].sent
		l.Unsent += p.senders[i].unsent
		p.senders[i].recordUnsent(all, b.now(), to, uint64(len(p.measures)))
	}
	if l.Seconds > 0 {
		l.Messages.PerSecond = float64(l.Messages.Received) / l.Seconds / float64(len(p.measures))
		l.Messages.BytesPerSecond = l.Messages.PerSecond * float64(p.bytes)
	}
	l.Behind = p.perSecond > 0 && (l.Unsent > 0 || l.Messages.PerSecond < 0.95*p.perSecond)
	if all.Count() > 0 {
		l.Latency, l.Times = new(all.Summary()), all
		l.Percentiles = percentiles(all)
	}
	l.Points = merged.points(len(p.measures), to-from)
	l.costs(before, after)
	if l.cores = runtime.NumCPU(); p.bench.local() && after.at > before.at {
		l.Busy = (after.cpu - before.cpu + after.processes - before.processes).Seconds() / (after.at - before.at).Seconds()
	}
	return l, nil
}

// local reports whether all daemons run on this machine, as those behind Unix sockets do, and tell what they use.
func (b *bench) local() bool {
	return b.daemons != nil && !slices.ContainsFunc(b.Servers, func(s string) bool { return !strings.HasPrefix(s, "unix:") })
}

// recordUnsent counts the messages that were due and never sent with the time that they have waited until now: to leave them
// out would make a cluster look the better the worse it is.
func (s *sender) recordUnsent(h *latency.Histogram, now, to time.Duration, receivers uint64) {
	for left, due := s.unsent, s.first; left > 0; { // in pieces: they are evenly spread, and may be millions
		n := (left + 999) / 1000
		h.RecordN(now-due, n*receivers)
		due += time.Duration(float64(to-due) * float64(n) / float64(left))
		left -= n
	}
}

// costs are what was used between two moments, for each delivery between them.
func (l *Load) costs(a, b usage) {
	deliveries := float64(b.received - a.received)
	if deliveries == 0 {
		return
	}
	micros := func(d time.Duration) float64 { return d.Seconds() * 1e6 / deliveries }
	l.ClientCPU = micros(b.cpu - a.cpu)
	if d := difference(a.daemons, b.daemons); d != nil {
		d.CPU = micros(b.processes - a.processes)
		d.perDelivery(deliveries, (b.at - a.at).Seconds())
		l.Daemons = d
	}
}

// maxPoints of a series are kept; more make each of them longer.
const maxPoints = 240

// series is how many messages came over time, and how long they took.
type series struct {
	width time.Duration
	at    []point
}

type point struct {
	n    uint64
	sum  time.Duration
	most time.Duration
}

func (p *point) add(o point) {
	p.n += o.n
	p.sum += o.sum
	p.most = max(p.most, o.most)
}

func newSeries() series { return series{width: 50 * time.Millisecond, at: make([]point, 0, maxPoints)} }

func (s *series) add(at, took time.Duration) {
	i := int(at / s.width)
	for i >= maxPoints {
		s.widen()
		i = int(at / s.width)
	}
	for len(s.at) <= i {
		s.at = append(s.at, point{})
	}
	s.at[i].add(point{1, took, took})
}

// widen makes each two points one.
func (s *series) widen() {
	for i := range s.at {
		if i%2 == 0 {
			s.at[i/2] = s.at[i]
		} else {
			s.at[i/2].add(s.at[i])
		}
	}
	s.at = s.at[:(len(s.at)+1)/2]
	s.width *= 2
}

// merge adds another receiver's.
func (s *series) merge(o *series) {
	for s.width < o.width {
		s.widen()
	}
	for o.width < s.width {
		o.widen()
	}
	for i, p := range o.at {
		if i == len(s.at) {
			s.at = append(s.at, point{})
		}
		s.at[i].add(p)
	}
}

// points are the series for a report; the last one may be shorter than the others and is left out then.
func (s *series) points(receivers int, length time.Duration) []Point {
	out := []Point{}
	for i, p := range s.at {
		if i > 0 && time.Duration(i+1)*s.width > length {
			break
		}
		x := Point{Seconds: (time.Duration(i) * s.width).Seconds(), PerSecond: float64(p.n) / s.width.Seconds() / float64(receivers), Max: p.most.Seconds()}
		if p.n > 0 {
			x.Mean = (p.sum / time.Duration(p.n)).Seconds()
		}
		out = append(out, x)
	}
	return slices.Clip(out)
}
