// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// Of powers (asm.go), the constants for D = 2048 are at 240, those for D = 1024 at 368. Those for the last k bytes of a message are the last k.
// Bytes keep their order: the first of a message is the lowest of a register. $0x00 multiplies the first 64 bits of each lane, $0x11 the others.

// The numbers from 0 to 63.
DATA bytes<>+0(SB)/8, $0x0706050403020100
DATA bytes<>+8(SB)/8, $0x0f0e0d0c0b0a0908
DATA bytes<>+16(SB)/8, $0x1716151413121110
DATA bytes<>+24(SB)/8, $0x1f1e1d1c1b1a1918
DATA bytes<>+32(SB)/8, $0x2726252423222120
DATA bytes<>+40(SB)/8, $0x2f2e2d2c2b2a2928
DATA bytes<>+48(SB)/8, $0x3736353433323130
DATA bytes<>+56(SB)/8, $0x3f3e3d3c3b3a3938
GLOBL bytes<>(SB), RODATA|NOPTR, $64

// func fold512(crc uint32, p *byte, n int, powers *[64]uint64) uint32
//
// The message is taken with up to 63 zeros in front, which change nothing, so that it is whole blocks of 64 bytes: at least eight.
TEXT ·fold512(SB), NOSPLIT, $0-36
	MOVL crc+0(FP), AX
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), BX
	MOVQ powers+24(FP), DI

	// CX: zeros in front. The first 64 bytes are moved up by as many; what leaves the register is in the second block, too. Loading them
	// from before the message with a mask would be simpler, but where that touches a page that was never written to it takes 200 ns.
	MOVQ         BX, CX
	NEGQ         CX
	ANDQ         $63, CX
	MOVQ         $-1, DX
	SHLQ         CX, DX
	KMOVQ        DX, K1
	VPBROADCASTB CX, Z4
	VMOVDQU64    bytes<>(SB), Z5
	VPSUBB       Z4, Z5, Z5
	VMOVD        AX, X8
	VPXORQ       (SI), Z8, Z0 // the checksum so far is added to the first four bytes
	VPERMB.Z     Z0, Z5, K1, Z0
	SUBQ         CX, SI
	ADDQ         CX, BX

	// Z9: the rest of the checksum so far, for the second block, if the first has fewer than four bytes of the message.
	SUBQ    $64, CX
	NEGQ    CX
	MOVL    $4, DX
	CMPQ    CX, DX
	CMOVQHI DX, CX
	SHLL    $3, CX
	SHRQ    CX, AX
	VMOVD   AX, X9

	// Four blocks at a time, folded by 256 bytes. BX: bytes behind those that were loaded.
	VPXORQ          64(SI), Z9, Z1
	VMOVDQU64       128(SI), Z2
	VMOVDQU64       192(SI), Z3
	VBROADCASTI32X4 240(DI), Z8
	SUBQ            $256, BX

loop:
	ADDQ       $256, SI
	VPCLMULQDQ $0x00, Z8, Z0, Z4
	VPCLMULQDQ $0x11, Z8, Z0, Z0
	VPCLMULQDQ $0x00, Z8, Z1, Z5
	VPCLMULQDQ $0x11, Z8, Z1, Z1
	VPCLMULQDQ $0x00, Z8, Z2, Z6
	VPCLMULQDQ $0x11, Z8, Z2, Z2
	VPCLMULQDQ $0x00, Z8, Z3, Z7
	VPCLMULQDQ $0x11, Z8, Z3, Z3
	VPTERNLOGQ $0x96, (SI), Z4, Z0 // the sum of three
	VPTERNLOGQ $0x96, 64(SI), Z5, Z1
	VPTERNLOGQ $0x96, 128(SI), Z6, Z2
	VPTERNLOGQ $0x96, 192(SI), Z7, Z3
	SUBQ       $256, BX
	CMPQ       BX, $256
	JAE        loop

	// At most three blocks are left. From here each block has its own constants: those of the first begin 256+BX bytes before the end.
	SUBQ       BX, DI
	VMOVDQU64  256(DI), Z4
	VMOVDQU64  320(DI), Z5
	VMOVDQU64  384(DI), Z6
	VMOVDQU64  448(DI), Z8
	VPCLMULQDQ $0x00, Z4, Z0, Z7
	VPCLMULQDQ $0x11, Z4, Z0, Z0
	VPCLMULQDQ $0x00, Z5, Z1, Z4
	VPCLMULQDQ $0x11, Z5, Z1, Z1
	VPCLMULQDQ $0x00, Z6, Z2, Z5
	VPCLMULQDQ $0x11, Z6, Z2, Z2
	VPCLMULQDQ $0x00, Z8, Z3, Z6
	VPCLMULQDQ $0x11, Z8, Z3, Z3
	VPTERNLOGQ $0x96, Z0, Z1, Z7
	VPTERNLOGQ $0x96, Z2, Z3, Z4
	VPTERNLOGQ $0x96, Z5, Z6, Z7
	VPXORQ     Z4, Z7, Z7
	ADDQ       $256, SI
	ADDQ       $512, DI

rest:
	SUBQ       $64, BX
	JB         sum
	VMOVDQU64  (SI), Z0
	VMOVDQU64  (DI), Z4
	VPCLMULQDQ $0x00, Z4, Z0, Z1
	VPCLMULQDQ $0x11, Z4, Z0, Z0
	VPTERNLOGQ $0x96, Z0, Z1, Z7
	ADDQ       $64, SI
	ADDQ       $64, DI
	JMP        rest

sum:
	// What the four lanes of Z7 stand for is at the end of the message now, so their sum is congruent to it.
	VEXTRACTI64X4 $1, Z7, Y0
	VPXOR         Y0, Y7, Y7
	VEXTRACTI128  $1, Y7, X0
	VPXOR         X0, X7, X7
	VMOVQ         X7, AX
	VPEXTRQ       $1, X7, DX
	VZEROUPPER
	XORL          CX, CX
	CRC32Q        AX, CX
	CRC32Q        DX, CX
	MOVL          CX, ret+32(FP)
	RET

// func fold256(crc uint32, p *byte, n int, powers *[64]uint64) uint32
//
// As fold512, with blocks of 32 bytes. Bytes cannot be moved up without more ado, so what is no whole block is taken from the front first.
TEXT ·fold256(SB), NOSPLIT, $0-36
	MOVL crc+0(FP), AX
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), BX
	MOVQ powers+24(FP), DI

	TESTQ  $1, BX
	JZ     two
	CRC32B (SI), AX
	INCQ   SI

two:
	TESTQ  $2, BX
	JZ     four
	CRC32W (SI), AX
	ADDQ   $2, SI

four:
	TESTQ  $4, BX
	JZ     eight
	CRC32L (SI), AX
	ADDQ   $4, SI

eight:
	TESTQ  $8, BX
	JZ     sixteen
	CRC32Q (SI), AX
	ADDQ   $8, SI

sixteen:
	TESTQ  $16, BX
	JZ     whole
	CRC32Q (SI), AX
	CRC32Q 8(SI), AX
	ADDQ   $16, SI

whole:
	ANDQ  $~31, BX
	VMOVD AX, X0
	VPXOR (SI), Y0, Y0 // the checksum so far is added to the first four bytes
	CMPQ  BX, $256
	JAE   long

	// Fewer than eight blocks: from the first each has its own constants.
	SUBQ  BX, DI
	ADDQ  $512, DI
	SUBQ  $32, BX
	VPXOR Y7, Y7, Y7
	JMP   first

long:
	// Four blocks at a time, folded by 128 bytes.
	VMOVDQU        32(SI), Y1
	VMOVDQU        64(SI), Y2
	VMOVDQU        96(SI), Y3
	VBROADCASTI128 368(DI), Y8
	SUBQ           $128, BX

loop:
	ADDQ       $128, SI
	VPCLMULQDQ $0x00, Y8, Y0, Y4
	VPCLMULQDQ $0x11, Y8, Y0, Y0
	VPCLMULQDQ $0x00, Y8, Y1, Y5
	VPCLMULQDQ $0x11, Y8, Y1, Y1
	VPCLMULQDQ $0x00, Y8, Y2, Y6
	VPCLMULQDQ $0x11, Y8, Y2, Y2
	VPCLMULQDQ $0x00, Y8, Y3, Y7
	VPCLMULQDQ $0x11, Y8, Y3, Y3
	VPXOR      (SI), Y4, Y4
	VPXOR      32(SI), Y5, Y5
	VPXOR      64(SI), Y6, Y6
	VPXOR      96(SI), Y7, Y7
	VPXOR      Y4, Y0, Y0
	VPXOR      Y5, Y1, Y1
	VPXOR      Y6, Y2, Y2
	VPXOR      Y7, Y3, Y3
	SUBQ       $128, BX
	CMPQ       BX, $128
	JAE        loop

	// At most three blocks are left.
	SUBQ       BX, DI
	VMOVDQU    384(DI), Y4
	VMOVDQU    416(DI), Y5
	VMOVDQU    448(DI), Y6
	VMOVDQU    480(DI), Y8
	VPCLMULQDQ $0x00, Y4, Y0, Y7
	VPCLMULQDQ $0x11, Y4, Y0, Y0
	VPCLMULQDQ $0x00, Y5, Y1, Y4
	VPCLMULQDQ $0x11, Y5, Y1, Y1
	VPCLMULQDQ $0x00, Y6, Y2, Y5
	VPCLMULQDQ $0x11, Y6, Y2, Y2
	VPCLMULQDQ $0x00, Y8, Y3, Y6
	VPCLMULQDQ $0x11, Y8, Y3, Y3
	VPXOR      Y0, Y7, Y7
	VPXOR      Y1, Y4, Y4
	VPXOR      Y2, Y5, Y5
	VPXOR      Y3, Y6, Y6
	VPXOR      Y4, Y7, Y7
	VPXOR      Y5, Y6, Y6
	VPXOR      Y6, Y7, Y7
	ADDQ       $128, SI
	ADDQ       $512, DI

rest:
	SUBQ    $32, BX
	JB      sum
	VMOVDQU (SI), Y0

first:
	VMOVDQU    (DI), Y4
	VPCLMULQDQ $0x00, Y4, Y0, Y1
	VPCLMULQDQ $0x11, Y4, Y0, Y0
	VPXOR      Y1, Y0, Y0
	VPXOR      Y0, Y7, Y7
	ADDQ       $32, SI
	ADDQ       $32, DI
	JMP        rest

sum:
	VEXTRACTI128 $1, Y7, X0
	VPXOR        X0, X7, X7
	VMOVQ        X7, AX
	VPEXTRQ      $1, X7, DX
	VZEROUPPER
	XORL         CX, CX
	CRC32Q       AX, CX
	CRC32Q       DX, CX
	MOVL         CX, ret+32(FP)
	RET

// func cpuid(leaf uint32) (eax, ebx, ecx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-20
	MOVL leaf+0(FP), AX
	XORL CX, CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	RET

// func xgetbv() uint32
TEXT ·xgetbv(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
