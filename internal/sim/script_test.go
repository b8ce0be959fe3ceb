// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts runs the schedules of testdata/scripts. Those named p.. are the pitfalls of docs/guarantees.md, section 9.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			r, err := RunScript(string(text), &log)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				name := filepath.Join(t.ArtifactDir(), "events.txt")
				if err := os.WriteFile(name, []byte(log.String()), 0o644); err == nil {
					t.Logf("events: %s (go test -artifacts keeps it)", name)
				}
			}
			if testing.Verbose() {
				t.Log(log.String())
			}
			_ = r
		})
	}
}
