// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"
	"testing"
)

var services = []struct {
	name string
	bit  uint32
}{{"unreliable", unreliable}, {"reliable", reliable}, {"fifo", fifo}, {"causal", causal}, {"agreed", agreed}, {"safe", safe}}

func TestServices(t *testing.T) {
	var cases []testCase
	for i, s := range services {
		rows := fmt.Sprintf("client-protocol 4.4, 5.1; features D%d, D9", i+1)
		cases = append(cases,
			passes(s.name, rows, func(st *stage) frame { return st.message(s.bit, "by "+s.name) }),
			passes(s.name+"-in-big-order", rows+", client-protocol 3.1", func(st *stage) frame {
				f := st.message(s.bit, "by "+s.name)
				f.big, f.hint = true, hintBig(int16(i))
				return f
			}),
			passes(s.name+"-subgroup", "client-protocol 3.2, 8: the flush layer's bit travels", func(st *stage) frame { return st.message(s.bit|subgroup, "subgroup cast") }),
			passes(s.name+"-large", rows+", D46", func(st *stage) frame { return st.message(s.bit, strings.Repeat(s.name, 3000)) }),
			testCase{s.name + "-self-discard", "client-protocol 4.4; features D10", func(c *conversation) {
				st := c.stage()
				m := st.message(s.bit|selfDiscard, "not to me")
				st.s.send(m.bytes())
				st.r.want("the message", m.delivered())
				st.stays()
			}},
			testCase{s.name + "-from-outside", "client-protocol 4.4; features D40, D9", func(c *conversation) {
				st := c.stage()
				p := c.open("p")
				m := p.message(s.bit, "from outside", st.group)
				p.send(m.bytes())
				st.passes(m.delivered())
				p.nothing()
			}},
		)
	}
	run(t, cases)
}

func TestDestinations(t *testing.T) {
	const rule = "client-protocol 4.4"
	without := strings.Repeat("z", nameSize)
	// nowhere is a message that reaches nobody, and beside is one that reaches the group in spite of what else it names.
	nowhere := func(name, cites string, groups func(st *stage) []string) []testCase {
		return []testCase{
			ignores(name, cites, func(st *stage) []byte { return st.s.message(fifo, "to nobody", groups(st)...).bytes() }),
			passes(name+"-and-the-group", cites, func(st *stage) frame {
				return st.s.message(agreed, "to the group", append(groups(st), st.group)...)
			}),
		}
	}
	var cases []testCase
	for _, x := range []struct {
		name, cites string
		groups      func(st *stage) []string
	}{
		{"unknown-group", rule + "; features D40", func(st *stage) []string { return []string{st.conversation.group("other")} }},
		{"unknown-user", "client-protocol 4.6; features D42", func(st *stage) []string { return []string{"#nope#" + st.server.name} }},
		{"unknown-daemon", "client-protocol 4.6", func(st *stage) []string { return []string{"#" + st.user("s") + "#elsewhere"} }},
		{"half-a-private-group", "client-protocol 4.6", func(*stage) []string { return []string{"#nope"} }},
		{"empty-name", "client-protocol 4.6", func(*stage) []string { return []string{""} }},
		{"blank", "client-protocol 4.6", func(*stage) []string { return []string{"a b"} }},
		{"control-character", "client-protocol 4.6", func(*stage) []string { return []string{"a\x01"} }},
		{"eight-bit", "client-protocol 4.6", func(*stage) []string { return []string{"gr\xfcn"} }},
		{"without-NUL", "client-protocol 4.6, 3.4", func(*stage) []string { return []string{without} }},
		{"signs-only", "client-protocol 4.6", func(*stage) []string { return []string{"#", "##", "###"} }},
		{"all-of-them", "client-protocol 4.6", func(*stage) []string { return []string{"", without, "#nope", "a b", "\xff", "unknown"} }},
		{"other-case", "client-protocol 3.4", func(st *stage) []string { return []string{strings.ToUpper(st.group)} }},
		{"prefix-of-the-group", "client-protocol 3.4", func(st *stage) []string { return []string{st.group[:len(st.group)-1], st.group + "x"} }},
	} {
		cases = append(cases, nowhere(x.name, x.cites, x.groups)...)
	}
	cases = append(cases,
		passes("group-twice", rule+": one copy; features D41", func(st *stage) frame { return st.s.message(fifo, "once", st.group, st.group) }),
		passes("group-100-times", rule+": one copy", func(st *stage) frame {
			return st.s.message(fifo, "once", strings.Fields(strings.Repeat(st.group+" ", 100))...)
		}),
		passes("group-and-both-private-groups", rule+": one copy; features D42", func(st *stage) frame {
			return st.s.message(safe, "once", st.s.me, st.group, st.r.me)
		}),
		passes("garbage-behind-the-NUL-of-a-group", "client-protocol 3.4", func(st *stage) frame {
			return st.s.message(fifo, "odd list", "nobody\x00garbage", st.group)
		}),
		passes("garbage-behind-the-NUL-of-the-group", "client-protocol 3.4: never compare whole fields", func(st *stage) frame {
			return st.s.message(fifo, "odd name", st.group+"\x00garbage")
		}),
		testCase{"two-groups-one-copy", rule + ", 4.7; features D41, vector 11", func(c *conversation) {
			st := c.stage()
			other := c.group("other")
			q := c.open("q")
			joins(other, st.s)
			st.s.send(st.s.request(leave, other))
			st.s.want("its self-leave", selfLeave(other))
			joins(other, st.s)
			q.send(q.request(join, other))
			members := []string{q.me, st.s.me}
			st.s.wantView(view{cause: byJoin, group: other, members: members, who: q.me})
			q.wantView(view{cause: byJoin, group: other, members: members, who: q.me})
			m := st.s.message(fifo, "multi", st.group, other, "nosuch")
			st.s.send(m.bytes())
			q.want("one copy", m.delivered())
			st.passes(m.delivered())
			q.nothing()
		}},
		testCase{"private", rule + ", 4.7; features D42, vector 12", func(c *conversation) {
			p, q, r := c.open("p"), c.open("q"), c.open("r")
			m := p.message(fifo, "private", q.me)
			p.send(m.bytes())
			q.want("the message", m.delivered())
			q.nothing()
			p.nothing()
			r.nothing()
		}},
		testCase{"private-to-itself", rule + "; features D42", func(c *conversation) {
			p := c.open("p")
			m := p.message(safe, "to myself", p.me)
			p.send(m.bytes())
			p.want("its message", m.delivered())
			p.nothing()
		}},
		testCase{"private-to-itself-with-self-discard", rule + "; features D10", func(c *conversation) {
			p := c.open("p")
			p.send(p.message(agreed|selfDiscard, "to nobody", p.me).bytes())
			p.nothing()
		}},
		testCase{"private-to-the-dead", rule + ", 4.6; features D42", func(c *conversation) {
			p, q := c.open("p"), c.open("q")
			q.send(q.request(kill, q.me))
			q.wantEnd()
			p.send(p.message(fifo, "too late", q.me).bytes())
			p.nothing()
			// Nor does it wait for the next of that name.
			takeName(c, "q").nothing()
		}},
		testCase{"private-does-not-reach-a-successor-twice", rule, func(c *conversation) {
			p, q := c.open("p"), c.open("q")
			q.conn.Close()
			q = takeName(c, "q")
			m := p.message(fifo, "to the successor", q.me)
			p.send(m.bytes())
			q.want("the message", m.delivered())
			q.nothing()
		}},
		testCase{"flag-off-gets-data", "client-protocol 5.1; features G6", func(c *conversation) {
			st := c.stage()
			q := c.openWith("q", 0)
			q.send(q.request(join, st.group))
			members := []string{q.me, st.r.me, st.s.me}
			st.s.wantView(view{cause: byJoin, group: st.group, members: members, who: q.me})
			st.r.wantView(view{cause: byJoin, group: st.group, members: members, who: q.me})
			m := st.message(safe, "data")
			st.s.send(m.bytes())
			q.want("the message, and no notice before it", m.delivered())
			st.passes(m.delivered())
			q.want("the message of stays", st.message(agreed, "still there").delivered())
			// Not even its own leave is told to it.
			q.send(q.request(leave, st.group))
			members = members[1:]
			st.s.wantView(view{cause: byLeave, group: st.group, members: members, who: q.me})
			q.nothing()
		}},
	)
	run(t, cases)
}
