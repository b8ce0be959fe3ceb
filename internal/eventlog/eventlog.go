// SPDX-License-Identifier: Apache-2.0

// Package eventlog writes a daemon's log as its configuration wants it: to which file, from which level on, which types
// of events, and with which time in front. All of it can change while the daemon runs, and the file can be opened again
// after somebody has moved it away.
//
// A line is a log/slog record: a constant text, facts behind it, and the type of event (attribute "event"), which is one
// of those that the original has. Without a time format, lines are JSON, or text if they go to a terminal. With one
// they are text with the time in front, as operators of the original know it.
package eventlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/itchyny/timefmt-go"
	"golang.org/x/term"

	"evensong/internal/config"
)

// builtinFormat is the time format if the configuration asks for times and names none.
const builtinFormat = "%m/%d/%y %H:%M:%S"

// Log is a log that can be reconfigured. Its methods may be called concurrently.
type Log struct {
	host   string
	stderr io.Writer

	mu    sync.Mutex
	cfg   config.Log
	path  string   // of file; empty: standard error
	file  *os.File // nil: standard error
	inner slog.Handler
	level slog.LevelVar
	types map[string]bool // nil: all
	stamp stamper         // between inner and the file, if there is a time format
}

// Open starts a log. host stands for %h in the name of the file; stderr receives the lines if there is no file.
func Open(cfg config.Log, host string, stderr io.Writer) (*Log, error) {
	l := &Log{host: host, stderr: stderr}
	if err := l.Apply(cfg); err != nil {
		return nil, err
	}
	return l, nil
}

// Logger writes to the log, whatever becomes of its configuration.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// Apply makes the log as cfg wants it. If a new file cannot be opened, nothing changes.
func (l *Log) Apply(cfg config.Log) error {
	apply, _, err := l.Prepare(cfg)
	if err == nil {
		apply()
	}
	return err
}

// Prepare opens what cfg wants and returns what puts cfg in force; until then nothing changes. Who has called Prepare
// without an error calls either apply or discard, which closes what was opened.
func (l *Log) Prepare(cfg config.Log) (apply, discard func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := cfg.Path(l.host)
	another := path != l.path || l.inner == nil
	var f *os.File
	if another {
		if f, err = open(path); err != nil {
			return nil, nil, err
		}
	}
	apply = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if another {
			l.use(f, path)
		}
		l.cfg = cfg
		l.level.Set(cfg.Level())
		l.types = nil
		if cfg.Flags != nil {
			l.types = map[string]bool{}
			for _, f := range cfg.Flags {
				l.types[f] = true
			}
		}
		l.build()
	}
	discard = func() {
		if f != nil {
			f.Close()
		}
	}
	return apply, discard, nil
}

// Reopen closes the file and opens it again under its name: what to do after a log was moved away. If that fails, lines
// go on into the old file.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" {
		return nil
	}
	f, err := open(l.path)
	if err != nil {
		return err
	}
	l.use(f, l.path)
	l.build()
	return nil
}

// Level is the least level that is written, errors aside, which always are. It may be set; the next Apply sets it, too.
func (l *Log) Level() *slog.LevelVar { return &l.level }

// Own gives the file to a user, who can then open it again. Without a file it does nothing.
func (l *Log) Own(uid, gid int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Chown(uid, gid)
}

// Close closes the file. Lines that come later go to standard error.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file, l.path = nil, ""
	l.build()
	return err
}

// open opens a file to append to; nil, which stands for standard error, if path is empty.
func open(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log (EventLogFile, --log-file): %w", err)
	}
	return f, nil
}

// use makes f the file in use. The lock is held.
func (l *Log) use(f *os.File, path string) {
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.path = f, path
}

// build makes the handler for the file in use. The lock is held.
func (l *Log) build() {
	w := l.stderr
	if l.file != nil {
		w = l.file
	}
	o := &slog.HandlerOptions{Level: slog.LevelDebug - 100} // what is written was decided before
	switch {
	case l.cfg.TimeStamp:
		l.stamp = stamper{w: w, format: l.cfg.TimeFormat, precise: l.cfg.Precise}
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // it stands in front
			}
			return a
		}
		l.inner = slog.NewTextHandler(&l.stamp, o)
	case isTerminal(w):
		l.inner = slog.NewTextHandler(w, o)
	default:
		o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration { // a number would not say of what
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		}
		l.inner = slog.NewJSONHandler(w, o)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// wanted reports whether a line is written. Errors always are, and so is the end of a daemon.
func (l *Log) wanted(level slog.Level, event string) bool {
	if level >= slog.LevelError {
		return true
	}
	return level >= l.level.Level() && (l.types == nil || l.types[event] || event == Print)
}

// stamper puts the time in front of each line. The text handler writes a line with one Write, under the lock of the log.
type stamper struct {
	w       io.Writer
	format  string
	precise bool
	now     time.Time // of the line being written
	buf     []byte
}

func (s *stamper) Write(line []byte) (int, error) {
	s.buf = append(s.buf[:0], '[') // operators of the original know the time in brackets
	s.buf = append(s.buf, stamp(s.now, s.format, s.precise)...)
	s.buf = append(append(s.buf, "] "...), line...)
	if _, err := s.w.Write(s.buf); err != nil {
		return 0, err
	}
	return len(line), nil
}

// stamp is a time in a format of strftime. Precise adds microseconds: to the seconds if the format ends in them (%S or
// %s), else to the seconds since 1970 behind it. The brackets around it are the log's: a format that has them itself, as many
// files for the original do, means the same ones.
func stamp(t time.Time, format string, precise bool) string {
	if inner, ok := strings.CutPrefix(format, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			format = inner
		}
	}
	if format == "" {
		format = builtinFormat
	}
	text := timefmt.Format(t, format)
	if !precise {
		return text
	}
	if !strings.HasSuffix(format, "%S") && !strings.HasSuffix(format, "%s") {
		text += fmt.Sprintf(" %d", t.Unix())
	}
	return fmt.Sprintf("%s.%06d", text, t.Nanosecond()/1000)
}

// handler is the log as slog sees it. What With adds is kept and applied to the handler in use at each line, because that
// one may change.
type handler struct {
	log *Log
	add []func(slog.Handler) slog.Handler
}

// Enabled implements slog.Handler. Whether the type of event is wanted is decided at the line.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError || level >= h.log.level.Level()
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	event := Type(r.Message)
	l := h.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.wanted(r.Level, event) {
		return nil
	}
	inner := l.inner
	for _, add := range h.add {
		inner = add(inner)
	}
	r = r.Clone()
	r.AddAttrs(slog.String("event", event))
	l.stamp.now = r.Time
	return inner.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}

func (h *handler) with(add func(slog.Handler) slog.Handler) slog.Handler {
	return &handler{log: h.log, add: append(slices.Clip(h.add), add)}
}
