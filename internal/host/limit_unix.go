// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host

import "golang.org/x/sys/unix"

// fileLimit is the process's limit of open files, which Go has raised as far as it may.
func fileLimit() uint64 {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 1024
	}
	return uint64(r.Cur)
}
