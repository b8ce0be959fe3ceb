// SPDX-License-Identifier: Apache-2.0

package packet

// Room is the memory that a datagram came in, or a run of them, and a count of who keeps something of it. Whoever received into it keeps
// it, too, for as long as it is to receive into it; when nobody does any more, it goes back to where it came from. All who keep something
// of a room are one goroutine.
//
// Different datagrams are different parts of it, and each belongs to one keeper, who may change it.
type Room struct {
	Bytes   []byte
	keepers int
	free    func(*Room)
}

// NewRoom is the room b, which the caller keeps. free is called whenever the last keeper leaves; the room may be kept again then.
func NewRoom(b []byte, free func(*Room)) *Room { return &Room{Bytes: b, keepers: 1, free: free} }

// Keep says that somebody keeps something of r until Leave.
func (r *Room) Keep() { r.keepers++ }

// Leave ends one Keep.
func (r *Room) Leave() {
	r.keepers--
	switch {
	case r.keepers == 0:
		r.free(r)
	case r.keepers < 0:
		panic("packet: a room was left by somebody who did not keep it")
	}
}

// Shared reports whether anybody keeps something of r besides the caller, who does.
func (r *Room) Shared() bool { return r.keepers > 1 }
