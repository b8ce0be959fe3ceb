// SPDX-License-Identifier: Apache-2.0

package vsync

import "evensong/client"

// PrimaryChange says that the session is, or is no more, in a primary configuration of the daemons; see
// client.PrimaryChange. It comes to sessions with WithClient(client.WithPrimary()) only, as soon as the session beneath has it.
// A message that was held back for its view can have been delivered by the daemon before.
type PrimaryChange struct {
	client.PrimaryChange
}

func (p *PrimaryChange) sealed() {}
