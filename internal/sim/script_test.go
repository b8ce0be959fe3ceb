// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts runs the schedules of testdata/scripts. Those named p.. are the pitfalls of docs/guarantees.md, section 9.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			r, err := RunScript(string(text), &log)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				name := filepath.Join(t.ArtifactDir(), "events.txt")
				if err := os.WriteFile(name, []byte(log.String()), 0o644); err == nil {
					t.Logf("events: %s (go test -artifacts keeps it)", name)
				}
			}
			if testing.Verbose() {
				t.Log(log.String())
			}
			_ = r
		})
	}
}

// TestScriptErrors: what is wrong with a script is said with its line.
func TestScriptErrors(t *testing.T) {
	const head = "daemons a b\nclients x@a\nstart all\nuntil conf a b\nadvance 100ms\n"
	for _, x := range []struct{ text, want string }{
		{"fly a\n", "line 1: fly a: no such command"},
		{"daemons a timeout=soon\n", "line 1:"},
		{head + "crash z\n", `no daemon is called "z"`},
		{head + "send x nowhere agreed\n", `no group is called "nowhere"`},
		{head + "send x g urgent\n", `no service is called "urgent"`},
		{head + "drop pigeon a b 1\n", `no kind of packet is called "pigeon"`},
		{head + "on token a in bed do crash a\n", `no state is called "bed"`},
		{head + "expect conf a = a\n", "a has [a b]"},
		{head + "until received x 1 within 10ms\n", "not within 10ms: x has 0"},
		{head + "expect violation EVS-15\n", "no violation of EVS-15"},
	} {
		if _, err := RunScript(x.text, nil); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("script %q: got error %v, want one with %q", x.text, err, x.want)
		}
	}
}
