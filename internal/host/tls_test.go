// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/internal/admin"
	"evensong/internal/testcert"
)

// forEachTLS runs a test with each loop, where clients may use TLS, and what such a client needs.
func forEachTLS(t *testing.T, f func(t *testing.T, cfg Config, client *tls.Config)) {
	ca := testcert.New(t)
	pair := ca.Sign(nil)
	forEachLoop(t, func(t *testing.T, cfg Config) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}
		f(t, cfg, &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"})
	})
}

// TestTLSAlertInTheClear: a client that refuses the certificate before it has keys, as those with OpenSSL do, says so in the clear, and
// the log says what that means.
func TestTLSAlertInTheClear(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{testcert.New(t).Sign(nil).TLS}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(ours, config).Handshake() }()
	refusing := tls.Client(&clearAlert{Conn: theirs}, &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()})
	if err := refusing.Handshake(); err == nil {
		t.Fatal("the client accepts the certificate")
	}
	if text := handshakeText(<-done); !strings.Contains(text, "do not accept TLSCertificate") {
		t.Error(text)
	}
}

// clearAlert sends an alert in the clear in place of all that a client has to say behind its hello.
type clearAlert struct {
	net.Conn
	said int // writes
}

func (c *clearAlert) Write(b []byte) (int, error) {
	c.said++
	switch c.said {
	case 1:
		return c.Conn.Write(b)
	case 2:
		if _, err := c.Conn.Write([]byte{21, 3, 3, 0, 2, 2, 48}); err != nil { // fatal, unknown authority
			return 0, err
		}
	}
	return len(b), nil
}

func dialTLS(t testing.TB, h *Host, config *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, h), config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// What comes and goes through TLS is what comes and goes without, in both directions at once, also where a side ends only its
// own half.
func TestTLSEcho(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{}
		h := start(t, cfg, m)
		want := pattern(3<<20 + 17)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				c := dialTLS(t, h, config)
				go func() {
					c.Write(want)
					c.CloseWrite()
				}()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v, %d bytes of %d, equal %v", err, len(got), len(want), bytes.Equal(got, want))
				}
				c.Close()
			})
		}
		plain := dial(t, h) // the same port
		plain.Write([]byte("plain"))
		if _, err := io.ReadFull(plain, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		wg.Wait()
		eventually(t, h, "all closed", func() bool { return m.closed == 3 && len(m.certs) == 3 })
		s := h.Stats()
		eventually(t, h, "no TLS left", func() bool { return s.TLSConnections.Load() == 0 })
		if n, bad := s.TLSHandshakes.Load(), s.TLSFailures.Load(); n != 3 || bad != 0 {
			t.Errorf("%d handshakes, %d failed; want 3, 0", n, bad)
		}
	})
}

// What operators see of a configuration that a program made: the certificate that ends first, whether parsed or not, and none if it is
// chosen for each client.
func TestTLSState(t *testing.T) {
	ca := testcert.New(t)
	long, short := ca.Sign(nil), ca.Sign(func(c *x509.Certificate) {
		c.NotAfter, c.DNSNames, c.IPAddresses = time.Now().Add(time.Hour), []string{"db1"}, nil
	})
	end := short.TLS.Leaf.NotAfter
	raw := short.TLS
	raw.Leaf = nil
	choose := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &raw, nil }
	for _, x := range []struct {
		config *tls.Config
		want   admin.TLSState
	}{
		{&tls.Config{Certificates: []tls.Certificate{long.TLS, raw}}, admin.TLSState{Required: true, ClientCertificates: "none", Certificate: "db1", Expires: end}},
		{&tls.Config{Certificates: []tls.Certificate{raw, long.TLS}, ClientAuth: tls.RequestClientCert}, admin.TLSState{Required: true, ClientCertificates: "optional", Certificate: "db1", Expires: end}},
		{&tls.Config{GetCertificate: choose, ClientAuth: tls.RequireAnyClientCert}, admin.TLSState{Required: true, ClientCertificates: "required"}},
		{&tls.Config{Certificates: []tls.Certificate{{}, {Certificate: [][]byte{{1}}}}}, admin.TLSState{Required: true, ClientCertificates: "none"}},
	} {
		if got := tlsState(x.config, true); *got != x.want {
			t.Errorf("got %+v, want %+v", *got, x.want)
		}
	}
	if got := tlsState(nil, false); got != nil {
		t.Errorf("without TLS: %+v", got)
	}
}

// A hello may come in any pieces.
func TestTLSByteByByte(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		h := start(t, cfg, &echo{})
		c := tls.Client(dribble{dial(t, h)}, config)
		c.Write([]byte("hello"))
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// dribble writes byte by byte.
type dribble struct{ net.Conn }

func (d dribble) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Clients that begin as TLS does and go on otherwise, or not at all, are no harm to others: their sessions end with a reason,
// and nothing of them stays.
func TestTLSBadClients(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{}
		h := start(t, cfg, m)
		other := dialTLS(t, h, config)
		untrusting := config.Clone()
		untrusting.RootCAs = x509.NewCertPool()
		old := config.Clone()
		old.MaxVersion = tls.VersionTLS12
		stranger := config.Clone()
		stranger.Certificates = []tls.Certificate{testcert.New(t).Named("mallory").TLS}
		stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger.Certificates[0], nil }
		for _, tc := range []struct {
			what  string
			speak func(c net.Conn)
			want  string // in the reason
		}{
			{"garbage", func(c net.Conn) { c.Write(append([]byte{recordHandshake}, pattern(5000)...)) }, "it may be no TLS at all"},
			{"zeros", func(c net.Conn) { c.Write(append([]byte{recordHandshake, 3, 1, 0, 200}, make([]byte, 200)...)) }, "unexpected handshake message"},
			{"gone", func(c net.Conn) { c.Write([]byte{recordHandshake}); c.(*net.TCPConn).CloseWrite() }, "the client closed the connection"},
			{"does not trust us", func(c net.Conn) { tls.Client(c, untrusting).Handshake() }, "bad certificate"},
			{"TLS 1.2", func(c net.Conn) { tls.Client(c, old).Handshake() }, "clients need TLS 1.3"},
			{"certificate of another authority", func(c net.Conn) {
				k := tls.Client(c, stranger)
				k.Write([]byte("hello")) // the handshake is over for it
				_, err := k.Read(make([]byte, 1))
				if err == nil || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("a client with a certificate that is not good here saw %v", err)
				}
			}, "TLSClientCA names the authorities"},
		} {
			c := dial(t, h)
			n := 0
			do(t, h, func() { n = len(m.refused) })
			tc.speak(c)
			io.Copy(io.Discard, c) // until the daemon ends it
			eventually(t, h, tc.what, func() bool { return len(m.refused) == n+1 })
			if why := m.refused[n]; !strings.Contains(why, tc.want) {
				t.Errorf("%s: refused because of %q, want %q", tc.what, why, tc.want)
			}
			c.Close()
		}
		other.Write([]byte("fine"))
		if _, err := io.ReadFull(other, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		eventually(t, h, "connections gone", func() bool { return h.Stats().Sessions.Load() == 1 && h.Stats().Closing.Load() == 0 })
	})
}

// A handshake is counted where a client has begun one: not for who says nothing and goes, in good order or not, nor for who does without
// TLS.
func TestTLSCountsWhatWasBegun(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{}
		h := start(t, cfg, m)
		dial(t, h).Close()
		half := dial(t, h)
		half.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, half)
		reset := dial(t, h)
		reset.(*net.TCPConn).SetLinger(0)
		reset.Close()
		plain := dial(t, h)
		plain.Write([]byte("x"))
		plain.Close()
		eventually(t, h, "all closed", func() bool { return h.Stats().Accepts.Load() == 4 && h.Stats().Sessions.Load() == 0 })
		if n, bad := h.Stats().TLSHandshakes.Load(), h.Stats().TLSFailures.Load(); n != 0 || bad != 0 {
			t.Errorf("%d handshakes, %d failed, and nobody began one", n, bad)
		}
		begun := dial(t, h)
		begun.Write([]byte{recordHandshake})
		begun.Close()
		eventually(t, h, "the failure", func() bool { return h.Stats().TLSHandshakes.Load() == 1 && h.Stats().TLSFailures.Load() == 1 })
	})
}

// Clients that say a byte of a hello and wait keep nobody waiting, and the end of the host is the end of them.
func TestTLSSlowHandshakes(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		h := start(t, cfg, &echo{})
		for range 4 * runtime.GOMAXPROCS(0) {
			dial(t, h).Write([]byte{recordHandshake, 3, 1})
		}
		c := dialTLS(t, h, config)
		c.Write([]byte("hello"))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		h.Stop()
		<-h.Done()
		if d := time.Since(began); d > 2*lingerTime {
			t.Errorf("the host took %v to stop", d)
		}
	})
}

// A client that sends and does not read is not read for ever: what is kept for it is bounded in both directions.
func TestTLSBackPressure(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{limit: 64 << 10}
		h := start(t, cfg, m)
		c := dialTLS(t, h, config)
		c.NetConn().(*net.TCPConn).SetReadBuffer(256 << 10)
		want := pattern(16 << 20)
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(want)
			sent <- err
		}()
		last := -1
		eventually(t, h, "it stops", func() bool {
			n := m.total
			time.Sleep(50 * time.Millisecond)
			defer func() { last = n }()
			return n == last && n > 0
		})
		select {
		case <-sent:
			t.Fatal("all of it was taken from a client that reads nothing")
		default:
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v, equal %v", err, bytes.Equal(got, want))
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// What the machine says before it closes a session reaches the client, and then the end as TLS says it.
func TestTLSCloseDeliversLastBytes(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		for _, size := range []int{0, 1, 300000} {
			m := &echo{farewell: pattern(size)}
			h := start(t, cfg, m)
			c := dialTLS(t, h, config)
			c.Write([]byte{0xff})
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, m.farewell) {
				t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
			}
			c.Close()
			eventually(t, h, "connection gone", func() bool { return h.Stats().Closing.Load() == 0 && h.Stats().Sessions.Load() == 0 })
		}
	})
}

// A client that takes nothing of its last bytes is cut, and so is the TLS before it.
func TestTLSCloseIsBounded(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		t.Parallel()
		m := &echo{farewell: pattern(32 << 20)}
		h := start(t, cfg, m)
		c := dialTLS(t, h, config)
		c.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
		c.Write([]byte{0xff})
		eventually(t, h, "cut", func() bool { return m.closed == 1 && h.Stats().TLSConnections.Load() == 0 })
	})
}

// What a client said before it went away is valid.
func TestTLSLastWordsOfAClient(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{perInput: 20000, slowly: time.Millisecond, swallow: true}
		h := start(t, cfg, m)
		c := dialTLS(t, h, config)
		want := pattern(300000)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		c.Close()
		eventually(t, h, "closed", func() bool { return m.closed == 1 })
		if m.total != len(want) {
			t.Errorf("machine took %d of %d bytes", m.total, len(want))
		}
	})
}

// The host's orderly end delivers what waits, and nothing stays behind.
func TestTLSEndOfHost(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		files := descriptors(t)
		h := start(t, cfg, &echo{})
		c := dialTLS(t, h, config)
		want := pattern(100000)
		c.Write(want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got[:10]); err != nil {
			t.Fatal(err)
		}
		rest := make(chan error, 1)
		go func() {
			b, err := io.ReadAll(c)
			if err == nil && !bytes.Equal(b, want[10:]) {
				t.Errorf("%d bytes of %d", len(b), len(want)-10)
			}
			c.Close()
			rest <- err
		}()
		eventually(t, h, "all answered", func() bool { return h.Stats().ClientBytesOut.Load() == uint64(len(want)) })
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := <-rest; err != nil {
			t.Error(err)
		}
		if n := descriptors(t); n > files {
			t.Errorf("%d descriptors, %d before", n, files)
		}
	})
}

// The machine knows the name in a certificate before it gets a byte.
func TestTLSNames(t *testing.T) {
	ca := testcert.New(t)
	parse := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	pairs := []testcert.Pair{
		ca.Named("alice"),
		ca.Sign(func(c *x509.Certificate) {
			c.DNSNames, c.URIs = []string{"db1.example.org", "db2"}, parse("spiffe://x/y")
		}),
		ca.Sign(func(c *x509.Certificate) { c.DNSNames, c.URIs = nil, parse("spiffe://example.org/billing") }),
		ca.Sign(func(c *x509.Certificate) { c.DNSNames = nil }),
		ca.Sign(func(c *x509.Certificate) {
			c.DNSNames, c.URIs = nil, parse("spiffe://example.org/"+strings.Repeat("x", 300))
		}),
	}
	server := ca.Sign(nil)
	forEachLoop(t, func(t *testing.T, cfg Config) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
		m := &echo{}
		h := start(t, cfg, m)
		for i, p := range pairs {
			c := dialTLS(t, h, &tls.Config{RootCAs: ca.Pool, ServerName: "localhost", Certificates: []tls.Certificate{p.TLS}})
			c.Write([]byte("x"))
			_, err := io.ReadFull(c, make([]byte, 1))
			if (err == nil) != (i < 4) {
				t.Errorf("certificate %d: %v", i, err)
			}
		}
		c := tls.Client(dial(t, h), &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"})
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("without a certificate: %v", err)
		}
		eventually(t, h, "refused", func() bool { return len(m.refused) == 2 })
		if want := []string{"alice", "db1.example.org", "spiffe://example.org/billing", ""}; !slices.Equal(m.certs, want) {
			t.Errorf("names %q, want %q", m.certs, want)
		}
		for i, want := range []string{"more than 255", "TLSClientAuth = optional does without"} {
			if !strings.Contains(m.refused[i], want) {
				t.Errorf("refused because of %q, want %q", m.refused[i], want)
			}
		}
	})
}

func TestTLSManyShortConnections(t *testing.T) {
	forEachTLS(t, func(t *testing.T, cfg Config, config *tls.Config) {
		m := &echo{farewell: []byte("bye")}
		h := start(t, cfg, m)
		do(t, h, func() {})
		files, routines := descriptors(t), runtime.NumGoroutine()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 15 {
					nc, err := net.Dial("tcp", h.ListenAddrs()[0].String())
					if err != nil {
						t.Error(err)
						return
					}
					c := tls.Client(nc, config)
					switch i % 3 {
					case 0:
						c.Write([]byte{0xff})
						if b, err := io.ReadAll(c); err != nil || string(b) != "bye" {
							t.Errorf("%q, %v", b, err)
						}
					case 1:
						c.Handshake()
					case 2:
						nc.Write([]byte{recordHandshake, 3})
					}
					c.Close()
				}
			})
		}
		wg.Wait()
		eventually(t, h, "nothing left", func() bool {
			return h.Stats().Sessions.Load() == 0 && h.Stats().Closing.Load() == 0 && descriptors(t) <= files && runtime.NumGoroutine() <= routines+2
		})
	})
}

// A certificate that nobody has verified gives no name, though a program lets clients show one: anybody can write anything into
// it.
func TestTLSUnverifiedNames(t *testing.T) {
	ca := testcert.New(t)
	server, mallory := ca.Sign(nil), testcert.New(t).Named("alice")
	for _, auth := range []tls.ClientAuthType{tls.RequestClientCert, tls.RequireAnyClientCert} {
		forEachLoop(t, func(t *testing.T, cfg Config) {
			cfg.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS}, ClientCAs: ca.Pool, ClientAuth: auth}
			m := &echo{}
			h := start(t, cfg, m)
			c := dialTLS(t, h, &tls.Config{RootCAs: ca.Pool, ServerName: "localhost",
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mallory.TLS, nil }})
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			do(t, h, func() {
				if want := []string{""}; !slices.Equal(m.certs, want) {
					t.Errorf("%v: names %q, want %q", auth, m.certs, want)
				}
			})
		})
	}
}

// What a program chooses for a client has the same bounds as what it gives at the start.
func TestTLSChosenForAClient(t *testing.T) {
	ca := testcert.New(t)
	server := ca.Sign(nil)
	forEachLoop(t, func(t *testing.T, cfg Config) {
		chosen := &tls.Config{Certificates: []tls.Certificate{server.TLS}}
		cfg.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }}
		m := &echo{}
		h := start(t, cfg, m)
		client := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}
		c := dialTLS(t, h, client)
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		old := client.Clone()
		old.MaxVersion = tls.VersionTLS12
		if err := tls.Client(dial(t, h), old).Handshake(); err == nil {
			t.Error("TLS 1.2 was spoken")
		}
		eventually(t, h, "TLS 1.2 refused", func() bool { return len(m.refused) == 1 })
		if chosen.MinVersion != 0 || chosen.SessionTicketsDisabled {
			t.Error("what belongs to the program was changed")
		}
	})
}

// While a handshake is under way nobody else uses its connection: what a session says meanwhile waits until it goes through TLS.
func TestPortableWriterWaitsForHandshake(t *testing.T) {
	ca := testcert.New(t)
	near, far := net.Pipe()
	l := &portableLoop{core: &core{stats: &Stats{}}, in: make(chan event, 1), over: make(chan struct{})}
	c := &pclient{nc: near, jobs: make(chan []byte, 1)}
	c.securing.Lock()
	var wg sync.WaitGroup
	wg.Go(func() { l.writeClient(c) })
	c.jobs <- []byte("word")
	c.tls = tls.Server(near, &tls.Config{Certificates: []tls.Certificate{ca.Sign(nil).TLS}, SessionTicketsDisabled: true})
	wg.Go(func() {
		_ = c.tls.Handshake() // the client knows how it went
		c.securing.Unlock()
	})
	client := tls.Client(far, &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"})
	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "word" {
		t.Errorf("%q, %v; want what the session said in the middle of the handshake, behind it", got, err)
	}
	close(c.jobs)
	far.Close()
	near.Close()
	wg.Wait()
}
