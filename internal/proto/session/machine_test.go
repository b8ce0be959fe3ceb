// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

const unlimited = math.MaxInt

// driver is the shell and the node of one machine: it keeps what the machine does not take, decides names, and writes
// everything down.
type driver struct {
	t    *testing.T
	m    *Machine
	fx   Effects
	now  time.Duration
	rest []byte

	// decide answers OpName; nil accepts and invents "r1-1". Later holds the answer back until answer is called.
	decide  func(wanted string) (string, frame.Code)
	later   bool
	pending *string

	out   []byte
	ops   []string
	notes []string
	close Reason
}

func newDriver(t *testing.T, cfg *Config) *driver {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return &driver{t: t, m: New(cfg, netip.MustParseAddr("192.0.2.1"), 0)}
}

// take performs the effects and forgets them.
func (d *driver) take() {
	if err := d.m.CheckInvariants(); err != nil {
		d.t.Fatal(err)
	}
	if d.close != Running && (len(d.fx.Out) > 0 || len(d.fx.Ops) > 0 || d.fx.Close != Running) {
		d.t.Fatalf("effects after the end: %q %v %v", d.fx.Out, d.fx.Ops, d.fx.Close)
	}
	d.out = append(d.out, d.fx.Out...)
	for i := range d.fx.Ops {
		op := &d.fx.Ops[i]
		d.ops = append(d.ops, opString(op))
		if cap(op.Data) != len(op.Data) || cap(op.Groups) != len(op.Groups) {
			d.t.Fatal("appending to a field of an op would change what is behind it")
		}
		if op.Kind == OpName {
			name := op.Name
			d.pending = &name
		}
	}
	for _, n := range d.fx.Notes {
		d.notes = append(d.notes, fmt.Sprintf("%v: %q", n.Kind, n.Group))
	}
	if d.fx.Close != Running {
		d.close = d.fx.Close
	}
	d.fx.Reset()
	if d.pending != nil && !d.later {
		d.answer()
	}
}

func (d *driver) answer() {
	wanted := *d.pending
	d.pending = nil
	user, code := wanted, frame.Code(0)
	if d.decide != nil {
		user, code = d.decide(wanted)
	} else if wanted == "" {
		user = "r1-1"
	}
	d.m.NameDecided(d.now, user, code, &d.fx)
	d.take()
}

// feed offers bytes, and what was left before, until the machine takes nothing more. The input's memory is spoilt after
// every call, as a shell does by reading into it again.
func (d *driver) feed(b []byte, room int) {
	d.rest = append(d.rest, b...)
	for len(d.rest) > 0 {
		in := bytes.Clone(d.rest)
		n := d.m.HandleInput(d.now, in, room, &d.fx)
		if n < 0 || n > len(in) {
			d.t.Fatalf("consumed %d of %d", n, len(in))
		}
		named := d.m.State() == StateName
		d.take()
		for i := range in {
			in[i] = 0xee
		}
		d.rest = d.rest[n:]
		if n == 0 && !named || d.m.State() == StateName {
			return
		}
	}
}

func (d *driver) end() {
	d.feed(nil, unlimited)
	d.m.HandleClosed(d.now, &d.fx)
	d.take()
}

func opString(op *Op) string {
	switch op.Kind {
	case OpName:
		return fmt.Sprintf("name %q", op.Name)
	case OpEstablished:
		return fmt.Sprintf("established %s memb=%v prio=%d v=%v", op.Info.Private, op.Info.Membership, op.Info.Priority, op.Info.Version)
	case OpJoin, OpLeave:
		if op.Request != 0 {
			return ownOpString(op)
		}
		return fmt.Sprintf("%v %q", op.Kind, op.Group)
	case OpMulticast:
		if op.Names != nil {
			return ownOpString(op)
		}
		data := fmt.Sprintf("%q", op.Data)
		if len(op.Data) > 40 {
			data = fmt.Sprintf("%d bytes, sum %d", len(op.Data), sum(op.Data))
		}
		return fmt.Sprintf("multicast %v %v hint=%x %q %s", op.Service, op.Type, op.Hint, op.Groups.Strings(), data)
	case OpKill:
		return "kill"
	case OpEvict, OpListGroups, OpListMembers, OpPing:
		return ownOpString(op)
	case OpRefused:
		return fmt.Sprintf("refused %v %q %v hint=%x %q %q", op.At, op.Group, op.Type, op.Hint, op.Groups.Strings(), op.Data)
	}
	panic("unknown " + op.Kind.String())
}

func sum(b []byte) (s uint64) {
	for _, c := range b {
		s = s*31 + uint64(c)
	}
	return s
}

func connect(user string) string {
	c := frame.Connect{Version: frame.Ours, Flags: 1, User: user}
	return string(c.Append(nil))
}

func choice(methods ...string) string {
	b, err := frame.AppendAuthChoice(nil, methods...)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Methods as the tests need them.
var (
	methodNo = func(string) (string, frame.Code) { panic("not asked") }

	ipYes = AuthMethod{Name: "IP", Check: func(p netip.Addr, _ []byte) bool { return p == netip.MustParseAddr("192.0.2.1") }}
	ipNo  = AuthMethod{Name: "IP", Check: func(netip.Addr, []byte) bool { return false }}
	pword = AuthMethod{Name: "PWORD", CredentialBytes: 40, Answer: true, Check: func(_ netip.Addr, c []byte) bool {
		return string(frame.Name(c[:32])) == "me" && string(bytes.TrimRight(c[32:], "\x00")) == "secret"
	}}
)

func required(m AuthMethod) AuthMethod { m.Required = true; return m }

func unlisted(m AuthMethod) AuthMethod { m.Required, m.Unlisted = true, true; return m }

func config(methods ...AuthMethod) *Config {
	return &Config{Daemon: "d", Methods: methods, Buffers: &Pool{}}
}

const accepted = "\x01\x04\x04\x00\x04#u#d"

// TestHandshake has the rules of client-protocol 2.1, 2.3 and 2.6. Each row arrives in one write and byte by byte, with
// the name decided at once and later.
func TestHandshake(t *testing.T) {
	null := config(Null())
	est := "established #u#d memb=true prio=0 v=4.4.0"
	creds := func(user, pw string) string {
		b := make([]byte, 40)
		copy(b, user)
		copy(b[32:], pw)
		return string(b)
	}
	rows := []struct {
		what   string
		cfg    *Config
		in     string
		decide func(string) (string, frame.Code)
		end    bool // the client closes behind in
		out    string
		ops    []string
		close  Reason
	}{
		// 2.1
		{what: "accepted", in: connect("u") + choice("NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, est}},
		{what: "empty name", in: connect("") + choice("NULL"), out: "\x05NULL \x01\x04\x04\x00\x07#r1-1#d",
			ops: []string{`name ""`, "established #r1-1#d memb=true prio=0 v=4.4.0"}},
		{what: "priority, no membership", in: "\x04\x04\x00\x10\x01u" + choice("NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, "established #u#d memb=false prio=1 v=4.4.0"}},
		{what: "future version", in: "\x7f\x63\x00\x01\x01u" + choice("NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=127.99.0"}},
		{what: "version 69.1", in: "E\x01\x00\x01\x01u", out: "\x05NULL ", ops: []string{`name "u"`}},
		{what: "version 69.86.1", in: "EV\x01\x01\x01u", out: "\x05NULL ", ops: []string{`name "u"`}},
		{what: "version 22.1", in: "\x16\x01\x00\x01\x01u", out: "\x05NULL ", ops: []string{`name "u"`}},
		{what: "nothing", in: "", end: true, close: ReasonGoneEarly},
		{what: "one byte", in: "\x04", end: true, close: ReasonGoneEarly},
		{what: "no flags", in: "\x04\x04\x00", end: true, close: ReasonGoneEarly},
		{what: "no length", in: "\x04\x04\x00\x01", end: true, close: ReasonGoneEarly},
		{what: "name cut", in: "\x04\x04\x00\x01\x05ali", end: true, out: "\xfb", close: ReasonIllegalName},
		{what: "too old", in: "\x03\x00\x01\x03old", out: "\xf9", close: ReasonVersion},
		{what: "major 128", in: "\x80\x00\x00\x01\x03old", out: "\xf9", close: ReasonVersion},
		{what: "L 11", in: "\x04\x04\x00\x01\x0b01234567890", out: "\xfb", close: ReasonIllegalName},
		{what: "L 128", in: "\x04\x04\x00\x01\x80", out: "\xfb", close: ReasonIllegalName},
		{what: "illegal character", in: connect("a#b") + choice("NULL"), out: "\xfb", close: ReasonIllegalName},
		{what: "not unique", in: connect("u") + choice("NULL"), decide: func(string) (string, frame.Code) { return "", frame.ErrRejectNotUnique },
			out: "\xfa", ops: []string{`name "u"`}, close: ReasonNotUnique},
		{what: "quota", in: connect("u"), decide: func(string) (string, frame.Code) { return "", frame.ErrRejectQuota },
			out: "\xfd", ops: []string{`name "u"`}, close: ReasonQuota},
		{what: "TLS", in: "\x16\x03\x01\x02\x00\x01\x00", decide: methodNo, out: "\x15\x03\x03\x00\x02\x02\x28", close: ReasonTLS},

		// 2.2
		{what: "no method", cfg: config(), in: connect("u"), out: "\x00\xf7", ops: []string{`name "u"`}, close: ReasonNoMethod},
		{what: "two methods", cfg: config(Null(), ipYes), in: connect("u"), out: "\x08NULL IP ", ops: []string{`name "u"`}},

		// 2.3
		{what: "unknown", in: connect("u") + choice("KERB"), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "case", in: connect("u") + choice("null"), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "none", in: connect("u") + strings.Repeat("\x00", 90), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "not allowed", in: connect("u") + choice("NULL", "IP"), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "89 bytes", in: connect("u") + choice("NULL")[:89], end: true, out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "no choice", in: connect("u"), end: true, out: "\x05NULL ", ops: []string{`name "u"`}, close: ReasonGoneEarly},
		{what: "repeated", in: connect("u") + choice("NULL", "NULL", "NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, est}},
		{what: "repeated two", cfg: config(Null(), ipYes), in: connect("u") + choice("IP", "NULL", "IP"), out: "\x08NULL IP " + accepted, ops: []string{`name "u"`, est}},
		{what: "IP no", cfg: config(Null(), ipNo), in: connect("u") + choice("IP", "NULL"), out: "\x08NULL IP \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "IP not asked", cfg: config(Null(), ipNo), in: connect("u") + choice("NULL"), out: "\x08NULL IP " + accepted, ops: []string{`name "u"`, est}},
		{what: "IP required, no", cfg: config(Null(), required(ipNo)), in: connect("u") + choice("NULL"), out: "\x08NULL IP \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "IP required, yes, all slots used", cfg: config(Null(), required(ipYes)), in: connect("u") + choice("NULL", "NULL", "NULL"), out: "\x08NULL IP " + accepted, ops: []string{`name "u"`, est}},
		{what: "password", cfg: config(Null(), pword), in: connect("u") + choice("PWORD", "NULL") + creds("me", "secret"), out: "\x0bNULL PWORD \x01" + accepted, ops: []string{`name "u"`, est}},
		{what: "wrong password", cfg: config(Null(), pword), in: connect("u") + choice("PWORD") + creds("me", "guess"), out: "\x0bNULL PWORD \x00\xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "wrong password, then IP", cfg: config(ipYes, pword), in: connect("u") + choice("PWORD", "IP") + creds("you", "secret"), out: "\x09IP PWORD \x00\xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "password cut", cfg: config(pword), in: connect("u") + choice("PWORD") + creds("me", "secret")[:39], end: true, out: "\x06PWORD ", ops: []string{`name "u"`}, close: ReasonGoneEarly},
		{what: "password required and not chosen", cfg: config(Null(), required(pword)), in: connect("u") + choice("NULL"), out: "\x0bNULL PWORD \xf7", ops: []string{`name "u"`}, close: ReasonAuth},

		{what: "IP required and not offered, yes", cfg: config(Null(), unlisted(ipYes)), in: connect("u") + choice("NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, est}},
		{what: "IP required and not offered, no", cfg: config(Null(), unlisted(ipNo)), in: connect("u") + choice("NULL"), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "IP not offered, chosen", cfg: config(Null(), unlisted(ipYes)), in: connect("u") + choice("IP"), out: "\x05NULL \xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "nothing offered", cfg: config(unlisted(ipYes)), in: connect("u"), out: "\x00\xf7", ops: []string{`name "u"`}, close: ReasonNoMethod},

		// 2.4: pipelined behind the choice
		{what: "join behind", in: connect("u") + choice("NULL") + string(frame.AppendJoin(nil, "#u#d", "g")), out: "\x05NULL " + accepted, ops: []string{`name "u"`, est, `join "g"`}},

		// 2.6
		{what: "3.1", in: "\x03\x01\x01\x01u", out: "\x01\x04\x04\x04#u#d", ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.1.0"}},
		{what: "3.14", in: "\x03\x0e\x01\x01u", out: "\x01\x04\x04\x04#u#d", ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.14.0"}},
		{what: "3.15.2", in: "\x03\x0f\x02\x01\x01u", out: accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.15.2"}},
		{what: "3.16", in: "\x03\x10\x00\x01\x01u" + choice("NULL"), out: "\x05NULL " + accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.16.0"}},
		{what: "3.15, join behind", in: "\x03\x0f\x02\x01\x01u" + string(frame.AppendJoin(nil, "#u#d", "g")), out: accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.15.2", `join "g"`}},
		{what: "3.15, IP no", cfg: config(Null(), ipNo), in: "\x03\x0f\x02\x01\x01u", out: "\xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "3.15, IP yes", cfg: config(ipYes), in: "\x03\x0f\x02\x01\x01u", out: accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.15.2"}},
		{what: "3.15, nothing for it", cfg: config(pword), in: "\x03\x0f\x02\x01\x01u", out: "\xf7", ops: []string{`name "u"`}, close: ReasonNoMethod},
		{what: "3.15, IP required and not offered, yes", cfg: config(Null(), unlisted(ipYes)), in: "\x03\x0f\x02\x01\x01u", out: accepted, ops: []string{`name "u"`, "established #u#d memb=true prio=0 v=3.15.2"}},
		{what: "3.15, IP required and not offered, no", cfg: config(Null(), unlisted(ipNo)), in: "\x03\x0f\x02\x01\x01u", out: "\xf7", ops: []string{`name "u"`}, close: ReasonAuth},
		{what: "3.15, password required", cfg: config(Null(), required(pword)), in: "\x03\x0f\x02\x01\x01u", out: "\xf7", ops: []string{`name "u"`}, close: ReasonAuth},
	}
	for _, r := range rows {
		for _, piece := range []int{1 << 20, 1, 7} {
			for _, later := range []bool{false, true} {
				cfg := r.cfg
				if cfg == nil {
					cfg = null
				}
				d := newDriver(t, cfg)
				d.decide, d.later = r.decide, later
				for in := []byte(r.in); len(in) > 0; {
					n := min(piece, len(in))
					d.feed(in[:n], unlimited)
					in = in[n:]
				}
				if d.pending != nil {
					if got := d.m.HandleInput(d.now, []byte("x"), unlimited, &d.fx); got != 0 {
						t.Errorf("%s: input taken while the name is pending", r.what)
					}
					if d.m.Deadline() != 0 {
						t.Errorf("%s: the client pays for the node's time", r.what)
					}
					d.answer()
					d.feed(nil, unlimited)
				}
				if r.end {
					d.end()
				}
				if string(d.out) != r.out || !reflect.DeepEqual(d.ops, r.ops) || d.close != r.close {
					t.Errorf("%s, pieces of %d, later %v:\ngot  %q %q %v\nwant %q %q %v", r.what, piece, later, d.out, d.ops, d.close, r.out, r.ops, r.close)
				}
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	rows := []struct {
		in    string
		out   string
		close Reason
		at    time.Duration
	}{
		{"", "", ReasonSilent, 6 * time.Second},
		{"\x04", "", ReasonSilent, 6 * time.Second},
		{"\x04\x04\x00\x01", "", ReasonSilent, 6 * time.Second},
		{"\x04\x04\x00\x01\x05ali", "\xfb", ReasonIllegalName, 6 * time.Second},
		{connect("u"), "\x05NULL \xf7", ReasonAuthTimeout, 61 * time.Second},
		{connect("u") + choice("NULL")[:89], "\x05NULL \xf7", ReasonAuthTimeout, 61 * time.Second},
	}
	for _, r := range rows {
		d := newDriver(t, config(Null()))
		d.m = New(d.m.cfg, netip.Addr{}, time.Second)
		d.now = time.Second
		d.feed([]byte(r.in), unlimited)
		if d.m.Deadline() != r.at {
			t.Errorf("%q: deadline %v, want %v", r.in, d.m.Deadline(), r.at)
		}
		d.m.Advance(r.at-1, &d.fx)
		d.take()
		if d.close != Running {
			t.Errorf("%q: closed early", r.in)
		}
		d.m.Advance(r.at, &d.fx)
		d.take()
		if string(d.out) != r.out || d.close != r.close || d.m.Deadline() != 0 {
			t.Errorf("%q: %q %v", r.in, d.out, d.close)
		}
	}
	cfg := config(Null())
	cfg.ConnectTimeout, cfg.AuthTimeout = time.Hour, time.Minute/2
	d := newDriver(t, cfg)
	if d.m.Deadline() != time.Hour {
		t.Error(d.m.Deadline())
	}
	d.feed([]byte(connect("u")), unlimited)
	if d.m.Deadline() != time.Minute/2 {
		t.Error(d.m.Deadline())
	}
	d.feed([]byte(choice("NULL")), unlimited)
	d.feed([]byte("half a header"), unlimited)
	if d.m.Deadline() != 0 || d.m.State() != StateOpen {
		t.Error("an accepted session has no deadline")
	}
}

// open is a driver in state Open, with what it wrote so far forgotten.
func open(t *testing.T) *driver {
	t.Helper()
	d := newDriver(t, config(Null()))
	d.feed([]byte(connect("u")+choice("NULL")), unlimited)
	if d.m.State() != StateOpen {
		t.Fatal(d.m.State())
	}
	d.out, d.ops = nil, nil
	return d
}

// message is a frame from "#u#d" in the given order; counts may be wrong on purpose.
func message(o frame.Order, typ frame.Type, name string, groups, dataLen int32, hint frame.Hint, body string) string {
	h := frame.Header{Type: typ, Order: o, Name: []byte(name), NumGroups: groups, Hint: hint, DataLen: dataLen}
	return string(h.Append(nil)) + body
}

func field(name string) string { return string(frame.AppendName(nil, name)) }

// TestOddInput is the table of client-protocol 4.6, column "own daemon", with what 4.1 to 4.4 say about good input.
func TestOddInput(t *testing.T) {
	full := strings.Repeat("x", 32)
	for _, o := range []frame.Order{frame.LittleEndian, frame.BigEndian} {
		h0 := frame.NewHint(0, o)
		mk := func(typ frame.Type, groups, data int32, body string) string {
			return message(o, typ, "#u#d", groups, data, h0, body)
		}
		hint := fmt.Sprintf("%x", h0)
		rows := []struct {
			what  string
			in    string
			ops   []string
			notes []string
			close Reason
		}{
			{what: "join", in: mk(frame.TypeJoin, 1, 0, field("g")), ops: []string{`join "g"`}},
			{what: "leave", in: mk(frame.TypeLeave, 1, 0, field("g")), ops: []string{`leave "g"`}},
			{what: "kill", in: mk(frame.TypeKill, 1, 0, field("#u#d")), ops: []string{"kill"}, close: ReasonKill},
			{what: "kill, zero groups", in: mk(frame.TypeKill, 0, 0, ""), ops: []string{"kill"}, close: ReasonKill},
			{what: "kill, foreign group, more behind", in: mk(frame.TypeKill, 1, 0, field("#v#e")) + mk(frame.TypeJoin, 1, 0, field("g")), ops: []string{"kill"}, close: ReasonKill},
			{what: "message before kill", in: mk(frame.TypeFIFO, 0, 1, "x") + mk(frame.TypeKill, 0, 0, ""),
				ops: []string{"multicast fifo FIFO hint=" + hint + ` [] "x"`, "kill"}, close: ReasonKill},
			{what: "no bit", in: mk(0, 0, 0, ""), close: ReasonService},
			{what: "two services", in: mk(frame.TypeFIFO|frame.TypeSafe, 0, 0, ""), close: ReasonService},
			{what: "join and FIFO", in: mk(frame.TypeFIFO|frame.TypeJoin, 1, 0, field("g")), close: ReasonService},
			{what: "join and leave", in: mk(frame.TypeLeave|frame.TypeJoin, 1, 0, field("g")), close: ReasonService},
			{what: "name not mine", in: message(o, frame.TypeFIFO, "#v#d", 0, 0, h0, ""), close: ReasonNameOther},
			{what: "other daemon", in: message(o, frame.TypeFIFO, "#u#e", 0, 0, h0, ""), close: ReasonNameOther},
			{what: "no name", in: message(o, frame.TypeFIFO, "u", 0, 0, h0, ""), close: ReasonNameForm},
			{what: "groups -1", in: mk(frame.TypeFIFO, -1, 0, ""), close: ReasonGroups},
			{what: "groups 101", in: mk(frame.TypeFIFO, 101, 0, ""), close: ReasonGroups},
			{what: "groups 100", in: mk(frame.TypeFIFO, 100, 0, strings.Repeat(field("g"), 100)),
				ops: []string{"multicast fifo FIFO hint=" + hint + " " + fmt.Sprintf("%q", strings.Fields(strings.Repeat("g ", 100))) + ` ""`}},
			{what: "hint", in: message(o, frame.TypeFIFO, "#u#d", 0, 0, frame.Hint{1, 0, 0, 0}, ""), close: ReasonHint},
			{what: "hint in other order", in: message(o, frame.TypeFIFO, "#u#d", 0, 0, frame.NewHint(-2, 1-o), ""),
				ops: []string{fmt.Sprintf("multicast fifo FIFO hint=%x [] \"\"", frame.NewHint(-2, 1-o))}},
			{what: "length -1", in: mk(frame.TypeFIFO, 0, -1, ""), close: ReasonLength},
			{what: "length over", in: mk(frame.TypeFIFO, 1, frame.MaxBody-31, ""), close: ReasonLength},
			{what: "length max", in: mk(frame.TypeFIFO, 1, frame.MaxBody-32, field("g")+strings.Repeat("y", frame.MaxBody-32)),
				ops: []string{"multicast fifo FIFO hint=" + hint + fmt.Sprintf(` ["g"] %d bytes, sum %d`, frame.MaxBody-32, sum(bytes.Repeat([]byte("y"), frame.MaxBody-32)))}},
			{what: "odd destinations", in: mk(frame.TypeSafe, 4, 0, field("")+full+field("#nope")+field("a b")),
				ops: []string{"multicast safe SAFE hint=" + hint + fmt.Sprintf(` ["" %q "#nope" "a b"] ""`, full)}},
			{what: "FIFO and view", in: mk(frame.TypeFIFO|frame.TypeRegMemb, 0, 0, ""), close: ReasonDaemonOnly},
			{what: "FIFO and 4000", in: mk(frame.TypeFIFO|0x4000, 0, 0, ""), close: ReasonDaemonOnly},
			{what: "FIFO and reject", in: mk(frame.TypeFIFO|frame.TypeReject, 0, 0, ""), close: ReasonDaemonOnly},
			{what: "FIFO and groups", in: mk(frame.TypeFIFO|frame.TypeGroups, 0, 0, ""), close: ReasonDaemonOnly},
			{what: "high bits", in: mk(frame.TypeFIFO|0x71000000, 0, 0, ""),
				ops: []string{"multicast fifo FIFO|DROP_RECV|DONT_BLOCK|FLUSH_REQ|SUBGROUP_CAST hint=" + hint + ` [] ""`}},
			{what: "self-discard", in: mk(frame.TypeAgreed|frame.TypeSelfDiscard, 0, 0, ""), ops: []string{"multicast agreed AGREED|SELF_DISCARD hint=" + hint + ` [] ""`}},
			{what: "join of nothing", in: mk(frame.TypeJoin, 1, 0, field("")), notes: []string{`join of an illegal group name ignored: ""`}},
			{what: "join with a blank", in: mk(frame.TypeJoin, 1, 0, field("a b")), notes: []string{`join of an illegal group name ignored: "a b"`}},
			{what: "join of a private name", in: mk(frame.TypeJoin, 1, 0, field("#u#d")), notes: []string{`join of an illegal group name ignored: "#u#d"`}},
			{what: "join of 32 bytes", in: mk(frame.TypeJoin, 1, 0, full), notes: []string{fmt.Sprintf(`join of an illegal group name ignored: %q`, full)}},
			{what: "join of 31 bytes", in: mk(frame.TypeJoin, 1, 0, field(full[1:])), ops: []string{fmt.Sprintf("join %q", full[1:])}},
			{what: "join of two", in: mk(frame.TypeJoin, 2, 0, field("g")+field("h")), ops: []string{`join "g"`}, notes: []string{`join of several groups: only the first is joined: "g"`}},
			{what: "join with data", in: mk(frame.TypeJoin, 1, 5, field("g")+"12345") + mk(frame.TypeLeave, 1, 0, field("g")), ops: []string{`join "g"`, `leave "g"`}},
			{what: "join without a group", in: mk(frame.TypeJoin, 0, 32, field("g")), notes: []string{`join without a group ignored: ""`}},
			{what: "garbage behind the NUL", in: mk(frame.TypeJoin, 1, 0, "g\x00"+full[2:]), ops: []string{`join "g"`}},
			{what: "leave of oneself", in: mk(frame.TypeLeave, 1, 0, field("#u#d")), notes: []string{`leave of an illegal group name ignored: "#u#d"`}},
			{what: "leave without a group", in: mk(frame.TypeLeave, 0, 0, ""), notes: []string{`leave without a group ignored: ""`}},
			{what: "leave of two", in: mk(frame.TypeLeave, 2, 0, field("g")+field("h")), ops: []string{`leave "g"`}, notes: []string{`leave of several groups: only the first is left: "g"`}},
		}
		for _, r := range rows {
			for _, piece := range []int{1 << 20, 1, 48, 50000} {
				if piece == 1 && len(r.in) > 10000 {
					continue
				}
				d := open(t)
				for in := []byte(r.in); len(in) > 0; {
					n := min(piece, len(in))
					d.feed(in[:n], unlimited)
					in = in[n:]
				}
				if !reflect.DeepEqual(d.ops, r.ops) || !reflect.DeepEqual(d.notes, r.notes) || d.close != r.close || len(d.out) > 0 {
					t.Errorf("%v, %s, pieces of %d:\ngot  %q %q %v %q\nwant %q %q %v", o, r.what, piece, d.ops, d.notes, d.close, d.out, r.ops, r.notes, r.close)
				}
			}
		}
	}
}

// TestClientGoes: complete messages count, a partial one does not (client-protocol 4.3).
func TestClientGoes(t *testing.T) {
	join := string(frame.AppendJoin(nil, "#u#d", "g"))
	for n := range len(join) + 1 {
		d := open(t)
		d.feed([]byte(join+join[:n]), unlimited)
		d.end()
		want, why := []string{`join "g"`}, ReasonGoneInMessage
		if n == 0 || n == len(join) {
			why = ReasonGone
		}
		if n == len(join) {
			want = append(want, want[0])
		}
		if !reflect.DeepEqual(d.ops, want) || d.close != why {
			t.Errorf("%d bytes: %q %v", n, d.ops, d.close)
		}
	}
}

// TestRoom: without room nothing is taken; with room at most one message more.
func TestRoom(t *testing.T) {
	msg := frame.AppendMulticast(nil, "#u#d", frame.TypeFIFO, 0, []string{"g"}, make([]byte, 20)) // 100 bytes
	in := bytes.Repeat(msg, 10)
	var fx Effects
	for room, want := range map[int]int{-5: 0, 0: 0, 1: 1, 100: 1, 101: 2, 250: 3, 1000: 10, 5000: 10} {
		m := open(t).m
		if n := m.HandleInput(0, in, room, &fx); n != want*100 || len(fx.Ops) != want {
			t.Errorf("room %d: consumed %d, %d ops", room, n, len(fx.Ops))
		}
		fx.Reset()
		// The end of a message that has begun waits for room, too.
		m = open(t).m
		m.HandleInput(0, msg[:90], 1, &fx)
		if n := m.HandleInput(0, msg[90:], 0, &fx); n != 0 || len(fx.Ops) != 0 {
			t.Errorf("consumed %d, %d ops without room", n, len(fx.Ops))
		}
		if n := m.HandleInput(0, msg[90:], 1, &fx); n != 10 || len(fx.Ops) != 1 {
			t.Errorf("consumed %d, %d ops", n, len(fx.Ops))
		}
		fx.Reset()
	}
}

// TestStatesAndInputs walks every cell of the table in the package's documentation.
func TestStatesAndInputs(t *testing.T) {
	to := map[State]func() *driver{
		StateConnect: func() *driver { return newDriver(t, config(Null(), pword)) },
		StateName: func() *driver {
			d := newDriver(t, config(Null(), pword))
			d.later = true
			d.feed([]byte(connect("u")), unlimited)
			return d
		},
		StateAuth: func() *driver {
			d := newDriver(t, config(Null(), pword))
			d.feed([]byte(connect("u")), unlimited)
			return d
		},
		StateCredentials: func() *driver {
			d := newDriver(t, config(Null(), pword))
			d.feed([]byte(connect("u")+choice("PWORD")), unlimited)
			return d
		},
		StateOpen: func() *driver { return open(t) },
		StateClosed: func() *driver {
			d := open(t)
			d.end()
			return d
		},
	}
	// What an input does: the state afterwards, or "bug".
	inputs := []struct {
		name string
		do   func(d *driver)
		want map[State]string
	}{
		{"HandleInput", func(d *driver) {
			n := d.m.HandleInput(0, []byte{4}, unlimited, &d.fx)
			if (n == 0) != (d.m.State() == StateName) {
				d.t.Errorf("%v: took %d", d.m.State(), n)
			}
		}, map[State]string{StateConnect: "connect", StateName: "name", StateAuth: "auth", StateCredentials: "credentials", StateOpen: "open", StateClosed: "closed"}},
		{"NameDecided", func(d *driver) { d.m.NameDecided(0, "u", 0, &d.fx) },
			map[State]string{StateConnect: "bug", StateName: "auth", StateAuth: "bug", StateCredentials: "bug", StateOpen: "bug", StateClosed: "closed"}},
		{"HandleClosed", func(d *driver) { d.m.HandleClosed(0, &d.fx) },
			map[State]string{StateConnect: "closed", StateName: "closed", StateAuth: "closed", StateCredentials: "closed", StateOpen: "closed", StateClosed: "closed"}},
		{"Advance", func(d *driver) { d.m.Advance(24*time.Hour, &d.fx) },
			map[State]string{StateConnect: "closed", StateName: "name", StateAuth: "closed", StateCredentials: "closed", StateOpen: "open", StateClosed: "closed"}},
		{"Reconfigure", func(d *driver) { d.m.Reconfigure(config(Null())) },
			map[State]string{StateConnect: "connect", StateName: "name", StateAuth: "auth", StateCredentials: "credentials", StateOpen: "open", StateClosed: "closed"}},
		{"Close", func(d *driver) { d.m.Close(0, ReasonShutdown, &d.fx) },
			map[State]string{StateConnect: "closed", StateName: "closed", StateAuth: "closed", StateCredentials: "closed", StateOpen: "closed", StateClosed: "closed"}},
	}
	for s := StateConnect; s <= StateClosed; s++ {
		for _, in := range inputs {
			d := to[s]()
			if d.m.State() != s {
				t.Fatalf("prepared %v, want %v", d.m.State(), s)
			}
			got := func() (after string) {
				defer func() {
					if recover() != nil {
						after = "bug"
					}
				}()
				in.do(d)
				d.pending = nil
				d.take()
				return d.m.State().String()
			}()
			if got != in.want[s] {
				t.Errorf("%s in %v: %s, want %s", in.name, s, got, in.want[s])
			}
		}
	}
}

func TestReasons(t *testing.T) {
	names := map[string]bool{}
	for r := Running; int(r) < len(reasonTexts); r++ {
		if r.String() == "" || r.Sentence() == "" || strings.HasSuffix(r.Sentence(), ".") || names[r.String()] {
			t.Errorf("reason %d: %q %q", r, r.String(), r.Sentence())
		}
		names[r.String()] = true
	}
	for f := frame.FaultMark; f <= frame.FaultLength; f++ {
		if faultReasons[f] == Running {
			t.Errorf("%v ends no session", f)
		}
	}
	// The node's own reasons: told in the handshake if there is a code for it.
	d := newDriver(t, config(Null()))
	d.m.Close(0, ReasonQuota, &d.fx)
	d.take()
	if string(d.out) != "\xfd" || d.close != ReasonQuota {
		t.Errorf("%q %v", d.out, d.close)
	}
	d = open(t)
	d.m.Close(0, ReasonQuota, &d.fx)
	d.take()
	if len(d.out) != 0 {
		t.Errorf("an open session is told %q", d.out)
	}
}

func TestConfigValidate(t *testing.T) {
	bad := Config{Daemon: "a#b", ConnectTimeout: -1, Methods: []AuthMethod{{Name: "A B"}, {Name: "A B", CredentialBytes: 91}, {Name: strings.Repeat("x", 90)}}}
	err := bad.Validate()
	if err == nil || len(strings.Split(err.Error(), "\n")) < 6 {
		t.Errorf("%v", err)
	}
	for _, m := range []AuthMethod{{Name: "X", Unlisted: true}, {Name: "X", Unlisted: true, Required: true, CredentialBytes: 1}} {
		if err := config(Null(), m).Validate(); err == nil || !strings.Contains(err.Error(), "must be required and need no credentials") {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if err := config(Null(), ipYes, pword, unlisted(AuthMethod{Name: strings.Repeat("x", 29)})).Validate(); err != nil {
		t.Error(err)
	}
}

// TestInputAllocations guards the path of every message, in place and assembled.
func TestInputAllocations(t *testing.T) {
	for _, size := range []int{100, 1350, 8192, 65000, 140000} {
		msg := frame.AppendMulticast(nil, "#u#d", frame.TypeFIFO, 0, []string{"g", "h"}, make([]byte, size))
		for _, cut := range []int{0, 20, 48, 60} {
			m := open(t).m
			var fx Effects
			ops := 0
			one := func() {
				m.HandleInput(0, msg[:cut], unlimited, &fx)
				m.HandleInput(0, msg[cut:], unlimited, &fx)
				ops += len(fx.Ops)
				fx.Reset()
			}
			one()
			if n := testing.AllocsPerRun(100, one); n != 0 {
				t.Errorf("%d bytes cut at %d: %v allocations", size, cut, n)
			}
			if ops != 102 {
				t.Errorf("%d bytes cut at %d: %d messages", size, cut, ops)
			}
		}
	}
}

// FuzzHandleInput: the same bytes give the same requests and answers however they are cut, however little room there
// is, and whenever names are decided.
func FuzzHandleInput(f *testing.F) {
	hello := connect("u") + choice("NULL")
	join := string(frame.AppendJoin(nil, "#u#d", "g"))
	cast := string(frame.AppendMulticast(nil, "#u#d", frame.TypeSafe, 7, []string{"g", "#u#d"}, []byte("hello")))
	f.Add([]byte(hello+join+cast+string(frame.AppendKill(nil, "#u#d"))), []byte{3, 80, 1, 200})
	f.Add([]byte(hello+cast+cast+cast+join[:50]), []byte{90})
	f.Add([]byte(connect("u")+choice("PWORD", "IP")+strings.Repeat("x", 40)+cast), []byte{1})
	f.Add([]byte("\x03\x0f\x02\x01\x01u"+join), []byte{5, 6})
	f.Add([]byte("EVS\x01"), []byte{1})
	f.Add([]byte(hello+message(frame.BigEndian, frame.TypeJoin, "#u#d", 2, 3, frame.Hint{}, field("g")+field("h")+"abc")+cast), []byte{60})
	f.Fuzz(sameWhateverTheCuts)
}

// FuzzOpen is FuzzHandleInput behind a good handshake, so that all of the input is frames.
func FuzzOpen(f *testing.F) {
	f.Add(frame.AppendMulticast(nil, "#u#d", frame.TypeSafe, 7, []string{"g", "#u#d"}, []byte("hello")), []byte{47})
	f.Add(frame.AppendMulticast(nil, "#u#d", frame.TypeSafe|frame.TypeSelfDiscard, 7, []string{"g", "h"}, []byte("refused")), []byte{47})
	f.Add([]byte(message(frame.BigEndian, frame.TypeJoin, "#u#d", 2, 3, frame.Hint{}, field("g")+field("h")+"abc")), []byte{60})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		sameWhateverTheCuts(t, append([]byte(connect("u")+choice("NULL")), in...), cuts)
	})
}

// fuzzRules refuse some of what the seeds ask for.
var fuzzRules = &access.Rules{List: []access.Rule{
	deny("h", access.Join, access.Multicast), deny("", access.Leave), deny("#u#*", access.Send),
	{Points: access.PointsOf(access.Open), Method: []string{"PWORD"}},
}}

// sameWhateverTheCuts compares a run in one piece, names decided at once, with one in pieces, little room, names decided
// late.
func sameWhateverTheCuts(t *testing.T, in, cuts []byte) {
	run := func(cut bool) *driver {
		pool := &Pool{}
		d := newDriver(t, &Config{Daemon: "d", Methods: []AuthMethod{Null(), ipYes, pword}, Buffers: pool, Rules: fuzzRules})
		d.later = cut
		rest := in
		for i := 0; len(rest) > 0; i++ {
			n, room := len(rest), unlimited
			if cut && len(cuts) > 0 {
				c := int(cuts[i%len(cuts)])
				n, room = min(n, c*c+1), c*3%256
			}
			if len(d.rest) > 4<<10 {
				room = unlimited // what is refused is offered again, whole: long inputs in small pieces would take minutes
			}
			d.feed(rest[:n], room)
			rest = rest[n:]
			if d.pending != nil && i%2 == 0 {
				d.answer()
			}
		}
		if d.pending != nil {
			d.answer()
		}
		d.end()
		return d
	}
	a, b := run(false), run(true)
	if !bytes.Equal(a.out, b.out) || !reflect.DeepEqual(a.ops, b.ops) || !reflect.DeepEqual(a.notes, b.notes) || a.close != b.close {
		t.Fatalf("whole: %q %q %q %v\ncut:   %q %q %q %v", a.out, a.ops, a.notes, a.close, b.out, b.ops, b.notes, b.close)
	}
}

// TestRandomStreams sends what a program might send, with an odd frame now and then, in random pieces, and compares with
// what was meant.
func TestRandomStreams(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		in := []byte(connect("u") + choice("NULL"))
		want := []string{`name "u"`, "established #u#d memb=true prio=0 v=4.4.0"}
		for range rnd.IntN(30) {
			o := frame.Order(rnd.IntN(2))
			h := frame.Header{Order: o, Name: []byte("#u#d"), Hint: frame.NewHint(int16(rnd.Uint32()), frame.Order(rnd.IntN(2)))}
			group := fmt.Sprint("g", rnd.IntN(100))
			switch rnd.IntN(6) {
			case 0, 1:
				h.Type, h.NumGroups = []frame.Type{frame.TypeJoin, frame.TypeLeave}[rnd.IntN(2)], 1
				in = frame.AppendName(h.Append(in), group)
				want = append(want, fmt.Sprintf("%s %q", strings.ToLower(h.Type.String()), group))
			default:
				service := evs.Service(rnd.IntN(6) + 1)
				data := make([]byte, rnd.IntN([]int{1, 30, 2000, 140000}[rnd.IntN(4)]))
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				h.Type, h.NumGroups, h.DataLen = frame.TypeOf(service), int32(rnd.IntN(4)), int32(len(data))
				in = h.Append(in)
				op := Op{Kind: OpMulticast, Service: service, Type: h.Type, Hint: h.Hint, Data: data}
				for range h.NumGroups {
					op.Groups = frame.AppendName(op.Groups, group)
				}
				in = append(append(in, op.Groups...), data...)
				want = append(want, opString(&op))
			}
		}
		d := newDriver(t, config(Null()))
		d.later = rnd.IntN(2) == 0
		for most := rnd.IntN(100000) + 1; len(in) > 0; {
			n := min(len(in), rnd.IntN(most)+1)
			d.feed(in[:n], []int{unlimited, rnd.IntN(1000)}[rnd.IntN(2)])
			in = in[n:]
			if d.pending != nil && rnd.IntN(3) == 0 {
				d.answer()
			}
		}
		if d.pending != nil {
			d.answer()
		}
		d.end()
		if !reflect.DeepEqual(d.ops, want) || d.close != ReasonGone {
			t.Fatalf("seed %d: %v\ngot  %q\nwant %q", seed, d.close, d.ops, want)
		}
	}
}

func BenchmarkHandleInput(b *testing.B) {
	for _, size := range []int{100, 1350, 8192, 65000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			m := New(config(Null()), netip.Addr{}, 0)
			var fx Effects
			m.HandleInput(0, []byte(connect("u")), unlimited, &fx)
			m.NameDecided(0, "u", 0, &fx)
			m.HandleInput(0, []byte(choice("NULL")), unlimited, &fx)
			msg := frame.AppendMulticast(nil, "#u#d", frame.TypeOf(evs.Agreed), 0, []string{"g"}, make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				fx.Reset()
				m.HandleInput(0, msg, unlimited, &fx)
			}
		})
	}
}
