// SPDX-License-Identifier: Apache-2.0

package user

import (
	"errors"
	"fmt"
	"sync"

	"evensong/client"
	"evensong/internal/proto/flush"
	"evensong/vsync"
)

// standing is what a session is to a group, as far as its user can know it.
type standing uint8

const (
	outside standing = iota // never asked to join, or left
	joining                 // asked to join, and no view was seen
	inside                  // a view was seen
	leaving                 // asked to leave, and did not see that it has left
)

// A roll is what a session has asked for and been told about its groups, because a daemon says nothing about a leave of a group that
// the session is not in. One goroutine asks, another is told. The zero value is ready.
type roll struct {
	mu    sync.Mutex
	names map[string]*entry
}

type entry struct {
	standing standing
	leaves   int // that were asked for, and neither done nor refused
}

func (r *roll) of(group string) standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.names[group]; e != nil {
		return e.standing
	}
	return outside
}

// change applies f to a group's entry.
func (r *roll) change(group string, f func(*entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.names[group]
	if e == nil {
		if r.names == nil {
			r.names = map[string]*entry{}
		}
		e = &entry{}
		r.names[group] = e
	}
	if f(e); *e == (entry{}) {
		delete(r.names, group)
	}
}

// joins notes that a join is asked for.
func (r *roll) joins(group string, ask func() error) error {
	return r.asks("join", group, ask, func(e *entry) {
		if e.standing != inside {
			e.standing = joining
		}
	})
}

// leaves notes that a leave is asked for.
func (r *roll) leaves(group string, ask func() error) error {
	return r.asks("leave", group, ask, func(e *entry) { e.standing, e.leaves = leaving, e.leaves+1 })
}

// asks notes a request first, because the answer may be there before ask returns, and takes that back if it was none.
func (r *roll) asks(verb, group string, ask func() error, note func(*entry)) error {
	var before entry
	r.change(group, func(e *entry) {
		before = *e
		note(e)
	})
	err := ask()
	if err != nil {
		r.change(group, func(e *entry) { *e = before })
	}
	return r.plainly(verb, group, err)
}

// view notes that a view of the group came.
func (r *roll) view(group string) {
	r.change(group, func(e *entry) {
		if e.standing != leaving {
			e.standing = inside
		}
	})
}

// left notes that the session was told that it has left a group. Whoever has asked to join again meanwhile is joining still.
func (r *roll) left(group string, evicted bool) {
	r.change(group, func(e *entry) {
		asked := e.leaves > 0
		e.leaves = max(0, e.leaves-1)
		if evicted || !asked || e.standing == leaving && e.leaves == 0 {
			e.standing = outside
		}
	})
}

// rejected notes what the access rules refused.
func (r *roll) rejected(ev *client.Rejected) {
	for _, group := range ev.Groups {
		switch ev.Request {
		case client.RequestJoin:
			r.change(group, func(e *entry) { *e = entry{} }) // a leave behind it does nothing, and is not answered
		case client.RequestLeave:
			r.change(group, func(e *entry) { e.standing, e.leaves = inside, max(0, e.leaves-1) })
		}
	}
}

// saw notes what an event says about membership.
func (r *roll) saw(ev client.Event) {
	switch ev := ev.(type) {
	case *client.View:
		r.view(ev.Group)
	case *client.SelfLeave:
		r.left(ev.Group, ev.Detail == client.DetailEvicted)
	case *client.Rejected:
		r.rejected(ev)
	}
}

// sawFlush is saw with view synchrony.
func (r *roll) sawFlush(ev vsync.Event) {
	switch ev := ev.(type) {
	case *vsync.View:
		r.view(ev.Group)
	case *vsync.SelfLeave:
		r.left(ev.Group, ev.Evicted)
	case *vsync.Rejected:
		r.rejected(&ev.Rejected)
	}
}

// notMember is what a user is told who has not joined.
func notMember(group string) mistake {
	return mistake("not a member of " + printable(group))
}

// isLeaving is what a user is told who has asked to leave.
func isLeaving(group string) mistake {
	return mistake("you are about to leave " + printable(group))
}

// plainly puts a refusal of view synchrony into words for somebody who types commands: that of the library covers all its reasons.
// verb is the command.
func (r *roll) plainly(verb, group string, err error) error {
	said, _ := errors.AsType[*client.Error](err)
	name := printable(group)
	switch {
	case said == nil:
	case said.Detail == flush.RefuseState.Error() && verb == "flush":
		return mistake(fmt.Sprintf("%s: no flush is asked for: no change of its view was announced, or you have flushed for it", name))
	case said.Detail == flush.RefuseState.Error():
		return mistake(fmt.Sprintf("%s: you have flushed; nothing can be sent before the next view", name))
	case said.Detail != flush.RefuseGroup.Error():
	case verb == "join":
		switch r.of(group) {
		case joining:
			return mistake(fmt.Sprintf("you have asked to join %s; its first view is still to come", name))
		case inside:
			return mistake(fmt.Sprintf("you are a member of %s", name))
		case leaving:
			return mistake(fmt.Sprintf("you are about to leave %s; join it again when you have left", name))
		}
	default:
		switch r.of(group) {
		case outside:
			return notMember(group)
		case joining:
			return mistake(fmt.Sprintf("not a member of %s yet: its first view is still to come", name))
		case leaving:
			return isLeaving(group)
		}
	}
	return err
}
