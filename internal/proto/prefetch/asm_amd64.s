// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func read(p *byte, n int)
TEXT ·read(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX

line:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	SUBQ $64, CX
	JGT  line
	RET

// func write(p *byte, n int)
TEXT ·write(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX

line:
	// PREFETCHW (AX), which the assembler does not know. Processors that do not know it either take it for nothing.
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08
	ADDQ $64, AX
	SUBQ $64, CX
	JGT  line
	RET
