// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
	"evensong/vsync"
)

// TestFlush has a person and a program in a group with view synchrony: the program's join and leave wait for the person
// to flush.
func TestFlush(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	addr := d.ListenAddrs()[0].String()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	in, write := io.Pipe()
	out := newWatchedBuffer()
	done := make(chan error, 1)
	go func() { done <- FlushMain(ctx, Options{Address: addr, Name: "alice"}, true, in, out, io.Discard) }()
	io.WriteString(write, "j chat\n")
	out.waitFor(t, "of chat: you joined; 1 member")

	bob, err := vsync.Dial(ctx, addr, vsync.WithAutoFlush(), vsync.WithClient(client.WithName("bob")))
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	bob.Join(ctx, "chat")
	out.waitFor(t, "is about to change; send what must be said in it, then: f chat")
	io.WriteString(write, "f chat\n")
	out.waitFor(t, "#bob#d joined; 2 members: #alice#d (you), #bob#d")
	io.WriteString(write, "g chat #bob#d\npsst\n")
	for ev, err := range bob.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*vsync.Message); ok {
			if !m.Subgroup || m.Group != "chat" || string(m.Data) != "psst" {
				t.Errorf("%v", m)
			}
			break
		}
	}
	bob.Unicast(ctx, "chat", "#alice#d", client.Agreed, 0, []byte("yes?"))
	out.waitFor(t, "to a part of chat: #bob#d to #alice#d (agreed, type 0, 4 bytes): yes?")
	io.WriteString(write, "d\np\ns chat other\nq\n")
	out.waitFor(t, "0 messages are buffered\nusage: s GROUP - send one line")
	if exit, ok := errors.AsType[*ExitError](<-done); !ok || exit.Code != exitUsage { // of the command with two groups
		t.Error(exit)
	}
	write.Close()
}

func TestTellFlush(t *testing.T) {
	id := client.ViewID{0, 0, 4}
	for _, tt := range []struct {
		ev   vsync.Event
		want string
	}{
		{&vsync.View{Group: "g", ID: id, Members: []string{"#a#b", me}, Cause: client.CausedByNetwork, Came: []string{me}},
			"view of g: daemons were lost or met again; 2 members: #a#b, #me#here (you); you are number 2 (id 00000000.00000000.4)\n" +
				"    came with you (LOCAL): #me#here (you)\n    came from another view (OTHER): #a#b"},
		{&vsync.Transition{Group: "g", ID: id, Gone: []string{"#a#b", "#c#b"}}, "g: gone from the view: #a#b, #c#b; until the next view, safe means safe only among those that come along"},
		{&vsync.Transition{Group: "g", ID: id}, "g: members of the view became unreachable"},
		{&vsync.SelfLeave{Group: "g"}, "you left g"},
		{&vsync.SelfLeave{Group: "g", Evicted: true}, "you were removed from g"},
		{&vsync.Stuck{Group: "g", Members: []string{"#a#b"}, Silent: []string{"#a#b"}, Err: vsync.ErrCannotEvict},
			"g: the next view waits for #a#b to flush; no answer was ever seen from #a#b; this daemon cannot remove them"},
		{&vsync.Stuck{Group: "g", Members: []string{"#a#b"}}, "g: the next view waits for #a#b to flush; the daemon was asked to remove them"},
		{&vsync.Stuck{Group: "g", Members: []string{"#a#b"}, Err: io.EOF}, "g: the next view waits for #a#b to flush; removing them failed: EOF"},
		{&vsync.GaveUp{Group: "g", Reason: "too much waits"}, "g: giving up: too much waits"},
		{&vsync.Rejected{Rejected: client.Rejected{Request: client.RequestJoin, Groups: []string{"g"}}}, "refused by the daemon's access rules: join to g"},
	} {
		n := &narrator{me: me}
		if got := n.tellFlush(tt.ev); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v:\n got %s\nwant %s", tt.ev, got, tt.want)
		}
	}
}
