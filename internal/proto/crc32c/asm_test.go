// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package crc32c

import (
	"hash/crc32"
	"math/bits"
	"testing"
)

func ways() (all []way, restore func()) {
	wide, narrow := has512, has256
	use := func(w, n bool) func() { return func() { has512, has256 = w, n } }
	return []way{
		{"512", wide, use(true, narrow)},
		{"256", narrow, use(false, true)},
		{"hash", true, use(false, false)},
	}, use(wide, narrow)
}

// A polynomial over the numbers 0 and 1: bit i is the coefficient of x^i.
type polynomial uint64

// p is P, of degree 32.
const p polynomial = 0x1_1edc_6f41

func (a polynomial) times(b polynomial) polynomial { // modulo P; both are of degree 31 at most
	var c polynomial
	for i := 31; i >= 0; i-- {
		c <<= 1
		c ^= c >> 32 * p
		c ^= b >> i & 1 * a
	}
	return c
}

func power(n int) polynomial { // x^n mod P
	square, r := polynomial(2), polynomial(1)
	for ; n > 0; n /= 2 {
		if n%2 == 1 {
			r = r.times(square)
		}
		square = square.times(square)
	}
	return r
}

// The constants are what the theory says, by other arithmetic.
func TestPowers(t *testing.T) {
	if got := polynomial(bits.Reverse32(crc32.Castagnoli)) | 1<<32; got != p {
		t.Fatalf("the polynomial of hash/crc32 is %x, want %x", got, p)
	}
	for i := range lanes {
		d := 128 * (lanes - 1 - i)
		for j, beyond := range []int{64, 0} {
			c := powers[2*i+j]
			got := polynomial(bits.Reverse64(c))
			// One x is in the instruction's product.
			if want := power(d + beyond); uint32(c) != 0 || got.times(2) != want {
				t.Errorf("lane %d, half %d: %016x is %x, times x is %x, want x^%d = %x", i, j, c, got, got.times(2), d+beyond, want)
			}
		}
	}
}
