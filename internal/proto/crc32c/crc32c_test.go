// SPDX-License-Identifier: Apache-2.0

package crc32c

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
)

// A way is one of those in which a checksum is computed: the registers used, or hash/crc32.
type way struct {
	name string
	has  bool   // the processor can
	use  func() // from now on
}

// each runs a test by each way.
func each(t *testing.T, test func(t *testing.T)) {
	ways, restore := ways()
	defer restore()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			if !w.has {
				t.Skip("not on this processor")
			}
			w.use()
			test(t)
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// naive divides bit by bit.
func naive(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ crc32.Castagnoli*(crc&1)
		}
	}
	return ^crc
}

// RFC 3720 B.4. Its messages are too short for anything but hash/crc32, so each is also repeated, and compared with a division bit by
// bit.
func TestVectors(t *testing.T) {
	up, down := make([]byte, 32), make([]byte, 32)
	for i := range up {
		up[i], down[31-i] = byte(i), byte(i)
	}
	read, err := hex.DecodeString(strings.ReplaceAll("01c00000 00000000 00000000 00000000 14000000 00000400 "+
		"00000014 00000018 28000000 00000000 02000000 00000000", " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T) {
		for _, row := range []struct {
			name string
			b    []byte
			want uint32
		}{
			{"nothing", nil, 0},
			{"32 bytes of zeros", make([]byte, 32), 0x8a9136aa},
			{"32 bytes of ones", bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
			{"32 bytes of incrementing 00..1f", up, 0x46dd794e},
			{"32 bytes of decrementing 1f..00", down, 0x113fdb5c},
			{"SCSI Read (10)", read, 0xd9963a56},
			{"digits", []byte("123456789"), 0xe3069283},
		} {
			if got := Sum(row.b); got != row.want {
				t.Errorf("%s: %08x, want %08x", row.name, got, row.want)
			}
			for _, n := range []int{64, 100, 511, 1472} {
				long := bytes.Repeat(append(row.b, 'x'), n)[:n]
				if got, want := Sum(long), naive(long); got != want {
					t.Errorf("%s, again and again, %d bytes: %08x, want %08x", row.name, n, got, want)
				}
			}
		}
	})
}

// Every length up to more than a datagram, wherever in a cache line it begins, after whatever came before.
func TestLengths(t *testing.T) {
	all := random(70_000)
	lengths := []int{4095, 4096, 4097, 8192, 8999, 9000, 65_000, 65_506, 65_507}
	for n := range 2101 {
		lengths = append(lengths, n)
	}
	each(t, func(t *testing.T) {
		for _, n := range lengths {
			for _, at := range []int{0, 1, 63, n % 64, 7 * n % 64, 31 * n % 61} {
				b, crc := all[at:at+n], uint32(n)*0x9e3779b1
				if got, want := Update(crc, b), crc32.Update(crc, castagnoli, b); got != want {
					t.Fatalf("%d bytes at %d after %08x: %08x, want %08x", n, at, crc, got, want)
				}
			}
		}
	})
}

// One bit at a time: every place of a message counts by its own power.
func TestBits(t *testing.T) {
	b := make([]byte, 1472)
	each(t, func(t *testing.T) {
		for _, n := range []int{64, 88, 300, 512, 1472} {
			for bit := range 8 * n {
				b[bit/8] ^= 1 << (bit % 8)
				if got, want := Sum(b[:n]), crc32.Checksum(b[:n], castagnoli); got != want {
					t.Fatalf("%d bytes, bit %d: %08x, want %08x", n, bit, got, want)
				}
				b[bit/8] = 0
			}
		}
	})
}

// In pieces of any length it is the same as at once.
func TestPieces(t *testing.T) {
	all := random(20_000)
	want := crc32.Checksum(all, castagnoli)
	each(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			crc, rest := uint32(0), all
			var cut []int
			for len(rest) > 0 {
				n := min(rnd.IntN(1<<rnd.IntN(13)), len(rest))
				crc, rest, cut = Update(crc, rest[:n]), rest[n:], append(cut, n)
			}
			if crc != want {
				t.Fatalf("cut into %d: %08x, want %08x", cut, crc, want)
			}
		}
	})
}

// Nothing is allocated.
func TestAllocs(t *testing.T) {
	b := random(1472)
	each(t, func(t *testing.T) {
		if n := testing.AllocsPerRun(10, func() { Sum(b) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// Any message, cut anywhere, has the checksum that hash/crc32 gives, by each way.
func FuzzUpdate(f *testing.F) {
	ways, restore := ways()
	f.Cleanup(restore)
	for _, n := range []int{0, 63, 64, 95, 511, 512, 515, 1472} {
		f.Add(uint32(n), n/3, random(n))
	}
	f.Fuzz(func(t *testing.T, crc uint32, cut int, b []byte) {
		if cut < 0 || cut > len(b) {
			cut = len(b)
		}
		want := crc32.Update(crc, castagnoli, b)
		for _, w := range ways {
			if !w.has {
				continue
			}
			w.use()
			if got := Update(Update(crc, b[:cut]), b[cut:]); got != want {
				t.Errorf("%s: %d bytes after %08x, cut at %d: %08x, want %08x", w.name, len(b), crc, cut, got, want)
			}
			if got := Update(crc, b); got != want {
				t.Errorf("%s: %d bytes after %08x: %08x, want %08x", w.name, len(b), crc, got, want)
			}
		}
	})
}

// BenchmarkSum compares the ways at the lengths of tokens, small packets, packets and slots.
func BenchmarkSum(b *testing.B) {
	ways, restore := ways()
	defer restore()
	for _, n := range []int{100, 300, 1472, 65_000} {
		p := random(n)
		for _, w := range ways {
			b.Run(fmt.Sprintf("%d/%s", n, w.name), func(b *testing.B) {
				if !w.has {
					b.Skip("not on this processor")
				}
				w.use()
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					Sum(p)
				}
			})
		}
	}
}
