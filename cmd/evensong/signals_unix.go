// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

var terminationSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}

// tolerateHangup keeps SIGHUP from ending the daemon without a good-bye: a closed terminal or an operator who expects a
// reload would look like a crash. It returns what ends it.
func tolerateHangup(log *slog.Logger) func() {
	ch, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ch, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-ch:
				log.Info("hangup ignored", "reason", "this daemon does not reload its configuration while it runs; restart it")
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
	}
}
