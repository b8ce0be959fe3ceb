// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ExitStatus is the exit status of a command that stops because of its configuration.
const ExitStatus = 3

// Severity says what a Problem does to the daemon.
type Severity uint8

const (
	// Error: the configuration is not used.
	Error Severity = iota + 1
	// Warning: the configuration is used, but probably does not mean what its author wanted.
	Warning
	// Notice: nothing is wrong; the operator should know a consequence.
	Notice
)

// String is the lower-case word that stands in messages and in JSON.
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	case Notice:
		return "notice"
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText is String, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing to tell the author of a configuration.
type Problem struct {
	// File is the name given to Parse, or the flag or environment variable that a value came from.
	File string `json:"file,omitempty"`
	// Line and Col count from 1; Col counts characters, not bytes. Both are zero where the problem has no place in a file.
	Line     int      `json:"line,omitempty"`
	Col      int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	// Text says what is wrong, without a final period.
	Text string `json:"text"`
	// Hint says what to do about it; it may be empty.
	Hint string `json:"hint,omitempty"`
}

// String is "file:line:col: severity: text; hint", on one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Col)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%s: %s", p.Severity, p.Text)
	if p.Hint != "" {
		b.WriteString("; ")
		b.WriteString(p.Hint)
	}
	return b.String()
}

// Problems is the error of everything in this package that reads a configuration: all problems at once, in the order of
// the file. It holds at least one of severity Error; warnings and notices stand among them so that one look shows all.
type Problems []Problem

// Error has one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// ExitCode lets a main function find the exit status without knowing this package.
func (ps Problems) ExitCode() int { return ExitStatus }

// Errors counts the problems that keep the configuration from being used.
func (ps Problems) Errors() int {
	n := 0
	for _, p := range ps {
		if p.Severity == Error {
			n++
		}
	}
	return n
}

// sorted orders by place; problems without a place come last. Equal places keep the order in which they were found.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return ps
}

// split separates what may stay in a Config from what must be returned as an error: nil if nothing is an Error.
func (ps Problems) split() (warnings []Problem, err error) {
	ps = ps.sorted()
	for _, p := range ps {
		if p.Severity != Error {
			warnings = append(warnings, p)
		}
	}
	if len(warnings) < len(ps) {
		return warnings, ps
	}
	return warnings, nil
}

// printable replaces what a terminal would not show, or would obey: messages quote words of files from anywhere.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// minBeginning is how long the beginning of a candidate must be to stand for it.
const minBeginning = 4

// Suggest is the candidate that a writer of word most probably meant, or "". A different case alone always counts, and so does
// the beginning of a single candidate. A word of which nothing would be left is not like another.
func Suggest(word string, candidates []string) string {
	best, bestCost := "", len(word)/3+1
	lower := strings.ToLower(word)
	if len(lower) > 64 {
		return "" // longer than any keyword; the table below would only cost time
	}
	var begin []string
	for _, c := range candidates {
		if cost := editDistance(lower, strings.ToLower(c)); cost < len(lower) && (cost < bestCost || cost == bestCost && best == "") {
			best, bestCost = c, cost
		}
		if len(lower) >= minBeginning && strings.HasPrefix(strings.ToLower(c), lower) {
			begin = append(begin, c)
		}
	}
	if best == "" && len(begin) == 1 {
		return begin[0]
	}
	return best
}

// didYouMean is a hint made of Suggest, or the fallback.
func didYouMean(word string, candidates []string, fallback string) string {
	s := Suggest(word, candidates)
	switch {
	case s == "":
		return fallback
	case strings.EqualFold(s, word):
		return fmt.Sprintf("did you mean %s? Upper and lower case matter", s)
	}
	return fmt.Sprintf("did you mean %s?", s)
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbors that turn a into b.
func editDistance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
