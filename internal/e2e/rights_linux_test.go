// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRightsOfRoot: daemons that root starts with a DaemonUser serve as that user, with no thread left behind, keep their
// state, write their logs, and remove their sockets in the end.
func TestRightsOfRoot(t *testing.T) {
	enabled(t)
	if os.Geteuid() != 0 {
		t.Skip("only root has rights to give up")
	}
	c := makeCluster(t, 2, false)
	if err := os.Chmod(c.dir, 0o1777); err != nil { // as /tmp is
		t.Fatal(err)
	}
	c.conf = filepath.Join(c.dir, "spread.conf")
	key := filepath.Join(c.dir, "cluster.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("Spread_Segment unicast:%d { d1 127.0.0.1 }\nSpread_Segment unicast:%d { d2 127.0.0.1 }\nDaemonUser = nobody\nEventLogFile = \"%s/events-%%h.log\"\nClusterKeyFile = \"%s\"\n",
		c.daemons[0].port, c.daemons[1].port, c.dir, key)
	if err := os.WriteFile(c.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	c.started()
	c.talk(3)
	for _, d := range c.daemons {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.pid()))
		if err != nil || len(tasks) == 0 {
			t.Fatalf("%v threads, %v", len(tasks), err)
		}
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				continue // it has ended
			}
			for line := range strings.Lines(string(b)) {
				f := strings.Fields(line)
				if len(f) == 5 && (f[0] == "Uid:" || f[0] == "Gid:") && (f[1] == "0" || f[2] == "0" || f[3] == "0") {
					t.Errorf("%s: a thread of %s is still root: %s", task, d.name, line)
				}
			}
		}
	}
	// A new configuration needs its number stored, and the log a new file, both by the user.
	c.daemons[1].kill()
	c.flow(c.members[:1], 20*time.Second)
	logs, err := filepath.Glob(filepath.Join(c.dir, "events-*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	if b, err := os.ReadFile(logs[0]); err != nil || !strings.Contains(string(b), "a reload will be refused, because DaemonUser cannot read a file") || !strings.Contains(string(b), key) {
		t.Errorf("the key of root's is not told of: %v\n%s", err, b)
	}
	if err := os.Rename(logs[0], logs[0]+".1"); err != nil {
		t.Fatal(err)
	}
	c.daemons[0].signal(syscall.SIGHUP)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(logs[0]); len(b) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no new log")
		}
	}
	c.daemons[0].signal(syscall.SIGTERM)
	c.daemons[0].await()
	if _, err := os.Lstat(c.daemons[0].socket()); err == nil {
		t.Error("the socket file is still there")
	}
}
