// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// compatPage answers every row of the catalogue of what the original offers.
const compatPage = "docs/compatibility.md"

// catalogue is which rows there are, so that none can be left out: an upper-case letter and ranges of numbers.
var catalogue = map[string][][2]int{
	"R": {{1, 10}},
	"D": {{1, 12}, {20, 31}, {40, 52}},
	"G": {{1, 14}, {20, 34}, {40, 46}},
	"N": {{1, 17}},
	"F": {{1, 11}, {20, 23}},
	"M": {{1, 18}},
	"C": {{1, 9}, {20, 24}, {30, 46}, {60, 68}},
	"O": {{1, 11}, {20, 23}},
	"S": {{1, 11}},
	"A": {{1, 12}},
	"T": {{1, 13}},
	"L": {{1, 23}},
	"P": {{1, 11}, {20, 29}},
	"H": {{1, 25}, {40, 50}},
	"V": {{1, 9}},
	"W": {{1, 60}},
}

// rowsOf are the names of all rows of a catalogue.
func rowsOf(c map[string][][2]int) map[string]bool {
	rows := map[string]bool{}
	for letter, ranges := range c {
		for _, r := range ranges {
			for n := r[0]; n <= r[1]; n++ {
				rows[letter+strconv.Itoa(n)] = true
			}
		}
	}
	return rows
}

// What a row may say of itself. A wish may also wait: it is nothing that the original has.
const (
	stateDone      = "done"
	stateDifferent = "different"
	stateNotWanted = "not wanted"
	stateLater     = "not yet"
)

var (
	compatRow  = regexp.MustCompile(`^\| ([A-Z][0-9]+) \|`)
	compatTest = regexp.MustCompile("`([^`]+)`")
)

// checkCompat wants each row of the catalogue once, with a state, a sentence, and tests that exist: for what is done or
// different at least one.
func checkCompat(catalogue map[string][][2]int) func(t *tree) []problem {
	return func(t *tree) []problem {
		f := t.byPath[compatPage]
		if f == nil {
			return []problem{{compatPage, 0, "there is no such page"}}
		}
		var out []problem
		open := rowsOf(catalogue)
		for i, line := range strings.Split(string(f.data), "\n") {
			m := compatRow.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			bad := func(format string, args ...any) {
				out = append(out, problem{compatPage, i + 1, m[1] + ": " + fmt.Sprintf(format, args...)})
			}
			if !open[m[1]] {
				bad("no row of the catalogue, or here twice")
				continue
			}
			delete(open, m[1])
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			if len(cells) != 5 {
				bad("%d cells, want row, feature, state, how it is here, test", len(cells))
				continue
			}
			state, how, tests := cells[2], cells[3], compatTest.FindAllStringSubmatch(cells[4], -1)
			switch state {
			case stateDone, stateDifferent:
				if len(tests) == 0 {
					bad("%s, and no test shows it", state)
				}
			case stateNotWanted:
			case stateLater:
				if m[1][0] != 'W' {
					bad("%s, which only wishes may be", state)
				}
			default:
				bad("state %q, want %s, %s, %s or for wishes %s", state, stateDone, stateDifferent, stateNotWanted, stateLater)
			}
			if state != "" && state != stateDone && how == "" {
				bad("%s, and no reason", state)
			}
			for _, x := range tests {
				if why := t.missingTest(x[1]); why != "" {
					bad("test %s: %s", x[1], why)
				}
			}
		}
		left := make([]string, 0, len(open))
		for r := range open {
			left = append(left, r)
		}
		slices.Sort(left)
		for _, r := range left {
			out = append(out, problem{compatPage, 0, r + ": no such row"})
		}
		return out
	}
}

// missingTest says why there is no test of this name, which is directory.TestName with /part of a subtest behind it, or
// directory.test_name for Python; empty if there is one. What stands behind the last slash must occur in the directory,
// in a file or as the name of one.
func (t *tree) missingTest(name string) string {
	// The directory ends at the first dot behind which Test or test_ begins.
	at := regexp.MustCompile(`\.(Test|test_|Fuzz|Example|Benchmark)`).FindStringIndex(name)
	if at == nil {
		return "want directory.TestName"
	}
	dir, rest := name[:at[0]], name[at[0]+1:]
	function, sub, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(sub, '/'); i >= 0 {
		sub = sub[i+1:]
	}
	found, foundSub := false, sub == ""
	for _, f := range t.files {
		if !strings.HasPrefix(f.path, dir+"/") {
			continue
		}
		if path.Dir(f.path) == dir {
			if f.syntax != nil && strings.HasSuffix(f.path, "_test.go") {
				for _, d := range f.syntax.Decls {
					if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == function {
						found = true
					}
				}
			}
			if strings.HasSuffix(f.path, ".py") && strings.Contains(string(f.data), "def "+function+"(") {
				found = true
			}
		}
		if !foundSub && (strings.Contains(path.Base(f.path), sub) || strings.Contains(string(f.data), sub) ||
			strings.Contains(string(f.data), strings.ReplaceAll(sub, "_", " "))) {
			foundSub = true
		}
	}
	switch {
	case !found:
		return "no function " + function + " in " + dir
	case !foundSub:
		return "nothing in " + dir + " is called " + sub
	}
	return ""
}

func TestCompatibility(t *testing.T) {
	tree := repository(t)
	report(t, checkCompat(catalogue)(tree))
	if t.Failed() {
		return
	}
	count := map[string]int{}
	for line := range strings.SplitSeq(string(tree.byPath[compatPage].data), "\n") {
		if compatRow.MatchString(line) {
			if cells := strings.Split(line, " | "); len(cells) > 2 {
				count[cells[2]]++
			}
		}
	}
	t.Logf("%d rows: %d done, %d different, %d not wanted, %d not yet", len(rowsOf(catalogue)), count[stateDone], count[stateDifferent], count[stateNotWanted], count[stateLater])
}

func TestCompatibilityObjects(t *testing.T) {
	small := map[string][][2]int{"D": {{1, 2}}, "W": {{5, 5}}}
	page := func(rows ...string) *tree {
		return made(compatPage, strings.Join(rows, "\n"), "a/x_test.go", "package a\nfunc TestX(t *testing.T) { t.Run(\"one case\", nil) }\n", "b/test_y.py", "def test_y(self):\n")
	}
	d1, d2, w5 := "| D1 | n | done |  | `a.TestX` |", "| D2 | n | different | because | `a.TestX/one_case`, `b.test_y` |", "| W5 | n | not yet | soon | – |"
	object(t, checkCompat(small), []row{
		{"fine", page(d1, d2, w5), nil},
		{"row missing", page(d1, w5), []string{"D2: no such row"}},
		{"row twice", page(d1, d1, d2, w5), []string{"D1: no row of the catalogue, or here twice"}},
		{"no state", page("| D1 | n |  |  | `a.TestX` |", d2, w5), []string{"state \"\""}},
		{"only wishes wait", page("| D1 | n | not yet | x | – |", d2, w5), []string{"only wishes"}},
		{"no test", page("| D1 | n | done |  | – |", d2, w5), []string{"no test shows it"}},
		{"test that does not exist", page("| D1 | n | done |  | `a.TestZ` |", d2, w5), []string{"no function TestZ"}},
		{"case that does not exist", page("| D1 | n | done |  | `a.TestX/two` |", d2, w5), []string{"nothing in a is called two"}},
		{"no reason", page("| D1 | n | not wanted |  | – |", d2, w5), []string{"no reason"}},
		{"no page", made("a.md", ""), []string{"no such page"}},
	})
}
