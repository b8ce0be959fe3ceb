// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"
	"time"
)

// GRP-17: while somebody who sends little is about, nobody else's input is read in large pieces, not even that of a client
// that has just come, whose handshake was as short as a modest client's message.
func TestModestClientsKeepOthersReadsShort(t *testing.T) {
	l := &epollLoop{core: &core{now: time.Second}, buf: make([]byte, readBufferBytes)}
	modest, flood := &client{id: 1}, &client{id: 2}
	read := func(c *client, n int) {
		t.Helper()
		l.hasRead(c, n, n == l.readBytes(c))
	}
	want := func(c *client, n int) {
		t.Helper()
		if got := l.readBytes(c); got != n {
			t.Fatalf("client %d: reads of at most %d bytes, want %d", c.id, got, n)
		}
	}
	want(flood, readBufferBytes)
	read(modest, 200)
	want(modest, readBufferBytes) // nobody waits for it
	want(flood, modestReadBytes)
	read(flood, 60) // its handshake
	want(flood, modestReadBytes)
	read(flood, modestReadBytes)
	want(flood, modestReadBytes)
	if l.now >= flood.greedyTill || l.now < modest.greedyTill {
		t.Fatal("the flood is not taken for greedy, or the modest client is")
	}
	l.now += modestTime - 1
	read(flood, 10) // the end of its flood
	want(flood, modestReadBytes)
	l.now++
	want(flood, readBufferBytes) // the modest client was silent
	read(modest, 200)
	want(flood, modestReadBytes)
	l.restTotal = restBytes + 1
	want(flood, shortReadBytes)
}
