// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

const (
	// Two daemons start alone and merge to ring 3.
	boot = `
		a start; a store 1; a conf 1 a
		b start; b store 2; b conf 2 b
		a store 3; b store 3
		a trans 1>3 a; a conf 3 a,b
		b trans 2>3 b; b conf 3 a,b
	`
	// They go on together to ring 6, or each alone.
	ready    = `; a store 6; b store 6;`
	together = ready + `
		a trans 3>6 a,b; a conf 6 a,b
		b trans 3>6 a,b; b conf 6 a,b
	`
	apart = `
		a store 4; a trans 3>4 a; a conf 4 a
		b store 5; b trans 3>5 b; b conf 5 b
	`
	// Two of three daemons are primary together.
	voting = `
		a start; a store 9; a conf 1 a no; b start; b store 9; b conf 2 b no
		a trans 1>3 a no; a conf 3 a,b yes; b trans 2>3 b no; b conf 3 a,b yes
	`
	// A message of b's first ring comes to a in ring 3.
	late = `
		a start; a store 1; a conf 1 a; b start; b store 2; b conf 2 b; b send 2/7 reliable; b dlv 2/7; a store 3; b store 3
		a trans 1>3 a; a conf 3 a,b; b trans 2>3 b; b conf 3 a,b; a dlv 2/7
	`
	// Two sessions in one group.
	group = `
		x@a connect; y@b connect
		x@a join g; x@a view g 3.1 join:x@a x@a
		y@b join g; y@b view g 3.2 join:y@b x@a,y@b
		x@a view g 3.2 join:y@b x@a,y@b
	`
	// A third joins, though it writes no history: the next view, of its join, at both.
	third = `
		x@a view g 3.3 join:z@c x@a,y@b,z@c
		y@b view g 3.3 join:z@c x@a,y@b,z@c
	`
	// Two members with view synchrony.
	vgroup = `
		x@a vview g 3.1 join x@a
		x@a vreq g; x@a vok g; x@a vview g 3.2 join x@a,y@b came x@a; y@b vview g 3.2 join x@a,y@b came y@b
	`
	// Both flush; then they go on together, or each alone.
	vflush    = `; x@a vreq g; x@a vok g; y@b vreq g; y@b vok g;`
	vtogether = vflush + `x@a vview g 3.3 join x@a,y@b,z@c came x@a,y@b; y@b vview g 3.3 join x@a,y@b,z@c came x@a,y@b`
)

var goodTraces = []struct{ name, text string }{
	{"boot", boot},
	{"messages", boot + `a send 3/1 safe; b send 3/2 agreed; b send 3/2.1 fifo; a dlv 3/1; a dlv 3/2; a dlv 3/2.1; b dlv 3/1; b dlv 3/2; b dlv 3/2.1` + together},
	{"safe after the signal", boot + `a send 3/1 safe` + ready + `
		a trans 3>6 a,b; a dlv 3/1; a conf 6 a,b; b trans 3>6 a,b; b dlv 3/1; b conf 6 a,b`},
	{"early reliable on both sides of the signal", boot + `a send 3/1 safe; b send 3/2 reliable; a dlv 3/2` + ready + `
		a trans 3>6 a,b; a dlv 3/1; a conf 6 a,b; b trans 3>6 a,b; b dlv 3/1; b dlv 3/2; b conf 6 a,b`},
	{"each keeps its own", boot + `a send 3/1 agreed; b send 3/2 agreed; a dlv 3/1; a store 4; b store 5
		a trans 3>4 a; a conf 4 a; b trans 3>5 b; b dlv 3/2; b conf 5 b`},
	{"death excuses", boot + `a send 3/1 safe; a dlv 3/1; b fail`},
	{"restart", boot + `a fail; a2 start 3; a2 store 4; a2 conf 4 a2; b store 6; a2 store 6; a2 trans 4>6 a2; a2 conf 6 a2,b; b trans 3>6 b; b conf 6 a2,b`},
	{"tokens", boot + `a token 3 1; b token 3 2; a token 3 3; b lost 3 2; a lost 3 3`},
	{"primary", voting + `x@a connect; x@a told yes; b trans 3>5 b no; b conf 5 b no; a trans 3>6 a no; x@a told no; a conf 6 a,c yes; x@a told yes`},
	{"group", group + third},
	{"group messages", group + `x@a cast m1 safe g; x@a cast m2 reliable g discard; y@b cast m3 agreed x@a; y@b got m2
		x@a got m1; y@b got m1; x@a got m3` + third},
	{"cut and merge", group + `x@a cast m1 agreed g; x@a got m1; x@a sig g 3.2; y@b sig g 3.2; x@a view g 4.1 net x@a; y@b view g 5.1 net y@b
		x@a view g 6.1 net x@a|y@b; y@b view g 6.1 net x@a|y@b`},
	{"interim view", group + `x@a sig g 3.2; x@a view g 4.1 net x@a|y@b|z@a; x@a sig g 4.1; x@a view g 5.1 net x@a,z@a`},
	{"leave and return", group + `y@b leave g; x@a view g 3.3 leave:y@b x@a; y@b self g; y@b join g; y@b view g 3.4 join:y@b x@a,y@b; x@a view g 3.4 join:y@b x@a,y@b`},
	{"a message may pass a network view elsewhere", group + `x@a cast m1 reliable h; x@a view g 4.1 net x@a,y@b; y@b view g 4.1 net x@a,y@b`},
	{"skipped while apart", group + `x@a cast m1 fifo g; x@a cast m2 fifo g; x@a cast m3 fifo g; y@b got m1; x@a got m1; x@a sig g 3.2; y@b sig g 3.2
		x@a view g 4.1 net x@a; x@a got m2; y@b view g 5.1 net y@b; x@a view g 6.1 net x@a|y@b; y@b view g 6.1 net x@a|y@b; x@a got m3; y@b got m3`},
	{"skipped while apart, and that hidden by leaving", group + `x@a cast m1 fifo g; x@a leave g; x@a cast m2 fifo g; x@a cast m3 fifo g; y@b got m1; x@a got m1
		y@b view g 3.3 leave:x@a y@b; x@a self g; x@a join g; y@b view g 6.1 join:x@a x@a,y@b; x@a view g 6.1 join:x@a x@a,y@b; x@a got m3; y@b got m3`},
}

func TestGoodTraces(t *testing.T) {
	for _, g := range goodTraces {
		if r := Check(&History{Records: parseHistory(t, g.text)}); !r.OK() {
			t.Errorf("%s:\n%s", g.name, render(r))
		}
	}
}

// badTraces: the first rule is the one the trace is about; the others cannot but be broken as well.
var badTraces = []struct {
	rules string
	text  string
	opt   func(*History)
}{
	{rules: "TRACE", text: group + `x@a bye; x@a cast m1 agreed h`},
	{rules: "TRACE", text: group + `x@a cast m1 agreed h; y@b cast m1 agreed h`},

	{rules: "EVS-1", text: boot + `a dlv 3/1 b agreed`},
	{rules: "EVS-1", text: boot + `a send 3/1 agreed; b dlv 3/1 a safe`},
	{rules: "EVS-1", text: boot + `a send 3/1 agreed; b dlv 3/1 b agreed`},
	{rules: "EVS-1", text: boot + `a dlv 3/1; a send 3/1 agreed`},
	{rules: "EVS-2", text: boot + `a send 3/1 agreed; a dlv 3/1; a dlv 3/1`},
	{rules: "EVS-2", text: boot + `a send 3/1 agreed; b send 3/1 agreed`},
	{rules: "EVS-3", text: late},
	{rules: "EVS-3", text: late, opt: func(h *History) { h.Records[len(h.Records)-1].Ring = evs.RingID{} }},
	{rules: "EVS-4 EVS-6 EVS-18", text: boot + `c start; c store 9; c conf 9 d`},
	{rules: "EVS-5", text: `a start; a store 1; a conf 1 a; b start; b store 2; b conf 2 b; a store 3; b store 3
		a trans 1>3 a; a conf 3 a,b; b trans 2>3 b; b conf 3 b,a`},
	{rules: "EVS-6", text: `a start; a store 1; a conf 1 a; a store 3; a conf 3 a,b`},
	{rules: "EVS-6", text: boot + `a fail; a store 4`},
	{rules: "EVS-6", text: boot + `a store 4; a trans 3>4 a; a token 4 1; a conf 4 a`},
	{rules: "EVS-7", text: boot + ready + `b store 5; a trans 3>6 a,b; a conf 6 a,b; b trans 3>5 b; b conf 5 b; b trans 5>6 b; b conf 6 a,b`},
	{rules: "EVS-7 EVS-5", text: boot + ready + `a trans 3>6 a; a conf 6 a,b; b trans 3>6 a,b; b conf 6 a,b`},
	{rules: "EVS-8", text: boot + `a trans 3>4 a; a conf 4 a`},
	{rules: "EVS-8", text: boot + `a store 4; a trans 3>2' a; a conf 2' a`},
	{rules: "EVS-9", text: boot + `a send 3/1 agreed` + apart},
	{rules: "EVS-9", text: boot + `a send 3/1 agreed`, opt: quiet},
	{rules: "EVS-10", text: boot + `a send 3/1 agreed; a dlv 3/1` + together},
	{rules: "EVS-10", text: boot + `a send 3/1 reliable; a dlv 3/1` + together},
	{rules: "EVS-10", text: boot + `a send 3/1 reliable; a dlv 3/1`, opt: quiet},
	{rules: "EVS-10 EVS-13", text: boot + `a send 3/1 agreed; a dlv 3/1` + ready + `
		a trans 3>6 a,b; a conf 6 a,b; b trans 3>6 a,b; b dlv 3/1; b conf 6 a,b`},
	{rules: "EVS-11", text: boot + `a send 3/1 fifo; a send 3/2 fifo; b dlv 3/2`},
	{rules: "EVS-11", text: boot + `a send 3/1 reliable; a send 3/2 fifo; b dlv 3/2; b dlv 3/1`},
	{rules: "EVS-12", text: boot + `a send 3/1 causal; b dlv 3/1; b send 3/2 causal; a dlv 3/2`},
	{rules: "EVS-13", text: boot + `a send 3/1 causal; b send 3/2 causal; a dlv 3/1; a dlv 3/2; b dlv 3/2; b dlv 3/1`},
	{rules: "EVS-14", text: boot + `b send 3/1 agreed; a send 3/2 agreed` + ready + `
		b trans 3>6 a,b; b dlv 3/1; b dlv 3/2; b conf 6 a,b; a trans 3>6 a,b; a dlv 3/2; a fail`},
	{rules: "EVS-14 EVS-19", text: boot + `b send 3/1 agreed; a send 3/2 agreed; a dlv 3/2; b dlv 3/1; b dlv 3/2`},
	{rules: "EVS-15", text: boot + `a send 3/1 safe; a dlv 3/1; a fail; b store 5; b trans 3>5 b; b conf 5 b`},
	{rules: "EVS-15 EVS-10", text: boot + `a send 3/1 safe` + ready + `
		a trans 3>6 a,b; a dlv 3/1; a conf 6 a,b; b trans 3>6 a,b; b conf 6 a,b`},
	{rules: "EVS-16", text: `a start; a store 1; a conf 1 a; b start; b store 2; b conf 2 b; a store 3; b store 3; c start; c fail
		a trans 1>3 a; a conf 3 a,b,c; b trans 2>3 b; b conf 3 a,b,c; a send 3/1 safe; a dlv 3/1; b dlv 3/1`},
	{rules: "EVS-17 EVS-15", text: boot + `a send 3/1 safe; a dlv 3/1` + apart},
	{rules: "PC-7", text: voting + `c start; c store 9; c conf 4 c yes`},
	{rules: "PC-7", text: voting + `b trans 3>5 b yes`},
	{rules: "PC-7", text: voting + `a trans 3>6 a,b no; a conf 6 a,b yes; b trans 3>6 a,b no; b conf 6 a,b no`},
	{rules: "PC-7", text: voting + `x@a connect; x@a told yes; x@a told yes`},
	{rules: "PC-7", text: voting + `x@a connect; x@a told no`, opt: quiet},
	{rules: "EVS-18", text: boot + `a fail; a2 start 3; a2 store 4; a2 conf 4 a2; b store 6; b trans 3>6 b; b conf 6 a,a2,b`},
	{rules: "EVS-18 EVS-7", text: boot + `a fail; a2 start 3; a2 store 4; a2 conf 4 a2; a2 store 6; a2 trans 4>6 a2; a2 conf 6 a2,b
		b store 6; b trans 3>6 a2,b; b conf 6 a2,b`},
	{rules: "EVS-18 EVS-8", text: boot + `a fail; a2 start 3; a2 store 4; a2 conf 2' a2`},
	{rules: "EVS-19 EVS-14", text: boot + `a send 3/1 agreed; b send 3/2 agreed; a dlv 3/1; b dlv 3/2`},
	{rules: "EVS-20", text: boot + `a token 3 7; b token 3 7`},
	{rules: "EVS-20", text: boot + `a token 3 7; a lost 3 7; a token 3 9`},

	{rules: "GRP-1", text: group + `x@a view g 3.3 leave:x@a y@b`},
	{rules: "GRP-1", text: group + `w@a connect; w@a sig g 3.2`},
	{rules: "GRP-1 GRP-13", text: `x@a connect; x@a view g 3.1 join:x@a x@a`},
	{rules: "GRP-2", text: group + `x@a view g 3.3 join:z@c x@a,y@b,z@c; y@b view g 3.3 join:z@c y@b,x@a,z@c`},
	{rules: "GRP-3", text: group + `x@a view g 2.9 leave:y@b x@a`},
	{rules: "GRP-3", text: group + `x@a view g 3.0 leave:y@b x@a`},
	{rules: "GRP-3", text: `x@a connect; x@a join g; x@a view g 3.1 join:x@a x@a; x@a bye; x2@a connect; x2@a join g; x2@a view g 3.1 join:x@a x@a`},
	{rules: "GRP-4", text: group + `x@a join h; x@a view h 3.3 join:x@a x@a; y@b join h; y@b cast m1 agreed g
		x@a got m1; x@a view h 3.4 join:y@b x@a,y@b; y@b view h 3.4 join:y@b x@a,y@b; y@b got m1`},
	{rules: "GRP-5", text: group + `x@a view g 4.1 net x@a; y@b view g 5.1 net y@b; x@a view g 6.1 net x@a,y@b; y@b view g 6.1 net x@a,y@b`},
	{rules: "GRP-5", text: group + `x@a view g 3.3 join:z@c x@a,z@c`},
	{rules: "GRP-5", text: boot + group + together + `x@a view g 6.1 net x@a|y@b; y@b view g 6.1 net x@a|y@b`},
	{rules: "GRP-6", text: group + `x@a cast m1 agreed g; x@a got m1` + third},
	{rules: "GRP-6", text: group + `x@a cast m1 agreed g; x@a got m1; x@a sig g 3.2; y@b sig g 3.2; y@b got m1
		x@a view g 4.1 net x@a,y@b; y@b view g 4.1 net x@a,y@b`},
	{rules: "GRP-6", text: group + `x@a view g 4.1 net x@a,y@b; y@b view g 4.1 net x@a,y@b; x@a cast m1 fifo g; x@a got m1
		x@a view g 5.1 net x@a,y@b; y@b view g 5.1 net x@a,y@b`},
	{rules: "GRP-6", text: group + `x@a cast m1 agreed g; x@a got m1`, opt: quiet},
	{rules: "GRP-7", text: group + `x@a sig g 3.2; x@a sig g 3.2`},
	{rules: "GRP-7", text: group + `x@a sig g 3.1`},
	{rules: "GRP-7", text: group + `x@a sig g 3.2; x@a view g 3.3 join:z@c x@a,y@b,z@c`},
	{rules: "GRP-7", text: group + `x@a cast m1 safe g; x@a got m1; x@a view g 4.1 net x@a; y@b view g 5.1 net y@b`},
	{rules: "GRP-7", text: group + `x@a sig g 3.2`, opt: quiet},
	{rules: "GRP-8", text: group + `x@a cast m1 agreed g; y@b got m1; y@b got m1`},
	{rules: "GRP-8", text: group + `y@b got m1 x@a agreed g`},
	{rules: "GRP-8", text: group + `x@a cast m1 agreed h; y@b got m1`},
	{rules: "GRP-8", text: group + `x@a cast m1 agreed g; y@b got m1 x@a safe g`},
	{rules: "GRP-9", text: group + `x@a cast m1 fifo g; x@a cast m2 fifo g,h; y@b got m2; y@b got m1`},
	{rules: "GRP-9", text: group + `x@a cast m1 agreed g; y@b cast m2 agreed g,h; x@a got m1; x@a got m2; y@b got m2; y@b got m1`},
	{rules: "GRP-10", text: group + `x@a cast m1 fifo g; x@a cast m2 fifo g; x@a cast m3 fifo g; y@b got m1; y@b got m3; x@a bye`},
	{rules: "GRP-10", text: group + `x@a cast m1 fifo g; y@b view g 3.3 disc:x@a y@b; y@b got m1; x@a bye`},
	{rules: "GRP-11", text: group + `x@a cast m1 agreed g; y@b leave g; y@b self g; y@b got m1`},
	{rules: "GRP-11", text: group + `y@b leave g; y@b self g; y@b view g 3.3 net y@b`},
	{rules: "GRP-12", text: group + `y@b bye`, opt: quiet},
	{rules: "GRP-12", text: group + `y@b join h`, opt: quiet},
	{rules: "GRP-13", text: group + `w@a connect; w@a cast m1 agreed g; w@a got m1`},
	{rules: "GRP-13", text: group + `w@a connect; w@a cast m1 agreed g; x@a view g 3.3 join:w@a x@a,y@b,w@a`},
	{rules: "GRP-14", text: group + `x@a cast m1 reliable g; x@a got m1; x@a view g 4.1 net x@a,y@b; y@b view g 4.1 net x@a,y@b; y@b got m1`},
	{rules: "GRP-14", text: group + `y@b view g 4.1 net x@a,y@b; y@b cast m1 reliable g; x@a got m1; x@a view g 4.1 net x@a,y@b`},
	{rules: "GRP-15", text: `x@a connect; x2@a connect`},
	{rules: "GRP-15", text: `longname@a connect`, opt: func(h *History) { h.MaxPrivateName = 4 }},
	{rules: "GRP-15", text: `x@a connect`, opt: func(h *History) { h.Records[0].Asked = "xyz" }},
	{rules: "GRP-16", text: group + `x@a cast m1 fifo g; x@a cast m2 fifo g; x@a cast m3 fifo g; y@b got m1; y@b got m3`},
	{rules: "GRP-16", text: group + `y@b cast m2 agreed g; y@b cast m3 fifo g; x@a got m3`},
	{rules: "GRP-18", text: group + `x@a cast m1 agreed g discard; x@a got m1`},
	{rules: "GRP-18", text: group + `w@a connect; w@a join g; x@a view g 3.3 join:w@a x@a,w@a,y@b; y@b view g 3.3 join:w@a x@a,w@a,y@b; w@a view g 3.3 join:w@a x@a,w@a,y@b
		x@a cast m1 agreed g discard; w@a got m1
		x@a view g 3.4 join:z@c x@a,w@a,y@b,z@c; w@a view g 3.4 join:z@c x@a,w@a,y@b,z@c; y@b view g 3.4 join:z@c x@a,w@a,y@b,z@c`},

	{rules: "VS-1", text: vgroup + `x@a vcast m1 fifo g 3.1; y@b vgot m1`},
	{rules: "VS-1", text: vgroup + `y@b vgot m1 x@a fifo g`},
	{rules: "VS-1", text: vgroup + `x@a vcast m1 fifo g 3.2 y@b; x@a vgot m1`},
	{rules: "VS-1", text: vgroup + `x@a vcast m1 fifo g 3.2; x@a vcast m1 fifo g 3.2`},
	{rules: "VS-2", text: vgroup + `x@a vcast m1 fifo g 3.2; x@a vgot m1` + vtogether},
	{rules: "VS-2", text: vgroup + `x@a vcast m1 fifo g 3.2; x@a vgot m1; y@b vgot m1; y@b vgot m1`},
	{rules: "VS-2", text: vgroup + `x@a vcast m1 fifo g 3.2; x@a vgot m1`, opt: quiet},
	{rules: "VS-2 VS-6", text: vgroup + `y@b vcast m1 fifo g 3.2 x@a,y@b; x@a vgot m1` + vtogether},
	{rules: "VS-3", text: vgroup + `x@a vreq g; x@a vreq g`},
	{rules: "VS-3", text: vgroup + `x@a vok g`},
	{rules: "VS-3", text: vgroup + `x@a vreq g; x@a vok g; x@a vok g`},
	{rules: "VS-3", text: vgroup + `x@a vsig g; x@a vsig g`},
	{rules: "VS-3", text: vgroup + `x@a vreq g; x@a vview g 3.3 leave x@a came x@a`},
	{rules: "VS-3", text: vgroup + `x@a vreq g; x@a vok g; x@a vview g 3.3 join x@a,y@b,z@c came x@a,y@b`},
	{rules: "VS-4", text: vgroup + `x@a vreq g; x@a vok g; x@a vcast m1 fifo g 3.2`},
	{rules: "VS-4", text: vgroup + `z@c vcast m1 fifo g 3.2`},
	{rules: "VS-5", text: vgroup + `x@a vgot m1 z@c fifo g; z@c vview g 3.3 join z@c; z@c vcast m1 fifo g 3.2`},
	{rules: "VS-5", text: `y@b vgot m1 x@a fifo g`},
	{rules: "VS-6 VS-7", text: `x@a vview g 3.1 join y@b came x@a`},
	{rules: "VS-6", text: vgroup + `x@a vcast m1 fifo g 3.2` + vtogether},
	{rules: "VS-6", text: vgroup + `x@a vcast m1 fifo g 3.2`, opt: quiet},
	{rules: "VS-7", text: vgroup + vflush + `x@a vview g 3.3 join x@a,y@b,z@c came y@b`},
	{rules: "VS-7", text: vgroup + vflush + `x@a vview g 3.3 join x@a,y@b,z@c came x@a,y@b,z@c`},
	{rules: "VS-7", text: vgroup + vflush + `x@a vview g 6.1 net x@a,y@b came x@a; y@b vview g 6.1 net x@a,y@b came x@a,y@b`},
	{rules: "VS-7", text: vgroup + vflush + `x@a vview g 6.1 net x@a,y@b came x@a,y@b; y@b vview g 5.1 net y@b came y@b; y@b vreq g; y@b vok g
		y@b vview g 6.1 net x@a,y@b came y@b`},
	{rules: "VS-9", text: vgroup + `x@a vreq g; x@a vok g; y@b vreq g; y@b vok g; x@a vview g 3.4 leave x@a,y@b came x@a,y@b`},
	{rules: "VS-9", text: vgroup + vtogether + vflush + `x@a vview g 4.1 net x@a,y@b came x@a; y@b vview g 4.1 net y@b,x@a came y@b`},
	{rules: "VS-9", text: vgroup + vtogether + vflush + `x@a vview g 3.4 leave x@a,y@b came x@a,y@b; y@b vview g 3.4 net x@a,y@b came x@a,y@b`},
	{rules: "VS-9", text: vgroup + vflush + `x@a vview g 4.1 net x@a,y@b came x@a; y@b vview g 4.2 net x@a,y@b came y@b` + vflush + `
		x@a vview g 4.2 net x@a,y@b came x@a; y@b vview g 4.1 net x@a,y@b came y@b`},
}

func quiet(h *History) { h.Quiescent = true }

func TestBadTraces(t *testing.T) {
	killed := map[string]bool{}
	for i, b := range badTraces {
		h := &History{Records: parseHistory(t, b.text)}
		if b.opt != nil {
			b.opt(h)
		}
		r := Check(h)
		want := strings.Fields(b.rules)
		for _, v := range r.Violations {
			if v.Rule == want[0] && len(v.Window) == 0 {
				t.Errorf("row %d: %s: violation without a window: %s", i, b.rules, v)
			}
		}
		if got := r.Violated(); slices.Contains(got, want[0]) {
			killed[want[0]] = true
		}
		got := r.Violated()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("row %d: want %v, got %v\n%s\n%s", i, want, got, b.text, render(r))
		}
	}
	for _, rule := range RuleNames() {
		if !killed[rule] {
			t.Errorf("no hand-written trace breaks %s", rule)
		}
	}
}
