// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

var update = flag.Bool("update", false, "write testdata/own.txt anew")

// ownCase is one unit of the dialect: how it is written, and what a reader makes of it.
type ownCase struct {
	name  string
	bytes []byte
	want  any
}

var ownID = evs.ViewID{0x01020304, 5, 6}

// ownCases has a frame of each type. The file testdata/own.txt has their bytes.
func ownCases() []ownCase {
	hello := OwnHello{Membership: true, PingMillis: 5000, User: "blümchen", Program: "test 1", Capabilities: []string{OwnCapEvict, OwnCapQuery}}
	methods := []OwnMethod{{Name: AuthNull}, {Name: AuthPassword, Credentials: true, Required: true}}
	welcome := OwnWelcomeInfo{
		Version: 1, PingMillis: 5000, MessageLimit: DefaultOwnMessage, GroupsLimit: MaxOwnGroups, Session: 77,
		Private: "#blümchen#d1", Short: "#!25#d1", Daemon: "d1", Program: "evensong 0", Cluster: "c", Capabilities: []string{OwnCapEvict},
		Daemons: []OwnDaemon{{"d2", []string{"10.0.0.2:4803", "h2:4803"}}, {"d3", []string{"h3:4803"}}},
	}
	closed := OwnCloseInfo{ErrConnectionClosed, "slow-bytes", "the client did not read"}
	cast := OwnCast{Request: 9, Type: TypeAgreed | TypeSelfDiscard, Hint: NewHint(-2, BigEndian), Groups: names("a", "g2"), Count: 2, Data: []byte("data")}
	reject := OwnRejectInfo{4, ErrIllegalGroup, OwnJoin, []byte("#no"), "a group name has no '#'"}
	groups := OwnGroupList{3, OwnQueryMore, []OwnGroupEntry{{"a", ownID, 2}, {"b", ownID, 70000}}}
	members := OwnMemberList{3, OwnQuerySettling, 100, 102, ownID, []string{"#a#d1", "#b#d1"}}
	msg := OwnMsg{Type: TypeSafe, Hint: NewHint(7, LittleEndian), Sender: []byte("#a#d1"), Groups: names("g"), Count: 1, Data: []byte{0, 1, 2}}
	join := OwnViewInfo{Group: "g", ID: ownID, Cause: evs.CausedByJoin, Detail: evs.DetailAsked, Changed: "#b#d1", Members: []string{"#a#d1", "#b#d1"}}
	network := OwnViewInfo{
		Group: "g", ID: ownID, Cause: evs.CausedByNetwork, Detail: evs.DetailDaemons,
		Members: []string{"#a#d1", "#b#d2", "#c#d3"}, SetOf: []uint32{1, 0, 1}, Sets: 2, Own: 1,
	}
	return []ownCase{
		{"hello", hello.Append(nil), hello},
		{"METHODS", AppendOwnMethods(nil, methods), methods},
		{"CHOICE", AppendOwnChoice(nil, AuthNull, "IP"), names(AuthNull, "IP")},
		{"CREDENTIALS", AppendOwnCredentials(nil, AuthPassword, []byte("secret")), [2]string{AuthPassword, "secret"}},
		{"WELCOME", AppendOwnWelcome(nil, &welcome), welcome},
		{"CLOSE", AppendOwnClose(nil, &closed), closed},
		{"PING", AppendOwnPing(nil, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}), [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{"PONG", AppendOwnPong(nil, [8]byte{8}), [8]byte{8}},
		{"BYE", AppendOwnBye(nil), nil},
		{"JOIN", AppendOwnJoin(nil, 1, "grün"), [2]any{uint32(1), "grün"}},
		{"LEAVE", AppendOwnLeave(nil, 0, "g"), [2]any{uint32(0), "g"}},
		{"MULTICAST", AppendOwnMulticast(nil, 1, 9, cast.Type, cast.Hint, []string{"a", "g2"}, cast.Data), cast},
		{"EVICT", AppendOwnEvict(nil, 2, ownID, "g", "#b#d1"), OwnEviction{2, ownID, []byte("g"), []byte("#b#d1")}},
		{"LIST_GROUPS", AppendOwnListGroups(nil, 3, 10, "a"), OwnGroupQuery{3, 10, []byte("a")}},
		{"LIST_MEMBERS", AppendOwnListMembers(nil, 3, 100, 0, "g"), OwnMemberQuery{3, 100, 0, []byte("g")}},
		{"ACK", AppendOwnAck(nil, OwnAckInfo{1, OwnVoid, ownID}), OwnAckInfo{1, OwnVoid, ownID}},
		{"RECEIPT", AppendOwnReceipt(nil, 9), uint32(9)},
		{"REJECT", AppendOwnReject(nil, &reject), reject},
		{"GROUPS", AppendOwnGroups(nil, &groups), groups},
		{"MEMBERS", AppendOwnMembers(nil, &members), members},
		{"MESSAGE", AppendOwnMessage(nil, 1, msg.Type, msg.Hint, "#a#d1", [][]byte{[]byte("g")}, msg.Data), msg},
		{"VIEW join", AppendOwnView(nil, 1, &join), join},
		{"VIEW network", AppendOwnView(nil, 1, &network), network},
		{"TRANSITION", AppendOwnTransition(nil, "g", ownID), [2]any{"g", ownID}},
		{"SELF_LEAVE", AppendOwnSelfLeave(nil, "g", ownID, evs.DetailEvicted), [3]any{"g", ownID, evs.DetailEvicted}},
		{"DAEMONS", AppendOwnDaemons(nil, welcome.Daemons), welcome.Daemons},
		{"PRIMARY", AppendOwnPrimary(nil, evs.PrimaryYes), evs.PrimaryYes},
	}
}

func names(list ...string) (out OwnNames) {
	for _, s := range list {
		out = appendText(out, s)
	}
	return out
}

// parseOwn reads the body of any frame.
func parseOwn(t OwnType, b []byte) (any, OwnFault) {
	switch t {
	case OwnMethods:
		return two(ParseOwnMethods(b))
	case OwnChoice:
		return two(ParseOwnChoice(b))
	case OwnCredentials:
		method, credentials, fault := ParseOwnCredentials(b)
		return [2]string{string(method), string(credentials)}, fault
	case OwnWelcome:
		return two(ParseOwnWelcome(b))
	case OwnClose:
		return two(ParseOwnClose(b))
	case OwnPing, OwnPong:
		return two(ParseOwnToken(b))
	case OwnBye:
		return nil, ParseOwnBye(b)
	case OwnJoin, OwnLeave:
		request, group, fault := ParseOwnGroup(b)
		return [2]any{request, string(group)}, fault
	case OwnMulticast:
		return two(ParseOwnMulticast(b))
	case OwnEvict:
		return two(ParseOwnEvict(b))
	case OwnListGroups:
		return two(ParseOwnListGroups(b))
	case OwnListMembers:
		return two(ParseOwnListMembers(b))
	case OwnAck:
		return two(ParseOwnAck(b))
	case OwnReceipt:
		return two(ParseOwnReceipt(b))
	case OwnReject:
		return two(ParseOwnReject(b))
	case OwnGroups:
		return two(ParseOwnGroups(b))
	case OwnMembers:
		return two(ParseOwnMembers(b))
	case OwnMessage:
		return two(ParseOwnMessage(b))
	case OwnView:
		return two(ParseOwnView(b))
	case OwnTransition:
		group, id, fault := ParseOwnTransition(b)
		return [2]any{string(group), id}, fault
	case OwnSelfLeave:
		group, id, why, fault := ParseOwnSelfLeave(b)
		return [3]any{string(group), id, why}, fault
	case OwnDaemons:
		return two(ParseOwnDaemons(b))
	case OwnPrimary:
		return two(ParseOwnPrimary(b))
	case OwnPiece:
	}
	return nil, OwnFaultType
}

func two[T any](v T, fault OwnFault) (any, OwnFault) { return v, fault }

func TestOwnGolden(t *testing.T) {
	const file = "testdata/own.txt"
	if *update {
		var out strings.Builder
		out.WriteString("# One unit of the own dialect a line: its name, then its bytes. TestOwnGolden has what they mean.\n")
		for _, c := range ownCases() {
			fmt.Fprintf(&out, "%s: %x\n", c.name, c.bytes)
		}
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	golden := map[string][]byte{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, digits, ok := strings.Cut(s.Text(), ": "); ok && name[0] != '#' {
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			golden[name] = b
		}
	}
	seen := map[OwnType]bool{OwnPiece: true}
	for _, c := range ownCases() {
		b := golden[c.name]
		delete(golden, c.name)
		if !bytes.Equal(b, c.bytes) {
			t.Errorf("%s is written\n%x, want\n%x", c.name, c.bytes, b)
			continue
		}
		if c.name == "hello" {
			h, n, fault := ParseOwnHello(b)
			if fault != OwnFine || n != len(b) || !reflect.DeepEqual(h, c.want) {
				t.Errorf("hello: %+v %d %v", h, n, fault)
			}
			continue
		}
		h, fault := ParseOwnHeader(b)
		if word, _, _ := strings.Cut(c.name, " "); fault != OwnFine || h.Type.String() != word || h.Length != len(b)-OwnHeaderSize {
			t.Errorf("%s: header %+v, %v", c.name, h, fault)
		}
		seen[h.Type] = true
		if got, fault := parseOwn(h.Type, b[OwnHeaderSize:]); fault != OwnFine || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is read as\n%+v (%v), want\n%+v", c.name, got, fault, c.want)
		}
	}
	for name := range golden {
		t.Errorf("%s is in the file only", name)
	}
	for typ := range ownTypeNames {
		if !seen[typ] {
			t.Errorf("%v has no golden bytes", typ)
		}
		if typ.FromClient() == typ.FromDaemon() && typ > OwnPong {
			t.Errorf("%v belongs to both sides or to none", typ)
		}
	}
}

// TestOwnCut: a body that ends early is refused at every length, one that has more too, and nothing is allocated for it.
func TestOwnCut(t *testing.T) {
	open := map[OwnType]bool{OwnCredentials: true, OwnClose: true, OwnReject: true, OwnMulticast: true, OwnMessage: true} // end with the body
	for _, c := range ownCases() {
		if c.name == "hello" {
			for n := range len(c.bytes) {
				if _, k, fault := ParseOwnHello(c.bytes[:n]); k != 0 || fault != OwnFine {
					t.Errorf("hello cut at %d: %d, %v", n, k, fault)
				}
			}
			continue
		}
		h, _ := ParseOwnHeader(c.bytes)
		body := c.bytes[OwnHeaderSize:]
		for n := range len(body) {
			if _, fault := parseOwn(h.Type, body[:n]); fault == OwnFine && !open[h.Type] {
				t.Errorf("%s cut at %d of %d is taken", c.name, n, len(body))
			}
		}
		if _, fault := parseOwn(h.Type, append(bytes.Clone(body), 0)); fault != OwnFaultTrailing && !open[h.Type] {
			t.Errorf("%s with a byte more: %v", c.name, fault)
		}
	}
	huge := []byte{3, 0, 0, 0, 0, 0, 0xff, 0xff}
	if n := testing.AllocsPerRun(10, func() { ParseOwnGroups(huge) }); n != 0 {
		t.Errorf("%v allocations for a count without entries", n)
	}
}

func TestOwnFaults(t *testing.T) {
	hint := NewHint(0, LittleEndian)
	multicast := func(typ Type, hint Hint) []byte {
		return AppendOwnMulticast(nil, 1, 0, typ, hint, []string{"g"}, nil)[OwnHeaderSize:]
	}
	view := OwnViewInfo{Group: "g", Cause: evs.CausedByNetwork, Members: []string{"#a#d"}, SetOf: []uint32{0}, Sets: 1}
	viewWith := func(change func(*OwnViewInfo)) []byte {
		v := view
		change(&v)
		return AppendOwnView(nil, 1, &v)[OwnHeaderSize:]
	}
	for _, c := range []struct {
		name string
		t    OwnType
		body []byte
		want OwnFault
	}{
		{"two services", OwnMulticast, multicast(TypeAgreed|TypeSafe, hint), OwnFaultService},
		{"no service", OwnMulticast, multicast(0, hint), OwnFaultService},
		{"a join inside", OwnMulticast, multicast(TypeAgreed|TypeJoin, hint), OwnFaultService},
		{"daemons' bits", OwnMulticast, multicast(TypeAgreed|TypeRegMemb, hint), OwnFaultService},
		{"hint", OwnMulticast, multicast(TypeAgreed, Hint{1}), OwnFaultHint},
		{"reserved", OwnMulticast, func() []byte { b := multicast(TypeAgreed, hint); b[15] = 1; return b }(), OwnFaultReserved},
		{"groups", OwnMulticast, func() []byte { b := multicast(TypeAgreed, hint); b[13] = 0xff; return b }(), OwnFaultCount},
		{"method flags", OwnMethods, []byte{1, 4, 1, 'a'}, OwnFaultFlags},
		{"method without a name", OwnMethods, []byte{1, 0, 0}, OwnFaultText},
		{"long credentials", OwnCredentials, append([]byte{1, 'a'}, make([]byte, MaxCredentials+1)...), OwnFaultTooLong},
		{"close not UTF-8", OwnClose, []byte{0, 0, 1, 'a', 0xff}, OwnFaultText},
		{"query flags", OwnGroups, []byte{0, 0, 0, 0, 8, 0, 0, 0}, OwnFaultFlags},
		{"view without cause", OwnView, viewWith(func(v *OwnViewInfo) { v.Cause = 0 }), OwnFaultIndex},
		{"view of a fifth cause", OwnView, viewWith(func(v *OwnViewInfo) { v.Cause = 5 }), OwnFaultIndex},
		{"network view with who changed", OwnView, viewWith(func(v *OwnViewInfo) { v.Changed = "#a#d" }), OwnFaultIndex},
		{"own set", OwnView, viewWith(func(v *OwnViewInfo) { v.Own = 1 }), OwnFaultIndex},
		{"a member's set", OwnView, viewWith(func(v *OwnViewInfo) { v.SetOf = []uint32{1} }), OwnFaultIndex},
		{"more sets than members", OwnView, viewWith(func(v *OwnViewInfo) { v.Sets = 2 }), OwnFaultIndex},
		{"join view without who", OwnView, viewWith(func(v *OwnViewInfo) { v.Cause, v.Sets = evs.CausedByJoin, 0 }), OwnFaultIndex},
		{"view that claims members", OwnView, func() []byte { b := viewWith(func(*OwnViewInfo) {}); b[19] = 0x7f; return b }(), OwnFaultShort},
	} {
		if _, fault := parseOwn(c.t, c.body); fault != c.want {
			t.Errorf("%s: %v, want %v", c.name, fault, c.want)
		}
	}
	for _, c := range []struct {
		hello string
		want  OwnFault
	}{
		{"EVX", OwnFaultMagic}, {"X", OwnFaultMagic}, {"EVS\x02", OwnFaultVersion}, {"EVS\x01\xff\xff\x00\x00", OwnFaultLength},
		{"EVS\x01\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00", OwnFaultFlags},
		{"EVS\x01\x0a\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", OwnFaultReserved},
		{"EVS\x01\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff\x00", OwnFaultText},
		{"EVS\x01\x0b\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", OwnFaultText},
		{"EVS\x01\x0a\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", OwnFaultShort},
	} {
		if _, n, fault := ParseOwnHello([]byte(c.hello)); n != 0 || fault != c.want {
			t.Errorf("hello %q: %d %v, want %v", c.hello, n, fault, c.want)
		}
	}
	for _, c := range []struct {
		header [8]byte
		want   OwnFault
	}{
		{[8]byte{1, 0, 2, 0, 19}, OwnFaultLength}, {[8]byte{0, 0, 0, 0, 19, 2}, OwnFaultFlags}, {[8]byte{0, 0, 0, 0, 19, 1}, OwnFaultStream},
		{[8]byte{0, 0, 0, 0, 19, 0, 1}, OwnFaultStream}, {[8]byte{0, 0, 0, 0, 1}, OwnFaultStream}, {[8]byte{0, 0, 2, 0, 19}, OwnFine},
	} {
		if _, fault := ParseOwnHeader(c.header[:]); fault != c.want {
			t.Errorf("header %x: %v, want %v", c.header, fault, c.want)
		}
	}
}

// feed hands frames to an assembly and returns the bodies that became whole.
func feed(t *testing.T, a *OwnAssembly, b []byte) (bodies [][]byte) {
	t.Helper()
	for len(b) > 0 {
		h, fault := ParseOwnHeader(b)
		if fault != OwnFine {
			t.Fatal(fault)
		}
		end := OwnHeaderSize + h.Length
		_, whole, done, fault := a.Add(h, b[OwnHeaderSize:end])
		if fault != OwnFine {
			t.Fatal(fault)
		}
		if done {
			bodies = append(bodies, whole)
		}
		b = b[end:]
	}
	return bodies
}

func TestOwnPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	overhead := OwnMulticastSize([]string{"g"}, 0) - OwnHeaderSize
	for _, n := range []int{0, 1, OwnFragment - overhead, OwnFragment - overhead + 1, OwnFragment, 2*OwnFragment - overhead - 4, 2*OwnFragment - overhead - 3, 3*OwnFragment + 17} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		b := AppendOwnMulticast([]byte("before"), 3, 1, TypeAgreed, NewHint(1, LittleEndian), []string{"g"}, data)[6:]
		if want := OwnMulticastSize([]string{"g"}, n); len(b) != want {
			t.Errorf("%d bytes of data: %d on the wire, want %d", n, len(b), want)
		}
		a := OwnAssembly{Limit: n + overhead}
		bodies := feed(t, &a, b)
		if len(bodies) != 1 || a.Pending() || a.Bytes() != 0 {
			t.Fatalf("%d bytes: %d bodies, %d bytes left", n, len(bodies), a.Bytes())
		}
		c, fault := ParseOwnMulticast(bodies[0])
		if fault != OwnFine || !bytes.Equal(c.Data, data) {
			t.Errorf("%d bytes: %v, %d came", n, fault, len(c.Data))
		}
	}
	if got := AppendOwnMulticast(nil, 3, 1, TypeAgreed, NewHint(1, LittleEndian), nil, make([]byte, OwnFragment)); cap(got) > 0 && got[5] != 1 {
		t.Errorf("first piece has flags %d", got[5])
	}
}

// TestOwnPiecesMixed: two long bodies and a short one alternate.
func TestOwnPiecesMixed(t *testing.T) {
	one := AppendOwnMulticast(nil, 1, 1, TypeAgreed, NewHint(1, LittleEndian), nil, bytes.Repeat([]byte{1}, 2*OwnFragment))
	two := AppendOwnMulticast(nil, 2, 2, TypeAgreed, NewHint(1, LittleEndian), nil, bytes.Repeat([]byte{2}, 2*OwnFragment))
	short := AppendOwnJoin(nil, 3, "g")
	f := OwnHeaderSize + OwnFragment
	a := OwnAssembly{Limit: 5 * OwnFragment}
	var mixed []byte
	for _, part := range [][]byte{one[:f], two[:f], short, two[f : 2*f], one[f : 2*f], one[2*f:], short, two[2*f:]} {
		mixed = append(mixed, part...)
	}
	bodies := feed(t, &a, mixed)
	if len(bodies) != 4 || bodies[0][0] != 3 || bodies[1][0] != 1 || bodies[2][0] != 3 || bodies[3][0] != 2 || bodies[3][len(bodies[3])-1] != 2 {
		t.Errorf("%d bodies", len(bodies))
	}
}

func TestOwnPieceFaults(t *testing.T) {
	first := func(stream uint16, want uint32, body string) (OwnHeader, []byte) {
		return OwnHeader{Type: OwnMulticast, More: true, Stream: stream}, append(LittleEndian.AppendUint32(nil, want), body...)
	}
	piece := func(stream uint16, more bool) OwnHeader { return OwnHeader{Type: OwnPiece, More: more, Stream: stream} }
	begin := func() *OwnAssembly {
		a := &OwnAssembly{Limit: 10}
		h, b := first(1, 4, "ab")
		if _, _, done, fault := a.Add(h, b); done || fault != OwnFine || a.Bytes() != 2 {
			t.Fatal(done, fault)
		}
		return a
	}
	check := func(name string, a *OwnAssembly, h OwnHeader, body []byte, want OwnFault) {
		t.Helper()
		if _, whole, done, fault := a.Add(h, body); done || whole != nil || fault != want {
			t.Errorf("%s: %v, want %v", name, fault, want)
		}
	}
	h, b := first(1, 4, "")
	check("stream in use", begin(), h, b, OwnFaultStream)
	check("piece of nothing", begin(), piece(2, true), nil, OwnFaultStream)
	check("too much", begin(), piece(1, false), []byte("cde"), OwnFaultPiece)
	check("too little", begin(), piece(1, false), []byte("c"), OwnFaultPiece)
	h, b = first(2, 7, "")
	check("together too long", begin(), h, b, OwnFaultTooLong)
	check("no length", begin(), OwnHeader{Type: OwnMulticast, More: true, Stream: 2}, []byte{1, 2, 3}, OwnFaultShort)
	check("whole too long", begin(), OwnHeader{Type: OwnMulticast}, make([]byte, 11), OwnFaultTooLong)
	a := begin()
	for i := range uint16(OwnStreams - 1) {
		h, b := first(2+i, 0, "")
		check("one of eight", a, h, b, OwnFine)
	}
	h, b = first(99, 0, "")
	check("the ninth", a, h, b, OwnFaultStreams)
	a.Drop()
	if a.Pending() || a.Bytes() != 0 {
		t.Error("something is left")
	}
}

func TestLegalOwnNames(t *testing.T) {
	long := strings.Repeat("ü", 127)
	for name, want := range map[string]bool{
		"": false, "g": true, "a b": true, "grün": true, long: true, long + "x": true, long + "ü": false, "a#b": false, "a\x00b": false,
		"\x7f": false, "a\u0085": false, "\xff": false, "!x": true,
	} {
		if got := LegalOwnGroup(name); got != want {
			t.Errorf("group %q: %v", name, got)
		}
	}
	if LegalOwnUser("!x", 10) || !LegalOwnUser("x!", 10) || LegalOwnUser("abc", 2) || LegalOwnUser("", 2) || MaxOwnUser("d1") != 251 {
		t.Error("user names")
	}
}

// The short names that package evs makes are of those that the original has room for, but no name of a user.
func TestShortNames(t *testing.T) {
	for _, user := range []string{"", "a", "abcdefghij", "abcdefghijk", "a b", "grün", "!1", "$~", "a#b", "\x7f"} {
		if evs.FitsOriginal(user) != LegalUser(user) {
			t.Errorf("%q fits: %v", user, evs.FitsOriginal(user))
		}
	}
	for _, session := range []uint64{0, 1, 35, 36, 1 << 40, 101559956668415} {
		private := PrivateName("a-long-name", "nineteen-characters")
		s := evs.ShortPrivate(private, "a-long-name", session, "nineteen-characters")
		user, _, _ := strings.Cut(s[1:], "#")
		back, ok := evs.ParseShortUser([]byte(user))
		if len(s) > MaxGroupName || !ok || back != session || LegalUser(user) || LegalOwnUser(user, 100) {
			t.Errorf("session %d is %q, read as %d %v", session, s, back, ok)
		}
	}
	for _, bad := range []string{"", "!", "!01", "!A", "1", "!0123456789", "!a-"} {
		if n, ok := evs.ParseShortUser([]byte(bad)); ok {
			t.Errorf("%q is read as %d", bad, n)
		}
	}
}

func FuzzOwnFrames(f *testing.F) {
	for _, c := range ownCases() {
		f.Add(c.bytes)
	}
	f.Add(AppendOwnMulticast(nil, 1, 1, TypeAgreed, NewHint(1, LittleEndian), []string{"g"}, make([]byte, OwnFragment)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, n, fault := ParseOwnHello(b); fault == OwnFine && n > 0 {
			if got := h.Append(nil); !bytes.Equal(got, b[:n]) {
				t.Errorf("hello %x is written as %x", b[:n], got)
			}
			return
		}
		a := OwnAssembly{Limit: 1 << 20}
		for len(b) >= OwnHeaderSize {
			h, fault := ParseOwnHeader(b)
			if fault != OwnFine || len(b) < OwnHeaderSize+h.Length {
				return
			}
			if got := h.Append(nil); !bytes.Equal(got, b[:OwnHeaderSize]) {
				t.Errorf("header %x is written as %x", b[:OwnHeaderSize], got)
			}
			typ, whole, done, fault := a.Add(h, b[OwnHeaderSize:OwnHeaderSize+h.Length])
			if fault != OwnFine {
				return
			}
			if done {
				checkRoundTrip(t, typ, whole)
			}
			b = b[OwnHeaderSize+h.Length:]
		}
	})
}

// checkRoundTrip wants what can be read to be written the same way again.
func checkRoundTrip(t *testing.T, typ OwnType, body []byte) {
	v, fault := parseOwn(typ, body)
	if fault != OwnFine {
		return
	}
	var got []byte
	switch v := v.(type) {
	case []OwnMethod:
		got = AppendOwnMethods(nil, v)
	case OwnWelcomeInfo:
		got = AppendOwnWelcome(nil, &v)
	case OwnCloseInfo:
		got = AppendOwnClose(nil, &v)
		if len(v.Sentence) > maxSentence {
			return
		}
	case OwnCast:
		got = AppendOwnMulticast(nil, 1, v.Request, v.Type, v.Hint, v.Groups.Strings(), v.Data)
	case OwnEviction:
		got = AppendOwnEvict(nil, v.Request, v.View, string(v.Group), string(v.Member))
	case OwnGroupQuery:
		got = AppendOwnListGroups(nil, v.Request, uint16(v.Most), string(v.After))
	case OwnMemberQuery:
		got = AppendOwnListMembers(nil, v.Request, v.First, uint16(v.Most), string(v.Group))
	case OwnAckInfo:
		got = AppendOwnAck(nil, v)
	case OwnGroupList:
		got = AppendOwnGroups(nil, &v)
	case OwnMemberList:
		got = AppendOwnMembers(nil, &v)
	case OwnMsg:
		var groups [][]byte
		for g := range v.Groups.All() {
			groups = append(groups, g)
		}
		got = AppendOwnMessage(nil, 1, v.Type, v.Hint, string(v.Sender), groups, v.Data)
		if len(got) != OwnSize(OwnMessageBody(string(v.Sender), groups, len(v.Data))) || v.Type&0x80000080 != 0 {
			return
		}
	case OwnViewInfo:
		got = AppendOwnView(nil, 1, &v)
		if v.Cause != evs.CausedByNetwork {
			return // the sets of members mean nothing then
		}
	case []OwnDaemon:
		got = AppendOwnDaemons(nil, v)
	default:
		return
	}
	a := OwnAssembly{Limit: MaxOwnBody}
	bodies := feed(t, &a, got)
	if len(bodies) != 1 || !bytes.Equal(bodies[0], body) {
		t.Errorf("%v %x is written as %x", typ, body, got)
	}
}
