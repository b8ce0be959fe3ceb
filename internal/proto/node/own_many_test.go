// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// A message of the own dialect may name 1000 groups; the last one counts like the first.
func TestManyDestinations(t *testing.T) {
	c := newCluster(t, "a", "b")
	x, y := c.dialOwn(0, "x"), c.connect(1, "y", false)
	c.send(y, frame.AppendJoin(nil, "#y#b", "g999"))
	c.pass(50 * time.Millisecond)
	var groups []string
	for i := range frame.MaxOwnGroups {
		groups = append(groups, fmt.Sprint("g", i))
	}
	c.send(x.testConn, castOwn(1, evs.Agreed, []byte("all"), groups...))
	c.pass(50 * time.Millisecond)
	c.want(x, nil, "receipt 1")
	if ms := c.messages(y); len(ms) != 1 || ms[0].Groups.Len() != frame.MaxOwnGroups || string(ms[0].Data) != "all" {
		t.Errorf("the original got %d messages", len(ms))
	}
}
