// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// slowCluster is two daemons with small budgets: x at a sends, y at a reads, z at b can be made slow. All are in group g.
type slowCluster struct {
	*cluster
	x, y, z *testConn
	sent    int
}

const (
	slowBudget = 64 << 10
	slowBody   = 1000
)

func newSlowCluster(t *testing.T, tune func(*Config)) *slowCluster {
	c := newTunedCluster(t, func(cfg *Config) {
		cfg.SessionBytes = slowBudget
		cfg.SessionStall, cfg.SessionWait = time.Second, 3*time.Second
		tune(cfg)
	}, "a", "b")
	s := &slowCluster{cluster: c, x: c.connect(0, "x", false), y: c.connect(0, "y", true), z: c.connect(1, "z", true)}
	c.send(s.y, frame.AppendJoin(nil, "#y#a", "g"))
	c.send(s.z, frame.AppendJoin(nil, "#z#b", "g"))
	c.pass(50 * time.Millisecond)
	c.messages(s.y)
	c.messages(s.z)
	return s
}

// say lets x send numbered messages.
func (s *slowCluster) say(service evs.Service, messages int) {
	for range messages {
		s.sent++
		body := binary.LittleEndian.AppendUint32(nil, uint32(s.sent))
		s.send(s.x, frame.AppendMulticast(nil, "#x#a", frame.MulticastType(service, false), 1, []string{"g"}, append(body, make([]byte, slowBody)...)))
	}
}

// numbers are those of the messages that a client has got, checked to rise.
func (s *slowCluster) numbers(k *testConn) (list []int) {
	s.t.Helper()
	for _, m := range s.messages(k) {
		if m.Type.Kind() != frame.KindRegular {
			continue
		}
		n := int(binary.LittleEndian.Uint32(m.Data))
		if len(list) > 0 && n <= list[len(list)-1] {
			s.t.Errorf("message %d after %d", n, list[len(list)-1])
		}
		list = append(list, n)
	}
	return list
}

// drinkAll lets a slow client take what waits for it.
func (s *slowCluster) drinkAll(k *testConn) {
	for range 100 {
		s.sip(k, 1<<20)
	}
}

func (s *slowCluster) status(k *testConn) SessionStatus {
	s.t.Helper()
	for _, st := range s.nodes[k.node].m.Sessions() {
		if st.ID == k.id {
			return st
		}
	}
	s.t.Fatalf("session %d of node %d is not among those of Sessions", k.id, k.node)
	return SessionStatus{}
}

func (s *slowCluster) pressureOf(i int) PressureStats { return s.nodes[i].m.Stats().Pressure }

// A session over its budget stays as long as it takes something now and then, and misses nothing (GRP-16).
func TestSlowReaderStays(t *testing.T) {
	s := newSlowCluster(t, func(*Config) {})
	s.z.deaf = true
	s.say(evs.Agreed, 150)
	s.pass(100 * time.Millisecond)
	st := s.status(s.z)
	if st.QueuedBytes <= slowBudget || st.QueuedMessages != 150 || st.OverSince == 0 || st.HighBytes != st.QueuedBytes || st.StalledSince == 0 || st.Name != "#z#b" {
		t.Errorf("over its budget: %+v", st)
	}
	if p := s.pressureOf(1); p.Over != 1 || p.Overs != 1 || p.Memory < slowBudget || p.Blocked {
		t.Errorf("counters: %+v", p)
	}
	for range 20 { // ten times the time after which a client that takes nothing must go
		s.pass(500 * time.Millisecond)
		s.sip(s.z, 1)
	}
	if s.z.closed {
		t.Fatalf("a session that makes progress was closed: %s", s.z.reason)
	}
	s.drinkAll(s.z)
	if st := s.status(s.z); st.QueuedBytes != 0 || st.OverSince != 0 || st.StalledSince != 0 || st.HighBytes <= slowBudget {
		t.Errorf("caught up: %+v", st)
	}
	if got := s.numbers(s.z); len(got) != 150 {
		t.Errorf("got %d messages, want all 150", len(got))
	}
	if p := s.pressureOf(1); p.Over != 0 {
		t.Errorf("counters: %+v", p)
	}
}

// A session over its budget that takes nothing is closed when its time is over, not before, and the others see it go.
func TestStalledReaderIsClosed(t *testing.T) {
	s := newSlowCluster(t, func(*Config) {})
	s.z.deaf = true
	s.say(evs.Agreed, 30)
	s.pass(5 * time.Second)
	if s.z.closed {
		t.Fatalf("closed within its budget: %s", s.z.reason)
	}
	s.sip(s.z, 100)
	s.say(evs.Agreed, 60)
	s.pass(900 * time.Millisecond)
	if s.z.closed {
		t.Fatalf("closed too early: %s", s.z.reason)
	}
	s.numbers(s.y)
	s.pass(200 * time.Millisecond)
	if s.z.reason != session.ReasonStalled.String() {
		t.Fatalf("not closed for making no progress: %t %q", s.z.closed, s.z.reason)
	}
	s.pass(50 * time.Millisecond)
	var causes []evs.Cause
	for _, m := range s.messages(s.y) {
		if v, _, err := frame.ParseView(&m); err == nil {
			causes = append(causes, v.Cause)
		}
	}
	if len(causes) != 1 || causes[0] != evs.CausedByDisconnect {
		t.Errorf("the other member saw %v, want a disconnect", causes)
	}
	if n := s.nodes[1].m.Stats().Closed[session.ReasonStalled]; n != 1 {
		t.Errorf("counted %d, want 1", n)
	}
}

// A daemon that was not running has not seen whether its clients read: they get time.
func TestStallIsNotTheClients(t *testing.T) {
	s := newSlowCluster(t, func(*Config) {})
	s.z.deaf = true
	s.say(evs.Agreed, 90)
	s.pass(100 * time.Millisecond)
	n := s.nodes[1]
	s.now += 10 * time.Second
	n.m.advanceSessions(s.now, &n.fx)
	s.after(1)
	if s.z.closed {
		t.Fatalf("closed for a stall of the daemon: %s", s.z.reason)
	}
	s.now += 600 * time.Millisecond
	n.m.advanceSessions(s.now, &n.fx)
	s.after(1)
	if s.z.reason != session.ReasonStalled.String() {
		t.Errorf("not closed after more time without progress: %t %q", s.z.closed, s.z.reason)
	}
}

// What a session over its budget says is taken at a pace, so that one which fills its own queue and does not read harms nobody
// else at its daemon (GRP-17). Nothing of it is lost, and the pace ends when it has caught up.
func TestOverBudgetIsPaced(t *testing.T) {
	s := newSlowCluster(t, func(cfg *Config) { cfg.SessionHardBytes = 4 << 20 })
	talk := func(messages int) { // all in one write
		var b []byte
		for range messages {
			s.sent++
			body := binary.LittleEndian.AppendUint32(nil, uint32(s.sent))
			b = append(b, frame.AppendMulticast(nil, "#z#b", frame.MulticastType(evs.Agreed, false), 1, []string{"g"}, append(body, make([]byte, slowBody)...))...)
		}
		s.send(s.z, b)
	}
	got := 0
	pass := func(d time.Duration) int { // how many messages y gets meanwhile
		s.pass(d)
		n := len(s.numbers(s.y))
		got += n
		return n
	}

	s.z.deaf = true
	talk(100)
	pass(20 * time.Millisecond)
	if s.status(s.z).OverSince == 0 {
		t.Fatal("not over its budget")
	}
	talk(400)
	most := 11 * slowInputBytes / slowBody
	if n := pass(10 * slowInputTime); n > most || n < most/2 {
		t.Errorf("%d messages came through within 10 portions, want about %d", n, most)
	}
	s.z.deaf = false
	s.drinkAll(s.z)
	if s.status(s.z).OverSince != 0 {
		t.Fatal("has not caught up")
	}
	if pass(20 * time.Millisecond); got != s.sent {
		t.Errorf("after it has caught up %d of %d messages came through: still at a pace, or lost", got, s.sent)
	}
	s.z.deaf = true
	talk(100)
	pass(20 * time.Millisecond)
	for range 50 { // a message now and then is not delayed
		talk(1)
		if n := pass(5 * time.Millisecond); n != 1 {
			t.Fatalf("%d messages within 5 ms of a single one", n)
		}
	}
}

// The hard bound holds whatever progress there is.
func TestHardBound(t *testing.T) {
	s := newSlowCluster(t, func(cfg *Config) { cfg.SessionHardBytes = 2 * slowBudget })
	s.z.deaf = true
	for i := range 40 {
		s.say(evs.Agreed, 5)
		s.pass(10 * time.Millisecond)
		if s.z.closed {
			break
		}
		if got := s.status(s.z).QueuedBytes; got > 2*slowBudget {
			t.Fatalf("round %d: %d bytes wait, the bound is %d", i, got, 2*slowBudget)
		}
		s.sip(s.z, 10)
	}
	if s.z.reason != session.ReasonSlowBytes.String() {
		t.Errorf("not closed at the hard bound: %t %q", s.z.closed, s.z.reason)
	}
}

// MaxSessionMessages counts when it is set.
func TestMessageBound(t *testing.T) {
	s := newSlowCluster(t, func(cfg *Config) { cfg.SessionQueue = 10 })
	s.z.deaf = true
	s.say(evs.Agreed, 10)
	s.pass(50 * time.Millisecond)
	if s.z.closed {
		t.Fatalf("closed early: %s", s.z.reason)
	}
	s.say(evs.Agreed, 1)
	s.pass(50 * time.Millisecond)
	if s.z.reason != session.ReasonSlowMessages.String() {
		t.Errorf("not closed at MaxSessionMessages: %t %q", s.z.closed, s.z.reason)
	}
}

// What waits for all together is bounded; the session with the most waiting ends first, and only it.
func TestQueueMemoryBound(t *testing.T) {
	const memory = 2 << 20
	s := newSlowCluster(t, func(cfg *Config) { cfg.QueueMemory, cfg.SessionBytes, cfg.SessionHardBytes = memory, 1<<20, 16<<20 })
	w := s.connect(1, "w", true)
	s.send(w, frame.AppendJoin(nil, "#w#b", "g"))
	s.pass(50 * time.Millisecond)
	s.z.deaf, w.deaf = true, true
	s.say(evs.Agreed, 500)
	s.pass(100 * time.Millisecond)
	// w keeps what z keeps, and less of it: shared bytes count once.
	s.sip(w, 300_000)
	for range 60 {
		if s.z.closed || w.closed {
			break
		}
		s.say(evs.Agreed, 50)
		s.pass(50 * time.Millisecond)
		s.sip(s.z, 1)
		s.sip(w, 1)
		if got := s.pressureOf(1).Memory; got > memory {
			t.Fatalf("%d bytes wait, the bound is %d", got, memory)
		}
	}
	if s.z.reason != session.ReasonCrowded.String() || w.closed {
		t.Errorf("closed: the one with the most waiting %t %q, the other %t %q", s.z.closed, s.z.reason, w.closed, w.reason)
	}
	if got, want := s.nodes[1].m.conns[w.id].queue.Bytes(), memory/2; got < want {
		t.Errorf("the other has %d bytes waiting, want at least %d: sharing does not count double", got, want)
	}
}

// What a session kept is free again when it is gone, however it went: else the bound of all would shrink with every slow
// client.
func TestMemoryComesBack(t *testing.T) {
	s := newSlowCluster(t, func(*Config) {})
	before := s.nodes[1].m.pool.LentChunks()
	for i, end := range []func(){
		func() { s.hangUp(s.z) },
		func() { s.pass(2 * time.Second) }, // it stalls
		func() { s.send(s.z, frame.AppendKill(nil, "#z#b")) },
	} {
		s.z.deaf = true
		s.say(evs.Agreed, 90)
		s.pass(50 * time.Millisecond)
		if got := s.pressureOf(1).Memory; got < slowBudget {
			t.Fatalf("end %d: %d bytes wait, want more than the budget", i, got)
		}
		s.nodes[1].m.Output(s.z.id, nil, 64) // the kernel takes nothing, so there is no HandleWritten
		end()
		s.pass(3 * time.Second)
		if got := s.nodes[1].m.pool.LentChunks(); got > before {
			t.Errorf("end %d: %d chunks in use, %d before", i, got, before)
		}
		s.z = s.connect(1, "z", true)
		s.send(s.z, frame.AppendJoin(nil, "#z#b", "g"))
		s.pass(50 * time.Millisecond)
	}
}

// PolicyDrop leaves out Unreliable messages for a session over its budget, counts them, and nothing else (GRP-16).
func TestDropPolicy(t *testing.T) {
	s := newSlowCluster(t, func(cfg *Config) { cfg.SlowPolicy = session.PolicyDrop })
	s.z.deaf = true
	kinds := []evs.Service{evs.Unreliable, evs.Reliable, evs.FIFO, evs.Causal, evs.Agreed, evs.Safe}
	lossy := map[int]bool{}
	for range 30 {
		for _, k := range kinds {
			s.say(k, 1)
			lossy[s.sent] = k == evs.Unreliable
		}
		s.pass(5 * time.Millisecond)
	}
	dropped := s.status(s.z).Dropped
	if dropped == 0 || dropped >= 30 {
		t.Fatalf("%d of 30 Unreliable messages left out, want some: the first are within the budget", dropped)
	}
	s.drinkAll(s.z)
	s.say(evs.Unreliable, 1) // it has caught up
	s.pass(50 * time.Millisecond)
	s.drinkAll(s.z)
	got := map[int]bool{}
	for _, n := range s.numbers(s.z) {
		got[n] = true
	}
	missing := 0
	for n := 1; n <= s.sent; n++ {
		switch {
		case got[n]:
		case !lossy[n]:
			t.Errorf("message %d is missing and was not Unreliable", n)
		default:
			missing++
		}
	}
	if !got[s.sent] || missing != int(dropped) || s.pressureOf(1).Dropped != dropped || s.status(s.z).Dropped != dropped {
		t.Errorf("%d messages missing, the last there: %t; counted %d and %d", missing, got[s.sent], s.status(s.z).Dropped, s.pressureOf(1).Dropped)
	}
	if all := len(s.numbers(s.y)); all != s.sent {
		t.Errorf("a reader that is not slow got %d of %d messages", all, s.sent)
	}
}

// PolicyBlock makes everybody wait for a slow session: senders at its own daemon and at others. Nothing is lost, and
// when it reads again all goes on.
func TestBlockPolicy(t *testing.T) {
	for _, at := range []int{0, 1} { // the sender's daemon: another than the slow reader's, and the same
		t.Run(fmt.Sprintf("sender at %d", at), func(t *testing.T) {
			s := newSlowCluster(t, func(cfg *Config) { cfg.SlowPolicy = session.PolicyBlock })
			name := fmt.Sprintf("#v#%c", 'a'+at)
			v := s.connect(at, "v", false)
			s.z.deaf = true
			sent := 0
			for range 2000 {
				sent++
				body := binary.LittleEndian.AppendUint32(nil, uint32(sent))
				s.send(v, frame.AppendMulticast(nil, name, frame.MulticastType(evs.Agreed, false), 1, []string{"g"}, append(body, make([]byte, slowBody)...)))
				s.pass(100 * time.Microsecond)
			}
			st := s.status(s.z)
			if most := slowBudget + 512<<10; st.QueuedBytes > most || st.QueuedBytes < slowBudget {
				t.Errorf("%d bytes wait, want at most %d: the budget, and what was under way", st.QueuedBytes, most)
			}
			if len(v.rest) < 1000*slowBody {
				t.Errorf("%d bytes of the sender wait for its daemon, want most of %d", len(v.rest), sent*slowBody)
			}
			if p := s.pressureOf(1); !p.Blocked || p.Waits != 1 {
				t.Errorf("counters: %+v", p)
			}
			s.z.deaf = false
			s.drinkAll(s.z)
			s.pass(2 * time.Second)
			for _, k := range []*testConn{s.z, s.y} {
				if got := s.numbers(k); len(got) != sent {
					t.Errorf("client of node %d got %d messages, want %d", k.node, len(got), sent)
				}
			}
			if p := s.pressureOf(1); p.Blocked || p.Waited <= 0 {
				t.Errorf("afterwards: %+v", p)
			}
		})
	}
}

// A wait of all for one is bounded, even if that one makes progress.
func TestBlockIsBounded(t *testing.T) {
	s := newSlowCluster(t, func(cfg *Config) { cfg.SlowPolicy = session.PolicyBlock })
	s.z.deaf = true
	s.say(evs.Agreed, 500)
	s.pass(time.Millisecond)
	for range 6 {
		s.pass(490 * time.Millisecond)
		if s.z.closed {
			t.Fatalf("closed too early: %s", s.z.reason)
		}
		s.sip(s.z, 1)
	}
	s.pass(200 * time.Millisecond)
	if s.z.reason != session.ReasonWaited.String() {
		t.Fatalf("the others still wait: %t %q", s.z.closed, s.z.reason)
	}
	s.pass(time.Second)
	if got := len(s.numbers(s.y)); got != 500 {
		t.Errorf("the other member got %d messages, want all 500", got)
	}
}

func TestPressureConfig(t *testing.T) {
	for _, cfg := range []Config{
		{SessionBytes: -1}, {SessionBytes: 1000, SessionHardBytes: 999}, {QueueMemory: 1000}, {SessionStall: -1}, {SessionWait: -1}, {SlowPolicy: 9},
	} {
		cfg = cfg.withDefaults()
		if cfg.validatePressure() == nil {
			t.Errorf("accepted: %+v", cfg)
		}
	}
}

// What waits for a client whose session ends still reaches it, unless it asked to be disconnected or reads too slowly.
func TestWhatWaitsAtTheEnd(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) { cfg.SessionBytes = 64 << 10 }, "a")
	n := c.nodes[0]
	x := c.connect(0, "x", true)
	badHeader := func(k *testConn) { c.send(k, make([]byte, frame.HeaderSize)) }
	badFrame := func(k *testConn) { c.send(k, []byte{0, 0, 0, 0, 99, 0, 0, 0}) }
	end := func(k *testConn) { n.m.HandleEnd(c.now, k.id, &n.fx); c.after(0) }
	for _, e := range []struct {
		what  string
		own   bool
		bytes int // of the message that waits
		end   func(k *testConn)
		gets  bool
	}{
		{"a bad header", false, 1000, badHeader, true},
		{"the end of its stream", false, 1000, end, true},
		{"the end of its stream in a message", false, 1000, func(k *testConn) { c.send(k, []byte{1}); end(k) }, true},
		{"its wish", false, 1000, func(k *testConn) { c.send(k, frame.AppendKill(nil, "#k#a")) }, false},
		{"a bad header, too slow", false, 100_000, badHeader, false},
		{"a bad frame", true, 1000, badFrame, true},
		{"the end of its stream in the own dialect", true, 1000, end, true},
		{"its wish in the own dialect", true, 1000, func(k *testConn) { c.send(k, frame.AppendOwnBye(nil)) }, false},
		{"a bad frame, too slow", true, 100_000, badFrame, false},
	} {
		var k *testConn
		if e.own {
			k = c.dialOwn(0, "k").testConn
		} else {
			k = c.connect(0, "k", true)
		}
		k.deaf = true
		c.send(x, frame.AppendMulticast(nil, "#x#a", frame.MulticastType(evs.Agreed, false), 1, []string{"#k#a"}, bytes.Repeat([]byte("k"), e.bytes)))
		c.pass(20 * time.Millisecond)
		e.end(k)
		if k.reason == "" {
			t.Fatalf("%s: not closed", e.what)
		}
		k.deaf = false
		c.drain(n, k.id)
		if got := bytes.Count(k.got, []byte("k")) >= e.bytes; got != e.gets {
			t.Errorf("%s: the message that waited reached the client: %v, want %v", e.what, got, e.gets)
		}
		if e.own && k.reason != session.ReasonGone.String() && !bytes.Contains(k.got, []byte(k.reason)) {
			t.Errorf("%s: %d bytes without the reason", e.what, len(k.got))
		}
		c.pass(20 * time.Millisecond)
		if len(n.m.conns) != 1 {
			t.Errorf("%s: %d connections left, want that of the other", e.what, len(n.m.conns))
		}
	}
}
