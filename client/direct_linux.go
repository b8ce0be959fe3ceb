// SPDX-License-Identifier: Apache-2.0

package client

import (
	"syscall"
	"unsafe"
)

// writeNow writes to a socket that does not block, so the runtime need not be told: telling it wakes its monitor, which is asleep
// in an idle process, and that takes longer than the write. It returns less than one if nothing was written.
func writeNow(fd int, b []byte) int {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// readNow reads from a socket that does not block, likewise, into b and then into more.
func readNow(fd int, b, more []byte) (int, error) {
	var n uintptr
	var errno syscall.Errno
	if len(more) == 0 {
		n, _, errno = syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	} else {
		v := [2]syscall.Iovec{{Base: unsafe.SliceData(b)}, {Base: unsafe.SliceData(more)}}
		v[0].SetLen(len(b))
		v[1].SetLen(len(more))
		n, _, errno = syscall.RawSyscall(syscall.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&v)), uintptr(len(v)))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
