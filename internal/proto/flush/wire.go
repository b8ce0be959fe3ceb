// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/binary"
	"strings"

	"evensong/internal/proto/evs"
)

// Service is the service word of a message: one of the six levels and marks, with the numbers of the client protocol
// (3.2). They are repeated here because the machine knows nothing of frames.
type Service uint32

// The bits that the machine looks at.
const (
	Unreliable  Service = 0x01
	Reliable    Service = 0x02
	FIFO        Service = 0x04
	Causal      Service = 0x08
	Agreed      Service = 0x10
	Safe        Service = 0x20
	SelfDiscard Service = 0x40
	// SubgroupCast marks a message to some members of a group; the group's name is at the end of the data.
	SubgroupCast Service = 0x40000000

	levels = Unreliable | Reliable | FIFO | Causal | Agreed | Safe
	// overtaking are the levels whose messages can pass a FLUSH_OK on the way to a third member.
	overtaking = Unreliable | Reliable | FIFO
)

// legal reports whether a user may ask for s: one level, and SelfDiscard if wanted.
func (s Service) legal() bool {
	l := s & levels
	return l != 0 && l&(l-1) == 0 && s&^(levels|SelfDiscard) == 0
}

// The message types of the flush layer. Applications have MinType and above.
const (
	TypeFlushOK    int16 = -32768
	TypeFlushRecv  int16 = -32767
	TypeVulnerable int16 = -32766
	MinType        int16 = -32765
)

// Sizes of what the flush layer appends to data, in bytes.
const (
	idBytes    = 12
	typeBytes  = 2
	groupBytes = 32
)

// appendID writes a view id as this side writes all its words: little-endian, which the hint of the frame says.
func appendID(dst []byte, id evs.ViewID) []byte {
	for _, w := range id {
		dst = binary.LittleEndian.AppendUint32(dst, w)
	}
	return dst
}

// order is the sender's byte order, in which view ids and message types inside the data are written.
func order(bigEndian bool) binary.ByteOrder {
	if bigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func parseID(b []byte, o binary.ByteOrder) (id evs.ViewID) {
	for i := range id {
		id[i] = o.Uint32(b[4*i:])
	}
	return id
}

// appendGroup writes a group's name in the fixed width of the protocol. The name was checked to fit.
func appendGroup(dst []byte, group string) []byte {
	var b [groupBytes]byte
	copy(b[:groupBytes-1], group)
	return append(dst, b[:]...)
}

// cutGroup takes the reference group off the end of the data of a subgroup cast.
func cutGroup(data []byte) (group string, rest []byte, ok bool) {
	n := len(data) - groupBytes
	if n < 0 {
		return "", nil, false
	}
	group, _, ok = strings.Cut(string(data[n:]), "\x00")
	return group, data[:n:n], ok && group != ""
}

// cutVulnerable takes the original message type and the sender's view id off the end of the data.
func cutVulnerable(data []byte, o binary.ByteOrder) (messType int16, id evs.ViewID, rest []byte, ok bool) {
	n := len(data) - typeBytes - idBytes
	if n < 0 {
		return 0, evs.ViewID{}, nil, false
	}
	return int16(o.Uint16(data[n:])), parseID(data[n+typeBytes:], o), data[:n:n], true
}

// isPrivate tells private groups, "#name#daemon", from others. They need no membership.
func isPrivate(group string) bool { return strings.Contains(group, "#") }
