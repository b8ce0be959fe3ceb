// SPDX-License-Identifier: Apache-2.0

//go:build unix

package transport

import (
	"errors"
	"net"
	"syscall"
)

// isNoBuffers reports that the kernel had no room for a datagram.
func isNoBuffers(err error) bool {
	return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}

// isNetworkError reports an error of a receive that says something about an earlier send, or asks to try again.
func isNetworkError(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EINTR)
}

// allowNeighbor lets a socket that asks for it share c's port from now on. It comes after c's own bind, so that two
// daemons never share a main socket's address by accident. If it does not take, the neighbor's bind fails and says so.
func allowNeighbor(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
}
