// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: no text makes the parser panic or hang; each problem points into the text; what has no error obeys the
// bounds that later code relies on, and can be shown and compared.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/files/*.conf")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("Spread_Segment 10.0.0.255 { a 10.0.0.1 { C D M 1.1.1.1 } b=c } Window=1 DebugFlags={!ALL PRINT}RouteMatrix{{}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 20_000 {
			return // keeps the fuzzer fast; TestLimits has the large ones
		}
		c, err := Parse("f", data)
		problems, isProblems := errors.AsType[Problems](err)
		if err != nil && (!isProblems || problems.Errors() == 0) {
			t.Fatalf("error without an error: %#v", err)
		}
		lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		for _, p := range append(problems, c.Warnings...) {
			if p.Line == 0 {
				continue
			}
			if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > utf8.RuneCountInString(lines[p.Line-1])+1 {
				t.Errorf("problem outside of the file: %v", p)
			}
			if p.Text == "" || strings.Contains(p.String(), "\n") {
				t.Errorf("problem is not one line: %q", p)
			}
		}
		_ = NewReport(&c, err).WriteText(discard{}, TextOptions{Origin: true, All: true})
		if err != nil {
			return
		}
		if len(c.Daemons) == 0 || len(c.Daemons) > MaxDaemons || len(c.Segments) == 0 {
			t.Errorf("%d daemons, %d segments", len(c.Daemons), len(c.Segments))
		}
		names := map[string]bool{}
		for _, d := range c.Daemons {
			if checkDaemonName(d.Name) != nil || names[d.Name] || d.Addr.Port() == 0 || !d.Addr.Addr().IsValid() && d.Host == "" ||
				d.Segment >= len(c.Segments) || len(d.Interfaces) > MaxInterfaces {
				t.Errorf("daemon %+v", d)
			}
			names[d.Name] = true
		}
		if r := c.Ring; r.Global > 0 && r.Personal > r.Global || r.Personal > 0 && r.AcceleratedWindow > r.Personal {
			t.Errorf("ring %+v", r)
		}
		facts := FactsOf(&c, c.Timers.TokenTimeout)
		if b, err := facts.AppendBinary(nil); err != nil || len(b) >= MaxFactsSize || len(Diff(facts, facts)) > 0 {
			t.Errorf("facts: %d bytes, %v, %q", len(b), err, Diff(facts, facts))
		}
	})
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
