// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestUnixSocketOwner: the group is that of the configuration, by number or name, and one that does not exist is said.
func TestUnixSocketOwner(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no groups of files")
	}
	forEachLoop(t, func(t *testing.T, cfg Config) {
		path := filepath.Join(t.TempDir(), "4803")
		cfg.Unix, cfg.UnixMode, cfg.UnixGroup = []string{path}, 0o660, strconv.Itoa(os.Getgid())
		h := start(t, cfg, &echo{})
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		h.Close()
		cfg.UnixGroup = "there is no such group"
		if h, err := Start(cfg, func(Boot) (Machine, error) { return &echo{}, nil }); !errors.Is(err, ErrBind) {
			t.Errorf("%v", err)
			if err == nil {
				h.Close()
			}
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("a socket is left")
		}
	})
}

// TestUserOfUnixSocket: the machine learns who is at the other end, before any byte, and nothing for TCP.
func TestUserOfUnixSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	forEachLoop(t, func(t *testing.T, cfg Config) {
		path := filepath.Join(t.TempDir(), "s")
		cfg.Unix = []string{path}
		m := &echo{}
		h := start(t, cfg, m)
		for network, addr := range map[string]string{"unix": path, "tcp": h.ListenAddrs()[0].String()} {
			c, err := net.Dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			b := []byte("x")
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(b); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		var users []uint32
		if err := h.Do(context.Background(), func(time.Duration) { users = slices.Clone(m.users) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(users, []uint32{uint32(os.Getuid())}) {
			t.Errorf("users %v, want %d", users, os.Getuid())
		}
	})
}
