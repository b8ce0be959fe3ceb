// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// setup is what all tests share; it is complete before the first one runs.
var setup struct {
	off    string // not empty: why nothing runs
	noNet  string // not empty: why there are no namespaces
	binary string
	dir    string // holds the binary
}

var spins uint64 // by a busy loop

func TestMain(m *testing.M) {
	if os.Getenv("EVENSONG_E2E_SPIN") != "" { // we are a busy loop
		runtime.GOMAXPROCS(1)
		for {
			spins++
		}
	}
	os.Exit(prepare(m))
}

func prepare(m *testing.M) int {
	want := os.Getenv("EVENSONG_E2E")
	if want == "" || want == "0" {
		setup.off = "END-TO-END TESTS NOT RUN: they take minutes; EVENSONG_E2E=1 runs them (network namespaces need root), EVENSONG_E2E=loopback a part"
		fmt.Fprintln(os.Stderr, setup.off)
		return m.Run()
	}
	switch {
	case want == "loopback":
		setup.noNet = "EVENSONG_E2E=loopback"
	case os.Geteuid() != 0:
		setup.noNet = "network namespaces need root"
	default:
		setup.noNet = probeNamespaces()
	}
	if setup.noNet != "" {
		fmt.Fprintln(os.Stderr, "ONLY A PART OF THE END-TO-END TESTS RUNS, on the loopback interface: "+setup.noNet)
	} else {
		sweep()
	}
	sweepBinaries()
	dir, err := os.MkdirTemp("", prefix+strconv.Itoa(os.Getpid())+binarySuffix)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	setup.dir = dir
	if setup.binary = os.Getenv("EVENSONG_E2E_BIN"); setup.binary == "" {
		setup.binary = filepath.Join(dir, "evensong")
		build := exec.Command("go", "build", "-o", setup.binary, "evensong/cmd/evensong")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the daemon: %v\n%s", err, out)
			return 1
		}
	}
	code := m.Run()
	figures.print()
	return code
}

// binarySuffix is in the names of directories that hold nothing but a daemon built for a run.
const binarySuffix = "-bin-"

// sweepBinaries removes the binaries of runs that were killed. Logs are left to whoever wants to read them.
func sweepBinaries() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"+binarySuffix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if abandoned(filepath.Base(dir)) {
			os.RemoveAll(dir)
		}
	}
}

// enabled skips a test that was not asked for.
func enabled(t *testing.T) {
	t.Helper()
	if setup.off != "" {
		t.Skip(setup.off)
	}
}

// cables skips a test that cannot do without network namespaces.
func cables(t *testing.T) {
	t.Helper()
	enabled(t)
	if setup.noNet != "" {
		t.Skip("NOT RUN: needs network namespaces: " + setup.noNet)
	}
}

// number is a positive number from the environment.
func number(t *testing.T, name string, def int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number from 1", name, s)
	}
	return n
}

// runs is how often times are measured.
func runs(t *testing.T) int { return number(t, "EVENSONG_E2E_RUNS", 5) }

// figures collects what was measured, for the table at the end.
var figures table

type table struct {
	mu   sync.Mutex
	rows [][]string
}

func (f *table) add(row ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, row)
}

func (f *table) print() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rows) == 0 {
		return
	}
	rows := append([][]string{{"figure", "runs", "min", "median", "max", "bar"}}, f.rows...)
	width := make([]int, 6)
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len(c))
		}
	}
	var b bytes.Buffer
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&b, "figures (%d processors, load %s):\n", runtime.NumCPU(), strings.TrimSpace(string(load)))
	for _, r := range rows {
		for i, c := range r {
			fmt.Fprintf(&b, "%-*s  ", width[i], c)
		}
		b.WriteByte('\n')
	}
	os.Stdout.Write(b.Bytes())
}

// samples are times of one thing measured several times.
type samples []time.Duration

func (s samples) median() time.Duration {
	c := slices.Sorted(slices.Values(s))
	return c[len(c)/2]
}

// report adds a row to the table. A bar of zero is none.
func (s samples) report(t *testing.T, what string, bar time.Duration) {
	t.Helper()
	if len(s) == 0 {
		return
	}
	limit := "-"
	if bar > 0 {
		limit = "< " + bar.String()
		if s.median() >= bar {
			limit += "  MISSED"
		}
	}
	row := []string{what, strconv.Itoa(len(s)), ms(slices.Min(s)), ms(s.median()), ms(slices.Max(s)), limit}
	figures.add(row...)
	all := ""
	if len(s) > 1 && len(s) <= 20 {
		all = fmt.Sprintf("; all: %v", []time.Duration(s))
	}
	t.Logf("%s: %s%s", row[0], strings.Join(row[1:], "  "), all)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// measured runs a measurement several times and holds the median against a bar; if it is missed everything is measured
// once more, since the machine may have been busy with something else. once returns several times with their names;
// bars[i] belongs to the i-th, and zero means that it is only reported.
func measured(t *testing.T, names []string, bars []time.Duration, once func(run int) []time.Duration) {
	t.Helper()
	n := runs(t)
	for attempt := range 2 {
		all := make([]samples, len(names))
		for run := range n {
			for i, d := range once(run + attempt*n) {
				all[i] = append(all[i], d)
			}
		}
		missed := ""
		for i := range all {
			what := names[i]
			if attempt > 0 {
				what += " (again)"
			}
			all[i].report(t, what, bars[i])
			if bars[i] > 0 && all[i].median() >= bars[i] {
				missed = fmt.Sprintf("%s: the median of %d runs is %v, the bar is %v", names[i], n, all[i].median(), bars[i])
			}
		}
		if missed == "" {
			return
		}
		if attempt > 0 {
			t.Error(missed)
			return
		}
		t.Log(missed + "; measured again")
	}
}
