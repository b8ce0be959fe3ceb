// SPDX-License-Identifier: Apache-2.0

package packet

import "net/netip"

// Send is a datagram that must now be sent, in the order in which sends were listed. Bytes is a whole sealed packet
// and To the addresses that each get it; both belong to the machine and are valid until its next input. Ring says
// that a transport may send it once to a group address, where it knows one that should reach several of them.
//
// Whole says that the datagram must not be cut into fragments, neither here nor on its way: it asks whether the path carries
// one of its length, and what does not fit is lost without a word. A transport that cannot promise that leaves it out, so
// what arrives is always an answer.
//
// Calm says that nobody is known to wait for the datagram, so the host may hand up and write to a few clients first. Its bytes are
// valid until then, too.
type Send struct {
	To    []netip.AddrPort
	Bytes []byte
	Kind  Kind
	Ring  bool
	Whole bool
	Calm  bool
}
