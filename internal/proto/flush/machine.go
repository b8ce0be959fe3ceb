// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"evensong/internal/proto/evs"
)

// Config is what a Machine must know. It is not changed after New.
type Config struct {
	// Private is the session's private group.
	Private string
	// AutoFlush answers flush requests for the user, who then gets none.
	AutoFlush bool
	// FlushTimeout is how long a member may take to answer once this session has answered and the view is the head of
	// what is pending; then it is named, and the daemon asked to evict it, again after each further FlushTimeout
	// (VS-8). Zero: never.
	FlushTimeout time.Duration
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if !isPrivate(c.Private) {
		errs = append(errs, fmt.Errorf("private group %q: must have the form #name#daemon", c.Private))
	}
	if c.FlushTimeout < 0 {
		errs = append(errs, fmt.Errorf("flush timeout %v: must not be negative", c.FlushTimeout))
	}
	return errors.Join(errs...)
}

// A Machine runs the flush protocol for all groups of one session. Methods must not be called concurrently. All inputs
// append to fx what must be done.
type Machine struct {
	cfg Config
	// records by group, and the same in order of creation, which is the order of effects.
	records map[string]*record
	order   []*record
}

// New returns the machine of a session that is in no group.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("flush: %w", err)
	}
	return &Machine{cfg: cfg, records: map[string]*record{}}, nil
}

// Membership is how far the membership in a group is; zero without a record.
func (m *Machine) Membership(group string) Membership {
	if r := m.records[group]; r != nil {
		return r.membership
	}
	return 0
}

// State is the view state of a group; zero without a record.
func (m *Machine) State(group string) State {
	if r := m.records[group]; r != nil {
		return r.state
	}
	return 0
}

// Installed is the id of the view that the user sees; false before the first.
func (m *Machine) Installed(group string) (evs.ViewID, bool) {
	r := m.records[group]
	if r == nil || r.installed.number == 0 {
		return evs.ViewID{}, false
	}
	return r.installed.id, true
}

// Deadline is when Advance must be called next; zero if never.
func (m *Machine) Deadline() time.Duration {
	var first time.Duration
	for _, r := range m.order {
		if r.state == Agree && r.alarm != 0 && (first == 0 || r.alarm < first) {
			first = r.alarm
		}
	}
	return first
}

// Advance names those that have not answered in time and asks for their eviction.
func (m *Machine) Advance(now time.Duration, fx *Effects) {
	for _, r := range m.order {
		if r.state != Agree || r.alarm == 0 || now < r.alarm || r.gaveUp {
			continue
		}
		r.alarm = now + m.cfg.FlushTimeout
		e := Event{Kind: EventStuck, Group: r.name, ID: r.latestID}
		for _, name := range r.head().members {
			if r.head().answered[name] || name == m.cfg.Private {
				continue
			}
			e.Members = append(e.Members, name)
			if !r.heard[name] {
				e.Silent = append(e.Silent, name)
			}
			// The daemon compares with the group's view as it is now, not with the one being agreed.
			fx.Sends = append(fx.Sends, Send{Kind: SendEvict, Group: r.name, Member: name, View: r.latestID})
		}
		if len(e.Members) > 0 {
			fx.Events = append(fx.Events, e)
		}
	}
}

// HandleSignal takes the daemon's transitional signal of a group.
func (m *Machine) HandleSignal(group string, fx *Effects) {
	r := m.record(group, fx)
	if r == nil {
		return
	}
	m.signal(r, fx)
}

// signal tells the user once in each view that members have gone.
func (m *Machine) signal(r *record, fx *Effects) {
	if r.signaled {
		return
	}
	r.signaled = true
	e := Event{Kind: EventSignal, Group: r.name, ID: r.installed.id}
	for _, name := range r.installed.members {
		if !r.installed.current(name) {
			e.Members = append(e.Members, name)
		}
	}
	fx.Events = append(fx.Events, e)
}

// HandleSelfLeave takes the end of the session's membership in a group, whoever wanted it.
func (m *Machine) HandleSelfLeave(group string, fx *Effects) {
	r := m.records[group]
	if r == nil {
		m.drop(group, "", DropNoRecord, fx)
		return
	}
	delete(m.records, group)
	m.order = slices.DeleteFunc(m.order, func(o *record) bool { return o == r })
	fx.Events = append(fx.Events, Event{Kind: EventSelfLeave, Group: group, Asked: r.membership == Leaving})
}

// HandleLeaveRefused takes the daemon's refusal of a leave: the membership goes on.
func (m *Machine) HandleLeaveRefused(now time.Duration, group string, fx *Effects) {
	r := m.record(group, fx)
	if r == nil || r.membership != Leaving {
		return
	}
	r.membership = Joined
	if r.unasked {
		r.unasked = false
		m.ask(now, r, fx)
	}
}

// record returns a group's record; without one, or with one that was given up, it notes the drop and returns nil.
func (m *Machine) record(group string, fx *Effects) *record {
	r := m.records[group]
	switch {
	case r == nil:
		m.drop(group, "", DropNoRecord, fx)
		return nil
	case r.gaveUp:
		m.drop(group, "", DropGivenUp, fx)
		return nil
	}
	return r
}

func (m *Machine) drop(group, sender string, why Drop, fx *Effects) {
	fx.Notes = append(fx.Notes, Note{Kind: NoteDrop, Group: group, Sender: sender, Drop: why})
}

// transition is the only place where a record's state changes.
func (m *Machine) transition(r *record, to State, why Reason, fx *Effects) {
	if !slices.Contains(moves[r.state], to) {
		panic(fmt.Sprintf("flush: %s goes from %v to %v", r.name, r.state, to))
	}
	fx.Notes = append(fx.Notes, Note{Kind: NoteState, Group: r.name, From: r.state, To: to, Reason: why})
	r.state = to
	if to != Agree {
		r.alarm = 0
	}
}

// giveUp leaves a group whose bounds are met. What was pending is thrown away; nothing more is delivered but the
// self-leave.
func (m *Machine) giveUp(r *record, why Reason, fx *Effects) {
	r.gaveUp = true
	r.membership = Leaving
	r.alarm = 0
	r.dropPostponed()
	fx.Sends = append(fx.Sends, Send{Kind: SendLeave, Group: r.name})
	fx.Events = append(fx.Events, Event{Kind: EventGaveUp, Group: r.name, Reason: why})
}
