// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"evensong/internal/proto/packet"
)

// do performs one command.
func (s *script) do(f []string) error {
	w := s.w
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	switch f[0] {
	case "daemons":
		return s.daemons(f[1:])
	case "groups":
		w.groups = f[1:]
	case "clients":
		for _, x := range f[1:] {
			name, at, _ := strings.Cut(x, "@")
			h, err := s.host(at)
			if err != nil {
				return err
			}
			c := w.addClient(name, h.i)
			s.clients[name] = c
			c.dialLater(time.Millisecond)
		}
	case "start":
		return s.each(f[1:], func(h *host) {
			if h.node == nil {
				h.start()
			}
		})
	case "crash":
		return s.each(f[1:], (*host).crash)
	case "restart":
		return s.each(f[1:], func(h *host) {
			h.crash()
			h.start()
		})
	case "leave":
		return s.each(f[1:], (*host).leave)
	case "pause":
		return s.each(f[1:], (*host).pause)
	case "resume":
		return s.each(f[1:], (*host).resume)
	case "edit":
		return s.edit(f[1:])
	case "disk":
		h, err := s.host(arg(1))
		if err != nil {
			return err
		}
		switch arg(2) {
		case "fails":
			h.diskFails = true
		case "works":
			h.diskFails, h.diskDelay = false, 200*time.Microsecond
		case "lost":
			h.disk = 0
		case "slow":
			h.diskDelay, err = time.ParseDuration(arg(3))
			return err
		default:
			return fmt.Errorf("a disk fails, works, is lost or slow")
		}
	case "partition":
		part := make([]int, len(w.hosts))
		k := 0
		for _, x := range f[1:] {
			if x == "|" {
				k++
				continue
			}
			h, err := s.host(x)
			if err != nil {
				return err
			}
			part[h.i] = k
		}
		w.net.partition(w.now, part)
	case "cut", "mend", "unheard", "heard":
		for _, x := range f[1:] {
			from, to, _ := strings.Cut(x, ">")
			a, err := s.host(from)
			if err != nil {
				return err
			}
			b, err := s.host(to)
			if err != nil {
				return err
			}
			switch f[0] {
			case "unheard", "heard":
				w.net.unheard[a.i*w.net.n+b.i] = f[0] == "unheard"
			default:
				w.net.setCut(a.i, b.i, f[0] == "cut")
				w.net.mended = w.now
			}
		}
	case "heal":
		w.net.heal(w.now)
	case "weather":
		w.net.now = w.net.base
		for _, x := range f[1:] {
			key, value, _ := strings.Cut(x, "=")
			p, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			switch key {
			case "loss":
				w.net.now.Loss = p
			case "dup":
				w.net.now.Dup = p
			case "reorder":
				w.net.now.Reorder = p
			case "corrupt":
				w.net.now.Corrupt = p
			default:
				return fmt.Errorf("no weather is called %q", key)
			}
		}
	case "drop", "replay":
		return s.filter(f)
	case "on":
		return s.trap(f[1:])
	case "join", "part", "close", "kill", "abort", "connect", "send":
		return s.clientCommand(f)
	case "advance":
		d, err := time.ParseDuration(arg(1))
		w.runUntil(w.now + d)
		return err
	case "until":
		return s.until(f[1:])
	case "expect":
		return s.expect(f[1:])
	case "settle":
		w.settle()
	case "nosettle":
		s.nosettle = true
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (s *script) daemons(f []string) error {
	w := s.w
	timeout, q, disk, accelerated, ahead, group := 250*time.Millisecond, Quality{Delay: 100 * time.Microsecond, Jitter: 10 * time.Microsecond}, true, true, 0, false
	rc := ringDefaults(timeout)
	var names []string
	for _, x := range f {
		key, value, isKey := strings.Cut(x, "=")
		if !isKey {
			names = append(names, x)
			continue
		}
		var err error
		switch key {
		case "timeout":
			if timeout, err = time.ParseDuration(value); err == nil {
				rc = ringDefaults(timeout)
			}
		case "delay":
			q.Delay, err = time.ParseDuration(value)
		case "loss":
			q.Loss, err = strconv.ParseFloat(value, 64)
		case "dup":
			q.Dup, err = strconv.ParseFloat(value, 64)
		case "packet":
			rc.PacketBytes, err = strconv.Atoi(value)
		case "window":
			rc.GlobalWindow, err = strconv.Atoi(value)
		case "personal":
			rc.PersonalWindow, err = strconv.Atoi(value)
			rc.AcceleratedWindow = min(rc.AcceleratedWindow, rc.PersonalWindow)
		case "accelerated":
			accelerated, err = strconv.ParseBool(value)
		case "disk":
			disk, err = strconv.ParseBool(value)
		case "group":
			group, err = strconv.ParseBool(value)
		case "ahead":
			if ahead, err = strconv.Atoi(value); ahead == 0 {
				ahead = -1
			}
		case "seed":
			var seed uint64
			seed, err = strconv.ParseUint(value, 10, 64)
			w.rnd = newWorld(seed).rnd
		default:
			err = fmt.Errorf("no such key")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", x, err)
		}
	}
	w.ring = rc
	w.net = newNetwork(len(names), q)
	if group {
		w.shareAddress(len(names))
	}
	w.net.dropIf = s.dropIf
	for _, name := range names {
		h := w.addHost(name, disk)
		h.accelerated, h.storeAhead = accelerated, ahead
		s.names[name] = h
	}
	return nil
}

// edit is edit a b key=value ...
func (s *script) edit(f []string) error {
	n := slices.IndexFunc(f, func(x string) bool { return strings.Contains(x, "=") })
	if n < 0 {
		return fmt.Errorf("want edit NAMES KEY=VALUE, once or more often")
	}
	var errs []error
	err := s.each(f[:n], func(h *host) {
		to := h.file
		if !to.edited {
			to = file{edited: true, ring: s.w.ring, listed: to.listed}
		}
		for _, x := range f[n:] {
			key, value, _ := strings.Cut(x, "=")
			var err error
			switch key {
			case "timeout":
				var d time.Duration
				d, err = time.ParseDuration(value)
				t := ringDefaults(d)
				to.ring = to.ring.WithTimers(t)
			case "window":
				to.ring.GlobalWindow, err = strconv.Atoi(value)
			case "personal":
				to.ring.PersonalWindow, err = strconv.Atoi(value)
			case "accelerated":
				to.ring.AcceleratedWindow, err = strconv.Atoi(value)
			case "rank":
				to.rank, err = strconv.Atoi(value)
				to.rank++
			case "list":
				if to.listed = nil; value != "any" {
					to.listed = strings.Split(value, ",")
				}
			default:
				err = fmt.Errorf("%s: no such key", x)
			}
			errs = append(errs, err)
		}
		if errors.Join(errs...) == nil {
			h.edit(to)
		}
	})
	return errors.Join(append(errs, err)...)
}

// filter loses or repeats packets.
type filter struct {
	kind     packet.Kind
	from, to int // -1: any
	left     int
	delay    time.Duration // zero: lose
}

func (s *script) dropIf(from, to int, k packet.Kind, b []byte) bool {
	for i, f := range s.filters {
		if f.kind != k || f.from >= 0 && f.from != from || f.to >= 0 && f.to != to {
			continue
		}
		if f.left--; f.left == 0 {
			s.filters = slices.Delete(s.filters, i, i+1)
		}
		if f.delay == 0 {
			return true
		}
		d := s.w.net.get()
		d.buf, d.refs, d.from = append(d.buf[:0], b...), 1, int32(from)
		s.w.events.push(event{at: s.w.now + f.delay, kind: evDatagram, a: int32(to), dgram: d})
		return false
	}
	return false
}

// filter is drop KIND FROM TO N and replay KIND FROM TO N D.
func (s *script) filter(f []string) error {
	if len(f) < 5 {
		return fmt.Errorf("want %s KIND FROM TO N", f[0])
	}
	x := &filter{from: -1, to: -1}
	var err error
	if x.kind, err = packetKind(f[1]); err != nil {
		return err
	}
	for i, at := range []*int{&x.from, &x.to} {
		if f[2+i] != "*" {
			h, err := s.host(f[2+i])
			if err != nil {
				return err
			}
			*at = h.i
		}
	}
	if x.left, err = strconv.Atoi(f[4]); err != nil {
		return err
	}
	if f[0] == "replay" {
		if len(f) < 6 {
			return fmt.Errorf("want replay KIND FROM TO N DELAY")
		}
		if x.delay, err = time.ParseDuration(f[5]); err != nil {
			return err
		}
	}
	s.filters = append(s.filters, x)
	return nil
}

// trap is on KIND FROM [in STATE] [skip N] do COMMAND.
func (s *script) trap(f []string) error {
	t := &trap{until: 1 << 62}
	var err error
	if len(f) < 4 {
		return fmt.Errorf("want on KIND FROM [in STATE] [skip N] do COMMAND")
	}
	if t.kind, err = packetKind(f[0]); err != nil {
		return err
	}
	if f[1] != "*" {
		if t.from, err = s.host(f[1]); err != nil {
			return err
		}
	}
	for i := 2; i < len(f)-1; i += 2 {
		switch f[i] {
		case "in":
			if t.state, err = stateByName(f[i+1]); err != nil {
				return err
			}
		case "skip":
			if t.skip, err = strconv.Atoi(f[i+1]); err != nil {
				return err
			}
		case "do":
			command := slices.Clone(f[i+1:])
			t.then = func(sender *host) {
				c := slices.Clone(command)
				for k := range c {
					if c[k] == "sender" {
						c[k] = sender.name
					}
				}
				fmt.Fprintf(s.log, "  %-12v (%s: %s)\n", s.w.now.Round(time.Microsecond), strings.Join(f[:i], " "), strings.Join(c, " "))
				if err := s.do(c); err != nil {
					s.w.fail("SCRIPT", "%s: %v", strings.Join(c, " "), err)
				}
			}
			s.w.traps = append(s.w.traps, t)
			return nil
		default:
			return fmt.Errorf("%q: want in, skip or do", f[i])
		}
	}
	return fmt.Errorf("no command")
}

func (s *script) clientCommand(f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("no client is named")
	}
	c, err := s.client(f[1])
	if err != nil {
		return err
	}
	group := func() (int, error) {
		if len(f) < 3 {
			return 0, fmt.Errorf("no group is named")
		}
		if g := s.w.group(f[2]); g >= 0 {
			return g, nil
		}
		return 0, fmt.Errorf("no group is called %q", f[2])
	}
	switch f[0] {
	case "join", "part":
		g, err := group()
		if err != nil {
			return err
		}
		c.wanted[g] = f[0] == "join"
		if c.wanted[g] {
			c.join(g)
		} else {
			c.leave(g)
		}
	case "close":
		c.hang(false)
	case "abort":
		c.hang(true)
	case "kill":
		c.kill()
	case "connect":
		c.dialLater(0)
	case "send":
		if _, err := group(); err != nil {
			return err
		}
		if len(f) < 4 {
			return fmt.Errorf("want send CLIENT GROUP SERVICE [N [BYTES]]")
		}
		service, err := serviceByName(f[3])
		if err != nil {
			return err
		}
		n, err := s.number(f, 4, 1)
		if err != nil {
			return err
		}
		size, err := s.number(f, 5, 100)
		if err != nil {
			return err
		}
		for range n {
			if c.multicast([]string{f[2]}, service, size, false) == 0 {
				return fmt.Errorf("%s is not connected", f[1])
			}
		}
	}
	return nil
}
