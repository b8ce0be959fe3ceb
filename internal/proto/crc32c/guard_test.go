// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crc32c

import (
	"hash/crc32"
	"syscall"
	"testing"
)

// Nothing before or behind the bytes is read: there are pages there that nobody may read.
func TestBounds(t *testing.T) {
	page := syscall.Getpagesize()
	all, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(all)
	b := all[page : 2*page]
	copy(b, random(page))
	for _, guard := range [][]byte{all[:page], all[2*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T) {
		for n := range 1600 {
			for _, b := range [][]byte{b[:n], b[page-n:]} {
				if got, want := Sum(b), crc32.Checksum(b, castagnoli); got != want {
					t.Fatalf("%d bytes: %08x, want %08x", n, got, want)
				}
			}
		}
	})
}
