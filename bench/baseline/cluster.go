// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"evensong/bench/run"
	"evensong/internal/seal"
)

// cluster is the daemons and clients of one measurement.
type cluster struct {
	daemons, clients []*run.Child
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
	ports, err := run.FreePorts(n)
	if err != nil {
		return nil, err
	}
	env := run.Environment()
	key := ""
	if o.seal {
		key = filepath.Join(dir, "key")
		if err := os.WriteFile(key, []byte(seal.Format(seal.Draw())+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
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
		if o.path != "" {
			args = append(args, "--datagram-path", o.path)
		}
		if o.packet != 0 {
			args = append(args, "--packet-bytes", fmt.Sprint(o.packet))
		}
		if key != "" {
			args = append(args, "--cluster-key-file", key)
		}
		program, e := o.binary, env
		if o.counters {
			program, args[0] = self, "daemon"
		}
		if p := profile("daemon", i); p != "" {
			e = append(e[:len(e):len(e)], "EVENSONG_CPUPROFILE="+p)
		}
		d, err := run.Start(dir, "daemon-"+name(i), e, program, args...)
		if err != nil {
			return c, err
		}
		c.daemons = append(c.daemons, d)
	}
	for i := range n {
		k, err := run.Start(dir, fmt.Sprintf("client%d", i), env, self, "client", "unix:"+socket(i), fmt.Sprint(i), fmt.Sprint(n), profile("client", i))
		if err != nil {
			return c, err
		}
		k.Codes = map[int]error{run.ExitChanged: run.ErrChanged}
		c.clients = append(c.clients, k)
	}
	for _, k := range c.clients {
		if answer, err := k.Ask(ctx, ""); err != nil {
			for _, d := range c.daemons {
				select {
				case <-d.Ended:
					err = errors.Join(err, d.Problem("it has ended"))
				default:
				}
			}
			return c, err
		} else if answer != "ready" {
			return c, k.Problem("it said " + answer)
		}
	}
	return c, nil
}

// stop ends the clients, then the daemons, and returns once they have gone. A nil cluster has none.
func (c *cluster) stop() {
	if c == nil {
		return
	}
	var wg sync.WaitGroup
	for _, k := range c.clients {
		wg.Go(func() { k.End(func() { k.In.Close() }) })
	}
	wg.Wait()
	for _, d := range c.daemons {
		wg.Go(func() { d.Terminate() })
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
		if last := d.LastLine(); last != "" {
			fmt.Fprintf(&out, "\n%s: %s", d.Name, last)
		}
	}
	return out.String()
}

// all asks each client the same and returns the answers.
func (c *cluster) all(ctx context.Context, command string) ([]string, error) {
	for _, k := range c.clients {
		if err := k.Tell(command); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, k := range c.clients {
		answer, err := k.Ask(ctx, "")
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
		if _, err := p.Ask(ctx, send(1, "alone")); err != nil {
			return r, err
		}
		if err := run.Pause(ctx, o.warm/4); err != nil {
			return r, err
		}
		if _, err := p.Ask(ctx, "mark"); err != nil {
			return r, err
		}
		if err := run.Pause(ctx, o.ping); err != nil {
			return r, err
		}
		answer, err := p.Ask(ctx, "report")
		if err != nil {
			return r, err
		}
		var ping run.Report
		if err := json.Unmarshal([]byte(answer), &ping); err != nil {
			return r, err
		}
		if _, err := p.Ask(ctx, "stop"); err != nil {
			return r, err
		}
		r.PingP50, r.PingP99 = ping.P50, ping.P99
	}
	if _, err := c.all(ctx, send(o.window, "together")); err != nil {
		return r, err
	}
	if err := run.Pause(ctx, o.warm); err != nil {
		return r, err
	}
	if _, err := c.all(ctx, "mark"); err != nil {
		return r, err
	}
	before, err := c.usage(ctx)
	if err != nil {
		return r, err
	}
	if err := run.Pause(ctx, o.load); err != nil {
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
		var l run.Report
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
