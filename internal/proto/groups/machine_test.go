// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// inState brings d1 of a cluster of d1, d2 to a state; session "a" of d1 is in "g" unless the state is Fresh. d2 is a
// member of the configuration in Stable and Exchange.
func inState(t *testing.T, s State) (*Machine, *cluster) {
	if s == Fresh {
		c := &cluster{t: t, ds: map[string]*node{}, x: transcript{ids: map[string]string{}, lines: map[string][]string{}}}
		for i, n := range []string{"d1", "d2"} {
			id := evs.ProcID{Rank: uint16(i + 1), Name: n, Inc: evs.Incarnation(0x1000 + i)}
			c.ds[n] = &node{c: c, id: id, m: New(Config{Me: id}), users: map[uint64]string{}}
		}
		c.ds["d1"].open("a", true)
		return c.ds["d1"].m, c
	}
	c := newCluster(t, "d1", "d2")
	d := c.ds["d1"]
	num := d.open("a", true)
	c.deliver("d1", evs.Agreed, AppendJoin(nil, num, "a", "g"), "d1")
	exchange := func() {
		conf := &evs.Configuration{
			ID: evs.RegularID(evs.RingID{Seq: 9, Rep: d.id.Inc}), Members: c.ids([]string{"d1", "d2"}),
			Origins: []evs.RingID{d.ring, c.ds["d2"].ring},
		}
		d.m.HandleRegular(conf, evs.DetailDaemons, &d.fx)
		d.ring = conf.ID.New
	}
	switch s {
	case Stable, Transitional:
		c.transitional("d1")
		c.transitional("d2")
		c.regular("d1", "d2")
		if s == Transitional {
			c.transitional("d1")
		}
	case Exchange:
		c.transitional("d1")
		exchange()
	case Aborted:
		c.transitional("d1")
		exchange()
		c.transitional("d1")
	}
	d.flush()
	c.x.lines = map[string][]string{}
	if d.m.State() != s {
		t.Fatalf("state %v, want %v", d.m.State(), s)
	}
	return d.m, c
}

// TestStateTable walks the table of the package documentation.
func TestStateTable(t *testing.T) {
	states := []State{Fresh, Stable, Transitional, Exchange, Aborted}
	rows := []struct {
		input string
		run   func(c *cluster, d *node)
		want  [5]string
	}{
		{"open, close", func(c *cluster, d *node) {
			d.m.Close(d.open("z", true))
		}, [5]string{"", "", "", "", ""}},
		{"data", func(c *cluster, d *node) {
			d.m.HandleMessage(d.id, evs.Agreed, mcast(1, "a", "x", 0x10, "g"), &d.fx)
		}, [5]string{"drop no configuration", "data", "data", "unready, queued", "drop exchange aborted"}},
		{"reliable data", func(c *cluster, d *node) {
			d.m.HandleMessage(d.id, evs.Reliable, mcast(1, "a", "x", 0x02, "g"), &d.fx)
		}, [5]string{"drop no configuration", "data", "data", "queued", "drop exchange aborted"}},
		{"join", func(c *cluster, d *node) {
			d.m.HandleMessage(d.id, evs.Agreed, AppendJoin(nil, 1, "a", "h"), &d.fx)
		}, [5]string{"drop no configuration", "view view", "view view", "unready, queued", "drop exchange aborted"}},
		{"state for this ring", func(c *cluster, d *node) {
			d.m.HandleMessage(c.ds["d2"].id, evs.Agreed, encodeState(d.ring, []uint16{1}, nil, 100)[0], &d.fx)
		}, [5]string{"drop stale state", "drop stale state", "drop stale state", "1 left", "drop stale state"}},
		{"state for another", func(c *cluster, d *node) {
			d.m.HandleMessage(c.ds["d2"].id, evs.Agreed, encodeState(evs.RingID{Seq: 77}, []uint16{1}, nil, 100)[0], &d.fx)
		}, [5]string{"drop stale state", "drop stale state", "drop stale state", "drop stale state", "drop stale state"}},
		{"transitional", func(c *cluster, d *node) {
			conf := &evs.Configuration{ID: evs.TransitionalID(d.ring, evs.RingID{Seq: 100}), Members: []evs.ProcID{d.id}}
			d.m.HandleTransitional(conf, &d.fx)
		}, [5]string{"panic", "to transitional", "panic", "abort to aborted", "panic"}},
		{"regular", func(c *cluster, d *node) {
			conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: 100}), Members: []evs.ProcID{d.id}, Origins: []evs.RingID{d.ring}}
			d.m.HandleRegular(conf, evs.DetailDaemons, &d.fx)
		}, [5]string{"exchange to exchange", "panic", "exchange to exchange", "panic", "exchange to exchange"}},
	}
	for _, row := range rows {
		for i, s := range states {
			m, c := inState(t, s)
			d := c.ds["d1"]
			var got []string
			if panics(func() { row.run(c, d) }) {
				got = append(got, "panic")
			} else {
				for _, n := range d.fx.Notes {
					if n.Kind == NoteDrop {
						got = append(got, "drop "+n.Drop.String())
					} else {
						got = append(got, n.Kind.String())
					}
				}
				for _, x := range d.fx.Deliveries {
					got = append(got, x.Kind.String())
				}
				if m.State() != s {
					got = append(got, "to "+m.State().String())
				}
				if m.ex.queue != nil {
					if len(got) > 0 {
						got[len(got)-1] += ","
					}
					got = append(got, "queued")
				} else if m.state == Exchange && m.ex.left < 2 && len(m.ex.covered) == 2 {
					got = append(got, fmt.Sprint(m.ex.left, " left"))
				}
				d.flush()
			}
			if g := strings.Join(got, " "); g != row.want[i] {
				t.Errorf("%s in %v: got %q, want %q", row.input, s, g, row.want[i])
			}
		}
	}
}

// What is wrong without being malformed is dropped under its own reason and changes nothing.
func TestDrops(t *testing.T) {
	m, c := inState(t, Stable)
	d := c.ds["d1"]
	stranger := evs.ProcID{Name: "x", Inc: 1}
	check := func(name string, from evs.ProcID, service evs.Service, p []byte, want Drop) {
		t.Helper()
		before := fmt.Sprint(m.Groups(), m.counter)
		m.HandleMessage(from, service, p, &d.fx)
		if len(d.fx.Notes) == 0 || d.fx.Notes[0].Drop != want || fmt.Sprint(m.Groups(), m.counter) != before {
			t.Errorf("%s: notes %+v, want drop %v", name, d.fx.Notes, want)
		}
		d.flush()
	}
	check("empty", d.id, evs.Agreed, nil, DropMalformed)
	check("unknown", d.id, evs.Agreed, []byte{9, 0, 0, 0}, DropMalformed)
	check("short data", d.id, evs.Agreed, []byte{byte(opData)}, DropMalformed)
	check("short join", d.id, evs.Agreed, []byte{byte(opJoin)}, DropMalformed)
	check("short state", d.id, evs.Agreed, []byte{byte(opState)}, DropMalformed)
	check("join without order", d.id, evs.FIFO, AppendJoin(nil, 1, "a", "h"), DropService)
	check("state without order", d.id, evs.Reliable, encodeState(d.ring, []uint16{0}, nil, 100)[0], DropService)
	check("stranger", stranger, evs.Agreed, AppendJoin(nil, 1, "a", "h"), DropSender)
	check("other name", d.id, evs.Agreed, AppendJoin(nil, 1, "b", "h"), DropName)
	check("private name", d.id, evs.Agreed, AppendJoin(nil, 1, "a", "#h"), DropName)

	m, c = inState(t, Exchange)
	d = c.ds["d1"]
	d2 := c.ds["d2"].id
	part := func(cover []uint16, i, n int) []byte {
		gs := []stateGroup{{name: "h", members: []stateMember{{1, 1, "u"}, {1, 2, "v"}, {1, 3, "w"}}}}
		parts := encodeState(d.ring, cover, gs, 1)
		if len(parts) != n {
			t.Fatalf("%d parts", len(parts))
		}
		return parts[i]
	}
	check("stranger's state", stranger, evs.Agreed, part([]uint16{1}, 0, 3), DropSender)
	check("speaks for others", d2, evs.Agreed, part([]uint16{0, 1}, 0, 3), DropSender)
	check("malformed", d2, evs.Agreed, part([]uint16{1}, 0, 3)[:30], DropMalformed)
	check("second part first", d2, evs.Agreed, part([]uint16{1}, 1, 3), DropStatePart)
	m.HandleMessage(d2, evs.Agreed, part([]uint16{1}, 0, 3), &d.fx)
	d.flush()
	check("twice", d2, evs.Agreed, part([]uint16{1}, 0, 3), DropStatePart)
	check("a part left out", d2, evs.Agreed, part([]uint16{1}, 2, 3), DropStatePart)
	check("overlap", d.id, evs.Agreed, part([]uint16{0, 1}, 0, 3), DropStatePart)
	m.ex.queueBytes = MaxQueueBytes
	m.HandleMessage(d2, evs.Reliable, mcast(1, "b", "x", 2, "g"), &d.fx)
	if d.fx.Notes[0].Drop != DropQueueFull {
		t.Errorf("full queue: %+v", d.fx.Notes)
	}
	m.ex.queueBytes = 0
	d.fx.Reset()
}

// Reliable messages that passed the last state come after the views, in their order (GRP-14).
func TestQueue(t *testing.T) {
	m, c := inState(t, Exchange)
	d := c.ds["d1"]
	d2 := c.ds["d2"].id
	p := mcast(1, "b", "early", 2, "g")
	m.HandleMessage(d2, evs.Reliable, p, &d.fx)
	if d.flush(); len(c.x.lines) != 0 || !m.Exchanging() {
		t.Fatal("delivered before the views")
	}
	clear(p) // the machine has its own copy
	m.HandleMessage(d2, evs.Agreed, encodeState(d.ring, []uint16{1}, []stateGroup{
		{name: "g", id: evs.ViewID{1, 2, 3}, members: []stateMember{{1, 1, "b"}}},
	}, 100)[0], &d.fx)
	own := encodeState(d.ring, []uint16{0}, m.ownState(), 100)[0]
	m.HandleMessage(d.id, evs.Agreed, own, &d.fx)
	if !d.fx.Ready {
		t.Fatal("not ready")
	}
	d.flush()
	c.expect(`
		#a#d1: view g v2 network [#a#d1 #b#d2] [[#a#d1] [#b#d2]] own 0
		#a#d1: data #b#d2[g]early`)
}

// A table other than ours, sent for our set, is taken and noted.
func TestDiverged(t *testing.T) {
	m, c := inState(t, Exchange)
	d := c.ds["d1"]
	m.HandleMessage(d.id, evs.Agreed, encodeState(d.ring, []uint16{0}, []stateGroup{
		{name: "other", members: []stateMember{{0, 1, "a"}}},
	}, 100)[0], &d.fx)
	m.HandleMessage(c.ds["d2"].id, evs.Agreed, encodeState(d.ring, []uint16{1}, nil, 100)[0], &d.fx)
	if !slices.ContainsFunc(d.fx.Notes, func(n Note) bool { return n.Kind == NoteDiverged }) || !slices.Equal(m.Groups(), []string{"other"}) {
		t.Errorf("groups %v, notes %+v", m.Groups(), d.fx.Notes)
	}
	d.flush()
}

// A breach of what the caller promises stops the daemon.
func TestPanics(t *testing.T) {
	m, c := inState(t, Stable)
	d := c.ds["d1"]
	for name, f := range map[string]func(){
		"no name":      func() { New(Config{}) },
		"empty user":   func() { m.Open(5, "", true) },
		"number twice": func() { m.Open(1, "b", true) },
		"name twice":   func() { m.Open(5, "a", true) },
		"not a member": func() {
			m.HandleTransitional(&evs.Configuration{ID: evs.TransitionalID(d.ring, d.ring), Members: []evs.ProcID{c.ds["d2"].id}}, &d.fx)
		},
		"wrong kind": func() {
			m.HandleTransitional(&evs.Configuration{ID: evs.RegularID(d.ring), Members: []evs.ProcID{d.id}}, &d.fx)
		},
		"from nowhere": func() {
			m.HandleTransitional(&evs.Configuration{ID: evs.TransitionalID(d.ring, d.ring), Members: []evs.ProcID{d.id, {Name: "x"}}}, &d.fx)
		},
	} {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range []fmt.Stringer{
		Stable, State(99), KindView, KindData, KindSignal, KindSelfLeave, DeliveryKind(99), DropName, Drop(99), NoteReady, NoteKind(99),
	} {
		if s.String() == "" {
			t.Errorf("%T has no name", s)
		}
	}
}

// A table of 100,000 members in 10,000 groups, and one group of 20,000: joins, an exchange, disconnects.
func TestLargeTable(t *testing.T) {
	if testing.Short() {
		t.Skip("large")
	}
	me := evs.ProcID{Name: "d", Inc: 1}
	m := New(Config{Me: me})
	var fx Effects
	ring := evs.RingID{}
	exchange := func() int {
		if m.State() == Stable {
			m.HandleTransitional(&evs.Configuration{ID: evs.TransitionalID(ring, evs.RingID{Seq: ring.Seq + 1, Rep: 1}), Members: []evs.ProcID{me}}, &fx)
		}
		next := evs.RingID{Seq: ring.Seq + 1, Rep: 1}
		m.HandleRegular(&evs.Configuration{ID: evs.RegularID(next), Members: []evs.ProcID{me}, Origins: []evs.RingID{ring}}, evs.DetailDaemons, &fx)
		ring = next
		parts := slices.Clone(fx.Submits)
		for _, s := range parts {
			if len(s.Payload) > DefaultStateBytes {
				t.Fatalf("part of %d bytes", len(s.Payload))
			}
			m.HandleMessage(me, s.Service, s.Payload, &fx)
		}
		if m.State() != Stable {
			t.Fatal("exchange did not end")
		}
		fx.Reset()
		return len(parts)
	}
	exchange()
	var buf []byte
	const sessions, groups = 20000, 10000
	for i := range uint64(sessions) {
		user := fmt.Sprintf("u%05d", i*7919%sessions)
		for j := range uint64(5) {
			group := fmt.Sprintf("g%04d", (i+j*1999)%groups)
			if j == 0 {
				group = "all"
			}
			buf = AppendJoin(buf[:0], i, user, group)
			m.HandleMessage(me, evs.Agreed, buf, &fx)
		}
		fx.Reset()
	}
	if n := exchange(); n < 20 || len(m.Members("all")) != sessions {
		t.Fatalf("%d parts, %d members", n, len(m.Members("all")))
	}
	if err := m.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(sessions) {
		m.HandleMessage(me, evs.Safe, AppendDisconnect(buf[:0], i, fmt.Sprintf("u%05d", i*7919%sessions), evs.DetailAsked), &fx)
		fx.Reset()
	}
	if len(m.groups) != 0 || len(m.sessions) != 0 {
		t.Fatalf("%d groups and %d sessions are left", len(m.groups), len(m.sessions))
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n, " local"), func(b *testing.B) {
			me, other := evs.ProcID{Name: "d", Inc: 1}, evs.ProcID{Name: "e", Inc: 2}
			m := New(Config{Me: me})
			var fx Effects
			m.HandleRegular(&evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: 1}), Members: []evs.ProcID{me}, Origins: make([]evs.RingID, 1)}, evs.DetailDaemons, &fx)
			m.HandleMessage(me, evs.Agreed, fx.Submits[0].Payload, &fx)
			for i := range uint64(n) {
				m.Open(i, fmt.Sprint("u", i), true)
				m.HandleMessage(me, evs.Agreed, AppendJoin(nil, i, fmt.Sprint("u", i), "g"), &fx)
			}
			fx.Reset()
			p := mcast(1, "b", strings.Repeat("x", 1350), 0x10, "g")
			b.ReportAllocs()
			for b.Loop() {
				m.HandleMessage(other, evs.Agreed, p, &fx)
				fx.Reset()
			}
		})
	}
}

func BenchmarkAppendData(b *testing.B) {
	d := Data{Session: 1, Sender: "user", Groups: [][]byte{[]byte("group")}, Body: make([]byte, 1350)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendData(buf[:0], &d)
	}
}
