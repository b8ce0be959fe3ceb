// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// The bytes, as the diagrams have them.
func TestGoldenPayloads(t *testing.T) {
	data := &Data{
		Session: 0x0102030405060708, Sender: "al", Type: 0x10, Hint: [4]byte{0x80, 1, 2, 0x80},
		Groups: [][]byte{[]byte("g1"), {}, []byte("#b#d")}, Body: []byte("hi"),
	}
	state := encodeState(evs.RingID{Seq: 5, Rep: 6}, []uint16{0, 2}, []stateGroup{
		{name: "g", id: evs.ViewID{1, 2, 3}, signalled: true, members: []stateMember{{0, 9, "u"}, {2, 1, "v"}}},
	}, 1000)
	for _, c := range []struct{ name, got, want string }{
		{"data", hex.EncodeToString(AppendData([]byte{0xEE}, data)),
			"ee" + "01020300" + "10000000" + "80010280" + "0807060504030201" + "616c" + "026731" + "00" + "0423622364" + "6869"},
		{"join", hex.EncodeToString(AppendJoin(nil, 7, "al", "g1")), "02020200" + "0700000000000000" + "616c" + "6731"},
		{"leave", hex.EncodeToString(AppendLeave(nil, 7, "al", "g1")), "03020200" + "0700000000000000" + "616c" + "6731"},
		{"disconnect", hex.EncodeToString(AppendDisconnect(nil, 7, "al", evs.DetailSlow)), "04020003" + "0700000000000000" + "616c"},
		{"join with a request", hex.EncodeToString(AppendJoinRequest(nil, &Change{Session: 7, User: "al", Group: "g1", Request: 9})), "02020201" + "0700000000000000" + "09000000" + "616c" + "6731"},
		{"leave with a request", hex.EncodeToString(AppendLeaveRequest(nil, &Change{Session: 7, User: "al", Group: "g1", Request: 9})), "03020201" + "0700000000000000" + "09000000" + "616c" + "6731"},
		{"evict", hex.EncodeToString(AppendEvict(nil, &Change{Session: 7, User: "al", Group: "g1", Request: 9, Member: "#b#d", View: evs.ViewID{1, 2, 3}})),
			"06020204" + "0700000000000000" + "09000000" + "010000000200000003000000" + "616c" + "6731" + "23622364"},
		{"cast", hex.EncodeToString(AppendData(nil, &Data{Session: 1, Sender: "al", Type: 0x10, Groups: [][]byte{[]byte("g")}, Body: []byte("hi"), Request: 5})),
			"07020100" + "10000000" + "00000000" + "0100000000000000" + "05000000" + "616c" + "0167" + "6869"},
		{"state", hex.EncodeToString(bytes.Join(state, nil)),
			"05010200" + "00000000" + "0500000000000000" + "0600000000000000" + "00000200" +
				"01010200" + "010000000200000003000000" + "67" +
				"00000100" + "0900000000000000" + "75" + "02000100" + "0100000000000000" + "76"},
	} {
		if c.got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, c.got, c.want)
		}
	}
	var back Data
	user, _, ok := parseData(AppendData(nil, data), nil, &back)
	back.Sender = string(user)
	if !ok || !reflect.DeepEqual(&back, data) {
		t.Errorf("got %+v, want %+v", back, data)
	}
}

// Every payload cut short, and every one with a wrong byte at a checked place, is refused.
func TestMalformed(t *testing.T) {
	flip := func(p []byte, at int, to byte) []byte {
		p = slices.Clone(p)
		p[at] = to
		return p
	}
	data := AppendData(nil, &Data{Sender: "al", Groups: [][]byte{[]byte("g1")}})
	for i := range data {
		if _, names, ok := parseData(data[:i], make([][]byte, 1, 4), &Data{}); ok || len(names) != 1 {
			t.Errorf("data of %d bytes accepted, or names left", i)
		}
	}
	join := AppendJoin(nil, 1, "al", "g1")
	for _, p := range [][]byte{
		append(slices.Clone(join), 0), flip(join, 3, 1), AppendJoin(nil, 1, "", "g"), AppendJoin(nil, 1, "al", ""),
		append(AppendDisconnect(nil, 1, "al", 0), 'x'), flip(append(AppendDisconnect(nil, 1, "al", 0), 'x'), 2, 1),
	} {
		if _, ok := parseChange(p); ok {
			t.Errorf("%x accepted", p)
		}
	}
	cast := AppendData(nil, &Data{Sender: "al", Groups: [][]byte{[]byte("g1")}, Request: 1})
	for i := range cast {
		if _, names, ok := parseData(cast[:i], make([][]byte, 1, 4), &Data{}); ok || len(names) != 1 {
			t.Errorf("cast of %d bytes accepted, or names left", i)
		}
	}
	if _, _, ok := parseData(flip(cast, dataHeader, 0), nil, &Data{}); ok {
		t.Error("a cast without a request number accepted")
	}
	asked := AppendJoinRequest(nil, &Change{Session: 1, User: "al", Group: "g1", Request: 1})
	evict := AppendEvict(nil, &Change{Session: 1, User: "al", Group: "g1", Member: "#b#d"})
	for _, p := range [][]byte{flip(asked, opHeader, 0), flip(asked, 3, 2), append(slices.Clone(evict), 0), flip(evict, 0, 8)} {
		if _, ok := parseChange(p); ok {
			t.Errorf("%x accepted", p)
		}
	}
	for _, p := range [][]byte{join, asked, evict} {
		for i := range p {
			if _, ok := parseChange(p[:i]); ok {
				t.Errorf("%d bytes of %x accepted", i, p)
			}
		}
		if _, ok := parseChange(p); !ok {
			t.Errorf("%x refused", p)
		}
	}

	member := []stateMember{{0, 9, "u"}}
	enc := func(cover []uint16, gs ...stateGroup) []byte {
		return encodeState(evs.RingID{Seq: 1}, cover, gs, 1<<20)[0]
	}
	good := enc([]uint16{0, 2}, stateGroup{name: "g", members: []stateMember{{0, 9, "u"}, {2, 1, "v"}}})
	if _, ok := parseState(good, 3); !ok {
		t.Fatal("good state refused")
	}
	for i := range good {
		if s, ok := parseState(good[:i], 3); ok && len(s.groups) != 0 {
			t.Errorf("state of %d bytes accepted", i)
		}
	}
	for name, p := range map[string][]byte{
		"flags":          flip(good, 1, 3),
		"no daemons":     enc(nil),
		"four of three":  enc([]uint16{0, 1, 2, 3}),
		"daemon 3 of 3":  enc([]uint16{0, 3}),
		"daemons twice":  enc([]uint16{1, 1}),
		"daemons order":  enc([]uint16{1, 0}),
		"group flags":    flip(good, stateHeader+4+1, 2),
		"group order":    enc([]uint16{0}, stateGroup{name: "h", members: member}, stateGroup{name: "g", members: member}),
		"group twice":    enc([]uint16{0}, stateGroup{name: "g", members: member}, stateGroup{name: "g", members: member}),
		"private name":   enc([]uint16{0}, stateGroup{name: "#g", members: member}),
		"no name":        enc([]uint16{0}, stateGroup{members: member}),
		"no members":     flip(good, stateHeader+4+2, 0),
		"too many":       flip(good, stateHeader+4+2, 3),
		"foreign daemon": enc([]uint16{0}, stateGroup{name: "g", members: []stateMember{{1, 9, "u"}}}),
		"member order":   enc([]uint16{0}, stateGroup{name: "g", members: []stateMember{{0, 9, "u"}, {0, 8, "t"}}}),
		"member twice":   enc([]uint16{0}, stateGroup{name: "g", members: []stateMember{{0, 9, "u"}, {0, 9, "u"}}}),
		"no user":        enc([]uint16{0}, stateGroup{name: "g", members: []stateMember{{0, 9, ""}}}),
		"zero byte":      flip(good, stateHeader+4+stateGroupHeader+1+3, 1),
	} {
		if _, ok := parseState(p, 3); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, f := range map[string]func(){
		"user":   func() { AppendJoin(nil, 1, strings.Repeat("x", 256), "g") },
		"sender": func() { AppendData(nil, &Data{Sender: strings.Repeat("x", 256)}) },
		"group":  func() { AppendData(nil, &Data{Groups: [][]byte{make([]byte, 256)}}) },
	} {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// A state comes back whole from parts of any size.
func TestStateParts(t *testing.T) {
	var groups []stateGroup
	for i := range 5 {
		g := stateGroup{name: fmt.Sprint("group", i), id: evs.ViewID{1, uint32(i), 3}, signalled: i%2 == 0}
		for j := range 7 * (i%3 + 1) {
			g.members = append(g.members, stateMember{uint16(j / 4), uint64(j), fmt.Sprint("user", j%4)})
		}
		groups = append(groups, g)
	}
	cover := []uint16{0, 1, 2, 3, 4, 5, 6}
	for _, limit := range []int{1, 60, 100, 333, 1000, 1 << 20} {
		m := &Machine{conf: &evs.Configuration{}, ex: exchange{covered: make([]bool, 8), left: 8}}
		parts := encodeState(evs.RingID{Seq: 1}, cover, groups, limit)
		for i, p := range parts {
			s, ok := parseState(p, 8)
			if !ok || s.last != (i == len(parts)-1) || len(p) > max(limit, 120) {
				t.Fatalf("limit %d: part %d of %d, %d bytes: %v", limit, i, len(parts), len(p), ok)
			}
			if !m.addPart(&s) {
				t.Fatalf("limit %d: part %d does not follow", limit, i)
			}
			if m.addPart(&s) {
				t.Fatalf("limit %d: part %d came twice", limit, i)
			}
		}
		if !reflect.DeepEqual(m.ex.streams[0].groups, groups) || m.ex.left != 1 {
			t.Fatalf("limit %d: got %+v", limit, m.ex.streams[0].groups)
		}
	}
}

func TestViewIDs(t *testing.T) {
	rep := evs.ProcID{Rank: 1, Name: "d1", Inc: 7}
	reg := evs.RegularID(evs.RingID{Seq: 5, Rep: 7})
	seen := map[evs.ViewID]string{}
	for name, id := range map[string]evs.ViewID{
		"first":        viewID(reg, rep, 1),
		"index":        viewID(reg, rep, 2),
		"high index":   viewID(reg, rep, 1<<32+1),
		"low seq":      viewID(evs.RegularID(evs.RingID{Seq: 6, Rep: 7}), rep, 1),
		"high seq":     viewID(evs.RegularID(evs.RingID{Seq: 1<<32 + 5, Rep: 7}), rep, 1),
		"incarnation":  viewID(reg, evs.ProcID{Rank: 1, Name: "d1", Inc: 8}, 1),
		"other name":   viewID(reg, evs.ProcID{Rank: 1, Name: "d2", Inc: 7}, 1),
		"transitional": viewID(evs.TransitionalID(evs.RingID{Seq: 4, Rep: 7}, reg.New), rep, 1),
		"other side":   viewID(evs.TransitionalID(evs.RingID{Seq: 4, Rep: 7}, evs.RingID{Seq: 5, Rep: 9}), rep, 1),
		"other origin": viewID(evs.TransitionalID(evs.RingID{Seq: 3, Rep: 7}, reg.New), rep, 1),
	} {
		if seen[id] != "" {
			t.Errorf("%s and %s are both %v", name, seen[id], id)
		}
		seen[id] = name
	}
	if id := viewID(reg, rep, 9); id[1] != 5 || id[2] != 9 {
		t.Errorf("words %v do not end with sequence 5 and index 9 (client-protocol 5.2)", id)
	}
}

// FuzzPayload gives bytes to a machine that is in an exchange and to one that is not. Whatever is accepted leaves
// the machine in order.
func FuzzPayload(f *testing.F) {
	state := encodeState(evs.RingID{Seq: 2, Rep: 1}, []uint16{1}, []stateGroup{{name: "g", members: []stateMember{{1, 9, "u"}}}}, 1000)[0]
	for _, p := range [][]byte{
		AppendJoin(nil, 7, "al", "g1"), AppendLeave(nil, 1, "a", "g"), AppendDisconnect(nil, 1, "a", 0), mcast(1, "a", "x", 0x50, "g", "#a#d1"), state,
	} {
		f.Add(p, true)
		f.Add(p, false)
	}
	ids := []evs.ProcID{{Rank: 1, Name: "d1", Inc: 1}, {Rank: 2, Name: "d2", Inc: 2}}
	f.Fuzz(func(t *testing.T, p []byte, peer bool) {
		var fx Effects
		m := New(Config{Me: ids[0]})
		m.Open(1, "a", true)
		conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: 1, Rep: 1}), Members: ids[:1], Origins: make([]evs.RingID, 1)}
		m.HandleRegular(conf, evs.DetailDaemons, &fx)
		m.HandleMessage(ids[0], evs.Agreed, fx.Submits[0].Payload, &fx)
		m.HandleMessage(ids[0], evs.Agreed, AppendJoin(nil, 1, "a", "g"), &fx)
		next := evs.RingID{Seq: 2, Rep: 1}
		fx.Reset()
		step := func(from evs.ProcID, p []byte) {
			m.HandleMessage(from, evs.Agreed, p, &fx)
			if err := m.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
			for _, d := range fx.Deliveries {
				if len(d.Sessions) == 0 {
					t.Fatalf("%v for nobody", d.Kind)
				}
			}
		}
		step(ids[0], p)
		m.HandleTransitional(&evs.Configuration{ID: evs.TransitionalID(conf.ID.New, next), Members: ids[:1]}, &fx)
		step(ids[0], p)
		fx.Reset()
		m.HandleRegular(&evs.Configuration{ID: evs.RegularID(next), Members: ids, Origins: []evs.RingID{conf.ID.New, {}}}, evs.DetailDaemons, &fx)
		own := fx.Submits
		from := ids[0]
		if peer {
			from = ids[1]
		}
		step(from, p)
		for _, s := range own {
			step(ids[0], s.Payload)
		}
		step(from, p)
	})
}
