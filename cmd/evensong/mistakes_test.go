// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"evensong/internal/tools/bench"
)

// TestMistyped: what is said of commands, flags and values that were mistyped. Nothing is asked of a daemon.
func TestMistyped(t *testing.T) {
	for _, row := range []struct {
		args string
		want string // the first line behind the program's name
	}{
		{"statsu", `there is no command "evensong statsu"; did you mean status?`},
		{"serv", `there is no command "evensong serv"; did you mean serve?`},
		{"server -n a", `there is no command "evensong server"; did you mean serve?`},
		{"server --name=a -c spread.conf", `there is no command "evensong server"; did you mean serve?`},
		{"send g x", `there is no command "evensong send"; did you mean pub?`},
		{"nothing -n a", `there is no command "evensong nothing"`},
		{"monitor partitoin a/b --lease 3s", `there is no command "evensong monitor partitoin"; did you mean partition?`},
		{"config mistakes.go", `there is no command "evensong config mistakes.go"; did you mean check mistakes.go?`},
		{"config spread.conf", `there is no command "evensong config spread.conf"`},
		{"bench membershp", `there is no command "evensong bench membershp"; did you mean membership?`},
		{"help statsu", `there is no command "evensong statsu"; did you mean status?`},
		{"help monitor partitoin", `there is no command "evensong monitor partitoin"; did you mean partition?`},
		{"help status extra", `there is no command "evensong status extra"`},
		{"status --admn x", `"evensong status" has no flag --admn; did you mean --admin?`},
		{"status --admin-t x", `"evensong status" has no flag --admin-t; did you mean --admin-tls or --admin-token-file?`},
		{"status -admin x", `"evensong status" has no flag -a (in -admin); did you mean --admin?`},
		{"publish g x", `there is no command "evensong publish"; did you mean pub?`},
		{"subscribe g", `there is no command "evensong subscribe"; did you mean sub?`},
		{"status -x", `"evensong status" has no flag -x`},
		{"status --=x", `"evensong status" has no flag --=x; a flag is --NAME or --NAME=VALUE, and -- ends the flags`},
		{"serve --nam x", `"evensong serve" has no flag --nam; did you mean --name?`},
		{"status --timeout", `--timeout needs a value: --timeout DURATION`},
		{"status -o", `-o, --output needs a value: --output FORMAT`},
		{"status --timeout 5", `--timeout "5": want a duration with its unit, such as 5s or 5ms`},
		{"status --timeout soon", `--timeout "soon": want a duration with its unit, such as 300ms, 5s or 1m30s`},
		{"status --all=perhaps", `--all "perhaps": want true or false`},
		{"bench membership --size x", `--size "x": want a whole number`},
		{"bench membership --size 99999999999999999999", `--size "99999999999999999999": this number is too large`},
		{"sim --seed -1", `--seed "-1": want a whole number that is not negative`},
		{"pub --rate x g", `--rate "x": want a number`},
		{"status a", `"evensong status" takes no arguments, and has "a"; usage: evensong status [flags]; --admin chooses a daemon`},
		{"members a", `"evensong members" takes no arguments, and has "a"; usage: evensong members [flags]; "evensong groups a" lists the members of a group; --admin chooses a daemon`},
		{"version a", `"evensong version" takes no arguments, and has "a"; usage: evensong version [flags]`},
		{"config diff a", `"evensong config diff" needs 2 arguments, and has 1; usage: evensong config diff FILE FILE [flags]`},
		{"monitor partition a b", `"evensong monitor partition" takes 1 argument, and has 2: "b" is too many; usage: evensong monitor partition COMPONENTS [flags]`},
		{"monitor partition --all", `"evensong monitor partition" needs 1 argument, and has 0; usage: evensong monitor partition COMPONENTS [flags]; a,b/c cuts c off from a and b, a/b/c each from all others`},
	} {
		code, stdout, stderr := evensong(strings.Fields(row.args)...)
		first, next, _ := strings.Cut(stderr, "\n")
		if code != exitUsage || stdout != "" || first != "evensong: "+row.want || !strings.HasPrefix(next, "Try \"evensong ") {
			t.Errorf("evensong %s: %d\n%swant %s", row.args, code, stderr, row.want)
		}
	}
	if code, out, stderr := evensong("help", "monitor", "partition"); code != 0 || !strings.Contains(out, "--lease") || stderr != "" {
		t.Errorf("help of a command: %d %s %s", code, out, stderr)
	}
}

// TestBadValues: values that are of the right type and make no sense. Nothing is asked of a daemon.
func TestBadValues(t *testing.T) {
	for args, want := range map[string]string{
		"sub --count 0 g":                  "--count 0: want at least 1",
		"sub --timeout -3s g":              "--timeout -3s: want a positive duration, such as 10s",
		"status --interval -1s":            "--interval -1s: want a positive duration, such as 10s",
		"monitor partition a/b --lease 0s": "--lease 0s: want a positive duration, such as 1m",
		"dev --for 0s":                     "--for 0s: want a positive duration, such as 10s",
		"dev --port 0":                     "--port 0: want 1 to 65535",
		"dev --port 99999":                 "--port 99999: want 1 to 65535",
		"flood --senders 0":                "--senders 0: want at least 1",
		"flood -s a -s b --senders 1":      "1 sender for 2 servers: some would have none; want a sender for each at least",
		"bench -s a -s b --senders 1":      "1 sender and 0 receivers for 2 servers: some would have none; want a session for each at least",
		"bench --senders 0":                "--senders 0: want at least 1",
		"flood --for 0":                    "--for 0s: want a positive duration, such as 8h",
	} {
		code, stdout, stderr := evensong(strings.Fields(args)...)
		if first, _, _ := strings.Cut(stderr, "\n"); code != exitUsage || stdout != "" || first != "evensong: "+want {
			t.Errorf("evensong %s: %d\n%swant %s", args, code, stderr, want)
		}
	}
}

// TestFloodLines: the first line does not count what came while the flood warmed up, whether something was told meanwhile or not.
func TestFloodLines(t *testing.T) {
	start := time.Now()
	at := func(elapsed time.Duration, received uint64) (bench.Progress, time.Time) {
		return bench.Progress{Elapsed: elapsed, Received: received, Rate: 500}, start.Add(elapsed)
	}
	for warm, first := range map[time.Duration]uint64{-100 * time.Millisecond: 200, 50 * time.Millisecond: 350, 200 * time.Millisecond: 500} {
		l, text := floodLines{every: 200 * time.Millisecond, receivers: 2}, ""
		for elapsed, received := warm, first; elapsed <= 800*time.Millisecond; elapsed, received = elapsed+50*time.Millisecond, received+50 {
			text += l.line(at(elapsed, received))
		}
		want := ""
		for _, s := range []string{"0.2", "0.4", "0.6", "0.8"} {
			want += "     " + s + " s         500 messages/s for each receiver\n"
		}
		if text != want {
			t.Errorf("first told at %v:\n%swant\n%s", warm, text, want)
		}
	}
}

// TestDevPortTaken: the next step stands below the reason.
func TestDevPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv(envRuntimeDir, t.TempDir())
	_, port, _ := net.SplitHostPort(l.Addr().String())
	code, _, stderr := evensong("dev", "--port", port, "--for", "1s")
	if code != exitBind || !strings.Contains(stderr, "in use\nchoose another port with --port, or leave it out") {
		t.Errorf("%d %s", code, stderr)
	}
}

// TestNoTextOfLibraries: no command answers too many arguments, or a value of the wrong type, in the words of a library.
func TestNoTextOfLibraries(t *testing.T) {
	foreign := []string{"accepts ", "unknown command", "invalid argument", "strconv", "missing unit", "parse error"}
	check := func(args ...string) {
		_, _, stderr := evensong(args...)
		for _, text := range foreign {
			if strings.Contains(stderr, text) {
				t.Errorf("evensong %s: %s", strings.Join(args, " "), stderr)
			}
		}
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		if cmd.Args != nil { // who takes any number has rules of its own
			if err := cmd.Args(cmd, []string{"a", "b", "c"}); err != nil {
				check(append(path, "a", "b", "c")...)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			switch f.Value.Type() {
			case "duration", "int", "uint64", "float64", "bool":
				check(append(path, "--"+f.Name+"=x")...)
			}
		})
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand())
}

// TestRuntimeDirTold: help and documents tell the same about the runtime directory.
func TestRuntimeDirTold(t *testing.T) {
	const truth = "evensong in $XDG_RUNTIME_DIR, else /run/evensong for root and its owner on Linux, else evensong-UID in the directory for temporary files"
	texts := map[string]string{}
	for _, command := range []string{"serve", "status", "config show"} {
		_, texts[command], _ = evensong(append(strings.Fields(command), "--help")...)
	}
	for _, name := range []string{"configuration.md", "monitor.md"} {
		b, err := os.ReadFile(filepath.Join("../../docs/operations", name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(b)
	}
	for name, text := range texts {
		if !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(text, "`", "")), " "), truth) {
			t.Errorf("%s does not say: %s", name, truth)
		}
	}
}

// TestRuntimeDirVariable: commands look where daemons with the same environment put their sockets.
func TestRuntimeDirVariable(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(envRuntimeDir, dir)
	if _, _, stderr := evensong("status"); !strings.Contains(stderr, "no daemon has an admin socket in "+dir) {
		t.Errorf("status: %s", stderr)
	}
}

// TestSpreadMistyped: under the name spread, too, no library speaks to the user.
func TestSpreadMistyped(t *testing.T) {
	for args, want := range map[string]string{
		"-x":      `spread: unknown argument "-x"`,
		"extra":   `spread: unknown argument "extra"`,
		"-n":      "spread: -n needs a value",
		"-n a -l": "spread: -l needs a value",
		"-l=x":    `spread: -l "x": want y or n`,
	} {
		var errs bytes.Buffer
		code := run(append([]string{"spread"}, strings.Fields(args)...), strings.NewReader(""), io.Discard, &errs)
		if first, rest, _ := strings.Cut(errs.String(), "\n"); code != exitUsage || first != want || rest != spreadUsage {
			t.Errorf("spread %s: %d\n%s", args, code, errs.String())
		}
	}
	var name, path, record string
	if help, err := parseSpread([]string{"-n", "a", "-c=f", "-l", "y"}, &name, &path, &record); help || err != nil || name != "a" || path != "f" || record != "y" {
		t.Errorf("%v %v: %q %q %q", help, err, name, path, record)
	}
	var errs bytes.Buffer
	if code := run([]string{"spread", "-h"}, nil, io.Discard, &errs); code != 0 || errs.String() != spreadUsage {
		t.Errorf("spread -h: %d %s", code, errs.String())
	}
}
