// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	"evensong/internal/proto/evs"
)

// Detail says more than a Cause: why a member joined, left or was disconnected. Only sessions in Evensong's own dialect
// learn it; on others it is DetailUnknown.
type Detail uint8

// The details (own-dialect 6.2).
const (
	// DetailUnknown: nothing more is known.
	DetailUnknown = Detail(evs.DetailNone)
	// DetailAsked: the member's own wish, a join, a leave, or a good-bye before it closed.
	DetailAsked = Detail(evs.DetailAsked)
	// DetailLost: its connection ended without a good-bye, as when a program crashes.
	DetailLost = Detail(evs.DetailLost)
	// DetailSlow: its daemon closed the session, because it did not read.
	DetailSlow = Detail(evs.DetailSlow)
	// DetailSilent: its daemon closed the session, because it gave no sign of life.
	DetailSilent = Detail(evs.DetailSilent)
	// DetailEvicted: a member of the group evicted it (leave), or an operator closed its session (disconnect).
	DetailEvicted = Detail(evs.DetailEvicted)
	// DetailProtocol: its daemon closed the session, because it broke the protocol.
	DetailProtocol = Detail(evs.DetailProtocol)
	// DetailShutdown: its daemon stops.
	DetailShutdown = Detail(evs.DetailShutdown)
	// DetailDaemons: daemons met, or some are gone, for several reasons or for one that is not known. This and those below
	// come with the cause network, and say what this session's daemon knows: members elsewhere may see another one.
	DetailDaemons = Detail(evs.DetailDaemons)
	// DetailGoodbye: daemons are gone that said good-bye.
	DetailGoodbye = Detail(evs.DetailGoodbye)
	// DetailVanished: daemons are gone without a word: they crashed, hang, or are cut off.
	DetailVanished = Detail(evs.DetailVanished)
	// DetailLeftOut: daemons are gone that live, because not all hear each other, or because they cannot receive.
	DetailLeftOut = Detail(evs.DetailLeftOut)
	// DetailMet: daemons met.
	DetailMet = Detail(evs.DetailMet)
)

var detailTexts = [...]string{
	DetailUnknown: "", DetailAsked: "by its own wish", DetailLost: "its connection was lost", DetailSlow: "it did not read",
	DetailSilent: "it gave no sign of life", DetailEvicted: "evicted", DetailProtocol: "it broke the protocol",
	DetailShutdown: "its daemon stops", DetailDaemons: "daemons met or went out of reach",
	DetailGoodbye: "daemons said good-bye", DetailVanished: "daemons vanished without a word",
	DetailLeftOut: "daemons were left out, as they did not receive, or not all hear each other", DetailMet: "daemons met",
}

// String is a few words for people; empty for DetailUnknown.
func (d Detail) String() string {
	if int(d) < len(detailTexts) {
		return detailTexts[d]
	}
	return fmt.Sprintf("detail %d", uint8(d))
}

// Peers tells that the other daemons to which a client could turn are others now; see Conn.Peers. Only sessions in
// Evensong's own dialect get it.
type Peers struct {
	List []Peer
}

// GroupName is empty: the event is about no group.
func (p *Peers) GroupName() string { return "" }

// String lists the daemons.
func (p *Peers) String() string {
	s := "other daemons:"
	for _, d := range p.List {
		s += " " + d.Name
	}
	if len(p.List) == 0 {
		s += " none"
	}
	return s
}

func (p *Peers) sealed() {}
