// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"evensong/internal/proto/access"
)

// TLS says how clients over TCP are served with TLS. It concerns this daemon only.
type TLS struct {
	// CertFile has the daemon's certificate, and those between it and its authority behind it, KeyFile its key, both in PEM.
	// Empty: no TLS.
	CertFile, KeyFile string
	// ClientCAFile has the certificates of the authorities that sign those of clients. Empty: clients show none.
	ClientCAFile string
	// ClientAuth says with ClientCAFile whether a client needs a certificate: required or optional. Empty: required.
	ClientAuth string
	// Required refuses clients that come over TCP without TLS. Unix sockets are not concerned.
	Required bool
}

// The words of TLSClientAuth.
const (
	clientAuthRequired = "required"
	clientAuthOptional = "optional"
)

// ExpirySoon is how long before its end a certificate is worth a warning.
const ExpirySoon = 14 * 24 * time.Hour

// tlsOptions are the flags of TLS for clients.
var tlsOptions = []Option{
	{Name: "tls-certificate", Key: "TLSCertificate", Usage: "`FILE` with the certificate for clients over TCP (PEM): they may use TLS then", Default: "none: no TLS",
		set: one(func(c *Config, v string) error { c.TLS.CertFile = v; return checkPath(v) })},
	{Name: "tls-key", Key: "TLSKey", Usage: "`FILE` with the key of that certificate", Default: "none",
		set: one(func(c *Config, v string) error { c.TLS.KeyFile = v; return checkPath(v) })},
	{Name: "tls-client-ca", Key: "TLSClientCA", Usage: "`FILE` with the authorities that sign certificates of clients (PEM)", Default: "none: clients show no certificate",
		set: one(func(c *Config, v string) error { c.TLS.ClientCAFile = v; return checkPath(v) })},
	{Name: "tls-client-auth", Key: "TLSClientAuth", Usage: "whether a client with TLS needs a certificate: `WORD` is required or optional", Default: "required, if there is a TLSClientCA",
		set: one(func(c *Config, v string) error {
			if v != clientAuthRequired && v != clientAuthOptional {
				return fmt.Errorf("%q says nothing about certificates of clients; write %s or %s", v, clientAuthRequired, clientAuthOptional)
			}
			c.TLS.ClientAuth = v
			return nil
		})},
	{Name: "tls-required", Key: "TLSRequired", Usage: "`BOOL`: refuse clients that come over TCP without TLS", Default: "false",
		set: one(func(c *Config, v string) error { return parseBool(v, &c.TLS.Required) })},
}

// tlsProblems are relations between the values of TLS.
func (c *Config) tlsProblems() (out []keyedProblem) {
	t := &c.TLS
	add := func(key, hint, format string, args ...any) {
		out = append(out, keyedProblem{Problem{Severity: Error, Text: fmt.Sprintf(format, args...), Hint: hint}, []string{key}})
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		add("TLSCertificate", "add TLSKey, the file with its key", "TLSCertificate without TLSKey: a certificate needs its key")
	case t.CertFile == "" && t.KeyFile != "":
		add("TLSKey", "add TLSCertificate, the file with its certificate", "TLSKey without TLSCertificate: a key needs its certificate")
	}
	if t.CertFile == "" && t.KeyFile == "" {
		if t.Required {
			add("TLSRequired", "add TLSCertificate and TLSKey", "TLSRequired without TLSCertificate: no client could connect over TCP")
		}
		if t.ClientCAFile != "" {
			add("TLSClientCA", "add TLSCertificate and TLSKey", "TLSClientCA without TLSCertificate: no client could show its certificate")
		}
	}
	if t.ClientAuth != "" && t.ClientCAFile == "" {
		add("TLSClientAuth", "add TLSClientCA, the file with the authorities that sign certificates of clients", "TLSClientAuth without TLSClientCA: nobody says which certificates are good")
	}
	if t.ClientCAFile != "" && t.CertFile != "" && t.KeyFile != "" && !t.Required && t.ClientAuth != clientAuthOptional {
		asks := func(r access.Rule) bool { return len(r.Cert) > 0 }
		if c.Auth.RulesFile == "" && !slices.ContainsFunc(c.Auth.Rules, asks) { // a file of rules is read later
			add("TLSClientCA", "TLSRequired = yes keeps them out; access rules can ask for cert; TLSClientAuth = optional where nobody needs one", "clients over TCP that do without TLS need no certificate")
			out[len(out)-1].Severity = Notice
		}
	}
	return out
}

// Certificate is TLS with all files read: what a daemon shows its clients. It is not modified after LoadTLS, and a reload
// replaces it as a whole.
type Certificate struct {
	TLS *tls.Config
	// Text tells the certificate and the authorities of clients from others, for people.
	Text string
	// Warnings are the problems that are none of severity Error.
	Warnings []Problem
}

// Config is what a daemon gives crypto/tls; nil without a certificate.
func (c *Certificate) Config() *tls.Config {
	if c == nil {
		return nil
	}
	return c.TLS
}

// LoadTLS reads the files of TLS and checks everything at the time now. It does not change c. Without TLS it returns nil. The
// error is Problems, all at once.
func LoadTLS(c *Config, now time.Time) (*Certificate, error) {
	t := &c.TLS
	if t.CertFile == "" || t.KeyFile == "" {
		return nil, nil
	}
	var problems Problems
	read := func(key, file string) []byte {
		data, err := readAccessFile(file)
		if err != nil {
			hint := "name a file that the daemon can read"
			switch {
			case errors.Is(err, fs.ErrNotExist):
				hint += fromHere(file)
			case errors.Is(err, fs.ErrPermission):
				hint = "give the file to the daemon's user; after a start by root that is DaemonUser, who reads it again at a reload"
			}
			problems = append(problems, Problem{File: c.origins[key].Where, Severity: Error, Text: fmt.Sprintf("%s: %v", key, err), Hint: hint})
		}
		return data
	}
	cert, key := read("TLSCertificate", t.CertFile), read("TLSKey", t.KeyFile)
	out := &Certificate{TLS: &tls.Config{MinVersion: tls.VersionTLS13}}
	if cert != nil && key != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			problems = append(problems, pairProblem(t, cert, key, err))
		} else {
			out.TLS.Certificates = []tls.Certificate{pair}
			out.Text = certificateText(&pair)
			problems = append(problems, leafProblems(t.CertFile, pair.Leaf, now)...)
			problems = append(problems, exposedKey(t.KeyFile)...)
		}
	}
	if t.ClientCAFile != "" {
		if data := read("TLSClientCA", t.ClientCAFile); data != nil {
			out.TLS.ClientCAs, out.TLS.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
			if t.ClientAuth == clientAuthOptional {
				out.TLS.ClientAuth = tls.VerifyClientCertIfGiven
			}
			if !out.TLS.ClientCAs.AppendCertsFromPEM(data) {
				problems = append(problems, Problem{File: t.ClientCAFile, Severity: Error, Text: "there is no certificate of an authority in the file", Hint: "it holds one or several in PEM, each with -----BEGIN CERTIFICATE-----"})
			}
			sum := sha256.Sum256(data)
			out.Text += fmt.Sprintf("; authorities of clients %x", sum[:4])
		}
	}
	if problems.Errors() > 0 {
		return nil, problems
	}
	out.Warnings = problems
	return out, nil
}

// pairProblem says which of the two files is wrong.
func pairProblem(t *TLS, cert, key []byte, err error) Problem {
	p := Problem{File: t.CertFile, Severity: Error, Text: strings.TrimPrefix(err.Error(), "tls: "), Hint: "it holds the daemon's certificate in PEM, and behind it those between it and its authority"}
	switch {
	case strings.Contains(err.Error(), "private key does not match"):
		p.Text, p.Hint = "the certificate is not that of the key in "+t.KeyFile, "give the two files that were made together"
	case bytes.Contains(cert, []byte("PRIVATE KEY-----")) && !bytes.Contains(cert, []byte("-----BEGIN CERTIFICATE-----")):
		p.Text, p.Hint = "the file of TLSCertificate holds a key", "TLSCertificate is the file with the certificate, TLSKey that with its key; are they the other way round?"
	case bytes.Contains(key, []byte("ENCRYPTED")):
		p.File, p.Text, p.Hint = t.KeyFile, "the key has a passphrase, and there is nobody to ask for it", "write it without one: openssl pkey -in "+t.KeyFile+" -out FILE, with FILE for the daemon's user only"
	case strings.Contains(err.Error(), "key"):
		p.File, p.Hint = t.KeyFile, "it holds the key in PEM, without a passphrase: -----BEGIN PRIVATE KEY-----"
	}
	return p
}

// certificateText is the certificate in a few words. They tell apart all that clients are shown, or a reload would leave those
// behind the certificate as they were.
func certificateText(pair *tls.Certificate) string {
	leaf := pair.Leaf
	sum := sha256.Sum256(leaf.Raw)
	text := fmt.Sprintf("certificate for %s, valid until %s, SHA-256 %x", CertificateNames(leaf), leaf.NotAfter.UTC().Format("2006-01-02 15:04"), sum[:8])
	if n := len(pair.Certificate) - 1; n > 0 {
		sum := sha256.Sum256(slices.Concat(pair.Certificate[1:]...))
		word := "certificates"
		if n == 1 {
			word = "certificate"
		}
		text += fmt.Sprintf(", %d %s behind it, SHA-256 %x", n, word, sum[:4])
	}
	return text
}

// CertificateNames is whom a daemon's certificate is for, for people.
func CertificateNames(leaf *x509.Certificate) string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, leaf.Subject.String())
	}
	return printable(strings.Join(names, ", "))
}

// leafProblems warns of a certificate that clients will not accept.
func leafProblems(file string, leaf *x509.Certificate, now time.Time) (out Problems) {
	warn := func(hint, format string, args ...any) {
		out = append(out, Problem{File: file, Severity: Warning, Text: fmt.Sprintf(format, args...), Hint: hint})
	}
	until := leaf.NotAfter.UTC().Format("2006-01-02 15:04")
	switch {
	case now.After(leaf.NotAfter):
		warn("renew it", "the certificate is not valid since %s, and clients refuse it", until)
	case now.Before(leaf.NotBefore):
		warn("is the clock of this machine right?", "the certificate is valid from %s on, and clients refuse it before", leaf.NotBefore.UTC().Format("2006-01-02 15:04"))
	case now.Add(ExpirySoon).After(leaf.NotAfter):
		warn("renew it, then reload", "the certificate is valid until %s, which is soon", until)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		warn("make one with the daemon's names and addresses as subjectAltName", "the certificate has no alternative names, which are all that clients compare with the name they dial")
	}
	return out
}

// exposedKey warns of a key that others can read.
func exposedKey(file string) Problems {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o007 == 0 {
		return nil
	}
	return Problems{{File: file, Severity: Warning, Text: fmt.Sprintf("every user of this machine can read the key (mode %04o)", info.Mode().Perm()), Hint: "chmod o-rwx the file"}}
}
