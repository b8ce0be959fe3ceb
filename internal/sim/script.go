// SPDX-License-Identifier: Apache-2.0

package sim

import (
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
	for k := packet.KindData; k <= packet.KindSize; k++ {
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
