// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestChanges: what differs between two files is said in a sentence each, and whether it needs a restart.
func TestChanges(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		c, err := Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	const base = "Spread_Segment unicast { a 10.0.0.1\n b 10.0.0.2 }\n"
	const three = "Spread_Segment unicast { a 10.0.0.1\n b 10.0.0.2\n c 10.0.0.3 }\n"
	for _, x := range []struct {
		now, next string
		want      []string // ! before what needs a restart
	}{
		{base, base + "# nothing", nil},
		{base, base + "Window = 50", []string{"Window: 50 instead of default (f:3)"}},
		{base + "Window = 50", base, []string{"Window: default instead of 50"}},
		{base, base + "RuntimeDir = /run/x", []string{"!RuntimeDir: /run/x instead of default (f:3)"}},
		{base, "Spread_Segment unicast { b 10.0.0.2\n a 10.0.0.1 }\n", []string{"!rank"}},
		{base, "Spread_Segment unicast { a 10.0.0.1\n b 10.0.0.3 }\n", []string{"daemon b is at 10.0.0.3:4803 instead of 10.0.0.2:4803"}},
		{base, "Spread_Segment unicast { a 10.0.0.9\n b 10.0.0.2 }\n", []string{"!daemon a is at 10.0.0.9:4803 instead of 10.0.0.1:4803"}},
		{base, "Spread_Segment unicast { a 10.0.0.1\n c 10.0.0.2 }\n", []string{"daemon c is new, at 10.0.0.2:4803", "daemon b is removed"}},
		{base, base + "PrimaryRule = majority", []string{"PrimaryRule: majority instead of default (f:3)"}},
		{three + "PrimaryRule = majority", base + "PrimaryRule = majority", []string{"daemon c is removed"}},
		{three + "PrimaryRule = majority", "Spread_Segment unicast { a 10.0.0.1 }\nPrimaryRule = majority",
			[]string{"!PrimaryRule = majority: a daemon that runs refuses this list", "daemon b is removed", "daemon c is removed"}},
		{base, "Spread_Segment 239.1.1.1:4803 { a 10.0.0.1\n b 10.0.0.2 }\n", []string{"!multicast"}},
	} {
		var got []string
		for _, c := range Changes(parse(x.now), parse(x.next), "a") {
			s := c.Text
			if c.Key == "rank" {
				s = "rank"
			}
			if c.Restart {
				s = "!" + s
			}
			got = append(got, s)
		}
		if !slices.EqualFunc(got, x.want, strings.HasPrefix) {
			t.Errorf("%q to %q: %q, want %q", x.now, x.next, got, x.want)
		}
	}
}

// TestRereader: the same file is read again, by its absolute path, and no other that has appeared since.
func TestRereader(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	old := SearchPath
	SearchPath = []string{"spread.conf"}
	t.Cleanup(func() { SearchPath = old })
	none := func(string) (string, bool) { return "", false }
	name := func() (string, error) { return "a", nil }
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "spread.conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	alone, err := Read("", nil, none, name)
	if err != nil {
		t.Fatal(err)
	}
	again := alone.Rereader(nil, none, name)
	write("Spread_Segment unicast { a 10.0.0.1 }\nWindow = 50\n")
	if c, err := again(); err != nil || c.Source != "" || c.Ring.Global != 0 {
		t.Errorf("without a file: %q, window %d, %v", c.Source, c.Ring.Global, err)
	}
	c, err := Read("", nil, none, name)
	if err != nil || c.Source != "spread.conf" {
		t.Fatal(c.Source, err)
	}
	again = c.Rereader(nil, none, name)
	write("Spread_Segment unicast { a 10.0.0.1 }\nWindow = 60\n")
	t.Chdir(t.TempDir())
	if c, err := again(); err != nil || c.Ring.Global != 60 {
		t.Errorf("elsewhere: window %d, %v", c.Ring.Global, err)
	}
	write("Window = ")
	if _, err := again(); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "spread.conf")+":1") {
		t.Errorf("a bad file: %v", err)
	}
	if _, err := (&Config{Source: stdinName}).Rereader(nil, none, name)(); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Errorf("standard input: %v", err)
	}
}
