// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// maxFileBytes is the size above which a file is not read as text. Captures and images are the only such files.
const maxFileBytes = 4 << 20

// A file is one text file of the repository. Path is relative to the root, with slashes.
type file struct {
	path string
	data []byte

	// For Go files: the syntax tree, and why there is none if the file does not parse. A tree is kept as far as the
	// parser came.
	syntax   *ast.File
	parseErr error
}

// A tree is a set of files, sorted by path: the repository, or a few lines made up by a test.
type tree struct {
	module string // import path of the root
	fset   *token.FileSet
	files  []*file
	byPath map[string]*file
	dirs   map[string]bool // all directories that hold a file, and their parents; "." is the root
}

func newTree(module string) *tree {
	return &tree{
		module: module,
		fset:   token.NewFileSet(),
		byPath: map[string]*file{},
		dirs:   map[string]bool{".": true},
	}
}

func (t *tree) add(name string, data []byte) {
	f := &file{path: name, data: data}
	if strings.HasSuffix(name, ".go") {
		f.syntax, f.parseErr = parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	}
	t.files = append(t.files, f)
	t.byPath[name] = f
	for d := path.Dir(name); !t.dirs[d]; d = path.Dir(d) {
		t.dirs[d] = true
	}
}

func (t *tree) sort() {
	slices.SortFunc(t.files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
}

// exists reports whether the path is a file of the tree or a directory that holds one.
func (t *tree) exists(name string) bool { return t.byPath[name] != nil || t.dirs[name] }

// line is the line of a position inside a Go file.
func (t *tree) line(p token.Pos) int { return t.fset.Position(p).Line }

// goFiles are all Go files but those in testdata directories, which may be wrong on purpose.
func (t *tree) goFiles() []*file {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *file) bool {
		return !strings.HasSuffix(f.path, ".go") || slices.Contains(strings.Split(f.path, "/"), "testdata")
	})
}

// nested reports whether the directory belongs to another module inside the repository.
func (t *tree) nested(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if t.byPath[dir+"/go.mod"] != nil {
			return true
		}
	}
	return false
}

// A pkg is a directory with Go files. One directory is one package here: external test packages count to it.
type pkg struct {
	dir   string // relative to the root
	code  []*file
	tests []*file
}

// packages lists the packages of the root module by directory.
func (t *tree) packages() []*pkg {
	var list []*pkg
	for _, f := range t.goFiles() {
		dir := path.Dir(f.path)
		if t.nested(dir) {
			continue
		}
		i := slices.IndexFunc(list, func(p *pkg) bool { return p.dir == dir })
		if i < 0 {
			i = len(list)
			list = append(list, &pkg{dir: dir})
		}
		if strings.HasSuffix(f.path, "_test.go") {
			list[i].tests = append(list[i].tests, f)
		} else {
			list[i].code = append(list[i].code, f)
		}
	}
	return list
}

// A problem is one violation and where it is.
type problem struct {
	path string
	line int // 0: the whole file
	text string
}

func (p problem) String() string {
	if p.line == 0 {
		return p.path + ": " + p.text
	}
	return fmt.Sprintf("%s:%d: %s", p.path, p.line, p.text)
}

// root is the directory of the repository: the nearest one upwards with a go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = up
	}
}

// load reads the repository once for all tests. What starts with a dot is not ours to judge, but for .ci and the dot
// files at the top.
var load = sync.OnceValues(func() (*tree, error) {
	top, err := root()
	if err != nil {
		return nil, err
	}
	mod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	if err != nil {
		return nil, err
	}
	t := newTree(modulePath(mod))
	err = filepath.WalkDir(top, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // it went away while we walked: an editor's temporary file
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(top, full)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") && rel != ".ci" && rel != ".github" {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFileBytes {
			return nil
		}
		data, err := os.ReadFile(full)
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if bytes.IndexByte(data, 0) >= 0 { // binary
			data = nil
		}
		t.add(rel, data)
		return nil
	})
	t.sort()
	return t, err
})

// modulePath is the path in a go.mod's module line.
func modulePath(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "module" {
			return f[1]
		}
	}
	return ""
}

func repository(t *testing.T) *tree {
	t.Helper()
	r, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if r.module == "" || r.byPath["internal/tidy/doc.go"] == nil {
		t.Fatal("this is not the repository: go.mod or internal/tidy missing")
	}
	return r
}

// made is a tree out of pairs of name and text, for tests of the checks.
func made(nameAndText ...string) *tree {
	t := newTree("evensong")
	for i := 0; i < len(nameAndText); i += 2 {
		t.add(nameAndText[i], []byte(nameAndText[i+1]))
	}
	t.sort()
	return t
}

func report(t *testing.T, problems []problem) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// A row shows that a check objects to what is wrong and to nothing else: want has a part of each expected problem's
// text, in order; none means that the tree is fine.
type row struct {
	name string
	tree *tree
	want []string
}

func object(t *testing.T, check func(*tree) []problem, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := check(r.tree)
			ok := len(got) == len(r.want)
			for i := 0; ok && i < len(got); i++ {
				ok = strings.Contains(got[i].String(), r.want[i])
			}
			if !ok {
				t.Errorf("got problems %q, want ones with %q", got, r.want)
			}
		})
	}
}
