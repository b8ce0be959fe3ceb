// SPDX-License-Identifier: Apache-2.0

package main

import "os"

// terminate asks a child to end. Windows has nothing softer than this.
var terminate = os.Kill
