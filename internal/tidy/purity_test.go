// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pureRoot is the directory below which everything is a pure machine: input and time go in, effects come out.
const pureRoot = "internal/proto"

// pureStd are the packages of the standard library that pure packages may import. Given only these, a package cannot
// reach a socket, a file, another goroutine or the environment.
var pureStd = strings.Fields(`
	bytes cmp container/heap encoding/binary errors fmt hash/crc32 hash/fnv iter maps math math/bits math/rand/v2
	net/netip slices strconv strings time unicode/utf8`)

// pureNames restricts packages of which only a part is pure to the names listed. Time is a number that the caller
// gives, and randomness comes from the *rand.Rand that New was given.
var pureNames = map[string][]string{
	"time": strings.Fields("Duration Nanosecond Microsecond Millisecond Second Minute Hour ParseDuration"),
	"math/rand/v2": strings.Fields(
		"Rand New Source PCG NewPCG ChaCha8 NewChaCha8 Zipf NewZipf"),
	"fmt": strings.Fields(
		"Errorf Sprintf Sprint Sprintln Append Appendf Appendln Fprintf Fprint Fprintln Sscanf Sscan Sscanln Stringer GoStringer Formatter State"),
}

// checkPurity looks for whatever would make a run of a protocol package impossible to repeat. Tests are exempt.
func checkPurity(t *tree) []problem {
	var out []problem
	for _, p := range t.packages() {
		if p.dir != pureRoot && !strings.HasPrefix(p.dir, pureRoot+"/") {
			continue
		}
		for _, f := range p.code {
			out = append(out, t.impure(f)...)
		}
	}
	return out
}

func (t *tree) impure(f *file) []problem {
	var out []problem
	if f.syntax == nil {
		return nil
	}
	bad := func(pos token.Pos, format string, args ...any) {
		out = append(out, problem{f.path, t.line(pos), "not pure: " + fmt.Sprintf(format, args...)})
	}
	local := map[string]string{} // name in this file -> import path, for the packages of pureNames
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if strings.HasPrefix(p, t.module+"/") {
			if !strings.HasPrefix(p, t.module+"/"+pureRoot+"/") {
				bad(spec.Pos(), "imports %s, which is not below %s", p, pureRoot)
			}
		} else if !slices.Contains(pureStd, p) {
			bad(spec.Pos(), "imports %s", p)
		}
		name := path.Base(p)
		if p == "math/rand/v2" {
			name = "rand"
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			bad(spec.Pos(), "a dot import of %s hides what is used", p)
		}
		if pureNames[p] != nil {
			local[name] = p
		}
	}
	for _, g := range f.syntax.Comments {
		for _, c := range g.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				bad(c.Pos(), "go:linkname")
			}
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			bad(n.Pos(), "go statement")
		case *ast.SelectStmt:
			bad(n.Pos(), "select statement")
		case *ast.ChanType:
			bad(n.Pos(), "channel type")
		case *ast.SendStmt:
			bad(n.Pos(), "channel send")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				bad(n.Pos(), "channel receive")
			}
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok {
				if p := local[id.Name]; p != "" && ast.IsExported(n.Sel.Name) && !slices.Contains(pureNames[p], n.Sel.Name) {
					bad(n.Pos(), "%s.%s", p, n.Sel.Name)
				}
			}
		}
		return true
	})
	return out
}

func TestPurity(t *testing.T) { report(t, checkPurity(repository(t))) }

func TestPurityObjects(t *testing.T) {
	pure := func(name, body string) *tree { return made("internal/proto/ring/"+name, "package ring\n\n"+body) }
	code := func(body string) *tree { return pure("a.go", body) }
	object(t, checkPurity, []row{
		{"pure", code("import (\n\"time\"\n\"math/rand/v2\"\n)\nfunc f(r *rand.Rand) time.Duration { return time.Second * time.Duration(r.IntN(3)) }"), nil},
		{"ours", code("import \"evensong/internal/proto/packet\"\nvar _ packet.Token"), nil},
		{"shell", code("import \"evensong/internal/transport\"\nvar _ transport.Conn"), []string{"not below internal/proto"}},
		{"sync", code("import \"sync\"\nvar mu sync.Mutex"), []string{"imports sync"}},
		{"context", code("import \"context\"\nvar c context.Context"), []string{"imports context"}},
		{"module", code("import \"golang.org/x/net/ipv4\"\nvar c ipv4.PacketConn"), []string{"imports golang.org/x/net/ipv4"}},
		{"log and os", code("import \"log/slog\"\nimport \"os\"\nvar _ = slog.Default\nvar _ = os.Args"), []string{"imports log/slog", "imports os"}},
		{"now", code("import \"time\"\nvar t0 = time.Now()"), []string{"time.Now"}},
		{"since", code("import \"time\"\nfunc f() { _ = time.Since(t0) }"), []string{"time.Since"}},
		{"after, renamed", code("import clock \"time\"\nfunc f() { _ = clock.After(1) }"), []string{"time.After"}},
		{"not called", code("import \"time\"\nvar now = time.Now"), []string{"time.Now"}},
		{"dot import", code("import . \"time\"\nvar t0 = Now()"), []string{"dot import"}},
		{"global randomness", code("import \"math/rand/v2\"\nvar x = rand.IntN(3)"), []string{"math/rand/v2.IntN"}},
		{"printing", code("import \"fmt\"\nfunc f() { fmt.Println() }"), []string{"fmt.Println"}},
		{"goroutine", code("func f() { go f() }"), []string{"go statement"}},
		{"channel", code("var c chan int"), []string{"channel type"}},
		{"send", code("func f() { c <- 1 }"), []string{"channel send"}},
		{"receive", code("func f() { <-c }"), []string{"channel receive"}},
		{"select", code("func f() { select {} }"), []string{"select statement"}},
		{"linkname", code("//go:linkname now runtime.nanotime\nfunc now() int64"), []string{"go:linkname"}},
		{"other system", pure("a_darwin.go", "func f() { go f() }"), []string{"go statement"}},
		{"test", pure("a_test.go", "import \"sync\"\nfunc f() { go f() }"), nil},
		{"elsewhere", made("internal/host/a.go", "package host\nfunc f() { go f() }"), nil},
		{"a variable called time", code("func f(time struct{ Now func() }) { time.Now() }"), nil},
	})
}
