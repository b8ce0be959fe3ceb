// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
)

// logBuffer is a log that may be read while the daemon writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a real daemon with directives of a configuration file. It returns where clients connect, by TCP and by the
// Unix socket, and its log, which is complete after stop.
func serve(t *testing.T, directives string) (tcp, unix string, log *logBuffer, stop func()) {
	t.Helper()
	c, err := config.Parse("test.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }\n"+directives))
	if err != nil {
		t.Fatal(err)
	}
	unix = filepath.Join(t.TempDir(), "s")
	c.Local.UnixSockets, c.Local.Listen = []string{unix}, []string{"127.0.0.1:0"}
	c.Admin.Socket = unix + ".admin"
	c.Local.Bind = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	log = &logBuffer{}
	h, build, err := host.Assemble(&c, 0, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.Start(h, build)
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return d.ListenAddrs()[0].String(), "unix:" + unix, log, stop
}

func dial(t *testing.T, addr string, opts ...client.Option) (*client.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, addr, opts...)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMethodsEndToEnd: our client logs in at a real daemon by each method, or does not.
func TestMethodsEndToEnd(t *testing.T) {
	passwords := file(t, "alice:abJnggxhB/yWI\n")
	for _, row := range []struct {
		name, conf string
		opts       []client.Option
		tcp, unix  bool
	}{
		{"nothing configured", "", nil, true, true},
		{"NULL", "AllowedAuthMethods = NULL", []client.Option{client.WithAuth(client.AuthNull())}, true, true},
		{"IP chosen, from TCP only", "AllowedAuthMethods = IP AccessIPFile = " + file(t, "local\n"), []client.Option{client.WithAuth(client.AuthIP())}, true, false},
		{"IP required and not offered", "AllowedAuthMethods = NULL RequiredAuthMethods = IP AccessIPFile = " + file(t, "unix\n"), nil, false, true},
		{"right password", "AllowedAuthMethods = PWORD AccessPasswordFile = " + passwords, []client.Option{client.WithAuth(client.AuthPassword("alice", "password"))}, true, true},
		{"wrong password", "AllowedAuthMethods = PWORD AccessPasswordFile = " + passwords, []client.Option{client.WithAuth(client.AuthPassword("alice", "passwort"))}, false, false},
		{"unknown user", "AllowedAuthMethods = PWORD AccessPasswordFile = " + passwords, []client.Option{client.WithAuth(client.AuthPassword("bob", "password"))}, false, false},
		{"password and address", "AllowedAuthMethods = \"PWORD IP\" RequiredAuthMethods = \"PWORD IP\" AccessPasswordFile = " + passwords + " AccessIPFile = " + file(t, "local\n"),
			[]client.Option{client.WithAuth(client.AuthPassword("alice", "password"))}, true, false},
		{"password required, not sent", "AllowedAuthMethods = \"NULL PWORD\" RequiredAuthMethods = PWORD AccessPasswordFile = " + passwords, []client.Option{client.WithAuth(client.AuthNull())}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			tcp, unix, _, _ := serve(t, row.conf)
			for addr, want := range map[string]bool{tcp: row.tcp, unix: row.unix} {
				if strings.HasPrefix(addr, "unix:") && runtime.GOOS == "windows" {
					continue
				}
				if _, err := dial(t, addr, row.opts...); (err == nil) != want || err != nil && !errors.Is(err, client.ErrAuth) {
					t.Errorf("%s: %v", addr, err)
				}
			}
		})
	}
}

// TestAssembleRefusesAccess: a daemon does not start without the files that it was told to use.
func TestAssembleRefusesAccess(t *testing.T) {
	c, err := config.Parse("test.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }\nAllowedAuthMethods = IP\nAccessIPFile = "+filepath.Join(t.TempDir(), "none")))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = host.Assemble(&c, 0, slog.New(slog.DiscardHandler))
	if !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), "test.conf:3: error: authentication method IP: open") {
		t.Errorf("got %v", err)
	}
}

// TestRulesEndToEnd: our client gets back from a real daemon what the rules refuse, and the others never see it.
func TestRulesEndToEnd(t *testing.T) {
	tcp, unix, log, stop := serve(t, fmt.Sprintf(`
AccessRules {
    deny  open       user=mallory
    allow all        uid=%d user=root
    deny  join       group=secret*
    deny  leave      group=prison
    deny  multicast  group=news
    deny  send       group="#bob#*"
}`, os.Getuid()))
	if _, err := dial(t, tcp, client.WithName("mallory")); !errors.Is(err, client.ErrAuth) {
		t.Errorf("open: %v", err)
	}
	alice, err := dial(t, tcp, client.WithName("alice"))
	if err != nil {
		t.Fatal(err)
	}
	bob, err := dial(t, tcp, client.WithName("bob"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// bob listens where alice may not speak.
	must(bob.Join(ctx, "news"))
	must(bob.Join(ctx, "open"))
	for views := 0; views < 2; {
		ev, err := bob.Next(ctx)
		must(err)
		if _, ok := ev.(*client.View); ok {
			views++
		}
	}
	must(alice.Join(ctx, "secrets"))
	must(alice.Join(ctx, "prison"))
	must(alice.Leave(ctx, "prison"))
	must(alice.Multicast(ctx, client.Agreed, 3, []byte("hush"), "open", "news"))
	must(alice.Multicast(ctx, client.Agreed, 4, []byte("psst"), "#bob#a"))
	must(alice.Multicast(ctx, client.Agreed, 5, []byte("hello"), "open"))
	want := []client.Rejected{
		{Request: client.RequestJoin, Groups: []string{"secrets"}},
		{Request: client.RequestLeave, Groups: []string{"prison"}},
		{Request: client.RequestMulticast, Groups: []string{"open", "news"}, Service: client.Agreed, Type: 3, Data: []byte("hush")},
		{Request: client.RequestMulticast, Groups: []string{"#bob#a"}, Service: client.Agreed, Type: 4, Data: []byte("psst")},
	}
	for _, w := range want {
		for {
			ev, err := alice.Next(ctx)
			must(err)
			if r, ok := ev.(*client.Rejected); ok {
				if !reflect.DeepEqual(*r, w) {
					t.Errorf("got %+v, want %+v", *r, w)
				}
				break
			}
		}
	}
	for {
		ev, err := bob.Next(ctx)
		must(err)
		if m, ok := ev.(*client.Message); ok {
			if string(m.Data) != "hello" {
				t.Errorf("bob got %q", m.Data)
			}
			break
		}
	}
	if runtime.GOOS == "linux" {
		root, err := dial(t, unix, client.WithName("root"))
		must(err)
		must(root.Multicast(ctx, client.Agreed, 6, []byte("all stand"), "news"))
		ev, err := bob.Next(ctx)
		must(err)
		if m, ok := ev.(*client.Message); !ok || string(m.Data) != "all stand" {
			t.Errorf("bob got %v", ev)
		}
	}
	operator := admin.NewClient(strings.TrimPrefix(unix, "unix:")+".admin", admin.DialOptions{})
	defer operator.Close()
	status, err := operator.Status(ctx)
	must(err)
	if got, want := fmt.Sprint(status.Clients.RefusedRequests), "map[join:1 leave:1 multicast:1 open:1 see:0 send:1]"; got != want {
		t.Errorf("refused %s, want %s", got, want)
	}
	stop()
	for _, line := range []string{
		`"client refused by the access rules" request=open session=#mallory#a reason="test.conf:4: deny open user=mallory" peer=127.0.0.1`,
		`"request refused by the access rules" request=multicast session=#alice#a reason="test.conf:8: deny multicast group=news" group=news`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not say %s:\n%s", line, log.String())
		}
	}
}
