// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A stage is a group with two members, of whom s acts and r sees what comes of it.
type stage struct {
	*conversation
	s, r  *peer
	group string
	last  gid // of the view that both have
}

func (c *conversation) stage() *stage {
	c.Helper()
	st := &stage{conversation: c, s: c.open("s"), r: c.open("r"), group: c.group("g")}
	st.last = joins(st.group, st.s, st.r)
	return st
}

// message is one of s to the group.
func (st *stage) message(typ uint32, data string) frame { return st.s.message(typ, data, st.group) }

// passes sees that both members get exactly this and then nothing.
func (st *stage) passes(want ...[]byte) {
	st.Helper()
	for _, w := range want {
		st.s.want("the message", w)
		st.r.want("the message", w)
	}
	st.stays()
}

// stays sees that neither has got more and that s is still a session.
func (st *stage) stays() {
	st.Helper()
	m := st.message(agreed, "still there")
	st.s.send(m.bytes())
	st.s.want("its own message and nothing before it", m.delivered())
	st.r.want("the message that says that all is well, and nothing before it", m.delivered())
}

// dropped sees that s is closed without a word, and that r gets its disconnect and nothing else.
func (st *stage) dropped() {
	st.Helper()
	st.s.wantEnd()
	id := st.r.wantView(view{cause: byDisconnect, group: st.group, members: []string{st.r.me}, who: st.s.me})
	if id == st.last {
		st.Errorf("the id of the view has not changed: % x", id)
	}
	st.r.nothing()
}

// drops is a case in which s sends something for which it is closed.
func drops(name, cites string, in func(st *stage) []byte) testCase {
	return testCase{name, cites, func(c *conversation) {
		st := c.stage()
		st.s.send(in(st))
		st.dropped()
	}}
}

// ignores is one in which what it sends has no effect.
func ignores(name, cites string, in func(st *stage) []byte) testCase {
	return testCase{name, cites, func(c *conversation) {
		st := c.stage()
		st.s.send(in(st))
		st.stays()
	}}
}

// passes is one in which both members get the frame, in the daemon's order.
func passes(name, cites string, in func(st *stage) frame) testCase {
	return testCase{name, cites, func(c *conversation) {
		st := c.stage()
		f := in(st)
		st.s.send(f.bytes())
		st.passes(f.delivered())
	}}
}

// twice is the cases of a function in both byte orders.
func twice(of func(order string, big bool) []testCase) []testCase {
	return slices.Concat(of("little", false), of("big", true))
}

// TestTypeWord has every class of bits of the type word.
func TestTypeWord(t *testing.T) {
	run(t, twice(func(order string, big bool) (cases []testCase) {
		word := func(typ uint32) func(st *stage) []byte {
			return func(st *stage) []byte {
				f := st.message(typ, "odd")
				f.big = big
				return f.bytes()
			}
		}
		for _, x := range []struct {
			name string
			typ  uint32
		}{
			{"no-bit", 0}, {"self-discard-alone", selfDiscard}, {"subgroup-alone", subgroup},
			{"two-services", fifo | safe}, {"unreliable-and-reliable", unreliable | reliable}, {"all-services", 0x3f},
			{"join-and-fifo", join | fifo}, {"leave-and-safe", leave | safe}, {"kill-and-agreed", kill | agreed},
			{"join-and-leave", join | leave}, {"join-and-kill", join | kill}, {"all-commands", join | leave | kill},
			{"everything", 0x3f | join | leave | kill},
		} {
			cases = append(cases, drops(order+"-"+x.name, "client-protocol 4.5 rule 1, 4.6; features D7", word(x.typ)))
		}
		for _, bit := range []uint32{byJoin, byLeave, byDisconnect, byNetwork, regMemb, transition, 0x4000, 0x8000, 0x80000, 0x100000, 0x200000, 0x400000} {
			cases = append(cases, drops(fmt.Sprintf("%s-fifo-and-%06x", order, bit), "client-protocol 3.2, 4.6: bits that only daemons set", word(fifo|bit)))
		}
		cases = append(cases, drops(order+"-join-and-groups", "client-protocol 3.2, 4.6", word(join|0x80000)))
		for _, bits := range []uint32{0x1000000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, subgroup, 0x71000000, 0x7f000000} {
			cases = append(cases, passes(fmt.Sprintf("%s-fifo-and-%08x", order, bits), "client-protocol 3.2, 4.6: transported unchanged", func(st *stage) frame {
				f := st.message(fifo|bits, "high")
				f.big = big
				return f
			}))
		}
		return cases
	}))
}

func TestByteOrder(t *testing.T) {
	const marks = "client-protocol 3.1"
	half := func(name string, typ uint32, big bool) testCase {
		return drops(name, marks+": both bits of a mark or neither", func(st *stage) []byte {
			f := st.message(typ, "half")
			f.bare, f.big = true, big
			if big {
				f.typ = typ // without a mark as a big-endian sender writes it, but for the bit that is in typ
			}
			return f.bytes()
		})
	}
	with := func(name, cites string, set func(f *frame)) testCase {
		return passes(name, cites, func(st *stage) frame {
			f := st.message(agreed, "in some order")
			set(&f)
			return f
		})
	}
	run(t, []testCase{
		with("little", marks, func(f *frame) { f.hint = hint(0x1234) }),
		with("big", marks, func(f *frame) { f.big, f.hint = true, hintBig(0x1234) }),
		with("hint-big-in-little", marks+", 4.6; features D44", func(f *frame) { f.hint = hintBig(0x1234) }),
		with("hint-little-in-big", marks+", 4.6; features D44", func(f *frame) { f.big, f.hint = true, hint(0x1234) }),
		with("hint-zero-in-little", marks, func(f *frame) { f.hint = []byte{0, 0, 0, 0} }),
		half("half-mark-high", agreed|0x80000000, false),
		half("half-mark-low", agreed|0x80, false),
		half("half-mark-high-big", agreed|0x80000000, true),
		half("half-mark-low-big", agreed|0x80, true),
		{"big-everything", "client-protocol 3.1, 4.7", func(c *conversation) {
			p, g := c.open("p"), c.group("g")
			big := func(typ uint32, data string, groups ...string) frame {
				f := p.message(typ, data, groups...)
				f.big = true
				return f
			}
			p.send(big(join, "", g).bytes())
			p.wantView(view{cause: byJoin, group: g, members: []string{p.me}, who: p.me})
			m := big(safe, "from a big-endian client", g, p.me)
			p.send(m.bytes())
			p.want("its message", m.delivered())
			p.send(big(leave, "", g).bytes())
			p.want("its self-leave", selfLeave(g))
			p.send(big(kill, "", p.me).bytes())
			p.wantEnd()
		}},
		{"orders-mixed", "client-protocol 3.1: each message has its own", func(c *conversation) {
			st := c.stage()
			for i := range 6 {
				f := st.message(fifo, fmt.Sprint("message ", i))
				f.big = i%2 == 1
				st.s.send(f.bytes())
				st.s.want("the message", f.delivered())
				st.r.want("the message", f.delivered())
			}
			st.stays()
		}},
	})
}

func TestHint(t *testing.T) {
	var cases []testCase
	for _, m := range []int16{0, 1, -1, -2, 255, 256, 32767, -32767, -32768} {
		for _, big := range []bool{false, true} {
			cases = append(cases, passes(fmt.Sprintf("type-%d-%v", m, map[bool]string{false: "little", true: "big"}[big]), "client-protocol 3.3; features D43", func(st *stage) frame {
				f := st.message(causal, "tagged")
				if f.big, f.hint = big, hint(m); big {
					f.hint = hintBig(m)
				}
				return f
			}))
		}
	}
	// The allowed bits are 0x00ffff00 and the mark, in the order that the mark says.
	for i, h := range [][]byte{{0x81, 0, 0, 0x80}, {0xc0, 0, 0, 0x80}, {0xff, 0, 0, 0x80}, {0x80, 0, 0, 0x81}, {0x80, 0, 0, 0xc0},
		{0, 0, 0, 1}, {1, 0, 0, 0}, {0x40, 0, 0, 0}, {0, 0, 0, 0x7f}, {0xff, 0xff, 0xff, 0xff}} {
		cases = append(cases, drops(fmt.Sprintf("illegal-bits-%d", i), "client-protocol 3.3, 4.5 rule 4", func(st *stage) []byte {
			f := st.message(fifo, "")
			f.hint = h
			return f.bytes()
		}))
	}
	run(t, cases)
}

func TestNameField(t *testing.T) {
	const rule = "client-protocol 4.5 rule 2, 4.6; features S9"
	var cases []testCase
	for _, x := range []struct {
		what string
		name func(st *stage) string
	}{
		{"another-session", func(st *stage) string { return st.r.me }},
		{"another-daemon", func(st *stage) string { return "#" + st.user("s") + "#elsewhere" }},
		{"nobody", func(st *stage) string { return "#nobody#" + st.server.name }},
		{"empty", func(*stage) string { return "" }},
		{"a-group", func(st *stage) string { return st.group }},
		{"user-only", func(st *stage) string { return st.user("s") }},
		{"no-second-sign", func(st *stage) string { return "#" + st.user("s") }},
		{"no-daemon", func(st *stage) string { return "#" + st.user("s") + "#" }},
		{"no-user", func(st *stage) string { return "##" + st.server.name }},
		{"prefix", func(st *stage) string { return st.s.me[:len(st.s.me)-1] }},
		{"longer", func(st *stage) string { return st.s.me + "x" }},
		{"third-sign", func(st *stage) string { return st.s.me + "#x" }},
		{"upper-case", func(st *stage) string { return strings.ToUpper(st.s.me) }},
		{"blank-behind", func(st *stage) string { return st.s.me + " " }},
		{"without-NUL", func(*stage) string { return strings.Repeat("#", nameSize) }},
	} {
		for _, typ := range []uint32{fifo, kill} {
			kind := map[uint32]string{fifo: "message", kill: "kill"}[typ]
			cases = append(cases, drops(x.what+"-"+kind, rule, func(st *stage) []byte {
				f := st.message(typ, "")
				f.name = x.name(st)
				return f.bytes()
			}))
		}
	}
	cases = append(cases, testCase{"garbage-behind-the-NUL", "client-protocol 3.4: readers stop at the first NUL", func(c *conversation) {
		st := c.stage()
		f := st.message(fifo, "odd name")
		want := f.delivered()
		f.name += "\x00garbage"
		st.s.send(f.bytes())
		st.passes(want)
	}})
	run(t, cases)
}

func TestCounts(t *testing.T) {
	const rules = "client-protocol 4.5 rules 3 and 5, 3.5, 4.6"
	cases := twice(func(order string, big bool) (cases []testCase) {
		counted := func(what string, groups, data int) testCase {
			return drops(fmt.Sprintf("%s-%s", order, what), rules, func(st *stage) []byte {
				f := st.message(fifo, "")
				f.big = big
				return slicesJoin(f.header(groups, data), make([]byte, 64))
			})
		}
		return []testCase{
			counted("groups-minus-1", -1, 0), counted("groups-101", 101, 0), counted("groups-most-negative", -1<<31, 0), counted("groups-most", 1<<31-1, 0),
			counted("data-minus-1", 1, -1), counted("data-most-negative", 0, -1<<31), counted("data-most", 0, 1<<31-1),
			counted("data-over-no-group", 0, maxBody+1), counted("data-over-one-group", 1, maxBody-nameSize+1),
			counted("data-over-100-groups", 100, maxBody-100*nameSize+1), counted("both-minus", -1, -1),
			// Their sum is small as a 32-bit number.
			counted("sum-wraps", 100, 1<<31-1),
		}
	})
	for _, n := range []int{1, 2, 43, 44, 99, 100} {
		cases = append(cases, passes(fmt.Sprintf("groups-%d", n), "client-protocol 3.5, 4.6; features D41", func(st *stage) frame {
			var names []string
			for i := range n - 1 {
				names = append(names, fmt.Sprint("nobody", i))
			}
			return st.s.message(fifo, "to many", append(names, st.group)...)
		}))
	}
	cases = append(cases, ignores("groups-0", "client-protocol 4.4: delivered to nobody", func(st *stage) []byte { return st.s.message(fifo, "to nobody").bytes() }))
	for _, n := range []int{0, 1, 1383, 1384, 1385, 100000, 143120, 143121, maxBody - nameSize} {
		cases = append(cases, passes(fmt.Sprintf("data-%d", n), "client-protocol 3.5, 4.6; features D46, D47, W3", func(st *stage) frame {
			return st.message(agreed, strings.Repeat("0123456789abcdef", n/16+1)[:n])
		}))
	}
	cases = append(cases,
		passes("data-most-with-100-groups", "client-protocol 3.5, 4.6", func(st *stage) frame {
			names := append(slices.Repeat([]string{"nobody"}, 99), st.group)
			return st.s.message(safe, strings.Repeat("y", maxBody-100*nameSize), names...)
		}),
		ignores("data-most-without-groups", "client-protocol 3.5, 4.4", func(st *stage) []byte {
			return st.s.message(fifo, strings.Repeat("y", maxBody)).bytes()
		}))
	run(t, cases)
}

// TestPieces has frames that arrive otherwise than in one piece.
func TestPieces(t *testing.T) {
	var cases []testCase
	for _, at := range []int{1, 4, 36, 40, 44, 47, 48, 49, 79, 80, 81} {
		cases = append(cases, testCase{fmt.Sprintf("split-at-%d", at), "client-protocol 0: one stream of bytes", func(c *conversation) {
			st := c.stage()
			f := st.message(agreed, "in two pieces")
			b := f.bytes()
			st.s.send(b[:at])
			// The daemon has taken the first piece when it has answered somebody else who came later.
			st.r.nothing()
			st.s.send(b[at:])
			st.passes(f.delivered())
		}})
	}
	cases = append(cases,
		testCase{"many-in-one-write", "client-protocol 0, 2.4", func(c *conversation) {
			st := c.stage()
			var in []byte
			var out [][]byte
			for i := range 50 {
				f := st.message(fifo, strings.Repeat("x", i*7))
				in, out = append(in, f.bytes()...), append(out, f.delivered())
			}
			st.s.send(in)
			st.passes(out...)
		}},
		testCase{"one-and-a-half", "client-protocol 0", func(c *conversation) {
			st := c.stage()
			f, h := st.message(agreed, "whole"), st.message(agreed, "half")
			b := h.bytes()
			st.s.send(f.bytes(), b[:60])
			st.s.want("the whole one", f.delivered())
			st.r.want("the whole one", f.delivered())
			st.s.send(b[60:])
			st.passes(h.delivered())
		}},
		drops("garbage", "client-protocol 4.5, checklist 10", func(*stage) []byte { return bytes.Repeat([]byte{0xff}, 100) }),
		drops("text", "client-protocol 4.5, checklist 10", func(*stage) []byte {
			return []byte("GET /index.html HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
		}),
		drops("good-then-bad", "client-protocol 4.5", func(st *stage) []byte {
			return slicesJoin(st.s.message(fifo, "to nobody", "nobody").bytes(), st.message(0, "").bytes(), st.message(fifo, "never").bytes())
		}),
	)
	run(t, cases)
}
