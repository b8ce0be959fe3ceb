// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// DefaultTune is how far the personal window of a ring that nobody configured goes by itself, and DefaultTuneGlobal the global one
// meanwhile. A visit is three times as many packets as the system takes in one piece, 44 of 1472 bytes in 64 KB, half of them before the
// token and half behind it. More of them make others wait, and cost more where datagrams are lost: they have left the
// processor's caches when they are handed up. Of messages that are nearly as long as such a piece these are three; DefaultTuneLong makes that six, which
// spares rotations. All windows together fit a receive buffer of 4 MiB twice. What it gives is in docs/performance.md, "Windows".
const (
	DefaultTune       = 132
	DefaultTuneLong   = 256
	DefaultTuneGlobal = 1024
)

// longMessages is how many of the messages that wait a visit should be able to send, as far as Config.TuneLong allows.
const longMessages = 6

// WindowReason is why the windows in force are what they are.
type WindowReason uint8

const (
	// WindowsGiven: they are the configured ones, and stay.
	WindowsGiven WindowReason = iota
	// WindowsStart: no visit has asked for more than the ones to begin with.
	WindowsStart
	// WindowsRaised: the last change was upwards, after a visit that filled its window and left messages waiting.
	WindowsRaised
	// WindowsLoss: the last change was downwards, because packets had to be sent again.
	WindowsLoss
	// WindowsSlow: the last change was downwards, because a rotation took too long.
	WindowsSlow
	// WindowsShorter: the last change was downwards, because what waits is shorter than it was.
	WindowsShorter
)

// String is a short phrase for operators.
func (r WindowReason) String() string {
	switch r {
	case WindowsGiven:
		return "as configured"
	case WindowsStart:
		return "tuned: to begin with"
	case WindowsRaised:
		return "tuned: raised, messages were waiting"
	case WindowsLoss:
		return "tuned: lowered, packets were lost"
	case WindowsSlow:
		return "tuned: lowered, rotations were slow"
	case WindowsShorter:
		return "tuned: lowered, shorter messages wait"
	}
	return fmt.Sprintf("WindowReason(%d)", uint8(r))
}

// flow is the windows in force, in units. With Config.Tune the personal one moves between the configured one and Tune, or up to TuneLong, and the
// accelerated one with it: a visit that fills its window and leaves messages waiting raises them by a sixteenth, a visit that
// finds much loss (lossShare) lowers them by a quarter, and so does a rotation of a sixth of the token timeout, which is on its way to be taken for
// a lost token. From 40 to 132 takes 23 full rotations. The global window is Config.TuneGlobal all the time: it is the same everywhere, or those who have tuned theirs up would leave the others no room.
//
// Everybody tunes alone, on what its own visits find on the token: requests that a member in between has answered are seen by
// some and not by others. Windows that differ come together at Tune or TuneLong, where the first ones wait for the others.
type flow struct {
	personal, global, accelerated int

	reason  WindowReason
	pause   int           // visits before the next change downwards: the packets of the last one are still under way
	visited time.Duration // my previous visit
	loss    bool          // the token asked for packets when it arrived
}

// lossShare is the part of a rotation's packets that may be lost before windows go down: a sixteenth. A buffer that overflows
// loses more than that; a bad line, which is not better off with smaller windows, usually less.
const lossShare = 16

// muchLost reports whether a token asks for a large part of the packets that were sent since seq.
func muchLost(t *packet.Token, since seq.Num) bool {
	asked := uint64(0)
	for _, r := range t.RTR {
		asked += uint64(r.Count)
	}
	return asked*lossShare > uint64(t.Seq-since)
}

// startWindows puts the configured windows in force, keeping what was tuned as far as cfg allows.
func (m *Machine) startWindows() {
	c, f := &m.cfg, &m.flow
	if c.Tune == 0 {
		*f = flow{personal: c.PersonalWindow, global: c.GlobalWindow, accelerated: c.AcceleratedWindow, visited: f.visited, loss: f.loss}
		return
	}
	if f.reason == WindowsGiven {
		f.reason = WindowsStart
	}
	m.setWindows(f.personal)
}

// setWindows puts windows in force that stand to the configured ones as personal does.
func (m *Machine) setWindows(personal int) {
	c, f := &m.cfg, &m.flow
	f.personal = min(max(personal, c.PersonalWindow), c.TuneLong)
	f.global = c.TuneGlobal
	f.accelerated = c.AcceleratedWindow * f.personal / c.PersonalWindow
}

// tune learns from a visit: whether packets were asked for (flow.loss), whether more was waiting than could be sent, whether the ring was
// idle before, in which case the token may have been held, and how long the messages are that wait.
func (m *Machine) tune(now time.Duration, full, idle bool, mean int) {
	f := &m.flow
	if m.cfg.Tune == 0 || m.phase != Operational {
		return
	}
	rotation := now - f.visited
	if f.visited == 0 {
		rotation = 0
	}
	f.visited = now
	f.pause = max(f.pause-1, 0)
	slow := rotation >= m.cfg.TokenTimeout/6 && !idle
	switch {
	case f.loss || slow:
		if f.pause > 0 || f.personal == m.cfg.PersonalWindow {
			return
		}
		m.setWindows(f.personal * 3 / 4)
		f.pause, f.reason = 3, WindowsLoss
		if !f.loss {
			f.reason = WindowsSlow
		}
	case full && f.personal > m.cfg.top(mean): // what waits is shorter than it was
		m.setWindows(m.cfg.top(mean))
		f.reason = WindowsShorter
	case full && f.pause == 0 && f.personal < m.cfg.top(mean) && rotation < m.cfg.TokenTimeout/12:
		m.setWindows(min(f.personal+max(f.personal/16, 1), m.cfg.top(mean)))
		f.reason = WindowsRaised
	}
}

// top is how far the personal window may go for messages of so many bytes.
func (c *Config) top(mean int) int {
	return min(max(c.Tune, longMessages*mean/c.PacketBytes), c.TuneLong)
}
