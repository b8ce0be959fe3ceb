// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/proto/node"
)

// filed is a daemon that was started from a file.
type filed struct {
	t    *testing.T
	path string
	host *host.Host
	node *node.Machine
	log  *logBuffer
}

// startFiled starts daemon name of a file, in which parts of the shell take part in reloads.
func startFiled(t *testing.T, name, text string, parts ...host.Reloadable) *filed {
	t.Helper()
	return startChanged(t, name, text, nil, nil, parts...)
}

// startChanged is startFiled with changes of what the host starts with, and something around the daemon's machine, where they are not nil.
func startChanged(t *testing.T, name, text string, change func(*host.Config), wrap func(*node.Machine) host.Machine, parts ...host.Reloadable) *filed {
	t.Helper()
	f := &filed{t: t, path: filepath.Join(t.TempDir(), "spread.conf"), log: &logBuffer{}}
	f.write(text)
	read := func(ctx context.Context) (config.Config, error) {
		c, err := config.Read(f.path, nil, func(string) (string, bool) { return "", false }, os.Hostname)
		if err != nil {
			return c, err
		}
		c.Local.UnixSockets, c.Local.Listen = []string{filepath.Join(filepath.Dir(f.path), "s")}, []string{"127.0.0.1:0"}
		return config.Resolve(ctx, c, net.DefaultResolver)
	}
	c, err := read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	level := new(slog.LevelVar)
	cfg, build, err := host.Assemble(&c, c.Index(name), slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: level})))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Reread, cfg.Admin.Level, cfg.Admin.Socket = read, level, f.socket()
	cfg.Reloadables = parts
	if change != nil {
		change(&cfg)
	}
	f.host, err = host.Start(cfg, func(b host.Boot) (host.Machine, error) {
		m, err := build(b)
		f.node, _ = m.(*node.Machine)
		if err == nil && wrap != nil {
			m = wrap(f.node)
		}
		return m, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.host.Close() })
	return f
}

// socket is where operators reach the daemon.
func (f *filed) socket() string { return filepath.Join(filepath.Dir(f.path), "admin") }

func (f *filed) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// look reads something of the machine.
func (f *filed) look(read func(m *node.Machine)) {
	f.t.Helper()
	if err := f.host.Do(f.t.Context(), func(time.Duration) { read(f.node) }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *filed) windows() (w [3]int) {
	f.look(func(m *node.Machine) { w[0], w[1], w[2] = m.Windows() })
	return w
}

// members are the names in the present configuration.
func (f *filed) members() string {
	var names []string
	f.look(func(m *node.Machine) {
		if c := m.Configuration(); c != nil {
			for _, p := range c.Members {
				names = append(names, p.Name)
			}
		}
	})
	return strings.Join(names, " ")
}

func (f *filed) until(members string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); f.members() != members; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("members %q, want %q\n%s", f.members(), members, f.log)
		}
	}
}

// freeAddr is an address of the loopback interface that nobody uses now.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// segment is a segment with one daemon.
func segment(name string, a netip.AddrPort) string {
	_, port, _ := strings.Cut(a.String(), ":")
	return "Spread_Segment unicast:" + port + " { " + name + " 127.0.0.1 }\n"
}

// Reload reads the file again: what is good is in force, what is bad changes nothing and stops nobody, and what is the
// same does nothing.
func TestReload(t *testing.T) {
	addr, other := freeAddr(t), freeAddr(t)
	me := segment("a", addr)
	f := startFiled(t, "a", me+"Window = 100\nPersonalWindow = 50\n")
	var installs uint64
	f.look(func(m *node.Machine) { installs = m.Stats().Order.Installs })
	for _, x := range []struct {
		what, file       string
		changed, restart []string // parts of the sentences; nil: none
		refused          []string // parts of the error
		windows          [3]int
	}{
		{what: "the same", file: me + "Window = 100\nPersonalWindow = 50\n", windows: [3]int{100, 50, 20}},
		{what: "the same, otherwise written", file: "# a comment\n" + me + "PersonalWindow=50 Window=100", windows: [3]int{100, 50, 20}},
		{what: "windows", file: me + "Window = 200\nPersonalWindow = 50\n", changed: []string{"Window: 200 instead of 100 (" + f.path + ":2)"}, windows: [3]int{200, 50, 20}},
		{what: "a mistake", file: me + "Window = 300\nPersonalWindow = \n", refused: []string{f.path + ":3"}, windows: [3]int{200, 50, 20}},
		{what: "two mistakes", file: me + "Window = x\nPersonalWindow = y\n", refused: []string{f.path + ":2", f.path + ":3"}, windows: [3]int{200, 50, 20}},
		{what: "windows that do not fit", file: me + "Window = 20\nPersonalWindow = 50\n", refused: []string{"PersonalWindow"}, windows: [3]int{200, 50, 20}},
		{what: "without me", file: segment("b", other) + "Window = 300\n", refused: []string{"does not list this daemon, a"}, windows: [3]int{200, 50, 20}},
		{what: "me elsewhere", file: segment("a", other) + "Window = 300\n", refused: []string{"cannot move", addr.String(), other.String()}, windows: [3]int{200, 50, 20}},
		{what: "an empty file", file: "", refused: []string{f.path}, windows: [3]int{200, 50, 20}},
		{what: "a daemon more, in front", file: segment("b", other) + me + "Window = 200\nPersonalWindow = 50\n", changed: []string{"daemon b is new, at " + other.String()},
			restart: []string{"place in the ring: 2nd instead of 1st"}, windows: [3]int{200, 50, 20}},
		{what: "at a start only", file: segment("b", other) + me + "Window = 200\nPersonalWindow = 50\nEventLogFile = x\nDaemonUser = y\n",
			restart: []string{"DaemonUser: y instead of default", "EventLogFile: x instead of default", "place"}, windows: [3]int{200, 50, 20}},
		{what: "back again", file: me + "PersonalWindow = 50\nTokenTimeout = 400\n", changed: []string{"TokenTimeout: 400ms", "Window: default instead of 200", "daemon b is removed"}, windows: [3]int{160, 50, 20}},
		{what: "log and limits", file: me + "PersonalWindow = 50\nTokenTimeout = 400\nEventPriority = WARNING\nMaxSessionMessages = 7\n",
			changed: []string{"MaxSessionMessages: 7", "EventPriority: WARNING"}, windows: [3]int{160, 50, 20}},
	} {
		f.write(x.file)
		r, err := f.host.Reload(t.Context())
		if (err != nil) != (x.refused != nil) || err != nil && !errors.Is(err, host.ErrReload) {
			t.Errorf("%s: error %v", x.what, err)
		}
		for _, part := range x.refused {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error without %q: %v", x.what, part, err)
			}
		}
		for _, y := range []struct{ got, want []string }{{r.Changed, x.changed}, {r.Restart, x.restart}} {
			ok := len(y.got) == len(y.want)
			for i := range y.want {
				ok = ok && strings.Contains(y.got[i], y.want[i])
			}
			if !ok {
				t.Errorf("%s: report %q, want %q", x.what, y.got, y.want)
			}
		}
		if got := f.windows(); got != x.windows {
			t.Errorf("%s: windows %v, want %v", x.what, got, x.windows)
		}
	}
	f.look(func(m *node.Machine) {
		if n := m.Stats().Order.Installs; n != installs {
			t.Errorf("%d configurations were installed by reloads", n-installs)
		}
	})
	if n := strings.Count(f.log.String(), `level=ERROR msg="configuration not reloaded`); n != 6 {
		t.Errorf("%d refusals in the log\n%s", n, f.log)
	}
	os.Remove(f.path)
	if _, err := f.host.Reload(t.Context()); !errors.Is(err, host.ErrReload) {
		t.Errorf("without a file: %v", err)
	}
	f.host.Close()
	if _, err := f.host.Reload(t.Context()); err == nil {
		t.Error("a host that has ended reloads")
	}
}

// A daemon is added and another one removed by files alone, while those that stay stay together.
func TestReloadAddsAndRemoves(t *testing.T) {
	a, b, c := freeAddr(t), freeAddr(t), freeAddr(t)
	timers := "TokenTimeout = 1000\n" // a ring that is lost because the machine is busy would be a configuration more
	two := segment("a", a) + segment("b", b) + timers
	three := segment("a", a) + segment("c", c) + segment("b", b) + timers
	da, db := startFiled(t, "a", two), startFiled(t, "b", two)
	da.until("a b")
	db.until("a b")
	reload := func(f *filed, text string) {
		t.Helper()
		f.write(text)
		if _, err := f.host.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	installs := func(f *filed) (n uint64) {
		f.look(func(m *node.Machine) { n = m.Stats().Order.Installs })
		return n
	}
	dc := startFiled(t, "c", three)
	dc.until("c")
	before := installs(db)
	reload(da, three)
	db.until("a b c") // b keeps its rank; c, which has the same one, follows it by name
	reload(db, three)
	dc.until("a b c")
	if n := installs(db) - before; n != 1 {
		t.Errorf("adding a daemon took %d configurations", n)
	}
	reload(db, two)
	reload(da, two)
	db.until("a b")
	da.until("a b")
	dc.until("c")
	if n := installs(db) - before; n != 2 {
		t.Errorf("removing a daemon took %d configurations", n-1)
	}
	if s := da.log.String(); !strings.Contains(s, "kept out") {
		t.Errorf("nothing is said about the daemon that is kept out\n%s", s)
	}
	if s := dc.log.String(); !strings.Contains(s, "does not list this daemon") {
		t.Errorf("the removed daemon does not say why\n%s", s)
	}
	if s := db.log.String(); !strings.Contains(s, "difference") || !strings.Contains(s, "same configuration again") {
		t.Errorf("the difference while files differed is not in the log, or not its end\n%s", s)
	}
}

// Over the admin plane a reload answers with what it did, or with all that is wrong; what operators see and may do follows
// the new file. Parts of the shell that take part can refuse the whole, and are asked only when they are concerned.
func TestReloadByOperator(t *testing.T) {
	addr, other := freeAddr(t), freeAddr(t)
	me := segment("a", addr)
	var prepared, applied, discarded int
	f := startFiled(t, "a", me, host.Reloadable{Keys: []string{"EventTimeStamp"}, Prepare: func(c *config.Config) (apply, discard func(), err error) {
		prepared++
		if c.Log.TimeFormat == "bad" {
			return nil, nil, errors.New("no such time")
		}
		return func() { applied++ }, func() { discarded++ }, nil
	}}, host.Reloadable{Keys: []string{"EventTimeStamp"}, Prepare: func(c *config.Config) (apply, discard func(), err error) {
		if c.Log.TimeFormat == "late" {
			return nil, nil, errors.New("too late")
		}
		return nil, nil, nil
	}})
	operator := admin.NewClient(f.socket(), admin.DialOptions{})
	defer operator.Close()
	reload := func(text string) (admin.Reloaded, error) {
		f.write(text)
		return operator.Reload(t.Context())
	}
	missing := func() int {
		m, err := operator.Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(m.Missing)
	}
	if r, err := reload(me + "# the same"); err != nil || len(r.Changed)+len(r.Ignored) != 0 || prepared != 0 {
		t.Errorf("the same: %+v, %v, asked %d times", r, err, prepared)
	}
	if _, err := reload(me + "Window = 1x"); err == nil || !strings.Contains(err.Error(), ":2:") {
		t.Errorf("a mistake: %v", err)
	}
	if n := missing(); n != 0 {
		t.Errorf("%d daemons are missing", n)
	}
	r, err := reload(me + segment("b", other) + "EventTimeStamp = \"%Y\"\nDangerousMonitor = true\nEventPriority = ERROR\nnonsense\n")
	if err == nil {
		t.Errorf("an unknown word: %+v", r)
	}
	r, err = reload(me + segment("b", other) + "EventTimeStamp = \"%Y\"\nDangerousMonitor = true\nEventPriority = ERROR\n")
	if err != nil || len(r.Changed) != 4 || len(r.Ignored) != 0 || prepared != 1 || applied != 1 {
		t.Errorf("much: %+v, %v, asked %d times, applied %d times", r, err, prepared, applied)
	}
	st, err := operator.Status(t.Context())
	if err != nil || !st.DangerousMonitor || st.LogLevel != "error" || missing() != 1 {
		t.Errorf("dangerous %v, level %s, %d missing, %v", st.DangerousMonitor, st.LogLevel, missing(), err)
	}
	if _, err := reload(me + "EventTimeStamp = bad\nWindow = 77\n"); err == nil || !strings.Contains(err.Error(), "no such time") || applied != 1 {
		t.Errorf("refused by a part: %v, applied %d times", err, applied)
	}
	if discarded != 0 {
		t.Errorf("%d parts gave up what was in force, or what was refused", discarded)
	}
	if _, err := reload(me + "EventTimeStamp = late\nWindow = 77\n"); err == nil || !strings.Contains(err.Error(), "too late") || applied != 1 || discarded != 1 {
		t.Errorf("refused by a later part: %v, applied %d times, given up %d times", err, applied, discarded)
	}
	if w := f.windows(); w[0] != 160 || missing() != 1 {
		t.Errorf("windows %v, %d missing after a refusal", w, missing())
	}
}

// Access files are read again by every reload. That changes nothing else: windows that an operator has set stay.
func TestReloadOfAccessFilesKeepsWindows(t *testing.T) {
	networks := filepath.Join(t.TempDir(), "networks")
	if err := os.WriteFile(networks, []byte("local\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	f := startFiled(t, "a", segment("a", addr)+"AllowedAuthMethods = IP\nAccessIPFile = \""+networks+"\"\n")
	f.look(func(m *node.Machine) {
		if err := m.SetWindows(time.Second, 200, 50, 0); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if r, err := f.host.Reload(t.Context()); err != nil || len(r.Changed) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if w := f.windows(); w != [3]int{200, 50, 20} {
			t.Errorf("windows %v after a reload that changes nothing", w)
		}
	}
}

// TestReloadPrimaryRule: the rule is in force with the reload, and a list that goes too far for it is refused, with what to do.
func TestReloadPrimaryRule(t *testing.T) {
	base := fmt.Sprintf("Spread_Segment unicast:%d { a 127.0.0.1 }\n", freeAddr(t).Port())
	f := startFiled(t, "a", base)
	f.until("a")
	status := func() string {
		var p string
		f.look(func(m *node.Machine) { p = m.Status(0).Primary.String() })
		return p
	}
	for _, x := range []struct{ text, want string }{{base + "PrimaryRule = majority\n", "yes"}, {base, "unclaimed"}, {base + "PrimaryRule = majority\n", "yes"}} {
		f.write(x.text)
		if r, err := f.host.Reload(t.Context()); err != nil || len(r.Changed) != 1 || !strings.HasPrefix(r.Changed[0], "PrimaryRule: ") {
			t.Fatalf("%+v, %v", r, err)
		}
		for end := time.Now().Add(20 * time.Second); status() != x.want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("primary is %s, want %s", status(), x.want)
			}
		}
	}
	f.write("PrimaryRule = majority\n" + strings.Replace(base, "}", "b 127.0.0.2 c 127.0.0.3 }", 1))
	if _, err := f.host.Reload(t.Context()); !errors.Is(err, host.ErrReload) || !strings.Contains(err.Error(), "one daemon at a time") {
		t.Errorf("two daemons more: %v", err)
	}
	if got := status(); got != "yes" {
		t.Errorf("after a refusal primary is %s", got)
	}
}
