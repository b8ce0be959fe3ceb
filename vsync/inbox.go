// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"sync"

	"evensong/client"
)

// eventBytes is what an event counts for in the receive queue on top of its data.
const eventBytes = 160

// known is what the program has received of a group.
type known struct {
	view  client.ViewID // zero before the first
	asked bool          // a flush request that it has not answered
}

// inbox takes events from the protocol to Next. It also knows what the program has received, because that is the view in
// which it sends.
type inbox struct {
	limit int
	// ready wakes one Next; it hands on to the next one if there is more.
	ready chan struct{}
	// space wakes the protocol's goroutine when bytes fell below limit.
	space chan struct{}

	mu     sync.Mutex
	events []Event // events[head:] wait to be received
	head   int
	bytes  int
	err    error // what Next returns after the last event
	closed bool  // events are dropped
	groups map[string]known
}

func (in *inbox) init(limit int) {
	in.limit = limit
	in.ready, in.space = make(chan struct{}, 1), make(chan struct{}, 1)
	in.groups = map[string]known{}
}

func size(ev Event) int {
	if m, ok := ev.(*Message); ok {
		return len(m.Data) + eventBytes
	}
	return eventBytes
}

// pop returns the next event, or the final error, or neither.
func (in *inbox) pop() (Event, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.head == len(in.events) {
		if in.err != nil {
			wake(in.ready)
		}
		return nil, in.err
	}
	ev := in.events[in.head]
	in.events[in.head] = nil
	in.head++
	if in.head == len(in.events) {
		in.events, in.head = in.events[:0], 0
	}
	if n := size(ev); in.bytes >= in.limit && in.bytes-n < in.limit {
		wake(in.space)
	}
	in.bytes -= size(ev)
	switch ev := ev.(type) {
	case *View:
		in.groups[ev.Group] = known{view: ev.ID}
	case *FlushRequest:
		k := in.groups[ev.Group]
		k.asked = true
		in.groups[ev.Group] = k
	case *SelfLeave:
		delete(in.groups, ev.Group)
	}
	if in.head < len(in.events) || in.err != nil {
		wake(in.ready)
	}
	return ev, nil
}

// put adds an event; there is always room for what one input brings.
func (in *inbox) put(ev Event) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	if in.head > len(in.events)/2 {
		n := copy(in.events, in.events[in.head:])
		clear(in.events[n:])
		in.events, in.head = in.events[:n], 0
	}
	in.events = append(in.events, ev)
	in.bytes += size(ev)
	wake(in.ready)
}

// full reports whether the program must receive before more is read.
func (in *inbox) full() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.bytes >= in.limit && !in.closed
}

// fail ends the inbox; drop tells whether events not yet received are thrown away.
func (in *inbox) fail(err error, drop bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil || drop {
		in.err = err
	}
	if drop {
		in.closed = true
		in.events, in.head, in.bytes = nil, 0, 0
		wake(in.space)
	}
	wake(in.ready)
}

func (in *inbox) waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.events) - in.head
}

// of is what the program knows of a group.
func (in *inbox) of(group string) known {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.groups[group]
}

// answered notes that the program has answered its request.
func (in *inbox) answered(group string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	k := in.groups[group]
	k.asked = false
	in.groups[group] = k
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
