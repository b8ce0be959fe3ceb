// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFindRights(t *testing.T) {
	for _, r := range []struct{ user, group, want string }{
		{"no-such-user-here", "", "no-such-user-here"},
		{"nobody", "no-such-group-here", "no-such-group-here"},
		{"root", "", "root itself"},
	} {
		if _, err := FindRights(r.user, r.group); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s:%s: %v", r.user, r.group, err)
		}
	}
	r, err := FindRights("nobody", "")
	if err != nil {
		t.Skip("there is no user nobody: ", err)
	}
	if uid, gid := r.IDs(); uid <= 0 || gid <= 0 {
		t.Errorf("nobody is %d:%d", uid, gid)
	}
}

// TestTakeRights gives up root in a process of its own, which reports what it still can.
func TestTakeRights(t *testing.T) {
	if dir := os.Getenv("EVENSONG_TEST_RIGHTS"); dir != "" {
		r, err := FindRights("65534", "65534")
		if err == nil {
			err = errors.Join(r.TakeDir(filepath.Join(dir, "run")), r.TakeDir(filepath.Join(dir, "shared")), r.TakeDir(filepath.Join(dir, "nowhere")))
		}
		if err == nil {
			err = r.Take(filepath.Join(dir, "state"), filepath.Join(dir, "nowhere"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() != 65534 || os.Getegid() != 65534 {
			t.Errorf("became %d:%d", os.Geteuid(), os.Getegid())
		}
		if err := os.WriteFile(filepath.Join(dir, "state", "number"), []byte("2"), 0o600); err != nil {
			t.Error("what it needs: ", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "run", "socket"), nil, 0o600); err != nil {
			t.Error("the directory of its sockets: ", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "run", "of-root"), nil, 0o600); err == nil {
			t.Error("it has what others have put there")
		}
		if err := os.WriteFile(filepath.Join(dir, "shared", "socket"), nil, 0o600); err == nil {
			t.Error("it was given a directory that others use")
		}
		if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err == nil {
			t.Error("it can still write everywhere")
		}
		if syscall.Setuid(0) == nil {
			t.Error("it can become root again")
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "evensong-rights")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "run"), 0o700), os.Mkdir(filepath.Join(dir, "shared"), 0o755),
		os.WriteFile(filepath.Join(dir, "run", "of-root"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "number"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestTakeRights$", "-test.v")
	cmd.Env = append(os.Environ(), "EVENSONG_TEST_RIGHTS="+dir, "GOCOVERDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
