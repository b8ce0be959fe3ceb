// SPDX-License-Identifier: Apache-2.0

// Package flush is view synchrony at one client as a pure machine: the views of a group change only with the consent of
// its members, and every message is delivered in the view in which it was sent. It speaks the protocol of the original's
// flush library byte for byte (client-protocol 8), so both kinds of client can be members of one group.
//
// From below it gets what an ordinary session with membership messages on gets: views, transitional signals,
// self-leaves, messages, in the daemon's order. To the user above it gives views, flush requests, signals, self-leaves
// and messages. Package vsync wires it to a session. There is one Machine per session, with one record per group.
//
// # A view change
//
// A membership message of the daemon opens a pending view. The user is asked to flush: to finish what it wants to send in
// the view it knows. It answers; the answer goes to the group as FLUSH_OK with the id of the pending view. When all
// members of the pending view have answered it is installed, that is, given to the user. A FLUSH_RECV of everybody then
// tells that nobody is still in the old view. Further membership messages in the meantime queue up behind the pending
// view; one whose member has gone without an answer is discarded, and its successor carries the cause network (VS-9).
//
// # States and inputs
//
// A record has two states. The first says how far the membership is: Joining until the first view is installed, Joined,
// Leaving from the user's leave until the self-leave. The second is about the view:
//
//	Steady     everybody is known to be in my view; nothing is pending
//	Authorize  a view is pending and the user has not answered
//	Agree      the user has answered, or was not asked because it is joining; answers of the others are collected
//	Verify     a view is installed, others may not have it yet; nothing is pending
//
// A record begins in Agree: a newcomer answers by itself.
//
//	input            none     Steady    Authorize  Agree          Verify
//	view             create   ask       queue      queue (1)      ask
//	signal           drop     deliver once in a view, in each state
//	self-leave       drop     forget the record and deliver, in each state
//	FLUSH_OK         drop     note      note       note, install  note
//	FLUSH_RECV       drop     ignore    ignore     count          count, Steady
//	message          drop     deliver, or drop if its sender is not in my view (2), in each state
//	leave refused    drop     Joined again, in each state
//	user: join       send     refuse    refuse     refuse         refuse
//	user: leave      refuse   send (3)  send (3)   send (3)       send (3)
//	user: flush      refuse   refuse    Agree (4)  refuse         refuse
//	user: multicast  refuse   send (3)  wrap (5)   refuse         wrap (5)
//	Advance          nothing  nothing   nothing    name, evict    nothing
//
//	(1) If the view that was being agreed is discarded, the answer for the next one goes out at once: the user is asked
//	    only once between two views.
//	(2) Or has gone from it. A wrapped message of the view being agreed waits for its installation.
//	(3) Only when Joined, else refused.
//	(4) Not when Leaving: the self-leave will end the matter. No request is made then either.
//	(5) As (3). Services below causal can overtake FLUSH_OKs, so here they name their view (VULNERABLE).
//
// # What differs from the original
//
// Nothing from the network is fatal: what does not fit is dropped and noted, where the original ends the process. A
// wrapped message that names another view than the one in which it would be shown is dropped (VS-1). FLUSH_OK counts
// from members only, FLUSH_RECV once per member. What is kept is bounded (limits.go); at a bound the group is given up:
// the machine leaves it and says so, because to go on with a gap would break what was promised. After FlushTimeout the
// members that have not answered are named, and the daemon is asked to remove them if it can (VS-8).
package flush
