// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Patience with children: to answer, and to end before they are killed.
const (
	answerTime = 40 * time.Second
	endTime    = 5 * time.Second
)

// child is a process that this program started. It is stopped by its process id, whatever happens.
type child struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string   // of its standard output; closed at the end
	ended chan struct{} // it was waited for
	log   string        // file with its standard error
}

func start(dir, name string, env []string, program string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(program, args...), lines: make(chan string, 4), ended: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stderr, c.cmd.Env = log, env
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			c.lines <- s.Text()
		}
		close(c.lines)
		_ = c.cmd.Wait() // how it ended is in its log
		close(c.ended)
	}()
	return c, nil
}

// ask writes a command, if it is not empty, and returns the answer.
func (c *child) ask(ctx context.Context, command string) (string, error) {
	if command != "" {
		if err := c.tell(command); err != nil {
			return "", err
		}
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return "", c.problem("it has ended")
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	case <-timer.C:
		return "", c.problem("no answer to " + command)
	}
}

func (c *child) tell(command string) error {
	if _, err := io.WriteString(c.in, command+"\n"); err != nil {
		return c.problem(err.Error())
	}
	return nil
}

// problem is an error with the end of what the child said; errChanged if it ended because of that.
func (c *child) problem(what string) error {
	select {
	case <-c.ended:
		if c.cmd.ProcessState.ExitCode() == exitChanged {
			return fmt.Errorf("%s: %w", c.name, errChanged)
		}
	case <-time.After(time.Second): // it runs; or it has closed its output and is about to end
	}
	b, _ := os.ReadFile(c.log)
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return fmt.Errorf("%s: %s\n%s", c.name, what, bytes.TrimSpace(b))
}

// end waits for the child after asking it, then kills it.
func (c *child) end(ask func()) {
	ask()
	go func() {
		for range c.lines { // nobody listens any more
		}
	}()
	select {
	case <-c.ended:
	case <-time.After(endTime):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// cluster is the daemons and clients of one measurement.
type cluster struct {
	daemons, clients []*child
	counters         bool
}

// startCluster starts n daemons and a client at each, and waits until all clients see each other. After an error the
// cluster, if there is one, must still be stopped.
func startCluster(ctx context.Context, o *options, dir string, n int) (*cluster, error) {
	c := &cluster{counters: o.counters}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	env := environment()
	name := func(i int) string { return fmt.Sprintf("d%d", i) }
	udp := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	socket := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%d.s", i)) }
	profile := func(what string, i int) string {
		if o.profile == "" {
			return ""
		}
		return filepath.Join(o.profile, fmt.Sprintf("%s-%d-of-%d.pprof", what, i, n))
	}
	for i := range n {
		args := []string{"serve", "--name", name(i), "--bind", udp(i), "--listen", "127.0.0.1:0", "--unix-socket", socket(i),
			"--cluster", fmt.Sprintf("baseline-%d-%d", os.Getpid(), ports[0]), "--log-level", "warn"}
		for j := range n {
			if j != i {
				args = append(args, "--peer", name(j)+"="+udp(j))
			}
		}
		program, e := o.binary, env
		if o.counters {
			program, args[0] = self, "daemon"
		}
		if p := profile("daemon", i); p != "" {
			e = append(e[:len(e):len(e)], "EVENSONG_CPUPROFILE="+p)
		}
		d, err := start(dir, "daemon-"+name(i), e, program, args...)
		if err != nil {
			return c, err
		}
		c.daemons = append(c.daemons, d)
	}
	for i := range n {
		k, err := start(dir, fmt.Sprintf("client%d", i), env, self, "client", "unix:"+socket(i), fmt.Sprint(i), fmt.Sprint(n), profile("client", i))
		if err != nil {
			return c, err
		}
		c.clients = append(c.clients, k)
	}
	for _, k := range c.clients {
		if answer, err := k.ask(ctx, ""); err != nil {
			for _, d := range c.daemons {
				select {
				case <-d.ended:
					err = errors.Join(err, d.problem("it has ended"))
				default:
				}
			}
			return c, err
		} else if answer != "ready" {
			return c, k.problem("it said " + answer)
		}
	}
	return c, nil
}

// environment is ours without what would configure the daemons.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "EVENSONG_") {
			env = append(env, e)
		}
	}
	return env
}

// freePorts are UDP ports that nobody has at the moment.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer c.Close()
		ports = append(ports, c.LocalAddr().(*net.UDPAddr).Port)
	}
	return ports, nil
}

// stop ends the clients, then the daemons, and returns once they have gone. A nil cluster has none.
func (c *cluster) stop() {
	if c == nil {
		return
	}
	var wg sync.WaitGroup
	for _, k := range c.clients {
		wg.Go(func() { k.end(func() { k.in.Close() }) })
	}
	wg.Wait()
	for _, d := range c.daemons {
		wg.Go(func() { d.end(func() { _ = d.cmd.Process.Signal(terminate) }) })
	}
	wg.Wait()
}

// lastWords is the last line of each daemon's log, which has warnings only: why a configuration changed, or that a daemon
// was not scheduled.
func (c *cluster) lastWords() string {
	if c == nil {
		return ""
	}
	var out strings.Builder
	for _, d := range c.daemons {
		b, _ := os.ReadFile(d.log)
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if last := lines[len(lines)-1]; last != "" {
			fmt.Fprintf(&out, "\n%s: %s", d.name, last)
		}
	}
	return out.String()
}

// all asks each client the same and returns the answers.
func (c *cluster) all(ctx context.Context, command string) ([]string, error) {
	for _, k := range c.clients {
		if err := k.tell(command); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, k := range c.clients {
		answer, err := k.ask(ctx, "")
		if err != nil {
			return nil, err
		}
		out = append(out, answer)
	}
	return out, nil
}

// measure fills one row: one message in flight, then load.
func (c *cluster) measure(ctx context.Context, o *options, k key) (row, error) {
	r := row{key: k}
	send := func(window int, alone string) string {
		return fmt.Sprintf("send %s %d %d %d %s", k.Service, k.Bytes, window, o.lead, alone)
	}
	if o.ping > 0 {
		p := c.clients[0]
		if _, err := p.ask(ctx, send(1, "alone")); err != nil {
			return r, err
		}
		if err := pause(ctx, o.warm/4); err != nil {
			return r, err
		}
		if _, err := p.ask(ctx, "mark"); err != nil {
			return r, err
		}
		if err := pause(ctx, o.ping); err != nil {
			return r, err
		}
		answer, err := p.ask(ctx, "report")
		if err != nil {
			return r, err
		}
		var ping report
		if err := json.Unmarshal([]byte(answer), &ping); err != nil {
			return r, err
		}
		if _, err := p.ask(ctx, "stop"); err != nil {
			return r, err
		}
		r.PingP50, r.PingP99 = ping.P50, ping.P99
	}
	if _, err := c.all(ctx, send(o.window, "together")); err != nil {
		return r, err
	}
	if err := pause(ctx, o.warm); err != nil {
		return r, err
	}
	if _, err := c.all(ctx, "mark"); err != nil {
		return r, err
	}
	before, err := c.usage(ctx)
	if err != nil {
		return r, err
	}
	if err := pause(ctx, o.load); err != nil {
		return r, err
	}
	after, err := c.usage(ctx)
	if err != nil {
		return r, err
	}
	answers, err := c.all(ctx, "report")
	if err != nil {
		return r, err
	}
	if _, err := c.all(ctx, "stop"); err != nil {
		return r, err
	}
	var deliveries, own float64
	for _, a := range answers {
		var l report
		if err := json.Unmarshal([]byte(a), &l); err != nil {
			return r, err
		}
		n := float64(len(c.clients))
		r.Rate += float64(l.Received) / l.Seconds / n
		r.LoadP50 += l.P50 / n
		r.LoadP99 = max(r.LoadP99, l.P99)
		deliveries += float64(l.Received)
		own += float64(l.Own)
	}
	if own == 0 {
		return r, errors.New("nothing was delivered")
	}
	used := after.minus(before)
	r.DaemonCPU = used.daemons.Seconds() * 1e6 / deliveries
	r.ClientCPU = used.clients.Seconds() * 1e6 / deliveries
	r.Switches = float64(used.switches) / deliveries
	if c.counters {
		r.Calls = used.calls.per(deliveries)
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// build makes the program that is measured.
func build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "evensong")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "evensong/cmd/evensong").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build evensong: %w\n%s", err, out)
	}
	return program, nil
}

// commit is the checkout's, with a plus if it was changed; empty if git does not know.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return ""
	}
	id := string(bytes.TrimSpace(out))
	if out, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(out) > 0 {
		id += "+"
	}
	return id
}
