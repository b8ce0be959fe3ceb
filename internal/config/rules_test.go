// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/access"
)

// TestRules: what rules mean, in a block and in a file of their own.
func TestRules(t *testing.T) {
	rules, problems := parseRules("r", []byte("allow open\n\ndeny  join, leave group=chat*,log user=alice  # why\n"+
		"allow * method=NULL,PWORD from=unix,10.1.0.0/16 uid=0,7-9 name=al*\nallow send group=\"#boss#*\" from=fd00::1\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []access.Rule{
		{Allow: true, Points: access.PointsOf(access.Open), Where: "r:1", Text: "allow open"},
		{Points: access.PointsOf(access.Join, access.Leave), Group: []access.Pattern{"chat*", "log"}, User: []access.Pattern{"alice"},
			Where: "r:3", Text: "deny join, leave group=chat*,log user=alice"},
		{Allow: true, Points: access.AllPoints, Method: []string{"NULL", "PWORD"}, From: []access.From{{Unix: true}, {Net: netip.MustParsePrefix("10.1.0.0/16")}},
			UID: []access.UIDs{{Low: 0, High: 0}, {Low: 7, High: 9}}, Name: []access.Pattern{"al*"}, Where: "r:4", Text: "allow * method=NULL,PWORD from=unix,10.1.0.0/16 uid=0,7-9 name=al*"},
		{Allow: true, Points: access.PointsOf(access.Send), Group: []access.Pattern{"#boss#*"}, From: []access.From{{Net: netip.MustParsePrefix("fd00::1/128")}},
			Where: "r:5", Text: "allow send group=\"#boss#*\" from=fd00::1"},
	}
	for i := range max(len(rules), len(want)) {
		if i >= len(rules) || i >= len(want) || !reflect.DeepEqual(rules[i], want[i]) {
			t.Fatalf("rule %d:\ngot  %+v\nwant %+v", i, rules[min(i, len(rules)-1)], want[min(i, len(want)-1)])
		}
	}
}

// TestLongRule: two rules that differ at their ends only have different texts, by which a reload tells them apart.
func TestLongRule(t *testing.T) {
	long := "deny join group=" + strings.Repeat("some-group,", 100)
	rules, problems := parseRules("r", []byte(long+"a\n"+long+"b\n"))
	if len(problems) > 0 || rules[0].Text != long+"a" || rules[1].Text != long+"b" {
		t.Errorf("%v %v", rules, problems)
	}
}

// TestRuleMistakes: each is one problem at its place that says what to do.
func TestRuleMistakes(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"alow join", `r:1:1: error: a rule begins with allow or deny, not with "alow"; did you mean allow?`},
		{"allow join\njoin group=x", "r:2:1: error: a rule begins with"},
		{"deny", "does not say what is allowed or denied"},
		{"deny group=x", "r:1:1: error: the rule does not say"},
		{"deny jion", `r:1:6: error: a rule cannot allow or deny "jion"; did you mean join?`},
		{"deny monitor", "it is about open, join"},
		{"deny join,laeve", "did you mean leave?"},
		{"deny join gruop=x", `r:1:11: error: unknown condition "gruop"; did you mean group?`},
		{"deny join group=", `r:1:11: error: condition "group" has no value`},
		{"deny join group=\nallow join", "has no value"},
		{"deny join group=#x", "quote what holds #"},
		{"deny join group=a group=b", "stands twice in one rule; list them: group=a,b"},
		{"deny join group=a,,b", "has an empty entry"},
		{"deny join group=a b", `r:1:19: error: "b" is not expected here`},
		{"deny join group=a join", "the points stand before the conditions"},
		{"deny join = x", `unknown condition "join"`},
		{"deny !join", `r:1:6: error: "!" is not expected here`},
		{"deny join user=#bob#alpha", "has no value"},
		{`deny join user="#bob#alpha"`, "for #bob#alpha write bob"},
		{"deny join method=PAM", `unknown authentication method "PAM"`},
		{"deny join from=10.0.0.0/99", "0 to 32"},
		{"deny join from=Unix", "did you mean unix?"},
		{"deny join from=10.0.0.1/8", `r:1:16: warning: "10.0.0.1/8" is read as the network 10.0.0.0/8`},
		{"deny join uid=root", `"root" is no user number`},
		{"deny join uid=9-7", "is no user number"},
		{"deny join uid=4294967296", "is no user number"},
		{"deny open group=x", "there is no group when a connection is opened"},
		{"deny send group=chat*x", "r:1:1: warning: a send goes to a private name"},
		{`deny join group="#x#*"`, "r:1:1: warning: only a send goes to a private name"},
		{"deny all\nallow join user=x", "r:2:1: warning: this rule never decides, because the one of r:1 has no conditions"},
		{"{\n", "without braces"},
		{"deny join group=" + strings.Repeat("x", maxPattern+1), "is too long"},
		{"deny join group=x" + strings.Repeat(",x", maxRuleEntries), "257 entries"},
		{strings.Repeat("deny join user=x\n", access.MaxRules+1), "1001 rules; the most is 1000"},
		{`deny join group="x`, "string is not closed"},
		{"a\x00", "zero bytes"},
		{strings.Repeat("#", MaxFileSize+1), "larger than"},
	} {
		_, problems := parseRules("r", []byte(row.text))
		if len(problems) != 1 || !strings.Contains(problems.Error(), row.want) {
			t.Errorf("%.60q: got %v, want %s", row.text, problems, row.want)
		}
	}
	if _, problems := parseRules("r", []byte(strings.Repeat("x\n", 1000))); len(problems) != maxErrors+1 {
		t.Errorf("%d problems of a hopeless file", len(problems))
	}
}

// TestRulesBlock: mistakes of the block itself in a configuration file.
func TestRulesBlock(t *testing.T) {
	const seg = "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\n"
	for _, row := range []struct{ text, want string }{
		{seg + "AccessRules", "f:2:1: error: the access rules have no braces"},
		{seg + "AccessRules {\ndeny join\n", "f:2:13: error: this { is never closed"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1\nAccessRules { deny join }", "f:1:27: error: this { is not closed before the directive in line 2"},
		{seg + "AccessRules {\n  deny jion\n}", "f:3:8: error"},
		{seg + "AccessRule { deny join }", "did you mean AccessRules?"},
		{seg + "AccessRulesFile = x\nAccessRules { deny join }", "f:2:1: error: there are access rules here and in a file of their own"},
	} {
		_, err := Parse("f", []byte(row.text))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, want %s", row.text, err, row.want)
		}
	}
	c, err := Parse("f", []byte(seg+"AccessRules = { deny join }\nAccessRules {\n}\nAccessRules { allow see }"))
	if err != nil || len(c.Auth.Rules) != 2 || c.Auth.Rules[1].String() != "f:5: allow see" {
		t.Errorf("%v %v", c.Auth.Rules, err)
	}
}

// TestLoadRules: rules of the configuration, or of a file that a flag names in their place.
func TestLoadRules(t *testing.T) {
	here, _ := inDir(t)
	write(t, filepath.Join(here, "rules"), "deny join group=secret\n")
	write(t, filepath.Join(here, "bad"), "deny jion\n")
	const head = "Spread_Segment 10.0.0.255 { a 10.0.0.1 }\n"
	for _, row := range []struct{ text, flags, want, problem string }{
		{"", "", "", ""},
		{"AccessRules { deny leave }", "", "test.conf:2: deny leave", ""},
		{"AccessRulesFile = rules", "", "rules:1: deny join group=secret", ""},
		{"AccessRules { deny leave }", "--access-rules=rules", "rules:1: deny join group=secret", ""},
		{"AccessRulesFile = bad", "--access-rules=rules", "rules:1: deny join group=secret", ""},
		{"AccessRulesFile = bad", "", "", "bad:1:6: error: a rule cannot allow or deny"},
		{"AccessRulesFile = nowhere", "", "", "test.conf:2: error: access rules: open nowhere"},
		{"AccessControlPolicy = DENY", "", "", "test.conf:2: warning: AccessControlPolicy is DENY and there are no rules"},
		{"AccessRules { deny open method=PWORD }", "", "test.conf:2: deny open method=PWORD", "test.conf:2: warning: no client can pass method PWORD"},
	} {
		file := mustParse(t, head+row.text)
		c, err := Assemble(&file, flags(t, strings.Fields(row.flags)...), env(nil), hostAlpha)
		if err != nil {
			t.Fatal(err)
		}
		a, err := LoadAccess(&c)
		var got []string
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			for _, w := range a.Warnings {
				said += w.String()
			}
			if a.Rules != nil {
				for i := range a.Rules.List {
					got = append(got, a.Rules.List[i].String())
				}
			}
		}
		if strings.Join(got, "; ") != row.want || row.problem == "" && said != "" || !strings.Contains(said, row.problem) {
			t.Errorf("%s %s: rules %q, problems %s", row.text, row.flags, got, said)
		}
	}
}

// FuzzRules: no text makes the reader of rules panic; each problem is one line and points into the text; what is accepted
// has points, and only patterns that are not empty.
func FuzzRules(f *testing.F) {
	f.Add([]byte("allow open\ndeny join,leave group=chat*,\"#a#b\" user=x from=unix,local,10.0.0.0/8,fd00::/8 method=NULL name=y uid=0,1-9\n"))
	f.Add([]byte("deny * group=\nallow =x\n!x {}\ndeny join group='x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 20_000 {
			return // keeps the fuzzer fast
		}
		rules, problems := parseRules("f", data)
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Text == "" || strings.Contains(p.String(), "\n") {
				t.Errorf("problem %q", p)
			}
		}
		all := access.Rules{List: rules}
		for i := range rules {
			r := &rules[i]
			if r.Points == 0 || r.Where == "" || r.Text == "" {
				t.Errorf("rule %+v", r)
			}
			for _, list := range [][]access.Pattern{r.User, r.Name, r.Group} {
				for _, p := range list {
					if p == "" {
						t.Errorf("empty pattern in %v", r)
					}
				}
			}
		}
		j := all.For(&access.Principal{User: "x", UID: 5, HasUID: true, Methods: []string{"NULL"}})
		for p := range access.Point(access.NumPoints) {
			j.May(p, []byte("chat"))
		}
	})
}

// TestAccessPage: every example of the page for operators is accepted as it stands there, without a word.
func TestAccessPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations/access.md")
	if err != nil {
		t.Fatal(err)
	}
	here, _ := inDir(t)
	write(t, filepath.Join(here, "spread.access_ip"), "local\n")
	write(t, filepath.Join(here, "spread.access_pword"), "a:abJnggxhB/yWI\n")
	write(t, filepath.Join(here, "team.rules"), "allow join\n")
	var examples []string
	var cur []string
	for line := range strings.Lines(string(page) + "\nend\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			cur = append(cur, code)
		} else if strings.TrimSpace(line) == "" && len(cur) > 0 {
			cur = append(cur, line)
		} else if len(cur) > 0 {
			examples = append(examples, strings.Join(cur, ""))
			cur = nil
		}
	}
	kinds := map[string]int{}
	for _, e := range examples {
		var problems Problems
		switch first := strings.Fields(e)[0]; {
		case strings.HasPrefix(e, "# Who may connect"):
			kinds["networks"]++
			_, problems = parseNetworks("example", []byte(e))
		case strings.Contains(e, ":abJ"):
			kinds["passwords"]++
			_, problems = parsePasswords("example", []byte(e))
		case first == "allow" || first == "deny":
			kinds["rules"]++
			_, problems = parseRules("example", []byte(e))
		case isKeyword(first):
			kinds["configuration"]++
			c, err := Parse("example", []byte("Spread_Segment unicast { a 10.0.0.1 }\n"+e))
			if err != nil {
				t.Errorf("%v\nin\n%s", err, e)
				continue
			}
			a, err := LoadAccess(&c)
			if err != nil {
				t.Errorf("%v\nin\n%s", err, e)
				continue
			}
			problems = append(problems, append(c.Warnings, a.Warnings...)...)
		default:
			t.Errorf("an example of no kind:\n%s", e)
		}
		if len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, e)
		}
	}
	if kinds["networks"] != 1 || kinds["passwords"] != 1 || kinds["rules"] < 1 || kinds["configuration"] < 5 {
		t.Errorf("examples: %v", kinds)
	}
}
