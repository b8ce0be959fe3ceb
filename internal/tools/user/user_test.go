// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
	"evensong/internal/tools/amount"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const me = "#me#here"

// fakeConn is a session without a daemon: it writes down what it is asked, and delivers what the test puts into events.
type fakeConn struct {
	mu     sync.Mutex
	calls  []string
	events chan client.Event
	lost   chan struct{} // closed when the session is lost
	closed bool
	refuse error // what Join returns
}

func newFakeConn(events ...client.Event) *fakeConn {
	f := &fakeConn{events: make(chan client.Event, 100), lost: make(chan struct{})}
	for _, ev := range events {
		f.events <- ev
	}
	return f
}

func (f *fakeConn) call(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeConn) PrivateGroup() string { return me }
func (f *fakeConn) Join(_ context.Context, g string) error {
	f.call("join %s", g)
	return f.refuse
}
func (f *fakeConn) Leave(_ context.Context, g string) error {
	f.call("leave %s", g)
	return nil
}
func (f *fakeConn) Multicast(_ context.Context, s client.Service, t int16, data []byte, groups ...string) error {
	f.call("%v %d %q %v", s, t, data, groups)
	return nil
}
func (f *fakeConn) Next(ctx context.Context) (client.Event, error) {
	select {
	case ev := <-f.events:
		return ev, nil
	default:
	}
	select {
	case ev := <-f.events:
		return ev, nil
	case <-f.lost:
		return nil, &client.Error{Op: "receive", Code: client.ErrConnectionClosed, Err: io.EOF}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (f *fakeConn) Waiting() int { return len(f.events) }
func (f *fakeConn) Close() error {
	f.closed = true
	return nil
}

// answering is a session whose farewell comes back.
type answering struct{ *fakeConn }

func (a answering) Multicast(ctx context.Context, s client.Service, t int16, data []byte, groups ...string) error {
	if t == farewellType {
		a.events <- &client.Message{Sender: me, Groups: groups, Service: s, Type: t, Data: data}
		return nil
	}
	return a.fakeConn.Multicast(ctx, s, t, data, groups...)
}

// play runs the program on a script and returns what it printed.
func play(t *testing.T, f *fakeConn, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	err := Run(ctx, answering{f}, strings.NewReader(script), &out, io.Discard)
	if !f.closed {
		t.Error("the session was not closed")
	}
	return out.String(), err
}

var hello = &client.Message{Sender: "#you#there", Groups: []string{"chat"}, Service: client.Safe, Type: 1, Data: []byte("hello")}

func TestCommands(t *testing.T) {
	tests := []struct {
		name, script string
		events       []client.Event
		calls        []string
		out          string
	}{
		{"join and leave", "j chat\nl chat\nq\n", nil, []string{"join chat", "leave chat"}, "bye\n"},
		{"leave of another", "j chat\nl char\nl chat\nl chat\nj chat\nl chat\n", nil, []string{"join chat", "leave chat", "join chat", "leave chat"},
			"not a member of char\nyou are about to leave chat\nbye\n"},
		{"words", "join chat\nleave chat\nquit\n", nil, []string{"join chat", "leave chat"}, "bye\n"},
		{"send", "s chat #you#there\nhello all\nq\n", nil, []string{`safe 1 "hello all" [chat #you#there]`}, "bye\n"},
		{"send an empty line", "s chat\n\nq\n", nil, []string{`safe 1 "" [chat]`}, "bye\n"},
		{"several lines", "m a b\none\ntwo\n\nj c\nq\n", nil, []string{`safe 1 "one\ntwo\n" [a b]`, "join c"}, "bye\n"},
		{"input ends in a message", "m a\none", nil, []string{`safe 1 "one\n" [a]`}, "bye\n"},
		{"burst", "b chat\n12\nq\n", nil, bursts(12), "sent 10 messages of 12 bytes each\nbye\n"},
		{"burst to nobody", "b\n0\nq\n", nil, strings.Split(strings.ReplaceAll(strings.Join(bursts(0), "|"), "chat", burstGroup), "|"), "sent 10 messages of 0 bytes each\nbye\n"},
		{"burst of nothing", "b chat\n0\nq\n", nil, bursts(0), "sent 10 messages of 0 bytes each\nbye\n"},
		{"burst too large", "b chat\n102401\nq\n", nil, nil, "\"102401\" is not a number from 0 to 102400; nothing was sent\nbye\n"},
		{"empty lines and end of input", "\n  \n", nil, nil, "bye\n"},
		{"windows line ends", "j chat\r\nq\r\n", nil, []string{"join chat"}, "bye\n"},
		{"unknown", "x\nq\n", nil, nil, "unknown command \"x\"; h shows the commands\nbye\n"},
		{"wrong number", "j\nj a b\nq\n", nil, nil, "usage: j GROUP - join a group\nusage: j GROUP - join a group\nbye\n"},
		{"help", "?\nq\n", nil, nil, Help() + "\nbye\n"},
		{"line too long", strings.Repeat("x", maxLineBytes+2) + "\nj chat\nq\n", nil, []string{"join chat"}, "the line is longer than 102400 bytes\nbye\n"},
		{"receive by hand needs d", "r\nq\n", nil, nil, "automatic receive is on, so events appear by themselves; d turns it off\nbye\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeConn(tt.events...)
			out, err := play(t, f, tt.script)
			mistakes := 0 // a script learns of them by the status
			for _, text := range []string{"unknown command", "usage: ", "; nothing was sent", "the line is longer", "not a member of", "about to leave"} {
				mistakes += strings.Count(out, text)
			}
			if tt.name == "help" {
				mistakes = 0
			}
			exit, _ := errors.AsType[*ExitError](err)
			if (err != nil) != (mistakes > 0) || err != nil && (exit == nil || exit.Code != exitUsage || err.Error() != amount.Of(mistakes, "command")+" could not be obeyed, as printed above") {
				t.Errorf("%v, want status 2 for %d mistakes", err, mistakes)
			}
			if out != tt.out {
				t.Errorf("printed %q, want %q", out, tt.out)
			}
			if got, want := strings.Join(f.calls, "\n"), strings.Join(tt.calls, "\n"); got != want {
				t.Errorf("calls:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestRefusedInAPipe: a script sees in errors and exit code what the daemon refuses, also if its input ends at once.
func TestRefusedInAPipe(t *testing.T) {
	message := "refused by the daemon's access rules: safe message of type 1, 2 bytes, to chat\n"
	join := &client.Rejected{Request: client.RequestJoin, Groups: []string{"chat"}}
	tests := []struct {
		name, script    string
		events          []client.Event
		rejectAll       bool
		out, errOut, is string
	}{
		{"messages", "s chat\nhi\ns chat\nho\nq\n", nil, true, "bye\n", message + message, "the daemon refused 2 requests"},
		{"end of input", "s chat\nhi\n", nil, true, "bye\n", message, "the daemon refused 1 request"},
		{"by hand", "d\ns chat\nhi\nr\nq\n", nil, true, "bye\n", message, "the daemon refused 1 request"},
		{"not asked for", "d\ns chat\nhi\nq\n", nil, true, "bye\n", message, "the daemon refused 1 request"},
		{"join", "j chat\nq\n", []client.Event{join}, false, "bye\n", "refused by the daemon's access rules: join to chat\n", "the daemon refused 1 request"},
		{"and a mistake", "x\ns chat\nhi\nq\n", nil, true, "unknown command \"x\"; h shows the commands\nbye\n", message, "the daemon refused 1 request"},
		{"what comes behind", "s #me#here\nhi\nq\n", nil, false, "#me#here to #me#here (safe, type 1, 2 bytes): hi\nbye\n", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &echo{fakeConn: newFakeConn(tt.events...), rejectAll: tt.rejectAll}
			var out, errOut bytes.Buffer
			err := Run(t.Context(), f, strings.NewReader(tt.script), &out, &errOut)
			exit, _ := errors.AsType[*ExitError](err)
			if (err != nil) != (tt.is != "") || err != nil && (exit == nil || exit.Code != exitRefused || err.Error() != tt.is) {
				t.Errorf("%v, want status 5 and %q", err, tt.is)
			}
			if out.String() != tt.out || errOut.String() != tt.errOut {
				t.Errorf("printed %q and %q, want %q and %q", out.String(), errOut.String(), tt.out, tt.errOut)
			}
		})
	}
}

// TestLostInTheEnd: a session that is lost while the last requests are under way was not an orderly one.
func TestLostInTheEnd(t *testing.T) {
	f := newFakeConn()
	close(f.lost)
	if err := Run(t.Context(), f, strings.NewReader("d\ns chat\nhi\nq\n"), io.Discard, io.Discard); !errors.Is(err, client.ErrConnectionClosed) {
		t.Errorf("Run: %v", err)
	}
}

func bursts(size int) (calls []string) {
	for n := range burstMessages {
		data := make([]byte, size)
		fillBurst(data, n+1)
		calls = append(calls, fmt.Sprintf("fifo 2 %q [chat]", data))
	}
	return calls
}

// TestReceiveByHand takes events one by one. The program starts with automatic receive on, so the test lets events in
// only after it is off.
func TestReceiveByHand(t *testing.T) {
	f := newFakeConn()
	in, write := io.Pipe()
	out := newWatchedBuffer()
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), answering{f}, in, out, io.Discard) }()
	io.WriteString(write, "d\np\n")
	out.waitFor(t, "0 events are waiting\n")
	f.events <- hello
	f.events <- &client.SelfLeave{Group: "chat"}
	io.WriteString(write, "p\nr\np\nr\nr\n")
	out.waitFor(t, "2 events are waiting\n#you#there to chat (safe, type 1, 5 bytes): hello\n1 event is waiting\nyou left chat\n")
	f.events <- hello // the third r waits for it
	out.waitFor(t, "hello\n1 event is waiting\nyou left chat\n#you#there to chat")
	io.WriteString(write, "e\n")
	f.events <- &client.SelfLeave{Group: "other"}
	out.waitFor(t, "you left other\n")
	io.WriteString(write, "q\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLostSession(t *testing.T) {
	f := newFakeConn(hello)
	in, write := io.Pipe()
	out := newWatchedBuffer()
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), answering{f}, in, out, io.Discard) }()
	out.waitFor(t, "hello\n")
	close(f.lost)
	if err := <-done; !errors.Is(err, client.ErrConnectionClosed) {
		t.Errorf("Run: %v", err)
	}
	write.Close() // ends the reading goroutine
}

func TestLostWhileTypingAMessage(t *testing.T) {
	f := newFakeConn()
	in, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), f, in, io.Discard, io.Discard) }()
	io.WriteString(write, "m chat\none\n")
	close(f.lost)
	if err := <-done; !errors.Is(err, client.ErrConnectionClosed) {
		t.Errorf("Run: %v", err)
	}
	write.Close()
	for _, c := range f.calls {
		t.Errorf("half a message was sent: %s", c)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in, write := io.Pipe()
	done := make(chan error, 1)
	var out bytes.Buffer
	f := newFakeConn()
	go func() { done <- Run(ctx, f, in, &out, io.Discard) }()
	cancel()
	if err := <-done; err != nil || out.String() != "bye\n" || !f.closed {
		t.Errorf("Run: %v, printed %q", err, out.String())
	}
	write.Close()
}

func TestMistakesDoNotEndTheProgram(t *testing.T) {
	f := newFakeConn()
	f.refuse = &client.Error{Op: `join "a b"`, Code: client.ErrIllegalGroup}
	out, err := play(t, f, "j a\nl a\nq\n")
	if exit, _ := errors.AsType[*ExitError](err); exit == nil || exit.Code != exitUsage || !strings.Contains(out, "ILLEGAL_GROUP") || !strings.Contains(out, "not a member of a\nbye") || len(f.calls) != 1 {
		t.Errorf("%q, %v, calls %v", out, err, f.calls)
	}
	f = newFakeConn()
	f.refuse = &client.Error{Op: "join", Code: client.ErrConnectionClosed, Err: io.EOF}
	if _, err := play(t, f, "j a\nl a\nq\n"); !errors.Is(err, client.ErrConnectionClosed) || len(f.calls) != 1 {
		t.Errorf("lost session: %v, calls %v", err, f.calls)
	}
}

// TestTerminal types on a terminal while events arrive: the line must be on the screen again behind each event, and
// must reach the program whole.
func TestTerminal(t *testing.T) {
	f := newFakeConn()
	in, keys := io.Pipe()
	out := newWatchedBuffer()
	scr := newTerminalScreen(struct {
		io.Reader
		io.Writer
	}{in, out})
	done := make(chan error, 1)
	go func() { done <- run(context.Background(), f, scr) }()
	out.waitFor(t, "> ")
	io.WriteString(keys, "j ch")
	out.waitFor(t, "j ch")
	f.events <- hello
	out.waitFor(t, "hello\r\n> j ch")
	io.WriteString(keys, "at\r")
	io.WriteString(keys, "s chat\r")
	out.waitFor(t, "message: ")
	io.WriteString(keys, "good dya\x7f\x7f\x7fday\r") // with three backspaces
	io.WriteString(keys, "d\rr\r")
	out.waitFor(t, "waiting, Enter stops: ")
	f.events <- &client.SelfLeave{Group: "chat"}
	out.waitFor(t, "you left chat\r\n> ")
	io.WriteString(keys, "p\r")
	out.waitFor(t, "0 events are waiting")
	io.WriteString(keys, "r\r")
	io.WriteString(keys, "\r") // gives up waiting
	io.WriteString(keys, "p\r")
	io.WriteString(keys, "\x04") // control-D
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(out.text.String(), "bye\r\n") {
		t.Errorf("the screen ends with %q", out.text.String()[max(0, out.text.Len()-40):])
	}
	if got := strings.Join(f.calls, "\n"); got != "join chat\nsafe 1 \"good day\" [chat]" {
		t.Errorf("calls:\n%s", got)
	}
	keys.Close()
}

// watchedBuffer is an output that a test can wait on.
type watchedBuffer struct {
	mu   sync.Mutex
	cond *sync.Cond
	text strings.Builder
}

func newWatchedBuffer() *watchedBuffer {
	w := new(watchedBuffer)
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	w.cond.Broadcast()
	return len(p), nil
}

func (w *watchedBuffer) waitFor(t *testing.T, part string) {
	t.Helper()
	late := false
	stop := time.AfterFunc(5*time.Second, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		late = true
		w.cond.Broadcast()
	})
	defer stop.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !strings.Contains(w.text.String(), part) {
		if late {
			t.Fatalf("waited for %q, have %q", part, w.text.String())
		}
		w.cond.Wait()
	}
}

// TestAdvice: no command tells to write Go. What the libraries advise about is either translated, or about options that no command has.
func TestAdvice(t *testing.T) {
	ours := regexp.MustCompile(`WithMaxMessage\(|WithFlushTimeout\(|WithMembership\(`)
	option := regexp.MustCompile(`\bWith[A-Z]`)
	found := 0
	for _, dir := range []string{"client", "vsync"} {
		files, err := filepath.Glob("../../../" + dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING || !option.MatchString(lit.Value) || ours.MatchString(lit.Value) {
					return true
				}
				found++
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				cause := &client.Error{Op: "dial", Code: client.ErrAuth, Detail: text}
				if got := Explain(cause, Options{}); option.MatchString(got.Error()) || !errors.Is(got, cause) {
					t.Errorf("%s: a command says %q", name, got)
				}
				return true
			})
		}
	}
	if found == 0 {
		t.Error("nothing was found: is this test of any use?")
	}
}

// TestExplainLost: a lost connection need not be the daemon's will; where the daemon said so, nothing else is supposed.
func TestExplainLost(t *testing.T) {
	for _, r := range []struct {
		err  *client.Error
		want string
	}{
		{&client.Error{Code: client.ErrConnectionClosed, Err: io.EOF}, `the connection was lost; the daemon may have ended: see "evensong status"`},
		{&client.Error{Code: client.ErrConnectionClosed, Reason: "shutdown"}, "\nthe daemon ended the session"},
		{&client.Error{Code: client.ErrConnectionClosed, Err: context.DeadlineExceeded}, "is it a daemon?"},
	} {
		if got := Explain(r.err, Options{}).Error(); !strings.Contains(got, r.want) {
			t.Errorf("%v: %q, want %q", r.err, got, r.want)
		}
	}
}

// TestExplainOwnDialect: what names may be is told of the dialect that is spoken.
// TestExplainPassword: what is missing is named.
func TestExplainPassword(t *testing.T) {
	refused := &client.Error{Op: "dial 4803", Code: client.ErrAuth, Detail: "method PWORD: wrong user or password"}
	offered := &client.Error{Op: "dial 4803", Code: client.ErrAuth, Detail: "the daemon offers PWORD, not NULL"}
	for _, r := range []struct {
		err  error
		o    Options
		want string
	}{
		{offered, Options{}, "\ngive the name with -n, and the password with -p or in EVENSONG_PASSWORD"},
		{refused, Options{Login: "alice"}, "\na password is missing: give it with -p, or in EVENSONG_PASSWORD"},
		{refused, Options{Login: "alice", Password: "x"}, "\ncheck the name and the password given with -n and -p"},
		{&client.Error{Op: "dial 4803", Code: client.ErrAuth}, Options{}, "\nthis daemon wants something else from you"},
	} {
		if got := Explain(r.err, r.o).Error(); !strings.Contains(got, r.want) {
			t.Errorf("%+v: %q, want %q", r.o, got, r.want)
		}
	}
}

func TestExplainOwnDialect(t *testing.T) {
	for _, code := range []client.Code{client.ErrIllegalName, client.ErrIllegalGroup} {
		err := &client.Error{Code: code}
		original, own := Explain(err, Options{Address: "4803"}).Error(), Explain(err, Options{Address: "evensong://localhost:4803"}).Error()
		if !strings.Contains(original, "from '$' to '~'") || !strings.Contains(own, "UTF-8 without #") {
			t.Errorf("%v: %s; in the own dialect: %s", code, original, own)
		}
	}
}
