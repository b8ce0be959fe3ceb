// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
)

// openWith is an open session of a daemon with rules.
func openWith(t *testing.T, cfg *Config) *driver {
	t.Helper()
	d := newDriver(t, cfg)
	d.feed([]byte(connect("u")+choice("NULL")), unlimited)
	d.out, d.ops = nil, nil
	return d
}

func multicast(t frame.Type, data string, groups ...string) string {
	var names frame.Groups
	for _, g := range groups {
		names = frame.AppendName(names, g)
	}
	return message(frame.LittleEndian, t, "#u#d", int32(len(groups)), int32(len(data)), frame.NewHint(7, frame.LittleEndian), string(names)+data)
}

func deny(group string, points ...access.Point) access.Rule {
	r := access.Rule{Points: access.PointsOf(points...)}
	if group != "" {
		r.Group = []access.Pattern{access.Pattern(group)}
	}
	return r
}

// TestRefusedRequests: what the rules refuse becomes no request; it comes back with everything that the client sent.
func TestRefusedRequests(t *testing.T) {
	cfg := config(Null())
	cfg.Rules = &access.Rules{List: []access.Rule{
		deny("secret*", access.Join, access.Multicast), deny("chat", access.Leave), deny("#boss#*", access.Send), deny("#*", access.Multicast),
	}}
	for _, row := range []struct {
		in   string
		want string // beginning of the only op
	}{
		{string(frame.AppendJoin(nil, "#u#d", "chat")), `join "chat"`},
		{string(frame.AppendJoin(nil, "#u#d", "secrets")), `refused join "secrets" JOIN hint=80000080 ["secrets"] ""`},
		{string(frame.AppendLeave(nil, "#u#d", "chat")), `refused leave "chat" LEAVE`},
		{string(frame.AppendLeave(nil, "#u#d", "secrets")), `leave "secrets"`},
		{multicast(frame.TypeAgreed, "hi", "chat", "other"), `multicast Agreed`},
		{multicast(frame.TypeAgreed, "hi", "chat", "secret"), `refused multicast "secret" AGREED hint=80070080 ["chat" "secret"] "hi"`},
		{multicast(frame.TypeSafe|frame.TypeSelfDiscard, "hi", "#boss#d"), `refused send "#boss#d" SAFE|SELF_DISCARD hint=80070080 ["#boss#d"] "hi"`},
		{multicast(frame.TypeSafe, "hi", "#boss#e", "chat"), `refused send "#boss#e"`},
		{multicast(frame.TypeSafe, "hi", "#bob#d"), `multicast Safe`},
		{multicast(frame.TypeSafe, "hi"), `multicast Safe`}, // to nobody
	} {
		for _, piece := range []int{1 << 20, 11} {
			d := openWith(t, cfg)
			for in := []byte(row.in); len(in) > 0; {
				n := min(piece, len(in))
				d.feed(in[:n], unlimited)
				in = in[n:]
			}
			if len(d.ops) != 1 || !strings.HasPrefix(strings.ToLower(d.ops[0]), strings.ToLower(row.want)) || len(d.out) > 0 || d.close != Running {
				t.Errorf("got %q %q %v, want %q", d.ops, d.out, d.close, row.want)
			}
		}
	}
}

// TestRefusalSaysWhat: for the log, which method refused whom, or what the choice lacked.
func TestRefusalSaysWhat(t *testing.T) {
	proves := pword
	proves.Proves = func(c []byte) string { return string(frame.Name(c[:32])) }
	proves.Check = func(peer netip.Addr, c []byte) bool { return len(c) == 40 && pword.Check(peer, c) }
	guess := "m\ne" + strings.Repeat("\x00", 29) + "guess\x00\x00\x00"
	for _, row := range []struct {
		what string
		cfg  *Config
		in   string
		want string
	}{
		{"wrong password", config(proves), connect("u") + choice("PWORD") + guess, `method PWORD refused the user "m\ne"`},
		{"wrong password and network", config(ipNo, proves), connect("u") + choice("IP", "PWORD") + guess, `method IP refused it, method PWORD refused the user "m\ne"`},
		{"own dialect", config(proves), hello("u") + ownChoice("PWORD") + string(frame.AppendOwnCredentials(nil, "PWORD", []byte(guess))), `method PWORD refused the user "m\ne"`},
		{"own dialect, odd credentials", config(proves), hello("u") + ownChoice("PWORD") + string(frame.AppendOwnCredentials(nil, "PWORD", []byte("x"))), "method PWORD refused it"},
		{"not offered", config(Null()), connect("u") + choice("KERB"), `method "KERB" is not offered here`},
		{"nothing", config(Null()), connect("u") + strings.Repeat("\x00", 90), "it chose no method"},
		{"not chosen", config(Null(), required(proves)), connect("u") + choice("NULL"), "method PWORD is required and was not chosen"},
		{"old client", config(Null(), required(proves)), "\x03\x0f\x02\x01\x01u", "method PWORD is required, and a client of this version knows no methods"},
	} {
		d := newDriver(t, row.cfg)
		d.feed([]byte(row.in), unlimited)
		if d.close != ReasonAuth || d.m.Detail() != row.want {
			t.Errorf("%s: %v, %q; want %q", row.what, d.close, d.m.Detail(), row.want)
		}
	}
}

// TestRefusedOpen: the rules see the user, where it comes from, and what it has proved.
func TestRefusedOpen(t *testing.T) {
	proves := pword
	proves.Proves = func(c []byte) string { return string(frame.Name(c[:32])) }
	creds := "me" + strings.Repeat("\x00", 30) + "secret\x00\x00"
	for _, row := range []struct {
		what string
		rule access.Rule
		ok   bool
	}{
		{"another user", access.Rule{User: []access.Pattern{"x*"}}, true},
		{"this user", access.Rule{User: []access.Pattern{"u"}}, false},
		{"this network", access.Rule{From: []access.From{{Net: netip.MustParsePrefix("192.0.2.0/24")}}}, false},
		{"Unix sockets", access.Rule{From: []access.From{{Unix: true}}}, true},
		{"PWORD", access.Rule{Method: []string{"PWORD"}}, false},
		{"IP", access.Rule{Method: []string{"IP"}}, true},
		{"name", access.Rule{Name: []access.Pattern{"me"}}, false},
		{"another name", access.Rule{Name: []access.Pattern{"you"}}, true},
		{"users of the system", access.Rule{UID: []access.UIDs{{Low: 0, High: 1 << 31}}}, true},
	} {
		row.rule.Points = access.AllPoints
		cfg := config(Null(), ipYes, proves)
		cfg.Rules = &access.Rules{List: []access.Rule{row.rule}}
		d := newDriver(t, cfg)
		d.feed([]byte(connect("u")+choice("PWORD", "NULL")+creds), unlimited)
		want, answer := Reason(Running), "\x01"+accepted
		if !row.ok {
			want, answer = ReasonRules, "\x01\xf7"
		}
		if d.close != want || !strings.HasSuffix(string(d.out), answer) {
			t.Errorf("%s: %v %q", row.what, d.close, d.out)
		}
		if got := d.m.Proved(); got != "me" {
			t.Errorf("proved %q", got)
		}
	}
}

// TestUserOfSocket: a Unix socket is no address, and its user is known if the shell has said so.
func TestUserOfSocket(t *testing.T) {
	cfg := config(Null())
	cfg.Rules = &access.Rules{Deny: true, List: []access.Rule{
		{Points: access.AllPoints, From: []access.From{{Net: netip.MustParsePrefix("0.0.0.0/0")}}},
		{Allow: true, Points: access.AllPoints, UID: []access.UIDs{{Low: 7, High: 7}}},
	}}
	for uid, want := range map[int]Reason{-1: ReasonRules, 6: ReasonRules, 7: Running} {
		d := &driver{t: t, m: New(cfg, netip.Addr{}, 0)}
		if uid >= 0 {
			d.m.HandleUser(uint32(uid))
		}
		d.feed([]byte(connect("u")+choice("NULL")), unlimited)
		if d.close != want {
			t.Errorf("user %d: %v", uid, d.close)
		}
	}
}

// TestReconfigure: new rules hold at once for who is there; new methods for who was not asked yet.
func TestReconfigure(t *testing.T) {
	old, strict := config(Null()), config(Null(), required(ipNo))
	strict.Rules = &access.Rules{List: []access.Rule{deny("g", access.Join)}}
	join := []byte(frame.AppendJoin(nil, "#u#d", "g"))

	there := openWith(t, old)
	there.m.Reconfigure(strict)
	there.feed(join, unlimited)
	if there.close != Running || len(there.ops) != 1 || !strings.HasPrefix(there.ops[0], "refused join") {
		t.Errorf("open: %q %v", there.ops, there.close)
	}
	if ok, _ := there.m.May(access.See, []byte("g")); !ok {
		t.Error("a rule about joins decides about seeing")
	}
	there.m.Reconfigure(old)
	there.ops = nil
	there.feed(join, unlimited)
	if !reflect.DeepEqual(there.ops, []string{`join "g"`}) {
		t.Errorf("and back: %q", there.ops)
	}

	asked := newDriver(t, old)
	asked.feed([]byte(connect("u")), unlimited)
	asked.m.Reconfigure(strict)
	asked.feed([]byte(choice("NULL")+string(join)), unlimited)
	if asked.close != Running || !strings.HasPrefix(asked.ops[len(asked.ops)-1], "refused join") {
		t.Errorf("asked before: %q %v", asked.ops, asked.close)
	}

	early := newDriver(t, old)
	early.feed([]byte(connect("u")[:3]), unlimited)
	early.m.Reconfigure(strict)
	early.feed([]byte(connect("u")[3:]+choice("NULL")), unlimited)
	if early.close != ReasonAuth {
		t.Errorf("not asked before: %v", early.close)
	}
}

// TestRefusalAllocatesNothing, nor does permission: a client must not cost memory by trying.
func TestRefusalAllocatesNothing(t *testing.T) {
	cfg := config(Null())
	cfg.Rules = &access.Rules{List: []access.Rule{deny("no*", access.Multicast)}}
	d := openWith(t, cfg)
	for _, group := range []string{"nobody", "yes"} {
		in := []byte(multicast(frame.TypeAgreed, "data", group))
		var fx Effects
		d.m.HandleInput(0, in, unlimited, &fx)
		fx.Reset()
		if n := testing.AllocsPerRun(100, func() {
			d.m.HandleInput(0, in, unlimited, &fx)
			fx.Reset()
		}); n != 0 {
			t.Errorf("%s: %v allocations", group, n)
		}
	}
}

// BenchmarkRules is BenchmarkHandleInput with a small message under rules: without any, with one, and with as many as fit.
func BenchmarkRules(b *testing.B) {
	list := func(n int) *access.Rules {
		r := &access.Rules{}
		for range n {
			r.List = append(r.List, deny("secret*", access.Join, access.Multicast))
		}
		return r
	}
	for _, n := range []int{0, 1, 100, access.MaxRules} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := config(Null())
			cfg.Rules = list(n)
			m := New(cfg, netip.Addr{}, 0)
			var fx Effects
			m.HandleInput(0, []byte(connect("u")), unlimited, &fx)
			m.NameDecided(0, "u", 0, &fx)
			m.HandleInput(0, []byte(choice("NULL")), unlimited, &fx)
			msg := []byte(multicast(frame.TypeAgreed, "hello", "chat"))
			b.ReportAllocs()
			for b.Loop() {
				fx.Reset()
				m.HandleInput(0, msg, unlimited, &fx)
			}
		})
	}
}

// TestTLSOfClients: where TLS is required, who comes over a network without it is refused before anything is asked of it, in
// words of its dialect; what the rules know of a client with TLS is the name in its certificate.
func TestTLSOfClients(t *testing.T) {
	network := netip.MustParseAddr("192.0.2.1")
	hello := string((&frame.OwnHello{User: "u", Program: "test"}).Append(nil))
	for _, row := range []struct {
		what     string
		required bool
		peer     netip.Addr
		secure   bool
		cert, in string
		close    Reason
		out      string // its beginning
	}{
		{"plain", true, network, false, "", connect("u"), ReasonPlain, "\xf7"},
		{"plain, own dialect", true, network, false, "", hello, ReasonPlain, ""},
		{"plain, beginning only", true, network, false, "", connect("u")[:3], Running, ""},
		{"plain, illegal", true, network, false, "", "\x80\x00\x00\x01\x03old", ReasonVersion, "\xf9"},
		{"plain, not required", false, network, false, "", connect("u") + choice("NULL"), Running, "\x05NULL "},
		{"Unix socket", true, netip.Addr{}, false, "", connect("u") + choice("NULL"), Running, "\x05NULL "},
		{"TLS", true, network, true, "", connect("u") + choice("NULL"), Running, "\x05NULL "},
		{"TLS in TLS", true, network, true, "", "\x16\x03\x01", ReasonTLS, "\x15\x03\x03\x00\x02\x02\x28"},
		{"TLS, certificate", true, network, true, "mallory", connect("u") + choice("NULL"), ReasonRules, "\x05NULL \xf7"},
		{"TLS, another certificate", true, network, true, "alice", connect("u") + choice("NULL"), Running, "\x05NULL "},
	} {
		cfg := config(Null())
		cfg.TLSRequired = row.required
		cfg.Rules = &access.Rules{List: []access.Rule{{Points: access.AllPoints, Cert: []access.Pattern{"mal*"}}}}
		d := &driver{t: t, m: New(cfg, row.peer, 0)}
		if row.secure {
			d.m.HandleTLS(row.cert)
		}
		d.feed([]byte(row.in), unlimited)
		if d.close != row.close || !strings.HasPrefix(string(d.out), row.out) {
			t.Errorf("%s: %v, out %q; want %v, %q", row.what, d.close, d.out, row.close, row.out)
		}
		if row.what == "plain, own dialect" && !strings.Contains(string(d.out), "dial evensongs://") {
			t.Errorf("%s: told %q", row.what, d.out)
		}
		if cert, secure := d.m.TLS(); cert != row.cert || secure != row.secure {
			t.Errorf("%s: TLS() = %q, %v", row.what, cert, secure)
		}
	}

	d := newDriver(t, config(Null()))
	d.m.RefuseTLS(0, "because", &d.fx)
	if d.m.State() != StateClosed || d.fx.Close != ReasonTLSFailed || d.m.Detail() != "because" || len(d.fx.Out) > 0 {
		t.Errorf("refused: %v %v %q %q", d.m.State(), d.fx.Close, d.m.Detail(), d.fx.Out)
	}
	d.m.RefuseTLS(0, "again", &d.fx)
	if d.m.Detail() != "because" {
		t.Errorf("refused again: %q", d.m.Detail())
	}

	// A reload that asks for TLS concerns those who have not begun.
	required := config(Null())
	required.TLSRequired = true
	begun, fresh := openWith(t, config(Null())), New(config(Null()), network, 0)
	begun.m.Reconfigure(required)
	fresh.Reconfigure(required)
	var fx Effects
	fresh.HandleInput(0, []byte(connect("u")), unlimited, &fx)
	if begun.m.State() != StateOpen || fx.Close != ReasonPlain {
		t.Errorf("after a reload: %v, %v", begun.m.State(), fx.Close)
	}
}
