// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"evensong/client"
	"evensong/internal/proto/frame"
	"evensong/internal/tools/bench"
	"evensong/internal/tools/user"
)

func TestParseSpuser(t *testing.T) {
	start := user.Options{Address: "4803", Name: "user"}
	tests := []struct {
		args string
		want user.Options
		err  string
	}{
		{"", start, ""},
		{"-u bob -s 4804@db1", user.Options{Address: "4804@db1", Name: "bob"}, ""},
		{"-r", user.Options{Address: "4803", Name: "user", Random: true}, ""},
		{"-n me -p secret", user.Options{Address: "4803", Name: "user", Login: "me", Password: "secret"}, ""},
		{"-u", start, "-u needs a value"},
		{"-x", start, `unknown argument "-x"`},
		{"chat", start, `unknown argument "chat"`},
		{"-p secret", start, "-p needs -n"},
	}
	for _, tt := range tests {
		o := start
		_, err := parseSpuser(strings.Fields(tt.args), &o)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%q: %v, want %s", tt.args, err, tt.err)
			}
		} else if err != nil || o != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.args, o, err, tt.want)
		}
	}
}

// refuseUser refuses one session, because its name is taken.
func refuseUser(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		head := make([]byte, 5)
		io.ReadFull(nc, head)
		name := make([]byte, head[4])
		io.ReadFull(nc, name)
		nc.Write([]byte{frame.ErrRejectNotUnique.Byte()})
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func TestSpuserSession(t *testing.T) {
	addr, err := startDaemon(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	status := runSpuser([]string{"-u", "bob", "-s", addr}, strings.NewReader("d\nj chat\nr\nq\n"), &out, &errOut)
	if status != 0 || !strings.Contains(out.String(), "view of chat: you joined; 1 member: #bob#d (you)") || errOut.Len() > 0 {
		t.Errorf("status %d, output %q, errors %q", status, out.String(), errOut.String())
	}
}

func TestSpuserFailures(t *testing.T) {
	tests := []struct {
		args   []string
		status int
		text   string
	}{
		{[]string{"-q"}, 2, "usage: spuser"},
		{[]string{"-s", "nohost"}, 2, "port@host"},
		{[]string{"-u", "much too long"}, 2, "1 to 10 characters"},
		{[]string{"-s", "unix:" + t.TempDir() + "/none"}, 1, "is a daemon running there?"},
		{[]string{"-u", "taken", "-s", refuseUser(t)}, 5, "another name with -u"},
	}
	for _, tt := range tests {
		var out, errOut bytes.Buffer
		status := runSpuser(tt.args, strings.NewReader(""), &out, &errOut)
		if status != tt.status || !strings.Contains(errOut.String(), tt.text) {
			t.Errorf("%q: status %d, want %d; errors %q, want %q in them", tt.args, status, tt.status, errOut.String(), tt.text)
		}
	}
}

func TestUserCommand(t *testing.T) {
	t.Setenv(envUser, "envname")
	addr, err := startDaemon(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envServer, addr)
	cmd := newUserCommand()
	var out bytes.Buffer
	cmd.SetArgs([]string{}) // nil would be those of the test
	cmd.SetIn(strings.NewReader("d\nj chat\nr\n"))
	cmd.SetOut(&out)
	if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "#envname#d (you)") {
		t.Errorf("%v, output %q", err, out.String())
	}

	cmd = newUserCommand()
	cmd.SilenceErrors = true
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"-u", "taken", "-s", refuseUser(t)})
	err = cmd.Execute()
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || !errors.Is(err, client.ErrNotUnique) {
		t.Errorf("name in use: %v", err)
	}
}

// TestUserStopped: SIGINT, which ends the context, ends it as q does, whoever waits.
func TestUserStopped(t *testing.T) {
	addr, err := startDaemon(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-s", addr}, {"--flush", "-s", addr}} {
		ctx, stop := context.WithCancel(t.Context())
		in, typed := io.Pipe()
		shown, out := io.Pipe()
		cmd := newUserCommand()
		cmd.SetArgs(args)
		cmd.SetIn(in)
		cmd.SetOut(out)
		cmd.SetErr(out)
		done := make(chan error, 1)
		go func() {
			done <- cmd.ExecuteContext(ctx)
			out.Close()
		}()
		var text strings.Builder
		lines := bufio.NewScanner(shown)
		for lines.Scan() {
			text.WriteString(lines.Text() + "\n")
			if strings.HasPrefix(lines.Text(), "connected") {
				stop()
			}
		}
		if err := <-done; err != nil || !strings.HasSuffix(text.String(), "\nbye\n") {
			t.Errorf("%q: %v, output %q", args, err, text.String())
		}
		typed.Close()
		stop()
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, cmd := range []*cobra.Command{newUserCommand(), newSubCommand(), newJoinCommand()} {
		if args := []string{"-s", addr}; cmd.Name() == "user" {
			cmd.SetArgs(args)
		} else {
			cmd.SetArgs(append(args, "chat"))
		}
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(stopped); err != nil {
			t.Errorf("%s, stopped before it was connected: %v", cmd.Name(), err)
		}
	}
}

// TestFloodWaits: who waits for members of other programs says so, also where there is no terminal.
func TestFloodWaits(t *testing.T) {
	addr, err := startDaemon(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	shown, errOut := io.Pipe()
	cmd := newFloodCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"-s", addr, "--members", "2"})
	cmd.SetOut(io.Discard)
	cmd.SetErr(errOut)
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		errOut.Close()
	}()
	lines := bufio.NewScanner(shown)
	for lines.Scan() {
		if want := `waiting: 1 of 2 members in group flooder; start the others, for example another "flood --members 2"`; lines.Text() != want {
			t.Errorf("said %q, want %q", lines.Text(), want)
		}
		stop()
	}
	if err := <-done; err == nil || err.Error() != "interrupted with 1 of 2 members in group flooder" {
		t.Error(err)
	}
}

// TestFloodAsksDaemons: with --for the daemons' figures are in the report, as in that of bench.
func TestFloodAsksDaemons(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ring, err := bench.StartRing(ctx, 1, func() *exec.Cmd { return exec.Command("evensong", "bench", ringDaemonName) })
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	code, out, errs := evensong("flood", "-s", ring.Servers[0], "--admin", ring.Admin[0], "--for", "50ms", "--rate", "200")
	if code != 0 || strings.Contains(out, "no figures of the daemons") || strings.Contains(out, "+ ? µs") || !strings.Contains(out, "daemons d1,") {
		t.Errorf("%d, %s%s", code, out, errs)
	}
	if code, _, errs := evensong("flood", "--admin", ring.Admin[0]); code != exitUsage || !strings.Contains(errs, "--admin goes with --for DURATION") {
		t.Errorf("without --for: %d, %s", code, errs)
	}
}

// TestValuesHaveNames: the help of the commands of clients says what a flag takes, not of which type it is.
func TestValuesHaveNames(t *testing.T) {
	for _, cmd := range append(toolCommands(), newUserCommand(), newDevCommand()) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if what, _ := pflag.UnquoteUsage(f); f.Value.Type() != "bool" && what != strings.ToUpper(what) {
				t.Errorf("%s: --%s %s", cmd.Name(), f.Name, what)
			}
		})
	}
}

// TestSessionHelp: the help of every command with a session tells of both dialects.
func TestSessionHelp(t *testing.T) {
	for _, name := range []string{"user", "pub", "sub", "join", "flood", "bench", "bench membership"} {
		_, out, _ := evensong(append(strings.Fields(name), "--help")...)
		for _, flag := range []string{"--server ADDRESS", "--user NAME"} {
			_, line, _ := strings.Cut(out, flag)
			if line, _, _ = strings.Cut(line, "\n"); !strings.Contains(line, "evensong://") {
				t.Errorf("%s: %s%s", name, flag, line)
			}
		}
	}
	for _, name := range []string{"spuser", "flush_user", "spflooder"} {
		var out, errs bytes.Buffer
		if run([]string{name, "-h"}, strings.NewReader(""), &out, &errs); !strings.Contains(out.String()+errs.String(), "evensong://") {
			t.Errorf("%s -h: %s%s", name, out.String(), errs.String())
		}
	}
}
