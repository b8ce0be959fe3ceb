// SPDX-License-Identifier: Apache-2.0

// Package python_test runs the tests of the Python client against real daemons, and judges histories in which it and
// the Go client are members of the same groups.
package python_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
	"evensong/internal/check"
	"evensong/internal/proto/evs"
	"evensong/internal/testcert"
)

// python is the interpreter; a machine without one cannot run these tests, and says so.
func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here: ", err)
	}
	return path
}

// cluster starts n daemons that know each other and waits until they are one configuration. It returns their addresses
// for clients.
func cluster(t *testing.T, n int) ([]*daemon.Daemon, []string) {
	t.Helper()
	var peers []netip.AddrPort
	var held []net.PacketConn
	for range n {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		peers = append(peers, c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	for _, c := range held {
		c.Close()
	}
	var ds []*daemon.Daemon
	var addrs []string
	for i := range n {
		// A busy machine must not look like a broken ring: nothing here waits for the timeout.
		d, err := daemon.Start(t.Context(), daemon.Config{Name: fmt.Sprintf("d%d", i), Cluster: t.Name(), Bind: peers[i], Peers: peers, TokenTimeout: time.Second,
			Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		ds = append(ds, d)
		addrs = append(addrs, d.ListenAddrs()[0].String())
	}
	for _, d := range ds {
		wait(t, fmt.Sprintf("%d daemons in one configuration", n), func() bool {
			names, err := d.Members(t.Context())
			return err == nil && len(names) == n
		})
	}
	return ds, addrs
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// TestUnits runs the client's own tests: captures, made-up daemons, and sessions at one real daemon and at three.
func TestUnits(t *testing.T) {
	ca, dir := testcert.New(t), t.TempDir()
	ca.File(dir)
	ca.Named("alice").Files(t, dir, "alice")
	testcert.New(t).Named("mallory").Files(t, dir, "mallory")
	pair := ca.Sign(nil)
	secure := func(required bool) string {
		loopback := netip.MustParseAddrPort("127.0.0.1:0")
		cfg := daemon.Config{Name: "t", Cluster: t.Name() + fmt.Sprint(required), Bind: loopback, Listen: []netip.AddrPort{loopback}, TLSRequired: required,
			TLS: &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}}
		if required {
			cfg.TLS.ClientAuth, cfg.AccessRules, cfg.AccessDeny = tls.RequireAndVerifyClientCert, "allow all cert=alice", true
		}
		d, err := daemon.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d.ListenAddrs()[0].String()
	}
	withTLS := dir + "," + secure(false) + "," + secure(true)
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d daemons", n), func(t *testing.T) {
			py := python(t)
			_, addrs := cluster(t, n)
			args := []string{"-W", "error", "-m", "unittest", "-v"}
			if n > 1 {
				args = append(args, "test_evensong.TestSessions") // the rest does not depend on daemons
			}
			cmd := exec.CommandContext(t.Context(), py, args...)
			cmd.Env = append(os.Environ(), "EVENSONG_DAEMONS="+strings.Join(addrs, ","), "EVENSONG_TLS="+withTLS, "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), "skipped") {
				t.Errorf("a test was skipped:\n%s", out)
			}
		})
	}
}

// history is what all members saw.
type history struct {
	start   time.Time
	mu      sync.Mutex
	records []evs.Trace
}

func (h *history) add(who evs.SessionID, r evs.Trace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Proc, r.Session, r.At = who.Daemon, who, int64(time.Since(h.start))
	h.records = append(h.records, r)
}

func digest(sender string, kind int16, body []byte) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%d\x00", sender, kind)
	h.Write(body)
	return h.Sum64()
}

const goodbye = 999 // type of the last message of each member, as in member.py

var levels = map[client.Service]evs.Service{client.Unreliable: evs.Unreliable, client.Reliable: evs.Reliable, client.FIFO: evs.FIFO,
	client.Causal: evs.Causal, client.Agreed: evs.Agreed, client.Safe: evs.Safe}

// A member is a client program in the test: it can be told to end once it is ready.
type member struct {
	name     string
	ready    chan struct{} // closed: its rounds are done
	complete chan struct{} // closed: it has seen the goodbyes
	end      func(members int) error
	stop     func() error
}

// pythonMember starts member.py at a daemon.
func pythonMember(t *testing.T, h *history, py, addr string, proc evs.ProcID, number uint64, name string, rounds int) *member {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), py, "member.py", addr, name, fmt.Sprint(number), fmt.Sprint(rounds))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &member{name: name, ready: make(chan struct{}), complete: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.record(h, out, proc, number); err != nil {
			t.Error(name, ": ", err)
		}
	}()
	m.end = func(n int) error { _, err := fmt.Fprintf(in, "end %d\n", n); return err }
	m.stop = func() error { in.Close(); <-done; return cmd.Wait() }
	return m
}

// record turns the lines of member.py into records.
func (m *member) record(h *history, out io.Reader, proc evs.ProcID, number uint64) error {
	who := evs.SessionID{Daemon: proc, Number: number}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			Kind, Private, Sender, Group, Data, Cause string
			Groups, Members                           []string
			Service                                   uint32
			Type                                      int16
			ID                                        evs.ViewID
			Sets                                      [][]string
			Mine                                      int
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("%w in %q", err, lines.Text())
		}
		body, err := base64.StdEncoding.DecodeString(l.Data)
		if err != nil {
			return err
		}
		service := client.Service(l.Service)
		switch l.Kind {
		case "connect":
			who.Name = l.Private
			h.add(who, evs.Trace{Kind: evs.TraceConnect, Asked: m.name})
		case "join":
			h.add(who, evs.Trace{Kind: evs.TraceJoin, Group: l.Group})
		case "leave":
			h.add(who, evs.Trace{Kind: evs.TraceLeave, Group: l.Group})
		case "multicast":
			h.sent(who, service, l.Type, body, l.Groups)
		case "message":
			h.add(who, evs.Trace{Kind: evs.TraceClientMsg, Sender: l.Sender, Groups: l.Groups, Service: levels[service.Level()],
				Digest: digest(l.Sender, l.Type, body), Length: len(body)})
		case "view":
			cause := map[string]evs.Cause{"join": evs.CausedByJoin, "leave": evs.CausedByLeave, "disconnect": evs.CausedByDisconnect, "network": evs.CausedByNetwork}[l.Cause]
			h.add(who, evs.Trace{Kind: evs.TraceView, Group: l.Group, View: &evs.TraceViewInfo{ID: l.ID, Cause: cause, Members: l.Members, Sets: l.Sets, Mine: l.Mine}})
		case "signal":
			h.add(who, evs.Trace{Kind: evs.TraceSignal, Group: l.Group, View: &evs.TraceViewInfo{ID: l.ID}})
		case "selfleave":
			h.add(who, evs.Trace{Kind: evs.TraceSelfLeave, Group: l.Group})
		case "ready":
			close(m.ready)
		case "complete":
			close(m.complete)
		default:
			return fmt.Errorf("unknown record %q", l.Kind)
		}
	}
	return lines.Err()
}

// sent records a multicast. Number is the session's own counter.
func (h *history) sent(who evs.SessionID, service client.Service, kind int16, body []byte, groups []string) {
	h.mu.Lock()
	n := uint64(1)
	for i := range h.records {
		if h.records[i].Kind == evs.TraceMulticast && h.records[i].Session == who {
			n++
		}
	}
	h.mu.Unlock()
	h.add(who, evs.Trace{Kind: evs.TraceMulticast, Groups: groups, Service: levels[service.Level()], Digest: digest(who.Name, kind, body),
		Length: len(body), Number: n, SelfDiscard: service.Has(client.SelfDiscard)})
}

// goMember is the same with the Go client.
func goMember(t *testing.T, h *history, addr string, proc evs.ProcID, number uint64, name string, rounds int) *member {
	t.Helper()
	conn, err := client.Dial(t.Context(), addr, client.WithName(name))
	if err != nil {
		t.Fatal(err)
	}
	m := &member{name: name, ready: make(chan struct{}), complete: make(chan struct{})}
	who := evs.SessionID{Daemon: proc, Number: number, Name: conn.PrivateGroup()}
	var mu sync.Mutex // keeps records in the session's order
	var goodbyes, wanted int
	done := make(chan struct{})
	finish := func() {
		if wanted > 0 && goodbyes == wanted {
			close(m.complete)
		}
	}
	go func() {
		defer close(done)
		for {
			ev, err := conn.Next(context.Background())
			if err != nil {
				return
			}
			mu.Lock()
			switch ev := ev.(type) {
			case *client.Message:
				h.add(who, evs.Trace{Kind: evs.TraceClientMsg, Sender: ev.Sender, Groups: ev.Groups, Service: levels[ev.Service.Level()],
					Digest: digest(ev.Sender, ev.Type, ev.Data), Length: len(ev.Data)})
				if ev.Type == goodbye {
					goodbyes++
					finish()
				}
			case *client.View:
				h.add(who, evs.Trace{Kind: evs.TraceView, Group: ev.Group, View: &evs.TraceViewInfo{
					ID: evs.ViewID(ev.ID), Cause: evs.Cause(ev.Cause), Members: ev.Members, Sets: ev.VSSets, Mine: ev.Mine}})
			case *client.Transition:
				h.add(who, evs.Trace{Kind: evs.TraceSignal, Group: ev.Group, View: &evs.TraceViewInfo{ID: evs.ViewID(ev.ID)}})
			case *client.SelfLeave:
				h.add(who, evs.Trace{Kind: evs.TraceSelfLeave, Group: ev.Group})
			}
			mu.Unlock()
		}
	}()
	h.add(who, evs.Trace{Kind: evs.TraceConnect, Asked: name})
	multicast := func(service client.Service, kind int16, body []byte, groups ...string) error {
		mu.Lock()
		h.sent(who, service, kind, body, groups)
		mu.Unlock()
		return conn.Multicast(t.Context(), service, kind, body, groups...)
	}
	change := func(kind evs.TraceKind, group string) error {
		mu.Lock()
		h.add(who, evs.Trace{Kind: kind, Group: group})
		mu.Unlock()
		if kind == evs.TraceJoin {
			return conn.Join(t.Context(), group)
		}
		return conn.Leave(t.Context(), group)
	}
	act := func() error {
		rnd := rand.New(rand.NewPCG(number, 1))
		if err := change(evs.TraceJoin, "room"); err != nil {
			return err
		}
		inside := map[string]bool{}
		services := []client.Service{client.Reliable, client.FIFO, client.Causal, client.Agreed, client.Safe}
		for i := range rounds {
			group := []string{"red", "green"}[rnd.IntN(2)]
			var err error
			switch {
			case rnd.IntN(100) >= 15:
				service := services[rnd.IntN(len(services))]
				if rnd.IntN(5) == 0 {
					service |= client.SelfDiscard
				}
				to := [][]string{{"room"}, {group}, {"room", group}}[rnd.IntN(3)]
				err = multicast(service, int16(i), fmt.Appendf(nil, "%s %d %s", name, i, strings.Repeat("x", rnd.IntN(2000))), to...)
			case inside[group]:
				inside[group] = false
				err = change(evs.TraceLeave, group)
			default:
				inside[group] = true
				err = change(evs.TraceJoin, group)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	go func() {
		defer close(m.ready)
		if err := act(); err != nil {
			t.Error(name, ": ", err)
		}
	}()
	m.end = func(n int) error {
		err := multicast(client.Safe, goodbye, []byte("goodbye of "+name), "room")
		mu.Lock()
		defer mu.Unlock()
		wanted = n
		finish()
		return err
	}
	m.stop = func() error { err := conn.Close(); <-done; return err }
	return m
}

// TestTogether has Python and Go members in one group, at one daemon and at three, one of which leaves the cluster on the
// way: what they see together must keep every rule for sessions.
func TestTogether(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d daemons", n), func(t *testing.T) {
			py := python(t)
			ds, addrs := cluster(t, n)
			h := &history{start: time.Now()}
			const rounds = 80
			var members []*member
			var number uint64
			add := func(i int) {
				proc := evs.ProcID{Name: ds[i].Name(), Inc: evs.Incarnation(i + 1)}
				members = append(members, pythonMember(t, h, py, addrs[i], proc, number+1, fmt.Sprintf("py%d", number), rounds),
					goMember(t, h, addrs[i], proc, number+2, fmt.Sprintf("go%d", number), rounds))
				number += 2
			}
			stay := min(n, 2)
			for i := range stay {
				add(i)
			}
			add(0)
			if n > 1 {
				leave(t, h, ds[n-1], addrs[n-1], evs.ProcID{Name: ds[n-1].Name(), Inc: 99})
			}
			for _, m := range members {
				select {
				case <-m.ready:
				case <-time.After(30 * time.Second):
					t.Fatal(m.name, " is not ready")
				}
			}
			// A goodbye reaches those who are in room by then: everybody, as joins are ordered and their senders' first requests.
			for _, m := range members {
				if err := m.end(len(members)); err != nil {
					t.Error(m.name, ": ", err)
				}
			}
			for _, m := range members {
				select {
				case <-m.complete:
				case <-time.After(30 * time.Second):
					t.Fatal(m.name, " has not seen all goodbyes")
				}
			}
			h.mu.Lock()
			records := h.records
			h.records = nil // what follows is the end of the test
			h.mu.Unlock()
			for _, m := range members {
				if err := m.stop(); err != nil {
					t.Error(m.name, ": ", err)
				}
			}
			rep := check.Check(&check.History{Records: records, Quiescent: true, MaxPrivateName: 31, MaxGroupName: 31})
			for _, v := range rep.Violations {
				t.Errorf("%v\n%v", v, v.Window)
			}
			for _, rule := range []string{"GRP-1", "GRP-2", "GRP-4", "GRP-6", "GRP-8", "GRP-9"} {
				if r := rep.Rule(rule); r.Verdict != check.OK {
					t.Errorf("%s is %v in %d records", rule, r.Verdict, len(records))
				}
			}
			network := false
			for i := range records {
				network = network || records[i].View != nil && records[i].View.Cause == evs.CausedByNetwork
			}
			if n > 1 && !network {
				t.Error("no network view, though a daemon left that had a member")
			}
		})
	}
}

// leave has a session join room at a daemon, and the daemon leave the cluster: a network view for all others.
func leave(t *testing.T, h *history, d *daemon.Daemon, addr string, proc evs.ProcID) {
	t.Helper()
	conn, err := client.Dial(t.Context(), addr, client.WithName("short"))
	if err != nil {
		t.Fatal(err)
	}
	who := evs.SessionID{Daemon: proc, Number: 1 << 32, Name: conn.PrivateGroup()}
	h.add(who, evs.Trace{Kind: evs.TraceConnect, Asked: "short"})
	h.add(who, evs.Trace{Kind: evs.TraceJoin, Group: "room"})
	if err := conn.Join(t.Context(), "room"); err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := conn.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := ev.(*client.View); ok {
			h.add(who, evs.Trace{Kind: evs.TraceView, Group: "room", View: &evs.TraceViewInfo{
				ID: evs.ViewID(v.ID), Cause: evs.Cause(v.Cause), Members: v.Members, Sets: v.VSSets, Mine: v.Mine}})
			break
		}
	}
	// It reads no more: what it would have seen is not in the history, so neither is its daemon from here on.
	h.add(who, evs.Trace{Kind: evs.TraceDisconnect, Reason: "its daemon leaves"})
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	conn.Abort()
}

// TestSimple runs the simplest program.
func TestSimple(t *testing.T) {
	py := python(t)
	_, addrs := cluster(t, 1)
	cmd := exec.CommandContext(t.Context(), py, "../../examples/simple/simple.py", addrs[0])
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin = strings.NewReader("good evening\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	view, message := strings.Index(string(out), "View(group='simple_group'"), strings.Index(string(out), "data=b'good evening'")
	if view < 0 || message < view {
		t.Errorf("want the own view, then the own line:\n%s", out)
	}
}

// TestSimpleMistakes: what people do wrong is told in a line, with the next step, and without a traceback.
func TestSimpleMistakes(t *testing.T) {
	py := python(t)
	_, addrs := cluster(t, 1)
	taken, err := client.Dial(t.Context(), addrs[0], client.WithName("taken"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"unix:" + t.TempDir() + "/none"}, "cannot connect: there is no socket"},
		{[]string{"localhost"}, "write 4803@localhost"},
		{[]string{addrs[0], "taken"}, "the name is in use at this daemon: choose another"},
		{[]string{addrs[0]}, "no line to send"},
		{[]string{"--verbose"}, "--help says more"},
		{[]string{addrs[0], "alice", "hello"}, "--help says more"},
	} {
		cmd := exec.CommandContext(t.Context(), py, append([]string{"../../examples/simple/simple.py"}, tt.args...)...)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		err := cmd.Run()
		if got := stderr.String(); err == nil || !strings.HasPrefix(got, "simple: ") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q: %v, %q; want one line with %q", tt.args, err, got, tt.want)
		}
	}
	cmd := exec.CommandContext(t.Context(), py, "../../examples/simple/simple.py", "--help")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "[ADDRESS [NAME]]") {
		t.Errorf("--help: %v\n%s", err, out)
	}
}
