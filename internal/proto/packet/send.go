// SPDX-License-Identifier: Apache-2.0

package packet

import "net/netip"

// Send is a datagram that must now be sent, in the order in which sends were listed. Bytes is a whole sealed packet
// and To the addresses that each get it; both belong to the machine and are valid until its next input. Ring says
// that a transport may send it once to a group address, where it knows one that should reach several of them.
type Send struct {
	To    []netip.AddrPort
	Bytes []byte
	Kind  Kind
	Ring  bool
}
