// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
	"evensong/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// alone starts a daemon without peers and returns where it serves clients.
func alone(t testing.TB, voters ...string) string {
	t.Helper()
	d, err := daemon.Start(context.Background(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: netip.MustParseAddrPort("127.0.0.1:0"), Voters: voters,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.ListenAddrs()[0].String()
}

func dial(t testing.TB, addr, name string, opts ...Option) *Conn {
	t.Helper()
	c, err := Dial(testContext(t), addr, append(opts, WithClient(client.WithName(name)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// next is the next event, which must be an E.
func next[E Event](t testing.TB, c *Conn) E {
	t.Helper()
	ev, err := c.Next(testContext(t))
	if err != nil {
		t.Fatalf("%s: %v", c.PrivateGroup(), err)
	}
	e, ok := ev.(E)
	if !ok {
		t.Fatalf("%s: got %T %v, want %T", c.PrivateGroup(), ev, ev, e)
	}
	return e
}

// joined joins, flushes for those who are in, and has all receive the view.
func joined(t testing.TB, group string, newcomer *Conn, members ...*Conn) {
	t.Helper()
	ctx := testContext(t)
	must(t, newcomer.Join(ctx, group))
	for _, c := range members {
		if !c.opts.autoFlush {
			next[*FlushRequest](t, c)
			must(t, c.Flush(ctx, group))
		}
	}
	for _, c := range append(members, newcomer) {
		if v := next[*View](t, c); v.Joined != newcomer.PrivateGroup() || len(v.Members) != len(members)+1 {
			t.Fatalf("%s got %v", c.PrivateGroup(), v)
		}
	}
}

func TestViewChange(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	a, b := dial(t, addr, "a"), dial(t, addr, "b")
	joined(t, "g", a)

	must(t, b.Join(ctx, "g"))
	req := next[*FlushRequest](t, a)
	must(t, a.Multicast(ctx, "g", client.FIFO, 7, []byte("last words")))
	must(t, a.Flush(ctx, "g"))
	if m := next[*Message](t, a); string(m.Data) != "last words" || m.Type != 7 || m.View != req.ID || m.Group != "g" || m.Service != client.FIFO {
		t.Errorf("a got %v in %v", m, m.View)
	}
	v := next[*View](t, a)
	if !slices.Equal(v.Members, []string{"#a#d", "#b#d"}) || v.Cause != client.CausedByJoin || v.Joined != "#b#d" || !slices.Equal(v.Came, []string{"#a#d"}) || v.Rank("#b#d") != 1 {
		t.Errorf("a got %v, came %v", v, v.Came)
	}
	if w := next[*View](t, b); w.ID != v.ID || !slices.Equal(w.Came, []string{"#b#d"}) {
		t.Errorf("b got %v, came %v", w, w.Came)
	}

	// Every service in the new view, large enough for both wrapped and plain messages.
	for _, s := range []client.Service{client.Unreliable, client.Reliable, client.FIFO, client.Causal, client.Agreed, client.Safe} {
		must(t, b.MulticastParts(ctx, "g", s, -5, [][]byte{[]byte("by "), []byte(s.String())}))
	}
	for _, c := range []*Conn{a, b} {
		got := map[string]bool{}
		for range 6 {
			m := next[*Message](t, c)
			if m.View != v.ID || m.Type != -5 || m.Sender != "#b#d" || m.EndianMismatch || string(m.Data) != "by "+m.Service.String() {
				t.Errorf("%s got %v in %v", c.PrivateGroup(), m, m.View)
			}
			got[string(m.Data)] = true
		}
		if len(got) != 6 {
			t.Errorf("%s got %v", c.PrivateGroup(), got)
		}
	}
	must(t, a.Unicast(ctx, "g", "#b#d", client.Agreed, 1, []byte("to you")))
	if m := next[*Message](t, b); !m.Subgroup || m.Group != "g" || !slices.Equal(m.Groups, []string{"#b#d"}) || string(m.Data) != "to you" || m.View != v.ID {
		t.Errorf("b got %v, groups %v, in %v", m, m.Groups, m.View)
	}
	must(t, a.Multicast(ctx, "#b#d", client.Agreed, 1, []byte("private")))
	if m := next[*Message](t, b); m.Subgroup || m.Group != "#b#d" || m.View != (client.ViewID{}) {
		t.Errorf("b got %v in %v", m, m.View)
	}

	must(t, b.Leave(ctx, "g"))
	if s := next[*SelfLeave](t, b); s.Group != "g" || s.Evicted {
		t.Errorf("b got %v", s)
	}
	next[*FlushRequest](t, a)
	if s := next[*Transition](t, a); !slices.Equal(s.Gone, []string{"#b#d"}) {
		t.Errorf("a got %v", s)
	}
	must(t, a.Flush(ctx, "g"))
	if v := next[*View](t, a); v.Left != "#b#d" || len(v.Members) != 1 {
		t.Errorf("a got %v", v)
	}
	if a.More() != 0 {
		t.Errorf("%d events more", a.More())
	}
	if _, err := a.TryNext(); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("TryNext: %v", err)
	}
}

// Each refusal has the number that the original's library returns, and sends nothing.
func TestRefusals(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	a, b := dial(t, addr, "a"), dial(t, addr, "b")
	joined(t, "g", a)
	cast := func(group string, s client.Service, typ int16) error { return a.Multicast(ctx, group, s, typ, nil) }
	check := func(what string, err error, want client.Code) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Op == "" || e.Detail == "" {
			t.Errorf("%s: %#v says too little", what, err)
		}
	}
	check("join twice", a.Join(ctx, "g"), -14)
	check("join a private group", a.Join(ctx, "#b#d"), -14)
	check("leave what one is not in", a.Leave(ctx, "h"), -14)
	check("flush what one is not in", a.Flush(ctx, "h"), -14)
	check("flush without request", a.Flush(ctx, "g"), -27)
	check("send to a group one is not in", cast("h", client.Agreed, 1), -14)
	check("no service", cast("g", 0, 1), -12)
	check("the subgroup bit", cast("g", client.Agreed|0x40000000, 1), -12)
	for typ := int16(-32768); typ < MinMessageType; typ++ {
		check("reserved type", cast("g", client.Agreed, typ), -26)
	}
	check("no receivers", a.Subgroupcast(ctx, "g", nil, client.Agreed, 1, nil), -24)
	check("receiver outside", a.Unicast(ctx, "g", "#b#d", client.Agreed, 1, nil), -28)

	must(t, b.Join(ctx, "g"))
	next[*FlushRequest](t, a)
	must(t, a.Flush(ctx, "g"))
	check("flush twice", a.Flush(ctx, "g"), -27)
	check("send after flush", cast("g", client.Agreed, 1), -27)
	next[*View](t, b)
	for a.More() == 0 {
		must(t, testContext(t).Err())
		time.Sleep(time.Millisecond)
	}
	check("send in a view that was not received", cast("g", client.Agreed, 1), -27)
	next[*View](t, a)
	must(t, cast("g", client.Agreed, MinMessageType))
	if m := next[*Message](t, b); m.Type != -32765 {
		t.Errorf("b got %v", m)
	}
	must(t, a.Leave(ctx, "g"))
	check("leave twice", a.Leave(ctx, "g"), -14)
}

func TestAutoFlush(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	a, b := dial(t, addr, "a", WithAutoFlush()), dial(t, addr, "b")
	joined(t, "g", a)
	joined(t, "g", b, a)
	c := dial(t, addr, "c", WithAutoFlush())
	must(t, c.Join(ctx, "g"))
	next[*FlushRequest](t, b)
	// a has answered by itself or is about to; b holds the view up, so that a's message waits for it, or was sent before.
	sent := make(chan error)
	go func() { sent <- a.Multicast(ctx, "g", client.Agreed, 1, []byte("x")) }()
	short, cancel := context.WithCancel(ctx)
	waiting := make(chan error)
	go func() { waiting <- c.Multicast(short, "g", client.Agreed, 1, nil) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) && !errors.Is(err, ErrIllegalGroup) {
		t.Errorf("a sender that is not a member yet: %v", err)
	}
	must(t, b.Flush(ctx, "g"))
	must(t, <-sent)
	views := map[string]client.ViewID{}
	for _, m := range []*Conn{a, b} {
		var got []string
		for len(got) < 2 {
			switch ev := next[Event](t, m).(type) {
			case *View:
				got = append(got, "view")
			case *Message:
				got = append(got, "message")
				views[m.PrivateGroup()] = ev.View
			default:
				t.Fatalf("%s got %v", m.PrivateGroup(), ev)
			}
		}
	}
	if views["#a#d"] != views["#b#d"] || views["#a#d"] == (client.ViewID{}) {
		t.Errorf("the message was delivered in %v", views)
	}
}

// A plain session in the group never answers. It is named, and nothing else happens while the daemon cannot evict.
func TestPlainMember(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	under, err := client.Dial(ctx, addr, client.WithName("a"))
	must(t, err)
	o, err := newOptions([]Option{WithFlushTimeout(20 * time.Millisecond)})
	must(t, err)
	a, err := newConn(cannotEvict{under}, under, o)
	must(t, err)
	defer a.Close()
	joined(t, "g", a)
	p, err := client.Dial(ctx, addr, client.WithName("plain"))
	must(t, err)
	defer p.Close()
	must(t, p.Join(ctx, "g"))
	next[*FlushRequest](t, a)
	must(t, a.Flush(ctx, "g"))
	for range 2 {
		s := next[*Stuck](t, a)
		if !slices.Equal(s.Members, []string{"#plain#d"}) || !slices.Equal(s.Silent, s.Members) || !errors.Is(s.Err, ErrCannotEvict) {
			t.Errorf("got %v", s)
		}
	}
	p.Close()
	if v := nextOf[*View](t, a); v.Cause != client.CausedByNetwork || len(v.Members) != 1 {
		t.Errorf("got %v", v)
	}
}

// cannotEvict is a session with a daemon of the original, whatever the client package can do.
type cannotEvict struct{ session }

// nextOf passes over other events.
func nextOf[E Event](t testing.TB, c *Conn) E {
	t.Helper()
	for {
		if e, ok := next[Event](t, c).(E); ok {
			return e
		}
	}
}

// A member that does not answer is removed by a daemon that can do that: here the one that is stuck is told to leave
// through its session, which for the others looks the same.
func TestEviction(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	stuck := dial(t, addr, "stuck")
	joined(t, "g", stuck)
	under, err := client.Dial(ctx, addr, client.WithName("a"))
	must(t, err)
	type request struct {
		group, member string
		id            client.ViewID
	}
	asked := make(chan request, 10)
	removed := make(chan struct{})
	s := &removing{Conn: under, evict: func(ctx context.Context, group, member string, id client.ViewID) error {
		asked <- request{group, member, id}
		err := stuck.under.Leave(ctx, group)
		select { // the answer comes only after what was asked for has happened
		case <-removed:
		case <-ctx.Done():
		}
		return err
	}}
	o, err := newOptions([]Option{WithFlushTimeout(20 * time.Millisecond)})
	must(t, err)
	a, err := newConn(s, under, o)
	must(t, err)
	defer a.Close()
	must(t, a.Join(ctx, "g"))
	next[*FlushRequest](t, stuck) // and no answer
	st := next[*Stuck](t, a)
	if r := <-asked; r.member != "#stuck#d" || r.group != "g" || r.id != st.ID || st.Err != nil || !slices.Equal(st.Members, []string{"#stuck#d"}) {
		t.Errorf("asked for %v, got %v", r, st)
	}
	if v := nextOf[*View](t, a); !slices.Equal(v.Members, []string{"#a#d"}) {
		t.Errorf("got %v", v)
	}
	close(removed)
	if l := next[*SelfLeave](t, stuck); !l.Evicted {
		t.Errorf("got %v", l)
	}
	if err := stuck.Flush(ctx, "g"); !errors.Is(err, ErrIllegalGroup) {
		t.Errorf("flush after removal: %v", err)
	}
}

// The same with a daemon that really removes, as ours do for sessions in Evensong's own dialect. The one that is stuck may
// speak either, and may be no member of the flush library at all.
func TestEvictionByTheDaemon(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	a := dial(t, "evensong://"+addr, "a", WithFlushTimeout(20*time.Millisecond))
	joined(t, "g", a)
	plain, err := client.Dial(ctx, addr, client.WithName("plain"))
	must(t, err)
	defer plain.Close()
	must(t, plain.Join(ctx, "g"))
	next[*FlushRequest](t, a)
	must(t, a.Flush(ctx, "g"))
	if s := nextOf[*Stuck](t, a); s.Err != nil || !slices.Equal(s.Members, []string{"#plain#d"}) {
		t.Fatalf("got %v", s)
	}
	if v := nextOf[*View](t, a); !slices.Equal(v.Members, []string{"#a#d"}) {
		t.Errorf("got %v", v)
	}
	for {
		ev, err := plain.Next(ctx)
		must(t, err)
		if l, ok := ev.(*client.SelfLeave); ok {
			if l.Group != "g" {
				t.Errorf("got %v", l)
			}
			break
		}
	}
	// Without a daemon that can, who is stuck is named all the same.
	b := dial(t, addr, "b", WithFlushTimeout(20*time.Millisecond))
	joined(t, "h", b)
	must(t, plain.Join(ctx, "h"))
	next[*FlushRequest](t, b)
	must(t, b.Flush(ctx, "h"))
	if s := nextOf[*Stuck](t, b); !errors.Is(s.Err, ErrCannotEvict) {
		t.Errorf("got %v", s)
	}
}

type removing struct {
	*client.Conn
	evict func(ctx context.Context, group, member string, id client.ViewID) error
}

func (r *removing) Evict(ctx context.Context, group, member string, id client.ViewID) error {
	return r.evict(ctx, group, member, id)
}

func TestDialAndWrap(t *testing.T) {
	addr := alone(t)
	ctx := testContext(t)
	if _, err := Dial(ctx, addr, WithFlushTimeout(-1)); !errors.Is(err, ErrIllegalParam) {
		t.Errorf("a negative timeout: %v", err)
	}
	if _, err := Dial(ctx, "127.0.0.1:1"); err == nil {
		t.Error("dialed nobody")
	}
	deaf, err := client.Dial(ctx, addr, client.WithMembership(false))
	must(t, err)
	defer deaf.Close()
	if _, err := Wrap(deaf); !errors.Is(err, ErrIllegalParam) {
		t.Errorf("a session without membership messages: %v", err)
	}
	under, err := client.Dial(ctx, addr, client.WithName("w"))
	must(t, err)
	w, err := Wrap(under, WithReceiveQueue(0))
	must(t, err)
	joined(t, "g", w)
	if w.Client() != under {
		t.Error("another session")
	}
	// A queue that is full stops the protocol and loses nothing.
	for i := range 20 {
		must(t, w.Multicast(ctx, "g", client.Agreed, int16(i), nil))
	}
	for i := range 20 {
		if m := next[*Message](t, w); m.Type != int16(i) {
			t.Fatalf("message %d is %v", i, m)
		}
	}
	if w.Waiting() != 0 {
		t.Errorf("%d waiting", w.Waiting())
	}
	must(t, w.Close())
	if _, err := w.Next(ctx); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for range w.Events(ctx) {
		t.Error("an event after Close")
	}
	if err := w.Multicast(ctx, "g", client.Agreed, 0, nil); err == nil {
		t.Error("sent after Close")
	}
	// Calls that wait end with their context, also while the queue of a session that nobody reads is full.
	x := dial(t, addr, "x", WithReceiveQueue(1))
	joined(t, "h", x)
	must(t, x.Multicast(ctx, "h", client.Agreed, 0, nil))
	over, cancel := context.WithCancel(ctx)
	cancel()
	var last error
	for _, err := range x.Events(over) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the loop ended with %v", last)
	}
	x.Abort()
}

// Two daemons: members at both, messages of all services while the view changes, then one daemon ends.
func TestTwoDaemons(t *testing.T) {
	here := netip.MustParseAddrPort("127.0.0.1:0")
	var peers []netip.AddrPort
	for range 2 {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		must(t, err)
		peers = append(peers, c.LocalAddr().(*net.UDPAddr).AddrPort())
		defer c.Close()
		c.Close()
	}
	var ds []*daemon.Daemon
	for i, at := range peers {
		// A busy machine must not look like a broken ring: nothing here waits for the timeout.
		d, err := daemon.Start(context.Background(), daemon.Config{Name: fmt.Sprintf("d%d", i), Cluster: t.Name(), Bind: at, Peers: peers, TokenTimeout: time.Second,
			Listen: []netip.AddrPort{here}})
		must(t, err)
		defer d.Close()
		ds = append(ds, d)
	}
	ctx := testContext(t)
	for {
		names, err := ds[0].Members(ctx)
		must(t, err)
		if len(names) == 2 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	a := dial(t, ds[0].ListenAddrs()[0].String(), "a")
	b := dial(t, ds[1].ListenAddrs()[0].String(), "b")
	c := dial(t, ds[1].ListenAddrs()[0].String(), "c")
	joined(t, "g", a)
	joined(t, "g", b, a)
	v := a.in.of("g").view
	must(t, c.Join(ctx, "g"))
	services := []client.Service{client.Unreliable, client.Reliable, client.FIFO, client.Causal, client.Agreed, client.Safe}
	for _, m := range []*Conn{a, b} {
		next[*FlushRequest](t, m)
		for _, s := range services {
			must(t, m.Multicast(ctx, "g", s, 1, []byte(m.PrivateGroup()+s.String())))
		}
		must(t, m.Flush(ctx, "g"))
	}
	// Everything that was sent in the old view is delivered in it, at both; then the new one comes.
	sets := map[string][]string{}
	for _, m := range []*Conn{a, b} {
		for range 2 * len(services) {
			msg := next[*Message](t, m)
			if msg.View != v {
				t.Errorf("%s got %v in %v", m.PrivateGroup(), msg, msg.View)
			}
			sets[m.PrivateGroup()] = append(sets[m.PrivateGroup()], string(msg.Data))
		}
		slices.Sort(sets[m.PrivateGroup()])
		if w := next[*View](t, m); w.Joined != c.PrivateGroup() || len(w.Came) != 2 {
			t.Errorf("%s got %v, came %v", m.PrivateGroup(), w, w.Came)
		}
	}
	if !slices.Equal(sets[a.PrivateGroup()], sets[b.PrivateGroup()]) {
		t.Errorf("a and b delivered different messages: %v", sets)
	}
	next[*View](t, c)

	ds[1].Close()
	for _, lost := range []*Conn{b, c} {
		for {
			if _, err := lost.Next(ctx); err != nil {
				if !errors.Is(err, client.ErrConnectionClosed) {
					t.Errorf("%s: %v", lost.PrivateGroup(), err)
				}
				break
			}
		}
	}
	if err := b.Multicast(ctx, "g", client.Agreed, 1, nil); err == nil {
		t.Error("sent without a session")
	}
	nextOf[*FlushRequest](t, a)
	must(t, a.Flush(ctx, "g"))
	for {
		if w := nextOf[*View](t, a); len(w.Members) == 1 {
			if !slices.Equal(w.Came, []string{a.PrivateGroup()}) {
				t.Errorf("a got %v, came %v", w, w.Came)
			}
			break
		}
		nextOf[*FlushRequest](t, a)
		must(t, a.Flush(ctx, "g"))
	}
}

// The text of every event has what a log needs.
func TestStrings(t *testing.T) {
	id := client.ViewID{1, 2, 3}
	for _, c := range []struct {
		ev   Event
		want string
	}{
		{&View{Group: "g", ID: id, Members: []string{"#a#d"}, Cause: client.CausedByJoin, Joined: "#a#d"}, "view 00000001.00000002.3 of g after join of #a#d: #a#d"},
		{&FlushRequest{"g", id}, "flush request in view 00000001.00000002.3 of g"},
		{&Transition{Group: "g", ID: id}, "transitional signal in view 00000001.00000002.3 of g: daemons are out of reach"},
		{&Transition{Group: "g", ID: id, Gone: []string{"#a#d", "#b#d"}}, "transitional signal in view 00000001.00000002.3 of g: gone are #a#d #b#d"},
		{&SelfLeave{Group: "g"}, "left g"},
		{&SelfLeave{Group: "g", Evicted: true}, "removed from g"},
		{&Stuck{Group: "g", Members: []string{"#b#d"}}, "g waits for #b#d: the daemon was asked to remove them"},
		{&Stuck{Group: "g", Members: []string{"#b#d"}, Silent: []string{"#b#d"}, Err: ErrCannotEvict},
			"g waits for #b#d (no answer was ever seen from #b#d): this daemon cannot remove a member that does not answer"},
		{&GaveUp{"g", "why"}, "giving up g: why"},
		{&Message{Group: "g", Sender: "#a#d", Service: client.Agreed, Type: 1, Data: []byte("hi")}, `#a#d to g (agreed, type 1): "hi"`},
		{&Message{Group: "g", Sender: "#a#d", Subgroup: true, Groups: []string{"#b#d"}, Service: client.Agreed, Data: []byte(strings.Repeat("x", 70))},
			fmt.Sprintf(`#a#d to #b#d of g (agreed, type 0): %q and 6 bytes more`, strings.Repeat("x", 64))},
		{&Rejected{client.Rejected{Request: client.RequestJoin, Groups: []string{"g"}}}, "refused: join to g"},
	} {
		if got := c.ev.String(); got != c.want {
			t.Errorf("%T: %q, want %q", c.ev, got, c.want)
		}
		if got := c.ev.GroupName(); got != "g" {
			t.Errorf("%T is about %q", c.ev, got)
		}
	}
}

// TestPrimary: what the session beneath is told of primary configurations comes through, and stands in the views.
func TestPrimary(t *testing.T) {
	addr := "evensong://" + alone(t, "d")
	c := dial(t, addr, "a", WithAutoFlush(), WithClient(client.WithPrimary()))
	if p := next[*PrimaryChange](t, c); p.Primary != client.PrimaryYes || p.GroupName() != "" || p.String() != "primary: yes" {
		t.Errorf("%+v", p)
	}
	must(t, c.Join(testContext(t), "g"))
	if v := next[*View](t, c); v.Primary != client.PrimaryYes {
		t.Errorf("view %v, primary %v", v, v.Primary)
	}
	plain := dial(t, addr, "b", WithAutoFlush())
	must(t, plain.Join(testContext(t), "h"))
	if v := next[*View](t, plain); v.Primary != client.PrimaryUnclaimed {
		t.Errorf("view %v, primary %v", v, v.Primary)
	}
}
