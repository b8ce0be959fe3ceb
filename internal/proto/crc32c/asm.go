// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package crc32c

import "hash/crc32"

const (
	// From so many bytes registers of 512 bits are used. For fewer they gain little, and where nothing used them for some microseconds
	// the processor first has to get them going, which costs more; short packets tend to come alone. fold512 takes no fewer.
	least512 = 512
	// From so many bytes those of 256 bits are used; fewer hash/crc32 does as quickly. fold256 takes no fewer than 32.
	least256 = 64
)

// has512 and has256 say what processor and system are able to do. Tests change them.
var has512, has256 = features()

// Update is the checksum of what crc is the checksum of, followed by b.
func Update(crc uint32, b []byte) uint32 {
	switch {
	case has512 && len(b) >= least512:
		return ^fold512(^crc, &b[0], len(b), powers)
	case has256 && len(b) >= least256:
		return ^fold256(^crc, &b[0], len(b), powers)
	}
	return crc32.Update(crc, castagnoli, b)
}

// fold512 and fold256 continue crc, a checksum before its last inversion, with the n bytes at p.
//
//go:noescape
func fold512(crc uint32, p *byte, n int, powers *[2 * lanes]uint64) uint32

//go:noescape
func fold256(crc uint32, p *byte, n int, powers *[2 * lanes]uint64) uint32

// lanes is for how many times 128 bits there are constants: for each of the last 512 bytes of a message.
const lanes = 32

// powers are the constants that fold 128 bits over the D bits that follow them, in pairs: x^(D+63) mod P for the first 64 bits, and
// x^(D-1) mod P for the others. Lane i is for D = 128 (lanes-1-i): the order of what they are for in a message, so that a register
// is filled with those for neighbors by one load, and the last lane is for the end.
//
// Each power is one less than what it makes up for, because of the order of bits: the first bit of a message, which is the highest
// coefficient, is the lowest bit in memory. The instruction multiplies in either order, but its product has 127 bits and begins at
// the lowest of 128, so read in this order it is times x.
var powers = derive()

// derive computes powers from P. They are on the heap because there 512 bytes begin where a cache line does.
func derive() *[2 * lanes]uint64 {
	const one = 1 << 31 // x^0; crc32.Castagnoli is P without its x^32, and has one in it
	t := new([2 * lanes]uint64)
	r := uint32(one^crc32.Castagnoli)<<1 | 1 // (P-1)/x, which is x^-1
	times := func(k int) {                   // x^k
		for range k {
			r = r>>1 ^ crc32.Castagnoli*(r&1)
		}
	}
	for i := lanes - 1; i >= 0; i-- {
		t[2*i+1] = uint64(r) << 32
		times(64)
		t[2*i] = uint64(r) << 32
		times(64)
	}
	return t
}

// features asks for what fold512 and fold256 need.
func features() (wide, narrow bool) {
	const (
		pclmulqdq = 1 << 1 // leaf 1, ECX
		sse42     = 1 << 20
		osxsave   = 1 << 27
		avx       = 1 << 28
		all1      = pclmulqdq | sse42 | osxsave | avx

		avx2     = 1 << 5 // leaf 7, EBX
		avx512f  = 1 << 16
		avx512dq = 1 << 17
		avx512bw = 1 << 30
		avx512vl = 1 << 31
		avx512   = avx512f | avx512dq | avx512bw | avx512vl

		vbmi       = 1 << 1 // leaf 7, ECX
		vpclmulqdq = 1 << 10

		ymm = 1<<1 | 1<<2 // XCR0: which registers the system saves
		zmm = ymm | 1<<5 | 1<<6 | 1<<7
	)
	if most, _, _ := cpuid(0); most < 7 {
		return false, false
	}
	if _, _, c := cpuid(1); c&all1 != all1 {
		return false, false
	}
	_, b, c := cpuid(7)
	if c&vpclmulqdq == 0 {
		return false, false
	}
	saved := xgetbv()
	wide = b&avx512 == avx512 && c&vbmi != 0 && saved&zmm == zmm
	narrow = b&avx2 != 0 && saved&ymm == ymm
	return wide, narrow
}

// cpuid is what the processor says of itself under leaf, subleaf 0.
func cpuid(leaf uint32) (eax, ebx, ecx uint32)

// xgetbv is the lower half of XCR0. Only where the processor has OSXSAVE.
func xgetbv() uint32
