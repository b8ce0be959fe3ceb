// SPDX-License-Identifier: Apache-2.0

package sim

import "evensong/internal/proto/packet"

// About every other datagram is handed to its node in a room, alone or with some of those that follow, as a transport does with runs of
// them. As soon as nobody keeps a room, garbage takes the place of what was in it, which the checkers see if anybody still uses it.
const (
	roomBytes = 4608 // three packets of the usual length
	garbage   = 0xDB
)

// rooms is memory for datagrams, of all hosts.
type rooms struct{ free []*packet.Room }

func (r *rooms) get(n int) *packet.Room {
	if k := len(r.free); k > 0 && n <= roomBytes {
		room := r.free[k-1]
		r.free = r.free[:k-1]
		room.Keep()
		return room
	}
	return packet.NewRoom(make([]byte, max(n, roomBytes)), r.put)
}

func (r *rooms) put(room *packet.Room) {
	for i := range room.Bytes {
		room.Bytes[i] = garbage
	}
	r.free = append(r.free, room)
}

// lend is datagram b in a room, or as it is and without. Its receiver keeps what it wants of the room before leaveRoom is called.
func (h *host) lend(b []byte) ([]byte, *packet.Room) {
	if h.w.lending.IntN(2) == 0 {
		return b, nil
	}
	if h.room != nil && h.roomUsed+len(b) > len(h.room.Bytes) {
		h.leaveRoom()
	}
	if h.room == nil {
		h.room, h.roomUsed = h.w.rooms.get(len(b)), 0
	}
	lent := h.room.Bytes[h.roomUsed:][:len(b):len(b)]
	h.roomUsed += copy(lent, b)
	return lent, h.room
}

// leaveRoom ends the run of datagrams in one room, if there is one.
func (h *host) leaveRoom() {
	if h.room != nil {
		h.room.Leave()
		h.room = nil
	}
}
