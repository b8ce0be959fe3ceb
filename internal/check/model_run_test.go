// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"
)

func render(r *Report) string {
	var b strings.Builder
	if _, err := r.WriteTo(&b); err != nil {
		return err.Error()
	}
	return b.String()
}

func TestCorrectHistoriesPass(t *testing.T) {
	seeds := uint64(80)
	if testing.Short() {
		seeds = 20
	}
	untested := map[string]int{}
	for seed := range seeds {
		h := modelHistory(seed, 2+int(seed%4), 1500)
		r := Check(h)
		if !r.OK() {
			t.Fatalf("seed %d:\n%s", seed, render(r))
		}
		for _, u := range r.Untested() {
			untested[u]++
		}
	}
	for u, n := range untested {
		if n == int(seeds) {
			t.Errorf("%s is untested by all %d histories", u, n)
		}
	}
}
