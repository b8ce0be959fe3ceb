// SPDX-License-Identifier: Apache-2.0

//go:build unix

package client

import (
	"net"
	"syscall"
)

// directWriter returns a function that writes to nc as much as it takes without waiting, and returns how much that was; nil if
// nc is not a socket of the system. It reports no error: the next write has it, too.
func directWriter(nc net.Conn) func([]byte) int {
	var raw syscall.RawConn
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, err = nc.SyscallConn()
	case *net.UnixConn:
		raw, err = nc.SyscallConn()
	}
	if raw == nil || err != nil {
		return nil
	}
	var b []byte
	var n int
	write := func(fd uintptr) bool {
		n = writeNow(int(fd), b)
		return true
	}
	return func(frame []byte) int {
		b, n = frame, 0
		_ = raw.Write(write)
		b = nil
		return max(n, 0)
	}
}
