// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"time"

	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// faultKind is a sort of fault. Reports count by it.
type faultKind uint8

const (
	faultPartition   faultKind = iota // split into two or three parts
	faultCascade                      // several partitions shortly after one another
	faultOneWay                       // some links fail in one direction
	faultNoTransit                    // some pairs cannot reach each other, but common neighbors can
	faultDeaf                         // one daemon hears nobody, all hear it
	faultHeal                         // merge everything
	faultCrashQuick                   // crash, restart inside the token timeout
	faultCrashSlow                    // crash, restart later
	faultCrashAll                     // all at once
	faultLeave                        // orderly leave, restart later
	faultPause                        // the process stops for a while
	faultWeather                      // loss, duplication, reordering, corruption for a while
	faultDiskSlow                     // stores take long
	faultDiskFails                    // stores fail
	faultClientGone                   // clients close, are killed, break off inside a message
	faultClientSlow                   // a client reads slowly
	faultLastWords                    // what a daemon sends is late, and then the daemon is gone
	faultTrap                         // something happens just when a certain packet has been sent
	faultReconfigure                  // daemons read changed files, one after the other
	faultUnheard                      // the group address stops to reach somebody, or reaches everybody again
	faultEnd
)

var faultNames = [faultEnd]string{
	"partition", "cascade", "one-way cut", "non-transitive cut", "deaf daemon", "merge", "crash, quick restart", "crash, slow restart",
	"crash of all", "orderly leave", "pause", "weather", "slow disk", "failing disk", "client gone", "slow client", "last words", "trap", "reconfigure", "group address",
}

// count notes a fault that concerns h.
func (w *World) count(k faultKind, h *host) {
	w.stats.Faults[faultNames[k]]++
	if h != nil {
		w.stats.Steps[h.doing()]++
	}
}

// someHost draws a host on which a daemon runs, or nil.
func (w *World) someHost() *host {
	for range 4 {
		if h := w.hosts[w.rnd.IntN(len(w.hosts))]; h.node != nil {
			return h
		}
	}
	return nil
}

// inject performs a fault of kind k. on is whom it concerns; nil: somebody.
func (w *World) inject(k faultKind, on *host) {
	if w.over {
		return
	}
	if on == nil || on.node == nil {
		if on = w.someHost(); on == nil {
			return
		}
	}
	n := len(w.hosts)
	timeout := w.ring.TokenTimeout
	w.count(k, on)
	switch k {
	case faultPartition:
		w.split(2 + w.rnd.IntN(2))
	case faultCascade:
		w.split(2)
		for range 1 + w.rnd.IntN(3) {
			w.after(w.between(0, 3*timeout), func() { w.split(1 + w.rnd.IntN(3)) })
		}
	case faultOneWay:
		for range 1 + w.rnd.IntN(n) {
			if a, b := w.rnd.IntN(n), w.rnd.IntN(n); a != b {
				w.net.setCut(a, b, true)
			}
		}
	case faultNoTransit:
		for range 1 + w.rnd.IntN(2) {
			if a, b := w.rnd.IntN(n), w.rnd.IntN(n); a != b {
				w.net.setCut(a, b, true)
				w.net.setCut(b, a, true)
			}
		}
	case faultDeaf:
		for j := range n {
			if j != on.i {
				w.net.setCut(j, on.i, true)
			}
		}
		if w.chance(0.7) {
			w.after(w.between(time.Millisecond, 4*timeout), func() { w.split(1) })
		}
	case faultHeal:
		w.net.heal(w.now)
	case faultCrashQuick:
		w.restart(on, w.between(time.Millisecond, timeout))
	case faultCrashSlow:
		w.restart(on, w.between(timeout, 8*timeout))
	case faultCrashAll:
		for _, h := range w.hosts {
			w.restart(h, w.between(time.Millisecond, 2*timeout))
		}
	case faultLeave:
		on.leave()
		life := on.life
		w.after(w.between(timeout, 8*timeout), func() {
			if on.life == life {
				on.crash() // if it has not ended by itself
				on.start()
			}
		})
	case faultPause:
		on.pause()
		life, d := on.life, w.between(timeout/50, timeout)
		if w.chance(0.5) {
			d = w.between(timeout, 4*timeout)
		}
		w.after(d, func() {
			if on.life == life {
				on.resume()
			}
		})
	case faultWeather:
		q := &w.net.now
		*q = w.net.base
		q.Loss = 0.3 * w.rnd.Float64() * w.rnd.Float64()
		q.Dup = 0.3 * w.rnd.Float64() * w.rnd.Float64()
		q.Reorder = 0.5 * w.rnd.Float64() * w.rnd.Float64()
		if w.chance(0.3) {
			q.Corrupt = 0.1 * w.rnd.Float64()
		}
		if w.chance(0.4) {
			q.Straggle, q.Late = 0.1*w.rnd.Float64(), w.between(timeout/10, 3*timeout)
		}
		if w.chance(0.2) {
			q.Delay += w.between(0, timeout/20)
			q.Jitter += w.between(0, timeout/20)
		}
		w.after(w.between(timeout/2, 6*timeout), func() { w.net.now = w.net.base })
	case faultDiskSlow:
		on.diskDelay = w.between(time.Millisecond, timeout)
		w.after(w.between(timeout, 8*timeout), func() { on.diskDelay = 200 * time.Microsecond })
	case faultDiskFails:
		on.diskFails = true
		w.after(w.between(timeout, 8*timeout), func() { on.diskFails = false })
	case faultClientGone:
		for range 1 + w.rnd.IntN(3) {
			w.clientGone(w.clients[w.rnd.IntN(len(w.clients))])
		}
	case faultClientSlow:
		c := w.clients[w.rnd.IntN(len(w.clients))]
		c.slow = w.between(time.Millisecond, 40*time.Millisecond)
		if w.pressure && w.chance(0.4) {
			c.slow = 4 * time.Second // it takes next to nothing
		}
		w.after(w.between(timeout, 12*timeout), func() { c.slow = 0 })
	case faultLastWords:
		on.mumbles = w.now + w.between(0, 4*time.Millisecond)
		for _, c := range w.clients {
			if c.host == on.i && c.state == clientOpen {
				for range 4 {
					w.after(w.between(0, 3*time.Millisecond), func() { w.say(c) })
				}
			}
		}
		crash := w.chance(0.4)
		w.at(on.mumbles, func() {
			if crash {
				w.restart(on, w.between(timeout/10, 6*timeout))
				return
			}
			for j := range n {
				if j != on.i && !w.over {
					w.net.setCut(j, on.i, true)
					w.net.setCut(on.i, j, true)
				}
			}
		})
	case faultTrap:
		w.setTrap()
	case faultReconfigure:
		w.reconfigure(on)
	case faultUnheard:
		if w.chance(0.3) {
			clear(w.net.unheard)
		} else {
			w.unhear(on.i)
		}
	case faultEnd:
	}
}

// shareAddress gives all daemons one group address.
func (w *World) shareAddress(n int) {
	g := &ring.Group{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 0, 0, 1}), portOfDaemons)}
	for i := range n {
		g.Members = append(g.Members, address(i))
	}
	w.ring.Group = g
}

// unhear keeps what is sent to the group address from host x, or what x sends there from the others, or everything from
// everybody. Nothing mends that but another fault of this kind: the quiet end has to do with it.
func (w *World) unhear(x int) {
	kind := w.rnd.IntN(4)
	for j := range w.net.n {
		switch {
		case j == x:
		case kind == 0:
			w.net.unheard[x*w.net.n+j] = true
		case kind == 1:
			for i := range w.net.n {
				w.net.unheard[i*w.net.n+j] = true
			}
		default:
			w.net.unheard[j*w.net.n+x] = true
		}
	}
}

// reconfigure gives daemons other files, which they read one after the other in random order: other windows, other timers,
// or a list without one daemon, on, for a while. Daemons that are down read theirs when they start.
func (w *World) reconfigure(on *host) {
	r := w.edits
	delay := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
	change := func(after, spread time.Duration, f func(h *host) file) {
		for _, h := range w.hosts {
			w.after(after+delay(spread), func() {
				if !w.over {
					w.stats.Steps[h.doing()]++
					h.edit(f(h))
				}
			})
		}
	}
	timeout := w.ring.TokenTimeout
	spread := []time.Duration{time.Millisecond, timeout, 4 * timeout}[r.IntN(3)]
	current := func(h *host) file {
		f := h.file
		if !f.edited {
			f = file{edited: true, ring: w.ring, listed: f.listed}
		}
		return f
	}
	switch r.IntN(4) {
	case 0: // windows, another at each daemon
		change(0, spread, func(h *host) file {
			f := current(h)
			f.ring.PersonalWindow = 1 + r.IntN(60)
			f.ring.GlobalWindow = f.ring.PersonalWindow + r.IntN(200)
			f.ring.AcceleratedWindow = r.IntN(f.ring.PersonalWindow + 1)
			f.ring.Tune, f.ring.TuneLong, f.ring.TuneGlobal = 0, 0, 0 // as for windows that somebody gives
			return f
		})
	case 1: // timers: the same at all in the end, and the windows as they were in the beginning
		t := timeout/4 + delay(4*timeout)
		change(0, spread, func(h *host) file {
			f := current(h)
			f.ring = w.ring
			d := ringDefaults(t)
			f.ring = f.ring.WithTimers(d)
			return f
		})
	default: // a daemon goes, and comes back
		var rest []string
		for _, h := range w.hosts {
			if h != on {
				rest = append(rest, h.name)
			}
		}
		change(0, spread, func(h *host) file {
			f := current(h)
			if h != on {
				f.listed = rest
			}
			return f
		})
		change(spread+delay(6*timeout), spread, func(h *host) file {
			f := current(h)
			f.listed = nil
			return f
		})
	}
}

// clientGone ends a client's connection in one of several ways; it comes back by the same name.
func (w *World) clientGone(c *client) {
	if c.state != clientOpen {
		return
	}
	switch w.rnd.IntN(4) {
	case 0:
		c.half()
	case 1:
		c.kill()
	case 2:
		c.hang(false)
	case 3:
		c.hang(true)
	}
	c.dialLater(w.between(0, 100*time.Millisecond))
}

// split cuts the network into parts; one part is a merge.
func (w *World) split(parts int) {
	if w.over {
		return
	}
	part := make([]int, len(w.hosts))
	if parts == 2 && w.chance(0.4) {
		part[w.rnd.IntN(len(part))] = 1
	} else {
		for i := range part {
			part[i] = w.rnd.IntN(parts)
		}
	}
	w.net.partition(w.now, part)
}

// restart crashes h and starts it again after d.
func (w *World) restart(h *host, d time.Duration) {
	h.crash()
	life := h.life
	w.after(d, func() {
		if h.life == life && h.node == nil {
			h.start()
		}
	})
}

// trap waits for a packet of a kind, sent by a daemon in a state, and then does something.
type trap struct {
	kind  packet.Kind      // zero: any
	state membership.State // zero: any
	from  *host            // nil: any
	fresh bool             // not before some daemon has installed a configuration of several
	skip  int              // so many are let pass
	then  func(sender *host)
	until time.Duration
}

// spring lets traps see a packet that h has just sent.
func (w *World) spring(h *host, s *packet.Send) {
	for i := 0; i < len(w.traps); i++ {
		t := w.traps[i]
		if w.now > t.until {
			w.traps = append(w.traps[:i], w.traps[i+1:]...)
			i--
			continue
		}
		if t.fresh || t.kind != 0 && s.Kind != t.kind || t.from != nil && t.from != h || t.state != 0 && h.node.Order().Membership().State() != t.state {
			continue
		}
		if t.skip > 0 {
			t.skip--
			continue
		}
		w.traps = append(w.traps[:i], w.traps[i+1:]...)
		t.then(h)
		return
	}
}

// setTrap sets a random trap and, since most of them are for the time of a change, causes a change.
func (w *World) setTrap() {
	t := &trap{until: w.now + 4*w.ring.TokenTimeout}
	switch w.rnd.IntN(8) {
	case 0:
		t.kind, t.skip = packet.KindCommit, w.rnd.IntN(3*len(w.hosts))
	case 1:
		t.kind, t.state, t.skip = packet.KindData, membership.StateRecover, w.rnd.IntN(10)
	case 2, 3:
		t.kind, t.state, t.skip = packet.KindToken, membership.StateRecover, w.rnd.IntN(6*len(w.hosts))
	case 4:
		t.kind, t.state, t.skip = packet.KindData, membership.StateOperational, w.rnd.IntN(20)
	case 5:
		t.kind, t.state, t.skip = packet.KindToken, membership.StateOperational, w.rnd.IntN(20)
	}
	if t.kind == 0 {
		t.fresh, t.skip = true, w.rnd.IntN(4*len(w.hosts))
	}
	kinds := [...]faultKind{faultPartition, faultPartition, faultPartition, faultCrashQuick, faultCrashSlow, faultPause, faultHeal, faultOneWay, faultDeaf}
	k := kinds[w.rnd.IntN(len(kinds))]
	mine := w.chance(0.6)
	t.then = func(sender *host) {
		if !mine {
			sender = nil
		}
		w.inject(k, sender)
	}
	w.traps = append(w.traps, t)
	if t.state != membership.StateOperational {
		w.after(w.between(0, time.Millisecond), func() { w.split(1 + w.rnd.IntN(2)) })
	}
}
