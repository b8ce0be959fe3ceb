// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// fake is a daemon that notes what it is asked to do.
type fake struct {
	mu     sync.Mutex
	did    []string
	status Status
	err    error
}

func (f *fake) note(format string, a ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, fmt.Sprintf(format, a...))
	return f.err
}

func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.did
	f.did = nil
	return d
}

func (f *fake) Status(context.Context) (Status, error)   { return f.status, f.err }
func (f *fake) Members(context.Context) (Members, error) { return Members{Leader: "a"}, f.err }
func (f *fake) Groups(_ context.Context, after string, limit int) (GroupPage, error) {
	return GroupPage{Total: limit, Next: after}, f.err
}
func (f *fake) Group(_ context.Context, name string) (Group, error) { return Group{Name: name}, f.err }
func (f *fake) Sessions(_ context.Context, after uint64, limit int) (SessionPage, error) {
	return SessionPage{Total: limit, Next: after}, f.err
}
func (f *fake) CloseSession(_ context.Context, id uint64) error { return f.note("close %d", id) }
func (f *fake) Set(_ context.Context, s Settings) (Settings, error) {
	return s, f.note("set %s", describe(&s))
}
func (f *fake) Partition(_ context.Context, p Partition) error {
	return f.note("partition %s for %v", components(p.Components), p.Lease)
}
func (f *fake) Heal(context.Context) error               { return f.note("heal") }
func (f *fake) Reload(context.Context) (Reloaded, error) { return Reloaded{}, f.note("reload") }
func (f *fake) Drain(_ context.Context, wait time.Duration) error {
	return f.note("drain %v", wait)
}
func (f *fake) Drained(ctx context.Context) (DrainEnd, error) {
	return DrainEnd{Over: true, CutOff: 2, Names: []string{"#x#a"}}, f.err
}
func (f *fake) Terminate(context.Context) error { return f.note("terminate") }

// rig is a server with a fake daemon behind it.
type rig struct {
	t      *testing.T
	daemon *fake
	server *Server
	log    *safeBuffer
	socket string
	tcp    string // empty: none
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.b.String()
	s.b.Reset()
	return text
}

const testToken = "0123456789abcdef0123"

// newRig starts a server on a socket, and on TCP if tokens says so.
func newRig(t *testing.T, dangerous, tokens bool) *rig {
	t.Helper()
	r := &rig{t: t, daemon: &fake{status: Status{Name: "a", Ready: true}}, log: &safeBuffer{}}
	cfg := Config{Dangerous: dangerous, Logger: slog.New(slog.NewTextHandler(r.log, nil))}
	if tokens {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte("# operators\nalice "+testToken+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if cfg.Tokens, err = ReadTokens(path); err != nil {
			t.Fatal(err)
		}
	}
	r.server = NewServer(cfg, r.daemon)
	t.Cleanup(r.server.Close)
	r.socket = filepath.Join(t.TempDir(), "a.admin")
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.server.Serve(l); err != nil {
		t.Fatal(err)
	}
	if tokens {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.tcp = l.Addr().String()
		if err := r.server.Serve(l); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// client speaks to the socket, or with a token to TCP.
func (r *rig) client(token string) *Client {
	at := r.socket
	if token != "" {
		at = r.tcp
	}
	c := NewClient(at, DialOptions{Token: token})
	r.t.Cleanup(c.Close)
	return c
}
