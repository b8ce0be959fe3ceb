// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"evensong/client"
	"evensong/internal/proto/evs"
)

// room is the group that every client of a scenario is a member of; the others come and go.
const room = "room"

// usual are the groups of most clusters.
var usual = []string{room, "red", "green"}

// recorder collects what all sessions of a cluster saw. Any goroutine may add.
type recorder struct {
	start time.Time
	mu    sync.Mutex
	list  []evs.Trace
}

func (r *recorder) add(t evs.Trace) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.At = int64(time.Since(r.start))
	r.list = append(r.list, t)
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list)
}

// copy is what was recorded so far.
func (r *recorder) copy() []evs.Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// write puts the records into a file, one line each, for whoever looks into a failure.
func (r *recorder) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for _, t := range r.copy() {
		if err := enc.Encode(&t); err != nil {
			return err
		}
	}
	return w.Flush()
}

var kinds = map[evs.TraceKind]string{
	evs.TraceConnect: "connects", evs.TraceDisconnect: "disconnects", evs.TraceJoin: "joins", evs.TraceLeave: "leaves", evs.TraceMulticast: "sends",
	evs.TraceClientMsg: "gets", evs.TraceView: "view", evs.TraceSignal: "signal", evs.TraceSelfLeave: "has left",
}

// line is a record for a report.
func line(t *evs.Trace) string {
	s := fmt.Sprintf("%12v %s(%d.%d) %s", time.Duration(t.At).Round(10*time.Microsecond), t.Session.Name, t.Session.Daemon.Inc, t.Session.Number, kinds[t.Kind])
	switch t.Kind {
	case evs.TraceMulticast:
		s += fmt.Sprintf(" #%d %v %x to %v, %d bytes", t.Number, t.Service, t.Digest, t.Groups, t.Length)
	case evs.TraceClientMsg:
		s += fmt.Sprintf(" %v %x of %s to %v, %d bytes", t.Service, t.Digest, t.Sender, t.Groups, t.Length)
	case evs.TraceView, evs.TraceSignal:
		s += fmt.Sprintf(" of %s: %v", t.Group, *t.View)
	default:
		s += " " + t.Group + t.Reason
	}
	return s
}

// member is a client program that stays with its daemon: it connects again when it loses it, and joins again what it
// wants to be in. It reads everything at once and writes down what it sees.
type member struct {
	c     *cluster
	d     *daemon
	user  string
	ctx   context.Context
	end   context.CancelFunc
	done  chan struct{}
	views atomic.Int64 // received so far

	mu       sync.Mutex
	conn     *client.Conn // nil: not connected
	sess     evs.SessionID
	sessions uint64
	sent     uint64
	wants    map[string]bool         // groups it is in or has asked for
	leaving  map[string]int          // self-leaves it waits for
	current  map[string]*client.View // of groups it is in
}

// addMember starts a client.
func (c *cluster) addMember(d *daemon, user string, joins ...string) *member {
	m := &member{c: c, d: d, user: user, done: make(chan struct{}), wants: map[string]bool{}, leaving: map[string]int{}, current: map[string]*client.View{}}
	for _, g := range joins {
		m.wants[g] = true
	}
	m.ctx, m.end = context.WithCancel(context.Background())
	c.members = append(c.members, m)
	go m.run()
	return m
}

// stop ends the client and waits for it.
func (m *member) stop() {
	m.end()
	m.hang(false)
	<-m.done
}

// run connects, again and again.
func (m *member) run() {
	defer close(m.done)
	for m.ctx.Err() == nil {
		// The time is short because a daemon that is held by SIGSTOP accepts and says nothing.
		conn, err := client.Dial(m.ctx, "unix:"+m.d.socket(), client.WithName(m.user), client.WithConnectTimeout(time.Second), client.WithReceiveQueue(64<<20))
		if err != nil {
			select {
			case <-m.ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
			continue
		}
		m.open(conn)
		var lost error
		for {
			ev, err := conn.Next(m.ctx)
			if err != nil {
				lost = err
				break
			}
			m.note(ev)
		}
		m.closed(conn, lost)
		conn.Abort()
	}
}

func (m *member) open(conn *client.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions++
	// The daemon may have been started again since: life was written before the process that accepted us was started.
	m.sess = evs.SessionID{Daemon: m.d.id(), Number: m.sessions<<16 | uint64(m.c.ids.Add(1)&0xffff), Name: conn.PrivateGroup()}
	m.conn, m.sent = conn, 0
	m.record(evs.Trace{Kind: evs.TraceConnect, Asked: m.user})
	clear(m.leaving)
	clear(m.current)
	for _, g := range m.c.groups {
		if m.wants[g] {
			m.record(evs.Trace{Kind: evs.TraceJoin, Group: g})
			_ = conn.Join(m.ctx, g) // if it is lost, Next says so
		}
	}
}

// record adds a record of the session. The lock is held, and keeps a session's records in its order: what it had seen
// before it sent, and nothing behind its end.
func (m *member) record(t evs.Trace) {
	t.Proc, t.Session = m.sess.Daemon, m.sess
	m.c.history.add(t)
}

// closed notes the end of a session unless this client has ended it.
func (m *member) closed(conn *client.Conn, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != conn {
		return
	}
	t := evs.Trace{Kind: evs.TraceDisconnect}
	if m.ctx.Err() == nil {
		t.Reason = why.Error()
	}
	m.record(t)
	m.conn = nil
}

// hang ends the session, in order or not, on behalf of the client.
func (m *member) hang(orderly bool) {
	m.mu.Lock()
	conn := m.conn
	if conn != nil {
		m.record(evs.Trace{Kind: evs.TraceDisconnect})
		m.conn = nil
	}
	m.mu.Unlock()
	if conn == nil {
		return
	}
	if orderly {
		_ = conn.Close() // messages may be lost with a daemon that is gone
	} else {
		conn.Abort()
	}
}

// state is the session's name, empty if there is none, and the groups it wants.
func (m *member) state() (string, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		return "", nil
	}
	var wants []string
	for _, g := range m.c.groups {
		if m.wants[g] {
			wants = append(wants, g)
		}
	}
	return m.sess.Name, wants
}

// sees says how the client's view of a group differs from what it must be.
func (m *member) sees(group string, truth []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.current[group]
	switch {
	case m.leaving[group] > 0:
		return m.user + " waits for its self-leave of " + group
	case !m.wants[group]:
		return ""
	case v == nil:
		return m.user + " has no view of " + group
	}
	if got := slices.Sorted(slices.Values(v.Members)); !slices.Equal(got, truth) {
		return fmt.Sprintf("%s sees %s as %v; the truth is %v", m.sess.Name, group, got, truth)
	}
	return ""
}

// note writes an event down.
func (m *member) note(ev client.Event) {
	at := time.Now()
	m.mu.Lock()
	if m.conn == nil {
		m.mu.Unlock()
		return
	}
	switch ev := ev.(type) {
	case *client.Message:
		m.record(evs.Trace{Kind: evs.TraceClientMsg, Sender: ev.Sender, Groups: ev.Groups, Service: services[ev.Service.Level()],
			Digest: digest(ev.Sender, ev.Type, ev.Data), Length: len(ev.Data)})
	case *client.View:
		m.views.Add(1)
		m.current[ev.Group] = ev
		m.record(evs.Trace{Kind: evs.TraceView, Group: ev.Group, View: &evs.TraceViewInfo{
			ID: evs.ViewID(ev.ID), Cause: evs.Cause(ev.Cause), Members: ev.Members, Sets: ev.VSSets, Mine: ev.Mine}})
	case *client.Transition:
		m.record(evs.Trace{Kind: evs.TraceSignal, Group: ev.Group, View: &evs.TraceViewInfo{ID: evs.ViewID(ev.ID)}})
	case *client.SelfLeave:
		m.leaving[ev.Group]--
		delete(m.current, ev.Group)
		m.record(evs.Trace{Kind: evs.TraceSelfLeave, Group: ev.Group})
	case *client.Rejected:
		m.c.t.Errorf("%s: %v", m.sess.Name, ev)
	}
	m.mu.Unlock()
	p := m.c.probe.Load()
	if p == nil {
		return
	}
	switch ev := ev.(type) {
	case *client.View:
		if p.view(m, ev, at) {
			m.multicast(client.Agreed, p.number, 100, room)
		}
	case *client.Message:
		if len(ev.Data) >= headBytes && binary.LittleEndian.Uint64(ev.Data[8:]) == p.number {
			p.message(m, ev.Sender, at)
		}
	}
}

var services = map[client.Service]evs.Service{
	client.Unreliable: evs.Unreliable, client.Reliable: evs.Reliable, client.FIFO: evs.FIFO,
	client.Causal: evs.Causal, client.Agreed: evs.Agreed, client.Safe: evs.Safe,
}

// headBytes of every body: its number, which no other message has, and that of the probe it belongs to.
const headBytes = 16

var filler = func() []byte {
	b := make([]byte, 200<<10)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}()

// multicast sends a message with a body of at least headBytes. It is recorded before it is sent, and reports whether it
// was accepted.
func (m *member) multicast(service client.Service, probe uint64, size int, to ...string) bool {
	id := m.c.ids.Add(1)
	body := make([]byte, max(size, headBytes))
	binary.LittleEndian.PutUint64(body, id)
	binary.LittleEndian.PutUint64(body[8:], probe)
	copy(body[headBytes:], filler[id%100:])
	m.mu.Lock()
	conn := m.conn
	if conn == nil {
		m.mu.Unlock()
		return false
	}
	m.sent++
	m.record(evs.Trace{Kind: evs.TraceMulticast, Groups: to, Service: services[service.Level()], Digest: digest(m.sess.Name, int16(id), body),
		Length: len(body), Number: m.sent, SelfDiscard: service.Has(client.SelfDiscard)})
	m.mu.Unlock()
	// Without a limit in time: what was recorded must be sent, unless the session ends.
	return conn.Multicast(context.Background(), service, int16(id), body, to...) == nil
}

// join and leave ask for a change of membership, if it is one. They belong to one goroutine per member.
func (m *member) join(group string)  { m.change(group, true) }
func (m *member) leave(group string) { m.change(group, false) }

func (m *member) change(group string, in bool) {
	m.mu.Lock()
	conn := m.conn
	if conn == nil || m.wants[group] == in {
		m.mu.Unlock()
		return
	}
	m.wants[group] = in
	kind, ask := evs.TraceJoin, conn.Join
	if !in {
		m.leaving[group]++
		kind, ask = evs.TraceLeave, conn.Leave
	}
	m.record(evs.Trace{Kind: kind, Group: group})
	m.mu.Unlock()
	if err := ask(context.Background(), group); err != nil && !errors.Is(err, client.ErrConnectionClosed) && !errors.Is(err, client.ErrClosed) {
		m.c.t.Errorf("%s: %v", m.user, err)
	}
}

// digest names a message in a history: sender, tag and every byte.
func digest(sender string, tag int16, body []byte) uint64 {
	h := fnv.New64a()
	h.Write([]byte(sender))
	h.Write([]byte{0, byte(tag), byte(tag >> 8)})
	h.Write(body)
	return h.Sum64()
}

// probe measures how long it takes until some clients have a view of room with exactly themselves, and until the first
// Agreed message that each of them sends in it has reached all of them.
type probe struct {
	number uint64
	among  []*member
	want   []string           // sorted
	before [][2]time.Duration // by daemon: processor, when the probe was made

	mu     sync.Mutex
	seen   map[*member]time.Time
	got    map[*member]map[string]bool
	viewAt time.Time // the last of them has the view
	flowAt time.Time // the last of them has the last message
	done   chan struct{}
}

// newProbe begins to watch. The clients must be connected.
func (c *cluster) newProbe(among []*member) *probe {
	c.t.Helper()
	p := c.probeFor(among)
	for _, m := range among {
		name, _ := m.state()
		if name == "" {
			c.t.Fatalf("%s of %s is not connected", m.user, m.d.name)
		}
		p.want = append(p.want, name)
	}
	slices.Sort(p.want)
	for _, d := range c.daemons {
		ran, waited := d.processor()
		p.before = append(p.before, [2]time.Duration{ran, waited})
	}
	c.probe.Store(p)
	return p
}

func (c *cluster) probeFor(among []*member) *probe {
	c.probes++
	return &probe{number: c.probes, among: among, seen: map[*member]time.Time{}, got: map[*member]map[string]bool{}, done: make(chan struct{})}
}

// view notes a view and reports whether it is the first that p waits for.
func (p *probe) view(m *member, v *client.View, at time.Time) bool {
	if p.want == nil || v.Group != room || !slices.Equal(slices.Sorted(slices.Values(v.Members)), p.want) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.among, m) || !p.seen[m].IsZero() {
		return false
	}
	p.seen[m] = at
	p.viewAt = at
	return true
}

func (p *probe) message(m *member, sender string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.among, m) || p.got[m][sender] {
		return
	}
	if p.got[m] == nil {
		p.got[m] = map[string]bool{}
	}
	p.got[m][sender] = true
	n := 0
	for _, g := range p.got {
		n += len(g)
	}
	if n == len(p.among)*len(p.among) {
		p.flowAt = at
		close(p.done)
	}
}

// wait waits for all that is measured, and returns the two times since begin.
func (p *probe) wait(c *cluster, begin time.Time, limit time.Duration) (view, flow time.Duration) {
	c.t.Helper()
	if missing := p.missing(limit); missing != "" {
		c.logTails()
		c.t.Fatalf("after %v: waiting for the view %v and %d messages at each: %s", limit, p.want, len(p.among), missing)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.viewAt.Sub(begin), p.flowAt.Sub(begin)
}

// missing waits for all that is measured, and says what has not come; empty: nothing.
func (p *probe) missing(limit time.Duration) string {
	select {
	case <-p.done:
		return ""
	case <-time.After(limit):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var missing []string
	for _, m := range p.among {
		if p.want != nil && p.seen[m].IsZero() {
			missing = append(missing, m.user+" has no view")
		} else if n := len(p.got[m]); n < len(p.among) {
			missing = append(missing, fmt.Sprintf("%s has %d messages", m.user, n))
		}
	}
	return strings.Join(missing, ", ")
}

// flow lets each of the clients send one Agreed message to room and waits until all of them have all.
func (c *cluster) flow(among []*member, limit time.Duration) time.Duration {
	c.t.Helper()
	begin := time.Now()
	_, flow := c.send(among).wait(c, begin, limit)
	return flow
}

// send lets each of the clients send one Agreed message to room.
func (c *cluster) send(among []*member) *probe {
	p := c.probeFor(among)
	c.probe.Store(p)
	for _, m := range among {
		m.multicast(client.Agreed, p.number, 100, room)
	}
	return p
}
