// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
	"evensong/internal/testcert"
)

// TestTLS: a session inside of TLS is one as any other, in both dialects.
func TestTLS(t *testing.T) {
	ca := testcert.New(t)
	pair := ca.Sign(nil)
	addr := startDaemonWith(t, daemon.Config{TLS: &tls.Config{Certificates: []tls.Certificate{pair.TLS}}})
	_, port, _ := net.SplitHostPort(addr)
	trust := client.WithTLS(&tls.Config{RootCAs: ca.Pool})
	var cs []*client.Conn
	for i, a := range []string{"evensongs://" + addr, addr, port + "@localhost", "evensong://" + addr, "evensongs://" + port + "@localhost"} {
		c := dialDaemon(t, a, string(rune('a'+i)), trust)
		if err := c.Join(within(t), "g"); err != nil {
			t.Fatal(err)
		}
		nextOf[*client.View](t, c)
		for _, o := range cs {
			nextOf[*client.View](t, o)
		}
		cs = append(cs, c)
	}
	plain := dialDaemon(t, addr, "plain") // the same port
	if s, ok := cs[0].Session(); !ok || s.Daemon != "d" {
		t.Errorf("session %v, %v: evensongs:// is Evensong's own dialect", s, ok)
	}
	for _, n := range []int{0, 1, 100000} {
		want := bytes.Repeat([]byte{'x'}, n)
		if err := plain.Multicast(within(t), client.Agreed, 1, want, "g"); err != nil {
			t.Fatal(err)
		}
		for i, c := range cs {
			if m := nextOf[*client.Message](t, c); m.Sender != "#plain#d" || !bytes.Equal(m.Data, want) {
				t.Errorf("session %d got %d bytes of %d from %s", i, len(m.Data), n, m.Sender)
			}
		}
	}
	if err := cs[0].Multicast(within(t), client.Safe, 1, []byte("last words"), "g"); err != nil {
		t.Fatal(err)
	}
	if err := cs[0].Close(); err != nil {
		t.Error(err)
	}
	if m := nextOf[*client.Message](t, cs[1]); string(m.Data) != "last words" {
		t.Errorf("got %v", m)
	}
	if v := nextOf[*client.View](t, cs[1]); v.Cause != client.CausedByDisconnect {
		t.Errorf("got %v", v)
	}
}

// TestTLSErrors: each error says what is wrong and what to do.
func TestTLSErrors(t *testing.T) {
	ca, other := testcert.New(t), testcert.New(t)
	pair := func(edit func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Sign(edit).TLS}, ClientCAs: ca.Pool}
	}
	good, wanting := pair(nil), pair(nil)
	wanting.ClientAuth = tls.RequireAndVerifyClientCert
	start := func(cfg daemon.Config) string { return startDaemonWith(t, cfg) }
	fine, required, picky, plain := start(daemon.Config{TLS: good}), start(daemon.Config{TLS: good, TLSRequired: true}), start(daemon.Config{TLS: wanting}), start(daemon.Config{})
	expired := start(daemon.Config{TLS: pair(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })})
	elsewhere := start(daemon.Config{TLS: pair(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"db1.example.org"}, nil })})
	full := start(daemon.Config{TLS: good, MaxSessions: 1})
	dialDaemon(t, full, "first")
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 this is no daemon\r\n"))
			c.Close()
		}
	}()

	trust := client.WithTLS(&tls.Config{RootCAs: ca.Pool})
	with := func(p testcert.Pair) client.Option {
		return client.WithTLS(&tls.Config{RootCAs: ca.Pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.TLS, nil }})
	}
	for _, tc := range []struct {
		what, addr string
		opts       []client.Option
		code       error
		want       string
	}{
		{"nobody trusted", fine, []client.Option{client.WithTLS(nil)}, client.ErrAuth, "give the authority's certificate as RootCAs of WithTLS"},
		{"another trusted", fine, []client.Option{client.WithTLS(&tls.Config{RootCAs: other.Pool})}, client.ErrAuth, "nobody whom this program trusts has signed the daemon's certificate"},
		{"another name", elsewhere, []client.Option{trust}, client.ErrAuth, "the daemon's certificate is for db1.example.org and not for 127.0.0.1; dial a name that stands there"},
		{"expired", expired, []client.Option{trust}, client.ErrAuth, "the daemon's certificate is not valid now"},
		{"no certificate there", plain, []client.Option{trust}, client.ErrConnectionClosed, "the daemon does not offer TLS; dial without it, or give the daemon TLSCertificate and TLSKey"},
		{"no daemon", echo.Addr().String(), []client.Option{trust}, client.ErrConnectionClosed, "what answers there does not speak TLS"},
		{"no certificate here", picky, []client.Option{trust}, client.ErrAuth, "the daemon wants to see a certificate of this program; give it as Certificates of WithTLS"},
		{"stranger's certificate", picky, []client.Option{with(other.Named("mallory"))}, client.ErrAuth, "the daemon does not accept this program's certificate; one of the authorities in its TLSClientCA must have signed it"},
		{"full", full, []client.Option{trust}, client.ErrQuota, "refused by the daemon"},
		{"plain", required, nil, client.ErrAuth, "TLS"},
	} {
		for _, scheme := range []string{"", "evensong://"} {
			began := time.Now()
			c, err := client.Dial(within(t), scheme+tc.addr, append(tc.opts, client.WithName("x"))...)
			if err == nil {
				t.Errorf("%s: %sconnected", tc.what, scheme)
				c.Close()
				continue
			}
			if !errors.Is(err, tc.code) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %sgot %v; want %v with %q", tc.what, scheme, err, tc.code, tc.want)
			}
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("%s: after %v", tc.what, d)
			}
		}
	}
	if _, err := client.Dial(within(t), "evensong://"+required); err == nil || !strings.Contains(err.Error(), "dial evensongs:// in place of evensong://") {
		t.Errorf("plain, own dialect: %v", err)
	}
	if _, err := client.Dial(within(t), "evensongs://4803"); !errors.Is(err, client.ErrIllegalAddress) || !strings.Contains(err.Error(), "on the Unix socket /tmp/4803 nobody could listen") {
		t.Errorf("Unix socket: %v", err)
	}
	if _, err := client.Dial(within(t), "evensongs://db1"); !errors.Is(err, client.ErrIllegalAddress) || !strings.Contains(err.Error(), "write evensongs://db1:4803") {
		t.Errorf("no port: %v", err)
	}
	if _, err := daemon.Start(t.Context(), daemon.Config{TLSRequired: true}); !errors.Is(err, daemon.ErrConfig) {
		t.Errorf("TLSRequired without TLS: %v", err)
	}
	if _, err := daemon.Start(t.Context(), daemon.Config{TLS: &tls.Config{ClientCAs: ca.Pool}}); !errors.Is(err, daemon.ErrConfig) || !strings.Contains(err.Error(), "TLS has no certificate") {
		t.Errorf("TLS without a certificate: %v", err)
	}
	c := dialDaemon(t, "evensongs://"+picky, "alice", with(ca.Named("alice")))
	c.Close()
	dialDaemon(t, "evensongs://"+elsewhere, "x", client.WithTLS(&tls.Config{RootCAs: ca.Pool, ServerName: "db1.example.org"}))
}

// TestTLSRules: what a client may do can depend on its certificate.
func TestTLSRules(t *testing.T) {
	ca := testcert.New(t)
	pair := ca.Sign(nil)
	unix := t.TempDir() + "/s"
	addr := startDaemonWith(t, daemon.Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}, TLSRequired: true, Unix: []string{unix},
		AccessRules: "deny open cert=mallory\nallow join group=alarm cert=ward*\ndeny join group=alarm\nallow open cert=*\nallow open from=unix\n deny open\n",
	})
	dial := func(name string, certs ...tls.Certificate) (*client.Conn, error) {
		return client.Dial(within(t), "evensongs://"+addr, client.WithName(name), client.WithTLS(&tls.Config{RootCAs: ca.Pool, Certificates: certs}))
	}
	for _, tc := range []struct {
		cert string
		open bool
		join bool
	}{{"warden", true, true}, {"alice", true, false}, {"mallory", false, false}, {"", false, false}} {
		var certs []tls.Certificate
		if tc.cert != "" {
			certs = append(certs, ca.Named(tc.cert).TLS)
		}
		c, err := dial("x", certs...)
		if (err == nil) != tc.open {
			t.Errorf("certificate %q: %v", tc.cert, err)
		}
		if err != nil {
			continue
		}
		if err := c.Join(within(t), "alarm"); err != nil {
			t.Fatal(err)
		}
		ev, err := c.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := ev.(*client.View); ok != tc.join {
			t.Errorf("certificate %q: join got %v", tc.cert, ev)
		}
		c.Close()
	}
	dialDaemon(t, "unix:"+unix, "here").Close() // TLS is for networks
}

// TestTLSRoam: a Roamer that began with TLS learns addresses that it dials with TLS.
func TestTLSRoam(t *testing.T) {
	ca := testcert.New(t)
	pair := ca.Sign(nil)
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	a, err := daemon.Start(t.Context(), daemon.Config{Name: "a", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}, TLS: &tls.Config{Certificates: []tls.Certificate{pair.TLS}}, TLSRequired: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := daemon.Start(t.Context(), daemon.Config{Name: "b", Cluster: t.Name(), Bind: loopback, Peers: []netip.AddrPort{a.Addr()}, Listen: []netip.AddrPort{loopback}, TLS: &tls.Config{Certificates: []tls.Certificate{pair.TLS}}, TLSRequired: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m, err := a.Members(t.Context()); err != nil || len(m) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the daemons do not find each other")
		}
	}
	r, err := client.Roam(within(t), []string{"evensongs://" + a.ListenAddrs()[0].String()}, client.WithTLS(&tls.Config{RootCAs: ca.Pool}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for len(r.Conn().Peers()) == 0 { // b tells where it listens once it is there
		if _, err := r.Next(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	go a.Close()
	for {
		ev, err := r.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*client.Moved); ok {
			if want := "evensongs://" + b.ListenAddrs()[0].String(); m.Address != want {
				t.Errorf("moved to %s, want %s", m.Address, want)
			}
			return
		}
	}
}
