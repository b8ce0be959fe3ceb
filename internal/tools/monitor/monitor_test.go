// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
)

// ring is a few real daemons of one process, each with an admin socket in dir.
type ring struct {
	t     *testing.T
	dir   string
	names []string
	hosts map[string]*host.Host
	conf  config.Config
	log   *lines
}

// lines keeps a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// newRing starts daemons and waits until they are together.
func newRing(t *testing.T, dangerous bool, names ...string) *ring {
	t.Helper()
	// Paths of sockets are short.
	dir, err := os.MkdirTemp("", "mon")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &ring{t: t, dir: dir, names: names, hosts: map[string]*host.Host{}, log: &lines{}}
	for try := 0; ; try++ {
		if err := r.start(dangerous); err == nil {
			break
		} else if !errors.Is(err, host.ErrBind) || try == 5 {
			t.Fatal(err)
		}
		r.stop()
	}
	t.Cleanup(r.stop)
	r.wait("together", func() bool { return r.views() == strings.Repeat(fmt.Sprint(names), len(names)) })
	return r
}

func (r *ring) start(dangerous bool) error {
	c := config.Config{Cluster: "monitor " + r.dir, Ranked: true, Ring: config.Ring{Accelerated: true}, DangerousMonitor: dangerous}
	for i, name := range r.names {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		addr := u.LocalAddr().(*net.UDPAddr).AddrPort()
		defer u.Close()
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		c.Daemons = append(c.Daemons, config.Daemon{Name: name, Addr: addr, Segment: i})
		c.Segments = append(c.Segments, config.Segment{Addr: addr, Kind: config.Unicast, Daemons: []int{i}})
		u.Close()
	}
	c.Local.UnixSockets, c.Local.Listen, c.Local.RuntimeDir = []string{}, []string{"127.0.0.1:0"}, r.dir
	r.conf = c
	for i, name := range r.names {
		level := new(slog.LevelVar)
		log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: level})).With("proc", name)
		hc, build, err := host.Assemble(&c, i, log)
		if err != nil {
			return err
		}
		hc.Admin.UseDefaultSocket(&c, i)
		hc.Admin.Level = level
		h, err := host.Start(hc, build)
		if err != nil {
			return err
		}
		r.hosts[name] = h
	}
	return nil
}

func (r *ring) stop() {
	for name, h := range r.hosts {
		h.Stop()
		<-h.Done()
		delete(r.hosts, name)
	}
}

// views is which daemons each daemon is with.
func (r *ring) views() string {
	var b strings.Builder
	for _, name := range r.names {
		h := r.hosts[name]
		if h == nil {
			continue
		}
		ps, err := h.Members(context.Background())
		if err != nil {
			return err.Error()
		}
		var names []string
		for _, p := range ps {
			names = append(names, p.Name)
		}
		fmt.Fprint(&b, names)
	}
	return b.String()
}

// wait waits until ok, which must come in time.
func (r *ring) wait(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("not %s: %s\n%s", what, r.views(), r.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *ring) reach(admin ...string) Reach { return Reach{Dir: r.dir, Admin: admin} }

// client connects to a daemon and joins a group.
func (r *ring) client(daemon, name, group string) *client.Conn {
	r.t.Helper()
	c, err := client.Dial(r.t.Context(), r.hosts[daemon].ListenAddrs()[0].String(), client.WithName(name))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.Join(r.t.Context(), group); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// run has a command write to a string.
func run(t *testing.T, f func(w io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return b.String()
}

func code(err error) int {
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e.Code
	}
	if err != nil {
		return 1
	}
	return 0
}

// TestCommands drives three real daemons with the commands: what is shown, a partition that splits views and is healed,
// windows and log level that change, a session that is closed, and the end of daemons.
func TestCommands(t *testing.T) {
	r := newRing(t, true, "a", "b", "c")
	ctx := t.Context()
	alice := r.client("a", "alice", "chat")
	r.client("b", "bob", "chat")
	carol := r.client("c", "carol", "chat")
	// chat is who is in the group as daemon a and as daemon c see it.
	chat := func() string {
		var b bytes.Buffer
		for _, at := range []string{"a", "c"} {
			if err := Groups(ctx, r.reach(at), Output{}, "chat", &b); err != nil {
				return err.Error()
			}
		}
		return strings.Join(strings.FieldsFunc(b.String(), func(r rune) bool { return r == ' ' || r == '\n' }), " ")
	}
	everybody := func() bool {
		return strings.Count(chat(), "#alice#a #bob#b #carol#c") == 2
	}
	r.wait("joined", everybody)

	text := run(t, func(w io.Writer) error { return Status(ctx, r.reach("a"), Output{}, 0, w) })
	for _, want := range []string{"daemon a, version", "ready; operational (1 OP), groups stable (1 normal)", "3 daemons in 3 segments, leader a, accelerated ring",
		"members        a b c", "; why: start", "sessions 1 of", "groups 1", "dangerous commands permitted"} {
		if !strings.Contains(text, want) {
			t.Errorf("status lacks %q:\n%s", want, text)
		}
	}
	// On a busy machine b and c come one after the other.
	joined := map[string]bool{}
	for _, m := range regexp.MustCompile(`joined: ([a-c ]+); why: `).FindAllStringSubmatch(text, -1) {
		for _, name := range strings.Fields(m[1]) {
			joined[name] = true
		}
	}
	if !maps.Equal(joined, map[string]bool{"b": true, "c": true}) {
		t.Errorf("status tells that %v joined:\n%s", joined, text)
	}
	text = run(t, func(w io.Writer) error { return Status(ctx, r.reach(), Output{}, 0, w) })
	if !regexp.MustCompile(`(?m)^a +ready .*\n^b +ready .*\n^c +ready `).MatchString(text) {
		t.Errorf("status of three:\n%s", text)
	}
	var reports []Report
	text = run(t, func(w io.Writer) error { return Status(ctx, r.reach("b"), Output{JSON: true}, 0, w) })
	if err := json.Unmarshal([]byte(text), &reports); err != nil || len(reports) != 1 || reports[0].Status.Order.DeliveredMessages == 0 || reports[0].Status.Clients.Sessions != 1 {
		t.Errorf("status in JSON: %v\n%s", err, text)
	}
	if s := reports[0].Status; s.Clients.ReadCalls == 0 || s.Clients.WriteCalls == 0 || s.Host.Wakeups == 0 || s.Host.PID != os.Getpid() || s.Host.CPU <= 0 {
		t.Errorf("no calls, wake-ups or processor time in\n%s", text)
	}
	text = run(t, func(w io.Writer) error { return Members(ctx, r.reach("c"), Output{}, w) })
	if !regexp.MustCompile(`(?m)^a +1 +127\.0\.0\.1:\d+ +\S+a-\d+\.admin +leader\n^b .*\n^c +3 .*asked$`).MatchString(text) {
		t.Errorf("members:\n%s", text)
	}
	text = run(t, func(w io.Writer) error { return Groups(ctx, r.reach(), Output{}, "", w) })
	if !regexp.MustCompile(`(?m)^chat +3 +1$`).MatchString(text) {
		t.Errorf("groups:\n%s", text)
	}
	text = run(t, func(w io.Writer) error { return Groups(ctx, r.reach(), Output{}, "chat", w) })
	if !strings.Contains(text, "3 members, 1 of them at this daemon, view ") || !strings.Contains(text, "  #alice#a\n  #bob#b\n  #carol#c\n") {
		t.Errorf("group chat:\n%s", text)
	}
	if err := Groups(ctx, r.reach(), Output{}, "none", io.Discard); code(err) != 1 || !strings.Contains(err.Error(), `there is no group "none"`) {
		t.Errorf("a group that is not there: %v", err)
	}

	cut := map[string]int{"a": 1, "b": 1, "c": 2}
	text = run(t, func(w io.Writer) error { return Partition(ctx, r.reach("a"), Output{}, cut, time.Hour, false, w) })
	if strings.Count(text, "cut: a,b/c for 1h0m0s") != 3 {
		t.Errorf("partition:\n%s", text)
	}
	r.wait("cut", func() bool { return r.views() == "[a b][a b][c]" })
	r.wait("views split", func() bool {
		s := chat()
		return strings.Contains(s, "#alice#a #bob#b") && strings.HasSuffix(s, " #carol#c") && strings.Count(s, "#carol#c") == 1
	})
	for {
		ev, err := carol.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := ev.(*client.View); ok && slices.Equal(v.Members, []string{"#carol#c"}) {
			break // what the client has seen of it
		}
	}
	text = run(t, func(w io.Writer) error { return Status(ctx, r.reach("c"), Output{}, 0, w) })
	if !strings.Contains(text, "component 2 of a,b/c; ends in ") || !strings.Contains(text, "gone: a b; why: ") {
		t.Errorf("status while cut:\n%s", text)
	}
	run(t, func(w io.Writer) error { return Heal(ctx, r.reach("a"), Output{}, w) })
	r.wait("healed", func() bool { return r.views() == "[a b c][a b c][a b c]" && everybody() })
	if err := Partition(ctx, r.reach(), Output{}, map[string]int{"x": 1}, 0, false, io.Discard); code(err) != exitUsage || !strings.Contains(err.Error(), "there are a, b, c") {
		t.Errorf("partition of a daemon that is not there: %v", err)
	}

	all := r.reach()
	all.All = true
	n, m := 100, 30
	text = run(t, func(w io.Writer) error {
		return Set(ctx, all, Output{}, admin.Settings{Window: &n, PersonalWindow: &m, LogLevel: "debug"}, w)
	})
	if strings.Count(text, "window 100, personal window 30, accelerated window 20, log level debug") != 3 {
		t.Errorf("set:\n%s", text)
	}
	if err := Set(ctx, r.reach("a"), Output{}, admin.Settings{PersonalWindow: &[]int{500}[0]}, io.Discard); code(err) != exitUsage {
		t.Errorf("windows that do not fit: %v", err)
	}
	if err := Set(ctx, r.reach(), Output{}, admin.Settings{LogLevel: "info"}, io.Discard); code(err) != exitUsage || !strings.Contains(err.Error(), "--all") {
		t.Errorf("set without saying where: %v", err)
	}

	text = run(t, func(w io.Writer) error { return Sessions(ctx, r.reach("a"), Output{}, w) })
	if !regexp.MustCompile(`(?m)^1 +#alice#a +open +original 4\.4\.0 +127\.0\.0\.1:\d+ .* 1 +$`).MatchString(text) {
		t.Errorf("sessions:\n%s", text)
	}
	own, err := client.Dial(ctx, "evensong://"+r.hosts["c"].ListenAddrs()[0].String(), client.WithName("olga"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	text = run(t, func(w io.Writer) error { return Sessions(ctx, r.reach("c"), Output{}, w) })
	if !regexp.MustCompile(`(?m)^2 +#olga#c +open +own 1 +127`).MatchString(text) {
		t.Errorf("sessions:\n%s", text)
	}
	run(t, func(w io.Writer) error { return CloseSession(ctx, r.reach("a"), Output{}, 1, w) })
	for { // what came before, and then the end
		if _, err := alice.Next(ctx); err != nil {
			break
		}
	}
	if err := CloseSession(ctx, r.reach("a"), Output{}, 1, io.Discard); code(err) != 1 || !strings.Contains(err.Error(), "there is no session 1") {
		t.Errorf("close again: %v", err)
	}

	// A drain waits for bob, and for nobody who comes later.
	ended := make(chan string)
	go func() {
		var b bytes.Buffer
		err := Drain(ctx, r.reach("b"), Output{}, DrainOptions{Deadline: time.Hour, Progress: true}, &b)
		ended <- fmt.Sprint(err, "\n", b.String())
	}()
	r.wait("draining", func() bool {
		c, err := net.Dial("tcp", r.hosts["b"].ListenAddrs()[0].String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	text = run(t, func(w io.Writer) error { return Status(ctx, r.reach("b"), Output{}, 0, w) })
	if !strings.Contains(text, "not ready: draining: no new clients are taken") || !strings.Contains(text, " left, for ") {
		t.Errorf("status while draining:\n%s", text)
	}
	run(t, func(w io.Writer) error {
		return Drain(ctx, r.reach("b"), Output{}, DrainOptions{NoWait: true}, w)
	})
	if text := <-ended; !strings.HasPrefix(text, "<nil>") || !strings.Contains(text, " left, for ") || !strings.Contains(text, "drained, and gone: the time was over; clients cut off: 1 (#bob#b)") {
		t.Errorf("drain: %s", text)
	}
	<-r.hosts["b"].Done()
	if err := r.hosts["b"].Err(); err != nil {
		t.Errorf("a drained daemon ends with %v", err)
	}
	delete(r.hosts, "b")
	r.wait("b gone", func() bool { return r.views() == "[a c][a c]" })

	run(t, func(w io.Writer) error { return Terminate(ctx, r.reach("c"), Output{}, w) })
	<-r.hosts["c"].Done()
	if err := r.hosts["c"].Err(); !errors.Is(err, host.ErrTerminated) {
		t.Errorf("a terminated daemon ends with %v", err)
	}
	delete(r.hosts, "c")
	r.wait("c gone", func() bool { return r.views() == "[a]" })

	log := r.log.String()
	for _, want := range []string{`msg="admin command" proc=b`, "command=partition what=\"a,b/c for 1h0m0s\" result=done", "command=set", "command=session/1/close",
		"command=drain", "proc=c .*command=terminate result=done", "draining", "drained"} {
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if left, _ := filepath.Glob(r.dir + "/*"); len(left) != 1 {
		t.Errorf("daemons that ended left their sockets: %v", left)
	}
}

// TestRefused: without DangerousMonitor the daemon refuses, exit status 5, and nothing happens.
func TestRefused(t *testing.T) {
	r := newRing(t, false, "a")
	ctx := t.Context()
	n := 100
	for name, f := range map[string]func(w io.Writer) error{
		"partition": func(w io.Writer) error {
			return Partition(ctx, r.reach(), Output{}, map[string]int{"a": 1}, 0, false, w)
		},
		"heal":      func(w io.Writer) error { return Heal(ctx, r.reach(), Output{}, w) },
		"terminate": func(w io.Writer) error { return Terminate(ctx, r.reach(), Output{}, w) },
		"set":       func(w io.Writer) error { return Set(ctx, r.reach(), Output{}, admin.Settings{Window: &n}, w) },
		"close":     func(w io.Writer) error { return CloseSession(ctx, r.reach(), Output{}, 1, w) },
	} {
		r.log.reset()
		err := f(io.Discard)
		if code(err) != exitRefused || !strings.Contains(err.Error(), "DangerousMonitor = true") {
			t.Errorf("%s: %v, want exit status 5 and what to do", name, err)
		}
		if !strings.Contains(r.log.String(), "result=refused") {
			t.Errorf("%s: no line in the log: %s", name, r.log)
		}
	}
	if err := Set(ctx, r.reach(), Output{}, admin.Settings{LogLevel: "warn"}, io.Discard); err != nil {
		t.Errorf("the log level is not dangerous: %v", err)
	}
	if r.views() != "[a]" {
		t.Errorf("after all: %s", r.views())
	}
}

// TestReach: which daemons are meant, and what is said when there are none.
func TestReach(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		reach Reach
		want  string
		code  int
	}{
		{Reach{Dir: dir}, "is one running here", 1},
		{Reach{Dir: dir, Admin: []string{"x"}}, `"x" is no daemon that is found here`, exitUsage},
		{Reach{Dir: dir, Admin: []string{dir + "/x.admin"}}, "no daemon answers at", 1},
		{Reach{Dir: dir, Admin: []string{"127.0.0.1:1"}, TokenFile: dir + "/none"}, "token file", 1},
		{Reach{Dir: dir, Admin: []string{"127.0.0.1:1"}, CAFile: dir + "/none"}, "none", 1},
	} {
		err := Status(t.Context(), row.reach, Output{}, 0, io.Discard)
		if code(err) != row.code || !strings.Contains(fmt.Sprint(err), row.want) {
			t.Errorf("%+v: %v (%d), want %q (%d)", row.reach, err, code(err), row.want, row.code)
		}
	}
}

// TestSaidOnce: why a daemon has no status is told in one place: in the error if it is the only one, else in the table.
func TestSaidOnce(t *testing.T) {
	dir := t.TempDir()
	const why = "is it running"
	for _, row := range []struct {
		admin       []string
		table, errs int // how often each says why
	}{
		{[]string{dir + "/x.admin"}, 0, 1},
		{[]string{dir + "/x.admin", dir + "/y.admin"}, 2, 0},
	} {
		var b bytes.Buffer
		err := Status(t.Context(), Reach{Dir: dir, Admin: row.admin}, Output{}, 0, &b)
		if err == nil || strings.Count(b.String(), why) != row.table || strings.Count(err.Error(), why) != row.errs {
			t.Errorf("%d daemons: error %v, output\n%s", len(row.admin), err, b.String())
		}
	}
}

// TestMembersSockets: members tells the admin sockets of this host, and none that belongs to another daemon of the same name.
func TestMembersSockets(t *testing.T) {
	r := newRing(t, false, "a", "b", "c")
	paths := map[string]string{}
	for _, s := range admin.Sockets(r.dir) {
		paths[s.Name] = s.Path
	}
	adminOf := func(reach Reach) map[string]string {
		t.Helper()
		var m admin.Members
		if err := json.Unmarshal([]byte(run(t, func(w io.Writer) error { return Members(t.Context(), reach, Output{JSON: true}, w) })), &m); err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, x := range slices.Concat(m.Members, m.Missing) {
			found[x.Name] = x.Admin
		}
		return found
	}
	// By name, and by a path while the commands look elsewhere.
	for _, reach := range []Reach{r.reach("a"), {Dir: t.TempDir(), Admin: []string{paths["a"]}}} {
		if got := adminOf(reach); !maps.Equal(got, paths) {
			t.Errorf("%+v: %v, want %v", reach, got, paths)
		}
	}
	// Another cluster's daemon is where b was.
	other := newRing(t, false, "b")
	if err := os.Remove(paths["b"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(admin.Sockets(other.dir)[0].Path, paths["b"]); err != nil {
		t.Skip("no links on this system: ", err)
	}
	if got := adminOf(r.reach("a")); got["b"] != "" || got["c"] != paths["c"] {
		t.Errorf("with a foreign socket: %v", got)
	}
}

// Daemons of two clusters on one host share a name: what is meant for one reaches neither by the name alone, and a partition
// of all that can be found cuts nobody.
func TestTwoClustersOfOneName(t *testing.T) {
	a, b := newRing(t, true, "x"), newRing(t, true, "x")
	var paths []string
	for _, r := range []*ring{a, b} {
		for _, s := range admin.Sockets(r.dir) {
			paths = append(paths, s.Path)
		}
	}
	// Both sockets in one directory, as if they had the same runtime directory.
	dir := t.TempDir()
	for _, p := range paths {
		if err := os.Symlink(p, filepath.Join(dir, filepath.Base(p))); err != nil {
			t.Skip("no links on this system: ", err)
		}
	}
	named := Reach{Dir: dir, Admin: []string{"x"}}
	for _, err := range []error{
		Terminate(t.Context(), named, Output{}, io.Discard),
		Set(t.Context(), named, Output{}, admin.Settings{}, io.Discard),
	} {
		if code(err) != exitUsage || !strings.Contains(err.Error(), "several daemons") || !strings.Contains(err.Error(), "or --admin "+dir) {
			t.Errorf("by name: %v", err)
		}
	}
	err := Partition(t.Context(), Reach{Dir: dir}, Output{}, map[string]int{"x": 1}, time.Minute, false, io.Discard)
	if code(err) != exitUsage || !strings.Contains(err.Error(), "2 clusters") {
		t.Errorf("partition of everything: %v", err)
	}
	window := 70
	for what, err := range map[string]error{
		"set":       Set(t.Context(), Reach{Dir: dir, All: true}, Output{}, admin.Settings{Window: &window}, io.Discard),
		"reload":    Reload(t.Context(), Reach{Dir: dir, All: true}, Output{}, io.Discard),
		"terminate": Terminate(t.Context(), Reach{Dir: dir, All: true}, Output{}, io.Discard),
	} {
		if code(err) != exitUsage || !strings.Contains(err.Error(), "2 clusters") || !strings.Contains(err.Error(), a.conf.Cluster) || !strings.Contains(err.Error(), b.conf.Cluster) {
			t.Errorf("%s --all: %v", what, err)
		}
	}
	run(t, func(w io.Writer) error {
		return Set(t.Context(), Reach{Admin: paths[:1]}, Output{}, admin.Settings{}, w)
	})
}

func TestParseComponents(t *testing.T) {
	for text, want := range map[string]string{
		"a,b/c": "a,b/c", "a": "a", " a , b / c ": "a,b/c", "c/a/b": "c/a/b",
		"": "", "a,/b": "", "a//b": "", "a,a": "", "a/b,a": "",
	} {
		c, err := ParseComponents(text)
		if (err != nil) != (want == "") || err == nil && componentsText(c) != want {
			t.Errorf("%q: %v, %v; want %q", text, c, err, want)
		}
	}
	if got := CompleteComponents("a,b/", []string{"a", "b", "c", "d"}); !slices.Equal(got, []string{"a,b/c", "a,b/d"}) {
		t.Errorf("continuations of a,b/: %q", got)
	}
}

// TestDeltas: what is between two reports is about one daemon, and a restart begins anew.
func TestDeltas(t *testing.T) {
	w := NewWatcher(Reach{})
	report := func(id string, messages uint64) *Report {
		s := &admin.Status{ID: id, Order: admin.Order{DeliveredMessages: messages}}
		r := &Report{Status: s, when: time.Now()}
		w.compare([]*Report{r})
		return r
	}
	if d := report("a/1", 100).Delta; d != nil {
		t.Errorf("the first report of a: %+v", d)
	}
	if d := report("b/1", 5000).Delta; d != nil {
		t.Errorf("the first report of b: %+v", d)
	}
	if d := report("a/1", 130).Delta; d == nil || d.Messages != 30 {
		t.Errorf("the second report of a: %+v", d)
	}
	if d := report("b/1", 5001).Delta; d == nil || d.Messages != 1 {
		t.Errorf("the second report of b: %+v", d)
	}
	if d := report("a/2", 3).Delta; d != nil {
		t.Errorf("a after a restart: %+v", d)
	}
}

// TestClosedText: clients that said good-bye were not killed.
func TestClosedText(t *testing.T) {
	closed := map[string]uint64{"kill": 8, "gone": 1, "quota": 0}
	if got := counts(closedText(closed)); got != "gone 1, quit 8" {
		t.Error(got)
	}
	if closed["kill"] != 8 {
		t.Error("the API's names changed")
	}
}
