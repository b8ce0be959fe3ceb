// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// Bits of the type word (client-protocol 3.2).
const (
	unreliable  = 0x1
	reliable    = 0x2
	fifo        = 0x4
	causal      = 0x8
	agreed      = 0x10
	safe        = 0x20
	selfDiscard = 0x40

	byJoin       = 0x100
	byLeave      = 0x200
	byDisconnect = 0x400
	byNetwork    = 0x800
	regMemb      = 0x1000
	transition   = 0x2000

	join  = 0x10000
	leave = 0x20000
	kill  = 0x40000

	subgroup = 0x40000000
	mark     = 0x80000080
)

const (
	headerSize = 48
	nameSize   = 32
	maxBody    = 143952 // data and names
)

// name32 is a name padded to its field; what is longer is cut.
func name32(s string) []byte {
	b := make([]byte, nameSize)
	copy(b, s)
	return b
}

func names32(names ...string) []byte {
	var b []byte
	for _, s := range names {
		b = append(b, name32(s)...)
	}
	return b
}

// word is an integer in the order that daemons write.
func word(v int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }

// hint is the hint word with a message type, as a little-endian sender writes it, or hintBig as a big-endian one does.
func hint(mess int16) []byte    { return []byte{0x80, byte(mess), byte(uint16(mess) >> 8), 0x80} }
func hintBig(mess int16) []byte { return []byte{0, byte(uint16(mess) >> 8), byte(mess), 0} }

// A frame is a message in either direction. Zero fields: little-endian, message type 0, counts as they are.
type frame struct {
	big    bool // big-endian
	bare   bool // the type word as it is, without a mark
	typ    uint32
	name   string
	groups []string
	hint   []byte // nil: message type 0 in the header's order
	data   []byte
}

// bytes is the frame as it travels.
func (f frame) bytes() []byte {
	return slicesJoin(f.header(len(f.groups), len(f.data)), names32(f.groups...), f.data)
}

// header is the frame's header with counts of its own.
func (f frame) header(groups, data int) []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	typ, h := f.typ|mark, hint(0)
	if f.big {
		order, typ, h = binary.BigEndian, f.typ, hintBig(0)
	}
	if f.bare {
		typ = f.typ
	}
	if f.hint != nil {
		h = f.hint
	}
	b := order.AppendUint32(nil, typ)
	b = append(b, name32(f.name)...)
	b = order.AppendUint32(b, uint32(groups))
	b = append(b, h...)
	return order.AppendUint32(b, uint32(data))
}

// delivered is what a daemon makes of the frame: its own order in the header, names with a NUL and nothing but NULs behind
// it, in the place of a name without a NUL the one that stands for names that do not fit (own-dialect 1.1), everything else
// as it came.
func (f frame) delivered() []byte {
	f.groups = slices.Clone(f.groups)
	for i, g := range f.groups {
		g, _, _ = strings.Cut(g, "\x00")
		if len(g) >= nameSize {
			h := fnv.New64a()
			h.Write([]byte(g[:nameSize]))
			g = fmt.Sprintf("#long-%016x#", h.Sum64())
		}
		f.groups[i] = g
	}
	if f.hint == nil && f.big {
		f.hint = hintBig(0)
	}
	f.big = false
	return f.bytes()
}

// A gid is a group identifier as it travels.
type gid [12]byte

// A view is a regular membership message. Without sets it is caused by a join, leave or disconnect of who.
type view struct {
	cause   uint32
	group   string
	members []string
	who     string
	sets    [][]string
	own     int // index of the receiver's set
}

func (v view) bytes(id gid) []byte {
	sets := v.sets
	if sets == nil {
		sets = [][]string{{v.who}}
	}
	var body []byte
	offset := 0
	for i, s := range sets {
		if i == v.own {
			offset = len(body)
		}
		body = slicesJoin(body, word(len(s)), names32(s...))
	}
	data := slicesJoin(id[:], word(len(sets)), word(offset), body)
	return frame{typ: regMemb | v.cause, name: v.group, groups: v.members, data: data}.bytes()
}

// selfLeave is what the leaver of a group gets.
func selfLeave(group string) []byte { return frame{typ: byLeave, name: group}.bytes() }

// signal is the beginning of a transition: id is of the view that ends.
func signal(group string, id gid) []byte {
	return frame{typ: transition, name: group, data: id[:]}.bytes()
}

// connect is the connect message of a client of version 4.4.0, and connectAs of any version; those up to 3.14 send no
// patch byte.
func connect(user string, flags byte) []byte { return connectAs(4, 4, 0, flags, user) }
func connectAs(major, minor, patch int, flags byte, user string) []byte {
	b := []byte{byte(major), byte(minor)}
	if int(int8(major))*10000+minor*100 > 31400 {
		b = append(b, byte(patch))
	}
	return slicesJoin(b, []byte{flags, byte(len(user))}, []byte(user))
}

// choice is the block of chosen authentication methods.
func choice(slots ...string) []byte {
	b := make([]byte, 90)
	for i, s := range slots {
		copy(b[30*i:30*(i+1)], s)
	}
	return b
}

// list is the daemon's list of methods.
func list(methods ...string) []byte {
	var b []byte
	for _, m := range methods {
		b = append(append(b, m...), ' ')
	}
	return slicesJoin([]byte{byte(len(b))}, b)
}

// accept is the acceptance of a session with that private group, and acceptOld the one for clients before 3.15.
func accept(private string) []byte {
	return slicesJoin([]byte{1, 4, 4, 0, byte(len(private))}, []byte(private))
}

func acceptOld(private string) []byte {
	return slicesJoin([]byte{1, 4, 4, byte(len(private))}, []byte(private))
}

// reject is a refusal.
func reject(code int8) []byte { return []byte{byte(code)} }

const (
	rejectQuota       = -3
	rejectIllegalName = -5
	rejectNotUnique   = -6
	rejectVersion     = -7
	rejectAuth        = -9
)

func slicesJoin(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// differ says where two byte strings differ first, with what is around it.
func differ(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	part := func(b []byte) string {
		lo, hi := max(i-16, 0)&^3, min(i+48, len(b))
		if lo > hi {
			return "nothing there"
		}
		return fmt.Sprintf("%04x  % x  %q", lo, b[lo:hi], b[lo:hi])
	}
	var s strings.Builder
	fmt.Fprintf(&s, "got %d bytes, want %d; the first difference is at %#x\n", len(got), len(want), i)
	fmt.Fprintf(&s, "got  %s\nwant %s", part(got), part(want))
	return s.String()
}
