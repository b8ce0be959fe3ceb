// SPDX-License-Identifier: Apache-2.0

//go:build unix

package client

import (
	"io"
	"net"
	"os"
	"syscall"
)

// directWriter returns a function that writes to nc as much as it takes without waiting, and returns how much that was; nil if
// nc is not a socket of the system. It reports no error: the next write has it, too.
func directWriter(nc net.Conn) func([]byte) int {
	raw := rawConn(nc)
	if raw == nil {
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

// directReader returns a function that reads from nc as nc.Read does, with the same errors. What b has no room for may go to
// more, in the same call; how many bytes came is said of both together.
func directReader(nc net.Conn) func(b, more []byte) (int, error) {
	raw := rawConn(nc)
	if raw == nil {
		return plainReader(nc)
	}
	var b, more []byte
	var n int
	var failed error
	read := func(fd uintptr) bool {
		for {
			n, failed = readNow(int(fd), b, more)
			switch failed {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
				return false
			}
			return true
		}
	}
	return func(buf, next []byte) (int, error) {
		if len(buf) == 0 {
			return 0, nil
		}
		b, more, n, failed = buf, next, 0, nil
		err := raw.Read(read)
		b, more = nil, nil
		switch {
		case err != nil: // closed, or too late: nc says it in its own words
			return nc.Read(buf)
		case failed != nil:
			return 0, &net.OpError{Op: "read", Net: nc.LocalAddr().Network(), Source: nc.LocalAddr(), Addr: nc.RemoteAddr(), Err: os.NewSyscallError("read", failed)}
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// rawConn is the socket of the system that nc is, or nil.
func rawConn(nc net.Conn) syscall.RawConn {
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
	return raw
}
