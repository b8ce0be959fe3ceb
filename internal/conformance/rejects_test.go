// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"
	"strings"
	"testing"

	"evensong/internal/host"
	"evensong/internal/proto/access"
	"evensong/internal/proto/node"
)

const rejected = 0x400000

// rejection is what the sender of a refused request gets (client-protocol 4.6): the request with another type, its old one
// in four bytes that no count has, and the sender behind the groups, except where the list is full.
func rejection(f frame) []byte {
	old := f.typ
	switch {
	case old&join != 0:
		old = old&^join | byJoin
	case old&leave != 0:
		old = old&^leave | byLeave
	}
	h := f
	h.big, h.typ = false, rejected|f.typ&selfDiscard
	if f.hint == nil && f.big {
		h.hint = hintBig(0)
	}
	groups := slices.Clone(f.groups)
	if len(groups) < 100 {
		groups = append(groups, f.name)
	}
	return slicesJoin(h.header(len(groups), len(f.data)), word(int(old|mark)), names32(groups...), f.data)
}

// TestRejected: client-protocol 4.6; features D50, S7, H17. Nobody but the sender hears of it, and it stays a session.
func TestRejected(t *testing.T) {
	for _, loop := range []host.LoopKind{host.LoopAuto, host.LoopPortable} {
		testRejected(t, loop)
	}
}

func testRejected(t *testing.T, loop host.LoopKind) {
	deny := func(point access.Point, group string) access.Rule {
		return access.Rule{Points: access.PointsOf(point), Group: []access.Pattern{access.Pattern(group)}, Text: "deny " + group}
	}
	s := start(t, "strict", func(hc *host.Config, nc *node.Config) {
		hc.Loop = loop
		nc.Session.Rules = &access.Rules{List: []access.Rule{
			deny(access.Join, "closed*"), deny(access.Leave, "stay*"), deny(access.Multicast, "quiet*"), deny(access.Send, "#r*"),
			{Points: access.PointsOf(access.Open), User: []access.Pattern{"mallory"}, Text: "deny open"},
		}}
	})
	everyWay(t, s, func(c *conversation) {
		m := c.dial("mallory")
		m.send(connect("mallory", 1))
		m.want("the list", list("NULL"))
		m.send(choice("NULL"))
		m.want("its answer", reject(rejectAuth))
		m.wantEnd()

		st := c.stage()
		stay, quiet := c.group("stay"), c.group("quiet")
		joins(stay, st.s, st.r)
		joins(quiet, st.r)
		full := append(slices.Repeat([]string{"nobody"}, 98), quiet, st.group)
		tagged := st.s.message(agreed, "hush", st.group, quiet)
		tagged.hint = hint(-2)
		big := st.s.message(safe, "hush", quiet)
		big.big, big.hint = true, hintBig(0x1234)
		joinBig := st.s.message(join, "", c.group("closed"))
		joinBig.big = true
		for _, f := range []frame{
			st.s.message(join, "", c.group("closed")),
			st.s.message(join|selfDiscard, "", c.group("closed")),
			joinBig,
			st.s.message(join, "with data", c.group("closed")),
			st.s.message(leave, "", stay),
			st.s.message(fifo, "", quiet),
			tagged, big,
			st.s.message(agreed|selfDiscard, "not even to me", quiet),
			st.s.message(safe|subgroup, "high bits", quiet),
			st.s.message(fifo, "psst", st.r.me),
			st.s.message(fifo, "psst", st.group, st.r.me),
			st.s.message(agreed, strings.Repeat("large", 20000), quiet, st.group),
			st.s.message(causal, "a full list", full...),
		} {
			st.s.send(f.bytes())
			st.s.want("its request as it was", rejection(f))
		}
		// It still is a member where it may not leave, and nobody has got anything.
		n := st.s.message(agreed, "still a member", stay)
		st.s.send(n.bytes())
		st.s.want("its message", n.delivered())
		st.r.want("the message, and nothing before it", n.delivered())
		st.stays()

		// What waits for a client still reaches it when its session ends, by a header that breaks a rule or by its own wish.
		for _, end := range []func(*peer){
			func(p *peer) { p.send(p.message(fifo, "last", quiet).bytes(), p.message(0, "", quiet).bytes()) },
			func(p *peer) { p.send(p.message(fifo, "last", quiet).bytes()); p.halfClose() },
		} {
			p := c.open("t")
			end(p)
			p.want("its request as it was", rejection(p.message(fifo, "last", quiet)))
			p.wantEnd()
		}
	})
}
