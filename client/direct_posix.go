// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package client

import "syscall"

// writeNow writes to a socket that does not block. It returns less than one if nothing was written.
func writeNow(fd int, b []byte) int {
	n, _ := syscall.Write(fd, b)
	return n
}

// readNow reads from a socket that does not block. One read has one target here, so more stays as it is.
func readNow(fd int, b, _ []byte) (int, error) { return syscall.Read(fd, b) }
