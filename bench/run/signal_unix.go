// SPDX-License-Identifier: Apache-2.0

//go:build unix

package run

import "syscall"

// Terminate asks a child to end, a daemon to leave; a program that is to end as with Ctrl-C ends with it, too.
const Terminate = syscall.SIGTERM
