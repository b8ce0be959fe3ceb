// SPDX-License-Identifier: Apache-2.0

//go:build race

package order

// raceEnabled says whether the race detector is compiled in.
const raceEnabled = true
