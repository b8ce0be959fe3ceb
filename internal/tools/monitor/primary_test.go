// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"strings"
	"testing"

	"evensong/internal/admin"
)

// TestStatusPrimary: the text says yes or no where there is a rule, and nothing where there is none.
func TestStatusPrimary(t *testing.T) {
	for primary, want := range map[string]string{
		"yes":       "yes: the majority of the configured daemons is here",
		"no":        "no: the majority of the configured daemons is not here, or a daemon's file has another rule or list",
		"unclaimed": "",
		"":          "",
	} {
		var b strings.Builder
		if err := writeStatus(&b, &Report{Status: &admin.Status{Primary: primary}}); err != nil {
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
