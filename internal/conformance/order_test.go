// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// next is the next frame, whatever it is.
func (p *peer) next() []byte {
	p.c.Helper()
	h, err := p.read(headerSize)
	if err != nil {
		p.c.Fatalf("%s wants one more message: %v", p.what, err)
	}
	body, err := p.read(bodySize(h))
	if err != nil {
		p.c.Fatalf("%s wants the rest of a message: %v", p.what, err)
	}
	return append(h, body...)
}

// bodySize is what follows a daemon's header.
func bodySize(h []byte) int {
	at := func(i int) int { return int(h[i]) | int(h[i+1])<<8 | int(h[i+2])<<16 | int(h[i+3])<<24 }
	return nameSize*at(36) + at(44)
}

func TestViews(t *testing.T) {
	run(t, []testCase{
		{"members-in-order-of-names", "client-protocol 5.3; features G29", func(c *conversation) {
			g := c.group("g")
			joins(g, c.open("m"), c.open("z"), c.open("B"), c.open("a"), c.open("$"), c.open("~"))
		}},
		{"ids-change-each-time", "client-protocol 5.2; features G28", func(c *conversation) {
			g := c.group("g")
			p, q, r := c.open("p"), c.open("q"), c.open("r")
			seen := map[gid]bool{joins(g, p): true}
			once := func(id gid) {
				c.Helper()
				if seen[id] {
					c.Errorf("the id % x came twice", id)
				}
				seen[id] = true
			}
			q.send(q.request(join, g))
			two := []string{p.me, q.me}
			once(p.wantView(view{cause: byJoin, group: g, members: two, who: q.me}))
			r.send(r.request(join, g))
			once(p.wantView(view{cause: byJoin, group: g, members: append(two, r.me), who: r.me}))
			q.send(q.request(leave, g))
			once(p.wantView(view{cause: byLeave, group: g, members: []string{p.me, r.me}, who: q.me}))
			r.conn.Close()
			once(p.wantView(view{cause: byDisconnect, group: g, members: []string{p.me}, who: r.me}))
			p.send(p.request(leave, g))
			p.want("its self-leave", selfLeave(g))
			// The original begins anew here; ours never uses an id again (vector 17).
			once(joins(g, p))
			p.send(p.request(leave, g))
			p.want("its self-leave", selfLeave(g))
			once(joins(g, p))
		}},
		{"ids-of-groups-differ", "client-protocol 5.2", func(c *conversation) {
			p := c.open("p")
			if joins(c.group("g"), p) == joins(c.group("h"), p) {
				c.Error("views of two groups have one id")
			}
		}},
		{"flag-off-is-listed", "client-protocol 5.3, vector 8; features G6", func(c *conversation) {
			g := c.group("g")
			p := c.open("p")
			joins(g, p)
			b := c.openWith("b", 0)
			b.send(b.request(join, g))
			p.wantView(view{cause: byJoin, group: g, members: []string{b.me, p.me}, who: b.me})
			b.conn.Close()
			p.wantView(view{cause: byDisconnect, group: g, members: []string{p.me}, who: b.me})
		}},
		{"old-client-gets-the-same", "client-protocol 2.6", func(c *conversation) {
			o := c.dial("o")
			o.send(connectAs(3, 1, 0, 1, c.user("o")))
			o.me = c.private("o")
			o.want("acceptance", acceptOld(o.me))
			g := c.group("g")
			p := c.open("p")
			joins(g, o, p)
			p.send(p.request(leave, g))
			o.wantView(view{cause: byLeave, group: g, members: []string{o.me}, who: p.me})
		}},
		{"many-members", "client-protocol 5.3, 5.7; features G33", func(c *conversation) {
			g := c.group("g")
			p := c.open("a")
			joins(g, p)
			members := []string{p.me}
			var last gid
			for i := range 105 { // more than a message may have destinations
				m := c.openWith(fmt.Sprintf("m%02x", i), 0)
				m.send(m.request(join, g))
				members = append(members, m.me)
				slices.Sort(members)
				if id := p.wantView(view{cause: byJoin, group: g, members: members, who: m.me}); id == last {
					c.Error("the id has not changed")
				}
			}
		}},
		{"another-group-sees-nothing", "client-protocol 5.3", func(c *conversation) {
			st := c.stage()
			p := c.open("p")
			joins(c.group("other"), p)
			p.conn.Close()
			st.stays()
		}},
	})
}

func TestOrder(t *testing.T) {
	const each = 40
	// both lets peers send at the same time, and compares what two receivers get.
	both := func(c *conversation, r, q *peer, frames int, senders ...func()) [][]byte {
		c.Helper()
		var wg sync.WaitGroup
		for _, send := range senders {
			wg.Go(send)
		}
		var got [][]byte
		for range frames {
			got = append(got, r.next())
		}
		wg.Wait()
		for i, f := range got {
			if g := q.next(); string(g) != string(f) {
				c.Fatalf("message %d differs at %s and %s\n%s", i, q.what, r.what, differ(g, f))
			}
		}
		return got
	}
	many := func(p *peer, typ uint32, groups ...string) func() {
		return func() {
			for i := range each {
				p.send(p.message(typ, fmt.Sprint(p.what, " ", i), groups[i%len(groups)]).bytes())
			}
		}
	}
	// inOrder sees that the messages of each sender come in the order in which it sent them.
	inOrder := func(c *conversation, got [][]byte, senders ...*peer) {
		c.Helper()
		for _, s := range senders {
			n := 0
			for _, f := range got {
				if strings.HasSuffix(string(f), fmt.Sprint(s.what, " ", n)) {
					n++
				} else if strings.HasPrefix(string(f[headerSize+nameSize:]), s.what+" ") {
					c.Fatalf("%q comes when message %d of %s should", f[headerSize+nameSize:], n, s.what)
				}
			}
			if n != each {
				c.Errorf("%d messages of %s in order, want %d", n, s.what, each)
			}
		}
	}
	var cases []testCase
	for _, s := range services[2:] {
		cases = append(cases, testCase{"fifo-across-groups-" + s.name, "client-protocol 3.6; features D3", func(c *conversation) {
			r, p := c.open("r"), c.open("p")
			g, h := c.group("g"), c.group("h")
			joins(g, r)
			joins(h, r)
			many(p, s.bit, g, h, r.me)()
			for i := range each {
				m := p.message(s.bit, fmt.Sprint("p ", i), []string{g, h, r.me}[i%3])
				r.want(fmt.Sprint("message ", i), m.delivered())
			}
		}})
	}
	for _, s := range services[3:] {
		cases = append(cases, testCase{"one-order-of-two-groups-" + s.name, "client-protocol 3.6; features D5, D4, D6, D11", func(c *conversation) {
			r, q := c.open("r"), c.open("q")
			g, h := c.group("g"), c.group("h")
			joins(g, q, r)
			joins(h, q, r)
			x, y, z := c.open("x"), c.open("y"), c.open("z")
			got := both(c, r, q, 3*each, many(x, s.bit, g), many(y, s.bit, h), many(z, s.bit, g, h))
			inOrder(c, got, x, y, z)
		}})
	}
	run(t, append(cases,
		testCase{"one-order-of-mixed-services", "client-protocol 3.6; features D8", func(c *conversation) {
			r, q := c.open("r"), c.open("q")
			g := c.group("g")
			joins(g, q, r)
			x, y, z := c.open("x"), c.open("y"), c.open("z")
			inOrder(c, both(c, r, q, 3*each, many(x, causal, g), many(y, agreed, g), many(z, safe, g)), x, y, z)
		}},
		testCase{"members-and-messages-in-one-order", "client-protocol 3.6; features G20", func(c *conversation) {
			r, q := c.open("r"), c.open("q")
			g := c.group("g")
			joins(g, q, r)
			x, y := c.open("x"), c.openWith("y", 0)
			both(c, r, q, 2*each, many(x, agreed, g), func() {
				for range each / 2 {
					y.send(y.request(join, g), y.request(leave, g))
				}
			})
		}},
		testCase{"answer-behind-its-question", "client-protocol 3.6; features D4", func(c *conversation) {
			r, p, q := c.open("r"), c.open("p"), c.open("q")
			g, h := c.group("g"), c.group("h")
			joins(g, q)
			joins(h, r)
			for _, typ := range []uint32{causal, agreed, safe} {
				question := p.message(typ, "question", g, h)
				p.send(question.bytes())
				q.want("the question", question.delivered())
				answer := q.message(typ, "answer", h)
				q.send(answer.bytes())
				r.want("the question", question.delivered())
				r.want("the answer", answer.delivered())
			}
		}},
		testCase{"message-before-and-behind-a-join", "client-protocol 3.6, 5.3", func(c *conversation) {
			st := c.stage()
			p := c.open("p")
			before, behind := p.message(agreed, "before", st.group), p.message(agreed, "behind", st.group)
			p.send(before.bytes(), p.request(join, st.group), behind.bytes())
			v := view{cause: byJoin, group: st.group, members: []string{p.me, st.r.me, st.s.me}, who: p.me}
			p.wantView(v)
			p.want("the message behind", behind.delivered())
			for _, x := range []*peer{st.r, st.s} {
				x.want("the message before", before.delivered())
				x.wantView(v)
				x.want("the message behind", behind.delivered())
			}
		}},
	))
}
