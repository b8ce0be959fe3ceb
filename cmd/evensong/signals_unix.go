// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"os"
	"os/signal"
	"syscall"
)

var terminationSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}

// surviveClosedPipes has writing to a pipe that nobody reads fail, instead of ending the program with SIGPIPE.
func surviveClosedPipes() { signal.Ignore(syscall.SIGPIPE) }

// hangups gives a channel that says when SIGHUP has come, and what ends that. Several that nobody has taken yet are one.
// From here on a closed terminal does not end the daemon.
func hangups() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	return ch, func() { signal.Stop(ch) }
}
