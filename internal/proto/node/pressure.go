// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/session"
)

// What sessions that read too slowly may cost, unless Config says otherwise.
const (
	// DefaultSessionStall is long enough for a client that means to read on a machine that is too busy, and short beside the
	// time in which an operator notices. The hard bounds hold meanwhile.
	DefaultSessionStall = 10 * time.Second
	// DefaultSessionWait is how long the others wait for one member under PolicyBlock.
	DefaultSessionWait = 10 * time.Second
	// DefaultQueueMemory is what all that waits for clients may take together.
	DefaultQueueMemory = 512 << 20
	// leastQueueMemory holds one delivery of the largest size, and the chunk that is being filled.
	leastQueueMemory = 256 << 10
	// What a session over its budget says is taken in such portions, one in such a time: 3 MiB a second. One that fills its own
	// queue and does not read would otherwise have the daemon carry all that memory can take, as fast as it can (GRP-17).
	slowInputBytes = 32 << 10
	slowInputTime  = 10 * time.Millisecond
)

// PressureStats counts what slow readers caused.
type PressureStats struct {
	Memory  int           // bytes that wait for clients now, each counted once however many clients it is for
	Over    int           // sessions over their budgets now
	Overs   uint64        // how often a session went over its budget
	Dropped uint64        // Unreliable messages left out for a session (PolicyDrop)
	Blocked bool          // everybody waits for a slow session (PolicyBlock)
	Waits   uint64        // how often everybody had to
	Waited  time.Duration // how long, all together; a wait counts when it ends
}

// validatePressure returns what is wrong with the part of a configuration that this file is about.
func (c *Config) validatePressure() error {
	var errs []error
	bad := func(is bool, text string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(text, args...))
		}
	}
	bad(c.SessionBytes < 0, "budget of %d bytes for a session: must not be negative", c.SessionBytes)
	bad(c.SessionHardBytes < c.SessionBytes, "hard bound of %d bytes for a session: must be at least its budget, %d", c.SessionHardBytes, c.SessionBytes)
	bad(c.QueueMemory < leastQueueMemory, "%d bytes for all that waits for clients: must be at least %d", c.QueueMemory, leastQueueMemory)
	bad(c.SessionStall < 0 || c.SessionWait < 0, "times of %v and %v for slow sessions: must not be negative", c.SessionStall, c.SessionWait)
	bad(!c.SlowPolicy.Known(), "policy for slow sessions: %v", c.SlowPolicy)
	return errors.Join(errs...)
}

// queued notes that something waits for c: from here on the peer's progress counts, and the budget may be passed.
//
//	over its budget                            nothing is lost, and its own input is taken at a pace; PolicyBlock: nobody sends; PolicyDrop: no Unreliable messages
//	... and no progress for SessionStall       it ends: ReasonStalled
//	... for SessionWait, under PolicyBlock     it ends: ReasonWaited
//	at its hard bound                          it ends: ReasonSlowBytes (deliver)
//	all together at QueueMemory                the one with the most waiting ends: ReasonCrowded (relieve)
//	at half its budget                         it has caught up, and all is as before
func (m *Machine) queued(now time.Duration, c *conn, fx *Effects) {
	if c.over || !c.queue.Over() {
		return
	}
	c.over, c.overSince, c.leftOut, c.inputAt = true, now, 0, now
	m.pressure.Over++
	m.pressure.Overs++
	if m.blocking() && m.pressure.Over == 1 {
		m.blockedSince = now
		m.pressure.Waits++
	}
	m.slowNote(fx, evs.Warn, "client reads too slowly", c, evs.Attr{Key: "policy", Value: m.cfg.SlowPolicy.String()}, evs.Attr{Key: "bytes", Value: c.queue.Bytes()})
	m.arm(c, m.overDeadline(c))
}

// blocking reports whether others wait for a session that is over its budget.
func (m *Machine) blocking() bool {
	return m.cfg.SlowPolicy == session.PolicyBlock && m.pressure.Over > 0
}

// overDeadline is when a session that is over its budget must end, as things are.
func (m *Machine) overDeadline(c *conn) time.Duration {
	at := c.moved + m.cfg.SessionStall
	if m.cfg.SlowPolicy == session.PolicyBlock {
		at = min(at, c.overSince+m.cfg.SessionWait)
	}
	return at
}

// lateTimer is how late a timer may be before the daemon itself was not running: what it did not write then says nothing
// about a client.
const lateTimer = 250 * time.Millisecond

// advanceOver looks at a session over its budget when the timer that was due at due has fired.
func (m *Machine) advanceOver(now, due time.Duration, c *conn, fx *Effects) {
	if now-due >= lateTimer && due >= c.overSince {
		c.moved = max(c.moved, now-m.cfg.SessionStall/2)
		c.overSince = max(c.overSince, now-m.cfg.SessionWait/2)
	}
	why := session.Running
	switch {
	case now-c.moved >= m.cfg.SessionStall:
		why = session.ReasonStalled
	case m.cfg.SlowPolicy == session.PolicyBlock && now-c.overSince >= m.cfg.SessionWait:
		why = session.ReasonWaited
	default:
		m.arm(c, m.overDeadline(c))
		if c.paced(now) {
			m.arm(c, c.inputAt)
		}
		return
	}
	c.session.Close(now, why, &m.sfx)
	m.perform(now, c, fx)
}

// roomNow is how many bytes of frames may be taken from c in this moment: room, and c's pace.
func (m *Machine) roomNow(now time.Duration, c *conn) int {
	switch {
	case c.paced(now) && c.inputAt-now >= slowInputTime: // a whole portion: less does not keep what comes next waiting
		return 0
	case c.over:
		return min(m.room(c), slowInputBytes)
	}
	return m.room(c)
}

// paced reports whether c has said more than its pace allows because it is over its budget.
func (c *conn) paced(now time.Duration) bool { return c.over && now < c.inputAt }

// pace notes that n bytes of c's input were taken: while c is over its budget they keep its next ones waiting.
func (m *Machine) pace(now time.Duration, c *conn, n int) {
	if c.over && n > 0 {
		c.inputAt = max(c.inputAt, now) + slowInputTime*time.Duration(n)/slowInputBytes
		m.arm(c, c.inputAt)
	}
}

// progress notes that a peer took bytes.
func (m *Machine) progress(now time.Duration, c *conn, fx *Effects) {
	c.moved = now
	if c.over && c.queue.CaughtUp() {
		m.slowNote(fx, evs.Info, "client has caught up", c, evs.Attr{Key: "after", Value: now - c.overSince}, evs.Attr{Key: "dropped", Value: c.leftOut})
		m.notOver(now, c)
		m.order.Throttle(m.blocking() && !m.groups.Exchanging())
		m.resume(now, fx)
	}
}

// notOver ends what being over its budget meant for c and the others.
func (m *Machine) notOver(now time.Duration, c *conn) {
	if !c.over {
		return
	}
	blocked := m.blocking()
	c.over = false
	m.pressure.Over--
	if blocked && !m.blocking() {
		m.pressure.Waited += now - m.blockedSince
	}
}

// leaveOut reports whether a message is not for c, because c is slow and it may be lost.
func (m *Machine) leaveOut(c *conn, service evs.Service) bool {
	if !c.over || service != evs.Unreliable || m.cfg.SlowPolicy != session.PolicyDrop {
		return false
	}
	c.leftOut++
	c.dropped++
	m.pressure.Dropped++
	return true
}

// relieve ends sessions, the one with the most waiting first, until what waits for all of them is within its bound. Whoever
// has the most waiting is furthest behind, so what it keeps is the oldest and the least shared. What waits for a session that
// has ended is let go like that of others.
func (m *Machine) relieve(now time.Duration, fx *Effects) {
	for m.pool.LentBytes() > m.cfg.QueueMemory {
		var worst *conn
		for _, c := range m.conns { // in any order: the choice is by size and number
			if c.queue.Bytes() == 0 {
				continue
			}
			if worst == nil || cmp.Or(cmp.Compare(c.queue.Bytes(), worst.queue.Bytes()), cmp.Compare(worst.id, c.id)) > 0 {
				worst = c
			}
		}
		if worst == nil {
			return
		}
		if worst.closing {
			m.forget(worst)
			continue
		}
		worst.session.Close(now, session.ReasonCrowded, &m.sfx)
		m.perform(now, worst, fx)
	}
}

func (m *Machine) slowNote(fx *Effects, level evs.Level, text string, c *conn, attrs ...evs.Attr) {
	fx.Notes = append(fx.Notes, evs.Note{Level: level, Text: text, Attrs: append([]evs.Attr{{Key: "session", Value: c.session.Info().Private}}, attrs...)})
}

// checkPressure states what holds between inputs.
func (m *Machine) checkPressure() error {
	over := 0
	for _, c := range m.conns {
		if err := c.queue.CheckInvariants(); err != nil {
			return fmt.Errorf("session %d: %w", c.id, err)
		}
		switch {
		case c.over && (c.closing || c.queue.CaughtUp()):
			return fmt.Errorf("session %d counts as over its budget with %d bytes waiting (closing: %t)", c.id, c.queue.Bytes(), c.closing)
		case c.over && c.timer == 0:
			return fmt.Errorf("session %d is over its budget and nothing ends that (GRP-17)", c.id)
		case !c.over && !c.closing && c.queue.Over():
			return fmt.Errorf("session %d is over its budget with %d bytes, unnoticed", c.id, c.queue.Bytes())
		case c.over:
			over++
		}
	}
	if over != m.pressure.Over {
		return fmt.Errorf("%d sessions are over their budgets, %d counted", over, m.pressure.Over)
	}
	return nil
}
