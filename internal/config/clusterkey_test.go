// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"evensong/internal/seal"
)

// TestKeyFile: what is a file of keys, and what is said of one that is none, without its content.
func TestKeyFile(t *testing.T) {
	t.Chdir(t.TempDir())
	const one, two = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
	for i, row := range []struct {
		text string
		keys int
		want string // of the error; empty: none
	}{
		{one, 1, ""},
		{"# the key\n\n  " + one + "  # since spring\n" + two + "\n", 2, ""},
		{"", 0, `key:1:1: error: there is no key in the file`},
		{"# only words\n", 0, `key:1:1: error: there is no key in the file`},
		{one + "\nsecret!\n", 0, `key:2:1: error: no key: want 32 bytes as 64 hexadecimal digits or in base64`},
		{one[:62], 0, `key:1:1: error: a key of 31 bytes: want 32`},
		{one + one, 0, `key:1:1: error: a key of 64 bytes: want 32, as 64 hexadecimal digits or in base64; each key stands on a line of its own; "evensong config key`},
		{strings.Repeat("0", 64), 0, `key:1:1: error: this is no key: all its bytes are the same`},
		{one + "\n" + one, 0, `key:2:1: error: the key`},
		{one + "\n" + two + "\n" + strings.Repeat("01", 31) + "02\n" + strings.Repeat("01", 31) + "03\n" + strings.Repeat("01", 31) + "04\n", 0, `key:5:1: error: 5 keys: want at most 4`},
		{one + " " + two, 0, `key:1:1: error: no key`},
		{"\x00", 0, `the file holds zero bytes`},
	} {
		os.Remove("key")
		if err := os.WriteFile("key", []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Parse("test.conf", []byte("Spread_Segment unicast { a 10.0.0.1 }\nClusterKeyFile = key\n"))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := LoadKeys(&c)
		switch {
		case row.want == "" && (err != nil || len(keys.IDs()) != row.keys):
			t.Errorf("row %d: keys %v, error %v; want %d keys", i, keys, err, row.keys)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("row %d: error %v, want %s", i, err, row.want)
		case err != nil && (strings.Contains(err.Error(), one) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), two)):
			t.Errorf("row %d: the error tells what is in the file: %v", i, err)
		}
	}
}

// A file that is not there, or that others can read, is an error with its place and what to do.
func TestKeyFileRefused(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte(strings.Repeat("01", 31)+"02"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		filepath.Join(dir, "none"): {"test.conf:2:", "no such file", "evensong config key FILE"},
		dir:                        {"test.conf:2:", "is a directory"},
		open:                       {"test.conf:2:", "others can read or write it (mode 0640)", "chmod 600"},
	} {
		if runtime.GOOS == "windows" && path != dir {
			continue // other words, and no modes
		}
		c, err := Parse("test.conf", []byte("Spread_Segment unicast { a 10.0.0.1 }\nClusterKeyFile = \""+path+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := LoadKeys(&c)
		problems, ok := errors.AsType[Problems](err)
		if keys != nil || !ok || len(problems) != 1 {
			t.Fatalf("%s: %v, %v", path, keys, err)
		}
		for _, part := range want {
			if s := problems[0].String() + problems[0].Hint; !strings.Contains(s, part) {
				t.Errorf("%s: %s; want %q in it", path, s, part)
			}
		}
	}
}

// What sealing needs is taken off the packets, of which enough must be left.
func TestKeyFileNeedsRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Repeat("01", 31)+"02"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{"555": "test.conf:2: error: PacketBytes of 555 leaves too little room: sealing takes 44 bytes", "556": "", "65507": ""} {
		c, err := Parse("test.conf", []byte("Spread_Segment unicast { a 10.0.0.1 }\nPacketBytes = "+n+"\nClusterKeyFile = \""+path+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeys(&c); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", n, err, want)
		}
	}
}

// Of keys a reload changes which they are, and not whether there are any.
func TestKeysThatChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "ClusterKeyFile = \"" + path + "\"\n"
	}
	key := strings.Repeat("01", 31) + "02\n"
	one, same, both := at("one", key), at("same", key), at("both", strings.Repeat("01", 31)+"03\n"+key)
	read := func(line string) *Config {
		c, err := Parse("test.conf", []byte("Spread_Segment unicast { a 10.0.0.1 }\n"+line))
		if err != nil {
			t.Fatal(err)
		}
		if c.Keys, err = LoadKeys(&c); err != nil {
			t.Fatal(err)
		}
		return &c
	}
	for _, row := range []struct {
		now, next       string
		atOnce, restart int
	}{
		{one, one, 0, 0},
		{"", one, 0, 1},
		{one, "", 0, 1},
		{one, same, 1, 0},
		{one, both, 2, 0},
	} {
		atOnce, restart := 0, 0
		for _, c := range Changes(read(row.now), read(row.next), "a") {
			if c.Restart {
				restart++
			} else {
				atOnce++
			}
		}
		if atOnce != row.atOnce || restart != row.restart {
			t.Errorf("%q to %q: %d changes at once and %d at a restart, want %d and %d", row.now, row.next, atOnce, restart, row.atOnce, row.restart)
		}
	}
}

// FuzzKeyFile: whatever is in a file, it is keys or has problems, and these do not tell what is in it.
func FuzzKeyFile(f *testing.F) {
	key := strings.Repeat("01", 31) + "02"
	for _, text := range []string{"", "# c\n" + key + " # x\nAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n", key + "\n" + key, key[:40] + "\n", "\ufeff" + key, "\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, problems := parseKeys("f", data)
		if (keys == nil) != (problems.Errors() > 0) {
			t.Fatalf("keys %v with problems %v", keys, problems)
		}
		if keys != nil && (len(keys.IDs()) == 0 || len(keys.IDs()) > seal.MaxKeys) {
			t.Fatalf("%d keys", len(keys.IDs()))
		}
		for _, word := range strings.Fields(string(data)) {
			if len(word) >= 40 && strings.Contains(problems.Error(), word) {
				t.Fatalf("a problem tells what is in the file: %v", problems)
			}
		}
	})
}
