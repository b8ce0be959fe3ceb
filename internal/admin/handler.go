// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// danger says when a command needs DangerousMonitor.
type danger uint8

const (
	harmless   danger = iota
	overTCP           // only when it comes over TCP: on the socket it can do no more than a signal could
	everywhere        // always
)

// handler is the API.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, answer func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc(path, s.admit(func(w http.ResponseWriter, r *http.Request, _ *peer) {
			if !methodIs(w, r, http.MethodGet) {
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), requestTime)
			defer cancel()
			v, err := answer(ctx, r)
			reply(w, v, err)
		}))
	}
	get("/v1/status", func(ctx context.Context, _ *http.Request) (any, error) { return s.daemon.Status(ctx) })
	get("/v1/members", func(ctx context.Context, _ *http.Request) (any, error) { return s.daemon.Members(ctx) })
	get("/v1/groups", func(ctx context.Context, r *http.Request) (any, error) {
		limit, err := pageLimit(r)
		if err != nil {
			return nil, err
		}
		return s.daemon.Groups(ctx, r.URL.Query().Get("after"), limit)
	})
	get("/v1/groups/{name}", func(ctx context.Context, r *http.Request) (any, error) {
		return s.daemon.Group(ctx, r.PathValue("name"))
	})
	get("/v1/sessions", func(ctx context.Context, r *http.Request) (any, error) {
		limit, err := pageLimit(r)
		if err != nil {
			return nil, err
		}
		var after uint64
		if text := r.URL.Query().Get("after"); text != "" {
			if after, err = strconv.ParseUint(text, 10, 64); err != nil {
				return nil, Invalid("use the value of next in the page before", "after=%q is no number of a session", text)
			}
		}
		return s.daemon.Sessions(ctx, after, limit)
	})
	get("/v1/drained", func(ctx context.Context, _ *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, drainedTime)
		defer cancel()
		return s.daemon.Drained(ctx)
	})

	s.command(mux, "/v1/session/{id}/close", everywhere, func(ctx context.Context, r *http.Request, c *command) (any, error) {
		id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
		if err != nil {
			return nil, Invalid("evensong monitor sessions lists them", "%q is no number of a session", r.PathValue("id"))
		}
		c.what = fmt.Sprintf("session %d", id)
		return Done{fmt.Sprintf("session %d is closed", id)}, s.daemon.CloseSession(ctx, id)
	})
	s.command(mux, "/v1/set", harmless, func(ctx context.Context, r *http.Request, c *command) (any, error) {
		var set Settings
		if err := decode(r, &set); err != nil {
			return nil, err
		}
		c.what = describe(&set)
		for _, n := range []*int{set.Window, set.PersonalWindow, set.AcceleratedWindow} {
			if n != nil && *n < 1 {
				return nil, Invalid("give a positive number of packets", "a window of %d packets", *n)
			}
		}
		if set.Windows() {
			if err := s.permit(c, everywhere); err != nil {
				return nil, err
			}
		}
		return s.daemon.Set(ctx, set)
	})
	s.command(mux, "/v1/partition", everywhere, func(ctx context.Context, r *http.Request, c *command) (any, error) {
		var p Partition
		if err := decode(r, &p); err != nil {
			return nil, err
		}
		if p.Lease == 0 {
			p.Lease = Duration(DefaultLease)
		}
		switch {
		case len(p.Components) == 0:
			return nil, Invalid("give the component of each daemon", "a partition without daemons")
		case len(p.Components) > MaxComponents:
			return nil, Invalid("name those that are not in component 0", "a partition of %d daemons, of at most %d", len(p.Components), MaxComponents)
		case p.Lease < 0 || time.Duration(p.Lease) > MaxLease:
			return nil, Invalid("renew it while you need it", "a lease of %v, of at most %v", p.Lease, MaxLease)
		}
		c.what = fmt.Sprintf("%s for %v", components(p.Components), p.Lease)
		return Done{"cut: " + c.what}, s.daemon.Partition(ctx, p)
	})
	s.command(mux, "/v1/heal", everywhere, func(ctx context.Context, _ *http.Request, _ *command) (any, error) {
		return Done{"no daemon is cut off here"}, s.daemon.Heal(ctx)
	})
	s.command(mux, "/v1/reload", overTCP, func(ctx context.Context, _ *http.Request, _ *command) (any, error) {
		return s.daemon.Reload(ctx)
	})
	s.command(mux, "/v1/drain", overTCP, func(ctx context.Context, r *http.Request, c *command) (any, error) {
		var d Drain
		if err := decode(r, &d); err != nil {
			return nil, err
		}
		wait := max(time.Duration(d.Deadline), 0)
		if d.Deadline == 0 {
			wait = DefaultDrain
		}
		if wait > MaxDrain {
			return nil, Invalid("give less", "a deadline of %v, of at most %v", wait, MaxDrain)
		}
		c.what = "within " + wait.String()
		return Done{"the daemon takes no new clients and leaves within " + wait.String()}, s.daemon.Drain(ctx, wait)
	})
	s.command(mux, "/v1/terminate", everywhere, func(ctx context.Context, _ *http.Request, _ *command) (any, error) {
		return Done{"the daemon stops without a good-bye"}, s.daemon.Terminate(ctx)
	})

	metrics := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: requestTime})
	mux.HandleFunc("/metrics", s.admit(func(w http.ResponseWriter, r *http.Request, _ *peer) {
		if methodIs(w, r, http.MethodGet) {
			metrics.ServeHTTP(w, r)
		}
	}))
	mux.HandleFunc("/livez", s.health(func(Status) string { return "" }))
	mux.HandleFunc("/readyz", s.health(func(st Status) string {
		if st.Ready {
			return ""
		}
		return st.NotReady
	}))
	profile := func(path string, h http.HandlerFunc) {
		mux.HandleFunc(path, s.admit(func(w http.ResponseWriter, r *http.Request, _ *peer) {
			if !methodIs(w, r, http.MethodGet) {
				return
			}
			seconds, _ := strconv.Atoi(r.URL.Query().Get("seconds"))
			if seconds < 0 || seconds > 300 {
				reply(w, nil, Invalid("ask for less", "a profile of %d seconds, of at most 300", seconds))
				return
			}
			if seconds == 0 {
				seconds = 30
			}
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(seconds)*time.Second + answerTime))
			h(w, r)
		}))
	}
	profile("/debug/pprof/", pprof.Index)
	profile("/debug/pprof/cmdline", pprof.Cmdline)
	profile("/debug/pprof/profile", pprof.Profile)
	profile("/debug/pprof/symbol", pprof.Symbol)
	profile("/debug/pprof/trace", pprof.Trace)

	mux.HandleFunc("/", s.admit(func(w http.ResponseWriter, r *http.Request, _ *peer) {
		reply(w, nil, &Error{Code: CodeNotFound, Text: fmt.Sprintf("there is no %.200q here", r.URL.Path), Next: "see docs/operations/monitor.md for the paths"})
	}))
	return mux
}

// admit lets only those through who may be here: on the Unix socket the daemon's user and root, over TCP holders of a
// token.
func (s *Server) admit(h func(http.ResponseWriter, *http.Request, *peer)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestBytes)
		p := peerOf(r)
		if err := s.authenticate(p, r); err != nil {
			s.noteStranger(p, r, err)
			if err.Code == CodeAuth {
				w.Header().Set("WWW-Authenticate", `Bearer realm="evensong"`)
			}
			reply(w, nil, err)
			return
		}
		h(w, r, p)
	}
}

func (s *Server) authenticate(p *peer, r *http.Request) *Error {
	if p.unix {
		if !p.isOwner() {
			return &Error{Code: CodeRefused, Text: fmt.Sprintf("user %d may not use the admin plane of this daemon", p.uid), Next: "ask as the daemon's user or as root"}
		}
		return nil
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return &Error{Code: CodeAuth, Text: "the admin plane over TCP wants a token", Next: "give the file that has it with --admin-token-file"}
	}
	if p.token = s.cfg.Tokens.holder(strings.TrimSpace(text)); p.token == "" {
		return &Error{Code: CodeAuth, Text: "the daemon does not know this token", Next: "compare the token file with the daemon's"}
	}
	return nil
}

// strangerPause is how often somebody without a token is worth a line in the log.
const strangerPause = time.Second

// noteStranger logs who was turned away.
func (s *Server) noteStranger(p *peer, r *http.Request, why *Error) {
	n := &s.noise
	n.Lock()
	defer n.Unlock()
	if now := time.Now(); now.Sub(n.at) >= strangerPause {
		s.log.Warn("admin request refused", "peer", p.String(), "command", cut(r.URL.Path), "reason", why.Text, "more", n.missed)
		n.at, n.missed = now, 0
		return
	}
	n.missed++
}

// command is one request that changes something.
type command struct {
	peer *peer
	name string
	what string // in words, once it is known
}

// command adds a path that changes something: it wants POST, may be dangerous, and is logged whatever becomes of it.
func (s *Server) command(mux *http.ServeMux, path string, d danger, do func(context.Context, *http.Request, *command) (any, error)) {
	mux.HandleFunc(path, s.admit(func(w http.ResponseWriter, r *http.Request, p *peer) {
		if !methodIs(w, r, http.MethodPost) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		c := &command{peer: p, name: strings.TrimPrefix(r.URL.Path, "/v1/")}
		var v any
		err := s.permit(c, d)
		if err == nil {
			v, err = do(ctx, r, c)
		}
		s.audit(c, err)
		reply(w, v, err)
	}))
}

// permit refuses dangerous commands where the configuration does not permit them.
func (s *Server) permit(c *command, d danger) error {
	if d == harmless || d == overTCP && c.peer.unix || s.dangerous.Load() {
		return nil
	}
	text := fmt.Sprintf("this daemon does not permit %q", c.name)
	if c.name == "set" { // of its settings only windows are dangerous, and a command of another name changes them, too
		text = "this daemon does not permit that windows are changed"
	}
	if d == overTCP {
		text += " over TCP"
	}
	return &Error{Code: CodeRefused, Text: text, Next: "its configuration must say DangerousMonitor = true, or --dangerous-monitor true"}
}

// audit writes down a command: who, what, and what became of it.
func (s *Server) audit(c *command, err error) {
	attrs := []any{"peer", c.peer.String(), "command", cut(c.name)}
	if c.what != "" {
		attrs = append(attrs, "what", cut(c.what))
	}
	switch e, ok := errors.AsType[*Error](err); {
	case err == nil:
		s.log.Info("admin command", append(attrs, "result", "done")...)
	case ok && e.Refused():
		s.log.Warn("admin command", append(attrs, "result", "refused", "reason", e.Text)...)
	default:
		s.log.Warn("admin command", append(attrs, "result", "failed", "reason", err.Error())...)
	}
}

// cut keeps what others sent from filling the log.
func cut(text string) string {
	if len(text) > 300 {
		return text[:300] + "..."
	}
	return text
}

// health answers probes: livez while the daemon's loop answers at all, readyz when it can serve clients.
func (s *Server) health(why func(Status) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !methodIs(w, r, http.MethodGet) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		st, err := s.daemon.Status(ctx)
		text := "ok"
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err != nil {
			text = "the daemon does not answer"
		} else if reason := why(st); reason != "" {
			text = reason
		}
		if text != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, text+"\n")
	}
}

func methodIs(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method || method == http.MethodGet && r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", method)
	reply(w, nil, &Error{Code: CodeMethod, Text: fmt.Sprintf("%.20s is not what this path takes", r.Method), Next: "use " + method})
	return false
}

// pageLimit is how many entries a request wants.
func pageLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return DefaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxPage {
		return 0, Invalid("ask for several pages", "limit=%q: want a number from 1 to %d", text, MaxPage)
	}
	return n, nil
}

// decode reads the body of a request. None at all is the zero value.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, more := d.Token(); more == io.EOF {
			return nil
		}
		err = errors.New("something follows the JSON value")
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Code: CodeTooLarge, Text: fmt.Sprintf("the request has more than %d bytes", large.Limit)}
	}
	return Invalid("see docs/operations/monitor.md for the fields", "the request cannot be read: %v", err)
}

// reply writes the answer, or the error.
func reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		switch {
		case ok:
		case errors.Is(err, net.ErrClosed):
			e = &Error{Code: CodeUnavailable, Text: "the daemon has stopped"}
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			e = &Error{Code: CodeUnavailable, Text: "the daemon did not answer in time", Next: "try again; if it lasts, look at its log"}
		default:
			e = &Error{Code: CodeFailed, Text: err.Error()}
		}
		v, status = e, e.status()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	b, err := json.Marshal(v)
	if err != nil {
		panic("admin: an answer that is no JSON: " + err.Error()) // our types only
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// describe says what settings change.
func describe(s *Settings) string {
	var parts []string
	for _, f := range []struct {
		name  string
		value *int
	}{{"window", s.Window}, {"personal window", s.PersonalWindow}, {"accelerated window", s.AcceleratedWindow}} {
		if f.value != nil {
			parts = append(parts, fmt.Sprintf("%s %d", f.name, *f.value))
		}
	}
	if s.LogLevel != "" {
		parts = append(parts, "log level "+s.LogLevel)
	}
	return strings.Join(parts, ", ")
}

// components writes a partition as the commands take it: a,b/c.
func components(all map[string]int) string {
	by := map[int][]string{}
	for name, c := range all {
		by[c] = append(by[c], name)
	}
	var numbers []int
	for c := range by {
		numbers = append(numbers, c)
	}
	slices.Sort(numbers)
	var parts []string
	for _, c := range numbers {
		slices.Sort(by[c])
		parts = append(parts, strings.Join(by[c], ","))
	}
	return strings.Join(parts, "/")
}
