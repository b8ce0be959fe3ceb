// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/session"
)

// SessionStatus is one client connection as it is now, for people who want to know who is slow. Times are those of the
// machine's inputs.
type SessionStatus struct {
	ID      uint64
	Name    string         // private name; of a client in its handshake what is known of it, else empty
	Peer    netip.AddrPort // invalid for a Unix socket
	State   session.State
	Dialect string        // what it speaks, as session.Machine says it
	Since   time.Duration // when it was accepted
	TLS     bool          // what it says comes through TLS
	Cert    string        // the name in its certificate; empty: none

	// What waits for the client to read.
	QueuedBytes    int
	QueuedMessages int           // a partly written one included
	HighBytes      int           // the most bytes that have waited
	PinnedBytes    int           // memory kept for it; what others wait for, too, counts in each
	WrittenBytes   uint64        // that have left for the client
	StalledSince   time.Duration // something waits, and the client has taken nothing since then; zero: nothing waits
	OverSince      time.Duration // over its budget since then; zero: it is not
	Dropped        uint64        // Unreliable messages left out for it

	// What the client has sent.
	InputBytes   int  // wait for the token
	InputStalled bool // it is not read until there is room
}

// Sessions are all client connections that are not being closed, by number. It costs a look at each.
func (m *Machine) Sessions() []SessionStatus {
	out := make([]SessionStatus, 0, len(m.conns))
	for _, id := range slices.Sorted(maps.Keys(m.conns)) {
		if c := m.conns[id]; !c.closing {
			out = append(out, m.sessionStatus(c))
		}
	}
	return out
}

func (m *Machine) sessionStatus(c *conn) SessionStatus {
	s := SessionStatus{
		ID: c.id, Name: c.session.Info().Private, Peer: c.peer, State: c.session.State(), Dialect: c.session.Dialect(), Since: c.since,
		QueuedBytes: c.queue.Bytes(), QueuedMessages: c.queue.Messages(), HighBytes: c.queue.High(), PinnedBytes: c.queue.Pinned(),
		WrittenBytes: c.queue.Wrote(), Dropped: c.dropped, InputBytes: m.order.Queued(c.id), InputStalled: c.stalled,
	}
	s.Cert, s.TLS = c.session.TLS()
	if s.QueuedBytes > 0 {
		s.StalledSince = c.moved
	}
	if c.over {
		s.OverSince = c.overSince
	}
	return s
}
