// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"time"

	"evensong/internal/proto/evs"
)

// view is a membership with what has become of its members.
type view struct {
	id      evs.ViewID
	cause   evs.Cause
	detail  evs.Detail
	changed string
	members []string // as the daemon listed them
	// number counts the group's membership messages; a view has the number of the one that brought it.
	number uint64
	// gone holds for each member zero, or the number of the membership message that said it has gone. The current
	// members of client-protocol 8.2 are those with zero. The number, and not just the fact, makes Came the same at
	// all members: who left behind a pending view still came along to it.
	gone map[string]uint64
	// answered are the members that sent FLUSH_OK for it.
	answered map[string]bool
}

func newView(number uint64, id evs.ViewID, cause evs.Cause, members []string, changed string) *view {
	v := &view{id: id, cause: cause, changed: changed, members: members, number: number,
		gone: make(map[string]uint64, len(members)), answered: map[string]bool{}}
	for _, name := range members {
		v.gone[name] = 0
	}
	return v
}

func (v *view) has(name string) bool {
	_, ok := v.gone[name]
	return ok
}

// current reports whether name is a member and not known to have gone.
func (v *view) current(name string) bool {
	gone, ok := v.gone[name]
	return ok && gone == 0
}

// remove notes that name has gone and reports whether that is news.
func (v *view) remove(name string, number uint64) bool {
	if !v.current(name) {
		return false
	}
	v.gone[name] = number
	return true
}

// shrunk reports whether a member has gone.
func (v *view) shrunk() bool {
	for _, number := range v.gone {
		if number != 0 {
			return true
		}
	}
	return false
}

// complete reports whether all members have answered. Who answered and then went still counts: its answer says that it
// has finished the old view.
func (v *view) complete() bool { return len(v.answered) == len(v.gone) }

// early are answers for a view id that no membership message has named yet.
type early struct {
	id      evs.ViewID
	age     int      // membership messages since the first answer
	answers []string // in order of arrival
	has     map[string]bool
}

// record is what a session knows of one group that it is in (client-protocol 8.2).
type record struct {
	name       string
	membership Membership
	state      State
	// gaveUp means that a bound was met: everything but the self-leave is dropped.
	gaveUp bool

	// installed is the view that the user sees; before the first one a made-up one of this session alone. signaled
	// means that the user must not get a signal in it (any more).
	installed *view
	signaled  bool
	// unasked means that a flush request was kept back because the user is leaving.
	unasked bool

	// latest are the members in the daemon's view, latestID its id.
	latest   map[string]bool
	latestID evs.ViewID
	// number counts membership messages.
	number uint64

	// pending are the daemon's views that are not installed, in order; pending[0] is the one being agreed. It is empty
	// in Steady and Verify and only there.
	pending []*view
	early   []*early // in order of arrival, so that what is done with them repeats
	earlyN  int      // answers in early

	// received are the members that said they have the view: the installed one in Verify, the head in Agree.
	received map[string]bool
	// postponed are messages of the head of pending, kept in Agree only.
	postponed      []*Message
	postponedBytes int

	// heard are current members that have answered for any view since this session can see them.
	heard map[string]bool
	// alarm is when those that have not answered for the head are named, in Agree; zero is never.
	alarm time.Duration
}

// head is the view being agreed, nil if none.
func (r *record) head() *view {
	if len(r.pending) == 0 {
		return nil
	}
	return r.pending[0]
}

func (r *record) find(id evs.ViewID) *view {
	for _, v := range r.pending {
		if v.id == id {
			return v
		}
	}
	return nil
}

func (r *record) findEarly(id evs.ViewID) (int, *early) {
	for i, e := range r.early {
		if e.id == id {
			return i, e
		}
	}
	return -1, nil
}

func (r *record) dropPostponed() {
	clear(r.postponed)
	r.postponed, r.postponedBytes = r.postponed[:0], 0
}
