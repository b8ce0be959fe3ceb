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

// TestDirOfDaemonUser: the user to whom the system's directory was given looks for sockets there, and nobody else does: they
// are told whose it is.
func TestDirOfDaemonUser(t *testing.T) {
	if system := os.Getenv("EVENSONG_TEST_DIR"); system != "" {
		_, _ = os.Stdout.WriteString("dir=" + dir("", system) + "\n")
		_, _ = os.Stdout.WriteString("missing=" + missing("", system).Error() + "\n")
		_, _ = os.Stdout.WriteString("closed=" + missing(system, system).Error() + "\n")
		c := NewClient(filepath.Join(system, "a-4803.admin"), DialOptions{})
		_, err := c.Status(t.Context())
		_, _ = os.Stdout.WriteString("dial=" + err.Error() + "\n")
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
	_, id, _ := strings.Cut(ofUser(system), "(")
	for uid, want := range map[uint32][]string{
		0:     {"dir=" + system, "dial=no daemon answers"},
		65534: {"dir=" + system, "dial=no daemon answers"},
		// Why nothing is found, and what to do: the sockets are those of another user.
		65533: {"dir=" + filepath.Join(os.TempDir(), "evensong-65533"),
			"missing=no daemon has an admin socket in " + os.TempDir() + "/evensong-65533; those of other users are in ", system + " (" + id + "; only the user of a daemon, and root, may ask it",
			"closed=" + system + ", where the admin sockets are, is closed to this user (" + id,
			"dial=the admin socket " + filepath.Join(system, "a-4803.admin") + " is closed to this user (" + id},
	} {
		cmd := exec.Command(copied, "-test.run", "^TestDirOfDaemonUser$", "-test.v")
		cmd.Dir, cmd.Env = "/", []string{"EVENSONG_TEST_DIR=" + system, "TMPDIR=" + os.TempDir()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		for _, w := range want {
			if err != nil || !strings.Contains(string(out), w) {
				t.Errorf("user %d: %v, want %s\n%s", uid, err, w, out)
			}
		}
	}
}
