// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// ownConn is a client of the own dialect.
type ownConn struct {
	*testConn
	welcome frame.OwnWelcomeInfo
	asm     frame.OwnAssembly
}

// dialOwn opens a session and waits for its welcome.
func (c *cluster) dialOwn(node int, user string) *ownConn {
	c.t.Helper()
	return c.dialHello(node, &frame.OwnHello{
		Membership: true, User: user, Program: "test", Capabilities: []string{frame.OwnCapEvict, frame.OwnCapQuery, frame.OwnCapReceipt},
	})
}

func (c *cluster) dialHello(node int, h *frame.OwnHello) *ownConn {
	c.t.Helper()
	n := c.nodes[node]
	k := &ownConn{testConn: &testConn{node: node}, asm: frame.OwnAssembly{Limit: frame.MaxOwnBody}}
	k.id = n.m.HandleAccept(c.now, true, testAddr(node), &n.fx)
	n.conns[k.id] = k.testConn
	c.after(node)
	c.send(k.testConn, append(h.Append(nil), frame.AppendOwnChoice(nil, frame.AuthNull)...))
	for _, b := range c.bodies(k) {
		if b.t == frame.OwnWelcome {
			w, fault := frame.ParseOwnWelcome(b.b)
			if fault != frame.OwnFine {
				c.t.Fatal(fault)
			}
			k.welcome = w
		}
	}
	if k.welcome.Private == "" {
		c.t.Fatalf("no welcome for %q", h.User)
	}
	return k
}

type ownBody struct {
	t frame.OwnType
	b []byte
}

// bodies are the whole bodies that came, and must be all that came.
func (c *cluster) bodies(k *ownConn) (list []ownBody) {
	c.t.Helper()
	for len(k.got) > 0 {
		h, fault := frame.ParseOwnHeader(k.got)
		if fault != frame.OwnFine || !h.Type.FromDaemon() || len(k.got) < frame.OwnHeaderSize+h.Length {
			c.t.Fatalf("%d bytes that are no frame: %v", len(k.got), fault)
		}
		end := frame.OwnHeaderSize + h.Length
		t, whole, done, fault := k.asm.Add(h, k.got[frame.OwnHeaderSize:end])
		if fault != frame.OwnFine {
			c.t.Fatal(fault)
		}
		if done {
			list = append(list, ownBody{t, whole})
		}
		k.got = k.got[end:]
	}
	return list
}

// events are what came, in words. ids names view ids in the order of their appearance.
func (c *cluster) events(k *ownConn, ids map[evs.ViewID]string) (list []string) {
	c.t.Helper()
	name := func(id evs.ViewID) string {
		if id == (evs.ViewID{}) {
			return "-"
		}
		if ids[id] == "" {
			ids[id] = fmt.Sprint("v", len(ids)+1)
		}
		return ids[id]
	}
	for _, b := range c.bodies(k) {
		text, fault := "", frame.OwnFine
		switch b.t {
		case frame.OwnView:
			var v frame.OwnViewInfo
			v, fault = frame.ParseOwnView(b.b)
			text = fmt.Sprintf("view %s %s %v/%v %q %q %v own %d", v.Group, name(v.ID), v.Cause, v.Detail, v.Changed, v.Members, v.SetOf, v.Own)
		case frame.OwnMessage:
			var m frame.OwnMsg
			m, fault = frame.ParseOwnMessage(b.b)
			text = fmt.Sprintf("message %q %v %d %q %s", m.Sender, m.Type, m.Hint.MessType(), m.Groups.Strings(), short(m.Data))
		case frame.OwnAck:
			var a frame.OwnAckInfo
			a, fault = frame.ParseOwnAck(b.b)
			text = fmt.Sprintf("ack %d %v %s", a.Request, a.Status, name(a.View))
		case frame.OwnReceipt:
			var r uint32
			r, fault = frame.ParseOwnReceipt(b.b)
			text = fmt.Sprintf("receipt %d", r)
		case frame.OwnReject:
			var r frame.OwnRejectInfo
			r, fault = frame.ParseOwnReject(b.b)
			text = fmt.Sprintf("reject %d %d %v %q: %s", r.Request, int(r.Code), r.Type, r.Group, r.Sentence)
		case frame.OwnSelfLeave:
			var group []byte
			var id evs.ViewID
			var why evs.Detail
			group, id, why, fault = frame.ParseOwnSelfLeave(b.b)
			text = fmt.Sprintf("self-leave %s %s %v", group, name(id), why)
		case frame.OwnTransition:
			var group []byte
			var id evs.ViewID
			group, id, fault = frame.ParseOwnTransition(b.b)
			text = fmt.Sprintf("signal %s %s", group, name(id))
		case frame.OwnClose:
			var x frame.OwnCloseInfo
			x, fault = frame.ParseOwnClose(b.b)
			text = fmt.Sprintf("close %d %s: %s", int(x.Code), x.Reason, x.Sentence)
		case frame.OwnDaemons:
			var l []frame.OwnDaemon
			l, fault = frame.ParseOwnDaemons(b.b)
			text = fmt.Sprint("daemons ", l)
		case frame.OwnGroups:
			var l frame.OwnGroupList
			l, fault = frame.ParseOwnGroups(b.b)
			text = fmt.Sprintf("groups %d %d", l.Request, l.Flags)
			for _, e := range l.Groups {
				text += fmt.Sprintf(" %s:%d", e.Name, e.Members)
			}
		case frame.OwnMembers:
			var l frame.OwnMemberList
			l, fault = frame.ParseOwnMembers(b.b)
			text = fmt.Sprintf("members %d %d %d/%d %s %q", l.Request, l.Flags, l.First, l.Total, name(l.View), l.Members)
		case frame.OwnPrimary:
			var p evs.Primary
			p, fault = frame.ParseOwnPrimary(b.b)
			text = fmt.Sprint("primary ", p)
		case frame.OwnPing:
			text = "ping"
		default:
			text = b.t.String()
		}
		if fault != frame.OwnFine {
			c.t.Fatalf("%v: %v", b.t, fault)
		}
		list = append(list, text)
	}
	return list
}

// short is data in words, and its sum if it is long.
func short(data []byte) string {
	if len(data) <= 100 {
		return fmt.Sprintf("%q", data)
	}
	sum := uint64(0)
	for _, b := range data {
		sum = sum*31 + uint64(b)
	}
	return fmt.Sprintf("%d bytes %x", len(data), sum)
}

func (c *cluster) want(k *ownConn, ids map[evs.ViewID]string, want ...string) {
	c.t.Helper()
	if got := c.events(k, ids); fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

var plainHint = frame.NewHint(7, frame.LittleEndian)

func castOwn(request uint32, s evs.Service, data []byte, groups ...string) []byte {
	return frame.AppendOwnMulticast(nil, 1, request, frame.TypeOf(s), plainHint, groups, data)
}

// Clients of both dialects are in the same groups and see the same messages and views.
func TestDialectsTogether(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) { cfg.Program = "evensong test" }, "a", "b")
	x, y := c.dialOwn(0, "x"), c.connect(1, "y", true)
	if w := x.welcome; w.Private != "#x#a" || w.Short != "#x#a" || w.Daemon != "a" || w.Cluster != "test" || w.Program != "evensong test" ||
		w.MessageLimit != frame.DefaultOwnMessage || w.GroupsLimit != frame.MaxOwnGroups || w.Session != x.id || len(w.Capabilities) != 3 {
		t.Errorf("welcome %+v", w)
	}
	ids := map[evs.ViewID]string{}
	c.send(x.testConn, frame.AppendOwnJoin(nil, 1, "chat"))
	c.pass(50 * time.Millisecond)
	c.send(y, frame.AppendJoin(nil, "#y#b", "chat"))
	c.pass(50 * time.Millisecond)
	c.want(x, ids, `view chat v1 join/asked "#x#a" ["#x#a"] [] own 0`, "ack 1 done v1", `view chat v2 join/asked "#y#b" ["#x#a" "#y#b"] [] own 0`)
	c.send(x.testConn, castOwn(2, evs.Safe, []byte("from x"), "chat"))
	c.pass(50 * time.Millisecond)
	c.send(y, frame.AppendMulticast(nil, "#y#b", frame.TypeAgreed, 9, []string{"chat", "none"}, []byte("from y")))
	c.pass(50 * time.Millisecond)
	c.want(x, ids, `message "#x#a" SAFE 7 ["chat"] "from x"`, "receipt 2", `message "#y#b" AGREED 9 ["chat" "none"] "from y"`)
	var got []string
	for _, m := range c.messages(y) {
		got = append(got, fmt.Sprintf("%s %v %d %s", m.Name, m.Type.Kind(), m.Hint.MessType(), m.Groups.Strings()))
	}
	if fmt.Sprint(got) != "[chat view 0 [#x#a #y#b] #x#a regular 7 [chat] #y#b regular 9 [chat none]]" {
		t.Errorf("the original got %q", got)
	}
	c.send(x.testConn, frame.AppendOwnLeave(nil, 3, "chat"))
	c.pass(50 * time.Millisecond)
	c.want(x, ids, "self-leave chat v3 asked", "ack 3 done v3")
	c.send(x.testConn, frame.AppendOwnJoin(nil, 4, "no#no"))
	c.want(x, ids, `reject 4 -14 JOIN "no#no": illegal group name: 1 to 255 bytes of UTF-8, no control characters, no '#'`)
}

// Whoever speaks the original sees short names in place of long ones, and can send to them.
func TestLongNamesInBothDialects(t *testing.T) {
	c := newCluster(t, "a", "b")
	user := strings.Repeat("ü", 100)
	x, y := c.dialOwn(0, user), c.connect(1, "y", true)
	private, long := "#"+user+"#a", strings.Repeat("long ", 51)
	if w := x.welcome; w.Private != private || w.Short != fmt.Sprintf("#!%d#a", x.id) {
		t.Fatalf("welcome %+v", w)
	}
	for _, k := range []*ownConn{x} {
		c.send(k.testConn, frame.AppendOwnJoin(nil, 1, "g"))
		c.send(k.testConn, frame.AppendOwnJoin(nil, 2, long))
	}
	c.send(y, frame.AppendJoin(nil, "#y#b", "g"))
	c.pass(50 * time.Millisecond)
	c.events(x, map[evs.ViewID]string{})
	ms := c.messages(y)
	v, own, err := frame.ParseView(&ms[len(ms)-1])
	if err != nil || fmt.Sprint(v.Members, own) != fmt.Sprintf("[%s #y#b] 0", x.welcome.Short) {
		t.Fatalf("view %+v %d %v", v, own, err)
	}
	c.send(x.testConn, castOwn(0, evs.Agreed, []byte("m"), long, "g", "exactly-31-bytes-is-what-fits--", private))
	c.pass(50 * time.Millisecond)
	m := c.messages(y)[0]
	groups := m.Groups.Strings()
	if string(m.Name) != x.welcome.Short || len(groups) != 4 || groups[1] != "g" || groups[2] != "exactly-31-bytes-is-what-fits--" {
		t.Errorf("the original got sender %q, groups %q", m.Name, groups)
	}
	for _, i := range []int{0, 3} {
		if !strings.HasPrefix(groups[i], "#long-") || len(groups[i]) != 23 || frame.LegalGroup(groups[i]) {
			t.Errorf("a long name is shown as %q", groups[i])
		}
		if _, _, ok := frame.SplitPrivate(groups[i]); ok {
			t.Errorf("%q could be a private name", groups[i])
		}
	}
	if groups[0] == groups[3] {
		t.Errorf("two names are shown as %q", groups[0])
	}
	c.want(x, nil, fmt.Sprintf(`message %q AGREED 7 [%q "g" "exactly-31-bytes-is-what-fits--" %q] "m"`, private, long, private))
	c.send(y, frame.AppendMulticast(nil, "#y#b", frame.TypeAgreed, 1, []string{x.welcome.Short}, []byte("to you")))
	c.pass(50 * time.Millisecond)
	c.want(x, nil, fmt.Sprintf(`message "#y#b" AGREED 1 [%q] "to you"`, x.welcome.Short))

	// Nobody can take the name that stands for another.
	n := c.nodes[0]
	k := &testConn{node: 0, id: n.m.HandleAccept(c.now, true, testAddr(0), &n.fx)}
	n.conns[k.id] = k
	c.send(k, append([]byte{4, 4, 0, 1, 2}, fmt.Sprintf("!%d", x.id)...))
	if !k.closed || k.reason != session.ReasonIllegalName.String() {
		t.Errorf("a client of the original got a short name: %v %q", k.closed, k.reason)
	}
}

// A message of any size up to the limit arrives whole in both dialects, at all daemons.
func TestLargeMessages(t *testing.T) {
	c := newCluster(t, "a", "b")
	x, z, y := c.dialOwn(0, "x"), c.dialOwn(1, "z"), c.connect(1, "y", false)
	c.send(z.testConn, frame.AppendOwnJoin(nil, 0, "g"))
	c.send(y, frame.AppendJoin(nil, "#y#b", "g"))
	c.pass(50 * time.Millisecond)
	c.events(z, map[evs.ViewID]string{})
	for _, n := range []int{frame.OwnFragment, 300_000, 2 << 20} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		// Other requests may stand between the pieces.
		b := castOwn(uint32(n), evs.Safe, data, "g")
		cut := frame.OwnHeaderSize + frame.OwnFragment
		c.send(x.testConn, b[:cut])
		c.send(x.testConn, castOwn(1, evs.Agreed, []byte("small"), "g"))
		c.pass(20 * time.Millisecond)
		c.want(x, nil, "receipt 1")
		c.want(z, nil, `message "#x#a" AGREED 7 ["g"] "small"`)
		for rest := b[cut:]; len(rest) > 0; {
			k := min(len(rest), 200_000)
			c.send(x.testConn, rest[:k])
			rest = rest[k:]
			c.pass(time.Millisecond)
		}
		c.pass(2 * time.Second)
		c.want(x, nil, fmt.Sprintf("receipt %d", n))
		c.want(z, nil, fmt.Sprintf(`message "#x#a" SAFE 7 ["g"] %s`, short(data)))
		ms := c.messages(y)
		if len(ms) != 2 || !bytes.Equal(ms[1].Data, data) {
			t.Fatalf("%d bytes: the original got %d messages", n, len(ms))
		}
	}
	if n := c.nodes[0].m.unfinished; n != 0 {
		t.Errorf("%d bytes are unfinished", n)
	}
}

// The largest message that can be sent goes through a daemon, and one byte more ends the session with a reason.
func TestLargestOwnMessage(t *testing.T) {
	c := newCluster(t, "a")
	x := c.dialOwn(0, "x")
	c.send(x.testConn, castOwn(1, evs.Agreed, make([]byte, frame.DefaultOwnMessage), x.welcome.Private))
	c.pass(5 * time.Second)
	if got := c.bodies(x); len(got) != 2 || got[0].t != frame.OwnMessage || len(got[0].b) < frame.DefaultOwnMessage || got[1].t != frame.OwnReceipt {
		t.Errorf("%d bodies came", len(got))
	}
	c.send(x.testConn, castOwn(1, evs.Agreed, make([]byte, frame.DefaultOwnMessage+1), x.welcome.Private))
	c.want(x, nil, "close -13 malformed: MULTICAST: the body is longer than the welcome allows")
}

// Evict, VS-8: across daemons, with clients of both dialects.
func TestEvictThroughDaemons(t *testing.T) {
	c := newCluster(t, "a", "b")
	x, z, y := c.dialOwn(0, "x"), c.dialOwn(1, "z"), c.connect(1, "y", true)
	quiet := c.dialHello(1, &frame.OwnHello{User: "quiet"})
	mute := c.connect(1, "mute", false)
	for _, k := range []*testConn{x.testConn, z.testConn, quiet.testConn} {
		c.send(k, frame.AppendOwnJoin(nil, 1, "g"))
	}
	c.send(y, frame.AppendJoin(nil, "#y#b", "g"))
	c.send(mute, frame.AppendJoin(nil, "#mute#b", "g"))
	c.pass(100 * time.Millisecond)
	for _, k := range []*ownConn{x, z, quiet} {
		c.events(k, map[evs.ViewID]string{})
	}
	c.messages(y)
	id, _ := c.nodes[0].m.Groups().ViewID("g")
	ids := map[evs.ViewID]string{id: "now"}
	c.send(x.testConn, frame.AppendOwnEvict(nil, 5, evs.ViewID{1, 2, 3}, "g", "#z#b"))
	c.send(x.testConn, frame.AppendOwnEvict(nil, 6, id, "g", "#z#b"))
	c.pass(50 * time.Millisecond)
	c.want(x, ids, "ack 5 void now", `view g v2 leave/evicted "#z#b" ["#x#a" "#mute#b" "#quiet#b" "#y#b"] [] own 0`, "ack 6 done v2")
	c.want(z, ids, "self-leave g v2 evicted")
	if ms := c.messages(y); len(ms) != 1 || ms[0].Type.Kind() != frame.KindView {
		t.Errorf("a member that speaks the original got %d messages", len(ms))
	}
	for i, who := range []string{"#y#b", "#quiet#b", "#mute#b"} {
		id, _ = c.nodes[0].m.Groups().ViewID("g")
		c.send(x.testConn, frame.AppendOwnEvict(nil, uint32(10+i), id, "g", who))
		c.pass(50 * time.Millisecond)
	}
	if ms := c.messages(y); len(ms) != 1 || ms[0].Type.Kind() != frame.KindSelfLeave {
		t.Errorf("an evicted client of the original got %d messages", len(ms))
	}
	c.want(quiet, map[evs.ViewID]string{}, "self-leave g v1 evicted")
	if len(mute.got) > 0 {
		t.Errorf("a client of the original without membership messages got %d bytes", len(mute.got))
	}
	if got, _ := c.nodes[1].m.Groups().Size("g"); got != 1 {
		t.Errorf("%d members are left", got)
	}
}

func TestQueries(t *testing.T) {
	c := newCluster(t, "a", "b")
	x, z := c.dialOwn(0, "x"), c.dialOwn(1, "z")
	for _, g := range []string{"g1", "g2", "g3"} {
		c.send(x.testConn, frame.AppendOwnJoin(nil, 0, g))
	}
	c.send(z.testConn, frame.AppendOwnJoin(nil, 0, "g2"))
	c.pass(50 * time.Millisecond)
	c.events(z, map[evs.ViewID]string{})
	ids := map[evs.ViewID]string{}
	for _, q := range []struct {
		b    []byte
		want string
	}{
		{frame.AppendOwnListGroups(nil, 1, 0, ""), "groups 1 0 g1:1 g2:2 g3:1"},
		{frame.AppendOwnListGroups(nil, 2, 2, ""), "groups 2 1 g1:1 g2:2"},
		{frame.AppendOwnListGroups(nil, 3, 2, "g2"), "groups 3 0 g3:1"},
		{frame.AppendOwnListMembers(nil, 4, 0, 0, "g2"), `members 4 0 0/2 v1 ["#x#a" "#z#b"]`},
		{frame.AppendOwnListMembers(nil, 5, 0, 1, "g2"), `members 5 1 0/2 v1 ["#x#a"]`},
		{frame.AppendOwnListMembers(nil, 6, 1, 9, "g2"), `members 6 0 1/2 v1 ["#z#b"]`},
		{frame.AppendOwnListMembers(nil, 7, 4_000_000_000, 9, "g2"), `members 7 0 4000000000/2 v1 []`},
		{frame.AppendOwnListMembers(nil, 8, 0, 0, "none"), `members 8 4 0/0 - []`},
	} {
		c.send(z.testConn, q.b)
		c.want(z, ids, q.want)
	}
}

// Who may not see a group is not told that it exists, unless it is a member.
func TestQueriesUnderRules(t *testing.T) {
	c := newCluster(t, "a")
	x, z := c.dialOwn(0, "x"), c.dialOwn(0, "z")
	c.send(x.testConn, append(frame.AppendOwnJoin(nil, 0, "open"), frame.AppendOwnJoin(nil, 0, "secret")...))
	c.pass(50 * time.Millisecond)
	c.events(x, map[evs.ViewID]string{})
	rules := rulesOf("secret", access.See)
	c.setAccess(0, rules, session.Null())
	ask := append(frame.AppendOwnListGroups(nil, 1, 0, ""), frame.AppendOwnListMembers(nil, 2, 0, 0, "secret")...)
	c.send(x.testConn, ask)
	c.want(x, map[evs.ViewID]string{}, "groups 1 0 open:1 secret:1", `members 2 0 0/1 v1 ["#x#a"]`)
	c.send(z.testConn, ask)
	c.want(z, nil, "groups 1 0 open:1", `reject 2 -9 LIST_MEMBERS "secret": the access rules do not permit this: `+rules.List[0].String())
}

// Long answers are cut into pages.
func TestQueryPages(t *testing.T) {
	c := newCluster(t, "a")
	x := c.dialOwn(0, "x")
	const groups = 400
	for i := range groups {
		c.send(x.testConn, frame.AppendOwnJoin(nil, 0, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 250))))
	}
	c.pass(time.Second)
	c.events(x, map[evs.ViewID]string{})
	after, total, pages := "", 0, 0
	for more := true; more; pages++ {
		c.send(x.testConn, frame.AppendOwnListGroups(nil, 1, 0, after))
		l, fault := frame.ParseOwnGroups(c.bodies(x)[0].b)
		if fault != frame.OwnFine || len(l.Groups) == 0 {
			t.Fatal(fault, len(l.Groups))
		}
		total += len(l.Groups)
		after, more = l.Groups[len(l.Groups)-1].Name, l.Flags&frame.OwnQueryMore != 0
	}
	if total != groups || pages != 2 {
		t.Errorf("%d groups in %d pages", total, pages)
	}
}

// The others learn how a member went, and who is closed learns why.
func TestWhySessionsEnd(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) {
		cfg.SessionBytes, cfg.SessionHardBytes = 64<<10, 128<<10
		cfg.SessionStall = time.Second
	}, "a", "b")
	x := c.dialOwn(0, "x")
	c.send(x.testConn, frame.AppendOwnJoin(nil, 0, "g"))
	c.pass(50 * time.Millisecond)
	c.events(x, map[evs.ViewID]string{})
	n := c.nodes[1]
	for _, e := range []struct {
		user   string
		end    func(k *ownConn)
		detail evs.Detail
		told   string
	}{
		{"bye", func(k *ownConn) { c.send(k.testConn, frame.AppendOwnBye(nil)) }, evs.DetailAsked, "close -8 kill: the client asked to be disconnected"},
		{"crash", func(k *ownConn) { n.m.HandleClosed(c.now, k.id, &n.fx); c.after(1) }, evs.DetailLost, ""},
		{"bad", func(k *ownConn) { c.send(k.testConn, []byte{0, 0, 0, 0, 99, 0, 0, 0}) }, evs.DetailProtocol, "close -13 malformed: type 99: the frame type is unknown, or belongs to the other side or to another phase"},
		{"silent", func(k *ownConn) { c.pass(4 * time.Second) }, evs.DetailSilent, "close -8 unresponsive: the client gave no sign of life for 3 intervals of 1s"},
	} {
		k := c.dialHello(1, &frame.OwnHello{Membership: true, User: e.user, PingMillis: 1000})
		c.send(k.testConn, frame.AppendOwnJoin(nil, 0, "g"))
		c.pass(50 * time.Millisecond)
		c.events(k, map[evs.ViewID]string{})
		c.events(x, map[evs.ViewID]string{})
		e.end(k)
		c.pass(50 * time.Millisecond)
		c.want(x, map[evs.ViewID]string{}, fmt.Sprintf(`view g v1 disconnect/%v "#%s#b" ["#x#a"] [] own 0`, e.detail, e.user))
		told := ""
		for _, s := range c.events(k, map[evs.ViewID]string{}) {
			if s != "ping" {
				told += s
			}
		}
		if told != e.told {
			t.Errorf("%s was told %q, want %q", e.user, told, e.told)
		}
	}
}

// A client learns whether other daemons said good-bye, vanished, or came.
func TestWhyDaemonsGo(t *testing.T) {
	c := newCluster(t, "a", "b", "c", "d")
	x, y := c.dialOwn(0, "x"), c.dialOwn(1, "y")
	for i, k := range []*ownConn{x, y, c.dialOwn(2, "z"), c.dialOwn(3, "w")} {
		c.send(k.testConn, frame.AppendOwnJoin(nil, 0, "g"))
		c.pass(50 * time.Millisecond)
		if i > 1 {
			c.events(k, map[evs.ViewID]string{})
		}
	}
	details := func(k *ownConn) (out []string) {
		for _, e := range c.events(k, map[evs.ViewID]string{}) {
			if f := strings.Fields(e); f[0] == "view" {
				_, what, _ := strings.Cut(e, f[2]+" ")
				what, _, _ = strings.Cut(what, " \"")
				out = append(out, what)
			}
		}
		return out
	}
	both := func(step string, want ...string) {
		t.Helper()
		for _, k := range []*ownConn{x, y} {
			if got := details(k); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", step, got, want)
			}
		}
	}
	details(x)
	details(y)
	c.nodes[3].dead = true
	c.pass(time.Second)
	both("crash", "network/daemons vanished")
	c.nodes[2].m.Leave(c.now, &c.nodes[2].fx)
	c.after(2)
	c.pass(100 * time.Millisecond)
	c.nodes[2].dead = true
	c.pass(time.Second)
	both("good-bye", "network/daemons said good-bye")
	c.side[1] = 1
	c.pass(time.Second)
	both("cut", "network/daemons vanished")
	c.side[1] = 0
	c.pass(3 * time.Second)
	both("merge", "network/daemons met")
}

// A slow reader hears why it was closed, behind the frame that it was reading.
func TestSlowReaderHearsWhy(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) { cfg.SessionBytes, cfg.SessionHardBytes = 64<<10, 300<<10 }, "a")
	x, z := c.dialOwn(0, "x"), c.dialOwn(0, "z")
	c.send(z.testConn, frame.AppendOwnJoin(nil, 0, "g"))
	c.pass(50 * time.Millisecond)
	c.events(z, map[evs.ViewID]string{})
	z.deaf = true
	c.send(x.testConn, castOwn(0, evs.Agreed, make([]byte, 200_000), "g"))
	c.pass(50 * time.Millisecond)
	c.sip(z.testConn, 1000)
	for range 10 {
		c.send(x.testConn, castOwn(0, evs.Agreed, make([]byte, 50_000), "g"))
		c.pass(10 * time.Millisecond)
	}
	if z.reason != session.ReasonSlowBytes.String() {
		t.Fatalf("not closed: %q", z.reason)
	}
	for range 20 {
		c.sip(z.testConn, 100_000)
	}
	// The first frame of the long message came whole; its other pieces are dropped.
	if len(z.got) < frame.OwnHeaderSize+frame.OwnFragment {
		t.Fatalf("%d bytes came", len(z.got))
	}
	z.got = z.got[frame.OwnHeaderSize+frame.OwnFragment:]
	c.want(z, nil, "close -8 slow-bytes: "+session.ReasonSlowBytes.Sentence())
}

// Daemons tell where they listen; one that drains, or has gone, is not in the list.
func TestDaemonsAnnounced(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) {
		if cfg.Me.Name != "c" {
			cfg.Listeners = []string{"10.0.0.1:4803", cfg.Me.Name + ":4803"}
		}
	}, "a", "b", "c")
	x := c.dialOwn(0, "x")
	if got := fmt.Sprint(x.welcome.Daemons); got != "[{b [10.0.0.1:4803 b:4803]}]" {
		t.Errorf("welcome: %s", got)
	}
	n := c.nodes[2]
	n.m.SetListeners(c.now, []string{"c:1", "", strings.Repeat("x", 256)}, &n.fx)
	c.after(2)
	c.pass(50 * time.Millisecond)
	c.want(x, nil, "daemons [{b [10.0.0.1:4803 b:4803]} {c [c:1]}]")
	c.nodes[1].m.SetListeners(c.now, nil, &c.nodes[1].fx)
	c.after(1)
	c.pass(50 * time.Millisecond)
	c.want(x, nil, "daemons [{c [c:1]}]")
	c.side = []int{0, 0, 1}
	c.pass(3 * time.Second)
	c.want(x, nil, "daemons []")
	c.side = []int{0, 0, 0}
	c.pass(3 * time.Second)
	c.want(x, nil, "daemons [{c [c:1]}]")
}

func TestAnnounceOdd(t *testing.T) {
	for _, p := range [][]byte{{announceOp}, {announceOp, 1}, {announceOp, 1, 0}, {announceOp, 1, 2, 'a'}, {announceOp, 0, 1}, {announceOp, MaxListeners + 1}} {
		if a, ok := parseAnnounce(p); ok {
			t.Errorf("%x is read as %q", p, a)
		}
	}
	if a, ok := parseAnnounce([]byte{announceOp, 2, 1, 'a', 2, 'b', 'c'}); !ok || fmt.Sprint(a) != "[a bc]" {
		t.Errorf("%q %v", a, ok)
	}
}

// Pings go out while nothing else does, and a client that answers stays.
func TestPings(t *testing.T) {
	c := newCluster(t, "a")
	k := c.dialHello(0, &frame.OwnHello{User: "x", PingMillis: 1000})
	if k.welcome.PingMillis != 1000 {
		t.Fatalf("welcome %+v", k.welcome)
	}
	pings := 0
	for range 20 {
		c.pass(500 * time.Millisecond)
		for _, b := range c.bodies(k) {
			if b.t == frame.OwnPing {
				pings++
				token, _ := frame.ParseOwnToken(b.b)
				c.send(k.testConn, frame.AppendOwnPong(nil, token))
			}
		}
	}
	if pings != 9 || k.closed {
		t.Errorf("%d pings in less than ten seconds, closed: %v %s", pings, k.closed, k.reason)
	}
}

// What many sessions get is encoded once in each dialect.
func TestEncodedOncePerDialect(t *testing.T) {
	c := newCluster(t, "a")
	x := c.dialOwn(0, "x")
	for i := range 5 {
		k := c.dialHello(0, &frame.OwnHello{User: fmt.Sprint("own", i)})
		c.send(k.testConn, frame.AppendOwnJoin(nil, 0, "g"))
		o := c.connect(0, fmt.Sprint("org", i), false)
		c.send(o, frame.AppendJoin(nil, fmt.Sprintf("#org%d#a", i), "g"))
	}
	c.pass(50 * time.Millisecond)
	before := c.nodes[0].m.Stats()
	c.send(x.testConn, castOwn(0, evs.Agreed, []byte("hi"), "g"))
	c.pass(50 * time.Millisecond)
	after := c.nodes[0].m.Stats()
	if after.Encoded-before.Encoded != 2 || after.Deliveries-before.Deliveries != 10 {
		t.Errorf("%d encoded for %d deliveries", after.Encoded-before.Encoded, after.Deliveries-before.Deliveries)
	}
}

// A daemon that stops says so to those who understand it.
func TestFarewell(t *testing.T) {
	c := newCluster(t, "a", "b")
	x := c.dialOwn(0, "x")
	n := c.nodes[0]
	n.m.Leave(c.now, &n.fx)
	c.after(0)
	c.pass(2 * time.Second)
	c.want(x, nil, "close -8 shutdown: the daemon stops")
}

// The access rules refuse a request of the own dialect with a sentence, and the session goes on.
func TestOwnRequestsRefusedByRules(t *testing.T) {
	c := newCluster(t, "a")
	x := c.dialOwn(0, "x")
	c.setAccess(0, rulesOf("secret", access.Join, access.Multicast), session.Null())
	c.send(x.testConn, append(frame.AppendOwnJoin(nil, 3, "secret"), castOwn(0, evs.Agreed, nil, "other", "secret")...))
	by := rulesOf("secret", access.Join, access.Multicast).List[0].String()
	c.want(x, nil, `reject 3 -9 JOIN "secret": the access rules do not permit this: `+by, `reject 0 -9 MULTICAST "secret": the access rules do not permit this: `+by)
	c.send(x.testConn, frame.AppendOwnJoin(nil, 4, "open"))
	c.pass(50 * time.Millisecond)
	c.want(x, map[evs.ViewID]string{}, `view open v1 join/asked "#x#a" ["#x#a"] [] own 0`, "ack 4 done v1")
}

// Unfinished messages of all sessions together are bounded; who goes beyond is told.
func TestUnfinishedBound(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes[0]
	n.m.mostUnfinished = 1 << 20
	part := castOwn(0, evs.Agreed, make([]byte, 500_000), "g")[:2*(frame.OwnHeaderSize+frame.OwnFragment)]
	var last *ownConn
	for i := 0; last == nil || !last.closed; i++ {
		if i > 4 {
			t.Fatalf("%d bytes are unfinished", n.m.unfinished)
		}
		last = c.dialOwn(0, fmt.Sprint("x", i))
		c.send(last.testConn, part)
	}
	if n.m.unfinished > 1<<20 {
		t.Errorf("%d bytes are unfinished", n.m.unfinished)
	}
	c.want(last, nil, "close -8 unfinished: "+session.ReasonUnfinished.Sentence())
}
