// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
)

var terminationSignals = []os.Signal{os.Interrupt}

// tolerateHangup has nothing to do: there are no hangups.
func tolerateHangup(*slog.Logger) func() { return func() {} }
