// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
)

// cluster is a few nodes on a perfect network in virtual time: for tests of what a node does. What networks do to nodes
// is the simulator's business.
type cluster struct {
	t      *testing.T
	now    time.Duration
	nodes  []*testNode
	flying []datagram
	side   []int // component of each node
}

type datagram struct {
	at   time.Duration
	from int
	to   int
	b    []byte
}

type testNode struct {
	m     *Machine
	fx    Effects
	dead  bool
	conns map[uint64]*testConn
}

// testConn is a client's end of a connection.
type testConn struct {
	node   int
	id     uint64
	got    []byte
	rest   []byte // not taken by the node yet
	closed bool
	reason string
	deaf   bool // does not read, except through sip
}

const testDelay = 100 * time.Microsecond

func newCluster(t *testing.T, names ...string) *cluster {
	return newTunedCluster(t, func(*Config) {}, names...)
}

// newTunedCluster is newCluster with changes of the configuration.
func newTunedCluster(t *testing.T, tune func(*Config), names ...string) *cluster {
	c := &cluster{t: t, side: make([]int, len(names))}
	var peers []netip.AddrPort
	for i := range names {
		peers = append(peers, testAddr(i))
	}
	for i, name := range names {
		cfg := Config{Me: evs.ProcID{Rank: uint16(i), Name: name, Inc: evs.Incarnation(1000 + i)}, Cluster: "test", Peers: peers, Accelerated: true}
		tune(&cfg)
		m, err := New(cfg, rand.New(rand.NewPCG(1, uint64(i))), 0)
		if err != nil {
			t.Fatal(err)
		}
		n := &testNode{m: m, conns: map[uint64]*testConn{}}
		c.nodes = append(c.nodes, n)
		m.Start(0, &n.fx)
		c.after(i)
	}
	c.run(time.Second)
	for i, n := range c.nodes {
		if conf := n.m.Configuration(); conf == nil || len(conf.Members) != len(names) {
			t.Fatalf("node %d: configuration %v after a second, want all %d", i, conf, len(names))
		}
	}
	return c
}

func testAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4803)
}

// after performs what node i wants done.
func (c *cluster) after(i int) {
	c.t.Helper()
	n := c.nodes[i]
	for {
		for _, s := range n.fx.Sends {
			for _, to := range s.To {
				k := int(to.Addr().As4()[3]) - 1
				if c.side[i] == c.side[k] {
					c.flying = append(c.flying, datagram{c.now + testDelay, i, k, append([]byte(nil), s.Bytes...)})
				}
			}
		}
		outputs := append([]uint64(nil), n.fx.Outputs...)
		resumes := append([]uint64(nil), n.fx.Resumes...)
		closes := append([]Close(nil), n.fx.Closes...)
		n.fx.Reset()
		if err := n.m.CheckInvariants(); err != nil {
			c.t.Fatal(err)
		}
		for _, id := range outputs {
			c.drain(n, id)
		}
		for _, cl := range closes {
			c.drain(n, cl.Session)
			n.conns[cl.Session].closed = true
			n.conns[cl.Session].reason = cl.Reason.String()
		}
		for _, id := range resumes {
			k := n.conns[id]
			k.rest = k.rest[n.m.HandleInput(c.now, id, k.rest, &n.fx):]
		}
		if n.m.HandUp(c.now, &n.fx) {
			continue
		}
		if len(resumes)+len(n.fx.Resumes) == 0 && len(n.fx.Sends)+len(n.fx.Outputs)+len(n.fx.Closes) == 0 {
			return
		}
	}
}

func (c *cluster) drain(n *testNode, id uint64) {
	k := n.conns[id]
	for !k.deaf {
		vec := n.m.Output(id, nil, 16)
		total := 0
		for _, v := range vec {
			k.got = append(k.got, v...)
			total += len(v)
		}
		if total == 0 {
			return
		}
		n.m.HandleWritten(c.now, id, total, &n.fx)
	}
}

// sip lets a client that does not read take at most so many bytes.
func (c *cluster) sip(k *testConn, most int) {
	n := c.nodes[k.node]
	total := 0
	for _, v := range n.m.Output(k.id, nil, 64) {
		v = v[:min(len(v), most-total)]
		k.got = append(k.got, v...)
		total += len(v)
	}
	n.m.HandleWritten(c.now, k.id, total, &n.fx)
	c.after(k.node)
}

// run lets time pass until end.
func (c *cluster) run(end time.Duration) {
	c.t.Helper()
	for {
		at, what := end, -1
		for k, d := range c.flying {
			if d.at < at {
				at, what = d.at, k
			}
		}
		who := -1
		for i, n := range c.nodes {
			if d := n.m.Deadline(); !n.dead && d != 0 && d < at {
				at, who = d, i
			}
		}
		if at >= end {
			c.now = end
			return
		}
		c.now = max(c.now, at)
		if who >= 0 {
			c.nodes[who].m.Advance(c.now, &c.nodes[who].fx)
			c.after(who)
			continue
		}
		d := c.flying[what]
		c.flying = append(c.flying[:what], c.flying[what+1:]...)
		if n := c.nodes[d.to]; !n.dead && c.side[d.from] == c.side[d.to] {
			room := packet.NewRoom(d.b, func(r *packet.Room) { clear(r.Bytes) })
			n.m.HandleDatagram(c.now, testAddr(d.from), d.b, room, &n.fx)
			room.Leave()
			c.after(d.to)
		}
	}
}

func (c *cluster) pass(d time.Duration) { c.t.Helper(); c.run(c.now + d) }

func (c *cluster) dial(i int) *testConn {
	n := c.nodes[i]
	id := n.m.HandleAccept(c.now, false, netip.MustParseAddrPort("127.0.0.1:9"), &n.fx)
	k := &testConn{node: i, id: id}
	n.conns[id] = k
	c.after(i)
	return k
}

func (c *cluster) send(k *testConn, b []byte) {
	n := c.nodes[k.node]
	k.rest = append(k.rest, b...)
	k.rest = k.rest[n.m.HandleInput(c.now, k.id, k.rest, &n.fx):]
	c.after(k.node)
}

func (c *cluster) hangUp(k *testConn) {
	n := c.nodes[k.node]
	n.m.HandleClosed(c.now, k.id, &n.fx)
	c.after(k.node)
}

// connect does a whole handshake and forgets its bytes.
func (c *cluster) connect(i int, user string, membership bool) *testConn {
	c.t.Helper()
	k := c.dial(i)
	b := []byte{4, 4, 0, 0, byte(len(user))}
	if membership {
		b[3] = 1
	}
	c.send(k, append(b, user...))
	choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(k, choice)
	if len(k.got) < 8 || k.got[6] != 1 {
		c.t.Fatalf("connect %q: got % x", user, k.got)
	}
	k.got = nil
	return k
}

// messages takes apart and forgets what a client has received.
func (c *cluster) messages(k *testConn) []frame.Message {
	c.t.Helper()
	var out []frame.Message
	for len(k.got) > 0 {
		m, n, fault := frame.ParseReceived(k.got)
		if fault != frame.FaultNone || n == 0 {
			c.t.Fatalf("client of node %d: %d bytes that are no message: %v", k.node, len(k.got), fault)
		}
		out = append(out, m)
		k.got = k.got[n:]
	}
	return out
}

func TestMulticastReachesAllDaemons(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	var ks []*testConn
	for i := range 3 {
		k := c.connect(i, fmt.Sprintf("u%d", i), true)
		c.send(k, frame.AppendJoin(nil, fmt.Sprintf("#u%d#%c", i, 'a'+i), "chat"))
		ks = append(ks, k)
		c.pass(50 * time.Millisecond)
	}
	for s := evs.Unreliable; s <= evs.Safe; s++ {
		for i, k := range ks {
			c.send(k, frame.AppendMulticast(nil, fmt.Sprintf("#u%d#%c", i, 'a'+i), frame.MulticastType(s, false), int16(s), []string{"chat"}, []byte(s.String())))
		}
	}
	c.pass(100 * time.Millisecond)
	for i, k := range ks {
		views, data := 0, 0
		for _, m := range c.messages(k) {
			if m.Type.Kind() == frame.KindRegular {
				data++
			} else {
				views++
			}
		}
		if views != 3-i || data != 18 {
			t.Errorf("client %d got %d views and %d messages, want %d and 18", i, views, data, 3-i)
		}
	}
}

// A message of the largest size that the header check admits goes whole through many packets.
func TestLargestMessage(t *testing.T) {
	c := newCluster(t, "a", "b")
	k, r := c.connect(0, "s", true), c.connect(1, "r", true)
	c.send(r, frame.AppendJoin(nil, "#r#b", "g"))
	c.pass(50 * time.Millisecond)
	c.messages(r)
	body := make([]byte, frame.MaxBody-frame.NameSize)
	for i := range body {
		body[i] = byte(i * 7)
	}
	for range 5 {
		c.send(k, frame.AppendMulticast(nil, "#s#a", frame.MulticastType(evs.Safe, false), 1, []string{"g"}, body))
	}
	c.pass(time.Second)
	got := c.messages(r)
	if len(got) != 5 {
		t.Fatalf("got %d messages, want 5; back-pressure must not lose any", len(got))
	}
	for _, m := range got {
		if string(m.Data) != string(body) {
			t.Error("a message of the largest size came damaged")
		}
	}
}

// Idle halves that can reach each other again become one configuration without traffic (LIVE-4), within a second.
func TestMergeOfIdleHalves(t *testing.T) {
	c := newCluster(t, "a", "b", "c", "d", "e")
	c.side = []int{0, 0, 1, 1, 1}
	c.pass(2 * time.Second)
	if n := len(c.nodes[0].m.Configuration().Members); n != 2 {
		t.Fatalf("after the cut: %d members, want 2", n)
	}
	c.side = make([]int, 5)
	c.pass(time.Second)
	for i, n := range c.nodes {
		if k := len(n.m.Configuration().Members); k != 5 {
			t.Errorf("node %d: %d members a second after healing, want 5", i, k)
		}
	}
}

// An orderly leave is seen at once; a crash within the token timeout and the time to agree.
func TestLeaveAndCrash(t *testing.T) {
	c := newCluster(t, "a", "b", "c", "d", "e")
	n := c.nodes[4]
	n.m.Leave(c.now, &n.fx)
	c.after(4)
	c.pass(60 * time.Millisecond)
	n.dead = true
	if k := len(c.nodes[0].m.Configuration().Members); k != 4 {
		t.Errorf("60 ms after an orderly leave: %d members, want 4", k)
	}
	c.nodes[0].dead = true
	c.pass(450 * time.Millisecond)
	if k := len(c.nodes[1].m.Configuration().Members); k != 3 {
		t.Errorf("450 ms after a crash: %d members, want 3", k)
	}
}
