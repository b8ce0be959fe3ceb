// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"testing"
	"time"

	"evensong/internal/host"
)

// The admin plane says of a daemon that is alone of two why its configuration is not primary.
func TestPrimaryReasonIsServed(t *testing.T) {
	s := serveTLS(t, host.LoopPortable, "Spread_Segment unicast { b 127.0.0.2 }\nPrimaryRule = majority\n")
	const want = "of 2 configured daemons 1 is here, and the majority is 2"
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		st, err := s.operator.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.operator.Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Primary == "no" && st.PrimaryReason == want && m.Primary == "no" && m.PrimaryReason == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("status: %s, %s; members: %s, %s", st.Primary, st.PrimaryReason, m.Primary, m.PrimaryReason)
		}
	}
}
