// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package host

import "syscall"

// noReuse takes back what the net package sets on listeners: the permission to bind an address that connections in their
// last minute still hold.
func noReuse(_, _ string, c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
	}); err != nil {
		return err
	}
	return failed
}
