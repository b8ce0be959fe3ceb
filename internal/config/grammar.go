// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// The lexer accepts every text: what is no token of the format becomes Unclosed or a Word that the grammar or the
// directive refuses with a better message than "invalid character". Strings have no escapes and end on their line.
var fileLexer = lexer.MustSimple([]lexer.SimpleRule{
	{Name: "Comment", Pattern: `#[^\n]*`},
	{Name: "Space", Pattern: `[\s\v\x{A0}\x{2028}\x{2029}]+`},
	{Name: "String", Pattern: `"[^"\n]*"|'[^'\n]*'`},
	{Name: "Unclosed", Pattern: `["'][^\n]*`},
	{Name: "Address", Pattern: `\[[^\]\s{}="'#]*\][^\s{}="'#]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+[^\s{}="'#]*|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[^\s{}="'#]*`},
	{Name: "Punct", Pattern: `[{}=!]`},
	{Name: "Word", Pattern: `[^\s\v\x{A0}\x{2028}\x{2029}{}="'#!][^\s\v\x{A0}\x{2028}\x{2029}{}="'#]*`},
})

var (
	symbols     = fileLexer.Symbols()
	typeString  = symbols["String"]
	typeBroken  = symbols["Unclosed"]
	typeAddress = symbols["Address"]
	typeWord    = symbols["Word"]
)

// statement is the grammar of one directive. A file is a sequence of them in any order. Between the tokens of one line
// and between lines there is no difference, except to the recovery after mistakes (see chunks).
type statement struct {
	Segment *segmentNode `parser:"(  @@"`
	Matrix  *matrixNode  `parser:"| @@"`
	Rules   *rulesNode   `parser:"| @@"`
	Setting *settingNode `parser:"| @@ )"`
}

// Spread_Segment 10.0.0.255:4803 { daemons }
type segmentNode struct {
	Keyword lexer.Token   `parser:"@'Spread_Segment'"`
	Addr    *atom         `parser:"@@?"`
	Braced  bool          `parser:"( @'{'"`
	Members []*memberNode `parser:"@@* '}' )?"`
}

type memberNode struct {
	Daemon *daemonNode `parser:"(  @@"`
	Stray  *strayNode  `parser:"| @@ )"`
}

// name, or name 10.0.0.1, or name = host; each may be followed by a stanza of interfaces.
type daemonNode struct {
	Name   lexer.Token   `parser:"@(Word | String | Unclosed)"`
	Host   *atom         `parser:"( '=' @@"`
	Addr   []lexer.Token `parser:"| @Address )?"`
	Stanza *stanzaNode   `parser:"@@?"`
}

// { C D 10.0.0.1  M 10.1.0.1 }
type stanzaNode struct {
	Open  lexer.Token   `parser:"@'{'"`
	Items []lexer.Token `parser:"@(( Word | String | Unclosed | Address | '=' | '!' )*) '}'"`
}

// strayNode takes what can start no daemon, so that the mistake is reported and the next line is read.
type strayNode struct {
	Token  lexer.Token `parser:"(  @(Address | '=' | '!')"`
	Stanza *stanzaNode `parser:"| @@ )"`
}

// settingNode: Key, or Key = value, or Key = { WORD !WORD }
type settingNode struct {
	Key   lexer.Token   `parser:"@Word"`
	Equal []lexer.Token `parser:"( @'='"`
	Value *valueNode    `parser:"@@? )?"`
}

type valueNode struct {
	Atom *atom       `parser:"(  @@"`
	Set  *setNode    `parser:"| @@"`
	Bang lexer.Token `parser:"| @'!' )"`
}

type setNode struct {
	Open  lexer.Token   `parser:"@'{'"`
	Items []lexer.Token `parser:"@(( Word | String | Unclosed | Address | '=' | '!' )*) '}'"`
}

// matrixNode is a leftover of a research version whose inside nobody uses; it reaches to the next directive.
type matrixNode struct {
	Keyword lexer.Token   `parser:"@'RouteMatrix'"`
	Rest    []lexer.Token `parser:"@(( Word | String | Unclosed | Address | '=' | '!' | '{' | '}' )*)"`
}

// atom is one value.
type atom struct {
	Token lexer.Token `parser:"@(Word | String | Unclosed | Address)"`
}

var statementParser = participle.MustBuild[statement](participle.Lexer(fileLexer), participle.UseLookahead(2))

// text is the content of a token: without quotes if it has any.
func text(t lexer.Token) string {
	switch t.Type {
	case typeString:
		return t.Value[1 : len(t.Value)-1]
	case typeBroken:
		return strings.TrimRight(t.Value[1:], " \t\r")
	}
	return t.Value
}

// shown is a token as it appears in messages: quoted, and cut where it is too long to be read.
func shown(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "..."
	}
	return fmt.Sprintf("%q", s)
}

// reader is the state of reading one file.
type reader struct {
	file     string
	cfg      Config
	problems Problems
	end      lexer.Position

	seen    map[string]lexer.Position // directives given, at their last place
	dormant []dormantUse              // accepted directives that have no effect
}

type dormantUse struct {
	key string
	pos lexer.Position
}

func (r *reader) report(s Severity, pos lexer.Position, hint, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		File: r.file, Line: pos.Line, Col: pos.Column, Severity: s, Text: printable(fmt.Sprintf(format, args...)), Hint: printable(hint),
	})
}

func (r *reader) errorf(pos lexer.Position, hint, format string, args ...any) {
	r.report(Error, pos, hint, format, args...)
}

// readAll lexes and parses the whole file, calling handle for each statement. It never stops at a mistake.
func (r *reader) readAll(data []byte, handle func(*statement)) {
	tokens := r.joinPorts(r.lex(data))
	for _, chunk := range r.chunks(tokens) {
		r.parseChunk(chunk, handle)
	}
}

// lex returns the tokens that mean something and reports the strings that are not closed.
func (r *reader) lex(data []byte) []lexer.Token {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	lex, err := fileLexer.LexString(r.file, string(data))
	if err != nil {
		panic("config: lexer does not start: " + err.Error())
	}
	var tokens []lexer.Token
	for {
		t, err := lex.Next()
		if err != nil {
			// The last rules take any character, so this is a mistake of ours that the fuzz test would find.
			panic("config: lexer is not total: " + err.Error())
		}
		switch {
		case t.EOF():
			r.end = t.Pos
			return tokens
		case t.Type == symbols["Comment"], t.Type == symbols["Space"]:
			continue
		case t.Type == typeBroken:
			r.errorf(t.Pos, fmt.Sprintf("close it with %s; a string has no escapes and ends on its line", t.Value[:1]), "string is not closed on this line")
		}
		tokens = append(tokens, t)
	}
}

// chunks cuts the tokens at the places from which reading can go on after a mistake: the first word of each line that
// is outside braces, or that begins a directive although a brace is open (somebody forgot to close it). Each chunk has
// balanced braces: what is missing is added, what is too much is removed, both with an error.
func (r *reader) chunks(tokens []lexer.Token) [][]lexer.Token {
	var out [][]lexer.Token
	var open []lexer.Token // unclosed braces of the current chunk
	start := 0
	forgiven := 0 // closing braces added; as many that come later close what was meant to be open until there
	var cur []lexer.Token
	flush := func(next lexer.Position, atEnd bool) {
		for i := len(open) - 1; i >= 0; i-- {
			if atEnd {
				r.errorf(open[i].Pos, "add }", "this { is never closed")
			} else {
				r.errorf(open[i].Pos, "add } before that line; directives stand outside of segments", "this { is not closed before the directive in line %d", next.Line)
			}
			forgiven++
			cur = append(cur, lexer.Token{Type: symbols["Punct"], Value: "}", Pos: next})
		}
		open = open[:0]
		if len(cur) > 0 {
			out = append(out, cur)
			cur = nil
		}
	}
	for i := 0; i < len(tokens) && !r.tooMany(); i++ {
		t := tokens[i]
		firstOnLine := i == 0 || tokens[i-1].Pos.Line < t.Pos.Line
		if firstOnLine && i > start && t.Type == typeWord {
			equalNext := i+1 < len(tokens) && tokens[i+1].Value == "="
			known := isKeyword(t.Value)
			afterEqual := tokens[i-1].Value == "=" || tokens[i-1].Value == segmentKeyword
			if len(open) > 0 && known && equalNext && t.Value != segmentKeyword && closedBeforeSegment(tokens[i:], len(open)) {
				r.errorf(t.Pos, "move it out of the braces", "directive %s stands inside the braces of line %d", t.Value, open[0].Pos.Line)
				n := settingLength(tokens[i:])
				out = append(out, tokens[i:i+n])
				i += n - 1
				continue
			}
			switch {
			case len(open) > 0 && (t.Value == segmentKeyword || t.Value == rulesKeyword || known && equalNext),
				len(open) == 0 && (!afterEqual || known || equalNext && tokens[i-1].Value == "="):
				flush(t.Pos, false)
				start = i
			}
		}
		switch {
		case t.Value == "{":
			open = append(open, t)
		case t.Value == "}" && len(open) == 0 && forgiven > 0:
			forgiven--
			continue
		case t.Value == "}" && len(open) == 0:
			r.errorf(t.Pos, "remove it", "this } closes nothing")
			continue
		case t.Value == "}":
			open = open[:len(open)-1]
		}
		cur = append(cur, t)
	}
	flush(r.end, true)
	return out
}

// closedBeforeSegment reports whether depth open braces are closed before the next segment begins: then a directive among
// them is misplaced, otherwise a brace is missing before it.
func closedBeforeSegment(tokens []lexer.Token, depth int) bool {
	for _, t := range tokens {
		switch t.Value {
		case "{":
			depth++
		case "}":
			depth--
		case segmentKeyword:
			return false
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// settingLength is the number of tokens of the Key = value with which tokens begin.
func settingLength(tokens []lexer.Token) int {
	if len(tokens) < 3 || tokens[2].Value == "}" {
		return 2
	}
	if tokens[2].Value != "{" {
		return 3
	}
	for i := 3; i < len(tokens); i++ {
		if tokens[i].Value == "}" {
			return i + 1
		}
	}
	return 2
}

// parseChunk parses the statements of one chunk. After a token that fits nowhere the rest of its line is skipped, as it
// most probably belongs to the same mistake.
func (r *reader) parseChunk(tokens []lexer.Token, handle func(*statement)) {
	lex, err := lexer.Upgrade(&tokenLexer{tokens: tokens, end: r.end})
	if err != nil {
		panic("config: a list of tokens cannot fail: " + err.Error())
	}
	for !lex.Peek().EOF() && !r.tooMany() {
		before := lex.MakeCheckpoint()
		st, err := statementParser.ParseFromLexer(lex, participle.AllowTrailing(true))
		if err == nil && lex.RawCursor() > before.RawCursor() {
			if st.Setting != nil && len(st.Setting.Equal) == 0 {
				r.valueWithoutEqual(st.Setting, lex)
			}
			if st.Setting == nil || !r.valueOfWords(st.Setting, lex) {
				handle(st)
			}
			continue
		}
		var bad lexer.Token
		if perr, ok := err.(participle.Error); ok {
			bad = tokenAt(tokens, perr.Position())
		}
		if bad.Pos.Line == 0 {
			lex.LoadCheckpoint(before)
			bad = *lex.Peek()
		}
		hint := "a directive is written Key = value; the list of directives is in docs/operations/configuration.md"
		switch bad.Value {
		case "{":
			hint = "braces stand after Spread_Segment <address>, after a daemon, and after DebugFlags ="
		case "=":
			hint = "a directive is written Key = value; put values with = or spaces in quotes"
		}
		r.errorf(bad.Pos, hint, "%s is not expected here", shown(bad.Value))
		lex.LoadCheckpoint(before)
		skipMistake(lex, bad.Pos)
	}
}

// maxErrors is where reading stops: nobody reads more, and the time for a hostile file stays small.
const maxErrors = 200

func (r *reader) tooMany() bool { return len(r.problems) >= maxErrors }

// valueWithoutEqual takes a value that follows on the line of a directive although the = is missing, and whatever
// follows an unknown one.
func (r *reader) valueWithoutEqual(s *settingNode, lex *lexer.PeekingLexer) {
	next := lex.Peek()
	d := directives[s.Key.Value]
	if d == nil {
		r.unknownKey(s)
		s.Key.Value = ""
		if next.Value == "{" || next.Pos.Line == s.Key.Pos.Line && !isKeyword(next.Value) {
			skipMistake(lex, next.Pos) // what follows belongs to the directive that nobody knows
		}
		return
	}
	if next.EOF() || next.Pos.Line != s.Key.Pos.Line || isKeyword(next.Value) || d.kind == kindFlag && !d.optionalValue {
		return
	}
	if next.Value == "=" || next.Value == "}" {
		return
	}
	value := next.Value
	if value == "{" {
		value = "{ ... }"
	}
	r.errorf(next.Pos, fmt.Sprintf("write %s = %s", s.Key.Value, value), "= is missing between %s and its value", s.Key.Value)
	s.Key.Value = "" // reported; there is nothing to handle
	skipMistake(lex, next.Pos)
}

// valueOfWords takes what follows a value on its line, which is most often the rest of a list without quotes, and reports
// whether there was such: then the directive is not handled, because its value is only a part.
func (r *reader) valueOfWords(s *settingNode, lex *lexer.PeekingLexer) bool {
	d := directives[s.Key.Value]
	if d == nil || s.Value == nil || s.Value.Atom == nil || d.kind == kindFlag {
		return false
	}
	first := s.Value.Atom.Token
	next := lex.Peek()
	another := lex.MakeCheckpoint() // Ky = value: another directive, misspelled
	follows := func() bool {
		t := lex.Peek()
		return !t.EOF() && t.Pos.Line == first.Pos.Line && t.Value != "{" && t.Value != "}" && t.Value != "=" && !isKeyword(t.Value)
	}
	if !follows() {
		return false
	}
	words := []string{text(first)}
	for follows() {
		words = append(words, text(*lex.Next()))
	}
	if lex.Peek().Value == "=" && lex.Peek().Pos.Line == first.Pos.Line {
		lex.LoadCheckpoint(another)
		return false
	}
	all := strings.Join(words, " ")
	hint := fmt.Sprintf("%s takes one value: write %s = %s", s.Key.Value, s.Key.Value, words[0])
	switch d.kind {
	case kindText:
		hint = fmt.Sprintf("a value of several words stands in quotes: write %s = \"%s\"", s.Key.Value, strings.ReplaceAll(all, ",", ""))
	case kindSet:
		hint = fmt.Sprintf("write %s = { %s }", s.Key.Value, strings.ReplaceAll(all, ",", ""))
	}
	r.errorf(next.Pos, hint, "%s is not expected behind the value of %s", shown(words[1]), s.Key.Value)
	r.seen[s.Key.Value] = s.Key.Pos // it was given, whatever else is said about what is missing
	return true
}

// joinPorts puts a port that stands beside the address of a segment where it belongs, with an error: what follows can be
// read then.
func (r *reader) joinPorts(tokens []lexer.Token) []lexer.Token {
	var out []lexer.Token
	for i, t := range tokens {
		if i >= 2 && i+1 < len(tokens) && tokens[i-2].Value == segmentKeyword && tokens[i+1].Value == "{" && t.Type == typeWord && t.Pos.Line == tokens[i-1].Pos.Line &&
			strings.Trim(strings.TrimPrefix(t.Value, ":"), "0123456789") == "" {
			joined := tokens[i-1].Value + ":" + strings.TrimPrefix(t.Value, ":")
			r.errorf(t.Pos, "write "+joined+", without a space", "the port of a segment stands behind its address and a colon")
			out[len(out)-1].Value = joined
			continue
		}
		out = append(out, t)
	}
	return out
}

// skipMistake moves past the token at pos and past what follows it on the same line or inside its braces, but stops at
// the next directive.
func skipMistake(lex *lexer.PeekingLexer, pos lexer.Position) {
	depth := 0
	for moved := false; !lex.Peek().EOF(); moved = true {
		t := lex.Peek()
		past := t.Pos.Offset > pos.Offset
		if moved && past && depth == 0 && (t.Pos.Line > pos.Line || isKeyword(t.Value)) {
			return
		}
		switch t.Value {
		case "{":
			depth++
		case "}":
			depth = max(0, depth-1)
		}
		lex.Next()
	}
}

func tokenAt(tokens []lexer.Token, pos lexer.Position) lexer.Token {
	i, ok := slices.BinarySearchFunc(tokens, pos.Offset, func(t lexer.Token, offset int) int { return cmp.Compare(t.Pos.Offset, offset) })
	if !ok {
		return lexer.Token{}
	}
	return tokens[i]
}

// tokenLexer offers tokens that were read before.
type tokenLexer struct {
	tokens []lexer.Token
	end    lexer.Position
}

func (l *tokenLexer) Next() (lexer.Token, error) {
	if len(l.tokens) == 0 {
		return lexer.EOFToken(l.end), nil
	}
	t := l.tokens[0]
	l.tokens = l.tokens[1:]
	return t, nil
}
