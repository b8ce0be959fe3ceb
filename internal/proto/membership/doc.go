// SPDX-License-Identifier: Apache-2.0

// Package membership agrees on the next configuration: discovery, gather, commit. It is the membership protocol of
// Totem (TOCS 1995, 6.2; guarantees 8.3) with another rule for who belongs together, as a pure machine.
//
// From below it uses packets (Join, probe, Commit token) sent to addresses. To order, above, it offers Steps: install
// a ring of one, leave the ring, stand by the old ring's state as reported, recover on a new ring. It neither orders
// nor recovers messages; order tells it about lost tokens, blamed members and completed installs.
//
// # Who belongs together
//
// Each daemon keeps a row for every daemon it knows: what it is doing, its ring, the highest ring sequence it knows,
// whom it hears, and a version that counts the Joins and probes it has sent. Joins and probes carry all fresh rows;
// the higher version wins. So all daemons that reach each other see nearly the same matrix of who hears whom.
// Two daemons are mutual if each one's row lists the other.
//
// Deviation: SRP95 agrees on two sets, proc and fail, that only grow. With one-way or non-transitive reachability that
// ends in configurations that never settle (LIVE-5). Here a proposal is the clique that holds me when all candidates
// are cut into mutual cliques, greedily and in ProcID order, so that equal matrices give equal proposals. Every local
// veto (a suspected member, a bad link, a superseded incarnation) is expressed as "I do not hear it" in one's own row:
// the matrix is the only input, and the others see the veto.
//
// Candidates are first those whom we expect: the members of the ring that ends, and those with whom a merge was
// meant. All of them agreed: consensus without waiting for a timer. When the consensus timer has run out, candidates
// are those who are known to be gathering just now. Consensus is SRP95's: each member of my proposal has sent me, in
// this gather, a Join with exactly my proposal.
//
// The lowest member then forms the ring: number 1 + the highest known to any member, and a Commit token that goes
// round twice. In the first rotation everybody promises (StepPromise) and begins to store the number, unless that was
// done ahead; in the second, everybody with the number stored forwards and goes to recovery (StepRecover); the
// representative when it is back.
//
// # Joins that count
//
// A daemon's highest known ring sequence rises when it promises itself to a ring, and never otherwise. A ring's number
// is above all that its members knew. Hence a Join of a member with at least my ring's number was sent after it had
// promised itself to my ring, and says that it left; one with a lower number is old, and ignored however late it
// comes (pitfalls P-14, P-23 to P-25).
//
// # Who belongs to the cluster
//
// Files list the daemons of a cluster, and may differ while a change of them travels: lists.go has the rule.
//
// # States and inputs
//
//	              Starting   Gather           Commit              Recover           Operational     Leaving, Left
//	Join, probe   row only   row, proposal    row; gather if a    as in Commit      row; gather if  drop
//	                                          member left                           left, merge
//	Commit, 1st   drop       promise if it    complete, renew,    drop              drop            drop
//	                         is my proposal   or drop (repeated)
//	Commit, 2nd   drop       drop             forward when        drop (repeated)   drop            drop
//	                                          stored; recover
//	Stored        singleton  note             maybe forward       note              note            note
//	TokenLost     ignore     ignore           ignore (no ring)    gather            gather          ignore
//	Suspect       ignore     veto             veto, gather        veto, gather      veto, gather    ignore
//	Token         ignore     ignore           ignore              it went through   ignore          ignore
//	Installed     impossible impossible       impossible          operational       impossible      ignore
//	Leave         left       good-bye         good-bye            good-bye          good-bye        ignore
//	Reconfigure   taken, in every state; it moves nothing by itself
//	limit timer   try again  settle           gather              gather            none            none
//
// # Timers
//
// All derive from the token timeout T, 250 ms unless configured: Joins every T/12, consensus after 2T/5, a probe every
// 4T/5. With more than 16 daemons these stretch in proportion, so that the traffic of one daemon stays bounded. The
// Commit timeout is 2T/5 and T/25 per member. Silence means deafness after six probe intervals; if the peer is known
// to gather, after one and a half consensus timeouts.
//
// # Failures that repeat
//
// An attempt that fails twice with the same members makes those who saw no progress treat their ring predecessor as
// not heard for a while: the link from it is what failed them. After six failures all do, so that the next attempt is
// another one in any case (8.4.7). Daemons that keep talking but whom a ring could not keep are met again only after
// a back-off that doubles, the first time excepted; silence in between ends it, since then the circumstances have
// changed. The back-off holds back who starts a merge, not who is invited to one.
package membership
