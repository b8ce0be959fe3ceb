// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evensong/internal/tools/monitor"
)

// evensong runs the program with arguments and returns its exit status and what it wrote.
func evensong(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append([]string{"evensong"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestAdminUsage: exit status and sentence of what can be wrong before a daemon is asked.
func TestAdminUsage(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"status", exitFailure, "no daemon has an admin socket in " + dir},
		{"status -o yaml", exitUsage, `unknown output format "yaml"`},
		{"status extra", exitUsage, `takes no arguments, and has "extra"`},
		{"status --timeout 0s", exitUsage, "--timeout 0s"},
		{"members --admin x", exitUsage, `"x" is no daemon`},
		{"groups a b", exitUsage, `at most 1 argument, and has 2: "b" is too many; usage: evensong groups [NAME]`},
		{"set window", exitUsage, `"window" is not NAME=VALUE`},
		{"set window=0", exitUsage, "want a positive number"},
		{"set windw=5", exitUsage, "choose window, personal-window"},
		{"drain", exitFailure, "no daemon has an admin socket"},
		{"monitor partition a,,b", exitUsage, "such as a,b/c"},
		{"monitor partition", exitUsage, "needs 1 argument, and has 0; usage: evensong monitor partition COMPONENTS"},
		{"monitor flow --window -1", exitUsage, "want a positive number"},
		{"monitor close x", exitUsage, "no number of a session"},
		{"monitor partitoin a", exitUsage, "did you mean partition?"},
		{"completion tcsh", exitUsage, "choose bash, zsh, fish or powershell"},
	} {
		args := strings.Fields(row.args)
		if args[0] != "completion" {
			args = append(args, "--runtime-dir", dir)
		}
		code, _, stderr := evensong(args...)
		if code != row.code || !strings.Contains(stderr, row.want) {
			t.Errorf("evensong %s: %d %q; want %d %q", row.args, code, stderr, row.code, row.want)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range shells {
		code, out, stderr := evensong("completion", shell)
		if code != 0 || !strings.Contains(out, "evensong") || stderr != "" {
			t.Errorf("completion %s: %d, %d bytes, %s", shell, code, len(out), stderr)
		}
	}
	// Of alpha one socket is in use and one was left behind, nobody has gamma's, and two daemons are called beta.
	dir := t.TempDir()
	for _, name := range []string{"alpha-1.admin", "gamma-1.admin"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"alpha-2.admin", "beta-1.admin", "beta-2.admin"} {
		ln, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.NotFoundHandler()}
		go s.Serve(ln)
		defer s.Close()
	}
	// What the scripts of the shells call.
	for args, want := range map[string]string{
		"status --runtime-dir " + dir + " --admin ": "alpha\n" + filepath.Join(dir, "beta-1.admin") + "\n" + filepath.Join(dir, "beta-2.admin") + "\n:4\n",
		"status -o ":         "table\njson\n",
		"set ":               "window=\n",
		"set log-level=":     "log-level=debug\n",
		"monitor ":           "partition\t",
		"completion ":        "bash\nzsh\nfish\npowershell\n",
		"groups " + dir:      ":4\n", // no daemon answers: nothing, and no files
		"drain --deadline ":  "30s\n",
		"monitor partition ": ":",
	} {
		_, out, _ := evensong(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if !strings.Contains(out, want) {
			t.Errorf("completion of %q: %q, want %q", args, out, want)
		}
	}
}

func TestParseSpmonitor(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "spread.conf")
	if err := os.WriteFile(conf, []byte("Spread_Segment unicast { a 127.0.0.1 }\nRuntimeDir = /run/here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args string
		want string // part of the error
		name string
		dir  string
		wait time.Duration
	}{
		{"", "", "", "", 0},
		{"-p 6543 -n a -t 3 -c " + conf, "", "a", "/run/here", 3 * time.Second},
		{"-n", "-n needs a value", "", "", 0},
		{"-x", `unknown argument "-x"`, "", "", 0},
		{"-t 0", "seconds from 1", "", "", 0},
		{"-t x", "seconds from 1", "", "", 0},
		{"-p 70000", "port from 0", "", "", 0},
		{"-c " + conf + "x", "-c " + conf + "x", "", "", 0},
	} {
		var r monitor.Reach
		var o monitor.MenuOptions
		_, err := parseSpmonitor(strings.Fields(row.args), &r, &o)
		if (err != nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: %v, want %q", row.args, err, row.want)
			continue
		}
		if err == nil && (strings.Join(r.Admin, " ") != row.name || r.Dir != row.dir || o.Interval != row.wait) {
			t.Errorf("%q: %+v %+v", row.args, r, o)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"/usr/bin/spmonitor", "-z"}, strings.NewReader(""), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "usage: spmonitor") {
		t.Errorf("spmonitor -z: %d %s", code, errs.String())
	}
	t.Setenv(envAdmin, "from-env")
	for _, args := range []string{"", "-n flag"} {
		want := "from-env"
		if args != "" {
			want = "flag"
		}
		out.Reset()
		// The menu goes on after a mistake; what it says about the daemon tells which one it looked for.
		run(append([]string{"spmonitor", "-c", conf}, strings.Fields(args)...), strings.NewReader("0\n9\n"), &out, &errs)
		if !strings.Contains(out.String(), `"`+want+`" is no daemon`) {
			t.Errorf("spmonitor %s with %s: %s", args, envAdmin, out.String())
		}
	}
	t.Setenv(envAdmin, "")
	if code := run([]string{"spmonitor", "-c", conf}, strings.NewReader("9\n"), &out, &errs); code != 0 || !strings.Contains(out.String(), "r  reload") {
		t.Errorf("spmonitor: %d %s %s", code, out.String(), errs.String())
	}
}
