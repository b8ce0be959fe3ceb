// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// prefix begins the name of every namespace of ours. The number of the process follows, so that a later run knows
// which of them nobody needs any more.
const prefix = "evse2e-"

// command runs a program to its end.
func command(stdin string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s %s", strings.Join(args, " "), err, bytes.TrimSpace(out), stdin)
	}
	return nil
}

// probeNamespaces says why there can be no namespaces; containers often forbid them.
func probeNamespaces() string {
	for _, tool := range []string{"ip", "tc", "bridge"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "no program " + tool + " (apt-get install iproute2)"
		}
	}
	name := prefix + strconv.Itoa(os.Getpid()) + "-probe"
	defer command("", "ip", "netns", "del", name)
	if err := command("", "ip", "netns", "add", name); err != nil {
		return err.Error()
	}
	if err := command("link add veth1 type veth peer name veth2\nlink add bridge1 type bridge\n", "ip", "-n", name, "-batch", "-"); err != nil {
		return err.Error()
	}
	return ""
}

// sweep removes what runs that were killed have left behind: namespaces whose process is no more, and the daemons in
// them.
func sweep() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 0 && abandoned(f[0]) {
			removeNamespace(f[0])
		}
	}
}

// abandoned reports whether a name is one of ours whose process is no more.
func abandoned(name string) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	pid, _, _ := strings.Cut(rest, "-")
	n, err := strconv.Atoi(pid)
	return ours && err == nil && n != os.Getpid() && errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}

// removeNamespace kills what runs in a namespace and removes it.
func removeNamespace(name string) {
	if pids, err := exec.Command("ip", "netns", "pids", name).Output(); err == nil {
		for _, s := range strings.Fields(string(pids)) {
			if n, err := strconv.Atoi(s); err == nil && n > 1 {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
	_ = command("", "ip", "netns", "del", name)
}

// network is a switch with one cable to each daemon's namespace: port p<i> of a bridge, the other end e0. There are two
// bridges, so that a partition is a matter of which one a port belongs to. Daemons count from 0.
type network struct {
	t    *testing.T
	n    int
	name string // of the cluster
	sw   string // namespace of the bridges

	addrs []string // of the daemons, where they are not all in one network
}

func (n *network) ns(i int) string { return n.name + "-" + strconv.Itoa(i+1) }
func (n *network) addr(i int) string {
	if n.addrs != nil {
		return n.addrs[i]
	}
	return "10.99.0." + strconv.Itoa(i+1)
}
func port(i int) string { return "p" + strconv.Itoa(i+1) }
func mac(i int) string  { return fmt.Sprintf("02:00:0a:63:00:%02x", i+1) }

// newNetwork makes the namespaces and cables.
//
// Addresses of neighbors are fixed: a partition longer than the kernel's three seconds of asking would otherwise make
// the time of a merge a matter of when it asks again.
func newNetwork(t *testing.T, name string, daemons int) *network {
	n := &network{t: t, n: daemons, name: name, sw: name + "-sw"}
	t.Cleanup(func() {
		for i := range daemons {
			removeNamespace(n.ns(i))
		}
		removeNamespace(n.sw)
	})
	n.must("", "ip", "netns", "add", n.sw)
	var b strings.Builder
	for _, br := range []string{"br0", "br1"} {
		fmt.Fprintf(&b, "link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set %s up\n", br, br)
	}
	b.WriteString("link add null0 type veth peer name null1\nlink set null0 up\nlink set null1 up\n")
	for i := range daemons {
		n.must("", "ip", "netns", "add", n.ns(i))
		fmt.Fprintf(&b, "link add %s type veth peer name e0 netns %s\nlink set %s master br0\nlink set %s up\n", port(i), n.ns(i), port(i), port(i))
	}
	n.must(b.String(), "ip", "-n", n.sw, "-batch", "-")
	for i := range daemons {
		b.Reset()
		fmt.Fprintf(&b, "link set lo up\nlink set e0 address %s\naddr add %s/24 dev e0\nlink set e0 up\n", mac(i), n.addr(i))
		for k := range daemons {
			if k != i {
				fmt.Fprintf(&b, "neigh replace %s lladdr %s dev e0 nud permanent\n", n.addr(k), mac(k))
			}
		}
		n.must(b.String(), "ip", "-n", n.ns(i), "-batch", "-")
		n.must("", "tc", "-n", n.sw, "qdisc", "add", "dev", port(i), "clsact")
	}
	return n
}

func (n *network) must(stdin string, args ...string) {
	n.t.Helper()
	if err := command(stdin, args...); err != nil {
		n.t.Fatal(err)
	}
}

// cable pulls a daemon's cable out of the switch or puts it back.
func (n *network) cable(i int, in bool) {
	n.t.Helper()
	state := "down"
	if in {
		state = "up"
	}
	n.must("", "ip", "-n", n.sw, "link", "set", port(i), state)
}

// split puts the daemons of the list on the other bridge and all others on the first one; an empty list heals.
func (n *network) split(other ...int) {
	n.t.Helper()
	var b strings.Builder
	for i := range n.n {
		br := 0
		if slices.Contains(other, i) {
			br = 1
		}
		fmt.Fprintf(&b, "link set %s master br%d\n", port(i), br)
	}
	n.must(b.String(), "ip", "-n", n.sw, "-batch", "-")
}

// cut loses everything that from sends to to; the other direction stays. The frames go to a cable that ends nowhere.
func (n *network) cut(from, to int) {
	n.t.Helper()
	n.must("", "tc", "-n", n.sw, "filter", "add", "dev", port(to), "egress", "protocol", "ip", "prio", strconv.Itoa(from+1),
		"u32", "match", "ip", "src", n.addr(from)+"/32", "action", "mirred", "egress", "redirect", "dev", "null0")
}

// mend ends a cut.
func (n *network) mend(from, to int) {
	n.t.Helper()
	n.must("", "tc", "-n", n.sw, "filter", "del", "dev", port(to), "egress", "protocol", "ip", "prio", strconv.Itoa(from+1))
}

// strangers keeps the daemons of the list from reaching each other while all others reach everybody: connectivity that
// is symmetric but not transitive.
func (n *network) strangers(on bool, who ...int) {
	n.t.Helper()
	state := "off"
	if on {
		state = "on"
	}
	for _, i := range who {
		n.must("", "bridge", "-n", n.sw, "link", "set", "dev", port(i), "isolated", state)
	}
}
