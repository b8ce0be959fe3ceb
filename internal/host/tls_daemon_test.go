// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/testcert"
)

// secured is a daemon whose clients may use TLS.
type secured struct {
	host     *host.Host
	tcp      string
	log      *logBuffer
	operator *admin.Client
}

// serveTLS starts one with directives, on the given loop.
func serveTLS(t *testing.T, loop host.LoopKind, directives string) *secured {
	t.Helper()
	c, err := config.Parse("test.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }\n"+directives))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	c.Local.UnixSockets, c.Local.Listen, c.Admin.Socket = []string{path}, []string{"127.0.0.1:0"}, path+".admin"
	c.Local.Bind = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	s := &secured{log: &logBuffer{}}
	h, build, err := host.Assemble(&c, 0, slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	h.Loop = loop
	if s.host, err = host.Start(h, build); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.host.Close(); err != nil {
			t.Error(err)
		}
	})
	s.tcp = s.host.ListenAddrs()[0].String()
	s.operator = admin.NewClient(path+".admin", admin.DialOptions{})
	t.Cleanup(s.operator.Close)
	return s
}

// eachLoop runs a test with each loop that this system has.
func eachLoop(t *testing.T, f func(t *testing.T, loop host.LoopKind)) {
	t.Run("portable", func(t *testing.T) { f(t, host.LoopPortable) })
	if runtime.GOOS == "linux" {
		t.Run("epoll", func(t *testing.T) { f(t, host.LoopEpoll) })
	}
}

// logged waits for a line of the log.
func (s *secured) logged(t *testing.T, part string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(s.log.String(), part); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log lacks %q:\n%s", part, s.log)
		}
	}
}

// TestTLSOfARealDaemon: sessions of both dialects inside of TLS, whose certificates the rules know, and operators see; those
// that come otherwise are refused, logged and counted.
func TestTLSOfARealDaemon(t *testing.T) {
	ca := testcert.New(t)
	dir := t.TempDir()
	cert, key := ca.Sign(nil).Files(t, dir, "daemon")
	directives := fmt.Sprintf("TLSCertificate = %q\nTLSKey = %q\nTLSClientCA = %q\nTLSClientAuth = optional\nTLSRequired = yes\nAccessRules {\n allow join group=vault cert=alice\n deny join group=vault\n}\n", cert, key, ca.File(dir))
	eachLoop(t, func(t *testing.T, loop host.LoopKind) {
		s := serveTLS(t, loop, directives)
		for _, scheme := range []string{"", "evensong://"} {
			for _, who := range []string{"alice", "bob"} {
				p := ca.Named(who)
				c, err := dial(t, scheme+s.tcp, client.WithName("x"), client.WithTLS(&tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{p.TLS}}))
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Join(t.Context(), "vault"); err != nil {
					t.Fatal(err)
				}
				ev, err := c.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, in := ev.(*client.View); in != (who == "alice") {
					t.Errorf("%s got %v", who, ev)
				}
				page, err := s.operator.Sessions(t.Context(), 0, 10)
				if err != nil || len(page.Sessions) != 1 || !page.Sessions[0].TLS || page.Sessions[0].Certificate != who || page.Sessions[0].Peer != c.LocalAddr().String() {
					t.Errorf("operators see %+v, %v; want %s from %v", page.Sessions, err, who, c.LocalAddr())
				}
				c.Close()
				for end := time.Now().Add(10 * time.Second); s.host.Stats().Sessions.Load() > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
				}
			}
			if _, err := dial(t, scheme+s.tcp, client.WithName("p")); !errors.Is(err, client.ErrAuth) {
				t.Errorf("%splain: %v", scheme, err)
			}
		}
		s.logged(t, "the client did not begin with TLS, which this daemon requires over TCP: have it dial with TLS, or by the Unix socket on this machine")
		s.logged(t, "the client did not begin with TLS, which this daemon requires over TCP: use TLS: dial evensongs://")

		nc, err := net.Dial("tcp", s.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, "\x16\x03\x01\x00\x05hello")
		io.Copy(io.Discard, nc)
		s.logged(t, "the TLS handshake with the client failed: ")
		if _, err := dial(t, "evensongs://"+s.tcp, client.WithTLS(nil)); !errors.Is(err, client.ErrAuth) {
			t.Errorf("a client that trusts nobody: %v", err)
		}
		s.logged(t, "the client does not accept TLSCertificate")
		st, err := s.operator.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if k := st.Clients; k.Closed["plain"] != 2 || k.Closed["tls-failed"] != 2 || k.TLSHandshakes != 6 || k.TLSFailures != 2 || k.TLSConnections != 0 {
			t.Errorf("counted: %v, %d handshakes, %d failed, %d connections", k.Closed, k.TLSHandshakes, k.TLSFailures, k.TLSConnections)
		}
	})
}

// TestTLSHandshakeHasADeadline: a client that begins and does not go on is ended by the deadline that every client has until it
// has said who it is.
func TestTLSHandshakeHasADeadline(t *testing.T) {
	ca := testcert.New(t)
	cert, key := ca.Sign(nil).Files(t, t.TempDir(), "daemon")
	eachLoop(t, func(t *testing.T, loop host.LoopKind) {
		t.Parallel()
		s := serveTLS(t, loop, fmt.Sprintf("TLSCertificate = %q\nTLSKey = %q\n", cert, key))
		idle := tls.Client(dialTCP(t, s.tcp), &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}) // says nothing behind its handshake
		if err := idle.Handshake(); err != nil {
			t.Fatal(err)
		}
		nc := dialTCP(t, s.tcp)
		nc.Write([]byte{0x16, 3, 1})
		began := time.Now()
		for _, c := range []net.Conn{nc, idle} {
			c.SetReadDeadline(time.Now().Add(15 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(began); d < 4*time.Second || d > 12*time.Second {
			t.Errorf("ended after %v", d)
		}
		s.logged(t, "the client did not complete its connect message in time")
	})
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestNoTLS: a hello where there is no certificate is answered by an alert, and by a line that says what to do.
func TestNoTLS(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop host.LoopKind) {
		s := serveTLS(t, loop, "")
		_, err := dial(t, "evensongs://"+s.tcp)
		if err == nil || !strings.Contains(err.Error(), "the daemon does not offer TLS") {
			t.Errorf("got %v", err)
		}
		s.logged(t, "the client began with a TLS hello, and this daemon does not offer TLS: give it TLSCertificate and TLSKey, or have the client connect without TLS")
		if st, err := s.operator.Status(t.Context()); err != nil || st.Clients.Closed["tls"] != 1 {
			t.Errorf("counted: %v, %v", st.Clients.Closed, err)
		}
	})
}

// TestReloadOfTLS: a reload puts another certificate in force for clients that come, changes nothing for those that are here,
// and is refused as a whole where a file is wrong.
func TestReloadOfTLS(t *testing.T) {
	ca, next := testcert.New(t), testcert.New(t)
	dir := t.TempDir()
	first := ca.Sign(nil)
	cert, key := first.Files(t, dir, "daemon")
	me := segment("a", freeAddr(t))
	with := me + fmt.Sprintf("TLSCertificate = %q\nTLSKey = %q\n", cert, key)
	f := startFiled(t, "a", with)
	if log := f.log.String(); !strings.Contains(log, `msg="TLS for clients" certificate="certificate for localhost, `) {
		t.Errorf("the start does not say which certificate is in force:\n%s", log)
	}
	addr := "evensongs://" + f.host.ListenAddrs()[0].String()
	try := func(pool *x509.CertPool) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, addr, client.WithTLS(&tls.Config{RootCAs: pool}))
		if err == nil {
			c.Close()
		}
		return err
	}
	stays, err := client.Dial(t.Context(), addr, client.WithName("stays"), client.WithTLS(&tls.Config{RootCAs: ca.Pool}))
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	reload := func(what string, changed string, refused string) {
		t.Helper()
		r, err := f.host.Reload(t.Context())
		switch {
		case refused != "":
			if !errors.Is(err, host.ErrReload) || !strings.Contains(err.Error(), refused) {
				t.Errorf("%s: %v, want %q", what, err, refused)
			}
		case err != nil:
			t.Errorf("%s: %v", what, err)
		case changed == "" && len(r.Changed) > 0, changed != "" && !strings.Contains(strings.Join(r.Changed, "\n"), changed), len(r.Restart) > 0:
			t.Errorf("%s: %+v, want %q", what, r, changed)
		}
	}
	operator := admin.NewClient(f.socket(), admin.DialOptions{})
	defer operator.Close()
	shown := func(what string, want *admin.TLSState) {
		t.Helper()
		st, err := operator.Status(t.Context())
		switch {
		case err != nil:
			t.Errorf("%s: %v", what, err)
		case want == nil || st.TLS == nil:
			if st.TLS != want {
				t.Errorf("%s: status has %+v, want %+v", what, st.TLS, want)
			}
		case *st.TLS != *want:
			t.Errorf("%s: status has %+v, want %+v", what, *st.TLS, *want)
		}
	}
	const localhost = "localhost, 127.0.0.1, ::1"
	shown("the start", &admin.TLSState{ClientCertificates: "none", Certificate: localhost, Expires: first.TLS.Leaf.NotAfter})
	reload("the same", "", "")

	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.write(with + "Window = 100\n")
	reload("a bad key", "", "daemon.key: error: failed to find any PEM data in key input")
	if err := try(ca.Pool); err != nil {
		t.Errorf("behind a reload that was refused: %v", err)
	}
	if w := f.windows(); w[0] == 100 {
		t.Error("a reload that was refused has changed a window")
	}
	f.write(with)

	second := next.Sign(func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(24 * time.Hour) })
	second.Files(t, dir, "daemon")
	end := second.TLS.Leaf.NotAfter
	shown("files that nobody has read yet", &admin.TLSState{ClientCertificates: "none", Certificate: localhost, Expires: first.TLS.Leaf.NotAfter})
	reload("another certificate", "TLS: certificate for localhost", "")
	shown("another certificate", &admin.TLSState{ClientCertificates: "none", Certificate: localhost, Expires: end})
	if err := try(next.Pool); err != nil {
		t.Errorf("the new certificate is not in force: %v", err)
	}
	if err := try(ca.Pool); !errors.Is(err, client.ErrAuth) {
		t.Errorf("the old certificate is in force: %v", err)
	}
	f.write(with + fmt.Sprintf("TLSClientCA = %q\n", next.File(dir)))
	reload("certificates of clients", "TLSClientCA", "")
	shown("certificates of clients", &admin.TLSState{ClientCertificates: "required", Certificate: localhost, Expires: end})
	f.write(with + fmt.Sprintf("TLSClientCA = %q\nTLSClientAuth = optional\n", next.File(dir)))
	reload("certificates of clients who want", "TLSClientAuth", "")
	shown("certificates of clients who want", &admin.TLSState{ClientCertificates: "optional", Certificate: localhost, Expires: end})
	f.write(with + fmt.Sprintf("TLSClientCA = %q\n", next.File(dir)))
	reload("certificates of clients again", "TLSClientAuth", "")
	if err := try(next.Pool); !errors.Is(err, client.ErrAuth) || !strings.Contains(err.Error(), "wants to see a certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	f.write(with + "TLSRequired = yes\n")
	reload("TLS required", "TLSRequired", "")
	shown("TLS required", &admin.TLSState{Required: true, ClientCertificates: "none", Certificate: localhost, Expires: end})
	if _, err := client.Dial(t.Context(), f.host.ListenAddrs()[0].String()); !errors.Is(err, client.ErrAuth) {
		t.Errorf("plain: %v", err)
	}
	f.write(me)
	reload("no TLS", "TLSCertificate: default instead of", "")
	shown("no TLS", nil)
	if err := try(next.Pool); err == nil || !strings.Contains(err.Error(), "does not offer TLS") {
		t.Errorf("TLS is still there: %v", err)
	}
	f.write(with)
	reload("TLS again", "TLSCertificate", "")
	if err := try(next.Pool); err != nil {
		t.Errorf("TLS again: %v", err)
	}

	if err := stays.Join(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if ev, err := stays.Next(t.Context()); err != nil {
		t.Errorf("the session from before the reloads: %v, %v", ev, err)
	}
}
