// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen is where lines come from and text goes to. print may be called at any time, also while readLine waits.
type screen interface {
	setPrompt(prompt string)
	readLine() (string, error) // io.EOF at the end of the input
	print(text string)         // writes text and a newline
	complain(text string)      // is print for what must not be missed
	interactive() bool
}

// newScreen takes a terminal if in and out are one, and plain lines otherwise. restore puts the terminal back.
// Complaints go to errOut if there is no terminal.
func newScreen(in io.Reader, out, errOut io.Writer) (s screen, restore func(), err error) {
	inFile, inOK := in.(*os.File)
	outFile, outOK := out.(*os.File)
	if !inOK || !outOK || !term.IsTerminal(int(inFile.Fd())) || !term.IsTerminal(int(outFile.Fd())) {
		return newPlainScreen(in, out, errOut), func() {}, nil
	}
	state, err := term.MakeRaw(int(inFile.Fd()))
	if err != nil {
		// Some consoles cannot be edited on; lines still work.
		return newPlainScreen(in, out, errOut), func() {}, nil
	}
	ts := newTerminalScreen(struct {
		io.Reader
		io.Writer
	}{inFile, outFile})
	ts.size = func() (int, int, error) { return term.GetSize(int(outFile.Fd())) }
	return ts, func() { term.Restore(int(inFile.Fd()), state) }, nil
}

// plainScreen is for pipes and files: no prompts, no editing.
type plainScreen struct {
	in     *bufio.Reader
	mu     sync.Mutex // guards out and errOut
	out    io.Writer
	errOut io.Writer
}

// maxLineBytes bounds a line of input: the largest message of the original's program.
const maxLineBytes = 102400

var errLineTooLong = errors.New("the line is longer than 102400 bytes")

func newPlainScreen(in io.Reader, out, errOut io.Writer) *plainScreen {
	return &plainScreen{in: bufio.NewReaderSize(in, maxLineBytes+2), out: out, errOut: errOut}
}

func (p *plainScreen) setPrompt(string)  {}
func (p *plainScreen) interactive() bool { return false }

func (p *plainScreen) readLine() (string, error) {
	line, err := p.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = p.in.ReadSlice('\n')
		}
		return "", errLineTooLong
	case err != nil && len(line) == 0:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func (p *plainScreen) print(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.out, text+"\n")
}

func (p *plainScreen) complain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.errOut, text+"\n")
}

// terminalScreen edits lines. What is printed while a line is being typed goes above it, and the line stays.
type terminalScreen struct {
	t    *term.Terminal
	size func() (width, height int, err error) // nil if unknown
}

func newTerminalScreen(rw io.ReadWriter) *terminalScreen {
	return &terminalScreen{t: term.NewTerminal(rw, "")}
}

func (s *terminalScreen) setPrompt(prompt string) { s.t.SetPrompt(prompt) }
func (s *terminalScreen) interactive() bool       { return true }

func (s *terminalScreen) readLine() (string, error) {
	// The window may have changed since the last line; asking here needs no signal, which Windows does not have.
	if s.size != nil {
		if w, h, err := s.size(); err == nil && w > 0 && h > 0 {
			s.t.SetSize(w, h)
		}
	}
	line, err := s.t.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	return line, err
}

func (s *terminalScreen) print(text string)    { io.WriteString(s.t, text+"\n") }
func (s *terminalScreen) complain(text string) { s.print(text) }
