// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/seal"
)

// newSites makes networks that a router joins, each with some daemons: site s is 10.<100+s>.0.0/24. The router is the
// namespace of the bridges. It forwards no multicast and no broadcast, as routers do not.
func newSites(t *testing.T, name string, sizes ...int) *network {
	n := &network{t: t, name: name, sw: name + "-sw"}
	t.Cleanup(func() {
		for i := range n.n {
			removeNamespace(n.ns(i))
		}
		removeNamespace(n.sw)
	})
	n.must("", "ip", "netns", "add", n.sw)
	n.must("", "ip", "netns", "exec", n.sw, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	for site, size := range sizes {
		net := fmt.Sprintf("10.%d.0.", 100+site)
		bridge := "br" + strconv.Itoa(site)
		var b strings.Builder
		fmt.Fprintf(&b, "link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set %s up\naddr add %s254/24 dev %s\n", bridge, bridge, net, bridge)
		for k := range size {
			i := n.n
			n.n++
			n.addrs = append(n.addrs, net+strconv.Itoa(k+1))
			n.must("", "ip", "netns", "add", n.ns(i))
			fmt.Fprintf(&b, "link add %s type veth peer name e0 netns %s\nlink set %s master %s\nlink set %s up\n", port(i), n.ns(i), port(i), bridge, port(i))
			defer n.must(fmt.Sprintf("link set lo up\naddr add %s/24 brd + dev e0\nlink set e0 up\nroute add default via %s254\n", n.addr(i), net), "ip", "-n", n.ns(i), "-batch", "-")
		}
		n.must(b.String(), "ip", "-n", n.sw, "-batch", "-")
	}
	return n
}

// counter is a counter of the IpExt table of a daemon's namespace, such as InMcastOctets.
func (d *daemon) counter(name string) int {
	d.c.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netstat", d.pid()))
	if err != nil {
		d.c.t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "IpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for k, s := range names {
			if s == name && k < len(f) {
				n, err := strconv.Atoi(f[k])
				if err != nil {
					d.c.t.Fatal(err)
				}
				return n
			}
		}
	}
	d.c.t.Fatalf("the system does not count %s", name)
	return 0
}

// sited is a cluster over several networks, configured by a file with %[i]s for the address of daemon i-1.
func sited(t *testing.T, conf string, sizes ...int) *cluster {
	t.Helper()
	enabled(t)
	if setup.noNet != "" {
		t.Skip("several networks need namespaces: " + setup.noNet)
	}
	total := 0
	for _, s := range sizes {
		total += s
	}
	c := makeCluster(t, total, false)
	c.net = newSites(t, filepath.Base(c.dir), sizes...)
	var addrs []any
	for i, d := range c.daemons {
		d.port = 4803
		addrs = append(addrs, c.net.addr(i))
	}
	c.conf = filepath.Join(c.dir, "spread.conf")
	if err := os.WriteFile(c.conf, fmt.Appendf(nil, conf, addrs...), 0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

// talk lets every client send messages of all sizes, and waits until all have all.
func (c *cluster) talk(rounds int) {
	c.t.Helper()
	for r := range rounds {
		for _, m := range c.members {
			m.multicast([]client.Service{client.FIFO, client.Agreed, client.Safe}[r%3], 0, []int{100, 1000, 20000}[r%3], room)
		}
	}
	c.flow(c.members, 30*time.Second)
}

// TestSegments has one segment with IP multicast, one with broadcast and one of a single daemon, each in a network of its
// own: within a segment data travels once for all, and everybody else is reached by unicast.
func TestSegments(t *testing.T) { threeSegments(t, "") }

// TestSealedSegments is the same with a key: what is sealed once for all arrives as well.
func TestSealedSegments(t *testing.T) { threeSegments(t, keyFile(t)) }

// keyFile is the directive for a file with a new key.
func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(seal.Format(seal.Draw())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "ClusterKeyFile = \"" + path + "\"\n"
}

func threeSegments(t *testing.T, directives string) {
	c := sited(t, `Spread_Segment 239.77.0.1:4803 { d1 %[1]s  d2 %[2]s  d3 %[3]s }
Spread_Segment 10.101.0.255:4803 { d4 %[4]s  d5 %[5]s  d6 %[6]s }
Spread_Segment unicast:4803 { d7 %[7]s }
TimerProfile = LAN
`+directives, 3, 3, 1)
	c.started()
	before := make([][2]int, len(c.daemons))
	for i, d := range c.daemons {
		before[i] = [2]int{d.counter("InMcastOctets"), d.counter("InBcastOctets")}
	}
	c.talk(60)
	for i, d := range c.daemons {
		mcast, bcast := d.counter("InMcastOctets")-before[i][0], d.counter("InBcastOctets")-before[i][1]
		want := [][2]bool{{true, false}, {false, true}, {false, false}}[min(i/3, 2)]
		// A few packets of either may be neighbors' business; data would be hundreds of kilobytes. Bytes, not packets: a run
		// of datagrams counts as one packet here.
		const some = 100_000
		if (mcast > some) != want[0] || (bcast > some) != want[1] {
			t.Errorf("%s received %d multicast and %d broadcast bytes; wanted multicast %v, broadcast %v", d.name, mcast, bcast, want[0], want[1])
		}
	}
	// A whole segment goes, and comes back.
	for _, d := range c.daemons[3:6] {
		d.kill()
	}
	rest := append(append([]*member{}, c.members[:3]...), c.members[6])
	c.flow(rest, 20*time.Second)
	for _, d := range c.daemons[3:6] {
		d.start()
	}
	c.settled(20 * time.Second)
	c.talk(6)
	c.quiesce(20 * time.Second)
	c.judge(true)
}

// TestMultiHomed has a daemon with a cable into each of two sites. When the one that others know it by is cut, it is still
// a member for those at the other end of the second: it hears them there, and answers from the address that they hear.
func TestMultiHomed(t *testing.T) { twoCables(t, "") }

// TestSealedMultiHomed is the same with a key: a daemon proves that it lives from whichever address.
func TestSealedMultiHomed(t *testing.T) { twoCables(t, keyFile(t)) }

func twoCables(t *testing.T, directives string) {
	c := sited(t, `Spread_Segment unicast:4803 { d1 %[1]s { C D %[1]s  D 10.101.0.77 } }
Spread_Segment unicast:4803 { d2 %[2]s }
Spread_Segment unicast:4803 { d3 %[3]s }
TimerProfile = LAN
`+directives, 2, 1)
	// A second cable for d1, into the other site.
	c.net.must(fmt.Sprintf("link add q1 type veth peer name e1 netns %s\nlink set q1 master br1\nlink set q1 up\n", c.net.ns(0)), "ip", "-n", c.net.sw, "-batch", "-")
	c.net.must("addr add 10.101.0.77/24 brd + dev e1\nlink set e1 up\n", "ip", "-n", c.net.ns(0), "-batch", "-")
	c.started()
	c.talk(12)
	c.daemons[1].kill() // nobody is left in the first site
	c.net.cable(0, false)
	c.flow([]*member{c.members[0], c.members[2]}, 20*time.Second)
	c.net.cable(0, true)
	c.daemons[1].start()
	c.settled(30 * time.Second)
	c.talk(3)
	c.quiesce(20 * time.Second)
	c.judge(true)
}
