// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Origin is where figures come from: what decides them, and the command that takes them again. A result embeds it as its first
// field.
type Origin struct {
	Machine string
	Commit  string
	Options string // the command
	Time    time.Time
}

// From is the origin of what is measured now, by this command.
func From(ctx context.Context, command string) Origin {
	return Origin{Machine: Machine(), Commit: Commit(ctx), Options: command, Time: time.Now().UTC().Truncate(time.Second)}
}

// Result is what was measured. Its JSON has everything that is needed to judge the figures.
type Result interface {
	Markdown() string // as docs/performance.md has it
	Text() string     // for a terminal
}

// Write writes r as "json", "markdown" or "text".
func Write(w io.Writer, format string, r Result) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(r)
	case "markdown":
		_, err := io.WriteString(w, r.Markdown())
		return err
	}
	_, err := io.WriteString(w, r.Text())
	return err
}

// Table is the titles, then rows of as many cells.
type Table [][]string

// InMarkdown is the origin, then the tables.
func (o *Origin) InMarkdown(tables ...Table) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&b, "Machine: %s. Commit %s, %s. Command:\n\n    %s\n\n", o.Machine, o.Commit, o.Time.Format(time.DateOnly), o.Options)
	for i, t := range tables {
		if i > 0 {
			b.WriteString("\n")
		}
		line(t[0])
		line(slices.Repeat([]string{"---"}, len(t[0])))
		for _, cells := range t[1:] {
			line(cells)
		}
	}
	return b.String()
}

// Flush is how cells stand in the columns of a text.
type Flush string

// The two sides.
const (
	Left  Flush = "%-*s  "
	Right Flush = "%*s  "
)

// InText is the origin, then the tables.
func (o *Origin) InText(side Flush, tables ...Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s\n\n", o.Machine, o.Commit)
	for i, t := range tables {
		if i > 0 {
			b.WriteString("\n")
		}
		width := make([]int, len(t[0]))
		for _, cells := range t {
			for i, c := range cells {
				width[i] = max(width[i], len([]rune(c)))
			}
		}
		for _, cells := range t {
			for i, c := range cells {
				fmt.Fprintf(&b, string(side), width[i], c)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Median is the middle, or the mean of both middles. There must be a value.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// Number shows three digits at least.
func Number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Thousands is a whole number of at least zero, with spaces between groups of three digits.
func Thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
