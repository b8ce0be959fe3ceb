// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/ring"
)

// within takes "within D" off the end of a command.
func within(f []string) ([]string, time.Duration, error) {
	if k := len(f); k >= 2 && f[k-2] == "within" {
		d, err := time.ParseDuration(f[k-1])
		return f[:k-2], d, err
	}
	return f, 10 * time.Second, nil
}

// until lets time pass until something is so.
func (s *script) until(f []string) error {
	f, limit, err := within(f)
	if err != nil {
		return err
	}
	for end := s.w.now + limit; ; {
		why := s.expect(f)
		if k := 0; why != nil && len(f) == 3 && f[0] == "received" {
			if c := s.clients[f[1]]; c != nil {
				k, _ = strconv.Atoi(f[2]) // expect has read it already
				if c.received >= k {
					why = nil
				}
			}
		}
		if why == nil || s.w.failure != nil {
			return nil
		}
		if s.w.now >= end {
			return fmt.Errorf("not within %v: %w", limit, why)
		}
		s.w.runUntil(s.w.now + time.Millisecond)
	}
}

// expect says what is not as it should be.
func (s *script) expect(f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("what?")
	}
	switch f[0] {
	case "conf":
		// conf a b c: all of them; conf a = b c: one of them.
		who, members := f[1:], f[1:]
		if k := slices.Index(f, "="); k >= 0 {
			who, members = f[1:k], f[k+1:]
		}
		var id evs.RingID
		for i, name := range who {
			h, err := s.host(name)
			if err != nil {
				return err
			}
			var have []string
			for _, p := range h.conf {
				have = append(have, p.Name)
			}
			want := slices.Clone(members)
			slices.Sort(want)
			if !slices.Equal(slices.Sorted(slices.Values(have)), want) {
				return fmt.Errorf("%s has %v (%s)", name, have, h.doing())
			}
			if i == 0 {
				id = h.confID
			} else if h.confID != id {
				return fmt.Errorf("%s is in %v, %s in %v", name, h.confID, who[0], id)
			}
		}
	case "cause":
		k := slices.Index(f, "=")
		if k < 2 {
			return fmt.Errorf("want cause NAMES = TEXT")
		}
		want := strings.Join(f[k+1:], " ")
		for _, name := range f[1:k] {
			h, err := s.host(name)
			if err != nil {
				return err
			}
			if h.node == nil {
				return fmt.Errorf("%s does not run", name)
			}
			changes := h.node.Status(h.clock()).Changes
			if len(changes) == 0 {
				return fmt.Errorf("%s has no configuration", name)
			}
			if got := membership.CausesText(changes[len(changes)-1].Causes); got != want {
				return fmt.Errorf("%s says %q", name, got)
			}
		}
	case "reach":
		if len(f) != 4 || f[2] != "=" {
			return fmt.Errorf("want reach NAME = all, lacks or asked")
		}
		h, err := s.host(f[1])
		if err != nil {
			return err
		}
		if h.node == nil {
			return fmt.Errorf("%s does not run", f[1])
		}
		names := map[ring.Reach]string{ring.ReachNone: "none", ring.ReachAsked: "asked", ring.ReachAll: "all", ring.ReachLacks: "lacks"}
		if got := names[h.node.Status(h.clock()).Ring.Group.Reach]; got != f[3] {
			return fmt.Errorf("%s says %s", f[1], got)
		}
	case "received", "installs", "views":
		if len(f) < 3 {
			return fmt.Errorf("want %s NAME N, or NAME <= N", f[0])
		}
		want, err := strconv.Atoi(f[len(f)-1])
		if err != nil {
			return err
		}
		got := 0
		if f[0] == "installs" {
			h, err := s.host(f[1])
			if err != nil {
				return err
			}
			got = h.count
		} else {
			c, err := s.client(f[1])
			if err != nil {
				return err
			}
			if got = c.received; f[0] == "views" {
				got = c.viewed
			}
		}
		if got != want && (f[2] != "<=" || got > want) {
			return fmt.Errorf("%s has %d", f[1], got)
		}
	case "view":
		if len(f) < 4 || f[3] != "=" {
			return fmt.Errorf("want view CLIENT GROUP = MEMBERS")
		}
		c, err := s.client(f[1])
		if err != nil {
			return err
		}
		g := s.w.group(f[2])
		if g < 0 {
			return fmt.Errorf("no group is called %q", f[2])
		}
		var want []string
		for _, x := range f[4:] {
			user, at, _ := strings.Cut(x, "@")
			want = append(want, "#"+user+"#"+at)
		}
		slices.Sort(want)
		if c.views[g] == nil {
			return fmt.Errorf("%s has no view", f[1])
		}
		if have := slices.Sorted(slices.Values(c.views[g].Members)); !slices.Equal(have, want) {
			return fmt.Errorf("%s has %v", f[1], have)
		}
	case "violation":
		s.expected = append(s.expected, f[1:]...)
	default:
		return fmt.Errorf("nothing is known of %q", f[0])
	}
	return nil
}
