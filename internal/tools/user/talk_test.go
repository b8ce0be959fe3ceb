// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"evensong/client"
)

func TestWhy(t *testing.T) {
	view := func(mine int, sets ...[]string) *client.View {
		v := &client.View{Group: "g", Cause: client.CausedByNetwork, VSSets: sets, Mine: mine}
		for _, s := range sets {
			v.Members = append(v.Members, s...)
		}
		return v
	}
	because := func(d client.Detail, v *client.View) *client.View {
		v.Detail = d
		return v
	}
	three := view(0, []string{me, "#a#b", "#a#c"})
	tests := []struct {
		name      string
		now, from *client.View
		want      string
	}{
		{"no view before", three, nil, "daemons were lost or met again"},
		{"one lost", view(0, []string{me, "#a#b"}), three, "daemon c was lost (crashed, stopped, or cut off by the network)"},
		{"vanished", because(client.DetailVanished, view(0, []string{me, "#a#b"})), three, "daemon c has vanished without a word (crashed, or cut off by the network)"},
		{"said good-bye", because(client.DetailGoodbye, view(0, []string{me, "#a#b"})), three, "daemon c has said good-bye"},
		{"left out", because(client.DetailLeftOut, view(0, []string{me, "#a#b"})), three, "daemon c was left out (did not receive, or not all daemons hear each other)"},
		{"several reasons", because(client.DetailDaemons, view(0, []string{me, "#a#b"})), three, "daemon c was lost (crashed, stopped, or cut off by the network)"},
		{"met, no view before", because(client.DetailMet, view(0, []string{me})), nil, "daemons met"},
		{"alone", view(0, []string{me}), three, "daemons b and c were lost (crashed, stopped, or cut off by the network); you are in the minority, 1 of the 3 members before"},
		{"half", view(0, []string{me}), view(0, []string{me, "#a#b"}), "daemon b was lost (crashed, stopped, or cut off by the network); you are in one half of the 2 members before"},
		{"merge", view(1, []string{"#a#b", "#a#c"}, []string{me}), view(0, []string{me}), "daemons b and c are in reach now"},
		{"exchange", view(0, []string{me, "#a#b"}, []string{"#x#y"}), three, "daemon c was lost (crashed, stopped, or cut off by the network); daemon y is in reach now"},
		{"same daemons", view(0, []string{me, "#a#b"}, []string{"#a#c"}), three, "daemons changed their configuration"},
	}
	for _, tt := range tests {
		if got := whyView(tt.now, me, tt.from); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestNarratorRemembers tells the same view with and without one before it.
func TestNarratorRemembers(t *testing.T) {
	n := &narrator{me: me}
	alone := &client.View{Group: "g", Cause: client.CausedByNetwork, Members: []string{me}, VSSets: [][]string{{me}}}
	if got := n.tell(alone); !strings.Contains(got, "daemons were lost or met again") {
		t.Errorf("first view: %s", got)
	}
	n.remember(&client.View{Group: "g", Members: []string{me, "#a#b"}})
	if got := n.tell(alone); !strings.Contains(got, "daemon b was lost") {
		t.Errorf("after a view with b: %s", got)
	}
	n.tell(&client.SelfLeave{Group: "g"})
	if got := n.tell(alone); !strings.Contains(got, "daemons were lost or met again") {
		t.Errorf("after leaving: %s", got)
	}
}

func TestJSON(t *testing.T) {
	n := &narrator{me: me}
	tests := []struct {
		ev   client.Event
		want string
	}{
		{hello, `{"event":"message","groups":["chat"],"sender":"#you#there","service":"safe","type":1,"data":"hello"}`},
		{&client.Message{Sender: "#a#b", Service: client.FIFO | client.SelfDiscard, Type: -1, EndianMismatch: true, Data: []byte{0xff}},
			`{"event":"message","sender":"#a#b","service":"fifo","self_discard":true,"type":-1,"endian_mismatch":true,"data_base64":"/w=="}`},
		{&client.View{Group: "g", ID: client.ViewID{1, 2, 3}, Members: []string{me}, Cause: client.CausedByJoin, Joined: me, VSSets: [][]string{{me}}},
			`{"event":"view","group":"g","id":"00000001.00000002.3","cause":"join","why":"you joined","members":["#me#here"],"joined":"#me#here","vs_sets":[["#me#here"]],"vs_set_mine":0}`},
		{&client.Transition{Group: "g", ID: client.ViewID{1, 2, 3}}, `{"event":"transition","group":"g","id":"00000001.00000002.3"}`},
		{&client.SelfLeave{Group: "g"}, `{"event":"self-leave","group":"g"}`},
		{&client.Rejected{Request: client.RequestJoin, Groups: []string{"g"}}, `{"event":"rejected","groups":["g"],"request":"join"}`},
		{&client.Rejected{Request: client.RequestMulticast, Groups: []string{"g"}, Service: client.Safe, Data: []byte("x")},
			`{"event":"rejected","groups":["g"],"service":"safe","type":0,"data":"x","request":"multicast"}`},
		{&client.Peers{List: []client.Peer{{Name: "b", Addresses: []string{"10.0.0.2:4803"}}}}, `{"event":"peers","peers":[{"daemon":"b","addresses":["10.0.0.2:4803"]}]}`},
		{&client.Peers{}, `{"event":"peers","peers":[]}`},
		{&client.PrimaryChange{Primary: client.PrimaryNo}, `{"event":"primary","primary":"no"}`},
		{&client.PrimaryChange{}, `{"event":"primary","primary":"unclaimed"}`},
		{&client.View{Group: "g", Members: []string{me}, Cause: client.CausedByJoin, Joined: me, VSSets: [][]string{{me}}, Primary: client.PrimaryYes},
			`{"event":"view","group":"g","id":"00000000.00000000.0","cause":"join","why":"you joined","members":["#me#here"],"joined":"#me#here","vs_sets":[["#me#here"]],"vs_set_mine":0,"primary":"yes"}`},
	}
	for _, tt := range tests {
		if got := string(n.asJSON(tt.ev)); got != tt.want {
			t.Errorf("%v:\n got %s\nwant %s", tt.ev, got, tt.want)
		}
	}
}

// TestSubscribeLate: a time that is over before there is a session is over all the same.
func TestSubscribeLate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := Subscription{Options: Options{Address: ln.Addr().String()}, Groups: []string{"g"}, Count: 2, For: time.Millisecond}
	if err := Subscribe(t.Context(), s, io.Discard); err == nil || err.Error() != "0 messages came within 1ms, want 2; there was no session by then" {
		t.Errorf("with a count: %v", err)
	}
	s.Count = 0
	if err := Subscribe(t.Context(), s, io.Discard); err == nil || err.Error() != "there was no session within 1ms" {
		t.Errorf("without: %v", err)
	}
}

// echo delivers what is sent to the own private group, as a daemon does; what it refuses comes back as refused.
type echo struct {
	*fakeConn
	rejectAll, silent bool
}

func (e *echo) Multicast(ctx context.Context, s client.Service, t int16, data []byte, groups ...string) error {
	e.fakeConn.Multicast(ctx, s, t, data, groups...)
	switch {
	case e.silent:
	case e.rejectAll:
		e.events <- &client.Rejected{Request: client.RequestMulticast, Groups: groups, Service: s, Type: t, Data: data}
	case groups[0] == me:
		e.events <- &client.Message{Sender: me, Groups: groups, Service: s, Type: t, Data: data}
	}
	return nil
}

func TestPublish(t *testing.T) {
	goodbye := `agreed 32429 "evensong: end" [#me#here]`
	lines := func(s string) Publication {
		return Publication{Groups: []string{"g"}, Lines: strings.NewReader(s), Service: client.FIFO}
	}
	tests := []struct {
		name  string
		p     Publication
		conn  echo
		sent  int
		calls []string
		err   string
	}{
		{"one", Publication{Groups: []string{"g", "h"}, Message: []byte("x"), Service: client.Safe, Type: 3}, echo{}, 1, []string{`safe 3 "x" [g h]`, goodbye}, ""},
		{"repeated", Publication{Groups: []string{"g"}, Message: []byte("x"), Service: client.Safe, Repeat: 2, Rate: 1e6}, echo{}, 2,
			[]string{`safe 0 "x" [g]`, `safe 0 "x" [g]`, goodbye}, ""},
		{"lines", lines("one\r\n\ntwo"), echo{}, 3, []string{`fifo 0 "one" [g]`, `fifo 0 "" [g]`, `fifo 0 "two" [g]`, goodbye}, ""},
		{"no lines", lines(""), echo{}, 0, []string{goodbye}, ""},
		{"refused", lines("one\ntwo\n"), echo{rejectAll: true}, 0, []string{`fifo 0 "one" [g]`, `fifo 0 "two" [g]`, goodbye}, "the daemon's access rules refused 2 of 2 messages"},
		{"too long", lines("one\n" + strings.Repeat("x", client.MaxMessage-31) + "\n"), echo{}, 1, []string{`fifo 0 "one" [g]`}, "line 2 is longer than 143120 bytes"},
		{"much too long", lines("one\n" + strings.Repeat("x", client.MaxMessage+100000) + "\n"), echo{}, 1, []string{`fifo 0 "one" [g]`}, "line 2 is longer than 143120 bytes"},
		{"no answer", lines("one\n"), echo{silent: true}, 1, []string{`fifo 0 "one" [g]`, goodbye}, "did not order the last message within 5s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.conn.fakeConn = newFakeConn()
				sent, err := publish(t.Context(), &tt.conn, tt.p)
				if sent != tt.sent || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%d, %v; want %d, %q", sent, err, tt.sent, tt.err)
				}
				if got, want := strings.Join(tt.conn.calls, "\n"), strings.Join(tt.calls, "\n"); got != want {
					t.Errorf("calls:\n%s\nwant:\n%s", got, want)
				}
				if !tt.conn.closed {
					t.Error("the session was not closed")
				}
			})
		})
	}
}

// ownEcho is an echo in the own dialect, with a daemon's own limit.
type ownEcho struct {
	*echo
	limit int
}

func (e ownEcho) Session() (client.Session, bool) { return client.Session{MaxMessage: e.limit}, true }

// TestPublishLimit: lines are as long as the session allows, not as the original's protocol does.
func TestPublishLimit(t *testing.T) {
	conn := ownEcho{&echo{fakeConn: newFakeConn()}, 200000}
	in := strings.Repeat("x", 200000) + "\r\n" + strings.Repeat("y", 200001) + "\n"
	sent, err := publish(t.Context(), conn, Publication{Groups: []string{"g"}, Lines: strings.NewReader(in), Service: client.FIFO})
	if sent != 1 || err == nil || !strings.HasPrefix(err.Error(), "line 2 is longer than 200000 bytes") {
		t.Errorf("%d, %v", sent, err)
	}
}

// TestPublishRate sends at a rate and measures in virtual time.
func TestPublishRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := Publication{Groups: []string{"g"}, Message: []byte("x"), Service: client.FIFO, Repeat: 11, Rate: 5}
		if sent, err := publish(t.Context(), &echo{fakeConn: newFakeConn()}, p); sent != 11 || err != nil {
			t.Errorf("%d, %v", sent, err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("11 messages at 5 per second took %v", took)
		}
	})
}

// TestPublishLost loses the session while the input waits.
func TestPublishLost(t *testing.T) {
	in, write := io.Pipe()
	f := newFakeConn()
	close(f.lost)
	_, err := publish(t.Context(), &echo{fakeConn: f, silent: true}, Publication{Groups: []string{"g"}, Lines: in, Service: client.FIFO})
	if !errors.Is(err, client.ErrConnectionClosed) {
		t.Errorf("%v", err)
	}
	write.Close()
}

func TestSubscribe(t *testing.T) {
	view := &client.View{Group: "g", ID: client.ViewID{0, 0, 1}, Members: []string{me}, Cause: client.CausedByJoin, Joined: me}
	events := []client.Event{view, hello, &client.Transition{Group: "g"}, &client.Message{Sender: "#a#b", Groups: []string{"g"}, Service: client.FIFO, Data: []byte("1\n2")}}
	tests := []struct {
		name   string
		s      Subscription
		events []client.Event
		out    string
		err    string
	}{
		{"text", Subscription{Format: Text}, events, "#you#there to chat (safe, type 1, 5 bytes): hello\n#a#b to g (fifo, type 0, 3 bytes):\n    1\n    2\n", ""},
		{"color and views", Subscription{Format: Text, Views: true, Color: true, Count: 1}, events,
			"\x1b[32mview of g: you joined; 1 member: #me#here (you); you are number 1 (id 00000000.00000000.1)\x1b[0m\n#you#there to chat (safe, type 1, 5 bytes): hello\n", ""},
		{"raw", Subscription{Format: Raw, Views: true}, events, "hello\n1\n2\n", ""},
		{"count", Subscription{Format: Raw, Count: 1}, events, "hello\n", ""},
		{"too few", Subscription{Format: Raw, Count: 3}, events, "hello\n1\n2\n", "2 messages came within 1m0s, want 3"},
		{"refused", Subscription{}, []client.Event{&client.Rejected{Request: client.RequestJoin, Groups: []string{"g"}}}, "", "refused by the daemon's access rules: join to g"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.s.For, tt.s.Groups = time.Minute, []string{"g"}
				ctx, cancel := context.WithTimeout(t.Context(), tt.s.For)
				defer cancel()
				var out bytes.Buffer
				err := subscribe(ctx, newFakeConn(tt.events...), tt.s, &out)
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				if out.String() != tt.out {
					t.Errorf("printed %q\nwant    %q", out.String(), tt.out)
				}
			})
		})
	}
}

// leaver answers a leave.
type leaver struct{ *fakeConn }

func (l leaver) Leave(ctx context.Context, g string) error {
	l.events <- &client.SelfLeave{Group: g}
	return l.fakeConn.Leave(ctx, g)
}

func TestConverseOnATerminal(t *testing.T) {
	f := newFakeConn()
	in, keys := io.Pipe()
	defer keys.Close()
	out := newWatchedBuffer()
	scr := newTerminalScreen(struct {
		io.Reader
		io.Writer
	}{in, out})
	done := make(chan error, 1)
	go func() {
		done <- converse(context.Background(), leaver{f}, Conversation{Group: "chat", Service: client.Agreed, Color: true}, scr)
	}()
	out.waitFor(t, "you are #me#here; each line is sent to chat (agreed)")
	io.WriteString(keys, "/members\r")
	out.waitFor(t, "no view yet")
	f.events <- &client.View{Group: "chat", Members: []string{me, "#you#there"}, Cause: client.CausedByJoin, Joined: me}
	out.waitFor(t, "\x1b[32mview of chat: you joined; 2 members")
	io.WriteString(keys, "/members\r")
	out.waitFor(t, "2 members: #me#here (you), #you#there\r\n")
	io.WriteString(keys, "hello\r\r//x\r/x\r")
	f.events <- hello
	out.waitFor(t, "\x1b[36m#you#there\x1b[0m: hello\r\n")
	f.events <- &client.Message{Sender: me, Groups: []string{me}, Service: client.Agreed}
	out.waitFor(t, "#me#here (you)\x1b[0m to you alone sent an empty message\r\n")
	out.waitFor(t, "unknown: /x; ")
	io.WriteString(keys, "/quit\r")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Join(f.calls, "\n"); got != "join chat\nagreed 0 \"hello\" [chat]\nagreed 0 \"/x\" [chat]\nleave chat" {
		t.Errorf("calls:\n%s", got)
	}
}

func TestConverseRefused(t *testing.T) {
	in, write := io.Pipe()
	defer write.Close()
	f := newFakeConn(&client.Rejected{Request: client.RequestJoin, Groups: []string{"chat"}})
	err := converse(context.Background(), leaver{f}, Conversation{Group: "chat", Service: client.Agreed}, newPlainScreen(in, io.Discard, io.Discard))
	if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code != exitRefused {
		t.Errorf("%v", err)
	}
}

// TestConverseRefusedMessage: in a pipe, a line that nobody hears is an error.
func TestConverseRefusedMessage(t *testing.T) {
	f := newFakeConn(&client.Rejected{Request: client.RequestMulticast, Groups: []string{"chat"}, Service: client.Agreed, Data: []byte("hi")})
	var out, errOut bytes.Buffer
	err := converse(t.Context(), leaver{f}, Conversation{Group: "chat", Service: client.Agreed}, newPlainScreen(strings.NewReader("hi\n"), &out, &errOut))
	if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code != exitRefused {
		t.Errorf("%v", err)
	}
	if out.String() != "you left chat\n" || errOut.String() != "refused by the daemon's access rules: agreed message of type 0, 2 bytes, to chat\n" {
		t.Errorf("printed %q and %q", out.String(), errOut.String())
	}
}

func TestParseService(t *testing.T) {
	for name, want := range map[string]client.Service{"agreed": client.Agreed, "SAFE": client.Safe, "un": client.Unreliable, "f": client.FIFO} {
		if got, err := ParseService(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "x", "agreedy"} {
		if _, err := ParseService(name); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
}
