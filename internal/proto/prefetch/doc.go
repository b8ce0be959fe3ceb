// SPDX-License-Identifier: Apache-2.0

// Package prefetch asks the processor to bring memory into its caches before it is needed. It never waits, and nothing but time
// depends on it: where there is no such instruction, or nothing written for it here, it does nothing.
//
// It is for memory that was left alone for so long that it is in no near cache: a packet that waited behind a gap, a buffer that was
// last used two rotations ago. A copy of 1.4 KB to or from such memory takes several times as long as one that stays in the caches, and most of
// that is waiting for one line after the other. What it gives is in docs/decisions/0013-prefetch.md.
package prefetch
