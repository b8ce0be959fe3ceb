// SPDX-License-Identifier: Apache-2.0

package client

import "sync"

// poolClass holds messages whose Data buffer has one capacity. Classes keep a flood of small messages from pinning
// buffers of the largest size.
type poolClass struct {
	capacity int
	pool     sync.Pool
}

// The classes follow the payloads that occur: small messages, of which thousands may wait and must not push each other
// out of the processor's caches, a packet or less, a few packets, and the largest message.
var poolClasses = [...]*poolClass{{capacity: 256}, {capacity: 2 << 10}, {capacity: 16 << 10}, {capacity: MaxMessageEvensong}}

// newMessage returns a message with Data of the given length.
func newMessage(pooled bool, dataBytes int) *Message {
	if pooled {
		for _, class := range poolClasses {
			if dataBytes > class.capacity {
				continue
			}
			m, _ := class.pool.Get().(*Message)
			if m == nil {
				m = &Message{Data: make([]byte, class.capacity), class: class}
			}
			m.freed = false
			m.Data = m.Data[:dataBytes]
			return m
		}
	}
	m := new(Message)
	if dataBytes > 0 {
		m.Data = make([]byte, dataBytes)
	}
	return m
}

// Release gives a message back to its pool; Message and Data must not be used after that. Without WithPooledMessages
// it does nothing, so code that releases works with both. Releasing a message twice is a bug of the caller that would
// let two receivers share a buffer: it panics where that can be seen.
func (m *Message) Release() {
	class := m.class
	if class == nil {
		return
	}
	if m.freed {
		panic("client: message released twice")
	}
	m.freed = true
	if cap(m.Data) < class.capacity {
		return // the receiver put another slice there: the garbage collector takes this message
	}
	data := m.Data[:0]
	m.Sender, m.Groups, m.Service, m.Type, m.EndianMismatch, m.Data = "", nil, 0, 0, false, data
	m.one[0] = ""
	class.pool.Put(m)
}

// nameCacheSize bounds the cache; sessions that see more names than this at a time pay an allocation per name.
const nameCacheSize = 1024

// nameCache makes one string of all occurrences of a name: a receiver sees the same few senders and groups again and
// again. It belongs to one reader. When full it starts anew, which costs each living name one allocation.
type nameCache struct {
	names map[string]string
	// recent are the last two that were looked up: the sender and the group of most messages are those of the one before.
	recent [2]string
	older  int // of the two
}

func (n *nameCache) get(b []byte) string {
	for _, s := range n.recent {
		if s == string(b) {
			return s
		}
	}
	s := n.lookUp(b)
	n.recent[n.older] = s
	n.older = 1 - n.older
	return s
}

func (n *nameCache) lookUp(b []byte) string {
	if s, ok := n.names[string(b)]; ok {
		return s
	}
	if n.names == nil || len(n.names) >= nameCacheSize {
		n.names = make(map[string]string)
	}
	s := string(b)
	n.names[s] = s
	return s
}
