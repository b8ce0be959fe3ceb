// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"evensong/bench/run"
)

// system is one of those that are compared, as a flag names it: NAME and options, joined by "+".
type system struct {
	text    string
	name    string
	service string   // what its members send with
	unicast bool     // evensong: one copy for each daemon in place of multicast
	loss    string   // evensong: share of the datagrams that each daemon throws away
	options []string // evensong: further flags of "evensong serve"; corosync: settings of totem or system, NAME=VALUE
}

const (
	evensong     = "evensong"
	evensongBest = "evensong-best" // the best of a sweep over windows and packet sizes
	corosync     = "corosync"      // the best of a sweep
	nats         = "nats"          // no order among senders
	rawMulticast = "raw-multicast"
	rawUnicast   = "raw-unicast"
	rawUnix      = "raw-unix"
)

var transports = []string{"knet", "udp", "udpu"}

// names are all systems.
func names() []string {
	all := []string{evensong, evensongBest, corosync}
	for _, t := range transports {
		all = append(all, corosync+"-"+t)
	}
	return append(all, nats, rawMulticast, rawUnicast, rawUnix)
}

func parseSystem(text string) (system, error) {
	words := strings.Split(text, "+")
	s := system{text: text, name: words[0], service: "agreed"}
	if !slices.Contains(names(), s.name) {
		return s, fmt.Errorf("%s: want one of %s", text, strings.Join(names(), ", "))
	}
	ours := s.name == evensong || s.name == evensongBest
	for _, w := range words[1:] {
		switch {
		case s.name == evensongBest && setsSwept([]string{w}) != "":
			return s, fmt.Errorf("%s: %s is what the sweep chooses; leave it out, or compare with %s+%s", text, setsSwept([]string{w}), evensong, w)
		case ours && run.IsService(w):
			s.service = w
		case ours && w == "unicast":
			s.unicast = true
		case ours && strings.HasPrefix(w, "loss="):
			s.loss = strings.TrimPrefix(w, "loss=")
			if v, err := strconv.ParseFloat(s.loss, 64); err != nil || !(v >= 0 && v < 1) {
				return s, fmt.Errorf("%s: %s: want a share, at least 0 and below 1", text, w)
			}
		case ours && strings.HasPrefix(w, "--"),
			strings.HasPrefix(s.name, corosync+"-") && strings.Contains(w, "="):
			s.options = append(s.options, w)
		default:
			return s, fmt.Errorf("%s: %s has no option %q", text, s.name, w)
		}
	}
	return s, nil
}

// cluster is a system that runs: a network, what runs on its nodes, and the members who send and receive.
type cluster struct {
	net              *network
	daemons, members []*run.Child
	primed           int // the largest size that it has had for primeTime
}

// starts is how often another's system may be started before its failure counts: corosync with large windows and packets falls over an
// assertion of its own now and then while its first members meet. One of ours gets one chance.
const starts = 3

// start starts a system on n nodes and waits until all members are there. After an error the cluster must still be
// stopped.
func (b *bench) start(ctx context.Context, s system, n int) (*cluster, error) {
	for try := 1; ; try++ {
		c, err := b.startOnce(ctx, s, n)
		if err == nil || ctx.Err() != nil || try == starts || s.name == evensong {
			return c, err
		}
		b.p.Note("once more: %v", err)
		c.stop()
	}
}

func (b *bench) startOnce(ctx context.Context, s system, n int) (c *cluster, err error) {
	b.started++
	name := fmt.Sprint(b.started)
	dir := filepath.Join(b.dir, name)
	c = &cluster{}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return c, err
	}
	if c.net, err = newNetwork(ctx, name, n); err != nil {
		return c, err
	}
	switch {
	case s.name == evensong:
		err = b.startEvensong(c, s, dir, n)
	case strings.HasPrefix(s.name, corosync+"-"):
		err = b.startCorosync(ctx, c, s, dir, n)
	case s.name == nats:
		err = b.startNats(ctx, c, dir, n)
	default:
		err = b.startRaw(ctx, c, s, dir, n)
	}
	if err != nil {
		return c, fmt.Errorf("start %s: %w", s.text, err)
	}
	for _, m := range c.members {
		m.Codes = map[int]error{run.ExitChanged: run.ErrChanged}
	}
	for _, m := range c.members {
		answer, err := m.Ask(ctx, "")
		if err == nil && answer != "ready" {
			err = m.Problem("it said " + answer)
		}
		if err != nil {
			for _, d := range c.daemons {
				select {
				case <-d.Ended:
					err = errors.Join(err, d.Problem("it has ended"))
				default:
				}
			}
			return c, fmt.Errorf("start %s: %w", s.text, err)
		}
	}
	return c, nil
}

// stop ends members, then daemons, and returns once all have gone and the network is removed.
func (c *cluster) stop() {
	if c == nil {
		return
	}
	for _, m := range c.members {
		m.End(func() { m.In.Close() })
	}
	for _, d := range c.daemons {
		_ = d.Signal()
	}
	for _, d := range c.daemons {
		d.Terminate()
	}
	if c.net != nil {
		c.net.remove()
	}
}

// lastWords is the last line of each daemon's log.
func (c *cluster) lastWords() string {
	var out strings.Builder
	if c != nil {
		for _, d := range c.daemons {
			if last := d.LastLine(); last != "" {
				fmt.Fprintf(&out, "\n%s: %s", d.Name, last)
			}
		}
	}
	return out.String()
}

func startIn(list *[]*run.Child, dir, name string, args []string, env ...string) error {
	k, err := run.Start(dir, name, append(run.Environment(), env...), args[0], args[1:]...)
	if err == nil {
		*list = append(*list, k)
	}
	return err
}

func (b *bench) startEvensong(c *cluster, s system, dir string, n int) error {
	segment := "239.192.7.1:4803"
	if s.unicast || n == 1 {
		segment = "unicast:4803"
	}
	conf := "Spread_Segment " + segment + " {\n"
	for i := range n {
		conf += fmt.Sprintf("    d%d %s\n", i+1, address(i))
	}
	file := filepath.Join(dir, "spread.conf")
	if err := os.WriteFile(file, []byte(conf+"}\n"), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range n {
		socket := filepath.Join(dir, fmt.Sprintf("%d.s", i+1))
		args := c.net.in(i, b.o.binary, "serve", "-n", fmt.Sprintf("d%d", i+1), "-c", file, "--unix-socket", socket,
			"--bind", address(i), "--admin-socket", "none", "--log-level", "warn")
		args = append(append(args, b.o.serve...), s.options...)
		if err := startIn(&c.daemons, dir, fmt.Sprintf("daemon%d", i+1), args, "EVENSONG_LOSS="+s.loss); err != nil {
			return err
		}
	}
	for i := range b.members(n) {
		socket := filepath.Join(dir, fmt.Sprintf("%d.s", i%n+1))
		args := []string{self, "member", "unix:" + socket, fmt.Sprint(i), fmt.Sprint(b.members(n))}
		if err := startIn(&c.members, dir, fmt.Sprintf("member%d", i+1), args); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) startCorosync(ctx context.Context, c *cluster, s system, dir string, n int) error {
	member, err := b.compile(ctx, "cpg", "-lcpg")
	if err != nil {
		return err
	}
	for i := range n {
		file := filepath.Join(dir, fmt.Sprintf("corosync%d.conf", i+1))
		if err := os.WriteFile(file, []byte(corosyncConf(s, i, n)), 0o644); err != nil {
			return err
		}
		// Where it keeps files that another one of this machine would also keep is its own memory.
		script := "for d in /run /dev/shm /var/lib/corosync; do mount -t tmpfs tmpfs $d || exit; done; exec corosync -f -c " + file
		if err := startIn(&c.daemons, dir, fmt.Sprintf("daemon%d", i+1), c.net.in(i, "sh", "-c", script)); err != nil {
			return err
		}
	}
	for i := range b.members(n) {
		d := c.daemons[i%n]
		for try := 0; ; try++ { // until it is corosync itself: then it has its mounts, which the member shares
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", d.PID()))
			if strings.TrimSpace(string(name)) == "corosync" {
				break
			}
			if try == 500 {
				return d.Problem("it does not start")
			}
			if err := run.Pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		args := []string{"nsenter", "-t", fmt.Sprint(d.PID()), "-m", "-n", member, fmt.Sprint(i), fmt.Sprint(b.members(n))}
		if err := startIn(&c.members, dir, fmt.Sprintf("member%d", i+1), args); err != nil {
			return err
		}
	}
	return nil
}

// corosyncConf is the configuration file of node i of n: as the package's defaults are, but without encryption and
// without real-time priority, which would let the daemons starve their clients, and everything else on the machine.
func corosyncConf(s system, i, n int) string {
	transport := strings.TrimPrefix(s.name, corosync+"-")
	var t, sys strings.Builder
	fmt.Fprintf(&t, "    version: 2\n    cluster_name: bench\n    transport: %s\n    crypto_cipher: none\n    crypto_hash: none\n", transport)
	rr := "no"
	for _, o := range s.options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "sched_rr":
			rr = v
		case "qb_ipc_type", "priority":
			fmt.Fprintf(&sys, "    %s: %s\n", k, v)
		default:
			fmt.Fprintf(&t, "    %s: %s\n", k, v)
		}
	}
	if transport == "udp" {
		fmt.Fprintf(&t, "    interface {\n        linknumber: 0\n        bindnetaddr: %s\n        mcastaddr: 239.192.8.1\n        mcastport: 5405\n    }\n", address(i))
	}
	var nodes strings.Builder
	for k := range n {
		fmt.Fprintf(&nodes, "    node {\n        nodeid: %d\n        name: n%[1]d\n        ring0_addr: %s\n    }\n", k+1, address(k))
	}
	return fmt.Sprintf("totem {\n%s}\nnodelist {\n%s}\nlogging {\n    to_stderr: yes\n    to_syslog: no\n    to_logfile: no\n}\nsystem {\n    sched_rr: %s\n%s}\n",
		t.String(), nodes.String(), rr, sys.String())
}

// startNats starts a cluster of servers, each with a route to all others.
func (b *bench) startNats(ctx context.Context, c *cluster, dir string, n int) error {
	member := filepath.Join(b.dir, "natsmember")
	if _, err := os.Stat(member); err != nil {
		top, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "evensong").Output()
		if err != nil {
			return fmt.Errorf("find the module evensong: %w", err)
		}
		at := filepath.Join(strings.TrimSpace(string(top)), "bench", "peers", "nats")
		if err := command(ctx, "", "go", "build", "-C", at, "-o", member, "."); err != nil {
			return err
		}
	}
	for i := range n {
		args := []string{"nats-server", "-a", address(i), "-p", "4222", "-n", fmt.Sprintf("d%d", i+1)}
		if n > 1 {
			var routes []string
			for k := range n {
				if k != i {
					routes = append(routes, "nats://"+address(k)+":6222")
				}
			}
			args = append(args, "--cluster_name", "bench", "--cluster", "nats://"+address(i)+":6222", "--routes", strings.Join(routes, ","))
		}
		if err := startIn(&c.daemons, dir, fmt.Sprintf("daemon%d", i+1), c.net.in(i, args...)); err != nil {
			return err
		}
	}
	for i := range b.members(n) {
		args := c.net.in(i%n, member, "nats://"+address(i%n)+":4222", fmt.Sprint(i), fmt.Sprint(b.members(n)))
		if err := startIn(&c.members, dir, fmt.Sprintf("member%d", i+1), args); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) startRaw(ctx context.Context, c *cluster, s system, dir string, n int) error {
	member, err := b.compile(ctx, "raw")
	if err != nil {
		return err
	}
	for i := range n {
		args := []string{member, strings.TrimPrefix(s.name, "raw-"), "239.192.9.1", "7000", fmt.Sprint(i)}
		if s.name == rawUnix {
			args[2] = dir
		}
		if err := startIn(&c.members, dir, fmt.Sprintf("member%d", i+1), c.net.in(i, append(args, addresses(n)...)...)); err != nil {
			return err
		}
	}
	return nil
}

//go:embed c/*.c c/*.h
var sources embed.FS

// compile makes a member that is written in C, once.
func (b *bench) compile(ctx context.Context, name string, libraries ...string) (string, error) {
	program := filepath.Join(b.dir, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	files, err := sources.ReadDir("c")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		data, err := sources.ReadFile("c/" + f.Name())
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(b.dir, f.Name()), data, 0o644); err != nil {
			return "", err
		}
	}
	args := append([]string{"-std=c11", "-O2", "-Wall", "-o", program, filepath.Join(b.dir, "load.c"), filepath.Join(b.dir, name+".c")}, libraries...)
	if out, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile %s.c: %w\n%s", name, err, out)
	}
	return program, nil
}
