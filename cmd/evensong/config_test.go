// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigCommand runs the commands as a user would and checks what they print and with which status they end.
func TestConfigCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"good.conf":  "Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.2 }\nDebugInitialSequence\n",
		"other.conf": "Spread_Segment 10.0.0.255 { b 10.0.0.2\n a 10.0.0.1 }\n",
		"rules.conf": "Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.2 }\nWindow = 90\nDaemonUser = evensong\nEventTimeStamp\nAccessRules {\n deny join group=x\n}\n",
		"bad.conf":   "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\nWidnow = 1\nTokenTimeout = x\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("EVENSONG_CLUSTER", "choir")
	for _, row := range []struct {
		args   string
		status int
		want   []string
	}{
		{"check good.conf", 0, []string{"good.conf:3:1: warning: accepted without effect", "2     b       10.0.0.2:4803", "no errors, 1 warning"}},
		{"check -c good.conf", 0, []string{"broadcast"}},
		{"check bad.conf", 3, []string{"bad.conf:2:1: error", "did you mean Window?", "bad.conf:3:16: error", "2 errors"}},
		{"check bad.conf --window=0", 3, []string{"bad.conf:2:1: error", "--window: error", "3 errors"}},
		{"check missing.conf", 3, []string{"missing.conf"}},
		{"check good.conf -c bad.conf", 2, nil},
		{"check good.conf -o yaml", 2, nil},
		{"show -c good.conf --origin --token-timeout=250ms", 0, []string{"--token-timeout", "250ms", "EVENSONG_CLUSTER", "choir"}},
		{"show good.conf --origin", 0, []string{"2     b       10.0.0.2:4803", "EVENSONG_CLUSTER"}},
		{"show good.conf -c bad.conf", 2, nil},
		{"show --peer=b=10.0.0.2 -n a", 0, []string{"b       10.0.0.2:4803"}},
		{"diff good.conf good.conf", 0, []string{"agree"}},
		{"diff good.conf other.conf", 1, []string{"daemon order differs: a is 1st here, 2nd there"}},
		{"diff good.conf rules.conf", 1, []string{"here: good.conf\nthere: rules.conf\na reload changes at once:\n", "  Window: 90 instead of default (rules.conf:3)\n", "  EventTimeStamp: ",
			"  access rules: 1 instead of 0\na restart changes:\n  DaemonUser: evensong instead of default (rules.conf:4)\n"}},
		{"diff other.conf rules.conf -o json", 1, []string{`"daemon order differs: `, `"at_restart": [`}},
		{"diff good.conf bad.conf", 3, nil},
	} {
		t.Run(row.args, func(t *testing.T) {
			cmd := newConfigCommand()
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetErr(&bytes.Buffer{})
			cmd.SetArgs(strings.Fields(row.args))
			err := cmd.Execute()
			status := 0
			if failure, ok := errors.AsType[configFailure](err); ok {
				status = failure.ExitCode()
			} else if err != nil {
				t.Errorf("error without a status: %v", err)
			}
			if status != row.status {
				t.Errorf("status %d, want %d: %v", status, row.status, err)
			}
			for _, want := range row.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestConfigCheckJSON(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bad.conf")
	if err := os.WriteFile(name, []byte("Spread_Segment 10.0.0.255 { a 10.0.0.1 }\nWidnow = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := newConfigCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"check", "-o", "json", name})
	if err := cmd.Execute(); err == nil {
		t.Error("no error")
	}
	var got struct {
		Valid    bool
		Problems []struct {
			Line, Column         int
			Severity, Text, Hint string
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Valid || len(got.Problems) != 1 || got.Problems[0].Line != 2 || got.Problems[0].Severity != "error" {
		t.Errorf("%v: %s", err, out.String())
	}
}
