// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// rulesOf are rules that refuse the points for the groups, and permit everything else.
func rulesOf(group string, points ...access.Point) *access.Rules {
	r := access.Rule{Points: access.PointsOf(points...), Text: "deny " + access.PointsOf(points...).String(), Where: "rules:1"}
	if group != "" {
		r.Group = []access.Pattern{access.Pattern(group)}
	}
	return &access.Rules{List: []access.Rule{r}}
}

// guarded is two daemons, of which a follows rules, with a user at each; both are in the groups chat and secret.
func guarded(t *testing.T, rules *access.Rules) (c *cluster, x, y *testConn) {
	c = newCluster(t, "a", "b")
	x, y = c.connect(0, "x", true), c.connect(1, "y", true)
	for _, g := range []string{"chat", "secret"} {
		c.send(x, frame.AppendJoin(nil, "#x#a", g))
		c.send(y, frame.AppendJoin(nil, "#y#b", g))
	}
	c.pass(100 * time.Millisecond)
	c.messages(x)
	c.messages(y)
	c.setAccess(0, rules, session.Null())
	return c, x, y
}

// TestRefusedMessageReachesNobody: not at another daemon, and not at the sender's own (H17). The sender gets it back as it
// was, with its old type and its own name behind the groups, and the daemon says which rule it was.
func TestRefusedMessageReachesNobody(t *testing.T) {
	c, x, y := guarded(t, rulesOf("secret", access.Multicast))
	z := c.connect(0, "z", false)
	c.send(z, frame.AppendJoin(nil, "#z#a", "secret"))
	c.pass(100 * time.Millisecond)
	c.messages(x)
	c.messages(y)
	sent := frame.MulticastType(evs.Agreed, true)
	c.send(x, frame.AppendMulticast(nil, "#x#a", sent, 7, []string{"chat", "secret"}, []byte("hi")))
	c.pass(100 * time.Millisecond)
	if len(y.got)+len(z.got) > 0 {
		t.Errorf("members got %d and %d bytes", len(y.got), len(z.got))
	}
	raw := append([]byte(nil), x.got...)
	got := c.messages(x)
	if len(got) != 1 {
		t.Fatalf("the sender got %v", got)
	}
	m := got[0]
	if m.Type != frame.TypeReject|frame.TypeSelfDiscard || m.OldType != sent || string(m.Name) != "#x#a" || m.Hint.MessType() != 7 ||
		string(m.Data) != "hi" || !reflect.DeepEqual(m.Groups.Strings(), []string{"chat", "secret", "#x#a"}) {
		t.Errorf("got %+v", m)
	}
	// client-protocol 4.6: data_len counts the data only, four bytes of the old type stand between header and groups.
	if want := frame.HeaderSize + 4 + 3*frame.NameSize + 2; len(raw) != want || raw[44] != 2 || raw[48] != 0x80|0x40|0x10 || raw[51] != 0x80 {
		t.Errorf("%d bytes, want %d: % x", len(raw), want, raw[:52])
	}
	if n := c.nodes[0].m.Stats().Refused; n != [access.NumPoints]uint64{access.Multicast: 1} {
		t.Errorf("counted %v", n)
	}
	// A list of a hundred comes back whole.
	var many []string
	for i := range frame.MaxGroups {
		many = append(many, fmt.Sprint("secret"[:6-i%2], i))
	}
	many[57] = "secret"
	c.send(x, frame.AppendMulticast(nil, "#x#a", sent, 7, many, nil))
	if got = c.messages(x); len(got) != 1 || !reflect.DeepEqual(got[0].Groups.Strings(), many) {
		t.Errorf("got %+v", got)
	}
	// Nothing else is in its way.
	c.send(x, frame.AppendMulticast(nil, "#x#a", sent, 7, []string{"chat"}, []byte("hi")))
	c.pass(100 * time.Millisecond)
	if got := c.messages(y); len(got) != 1 || got[0].Type.Kind() != frame.KindRegular {
		t.Errorf("got %v", got)
	}
}

// TestRefusedJoinAndLeave change nothing: no view anywhere, and a member that may not leave stays one until it disconnects,
// which cannot be refused.
func TestRefusedJoinAndLeave(t *testing.T) {
	c, x, y := guarded(t, rulesOf("*", access.Join, access.Leave))
	c.send(x, frame.AppendJoin(nil, "#x#a", "new"))
	c.send(x, frame.AppendLeave(nil, "#x#a", "chat"))
	c.pass(100 * time.Millisecond)
	if len(y.got) > 0 {
		t.Errorf("another member got %d bytes", len(y.got))
	}
	got := c.messages(x)
	if len(got) != 2 || got[0].OldType != frame.TypeCausedByJoin || got[1].OldType != frame.TypeCausedByLeave ||
		!reflect.DeepEqual(got[1].Groups.Strings(), []string{"chat", "#x#a"}) {
		t.Fatalf("got %+v", got)
	}
	if n := len(c.nodes[0].m.Groups().Members("chat")); n != 2 {
		t.Errorf("%d members", n)
	}
	c.hangUp(x)
	x.closed = true
	c.pass(100 * time.Millisecond)
	if n := len(c.nodes[0].m.Groups().Members("chat")); n != 1 {
		t.Errorf("%d members after the disconnect", n)
	}
}

// TestRefusedOpen: the client is told, the name is free again, and the log says who and by which rule.
func TestRefusedOpen(t *testing.T) {
	c, _, _ := guarded(t, rulesOf("", access.Open))
	n := c.nodes[0]
	for range 2 {
		id := n.m.HandleAccept(c.now, false, netip.MustParseAddrPort("192.0.2.9:5"), &n.fx)
		k := &testConn{id: id}
		n.conns[id] = k
		choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
		if err != nil {
			t.Fatal(err)
		}
		n.m.HandleInput(c.now, id, append([]byte("\x04\x04\x00\x01\x01w"), choice...), &n.fx)
		said := ""
		for _, note := range n.fx.Notes {
			said += fmt.Sprintln(note.Text, note.Attrs)
		}
		for _, want := range []string{"client refused by the access rules", "{session #w#a}", "{reason rules:1: deny open}", "{peer 192.0.2.9}"} {
			if !strings.Contains(said, want) {
				t.Errorf("no %q in %s", want, said)
			}
		}
		c.after(0)
		if string(k.got) != "\x05NULL \xf7" || k.reason != session.ReasonRules.String() {
			t.Errorf("answered %q, %s", k.got, k.reason)
		}
	}
}

// TestRefusedBehindHandshake: the answer to a message that came with the handshake stands behind the acceptance.
func TestRefusedBehindHandshake(t *testing.T) {
	c, _, _ := guarded(t, rulesOf("*", access.Join))
	k := c.dial(0)
	choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
	if err != nil {
		t.Fatal(err)
	}
	c.send(k, append(append([]byte("\x04\x04\x00\x01\x01w"), choice...), frame.AppendJoin(nil, "#w#a", "g")...))
	const handshake = "\x05NULL \x01\x04\x04\x00\x04#w#a"
	if !strings.HasPrefix(string(k.got), handshake) {
		t.Fatalf("got %q", k.got)
	}
	k.got = k.got[len(handshake):]
	if got := c.messages(k); len(got) != 1 || got[0].Type.Kind() != frame.KindReject {
		t.Errorf("got %v", got)
	}
}

// TestRefusalsAreBounded: what is given back to a client that does not read counts against its budget, and ends it.
func TestRefusalsAreBounded(t *testing.T) {
	c := newTunedCluster(t, func(cfg *Config) {
		cfg.SessionBytes, cfg.SessionHardBytes = 10_000, 20_000
		cfg.Session = session.Config{Methods: []session.AuthMethod{session.Null()}, Rules: rulesOf("*", access.Multicast)}
	}, "a")
	k := c.connect(0, "x", false)
	n := c.nodes[0]
	b := frame.AppendMulticast(nil, "#x#a", frame.MulticastType(evs.FIFO, false), 0, []string{"g"}, make([]byte, 3000))
	for range 10 {
		n.m.HandleInput(c.now, k.id, b, &n.fx)
		n.fx.Outputs = n.fx.Outputs[:0] // nobody writes
		if err := n.m.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.fx.Closes) != 1 || n.fx.Closes[0].Reason != session.ReasonSlowBytes {
		t.Errorf("closed %v", n.fx.Closes)
	}
	if got := n.m.Stats().Refused[access.Multicast]; got < 6 || got > 8 {
		t.Errorf("%d refused", got)
	}
}

// TestReconfigureRefusesMethods that cannot be, and keeps what was there.
func TestReconfigureRefusesMethods(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes[0]
	bad := session.Null()
	bad.Name = "two words"
	next := n.m.cfg
	next.Session.Methods = []session.AuthMethod{bad}
	if err := n.m.Reconfigure(c.now, next, &n.fx); err == nil {
		t.Error("no error")
	}
	c.connect(0, "x", false)
}

// TestHandleUser: rules know the user at the other end of a Unix socket.
func TestHandleUser(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes[0]
	rules := &access.Rules{Deny: true, List: []access.Rule{{Allow: true, Points: access.AllPoints, UID: []access.UIDs{{Low: 1000, High: 1000}}}}}
	c.setAccess(0, rules, session.Null())
	for uid, want := range map[uint32]string{1000: "", 1001: session.ReasonRules.String()} {
		id := n.m.HandleAccept(c.now, true, netip.AddrPort{}, &n.fx)
		k := &testConn{id: id}
		n.conns[id] = k
		n.m.HandleUser(id, uid)
		choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
		if err != nil {
			t.Fatal(err)
		}
		c.send(k, append([]byte("\x04\x04\x00\x00\x01w"), choice...))
		if k.reason != want {
			t.Errorf("user %d: %q", uid, k.reason)
		}
		c.hangUp(k)
	}
	n.m.HandleUser(999, 1) // a connection that is gone
}

// TestReconfigureRules: a reload puts new rules in force for clients that are here, and lets them stay.
func TestReconfigureRules(t *testing.T) {
	c, x, y := guarded(t, nil)
	n := c.nodes[0]
	next := n.m.cfg
	next.Session = session.Config{Methods: []session.AuthMethod{session.Null()}, Rules: rulesOf("", access.Open, access.Multicast)}
	if err := n.m.Reconfigure(c.now, next, &n.fx); err != nil {
		t.Fatal(err)
	}
	c.after(0)
	c.send(x, frame.AppendMulticast(nil, "#x#a", frame.MulticastType(evs.FIFO, false), 0, []string{"chat"}, nil))
	c.pass(100 * time.Millisecond)
	if got := c.messages(x); len(got) != 1 || got[0].Type.Kind() != frame.KindReject || x.closed {
		t.Errorf("got %v, closed %v", got, x.closed)
	}
	if len(y.got) > 0 {
		t.Errorf("a member got %d bytes", len(y.got))
	}
}
