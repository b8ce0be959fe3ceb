// SPDX-License-Identifier: Apache-2.0

package user

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"evensong/client"
)

// Schemes in front of addresses.
const (
	ownScheme    = "evensong://"
	secureScheme = "evensongs://"
)

// IsOwn reports whether an address is spoken to in Evensong's own dialect.
func IsOwn(address string) bool {
	return strings.HasPrefix(address, ownScheme) || strings.HasPrefix(address, secureScheme)
}

// TLS is what flags and environment say about TLS.
type TLS struct {
	// Use has the session go through TLS where the address does not ask for it.
	Use bool
	// CA is a file with the authorities that are trusted. Empty: those of the system.
	CA string
	// Cert and Key are files with a certificate to show, and its key. Both empty: none.
	Cert, Key string
	// Implied says that the files come from the environment: without TLS they mean nothing, else they would be a mistake.
	Implied bool
}

// options are those of client.Dial for an address. The errors are those of the user.
func (t *TLS) options(address string) ([]client.Option, error) {
	wrong := func(hint, format string, args ...any) ([]client.Option, error) {
		return nil, &ExitError{Code: exitUsage, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	if !t.Use && !strings.HasPrefix(address, secureScheme) {
		if !t.Implied && t.CA+t.Cert+t.Key != "" {
			return wrong("write evensongs:// in front of the address, or add --tls", "--ca, --cert and --key are for TLS, and %s is dialed without", address)
		}
		return nil, nil
	}
	if (t.Cert == "") != (t.Key == "") {
		return wrong("give both --cert and --key", "a certificate needs its key, and a key its certificate")
	}
	config := &tls.Config{}
	if t.CA != "" {
		data, err := os.ReadFile(t.CA)
		if err != nil {
			return wrong("name a file with the certificates of authorities, in PEM", "--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return wrong("it holds one or several in PEM, each with -----BEGIN CERTIFICATE-----", "--ca %s: there is no certificate in the file", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return wrong("they are a certificate and its key, both in PEM", "--cert %s, --key %s: %w", t.Cert, t.Key, err)
		}
		// Whatever authorities the daemon names: it then says what is wrong, in place of that there is none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return []client.Option{client.WithTLS(config)}, nil
}

// tlsHint is the next step after an error of a session in which TLS has a part; empty if it has none.
func tlsHint(err error, t *TLS) string {
	said, _ := errors.AsType[*client.Error](err)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			if t.CA != "" {
				return "none of the authorities in " + t.CA + " (--ca, EVENSONG_CA) is the one that has signed the daemon's certificate; ask its operator for the right file"
			}
			return "--ca FILE, or EVENSONG_CA, names the authority that has signed the daemon's certificate"
		}
		return "the daemon's operator has its certificate renewed, or you dial another name of it"
	}
	if o, ok := errors.AsType[*net.OpError](err); ok && o.Op == "remote error" && strings.Contains(o.Err.Error(), "certificate") {
		return "--cert FILE and --key FILE, or EVENSONG_CERT and EVENSONG_KEY, give a certificate that the daemon accepts"
	}
	if said != nil && said.Code == client.ErrAuth && (said.Reason == "plain" || strings.Contains(said.Detail, "require TLS")) {
		return "if this daemon requires TLS, dial evensongs://HOST:PORT, with --ca FILE, or EVENSONG_CA, for an authority that your system does not know"
	}
	return ""
}

// isWithoutTLS reports whether a session failed because the other side speaks no TLS.
func isWithoutTLS(err error) bool {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	o, ok := errors.AsType[*net.OpError](err)
	return ok && o.Op == "remote error" && strings.Contains(o.Err.Error(), "handshake failure")
}
