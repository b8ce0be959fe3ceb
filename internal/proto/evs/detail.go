// SPDX-License-Identifier: Apache-2.0

package evs

import "fmt"

// Detail says more than a Cause: why a member joined, left or disconnected. Clients of the original's protocol do not
// see it. The numbers are those of docs/wire/own-dialect.md and never change their meaning.
type Detail uint8

// The details.
const (
	// DetailNone: nothing more is known. Also what an unknown number of a later version means.
	DetailNone Detail = iota
	// DetailAsked: the member's own wish, a join, a leave, or a good-bye before it closed.
	DetailAsked
	// DetailLost: its connection ended without a good-bye, as when a client crashes.
	DetailLost
	// DetailSlow: its daemon closed the session, because it did not read what waited for it.
	DetailSlow
	// DetailSilent: its daemon closed the session, because it gave no sign of life for too long.
	DetailSilent
	// DetailEvicted: another member of the group evicted it (leave), or an operator closed its session (disconnect).
	DetailEvicted
	// DetailProtocol: its daemon closed the session, because it broke a rule of the protocol.
	DetailProtocol
	// DetailShutdown: its daemon stops.
	DetailShutdown
	// DetailDaemons: daemons met, or some are gone, for several reasons or for one that is not known. The cause is
	// network, as of those below, which say what the receiver's daemon knows: others may know more or less.
	DetailDaemons
	// DetailGoodbye: daemons are gone that said good-bye.
	DetailGoodbye
	// DetailVanished: daemons are gone without a word.
	DetailVanished
	// DetailLeftOut: daemons are gone that live, because not all hear each other, or because they cannot receive.
	DetailLeftOut
	// DetailMet: daemons met.
	DetailMet
)

var detailNames = [...]string{
	DetailNone: "none", DetailAsked: "asked", DetailLost: "connection lost", DetailSlow: "slow reader", DetailSilent: "silent",
	DetailEvicted: "evicted", DetailProtocol: "protocol error", DetailShutdown: "daemon stops", DetailDaemons: "daemons",
	DetailGoodbye: "daemons said good-bye", DetailVanished: "daemons vanished", DetailLeftOut: "daemons left out", DetailMet: "daemons met",
}

// String is the detail in lower-case words.
func (d Detail) String() string {
	if int(d) < len(detailNames) {
		return detailNames[d]
	}
	return fmt.Sprintf("Detail(%d)", uint8(d))
}
