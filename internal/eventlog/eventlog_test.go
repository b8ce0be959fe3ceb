// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"evensong/internal/config"
)

func opened(t *testing.T, cfg config.Log) (*Log, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	l, err := Open(cfg, "tower", &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, &out
}

// lines logs one line of each sort and returns the texts that were written.
func lines(l *Log, out *bytes.Buffer) string {
	out.Reset()
	log := l.Logger()
	log.Debug("membership changes state")
	log.Info("configuration installed")
	log.Info("daemon starts")
	log.Warn("client reads too slowly")
	log.Info("client connected")
	log.Error("stable storage")
	var got []string
	for text, short := range map[string]string{"changes state": "state", "installed": "conf", "starts": "print", "slowly": "slow", "connected": "client", "stable": "error"} {
		if strings.Contains(out.String(), text) {
			got = append(got, short)
		}
	}
	return strings.Join(sorted(got), " ")
}

// TestDurations: durations have their unit, in JSON as well.
func TestDurations(t *testing.T) {
	l, out := opened(t, config.Log{})
	l.Logger().Warn("not scheduled", "for", 7971*time.Millisecond)
	if !strings.Contains(out.String(), `"for":"7.971s"`) {
		t.Error(out.String())
	}
}

// TestNoSuchPlace: the error names what says where the log is.
func TestNoSuchPlace(t *testing.T) {
	if _, err := Open(config.Log{File: filepath.Join(t.TempDir(), "none", "log")}, "tower", io.Discard); err == nil || !strings.Contains(err.Error(), "(EventLogFile, --log-file)") {
		t.Errorf("%v", err)
	}
}

func sorted(l []string) []string {
	for i := range l {
		for k := i; k > 0 && l[k] < l[k-1]; k-- {
			l[k], l[k-1] = l[k-1], l[k]
		}
	}
	return l
}

func TestSelection(t *testing.T) {
	for _, r := range []struct {
		cfg  config.Log
		want string
	}{
		{config.Log{}, "client conf error print slow"},
		{config.Log{Priority: "pDEBUG"}, "client conf error print slow state"},
		{config.Log{Priority: "WARNING"}, "error slow"},
		{config.Log{Priority: "FATAL"}, "error"},
		{config.Log{Flags: []string{}}, "error print"},
		{config.Log{Flags: []string{"MEMBERSHIP"}}, "conf error print"},
		{config.Log{Flags: []string{"MEMBERSHIP"}, Priority: "pDEBUG"}, "conf error print state"},
		{config.Log{Flags: []string{"SESSION", "FLOW_CONTROL"}}, "client error print slow"},
	} {
		l, out := opened(t, r.cfg)
		if got := lines(l, out); got != r.want {
			t.Errorf("%v: %s, want %s", r.cfg, got, r.want)
		}
	}
}

func TestApplyAndLevel(t *testing.T) {
	l, out := opened(t, config.Log{Priority: "ERROR"})
	log := l.Logger().With("proc", "a").WithGroup("g")
	log.Info("configuration installed")
	if out.Len() != 0 {
		t.Errorf("written: %s", out)
	}
	if err := l.Apply(config.Log{Priority: "INFO"}); err != nil {
		t.Fatal(err)
	}
	log.Info("configuration installed", "ring", 7)
	if s := out.String(); !strings.Contains(s, `"proc":"a"`) || !strings.Contains(s, `"g":{"ring":7`) || !strings.Contains(s, `"event":"MEMBERSHIP"`) {
		t.Errorf("a logger made before Apply writes %s", s)
	}
	l.Level().Set(slog.LevelError)
	if got := lines(l, out); got != "error" {
		t.Errorf("with another level: %s", got)
	}
}

func TestStamps(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89012345, time.UTC)
	for _, r := range []struct {
		format  string
		precise bool
		want    string
	}{
		{"", false, "03/04/26 05:06:07"},
		{"", true, "03/04/26 05:06:07.089012"},
		{"%Y-%m-%d %H:%M:%S", true, "2026-03-04 05:06:07.089012"},
		{"%s", true, "1772600767.089012"},
		{"%H:%M", true, "05:06 1772600767.089012"},
		{"%a %b", false, "Wed Mar"},
		{"[%a %b]", false, "Wed Mar"},
		{"[%H:%M:%S]", true, "05:06:07.089012"},
		{"[%d] [%H:%M]", false, "04] [05:06"},
		{"[%d] %H:%M", false, "[04] 05:06"},
		{"[]", false, "03/04/26 05:06:07"},
	} {
		if got := stamp(at, r.format, r.precise); got != r.want {
			t.Errorf("%q, precise %v: %q, want %q", r.format, r.precise, got, r.want)
		}
	}
	for _, format := range []string{"%Y", "[%Y]"} {
		l, out := opened(t, config.Log{TimeStamp: true, TimeFormat: format})
		l.Logger().Info("ready", "clients", 3)
		year := strconv.Itoa(time.Now().Year())
		if got, want := out.String(), "["+year+"] level=INFO msg=ready clients=3 event=PRINT\n"; got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

// TestDiscard: a file that was opened for a configuration that is not put in force is closed again.
func TestDiscard(t *testing.T) {
	l, out := opened(t, config.Log{})
	apply, discard, err := l.Prepare(config.Log{File: filepath.Join(t.TempDir(), "new.log")})
	if err != nil {
		t.Fatal(err)
	}
	discard()
	apply() // a mistake, to see which file it has
	l.Logger().Info("ready")
	if err := l.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the file was open: %v", err)
	}
	if out.Len() != 0 {
		t.Errorf("standard error got %q", out)
	}
	// Without a file there is nothing to close.
	if _, discard, err = l.Prepare(config.Log{}); err != nil {
		t.Fatal(err)
	}
	discard()
}

// A file is appended to, has the host's name in its own, and can be moved away.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "tower.log"), filepath.Join(dir, "old.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
	l, out := opened(t, config.Log{File: filepath.Join(dir, "%h.log")})
	log := l.Logger()
	log.Info("one")
	if s := read(path); !strings.HasPrefix(s, "before\n") || !strings.Contains(s, `"msg":"one"`) {
		t.Errorf("the file has %q", s)
	}
	if err := os.Rename(path, moved); err != nil {
		t.Skip("this system does not move open files: ", err)
	}
	log.Info("two")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("three")
	if old, now := read(moved), read(path); !strings.Contains(old, "two") || strings.Contains(old, "three") || !strings.Contains(now, "three") {
		t.Errorf("the old file has %q, the new one %q", old, now)
	}
	// A file that cannot be opened changes nothing.
	if err := l.Apply(config.Log{File: filepath.Join(dir, "nowhere", "x.log"), Priority: "ERROR"}); err == nil {
		t.Error("a file in no directory was opened")
	}
	log.Info("four")
	if !strings.Contains(read(path), "four") {
		t.Error("a refused Apply has changed something")
	}
	if err := l.Apply(config.Log{File: filepath.Join(dir, "new-%H.log")}); err != nil {
		t.Fatal(err)
	}
	log.Info("five")
	if !strings.Contains(read(filepath.Join(dir, "new-tower.log")), "five") {
		t.Error("the new file has nothing")
	}
	if out.Len() != 0 {
		t.Errorf("standard error got %q", out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log.Info("six")
	if !strings.Contains(out.String(), "six") {
		t.Error("a line behind Close is lost")
	}
}

// spoken are the texts of lines in the packages that write them: literals that are the text of a note, or the first text
// given to a function that logs.
func spoken(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	logs := map[string]bool{"note": true, "slowNote": true, "put": true, "log": true, "Debug": true, "Info": true, "Warn": true, "Error": true}
	add := func(e ast.Expr, where string) bool {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return false
		}
		s, err := strconv.Unquote(lit.Value)
		if err == nil && s != "" {
			texts[s] = where
		}
		return true
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if of, ok := n.Type.(*ast.SelectorExpr); !ok || of.Sel.Name != "Note" {
						break
					}
					for _, e := range n.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok {
							if k, ok := kv.Key.(*ast.Ident); ok && k.Name == "Text" {
								add(kv.Value, path)
							}
						}
					}
				case *ast.AssignStmt:
					for i, l := range n.Lhs {
						if s, ok := l.(*ast.SelectorExpr); ok && s.Sel.Name == "Text" && i < len(n.Rhs) {
							add(n.Rhs[i], path)
						}
					}
				case *ast.CallExpr:
					name := ""
					switch f := n.Fun.(type) {
					case *ast.Ident:
						name = f.Name
					case *ast.SelectorExpr:
						name = f.Sel.Name
					}
					if logs[name] {
						for _, a := range n.Args {
							if add(a, path) {
								break
							}
						}
					}
				}
				return true
			})
		}
	}
	return texts
}

// Every text that a daemon logs has a type by the table, so that an operator who selects types misses nothing by chance.
func TestEveryTextHasAType(t *testing.T) {
	texts := spoken(t, "internal/proto/order", "internal/proto/node", "internal/host", "internal/admin", "cmd/evensong")
	if len(texts) < 30 {
		t.Fatalf("only %d texts found", len(texts))
	}
	for text, where := range texts {
		if Type(text) == Protocol {
			t.Errorf("%s: %q has no type in types.go", where, text)
		}
	}
}

func TestTypesAreThoseOfTheFile(t *testing.T) {
	for _, k := range kinds {
		if _, err := config.Parse("x", []byte("Spread_Segment unicast { a 10.0.0.1 }\nDebugFlags = { "+k.event+" }\n")); err != nil {
			t.Errorf("%s cannot be selected: %v", k.event, err)
		}
	}
}
