// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// The scripts in testdata are commands at the beginning of a line, the effects of each indented below it, and prose
// behind "//". Members are letters: a stands for #a#d, and a is the session under test. View ids are their last word.
//
//	config auto|timeout 10s              a new machine
//	view g 2 join c: a b c [mine a b]    a membership message
//	signal g; self g; refused g          the daemon's signal, self-leave, refusal of a leave
//	ok g 2 b; recv g 2 b                 b's FLUSH_OK, FLUSH_RECV; big- in front: from a big-endian sender
//	msg g b agreed 5 text                a message of b with type 5
//	vuln g 2 b fifo 5 text               the same, wrapped in view 2
//	sub g b fifo 5 text                  a subgroup cast to a; subvuln wraps it
//	private b agreed 5 text              a message to a's private group
//	join g; leave g; flush g             requests of the user
//	cast g fifo 5 text                   a message of the user
//	subcast g b,c fifo 5 text
//	at 5s                                time passes
type script struct {
	t   *testing.T
	m   *Machine
	now time.Duration
	out strings.Builder
}

func full(name string) string {
	if len(name) == 1 && name >= "a" && name <= "f" {
		return "#" + name + "#d"
	}
	return name
}

func fulls(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = full(n)
	}
	return out
}

// short undoes full, in a line for people.
func short(line string) string {
	for _, n := range "abcdef" {
		line = strings.ReplaceAll(line, "#"+string(n)+"#d", string(n))
	}
	return line
}

func viewID(word string) evs.ViewID {
	n, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return evs.ViewID{7, 8, uint32(n)}
}

var services = map[string]Service{"unreliable": Unreliable, "reliable": Reliable, "fifo": FIFO, "causal": Causal, "agreed": Agreed,
	"safe": Safe, "agreed-discard": Agreed | SelfDiscard, "none": 0, "subgroup": Agreed | SubgroupCast}

var causes = map[string]evs.Cause{"join": evs.CausedByJoin, "leave": evs.CausedByLeave, "disconnect": evs.CausedByDisconnect, "network": evs.CausedByNetwork}

func (s *script) run(line string) {
	line, big := strings.CutPrefix(line, "big-")
	f := strings.Fields(line)
	var fx Effects
	var err error
	// message splits "service type text".
	message := func(rest []string) (Service, int16, []byte) {
		service, ok := services[rest[0]]
		n, numErr := strconv.Atoi(rest[1])
		if !ok || numErr != nil {
			s.t.Fatalf("cannot read %q", line)
		}
		return service, int16(n), []byte(strings.Join(rest[2:], " "))
	}
	appendWords := func(data []byte, id evs.ViewID, typed bool, messType int16) []byte {
		if typed {
			data = order(big).(binary.AppendByteOrder).AppendUint16(data, uint16(messType))
		}
		for _, w := range id {
			data = order(big).(binary.AppendByteOrder).AppendUint32(data, w)
		}
		return data
	}
	take := func(msg Message) {
		msg.BigEndian = big
		s.m.HandleMessage(s.now, &msg, &fx)
	}
	switch f[0] {
	case "config":
		cfg := Config{Private: full("a")}
		for i, w := range f[1:] {
			switch w {
			case "auto":
				cfg.AutoFlush = true
			case "timeout":
				cfg.FlushTimeout, err = time.ParseDuration(f[i+2])
				if err != nil {
					s.t.Fatal(err)
				}
			}
		}
		s.m, s.now = machine(s.t, cfg), 0
	case "view":
		head, names, _ := strings.Cut(line, ":")
		names, mine, _ := strings.Cut(names, "mine")
		h := strings.Fields(head)
		dv := &DaemonView{Group: h[1], ID: viewID(h[2]), Cause: causes[h[3]], Members: fulls(strings.Fields(names)), Mine: fulls(strings.Fields(mine))}
		if len(h) > 4 {
			dv.Changed = full(h[4])
		}
		s.m.HandleView(s.now, dv, &fx)
	case "signal":
		s.m.HandleSignal(f[1], &fx)
	case "self":
		s.m.HandleSelfLeave(f[1], &fx)
	case "refused":
		s.m.HandleLeaveRefused(s.now, f[1], &fx)
	case "ok":
		take(Message{Sender: full(f[3]), Groups: []string{f[1]}, Service: FIFO, Type: TypeFlushOK, Data: appendWords(nil, viewID(f[2]), false, 0)})
	case "recv":
		take(Message{Sender: full(f[3]), Groups: []string{f[1]}, Service: FIFO, Type: TypeFlushRecv, Data: appendWords(nil, viewID(f[2]), false, 0)})
	case "msg":
		service, typ, data := message(f[3:])
		take(Message{Sender: full(f[2]), Groups: []string{f[1]}, Service: service, Type: typ, Data: data})
	case "vuln":
		service, typ, data := message(f[4:])
		take(Message{Sender: full(f[3]), Groups: []string{f[1]}, Service: service, Type: TypeVulnerable, Data: appendWords(data, viewID(f[2]), true, typ)})
	case "sub":
		service, typ, data := message(f[3:])
		take(Message{Sender: full(f[2]), Groups: []string{full("a")}, Service: service | SubgroupCast, Type: typ, Data: appendGroup(data, full(f[1]))})
	case "subvuln":
		service, typ, data := message(f[4:])
		take(Message{Sender: full(f[3]), Groups: []string{full("a")}, Service: service | SubgroupCast, Type: TypeVulnerable,
			Data: appendGroup(appendWords(data, viewID(f[2]), true, typ), f[1])})
	case "private":
		service, typ, data := message(f[2:])
		take(Message{Sender: full(f[1]), Groups: []string{full("a")}, Service: service, Type: typ, Data: data})
	case "join":
		err = s.m.Join(f[1], &fx)
	case "leave":
		err = s.m.Leave(f[1], &fx)
	case "flush":
		err = s.m.Flush(s.now, f[1], &fx)
	case "cast":
		service, typ, data := message(f[2:])
		err = s.m.Multicast(full(f[1]), service, typ, data, &fx)
	case "subcast":
		service, typ, data := message(f[3:])
		var to []string
		if f[2] != "nobody" {
			to = fulls(strings.Split(f[2], ","))
		}
		err = s.m.Subgroupcast(full(f[1]), to, service, typ, data, &fx)
	case "at":
		d, timeErr := time.ParseDuration(f[1])
		if timeErr != nil {
			s.t.Fatal(timeErr)
		}
		s.now = d
		if at := s.m.Deadline(); at != 0 && at <= s.now {
			s.m.Advance(s.now, &fx)
		}
	default:
		s.t.Fatalf("unknown command %q", line)
	}
	s.print(&fx, err)
	if err := s.m.CheckInvariants(); err != nil {
		s.t.Fatalf("%q: %v", line, err)
	}
}

func (s *script) print(fx *Effects, err error) {
	p := func(format string, args ...any) { fmt.Fprintf(&s.out, "  %s\n", short(fmt.Sprintf(format, args...))) }
	if err != nil {
		p("refused: %v", err)
	}
	for _, e := range fx.Sends {
		p("send %s", sendText(e))
	}
	for _, e := range fx.Events {
		p("%s", describe(e))
	}
	for _, n := range fx.Notes {
		p("note %v", n)
	}
}

func sendText(e Send) string {
	switch {
	case e.Kind == SendEvict:
		return fmt.Sprintf("evict %s from %s in %d", e.Member, e.Group, e.View[2])
	case e.Kind != SendMulticast:
		return e.Kind.String() + " " + e.Group
	case e.Type == TypeFlushOK:
		return fmt.Sprintf("FLUSH_OK %s %d", e.Group, parseID(e.Tail, order(false))[2])
	case e.Type == TypeFlushRecv:
		return fmt.Sprintf("FLUSH_RECV %s %d", e.Group, parseID(e.Tail, order(false))[2])
	}
	return fmt.Sprintf("%#x type %d to %s: %q + %x", uint32(e.Service), e.Type, strings.Join(e.Groups, " "), e.Data, e.Tail)
}

func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		if filepath.Base(file) == "cells.txt" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, m: machine(t, Config{Private: full("a")})}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimRight(line, "\n")
				switch {
				case strings.HasPrefix(line, "  "):
				case line == "" || strings.HasPrefix(line, "//"):
					s.out.WriteString(line + "\n")
				default:
					s.out.WriteString(line + "\n")
					s.run(line)
				}
			}
			golden(t, file, s.out.String())
		})
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(b), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, strings.Join(gotLines[min(i, len(gotLines)):min(i+3, len(gotLines))], "\n     "),
				strings.Join(wantLines[min(i, len(wantLines)):min(i+3, len(wantLines))], "\n     "))
		}
	}
}

// TestCells walks every cell of the table in the package documentation: each input in each state. The outcomes are in
// testdata/cells.txt, to be read against the table.
func TestCells(t *testing.T) {
	steady := []string{"view g 1 join a: a b", "ok g 1 a", "ok g 1 b", "recv g 1 a", "recv g 1 b"}
	authorize := append(slices.Clone(steady), "view g 2 join c: a b c")
	agree := append(slices.Clone(authorize), "flush g")
	states := []struct {
		name   string
		reach  []string
		state  State
		member Membership
	}{
		{"none", nil, 0, 0},
		{"joining", steady[:1], Agree, Joining},
		{"steady", steady, Steady, Joined},
		{"authorize", authorize, Authorize, Joined},
		{"agree", agree, Agree, Joined},
		{"agree, one answer missing", append(slices.Clone(agree), "ok g 2 a", "ok g 2 b"), Agree, Joined},
		{"verify", append(slices.Clone(agree), "ok g 2 a", "ok g 2 b", "ok g 2 c"), Verify, Joined},
		{"verify, one missing", append(slices.Clone(agree), "ok g 2 a", "ok g 2 b", "ok g 2 c", "recv g 2 a", "recv g 2 b"), Verify, Joined},
		{"leaving, steady", append(slices.Clone(steady), "leave g"), Steady, Leaving},
		{"leaving, authorize", append(slices.Clone(authorize), "leave g"), Authorize, Leaving},
		{"leaving, asked nothing", append(slices.Clone(steady), "leave g", "view g 2 join c: a b c"), Authorize, Leaving},
		{"leaving, agree", append(slices.Clone(agree), "leave g"), Agree, Leaving},
		{"leaving, verify", append(slices.Clone(agree), "ok g 2 a", "ok g 2 b", "ok g 2 c", "leave g"), Verify, Leaving},
	}
	inputs := []string{
		"view g 3 join d: a b c d", "view g 3 leave b: a c", "view g 3 disconnect c: a b", "view g 3 network: a c mine a",
		"signal g", "self g", "refused g",
		"ok g 1 b", "ok g 2 c", "ok g 2 f", "ok g 2 a", "ok g 9 b", "recv g 1 b", "recv g 2 c", "recv g 2 f",
		"msg g a fifo 5 x", "msg g b fifo 5 x", "msg g c fifo 5 x", "msg g f safe 5 x",
		"vuln g 1 b fifo 5 x", "vuln g 2 b fifo 5 x", "vuln g 2 c fifo 5 x", "vuln g 9 b fifo 5 x", "sub g b safe 5 x", "subvuln g 2 b fifo 5 x",
		"private f safe 5 x",
		"join g", "leave g", "flush g", "cast g fifo 5 x", "cast g agreed 5 x", "cast f fifo 5 x", "subcast g b fifo 5 x", "subcast g f fifo 5 x",
		"at 10s",
	}
	var out strings.Builder
	for _, st := range states {
		fmt.Fprintf(&out, "== %s\n", st.name)
		for _, in := range inputs {
			s := &script{t: t}
			s.run("config timeout 10s")
			for _, line := range st.reach {
				s.run(line)
			}
			if s.m.State("g") != st.state || s.m.Membership("g") != st.member {
				t.Fatalf("%s: got to %v and %v", st.name, s.m.Membership("g"), s.m.State("g"))
			}
			s.out.Reset()
			s.run(in)
			fmt.Fprintf(&out, "%s\n%s", in, s.out.String())
			if s.m.State("g") != 0 {
				fmt.Fprintf(&out, "  is %v, %v\n", s.m.Membership("g"), s.m.State("g"))
			}
		}
	}
	golden(t, "testdata/cells.txt", out.String())
}
