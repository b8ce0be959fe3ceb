// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
)

// tokenTimeout is the default of the daemons, which all tests use.
const tokenTimeout = 250 * time.Millisecond

// clusters numbers those of this process, for names.
var clusters atomic.Int64

// cluster is some daemons and their clients. Its methods belong to the goroutine of the test, except where noted.
type cluster struct {
	t       *testing.T
	dir     string
	net     *network // nil: all on the loopback interface
	daemons []*daemon
	members []*member
	groups  []string // all that clients join
	conf    string   // path of a spread.conf; empty: flags
	history recorder
	probe   atomic.Pointer[probe]
	ids     atomic.Uint64 // of messages
	probes  uint64
}

// daemon is one daemon through all its lives.
type daemon struct {
	c    *cluster
	i    int
	name string
	port int
	life atomic.Uint64 // counts starts
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
	err  error         // how it ended; readable once gone is closed
	held bool          // by SIGSTOP
	conf string        // path of a file of its own; empty: that of the cluster
}

// newCluster makes everything but starts nothing. Daemons get namespaces if there are any.
func newCluster(t *testing.T, daemons int) *cluster {
	t.Helper()
	return makeCluster(t, daemons, setup.noNet == "")
}

func makeCluster(t *testing.T, daemons int, cabled bool) *cluster {
	t.Helper()
	enabled(t)
	name := prefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(clusters.Add(1), 10)
	// Not t.TempDir: its paths hold the name of the test, and a Unix socket's path has 103 bytes.
	dir := filepath.Join(os.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, groups: usual}
	c.history.start = time.Now()
	t.Cleanup(func() { c.keep() })
	if cabled {
		c.net = newNetwork(t, name, daemons)
	}
	for i := range daemons {
		d := &daemon{c: c, i: i, name: "d" + strconv.Itoa(i+1), port: 4803}
		if !cabled {
			d.port = freePort(t)
		}
		c.daemons = append(c.daemons, d)
	}
	t.Cleanup(c.end)
	return c
}

// freePort is a port of the loopback interface that nobody uses now, for datagrams and connections.
func freePort(t *testing.T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", "127.0.0.1:"+strconv.Itoa(port))
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// end stops everything that runs.
func (c *cluster) end() {
	for _, m := range c.members {
		m.stop()
	}
	for _, d := range c.daemons {
		d.kill()
	}
}

// keep removes the files of the cluster, or keeps them if the test failed or the user wants them.
func (c *cluster) keep() {
	to := os.Getenv("EVENSONG_E2E_KEEP")
	if to == "" && !c.t.Failed() {
		os.RemoveAll(c.dir)
		return
	}
	if err := c.history.write(filepath.Join(c.dir, "history.jsonl")); err != nil {
		c.t.Log(err)
	}
	if to == "" {
		c.t.Logf("logs and history: %s", c.dir)
		return
	}
	dst := filepath.Join(to, strings.ReplaceAll(c.t.Name(), "/", "_")+"-"+filepath.Base(c.dir))
	if err := os.CopyFS(dst, os.DirFS(c.dir)); err != nil {
		c.t.Log(err)
	}
	os.RemoveAll(c.dir)
	c.t.Logf("logs and history: %s", dst)
}

func (d *daemon) addr() string {
	if d.c.net != nil {
		return d.c.net.addr(d.i)
	}
	return "127.0.0.1"
}

func (d *daemon) path(suffix string) string { return filepath.Join(d.c.dir, d.name+suffix) }
func (d *daemon) socket() string            { return d.path(".sock") }
func (d *daemon) log() string               { return d.logOf(d.life.Load()) }
func (d *daemon) logOf(life uint64) string {
	return d.path("-" + strconv.FormatUint(life, 10) + ".log")
}

// id is the daemon's identity in a history. The random incarnation is not known outside; the number of its start does.
func (d *daemon) id() evs.ProcID {
	return evs.ProcID{Rank: uint16(d.i), Name: d.name, Inc: evs.Incarnation(d.life.Load())}
}

// start runs the program as an operator would: default timers, state on disk.
func (d *daemon) start() {
	d.c.t.Helper()
	if d.running() {
		return
	}
	d.life.Add(1)
	peers := make([]string, len(d.c.daemons))
	for i, p := range d.c.daemons {
		peers[i] = fmt.Sprintf("%s=%s:%d", p.name, p.addr(), p.port)
	}
	args := []string{setup.binary, "serve", "--name", d.name, "--unix-socket", d.socket(), "--state-dir", d.path(".state")}
	if conf := cmp.Or(d.conf, d.c.conf); conf != "" {
		args = append(args, "-c", conf)
	} else {
		args = append(args, "--peer", strings.Join(peers, ","))
	}
	if level := os.Getenv("EVENSONG_E2E_LOG"); level != "" {
		args = append(args, "--log-level", level)
	}
	if key := os.Getenv("EVENSONG_E2E_KEY"); key != "" {
		args = append(args, "--cluster-key-file", key)
	}
	if d.c.net != nil {
		args = append([]string{"ip", "netns", "exec", d.c.net.ns(d.i)}, args...)
	}
	log, err := os.Create(d.log())
	if err != nil {
		d.c.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = d.c.dir
	cmd.Stdout, cmd.Stderr = log, log
	// Without variables that would change its configuration.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "EVENSONG_") })
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		d.c.t.Fatal(err)
	}
	gone := make(chan struct{})
	d.cmd, d.gone, d.held = cmd, gone, false
	go func() {
		d.err = cmd.Wait()
		close(gone)
	}()
}

func (d *daemon) running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.gone:
		return false
	default:
		return true
	}
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) signal(s os.Signal) {
	if d.running() {
		// It may end at this moment.
		if err := d.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			d.c.t.Error(err)
		}
	}
}

// kill is kill -9, and waits.
func (d *daemon) kill() {
	if d.cmd != nil {
		d.signal(syscall.SIGKILL)
		<-d.gone
		d.held = false
	}
}

// await waits for the orderly end of a daemon that got SIGTERM. It is a failure if that takes long or the daemon says
// that something was wrong.
func (d *daemon) await() {
	d.c.t.Helper()
	select {
	case <-d.gone:
		if d.err != nil {
			d.c.t.Errorf("%s after SIGTERM: %v", d.name, d.err)
		}
	case <-time.After(10 * time.Second):
		d.c.t.Errorf("%s runs 10 s after SIGTERM", d.name)
		d.kill()
	}
}

func (d *daemon) hold() { d.signal(syscall.SIGSTOP); d.held = true }
func (d *daemon) resume() {
	d.signal(syscall.SIGCONT)
	d.held = false
}

// started lets all daemons run, gives each one client that is a member of room, and waits for the common view.
func (c *cluster) started() {
	c.t.Helper()
	for _, d := range c.daemons {
		d.start()
	}
	for i, d := range c.daemons {
		if len(c.members) <= i {
			c.addMember(d, "c"+strconv.Itoa(i+1), room)
		}
	}
	c.settled(20 * time.Second)
}

// alive fails the test if a daemon has ended that nobody stopped.
func (c *cluster) alive() {
	c.t.Helper()
	for _, d := range c.daemons {
		if d.cmd != nil && !d.running() {
			c.t.Fatalf("%s has ended by itself: %v\n%s", d.name, d.err, tail(d.log()))
		}
	}
}

// settled waits until every client is connected and every view is what it must be in the end, and returns how long
// that took.
func (c *cluster) settled(limit time.Duration) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for why := ""; ; time.Sleep(2 * time.Millisecond) {
		if why = c.unsettled(); why == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			c.alive()
			c.logTails()
			c.t.Fatalf("not settled after %v: %s", limit, why)
		}
	}
}

// unsettled says what is missing, or nothing.
func (c *cluster) unsettled() string {
	truth := map[string][]string{}
	for _, m := range c.members {
		name, wants := m.state()
		if name == "" {
			return m.user + " of " + m.d.name + " is not connected"
		}
		for _, g := range wants {
			truth[g] = append(truth[g], name)
		}
	}
	for _, l := range truth {
		slices.Sort(l)
	}
	for _, m := range c.members {
		for _, g := range c.groups {
			if why := m.sees(g, truth[g]); why != "" {
				return why
			}
		}
	}
	return ""
}

// judge holds what the clients wrote down against the guarantees. With quiet, the clients have been still and settled
// for long enough that nothing may be missing.
func (c *cluster) judge(quiet bool) {
	c.t.Helper()
	c.alive()
	h := &check.History{Records: c.history.copy(), Quiescent: quiet, Volatile: map[string]bool{"*": true},
		TokenTimeout: int64(tokenTimeout), MaxGroupName: 31}
	rep := check.Check(h)
	if len(rep.Untested()) > 0 {
		c.t.Logf("%d records; not tested in this run: %s", rep.Records, strings.Join(rep.Untested(), " "))
	}
	for _, v := range rep.Violations {
		c.t.Errorf("%v", v)
		for i := range v.Window {
			c.t.Logf("    %s", line(&v.Window[i]))
		}
	}
}

// quiesce lets clients finish: everything settled, what was sent received, and half a second without anything new.
func (c *cluster) quiesce(limit time.Duration) {
	c.t.Helper()
	c.settled(limit)
	if in := c.in(room); len(in) > 0 {
		c.flow(in, 10*time.Second)
	}
	for n := -1; n != c.history.len(); time.Sleep(300 * time.Millisecond) {
		n = c.history.len()
	}
}

// in is the clients that want to be in a group.
func (c *cluster) in(group string) []*member {
	var out []*member
	for _, m := range c.members {
		if _, wants := m.state(); slices.Contains(wants, group) {
			out = append(out, m)
		}
	}
	return out
}

// stalls are the times after since at which daemons were not scheduled for more than half the token timeout: what
// happens then is no news about the network, and no fault of ours.
func (c *cluster) stalls(since time.Time) []string {
	var out []string
	for _, d := range c.daemons {
		for life := uint64(1); life <= d.life.Load(); life++ {
			for _, l := range logLines(d.logOf(life)) {
				if l.Msg == "not scheduled" && l.Time.After(since) {
					out = append(out, fmt.Sprintf("%s: %v", d.name, l.For.Round(time.Millisecond)))
				}
			}
		}
	}
	return out
}

// installed counts the configurations that a daemon has logged in this life, after a time, and says when the last one
// was. The log leaves lines out past 20 in 10 s.
func (d *daemon) installed(since time.Time) (n int, last time.Time) {
	for _, l := range logLines(d.log()) {
		if l.Msg == "configuration installed" && l.Time.After(since) {
			n++
			last = l.Time
		}
	}
	return n, last
}

type logLine struct {
	Time    time.Time     `json:"time"`
	Msg     string        `json:"msg"`
	Reason  string        `json:"reason"`
	Members string        `json:"members"`
	For     time.Duration `json:"for"`
}

// logLines reads a daemon's log; what is not a line of it is left out.
func logLines(path string) []logLine {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []logLine
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var l logLine
		if json.Unmarshal(s.Bytes(), &l) == nil {
			out = append(out, l)
		}
	}
	return out
}

// processor is how long the daemon's threads have had a processor, and how long they were ready and had none, in all
// its life. It tells a slow cluster from a busy machine where no single wait is long enough for the watchdog.
func (d *daemon) processor() (ran, waited time.Duration) {
	if !d.running() {
		return 0, 0
	}
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(d.pid()) + "/task/*/schedstat")
	if err != nil {
		return 0, 0
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if f := strings.Fields(string(b)); err == nil && len(f) == 3 {
			r, _ := strconv.ParseInt(f[0], 10, 64)
			w, _ := strconv.ParseInt(f[1], 10, 64)
			ran += time.Duration(r)
			waited += time.Duration(w)
		}
	}
	return ran, waited
}

// logTails shows what the daemons said last.
func (c *cluster) logTails() {
	c.t.Helper()
	for _, d := range c.daemons {
		c.t.Logf("end of the log of %s:\n%s", d.name, tail(d.log()))
	}
}

// tail is the end of a file.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
