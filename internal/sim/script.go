// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// script is a schedule written by hand. One command per line; # begins a comment.
//
//	daemons a b c [key=value ...]   names in ring order; keys: timeout delay loss dup packet window personal accelerated disk seed group
//	groups g h                      names of groups (default: g)
//	clients x@a y@b                 a client of each daemon; it connects when the daemon runs
//	start a b | start all           start daemons
//	crash a b · restart a · leave a · pause a · resume a
//	edit a b key=value ...          their files change and they read them: timeout window personal accelerated, and list=a,b
//	                                for the names of the daemons or list=any, rank=N from 0 for the next start
//	disk a fails|works|lost|slow D  lost: the stored ring sequence is gone
//	partition a b | c               cut all links between the parts
//	cut a>b b>c · mend a>b · heal   single directions; everything
//	unheard a>b · heard a>b         what a sends to the group address does not reach b (if the daemons have one: group=true)
//	weather loss=0.1 dup=0.1 reorder=0.1 corrupt=0.1
//	drop KIND FROM TO N             the next N packets of a kind (data token join probe commit hurry reach) are lost; * is any
//	replay KIND FROM TO N D         the next N packets arrive a second time, D later
//	on KIND FROM [in STATE] [skip N] do COMMAND   when such a packet has been sent; "sender" names who did
//	join x g · part x g · close x · kill x · abort x · connect x
//	send x g SERVICE [N [BYTES]]    N messages to a group
//	advance D
//	until conf a b c [within D]     all of them have exactly this configuration
//	until received x N [within D]   at least N messages in all its sessions; expect means exactly N
//	expect conf a = a b · expect received x N · expect installs a N · expect views x N · expect view x g = x@a y@b
//	expect cause a b = TEXT         why each of them changed to its configuration, all of it
//	expect reach a = all|lacks|asked     what a knows of the group address
//	expect violation RULE           at the end; otherwise there must be none
//	settle | nosettle               at the end everything is healed and must come together, unless nosettle
type script struct {
	w        *World
	log      io.Writer
	names    map[string]*host
	clients  map[string]*client
	filters  []*filter
	shown    int
	nosettle bool
	expected []string
}

// filter loses or repeats packets.
type filter struct {
	kind     packet.Kind
	from, to int // -1: any
	left     int
	delay    time.Duration // zero: lose
}

// RunScript runs a script and judges the run. The error says which line is wrong or was not fulfilled. What happens is
// written to log, which may be nil.
func RunScript(text string, log io.Writer) (*Result, error) {
	s := &script{w: newWorld(1), log: log, names: map[string]*host{}, clients: map[string]*client{}}
	s.w.groups = []string{"g"}
	if log == nil {
		s.log = io.Discard
	}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fmt.Fprintf(s.log, "%-10v %s\n", s.w.now.Round(time.Microsecond), strings.TrimSpace(line))
		err := s.guard(strings.Fields(line))
		s.show()
		if err != nil {
			return s.result(), fmt.Errorf("line %d: %s: %w", i+1, strings.TrimSpace(line), err)
		}
		if s.w.failure != nil {
			break
		}
	}
	if !s.nosettle && s.w.failure == nil {
		fmt.Fprintf(s.log, "%-10v (settle)\n", s.w.now.Round(time.Microsecond))
		s.filters = nil
		s.w.guard(s.w.settle)
		s.show()
	}
	r := s.result()
	var got []string
	for _, v := range r.Violations {
		if !slices.Contains(got, v.Rule) {
			got = append(got, v.Rule)
		}
	}
	for _, want := range s.expected {
		if !slices.Contains(got, want) {
			return r, fmt.Errorf("no violation of %s", want)
		}
	}
	for _, v := range r.Violations {
		if !slices.Contains(s.expected, v.Rule) {
			return r, fmt.Errorf("violation: %v", v)
		}
	}
	return r, nil
}

func (s *script) result() *Result {
	r := s.w.judge()
	if s.nosettle {
		// The run did not end quietly, so what is pending at its end is no violation.
		h := check.History{Records: s.w.history, Volatile: map[string]bool{"*": true}}
		rep := check.Check(&h)
		r.Violations, r.Rules, r.Coverage = rep.Violations, rep.Rules, rep.Coverage
		if s.w.failure != nil {
			r.Violations = append(r.Violations, *s.w.failure)
		}
	}
	r.Profile = "script"
	return r
}

// show writes down what has happened since the last time.
func (s *script) show() {
	for ; s.shown < len(s.w.history); s.shown++ {
		t := &s.w.history[s.shown]
		if t.Kind != evs.TraceToken && t.Kind != evs.TraceSend && t.Kind != evs.TraceDeliver {
			fmt.Fprintf(s.log, "  %-12v %s\n", time.Duration(t.At).Round(time.Microsecond), check.Describe(t))
		}
	}
}

func (s *script) guard(f []string) (err error) {
	s.w.guard(func() { err = s.do(f) })
	return err
}

// kinds of packets by name.
func packetKind(name string) (packet.Kind, error) {
	for k := packet.KindData; k <= packet.KindReach; k++ {
		if k.String() == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("no kind of packet is called %q", name)
}

func serviceByName(name string) (evs.Service, error) {
	for v := evs.Unreliable; v <= evs.Safe; v++ {
		if v.String() == name {
			return v, nil
		}
	}
	return 0, fmt.Errorf("no service is called %q", name)
}

func stateByName(name string) (membership.State, error) {
	for st := membership.StateStarting; st <= membership.StateLeft; st++ {
		if st.String() == name {
			return st, nil
		}
	}
	return 0, fmt.Errorf("no state is called %q", name)
}

func (s *script) host(name string) (*host, error) {
	if h := s.names[name]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("no daemon is called %q", name)
}

func (s *script) client(name string) (*client, error) {
	if c := s.clients[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no client is called %q", name)
}

// each calls f for every daemon named; "all" names all.
func (s *script) each(names []string, f func(h *host)) error {
	if len(names) == 0 {
		return fmt.Errorf("no daemon is named")
	}
	for _, name := range names {
		if name == "all" {
			for _, h := range s.w.hosts {
				f(h)
			}
			continue
		}
		h, err := s.host(name)
		if err != nil {
			return err
		}
		f(h)
	}
	return nil
}

func (s *script) number(f []string, i, def int) (int, error) {
	if i >= len(f) {
		return def, nil
	}
	return strconv.Atoi(f[i])
}

// do performs one command.
func (s *script) do(f []string) error {
	w := s.w
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	switch f[0] {
	case "daemons":
		return s.daemons(f[1:])
	case "groups":
		w.groups = f[1:]
	case "clients":
		for _, x := range f[1:] {
			name, at, _ := strings.Cut(x, "@")
			h, err := s.host(at)
			if err != nil {
				return err
			}
			c := w.addClient(name, h.i)
			s.clients[name] = c
			c.dialLater(time.Millisecond)
		}
	case "start":
		return s.each(f[1:], func(h *host) {
			if h.node == nil {
				h.start()
			}
		})
	case "crash":
		return s.each(f[1:], (*host).crash)
	case "restart":
		return s.each(f[1:], func(h *host) {
			h.crash()
			h.start()
		})
	case "leave":
		return s.each(f[1:], (*host).leave)
	case "pause":
		return s.each(f[1:], (*host).pause)
	case "resume":
		return s.each(f[1:], (*host).resume)
	case "edit":
		return s.edit(f[1:])
	case "disk":
		h, err := s.host(arg(1))
		if err != nil {
			return err
		}
		switch arg(2) {
		case "fails":
			h.diskFails = true
		case "works":
			h.diskFails, h.diskDelay = false, 200*time.Microsecond
		case "lost":
			h.disk = 0
		case "slow":
			h.diskDelay, err = time.ParseDuration(arg(3))
			return err
		default:
			return fmt.Errorf("a disk fails, works, is lost or slow")
		}
	case "partition":
		part := make([]int, len(w.hosts))
		k := 0
		for _, x := range f[1:] {
			if x == "|" {
				k++
				continue
			}
			h, err := s.host(x)
			if err != nil {
				return err
			}
			part[h.i] = k
		}
		w.net.partition(w.now, part)
	case "cut", "mend", "unheard", "heard":
		for _, x := range f[1:] {
			from, to, _ := strings.Cut(x, ">")
			a, err := s.host(from)
			if err != nil {
				return err
			}
			b, err := s.host(to)
			if err != nil {
				return err
			}
			switch f[0] {
			case "unheard", "heard":
				w.net.unheard[a.i*w.net.n+b.i] = f[0] == "unheard"
			default:
				w.net.setCut(a.i, b.i, f[0] == "cut")
				w.net.mended = w.now
			}
		}
	case "heal":
		w.net.heal(w.now)
	case "weather":
		w.net.now = w.net.base
		for _, x := range f[1:] {
			key, value, _ := strings.Cut(x, "=")
			p, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			switch key {
			case "loss":
				w.net.now.Loss = p
			case "dup":
				w.net.now.Dup = p
			case "reorder":
				w.net.now.Reorder = p
			case "corrupt":
				w.net.now.Corrupt = p
			default:
				return fmt.Errorf("no weather is called %q", key)
			}
		}
	case "drop", "replay":
		return s.filter(f)
	case "on":
		return s.trap(f[1:])
	case "join", "part", "close", "kill", "abort", "connect", "send":
		return s.clientCommand(f)
	case "advance":
		d, err := time.ParseDuration(arg(1))
		w.runUntil(w.now + d)
		return err
	case "until":
		return s.until(f[1:])
	case "expect":
		return s.expect(f[1:])
	case "settle":
		w.settle()
	case "nosettle":
		s.nosettle = true
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (s *script) daemons(f []string) error {
	w := s.w
	timeout, q, disk, accelerated, ahead, group := 250*time.Millisecond, Quality{Delay: 100 * time.Microsecond, Jitter: 10 * time.Microsecond}, true, true, 0, false
	rc := ringDefaults(timeout)
	var names []string
	for _, x := range f {
		key, value, isKey := strings.Cut(x, "=")
		if !isKey {
			names = append(names, x)
			continue
		}
		var err error
		switch key {
		case "timeout":
			if timeout, err = time.ParseDuration(value); err == nil {
				rc = ringDefaults(timeout)
			}
		case "delay":
			q.Delay, err = time.ParseDuration(value)
		case "loss":
			q.Loss, err = strconv.ParseFloat(value, 64)
		case "dup":
			q.Dup, err = strconv.ParseFloat(value, 64)
		case "packet":
			rc.PacketBytes, err = strconv.Atoi(value)
		case "window":
			rc.GlobalWindow, err = strconv.Atoi(value)
		case "personal":
			rc.PersonalWindow, err = strconv.Atoi(value)
			rc.AcceleratedWindow = min(rc.AcceleratedWindow, rc.PersonalWindow)
		case "accelerated":
			accelerated, err = strconv.ParseBool(value)
		case "disk":
			disk, err = strconv.ParseBool(value)
		case "group":
			group, err = strconv.ParseBool(value)
		case "ahead":
			if ahead, err = strconv.Atoi(value); ahead == 0 {
				ahead = -1
			}
		case "seed":
			var seed uint64
			seed, err = strconv.ParseUint(value, 10, 64)
			w.rnd = newWorld(seed).rnd
		default:
			err = fmt.Errorf("no such key")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", x, err)
		}
	}
	w.ring = rc
	w.net = newNetwork(len(names), q)
	if group {
		w.shareAddress(len(names))
	}
	w.net.dropIf = s.dropIf
	for _, name := range names {
		h := w.addHost(name, disk)
		h.accelerated, h.storeAhead = accelerated, ahead
		s.names[name] = h
	}
	return nil
}

// edit is edit a b key=value ...
func (s *script) edit(f []string) error {
	n := slices.IndexFunc(f, func(x string) bool { return strings.Contains(x, "=") })
	if n < 0 {
		return fmt.Errorf("want edit NAMES KEY=VALUE, once or more often")
	}
	var errs []error
	err := s.each(f[:n], func(h *host) {
		to := h.file
		if !to.edited {
			to = file{edited: true, ring: s.w.ring, listed: to.listed}
		}
		for _, x := range f[n:] {
			key, value, _ := strings.Cut(x, "=")
			var err error
			switch key {
			case "timeout":
				var d time.Duration
				d, err = time.ParseDuration(value)
				t := ringDefaults(d)
				to.ring = to.ring.WithTimers(t)
			case "window":
				to.ring.GlobalWindow, err = strconv.Atoi(value)
			case "personal":
				to.ring.PersonalWindow, err = strconv.Atoi(value)
			case "accelerated":
				to.ring.AcceleratedWindow, err = strconv.Atoi(value)
			case "rank":
				to.rank, err = strconv.Atoi(value)
				to.rank++
			case "list":
				if to.listed = nil; value != "any" {
					to.listed = strings.Split(value, ",")
				}
			default:
				err = fmt.Errorf("%s: no such key", x)
			}
			errs = append(errs, err)
		}
		if errors.Join(errs...) == nil {
			h.edit(to)
		}
	})
	return errors.Join(append(errs, err)...)
}

func (s *script) dropIf(from, to int, k packet.Kind, b []byte) bool {
	for i, f := range s.filters {
		if f.kind != k || f.from >= 0 && f.from != from || f.to >= 0 && f.to != to {
			continue
		}
		if f.left--; f.left == 0 {
			s.filters = slices.Delete(s.filters, i, i+1)
		}
		if f.delay == 0 {
			return true
		}
		d := s.w.net.get()
		d.buf, d.refs, d.from = append(d.buf[:0], b...), 1, int32(from)
		s.w.events.push(event{at: s.w.now + f.delay, kind: evDatagram, a: int32(to), dgram: d})
		return false
	}
	return false
}

// filter is drop KIND FROM TO N and replay KIND FROM TO N D.
func (s *script) filter(f []string) error {
	if len(f) < 5 {
		return fmt.Errorf("want %s KIND FROM TO N", f[0])
	}
	x := &filter{from: -1, to: -1}
	var err error
	if x.kind, err = packetKind(f[1]); err != nil {
		return err
	}
	for i, at := range []*int{&x.from, &x.to} {
		if f[2+i] != "*" {
			h, err := s.host(f[2+i])
			if err != nil {
				return err
			}
			*at = h.i
		}
	}
	if x.left, err = strconv.Atoi(f[4]); err != nil {
		return err
	}
	if f[0] == "replay" {
		if len(f) < 6 {
			return fmt.Errorf("want replay KIND FROM TO N DELAY")
		}
		if x.delay, err = time.ParseDuration(f[5]); err != nil {
			return err
		}
	}
	s.filters = append(s.filters, x)
	return nil
}

// trap is on KIND FROM [in STATE] [skip N] do COMMAND.
func (s *script) trap(f []string) error {
	t := &trap{until: 1 << 62}
	var err error
	if len(f) < 4 {
		return fmt.Errorf("want on KIND FROM [in STATE] [skip N] do COMMAND")
	}
	if t.kind, err = packetKind(f[0]); err != nil {
		return err
	}
	if f[1] != "*" {
		if t.from, err = s.host(f[1]); err != nil {
			return err
		}
	}
	for i := 2; i < len(f)-1; i += 2 {
		switch f[i] {
		case "in":
			if t.state, err = stateByName(f[i+1]); err != nil {
				return err
			}
		case "skip":
			if t.skip, err = strconv.Atoi(f[i+1]); err != nil {
				return err
			}
		case "do":
			command := slices.Clone(f[i+1:])
			t.then = func(sender *host) {
				c := slices.Clone(command)
				for k := range c {
					if c[k] == "sender" {
						c[k] = sender.name
					}
				}
				fmt.Fprintf(s.log, "  %-12v (%s: %s)\n", s.w.now.Round(time.Microsecond), strings.Join(f[:i], " "), strings.Join(c, " "))
				if err := s.do(c); err != nil {
					s.w.fail("SCRIPT", "%s: %v", strings.Join(c, " "), err)
				}
			}
			s.w.traps = append(s.w.traps, t)
			return nil
		default:
			return fmt.Errorf("%q: want in, skip or do", f[i])
		}
	}
	return fmt.Errorf("no command")
}

func (s *script) clientCommand(f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("no client is named")
	}
	c, err := s.client(f[1])
	if err != nil {
		return err
	}
	group := func() (int, error) {
		if len(f) < 3 {
			return 0, fmt.Errorf("no group is named")
		}
		if g := s.w.group(f[2]); g >= 0 {
			return g, nil
		}
		return 0, fmt.Errorf("no group is called %q", f[2])
	}
	switch f[0] {
	case "join", "part":
		g, err := group()
		if err != nil {
			return err
		}
		c.wanted[g] = f[0] == "join"
		if c.wanted[g] {
			c.join(g)
		} else {
			c.leave(g)
		}
	case "close":
		c.hang(false)
	case "abort":
		c.hang(true)
	case "kill":
		c.kill()
	case "connect":
		c.dialLater(0)
	case "send":
		if _, err := group(); err != nil {
			return err
		}
		if len(f) < 4 {
			return fmt.Errorf("want send CLIENT GROUP SERVICE [N [BYTES]]")
		}
		service, err := serviceByName(f[3])
		if err != nil {
			return err
		}
		n, err := s.number(f, 4, 1)
		if err != nil {
			return err
		}
		size, err := s.number(f, 5, 100)
		if err != nil {
			return err
		}
		for range n {
			if c.multicast([]string{f[2]}, service, size, false) == 0 {
				return fmt.Errorf("%s is not connected", f[1])
			}
		}
	}
	return nil
}

// within takes "within D" off the end of a command.
func within(f []string) ([]string, time.Duration, error) {
	if k := len(f); k >= 2 && f[k-2] == "within" {
		d, err := time.ParseDuration(f[k-1])
		return f[:k-2], d, err
	}
	return f, 10 * time.Second, nil
}

// until lets time pass until something is so.
func (s *script) until(f []string) error {
	f, limit, err := within(f)
	if err != nil {
		return err
	}
	for end := s.w.now + limit; ; {
		why := s.expect(f)
		if k := 0; why != nil && len(f) == 3 && f[0] == "received" {
			if c := s.clients[f[1]]; c != nil {
				k, _ = strconv.Atoi(f[2]) // expect has read it already
				if c.received >= k {
					why = nil
				}
			}
		}
		if why == nil || s.w.failure != nil {
			return nil
		}
		if s.w.now >= end {
			return fmt.Errorf("not within %v: %w", limit, why)
		}
		s.w.runUntil(s.w.now + time.Millisecond)
	}
}

// expect says what is not as it should be.
func (s *script) expect(f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("what?")
	}
	switch f[0] {
	case "conf":
		// conf a b c: all of them; conf a = b c: one of them.
		who, members := f[1:], f[1:]
		if k := slices.Index(f, "="); k >= 0 {
			who, members = f[1:k], f[k+1:]
		}
		var id evs.RingID
		for i, name := range who {
			h, err := s.host(name)
			if err != nil {
				return err
			}
			var have []string
			for _, p := range h.conf {
				have = append(have, p.Name)
			}
			want := slices.Clone(members)
			slices.Sort(want)
			if !slices.Equal(slices.Sorted(slices.Values(have)), want) {
				return fmt.Errorf("%s has %v (%s)", name, have, h.doing())
			}
			if i == 0 {
				id = h.confID
			} else if h.confID != id {
				return fmt.Errorf("%s is in %v, %s in %v", name, h.confID, who[0], id)
			}
		}
	case "cause":
		k := slices.Index(f, "=")
		if k < 2 {
			return fmt.Errorf("want cause NAMES = TEXT")
		}
		want := strings.Join(f[k+1:], " ")
		for _, name := range f[1:k] {
			h, err := s.host(name)
			if err != nil {
				return err
			}
			if h.node == nil {
				return fmt.Errorf("%s does not run", name)
			}
			changes := h.node.Status(h.clock()).Changes
			if len(changes) == 0 {
				return fmt.Errorf("%s has no configuration", name)
			}
			if got := membership.CausesText(changes[len(changes)-1].Causes); got != want {
				return fmt.Errorf("%s says %q", name, got)
			}
		}
	case "reach":
		if len(f) != 4 || f[2] != "=" {
			return fmt.Errorf("want reach NAME = all, lacks or asked")
		}
		h, err := s.host(f[1])
		if err != nil {
			return err
		}
		if h.node == nil {
			return fmt.Errorf("%s does not run", f[1])
		}
		names := map[ring.Reach]string{ring.ReachNone: "none", ring.ReachAsked: "asked", ring.ReachAll: "all", ring.ReachLacks: "lacks"}
		if got := names[h.node.Status(h.clock()).Ring.Group.Reach]; got != f[3] {
			return fmt.Errorf("%s says %s", f[1], got)
		}
	case "received", "installs", "views":
		if len(f) < 3 {
			return fmt.Errorf("want %s NAME N, or NAME <= N", f[0])
		}
		want, err := strconv.Atoi(f[len(f)-1])
		if err != nil {
			return err
		}
		got := 0
		if f[0] == "installs" {
			h, err := s.host(f[1])
			if err != nil {
				return err
			}
			got = h.count
		} else {
			c, err := s.client(f[1])
			if err != nil {
				return err
			}
			if got = c.received; f[0] == "views" {
				got = c.viewed
			}
		}
		if got != want && (f[2] != "<=" || got > want) {
			return fmt.Errorf("%s has %d", f[1], got)
		}
	case "view":
		if len(f) < 4 || f[3] != "=" {
			return fmt.Errorf("want view CLIENT GROUP = MEMBERS")
		}
		c, err := s.client(f[1])
		if err != nil {
			return err
		}
		g := s.w.group(f[2])
		if g < 0 {
			return fmt.Errorf("no group is called %q", f[2])
		}
		var want []string
		for _, x := range f[4:] {
			user, at, _ := strings.Cut(x, "@")
			want = append(want, "#"+user+"#"+at)
		}
		slices.Sort(want)
		if c.views[g] == nil {
			return fmt.Errorf("%s has no view", f[1])
		}
		if have := slices.Sorted(slices.Values(c.views[g].Members)); !slices.Equal(have, want) {
			return fmt.Errorf("%s has %v", f[1], have)
		}
	case "violation":
		s.expected = append(s.expected, f[1:]...)
	default:
		return fmt.Errorf("nothing is known of %q", f[0])
	}
	return nil
}
