// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDangerousCommands: what each command does and to whom it is refused; and that each is one line in the log which says
// who asked for what, and what became of it.
func TestDangerousCommands(t *testing.T) {
	n := 80
	commands := []struct {
		name, did     string
		danger        danger
		call          func(context.Context, *Client) error
		audit, reason string
	}{
		{"set log level", "set log level debug", harmless, func(ctx context.Context, c *Client) error {
			_, err := c.Set(ctx, Settings{LogLevel: "debug"})
			return err
		}, `command=set what="log level debug"`, ""},
		{"set window", "set window 80", everywhere, func(ctx context.Context, c *Client) error {
			_, err := c.Set(ctx, Settings{Window: &n})
			return err
		}, `command=set what="window 80"`, `this daemon does not permit that windows are changed`},
		{"partition", "partition a,b/c for 1m0s", everywhere, func(ctx context.Context, c *Client) error {
			_, err := c.Partition(ctx, Partition{Components: map[string]int{"a": 1, "b": 1, "c": 2}})
			return err
		}, `command=partition`, `this daemon does not permit \"partition\"`},
		{"heal", "heal", everywhere, func(ctx context.Context, c *Client) error { _, err := c.Heal(ctx); return err }, `command=heal`, `this daemon does not permit \"heal\"`},
		{"close", "close 7", everywhere, func(ctx context.Context, c *Client) error { _, err := c.CloseSession(ctx, 7); return err },
			`command=session/7/close`, `this daemon does not permit \"session/7/close\"`},
		{"terminate", "terminate", everywhere, func(ctx context.Context, c *Client) error { _, err := c.Terminate(ctx); return err },
			`command=terminate`, `this daemon does not permit \"terminate\"`},
		{"reload", "reload", overTCP, func(ctx context.Context, c *Client) error { _, err := c.Reload(ctx); return err },
			`command=reload`, `this daemon does not permit \"reload\" over TCP`},
		{"drain", "drain 3s", overTCP, func(ctx context.Context, c *Client) error {
			_, err := c.Drain(ctx, Drain{Deadline: Duration(3 * time.Second)})
			return err
		}, `command=drain`, `this daemon does not permit \"drain\" over TCP`},
	}
	for _, dangerous := range []bool{false, true} {
		r := newRig(t, dangerous, true)
		for _, token := range []string{"", testToken} {
			c := r.client(token)
			who := fmt.Sprintf("uid %d, process %d", os.Geteuid(), os.Getpid())
			if _, _, ok := credentials(nil2unix(t, r.socket)); !ok {
				who = "a process of this host"
			}
			if token != "" {
				who = "token alice from 127.0.0.1:"
			}
			for _, k := range commands {
				err := k.call(t.Context(), c)
				did, log := r.daemon.asked(), r.log.take()
				refused := !dangerous && (k.danger == everywhere || k.danger == overTCP && token != "")
				e, _ := errors.AsType[*Error](err)
				switch {
				case refused && (e == nil || !e.Refused() || e.Code != CodeRefused || e.Next == "" || len(did) != 0):
					t.Errorf("%s, dangerous %v, token %q: %v, did %q; want a refusal that says what to do", k.name, dangerous, token, err, did)
				case !refused && (err != nil || len(did) != 1 || did[0] != k.did):
					t.Errorf("%s, dangerous %v, token %q: %v, did %q; want %q", k.name, dangerous, token, err, did, k.did)
				}
				if strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="admin command"`) || !strings.Contains(log, k.audit) || !strings.Contains(log, who) {
					t.Errorf("%s: audit %q; want one line with %q and %q", k.name, log, k.audit, who)
				}
				if refused && !(strings.Contains(log, "result=refused") && strings.Contains(log, k.reason)) || !refused && !strings.Contains(log, "result=done") {
					t.Errorf("%s: audit %q, refused %v", k.name, log, refused)
				}
			}
		}
	}
}

// nil2unix opens a connection to look at.
func nil2unix(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestTokens: over TCP nothing but probes is answered without a token, and a server without tokens does not listen there.
func TestTokens(t *testing.T) {
	r := newRig(t, true, true)
	for _, token := range []string{"x", strings.Repeat("y", 600), testToken + "0"} {
		if _, err := r.client(token).Status(t.Context()); !isCode(err, CodeAuth) {
			t.Errorf("token %q: %v, want a refusal", token, err)
		}
		if _, err := r.client(token).Terminate(t.Context()); !isCode(err, CodeAuth) || len(r.daemon.asked()) != 0 {
			t.Errorf("token %q terminated the daemon: %v", token, err)
		}
	}
	if log := r.log.take(); !strings.Contains(log, "admin request refused") || strings.Contains(log, testToken) {
		t.Errorf("log of strangers: %q", log)
	}
	if _, err := r.client(testToken).Status(t.Context()); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/metrics": 401, "/v1/status": 401, "/debug/pprof/": 401, "/": 401, "/v1/groups": 401,
	} {
		a, err := http.Get("http://" + r.tcp + path)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != want {
			t.Errorf("%s without a token: %s, want %d", path, a.Status, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := NewServer(Config{}, &fake{}).Serve(l); err == nil {
		t.Error("a server without tokens listens on TCP")
	}
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code && e.Text != ""
}

func TestTokenFile(t *testing.T) {
	path := t.TempDir() + "/tokens"
	for _, row := range []struct {
		text string
		mode os.FileMode
		want string // part of the error
	}{
		{testToken, 0o600, ""},
		{"# nothing\n\nalice " + testToken + " # hers\nbob " + testToken + "1\n", 0o400, ""},
		{testToken, 0o640, "chmod 600"},
		{testToken, 0o604, "chmod 600"},
		{"short", 0o600, "characters"},
		{"a b c", 0o600, ":1: want a token"},
		{"# no\n", 0o600, "no token in it"},
		{strings.Repeat(testToken+"\n", maxTokens+1), 0o600, "more than"},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(row.text), row.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, row.mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadTokens(path)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q mode %o: %v, want %q", row.text[:min(len(row.text), 40)], row.mode, err, row.want)
		}
	}
}

// TestRequests: each mistake of a request has its status, its code and a sentence.
func TestRequests(t *testing.T) {
	f := &fake{status: Status{Name: "a"}}
	h := NewServer(Config{Dangerous: true}, f).handler()
	for _, row := range []struct {
		method, path, body string
		want               int
		code               string
	}{
		{"GET", "/v1/status", "", 200, ""},
		{"HEAD", "/v1/status", "", 200, ""},
		{"POST", "/v1/status", "", 405, CodeMethod},
		{"GET", "/v1/terminate", "", 405, CodeMethod},
		{"DELETE", "/v1/heal", "", 405, CodeMethod},
		{"GET", "/v2/status", "", 404, CodeNotFound},
		{"GET", "/", "", 404, CodeNotFound},
		{"GET", "/v1/groups?limit=10&after=x", "", 200, ""},
		{"GET", "/v1/groups?limit=0", "", 400, CodeInvalid},
		{"GET", "/v1/groups?limit=1001", "", 400, CodeInvalid},
		{"GET", "/v1/groups?limit=x", "", 400, CodeInvalid},
		{"GET", "/v1/groups/a%2Fb", "", 200, ""},
		{"GET", "/v1/sessions?after=-1", "", 400, CodeInvalid},
		{"POST", "/v1/session/x/close", "", 400, CodeInvalid},
		{"POST", "/v1/set", "{", 400, CodeInvalid},
		{"POST", "/v1/set", `{"windw": 1}`, 400, CodeInvalid},
		{"POST", "/v1/set", `{"window": 1} {}`, 400, CodeInvalid},
		{"POST", "/v1/set", `{"window": 0}`, 400, CodeInvalid},
		{"POST", "/v1/set", `{"personal_window": -5}`, 400, CodeInvalid},
		{"POST", "/v1/partition", ``, 400, CodeInvalid},
		{"POST", "/v1/partition", `{"components": {"a": 1}, "lease_seconds": -1}`, 400, CodeInvalid},
		{"POST", "/v1/partition", `{"components": {"a": 1}, "lease_seconds": "2h"}`, 400, CodeInvalid},
		{"POST", "/v1/partition", `{"components": {"a": 1}, "lease_seconds": "1m"}`, 200, ""},
		{"POST", "/v1/drain", `{"deadline_seconds": 1e8}`, 400, CodeInvalid},
		{"POST", "/v1/drain", `{"deadline_seconds": 1e300}`, 400, CodeInvalid},
		{"POST", "/v1/set", `{"log_level": "` + strings.Repeat("x", maxRequestBytes) + `"}`, 413, CodeTooLarge},
		{"GET", "/debug/pprof/profile?seconds=301", "", 400, CodeInvalid},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, fromSocket(httptest.NewRequest(row.method, "http://evensong"+row.path, strings.NewReader(row.body))))
		body := w.Body.String()
		if w.Code != row.want || !strings.Contains(body, row.code) || row.code != "" && !strings.Contains(body, `"error":"`) {
			t.Errorf("%s %s %.40s: %d %s; want %d %s", row.method, row.path, row.body, w.Code, body, row.want, row.code)
		}
	}
	f.err = net.ErrClosed
	for _, row := range []struct {
		err  error
		want int
		code string
	}{
		{net.ErrClosed, 503, CodeUnavailable}, {context.DeadlineExceeded, 503, CodeUnavailable},
		{errors.New("odd"), 500, CodeFailed}, {&Error{Code: CodeNotFound, Text: "there is no group"}, 404, CodeNotFound},
	} {
		f.err = row.err
		w := httptest.NewRecorder()
		h.ServeHTTP(w, fromSocket(httptest.NewRequest("GET", "/v1/status", nil)))
		if w.Code != row.want || !strings.Contains(w.Body.String(), row.code) {
			t.Errorf("%v: %d %s; want %d %s", row.err, w.Code, w.Body, row.want, row.code)
		}
	}
}

// fromSocket has r come from the daemon's user.
func fromSocket(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), peerKey{}, &peer{unix: true, known: true, uid: os.Geteuid(), pid: os.Getpid()}))
}

// TestOtherUser: the socket serves the daemon's user and root, whoever can open it.
func TestOtherUser(t *testing.T) {
	h := NewServer(Config{Dangerous: true}, &fake{}).handler()
	for uid, want := range map[int]int{0: 200, os.Geteuid(): 200, os.Geteuid() + 4711: 403} {
		r := httptest.NewRequest("GET", "/v1/status", nil)
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, &peer{unix: true, known: true, uid: uid}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("uid %d: %d, want %d", uid, w.Code, want)
		}
	}
}

func TestHealth(t *testing.T) {
	f := &fake{status: Status{NotReady: "agreeing on a membership: gather"}}
	h := NewServer(Config{}, f).handler()
	get := func(path string) string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
	}
	check := func(path, want string) {
		t.Helper()
		if got := get(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	check("/livez", "200 ok")
	check("/readyz", "503 agreeing on a membership: gather")
	f.status = Status{Ready: true}
	check("/readyz", "200 ok")
	f.err = context.DeadlineExceeded
	check("/livez", "503 the daemon does not answer")
	check("/readyz", "503 the daemon does not answer")
}

// TestConnections: past the bound connections are closed at once, and their places come back.
func TestConnections(t *testing.T) {
	r := newRig(t, false, false)
	var held []net.Conn
	for range maxConns {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection %d: %v, want it closed", maxConns+1, err)
	}
	for _, c := range held {
		c.Close()
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err = r.client("").Status(t.Context()); err == nil { // the server learns of the closes one by one
			return
		}
	}
	t.Errorf("after the others have gone: %v", err)
}

func TestClientErrors(t *testing.T) {
	c := NewClient(t.TempDir()+"/none.admin", DialOptions{})
	_, err := c.Status(t.Context())
	if u, ok := errors.AsType[*UnreachableError](err); !ok || !u.Refused() || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("no socket: %v", err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418); _, _ = io.WriteString(w, "tea") }))
	defer s.Close()
	if _, err := NewClient(strings.TrimPrefix(s.URL, "http://"), DialOptions{}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "is it the admin address of a daemon?") {
		t.Errorf("another server: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(nc)) // or the close would be a reset, which may overtake the answer
			nc.Write([]byte{0xfb})                       // as a daemon refuses a client
			nc.Close()
		}
	}()
	if _, err := NewClient(l.Addr().String(), DialOptions{}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "the port for clients is not the admin address") {
		t.Errorf("the port for clients: %v", err)
	}
}

func TestSockets(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a/x", "a-1"} {
		if err := os.WriteFile(SocketPath(dir, name, 4803), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, odd := range []string{"4803", "x.admin", "-1.admin", "a-x.admin"} {
		if err := os.WriteFile(dir+"/"+odd, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range Sockets(dir) {
		got = append(got, fmt.Sprint(s.Name, ":", s.Port))
	}
	if want := []string{"a-1:4803", "a/x:4803", "b:4803"}; !slices.Equal(got, want) {
		t.Errorf("sockets %q, want %q", got, want)
	}
}

// FuzzRequest: no request makes the handler fail, and what is not done is an error in JSON.
func FuzzRequest(f *testing.F) {
	for _, s := range [][3]string{
		{"GET", "/v1/status", ""}, {"POST", "/v1/set", `{"window": 80, "log_level": "debug"}`}, {"POST", "/v1/partition", `{"components": {"a": 1}}`},
		{"GET", "/v1/groups/%23x", ""}, {"GET", "/v1/groups?after=%00&limit=7", ""}, {"POST", "/v1/session/1/close", ""},
		{"POST", "/v1/drain", `{"deadline_seconds": "1h"}`}, {"GET", "/v1/sessions?after=18446744073709551615", ""}, {"PUT", "//v1/../metrics", ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	h := NewServer(Config{Dangerous: true}, &fake{}).handler()
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if strings.HasPrefix(path, "/debug") {
			return // profiles take their time
		}
		r, err := http.NewRequest(method, "http://evensong"+path, strings.NewReader(body))
		if err != nil || r.Body == nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, fromSocket(r))
		if w.Code >= 400 && w.Code != 404 && w.Header().Get("Content-Type") == "application/json" && !strings.Contains(w.Body.String(), `"code":"`) {
			t.Errorf("%s %q: %d %q", method, path, w.Code, w.Body)
		}
	})
}
