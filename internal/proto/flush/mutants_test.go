// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A mutant is an error planted in one place of this package: the proof that the model and the checkers find errors of
// its sort. testdata/mutants has one file for each:
//
//	# what is wrong with it
//	killed by RULE ...        any of these kills it; LIVE: the model does not come to rest; INVARIANT: CheckInvariants
//	file NAME
//	--- old                   text that occurs exactly once
//	--- new                   what stands there instead
//	--- end
type mutant struct {
	name, file, old, new string
	kill                 []string
}

func readMutants(t *testing.T) (all []mutant) {
	t.Helper()
	files, _ := filepath.Glob("testdata/mutants/*.txt")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok := strings.Cut(strings.ReplaceAll(string(b), "\r\n", "\n"), "--- old\n")
		m := mutant{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		var ok2, ok3 bool
		m.old, rest, ok2 = strings.Cut(rest, "\n--- new\n")
		m.new, _, ok3 = strings.Cut(rest, "\n--- end\n")
		for line := range strings.Lines(head) {
			switch f := strings.Fields(line); {
			case len(f) > 2 && f[0] == "killed":
				m.kill = f[2:]
			case len(f) == 2 && f[0] == "file":
				m.file = f[1]
			}
		}
		if !ok || !ok2 || !ok3 || m.file == "" || len(m.kill) == 0 {
			t.Fatalf("%s: incomplete", file)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		t.Fatal("no mutants")
	}
	return all
}

func (m *mutant) source(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	if n := strings.Count(text, m.old); n != 1 {
		t.Fatalf("%s: %s has the text to be replaced %d times, want once; the mutant must follow the source", m.name, m.file, n)
	}
	return strings.Replace(text, m.old, m.new, 1)
}

// TestMutantsMatch sees to it that the mutants keep up with the source.
func TestMutantsMatch(t *testing.T) {
	for _, m := range readMutants(t) {
		m.source(t)
	}
}

// TestMutants builds the tests of this package around each mutant and demands that TestModel fails by one of the named
// rules. It runs only when EVENSONG_MUTANTS is set: to "all", or to a part of the names.
func TestMutants(t *testing.T) {
	which := os.Getenv("EVENSONG_MUTANTS")
	if which == "" {
		t.Skip("EVENSONG_MUTANTS is not set")
	}
	for _, m := range readMutants(t) {
		if which != "all" && !strings.Contains(m.name, which) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			mutated, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
			abs, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			table, err := json.Marshal(map[string]any{"Replace": map[string]string{abs: mutated}})
			if err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string]string{mutated: m.source(t), overlay: string(table)} {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-run", "TestModel$", ".").CombinedOutput()
			if err == nil {
				t.Fatalf("survived: %s", out)
			}
			killed := slices.DeleteFunc(slices.Clone(m.kill), func(rule string) bool { return !strings.Contains(string(out), ": "+rule+":") })
			if len(killed) == 0 {
				t.Fatalf("want a violation of one of %v:\n%.3000s", m.kill, out)
			}
			t.Log("killed by " + fmt.Sprint(killed))
		})
	}
}
