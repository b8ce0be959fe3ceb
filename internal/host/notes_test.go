// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

func TestNotesAreLimitedByText(t *testing.T) {
	var out bytes.Buffer
	var stats Stats
	n := newNotes(slog.New(slog.NewTextHandler(&out, nil)), &stats)
	go n.run()
	for i := range 50 {
		n.note(time.Duration(i), slog.LevelWarn, "flood", slog.Int("ring", i))
		if i < 3 {
			n.note(time.Duration(i), slog.LevelInfo, "rare")
		}
		n.note(time.Duration(i), slog.LevelDebug, "not wanted")
	}
	n.note(noteWindow+1, slog.LevelWarn, "flood", slog.Int("ring", 99))
	n.close()
	for text, want := range map[string]int{"msg=flood": noteBurst + 1, "msg=rare": 3, "not wanted": 0, `text=flood lines=30`: 1, "ring=99": 1} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("%q: %d lines, want %d", text, got, want)
		}
	}
	if got := stats.NotesSuppressed.Load(); got != 30 {
		t.Errorf("NotesSuppressed = %d, want 30", got)
	}
}

// stuck is a log that does not take anything until it is told to.
type stuck struct{ until chan struct{} }

func (s stuck) Write(b []byte) (int, error) {
	<-s.until
	return len(b), nil
}

func TestSlowLogLosesLinesNotTime(t *testing.T) {
	var stats Stats
	s := stuck{make(chan struct{})}
	n := newNotes(slog.New(slog.NewTextHandler(s, nil)), &stats)
	go n.run()
	for i := range noteQueue + 100 {
		n.note(0, slog.LevelInfo, strings.Repeat("x", i))
	}
	if stats.NotesLost.Load() < 99 {
		t.Errorf("NotesLost = %d", stats.NotesLost.Load())
	}
	close(s.until)
	n.close()
}

func TestNotesOfTheMachine(t *testing.T) {
	var out bytes.Buffer
	cfg := local(LoopAuto)
	cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
	h := start(t, cfg, &echo{})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "level=INFO msg=started proc=echo") {
		t.Errorf("log: %s", out.String())
	}
	var c core
	defer func() {
		if recover() == nil {
			t.Error("a note without level went through")
		}
	}()
	c.noteOf(&evs.Note{Text: "?"})
}
