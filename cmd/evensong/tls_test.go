// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"evensong/daemon"
	"evensong/internal/testcert"
)

// TestTLSFlags: commands that open a session go through TLS where the address or a flag says so, and mistakes end with the
// next step and the status that fits.
func TestTLSFlags(t *testing.T) {
	dir := t.TempDir()
	ca := testcert.New(t)
	ca.File(dir)
	pair := ca.Sign(nil)
	ca.Named("alice").Files(t, dir, "alice")
	testcert.New(t).Named("mallory").Files(t, dir, "mallory")
	if err := os.WriteFile(dir+"/text", []byte("no PEM\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
	addr, err := startDaemonWith(t.Cleanup, daemon.Config{TLS: secure, TLSRequired: true, AccessRules: "allow open cert=alice\ndeny open"})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := startDaemon(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	const alice = " --ca ca.crt --cert alice.crt --key alice.key "
	inEnv := []string{"EVENSONG_CA=ca.crt", "EVENSONG_CERT=alice.crt", "EVENSONG_KEY=alice.key"}
	clientNames := []string{"spuser", "sptuser", "flush_user", "spflooder"} // of the original, which have no flags for TLS
	for _, row := range []struct {
		command string // S stands for the address of the daemon with TLS, P for that of the one without
		env     []string
		status  int
		want    string
	}{
		{"pub -s evensongs://S" + alice + "chat hello", nil, 0, ""},
		{"pub -s S --tls" + alice + "chat hello", nil, 0, ""},
		{"pub -s evensong://S --tls" + alice + "chat hello", nil, 0, ""},
		{"pub -s evensongs://S chat hello", inEnv, 0, ""},
		{"pub -s P chat hello", inEnv, 0, ""},
		{"user -s evensongs://S", inEnv, 0, ""},
		{"spuser -s evensongs://S -u bob", inEnv, 0, ""},
		{"sptuser -s P", inEnv, 0, ""},
		{"flush_user -s evensongs://S", inEnv, 0, ""},
		{"spflooder -s evensongs://S -m 10", inEnv, 0, "completed, 10 messages"},
		{"spuser -s evensongs://S", nil, 5, "EVENSONG_CA, names the authority"},
		{"spflooder -s evensongs://S -m 10", inEnv[:1], 5, "EVENSONG_CERT and EVENSONG_KEY, give a certificate"},
		{"sub -s evensongs://S" + alice + "--count 1 --timeout 50ms chat", nil, 1, ""},
		{"flood -s evensongs://S" + alice + "-m 10", nil, 0, ""},
		{"flood -s evensongs://S" + alice + "-m 2 --bytes 200000", nil, 0, ""},
		{"bench -s evensongs://S" + alice + "--time 100ms --warm 10ms", nil, 0, ""},
		{"pub -s evensongs://S chat hello", nil, 5, "--ca FILE, or EVENSONG_CA, names the authority that has signed the daemon's certificate"},
		{"pub -s evensongs://S --ca ca.crt chat hello", nil, 5, "--cert FILE and --key FILE, or EVENSONG_CERT and EVENSONG_KEY, give a certificate that the daemon accepts"},
		{"pub -s evensongs://S --ca ca.crt --cert mallory.crt --key mallory.key chat hello", nil, 5, "--cert FILE and --key FILE, or EVENSONG_CERT and EVENSONG_KEY, give a certificate that the daemon accepts"},
		{"pub -s S chat hello", nil, 5, "if this daemon requires TLS, dial evensongs://HOST:PORT, with --ca FILE, or EVENSONG_CA"},
		{"pub -s evensong://S chat hello", nil, 5, "if this daemon requires TLS, dial evensongs://HOST:PORT, with --ca FILE, or EVENSONG_CA"},
		{"pub -s evensongs://P --ca ca.crt chat hello", nil, 1, "the daemon does not offer TLS"},
		{"pub -s evensongs://P --ca ca.crt chat hello", nil, 1, "\nwithout TLS the address is HOST:PORT or"},
		{"pub -s evensongs://S --ca mallory.crt chat hello", nil, 5, "none of the authorities in mallory.crt (--ca, EVENSONG_CA) is the one that has signed"},
		{"pub -s S --ca ca.crt chat hello", nil, 2, "write evensongs:// in front of the address, or add --tls"},
		{"pub -s evensongs://S --ca nowhere chat hello", nil, 2, "--ca: open nowhere"},
		{"pub -s evensongs://S --ca text chat hello", nil, 2, "--ca text: there is no certificate in the file"},
		{"pub -s evensongs://S --cert alice.crt chat hello", nil, 2, "give both --cert and --key"},
		{"pub -s evensongs://S --cert alice.crt --key mallory.key chat hello", nil, 2, "private key does not match"},
		{"pub -s evensongs://4803 --ca ca.crt chat hello", nil, 2, "TLS is for TCP"},
	} {
		args := strings.Fields(row.command)
		for i := range args {
			args[i] = strings.NewReplacer("://S", "://"+addr, "://P", "://"+plain).Replace(args[i])
			switch args[i] {
			case "S":
				args[i] = addr
			case "P":
				args[i] = plain
			}
		}
		program := "evensong"
		if slices.Contains(clientNames, args[0]) {
			program, args = args[0], args[1:]
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), row.env...)
		out, err := cmd.CombinedOutput()
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != row.status || !strings.Contains(string(out), row.want) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", row.command, status, row.status, row.want, out)
		}
	}
}
