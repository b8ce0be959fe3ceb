// SPDX-License-Identifier: Apache-2.0

package order

import (
	"net/netip"
	"slices"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// Which questions about a group address are answered: those of a member of this ring that is who it says.
func TestReachQuestions(t *testing.T) {
	w := newTeam(t, 1472, 1472, 1472)
	m := w.players[0].m
	id := m.conf.ID.New
	for _, x := range []struct {
		what string
		from int // who sends it
		p    packet.Question
		cut  int // bytes that lack
		drop Drop
	}{
		{"a question", 1, packet.Question{Ring: id, Sender: 1, Asker: 1, Number: 1}, 0, 0},
		{"one of another ring", 1, packet.Question{Ring: evs.RingID{Seq: 1, Rep: 1}, Sender: 1, Asker: 1, Number: 1}, 0, DropForeign},
		{"one that is too short", 1, packet.Question{Ring: id, Sender: 1, Asker: 1, Number: 1}, 1, DropPacket},
		{"one without a number", 1, packet.Question{Ring: id, Sender: 1, Asker: 1}, 0, DropPacket},
		{"one in another's name", 1, packet.Question{Ring: id, Sender: 2, Asker: 2, Number: 1}, 0, DropImpostor},
		{"one of nobody", 1, packet.Question{Ring: id, Sender: 3, Asker: 3, Number: 1}, 0, DropImpostor},
		{"one of myself that comes back", 0, packet.Question{Ring: id, Sender: 0, Asker: 0, Number: 1}, 0, DropOwn},
	} {
		b := packet.AppendQuestion(make([]byte, packet.HeaderSize), x.p)
		b = b[:len(b)-x.cut]
		packet.NewSealer("team", w.players[x.from].m.cfg.Me).Seal(b, packet.KindReach)
		// Questions about a length are looked at alike.
		if x.cut == 0 && x.p.Number > 0 {
			fx, b := Effects{}, packet.AppendQuestion(make([]byte, packet.HeaderSize), x.p)
			packet.NewSealer("team", w.players[x.from].m.cfg.Me).Seal(b, packet.KindSize)
			before := m.stats.Drops
			m.HandleDatagram(w.now, teamAddr(x.from), b, nil, &fx)
			if x.drop != 0 && (m.stats.Drops[x.drop] != before[x.drop]+1 || len(fx.Sends) > 0) || x.drop == 0 && (len(fx.Sends) != 1 || fx.Sends[0].Kind != packet.KindSize) {
				t.Errorf("%s, about a length: drops %v, then %v, and %+v", x.what, before, m.stats.Drops, fx.Sends)
			}
		}
		before := m.stats.Drops
		var fx Effects
		m.Settle()
		m.HandleDatagram(w.now, teamAddr(x.from), b, nil, &fx)
		if x.drop != 0 {
			if m.stats.Drops[x.drop] != before[x.drop]+1 || len(fx.Sends) > 0 {
				t.Errorf("%s: drops %v, then %v, and %d datagrams", x.what, before, m.stats.Drops, len(fx.Sends))
			}
			continue
		}
		if m.stats.Drops != before || len(fx.Sends) != 1 || fx.Sends[0].Kind != packet.KindReach || fx.Sends[0].Ring || !slices.Equal(fx.Sends[0].To, []netip.AddrPort{teamAddr(x.from)}) {
			t.Errorf("%s: %+v", x.what, fx.Sends)
		}
	}
}

// What operators are told of a group address, in full.
func TestReachNotes(t *testing.T) {
	members := []evs.ProcID{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	g := ring.GroupStatus{Addr: netip.MustParseAddrPort("239.1.2.3:4803"), Missing: []int{0, 2}}
	for n, want := range map[ring.Reach]evs.Level{ring.ReachAll: evs.Info, ring.ReachLacks: evs.Warn} {
		var fx Effects
		noteReach(n, g, members, &fx)
		if len(fx.Notes) != 1 || fx.Notes[0].Level != want || fx.Notes[0].Attrs[0].Value != "239.1.2.3:4803" {
			t.Fatalf("%v: %+v", n, fx.Notes)
		}
		if lacks := len(fx.Notes[0].Attrs) == 2 && fx.Notes[0].Attrs[1] == (evs.Attr{Key: "missing", Value: "a c"}); lacks != (n == ring.ReachLacks) {
			t.Errorf("%v: %+v", n, fx.Notes[0].Attrs)
		}
	}
}
