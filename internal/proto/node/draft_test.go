// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// A large message goes to clients from where it was put together, if the head of its frame fits before it, in one of the dialects;
// however it goes, what arrives is the message.
func TestLargeMessagesStayWhereTheyLie(t *testing.T) {
	many := []string{"g"}
	for i := range 40 {
		many = append(many, fmt.Sprint("another-", i))
	}
	for _, test := range []struct {
		name     string
		own, old bool // clients of these dialects receive
		groups   []string
		want     int // how many of four large messages are encoded where they lie
	}{
		{name: "own", own: true, groups: []string{"g"}, want: 4},
		{name: "original", old: true, groups: []string{"g"}, want: 4},
		{name: "both", own: true, old: true, groups: []string{"g"}, want: 4},
		{name: "own, many groups", own: true, groups: many, want: 4}, // its names are as long as those of the message
		{name: "original, many groups", old: true, groups: many},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{1350, 5000, 6200, 8192, 20_000, 65_000, 100_000} {
				c := newCluster(t, "a", "b")
				x := c.dialOwn(0, "x") // the sender is at the other daemon
				var y *testConn
				var z *ownConn
				if test.old {
					y = c.connect(1, "y", false)
					c.send(y, frame.AppendJoin(nil, "#y#b", "g"))
				}
				if test.own {
					z = c.dialOwn(1, "z")
					c.send(z.testConn, frame.AppendOwnJoin(nil, 0, "g"))
				}
				c.pass(50 * time.Millisecond)
				if z != nil {
					c.events(z, map[evs.ViewID]string{})
				}
				before := c.nodes[1].m.Stats().Adopted
				var sent [4][]byte
				for i := range sent {
					sent[i] = bytes.Repeat([]byte{byte(i), 1, 2, 3, 5, 7, 11}, size/7+1)[:size]
					c.send(x.testConn, castOwn(0, evs.Agreed, sent[i], test.groups...))
				}
				c.pass(500 * time.Millisecond)
				if z != nil {
					bodies := c.bodies(z)
					if len(bodies) != len(sent) {
						t.Fatalf("%d bytes: %d messages of the own dialect", size, len(bodies))
					}
					for i, b := range bodies {
						m, fault := frame.ParseOwnMessage(b.b)
						if fault != frame.OwnFine || string(m.Sender) != "#x#a" || !slices.Equal(m.Groups.Strings(), test.groups) || !bytes.Equal(m.Data, sent[i]) {
							t.Fatalf("%d bytes: message %d: %v from %q, %d bytes", size, i, fault, m.Sender, len(m.Data))
						}
					}
				}
				if y != nil {
					ms := c.messages(y)
					if len(ms) != len(sent) {
						t.Fatalf("%d bytes: %d messages of the original", size, len(ms))
					}
					for i, m := range ms {
						if string(m.Name) != "#x#a" || !slices.Equal(m.Groups.Strings(), test.groups) || !bytes.Equal(m.Data, sent[i]) {
							t.Fatalf("%d bytes: message %d from %q, %d bytes", size, i, m.Name, len(m.Data))
						}
					}
				}
				want := test.want
				if size < 8192 || size == 65_000 && len(test.groups) > 1 { // it would leave more than half of its chunk empty
					want = 0
				}
				m := c.nodes[1].m
				if got := m.Stats().Adopted - before; got != uint64(want) {
					t.Errorf("%d bytes %d of 4 messages stayed where they were put together, want %d", size, got, want)
				}
				if n, spare := m.pool.LentBytes(), m.arena.Spare(); n != spare {
					t.Errorf("%d bytes: %d bytes are lent, %d of them to the arena", size, n, spare)
				}
			}
		})
	}
}
