// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"testing"

	"evensong/internal/host"
	"evensong/internal/proto/node"
)

// TestAbrupt: a client may go at any point and in any way, and say anything. What others have of the daemon stays as it
// is: the stage of the case, and its witness.
func TestAbrupt(t *testing.T) {
	const rule = "client-protocol 4.3, 4.5, 5.6, checklist 10"
	phases := []struct {
		name string
		to   func(c *conversation, p *peer)
	}{
		{"connected", func(*conversation, *peer) {}},
		{"in-connect", func(c *conversation, p *peer) { p.send(connect(c.user("x"), 1)[:5]) }},
		{"before-choice", func(c *conversation, p *peer) { p.send(connect(c.user("x"), 1)) }},
		{"in-choice", func(c *conversation, p *peer) { p.send(connect(c.user("x"), 1), choice("NULL")[:45]) }},
		{"accepted", func(_ *conversation, p *peer) { p.handshake(1) }},
		{"in-header", func(c *conversation, p *peer) {
			p.handshake(1)
			p.send(p.message(agreed, "never", c.group("other")).bytes()[:30])
		}},
		{"in-groups", func(c *conversation, p *peer) {
			p.handshake(1)
			p.send(p.message(agreed, "never", c.group("other")).bytes()[:60])
		}},
		{"in-data", func(c *conversation, p *peer) {
			p.handshake(1)
			p.send(p.message(agreed, "never", c.group("other")).bytes()[:82])
		}},
		{"in-large-data", func(c *conversation, p *peer) {
			p.handshake(1)
			p.send(p.message(agreed, string(make([]byte, 100000)), c.group("g")).bytes()[:70000])
		}},
		{"just-joined", func(c *conversation, p *peer) {
			p.handshake(1)
			p.send(p.request(join, c.group("other")))
		}},
	}
	var cases []testCase
	for _, ph := range phases {
		for _, end := range []struct {
			name string
			do   func(p *peer, noise *rand.Rand)
		}{
			{"close", func(p *peer, _ *rand.Rand) { p.conn.Close() }},
			{"reset", func(p *peer, _ *rand.Rand) { p.reset() }},
			{"half-close", func(p *peer, _ *rand.Rand) { p.halfClose() }},
			{"noise", func(p *peer, r *rand.Rand) {
				b := make([]byte, 300)
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				p.send(b)
				p.conn.Close()
			}},
			{"zeros", func(p *peer, _ *rand.Rand) {
				p.send(make([]byte, 300))
				p.conn.Close()
			}},
		} {
			cases = append(cases, testCase{ph.name + "-" + end.name, rule + "; features G9, G14", func(c *conversation) {
				st := c.stage()
				p := c.dial("x")
				ph.to(c, p)
				h := fnv.New64a()
				h.Write([]byte(c.Name()))
				end.do(p, rand.New(rand.NewPCG(h.Sum64(), 1))) // the same in each run
				st.stays()
			}})
		}
	}
	run(t, cases)
}

// TestNoise: random bytes as a first word, and behind an acceptance.
func TestNoise(t *testing.T) {
	var cases []testCase
	for seed := range uint64(20) {
		cases = append(cases, testCase{fmt.Sprintf("seed-%d", seed), "client-protocol checklist 10", func(c *conversation) {
			st := c.stage()
			r := rand.New(rand.NewPCG(seed, 2))
			b := make([]byte, 1+r.IntN(4000))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			p := c.dial("noise")
			p.send(b)
			q := c.open("q")
			q.send(b)
			p.conn.Close()
			q.conn.Close()
			// A good frame in which some bytes are wrong. It may pass, or end u.
			m := st.s.message(agreed, "somewhat wrong", c.group("other")).bytes()
			for range 3 {
				m[r.IntN(headerSize)] ^= byte(1 + r.IntN(255))
			}
			u := c.open("u")
			copy(m[4:36], name32(u.me))
			u.send(m)
			u.conn.Close()
			st.stays()
		}})
	}
	run(t, cases)
}

// TestSlowReader: client-protocol 6; features W6. Who does not read is cut off, and nobody else notices more than its
// disconnect. What it had in the kernel's buffers it still sees: whole messages from the first on, and a part at the end.
func TestSlowReader(t *testing.T) {
	const limit = 20
	for _, x := range []struct {
		what string
		set  func(nc *node.Config)
	}{
		{"messages", func(nc *node.Config) { nc.SessionQueue = limit }}, // MaxSessionMessages
		{"bytes", func(nc *node.Config) { nc.SessionBytes, nc.SessionHardBytes = 1<<20, 1<<20 }},
	} {
		s := start(t, "slow-"+x.what, func(_ *host.Config, nc *node.Config) { x.set(nc) })
		everyWay(t, s, func(c *conversation) {
			p, r, slow := c.open("p"), c.open("r"), c.open("s")
			if tcp, ok := slow.conn.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(64 << 10)
			}
			g := c.group("g")
			joins(g, r, slow)
			data := string(make([]byte, 100000))
			var sent []byte
			for i := 0; ; i++ {
				if i > 1000 {
					c.Fatal("100 MB wait for a client that does not read")
				}
				m := p.message(agreed, data, g)
				m.hint = hint(int16(i))
				p.send(m.bytes())
				if len(sent) < 1<<25 {
					sent = append(sent, m.delivered()...)
				}
				// The receiver that does read has each message before the next is sent, so that only the slow one is slow.
				got := r.next()
				if string(got) == string(m.delivered()) {
					continue
				}
				want := view{cause: byDisconnect, group: g, members: []string{r.me}, who: slow.me}.bytes(gid(got[headerSize+nameSize : headerSize+nameSize+12]))
				if string(got) != string(want) {
					c.Fatal(differ(got, want))
				}
				r.want("the message behind the disconnect", m.delivered())
				break
			}
			r.nothing()
			slow.wantRest(sent)
		})
	}
}
