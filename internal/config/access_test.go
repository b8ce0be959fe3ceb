// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"evensong/internal/proto/session"
)

// TestNetworksFile: what an access file means, and each mistake with its place.
func TestNetworksFile(t *testing.T) {
	const file = "\ufeff# who may come\n\n  unix   # this machine\nlocal\r\n\n10.0.0.7\n10.1.0.0/16\nfd00::/8\t# ours\n::1\n::ffff:10.9.9.9\n0.0.0.0/32"
	list, problems := parseNetworks("f", []byte(file))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for addr, want := range map[string]bool{
		"0.0.0.0": true, "127.3.3.3": true, "::1": true, "10.0.0.7": true, "10.0.0.8": false, "10.1.255.255": true, "10.2.0.0": false,
		"fd00::5": true, "fe80::5": false, "10.9.9.9": true, "192.0.2.1": false,
	} {
		if got := list.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	for _, row := range []struct{ file, want string }{
		{"10.0.0.1\n\n  10.0.0\n", "f:3:3: error: \"10.0.0\" is no address"},
		{"Local", "f:1:1: error: \"Local\" is no address, no network and none of the words unix and local; did you mean local?"},
		{"unix local", "f:1:1: error: \"unix local\" is no address"},
		{"10.0.0.0/33", "f:1:1: error: network \"10.0.0.0/33\": the number of bits is 0 to 32"},
		{"10.0.0.0/", "has no number of bits"},
		{"fd00::/200", "0 to 128"},
		{"x/8", "is no network"},
		{"::ffff:10.0.0.0/104", "write it in IPv4 form"},
		{"fe80::1%eth0", "a zone has no meaning here"},
		{"10.0.0.1/8", "f:1:1: warning: \"10.0.0.1/8\" is read as the network 10.0.0.0/8; write 10.0.0.0/8"},
		{"10.0.0.1#x", "is no address"},
		{"# nobody\n", "f:1:1: warning: the file lists nobody"},
		{"", "lists nobody"},
		{"a\x00b", "zero bytes"},
		{strings.Repeat("10.0.0.1\n", maxAccessEntries+1), "f:10001:1: error: more than 10000 entries"},
		{strings.Repeat("#", MaxFileSize+1), "larger than"},
	} {
		_, problems := parseNetworks("f", []byte(row.file))
		if len(problems) != 1 || !strings.Contains(problems.Error(), row.want) {
			t.Errorf("%.40q: got %v, want %s", row.file, problems, row.want)
		}
	}
	_, problems = parseNetworks("f", []byte(strings.Repeat("x\n", 1000)))
	if len(problems) != maxErrors+1 {
		t.Errorf("%d problems of a hopeless file", len(problems))
	}
}

func credentials(user, password string) []byte {
	var b [40]byte
	copy(b[:32], user)
	copy(b[32:], password)
	return b[:]
}

func TestPasswordsFile(t *testing.T) {
	users, problems := parsePasswords("f", []byte("# users\n\nalice:abJnggxhB/yWI\nbob:x/cjcjzF3wSII   # secret\nu2345678901234567890123456789012:0.sAWxKGal/lA\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, row := range []struct {
		user, password string
		want           bool
	}{
		{"alice", "password", true}, {"alice", "passwords", true}, {"alice", "Password", false}, {"alice", "", false}, {"bob", "secret", true},
		{"bob", "password", false}, {"carol", "password", false}, {"", "", false}, {"u2345678901234567890123456789012", "test", true},
	} {
		if got := users.check(credentials(row.user, row.password)); got != row.want {
			t.Errorf("%q %q: %v", row.user, row.password, got)
		}
		if got := passwordUser(credentials(row.user, row.password)); got != row.user {
			t.Errorf("user %q", got)
		}
	}
	if users.check(credentials("alice", "password")[:39]) {
		t.Error("39 bytes are enough")
	}
	for _, row := range []struct{ file, want string }{
		{"alice", "f:1:1: error: the line has no colon"},
		{":abJnggxhB/yWI", "the user name has 0 bytes, want 1 to 32"},
		{strings.Repeat("u", 33) + ":abJnggxhB/yWI", "33 bytes"},
		{" alice:abJnggxhB/yW", "f:1:8: error: user \"alice\": not a traditional crypt hash: it has 12 characters, want 13"},
		{"alice:$6$abc$def", "make such a hash"},
		{"alice:*", "who is not in the file cannot log in"},
		{"alice:", "who is not in the file cannot log in"},
		{"alice:abJnggxhB/yWI:0", "15 characters"},
		{"a:abJnggxhB/yWI\n\na:abJnggxhB/yWI", "f:3:1: error: user \"a\" is in line 1 already"},
		{"", "lists nobody"},
	} {
		_, problems := parsePasswords("f", []byte(row.file))
		if len(problems) != 1 || !strings.Contains(problems.Error(), row.want) {
			t.Errorf("%q: got %v, want %s", row.file, problems, row.want)
		}
	}
}

// FuzzAccessFiles: no text makes a parser panic, each problem is one line and points into the text, and what is accepted is
// within the bounds.
func FuzzAccessFiles(f *testing.F) {
	f.Add([]byte("# c\nunix\nlocal\n10.0.0.1/8\nfd00::/8\nalice:abJnggxhB/yWI\n\tx # y\n"))
	f.Add([]byte("::ffff:1.2.3.4/96\nfe80::1%x\n\ufeffa:b:c\n:\n1.2.3.4/\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, problems := parseNetworks("f", data)
		users, more := parsePasswords("f", data)
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range append(problems, more...) {
			if p.Line < 0 || p.Line > lines || p.Text == "" || strings.Contains(p.String(), "\n") {
				t.Errorf("problem %q", p)
			}
		}
		if len(list) > 2*maxAccessEntries || len(users) > maxAccessEntries {
			t.Errorf("%d networks, %d users", len(list), len(users))
		}
		for user := range users {
			users.check(credentials(user, "password"))
		}
		list.Contains(netip.IPv4Unspecified())
	})
}

// inDir runs the test in an empty directory with another one in place of /etc, and returns both.
func inDir(t *testing.T) (here, etc string) {
	t.Helper()
	here, etc = t.TempDir(), t.TempDir()
	t.Chdir(here)
	old := accessDir
	accessDir = etc
	t.Cleanup(func() { accessDir = old })
	return here, etc
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(ms []session.AuthMethod) string {
	var out []string
	for _, m := range ms {
		s := m.Name
		if m.Required {
			s += "!"
		}
		if m.Unlisted {
			s += "-"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// TestLoadAccess: which methods a daemon offers and requires, and where it looks for their files.
func TestLoadAccess(t *testing.T) {
	here, etc := inDir(t)
	const head = "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\n"
	load := func(text string) (*Access, error) {
		t.Helper()
		c, err := Parse("f", []byte(head+text))
		if err != nil {
			t.Fatal(err)
		}
		return LoadAccess(&c)
	}
	for _, row := range []struct{ text, want string }{
		{"", "NULL"},
		{"AllowedAuthMethods = NULL", "NULL"},
		{`RequiredAuthMethods = "   "`, "NULL"}, // as in files of the original
		{"RequiredAuthMethods = NULL AllowedAuthMethods = NULL", "NULL!"},
	} {
		if a, err := load(row.text); err != nil || names(a.Methods) != row.want || a.Rules != nil {
			t.Errorf("%q: %+v, %v", row.text, a, err)
		}
	}
	_, err := load(`RequiredAuthMethods = IP AllowedAuthMethods = "PWORD NULL"`)
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != 2 || !strings.Contains(problems[0].String(), "f:2: error: authentication method IP needs the file spread.access_ip") ||
		!strings.Contains(problems[1].String(), "AccessPasswordFile") {
		t.Errorf("without files: %v", err)
	}

	write(t, filepath.Join(etc, "spread.access_ip"), "local\n")
	write(t, filepath.Join(here, "spread.access_pword"), "alice:abJnggxhB/yWI\n")
	a, err := load(`RequiredAuthMethods = IP AllowedAuthMethods = "PWORD NULL"`)
	if err != nil || names(a.Methods) != "NULL IP!- PWORD" || a.NetworksFile != filepath.Join(etc, "spread.access_ip") || a.PasswordsFile != "spread.access_pword" {
		t.Fatalf("%+v, %v", a, err)
	}
	s := session.Config{Daemon: "a", Methods: a.Methods}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	ip, pword := a.Methods[1], a.Methods[2]
	if !ip.Check(netip.MustParseAddr("127.0.0.1"), nil) || ip.Check(netip.IPv4Unspecified(), nil) {
		t.Error("IP does not follow its file")
	}
	if !pword.Check(netip.Addr{}, credentials("alice", "password")) || pword.Proves(credentials("alice", "x")) != "alice" || pword.CredentialBytes != 40 || !pword.Answer {
		t.Error("PWORD does not follow its file")
	}
	// The working directory comes first; a file that is named is the only one.
	write(t, filepath.Join(here, "spread.access_ip"), "unix\n")
	if a, err := load("AllowedAuthMethods = IP"); err != nil || a.NetworksFile != "spread.access_ip" || a.Methods[0].Check(netip.MustParseAddr("127.0.0.1"), nil) {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := load("AllowedAuthMethods = IP AccessIPFile = nowhere"); err == nil || !strings.Contains(err.Error(), "f:2: error: authentication method IP: open nowhere") {
		t.Error(err)
	}
	write(t, filepath.Join(here, "bad"), "lokal\n")
	if _, err := load("AllowedAuthMethods = IP AccessIPFile = bad"); err == nil || !strings.Contains(err.Error(), "bad:1:1: error:") {
		t.Error(err)
	}
	if a, err := load("AccessControlPolicy = DENY"); err != nil || a.Rules == nil || !a.Rules.Deny {
		t.Errorf("%+v, %v", a, err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(filepath.Join(here, "spread.access_pword"), 0o644); err != nil {
			t.Fatal(err)
		}
		if a, err := load("AllowedAuthMethods = PWORD"); err != nil || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0].Text, "can read the hashes (mode 0644)") {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

// TestReadLoadsAccess: what a daemon calls first reports mistakes in access files together with all others, and the report
// says which files are in use.
func TestReadLoadsAccess(t *testing.T) {
	here, _ := inDir(t)
	write(t, filepath.Join(here, "c.conf"), "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\nWindow = 0\nAllowedAuthMethods = IP\n")
	_, err := Read("c.conf", nil, env(nil), hostAlpha)
	if err == nil || !strings.Contains(err.Error(), "out of range") || !strings.Contains(err.Error(), "needs the file spread.access_ip") {
		t.Errorf("got %v", err)
	}
	write(t, filepath.Join(here, "c.conf"), "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\nAllowedAuthMethods = IP\n")
	write(t, filepath.Join(here, "spread.access_ip"), "10.0.0.1/8\n")
	c, err := Read("c.conf", nil, env(nil), hostAlpha)
	if err != nil || c.Access == nil || len(c.Warnings) != 1 {
		t.Fatalf("%v %v", err, c.Warnings)
	}
	var b strings.Builder
	if err := NewReport(&c, nil).WriteText(&b, TextOptions{Origin: true}); err != nil {
		t.Fatal(err)
	}
	fields := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{"AccessIPFile decided: found there spread.access_ip", "spread.access_ip:1:1: warning"} {
		if !strings.Contains(fields, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestAuthFlags: flags replace the lists of the file.
func TestAuthFlags(t *testing.T) {
	file := mustParse(t, "Spread_Segment unicast { a 10.0.0.1 }\nAllowedAuthMethods = NULL\n")
	c, err := Assemble(&file, flags(t, "--allowed-auth", "IP,NULL", "--required-auth", "IP", "--access-ip", "x", "--access-policy", "DENY",
		"--unix-mode", "0660", "--unix-group", "wheel"), env(nil), hostAlpha)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Auth; strings.Join(got.Allowed, " ") != "IP NULL" || strings.Join(got.Required, " ") != "IP" || got.NetworksFile != "x" || got.Policy != "DENY" {
		t.Errorf("%+v", got)
	}
	if c.Local.UnixMode != 0o660 || c.Local.UnixGroup != "wheel" {
		t.Errorf("%+v", c.Local)
	}
}
