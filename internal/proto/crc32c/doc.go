// SPDX-License-Identifier: Apache-2.0

// Package crc32c computes CRC-32C, the checksum of packets, faster than hash/crc32 where the processor can multiply polynomials
// of 256 or 512 bits at once (VPCLMULQDQ), and as hash/crc32 everywhere else. The results are the same.
//
// A checksum is the message, taken as a polynomial over the numbers 0 and 1, times x^32, modulo the polynomial P of CRC-32C. What
// matters is only what remains modulo P, so 128 bits of a message that have D bits behind them may be replaced by 128 other bits
// that are congruent to them times x^D: two multiplications of 64 bits by x^(D+64) mod P and x^D mod P, which are constants. This is
// folding, from Intel's white paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction". Here a message
// becomes 128 bits in two steps: folding forward by a fixed distance as long as there is much of it, and then each 128 bits by what they
// themselves are away from the end. Then the paper reduces 128 bits to 32 by more multiplications (Barrett); here the processor's own
// instruction for CRC-32C does that, in two steps of 64 bits.
//
// The constants are computed when the program starts, from P. Why this is not left to a library is in docs/decisions/0014-crc.md.
package crc32c
