// SPDX-License-Identifier: Apache-2.0

package access

import "net/netip"

// Networks is a list of addresses that may come in, for the method IP.
type Networks []netip.Prefix

// UnixNetwork stands for clients of Unix sockets, which count as 0.0.0.0 in such a list (client-protocol 2.7).
var UnixNetwork = netip.PrefixFrom(netip.IPv4Unspecified(), 32)

// Contains reports whether a is in one of the networks. IPv4 addresses in IPv6 form count as IPv4.
func (n Networks) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
