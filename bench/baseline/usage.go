// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"evensong/bench/run"
	"evensong/internal/config"
	"evensong/internal/host"
)

// usage is what the processes of a cluster have used since they started. Where /proc does not tell, it stays zero and
// the columns are empty.
type usage struct {
	daemons, clients time.Duration // user and system time
	switches         int64         // times that a thread of a daemon gave the processor up to wait
	calls            calls
}

func (a usage) minus(b usage) usage {
	return usage{a.daemons - b.daemons, a.clients - b.clients, a.switches - b.switches, a.calls.minus(b.calls)}
}

func (c *cluster) usage(ctx context.Context) (usage, error) {
	var u usage
	for _, d := range c.daemons {
		u.daemons += run.ProcessTime(d.PID())
		u.switches += switches(d.PID())
	}
	for _, k := range c.clients {
		u.clients += run.ProcessTime(k.PID())
	}
	if !c.counters {
		return u, nil
	}
	for _, d := range c.daemons {
		line, err := d.Ask(ctx, "counters")
		if err != nil {
			return u, err
		}
		var k calls
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			return u, err
		}
		u.calls = u.calls.plus(k)
	}
	return u, nil
}

// switches is how often the threads of a process have begun to wait.
func switches(pid int) int64 {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	var sum int64
	for _, t := range tasks {
		b, _ := os.ReadFile(t) // a thread that has ended meanwhile does not matter
		for line := range strings.SplitSeq(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// calls counts the system calls of a daemon's loop by what they are for.
type calls struct {
	Waits, Receives, Sends, Reads, Writes float64
	DatagramsIn, DatagramsOut             float64
	RunsIn, RunsOut                       float64 // of several datagrams that passed the kernel as one
}

func (a calls) each(b calls, f func(x, y float64) float64) calls {
	return calls{
		f(a.Waits, b.Waits), f(a.Receives, b.Receives), f(a.Sends, b.Sends), f(a.Reads, b.Reads), f(a.Writes, b.Writes),
		f(a.DatagramsIn, b.DatagramsIn), f(a.DatagramsOut, b.DatagramsOut),
		f(a.RunsIn, b.RunsIn), f(a.RunsOut, b.RunsOut),
	}
}

func (a calls) plus(b calls) calls  { return a.each(b, func(x, y float64) float64 { return x + y }) }
func (a calls) minus(b calls) calls { return a.each(b, func(x, y float64) float64 { return x - y }) }

func (a calls) per(n float64) *calls {
	return new(a.each(a, func(x, _ float64) float64 { return x / n }))
}

func (a calls) sum() float64 { return a.Waits + a.Receives + a.Sends + a.Reads + a.Writes }

// runDaemon is the role "daemon": "evensong serve" with the same flags, that answers each line of input with its
// counters.
func runDaemon(args []string, in io.Reader, out io.Writer) error {
	fs := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	values := config.BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	none := func(string) (string, bool) { return "", false }
	c, err := config.Read("", values, none, os.Hostname)
	if err != nil {
		return err
	}
	if c, err = config.Resolve(context.Background(), c, net.DefaultResolver); err != nil {
		return err
	}
	self, err := config.Identify(&c, c.Local.Name, func() (config.Host, error) { return config.Host{}, errors.New("no name given") })
	if err != nil {
		return err
	}
	hc, build, err := host.Assemble(&c, self.Index, nil)
	if err != nil {
		return err
	}
	h, err := host.Start(hc, build)
	if err != nil {
		return err
	}
	s := h.Stats()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		k := calls{
			Waits: float64(s.Wakeups.Load()), Reads: float64(s.ClientReads.Load()), Writes: float64(s.ClientWrites.Load()),
		}
		if t := s.Transport; t != nil {
			k.Receives, k.Sends = float64(t.ReceiveCalls.Load()), float64(t.SendCalls.Load())
			k.DatagramsIn, k.DatagramsOut = float64(t.DatagramsIn.Load()), float64(t.DatagramsOut.Load())
			k.RunsIn, k.RunsOut = float64(t.RunsIn.Load()), float64(t.RunsOut.Load())
		}
		if err := json.NewEncoder(out).Encode(k); err != nil {
			return err
		}
	}
	return h.Close()
}
