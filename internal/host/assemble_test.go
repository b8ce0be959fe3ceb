// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/config"
	"evensong/internal/host"
)

// What package config takes and the protocols refuse is still the configuration's fault: exit status 3, and not 1.
func TestAssembleRefuses(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:4803")
	for _, r := range []struct {
		name   string
		timers config.Timers
		ring   config.Ring
		ok     bool
	}{
		{name: "defaults", ok: true},
		{name: "token timeout", timers: config.Timers{TokenTimeout: 5 * time.Millisecond}},
		// A daemon starts with every file that the original accepts: what does not fit there gives way.
		{name: "join interval alone", timers: config.Timers{Join: 100 * time.Millisecond}, ok: true},
		{name: "short gather", timers: config.Timers{Gather: 10 * time.Millisecond}, ok: true},
		{name: "short hurry", timers: config.Timers{Hurry: time.Millisecond}, ok: true},
		{name: "windows without limit", ring: config.Ring{Global: 999999, Personal: 500000, AcceleratedWindow: 400000}, ok: true},
	} {
		c := config.Config{
			Daemons: []config.Daemon{{Name: "a", Addr: addr}}, Timers: r.timers, Ring: r.ring,
			Segments: []config.Segment{{Addr: addr, Kind: config.Unicast, Daemons: []int{0}}},
		}
		_, build, err := host.Assemble(&c, 0, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		m, err := build(host.Boot{})
		if r.ok && (err != nil || m == nil) || !r.ok && (!errors.Is(err, host.ErrConfig) || m != nil) {
			t.Errorf("%s: machine %v, error %v", r.name, m != nil, err)
		}
		if err := host.Check(&c); (err == nil) != r.ok {
			t.Errorf("%s: Check says %v", r.name, err)
		}
	}
}
