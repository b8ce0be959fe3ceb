// SPDX-License-Identifier: Apache-2.0

package user

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"evensong/client"
)

func TestDescribe(t *testing.T) {
	two := []string{"#me#here", "#you#there"}
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("#m%d#d", i)
	}
	id := client.ViewID{0x7f000001, 0x6b02b78c, 3}
	tests := []struct {
		name string
		ev   client.Event
		want string
	}{
		{"message", hello, "#you#there to chat (safe, type 1, 5 bytes): hello"},
		{"to several, other byte order", &client.Message{Sender: "#a#b", Groups: []string{"g", "#me#here"}, Service: client.Agreed | client.SelfDiscard, Type: -2,
			EndianMismatch: true, Data: []byte("x\n")}, "#a#b to g, #me#here (agreed|self-discard, type -2, 2 bytes, sender has another byte order): x"},
		{"empty, to nobody", &client.Message{Sender: "#a#b", Service: client.FIFO}, "#a#b to nobody (fifo, type 0, 0 bytes)"},
		{"lines", &client.Message{Sender: "#a#b", Groups: []string{"g"}, Service: client.FIFO, Data: []byte("one\ntwo\n")},
			"#a#b to g (fifo, type 0, 8 bytes):\n    one\n    two"},
		{"control codes", &client.Message{Sender: "#a#b", Groups: []string{"g\x1b[2J"}, Service: client.FIFO, Data: []byte("\x1b[2Jhi\xff")},
			`#a#b to "g\x1b[2J" (fifo, type 0, 7 bytes): "\x1b[2Jhi\xff"`},
		{"long", &client.Message{Sender: "#a#b", Groups: []string{"g"}, Service: client.FIFO, Data: []byte("x" + strings.Repeat("ä", 1500))},
			"#a#b to g (fifo, type 0, 3001 bytes): x" + strings.Repeat("ä", 1023) + " ... and 954 bytes more"},
		{"join", &client.View{Group: "chat", ID: id, Members: two, Cause: client.CausedByJoin, Joined: "#you#there"},
			"view of chat: #you#there joined; 2 members: #me#here (you), #you#there; you are number 1 (id 7f000001.6b02b78c.3)"},
		{"own join", &client.View{Group: "chat", ID: id, Members: two[:1], Cause: client.CausedByJoin, Joined: me},
			"view of chat: you joined; 1 member: #me#here (you); you are number 1 (id 7f000001.6b02b78c.3)"},
		{"leave", &client.View{Group: "chat", ID: id, Members: two[:1], Cause: client.CausedByLeave, Left: "#x#y"},
			"view of chat: #x#y left; 1 member: #me#here (you); you are number 1 (id 7f000001.6b02b78c.3)"},
		{"disconnect", &client.View{Group: "chat", ID: id, Members: two[:1], Cause: client.CausedByDisconnect, Disconnected: "#x#y"},
			"view of chat: #x#y disconnected; 1 member: #me#here (you); you are number 1 (id 7f000001.6b02b78c.3)"},
		{"network", &client.View{Group: "chat", ID: id, Members: two, Cause: client.CausedByNetwork, VSSets: [][]string{{"#you#there"}, {me}}, Mine: 1},
			"view of chat: daemons were lost or met again; 2 members: #me#here (you), #you#there; you are number 1 (id 7f000001.6b02b78c.3)\n" +
				"    came from another view (OTHER): #you#there\n    came with you (LOCAL): #me#here (you)"},
		{"many members", &client.View{Group: "chat", ID: id, Members: many, Cause: client.CausedByLeave, Left: "#x#y"},
			"view of chat: #x#y left; 60 members: " + strings.Join(many[:50], ", ") + " and 10 more (id 7f000001.6b02b78c.3)"},
		{"transition", &client.Transition{Group: "chat", ID: id},
			"chat: members of the view became unreachable; until the next view, safe means safe only among those that stay together (id 7f000001.6b02b78c.3)"},
		{"self-leave", &client.SelfLeave{Group: "chat"}, "you left chat"},
		{"refused join", &client.Rejected{Request: client.RequestJoin, Groups: []string{"chat"}}, "refused by the daemon's access rules: join to chat"},
		{"refused message", &client.Rejected{Request: client.RequestMulticast, Groups: []string{"chat"}, Service: client.Safe, Data: []byte("x")},
			"refused by the daemon's access rules: safe message of type 0, 1 byte, to chat"},
		{"other daemons", &client.Peers{List: []client.Peer{{Name: "b"}, {Name: "c"}}}, "daemons b and c are in reach, should this one end"},
		{"primary", &client.PrimaryChange{Primary: client.PrimaryYes}, "primary: the majority of the configured daemons is here"},
		{"not primary", &client.PrimaryChange{Primary: client.PrimaryNo}, "not primary: from here on the majority of the configured daemons may be elsewhere"},
		{"nothing claimed", &client.PrimaryChange{}, "the daemons do not say any more whether they are primary"},
		{"no other daemon", &client.Peers{}, "no other daemon is in reach, should this one end"},
	}
	for _, tt := range tests {
		if got := describe(tt.ev, me, nil); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// TestEveryEvent tells one event of every type that package client has, in each of the ways there are. The types come from
// its source, so that a new one cannot be forgotten.
func TestEveryEvent(t *testing.T) {
	tests := map[string]client.Event{
		"Message":       hello,
		"View":          &client.View{Group: "chat", Cause: client.CausedByJoin, Joined: me, Members: []string{me}},
		"Transition":    &client.Transition{Group: "chat"},
		"SelfLeave":     &client.SelfLeave{Group: "chat"},
		"Rejected":      &client.Rejected{Request: client.RequestMulticast, Groups: []string{"chat"}},
		"Peers":         &client.Peers{List: []client.Peer{{Name: "b"}}},
		"PrimaryChange": &client.PrimaryChange{Primary: client.PrimaryYes},
		"Lost":          &client.Lost{Address: "here", Err: errors.New("why")},
		"Moved":         &client.Moved{Address: "there", PrivateGroup: me},
	}
	var types []string
	files, err := filepath.Glob("../../../client/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "sealed" {
				types = append(types, f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name)
			}
		}
	}
	slices.Sort(types)
	if want := slices.Sorted(maps.Keys(tests)); !slices.Equal(types, want) {
		t.Fatalf("package client has the events %q, the table %q", types, want)
	}
	for name, ev := range tests {
		n := &narrator{me: me}
		if n.tell(ev) == "" {
			t.Errorf("%s: no words", name)
		}
		var r record
		if err := json.Unmarshal(n.asJSON(ev), &r); err != nil || r.Event == "" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		colorOf(ev)
		(&talk{narrator: narrator{me: me}, left: make(chan struct{}), lost: make(chan error, 1)}).tell(ev)
	}
}
