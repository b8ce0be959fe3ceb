// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"os"
	"syscall"
)

var terminationSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}
