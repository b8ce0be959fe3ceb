// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

func TestCodes(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Codes() {
		if !c.Known() || names[c.String()] {
			t.Errorf("%d: %v", int(c), c)
		}
		names[c.String()] = true
		if c > 0 {
			continue
		}
		err := fmt.Errorf("connect: %w", c)
		if got, ok := errors.AsType[Code](err); !ok || got != c || !errors.Is(err, c) {
			t.Errorf("%v does not survive wrapping", c)
		}
	}
	if got := ErrRejectAuth.Byte(); got != 0xf7 {
		t.Errorf("REJECT_AUTH travels as %x", got)
	}
	if errors.Is(ErrRejectAuth, ErrRejectVersion) {
		t.Error("different codes compare equal")
	}
	if s := Code(-10).Error(); !strings.Contains(s, "-10") || Code(-10).Known() {
		t.Error(s)
	}
}

func TestWords(t *testing.T) {
	for s := evs.Unreliable; s <= evs.Safe; s++ {
		for _, extra := range []Type{0, TypeSelfDiscard, TypeSubgroupCast} {
			if got, ok := (TypeOf(s) | extra).Service(); !ok || got != s {
				t.Errorf("%v with %v: %v %v", s, extra, got, ok)
			}
		}
	}
	if TypeOf(evs.Safe) != TypeSafe || TypeOf(0) != 0 || TypeOf(7) != 0 {
		t.Error("TypeOf")
	}
	if _, ok := (TypeSafe | TypeFIFO).Service(); ok {
		t.Error("two services are one")
	}
	for c := evs.CausedByJoin; c <= evs.CausedByNetwork; c++ {
		if got, ok := (TypeRegMemb | TypeOfCause(c)).Cause(); !ok || got != c {
			t.Errorf("%v: %v %v", c, got, ok)
		}
	}
	hints := []struct {
		hint Hint
		mess int16
		o    Order
		ok   bool
	}{
		{Hint{0x80, 0xfe, 0xff, 0x80}, -2, LittleEndian, true},
		{Hint{0, 0x12, 0x34, 0}, 4660, BigEndian, true},
		{Hint{0, 0x80, 0, 0}, -32768, BigEndian, true},
		{Hint{0x81, 0, 0, 0x80}, 0, LittleEndian, false},
		{Hint{0x80, 0, 0, 0x81}, 0, LittleEndian, false},
		{Hint{0x80, 0, 0, 0}, 0, BigEndian, true},
	}
	for _, h := range hints {
		if h.hint.MessType() != h.mess || h.hint.Order() != h.o || h.hint.Valid() != h.ok {
			t.Errorf("%x: %d %v %v", h.hint, h.hint.MessType(), h.hint.Order(), h.hint.Valid())
		}
		if h.hint.Valid() && h.hint[0] == h.hint[3] && NewHint(h.mess, h.o) != h.hint {
			t.Errorf("NewHint(%d, %v) = %x", h.mess, h.o, NewHint(h.mess, h.o))
		}
	}
	kinds := map[Type]Kind{
		TypeAgreed | TypeSelfDiscard: KindRegular, TypeRegMemb | TypeCausedByJoin: KindView, TypeTransition: KindTransition,
		TypeCausedByLeave: KindSelfLeave, TypeReject | TypeSafe: KindReject, TypeJoin: KindUnknown, TypeReject | TypeRegMemb: KindReject,
	}
	for w, k := range kinds {
		if w.Kind() != k {
			t.Errorf("%v is %v, want %v", w, w.Kind(), k)
		}
	}
	if got := (TypeAgreed | TypeSelfDiscard | 0x00800000).String(); got != "AGREED|SELF_DISCARD|0x800000" {
		t.Error(got)
	}
	if Type(0).String() != "0x0" {
		t.Error(Type(0).String())
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		in           string
		user, daemon string
		ok           bool
	}{
		{"#a#b", "a", "b", true}, {"#0123456789#0123456789012345678", "0123456789", "0123456789012345678", true},
		{"#01234567890#d", "", "", false}, {"#a#01234567890123456789", "", "", false}, {"##d", "", "", false}, {"#a#", "", "", false},
		{"a#b", "", "", false}, {"#a", "", "", false}, {"", "", "", false}, {"#a#b#c", "", "", false}, {"#a b#c", "", "", false}, {"#a#\x7f", "", "", false},
	} {
		u, d, ok := SplitPrivate(c.in)
		if ok != c.ok || ok && (u != c.user || d != c.daemon) {
			t.Errorf("%q: %q %q %v", c.in, u, d, ok)
		}
		if _, _, ok := SplitPrivate([]byte(c.in)); ok != c.ok {
			t.Errorf("%q as bytes: %v", c.in, ok)
		}
		if ok && PrivateName(u, d) != c.in {
			t.Errorf("%q does not come back", c.in)
		}
	}
	for name, ok := range map[string]bool{
		"g": true, "$~": true, strings.Repeat("x", 31): true, "": false, strings.Repeat("x", 32): false,
		"a b": false, "#g": false, "a\x1f": false, "\xe4": false, "a!": false, "a\"": false,
	} {
		if LegalGroup(name) != ok || (CheckGroup(name) == nil) != ok {
			t.Errorf("%q legal: %v, %v", name, LegalGroup(name), CheckGroup(name))
		}
		if err := CheckGroup(name); err != nil && !errors.Is(err, ErrIllegalGroup) {
			t.Error(err)
		}
	}
	full := bytes.Repeat([]byte{'x'}, 32)
	if len(Name(full)) != 32 || len(Name(append([]byte("ab\x00c"), full...))) != 2 {
		t.Error("Name")
	}
	// What is delivered has neither garbage nor a name without a NUL.
	dirty := append(append([]byte("ab\x00garbage"), full[:22]...), full...)
	got := appendGroups(nil, dirty)
	want := AppendName(AppendName(nil, "ab"), string(full))
	if !bytes.Equal(got, want) || got[63] != 0 {
		t.Errorf("%q", got)
	}
	var seen []string
	for i, g := range Groups(got).All() {
		seen = append(seen, fmt.Sprint(i, string(g[:2])))
	}
	if !reflect.DeepEqual(seen, []string{"0ab", "1xx"}) && !reflect.DeepEqual(seen, []string{"0 ab", "1 xx"}) {
		t.Error(seen)
	}
}

// head is a header as a client of private name "#u#d" sends it, with one field changed by the test.
func head(t Type, o Order, change func(b []byte)) []byte {
	h := Header{Type: t, Order: o, Name: []byte("#u#d"), NumGroups: 1, Hint: NewHint(7, o)}
	b := h.Append(nil)
	if change != nil {
		change(b)
	}
	return b
}

func TestCheckClient(t *testing.T) {
	name := func(s string) func([]byte) {
		return func(b []byte) { copy(b[4:36], AppendName(nil, s)) }
	}
	for _, o := range []Order{LittleEndian, BigEndian} {
		word := func(at int, v uint32) func([]byte) { return func(b []byte) { o.PutUint32(b[at:], v) } }
		both := func(groups, data int32) func([]byte) {
			return func(b []byte) { o.PutUint32(b[36:], uint32(groups)); o.PutUint32(b[44:], uint32(data)) }
		}
		rows := []struct {
			what   string
			t      Type
			change func([]byte)
			want   Fault
		}{
			{"service", TypeAgreed, nil, FaultNone},
			{"service, self-discard", TypeSafe | TypeSelfDiscard, nil, FaultNone},
			{"service, subgroup cast", TypeSafe | TypeSubgroupCast, nil, FaultNone},
			{"service, all high bits", TypeFIFO | 0x71000000, nil, FaultNone},
			{"service, bit 23", TypeFIFO | 0x00800000, nil, FaultNone},
			{"join", TypeJoin, nil, FaultNone},
			{"join, self-discard", TypeJoin | TypeSelfDiscard, nil, FaultNone},
			{"nothing", 0, nil, FaultService},
			{"only self-discard", TypeSelfDiscard, nil, FaultService},
			{"two services", TypeAgreed | TypeSafe, nil, FaultService},
			{"join and FIFO", TypeJoin | TypeFIFO, nil, FaultService},
			{"join and leave", TypeJoin | TypeLeave, nil, FaultService},
			{"service and view", TypeFIFO | TypeRegMemb, nil, FaultDaemonOnly},
			{"service and cause", TypeFIFO | TypeCausedByNetwork, nil, FaultDaemonOnly},
			{"service and 4000", TypeFIFO | 0x4000, nil, FaultDaemonOnly},
			{"service and 8000", TypeFIFO | 0x8000, nil, FaultDaemonOnly},
			{"service and 100000", TypeFIFO | 0x100000, nil, FaultDaemonOnly},
			{"service and 200000", TypeFIFO | 0x200000, nil, FaultDaemonOnly},
			{"service and reject", TypeFIFO | TypeReject, nil, FaultDaemonOnly},
			{"service and groups", TypeFIFO | TypeGroups, nil, FaultDaemonOnly},
			{"half a mark", TypeFIFO, func(b []byte) { b[0] ^= 0x80 }, FaultMark},
			{"not my name", TypeFIFO, name("#v#d"), FaultNameOther},
			{"other daemon", TypeFIFO, name("#u#e"), FaultNameOther},
			{"no form", TypeFIFO, name("u"), FaultNameForm},
			{"empty", TypeFIFO, name(""), FaultNameForm},
			{"groups -1", TypeFIFO, word(36, 0xffffffff), FaultGroups},
			{"groups 101", TypeFIFO, word(36, 101), FaultGroups},
			{"groups 100", TypeFIFO, word(36, 100), FaultNone},
			{"groups 0", TypeFIFO, word(36, 0), FaultNone},
			{"hint low byte", TypeFIFO, func(b []byte) { b[40] |= 1 }, FaultHint},
			{"hint high byte", TypeFIFO, func(b []byte) { b[43] |= 0x40 }, FaultHint},
			{"hint in other order", TypeFIFO, func(b []byte) { copy(b[40:], []byte{0, 1, 2, 0}) }, FaultNone},
			{"length -1", TypeFIFO, word(44, 0xffffffff), FaultLength},
			{"length max", TypeFIFO, both(0, MaxBody), FaultNone},
			{"length over", TypeFIFO, both(0, MaxBody+1), FaultLength},
			{"length with names max", TypeFIFO, both(100, MaxBody-3200), FaultNone},
			{"length with names over", TypeFIFO, both(100, MaxBody-3199), FaultLength},
			{"length overflow", TypeFIFO, both(100, 0x7fffffff), FaultLength},
			// The order of the checks: the first fault wins.
			{"all wrong but type", TypeFIFO, func(b []byte) {
				name("x")(b)
				both(-1, -1)(b)
				b[40] |= 1
			}, FaultNameForm},
			{"groups before hint", TypeFIFO, func(b []byte) { both(-1, -1)(b); b[40] |= 1 }, FaultGroups},
			{"hint before length", TypeFIFO, func(b []byte) { both(1, -1)(b); b[40] |= 1 }, FaultHint},
		}
		for _, r := range rows {
			h := ParseHeader(head(r.t, o, r.change))
			if got := h.CheckClient("#u#d"); got != r.want {
				t.Errorf("%v, %s: %v, want %v", o, r.what, got, r.want)
			}
		}
	}
}

func TestParseConnect(t *testing.T) {
	rows := []struct {
		in   string
		user string
		n    int
		code Code
	}{
		{"\x04\x04\x00\x01\x05alice", "alice", 10, 0},
		{"\x04\x04\x00\x01\x05alicefollows", "alice", 10, 0},
		{"\x04\x04\x00\x00\x00", "", 5, 0},
		{"\x04\x04\x00\x00\x0a0123456789", "0123456789", 15, 0},
		{"\x04\x04\x00\x00\x0b", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x80", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\xff", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x03a#b", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x03a b", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x02a\x7f", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x02\xe4a", "", 0, ErrRejectIllegalName},
		{"\x04\x04\x00\x00\x02$~", "$~", 7, 0},
		{"\x03\x00", "", 0, ErrRejectVersion},
		{"\x00\x00", "", 0, ErrRejectVersion},
		{"\x80\x00", "", 0, ErrRejectVersion},
		{"\xff\x7f", "", 0, ErrRejectVersion},
		{"\x03\x01\x01\x01x", "x", 5, 0},
		{"\x03\x0e\x01\x01x", "x", 5, 0},
		{"\x03\x0f\x02\x01\x01x", "x", 6, 0},
		{"\x03\x10\x00\x01\x01x", "x", 6, 0},
		{"\x05\x00\x00\x01\x01x", "x", 6, 0},
		{"\x7f\x63\x00\x01\x01x", "x", 6, 0},
		{"\x03\x80\x01\x01x", "", 0, ErrRejectVersion}, // minor -128
		{"", "", 0, 0}, {"\x04", "", 0, 0}, {"\x04\x04", "", 0, 0}, {"\x04\x04\x00\x01", "", 0, 0}, {"\x04\x04\x00\x01\x05alic", "", 0, 0},
	}
	for _, r := range rows {
		c, n, code := ParseConnect([]byte(r.in))
		if n != r.n || code != r.code || n > 0 && c.User != r.user {
			t.Errorf("%q: %+v %d %v", r.in, c, n, code)
		}
		// The verdict does not change as bytes arrive, and is there as early as the shortest prefix that has it.
		for i := range len(r.in) {
			_, n, code := ParseConnect([]byte(r.in[:i]))
			if n != 0 && (n != r.n || i < n) || code != 0 && code != r.code {
				t.Errorf("%q: %d %v", r.in[:i], n, code)
			}
		}
	}
	for in, want := range map[string]bool{"": false, "\x04\x04\x00\x01": false, "\x04\x04\x00\x01\x05": true, "\x03\x01\x01\x05": true, "\x03\x01\x01": false} {
		if ConnectInName([]byte(in)) != want {
			t.Errorf("ConnectInName(%q)", in)
		}
	}
	c := Connect{Flags: 0x11}
	if !c.Membership() || c.Priority() != 1 {
		t.Error("flags")
	}
}

func TestAcceptByVersion(t *testing.T) {
	for v, want := range map[Version]string{
		{3, 1, 0}:  "\x01\x04\x04\x04#u#d",
		{3, 14, 0}: "\x01\x04\x04\x04#u#d",
		{3, 15, 0}: "\x01\x04\x04\x00\x04#u#d",
		{3, 16, 0}: "\x01\x04\x04\x00\x04#u#d",
		{4, 4, 0}:  "\x01\x04\x04\x00\x04#u#d",
	} {
		got := AppendAccept(nil, v, "#u#d")
		if string(got) != want {
			t.Errorf("%v: %q", v, got)
		}
		for i := range len(got) {
			if _, _, n, code := ParseAccept(got[:i], v); n != 0 || code != 0 {
				t.Errorf("%v: %d bytes are enough", v, i)
			}
		}
		if d, private, n, code := ParseAccept(got, v); d != Ours || private != "#u#d" || n != len(got) || code != 0 {
			t.Errorf("%v: %v %q %d %v", v, d, private, n, code)
		}
	}
	if _, _, _, code := ParseAccept([]byte{0xf7}, Ours); code != ErrRejectAuth {
		t.Error(code)
	}
	if _, _, _, code := ParseAccept([]byte{0}, Ours); code != ErrConnectionClosed {
		t.Error(code)
	}
	if _, _, _, code := ParseAccept([]byte{1, 4, 4, 0, 32}, Ours); code != ErrConnectionClosed {
		t.Error(code)
	}
}

func TestVersions(t *testing.T) {
	for v, want := range map[Version][2]bool{ // too old, has authentication
		{3, 0, 99}: {true, false}, {3, 1, 0}: {false, false}, {3, 15, 99}: {false, false}, {3, 16, 0}: {false, true}, {4, 4, 0}: {false, true},
		{127, 99, 0}: {false, true}, {128, 0, 0}: {true, false}, {69, 86, 83}: {false, true},
	} {
		if v.TooOld() != want[0] || v.HasAuth() != want[1] {
			t.Errorf("%v: too old %v, authentication %v", v, v.TooOld(), v.HasAuth())
		}
	}
	if Ours.String() != "4.4.0" {
		t.Error(Ours)
	}
}

func TestAuth(t *testing.T) {
	if got := AppendAuthList(nil, []string{"NULL", "IP"}); string(got) != "\x08NULL IP " {
		t.Errorf("%q", got)
	}
	if got := AppendAuthList(nil, nil); string(got) != "\x00" {
		t.Errorf("%q", got)
	}
	if _, _, code := ParseAuthList([]byte{0xfa}); code != ErrRejectNotUnique {
		t.Error(code)
	}
	if _, _, code := ParseAuthList([]byte{91}); code != ErrConnectionClosed {
		t.Error(code)
	}
	if _, err := AppendAuthChoice(nil); !errors.Is(err, ErrRejectAuth) {
		t.Error(err)
	}
	if _, err := AppendAuthChoice(nil, strings.Repeat("x", 30)); err == nil {
		t.Error("30 bytes fit no slot")
	}
	b, err := AppendAuthChoice(nil, "IP", "NULL", "IP")
	if err != nil || len(b) != 90 || !reflect.DeepEqual(ParseAuthChoice(b), []string{"IP", "NULL", "IP"}) {
		t.Error(b, err)
	}
	clear(b[30:60])
	if got := ParseAuthChoice(b); !reflect.DeepEqual(got, []string{"IP"}) {
		t.Error(got)
	}
	if got := ParseAuthChoice(make([]byte, 90)); got != nil {
		t.Error(got)
	}
	if got := ParseAuthChoice(bytes.Repeat([]byte("x"), 90)); len(got) != 3 || len(got[2]) != 30 {
		t.Error(got)
	}
}

func TestRejectMessage(t *testing.T) {
	groups := AppendName(nil, "g")
	b := AppendRejectMessage(nil, TypeJoin|TypeSelfDiscard, "#u#d", NewHint(0, BigEndian), groups, nil)
	if len(b) != RejectSize(groups, 0) {
		t.Errorf("%d bytes, RejectSize %d", len(b), RejectSize(groups, 0))
	}
	m, n, fault := ParseReceived(b)
	if n != len(b) || fault != FaultNone || m.Type != TypeReject|TypeSelfDiscard || m.OldType != TypeCausedByJoin|TypeSelfDiscard {
		t.Fatalf("%+v %d %v", m, n, fault)
	}
	if got := m.Groups.Strings(); !reflect.DeepEqual(got, []string{"g", "#u#d"}) {
		t.Error(got)
	}
	if !bytes.Equal(m.Append(nil), b) {
		t.Error("does not come back")
	}
	var many Groups
	for i := range MaxGroups {
		many = AppendName(many, fmt.Sprint("g", i))
	}
	b = AppendRejectMessage(nil, TypeFIFO, "#u#d", Hint{}, many, []byte("data"))
	m, n, _ = ParseReceived(b)
	if n != len(b) || n != RejectSize(many, 4) || m.Groups.Len() != 100 || string(m.Groups.At(99)) != "g99" || string(m.Data) != "data" || m.OldType != TypeFIFO {
		t.Errorf("%d %d %q", n, m.Groups.Len(), m.Groups.At(99))
	}
}

func TestParseViewRobust(t *testing.T) {
	good := View{Group: "g", Cause: evs.CausedByNetwork, ID: evs.ViewID{1, 2, 3}, Members: []string{"#a#d", "#b#d", "#c#e"}, Sets: [][]string{{"#a#d", "#b#d"}, {"#c#e"}}}
	frame := AppendView(nil, &good, 1)
	parse := func(change func(data []byte) []byte) error {
		m, _, _ := ParseReceived(frame)
		m.Data = change(bytes.Clone(m.Data))
		v, own, err := ParseView(&m)
		if err == nil && (own != 1 || !reflect.DeepEqual(v, good)) {
			t.Errorf("%+v %d", v, own)
		}
		return err
	}
	put := func(at int, v uint32) func([]byte) []byte {
		return func(d []byte) []byte { binary.LittleEndian.PutUint32(d[at:], v); return d }
	}
	if err := parse(func(d []byte) []byte { return append(d, "more than the last set"...) }); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(frame[good.OwnAt():][:4], []byte{68, 0, 0, 0}) {
		t.Errorf("own offset %x", frame[good.OwnAt():][:4])
	}
	if _, ok := good.Changed(); ok {
		t.Error("a network view has no changed member")
	}
	for what, change := range map[string]func([]byte) []byte{
		"no sets":          put(12, 0),
		"sets beyond":      put(12, 3),
		"sets far beyond":  put(12, 0xffffffff),
		"own beyond":       put(16, 1000),
		"own negative":     put(16, 0xffffffec),
		"own inside a set": put(16, 4),
		"set too large":    put(20, 5),
		"set huge":         put(20, 0x08000000),
		"short":            func(d []byte) []byte { return d[:19] },
		"cut in a name":    func(d []byte) []byte { return d[:len(d)-1] },
		"nothing":          func(d []byte) []byte { return nil },
	} {
		if err := parse(change); !errors.Is(err, ErrIllegalMessage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m, _, _ := ParseReceived(AppendTransition(nil, "g", good.ID))
	if id, ok := ParseTransition(&m); !ok || id != good.ID {
		t.Error(id, ok)
	}
	if _, _, err := ParseView(&m); err == nil {
		t.Error("a transitional signal is no view")
	}
	m.Data = nil
	if _, ok := ParseTransition(&m); ok {
		t.Error("an id out of nothing")
	}
}

func TestCheckMulticast(t *testing.T) {
	for _, r := range []struct {
		t      Type
		groups []string
		data   int
		want   Code
	}{
		{TypeSafe, []string{"g"}, 10, 0}, {TypeSafe | TypeSelfDiscard | TypeSubgroupCast, nil, 0, 0}, {0, nil, 0, ErrIllegalService},
		{TypeSafe | TypeFIFO, nil, 0, ErrIllegalService}, {TypeSafe | TypeJoin, nil, 0, ErrIllegalService}, {TypeSafe | TypeRegMemb, nil, 0, ErrIllegalService},
		{TypeSafe | Type(0x80), nil, 0, ErrIllegalService}, {TypeSafe, make([]string, 101), 0, ErrIllegalGroup}, {TypeSafe, []string{strings.Repeat("g", 32)}, 0, ErrIllegalGroup},
		{TypeSafe, []string{"g"}, MaxBody - 32, 0}, {TypeSafe, []string{"g"}, MaxBody - 31, ErrMessageTooLong},
	} {
		if err := CheckMulticast(r.t, r.groups, r.data); r.want == 0 && err != nil || r.want != 0 && !errors.Is(err, r.want) {
			t.Errorf("%v %d groups %d bytes: %v, want %v", r.t, len(r.groups), r.data, err, r.want)
		}
	}
	if MulticastType(evs.FIFO, true) != TypeFIFO|TypeSelfDiscard {
		t.Error("MulticastType")
	}
}

// TestNoAllocation guards the path of every message: parse, check, write.
func TestNoAllocation(t *testing.T) {
	data, groups := make([]byte, 1000), []string{"g1", "g2"}
	in := AppendMulticast(nil, "#alice#localhost", TypeAgreed, 3, groups, data)
	out := make([]byte, 0, 4096)
	view := View{Group: "g", Cause: evs.CausedByJoin, Members: groups, Sets: [][]string{groups[:1]}}
	private := "#alice#localhost"
	if n := testing.AllocsPerRun(100, func() {
		h := ParseHeader(in)
		if h.CheckClient(private) != FaultNone {
			t.Fatal("fault")
		}
		m := Message{Header: h}
		m.Split(in[HeaderSize:])
		AppendRegular(out, m.Type, private, m.Hint, m.Groups, m.Data)
		AppendRegular(out, m.Type, m.Name, m.Hint, m.Groups, m.Data)
		AppendView(out, &view, 0)
		AppendTransition(out, "g", view.ID)
		AppendSelfLeave(out, "g")
		AppendMulticast(out, private, TypeAgreed, 3, groups, data)
		AppendJoin(out, private, "g")
		AppendRejectMessage(out, m.Type, private, m.Hint, m.Groups, m.Data)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseReceived(f *testing.F) {
	v := View{Group: "g", Cause: evs.CausedByNetwork, Members: []string{"#a#d"}, Sets: [][]string{{"#a#d"}}}
	f.Add(AppendView(nil, &v, 0))
	v.Order = BigEndian
	f.Add(AppendView(nil, &v, 0))
	f.Add(AppendMulticast(nil, "#a#d", TypeSafe, -2, []string{"g"}, []byte("data")))
	f.Add(AppendRejectMessage(nil, TypeLeave, "#a#d", Hint{}, AppendName(nil, "g"), nil))
	f.Add(AppendSelfLeave(nil, "g"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, fault := ParseReceived(b)
		if n == 0 {
			return
		}
		if fault != FaultNone || n > len(b) {
			t.Fatal(n, fault)
		}
		again := m.Append(nil)
		if len(again) != n {
			t.Fatalf("%d bytes became %d", n, len(again))
		}
		m2, n2, fault := ParseReceived(again)
		if n2 != n || fault != FaultNone || !bytes.Equal(m2.Append(nil), again) {
			t.Fatal("not stable")
		}
		ParseTransition(&m)
		v, own, err := ParseView(&m)
		if err != nil {
			return
		}
		m3, _, _ := ParseReceived(AppendView(nil, &v, own))
		v3, own3, err := ParseView(&m3)
		if err != nil || own3 != own || !reflect.DeepEqual(v.Sets, v3.Sets) && len(v.Group) < 32 {
			// Names of 32 bytes are cut at 31; everything else comes back.
			for _, s := range v.Sets {
				for _, name := range s {
					if len(name) == 32 {
						return
					}
				}
			}
			t.Fatalf("%+v %d became %+v %d: %v", v, own, v3, own3, err)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x04\x04\x00\x01\x05alice"))
	f.Add([]byte("\x03\x0e\x01\x05ver14"))
	f.Add([]byte("\x05NULL "))
	f.Add([]byte("\x01\x04\x04\x00\x04#u#d"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, n, code := ParseConnect(b); n > 0 {
			if code != 0 || n > MaxConnect || !bytes.Equal(c.Append(nil), b[:n]) {
				t.Fatalf("%+v %d %v", c, n, code)
			}
			ParseAccept(b, c.Version)
		}
		ConnectInName(b)
		ParseAuthList(b)
		ParseAccept(b, Ours)
		if len(b) >= AuthChoiceSize {
			ParseAuthChoice(b)
		}
	})
}

func BenchmarkAppendRegular(b *testing.B) {
	for _, size := range []int{100, 1350, 8192, 65000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			groups, data := Groups(AppendName(nil, "group")), make([]byte, size)
			out := make([]byte, 0, RegularSize(groups, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				AppendRegular(out, TypeAgreed, "#alice#localhost", Hint{}, groups, data)
			}
		})
	}
}
