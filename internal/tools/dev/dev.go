// SPDX-License-Identifier: Apache-2.0

// Package dev is "evensong dev": three daemons in one process on loopback, and a conversation in a group that a person
// can watch and join. It uses real sockets throughout; nothing in it is specific to one process.
package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
)

// Options say what to run. The zero value runs until the context ends, on port 4803 if that is free.
type Options struct {
	Port  int           // TCP port of the first daemon; zero means 4803, or any free one if that is taken
	For   time.Duration // how long; zero: until the context ends
	Pause time.Duration // between two lines of the conversation; zero means 1.2s
	Color bool
	// RuntimeDir is where the admin sockets are. Empty: where the commands look for them.
	RuntimeDir string
	Log        *slog.Logger // what the daemons say of warnings and errors; nil: nowhere
	// Program is how the commands it names are called. Empty: evensong.
	Program string
}

// Group is where the conversation takes place.
const Group = "demo"

var names = []string{"a", "b", "c"}

// Run starts the daemons and the conversation, and writes what happens to out until it ends. The context's end is an
// orderly end, and so is that of out, when nobody reads it any more.
func Run(ctx context.Context, o Options, out io.Writer) error {
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	if o.Pause == 0 {
		o.Pause = 1200 * time.Millisecond
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p := &printer{w: out, color: o.Color, start: time.Now(), stop: stop}
	c, err := start(o, p)
	if err != nil {
		return err
	}
	p.say("", "Evensong: three daemons on this machine form a ring; three programs talk in the group %q.\n", Group)
	for i, h := range c.hosts {
		p.say("", "  daemon %s   clients %s   daemons %s", names[i], h.ListenAddrs()[0], h.Addr())
	}
	addr := c.hosts[0].ListenAddrs()[0]
	program := cmp.Or(o.Program, "evensong")
	p.say("", "\nJoin in from another terminal:\n  %s join -s %d@localhost %s\n", program, addr.Port(), Group)
	if len(c.hosts[0].AdminAddrs()) > 0 {
		p.say("", "Look at the daemons:\n  %s status                 or, in its place: status --admin a, groups, monitor partition a,b/c\n", program)
	}
	if o.For == 0 {
		p.say("", "Ctrl-C ends everything.\n")
	}
	err = converse(ctx, c, o.Pause, p)
	p.say("", "\nStopping the daemons, one after the other leaves the ring.")
	c.close()
	if ctx.Err() != nil {
		err = nil // asked to end
	}
	if err == nil {
		p.say("", "Done.")
	}
	return err
}

// cluster is the three daemons.
type cluster struct {
	hosts []*host.Host
}

// start brings three daemons up. Ports are chosen by the system, so a second dev beside this one works.
func start(o Options, p *printer) (*cluster, error) {
	var last error
	for range 5 { // a port that was free may be taken a moment later
		c, err := tryStart(o, p)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, host.ErrBind) {
			return nil, err
		}
		last = err
	}
	return nil, last
}

func tryStart(o Options, p *printer) (*cluster, error) {
	ports, err := freePorts(len(names))
	if err != nil {
		return nil, err
	}
	base := config.Config{Cluster: fmt.Sprintf("dev-%d-%d", os.Getpid(), ports[0]), Ranked: true, Ring: config.Ring{Accelerated: true}}
	for i, name := range names {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ports[i])
		base.Daemons = append(base.Daemons, config.Daemon{Name: name, Addr: addr, Segment: i})
		base.Segments = append(base.Segments, config.Segment{Addr: addr, Kind: config.Unicast, Daemons: []int{i}})
	}
	c := &cluster{}
	for i := range names {
		conf := base
		conf.Local.UnixSockets = []string{}
		conf.Local.Listen = []string{"127.0.0.1:0"}
		if i == 0 {
			conf.Local.Listen, conf.Local.UnixSockets = firstListener(o.Port)
		}
		handler := slog.Handler(slog.DiscardHandler)
		if o.Log != nil {
			handler = o.Log.Handler()
		}
		if i == 0 {
			handler = &ringWatcher{Handler: handler, p: p}
		}
		hc, build, err := host.Assemble(&conf, i, slog.New(handler).With("proc", names[i]))
		if err != nil {
			c.close()
			return nil, err
		}
		hc.Admin.UseDefaultSocket(&conf, i)
		if o.RuntimeDir != "" {
			hc.Admin.Socket = admin.SocketPath(o.RuntimeDir, names[i], base.Daemons[i].Addr.Port())
		}
		hc.Admin.Dangerous = true // to try everything is what it is for
		h, err := host.Start(hc, build)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("start daemon %s: %w", names[i], err)
		}
		c.hosts = append(c.hosts, h)
	}
	return c, nil
}

// firstListener chooses where clients find the first daemon: the usual port and the usual socket, if nobody has them.
func firstListener(port int) (listen, unix []string) {
	unix = []string{}
	want := port
	if want == 0 {
		want = config.DefaultPort
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(want))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if port != 0 {
			return []string{addr}, unix // it was asked for: fail with the reason
		}
		return []string{"127.0.0.1:0"}, unix
	}
	l.Close()
	if os.PathSeparator == '/' {
		path := "/tmp/" + strconv.Itoa(want)
		if c, err := net.Dial("unix", path); err == nil {
			c.Close() // somebody serves it
		} else {
			unix = append(unix, path) // the host takes over one that nobody serves any more
		}
	}
	return []string{addr}, unix
}

func freePorts(n int) ([]uint16, error) {
	var ports []uint16
	for range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer c.Close()
		ports = append(ports, uint16(c.LocalAddr().(*net.UDPAddr).Port))
	}
	return ports, nil
}

func (c *cluster) close() {
	var wg sync.WaitGroup
	for _, h := range c.hosts {
		wg.Go(func() { h.Close() })
	}
	wg.Wait()
}

// printer writes lines of several goroutines, each with the time since the start.
type printer struct {
	mu    sync.Mutex
	w     io.Writer
	color bool
	start time.Time
	stop  func() // called when a line cannot be written
}

var colors = map[string]string{"ada": "\x1b[36m", "ben": "\x1b[33m", "cem": "\x1b[35m", "ring": "\x1b[1m", "view": "\x1b[32m"}

// say writes one line; who, if not empty, stands in front of it.
func (p *printer) say(who, format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, a...)
	if who == "" {
		p.write(text)
		return
	}
	on, off := "", ""
	if p.color {
		if on = colors[who]; on == "" {
			on = "\x1b[34m"
		}
		off = "\x1b[0m"
	}
	p.write(fmt.Sprintf("%6.1fs  %s%-8s%s %s", time.Since(p.start).Seconds(), on, who, off, text))
}

func (p *printer) write(line string) {
	if _, err := io.WriteString(p.w, line+"\n"); err != nil {
		p.stop()
	}
}

// ringWatcher shows the configurations of a daemon as they are installed; other lines go on if they matter.
type ringWatcher struct {
	slog.Handler
	p *printer
}

func (r *ringWatcher) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || r.Handler.Enabled(ctx, l)
}

func (r *ringWatcher) WithAttrs(a []slog.Attr) slog.Handler {
	return &ringWatcher{r.Handler.WithAttrs(a), r.p}
}

func (r *ringWatcher) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Message == "configuration installed" {
		at := map[string]string{}
		rec.Attrs(func(a slog.Attr) bool { at[a.Key] = a.Value.String(); return true })
		text := fmt.Sprintf("daemon a: configuration %s of %s", at["ring"], strings.ReplaceAll(at["members"], " ", ", "))
		if at["gone"] != "" {
			text += "; gone: " + at["gone"]
		}
		if at["reason"] != "" {
			text += "; why: " + at["reason"]
		}
		r.p.say("ring", "%s", text)
	}
	if r.Handler.Enabled(ctx, rec.Level) {
		return r.Handler.Handle(ctx, rec)
	}
	return nil
}
