// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

func ownOpString(op *Op) string {
	switch op.Kind {
	case OpMulticast:
		data := fmt.Sprintf("%q", op.Data)
		if len(op.Data) > 40 {
			data = fmt.Sprintf("%d bytes, sum %d", len(op.Data), sum(op.Data))
		}
		return fmt.Sprintf("cast %d %v %v hint=%x %q %s", op.Request, op.Service, op.Type, op.Hint, op.Names.Strings(), data)
	case OpEvict:
		return fmt.Sprintf("evict %d %q %q %v", op.Request, op.Group, op.Member, op.View)
	case OpListGroups:
		return fmt.Sprintf("list groups %d after %q most %d", op.Request, op.Group, op.Most)
	case OpListMembers:
		return fmt.Sprintf("list members %d of %q from %d most %d", op.Request, op.Group, op.First, op.Most)
	case OpPing:
		return "ping"
	}
	return fmt.Sprintf("%v %d %q", op.Kind, op.Request, op.Group)
}

func hello(user string, caps ...string) string {
	h := frame.OwnHello{Membership: true, User: user, Program: "test", Capabilities: caps}
	return string(h.Append(nil))
}

func allCaps(user string) string {
	return hello(user, frame.OwnCapEvict, frame.OwnCapQuery, frame.OwnCapReceipt)
}

func ownChoice(methods ...string) string { return string(frame.AppendOwnChoice(nil, methods...)) }

// heard are the frames that the daemon wrote, in words.
func heard(t *testing.T, out []byte) (list []string) {
	t.Helper()
	for len(out) > 0 {
		h, fault := frame.ParseOwnHeader(out)
		if fault != frame.OwnFine || len(out) < frame.OwnHeaderSize+h.Length {
			t.Fatalf("%x is no frame: %v", out, fault)
		}
		body := out[frame.OwnHeaderSize : frame.OwnHeaderSize+h.Length]
		text := h.Type.String()
		switch h.Type {
		case frame.OwnMethods:
			m, _ := frame.ParseOwnMethods(body)
			text += fmt.Sprint(m)
		case frame.OwnClose:
			c, fault := frame.ParseOwnClose(body)
			if fault != frame.OwnFine {
				t.Fatal(fault)
			}
			text += fmt.Sprintf(" %d %s: %s", int(c.Code), c.Reason, c.Sentence)
		case frame.OwnReject:
			r, _ := frame.ParseOwnReject(body)
			text += fmt.Sprintf(" %d %d %v %q", r.Request, int(r.Code), r.Type, r.Group)
		case frame.OwnPong:
			text += fmt.Sprintf(" %x", body)
		default:
		}
		list = append(list, text)
		out = out[frame.OwnHeaderSize+h.Length:]
	}
	return list
}

// TestOwnHandshake: each row arrives in one write and byte by byte, with the name decided at once and later.
func TestOwnHandshake(t *testing.T) {
	null := config(Null())
	est := "established #u#d memb=true prio=0 v=0.0.0"
	longest := strings.Repeat("ü", 126) // 252 of 252 bytes
	creds := func(user, pw string) string {
		b := make([]byte, 40)
		copy(b, user)
		copy(b[32:], pw)
		return string(frame.AppendOwnCredentials(nil, "PWORD", b))
	}
	rows := []struct {
		what   string
		cfg    *Config
		in     string
		decide func(string) (string, frame.Code)
		out    []string // beginnings
		ops    []string
		close  Reason
	}{
		{what: "plain", in: hello("u") + ownChoice("NULL"), out: []string{"METHODS[{NULL false false}]"}, ops: []string{`name "u"`, est}},
		{what: "invented name", in: hello("") + ownChoice("NULL"), out: []string{"METHODS"}, ops: []string{`name ""`, "established #r1-1#d memb=true prio=0 v=0.0.0"}},
		{what: "longest name", in: hello(longest) + ownChoice("NULL"), out: []string{"METHODS"}, ops: []string{fmt.Sprintf("name %q", longest), "established #" + longest + "#d memb=true prio=0 v=0.0.0"}},
		{what: "too long a name", in: hello(longest + "x"), decide: methodNo, out: []string{"CLOSE -5 illegal-name: the user name"}, close: ReasonIllegalName},
		{what: "short mark", in: hello("!1"), decide: methodNo, out: []string{"CLOSE -5 illegal-name"}, close: ReasonIllegalName},
		{what: "number sign", in: hello("a#b"), decide: methodNo, out: []string{"CLOSE -5 illegal-name"}, close: ReasonIllegalName},
		{what: "not unique", in: hello("u") + ownChoice("NULL"), decide: func(string) (string, frame.Code) { return "", frame.ErrRejectNotUnique },
			out: []string{"CLOSE -6 not-unique"}, ops: []string{`name "u"`}, close: ReasonNotUnique},
		{what: "unknown capability", in: hello("u", "query", "time-travel"), decide: methodNo, out: []string{`CLOSE -7 capability: this daemon does not offer the capability "time-travel"; it offers ["evict" "query" "receipt" "primary"]`}, close: ReasonCapability},
		{what: "version", in: "EVS\x02", decide: methodNo, out: []string{"CLOSE -7 own-version: the hello is of version 2; this daemon speaks version 1"}, close: ReasonOwnVersion},
		{what: "huge hello", in: "EVS\x01\xff\xff\xff\xff", decide: methodNo, out: []string{"CLOSE -13 malformed: hello: the length"}, close: ReasonMalformed},
		{what: "hello with rubbish", in: "EVS\x01\x01\x00\x00\x00\x00", decide: methodNo, out: []string{"CLOSE -13 malformed: hello: the body ends"}, close: ReasonMalformed},
		{what: "no method", cfg: config(), in: hello("u"), out: []string{"CLOSE -9 no-auth-method"}, ops: []string{`name "u"`}, close: ReasonNoMethod},
		{what: "unknown method", in: hello("u") + ownChoice("KERB"), out: []string{"METHODS", `CLOSE -9 auth: authentication method "KERB" is not offered here`}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "nothing chosen", in: hello("u") + ownChoice(), out: []string{"METHODS", "CLOSE -9 auth: no authentication method was chosen"}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "unlisted method", cfg: config(Null(), unlisted(ipNo)), in: hello("u") + ownChoice("NULL"), out: []string{"METHODS[{NULL false false}]", "CLOSE -9 auth"}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "required runs", cfg: config(Null(), required(ipNo)), in: hello("u") + ownChoice("NULL"), out: []string{"METHODS[{NULL false false} {IP false true}]", "CLOSE -9 auth"}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "required with credentials", cfg: config(Null(), required(pword)), in: hello("u") + ownChoice("NULL"), out: []string{"METHODS", `CLOSE -9 auth: authentication method "PWORD" is required here and was not chosen`}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "password", cfg: config(Null(), pword), in: hello("u") + ownChoice("PWORD", "PWORD", "NULL") + creds("me", "secret"), out: []string{"METHODS[{NULL false false} {PWORD true false}]"}, ops: []string{`name "u"`, est}},
		{what: "wrong password", cfg: config(pword), in: hello("u") + ownChoice("PWORD") + creds("me", "x"), out: []string{"METHODS", "CLOSE -9 auth"}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "credentials of another", cfg: config(pword), in: hello("u") + ownChoice("PWORD") + string(frame.AppendOwnCredentials(nil, "X", nil)),
			out: []string{"METHODS", `CLOSE -9 auth: credentials for the authentication method "X", but it is the turn of "PWORD"`}, ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "join before the welcome", in: hello("u") + string(frame.AppendOwnJoin(nil, 1, "g")), out: []string{"METHODS", "CLOSE -13 malformed: JOIN: the frame type"}, ops: []string{`name "u"`}, close: ReasonMalformed},
		{what: "choice in pieces", in: hello("u") + "\x01\x00\x00\x00\x10\x01\x01\x00x", out: []string{"METHODS", "CLOSE -13 malformed: CHOICE: the stream"}, ops: []string{`name "u"`}, close: ReasonMalformed},
		{what: "rules", cfg: &Config{Daemon: "d", Methods: []AuthMethod{Null()}, Rules: &access.Rules{List: []access.Rule{{Points: access.PointsOf(access.Open)}}}, Buffers: &Pool{}},
			in: hello("u") + ownChoice("NULL"), out: []string{"METHODS", "CLOSE -9 rules"}, ops: []string{`name "u"`, `refused open "" 0x0 hint=00000000 [] ""`}, close: ReasonRules},
	}
	for _, r := range rows {
		for _, step := range []int{1, 3, 1 << 20} {
			for _, later := range []bool{false, true} {
				cfg := r.cfg
				if cfg == nil {
					cfg = null
				}
				d := newDriver(t, cfg)
				d.decide, d.later = r.decide, later
				for rest := r.in; rest != ""; {
					n := min(step, len(rest))
					d.feed([]byte(rest[:n]), unlimited)
					rest = rest[n:]
				}
				if d.pending != nil {
					d.answer()
					d.feed(nil, unlimited)
				}
				got := heard(t, d.out)
				ok := len(got) == len(r.out)
				for i := 0; ok && i < len(got); i++ {
					ok = strings.HasPrefix(got[i], r.out[i])
				}
				if !ok || !reflect.DeepEqual(d.ops, r.ops) || d.close != r.close {
					t.Errorf("%s (steps of %d, later %v): %q %q %v, want %q %q %v", r.what, step, later, got, d.ops, d.close, r.out, r.ops, r.close)
				}
			}
		}
	}
}

// ownOpen is an open session that has asked for all capabilities.
func ownOpen(t *testing.T, cfg *Config) *driver {
	t.Helper()
	d := newDriver(t, cfg)
	d.feed([]byte(allCaps("u")+ownChoice("NULL")), unlimited)
	if d.m.State() != StateOpen || !d.m.Own() {
		t.Fatalf("state %v", d.m.State())
	}
	d.out, d.ops = nil, nil
	return d
}

func TestOwnRequests(t *testing.T) {
	hint := frame.NewHint(7, frame.LittleEndian)
	id := evs.ViewID{1, 2, 3}
	big := bytes.Repeat([]byte("0123456789"), 40_000)
	cast := func(request uint32, typ frame.Type, data []byte, groups ...string) string {
		return string(frame.AppendOwnMulticast(nil, 5, request, typ, hint, groups, data))
	}
	for _, r := range []struct {
		what, in string
		out, ops []string
		close    Reason
	}{
		{what: "join", in: string(frame.AppendOwnJoin(nil, 1, "grün")), ops: []string{`join 1 "grün"`}},
		{what: "leave", in: string(frame.AppendOwnLeave(nil, 0, "g")), ops: []string{`leave "g"`}},
		{what: "illegal join", in: string(frame.AppendOwnJoin(nil, 9, "#x")), out: []string{`REJECT 9 -14 JOIN "#x"`}},
		{what: "illegal leave", in: string(frame.AppendOwnLeave(nil, 0, "")), out: []string{`REJECT 0 -14 LEAVE ""`}},
		{what: "illegal evict", in: string(frame.AppendOwnEvict(nil, 9, id, "\x01", "#x#d")), out: []string{`REJECT 9 -14 EVICT "\x01"`}},
		{what: "evict", in: string(frame.AppendOwnEvict(nil, 9, id, "g", "#x#d")), ops: []string{fmt.Sprintf(`evict 9 "g" "#x#d" %v`, id)}},
		{what: "queries", in: string(frame.AppendOwnListGroups(nil, 1, 2, "a")) + string(frame.AppendOwnListMembers(nil, 3, 4, 5, "g")),
			ops: []string{`list groups 1 after "a" most 2`, `list members 3 of "g" from 4 most 5`}},
		{what: "cast", in: cast(3, frame.TypeSafe|frame.TypeSelfDiscard, []byte("hi"), "g", "", "#x#d"), ops: []string{`cast 3 safe SAFE|SELF_DISCARD hint=80070080 ["g" "" "#x#d"] "hi"`}},
		{what: "big cast", in: cast(0, frame.TypeFIFO, big, "g"), ops: []string{fmt.Sprintf(`cast 0 fifo FIFO hint=80070080 ["g"] %d bytes, sum %d`, len(big), sum(big))}},
		{what: "ping", in: string(frame.AppendOwnPing(nil, [8]byte{1, 2})), out: []string{"PONG 0102000000000000"}},
		{what: "pong", in: string(frame.AppendOwnPong(nil, [8]byte{1, 2}))},
		{what: "bye", in: string(frame.AppendOwnBye(nil)), out: []string{"CLOSE -8 kill"}, ops: []string{"kill"}, close: ReasonKill},
		{what: "unknown type", in: "\x00\x00\x00\x00\x63\x00\x00\x00", out: []string{"CLOSE -13 malformed: type 99: the frame type is unknown"}, close: ReasonMalformed},
		{what: "a daemon's type", in: string(frame.AppendOwnReceipt(nil, 1)), out: []string{"CLOSE -13 malformed: RECEIPT: the frame type"}, close: ReasonMalformed},
		{what: "second choice", in: ownChoice("NULL"), out: []string{"CLOSE -13 malformed: CHOICE: the frame type"}, close: ReasonMalformed},
		{what: "oversized", in: "\x01\x00\x02\x00\x13\x00\x00\x00", out: []string{"CLOSE -13 malformed: JOIN: the length"}, close: ReasonMalformed},
		{what: "truncated", in: "\x02\x00\x00\x00\x13\x00\x00\x00xx", out: []string{"CLOSE -13 malformed: JOIN: the body ends"}, close: ReasonMalformed},
		{what: "trailing", in: "\x06\x00\x00\x00\x13\x00\x00\x00\x01\x00\x00\x00\x00x", out: []string{"CLOSE -13 malformed: JOIN: bytes follow"}, close: ReasonMalformed},
		{what: "two services", in: cast(0, frame.TypeFIFO|frame.TypeSafe, nil, "g"), out: []string{"CLOSE -13 malformed: MULTICAST: the type word"}, close: ReasonMalformed},
		{what: "a piece of nothing", in: "\x00\x00\x00\x00\x01\x00\x01\x00", out: []string{"CLOSE -13 malformed: PIECE: the stream"}, close: ReasonMalformed},
		{what: "too much data", in: cast(0, frame.TypeFIFO, make([]byte, 500_001), "g"), out: []string{"CLOSE -13 malformed: MULTICAST: the body is longer"}, close: ReasonMalformed},
		{what: "much too much data", in: cast(0, frame.TypeFIFO, make([]byte, 800_000), "g"), out: []string{"CLOSE -13 malformed: MULTICAST: the body is longer"}, close: ReasonMalformed},
	} {
		for _, step := range []int{1, 7, 100_003, 1 << 20} {
			if step < 100 && len(r.in) > 1000 {
				continue
			}
			cfg := config(Null())
			cfg.MessageLimit = 500_000
			d := ownOpen(t, cfg)
			for rest := r.in; rest != ""; {
				n := min(step, len(rest))
				d.feed([]byte(rest[:n]), 1<<20)
				rest = rest[n:]
			}
			got := heard(t, d.out)
			ok := len(got) == len(r.out)
			for i := 0; ok && i < len(got); i++ {
				ok = strings.HasPrefix(got[i], r.out[i])
			}
			if !ok || fmt.Sprint(d.ops) != fmt.Sprint(r.ops) || d.close != r.close || d.m.Unfinished() != 0 {
				t.Errorf("%s (steps of %d): %q %q %v, want %q %q %v", r.what, step, got, d.ops, d.close, r.out, r.ops, r.close)
			}
			if d.close == ReasonMalformed && d.m.Detail() == "" {
				t.Errorf("%s: nothing for the log", r.what)
			}
		}
	}
}

// What the hello did not ask for may not be used.
func TestOwnCapabilitiesAreAskedFor(t *testing.T) {
	hint := frame.NewHint(0, frame.LittleEndian)
	for _, in := range [][]byte{
		frame.AppendOwnEvict(nil, 1, evs.ViewID{}, "g", "#x#d"), frame.AppendOwnListGroups(nil, 1, 0, ""), frame.AppendOwnListMembers(nil, 1, 0, 0, "g"),
		frame.AppendOwnMulticast(nil, 1, 1, frame.TypeSafe, hint, []string{"g"}, nil),
	} {
		d := newDriver(t, config(Null()))
		d.feed([]byte(hello("u")+ownChoice("NULL")), unlimited)
		d.out, d.ops = nil, nil
		d.feed(in, unlimited)
		if got := heard(t, d.out); len(got) != 1 || !strings.Contains(got[0], "it needs a capability that the hello did not ask for") || len(d.ops) > 0 {
			t.Errorf("%x: %q %q", in, got, d.ops)
		}
	}
	d := newDriver(t, config(Null()))
	d.feed([]byte(hello("u")+ownChoice("NULL")), unlimited)
	d.feed(frame.AppendOwnMulticast(nil, 1, 0, frame.TypeSafe, hint, []string{"g"}, nil), unlimited)
	if d.close != Running {
		t.Error("a message without a receipt needs no capability")
	}
}

// The access rules judge requests of the own dialect, too.
func TestOwnAccess(t *testing.T) {
	rule := access.Rule{Points: access.PointsOf(access.Join, access.Leave, access.Multicast, access.Send), Group: []access.Pattern{"secret", "#x#d"}}
	cfg := &Config{Daemon: "d", Methods: []AuthMethod{Null()}, Rules: &access.Rules{List: []access.Rule{rule}}, Buffers: &Pool{}}
	d := ownOpen(t, cfg)
	hint := frame.NewHint(0, frame.LittleEndian)
	for _, in := range [][]byte{
		frame.AppendOwnJoin(nil, 1, "secret"), frame.AppendOwnLeave(nil, 2, "secret"),
		frame.AppendOwnMulticast(nil, 1, 3, frame.TypeSafe, hint, []string{"open", "secret"}, nil),
		frame.AppendOwnMulticast(nil, 1, 4, frame.TypeSafe, hint, []string{"#x#d"}, nil),
	} {
		d.feed(in, unlimited)
	}
	want := []string{`refused join "secret" 0x0 hint=00000000 [] ""`, `refused leave "secret" 0x0 hint=00000000 [] ""`, `refused multicast "secret" 0x0 hint=00000000 [] ""`, `refused send "#x#d" 0x0 hint=00000000 [] ""`}
	if !reflect.DeepEqual(d.ops, want) {
		t.Errorf("got %q", d.ops)
	}
	d.ops = nil
	d.feed(frame.AppendOwnJoin(nil, 1, "open"), unlimited)
	if len(d.ops) != 1 || d.ops[0] != `join 1 "open"` {
		t.Errorf("got %q", d.ops)
	}
}

// A silent client is asked for a sign of life, and closed after three intervals without one. Time in which its input is
// not taken does not count.
func TestOwnPings(t *testing.T) {
	d := newDriver(t, config(Null()))
	h := frame.OwnHello{User: "u", PingMillis: 10} // moved to a second
	d.feed(append(h.Append(nil), ownChoice("NULL")...), unlimited)
	if d.m.Info().Ping != MinPing {
		t.Fatalf("interval %v", d.m.Info().Ping)
	}
	tick := func() {
		t.Helper()
		if d.m.Deadline() != d.now+MinPing {
			t.Fatalf("deadline %v at %v", d.m.Deadline(), d.now)
		}
		d.ops = nil
		d.now = d.m.Deadline()
		d.m.Advance(d.now, &d.fx)
		d.take()
	}
	ping := frame.AppendOwnPing(nil, [8]byte{})
	for range 10 {
		tick()
		if len(d.ops) != 1 || d.ops[0] != "ping" {
			t.Fatalf("ops %q", d.ops)
		}
		d.feed(ping[:1], unlimited) // any byte is a sign of life
		d.feed(ping[1:], unlimited)
	}
	d.feed(ping, 0) // not taken
	for range 10 {
		tick()
	}
	d.feed(nil, unlimited)
	d.out = nil
	for range quietPings {
		tick()
	}
	d.now = d.m.Deadline()
	d.m.Advance(d.now, &d.fx)
	d.take()
	if got := heard(t, d.out); d.close != ReasonUnresponsive || len(got) != 1 || !strings.HasPrefix(got[0], "CLOSE -8 unresponsive: the client gave no sign of life for 3 intervals of 1s") {
		t.Errorf("%v %q", d.close, got)
	}
	d = newDriver(t, config(Null()))
	h.PingMillis = 1 << 31
	d.feed(append(h.Append(nil), ownChoice("NULL")...), unlimited)
	if d.m.Info().Ping != MaxPing || d.m.Deadline() != MaxPing {
		t.Errorf("interval %v, deadline %v", d.m.Info().Ping, d.m.Deadline())
	}
}

// A client that goes hears nothing; one that is closed hears why, in every state.
func TestOwnEnds(t *testing.T) {
	steps := []string{"EVS\x01", hello("u")[4:], ownChoice("NULL"), "\x05\x00"}
	for n := range len(steps) + 1 {
		in := strings.Join(steps[:n], "")
		for _, why := range []Reason{ReasonGone, ReasonShutdown, ReasonSlowBytes} {
			if n == 0 {
				continue // nobody knows the dialect yet
			}
			d := newDriver(t, config(Null()))
			d.feed([]byte(in), unlimited)
			d.out = nil
			if why == ReasonGone {
				d.end()
				want := ReasonGoneEarly
				if n == 3 {
					want = ReasonGone
				} else if n == 4 {
					want = ReasonGoneInMessage
				}
				if len(d.out) > 0 || d.close != want {
					t.Errorf("after %q: %q %v", in, d.out, d.close)
				}
				continue
			}
			d.m.Close(d.now, why, &d.fx)
			d.take()
			if got := heard(t, d.out); len(got) != 1 || got[0] != fmt.Sprintf("CLOSE -8 %v: %s", why, why.Sentence()) {
				t.Errorf("after %q: %q", in, got)
			}
		}
	}
	d := newDriver(t, config(Null()))
	d.feed([]byte("EVS\x01"), unlimited)
	d.now = d.m.Deadline()
	d.m.Advance(d.now, &d.fx)
	d.take()
	if got := heard(t, d.out); d.close != ReasonSilent || len(got) != 1 {
		t.Errorf("half a hello: %v %q", d.close, got)
	}
}

// A query takes of the room what it costs the daemon.
func TestOwnQueryCost(t *testing.T) {
	d := ownOpen(t, config(Null()))
	q := bytes.Repeat(frame.AppendOwnListGroups(nil, 1, 0, ""), 10)
	n := d.m.HandleInput(0, q, 4*queryCost, &d.fx)
	if n != 4*len(q)/10 || len(d.fx.Ops) != 4 {
		t.Errorf("%d of %d bytes taken, %d queries", n, len(q), len(d.fx.Ops))
	}
}

func FuzzOwn(f *testing.F) {
	hint := frame.NewHint(7, frame.LittleEndian)
	cast := frame.AppendOwnMulticast(nil, 2, 3, frame.TypeSafe, hint, []string{"g"}, make([]byte, frame.OwnFragment))
	f.Add(append(frame.AppendOwnJoin(nil, 1, "g"), cast...), []byte{3, 200, 1, 255})
	f.Add(append(frame.AppendOwnListMembers(nil, 1, 0, 9, "g"), frame.AppendOwnBye(nil)...), []byte{3})
	f.Add(append(frame.AppendOwnPing(nil, [8]byte{1}), frame.AppendOwnEvict(nil, 1, evs.ViewID{}, "g", "#u#d")...), []byte{90, 2})
	f.Add([]byte("\x04\x00\x00\x00\x13\x01\x01\x00\x09\x00\x00\x00\x09\x00\x00\x00\x01\x00\x01\x00\x01\x00\x00\x00\x04gggg"), []byte{5})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		sameWhateverTheCuts(t, append([]byte(allCaps("u")+ownChoice("NULL")), in...), cuts)
	})
}

// The queue keeps the frame that is being written, so that the last word can follow.
func TestDropTail(t *testing.T) {
	pool := &Pool{}
	a := NewArena(pool)
	ext := func(n int, c byte) Extent { return a.End(append(a.Begin(n), bytes.Repeat([]byte{c}, n)...)) }
	const step = frame.OwnHeaderSize + frame.OwnFragment
	read := func(q *Queue) (all []byte) {
		for _, b := range q.Vec(nil, 1<<10) {
			all = append(all, b...)
		}
		q.Written(len(all))
		return all
	}
	for _, x := range []struct {
		what           string
		written, keeps int // bytes of what waits: 100, then three frames of a long message, then 100
	}{
		{"nothing written", 0, 0}, {"between two messages", 100, 0}, {"in the first", 30, 70}, {"in the second frame", 100 + step + 1, step - 1},
		{"behind a frame", 100 + step, 0}, {"in the last", 100 + 2*step + 10 + 99, 1},
	} {
		q := NewQueue(pool, Limits{})
		q.PushFrames(ext(100, 'a'))
		q.PushFrames(ext(2*step+10, 'b'))
		q.PushFrames(ext(100, 'c'))
		if q.counted != 3 {
			t.Fatalf("%d messages counted", q.counted)
		}
		q.Vec(nil, 1<<10)
		q.Written(x.written)
		q.DropTail()
		if err := q.CheckInvariants(); err != nil || q.Bytes() != x.keeps {
			t.Fatalf("%s: %d bytes kept, want %d; %v", x.what, q.Bytes(), x.keeps, err)
		}
		q.PushHandshake(ext(5, 'z'))
		if got := read(q); len(got) != x.keeps+5 || string(got[x.keeps:]) != "zzzzz" {
			t.Errorf("%s: %d bytes", x.what, len(got))
		}
		if err := q.CheckInvariants(); err != nil {
			t.Errorf("%s: %v", x.what, err)
		}
	}
	q := NewQueue(pool, Limits{})
	q.PushFrames(ext(100, 'a'))
	q.PushFrames(ext(100, 'b'))
	q.PushFrames(ext(100, 'c'))
	if n := len(q.Vec(nil, 1)); n != 1 {
		t.Fatal(n)
	}
	flying := q.inFlight
	q.DropTail() // what is with a writer stays, whole
	if err := q.CheckInvariants(); err != nil || q.Bytes() != flying {
		t.Errorf("%d bytes of %d in flight: %v", q.Bytes(), flying, err)
	}
	q.Written(10)
	q.Discard()
	a.Close()
	if pool.LentChunks() != 0 {
		t.Errorf("%d chunks are lost", pool.LentChunks())
	}
}

// Every reason has a word for the others, or none on purpose.
func TestReasonCauses(t *testing.T) {
	for r, want := range map[Reason]evs.Detail{
		ReasonKill: evs.DetailAsked, ReasonGone: evs.DetailLost, ReasonStalled: evs.DetailSlow, ReasonUnresponsive: evs.DetailSilent,
		ReasonEvicted: evs.DetailEvicted, ReasonShutdown: evs.DetailShutdown, ReasonMalformed: evs.DetailProtocol, ReasonHint: evs.DetailProtocol,
		ReasonUnfinished: evs.DetailNone,
	} {
		if got := r.Cause(); got != want {
			t.Errorf("%v: %v, want %v", r, got, want)
		}
	}
}
