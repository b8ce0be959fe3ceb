// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// prefix begins the name of every namespace of ours. The number of the process follows, so that a later run knows
// which of them nobody needs any more.
const prefix = "evspeer-"

// network is a switch with one cable to each node's namespace: port p<i> of a bridge, the other end e0.
type network struct {
	name string
	n    int
}

func (w *network) ns(i int) string { return w.name + "-" + strconv.Itoa(i+1) }
func address(i int) string         { return "10.99.0." + strconv.Itoa(i+1) }
func addresses(n int) (a []string) {
	for i := range n {
		a = append(a, address(i))
	}
	return a
}
func mac(i int) string { return fmt.Sprintf("02:00:0a:63:00:%02x", i+1) }

// in is the command line that runs a program in a node's namespace, in the process that is started. It has mounts of its
// own, too: what the program mounts nobody else sees.
func (w *network) in(i int, args ...string) []string {
	return append([]string{"ip", "netns", "exec", w.ns(i)}, args...)
}

// newNetwork makes namespaces and cables. After an error the network must still be removed.
func newNetwork(ctx context.Context, name string, n int) (*network, error) {
	w := &network{name: prefix + strconv.Itoa(os.Getpid()) + "-" + name, n: n}
	sw := w.name + "-sw"
	if err := command(ctx, "", "ip", "netns", "add", sw); err != nil {
		return w, err
	}
	var b strings.Builder
	// Whether a group has members is not asked of them first: every port gets what is sent to a group.
	b.WriteString("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n")
	for i := range n {
		if err := command(ctx, "", "ip", "netns", "add", w.ns(i)); err != nil {
			return w, err
		}
		fmt.Fprintf(&b, "link add p%d type veth peer name e0 netns %s\nlink set p%[1]d master br0\nlink set p%[1]d up\n", i+1, w.ns(i))
	}
	if err := command(ctx, b.String(), "ip", "-n", sw, "-batch", "-"); err != nil {
		return w, err
	}
	for i := range n {
		b.Reset()
		fmt.Fprintf(&b, "link set lo up\nlink set e0 address %s\naddr add %s/24 dev e0\nlink set e0 up\n", mac(i), address(i))
		for k := range n {
			if k != i {
				fmt.Fprintf(&b, "neigh replace %s lladdr %s dev e0 nud permanent\n", address(k), mac(k))
			}
		}
		if err := command(ctx, b.String(), "ip", "-n", w.ns(i), "-batch", "-"); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *network) remove() {
	for i := range w.n {
		removeNamespace(w.ns(i))
	}
	removeNamespace(w.name + "-sw")
}

// command runs a program to its end.
func command(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// removeNamespace kills what runs in a namespace and removes it. It also works after an interrupt, and is nothing if there
// is no such namespace.
func removeNamespace(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if pids, err := exec.CommandContext(ctx, "ip", "netns", "pids", name).Output(); err == nil {
		for s := range strings.FieldsSeq(string(pids)) {
			if n, err := strconv.Atoi(s); err == nil && n > 1 {
				if p, err := os.FindProcess(n); err == nil {
					_ = p.Kill()
				}
			}
		}
	}
	_ = command(ctx, "", "ip", "netns", "del", name)
}

// sweepUp removes what runs that were killed have left behind: namespaces whose process is no more, and what runs in them.
func sweepUp() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && abandoned(f[0]) {
			removeNamespace(f[0])
		}
	}
}

// abandoned reports whether a name is one of ours whose process is no more.
func abandoned(name string) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	pid, _, _ := strings.Cut(rest, "-")
	n, err := strconv.Atoi(pid)
	if !ours || err != nil {
		return false
	}
	p, err := os.FindProcess(n)
	if err != nil {
		return true
	}
	err = p.Signal(syscall.Signal(0))
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrProcessDone)
}
