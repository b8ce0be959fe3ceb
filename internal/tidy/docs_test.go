// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A heading is one line of a Markdown file that begins with number signs.
type heading struct {
	level int
	text  string
	line  int
}

// A link is one target in a Markdown file.
type link struct {
	target string
	line   int
}

var (
	headingLine = regexp.MustCompile(`^(#{1,6})[ \t]+(.*?)[ \t]*#*$`)
	inlineLink  = regexp.MustCompile(`\]\(\s*<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+["'][^"']*["'])?\s*\)`)
	refLink     = regexp.MustCompile(`^ {0,3}\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s+["'(].*)?$`)
	namedAnchor = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
	codeSpan    = regexp.MustCompile("`+[^`]*`+")
)

// A page is what the checks need of a Markdown file.
type page struct {
	headings []heading
	links    []link
	anchors  map[string]bool
	prose    []string // its lines, those inside code fences emptied
}

func parsePage(data []byte) *page {
	p := &page{anchors: map[string]bool{}}
	used := map[string]int{}
	fence := ""
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimRight(line, "\r")
		trimmed := strings.TrimLeft(line, " ")
		if fence != "" {
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			p.prose = append(p.prose, "")
			continue
		}
		if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
			fence = trimmed[:3]
			p.prose = append(p.prose, "")
			continue
		}
		p.prose = append(p.prose, line)
		if m := headingLine.FindStringSubmatch(line); m != nil {
			p.headings = append(p.headings, heading{len(m[1]), m[2], i + 1})
			s := slug(m[2])
			if n := used[s]; n > 0 {
				p.anchors[fmt.Sprintf("%s-%d", s, n)] = true
			} else {
				p.anchors[s] = true
			}
			used[s]++
		}
		for _, m := range namedAnchor.FindAllStringSubmatch(line, -1) {
			p.anchors[m[1]] = true
		}
		bare := codeSpan.ReplaceAllString(line, "``")
		for _, m := range inlineLink.FindAllStringSubmatch(bare, -1) {
			p.links = append(p.links, link{m[1], i + 1})
		}
		if m := refLink.FindStringSubmatch(bare); m != nil {
			p.links = append(p.links, link{m[1], i + 1})
		}
	}
	return p
}

// slug is the anchor that a heading gets on the usual hosts: lower case, letters, digits, hyphens and underscores
// only, spaces to hyphens. Markup inside the heading does not count.
func slug(text string) string {
	text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(text, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

// markdown are the documents of the tree, without those that tests use as data.
func (t *tree) markdown() []*file {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *file) bool {
		return path.Ext(f.path) != ".md" || slices.Contains(strings.Split(f.path, "/"), "testdata")
	})
}

// checkLinks wants every relative link to lead to a file or directory of the repository, and its anchor to a heading.
func checkLinks(t *tree) []problem {
	var out []problem
	pages := map[string]*page{}
	for _, f := range t.markdown() {
		pages[f.path] = parsePage(f.data)
	}
	for _, f := range t.markdown() {
		for _, l := range pages[f.path].links {
			bad := func(text string) {
				out = append(out, problem{f.path, l.line, fmt.Sprintf("link to %q: %s", l.target, text)})
			}
			u, err := url.Parse(l.target)
			switch {
			case err != nil:
				bad("not a URL")
				continue
			case u.Scheme != "" || u.Host != "":
				continue // the test needs no network
			case strings.HasPrefix(u.Path, "/"):
				bad("absolute path")
				continue
			}
			to := f.path
			if u.Path != "" {
				to = path.Join(path.Dir(f.path), u.Path)
			}
			switch {
			case !t.exists(to):
				bad("no such file")
			case u.Fragment == "":
			case pages[to] == nil:
				bad("an anchor needs a Markdown file")
			case !pages[to].anchors[u.Fragment]:
				bad("no such heading")
			}
		}
	}
	return out
}

const (
	protocolDocs  = "docs/protocol"
	deviationsDoc = protocolDocs + "/deviations.md"
	guarantees    = "docs/guarantees.md"
	dependencies  = "docs/decisions/0002-dependencies.md"
	decisionsDir  = "docs/decisions"
)

// layerHeadings are those of a page about a layer, in order; a number sign more is one level deeper. Deeper headings
// than these are free.
var layerHeadings = []string{
	"## Purpose", "## Protocol", "## Timers and parameters",
	"## Properties", "### Safety", "### Liveness",
	"## Deviations", "## Sources", "## Tests",
}

// decisionHeadings are those of a decision record.
var decisionHeadings = []string{"## Context", "## Options", "## Choice", "## Consequence"}

// checkDecisions wants each decision record to have a number of its own, the same in its name and its title.
func checkDecisions(t *tree) []problem {
	var out []problem
	first := map[string]string{}
	for _, f := range t.markdown() {
		if path.Dir(f.path) != decisionsDir {
			continue
		}
		number, _, _ := strings.Cut(path.Base(f.path), "-")
		if other := first[number]; other != "" {
			out = append(out, problem{f.path, 0, "has the number of " + path.Base(other)})
		}
		first[number] = f.path
		if !strings.HasPrefix(string(f.data), "# "+number+": ") {
			out = append(out, problem{f.path, 1, "the title does not begin with " + number + ":"})
		}
	}
	return out
}

// checkHeadings wants the pages about layers, and the decision records, to have the same headings in the same order,
// and each property of a layer to name its checker: in the last column of the table that holds it.
func checkHeadings(t *tree) []problem {
	var out []problem
	for _, f := range t.markdown() {
		var want []string
		free := 7 // headings of this level and deeper do not count
		switch path.Dir(f.path) {
		case protocolDocs:
			if f.path == deviationsDoc {
				continue
			}
			want = layerHeadings
		case decisionsDir:
			want, free = decisionHeadings, 3
		default:
			continue
		}
		p := parsePage(f.data)
		var got []string
		section := ""
		for _, h := range p.headings {
			if h.level == 2 {
				section = h.text
			}
			if h.level == 1 || h.level >= free || h.level > 2 && section != "Properties" || h.level > 3 {
				continue
			}
			got = append(got, strings.Repeat("#", h.level)+" "+h.text)
		}
		if !slices.Equal(got, want) {
			out = append(out, problem{f.path, 0, fmt.Sprintf("headings are %q, want %q", got, want)})
			continue
		}
		if path.Dir(f.path) == protocolDocs {
			out = append(out, uncheckedProperties(f, p)...)
		}
	}
	return out
}

// uncheckedProperties finds rows of the tables under Properties that name no checker.
func uncheckedProperties(f *file, p *page) []problem {
	var out []problem
	start, end := 0, len(p.prose)
	for _, h := range p.headings {
		if h.text == "Safety" {
			start = h.line
		}
		if h.text == "Deviations" {
			end = h.line - 1
		}
	}
	rows := 0
	for i := start; i < end; i++ {
		line := strings.TrimSpace(p.prose[i])
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		if strings.Trim(last, "-: ") == "" && last != "" || last == "checker" {
			continue // the table's head
		}
		rows++
		if len(cells) != 3 || !strings.Contains(last, "`") {
			out = append(out, problem{f.path, i + 1, "a property without a checker: want three columns, the last with the checker's name in backquotes"})
		}
	}
	if rows == 0 {
		out = append(out, problem{f.path, 0, "no properties listed"})
	}
	return out
}

// checkerName is a checker in the last column of a table of properties: a package below internal, and the rule as that
// package names it.
var checkerName = regexp.MustCompile("\\| *`(check|sim): ([A-Z]+-\\d+)` *\\|[ \t]*(?:\n|$)")

// checkCheckers wants each checker that a page about a layer names to be known to its package, which at least mentions
// the rule. A package that has no code yet cannot be judged.
func checkCheckers(t *tree) []problem {
	code := map[string][]byte{}
	for _, f := range t.goFiles() {
		for _, p := range []string{"check", "sim"} {
			if strings.HasPrefix(f.path, "internal/"+p+"/") {
				code[p] = append(code[p], f.data...)
			}
		}
	}
	var out []problem
	for _, f := range t.markdown() {
		if path.Dir(f.path) != protocolDocs {
			continue
		}
		for _, m := range checkerName.FindAllSubmatchIndex(f.data, -1) {
			p, rule := string(f.data[m[2]:m[3]]), string(f.data[m[4]:m[5]])
			if code[p] != nil && !regexp.MustCompile(`\b`+rule+`\b`).Match(code[p]) {
				line := 1 + strings.Count(string(f.data[:m[0]]), "\n")
				out = append(out, problem{f.path, line, fmt.Sprintf("internal/%s has no checker for %s", p, rule)})
			}
		}
	}
	return out
}

// deviation begins a comment, or a sentence of one, that admits to differ from the papers. goPath is how the page about
// them names a file.
var (
	deviation = regexp.MustCompile(`(?:^//\s*|[.;:)]\s+)Deviation:`)
	goPath    = regexp.MustCompile("`([\\w./-]+\\.go)`")
)

// checkDeviations wants each comment "// Deviation:" to be listed in the page about them, by file: as many mentions as
// the file has such comments, and no file that has none.
func checkDeviations(t *tree) []problem {
	var out []problem
	listed := map[string]int{}
	doc := t.byPath[deviationsDoc]
	if doc != nil {
		for _, m := range goPath.FindAllStringSubmatch(string(doc.data), -1) {
			listed[m[1]]++
		}
	}
	counted := map[string]bool{}
	for _, f := range t.goFiles() {
		n, line := 0, 0
		for _, c := range comments(f) {
			if deviation.MatchString(c.Text) {
				n, line = n+1, t.line(c.Pos())
			}
		}
		counted[f.path] = n > 0
		if n != listed[f.path] {
			out = append(out, problem{f.path, line, fmt.Sprintf("has %d comments that admit a deviation, %s lists the file %d times", n, deviationsDoc, listed[f.path])})
		}
	}
	if doc != nil {
		for _, m := range goPath.FindAllStringSubmatch(string(doc.data), -1) {
			if _, ok := counted[m[1]]; !ok {
				out = append(out, problem{deviationsDoc, 0, "no such file: " + m[1]})
			}
		}
	}
	return out
}

var ruleNumber = regexp.MustCompile(`\b(?:EVS|GRP|VS|PC|DATA|LIVE|M|P)-[1-9]\d?\b`)

// ruleDefinitions are the places where guarantees.md introduces a rule: bold at the start of a paragraph, or the first
// cell of the table of pitfalls.
var ruleDefinitions = regexp.MustCompile(`(?m)^(?:\*\*|\| )((?:EVS|GRP|VS|PC|DATA|LIVE|M|P)-\d+)\b`)

// checkCitations wants each rule number in a comment or document to be one of guarantees.md.
func checkCitations(t *tree) []problem {
	source := t.byPath[guarantees]
	if source == nil {
		return []problem{{guarantees, 0, "missing: the code cites its rules"}}
	}
	defined := map[string]bool{}
	for _, m := range ruleDefinitions.FindAllStringSubmatch(string(source.data), -1) {
		defined[m[1]] = true
	}
	var out []problem
	look := func(f *file, line int, text string) {
		for _, at := range ruleNumber.FindAllStringIndex(text, -1) {
			if id := text[at[0]:at[1]]; !defined[id] {
				out = append(out, problem{f.path, line + strings.Count(text[:at[0]], "\n"), "cites " + id + ", which " + guarantees + " does not have"})
			}
		}
	}
	for _, f := range t.goFiles() {
		for _, c := range comments(f) {
			look(f, t.line(c.Pos()), c.Text)
		}
	}
	for _, f := range t.markdown() {
		look(f, 1, string(f.data))
	}
	return out
}

// checkDependencies wants a line of reason for each module that go.mod requires, also for what comes with another.
func checkDependencies(t *tree) []problem {
	mod, doc := t.byPath["go.mod"], t.byPath[dependencies]
	if mod == nil {
		return []problem{{"go.mod", 0, "missing"}}
	}
	reasons := ""
	if doc != nil {
		reasons = string(doc.data)
	}
	var out []problem
	in := false
	for i, line := range strings.Split(string(mod.data), "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "require" && f[1] == "(":
			in = true
			continue
		case len(f) > 0 && f[0] == ")":
			in = false
			continue
		case len(f) >= 3 && f[0] == "require":
			f = f[1:]
		case !in || len(f) < 2 || strings.HasPrefix(f[0], "//"):
			continue
		}
		if !strings.Contains(reasons, "`"+f[0]+"`") {
			out = append(out, problem{"go.mod", i + 1, fmt.Sprintf("no reason for `%s` in %s", f[0], dependencies)})
		}
	}
	return out
}

func TestLinks(t *testing.T)        { report(t, checkLinks(repository(t))) }
func TestDecisions(t *testing.T)    { report(t, checkDecisions(repository(t))) }
func TestHeadings(t *testing.T)     { report(t, checkHeadings(repository(t))) }
func TestCheckers(t *testing.T)     { report(t, checkCheckers(repository(t))) }
func TestDeviations(t *testing.T)   { report(t, checkDeviations(repository(t))) }
func TestCitations(t *testing.T)    { report(t, checkCitations(repository(t))) }
func TestDependencies(t *testing.T) { report(t, checkDependencies(repository(t))) }

// A layer is a page about a layer with some lines replaced.
func layer(replace ...string) string {
	s := "# X\n\n## Purpose\n## Protocol\n### Free\n## Timers and parameters\n## Properties\n### Safety\n\n" +
		"| rule | here | checker |\n| --- | --- | --- |\n| EVS-1 | x | `y` |\n\n### Liveness\n## Deviations\n## Sources\n## Tests\n"
	return strings.NewReplacer(replace...).Replace(s)
}

func TestDocChecksObject(t *testing.T) {
	object(t, checkDecisions, []row{
		{"fine", made("docs/decisions/0001-a.md", "# 0001: A\n", "docs/decisions/0002-b.md", "# 0002: B\n"), nil},
		{"number twice", made("docs/decisions/0001-a.md", "# 0001: A\n", "docs/decisions/0001-b.md", "# 0001: B\n"), []string{"has the number of 0001-a.md"}},
		{"other number in the title", made("docs/decisions/0001-a.md", "# 0002: A\n"), []string{"does not begin with 0001:"}},
	})
	object(t, checkLinks, []row{
		{"fine", made("README.md", "# A\n[x](docs/b.md#two-words) ![p](p.png) [d](docs) [e](docs/) [w](https://example.com/x) [s](#a)\n\n[r]: docs/b.md \"t\"\n",
			"docs/b.md", "# B\n## Two words\n[up](../README.md)\n", "p.png", ""), nil},
		{"file", made("README.md", "\n[x](gone.md)"), []string{"README.md:2: link to \"gone.md\": no such file"}},
		{"relative to the page", made("docs/a.md", "[x](docs/a.md)"), []string{"no such file"}},
		{"anchor", made("a.md", "# A\n[x](#b)"), []string{"no such heading"}},
		{"anchor elsewhere", made("a.md", "[x](b.md#c)", "b.md", "# D"), []string{"no such heading"}},
		{"anchor in code", made("a.md", "[x](b.go#L3)", "b.go", "package b\n"), []string{"needs a Markdown file"}},
		{"reference", made("a.md", "[x]: gone.md"), []string{"no such file"}},
		{"absolute", made("a.md", "[x](/a.md)"), []string{"absolute"}},
		{"second of a name", made("a.md", "# A\n# A\n[x](#a-1) [y](#a-2)"), []string{"#a-2"}},
		{"inside code", made("a.md", "`[x](gone)`\n```\n[y](gone)\n```\n~~~\n# not a heading\n~~~\n"), nil},
		{"with title", made("a.md", "[x](gone.md \"t\")"), []string{"gone.md"}},
	})
	object(t, checkHeadings, []row{
		{"fine", made("docs/protocol/x.md", layer()), nil},
		{"one missing", made("docs/protocol/x.md", layer("## Sources\n", "")), []string{"headings are"}},
		{"order", made("docs/protocol/x.md", layer("## Sources\n## Tests", "## Tests\n## Sources")), []string{"headings are"}},
		{"one more", made("docs/protocol/x.md", layer("## Tests", "## Tests\n## More")), []string{"headings are"}},
		{"level", made("docs/protocol/x.md", layer("### Safety", "#### Safety")), []string{"headings are"}},
		{"no checker", made("docs/protocol/x.md", layer("`y`", "")), []string{"without a checker"}},
		{"no property", made("docs/protocol/x.md", layer("| EVS-1 | x | `y` |\n", "")), []string{"no properties"}},
		{"deviations are another kind of page", made(deviationsDoc, "# D\n"), nil},
		{"decision", made("docs/decisions/0009-x.md", "# X\n## Context\n## Options\n### One\n## Choice\n## Consequence\n"), nil},
		{"decision without options", made("docs/decisions/0009-x.md", "# X\n## Context\n## Choice\n## Consequence\n"), []string{"headings are"}},
	})
	names := "| EVS-1 | x | `check: EVS-1` |\n| LIVE-1 | x | `sim: LIVE-1` |\n"
	object(t, checkCheckers, []row{
		{"no code yet", made("docs/protocol/x.md", names), nil},
		{"known", made("docs/protocol/x.md", names, "internal/check/a.go", "package check\n\nvar _ = \"EVS-1\"\n", "internal/sim/a_test.go", "package sim // LIVE-1\n"), nil},
		{"unknown", made("docs/protocol/x.md", names, "internal/check/a.go", "package check\n\nvar _ = \"EVS-10\"\n"), []string{"x.md:1: internal/check has no checker for EVS-1"}},
		{"unknown to the simulator", made("docs/protocol/x.md", names, "internal/sim/a.go", "package sim\n"), []string{"x.md:2: internal/sim has no checker for LIVE-1"}},
	})
	object(t, checkDeviations, []row{
		{"listed", made(deviationsDoc, "in `client/a.go`\n", "client/a.go", "package client\n\n// Deviation: other.\nvar x int\n"), nil},
		{"not listed", made(deviationsDoc, "", "client/a.go", "package client\n\nvar x int // Deviation: other.\n"), []string{"client/a.go:3: has 1 comments"}},
		{"one of two", made(deviationsDoc, "in `client/a.go`\n", "client/a.go", "package client\n\n// Deviation: one.\n\n// Deviation: two.\n"), []string{"has 2 comments"}},
		{"stale", made(deviationsDoc, "in `client/a.go`\n", "client/a.go", "package client\n"), []string{"has 0 comments"}},
		{"gone", made(deviationsDoc, "in `client/a.go`\n"), []string{"no such file: client/a.go"}},
		{"second sentence", made("client/a.go", "package client\n\n// It is so. Deviation: other.\n"), []string{"has 1 comments"}},
		{"inside a sentence", made("client/a.go", "package client\n\n// No Deviation: here.\n"), nil},
	})
	rules := "**EVS-1 Integrity.** x\n\n| P-1 | x |\n"
	object(t, checkCitations, []row{
		{"fine", made(guarantees, rules, "client/a.go", "package client\n\n// EVS-1, P-1; P-256 is a curve, and EVS-10 in\nvar s = \"EVS-7\"\n"), []string{"client/a.go:3: cites EVS-10"}},
		{"in a block", made(guarantees, rules, "client/a.go", "package client\n\n/*\nx\nEVS-2 */\n"), []string{"client/a.go:5: cites EVS-2"}},
		{"in a document", made(guarantees, rules, "a.md", "x\nP-2\n"), []string{"a.md:2: cites P-2"}},
		{"in the rules themselves", made(guarantees, rules+"see EVS-3\n"), []string{"cites EVS-3"}},
		{"no rules", made("a.md", ""), []string{"missing"}},
	})
	object(t, checkDependencies, []row{
		{"fine", made("go.mod", "module x\n\nrequire a.b/c v1.0.0\n\nrequire (\n\td.e/f v1.0.0 // indirect\n)\n", dependencies, "`a.b/c` and `d.e/f`"), nil},
		{"single", made("go.mod", "module x\n\nrequire a.b/c v1.0.0\n", dependencies, ""), []string{"go.mod:3: no reason for `a.b/c`"}},
		{"block", made("go.mod", "module x\n\nrequire (\n\ta.b/c v1.0.0\n\td.e/f v1.0.0 // indirect\n)\n", dependencies, "`a.b/c/v2`"), []string{"`a.b/c`", "`d.e/f`"}},
		{"no record", made("go.mod", "require a.b/c v1.0.0\n"), []string{"a.b/c"}},
	})
}

func TestSlug(t *testing.T) {
	for _, c := range []struct{ heading, want string }{
		{"Timers and parameters", "timers-and-parameters"},
		{"8.4 Recovery (SRP95 §7; EVS94 §3)", "84-recovery-srp95-7-evs94-3"},
		{"`code` and [link](x.md)", "code-and-link"},
		{"client-protocol, 5_3", "client-protocol-5_3"},
	} {
		if got := slug(c.heading); got != c.want {
			t.Errorf("slug(%q) = %q, want %q", c.heading, got, c.want)
		}
	}
}
