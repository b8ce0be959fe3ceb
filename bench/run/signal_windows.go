// SPDX-License-Identifier: Apache-2.0

package run

import "os"

// Terminate asks a child to end. Windows has nothing softer than this.
var Terminate = os.Kill
