// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"evensong/internal/host"
)

// TestMenu runs scripts of the menu, all lines at once as a pipe brings them, on two real daemons. want are patterns of
// the output, in order.
func TestMenu(t *testing.T) {
	r := newRing(t, true, "a", "b")
	for _, row := range []struct {
		name, script string
		want         []string
	}{
		{"end", "9\n0\nall\n", []string{`\n  9  end \(also q\)\n$`}},
		{"end of input", "", []string{`r  reload the configuration of all daemons\n`, `also q\)\n$`}},
		{"unknown", "x\nq\n", []string{`There is no "x" in the menu`}},
		{"status", "0\nb\nzoe\n\nq\n", []string{"Daemons are a, b", `There is no daemon "zoe"`, "daemon b, version", "leader a, accelerated ring", "rounds [0-9]+, repeats", "windows +1024"}},
		{"status of all, then none", "0\nall\n\n0\nnone\n\nq\n", []string{"daemon a, version", "daemon b, version", "since last|daemon: \n"}},
		{"flow", "5\n\n\n\n\n\n7\n6\n5\nmany\n0\n90\n30\n\n20\n5\n6\nq\n", []string{
			"No flow control is defined: everything stays", "No flow control is defined; 5 defines it", "Want a number from 1 to 999999", "window of all daemons: 90",
			"a: personal window 30, accelerated window as it is", "b: personal window 20, accelerated window 5",
			"a: window 90, personal window 30, accelerated window 20", "b: window 90, personal window 20, accelerated window 5",
		}},
		{"no partition", "2\n3\nq\n", []string{"No partition is defined; 1 defines one", "all daemons are in component 0"}},
		{"partition", "1\n1\n2\n2\nq\n", []string{"component of a \\[0\\]", "component of b \\[0\\]", "a: component 1\nb: component 2", "a: cut: a/b for 1m0s\nb: cut: a/b for 1m0s", "ends within 1m0s"}},
		{"partition again, and cancel", "1\n\n1\n3\n2\n4\n3\nq\n", []string{"component of b \\[0\\]", "a: component 0|b: component 1", "a: no daemon is cut off here\nb: no", "all daemons are in component 0"}},
		{"reload", "r\nq\n", []string{"a: .*\nb: "}},
		{"terminate nobody", "8\n\nq\n", []string{"Nothing is terminated"}},
		{"terminate", "8\nb\n\nq\n", []string{"b: the daemon stops without a good-bye\n$"}},
	} {
		var out lines
		if err := Menu(t.Context(), r.reach(), MenuOptions{}, strings.NewReader(row.script), &out); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		rest := out.String()
		for _, want := range row.want {
			at := regexp.MustCompile(want).FindStringIndex(rest)
			if at == nil {
				t.Errorf("%s: no %q in the rest of\n%s", row.name, want, out.String())
				break
			}
			rest = rest[at[1]:]
		}
		switch row.name {
		case "partition":
			r.wait("cut", func() bool { return r.views() == "[a][b]" })
		case "partition again, and cancel":
			r.wait("healed", func() bool { return r.views() == "[a b][a b]" })
		}
	}
	<-r.hosts["b"].Done()
	if err := r.hosts["b"].Err(); !errors.Is(err, host.ErrTerminated) {
		t.Errorf("b ended with %v", err)
	}
}

// TestMenuOfNobody: where no daemon answers, nothing is offered.
func TestMenuOfNobody(t *testing.T) {
	var out lines
	if err := Menu(t.Context(), Reach{Dir: t.TempDir()}, MenuOptions{}, strings.NewReader("8\n\nq\n"), &out); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, "No daemon answers, so there is nothing to choose from") || !strings.Contains(text, "Nothing is terminated") {
		t.Error(text)
	}
}

// TestMenuLineByLine: what a line asks for is done before the next line comes, and status goes on while none comes.
func TestMenuLineByLine(t *testing.T) {
	r := newRing(t, true, "a")
	in, typed := io.Pipe()
	shown, out := io.Pipe()
	go func() {
		_ = Menu(t.Context(), r.reach(), MenuOptions{Interval: 20 * time.Millisecond}, in, out)
		out.Close()
	}()
	seen := make(chan string, 10_000)
	go func() {
		defer close(seen)
		s := bufio.NewScanner(shown)
		for s.Scan() {
			seen <- s.Text()
		}
	}()
	until := func(text string) {
		t.Helper()
		for line := range seen {
			if strings.Contains(line, text) {
				return
			}
		}
		t.Fatalf("the menu ended without %q", text)
	}
	say := func(line string) {
		if _, err := io.WriteString(typed, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	until("also q")
	say("3")
	until("all daemons are in component 0")
	say("0")
	until("Daemons are a.")
	say("a")
	say("")
	until("daemon a, version")
	until("since last") // nobody typed: the interval is over
	until("since last")
	say("7")
	until("No flow control is defined")
	typed.Close()
	for range seen {
	}
}
