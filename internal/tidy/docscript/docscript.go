// SPDX-License-Identifier: Apache-2.0

// Package docscript takes the commands out of documents, so that a test can run what a reader would type and compare what
// the document says is printed.
//
// A block is a fenced one behind a comment on a line of its own:
//
//	<!-- run -->
//	```console
//	$ evensong pub chat hello
//	$ evensong sub --timeout 1s chat
//	#alice#d to chat (agreed, type 0, 5 bytes): hello
//	```
//
// A line that begins with "$ " is a command for the shell; the lines behind it, up to the next one, are what it prints.
// In them "..." stands for any text in a line, and a line of only "..." for any number of lines. A line without that sign
// before the first command is an error. Words in the comment say more:
//
//	<!-- run status=2 -->              the last command ends with this exit status; all others must end with 0
//	<!-- run background ready=TEXT --> the block's one command goes on beside the blocks behind it, which begin when it has
//	                                   printed the text (one word); it has to end by itself, and what it has printed then
//	                                   is compared at the end of the document
//	<!-- run background ready=TEXT daemon --> the command is a daemon, which a test gives free addresses
package docscript

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A Block is one marked block of a document.
type Block struct {
	// Line is where its first line is, from 1.
	Line     int
	Commands []Command
	// Status is the exit status of the last command.
	Status int
	// Background and Ready are for a command that runs beside the blocks behind it.
	Background bool
	Ready      string
	// Daemon says that this command serves clients, and would take the addresses of a daemon that runs here.
	Daemon bool
}

// A Command is what a reader types, and what is printed then.
type Command struct {
	Line   int
	Text   string
	Output []string
}

// Blocks are the marked blocks of a Markdown document, in order.
func Blocks(document []byte) ([]Block, error) {
	var blocks []Block
	var mark *Block // a comment was read, the fence comes next
	var open *Block // inside a marked fence
	fence := ""     // what ends the fence we are in
	lines := bufio.NewScanner(bytes.NewReader(document))
	lines.Buffer(nil, len(document)+1)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			if open != nil {
				if err := open.check(); err != nil {
					return nil, fmt.Errorf("line %d: %w", open.Line, err)
				}
				blocks = append(blocks, *open)
			}
			fence, open = "", nil
		case open != nil:
			if text, ok := strings.CutPrefix(line, "$ "); ok {
				open.Commands = append(open.Commands, Command{Line: n, Text: text})
			} else if len(open.Commands) == 0 {
				return nil, fmt.Errorf("line %d: output before the first command", n)
			} else {
				last := &open.Commands[len(open.Commands)-1]
				last.Output = append(last.Output, line)
			}
		case fence != "":
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
			if open, mark = mark, nil; open != nil {
				open.Line = n + 1
			}
		case strings.HasPrefix(trimmed, "<!-- run"):
			b, err := parseMark(trimmed)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			mark = b
		case mark != nil && trimmed != "":
			return nil, fmt.Errorf("line %d: a run comment must stand right above a fenced block", n)
		}
	}
	if open != nil || mark != nil {
		return nil, fmt.Errorf("the last marked block does not end")
	}
	return blocks, lines.Err()
}

func parseMark(comment string) (*Block, error) {
	text, ok := strings.CutSuffix(strings.TrimPrefix(comment, "<!--"), "-->")
	words := strings.Fields(text)
	if !ok || len(words) == 0 || words[0] != "run" {
		return nil, fmt.Errorf("%q is not a run comment", comment)
	}
	b := &Block{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "background":
			b.Background = true
		case "daemon":
			b.Daemon = true
		case "ready":
			b.Ready = value
		case "status":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("%s: want a number", w)
			}
			b.Status = n
		default:
			return nil, fmt.Errorf("unknown word %q in a run comment", w)
		}
	}
	return b, nil
}

func (b *Block) check() error {
	switch {
	case len(b.Commands) == 0:
		return fmt.Errorf("a run block without a command")
	case b.Background && (len(b.Commands) != 1 || b.Ready == ""):
		return fmt.Errorf("a background block needs one command and ready=TEXT")
	case !b.Background && (b.Ready != "" || b.Daemon):
		return fmt.Errorf("ready and daemon are for background blocks")
	}
	return nil
}

// Match compares what a command printed with what a document says, and describes the first difference; empty if there is
// none.
func Match(want []string, got string) string {
	var lines []string
	if got != "" {
		lines = strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	}
	if matchLines(want, lines) {
		return ""
	}
	return fmt.Sprintf("printed\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
}

func matchLines(want, got []string) bool {
	for ; len(want) > 0; want, got = want[1:], got[1:] {
		if strings.TrimSpace(want[0]) == "..." {
			for i := range len(got) + 1 {
				if matchLines(want[1:], got[i:]) {
					return true
				}
			}
			return false
		}
		if len(got) == 0 || !matchLine(strings.Split(want[0], "..."), got[0]) {
			return false
		}
	}
	return len(got) == 0
}

// matchLine wants the parts in order, the first at the beginning and the last at the end. Blanks at a line's end do not
// count, because editors remove them.
func matchLine(parts []string, line string) bool {
	line = strings.TrimRight(line, " \t\r")
	rest, ok := strings.CutPrefix(line, parts[0])
	if !ok {
		return false
	}
	if len(parts) == 1 {
		return strings.TrimRight(rest, " ") == ""
	}
	for _, p := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, p)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
