// SPDX-License-Identifier: Apache-2.0

package main

import "os"

var terminationSignals = []os.Signal{os.Interrupt}
