// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"time"
)

// WithWindows returns c with other windows and everything that depends on them. A number below 1 keeps what c has: an
// accelerated window that is kept gives way to a smaller personal one, and the gap grows with the global window. It
// reports everything that is wrong with the outcome. Windows that somebody chose are not tuned any more. c has its defaults filled in.
func (c Config) WithWindows(global, personal, accelerated int) (Config, error) {
	if global > 0 {
		c.GlobalWindow = global
	}
	if personal > 0 {
		c.PersonalWindow = personal
	}
	c.Tune, c.TuneLong, c.TuneGlobal, c.WholeVisit = 0, 0, 0, 1 // what somebody chose is followed at every visit
	switch {
	case accelerated > 0:
		c.AcceleratedWindow = accelerated
	default:
		c.AcceleratedWindow = min(c.AcceleratedWindow, c.PersonalWindow)
	}
	if c.GlobalWindow > MaxSpan/2 {
		return c, fmt.Errorf("window %d: must be at most %d, half of what a ring can hold", c.GlobalWindow, MaxSpan/2)
	}
	c.MaxGap = min(max(c.MaxGap, 4*c.GlobalWindow), MaxSpan/2) // so that the gap is not what limits full windows
	return c, c.Validate()
}

// WithTimers returns c with the timers of d.
func (c Config) WithTimers(d Config) Config {
	c.TokenTimeout, c.TokenRetransmit, c.Hold, c.Linger, c.HurryInterval = d.TokenTimeout, d.TokenRetransmit, d.Hold, d.Linger, d.HurryInterval
	return c
}

// AtPace returns c with timers for a ring whose members have other token timeouts, from quickest to slowest: a token or
// data is waited for as long as the slowest may take, and the token held and sent again as often as the quickest expects.
func (c Config) AtPace(slowest, quickest time.Duration) Config {
	t := c.TokenTimeout
	c.TokenTimeout = max(t, slowest)
	if quickest < t {
		for _, d := range []*time.Duration{&c.TokenRetransmit, &c.Hold, &c.Linger, &c.HurryInterval} {
			*d = max(time.Duration(float64(*d)*(float64(quickest)/float64(t))), 1)
		}
	}
	return c
}

// Reconfigure changes windows and timers of the ring as it turns. cfg is valid and has its defaults filled in; its packet
// size and its group are not looked at, since buffers and sockets have theirs. Members may have different windows at any time, for each looks only
// at its own when it has the token. The packets that are under way stay what they are: a smaller window lets the next
// visits send less.
func (m *Machine) Reconfigure(now time.Duration, cfg Config) {
	old := m.cfg
	cfg.PacketBytes, cfg.Larger, cfg.LargerCut, cfg.Group = old.PacketBytes, old.Larger, old.LargerCut, old.Group
	m.cfg = cfg
	m.startWindows()
	if m.lossAt != 0 {
		// What was heard last stays heard then, but nobody is lost at once because patience became shorter.
		if longer := cfg.TokenTimeout - old.TokenTimeout; longer >= 0 {
			m.lossAt += longer
		} else {
			m.lossAt = min(m.lossAt, now+cfg.TokenTimeout)
		}
	}
	sooner := func(at *time.Duration, d time.Duration) {
		if *at != 0 {
			*at = min(*at, now+d)
		}
	}
	sooner(&m.retryAt, max(cfg.TokenRetransmit, cfg.Hold*5/4))
	sooner(&m.hurryAt, cfg.HurryInterval)
	if m.held {
		sooner(&m.holdUntil, cfg.Hold)
	}
}

// Config is what the ring runs with at the moment.
func (m *Machine) Config() Config { return m.cfg }
