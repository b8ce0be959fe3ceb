// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// eventKind says what is due.
type eventKind uint8

const (
	evDatagram   eventKind = iota + 1 // dgram arrives at host a
	evTimer                           // host a's Advance
	evHandUp                          // host a, life b, has time for what datagrams made deliverable
	evStored                          // a store of host a, life b, number n has ended
	evInput                           // bytes of connection c reach its daemon
	evReadable                        // bytes of connection c reach its client
	evHungUp                          // the daemon of connection c notices that its client is gone
	evClientStep                      // client a, attempt b: connect
	evCall                            // call
)

// event is one entry of the queue. Which fields are set depends on its kind.
type event struct {
	at    time.Duration
	order uint64
	dgram *datagram
	conn  *conn
	call  func()
	n     uint64
	a, b  int32
	kind  eventKind
}

// queue is a heap with four children per entry: with the many short delays of a simulation it is flatter, hence
// quicker, than one with two. Events at one time come out in the order in which they went in.
type queue struct {
	heap  []event
	count uint64
}

func (q *queue) less(a, b *event) bool { return a.at < b.at || a.at == b.at && a.order < b.order }

func (q *queue) push(e event) {
	q.count++
	e.order = q.count
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !q.less(&e, &q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top := q.heap[0]
	k := len(q.heap) - 1
	last := q.heap[k]
	q.heap[k] = event{}
	q.heap = q.heap[:k]
	if k == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= k {
			break
		}
		best := first
		for c := first + 1; c < min(first+4, k); c++ {
			if q.less(&q.heap[c], &q.heap[best]) {
				best = c
			}
		}
		if !q.less(&q.heap[best], &last) {
			break
		}
		q.heap[i] = q.heap[best]
		i = best
	}
	q.heap[i] = last
	return top
}
