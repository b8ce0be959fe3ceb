// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestJoin(t *testing.T) {
	const odd = "client-protocol 4.6"
	long := strings.Repeat("y", nameSize)
	// joined is a frame that makes s a member of a group.
	joined := func(name, cites string, of func(st *stage) (in []byte, group string)) testCase {
		return testCase{name, cites, func(c *conversation) {
			st := c.stage()
			in, group := of(st)
			st.s.send(in)
			st.s.wantView(view{cause: byJoin, group: group, members: []string{st.s.me}, who: st.s.me})
			st.stays()
		}}
	}
	ignored := func(name string, group string) testCase {
		return ignores(name, odd, func(st *stage) []byte { return st.s.request(join, group) })
	}
	run(t, []testCase{
		joined("first-member", "client-protocol 4.1, 5.3; features G20, G22", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			return st.s.request(join, g), g
		}),
		joined("with-self-discard", "client-protocol 4.1", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			return st.s.request(join|selfDiscard, g), g
		}),
		joined("name-of-31", "client-protocol 3.4; features G5", func(st *stage) ([]byte, string) {
			g := (st.conversation.group("long") + long)[:31]
			return st.s.request(join, g), g
		}),
		joined("name-of-signs", "client-protocol 3.4", func(st *stage) ([]byte, string) {
			g := st.conversation.group("$%~")
			return st.s.request(join, g), g
		}),
		joined("garbage-behind-the-NUL", "client-protocol 3.4", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			return st.s.request(join, g+"\x00garbage"), g
		}),
		joined("two-groups", odd+": only the first is joined", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			return st.s.message(join, "", g, "second").bytes(), g
		}),
		joined("with-data", odd+": data ignored", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			return st.s.message(join, "some data", g).bytes(), g
		}),
		joined("with-a-type", "client-protocol 3.3, 4.1", func(st *stage) ([]byte, string) {
			g := st.conversation.group("other")
			f := st.s.message(join, "", g)
			f.hint = hint(7)
			return f.bytes(), g
		}),
		{"again", "client-protocol 4.1; features G20", func(c *conversation) {
			st := c.stage()
			st.s.send(st.s.request(join, st.group))
			st.stays()
		}},
		{"again-and-again-then-leave-once", "client-protocol 4.1, 4.2", func(c *conversation) {
			st := c.stage()
			st.s.send(st.s.request(join, st.group), st.s.request(join, st.group), st.s.request(leave, st.group))
			st.s.want("its self-leave", selfLeave(st.group))
			st.r.wantView(view{cause: byLeave, group: st.group, members: []string{st.r.me}, who: st.s.me})
			st.s.nothing()
			st.r.nothing()
		}},
		ignored("empty-name", ""),
		ignored("blank-in-name", "a b"),
		ignored("control-character", "a\x01b"),
		ignored("eight-bit", "a\xe4b"),
		ignored("exclamation-mark", "a!"),
		ignored("delete", "a\x7f"),
		ignored("without-NUL", long),
		ignored("sign-of-private-groups", "#nope"),
		ignores("own-private-group", odd, func(st *stage) []byte { return st.s.request(join, st.s.me) }),
		ignores("foreign-private-group", odd+"; features D42", func(st *stage) []byte { return st.s.request(join, st.r.me) }),
		ignores("no-group", odd, func(st *stage) []byte { return st.s.message(join, "").bytes() }),
		ignores("no-group-but-data", odd+": data are not a name", func(st *stage) []byte {
			return st.s.message(join, string(name32(st.conversation.group("other")))).bytes()
		}),
		{"many-groups", "client-protocol 4.1; features G33", func(c *conversation) {
			p := c.open("p")
			var in []byte
			var groups []string
			for i := range 100 {
				groups = append(groups, c.group(fmt.Sprint("g", i)))
				in = append(in, p.request(join, groups[i])...)
			}
			p.send(in)
			ids := map[gid]bool{}
			for _, g := range groups {
				ids[p.wantView(view{cause: byJoin, group: g, members: []string{p.me}, who: p.me})] = true
			}
			if len(ids) != len(groups) {
				c.Errorf("%d ids for the views of %d groups", len(ids), len(groups))
			}
			p.nothing()
		}},
	})
}

func TestLeave(t *testing.T) {
	const odd = "client-protocol 4.2, 4.6"
	run(t, []testCase{
		{"member", "client-protocol 4.2, 5.5; features G21, G23, G26", func(c *conversation) {
			st := c.stage()
			st.s.send(st.s.request(leave, st.group))
			st.s.want("its self-leave", selfLeave(st.group))
			id := st.r.wantView(view{cause: byLeave, group: st.group, members: []string{st.r.me}, who: st.s.me})
			if id == st.last {
				c.Error("the id has not changed")
			}
			// What comes later does not reach it, though it may still send.
			m := st.message(agreed, "from outside")
			st.s.send(m.bytes())
			st.r.want("a message from outside", m.delivered())
			st.s.nothing()
			st.r.nothing()
		}},
		{"last-member", "client-protocol 4.2, 5.5; features G21", func(c *conversation) {
			p, g := c.open("p"), c.group("g")
			joins(g, p)
			p.send(p.request(leave, g))
			p.want("its self-leave", selfLeave(g))
			m := p.message(agreed, "to an empty group", g)
			p.send(m.bytes())
			p.nothing()
		}},
		{"own-messages-before", "client-protocol 5.5: what was ordered before is delivered before", func(c *conversation) {
			st := c.stage()
			m := st.message(agreed, "one more")
			st.s.send(m.bytes(), st.s.request(leave, st.group))
			st.s.want("its message", m.delivered())
			st.s.want("its self-leave", selfLeave(st.group))
			st.r.want("the message", m.delivered())
			st.r.wantView(view{cause: byLeave, group: st.group, members: []string{st.r.me}, who: st.s.me})
		}},
		{"and-come-back", "client-protocol 4.2; features G26, vector 14", func(c *conversation) {
			st := c.stage()
			seen := map[gid]bool{st.last: true}
			both := []string{st.r.me, st.s.me}
			slices.Sort(both)
			for range 3 {
				st.s.send(st.s.request(leave, st.group), st.s.request(join, st.group))
				st.s.want("its self-leave", selfLeave(st.group))
				away := st.r.wantView(view{cause: byLeave, group: st.group, members: []string{st.r.me}, who: st.s.me})
				back := st.r.wantView(view{cause: byJoin, group: st.group, members: both, who: st.s.me})
				if own := st.s.wantView(view{cause: byJoin, group: st.group, members: both, who: st.s.me}); own != back {
					c.Errorf("ids of one view differ: % x, % x", own, back)
				}
				if seen[away] || seen[back] || away == back {
					c.Error("an id came twice")
				}
				seen[away], seen[back] = true, true
			}
			st.stays()
		}},
		ignores("not-a-member", odd+"; features G21", func(st *stage) []byte { return st.s.request(leave, st.conversation.group("other")) }),
		ignores("unknown-group", odd, func(st *stage) []byte { return st.s.request(leave, "nobody-has-this") }),
		{"twice", odd + "; vector 17", func(c *conversation) {
			st := c.stage()
			st.s.send(st.s.request(leave, st.group), st.s.request(leave, st.group))
			st.s.want("its self-leave", selfLeave(st.group))
			st.s.nothing()
			st.r.wantView(view{cause: byLeave, group: st.group, members: []string{st.r.me}, who: st.s.me})
			st.r.nothing()
		}},
		ignores("own-private-group", odd+": what the Perl client does", func(st *stage) []byte { return st.s.request(leave, st.s.me) }),
		ignores("foreign-private-group", odd, func(st *stage) []byte { return st.s.request(leave, st.r.me) }),
		ignores("no-group", odd, func(st *stage) []byte { return st.s.message(leave, "").bytes() }),
		ignores("illegal-name", odd, func(st *stage) []byte { return st.s.request(leave, "a b") }),
		{"two-groups", odd, func(c *conversation) {
			st := c.stage()
			other := c.group("other")
			joins(other, st.s)
			st.s.send(st.s.message(leave, "", other, st.group).bytes())
			st.s.want("its self-leave", selfLeave(other))
			st.stays()
		}},
		{"perl-way-to-go", "client-protocol 4.6, appendix B", func(c *conversation) {
			st := c.stage()
			st.s.send(st.s.request(leave, st.s.me))
			st.s.conn.Close()
			st.r.wantView(view{cause: byDisconnect, group: st.group, members: []string{st.r.me}, who: st.s.me})
		}},
	})
}

func TestDisconnect(t *testing.T) {
	const kills = "client-protocol 4.3; features G7, G24"
	messages := func(st *stage) (in []byte, out [][]byte) {
		for i, typ := range []uint32{fifo, causal, agreed, safe, fifo} {
			m := st.message(typ, fmt.Sprint("last words ", i))
			in, out = append(in, m.bytes()...), append(out, m.delivered())
		}
		return in, out
	}
	gone := func(st *stage, before ...[]byte) {
		st.Helper()
		for _, b := range before {
			st.r.want("what was sent before the end", b)
		}
		st.r.wantView(view{cause: byDisconnect, group: st.group, members: []string{st.r.me}, who: st.s.me})
		st.r.nothing()
	}
	run(t, []testCase{
		drops("kill", kills, func(st *stage) []byte { return st.s.request(kill, st.s.me) }),
		drops("kill-no-group", kills, func(st *stage) []byte { return st.s.message(kill, "").bytes() }),
		drops("kill-foreign-group", kills+": nobody else", func(st *stage) []byte { return st.s.request(kill, st.r.me) }),
		drops("kill-two-groups", kills, func(st *stage) []byte { return st.s.message(kill, "", st.s.me, st.r.me).bytes() }),
		drops("kill-illegal-group", kills, func(st *stage) []byte { return st.s.request(kill, "a b") }),
		drops("kill-garbage-behind-the-NUL", kills+", 3.4", func(st *stage) []byte { return st.s.request(kill, st.s.me+"\x00\t\x00\x01") }),
		drops("kill-with-more-behind", kills, func(st *stage) []byte {
			return slicesJoin(st.s.request(kill, st.s.me), st.message(agreed, "from beyond").bytes())
		}),
		drops("kill-header-only", kills+": the group is not looked at", func(st *stage) []byte { return st.s.message(kill, "", st.s.me).bytes()[:headerSize] }),
		{"kill-in-no-group", kills, func(c *conversation) {
			p := c.open("p")
			p.send(p.request(kill, p.me))
			p.wantEnd()
		}},
		{"kill-in-several-groups", kills + ": one notice per group", func(c *conversation) {
			s, r := c.open("s"), c.open("r")
			groups := []string{c.group("a"), c.group("b"), c.group("c")}
			for _, g := range groups {
				joins(g, s, r)
			}
			alone := c.group("alone")
			joins(alone, s)
			s.send(s.request(kill, s.me))
			s.wantEnd()
			left := map[string]bool{}
			for range groups {
				b, err := r.read(headerSize)
				if err != nil {
					c.Fatal(err)
				}
				g, _, _ := strings.Cut(string(b[4:36]), "\x00")
				rest, err := r.read(nameSize + 56)
				if err != nil {
					c.Fatal(err)
				}
				want := view{cause: byDisconnect, group: g, members: []string{r.me}, who: s.me}.bytes(gid(rest[nameSize : nameSize+12]))
				if got := slicesJoin(b, rest); string(got) != string(want) {
					c.Fatal(differ(got, want))
				}
				left[g] = true
			}
			for _, g := range groups {
				if !left[g] {
					c.Errorf("no notice for %s", g)
				}
			}
			r.nothing()
		}},
		{"messages-before-kill", "client-protocol 4.3: still multicast, in order", func(c *conversation) {
			st := c.stage()
			in, out := messages(st)
			st.s.send(in, st.s.request(kill, st.s.me))
			gone(st, out...)
		}},
		{"messages-before-close", "client-protocol 4.3; features G8, G9", func(c *conversation) {
			st := c.stage()
			in, out := messages(st)
			st.s.send(in)
			st.s.halfClose()
			gone(st, out...)
		}},
		{"messages-before-bad-header", "client-protocol 4.5", func(c *conversation) {
			st := c.stage()
			in, out := messages(st)
			st.s.send(in, st.message(0, "").bytes())
			gone(st, out...)
		}},
		{"partial-header-before-close", "client-protocol 4.3: a part is discarded", func(c *conversation) {
			st := c.stage()
			in, out := messages(st)
			st.s.send(in, st.message(agreed, "cut").bytes()[:20])
			st.s.halfClose()
			gone(st, out...)
		}},
		{"partial-data-before-close", "client-protocol 4.3: a part is discarded", func(c *conversation) {
			st := c.stage()
			in, out := messages(st)
			m := st.message(agreed, "cut").bytes()
			st.s.send(in, m[:len(m)-1])
			st.s.halfClose()
			gone(st, out...)
		}},
		{"reset", "client-protocol 4.3, 5.6; features G9", func(c *conversation) {
			st := c.stage()
			st.s.reset()
			gone(st)
		}},
		{"reset-in-a-message", "client-protocol 4.3, 5.6; features G9", func(c *conversation) {
			st := c.stage()
			m := st.message(agreed, "cut").bytes()
			st.s.send(m[:len(m)-1])
			st.s.reset()
			gone(st)
		}},
		{"reset-with-unread-messages", "client-protocol 5.6", func(c *conversation) {
			st := c.stage()
			for range 10 {
				m := st.r.message(fifo, "never read", st.group)
				st.r.send(m.bytes())
				st.r.want("the message", m.delivered())
			}
			st.s.reset()
			gone(st)
		}},
	})
}
