// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Config is what the machine is started with, and changed to by Reconfigure.
type Config struct {
	Me            evs.ProcID
	Peers         []netip.AddrPort // configured addresses of daemons; my own may be among them
	Accelerated   bool             // the ring variant if I am representative
	TokenTimeout  time.Duration    // zero means 250ms; at least 12ms. All other timers derive from it.
	StoredRingSeq uint64           // highest ring sequence known to stable storage
	Stable        bool             // write ring sequences to stable storage (Stores, HandleStored); else they count as stored at once
	StoreAhead    int              // ring numbers stored ahead of need; zero means 64, negative none
	Listed        []string         // names of the daemons of the cluster; nil: whoever comes belongs to it (lists.go)
	Daemons       []string         // names of the daemons that should be there, for a note about who is missing; nil: nobody is missed
	Facts         []byte           // told to the others in each Join; at most packet.MaxFacts bytes
	Voters        []string         // names of the daemons of which a primary configuration has more than half (primary.go); nil: none is claimed to be primary

	// Timers. Zero means derived from the token timeout T, as given. Those marked * stretch with more than 16 daemons.
	JoinInterval     time.Duration // T/12 *: between Joins while gathering, and between retransmissions of a Commit token
	ConsensusTimeout time.Duration // 2T/5 *: how long those who are expected are waited for; at least four Join intervals
	StartHold        time.Duration // T *: how long a daemon that starts waits for the configured peers
	CommitTimeout    time.Duration // 2T/5, plus T/25 per member: for the two rotations of a Commit token
	RecoverTimeout   time.Duration // 40T: the longest recovery
	ProbeInterval    time.Duration // 4T/5 *: between probes
	ReachTimeout     time.Duration // 4T *: how long two members may be out of each other's reach; above T
	BackoffMin       time.Duration // 2T: first back-off
	BackoffMax       time.Duration // 16T: longest back-off
	StoreRetry       time.Duration // 8T: how long a daemon stays out after a failed stable write
}

const defaultTokenTimeout = 250 * time.Millisecond

// defaultStoreAhead is how many ring numbers are stored ahead. A stored number that was never used costs nothing, and what
// EVS-8 asks is only that no ring is installed above the stored one. So a disk that takes long to write, or cannot for a
// while, does not stand in the way of a new configuration.
const defaultStoreAhead = 64

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.TokenTimeout, defaultTokenTimeout)
	t := c.TokenTimeout
	def(&c.JoinInterval, t/12)
	def(&c.ConsensusTimeout, 2*t/5)
	def(&c.StartHold, t)
	def(&c.CommitTimeout, 2*t/5)
	def(&c.RecoverTimeout, 40*t)
	def(&c.ProbeInterval, 4*t/5)
	def(&c.ReachTimeout, 4*t)
	def(&c.BackoffMin, 2*t)
	def(&c.BackoffMax, 16*t)
	def(&c.StoreRetry, 8*t)
	switch {
	case c.StoreAhead == 0:
		c.StoreAhead = defaultStoreAhead
	case c.StoreAhead < 0:
		c.StoreAhead = 0
	}
	return c
}

// Validate returns all that is wrong with the configuration, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("membership: "+format, args...)) }
	if c.Me.Inc == 0 {
		bad("incarnation is zero")
	}
	if c.Me.Name == "" || len(c.Me.Name) > packet.MaxName {
		bad("name has %d bytes, want 1 to %d", len(c.Me.Name), packet.MaxName)
	}
	if len(c.Peers) > packet.MaxProcs {
		bad("%d peers, at most %d", len(c.Peers), packet.MaxProcs)
	}
	for _, a := range c.Peers {
		if !a.IsValid() || a.Port() == 0 {
			bad("peer address %v is not usable", a)
		}
	}
	if len(c.Facts) > packet.MaxFacts {
		bad("facts have %d bytes, at most %d", len(c.Facts), packet.MaxFacts)
	}
	if c.Voters != nil && (len(c.Voters) == 0 || len(c.Voters) > packet.MaxProcs) {
		bad("%d voters, 1 to %d are possible", len(c.Voters), packet.MaxProcs)
	}
	for i, v := range c.Voters {
		if v == "" || slices.Contains(c.Voters[:i], v) {
			bad("voter %q has no name, or is there twice", v)
		}
	}
	d := c.WithDefaults()
	if d.TokenTimeout < 12*time.Millisecond {
		bad("token timeout %v is below 12ms", d.TokenTimeout)
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"join interval", d.JoinInterval}, {"start hold", d.StartHold}, {"commit timeout", d.CommitTimeout}, {"recover timeout", d.RecoverTimeout},
		{"probe interval", d.ProbeInterval}, {"back-off minimum", d.BackoffMin}, {"store retry", d.StoreRetry},
	} {
		if t.d <= 0 {
			bad("%s %v is not positive", t.name, t.d)
		}
	}
	if d.ConsensusTimeout < 4*d.JoinInterval {
		bad("consensus timeout %v is below four join intervals of %v", d.ConsensusTimeout, d.JoinInterval)
	}
	if d.CommitTimeout < 2*d.JoinInterval {
		bad("commit timeout %v leaves no time to retransmit (join interval %v)", d.CommitTimeout, d.JoinInterval)
	}
	if d.ReachTimeout <= d.TokenTimeout || d.ReachTimeout < 2*d.ProbeInterval {
		bad("reach timeout %v is not above the token timeout %v and two probe intervals of %v", d.ReachTimeout, d.TokenTimeout, d.ProbeInterval)
	}
	if d.BackoffMax < d.BackoffMin {
		bad("back-off maximum %v is below its minimum %v", d.BackoffMax, d.BackoffMin)
	}
	return errors.Join(errs...)
}
