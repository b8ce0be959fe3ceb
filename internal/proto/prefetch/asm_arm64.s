// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func read(p *byte, n int)
TEXT ·read(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1

line:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUBS $64, R1
	BGT  line
	RET

// func write(p *byte, n int)
TEXT ·write(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1

line:
	PRFM (R0), PSTL1KEEP
	ADD  $64, R0
	SUBS $64, R1
	BGT  line
	RET
