// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"
)

func TestReportShowsVerdictsAndProof(t *testing.T) {
	r := Check(&History{Records: parseHistory(t, boot+`a send 3/1 agreed; a dlv 3/1; a dlv 3/1`)})
	text := render(r)
	for _, want := range []string{
		"EVS-2    VIOLATED                   2  no duplication (1 violations)",
		"EVS-1    ok                         2  integrity",
		"EVS-16   untested                   0  safe needs installation",
		"GRP-1    not applicable             0  self-inclusion (needs views in session-level records)",
		"EVS-2: a/00000011 delivers agreed message 1.0 of ring 3.00000003 twice",
		"    a/00000011 deliver from a/00000011 in R:3.00000003 agreed seq 1.0 digest bc2 length 8",
		"           1  merges",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if got := strings.Join(r.Violated(), " "); got != "EVS-2" {
		t.Errorf("violated: %s", got)
	}
	if len(r.Violations) != 1 || len(r.Violations[0].Window) != 2 {
		t.Errorf("violations: %v", r.Violations)
	}
}

// One broken rule breaks at many places: all are counted, a few are listed.
func TestReportIsBounded(t *testing.T) {
	text := boot + `a send 3/1 agreed`
	for range 3 * maxViolationsPerRule {
		text += `; a dlv 3/1`
	}
	r := Check(&History{Records: parseHistory(t, text)})
	if n := r.Rule("EVS-2").Violations; n != 3*maxViolationsPerRule-1 || len(r.Violations) != maxViolationsPerRule {
		t.Errorf("%d counted, %d listed", n, len(r.Violations))
	}
}
