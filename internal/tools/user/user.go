// SPDX-License-Identifier: Apache-2.0

// Package user is a person, or a shell script, in groups. Its interactive client joins groups, sends, and watches messages
// and views in words. It does what the example programs spuser and sptuser of the Spread toolkit do, with the same
// commands, so fingers and scripts that know them need not learn. Beside it are three small ones: Publish sends, Subscribe
// prints, Converse does both in one group.
//
// On a terminal it edits lines, and events that arrive do not disturb the line being typed. With a pipe it reads one
// command or message per line and prints plain lines.
package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"evensong/client"
	"evensong/internal/tools/amount"
	"evensong/vsync"
)

// Conn is what the program needs of a session; *client.Conn is one.
type Conn interface {
	PrivateGroup() string
	Join(ctx context.Context, group string) error
	Leave(ctx context.Context, group string) error
	Multicast(ctx context.Context, service client.Service, messType int16, data []byte, groups ...string) error
	Next(ctx context.Context) (client.Event, error)
	Waiting() int
	Close() error
}

// What the commands send: the services and types are those that scripts around spuser expect to see.
const (
	lineService   = client.Safe
	lineType      = 1
	burstService  = client.FIFO
	burstType     = 2
	burstMessages = 10
	burstDefault  = 1000   // bytes, when the answer is an empty line
	burstLargest  = 102400 // bytes
	burstGroup    = "dummy_group_name"
)

const prompt = "> "

// Run talks to the user until q, the end of the input or of ctx, or the end of the session, and closes conn. Only the end of
// the session is an error.
// If in or out is no terminal, so are requests that the daemon has refused: they go to errOut, because a script does not
// read what is printed, and Run ends only when all that was asked for has been done or refused. It waits for a line of in
// at most until the session or ctx ends; a goroutine may then stay blocked in a Read of in, so in should be closed or the
// program end.
func Run(ctx context.Context, conn Conn, in io.Reader, out, errOut io.Writer) error {
	scr, restore, err := newScreen(in, out, errOut)
	if err != nil {
		return err
	}
	defer restore()
	return run(ctx, conn, scr)
}

func run(ctx context.Context, conn Conn, scr screen) error {
	return newSession(conn, scr).run(ctx, true)
}

// run is a session from its first command to its end. receive tells whether events appear by themselves at the start.
func (s *session) run(ctx context.Context, receive bool) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scr, conn := s.scr, s.conn
	go s.readLines(ctx)
	if scr.interactive() {
		hint := "h shows the commands, q ends"
		if !receive {
			hint += "; r waits for the next event, e has them appear by themselves"
		}
		scr.print(hint)
	}
	if receive {
		s.receiveOn(ctx)
	}
	err := s.loop(ctx)
	if err == nil && !scr.interactive() {
		err = s.settle(ctx)
	}
	if outer.Err() != nil && errors.Is(err, outer.Err()) {
		err = nil // the end of ctx is as good as q
	}
	cancel()
	s.receiveOff()
	// What is printed now is the last, so no prompt belongs behind it.
	scr.setPrompt("")
	if err == nil {
		scr.print("bye")
	} else if scr.interactive() {
		scr.print("the session has ended")
	}
	if closeErr := conn.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.refusals()
	}
	return err
}

// settleTimeout bounds the wait for the end of all requests.
const settleTimeout = DefaultTimeout

// settle waits until all that was asked for has been done or refused. Where events appear by themselves, those that come
// meanwhile do, too.
func (s *session) settle(ctx context.Context) error {
	show := s.stop != nil
	s.receiveOff()
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	err := s.conn.Multicast(ctx, client.Agreed, farewellType, farewell, s.conn.PrivateGroup())
	for err == nil {
		var ev told
		if ev, err = s.next(ctx); err == nil && ev.end {
			return nil
		}
		if err == nil && (show || ev.refused) {
			s.show(ev)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return fmt.Errorf("the daemon did not order the last request within %v: %w", settleTimeout, err)
	}
	return err
}

// show prints an event. The receiver calls it, whoever that is.
func (s *session) show(ev told) {
	switch {
	case ev.end, ev.text == "":
	case ev.refused && !s.scr.interactive():
		s.refused++
		s.scr.complain(ev.text)
	default:
		s.scr.print(ev.text)
	}
}

// refusals is the error of a session in a pipe that was refused something, or told what cannot be: a script reads no text. There must be
// no receiver any more.
func (s *session) refusals() error {
	switch {
	case s.refused == 0 && (s.mistakes == 0 || s.scr.interactive()):
		return nil
	case s.refused == 0:
		return &ExitError{Code: exitUsage, Err: fmt.Errorf("%s could not be obeyed, as printed above", amount.Of(s.mistakes, "command"))}
	}
	return Refused(fmt.Errorf("the daemon refused %s", amount.Of(s.refused, "request")))
}

func newSession(conn Conn, scr screen) *session {
	words := &narrator{me: conn.PrivateGroup()}
	s := &session{
		conn:     conn,
		scr:      scr,
		commands: commands,
		roll:     &roll{},
		tell:     words.tell,
		want:     make(chan struct{}),
		lines:    make(chan line, 1),
		lost:     make(chan error, 1),
	}
	s.next = func(ctx context.Context) (told, error) {
		ev, err := conn.Next(ctx)
		if err != nil {
			return told{}, err
		}
		if isFarewell(ev, words.me) {
			return told{end: true}, nil
		}
		s.roll.saw(ev)
		_, refused := ev.(*client.Rejected)
		return told{text: s.tell(ev), refused: refused}, nil
	}
	return s
}

// told is an event in words.
type told struct {
	text    string
	refused bool // it is the refusal of a request
	end     bool // it is the session's own farewell, and for nobody to see
}

// line is what readLine returned.
type line struct {
	text string
	err  error
}

// session is the state of one run. Only the goroutine in loop changes it.
type session struct {
	conn     Conn
	scr      screen
	commands []command
	roll     *roll
	// next waits for an event and puts it into words; tell is its second half. Only one goroutine receives at any time,
	// and that one calls them.
	next func(ctx context.Context) (told, error)
	tell func(client.Event) string

	// want asks readLines for one line; asked says that its answer in lines is still to come. The two make it possible
	// to stop waiting for a line without losing it.
	want  chan struct{}
	lines chan line
	asked bool

	// stop ends the automatic receiver; nil while it is off. lost has the error that ended it.
	stop     context.CancelFunc
	receiver sync.WaitGroup
	lost     chan error
	refused  int // requests, in a pipe; belongs to whoever receives
	mistakes int // commands that could not be obeyed; belongs to loop
}

// readLines reads a line each time it is asked to, because the prompt must be right when reading begins.
func (s *session) readLines(ctx context.Context) {
	for {
		select {
		case <-s.want:
			text, err := s.scr.readLine()
			s.lines <- line{text, err}
		case <-ctx.Done():
			return
		}
	}
}

// request makes sure that a line is being read under the prompt.
func (s *session) request(ctx context.Context, prompt string) {
	s.scr.setPrompt(prompt)
	if s.asked {
		return
	}
	select {
	case s.want <- struct{}{}:
		s.asked = true
	case <-ctx.Done():
	}
}

// ask waits for a line, but no longer than the session lasts.
func (s *session) ask(ctx context.Context, prompt string) (string, error) {
	s.request(ctx, prompt)
	select {
	case l := <-s.lines:
		s.asked = false
		return l.text, l.err
	case err := <-s.lost:
		return "", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// loop reads and obeys commands. The result is nil if the user ended it.
func (s *session) loop(ctx context.Context) error {
	for {
		text, err := s.ask(ctx, prompt)
		if err == nil {
			err = s.obey(ctx, text)
		}
		switch {
		case err == nil:
		case errors.Is(err, errQuit), errors.Is(err, io.EOF) && !errors.Is(err, client.ErrConnectionClosed):
			return nil
		case errors.Is(err, errLineTooLong), isMistake(err):
			s.mistakes++
			s.scr.print(err.Error())
		default:
			return err
		}
	}
}

var errQuit = errors.New("quit")

// mistake is an error that the user can do better next time.
type mistake string

func (m mistake) Error() string { return string(m) }

func isMistake(err error) bool {
	if _, ok := errors.AsType[mistake](err); ok {
		return true
	}
	for _, code := range []error{client.ErrIllegalGroup, client.ErrMessageTooLong, client.ErrIllegalService, vsync.ErrIllegalState, vsync.ErrIllegalReceivers} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// command is one letter of the menu, with the word it may be written as.
type command struct {
	letter, word string
	usage, help  string
	run          func(s *session, ctx context.Context, groups []string) error
	minGroups    int // words behind the command
	maxGroups    int
}

// commands is filled by init because its help command lists it.
var commands []command

func init() {
	commands = []command{
		{"j", "join", "j GROUP", "join a group", (*session).join, 1, 1},
		{"l", "leave", "l GROUP", "leave a group", (*session).leave, 1, 1},
		{"s", "send", "s GROUP...", "send one line to groups or private groups, safe, type 1", (*session).sendLine, 1, client.MaxGroups},
		{"m", "multi", "m GROUP...", "send several lines as one message; an empty line ends it", (*session).sendLines, 1, client.MaxGroups},
		{"b", "burst", "b [GROUP]", "send ten messages of a size that is asked for, FIFO, type 2 (to " + burstGroup + ")", (*session).burst, 0, 1},
		{"r", "receive", "r", "wait for one event (when automatic receive is off)", (*session).receiveOne, 0, 0},
		{"p", "poll", "p", "tell how many events are waiting", (*session).poll, 0, 0},
		{"e", "enable", "e", "turn automatic receive on, as it is at the start", (*session).enable, 0, 0},
		{"d", "disable", "d", "turn automatic receive off", (*session).disable, 0, 0},
		{"h", "help", "h", "show this", (*session).help, 0, 0},
		{"q", "quit", "q", "disconnect and end", (*session).quit, 0, 0},
	}
}

// Help is the list of commands, a line each.
func Help() string { return helpOf(commands) }

func helpOf(commands []command) string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-11s %s\n", c.usage, c.help)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (s *session) obey(ctx context.Context, text string) error {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil
	}
	name, groups := fields[0], fields[1:]
	if name == "?" {
		name = "h"
	}
	for _, c := range s.commands {
		if name != c.letter && name != c.word {
			continue
		}
		if len(groups) < c.minGroups || len(groups) > c.maxGroups {
			return mistake("usage: " + c.usage + " - " + c.help)
		}
		return c.run(s, ctx, groups)
	}
	return mistake(fmt.Sprintf("unknown command %q; h shows the commands", name))
}

func (s *session) join(ctx context.Context, groups []string) error {
	return s.roll.joins(groups[0], func() error { return s.conn.Join(ctx, groups[0]) })
}

func (s *session) leave(ctx context.Context, groups []string) error {
	// With view synchrony the library refuses by itself; else the daemon would say nothing.
	if _, flushes := s.conn.(flushConn); !flushes {
		switch s.roll.of(groups[0]) {
		case outside:
			return notMember(groups[0])
		case leaving:
			return isLeaving(groups[0])
		}
	}
	return s.roll.leaves(groups[0], func() error { return s.conn.Leave(ctx, groups[0]) })
}

func (s *session) sendLine(ctx context.Context, groups []string) error {
	text, err := s.ask(ctx, "message: ")
	if err != nil {
		return err
	}
	return s.conn.Multicast(ctx, lineService, lineType, []byte(text), groups...)
}

func (s *session) sendLines(ctx context.Context, groups []string) error {
	var b strings.Builder
	for prompt := "message, an empty line ends it: "; ; prompt = ": " {
		text, err := s.ask(ctx, prompt)
		if errors.Is(err, io.EOF) && b.Len() > 0 && !errors.Is(err, client.ErrConnectionClosed) {
			break // the end of the input ends the message too; the next command sees it again
		}
		if err != nil {
			return err
		}
		if text == "" {
			break
		}
		b.WriteString(text + "\n")
	}
	return s.conn.Multicast(ctx, lineService, lineType, []byte(b.String()), groups...)
}

func (s *session) burst(ctx context.Context, groups []string) error {
	text, err := s.ask(ctx, fmt.Sprintf("bytes in each message (0 to %d, usually %d): ", burstLargest, burstDefault))
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		groups = []string{burstGroup}
	}
	size := burstDefault
	if text = strings.TrimSpace(text); text != "" {
		if size, err = strconv.Atoi(text); err != nil || size < 0 || size > burstLargest {
			return mistake(fmt.Sprintf("%q is not a number from 0 to %d; nothing was sent", text, burstLargest))
		}
	}
	data := make([]byte, size)
	for n := range burstMessages {
		fillBurst(data, n+1)
		if err := s.conn.Multicast(ctx, burstService, burstType, data, groups...); err != nil {
			return err
		}
	}
	s.scr.print(fmt.Sprintf("sent %s of %s each", amount.Of(burstMessages, "message"), amount.Of(size, "byte")))
	return nil
}

// fillBurst makes a message readable: its number, then dots.
func fillBurst(data []byte, n int) {
	for i := copy(data, "message "+strconv.Itoa(n)+" "); i < len(data); i++ {
		data[i] = '.'
	}
}

func (s *session) receiveOne(ctx context.Context, _ []string) error {
	if s.stop != nil {
		s.scr.print("automatic receive is on, so events appear by themselves; d turns it off")
		return nil // what was asked for comes all the same
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		ev  told
		err error
	}
	got := make(chan result, 1)
	go func() {
		ev, err := s.next(ctx)
		got <- result{ev, err}
	}()
	// On a terminal a line ends the wait, which otherwise could last forever. In a pipe the next line is a command
	// that comes behind the event.
	var stop chan line
	if s.scr.interactive() {
		s.request(ctx, "waiting, Enter stops: ")
		stop = s.lines
	}
	var r result
	select {
	case r = <-got:
	case l := <-stop:
		s.asked = false
		cancel()
		// An event may have come at the same moment; it must not be lost.
		if r = <-got; r.err != nil {
			return l.err
		}
	}
	if r.err != nil {
		return r.err
	}
	s.scr.setPrompt(prompt) // printing paints the line anew
	s.show(r.ev)
	return nil
}

func (s *session) poll(context.Context, []string) error {
	n := s.conn.Waiting()
	if n == 1 {
		s.scr.print("1 event is waiting")
	} else {
		s.scr.print(fmt.Sprintf("%d events are waiting", n))
	}
	return nil
}

func (s *session) enable(ctx context.Context, _ []string) error {
	s.receiveOn(ctx)
	return nil
}

func (s *session) disable(context.Context, []string) error {
	s.receiveOff()
	return nil
}

func (s *session) help(context.Context, []string) error {
	s.scr.print(helpOf(s.commands))
	return nil
}

func (s *session) quit(context.Context, []string) error { return errQuit }

// receiveOn starts the automatic receiver: a goroutine that prints events as they come.
func (s *session) receiveOn(ctx context.Context) {
	if s.stop != nil {
		return
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.receiver.Go(func() {
		for ctx.Err() == nil {
			ev, err := s.next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					select {
					case s.lost <- err:
					default: // an earlier receiver has said so
					}
				}
				return
			}
			s.show(ev)
		}
	})
}

// receiveOff stops it and waits, so that nothing is printed afterwards.
func (s *session) receiveOff() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.receiver.Wait()
	s.stop = nil
}
