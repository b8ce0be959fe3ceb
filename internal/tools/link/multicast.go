// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// multicastFrom lets multicast packets leave through the interface that has the address from.
func multicastFrom(conn *net.UDPConn, from, group netip.Addr) error {
	ifi, err := findInterface(from.String())
	if err != nil {
		return err
	}
	if group.Unmap().Is4() {
		return ipv4.NewPacketConn(conn).SetMulticastInterface(ifi)
	}
	return ipv6.NewPacketConn(conn).SetMulticastInterface(ifi)
}
