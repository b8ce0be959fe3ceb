// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net"

	"golang.org/x/sys/unix"
)

// credentials is who has connected to a Unix socket, as the kernel knows it; it does not know the process.
func credentials(c *net.UnixConn) (uid, pid int, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *unix.Xucred
	if raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}) != nil || err != nil {
		return 0, 0, false
	}
	return int(cred.Uid), 0, true
}
