// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
)

// MaxRing is how many daemons a temporary ring may have.
const MaxRing = 16

// Ring is a temporary ring: daemons that are processes of their own, on loopback, so that their CPU time is theirs. They
// live no longer than this process, whatever ends it: each ends when its input does.
type Ring struct {
	// Servers are where clients connect to each daemon, Admin where the admin planes are.
	Servers, Admin []string

	dir      string
	children []*child
}

type child struct {
	cmd *exec.Cmd
	in  io.Closer
}

// place tells a daemon of a temporary ring who it is.
type place struct {
	Dir   string   `json:"dir"`
	Ports []uint16 `json:"ports"` // for datagrams, of all daemons
	Index int      `json:"index"`
}

func (p place) name() string { return fmt.Sprintf("d%d", p.Index+1) }

func (p place) socket() string { return filepath.Join(p.Dir, p.name()) }

// ringTime is how long a temporary ring may take to form.
const ringTime = 30 * time.Second

// StartRing starts n daemons, each by running a command that calls Daemon, and waits until they are one ring.
func StartRing(ctx context.Context, n int, command func() *exec.Cmd) (*Ring, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ringTime, fmt.Errorf("the %d daemons of the temporary ring are not together after %v", n, ringTime))
	defer cancel()
	for try := 0; ; try++ {
		r, err := startRing(ctx, n, command)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if try == 4 || !errors.Is(err, errEnded) { // a port that was free may be taken a moment later
			return nil, err
		}
	}
}

var errEnded = errors.New("a daemon of the temporary ring has ended")

func startRing(ctx context.Context, n int, command func() *exec.Cmd) (*Ring, error) {
	dir, err := os.MkdirTemp("", "evsb") // the paths of sockets are short
	if err != nil {
		return nil, err
	}
	r := &Ring{dir: dir}
	p := place{Dir: dir}
	if p.Ports, err = freePorts(n); err != nil {
		r.Close()
		return nil, err
	}
	for p.Index = range n {
		if err := r.start(ctx, p, command()); err != nil {
			r.Close()
			return nil, err
		}
		r.Servers = append(r.Servers, "unix:"+p.socket())
		r.Admin = append(r.Admin, p.socket()+".admin")
	}
	if err := r.await(ctx, n); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// freePorts are UDP ports that nobody has at the moment.
func freePorts(n int) (ports []uint16, err error) {
	for range n {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer c.Close() // not before all are found, or two would be the same
		ports = append(ports, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	return ports, nil
}

// start runs one daemon and waits until it serves.
func (r *Ring) start(ctx context.Context, p place, cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.children = append(r.children, &child{cmd, in})
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })() // or one that says nothing would be waited for
	if err := json.NewEncoder(in).Encode(p); err != nil {
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != ready {
		return fmt.Errorf("%w: %s", errEnded, line)
	}
	return nil
}

// await waits until every daemon is ready in a configuration of n.
func (r *Ring) await(ctx context.Context, n int) error {
	for _, at := range r.Admin {
		c := admin.NewClient(at, admin.DialOptions{})
		defer c.Close()
		for {
			s, err := c.Status(ctx)
			if err == nil && s.Ready && s.Daemons == n {
				break
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// Close ends the daemons.
func (r *Ring) Close() {
	var wg sync.WaitGroup
	for _, c := range r.children {
		wg.Go(func() {
			c.in.Close()
			kill := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
			_ = c.cmd.Wait() // how it ended is not our question
			kill.Stop()
		})
	}
	wg.Wait()
	os.RemoveAll(r.dir)
}

// ready is what a daemon says when it serves.
const ready = "ready\n"

// Daemon is the life of one daemon of a temporary ring: it reads its place, says that it is ready, and ends with its input.
func Daemon(in io.Reader, out io.Writer, log *slog.Logger) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var p place
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	if p.Index < 0 || p.Index >= len(p.Ports) {
		return fmt.Errorf("there is no daemon %d", p.Index)
	}
	c := config.Config{Cluster: filepath.Base(p.Dir), // nobody else's, and short: that of a test's directory may be too long
		Ranked: true, Ring: config.Ring{Accelerated: true}}
	for i, port := range p.Ports {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		c.Daemons = append(c.Daemons, config.Daemon{Name: place{Index: i}.name(), Addr: addr, Segment: i})
		c.Segments = append(c.Segments, config.Segment{Addr: addr, Kind: config.Unicast, Daemons: []int{i}})
	}
	c.Local.Listen, c.Local.UnixSockets = []string{"127.0.0.1:0"}, []string{p.socket()}
	hc, build, err := host.Assemble(&c, p.Index, log)
	if err != nil {
		return err
	}
	hc.Admin.Socket = p.socket() + ".admin"
	h, err := host.Start(hc, build)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, ready); err == nil {
		_, _ = io.Copy(io.Discard, lines)
	}
	return h.Close()
}
