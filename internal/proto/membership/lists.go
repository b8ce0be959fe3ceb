// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"slices"
	"time"

	"evensong/internal/proto/packet"
)

// Deviation: in the papers every daemon belongs. Lists say who belongs to the cluster. They change while daemons run, one
// daemon after the other, so for a while they differ, and nobody may fall out with anybody because of that. Hence the rule:
// a daemon takes part as long as one list that counts has it. Those lists are my own and, of the daemons in it, those that
// are alive; so of daemons that only list each other none takes part. To add a daemon one list is enough, and to remove one
// it takes all of them: the last list that loses a name removes it, for everybody in one change.
//
// A daemon without a list, whose peers were given by address, takes whoever comes, as a list with everybody in it.
//
// Whom nobody lists is kept out: I say that I do not hear it, which the others see in my row, and expect it in no
// gather. A member of my configuration is kept out only after removeAfter, so that the last list has reached everybody
// before the first gathers without it, or as soon as anything else makes me gather.

// removeAfter is how many probe intervals go by between the moment in which nobody lists a member any more, and its end.
const removeAfter = 2

// lists reports whether my configuration has a daemon of this name.
func (m *Machine) lists(name string) bool {
	return m.cfg.Listed == nil || slices.Contains(m.cfg.Listed, name)
}

// takeLists takes what j says of its sender's configuration. slots maps j's indices to slots, -1: unknown.
func (m *Machine) takeLists(r *row, j *packet.Join, slots []int) {
	r.listed = set{}
	for i, s := range slots {
		if s >= 0 && j.Listed.Has(i) {
			r.listed.add(s)
		}
	}
	timeout, probe := time.Duration(j.TokenTimeout)*time.Millisecond, time.Duration(j.ProbeInterval)*time.Millisecond
	if timeout != r.timeout || probe != r.probe {
		r.timeout, r.probe = timeout, probe
		m.keepPace(r.heardAt)
	}
}

// unlisted reports whether no list that counts has r.
func (m *Machine) unlisted(now time.Duration, r *row) bool {
	if r.mine {
		return false
	}
	for _, s := range m.order {
		if q := m.rows[s]; q != r && q.mine && q.listed.has(r.slot) && q.usable() && now-q.spokeAt <= m.windowOf(q) {
			return false
		}
	}
	return true
}

// refreshLists works out who is kept out.
func (m *Machine) refreshLists(now time.Duration) {
	if m.cfg.Listed == nil {
		return // nobody, and Reconfigure has said so to all rows
	}
	for _, s := range m.order {
		r := m.rows[s]
		if !m.unlisted(now, r) {
			r.welcome()
			continue
		}
		if r.unlistedAt == never {
			r.unlistedAt = now
		}
		r.kept = m.state != StateOperational || !m.confSet.has(s) || now-r.unlistedAt >= removeAfter*m.scaled(m.cfg.ProbeInterval)
	}
}

// welcome ends that r is kept out. It is another daemon for us then: what went wrong with it before means nothing.
func (r *row) welcome() {
	if r.kept {
		r.backoffUntil, r.vetoUntil, r.backoffStep = 0, 0, 0
	}
	r.unlistedAt, r.kept = never, false
}

// unwelcome is a member of my configuration that is kept out, or nil.
func (m *Machine) unwelcome() *row {
	for _, s := range m.order {
		if r := m.rows[s]; m.confSet.has(s) && r.kept {
			return r
		}
	}
	return nil
}

// lot is what lists mean for a daemon.
type lot uint8

const (
	lotListed lot = iota // I list it
	lotOthers            // others do
	lotKept              // nobody
)

// noteLists says what lists mean for r, which has just spoken with j: when that changes. What r says of me is told once
// until it is over.
func (m *Machine) noteLists(r *row, j *packet.Join, slots []int, fx *Effects) {
	now := lotListed
	switch {
	case r.kept:
		now = lotKept
	case !r.mine:
		now = lotOthers
	}
	if now != r.told && (now != lotOthers || r.unlistedAt == never) {
		r.told = now
		switch now {
		case lotOthers:
			fx.Notes = append(fx.Notes, Note{Kind: NoteStillListed, Peer: r.id})
		case lotKept:
			fx.Notes = append(fx.Notes, Note{Kind: NoteKeptOut, Peer: r.id})
		case lotListed:
		}
	}
	if i := slices.Index(slots, 0); i >= 0 {
		if !j.Listed.Has(i) && !r.toldMe {
			fx.Notes = append(fx.Notes, Note{Kind: NoteNotListed, Peer: r.id})
		}
		r.toldMe = !j.Listed.Has(i)
	}
}

// Pace is the token timeouts of the daemons that are alive, as they say themselves. While they differ, which a change of
// the file makes them do, each is as patient as the slowest and as brisk as the quickest of them: nobody is taken for
// dead because its file is another.
type Pace struct {
	Slowest, Quickest time.Duration
}

// maxStretch bounds how much slower or quicker than its own configuration a daemon becomes for the sake of others. Where
// they differ more, the ring may break; a note says that they differ.
const maxStretch = 32

// Pace is the present pace; order applies it to its rings.
func (m *Machine) Pace() Pace { return m.pace }

// keepPace works the pace out anew.
func (m *Machine) keepPace(now time.Duration) {
	t := m.cfg.TokenTimeout
	m.pace = Pace{t, t}
	for _, s := range m.order {
		if r := m.rows[s]; s != 0 && r.timeout != 0 && r.usable() && !r.kept && now-r.rowAt <= m.windowOf(r) {
			m.pace.Slowest = max(m.pace.Slowest, min(r.timeout, maxStretch*t))
			m.pace.Quickest = min(m.pace.Quickest, max(r.timeout, t/maxStretch))
		}
	}
}

// patient stretches a time that others are waited for.
func (m *Machine) patient(d time.Duration) time.Duration {
	return stretch(d, m.pace.Slowest, m.cfg.TokenTimeout)
}

// brisk shortens the time between two packets that others wait for.
func (m *Machine) brisk(d time.Duration) time.Duration {
	return stretch(d, m.pace.Quickest, m.cfg.TokenTimeout)
}

// stretch is d times a/b, for times of the same magnitude as those in a Config.
func stretch(d, a, b time.Duration) time.Duration {
	if a == b {
		return d
	}
	return time.Duration(float64(d) * (float64(a) / float64(b)))
}
