// SPDX-License-Identifier: Apache-2.0

package amount

import "testing"

func TestOf(t *testing.T) {
	for n, want := range map[int]string{0: "0 daemons", 1: "1 daemon", 2: "2 daemons", -1: "-1 daemons"} {
		if got := Of(n, "daemon"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := Of(uint64(1), "packet"); got != "1 packet" {
		t.Errorf("%q", got)
	}
}
