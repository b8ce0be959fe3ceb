// SPDX-License-Identifier: Apache-2.0

// Package groups keeps the process groups of a cluster: who is a member of what, which views the members see, and
// which local sessions a message goes to.
//
// From below it uses one stream, the same at all daemons that move together: ordered messages and configurations
// (EVS-10, EVS-13). Joins, leaves, evictions and disconnects are ordered messages, so every daemon of a configuration holds the
// same table and nobody asks anybody (GRP-4). Above it offers views, transitional signals and self-leaves (client-protocol
// 5.3 to 5.5) and the recipients of each message. There are no timers: whatever happens here happens because
// something was delivered.
//
// # Table sets and the state exchange
//
// When configurations meet, their tables are merged (guarantees 8.5). The daemons that are known to hold one and the
// same table are a table set, the peers of each other. The first of them in ring order multicasts the table; a state
// says for which daemons it speaks. The exchange is over when complete states cover all members of the configuration.
// All daemons see the same states in the same order, so it is over at the same place in the order everywhere, and the
// new table is a function of these messages alone.
//
// A table set begins as all members of a configuration whose exchange ended, and each transitional configuration
// restricts it. It is not the same as the transitional set of the daemon level: two daemons whose exchange was
// aborted by a further change come from one ring and still hold different tables. Since members of a transitional set
// delivered the same messages (EVS-10), the exchange ended for all of them or for none, hence peers agree on who the
// peers are. That is why an exchange that was aborted needs no clean-up but forgetting what was received (P-29): the
// table in force is still the last agreed one, restricted to the peers, and its views are still the last ones that
// members saw.
//
// # States
//
//	Fresh        no configuration yet.
//	Stable       regular configuration, table agreed by all its members. Ended by a transitional configuration.
//	Transitional the last messages of the old ring arrive; the table still lists members out of reach. Ended by a
//	             regular configuration.
//	Exchange     regular configuration, states of all table sets not yet in. Ended by the last of them, or by a
//	             transitional configuration.
//	Aborted      transitional configuration that interrupted an exchange. Ended by a regular configuration.
//
//	input                  Fresh  Stable  Transitional  Exchange  Aborted
//	Open, Close            do     do      do            do        do
//	data                   drop   deliver deliver       queue     drop
//	join, leave, evict,
//	disconnect             drop   do      interim view  queue     drop
//	state for this ring    drop   drop    drop          do        drop
//	state for another      drop   drop    drop          drop      drop
//	transitional conf.     panic  signal  panic         abort     panic
//	regular conf.          begin  panic   begin         panic     begin
//
// Queue: a Reliable message may pass the last state (GRP-14), since its sender had that state already. Anything from
// Causal up cannot, as long as daemons originate nothing of their clients before Effects.Ready; if one does, the
// message is queued all the same, in order, and noted. Drop in Aborted: only a daemon that completed the exchange
// originates, and then all its peers of the transitional configuration completed it; so such a message comes from
// somebody out of reach, who sent it in a view that nobody here installs. The panics are breaches of EVS-6 by the
// layer below.
//
// # Names of views
//
// A view's id has three words (client-protocol 5.2, GRP-3): two name the configuration, one is an index that counts
// the view changes of the configuration over all its groups. Network views have index 1, the first join, leave or
// disconnect 2. What changes after the signal hashes the transitional configuration into the first word, because two
// sides of a cut may each make such views; the other two are those of the ring that is left, with the index going on, so
// that ids rise at each member.
//
// # Deviations
//
// Client-protocol 5.3 sorts the VS sets of a network view by the words of their previous ids, which put the original's
// sets in the order of their leaders' addresses. Here these words are hashes; the sets are in ring order of their first
// daemons, which is what clients saw.
package groups
