// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// Primary says whether what a session gets belongs to a primary configuration of the daemons: one that has more than half of
// the configured daemons, so that behind no cut can there be another one. It is known in Evensong's own dialect, to
// sessions that asked with WithPrimary.
//
// It speaks of places in the order, not of moments: a session whose daemon is cut off hears of it when the daemon has
// noticed, after the token timeout and what it takes to agree on the next configuration. By then the others can have a primary
// configuration of their own, and have gone on. And it speaks of daemons: that a message was delivered in a primary
// configuration does not say that any other program has taken it, or will. It is no commit.
type Primary uint8

const (
	// PrimaryUnclaimed: nothing is known. The daemons have no rule, or the session did not ask, or speaks the original's protocol.
	PrimaryUnclaimed = Primary(evs.PrimaryUnclaimed)
	// PrimaryNo: not in a primary configuration; also from the moment on at which a configuration ends until the next begins.
	PrimaryNo = Primary(evs.PrimaryNo)
	// PrimaryYes: in a primary configuration.
	PrimaryYes = Primary(evs.PrimaryYes)
)

// String is "unclaimed", "no" or "yes".
func (p Primary) String() string { return evs.Primary(p).String() }

// PrimaryChange says what holds for all events behind it, until the next one. It comes to sessions of WithPrimary only: first of
// all, if the daemons have a rule, and then whenever it changes. Groups whose members all stay see nothing else of a
// change between daemons.
type PrimaryChange struct {
	Primary Primary
}

// GroupName is empty: the event is about no group.
func (p *PrimaryChange) GroupName() string { return "" }

// String says what holds from here on.
func (p *PrimaryChange) String() string { return fmt.Sprintf("primary: %v", p.Primary) }

func (p *PrimaryChange) sealed() {}
