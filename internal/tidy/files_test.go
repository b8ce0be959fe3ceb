// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const licenceLine = "// SPDX-License-Identifier: Apache-2.0"

// checkLicence wants the licence as the first line of each Go file, nested modules included.
func checkLicence(t *tree) []problem {
	var out []problem
	for _, f := range t.goFiles() {
		first, _, _ := strings.Cut(string(f.data), "\n")
		if first != licenceLine {
			out = append(out, problem{f.path, 1, "the first line is not " + licenceLine})
		}
	}
	return out
}

// checkFormat wants what gofmt would write.
func checkFormat(t *tree) []problem {
	var out []problem
	for _, f := range t.goFiles() {
		if f.parseErr != nil {
			out = append(out, problem{f.path, 0, f.parseErr.Error()})
			continue
		}
		want, err := format.Source(f.data)
		switch {
		case err != nil:
			out = append(out, problem{f.path, 0, err.Error()})
		case !bytes.Equal(want, f.data):
			out = append(out, problem{f.path, firstDifference(want, f.data), "not formatted by gofmt"})
		}
	}
	return out
}

// firstDifference is the number of the first line in which a and b differ.
func firstDifference(a, b []byte) int {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(la), len(lb)) {
		if !bytes.Equal(la[i], lb[i]) {
			return i + 1
		}
	}
	return min(len(la), len(lb)) + 1
}

// checkPackageDocs wants one comment per package that begins as godoc wants it.
func checkPackageDocs(t *tree) []problem {
	var out []problem
	for _, p := range t.packages() {
		if len(p.code) == 0 {
			continue // tests only
		}
		found := false
		name := ""
		for _, f := range p.code {
			if f.syntax == nil || f.syntax.Name == nil {
				continue
			}
			name = f.syntax.Name.Name
			text := f.syntax.Doc.Text()
			if strings.HasPrefix(text, "Package "+name+" ") || name == "main" && text != "" {
				found = true
			}
		}
		if name != "" && !found {
			out = append(out, problem{p.dir, 0, fmt.Sprintf("package %s has no comment that begins with %q", name, "Package "+name)})
		}
	}
	return out
}

// openEnd finds a marker of unfinished work where people put it: at the start of a comment's line, or followed by a
// colon or parenthesis. reference is what has to follow: an issue, or a decision of docs/decisions.
var (
	openEnd   = regexp.MustCompile(`(?m)^[ \t]*(?:(?://|/\*|\*|#)[ \t]*)?(?:TODO|FIXME|XXX|HACK)\b|\b(?:TODO|FIXME|XXX|HACK)[:(]`)
	reference = regexp.MustCompile(`^\W*(?:TODO|FIXME|XXX|HACK)\W{0,3}(?:issue[ \t]+)?(?:#\d+|decision[ \t]+\d{4}|docs/decisions/\d{4})`)
)

// checkOpenEnds wants an issue or a decision behind each marker of unfinished work.
func checkOpenEnds(t *tree) []problem {
	var out []problem
	object := func(f *file, line int, text string) {
		for _, at := range openEnd.FindAllStringIndex(text, -1) {
			if !reference.MatchString(text[at[0]:]) {
				out = append(out, problem{f.path, line + strings.Count(text[:at[0]], "\n"), "unfinished work without an issue or decision behind it"})
			}
		}
	}
	for _, f := range t.goFiles() {
		for _, c := range comments(f) {
			object(f, t.line(c.Pos()), c.Text)
		}
	}
	for _, f := range t.files {
		if strings.HasPrefix(f.path, ".ci/") || path.Ext(f.path) == ".sh" || path.Ext(f.path) == ".yml" {
			for i, line := range strings.Split(string(f.data), "\n") {
				if at := strings.IndexByte(line, '#'); at >= 0 {
					object(f, i+1, line[at:])
				}
			}
		}
	}
	return out
}

// comments are all comments of a Go file.
func comments(f *file) []*ast.Comment {
	var list []*ast.Comment
	if f.syntax == nil {
		return nil
	}
	for _, g := range f.syntax.Comments {
		list = append(list, g.List...)
	}
	return list
}

// common are directories that many machines have and that texts mention for good reasons.
var common = strings.Fields("/ /tmp /var/tmp /home /root /src /usr/src /usr/local/src /opt /mnt /go/src /app /build /workspace /data /srv")

// A trace pattern is something that only the machine of whoever wrote a file knows.
type tracePattern struct {
	what string
	re   *regexp.Regexp
}

// tracePatterns are derived from where the test runs, so that no name of a machine stands in the test itself: the
// directory the checkout lies in, and the host of its module proxy, public or not.
func tracePatterns(root, goproxy string) []tracePattern {
	var list []tracePattern
	above := filepath.ToSlash(filepath.Dir(root))
	skip := !path.IsAbs(above) // a drive letter: other people's checkouts have other paths anyway
	for _, c := range common {
		skip = skip || above == c
	}
	if !skip {
		list = append(list, tracePattern{"the directory of a checkout", regexp.MustCompile(`(?m)(?:^|[^\w./-])` + regexp.QuoteMeta(above) + `(?:/|$)`)})
	}
	for _, entry := range strings.FieldsFunc(goproxy, func(r rune) bool { return r == ',' || r == '|' }) {
		u, err := url.Parse(entry)
		if err != nil || u.Hostname() == "" {
			continue // off, direct, a directory
		}
		list = append(list, tracePattern{"a module proxy", regexp.MustCompile(`(?i)(?:^|[^\w.-])` + regexp.QuoteMeta(u.Host))})
	}
	return list
}

// checkTraces looks for the patterns in all text files.
func checkTraces(patterns []tracePattern) func(t *tree) []problem {
	return func(t *tree) []problem {
		var out []problem
		for _, f := range t.files {
			for _, p := range patterns {
				if at := p.re.FindIndex(f.data); at != nil {
					out = append(out, problem{f.path, 1 + bytes.Count(f.data[:at[1]-1], []byte("\n")), "mentions " + p.what})
				}
			}
		}
		return out
	}
}

func TestLicenceLines(t *testing.T) { report(t, checkLicence(repository(t))) }
func TestFormat(t *testing.T)       { report(t, checkFormat(repository(t))) }
func TestPackageDocs(t *testing.T)  { report(t, checkPackageDocs(repository(t))) }
func TestOpenEnds(t *testing.T)     { report(t, checkOpenEnds(repository(t))) }

func TestTraces(t *testing.T) {
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkTraces(tracePatterns(top, os.Getenv("GOPROXY")))(repository(t)))
}

func TestFileChecksObject(t *testing.T) {
	object(t, checkLicence, []row{
		{"there", made("client/a.go", goFile("client")), nil},
		{"missing", made("client/a.go", "package client\n"), []string{"first line"}},
		{"second line", made("client/a_linux.go", "//go:build linux\n"+licenceLine+"\npackage client\n"), []string{"first line"}},
		{"other licence", made("client/a.go", "// SPDX-License-Identifier: MIT\npackage client\n"), []string{"first line"}},
		{"nested module", made("bench/x/go.mod", "module x", "bench/x/a.go", "package x\n"), []string{"first line"}},
	})
	object(t, checkFormat, []row{
		{"fine", made("client/a.go", "package client\n"), nil},
		{"spaces", made("client/a.go", "package client\n\nfunc f() {\n  g()\n}\n"), []string{"client/a.go:4: not formatted"}},
		{"windows only", made("client/a_windows.go", "package  client\n"), []string{"not formatted"}},
		{"does not parse", made("client/a.go", "package client\n\nfunc {\n"), []string{"expected"}},
	})
	object(t, checkPackageDocs, []row{
		{"there", made("client/a.go", goFile("client"), "client/b.go", "package client\n"), nil},
		{"missing", made("client/a.go", "package client\n"), []string{"no comment"}},
		{"detached", made("client/a.go", "// Package client is made up.\n\npackage client\n"), []string{"no comment"}},
		{"other name", made("client/a.go", "// Package clients is made up.\npackage client\n"), []string{"no comment"}},
		{"program", made("cmd/a/a.go", "// A does it.\npackage main\n"), nil},
		{"program without", made("cmd/a/a.go", "package main\n"), []string{"no comment"}},
		{"tests only", made("client/a_test.go", "package client\n"), nil},
	})
	mark := "TO" + "DO" // so that this file does not hold what it forbids
	object(t, checkOpenEnds, []row{
		{"bare", made("client/a.go", "package client\n\n// "+mark+": later\n"), []string{"client/a.go:3"}},
		{"name", made("client/a.go", "package client\n\n// "+mark+"(somebody): later\n"), []string{"without an issue"}},
		{"inside a block", made("client/a.go", "package client\n\n/*\nx\n "+mark+" later\n*/\n"), []string{"client/a.go:5"}},
		{"behind code", made("client/a.go", "package client\n\nvar x int // fine, but FIX"+"ME: later\n"), []string{"client/a.go:3"}},
		{"issue", made("client/a.go", "package client\n\n// "+mark+"(#12): later\n"), nil},
		{"decision", made("client/a.go", "package client\n\n// "+mark+" (decision 0003): later\n"), nil},
		{"in prose", made("client/a.go", "package client\n\n// We leave no "+mark+" behind.\n"), nil},
		{"in a string", made("client/a.go", "package client\n\nvar s = \""+mark+": x\"\n"), nil},
		{"script", made(".ci/run", "#!/bin/bash\nx # "+mark+": later\n"), []string{".ci/run:2"}},
	})
	object(t, checkTraces(tracePatterns("/builds/here/evensong", "https://mirror.example.net:8080/go,direct")), []row{
		{"checkout", made("a.md", "see\n/builds/here/evensong/a.go"), []string{"a.md:2: mentions the directory"}},
		{"sibling", made("a.go", "package a // `/builds/here/other`"), []string{"mentions the directory"}},
		{"bare", made("a.sh", "cd /builds/here"), []string{"mentions the directory"}},
		{"part of another path", made("a.md", "/var/builds/here/x /builds/hereabouts"), nil},
		{"proxy", made("a.md", "GOPROXY=https://Mirror.example.net:8080/x"), []string{"mentions a module proxy"}},
		{"fine", made("a.md", "https://example.com /tmp/4803"), nil},
	})
	object(t, checkTraces(tracePatterns("/tmp/evensong", "direct")), []row{
		{"common places", made("a.md", "/tmp/4803 /tmp/evensong"), nil},
	})
}
