// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDirOfDaemonUser: the user to whom the system's directory was given looks for sockets there, and nobody else does.
func TestDirOfDaemonUser(t *testing.T) {
	if system := os.Getenv("EVENSONG_TEST_DIR"); system != "" {
		_, _ = os.Stdout.WriteString("dir=" + dir("", system) + "\n")
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	base, err := os.MkdirTemp("", "evensong-dir")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	system, copied := filepath.Join(base, "run"), filepath.Join(base, "test")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self) // the test itself stands where only root can go
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(base, 0o755), os.Mkdir(system, 0o700), os.Chown(system, 65534, 65534), os.WriteFile(copied, program, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uint32]string{0: system, 65534: system, 65533: filepath.Join(os.TempDir(), "evensong-65533")} {
		cmd := exec.Command(copied, "-test.run", "^TestDirOfDaemonUser$", "-test.v")
		cmd.Dir, cmd.Env = "/", []string{"EVENSONG_TEST_DIR=" + system, "TMPDIR=" + os.TempDir()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "dir="+want+"\n") {
			t.Errorf("user %d: %v, want %s\n%s", uid, err, want, out)
		}
	}
}
