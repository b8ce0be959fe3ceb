// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/host"
	"evensong/internal/proto/node"
	"evensong/internal/proto/session"
)

// everyWay runs a test that has a daemon of its own in some of the ways, one after the other.
func everyWay(t *testing.T, s *server, f func(c *conversation)) {
	t.Helper()
	for _, w := range []way{{"tcp", false}, {"unix", false}, {"tcp", true}} {
		t.Run(w.String(), func(t *testing.T) {
			f(&conversation{T: t, way: w, server: s, n: conversations.Add(1)})
		})
	}
}

// TestDeadlines: client-protocol 1.4, 2.1 rule 7, 2.3; features G14, W24, W25. Clients that wait get nothing, or their
// code, and hold up nobody.
func TestDeadlines(t *testing.T) {
	s := start(t, "hasty", func(_ *host.Config, nc *node.Config) {
		nc.Session.ConnectTimeout, nc.Session.AuthTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	everyWay(t, s, func(c *conversation) {
		rows := []struct {
			what string
			say  []byte
			hear []byte
		}{
			{"silent", nil, nil},
			{"one byte", []byte{4}, nil},
			{"no length", []byte{4, 4, 0, 1}, nil},
			{"half a name", []byte("\x04\x04\x00\x01\x05ali"), reject(rejectIllegalName)},
			{"no choice", connect(c.user("a"), 1), slicesJoin(list("NULL"), reject(rejectAuth))},
			{"most of a choice", slicesJoin(connect(c.user("b"), 1), choice("NULL")[:89]), slicesJoin(list("NULL"), reject(rejectAuth))},
		}
		var waiting []*peer // all at the same time
		for _, x := range rows {
			p := c.dial(x.what)
			p.send(x.say)
			waiting = append(waiting, p)
		}
		for i, p := range waiting {
			p.want("its answer", rows[i].hear)
			p.wantEnd()
		}
		// The names are free again, and who is accepted may take all the time it likes.
		a := c.open("a")
		a.send(a.message(fifo, "half").bytes()[:50])
		time.Sleep(150 * time.Millisecond)
		a.send(a.message(fifo, "half").bytes()[50:])
		a.nothing()
		c.open("b").nothing()
	})
}

// TestSilentClientsDelayNobody: client-protocol 1.4; features G14, W24. The daemon of this test would wait for them longer
// than the test does.
func TestSilentClientsDelayNobody(t *testing.T) {
	s := start(t, "patient", func(_ *host.Config, nc *node.Config) { nc.Session.ConnectTimeout = time.Hour })
	everyWay(t, s, func(c *conversation) {
		for i := range 30 {
			c.dial(fmt.Sprint("silent ", i))
		}
		c.open("a").nothing()
	})
}

// TestQuota: client-protocol 2.5; features G11, W5.
func TestQuota(t *testing.T) {
	s := start(t, "small", func(hc *host.Config, nc *node.Config) { hc.MaxSessions, nc.MaxSessions = 2, 2 })
	everyWay(t, s, func(c *conversation) {
		a := c.open("a")
		b := c.dial("b")
		b.send(connect(c.user("b"), 1)) // counts although it is still in authentication
		b.want("the list", list("NULL"))
		p := c.dial("one too many")
		p.want("its answer, though it has said nothing", reject(rejectQuota))
		p.wantEnd()
		a.nothing()
		b.send(choice("NULL"))
		b.want("acceptance", accept(c.private("b")))
		// A place is free when its session is gone.
		a.conn.Close()
		b.conn.Close()
		for range 10000 {
			q := c.dial("the next")
			q.send(connect(c.user("c"), 1))
			code, err := q.read(1)
			q.conn.Close()
			if err == nil && !bytes.Equal(code, reject(rejectQuota)) {
				break
			}
		}
		// The connections of the last tries may still be counted.
		for range 10000 {
			q, r := c.dial("d"), c.dial("e")
			free := true
			for _, x := range []*peer{q, r} {
				x.send(connect(c.user(x.what), 1))
				if code, err := x.read(1); err != nil || code[0] != 5 {
					free = false
				}
			}
			q.conn.Close()
			r.conn.Close()
			if free {
				return
			}
		}
		c.Error("no place comes free")
	})
}

// TestLongestNames: client-protocol 2.4, 3.4; features G3, G5. A private group may have 31 bytes, and a NUL behind them.
func TestLongestNames(t *testing.T) {
	name := "a-daemon.of-19_char"
	s := start(t, name, nil)
	everyWay(t, s, func(c *conversation) {
		user := (c.user("u") + "~~~~~~~~~~")[:10]
		p := c.dial(user)
		p.send(connect(user, 1))
		p.want("the list", list("NULL"))
		p.send(choice("NULL"))
		p.me = "#" + user + "#" + name
		if len(p.me) != nameSize-1 {
			t.Fatal(len(p.me))
		}
		p.want("acceptance", accept(p.me))
		g := (c.group("g") + "gggggggggggggggggggggggggggggggg")[:nameSize-1]
		joins(g, p)
		m := p.message(safe, "long names", g, p.me)
		p.send(m.bytes())
		p.want("its message", m.delivered())
		p.send(p.request(leave, g))
		p.want("its self-leave", selfLeave(g))
		p.nothing()
	})
}

// An IP check that says yes to TCP and no to Unix sockets, whose clients count as 0.0.0.0, and a password check.
var (
	ipOfTCP  = session.AuthMethod{Name: "IP", Check: func(peer netip.Addr, _ []byte) bool { return peer == netip.MustParseAddr("127.0.0.1") }}
	password = session.AuthMethod{Name: "PWORD", CredentialBytes: 40, Answer: true, Check: func(_ netip.Addr, b []byte) bool {
		return bytes.Equal(b, credentials("user", "secret"))
	}}
)

func credentials(user, word string) []byte {
	b := make([]byte, 40)
	copy(b, user)
	copy(b[32:], word)
	return b
}

// TestMethodIP: client-protocol 2.2, 2.3, 2.6, 2.7; features S1, S3.
func TestMethodIP(t *testing.T) {
	for _, required := range []bool{false, true} {
		m := ipOfTCP
		m.Required = required
		s := start(t, "ip", func(_ *host.Config, nc *node.Config) { nc.Session.Methods = []session.AuthMethod{session.Null(), m} })
		everyWay(t, s, func(c *conversation) {
			listed := c.way.socket == "tcp"
			for i, x := range []struct {
				chosen []byte
				ok     bool
			}{
				{choice("IP"), listed}, {choice("NULL"), listed || !required}, {choice("NULL", "IP"), listed}, {choice("IP", "NULL", "IP"), listed},
				{choice("NULL", "NULL", "NULL"), listed || !required}, {choice(), false}, {choice("IP", "PWORD"), false}, {choice("ip"), false},
			} {
				user := fmt.Sprint("u", i)
				p := c.dial(user)
				p.send(connect(c.user(user), 1))
				p.want("the list", []byte("\x08NULL IP "))
				p.send(x.chosen)
				if !x.ok {
					p.want("its answer", reject(rejectAuth))
					p.wantEnd()
					continue
				}
				p.me = c.private(user)
				p.want("acceptance", accept(p.me))
				p.nothing()
			}
			// For clients that know no methods, the address alone decides.
			p := c.dial("old")
			p.send(connectAs(3, 15, 0, 1, c.user("o")))
			if !listed {
				p.want("its answer", reject(rejectAuth))
				p.wantEnd()
				return
			}
			p.want("acceptance", accept(c.private("o")))
		})
	}
}

// TestMethodPassword: client-protocol 2.3; features S5.
func TestMethodPassword(t *testing.T) {
	s := start(t, "pword", func(_ *host.Config, nc *node.Config) {
		nc.Session.Methods = []session.AuthMethod{session.Null(), password}
	})
	everyWay(t, s, func(c *conversation) {
		try := func(user string, chosen, say, answer []byte, ok bool) {
			c.Helper()
			p := c.dial(user)
			p.send(connect(c.user(user), 1))
			p.want("the list", []byte("\x0bNULL PWORD "))
			p.send(chosen)
			p.send(say)
			p.want("whether its password is right", answer)
			if !ok {
				p.want("its answer", reject(rejectAuth))
				p.wantEnd()
				return
			}
			p.me = c.private(user)
			p.want("acceptance", accept(p.me))
			p.nothing()
		}
		try("right", choice("PWORD"), credentials("user", "secret"), []byte{1}, true)
		try("both", choice("NULL", "PWORD"), credentials("user", "secret"), []byte{1}, true)
		try("null", choice("NULL"), nil, nil, true)
		try("wrong", choice("PWORD"), credentials("user", "guess"), []byte{0}, false)
		try("nobody", choice("PWORD", "NULL"), credentials("", ""), []byte{0}, false)
		try("full", choice("PWORD"), bytes.Repeat([]byte{'x'}, 40), []byte{0}, false)
	})
}
