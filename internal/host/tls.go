// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// TLS of clients. A connection over TCP whose first byte is recordHandshake begins with a TLS hello (own-dialect 2.6). From
// there on crypto/tls stands between it and its session, which is the same session of the machine: it was accepted with the
// connection, so its deadline for the handshake and the bounds on sessions count for TLS, too. The machine is told how the TLS
// handshake ended before it gets any byte. docs/decisions/0012-tls-of-clients.md says why it is done like this.

const (
	// recordHandshake is the first byte of a TLS connection. No client's protocol begins with it.
	recordHandshake = 0x16
	// maxCertName bounds the name in a client's certificate, in bytes. A longer one is refused, because a part of it might be
	// the name of somebody else.
	maxCertName = 255
	// tlsIdleBytes is the buffer of a direction in which little goes, tlsBytes that of one in which much does: what a TLS
	// record holds. After so many reads that the smaller one would have held, idleReads, it is back there.
	tlsIdleBytes = 1 << 10
	tlsBytes     = 16 << 10
)

// tlsSide is what the connections of a host have in common that use TLS.
type tlsSide struct {
	config atomic.Pointer[tls.Config] // nil: no TLS. Replaced by a reload; connections keep what they began with
	gate   chan struct{}
	stats  *Stats
	wg     sync.WaitGroup // goroutines of connections (epoll loop)
}

func newTLSSide(config *tls.Config, stats *Stats) *tlsSide {
	// Handshakes are work for the processor, and Go lets a goroutine work for milliseconds before another has its turn. Some
	// processors are left to the loop, except where there is only one.
	s := &tlsSide{gate: make(chan struct{}, max(runtime.GOMAXPROCS(0)-1, 1)), stats: stats}
	s.set(config)
	return s
}

// set puts another configuration in force for connections that come.
func (s *tlsSide) set(config *tls.Config) {
	if config != nil {
		config = hardened(config)
	}
	s.config.Store(config)
}

// hardened is a copy of what a program wants with our bounds on it, and on what it chooses for a client of its own.
func hardened(config *tls.Config) *tls.Config {
	config = config.Clone()
	// Sessions last: resuming one would save nothing, and it would bring back what a reload has withdrawn.
	config.SessionTicketsDisabled = true
	config.MinVersion = max(config.MinVersion, tls.VersionTLS13)
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen != nil {
				chosen = hardened(chosen)
			}
			return chosen, err
		}
	}
	return config
}

// server is the daemon's side of TLS on c, with its handshake yet to come.
func (s *tlsSide) server(c net.Conn, config *tls.Config) (*tls.Conn, *gated) {
	g := &gated{Conn: c, gate: s.gate, stats: s.stats}
	return tls.Server(g, config), g
}

// handshake runs the server's side of it on c, and returns the name in the client's certificate. It ends with the connection.
func (s *tlsSide) handshake(c *tls.Conn, g *gated) (cert string, err error) {
	s.stats.TLSHandshakes.Add(1)
	g.enter()
	err = c.Handshake()
	g.leave()
	if err == nil {
		cert, err = certName(c.ConnectionState().VerifiedChains)
	}
	if err != nil {
		s.stats.TLSFailures.Add(1)
		return "", err
	}
	return cert, nil
}

// certName is the name in a client's certificate: its common name, else the first DNS name or URI among its alternative names;
// empty if there is no certificate or no name in it. One that no authority vouches for has no name: a program may let a client
// show such a certificate, but then anybody can write any name into it.
func certName(verified [][]*x509.Certificate) (string, error) {
	if len(verified) == 0 {
		return "", nil
	}
	c := verified[0][0] // each chain begins with it
	name := c.Subject.CommonName
	switch {
	case name != "":
	case len(c.DNSNames) > 0:
		name = c.DNSNames[0]
	case len(c.URIs) > 0:
		name = c.URIs[0].String()
	}
	if len(name) > maxCertName {
		return "", fmt.Errorf("the name in the client's certificate has %d bytes, more than %d", len(name), maxCertName)
	}
	return name, nil
}

// handshakeText is what went wrong with a handshake, and where to look.
func handshakeText(err error) string {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return text + "; it may be no TLS at all"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return text + "; TLSClientCA names the authorities whose clients are let in"
	}
	for _, h := range []struct{ part, hint string }{
		{"didn't provide a certificate", "TLSClientCA is given, so clients need one; TLSClientAuth = optional does without"},
		{"unknown certificate authority", "the client does not know who signed TLSCertificate; give it that authority's certificate"},
		{"bad certificate", "the client does not accept TLSCertificate; is its name there, is it valid now, and does the client know who signed it?"},
		{"bad record MAC", "clients with OpenSSL (Python, curl) that do not accept TLSCertificate end like this, in the clear; is its name there, is it valid now, and does the client know who signed it?"},
		{"certificate expired", "renew TLSCertificate and reload"},
		{"protocol version", "clients need TLS 1.3"},
		{"unsupported versions", "clients need TLS 1.3"},
	} {
		if strings.Contains(text, h.part) {
			return text + "; " + h.hint
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "the client closed the connection"
	}
	return text
}

// gated is a connection in its handshake: whoever is at work holds a place, and gives it back while it waits for the peer.
type gated struct {
	net.Conn
	gate   chan struct{}
	stats  *Stats
	inside bool // the handshake is going on; of the goroutine that runs it
}

func (g *gated) enter() { g.gate <- struct{}{}; g.inside = true }
func (g *gated) leave() { g.inside = false; <-g.gate }

// Read implements net.Conn.
func (g *gated) Read(b []byte) (int, error) {
	if g.inside {
		<-g.gate
		defer func() { g.gate <- struct{}{} }()
	}
	return g.Conn.Read(b)
}

// Write implements net.Conn. A lack of kernel memory is no word of the peer, and after an error of a write crypto/tls writes no
// more.
func (g *gated) Write(b []byte) (int, error) {
	if g.inside {
		<-g.gate
		defer func() { g.gate <- struct{}{} }()
	}
	n, err := g.Conn.Write(b)
	for errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) {
		g.stats.ClientWritesNoMemory.Add(1)
		time.Sleep(memoryPause)
		var more int
		more, err = g.Conn.Write(b[n:])
		n += more
	}
	return n, err
}

// SetWriteDeadline does nothing: crypto/tls gives the last word of a connection more time than the loop has for it.
func (g *gated) SetWriteDeadline(time.Time) error { return nil }

// pump copies until one of the two ends, and says which.
func pump(to io.Writer, from io.Reader) (readErr, writeErr error) {
	b := make([]byte, tlsIdleBytes)
	for small := 0; ; {
		n, err := from.Read(b)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return nil, err
			}
			if small++; n > tlsIdleBytes {
				small = 0
			}
			switch {
			case n == len(b) && n < tlsBytes:
				b = make([]byte, tlsBytes)
			case small >= idleReads && len(b) > tlsIdleBytes:
				b = make([]byte, tlsIdleBytes)
			}
		}
		if err != nil {
			return err, nil
		}
	}
}
