// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"

	"evensong/internal/proto/access"
)

const (
	rulesKeyword = "AccessRules"
	// maxPattern bounds a pattern in bytes: longer than any name.
	maxPattern = 256
	// maxRuleEntries bounds the entries of one condition.
	maxRuleEntries = 256
)

// rulesNode: AccessRules { one rule on each line }
type rulesNode struct {
	Keyword lexer.Token   `parser:"@'AccessRules'"`
	Braced  bool          `parser:"( '='? @'{'"`
	Items   []lexer.Token `parser:"@(( Word | String | Unclosed | Address | '=' | '!' )*) '}' )?"`
}

// ruleConditions are the words before the = in a rule.
var ruleConditions = []string{"user", "from", "method", "name", "cert", "uid", "group"}

// accessRules reads the block in a configuration file. Several blocks are one list.
func (r *reader) accessRules(n *rulesNode) {
	if !n.Braced {
		r.errorf(n.Keyword.Pos, "write AccessRules { allow join group=chat* }, one rule on each line", "the access rules have no braces")
		return
	}
	r.seen[rulesKeyword] = n.Keyword.Pos
	r.cfg.Auth.Rules = append(r.cfg.Auth.Rules, r.rules(n.Items)...)
	r.countRules(r.cfg.Auth.Rules, n.Keyword.Pos)
}

// ParseRules reads access rules, one on each line, from a file or whatever name stands for. deny refuses what no rule
// decides. The error is Problems.
func ParseRules(name string, data []byte, deny bool) (*access.Rules, error) {
	list, problems := parseRules(name, data)
	if problems.Errors() > 0 {
		return nil, problems
	}
	return &access.Rules{List: list, Deny: deny}, nil
}

// parseRules reads a file that holds nothing but rules.
func parseRules(file string, data []byte) ([]access.Rule, Problems) {
	r := &reader{file: file, seen: make(map[string]lexer.Position)}
	switch {
	case len(data) > MaxFileSize:
		r.errorf(lexer.Position{Line: 1, Column: 1}, "is this the right file?", "the file is larger than %d bytes", MaxFileSize)
		return nil, r.problems
	case bytes.IndexByte(data, 0) >= 0:
		r.errorf(lexer.Position{Line: 1, Column: 1}, "is this the right file?", "the file holds zero bytes and is no text")
		return nil, r.problems
	}
	rules := r.rules(r.lex(data))
	r.countRules(rules, lexer.Position{Line: 1, Column: 1})
	if r.tooMany() {
		r.problems = r.problems[:maxErrors]
		r.errorf(lexer.Position{}, "repair these first", "too many problems; the rest of the file was not read")
	}
	return rules, r.problems.sorted()
}

func (r *reader) countRules(rules []access.Rule, pos lexer.Position) {
	if len(rules) > access.MaxRules {
		r.errorf(pos, "join rules: a condition may list several entries, group=a,b*", "%d rules; the most is %d", len(rules), access.MaxRules)
	}
}

// rules reads tokens, one rule on each line. A line with a mistake is left out.
func (r *reader) rules(tokens []lexer.Token) []access.Rule {
	var out []access.Rule
	for len(tokens) > 0 && !r.tooMany() {
		n := 1
		for n < len(tokens) && tokens[n].Pos.Line == tokens[0].Pos.Line {
			n++
		}
		if rule, ok := r.rule(tokens[:n:n]); ok {
			r.unreachable(out, &rule, tokens[0].Pos)
			out = append(out, rule)
		}
		tokens = tokens[n:]
	}
	return out
}

// rule reads one line: allow or deny, points, conditions.
func (r *reader) rule(line []lexer.Token) (rule access.Rule, ok bool) {
	before := r.problems.Errors()
	switch first := line[0]; first.Value {
	case "allow":
		rule.Allow = true
	case "deny":
	case "{", "}":
		r.errorf(first.Pos, "a file of rules has one rule on each line, without braces", "%s is not expected here", shown(first.Value))
		return rule, false
	default:
		r.errorf(first.Pos, didYouMean(text(first), []string{"allow", "deny"}, "write allow or deny, then "+strings.Join(access.PointNames(), ", ")+" or all, then conditions such as group=chat*"),
			"a rule begins with allow or deny, not with %s", shown(text(first)))
		return rule, false
	}
	given := map[string]bool{}
	for i := 1; i < len(line); i++ {
		t := line[i]
		switch {
		case i+1 < len(line) && line[i+1].Value == "=" && t.Type == typeWord:
			if i+2 == len(line) || line[i+2].Type != typeWord && line[i+2].Type != typeAddress && line[i+2].Type != typeString && line[i+2].Type != typeBroken {
				r.errorf(t.Pos, fmt.Sprintf("write %s=..., on one line, and quote what holds # or =", t.Value), "condition %s has no value", shown(t.Value))
				return rule, false
			}
			if given[t.Value] {
				r.errorf(t.Pos, fmt.Sprintf("list them: %s=a,b", t.Value), "condition %s stands twice in one rule", t.Value)
			}
			given[t.Value] = true
			r.condition(&rule, t, line[i+2])
			i += 2
		case t.Type != typeWord:
			r.errorf(t.Pos, "conditions are written key=value; several values are listed as a,b; put values with # or = in quotes", "%s is not expected here", shown(text(t)))
			return rule, false
		case len(given) > 0:
			r.errorf(t.Pos, "the points stand before the conditions; several values of a condition are listed as a,b without blanks", "%s is not expected here", shown(t.Value))
			return rule, false
		default:
			r.points(&rule, t)
		}
	}
	if rule.Points == 0 && before == r.problems.Errors() {
		r.errorf(line[0].Pos, "name one or several of "+strings.Join(access.PointNames(), ", ")+", or all", "the rule does not say what is allowed or denied")
	}
	if len(rule.Group) > 0 {
		r.groupOfPoints(&rule, line[0].Pos)
	}
	rule.Where = fmt.Sprintf("%s:%d", r.file, line[0].Pos.Line)
	rule.Text = ruleText(line)
	return rule, before == r.problems.Errors()
}

// points reads words such as join,leave.
func (r *reader) points(rule *access.Rule, t lexer.Token) {
	for word := range strings.SplitSeq(t.Value, ",") {
		p, ok := access.ParsePoint(word)
		switch {
		case word == "":
		case word == "all" || word == "*":
			rule.Points = access.AllPoints
		case ok:
			rule.Points |= access.PointsOf(p)
		default:
			r.errorf(t.Pos, didYouMean(word, append(access.PointNames(), "all"), "it is about "+strings.Join(access.PointNames(), ", ")+" or all; conditions are written key=value"),
				"a rule cannot allow or deny %s", shown(word))
		}
	}
}

// condition reads key=value, where value is a list with commas.
func (r *reader) condition(rule *access.Rule, key, value lexer.Token) {
	entries := strings.Split(text(value), ",")
	if len(entries) > maxRuleEntries {
		r.errorf(value.Pos, "use patterns, or several rules", "%d entries in one condition; the most is %d", len(entries), maxRuleEntries)
		return
	}
	if !slices.Contains(ruleConditions, key.Value) {
		r.errorf(key.Pos, didYouMean(key.Value, ruleConditions, "the conditions are "+strings.Join(ruleConditions, ", ")), "unknown condition %s", shown(key.Value))
		return
	}
	for _, e := range entries {
		if e == "" {
			r.errorf(value.Pos, "remove the comma, or the condition", "condition %s has an empty entry", key.Value)
			return
		}
		if err := r.entry(rule, key.Value, e, value.Pos); err != nil {
			return
		}
	}
}

// errReported ends reading a condition after a problem was reported.
var errReported = errors.New("reported")

// entry reads one entry of a condition.
func (r *reader) entry(rule *access.Rule, key, e string, pos lexer.Position) error {
	bad := func(hint, format string, args ...any) error {
		r.errorf(pos, hint, format, args...)
		return errReported
	}
	if len(e) > maxPattern {
		return bad("shorten it", "an entry of condition %s is too long (%d > %d bytes)", key, len(e), maxPattern)
	}
	switch key {
	case "user":
		if strings.Contains(e, "#") {
			return bad("a user is the first part of a private name: for #bob#alpha write bob", "user %s holds a #", shown(e))
		}
		rule.User = append(rule.User, access.Pattern(e))
	case "name":
		rule.Name = append(rule.Name, access.Pattern(e))
	case "cert":
		rule.Cert = append(rule.Cert, access.Pattern(e))
	case "group":
		rule.Group = append(rule.Group, access.Pattern(e))
	case "method":
		if !slices.Contains(authMethods, e) {
			return bad(didYouMean(e, authMethods, "the methods are "+strings.Join(authMethods, ", ")), "unknown authentication method %s", shown(e))
		}
		rule.Method = append(rule.Method, e)
	case "from":
		switch e {
		case "unix":
			rule.From = append(rule.From, access.From{Unix: true})
			return nil
		case "local":
			rule.From = append(rule.From, access.From{Net: netip.MustParsePrefix("127.0.0.0/8")}, access.From{Net: netip.MustParsePrefix("::1/128")})
			return nil
		}
		p, masked, err := parseNetwork(e)
		if err != nil {
			hint := "write an address, a network such as 10.0.0.0/8 or fd00::/8, local, or unix"
			if !strings.ContainsAny(e, ".:/") {
				hint = didYouMean(e, []string{"unix", "local"}, hint)
			}
			return bad(hint, "%v", err)
		}
		if masked {
			r.report(Warning, pos, "write "+p.String(), "%s is read as the network %s", shown(e), p)
		}
		rule.From = append(rule.From, access.From{Net: p})
	case "uid":
		low, high, isRange := strings.Cut(e, "-")
		if !isRange {
			high = low
		}
		a, aerr := strconv.ParseUint(low, 10, 32)
		b, berr := strconv.ParseUint(high, 10, 32)
		if aerr != nil || berr != nil || a > b {
			return bad("write a number such as 1000, or a range such as 1000-1999", "%s is no user number", shown(e))
		}
		rule.UID = append(rule.UID, access.UIDs{Low: uint32(a), High: uint32(b)})
	}
	return nil
}

// groupOfPoints checks that the groups of a rule can be met at one of its points.
func (r *reader) groupOfPoints(rule *access.Rule, pos lexer.Position) {
	private, other := false, false // may fit a private name, another name
	for _, p := range rule.Group {
		private = private || strings.ContainsAny(string(p[:1]), "#*?")
		other = other || p[0] != '#'
	}
	switch send := access.PointsOf(access.Send); {
	case rule.Points == access.PointsOf(access.Open):
		r.errorf(pos, "remove group=..., or write join", "there is no group when a connection is opened")
	case rule.Points == send && !private:
		r.report(Warning, pos, `write group="#bob#*", or multicast for messages to groups`, "a send goes to a private name, which begins with #, so this rule never fits")
	case rule.Points&send == 0 && !other:
		r.report(Warning, pos, "write send for messages to private names", "only a send goes to a private name, so this rule never fits")
	}
}

// unreachable warns of a rule behind one that decides in any case.
func (r *reader) unreachable(before []access.Rule, rule *access.Rule, pos lexer.Position) {
	for i := range before {
		b := &before[i]
		if len(b.User)+len(b.From)+len(b.Method)+len(b.Name)+len(b.Cert)+len(b.UID)+len(b.Group) == 0 && rule.Points&^b.Points == 0 {
			r.report(Warning, pos, "move it up, or remove one of them", "this rule never decides, because the one of %s has no conditions", b.Where)
			return
		}
	}
}

// ruleText is the rule as people read it.
func ruleText(line []lexer.Token) string {
	var b strings.Builder
	for i, t := range line {
		if i > 0 && t.Value != "=" && line[i-1].Value != "=" {
			b.WriteByte(' ')
		}
		b.WriteString(t.Value)
	}
	return printable(b.String()) // whole: a reload tells by it whether rules have changed
}
