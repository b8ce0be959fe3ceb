// SPDX-License-Identifier: Apache-2.0

package user

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
	"evensong/internal/proto/flush"
	"evensong/vsync"
)

// TestRoll: requests and what comes back, in any order in which they may meet.
func TestRoll(t *testing.T) {
	for _, c := range []struct {
		happens string
		want    standing
	}{
		{"", outside},
		{"join", joining},
		{"join view", inside},
		{"view", inside}, // noted before the join, of which it is the answer
		{"join view join", inside},
		{"join view leave", leaving},
		{"join leave view", leaving},
		{"join leave view left", outside},
		{"join leave join", joining},
		{"join leave join view left", inside},
		{"join leave join leave view left", leaving},
		{"join leave join leave view left view left", outside},
		{"join view left", outside}, // nobody asked
		{"join view leave join evicted", outside},
		{"join view unable", inside}, // the leave could not be asked for
		{"join no-join", outside},
		{"join leave no-join", outside},
		{"join leave no-join join view leave left", outside},
		{"join view leave no-leave", inside},
		{"join view leave no-leave leave left", outside},
	} {
		r := &roll{}
		ok := func() error { return nil }
		for what := range strings.FieldsSeq(c.happens) {
			switch what {
			case "join":
				r.joins("g", ok)
			case "leave":
				r.leaves("g", ok)
			case "unable":
				r.leaves("g", func() error { return client.ErrConnectionClosed })
			case "view":
				r.saw(&client.View{Group: "g"})
			case "left":
				r.saw(&client.SelfLeave{Group: "g"})
			case "evicted":
				r.sawFlush(&vsync.SelfLeave{Group: "g", Evicted: true})
			case "no-join":
				r.saw(&client.Rejected{Request: client.RequestJoin, Groups: []string{"g"}})
			case "no-leave":
				r.sawFlush(&vsync.Rejected{Rejected: client.Rejected{Request: client.RequestLeave, Groups: []string{"g"}}})
			}
		}
		if got := r.of("g"); got != c.want || got == outside && len(r.names) > 0 {
			t.Errorf("%q: %d, want %d; %d names are kept", c.happens, got, c.want, len(r.names))
		}
	}
}

func TestPlainly(t *testing.T) {
	group := &client.Error{Code: vsync.ErrIllegalGroup, Detail: flush.RefuseGroup.Error()}
	state := &client.Error{Code: vsync.ErrIllegalState, Detail: flush.RefuseState.Error()}
	for _, c := range []struct {
		verb     string
		standing standing
		err      error
		want     string
	}{
		{"leave", outside, group, "not a member of g"},
		{"send", outside, group, "not a member of g"},
		{"flush", joining, group, "not a member of g yet: its first view is still to come"},
		{"send", leaving, group, "you are about to leave g"},
		{"join", joining, group, "you have asked to join g; its first view is still to come"},
		{"join", inside, group, "you are a member of g"},
		{"join", leaving, group, "you are about to leave g; join it again when you have left"},
		{"flush", inside, state, "g: no flush is asked for: no change of its view was announced, or you have flushed for it"},
		{"send", inside, state, "g: you have flushed; nothing can be sent before the next view"},
		{"join", outside, group, group.Error()},
		{"send", inside, client.ErrMessageTooLong, client.ErrMessageTooLong.Error()},
		{"send", inside, nil, fmt.Sprint(error(nil))},
	} {
		r := &roll{names: map[string]*entry{"g": {standing: c.standing}}}
		err := r.plainly(c.verb, "g", c.err)
		if got := fmt.Sprint(err); got != c.want || err != nil && !isMistake(err) {
			t.Errorf("%s, %d: %q, want %q", c.verb, c.standing, got, c.want)
		}
	}
}

// TestBeforeTheFirstView: who receives by hand is told what is missing until there is a view.
func TestBeforeTheFirstView(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var out, errOut strings.Builder
	script := "l chat\nj chat\nj chat\nr\nj chat\nf chat\nl chat\nl chat\nr\ns chat\nhi\nq\n"
	err = FlushMain(t.Context(), Options{Address: d.ListenAddrs()[0].String(), Name: "alice", Timeout: 20 * time.Second}, false, strings.NewReader(script), &out, &errOut)
	if exit, _ := errors.AsType[*ExitError](err); exit == nil || exit.Code != exitUsage {
		t.Error(err)
	}
	_, text, _ := strings.Cut(out.String(), "\n")
	view, rest, _ := strings.Cut(text, "view of chat: you joined; 1 member")
	if want := "not a member of chat\n"; view != want && view != want+"you have asked to join chat; its first view is still to come\n" {
		t.Errorf("before the view: %q", view)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	want := `you are a member of chat
chat: no flush is asked for: no change of its view was announced, or you have flushed for it
you are about to leave chat
you left chat
not a member of chat
bye
`
	if rest != want {
		t.Errorf("behind the view:\n%s\nwant:\n%s", rest, want)
	}
}
