// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// largeMembers is more than what notices of the original can hold: some 4400 names where a join, leave or disconnect is
// told, half of that where the network is, because each name stands there twice.
const largeMembers = 4600

// TestLargeNotices: client-protocol 5.3, 5.7; features G33, W9. No notice is too large for the daemon.
func TestLargeNotices(t *testing.T) {
	members := largeMembers
	if !allWays() {
		members = 300 // with more it takes seconds
		t.Logf("with %d members; EVENSONG_CONFORMANCE=all has %d", members, largeMembers)
	}
	t.Parallel()
	c := newCluster(t)
	g := c.group("g")
	north, w := c.at("north"), c.at("east").open("w")
	n := north.open("~") // behind all others of its daemon
	for _, p := range []*peer{n, w} {
		_ = p.conn.SetDeadline(time.Now().Add(5 * patience)) // many steps
	}
	var crowd []string
	for i := range members {
		user := fmt.Sprintf("m%05d", i)
		conn, err := net.Dial("tcp4", north.server.tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		me := "#" + user + "#north"
		m := frame{typ: agreed, name: me, groups: []string{n.me}}
		for _, step := range []struct{ say, hear []byte }{
			{connect(user, 0), list("NULL")}, {choice("NULL"), accept(me)},
		} {
			if _, err := conn.Write(step.say); err != nil {
				t.Fatal(err)
			}
			if err := hear(conn, step.hear); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Write(slicesJoin(frame{typ: join, name: me, groups: []string{g}}.bytes(), m.bytes())); err != nil {
			t.Fatal(err)
		}
		n.want("a message behind a join", m.delivered())
		crowd = append(crowd, me)
	}
	// The two who want notices come last.
	n.send(n.request(join, g))
	n.wantView(view{cause: byJoin, group: g, members: append(slices.Clone(crowd), n.me), who: n.me})
	w.send(w.request(join, g))
	all := slices.Concat(crowd, []string{n.me, w.me})
	same(func(*peer) view { return view{cause: byJoin, group: g, members: all, who: w.me} }, n, w)

	c.cut([]string{"north"}, []string{"east", "south"})
	for _, p := range []*peer{n, w} {
		if f := p.next(); len(f) != headerSize+12 {
			t.Fatalf("%s wants a signal and gets %d bytes", p.me, len(f))
		}
	}
	w.wantView(view{cause: byNetwork, group: g, members: []string{w.me}, sets: [][]string{{w.me}}})
	left := append(slices.Clone(crowd), n.me)
	n.wantView(view{cause: byNetwork, group: g, members: left, sets: [][]string{left}})
	c.cut()
	same(func(p *peer) view {
		v := view{cause: byNetwork, group: g, members: all, sets: [][]string{left, {w.me}}}
		if p == w {
			v.own = 1
		}
		return v
	}, n, w)
	w.conn.Close()
	n.wantView(view{cause: byDisconnect, group: g, members: left, who: w.me})
}
