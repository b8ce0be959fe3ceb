// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"evensong/bench/run"
)

// daemon is the process that is measured. Clients dial network and address.
type daemon struct {
	*run.Child
	network, address string
}

// startDaemon starts a daemon and waits until it accepts clients.
func (b *bench) startDaemon(ctx context.Context) (*daemon, error) {
	b.daemons++
	ports, err := run.FreePorts(1)
	if err != nil {
		return nil, err
	}
	tcp := "127.0.0.1:0"
	if b.o.tcp {
		ln, err := net.Listen("tcp4", tcp)
		if err != nil {
			return nil, err
		}
		tcp = ln.Addr().String()
		ln.Close()
	}
	name := fmt.Sprintf("daemon-%d", b.daemons)
	socket := filepath.Join(b.dir, fmt.Sprintf("%d.s", b.daemons))
	args := []string{"serve", "--name", "d", "--bind", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--listen", tcp, "--unix-socket", socket, "--log-level", "warn"}
	child, err := run.Start(b.dir, name, run.Environment(), b.o.binary, append(args, strings.Fields(b.o.serve)...)...)
	if err != nil {
		return nil, err
	}
	d := &daemon{Child: child, network: "unix", address: socket}
	if b.o.tcp {
		d.network, d.address = "tcp", tcp
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial(d.network, d.address)
		if err == nil {
			c.Close()
			return d, run.Pause(ctx, 300*time.Millisecond) // its first configuration, and the end of this connection
		}
		select {
		case <-d.Ended:
			return nil, d.Problem("it has ended")
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			d.Terminate()
			return nil, d.Problem("it does not accept clients")
		}
	}
}

// resident is the memory of the daemon's process in bytes, now and at most so far; zero where /proc does not tell.
func (d *daemon) resident() (now, most float64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	for line := range strings.SplitSeq(string(b), "\n") {
		key, v, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 64)
		switch key {
		case "VmRSS":
			now = kb * 1024
		case "VmHWM":
			most = kb * 1024
		}
	}
	return now, most
}
