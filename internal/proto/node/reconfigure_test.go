// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
)

// reconfigure changes node i as a daemon that has read its file again would.
func (c *cluster) reconfigure(i int, change func(*Config)) {
	c.t.Helper()
	n := c.nodes[i]
	next := n.m.cfg
	change(&next)
	if err := n.m.Reconfigure(c.now, next, &n.fx); err != nil {
		c.t.Fatal(err)
	}
	c.after(i)
}

// setAccess has node i judge by other rules, and offer other methods to those who connect from now on.
func (c *cluster) setAccess(i int, rules *access.Rules, methods ...session.AuthMethod) {
	c.t.Helper()
	c.reconfigure(i, func(n *Config) { n.Session.Methods, n.Session.Rules = methods, rules })
}

// Windows and timers change under load, one daemon after the other: no configuration changes, nothing is lost or
// doubled, and what was asked for is in force.
func TestReconfigureUnderLoad(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	var ks []*testConn
	for i := range 3 {
		k := c.connect(i, fmt.Sprintf("u%d", i), false)
		c.send(k, frame.AppendJoin(nil, fmt.Sprintf("#u%d#%c", i, 'a'+i), "g"))
		ks = append(ks, k)
	}
	c.pass(100 * time.Millisecond)
	before := c.nodes[0].m.Configuration()
	sent := 0
	for round := range 30 {
		for i, k := range ks {
			for range 40 {
				c.send(k, frame.AppendMulticast(nil, fmt.Sprintf("#u%d#%c", i, 'a'+i), frame.TypeAgreed, 0, []string{"g"}, fmt.Appendf(nil, "%06d", sent)))
				sent++
			}
		}
		switch {
		case round < 3:
			c.reconfigure(round, func(n *Config) {
				n.Ring = ring.Config{GlobalWindow: 500, PersonalWindow: 100, AcceleratedWindow: 50, TokenTimeout: 100 * time.Millisecond}
				n.Membership = membership.Config{}
			})
		case round < 6:
			c.reconfigure(round-3, func(n *Config) { n.Ring, n.Membership = ring.Config{TokenTimeout: time.Second}, membership.Config{} })
		case round < 9:
			if err := c.nodes[round-6].m.SetWindows(c.now, 30, 10, 0); err != nil {
				t.Fatal(err)
			}
			if g, p, a := c.nodes[round-6].m.Windows(); g != 30 || p != 10 || a != 10 {
				t.Errorf("windows %d, %d, %d", g, p, a)
			}
		}
		c.pass(20 * time.Millisecond)
	}
	c.pass(time.Second)
	if now := c.nodes[0].m.Configuration(); now != before {
		t.Errorf("configuration %v became %v", before.ID, now.ID)
	}
	var first []string
	for i, k := range ks {
		seen, order := map[string]bool{}, []string(nil)
		for _, m := range c.messages(k) {
			if m.Type.Kind() != frame.KindRegular {
				continue
			}
			if s := string(m.Data); seen[s] {
				t.Errorf("client %d got %s twice", i, s)
			} else {
				seen[s], order = true, append(order, s)
			}
		}
		if len(seen) != sent {
			t.Errorf("client %d got %d of %d messages", i, len(seen), sent)
		}
		if i > 0 && strings.Join(order, " ") != strings.Join(first, " ") {
			t.Errorf("client %d got another order", i)
		}
		first = order
	}
}

// What is wrong is refused as a whole, with every reason.
func TestReconfigureRefuses(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes[0]
	c.pass(50 * time.Millisecond)
	bad := n.m.cfg
	bad.Ring = ring.Config{PersonalWindow: 50, GlobalWindow: 20}
	bad.Peers = []netip.AddrPort{{}}
	bad.SessionBytes = -1
	err := n.m.Reconfigure(c.now, bad, &n.fx)
	if err == nil || !strings.Contains(err.Error(), "window 20") || !strings.Contains(err.Error(), "peer address") || !strings.Contains(err.Error(), "budget of -1") {
		t.Errorf("error %v", err)
	}
	if g, p, _ := n.m.Windows(); g != 160 || p != 40 || n.m.cfg.SessionBytes < 0 {
		t.Errorf("windows %d and %d after a refusal", g, p)
	}
	for _, w := range [][3]int{{39, 0, 0}, {0, 161, 0}, {0, 0, 41}, {ring.MaxSpan, 0, 0}} {
		if err := n.m.SetWindows(c.now, w[0], w[1], w[2]); err == nil {
			t.Errorf("windows %v were accepted", w)
		}
	}
	if g, p, a := n.m.Windows(); g != 160 || p != 40 || a != 20 {
		t.Errorf("windows %d, %d, %d after refusals", g, p, a)
	}
}

// Other addresses of peers are spoken to soon, and nothing else changes: not the configuration, not the windows of an operator.
func TestSetPeers(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes[0]
	if err := n.m.SetWindows(c.now, 30, 10, 5); err != nil {
		t.Fatal(err)
	}
	before := n.m.Configuration()
	at := netip.MustParseAddrPort("10.0.0.9:4803")
	set := func(peers ...netip.AddrPort) bool {
		t.Helper()
		n.fx.Reset()
		changed, err := n.m.SetPeers(c.now, peers, &n.fx)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if !set(testAddr(0), at) {
		t.Error("new addresses are none")
	}
	spoken := func() bool {
		for end := c.now + 50*time.Millisecond; ; { // well before the next probe was due
			if slices.ContainsFunc(n.fx.Sends, func(s packet.Send) bool { return slices.Contains(s.To, at) }) {
				return true
			}
			if n.m.Deadline() > end {
				return false
			}
			c.now = n.m.Deadline()
			n.fx.Reset()
			n.m.Advance(c.now, &n.fx)
		}
	}
	if !spoken() {
		t.Error("nothing goes to the new address")
	}
	if set(testAddr(0), at) || len(n.fx.Sends) > 0 {
		t.Error("the same addresses are others")
	}
	set(testAddr(0))
	if spoken() {
		t.Error("something goes to the address that is gone")
	}
	if _, err := n.m.SetPeers(c.now, []netip.AddrPort{{}}, &n.fx); err == nil || len(n.m.cfg.Peers) != 1 || len(n.m.cfg.Membership.Peers) != 1 {
		t.Errorf("a bad address: %v, peers %v", err, n.m.cfg.Peers)
	}
	if g, p, a := n.m.Windows(); g != 30 || p != 10 || a != 5 {
		t.Errorf("windows %d, %d, %d", g, p, a)
	}
	if n.m.Configuration() != before {
		t.Error("the configuration has changed")
	}
}
