// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"evensong/internal/testcert"
)

// TestLoadTLS: every mistake in the files of TLS is told with the file and what to do, and what clients would not accept is a
// warning.
func TestLoadTLS(t *testing.T) {
	here, _ := inDir(t)
	ca := testcert.New(t)
	ca.File(here)
	ca.Sign(nil).Files(t, here, "good")
	ca.Sign(nil).Files(t, here, "other")
	ca.Sign(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).Files(t, here, "old")
	ca.Sign(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }).Files(t, here, "early")
	ca.Sign(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }).Files(t, here, "late")
	ca.Named("db1").Files(t, here, "nameless")
	write(t, filepath.Join(here, "text"), "no PEM\n")
	write(t, filepath.Join(here, "locked.key"), "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n")
	write(t, filepath.Join(here, "locked8.key"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	_, key := ca.Sign(nil).Files(t, here, "open")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	const head = "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\n"
	pair := func(name string) string { return "TLSCertificate = " + name + ".crt\nTLSKey = " + name + ".key\n" }
	for _, row := range []struct{ text, flags, problem string }{
		{"", "", ""},
		{pair("good"), "", ""},
		{pair("good") + "TLSClientCA = ca.crt\nTLSClientAuth = optional\nTLSRequired = yes", "", ""},
		{"", "--tls-certificate=good.crt --tls-key=good.key --tls-required=true --tls-client-ca=ca.crt --tls-client-auth=required", ""},
		{"TLSCertificate = nowhere.crt\nTLSKey = good.key", "", "test.conf:2: error: TLSCertificate: open nowhere.crt: no such file or directory; name a file that the daemon can read; a path without / in front begins at the working directory, here " + here},
		{"TLSCertificate = good.crt\nTLSKey = nowhere.key", "", "test.conf:3: error: TLSKey: open nowhere.key"},
		{"TLSCertificate = good.crt\nTLSKey = other.key", "", "good.crt: error: the certificate is not that of the key in other.key; give the two files that were made together"},
		{"TLSCertificate = text\nTLSKey = good.key", "", "text: error: failed to find any PEM data in certificate input; it holds the daemon's certificate in PEM"},
		{"TLSCertificate = good.crt\nTLSKey = text", "", "text: error: failed to find any PEM data in key input; it holds the key in PEM, without a passphrase"},
		{"TLSCertificate = good.key\nTLSKey = good.crt", "", "good.key: error: the file of TLSCertificate holds a key; TLSCertificate is the file with the certificate, TLSKey that with its key; are they the other way round?"},
		{"TLSCertificate = good.crt\nTLSKey = locked.key", "", "locked.key: error: the key has a passphrase, and there is nobody to ask for it; write it without one: openssl pkey -in locked.key"},
		{"TLSCertificate = good.crt\nTLSKey = locked8.key", "", "locked8.key: error: the key has a passphrase"},
		{pair("good") + "TLSClientCA = ca.crt", "", "test.conf:4:1: notice: clients over TCP that do without TLS need no certificate; TLSRequired = yes keeps them out"},
		{pair("good") + "TLSClientCA = ca.crt\nTLSClientAuth = optional", "", ""},
		{pair("good") + "TLSClientCA = ca.crt\nTLSRequired = yes", "", ""},
		{pair("good") + "TLSClientCA = text", "", "text: error: there is no certificate of an authority in the file"},
		{pair("good") + "TLSClientCA = nowhere", "", "test.conf:4: error: TLSClientCA: open nowhere"},
		{pair("good"), "--tls-certificate=nowhere.crt", "--tls-certificate: error: TLSCertificate: open nowhere.crt"},
		{pair("old"), "", "old.crt: warning: the certificate is not valid since"},
		{pair("early"), "", "early.crt: warning: the certificate is valid from"},
		{pair("late"), "", "late.crt: warning: the certificate is valid until"},
		{pair("nameless"), "", "nameless.crt: warning: the certificate has no alternative names"},
		{pair("open"), "", "open.key: warning: every user of this machine can read the key (mode 0644); chmod o-rwx the file"},
		{pair("good") + "AccessRules { deny open cert=mallory }", "", "test.conf:4: warning: no client can show a certificate, so cert never fits"},
		{pair("good") + "TLSClientCA = ca.crt\nAccessRules { deny open cert=mallory }", "", ""},
	} {
		if runtime.GOOS == "windows" && strings.Contains(row.problem, "mode 0644") {
			continue
		}
		file := mustParse(t, head+row.text)
		c, err := Assemble(&file, flags(t, strings.Fields(row.flags)...), env(nil), hostAlpha)
		if err != nil {
			t.Errorf("%q %s: %v", row.text, row.flags, err)
			continue
		}
		c, err = c.withFiles(nil)
		var all []string
		for _, p := range c.Warnings {
			all = append(all, p.String())
		}
		if err != nil {
			all = append(all, err.Error())
		}
		got := strings.Join(all, "\n")
		if row.problem == "" && got != "" || !strings.Contains(got, row.problem) {
			t.Errorf("%q %s:\ngot  %s\nwant %s", row.text, row.flags, got, row.problem)
		}
		if (c.Certificate != nil) != (err == nil && strings.Contains(row.text+row.flags, "good.crt")) && row.problem == "" {
			t.Errorf("%q %s: certificate %v", row.text, row.flags, c.Certificate)
		}
	}

	now := time.Now()
	load := func(certs TLS) *Certificate {
		c, err := LoadTLS(&Config{TLS: certs}, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mine := TLS{CertFile: "good.crt", KeyFile: "good.key", ClientCAFile: "ca.crt"}
	a := load(mine)
	if a.TLS.ClientAuth != tls.RequireAndVerifyClientCert || a.TLS.MinVersion != tls.VersionTLS13 {
		t.Errorf("with authorities: %v, %x", a.TLS.ClientAuth, a.TLS.MinVersion)
	}
	if !strings.HasPrefix(a.Text, "certificate for localhost, 127.0.0.1, ::1, valid until ") || !strings.Contains(a.Text, "; authorities of clients ") {
		t.Errorf("text %q", a.Text)
	}
	mine.ClientAuth = "optional"
	if b := load(mine); b.TLS.ClientAuth != tls.VerifyClientCertIfGiven || b.Text != a.Text {
		t.Errorf("optional: %v, %q", b.TLS.ClientAuth, b.Text)
	}
	ca.Sign(nil).Files(t, here, "good")
	if b := load(mine); b.Text == a.Text {
		t.Errorf("another certificate, the same text %q", b.Text)
	}
	leaf := load(mine).Text
	good, err := os.ReadFile("good.crt")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "good.crt", string(good)+string(ca.PEM))
	if b := load(mine); b.Text == leaf || !strings.Contains(b.Text, ", 1 certificate behind it, SHA-256 ") {
		t.Errorf("a certificate more behind the same one, the text %q", b.Text)
	}
	if none, err := LoadTLS(&Config{}, now); none != nil || err != nil || none.Config() != nil {
		t.Errorf("without TLS: %v, %v", none, err)
	}
}
