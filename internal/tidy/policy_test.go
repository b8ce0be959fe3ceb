// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// everything in the right column of the policy stands for all packages named in lines above it.
const everything = "everything above"

// policy says who may import whom: package, directory, what it may import directly. The relation is transitive: what b
// may import through a, it may import itself. A package in a directory below a listed one counts as that one.
//
// Neighboring layers do not know each other (order and node wire them), the protocols do not know that there are
// sockets, the public packages do not drag a daemon into an application. Changing a line needs a decision record.
//
// Tests are free, except that the language forbids cycles: a test of the client may start a daemon.
var policy = []struct{ name, dir, may string }{
	{"prefetch", "internal/proto/prefetch", ""},
	{"seq", "internal/proto/seq", ""},
	{"evs", "internal/proto/evs", "seq"},
	{"crc32c", "internal/proto/crc32c", ""},
	{"packet", "internal/proto/packet", "evs crc32c"},
	{"frame", "internal/proto/frame", "evs"},
	{"ring", "internal/proto/ring", "packet prefetch"},
	{"membership", "internal/proto/membership", "packet"},
	{"order", "internal/proto/order", "ring membership"},
	{"groups", "internal/proto/groups", "packet"},
	{"access", "internal/proto/access", ""},
	{"session", "internal/proto/session", "frame access"},
	{"flush", "internal/proto/flush", "evs"},
	{"node", "internal/proto/node", "order groups session frame"},

	{"check", "internal/check", "evs"},
	{"admin", "internal/admin", "evs"},
	{"descrypt", "internal/descrypt", ""},
	{"seal", "internal/seal", ""},
	{"config", "internal/config", "node descrypt seal"},
	{"recording", "internal/recording", "node"},
	{"sim", "internal/sim", "node recording check"},
	{"transport", "internal/transport", "packet"},
	{"eventlog", "internal/eventlog", "config"},
	{"host", "internal/host", "node transport config admin recording"},
	{"daemon", "daemon", "host"},

	{"client", "client", "frame"},
	{"vsync", "vsync", "client flush"},
	{"replicated", "replicated", "vsync"},
	{"evensongtest", "evensongtest", "sim replicated"},

	{"tools", "internal/tools", everything},
	{"cmd", "cmd", everything},

	// What is not part of the program: this package, end-to-end tests, small programs as a user would write them,
	// comparisons.
	{"tidy", "internal/tidy", ""},
	{"testcert", "internal/testcert", ""},       // certificates for tests
	{"conformance", "internal/conformance", ""}, // its tests start daemons, and speak to them without our codec
	{"e2e", "internal/e2e", everything},
	{"clients", "clients", everything}, // clients in other languages, with their tests against daemons
	{"examples", "examples", "client vsync replicated daemon evensongtest"},
	{"bench", "bench", everything},
}

// forbidden pairs stay forbidden through any number of steps, whatever becomes of the table above.
var forbidden = []struct{ from, to, why string }{
	{"groups", "order", "groups get one stream of messages and configurations; how it comes about is not their business"},
	{"session", "groups", "a session is one client's conversation; node routes between the two"},
	{"ring", "membership", "a ring orders within a membership that somebody else agreed on"},
	{"client", "host", "an application does not carry a daemon"},
	{"host", "sim", "what runs in production does not know that it can be simulated"},
}

// stdOnly are the packages that applications import: the standard library, themselves and the pure packages that the
// policy gives them, and nothing else through any number of steps.
var stdOnly = []string{"client", "vsync", "replicated"}

// reach is the policy's closure: for each package all that it may import.
func reach() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, p := range policy {
		set := map[string]bool{p.name: true} // packages below one listed directory may import each other
		if p.may == everything {
			for name := range all {
				set[name] = true
			}
		} else {
			for _, m := range strings.Fields(p.may) {
				if all[m] == nil {
					panic(fmt.Sprintf("policy: %s may import %s, which is not in a line above it", p.name, m))
				}
				maps.Copy(set, all[m])
			}
		}
		all[p.name] = set
	}
	return all
}

// named is the policy's name for a directory, "" if none.
func named(dir string) string {
	for _, p := range policy {
		if dir == p.dir || strings.HasPrefix(dir, p.dir+"/") {
			return p.name
		}
	}
	return ""
}

// An edge is one import of a file.
type edge struct {
	file *file
	line int
	path string // as written
	dir  string // directory inside the module, "" if the package is not ours
}

func (t *tree) imports(f *file) []edge {
	var edges []edge
	if f.syntax == nil {
		return nil
	}
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // gofmt reports it
		}
		e := edge{file: f, line: t.line(spec.Pos()), path: p}
		if p == t.module {
			e.dir = "."
		} else if rest, ok := strings.CutPrefix(p, t.module+"/"); ok {
			e.dir = rest
		}
		edges = append(edges, e)
	}
	return edges
}

// isStd tells the standard library from modules by the first path element, as the go command does.
func isStd(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// checkImports compares each import with the policy.
func checkImports(t *tree) []problem {
	var out []problem
	may := reach()
	for _, p := range t.packages() {
		from := named(p.dir)
		if from == "" {
			out = append(out, problem{p.dir, 0, "no line in the import policy (internal/tidy/policy_test.go) covers this package"})
			continue
		}
		for _, f := range p.code {
			for _, e := range t.imports(f) {
				if e.dir == "" {
					continue
				}
				if from == "examples" && strings.HasPrefix(e.dir, "internal/") {
					out = append(out, problem{f.path, e.line, "an example imports what its reader cannot: " + e.path})
					continue
				}
				if to := named(e.dir); !may[from][to] {
					out = append(out, problem{f.path, e.line, fmt.Sprintf("%s may not import %s", from, e.path)})
				}
			}
		}
	}
	return out
}

// A route is how one gets from a package to something it imports through others.
type route []string

func (r route) String() string { return strings.Join(r, " -> ") }

// closure walks everything that the package imports, code only, and calls visit with each import and the route to it.
// visit is called once per import path.
func (t *tree) closure(start *pkg, visit func(e edge, r route)) {
	byDir := map[string]*pkg{}
	for _, p := range t.packages() {
		byDir[p.dir] = p
	}
	seen := map[string]bool{start.dir: true}
	var walk func(p *pkg, r route)
	walk = func(p *pkg, r route) {
		r = append(slices.Clone(r), p.dir)
		for _, f := range p.code {
			for _, e := range t.imports(f) {
				key := e.path
				if e.dir != "" {
					key = e.dir
				}
				if seen[key] {
					continue
				}
				seen[key] = true
				visit(e, r)
				if next := byDir[e.dir]; next != nil {
					walk(next, r)
				}
			}
		}
	}
	walk(start, nil)
}

// checkForbidden looks for the forbidden pairs along all routes.
func checkForbidden(t *tree) []problem {
	var out []problem
	for _, p := range t.packages() {
		for _, rule := range forbidden {
			if named(p.dir) != rule.from {
				continue
			}
			t.closure(p, func(e edge, r route) {
				if e.dir != "" && named(e.dir) == rule.to {
					out = append(out, problem{e.file.path, e.line, fmt.Sprintf("%s -> %s: %s must not reach %s: %s", r, e.dir, rule.from, rule.to, rule.why)})
				}
			})
		}
	}
	return out
}

// checkStdOnly looks for anything but the standard library and the named packages below the public client packages.
func checkStdOnly(t *tree) []problem {
	var out []problem
	may := reach()
	for _, p := range t.packages() {
		from := named(p.dir)
		if !slices.Contains(stdOnly, from) {
			continue
		}
		t.closure(p, func(e edge, r route) {
			switch {
			case e.dir != "" && !may[from][named(e.dir)]:
				out = append(out, problem{e.file.path, e.line, fmt.Sprintf("%s -> %s: %s imports the standard library and its named pure packages only", r, e.path, from)})
			case e.dir == "" && (e.path == "C" || !isStd(e.path)):
				out = append(out, problem{e.file.path, e.line, fmt.Sprintf("%s -> %s: %s imports the standard library only", r, e.path, from)})
			}
		})
	}
	return out
}

func TestImportPolicy(t *testing.T)        { report(t, checkImports(repository(t))) }
func TestForbiddenImports(t *testing.T)    { report(t, checkForbidden(repository(t))) }
func TestStandardLibraryOnly(t *testing.T) { report(t, checkStdOnly(repository(t))) }
func TestPolicyKeepsForbidden(t *testing.T) {
	may := reach()
	for _, f := range forbidden {
		if may[f.from] == nil || may[f.to] == nil {
			t.Errorf("forbidden pair %s -> %s names a package that the policy does not know", f.from, f.to)
		}
		if may[f.from][f.to] {
			t.Errorf("the policy lets %s import %s, which is forbidden: %s", f.from, f.to, f.why)
		}
	}
	seen := map[string]bool{}
	for _, p := range policy {
		if seen[p.name] || seen[p.dir] || path.Clean(p.dir) != p.dir {
			t.Errorf("policy: %s or %s occurs twice or is not a clean path", p.name, p.dir)
		}
		seen[p.name], seen[p.dir] = true, true
	}
}

func goFile(pkg string, imports ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// SPDX-License-Identifier: Apache-2.0\n\n// Package %s is made up.\npackage %s\n\n", pkg, pkg)
	for _, i := range imports {
		fmt.Fprintf(&b, "import _ %q\n", i)
	}
	return b.String()
}

func TestImportPolicyObjects(t *testing.T) {
	object(t, checkImports, []row{
		{"allowed", made("internal/proto/evs/a.go", goFile("evs", "evensong/internal/proto/seq", "fmt")), nil},
		{"transitive", made("internal/proto/node/a.go", goFile("node", "evensong/internal/proto/seq")), nil},
		{"upwards", made("internal/proto/seq/a.go", goFile("seq", "evensong/internal/proto/evs")), []string{"seq may not import"}},
		{"sideways", made("internal/proto/groups/a.go", goFile("groups", "evensong/internal/proto/order")), []string{"groups may not import"}},
		{"tests are free", made("client/a_test.go", goFile("client", "evensong/internal/host")), nil},
		{"other system", made("internal/host/a_windows.go", "//go:build windows\n\n"+goFile("host", "evensong/internal/sim")), []string{"host may not import"}},
		{"below a listed one", made("internal/sim/net/a.go", goFile("net", "evensong/internal/sim", "evensong/internal/host")), []string{"sim may not import evensong/internal/host"}},
		{"unknown package", made("util/a.go", goFile("util")), []string{"no line in the import policy"}},
		{"unknown import", made("cmd/evensong/a.go", goFile("main", "evensong/util")), []string{"cmd may not import evensong/util"}},
		{"nested module", made("bench/other/go.mod", "module x", "bench/other/a.go", goFile("main", "evensong/util")), nil},
		{"program", made("cmd/evensong/a.go", goFile("main", "evensong/internal/tools", "evensong/internal/sim", "evensong/client")), nil},
		{"nothing but public", made("examples/a/a.go", goFile("main", "evensong/client", "evensong/internal/sim")), []string{"an example imports what its reader cannot: evensong/internal/sim"}},
	})
	object(t, checkForbidden, []row{
		{"direct", made("client/a.go", goFile("client", "evensong/internal/host"), "internal/host/a.go", goFile("host")), []string{"client must not reach host"}},
		{"two steps", made(
			"internal/host/a.go", goFile("host", "evensong/internal/admin"),
			"internal/admin/a.go", goFile("admin", "evensong/internal/sim/deep")), []string{"internal/host -> internal/admin -> internal/sim/deep"}},
		{"none", made("internal/proto/ring/a.go", goFile("ring", "evensong/internal/proto/packet")), nil},
	})
	object(t, checkStdOnly, []row{
		{"module", made("client/a.go", goFile("client", "net", "golang.org/x/net/ipv4")), []string{"client imports the standard library only"}},
		{"module below", made(
			"vsync/a.go", goFile("vsync", "evensong/internal/proto/flush"),
			"internal/proto/flush/a.go", goFile("flush", "example.com/x")), []string{"vsync -> internal/proto/flush -> example.com/x"}},
		{"cgo", made("replicated/a.go", goFile("replicated", "C")), []string{"-> C"}},
		{"of ours, not named", made("client/a.go", goFile("client", "evensong/internal/admin")), []string{"named pure packages only"}},
		{"fine", made("client/a.go", goFile("client", "net", "evensong/internal/proto/frame")), nil},
		{"daemon may", made("daemon/a.go", goFile("daemon", "golang.org/x/net/ipv4")), nil},
	})
}
