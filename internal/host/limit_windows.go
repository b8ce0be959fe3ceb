// SPDX-License-Identifier: Apache-2.0

package host

// fileLimit is practically none here.
func fileLimit() uint64 { return 1 << 20 }
