// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"net"

	"golang.org/x/sys/windows"
)

// isNoBuffers reports that the system had no room for a datagram.
func isNoBuffers(err error) bool {
	return errors.Is(err, windows.WSAENOBUFS) || errors.Is(err, windows.WSAEWOULDBLOCK)
}

// isNetworkError reports an error of a receive that says something about an earlier send (Windows reports an ICMP
// answer as a reset of the socket), or that the datagram was longer than any packet.
func isNetworkError(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAENETRESET) ||
		errors.Is(err, windows.WSAEMSGSIZE) || errors.Is(err, windows.WSAEHOSTUNREACH)
}

// allowNeighbor has nothing to do: a wildcard address may stand beside a specific one here.
func allowNeighbor(*net.UDPConn) {}
