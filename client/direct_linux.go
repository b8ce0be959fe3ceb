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

// readNow reads from a socket that does not block, likewise.
func readNow(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
