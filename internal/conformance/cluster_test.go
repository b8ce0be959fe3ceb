// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"evensong/internal/host"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
	"evensong/internal/transport"
)

// clusterTimeout is when a silent ring counts as broken. It is long, because a busy machine must not look like a broken
// network (two daemons who do not hear each other for two fifths of it part), and short, because the tests wait for it.
const clusterTimeout = time.Second

// A cluster is daemons in this process, on a network that can be cut. Their names are not in the order of their ranks,
// which are their places in a configuration file.
type cluster struct {
	*testing.T
	network transport.Mem
	servers map[string]*server
	n       int64
	voters  []string // of which a primary configuration has more than half

	mu   sync.Mutex
	side map[netip.AddrPort]int // daemons of different numbers do not hear each other
}

var clusterNames = []string{"north", "east", "south"}

func clusterAddr(name string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + slices.Index(clusterNames, name))}), 4803)
}

func newCluster(t *testing.T, voters ...string) *cluster {
	t.Helper()
	c := &cluster{T: t, servers: map[string]*server{}, n: conversations.Add(1), side: map[netip.AddrPort]int{}, voters: voters}
	c.network.SetDrop(func(from, to netip.AddrPort) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.side[from] != c.side[to]
	})
	for _, name := range clusterNames {
		c.start(name)
	}
	c.settled(clusterNames...)
	return c
}

func (c *cluster) start(name string) {
	c.Helper()
	c.servers[name] = start(c.T, name, func(hc *host.Config, nc *node.Config) {
		conn, err := c.network.Open(clusterAddr(name))
		if err != nil {
			c.Fatal(err)
		}
		hc.Conn, hc.TokenTimeout = conn, clusterTimeout
		nc.Me = evs.ProcID{Name: name, Rank: uint16(slices.Index(clusterNames, name))}
		nc.Cluster, nc.Ring.TokenTimeout, nc.Voters = "conformance", clusterTimeout, c.voters
		for _, peer := range clusterNames {
			nc.Peers = append(nc.Peers, clusterAddr(peer))
		}
	})
}

// settled waits until these daemons are a configuration.
func (c *cluster) settled(names ...string) {
	c.Helper()
	for _, name := range names {
		for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
			members, err := c.servers[name].host.Members(c.Context())
			if err != nil {
				c.Fatal(err)
			}
			var got []string
			for _, m := range members {
				got = append(got, m.Name)
			}
			if slices.Equal(got, names) {
				break
			}
			if time.Now().After(end) {
				c.Fatalf("%s has the members %v, want %v", name, got, names)
			}
		}
	}
}

// cut makes each list of daemons a network of its own; without any there is one network again.
func (c *cluster) cut(sides ...[]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.side)
	for i, names := range sides {
		for _, name := range names {
			c.side[clusterAddr(name)] = i + 1
		}
	}
}

// at is a conversation with one of the daemons.
func (c *cluster) at(name string) *conversation {
	return &conversation{T: c.T, way: way{socket: "tcp"}, server: c.servers[name], n: c.n}
}

func (c *cluster) group(s string) string { return s + "." + fmt.Sprint(c.n) }

// names are the private groups of peers.
func names(peers ...*peer) (s []string) {
	for _, p := range peers {
		s = append(s, p.me)
	}
	return s
}

// joinAcross makes members, whose order in the list is given, of a group at several daemons, and returns the last id.
func joinAcross(group string, inOrder []*peer, joining ...*peer) (id gid) {
	var in []*peer
	for _, p := range joining {
		p.c.Helper()
		in = append(in, p)
		var members []string
		for _, q := range inOrder {
			if slices.Contains(in, q) {
				members = append(members, q.me)
			}
		}
		p.send(p.request(join, group))
		for i, q := range in {
			got := q.wantView(view{cause: byJoin, group: group, members: members, who: p.me})
			if i > 0 && got != id {
				p.c.Errorf("%s and %s have different ids of one view", q.me, in[0].me)
			}
			id = got
		}
	}
	return id
}

// same reads one view at several members and sees that it has one id.
func same(v func(p *peer) view, peers ...*peer) (id gid) {
	for i, p := range peers {
		p.c.Helper()
		got := p.wantView(v(p))
		if i > 0 && got != id {
			p.c.Errorf("%s and %s have different ids of one view: % x, % x", peers[0].me, p.me, id, got)
		}
		id = got
	}
	return id
}

// TestClusterOrder: client-protocol 3.6, 4.4, 5.3; features D5, D12, D41, D42, G20 to G24, G29.
func TestClusterOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g, h := c.group("g"), c.group("h")
	n2, n1, e, s := c.at("north").open("n2"), c.at("north").open("n1"), c.at("east").open("e"), c.at("south").open("a")
	// North comes before east, although its name does not, and in it n1 before n2.
	list := []*peer{n1, n2, e, s}
	joinAcross(g, list, s, n2, e, n1)
	joinAcross(h, list, e, s)

	// The same user at another daemon is somebody else.
	twin := c.at("south").open("e")
	m := twin.message(agreed, "to my twin", e.me)
	twin.send(m.bytes())
	e.want("a message across daemons", m.delivered())
	twin.nothing()

	// One copy at each, wherever it is.
	for _, svc := range services {
		m := n1.message(svc.bit|selfDiscard, svc.name, g, h, e.me, s.me, twin.me)
		m.big = true
		n1.send(m.bytes())
		for _, p := range []*peer{n2, e, s, twin} {
			p.want("one copy", m.delivered())
		}
		n1.nothing()
	}

	// Two groups, senders everywhere, one order.
	const each = 30
	var wg sync.WaitGroup
	senders := []*peer{n1, twin, s}
	for i, p := range senders {
		wg.Go(func() {
			for k := range each {
				p.send(p.message([]uint32{agreed, safe, causal}[i], fmt.Sprint(k), []string{g, h}[k%2]).bytes())
			}
		})
	}
	var order [][]byte
	for range len(senders) * each {
		order = append(order, e.next())
	}
	wg.Wait()
	for i, want := range order {
		if got := s.next(); string(got) != string(want) {
			t.Fatalf("message %d differs at east and south\n%s", i, differ(got, want))
		}
	}
	// Those of only one of the groups get its messages in the same order.
	for _, want := range order {
		if string(want[headerSize:headerSize+nameSize]) == string(name32(g)) {
			n2.want("the next of the same order", want)
			n1.want("the next of the same order", want)
		}
	}

	// Leave and disconnect are told everywhere, with one id.
	s.send(s.request(leave, g))
	s.want("its self-leave", selfLeave(g))
	first := same(func(*peer) view { return view{cause: byLeave, group: g, members: names(n1, n2, e), who: s.me} }, n1, n2, e)
	n1.conn.Close()
	if same(func(*peer) view { return view{cause: byDisconnect, group: g, members: names(n2, e), who: n1.me} }, n2, e) == first {
		t.Error("the id has not changed")
	}
}

// TestClusterPartition: client-protocol 5.3, 5.4; features D21, D24, D27, D28, G25, G30, G31, G40, G43.
func TestClusterPartition(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g, h := c.group("g"), c.group("h")
	n1, n2, e, s := c.at("north").open("n1"), c.at("north").open("n2"), c.at("east").open("e"), c.at("south").open("s")
	whole := joinAcross(g, []*peer{n1, n2, e, s}, s, e, n2, n1)
	joinAcross(h, []*peer{e, s}, e, s) // a group that the cut does not touch

	c.cut([]string{"north"}, []string{"east", "south"})
	network := func(set ...*peer) func(*peer) view {
		return func(*peer) view {
			return view{cause: byNetwork, group: g, members: names(set...), sets: [][]string{names(set...)}}
		}
	}
	for _, p := range []*peer{n1, n2, e, s} {
		p.want("the signal with the id of the view that ends", signal(g, whole))
	}
	left, right := same(network(n1, n2), n1, n2), same(network(e, s), e, s)
	if left == right || left == whole || right == whole {
		t.Errorf("ids % x and % x of two sides after % x", left, right, whole)
	}
	// Each side goes on by itself; what is sent on one is never delivered on the other. The untouched group has had no
	// notice.
	mn, ms := n1.message(safe, "north only", g, h), s.message(safe, "south only", g, h)
	n1.send(mn.bytes())
	s.send(ms.bytes())
	for _, p := range []*peer{n1, n2} {
		p.want("the message of its side", mn.delivered())
	}
	for _, p := range []*peer{e, s} {
		p.want("the message of its side", ms.delivered())
	}

	c.cut()
	sets := [][]string{names(n1, n2), names(e, s)}
	merged := same(func(p *peer) view {
		v := view{cause: byNetwork, group: g, members: names(n1, n2, e, s), sets: sets}
		if p == e || p == s {
			v.own = 1 // the offset is 4 + 2*32
		}
		return v
	}, n1, n2, e, s)
	if merged == whole || merged == left || merged == right {
		t.Errorf("the id % x came again", merged)
	}
	m := e.message(agreed, "together again", h, g)
	e.send(m.bytes())
	for _, p := range []*peer{n1, n2, e, s} {
		p.want("a message to all, and no signal before it", m.delivered())
	}
}

// TestClusterCrash: client-protocol 5.4, 3.6; features G41, G45, D20, and one that is left out without a cause.
func TestClusterCrash(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g := c.group("g")
	n, e, s := c.at("north").open("n"), c.at("east").open("e"), c.at("south").open("s")
	off := c.at("east").openWith("f", 0)
	whole := joinAcross(g, []*peer{n, e, s}, n, e, s)
	off.send(off.request(join, g))
	with := view{cause: byJoin, group: g, members: names(n, e, off, s), who: off.me}
	whole2 := same(func(*peer) view { return with }, n, e, s)

	c.cut([]string{"north", "east"}, []string{"south"}) // it cannot say goodbye
	if err := c.servers["south"].host.Close(); err != nil {
		t.Error(err)
	}
	s.wantRest(slicesJoin(signal(g, whole2), view{cause: byNetwork, group: g, members: names(s), sets: [][]string{names(s)}}.bytes(gid{}))[:headerSize+12])
	// Sent while the others do not know yet: delivered in the next view.
	m := n.message(agreed, "in the gap", g)
	n.send(m.bytes())
	rest := names(n, e, off)
	after := func(*peer) view { return view{cause: byNetwork, group: g, members: rest, sets: [][]string{rest}} }
	gap := [][]byte{}
	for _, p := range []*peer{n, e} {
		// It may still come before the signal, if the ring had the strength for it, but only for both.
		f := p.next()
		if string(f) == string(m.delivered()) {
			gap = append(gap, f)
			f = p.next()
		}
		if want := signal(g, whole2); string(f) != string(want) {
			t.Fatalf("%s wants the signal\n%s", p.me, differ(f, want))
		}
	}
	if id := same(after, n, e); id == whole || id == whole2 {
		t.Errorf("the id % x came again", id)
	}
	switch len(gap) {
	case 0:
		n.want("the message of the gap", m.delivered())
		e.want("the message of the gap", m.delivered())
	case 1:
		t.Error("of two who go together one has the message before the signal")
	}
	off.want("the message, and no notice", m.delivered())

	// It comes back with empty groups: nobody hears of that until somebody joins there.
	c.cut()
	c.start("south")
	c.settled(clusterNames...)
	s = c.at("south").open("s")
	mine := s.message(agreed, "from outside", g)
	s.send(mine.bytes())
	n.want("a message, and no notice before it", mine.delivered())
	e.want("a message, and no notice before it", mine.delivered())
	s.send(s.request(join, g))
	same(func(*peer) view { return view{cause: byJoin, group: g, members: names(n, e, off, s), who: s.me} }, n, e, s)
}

// TestClusterPoliteStop: features G42: others see what a crash shows. Clients of the daemon see their end.
func TestClusterPoliteStop(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g := c.group("g")
	n, e, s := c.at("north").open("n"), c.at("east").open("e"), c.at("south").open("s")
	whole := joinAcross(g, []*peer{n, e, s}, e, s, n)
	if err := c.servers["north"].host.Close(); err != nil {
		t.Error(err)
	}
	n.wantEnd()
	left := names(e, s)
	for _, p := range []*peer{e, s} {
		p.want("the signal", signal(g, whole))
	}
	if same(func(*peer) view { return view{cause: byNetwork, group: g, members: left, sets: [][]string{left}} }, e, s) == whole {
		t.Error("the id has not changed")
	}
	e.nothing()
	s.nothing()
}
