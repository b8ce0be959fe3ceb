// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// secureScheme begins addresses at which Evensong's own dialect is spoken inside of TLS.
const secureScheme = "evensongs://"

// WithTLS has the session go through TLS 1.3, whatever the dialect: Dial(ctx, "4803@host", WithTLS(config)) too. config says
// which authorities are trusted (RootCAs; none means those of the system), which certificate the program shows to daemons
// that ask for one (Certificates), and under which name the daemon's certificate must be valid (ServerName; empty means the
// host of the address). It is copied; nil is an empty one. The daemon must have a certificate (TLSCertificate in its
// configuration). Unix sockets do without TLS: with this option they are an error.
func WithTLS(config *tls.Config) Option {
	return func(o *options) {
		if o.secure, o.tls = true, config; config == nil {
			o.tls = &tls.Config{}
		}
	}
}

// startTLS runs the client's side of the handshake on nc. The name is that of the daemon's host.
func startTLS(nc net.Conn, config *tls.Config, name string) (net.Conn, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = strings.Cut(name, "%") // certificates know no zones
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS13)
	w := &witness{Conn: nc}
	c := tls.Client(w, config)
	if err := c.Handshake(); err != nil {
		if w.seen && w.first >= 0x80 {
			// The code of a daemon that refuses before it looks at what the client says, or that knows no TLS.
			return nil, &Error{Code: Code(w.first), Detail: "refused by the daemon", Err: errNoTLS}
		}
		return nil, tlsError(err, config.ServerName)
	}
	return c, nil
}

// isEnd reports whether a read failed because the daemon's side has ended: inside of TLS that has a word of its own, which a
// daemon that was killed does not say.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// errNoTLS is behind a refusal that did not come through TLS.
var errNoTLS = errors.New("before TLS could begin")

// witness remembers the first byte that was read.
type witness struct {
	net.Conn
	first byte
	seen  bool
}

// Read implements net.Conn.
func (w *witness) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 && !w.seen {
		w.first, w.seen = b[0], true
	}
	return n, err
}

// tlsError tells what a failed handshake means and what to do about it. In TLS 1.3 what the daemon thinks of the client's
// certificate comes behind the client's handshake, as an error of the first read.
func tlsError(err error, name string) error {
	e := &Error{Code: ErrConnectionClosed, Detail: "TLS", Err: err}
	because := func(code Code, format string, args ...any) {
		e.Code, e.Detail = code, fmt.Sprintf(format, args...)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		because(ErrAuth, "nobody whom this program trusts has signed the daemon's certificate; give the authority's certificate as RootCAs of WithTLS")
	} else if h, ok := errors.AsType[x509.HostnameError](err); ok {
		names := append([]string{}, h.Certificate.DNSNames...)
		for _, ip := range h.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		because(ErrAuth, "the daemon's certificate is for %s and not for %s; dial a name that stands there, or set ServerName of WithTLS", strings.Join(names, ", "), name)
	} else if i, ok := errors.AsType[x509.CertificateInvalidError](err); ok && i.Reason == x509.Expired {
		because(ErrAuth, "the daemon's certificate is not valid now; have it renewed, or look at the clocks of the two machines")
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		because(ErrAuth, "the daemon's certificate is not accepted")
	} else if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		because(ErrConnectionClosed, "what answers there does not speak TLS; dial without it, or give an Evensong daemon TLSCertificate and TLSKey")
	} else if o, ok := errors.AsType[*net.OpError](err); ok && o.Op == "remote error" {
		switch text := o.Err.Error(); {
		case strings.Contains(text, "handshake failure"):
			because(ErrConnectionClosed, "the daemon does not offer TLS; dial without it, or give the daemon TLSCertificate and TLSKey")
		case strings.Contains(text, "certificate required"):
			because(ErrAuth, "the daemon wants to see a certificate of this program; give it as Certificates of WithTLS")
		case strings.Contains(text, "certificate"):
			because(ErrAuth, "the daemon does not accept this program's certificate; one of the authorities in its TLSClientCA must have signed it, for use by clients, and it must be valid now")
		}
	}
	return e
}
