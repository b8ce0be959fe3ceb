// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"
	"time"

	"evensong/internal/config"
)

// The timers of a file are those of the protocols that have such a stage. Where they do not fit each other here, the
// intervals give way, and a daemon starts all the same.
func TestTimersOfFile(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, r := range []struct {
		name                                   string
		file                                   config.Timers
		again, join, consensus, commit, search time.Duration
	}{
		{"the original's, near", config.Timers{TokenTimeout: ms(1250), Hurry: ms(500), Alive: ms(250), Seg: ms(500), Join: ms(250), Rep: ms(625), Gather: ms(1250), Form: ms(1250), Lookup: ms(30000)},
			ms(500), ms(250), ms(1250), ms(1250), ms(30000)},
		{"some", config.Timers{Gather: ms(200), Join: ms(20)}, ms(25), ms(20), ms(200), ms(100), ms(200)},
		{"that do not fit", config.Timers{Gather: ms(40), Join: ms(30)}, ms(25), ms(10), ms(40), ms(100), ms(200)},
	} {
		c := &config.Config{Timers: r.file}
		if got := RingConfig(c).TokenRetransmit; got != r.again {
			t.Errorf("%s: a token is sent again after %v, want %v", r.name, got, r.again)
		}
		m := MembershipConfig(c).WithDefaults()
		if m.JoinInterval != r.join || m.ConsensusTimeout != r.consensus || m.CommitTimeout != r.commit || m.ProbeInterval != r.search {
			t.Errorf("%s: join %v, consensus %v, commit %v, probe %v, want %v, %v, %v, %v", r.name,
				m.JoinInterval, m.ConsensusTimeout, m.CommitTimeout, m.ProbeInterval, r.join, r.consensus, r.commit, r.search)
		}
		if err := Check(c); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}
