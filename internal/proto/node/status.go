// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/groups"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
)

// maxChanges configurations are remembered with the reason why they came.
const maxChanges = 16

// Change is one configuration that was installed, and why.
type Change struct {
	At      time.Duration
	Ring    evs.RingID
	Members []evs.ProcID
	Joined  []evs.ProcID       // who was not in the configuration before
	Gone    []evs.ProcID       // who was in it and is not now
	Causes  []membership.Cause // why the one before it was left, and because of whom; must not be changed
}

// Status is a picture of the daemon for operators. Its size does not depend on how many clients and groups there are.
type Status struct {
	Me         evs.ProcID
	Membership membership.State
	GroupState groups.State
	Conf       *evs.Configuration // nil before the first; must not be changed
	Primary    evs.Primary        // what sessions are told; not that of Conf while another one is under way
	Ballot     membership.Ballot  // how that of Conf came about; must not be changed
	Ring       ring.Status        // zero before the first configuration
	Stats      Stats
	Groups     int
	Stalled    int // clients whose input waits for the token
	Waiting    int // bytes of clients that wait for the token
	Peers      []membership.Peer
	// TLSRequired: clients over TCP without TLS are refused.
	TLSRequired bool
	Changes     []Change // the last ones, oldest first; must not be changed

	// Partition is the component of each daemon while an operator's partition is in force, nil otherwise. It ends at
	// PartitionUntil if it is not renewed. The map must not be changed.
	Partition      map[string]int
	PartitionUntil time.Duration
}

// Status is the state of the daemon at now. It changes nothing.
func (m *Machine) Status(now time.Duration) Status {
	s := Status{
		Me: m.cfg.Me, Membership: m.order.Membership().State(), GroupState: m.groups.State(), Conf: m.order.Configuration(), Primary: m.groups.Primary(),
		Ballot: m.order.Membership().Ballot(), TLSRequired: m.cfg.Session.TLSRequired,
		Stats: m.Stats(), Groups: m.groups.Count(), Stalled: len(m.stalled), Waiting: m.order.QueuedAll(),
		Changes: slices.Clone(m.changes), Peers: m.order.Membership().Peers(now),
	}
	s.Stats.Closed = make(map[session.Reason]uint64, len(m.stats.Closed))
	for why, n := range m.stats.Closed {
		s.Stats.Closed[why] = n
	}
	if r := m.order.Ring(); r != nil {
		s.Ring = r.Status()
	}
	s.Partition, s.PartitionUntil = m.order.Partitioned(now)
	return s
}

// Peers are the other daemons that have spoken lately.
func (m *Machine) Peers(now time.Duration) []membership.Peer { return m.order.Membership().Peers(now) }

// remember notes why a configuration was installed.
func (m *Machine) remember(now time.Duration, before, conf *evs.Configuration) {
	c := Change{At: now, Ring: conf.ID.New, Members: conf.Members, Causes: m.order.Membership().Causes()}
	if before != nil {
		c.Joined, c.Gone = without(conf.Members, before.Members), without(before.Members, conf.Members)
	}
	if len(m.changes) == maxChanges {
		m.changes = slices.Delete(m.changes, 0, 1)
	}
	m.changes = append(m.changes, c)
}

// notePrimary says when this daemon comes into a primary configuration, and when it is in none any more, and why. b is how
// conf came about.
func notePrimary(before, conf *evs.Configuration, b membership.Ballot, fx *Effects) {
	was := before != nil && before.Primary == evs.PrimaryYes
	attrs := []evs.Attr{{Key: "ring", Value: conf.ID.New.String()}, {Key: "members", Value: len(conf.Members)}}
	switch is := conf.Primary == evs.PrimaryYes; {
	case is && !was:
		fx.Notes = append(fx.Notes, evs.Note{Level: evs.Info, Text: "primary: this configuration has the majority", Attrs: attrs})
	case was && !is:
		reason := "no daemon of this configuration has a PrimaryRule any more"
		if conf.Primary == evs.PrimaryNo {
			reason = b.Reason()
		}
		fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: "primary no more", Attrs: append(attrs, evs.Attr{Key: "reason", Value: reason})})
	}
}

// detailOf is what clients learn of the causes of a configuration.
func detailOf(causes []membership.Cause) evs.Detail {
	detail := evs.DetailNone
	for _, c := range causes {
		d := evs.DetailDaemons
		switch c.Reason {
		case membership.ReasonMemberLeaving:
			d = evs.DetailGoodbye
		case membership.ReasonVanished, membership.ReasonRestarted:
			d = evs.DetailVanished
		case membership.ReasonUnreachable, membership.ReasonHearsNobody, membership.ReasonFailedToReceive, membership.ReasonRemoved:
			d = evs.DetailLeftOut
		case membership.ReasonMerge, membership.ReasonStart:
			d = evs.DetailMet
		}
		if detail != evs.DetailNone && detail != d {
			return evs.DetailDaemons
		}
		detail = d
	}
	return detail
}

// without is the daemons of a that are not in b.
func without(a, b []evs.ProcID) []evs.ProcID {
	var out []evs.ProcID
	for _, p := range a {
		if !slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}

// SessionPage is as Sessions, in pages: those with numbers above after, at most limit of them. It looks at every
// connection once.
func (m *Machine) SessionPage(after uint64, limit int) []SessionStatus {
	ids := make([]uint64, 0, min(limit, len(m.conns))+1)
	for id := range m.conns {
		if id <= after || m.conns[id].closing || len(ids) == limit && (limit == 0 || id > ids[limit-1]) {
			continue
		}
		i, _ := slices.BinarySearch(ids, id)
		ids = slices.Insert(ids, i, id)
		ids = ids[:min(len(ids), limit)]
	}
	page := make([]SessionStatus, 0, len(ids))
	for _, id := range ids {
		page = append(page, m.sessionStatus(m.conns[id]))
	}
	return page
}

// SlowSessions are the connections that most bytes wait for, the slowest first, at most limit of them and none for which
// nothing waits. It looks at every connection once.
func (m *Machine) SlowSessions(limit int) []SessionStatus {
	slowest := make([]*conn, 0, limit+1)
	for _, c := range m.conns {
		if c.queue.Bytes() == 0 || c.closing {
			continue
		}
		i, _ := slices.BinarySearchFunc(slowest, c, func(a, b *conn) int {
			if d := b.queue.Bytes() - a.queue.Bytes(); d != 0 {
				return d
			}
			return int(int64(a.id) - int64(b.id))
		})
		if i < limit {
			slowest = slices.Insert(slowest, i, c)
			slowest = slowest[:min(len(slowest), limit)]
		}
	}
	page := make([]SessionStatus, 0, len(slowest))
	for _, c := range slowest {
		page = append(page, m.sessionStatus(c))
	}
	return page
}

// CloseSession ends a client's session on an operator's wish. It reports whether there was one with this number.
func (m *Machine) CloseSession(now time.Duration, id uint64, fx *Effects) bool {
	m.begin(now, fx)
	c := m.conns[id]
	if c == nil || c.closing {
		return false
	}
	c.session.Close(now, session.ReasonEvicted, &m.sfx)
	m.perform(now, c, fx)
	m.finish(now, forSends, fx)
	return true
}

// Partition cuts off, until the time until, the daemons that are in another component than this one; see
// order.Machine.Partition.
func (m *Machine) Partition(now, until time.Duration, components map[string]int, fx *Effects) {
	m.begin(now, fx)
	m.order.Partition(now, until, components, &m.ofx)
	m.finish(now, forSends, fx)
}

// Heal ends a partition before its time.
func (m *Machine) Heal(now time.Duration, fx *Effects) {
	m.begin(now, fx)
	m.order.Heal(now, &m.ofx)
	m.finish(now, forSends, fx)
}
