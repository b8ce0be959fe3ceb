// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"log/slog"
	"time"
)

const (
	// noteBurst lines with one text may be logged per noteWindow; more are counted and summed up in one line when the
	// window ends. A membership change says a handful of lines, a flood of one line says nothing new.
	noteBurst  = 20
	noteWindow = 10 * time.Second
	// noteQueue lines wait for a slow log. Past it lines are lost and counted: a full pipe must not stop the token.
	noteQueue = 1024
)

// notes writes log lines away from the loop. note belongs to the loop's goroutine.
type notes struct {
	log     *slog.Logger
	stats   *Stats
	queue   chan slog.Record
	done    chan struct{}
	windows map[string]*noteCount // by text; texts are constants, so there are few
}

type noteCount struct {
	since      time.Duration
	n          int
	suppressed int
}

func newNotes(log *slog.Logger, stats *Stats) *notes {
	return &notes{log: log, stats: stats, windows: make(map[string]*noteCount),
		queue: make(chan slog.Record, noteQueue), done: make(chan struct{})}
}

// run writes lines until close.
func (n *notes) run() {
	defer close(n.done)
	h := n.log.Handler()
	for r := range n.queue {
		// A log that cannot be written to has nowhere to say so.
		_ = h.Handle(context.Background(), r)
	}
}

// close writes what is queued and ends run.
func (n *notes) close() {
	close(n.queue)
	<-n.done
}

// enabled reports whether lines of level are wanted at all.
func (n *notes) enabled(level slog.Level) bool { return n.log.Enabled(context.Background(), level) }

// note logs one line, unless its text was logged too often lately.
func (n *notes) note(now time.Duration, level slog.Level, text string, attrs ...slog.Attr) {
	if !n.enabled(level) {
		return
	}
	c := n.windows[text]
	if c == nil {
		c = &noteCount{since: now}
		n.windows[text] = c
	}
	if now-c.since >= noteWindow {
		if c.suppressed > 0 {
			n.put(slog.LevelWarn, "lines suppressed", slog.String("text", text), slog.Int("lines", c.suppressed), slog.Duration("within", now-c.since))
		}
		*c = noteCount{since: now}
	}
	if c.n++; c.n > noteBurst {
		c.suppressed++
		n.stats.NotesSuppressed.Add(1)
		return
	}
	n.put(level, text, attrs...)
}

func (n *notes) put(level slog.Level, text string, attrs ...slog.Attr) {
	r := slog.NewRecord(time.Now(), level, text, 0)
	r.AddAttrs(attrs...)
	select {
	case n.queue <- r:
	default:
		n.stats.NotesLost.Add(1)
	}
}
