// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"strings"
	"testing"

	"evensong/internal/admin"
)

// TestStatusPrimary: the text says yes or no where there is a rule, with the reason that the daemon gives, and nothing where there is
// none.
func TestStatusPrimary(t *testing.T) {
	for _, x := range []struct{ primary, reason, want string }{
		{"yes", "the majority of the configured daemons is here", "yes: the majority of the configured daemons is here"},
		{"no", "there is no PrimaryRule in the file of c", "no: there is no PrimaryRule in the file of c"},
		{"no", "", "no"}, // an older daemon
		{"unclaimed", "", ""},
		{"", "", ""},
	} {
		primary, want := x.primary, x.want
		var b strings.Builder
		if err := writeStatus(&b, &Report{Status: &admin.Status{Primary: primary, PrimaryReason: x.reason}}); err != nil {
			t.Fatal(err)
		}
		got := ""
		for line := range strings.Lines(b.String()) {
			if f := strings.Fields(line); len(f) > 0 && f[0] == "primary" {
				got = strings.Join(f[1:], " ")
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", primary, got, want)
		}
	}
}
