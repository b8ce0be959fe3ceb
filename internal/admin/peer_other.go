// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package admin

import "net"

// credentials knows nobody: the permissions of the socket's file decide who may connect.
func credentials(*net.UnixConn) (uid, pid int, ok bool) { return 0, 0, false }
