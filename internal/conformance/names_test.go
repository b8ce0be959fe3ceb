// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"testing"
)

// notUnique asks for the name that p has.
func notUnique(c *conversation, user string) {
	c.Helper()
	p := c.dial("the second " + user)
	p.send(connect(user, 1))
	p.want("its answer", reject(rejectNotUnique))
	p.wantEnd()
}

// takeName opens a session under a name that must be free soon: as soon as the end of the one that had it is ordered.
func takeName(c *conversation, s string) *peer {
	c.Helper()
	for range 10000 {
		p := c.dial(s)
		p.send(connect(c.user(s), 1))
		b, err := p.read(1)
		if err != nil {
			c.Fatal(err)
		}
		if bytes.Equal(b, reject(rejectNotUnique)) {
			p.wantEnd()
			p.conn.Close()
			continue
		}
		if b[0] != 5 {
			c.Fatalf("%s gets % x", s, b)
		}
		p.want("the list", list("NULL")[1:])
		p.send(choice("NULL"))
		p.me = c.private(s)
		p.want("acceptance", accept(p.me))
		return p
	}
	c.Fatalf("the name of %s does not come free", s)
	return nil
}

func TestNames(t *testing.T) {
	run(t, []testCase{
		{"in-use", "client-protocol 2.1 rule 9; features G3", func(c *conversation) {
			p := c.open("a")
			notUnique(c, c.user("a"))
			p.nothing()
		}},
		{"in-use-by-one-in-authentication", "client-protocol 2.1 rule 9", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			notUnique(c, c.user("a"))
			p.send(choice("NULL"))
			p.me = c.private("a")
			p.want("acceptance", accept(p.me))
		}},
		{"in-use-by-an-old-client", "client-protocol 2.1 rule 9, 2.6", func(c *conversation) {
			p := c.dial("a")
			p.send(connectAs(3, 14, 0, 1, c.user("a")))
			p.want("acceptance", acceptOld(c.private("a")))
			notUnique(c, c.user("a"))
		}},
		{"old-client-wants-a-name-in-use", "client-protocol 2.1 rule 9, 2.6", func(c *conversation) {
			c.open("a")
			p := c.dial("the second")
			p.send(connectAs(3, 14, 0, 1, c.user("a")))
			p.want("its answer", reject(rejectNotUnique))
			p.wantEnd()
		}},
		{"case-counts", "client-protocol 2.1 rule 9", func(c *conversation) {
			c.open("a").nothing()
			c.open("A").nothing()
		}},
		{"prefix-is-another-name", "client-protocol 2.1 rule 9", func(c *conversation) {
			c.open("a").nothing()
			p := c.dial("a~")
			p.send(connect(c.user("a")+"~", 1))
			p.want("the list", list("NULL"))
		}},
		{"free-after-kill", "client-protocol 2.1 rule 9, 4.3; features G7", func(c *conversation) {
			p := c.open("a")
			p.send(p.request(kill, p.me))
			p.wantEnd()
			takeName(c, "a").nothing()
		}},
		{"free-after-close", "client-protocol 2.1 rule 9; features G3, G9", func(c *conversation) {
			c.open("a").conn.Close()
			takeName(c, "a").nothing()
		}},
		{"free-after-bad-header", "client-protocol 2.1 rule 9, 4.5", func(c *conversation) {
			p := c.open("a")
			p.send(p.message(0, "").bytes())
			p.wantEnd()
			takeName(c, "a").nothing()
		}},
		{"free-after-refused-authentication", "client-protocol 2.1 rule 9, 2.3", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.send(choice())
			p.want("its answer", reject(rejectAuth))
			p.wantEnd()
			takeName(c, "a").nothing()
		}},
		{"free-after-a-close-in-authentication", "client-protocol 2.1 rule 9; features G14", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.send(choice("NULL")[:40])
			p.conn.Close()
			takeName(c, "a").nothing()
		}},
		{"not-taken-by-a-refused-client", "client-protocol 2.1", func(c *conversation) {
			p := c.dial("a")
			p.send(connectAs(3, 0, 0, 1, c.user("a")))
			p.want("its answer", reject(rejectVersion))
			p.wantEnd()
			c.open("a").nothing()
		}},
	})
}

func TestAuthentication(t *testing.T) {
	// chosen is a choice of methods of a daemon that allows NULL.
	chosen := func(name, cites string, block []byte, session bool) testCase {
		return testCase{name, cites, func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.send(block)
			if !session {
				p.want("its answer", reject(rejectAuth))
				p.wantEnd()
				return
			}
			p.me = c.private("a")
			p.want("acceptance", accept(p.me))
			p.nothing()
		}}
	}
	const checks = "client-protocol 2.3; features S1"
	run(t, []testCase{
		chosen("one", checks, choice("NULL"), true),
		chosen("twice", checks, choice("NULL", "NULL"), true),
		chosen("all-slots", checks, choice("NULL", "NULL", "NULL"), true),
		chosen("none", checks, choice(), false),
		chosen("lower-case", checks, choice("null"), false),
		chosen("mixed-case", checks, choice("Null"), false),
		chosen("cut", checks, choice("NUL"), false),
		chosen("longer", checks, choice("NULLS"), false),
		chosen("blank-behind", checks, choice("NULL "), false),
		chosen("unknown", checks, choice("KERB"), false),
		chosen("not-allowed", "client-protocol 2.3; features S1", choice("IP"), false),
		chosen("one-allowed-of-two", checks, choice("NULL", "IP"), false),
		chosen("unknown-in-the-third", checks, choice("NULL", "NULL", "x"), false),
		chosen("only-the-third", "client-protocol 2.3: the first empty slot ends the list", choice("", "", "NULL"), false),
		chosen("behind-an-empty-slot", "client-protocol 2.3: the first empty slot ends the list", choice("NULL", "", "unknown"), true),
		chosen("garbage-behind-the-NUL", "client-protocol 2.3, 3.4", choice("NULL\x00garbage"), true),
		chosen("slot-without-NUL", checks, choice("NULLNULLNULLNULLNULLNULLNULLNU"), false),
		chosen("noise", checks, bytes.Repeat([]byte{0xff}, 90), false),
		{"cut-off", "client-protocol 2.3", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.send(choice("NULL")[:89])
			p.halfClose()
			p.want("its answer", reject(rejectAuth))
			p.wantEnd()
		}},
		{"no-choice", "client-protocol 2.3", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.halfClose()
			p.wantEnd()
		}},
		{"pipelined-choice", "client-protocol 2.1: an own daemon keeps what follows", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1), choice("NULL"))
			p.me = c.private("a")
			p.want("list and acceptance", slicesJoin(list("NULL"), accept(p.me)))
			p.nothing()
		}},
		{"pipelined-choice-behind-a-name-of-10", "client-protocol 2.1 rule 7", func(c *conversation) {
			p := c.dial("a")
			user := (c.user("a") + "~~~~~~~~~~")[:10]
			p.send(connect(user, 1), choice("NULL"))
			p.want("list and acceptance", slicesJoin(list("NULL"), accept("#"+user+"#"+c.server.name)))
		}},
		{"pipelined-messages", "client-protocol 2.4", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1))
			p.want("the list", list("NULL"))
			p.me = c.private("a")
			g := c.group("g")
			m := p.message(agreed, "behind the choice", g)
			p.send(choice("NULL"), p.request(join, g), m.bytes())
			p.want("acceptance", accept(p.me))
			p.wantView(view{cause: byJoin, group: g, members: []string{p.me}, who: p.me})
			p.want("its message", m.delivered())
		}},
		{"pipelined-everything", "client-protocol 2.1, 2.4, 4.3", func(c *conversation) {
			r := c.open("r")
			p := c.dial("a")
			p.me = c.private("a")
			m := p.message(safe, "a life in one write", r.me)
			p.send(connect(c.user("a"), 1), choice("NULL"), m.bytes(), p.request(kill, p.me))
			r.want("the message of a short life", m.delivered())
		}},
		{"pipelined-garbage", "client-protocol 2.4, 4.5", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1), choice("NULL"), bytes.Repeat([]byte{0xff}, 100))
			p.wantRest(slicesJoin(list("NULL"), accept(c.private("a"))))
		}},
		{"refused-with-more-behind", "client-protocol 2.5", func(c *conversation) {
			p := c.dial("a")
			p.send(connect("a b", 1), bytes.Repeat([]byte{1}, 10000))
			p.want("its answer", reject(rejectIllegalName))
			p.wantEnd()
		}},
	})
}
