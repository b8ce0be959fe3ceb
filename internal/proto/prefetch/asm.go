// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package prefetch

// Read asks for b, which will be read.
func Read(b []byte) {
	if len(b) > 0 {
		read(&b[0], len(b))
	}
}

// Write asks for b, which will be written.
func Write(b []byte) {
	if len(b) > 0 {
		write(&b[0], len(b))
	}
}

// Line asks for the cache line that p is in, which will be read.
func Line(p *byte) { read(p, 1) }

// read asks for the cache lines that begin at p, and 64 bytes further, as long as that is less than n bytes behind p.
//
//go:noescape
func read(p *byte, n int)

//go:noescape
func write(p *byte, n int)
