// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"testing"
)

// answer is a case in which a client says in and hears out, and is then a session or at its end.
func answer(name, cites string, in func(c *conversation) []byte, out func(c *conversation) []byte, session bool) testCase {
	return testCase{name, cites, func(c *conversation) {
		p := c.dial("a")
		p.send(in(c))
		p.want("its answer", out(c))
		if !session {
			p.wantEnd()
			return
		}
		p.me = c.private("a")
		p.nothing()
	}}
}

// refused is a connect message and the code that it gets.
func refused(name, cites string, in func(c *conversation) []byte, code int8) testCase {
	return answer(name, cites, in, func(*conversation) []byte { return reject(code) }, false)
}

func TestVersions(t *testing.T) {
	var cases []testCase
	for _, v := range []struct {
		major, minor, patch int
		kind                string
	}{
		{0, 0, 0, "refused"}, {1, 0, 0, "refused"}, {2, 99, 0, "refused"}, {3, 0, 0, "refused"},
		{3, 1, 0, "oldest"}, {3, 7, 0, "oldest"}, {3, 14, 0, "oldest"},
		{3, 15, 0, "old"}, {3, 15, 2, "old"}, {3, 15, 99, "old"}, {3, 15, 100, "modern"}, // counts as 3.16.0
		{3, 15, 255, "oldest"}, // signed: counts as one less than 3.15.0, but has its patch byte
		{3, 16, 0, "modern"}, {3, 17, 4, "modern"}, {4, 0, 0, "modern"}, {4, 4, 0, "modern"}, {4, 4, 255, "modern"},
		{5, 0, 0, "modern"}, {5, 0, 1, "modern"}, {100, 0, 0, "modern"}, {127, 99, 0, "modern"},
		{128, 0, 0, "refused"}, {200, 4, 0, "refused"}, {255, 99, 9, "refused"},
	} {
		name := fmt.Sprintf("version-%d.%d.%d-%s", v.major, v.minor, v.patch, v.kind)
		said := func(c *conversation) []byte { return connectAs(v.major, v.minor, v.patch, 1, c.user("a")) }
		switch v.kind {
		case "refused":
			cases = append(cases, refused(name, "client-protocol 2.1 rule 3, 2.6; features G13", said, rejectVersion))
		case "oldest":
			cases = append(cases, answer(name, "client-protocol 2.6; features G13", said, func(c *conversation) []byte { return acceptOld(c.private("a")) }, true))
		case "old":
			cases = append(cases, answer(name, "client-protocol 2.6; features G13", said, func(c *conversation) []byte { return accept(c.private("a")) }, true))
		case "modern":
			cases = append(cases, testCase{name, "client-protocol 2.2, 2.4, 2.6; features G13", func(c *conversation) {
				p := c.dial("a")
				p.send(said(c))
				p.want("the list", []byte("\x05NULL "))
				p.send(choice("NULL"))
				p.me = c.private("a")
				p.want("acceptance", accept(p.me))
				p.nothing()
			}})
		}
	}
	cases = append(cases,
		testCase{"version-3.14-member", "client-protocol 2.6: formats are not adapted", func(c *conversation) {
			p := c.dial("a")
			p.send(connectAs(3, 14, 0, 1, c.user("a")))
			p.me = c.private("a")
			p.want("acceptance", acceptOld(p.me))
			joins(c.group("g"), p, c.open("b"))
		}},
		testCase{"version-3.15-pipelined", "client-protocol 2.6, 2.4", func(c *conversation) {
			p := c.dial("a")
			p.me = c.private("a")
			m := p.message(fifo, "behind the name", p.me)
			p.send(connectAs(3, 15, 2, 1, c.user("a")), m.bytes())
			p.want("acceptance", accept(p.me))
			p.want("its message", m.delivered())
		}},
		refused("version-3.14-illegal-name", "client-protocol 2.1 rule 8, 2.6", func(c *conversation) []byte { return connectAs(3, 14, 0, 1, "a b") }, rejectIllegalName),
		refused("version-3.15-long-name", "client-protocol 2.1 rule 5, 2.6", func(c *conversation) []byte { return connectAs(3, 15, 0, 1, "01234567890") }, rejectIllegalName),
	)
	run(t, cases)
}

func TestConnect(t *testing.T) {
	var cases []testCase
	session := func(name, cites string, flags byte, user func(c *conversation) string) {
		cases = append(cases, testCase{name, cites, func(c *conversation) {
			p := c.dial("a")
			u := user(c)
			p.send(connect(u, flags))
			p.want("the list", list("NULL"))
			p.send(choice("NULL"))
			p.me = "#" + u + "#" + c.server.name
			p.want("acceptance", accept(p.me))
			p.nothing()
		}})
	}
	a := func(c *conversation) string { return c.user("a") }
	for _, flags := range []byte{0x00, 0x01, 0x10, 0x11, 0x0e, 0xff} {
		session(fmt.Sprintf("flags-%02x", flags), "client-protocol 2.1; features D48, G6", flags, a)
	}
	fill := func(c *conversation, n int) string { return (c.user("L") + "$$$$$$$$$$")[:n] }
	session("name-of-10", "client-protocol 2.1; features G3", 1, func(c *conversation) string { return fill(c, 10) })
	session("name-of-legal-ends", "client-protocol 2.1 rule 8", 1, func(c *conversation) string { return "$" + c.user("") + "~" })
	session("name-of-signs", "client-protocol 2.1 rule 8", 1, func(c *conversation) string { return "%'*/" + c.user("") + "@`" })
	for _, n := range []int{11, 32, 127, 128, 255} {
		cases = append(cases, refused(fmt.Sprintf("length-%d", n), "client-protocol 2.1 rule 5; features G3",
			func(*conversation) []byte { return slicesJoin([]byte{4, 4, 0, 1, byte(n)}, make([]byte, n)) }, rejectIllegalName))
	}
	for _, b := range []byte{0, 1, '\t', '\n', 0x1f, ' ', '!', '"', '#', 0x7f, 0x80, 0xa4, 0xff} {
		for _, at := range []string{"first", "middle", "last"} {
			cases = append(cases, refused(fmt.Sprintf("character-%02x-%s", b, at), "client-protocol 2.1 rule 8; features G3", func(c *conversation) []byte {
				s := []byte("abc")
				s[map[string]int{"first": 0, "middle": 1, "last": 2}[at]] = b
				return connect(string(s), 1)
			}, rejectIllegalName))
		}
	}
	cases = append(cases, testCase{"empty-name", "client-protocol 2.1 rule 6; features G4", func(c *conversation) {
		private := func() string {
			p := c.dial("nobody")
			p.send(connect("", 1))
			p.want("the list", list("NULL"))
			p.send(choice("NULL"))
			p.want("acceptance", []byte{1, 4, 4, 0})
			n, err := p.read(1)
			if err != nil {
				c.Fatal(err)
			}
			name, err := p.read(int(n[0]))
			if err != nil {
				c.Fatal(err)
			}
			p.me = string(name)
			p.nothing()
			return p.me
		}
		first, second := private(), private()
		if first == second {
			c.Errorf("both are called %s", first)
		}
		for _, s := range []string{first, second} {
			var x, y int
			if k, err := fmt.Sscanf(s, "#r%d-%d#"+c.server.name, &x, &y); k != 2 || err != nil {
				c.Errorf("an invented name of the wrong form: %q", s)
			}
		}
	}})
	// The client goes in the midst of it.
	for n, what := range []string{"nothing", "major", "minor", "patch", "flags"} {
		cases = append(cases, testCase{"ends-behind-" + what, "client-protocol 2.1 rules 1, 2, 4", func(c *conversation) {
			p := c.dial("a")
			p.send(connect(c.user("a"), 1)[:n])
			p.halfClose()
			p.wantEnd()
		}})
	}
	// It may have shut down its sending side only: what the daemon has to say reaches it, then the end.
	ends := func(name, cites string, in func(c *conversation) []byte, out func(c *conversation) []byte) {
		cases = append(cases, testCase{name, cites, func(c *conversation) {
			p := c.dial("a")
			p.send(in(c))
			p.halfClose()
			p.want("its answer", out(c))
			p.wantEnd()
		}})
	}
	said := func(c *conversation) []byte { return connect(c.user("a"), 1) }
	ends("ends-in-name", "client-protocol 2.1 rule 7", func(*conversation) []byte { return []byte("\x04\x04\x00\x01\x05ali") },
		func(*conversation) []byte { return reject(rejectIllegalName) })
	ends("ends-behind-illegal-name", "client-protocol 2.1 rule 8, 2.5", func(*conversation) []byte { return connect("a b", 1) },
		func(*conversation) []byte { return reject(rejectIllegalName) })
	ends("ends-behind-name", "client-protocol 2.2", said, func(*conversation) []byte { return list("NULL") })
	ends("ends-in-choice", "client-protocol 2.2, 2.3", func(c *conversation) []byte { return slicesJoin(said(c), choice("NULL")[:50]) },
		func(*conversation) []byte { return slicesJoin(list("NULL"), reject(rejectAuth)) })
	ends("ends-behind-choice", "client-protocol 2.2, 2.4", func(c *conversation) []byte { return slicesJoin(said(c), choice("NULL")) },
		func(c *conversation) []byte { return slicesJoin(list("NULL"), accept(c.private("a"))) })
	run(t, cases)
}
