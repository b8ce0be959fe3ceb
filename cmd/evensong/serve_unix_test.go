// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"evensong/internal/host"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// serveInside runs "evensong serve" in this process, on loopback, until cancel is called.
func serveInside(t *testing.T, log io.Writer, args ...string) (cancel func(), ended <-chan error) {
	t.Helper()
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bind := free.LocalAddr().String()
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		cmd := newServeCommand()
		cmd.SetArgs(append(args, "--bind", bind, "--listen", "127.0.0.1:0"))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetErr(log)
		done <- cmd.ExecuteContext(ctx)
	}()
	return cancel, done
}

// TestServiceManager runs a daemon as a service manager would: it is told when the daemon is ready, that it is alive, and
// that it stops; the log is the one that the file asks for, and is opened again at SIGHUP.
func TestServiceManager(t *testing.T) {
	dir, err := os.MkdirTemp("", "evensong") // not t.TempDir, whose paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	said, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "100000")
	hear := func() string {
		b := make([]byte, 100)
		said.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := said.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	conf, log, moved := filepath.Join(dir, "spread.conf"), filepath.Join(dir, "daemon.log"), filepath.Join(dir, "old.log")
	if err := os.WriteFile(conf, []byte(`Spread_Segment unicast { a 127.0.0.1 }
EventLogFile = "`+log+`"
EventTimeStamp = "%Y"
DebugFlags = { PRINT EXIT STATUS }
`), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		b, _ := os.ReadFile(path)
		return string(b)
	}
	cancel, ended := serveInside(t, os.Stderr, "-n", "a", "-c", conf, "--unix-socket", filepath.Join(dir, "s"))
	defer cancel()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := hear(); got != want {
			t.Fatalf("the manager heard %q, want %q\n%s", got, want, read(log))
		}
	}
	if err := os.Rename(log, moved); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new log", func() bool { return strings.Contains(read(log), "log opened again") })
	cancel()
	for hear() != "STOPPING=1" {
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	year := "[" + time.Now().Format("2006") + "] level="
	for _, line := range strings.Split(strings.TrimSpace(read(moved)+read(log)), "\n") {
		if !strings.HasPrefix(line, year) {
			t.Errorf("no time in front of %q", line)
		}
		if strings.Contains(line, "configuration installed") {
			t.Errorf("an event that is not selected: %q", line)
		}
	}
	if !strings.Contains(read(moved), "daemon starts") || !strings.Contains(read(log), "stopping") {
		t.Errorf("before: %s\nafter: %s", read(moved), read(log))
	}
}

// TestServeRefused: a daemon that cannot start says so in its log file as well, behind what was read and why.
// TestDevIntoHead: when nobody reads what dev prints, it ends in order, without its sockets.
func TestDevIntoHead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "evensong", "dev")
	cmd.Env = append(os.Environ(), envRuntimeDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 1))
	out.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestServeRefused(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	conf, log := filepath.Join(dir, "spread.conf"), filepath.Join(dir, "daemon.log")
	if err := os.WriteFile(conf, []byte("Spread_Segment unicast { a 127.0.0.1 }\nEventLogFile = \""+log+"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := evensong("serve", "-n", "a", "-c", conf, "--listen", taken.Addr().String(), "--unix-socket", "none", "--admin-socket", "none")
	said, _ := os.ReadFile(log)
	for _, want := range []string{`"configuration read","file":"` + conf + `","reason":"-c names it"`, `"stopped before it was ready","reason":"cannot bind: `, "choose another with --listen"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("no %q in the log:\n%s", want, said)
		}
	}
	if code != exitBind || !strings.Contains(stderr, "choose another with --listen") {
		t.Errorf("exit status %d: %s", code, stderr)
	}

	// Of several daemons on this machine the first one is meant, and the log names the others.
	if err := os.WriteFile(conf, []byte("Spread_Segment unicast { first-of-two 127.0.0.1 }\nSpread_Segment unicast:4804 { second-of-two 127.0.0.1 }\nEventLogFile = \""+log+"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	evensong("serve", "-c", conf, "--listen", taken.Addr().String(), "--unix-socket", "none", "--admin-socket", "none")
	if said, _ = os.ReadFile(log); !strings.Contains(string(said), `"reason":"this machine could also be second-of-two: `) {
		t.Errorf("the other daemon is not in the log:\n%s", said)
	}
}

// TestPortForbidden: only where a port is not for this user it is told what to do about ports.
func TestPortForbidden(t *testing.T) {
	denied := os.NewSyscallError("bind", syscall.EACCES)
	for want, errs := range map[bool][]error{
		true: {fmt.Errorf("%w: %w", host.ErrBind, &net.OpError{Op: "listen", Net: "tcp4", Err: denied}), fmt.Errorf("%w: listen udp 127.0.0.1:80: %w", host.ErrBind, denied)},
		false: {nil, fmt.Errorf("%w: listen unix /x: %w", host.ErrBind, denied), fmt.Errorf("listen tcp: %w", denied),
			fmt.Errorf("%w: listen udp 127.0.0.1:80: %w", host.ErrBind, syscall.EADDRINUSE)},
	} {
		for _, err := range errs {
			if isPortForbidden(err) != want {
				t.Errorf("%v: %v", err, !want)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	var p progress
	for i, r := range []struct {
		steps  uint64
		moving bool
		well   bool
	}{
		{0, false, true}, {0, false, true}, // alone
		{5, true, true}, {6, true, true}, {6, true, false}, {6, true, false}, // the token stands
		{7, true, true}, {7, false, true}, {7, true, true}, // alone for a while
	} {
		if got := p.well(r.steps, r.moving); got != r.well {
			t.Errorf("look %d: well is %v", i, got)
		}
	}
}
