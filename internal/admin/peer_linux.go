// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net"

	"golang.org/x/sys/unix"
)

// credentials is who has connected to a Unix socket, as the kernel knows it.
func credentials(c *net.UnixConn) (uid, pid int, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return 0, 0, false
	}
	return int(cred.Uid), int(cred.Pid), true
}
