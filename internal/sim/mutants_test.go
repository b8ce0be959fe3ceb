// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A mutant is a protocol error planted in one place of the source: the proof that schedules and checkers find errors of
// its sort. testdata/mutants has one file for each:
//
//	# what is wrong with it
//	killed by RULE ...        any of these violations kills it
//	profile NAME
//	schedules N               within so many schedules
//	script NAME               instead of a profile: the script fails
//	file PATH                 from the root of the module; from here on once for each change
//	--- old                   text that occurs exactly once
//	--- new                   what stands there instead
//	--- end
type mutant struct {
	name, profile string
	script        string
	kill          []string
	schedules     int
	edits         []edit
}

// edit is one change of a mutant, to a file that no other edit of it changes.
type edit struct{ file, old, new string }

const root = "../.."

func readMutants(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("testdata/mutants/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []mutant
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := mutant{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		var e edit
		var into *string
		for line := range strings.Lines(strings.ReplaceAll(string(b), "\r\n", "\n")) {
			f := strings.Fields(line)
			switch {
			case line == "--- old\n":
				into = &e.old
			case line == "--- new\n":
				into = &e.new
			case line == "--- end\n":
				e.old, e.new, into = strings.TrimSuffix(e.old, "\n"), strings.TrimSuffix(e.new, "\n"), nil
				m.edits = append(m.edits, e)
				e = edit{}
			case into != nil:
				*into += line
			case len(f) == 0 || f[0] == "#":
			case f[0] == "killed" && len(f) > 2:
				m.kill = f[2:]
			case f[0] == "profile" && len(f) == 2:
				m.profile = f[1]
			case f[0] == "script" && len(f) == 2:
				m.script = f[1]
			case f[0] == "file" && len(f) == 2:
				e.file = f[1]
			case f[0] == "schedules" && len(f) == 2:
				m.schedules, _ = strconv.Atoi(f[1]) // zero is refused below
			default:
				t.Fatalf("%s: %q", file, line)
			}
		}
		if len(m.edits) == 0 || m.script == "" && (m.schedules == 0 || len(m.kill) == 0) {
			t.Fatalf("%s: incomplete", file)
		}
		all = append(all, m)
	}
	return all
}

// source is the mutated file's text.
func (m *edit) source(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	if n := strings.Count(text, m.old); n != 1 {
		t.Fatalf("%s has the text to be replaced %d times, want once; the mutant must follow the source", m.file, n)
	}
	return strings.Replace(text, m.old, m.new, 1)
}

// TestMutantsMatch sees to it that the mutants keep up with the source.
func TestMutantsMatch(t *testing.T) {
	for _, m := range readMutants(t) {
		t.Run(m.name, func(t *testing.T) {
			for i := range m.edits {
				m.edits[i].source(t)
			}
		})
	}
}

// driver is the program that is built around each mutant. It prints the first schedule in which one of the wanted rules
// is violated, and which other rules were on the way.
const driver = `package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"evensong/internal/sim"
)

func main() {
	if len(os.Args) == 2 {
		text, err := os.ReadFile(os.Args[1])
		if err != nil {
			panic(err)
		}
		if _, err = sim.RunScript(string(text), nil); err == nil {
			fmt.Println("the script found nothing")
			os.Exit(1)
		}
		fmt.Println("killed by the script:", err)
		return
	}
	n, _ := strconv.Atoi(os.Args[2])
	var others []string
	a := sim.Arena{Unchecked: true}
	for seed := uint64(1); seed <= uint64(n); seed++ {
		r, err := a.Run(seed, os.Args[1])
		if err != nil {
			panic(err)
		}
		for _, v := range r.Violations {
			if slices.Contains(os.Args[3:], v.Rule) {
				fmt.Printf("killed by %s in schedule %d\n", v.Rule, seed)
				return
			}
			if !slices.Contains(others, v.Rule) {
				others = append(others, v.Rule)
			}
		}
	}
	fmt.Printf("survived %d schedules; other violations: %v\n", n, others)
	os.Exit(1)
}
`

// TestMutants builds each mutant and demands that the named rules find it. It takes minutes, so it runs only when
// EVENSONG_MUTANTS is set: to "all", or to a part of the names.
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
			write := func(name, text string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			abs, err := filepath.Abs(root)
			if err != nil {
				t.Fatal(err)
			}
			replace := map[string]string{filepath.Join(abs, "internal", "sim", "mutantdriver", "driver.go"): write("driver.go", driver)}
			for i := range m.edits {
				e := &m.edits[i]
				replace[filepath.Join(abs, filepath.FromSlash(e.file))] = write(fmt.Sprintf("mutated%d.go", i), e.source(t))
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "mutant.exe")
			build := exec.Command("go", "build", "-overlay", write("overlay.json", string(overlay)), "-o", program, "./internal/sim/mutantdriver")
			build.Dir = abs
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the mutant does not build: %v\n%s", err, out)
			}
			args := slices.Concat([]string{m.profile, fmt.Sprint(m.schedules)}, m.kill)
			if m.script != "" {
				args = []string{filepath.Join("testdata", "scripts", m.script+".txt")}
			}
			out, err := exec.Command(program, args...).CombinedOutput()
			if err != nil {
				t.Errorf("want a violation of one of %v: %v: %.2000s", m.kill, err, out)
				return
			}
			t.Logf("%s", strings.TrimSpace(string(out)))
		})
	}
}
