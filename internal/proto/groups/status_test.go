// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"
	"testing"
)

// TestPage: pages of any size hold each name once, in order.
func TestPage(t *testing.T) {
	m := &Machine{groups: map[string]*group{}}
	var want []string
	for i := range 57 {
		name := fmt.Sprintf("g%02d", i*7%57)
		m.groups[name] = &group{name: name}
		want = append(want, name)
	}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 10, 56, 57, 58} {
		var got []string
		for page := m.Page("", limit); len(page) > 0; page = m.Page(got[len(got)-1], limit) {
			got = append(got, page...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
	if page := m.Page("", 0); len(page) != 0 {
		t.Errorf("a page of nothing has %v", page)
	}
}
