// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
)

// TestTCP looks at a real daemon over TCP, in the clear and in TLS: with its token, with another one, and without.
func TestTCP(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token, other := write("token", "carol 0123456789abcdef0123\n"), write("other", "0123456789abcdef0124\n")
	cert, key := certificate(t)
	certFile, keyFile := write("cert.pem", cert), write("key.pem", key)
	for _, secure := range []bool{false, true} {
		c := config.Config{Cluster: "tcp " + dir}
		c.Daemons = []config.Daemon{{Name: "solo", Addr: netip.MustParseAddrPort("127.0.0.1:0")}}
		c.Segments = []config.Segment{{Addr: c.Daemons[0].Addr, Kind: config.Unicast, Daemons: []int{0}}}
		c.Local.UnixSockets, c.Local.Listen = []string{}, []string{"127.0.0.1:0"}
		c.Admin.Listen, c.Admin.TokenFile = []string{"127.0.0.1:0"}, token
		if secure {
			c.Admin.CertFile, c.Admin.KeyFile = certFile, keyFile
		}
		log := &lines{}
		hc, build, err := host.Assemble(&c, 0, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := host.Start(hc, build)
		if err != nil {
			t.Fatal(err)
		}
		reach := Reach{Dir: dir, Admin: h.AdminAddrs(), TokenFile: token}
		if secure {
			reach.CAFile = certFile
		}
		var b bytes.Buffer
		if err := Status(t.Context(), reach, Output{}, 0, &b); err != nil || !strings.Contains(b.String(), "daemon solo") {
			t.Errorf("TLS %v: %v\n%s", secure, err, b.String())
		}
		// Over TCP reload and drain are dangerous, too; and all that is refused has its line.
		if err := Drain(t.Context(), reach, Output{}, DrainOptions{}, io.Discard); code(err) != exitRefused || !strings.Contains(err.Error(), "over TCP") {
			t.Errorf("TLS %v: drain without permission: %v", secure, err)
		}
		for _, file := range []string{other, ""} {
			wrong := reach
			wrong.TokenFile = file
			if err := Terminate(t.Context(), wrong, Output{}, io.Discard); code(err) != exitRefused {
				t.Errorf("TLS %v: terminate with token file %q: %v", secure, file, err)
			}
		}
		if text := log.String(); !strings.Contains(text, `peer="token carol from 127.0.0.1:`) || !strings.Contains(text, "admin request refused") {
			t.Errorf("TLS %v: log\n%s", secure, text)
		}
		if secure {
			plain := reach
			plain.CAFile = ""
			if err := Status(t.Context(), plain, Output{}, 0, io.Discard); err == nil || !strings.Contains(err.Error(), "speaks TLS; --admin-tls has this command speak it, too") {
				t.Errorf("a daemon with TLS, asked without: %v", err)
			}
			plain.TLS = true
			if err := Status(t.Context(), plain, Output{}, 0, io.Discard); err == nil || !strings.Contains(err.Error(), "--admin-ca FILE names the authority") {
				t.Errorf("a certificate of nobody's: %v", err)
			}
			elsewhere := reach
			elsewhere.Admin = []string{strings.Replace(reach.Admin[0], "127.0.0.1", "localhost", 1)}
			if err := Status(t.Context(), elsewhere, Output{}, 0, io.Discard); err == nil || !strings.Contains(err.Error(), "give a name or an address that stands in the certificate") {
				t.Errorf("another name: %v", err)
			}
			scheme := reach
			scheme.Admin = []string{"https://" + reach.Admin[0]}
			if err := Status(t.Context(), scheme, Output{}, 0, io.Discard); err == nil || !strings.Contains(err.Error(), "an admin address is HOST:PORT without a scheme") {
				t.Errorf("an address with a scheme: %v", err)
			}
		} else {
			secretly := reach
			secretly.TLS = true
			if err := Status(t.Context(), secretly, Output{}, 0, io.Discard); err == nil || !strings.Contains(err.Error(), "it speaks without TLS there") {
				t.Errorf("a daemon without TLS, asked with it: %v", err)
			}
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// certificate is one for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "evensong test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}))
}

// TestAllThroughPeers: --all finds daemons by the admin addresses that those asked were told, and names one that has none.
func TestAllThroughPeers(t *testing.T) {
	r := newRing(t, true, "a", "b", "c")
	// As if b were on another host: its socket is elsewhere, and a was told where.
	elsewhere := t.TempDir() + "/b.admin"
	sockets := admin.Sockets(r.dir)
	if err := os.Rename(sockets[1].Path, elsewhere); err != nil {
		t.Fatal(err)
	}
	reach := r.reach("a")
	var b bytes.Buffer
	if err := Partition(t.Context(), reach, Output{}, map[string]int{"a": 1, "b": 1, "c": 1}, time.Minute, false, &b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, "b  was not told: no admin address of it is known") || strings.Count(text, "cut: a,b,c") != 2 {
		t.Errorf("partition without b:\n%s", text)
	}
	reach.Admin = append(reach.Admin, elsewhere)
	b.Reset()
	if err := Heal(t.Context(), reach, Output{}, &b); err != nil || strings.Count(b.String(), "no daemon is cut off here") != 3 {
		t.Errorf("heal with b: %v\n%s", err, b.String())
	}
}
