// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"slices"
	"testing"
)

// TestGroupsAfter: what follows a name has each once, in order.
func TestGroupsAfter(t *testing.T) {
	m := &Machine{groups: map[string]*group{}}
	var want []string
	for i := range 57 {
		name := fmt.Sprintf("g%02d", i*7%57)
		m.groups[name] = &group{name: name}
		want = append(want, name)
	}
	slices.Sort(want)
	for i, name := range append([]string{""}, want...) {
		if got := m.GroupsAfter(name); !slices.Equal(got, want[i:]) {
			t.Errorf("behind %q: %v, want %v", name, got, want[i:])
		}
	}
	if got := m.GroupsAfter("g10a"); !slices.Equal(got, want[11:]) { // between two of them
		t.Errorf("behind g10a: %v, want %v", got, want[11:])
	}
}
