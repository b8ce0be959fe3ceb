// SPDX-License-Identifier: Apache-2.0

package main

import "os"

var terminationSignals = []os.Signal{os.Interrupt}

// hangups never has one: there are none here.
func hangups() (<-chan os.Signal, func()) { return nil, func() {} }

// surviveClosedPipes does nothing: there is no such signal.
func surviveClosedPipes() {}
