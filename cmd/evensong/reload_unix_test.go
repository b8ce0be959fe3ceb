// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// safeBuffer is a bytes.Buffer for two goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestHangupReloads: SIGHUP has a daemon read its file again, from wherever it is; a bad file is refused and stops nobody.
func TestHangupReloads(t *testing.T) {
	dir, err := os.MkdirTemp("", "evensong") // not t.TempDir, whose paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Chdir(dir)
	write := func(more string) {
		if err := os.WriteFile("spread.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }\n"+more), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	var log safeBuffer
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	cancel, ended := serveInside(t, &log, "-n", "a", "-c", "spread.conf", "--unix-socket", filepath.Join(dir, "s"), "--admin-socket", "none")
	defer cancel()
	until := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return strings.Contains(log.String(), want) })
	}
	hangup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(`"msg":"ready"`)
	write("Window = ")
	hangup()
	until("configuration not reloaded; the one in force stays")
	until("spread.conf:2")
	write("Window = 77\n")
	hangup()
	until("Window: 77 instead of default")
	until(`"msg":"configuration reloaded","changed":1,"restart":0`)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
