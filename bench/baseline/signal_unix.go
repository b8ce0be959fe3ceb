// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import "syscall"

// terminate ends this program as Ctrl-C does, and asks a daemon to leave.
const terminate = syscall.SIGTERM
