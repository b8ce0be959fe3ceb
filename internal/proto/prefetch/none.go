// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package prefetch

// Read asks for b, which will be read.
func Read([]byte) {}

// Write asks for b, which will be written.
func Write([]byte) {}

// Line asks for the cache line that p is in, which will be read.
func Line(*byte) {}
