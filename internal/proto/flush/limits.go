// SPDX-License-Identifier: Apache-2.0

package flush

// What a record keeps for the others is bounded. At maxPending and maxPostponedBytes the group is given up; at the
// other bounds the answer is dropped, which can delay a view but not falsify one.
const (
	// maxPending is how many views may be pending. A member that has not answered through so many changes blocks the
	// group; leaving it helps the others.
	maxPending = 4096
	// maxPostponedBytes bounds messages that wait for their view to be installed. Their senders have the view already,
	// so what is missing is on its way; a megabyte is much.
	maxPostponedBytes = 64 << 20
	// postponedOverhead is what a postponed message counts for on top of its data.
	postponedOverhead = 256
	// maxEarly is how many answers are kept for view ids that no membership message has named yet.
	maxEarly = 1 << 16
	// maxEarlyAge is after how many membership messages such answers are dropped (client-protocol 8.3, step 4).
	maxEarlyAge = 200
)
