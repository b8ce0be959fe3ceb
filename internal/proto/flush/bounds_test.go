// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"fmt"
	"testing"

	"evensong/internal/proto/evs"
)

func prepared(t *testing.T, lines ...string) *script {
	s := &script{t: t, m: machine(t, Config{Private: full("a")})}
	for _, line := range lines {
		s.run(line)
	}
	s.out.Reset()
	return s
}

func eventKinds(fx *Effects) (out []EventKind) {
	for _, e := range fx.Events {
		out = append(out, e.Kind)
	}
	return out
}

// A member that has not answered through too many changes leaves, and says so.
func TestTooManyPendingViews(t *testing.T) {
	s := prepared(t, "view g 1 join a: a b", "ok g 1 a", "ok g 1 b")
	var fx Effects
	for i := range maxPending + 1 {
		fx.Reset()
		s.m.HandleView(0, &DaemonView{Group: "g", ID: evs.ViewID{1, 1, uint32(i)}, Cause: evs.CausedByJoin, Changed: full("c"),
			Members: fulls([]string{"a", "b", "c"})}, &fx)
		if got := s.m.Membership("g"); (got == Leaving) != (i == maxPending) {
			t.Fatalf("after %d pending views: %v", i+1, got)
		}
	}
	if got := fmt.Sprint(eventKinds(&fx)); got != "[gave up]" || len(fx.Sends) != 1 || fx.Sends[0].Kind != SendLeave {
		t.Errorf("events %v, sends %v", got, fx.Sends)
	}
	// Nothing more comes of the group but the end.
	for _, line := range []string{"msg g b agreed 1 x", "ok g 1 b", "signal g", "view g 5 join d: a b c d", "refused g", "at 1h"} {
		s.out.Reset()
		s.run(line)
		if got := s.out.String(); got != "" && got != "  note g: dropped, from : the group was given up\n" && got != "  note g: dropped, from b: the group was given up\n" {
			t.Errorf("%s: %s", line, got)
		}
	}
	s.out.Reset()
	s.run("self g")
	if got := s.out.String(); got != "  self-leave g, asked true\n" {
		t.Errorf("got %q", got)
	}
}

func TestTooMuchPostponed(t *testing.T) {
	s := prepared(t, "view g 1 join a: a b", "ok g 1 a", "ok g 1 b", "view g 2 join c: a b c", "flush g")
	var fx Effects
	big := make([]byte, 1<<20)
	n := 0
	for s.m.Membership("g") == Joined && n < 100 {
		fx.Reset()
		data := appendID(append(big[:len(big):len(big)], 1, 0), viewID("2"))
		s.m.HandleMessage(0, &Message{Sender: full("b"), Groups: []string{"g"}, Service: FIFO, Type: TypeVulnerable, Data: data}, &fx)
		n++
	}
	if got := fmt.Sprint(eventKinds(&fx)); got != "[gave up]" || n != maxPostponedBytes>>20 {
		t.Errorf("after %d messages: %v", n, got)
	}
	if err := s.m.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// Answers for views that nobody names are bounded in number and in age.
func TestEarlyAnswers(t *testing.T) {
	s := prepared(t, "view g 1 join a: a b", "ok g 1 a", "ok g 1 b", "ok g 2 b")
	var fx Effects
	id := func(i int) evs.ViewID { return evs.ViewID{9, 9, uint32(i)} }
	view := func(i int) {
		fx.Reset()
		s.m.HandleView(0, &DaemonView{Group: "g", ID: id(i), Cause: evs.CausedByNetwork, Members: fulls([]string{"a", "b"}), Mine: fulls([]string{"a", "b"})}, &fx)
	}
	for i := range maxEarlyAge {
		view(i)
	}
	if n := s.m.records["g"].earlyN; n != 1 {
		t.Fatalf("%d early answers after %d views", n, maxEarlyAge)
	}
	view(maxEarlyAge)
	if n := s.m.records["g"].earlyN; n != 0 || len(fx.Notes) != 1 || fx.Notes[0].Drop != DropEarlyOld {
		t.Errorf("%d early answers after one more, notes %v", n, fx.Notes)
	}
	full := false
	for i := range maxEarly + 1 {
		fx.Reset()
		s.m.HandleMessage(0, &Message{Sender: fmt.Sprintf("#%d#d", i), Groups: []string{"g"}, Service: FIFO, Type: TypeFlushOK, Data: appendID(nil, id(1<<20+i%64))}, &fx)
		full = len(fx.Notes) == 1 && fx.Notes[0].Drop == DropEarlyFull
		if full != (i == maxEarly) {
			t.Fatalf("answer %d: full is %v", i, full)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{Private: "noname", FlushTimeout: -1}); err == nil {
		t.Error("a configuration with two mistakes was accepted")
	} else {
		t.Log(err)
	}
}
