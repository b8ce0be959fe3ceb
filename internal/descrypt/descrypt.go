// SPDX-License-Identifier: Apache-2.0

// Package descrypt is the traditional crypt(3) of Unix systems, by which the method PWORD judges passwords: 25 rounds of
// DES over a block of zeros, with the password as key and 12 bits of salt that exchange outputs of the expansion E. DES
// itself is that of FIPS 46-3, whose tables are in tables.go; crypto/des of the standard library has no place for the salt.
//
// It is here because existing password files and clients have nothing else. By today's measure it is weak: of a password
// 8 characters count, of each 7 bits, and a stolen file gives short ones away. Nothing else may be built on it.
//
// All functions are pure and may be called concurrently.
package descrypt

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"math/bits"
)

// HashSize is the length of a hash: 2 characters of salt, 11 of result.
const HashSize = 13

// alphabet are the 64 characters of salts and results, each for 6 bits.
const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrHash is in the error of Check for a string that is no hash of this kind.
var ErrHash = errors.New("not a traditional crypt hash")

// Check says what keeps s from being a hash; nil if nothing does.
func Check(s string) error {
	if len(s) != HashSize {
		return fmt.Errorf("%w: it has %d characters, want %d", ErrHash, len(s), HashSize)
	}
	for i := range len(s) {
		if six(s[i]) < 0 {
			return fmt.Errorf("%w: character %d is none of a-z A-Z 0-9 . /", ErrHash, i+1)
		}
	}
	return nil
}

// Match reports whether hash is that of password, in a time that does not tell how much of it is right. hash must have
// passed Check.
func Match(hash string, password []byte) bool {
	got := Hash(password, hash[:2])
	return subtle.ConstantTimeCompare([]byte(got), []byte(hash)) == 1
}

// Hash is the hash of password with a salt of two characters of the alphabet; it panics with others. A zero byte ends the
// password, and what follows the eighth byte does not count.
func Hash(password []byte, salt string) string {
	keys := schedule(password)
	mask := saltMask(salt)
	var l, r uint32 // the initial permutation of zeros is zeros
	for range 25 {
		for i := range keys {
			l, r = r, l^round(r, keys[i], mask)
		}
		l, r = r, l
	}
	block := permute(uint64(l)<<32|uint64(r), 64, finalPermutation[:])
	out := make([]byte, 0, HashSize)
	out = append(out, salt...)
	for i := range 10 {
		out = append(out, alphabet[block>>(58-6*i)&63])
	}
	out = append(out, alphabet[block<<2&63]) // four bits are left, and two zeros
	return string(out)
}

// six is the value of a character, or -1.
func six(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 38
	case c >= 'A' && c <= 'Z':
		return int(c-'A') + 12
	case c >= '.' && c <= '9':
		return int(c - '.')
	}
	return -1
}

// saltMask has a bit for each of the 24 pairs of outputs of E that the salt may exchange; the first pair is the leftmost.
func saltMask(salt string) uint32 {
	if len(salt) != 2 || six(salt[0]) < 0 || six(salt[1]) < 0 {
		panic(fmt.Sprintf("descrypt: salt %q", salt))
	}
	twelve := uint32(six(salt[0])) | uint32(six(salt[1]))<<6
	return bits.Reverse32(twelve) >> 8
}

// schedule makes the 16 round keys, of 48 bits each.
func schedule(password []byte) (keys [16]uint64) {
	var key uint64
	for i := range 8 {
		if i >= len(password) || password[i] == 0 {
			break
		}
		key |= uint64(password[i]&0x7f) << 1 << (56 - 8*i) // the last bit of each byte is parity, which counts for nothing
	}
	cd := permute(key, 64, keyChoice1[:])
	c, d := uint32(cd>>28), uint32(cd&(1<<28-1))
	for i, n := range keyShifts {
		c = (c<<n | c>>(28-n)) & (1<<28 - 1)
		d = (d<<n | d>>(28-n)) & (1<<28 - 1)
		keys[i] = permute(uint64(c)<<28|uint64(d), 56, keyChoice2[:])
	}
	return keys
}

// round is the function f of DES with E salted.
func round(r uint32, key uint64, mask uint32) uint32 {
	// E gives each half of four groups six bits: its own four, and the neighbors on both sides.
	var half [2]uint32
	for k := range 8 {
		half[k/4] = half[k/4]<<6 | bits.RotateLeft32(r, 4*k-1)>>26
	}
	swap := (half[0] ^ half[1]) & mask
	e := uint64(half[0]^swap)<<24 | uint64(half[1]^swap)
	e ^= key
	var out uint32
	for k := range 8 {
		out ^= substitution[k][e>>(42-6*k)&63]
	}
	return out
}

// permute takes the bits of v, which has size bits, in the order of table: 1 is the leftmost.
func permute(v uint64, size int, table []uint8) (out uint64) {
	for _, from := range table {
		out = out<<1 | v>>(size-int(from))&1
	}
	return out
}
