// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"testing"

	"evensong/internal/proto/packet"
)

// A daemon that is awake does early what is due soon, all of it: it probes, and counts who is alive. It goes on at the usual rate, and not before
// that is due.
func TestAwake(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateOperational)
	m := d.m
	interval := m.cfg.ProbeInterval
	probes := 0
	for end := d.now + 60*interval; d.now < end; d.now += interval / 10 {
		d.join(d.says(packet.StateOperational)) // the other member lives
		m.crowd = crowdAt + 1                   // or so it was
		due, slack := m.tickAt, m.scaled(interval)*2/5
		d.do(m.Awake)
		for _, s := range d.fx.Sends {
			if s.Kind == packet.KindProbe {
				probes++
			}
		}
		early, census := due-d.now, m.crowd == crowdAt
		if soon := early <= slack; soon != census || soon != (len(d.fx.Sends) > 0) {
			t.Fatalf("%v before something is due: %d packets sent, census taken %v", early, len(d.fx.Sends), census)
		}
	}
	if probes < 50 || probes > 66 {
		t.Errorf("%d probes in 60 intervals", probes)
	}
}
