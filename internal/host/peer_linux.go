// SPDX-License-Identifier: Apache-2.0

package host

import (
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerUser is the user at the other end of a Unix socket.
func peerUser(nc net.Conn) (uid uint32, ok bool) {
	u, isUnix := nc.(*net.UnixConn)
	if !isUnix {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, ok = cred.Uid, true
		}
	})
	return uid, ok && err == nil
}

// restrictSocket gives a Unix socket its permissions before it has a path, so that nobody gets in while they are not yet
// those of the file.
func restrictSocket(mode fs.FileMode) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var inner error
		if err := c.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), uint32(mode.Perm())) }); err != nil {
			return err
		}
		return inner
	}
}
