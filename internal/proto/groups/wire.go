// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"encoding/binary"
	"fmt"

	"evensong/internal/proto/evs"
)

// MaxName bounds group names, the user part of private names and daemon names, in bytes; the wire has one byte for a
// length. Sessions refuse far shorter ones (GRP-15); this is the bound of the format.
const MaxName = 255

// MaxDestinations bounds the groups that one message names.
const MaxDestinations = 1<<16 - 1

// TypeSelfDiscard is the bit of a client's type word that keeps a message from the session that sent it
// (client-protocol 3.2).
const TypeSelfDiscard = 0x40

// op is the first byte of every payload.
type op byte

const (
	opData op = iota + 1
	opJoin
	opLeave
	opDisconnect
	opState
	opEvict
	opCast // data with a request number
)

// Data is a client's message on its way through the order.
//
//	+0  op 1 (data) · user length 1 · number of groups 2
//	+4  type 4 · hint 4, the four bytes as the client sent them
//	+12 session 8
//	+20 request 4, only with op 1 (cast)
//	    user
//	    per group: length 1 · name
//	    body, to the end
//
// Integers are little-endian. Groups and body are contiguous, so encoding is one pass of appends and what a receiver
// gets aliases the payload. An empty name and an unknown one are legal destinations that nobody receives at.
type Data struct {
	Session uint64   // number of the sending session at its daemon
	Sender  string   // user part of its private name
	Type    uint32   // client's type word without byte-order marks
	Hint    [4]byte  // as the client sent it, with its own mark (client-protocol 3.3)
	Groups  [][]byte // destinations, each up to its first NUL
	Body    []byte
	Request uint32 // what the sender's receipt repeats; zero: it wants none
}

const (
	dataHeader = 20
	opHeader   = 12

	requestBytes = 4
)

// AppendData appends the payload of d. It panics when a name or the list is longer than the format holds: sessions
// have checked them.
func AppendData(b []byte, d *Data) []byte {
	if len(d.Sender) > MaxName || len(d.Groups) > MaxDestinations {
		panic(fmt.Sprintf("groups: message with a name of %d bytes and %d groups", len(d.Sender), len(d.Groups)))
	}
	o := opData
	if d.Request != 0 {
		o = opCast
	}
	b = append(b, byte(o), byte(len(d.Sender)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(d.Groups)))
	b = binary.LittleEndian.AppendUint32(b, d.Type)
	b = append(b, d.Hint[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.Session)
	if o == opCast {
		b = binary.LittleEndian.AppendUint32(b, d.Request)
	}
	b = append(b, d.Sender...)
	for _, g := range d.Groups {
		if len(g) > MaxName {
			panic(fmt.Sprintf("groups: destination of %d bytes", len(g)))
		}
		b = append(append(b, byte(len(g))), g...)
	}
	return append(b, d.Body...)
}

// parseData reads a data payload into d, except for the sender's name, which it returns. Names are appended to names
// and d.Groups is the part appended; everything aliases p. On failure names comes back as it was.
func parseData(p []byte, names [][]byte, d *Data) (user []byte, _ [][]byte, ok bool) {
	if len(p) < dataHeader || !isData(p) {
		return nil, names, false
	}
	le := binary.LittleEndian
	n := int(le.Uint16(p[2:]))
	// Field by field: what is written in small stores and copied in large loads is waited for.
	d.Session, d.Sender, d.Type, d.Hint, d.Request = le.Uint64(p[12:]), "", le.Uint32(p[4:]), [4]byte(p[8:12]), 0
	start := dataHeader
	if op(p[0]) == opCast {
		if start += requestBytes; len(p) < start {
			return nil, names, false
		}
		if d.Request = le.Uint32(p[dataHeader:]); d.Request == 0 {
			return nil, names, false
		}
	}
	end := start + int(p[1])
	if len(p) < end {
		return nil, names, false
	}
	user, rest := p[start:end:end], p[end:]
	first := len(names)
	for range n {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return nil, names[:first], false
		}
		end := 1 + int(rest[0])
		names = append(names, rest[1:end:end])
		rest = rest[end:]
	}
	d.Groups, d.Body = names[first:len(names):len(names)], rest
	return user, names, true
}

// isData reports whether a payload, which is not empty, is a client's message.
func isData(p []byte) bool { return op(p[0]) == opData || op(p[0]) == opCast }

// Change is what alters the table: a join, leave, disconnect or evict.
//
//	+0  op 1 · user length 1 · group length 1 · extra 1
//	+4  session 8
//	+12 request 4, if bit 0 of the extra byte of a join or leave is set
//	    user · group
//
// The extra byte of a disconnect is its detail; a disconnect names no group. An evict has
//
//	+0  op 1 · user length 1 · group length 1 · member length 1
//	+4  session 8
//	+12 request 4
//	+16 view id 3×4
//	    user · group · member
type Change struct {
	Session uint64 // number of the session at its daemon
	User    string // user part of its private name
	Group   string
	Request uint32     // join, leave, evict: what the answer repeats; zero: none is wanted
	Detail  evs.Detail // disconnect: why
	Member  string     // evict: private name of who must go
	View    evs.ViewID // evict: the view in which this was asked
}

// AppendJoin appends the payload by which session num, whose private name has the user part user, joins group. Like
// the others it must be multicast as Agreed or Safe.
func AppendJoin(b []byte, num uint64, user, group string) []byte {
	return AppendJoinRequest(b, &Change{Session: num, User: user, Group: group})
}

// AppendLeave appends the payload by which a session leaves group.
func AppendLeave(b []byte, num uint64, user, group string) []byte {
	return AppendLeaveRequest(b, &Change{Session: num, User: user, Group: group})
}

// AppendJoinRequest is AppendJoin for a session that may want an answer.
func AppendJoinRequest(b []byte, c *Change) []byte { return c.append(b, opJoin) }

// AppendLeaveRequest is AppendLeave for a session that may want an answer.
func AppendLeaveRequest(b []byte, c *Change) []byte { return c.append(b, opLeave) }

// AppendEvict appends the payload by which a session asks that another member leaves (VS-8).
func AppendEvict(b []byte, c *Change) []byte { return c.append(b, opEvict) }

// AppendDisconnect appends the payload that ends a session in all its groups. It is the last thing that a daemon
// submits for a session: a join behind it would make a ghost (GRP-12).
func AppendDisconnect(b []byte, num uint64, user string, why evs.Detail) []byte {
	c := Change{Session: num, User: user, Detail: why}
	return c.append(b, opDisconnect)
}

func (c *Change) append(b []byte, o op) []byte {
	if len(c.User) > MaxName || len(c.Group) > MaxName || len(c.Member) > MaxName {
		panic(fmt.Sprintf("groups: names of %d, %d and %d bytes", len(c.User), len(c.Group), len(c.Member)))
	}
	le := binary.LittleEndian
	extra := byte(0)
	switch {
	case o == opDisconnect:
		extra = byte(c.Detail)
	case o == opEvict:
		extra = byte(len(c.Member))
	case c.Request != 0:
		extra = 1
	}
	b = append(b, byte(o), byte(len(c.User)), byte(len(c.Group)), extra)
	b = le.AppendUint64(b, c.Session)
	if o == opEvict || o != opDisconnect && c.Request != 0 {
		b = le.AppendUint32(b, c.Request)
	}
	if o == opEvict {
		for _, w := range c.View {
			b = le.AppendUint32(b, w)
		}
	}
	return append(append(append(b, c.User...), c.Group...), c.Member...)
}

// change is a Change as it arrived. Its slices alias the payload.
type change struct {
	op                  op
	num                 uint64
	request             uint32
	detail              evs.Detail
	view                evs.ViewID
	user, group, member []byte
}

// parseChange reads a join, leave, disconnect or evict.
func parseChange(p []byte) (c change, ok bool) {
	if len(p) < opHeader {
		return c, false
	}
	le := binary.LittleEndian
	c = change{op: op(p[0]), num: le.Uint64(p[4:])}
	u, g, m, rest := int(p[1]), int(p[2]), 0, p[opHeader:]
	asked := false
	switch c.op {
	case opJoin, opLeave:
		if p[3]&^1 != 0 {
			return c, false
		}
		asked = p[3] == 1
	case opDisconnect:
		c.detail = evs.Detail(p[3])
	case opEvict:
		asked, m = true, int(p[3])
	default:
		return c, false
	}
	if asked {
		if len(rest) < requestBytes {
			return c, false
		}
		c.request = le.Uint32(rest)
		if rest = rest[requestBytes:]; c.request == 0 && c.op != opEvict {
			return c, false
		}
	}
	if c.op == opEvict {
		if len(rest) < 4*len(c.view) {
			return c, false
		}
		for i := range c.view {
			c.view[i] = le.Uint32(rest[4*i:])
		}
		rest = rest[4*len(c.view):]
	}
	if len(rest) != u+g+m || u == 0 || (c.op == opDisconnect) != (g == 0) {
		return c, false
	}
	c.user, c.group, c.member = rest[:u], rest[u:u+g], rest[u+g:]
	return c, true
}

// A state is the table of one table set, in as many payloads as it takes.
//
//	+0  op 1 (state) · flags 1 · number of daemons 2
//	+4  part 4, counted from 0
//	+8  ring sequence 8 · ring representative 8: the configuration that the state is for
//	+24 daemons, 2 each: indexes into its members, ascending; the first one sends
//	    groups, to the end, in the order of their names:
//	      +0  name length 1 · flags 1 · members in this part 2, at least 1
//	      +4  previous view id 3×4
//	      +16 name
//	          members in the order of views: daemon 2 · user length 1 · zero 1 · session 8 · user
//
// A group too long for one part goes on as the first of the next part, under the same header.
const (
	stateHeader       = 24
	stateGroupHeader  = 16
	stateMemberHeader = 12

	stateLast      = 1 << 0 // flag of a part: no further one comes
	groupSignalled = 1 << 0 // flag of a group: its previous view had members outside the set, so that it has ended
)

// statePart is a decoded part of a state. Strings are copies: a state outlives its payload.
type statePart struct {
	ring   evs.RingID
	cover  []uint16
	part   uint32
	last   bool
	groups []stateGroup
}

type stateGroup struct {
	name      string
	id        evs.ViewID
	signalled bool
	members   []stateMember
}

type stateMember struct {
	daemon  uint16
	session uint64
	user    string
}

func (a stateMember) compare(b stateMember) int {
	return cmpMember(int(a.daemon)-int(b.daemon), a.user, b.user, a.session, b.session)
}

// parseStateRing reads only for which ring a state is, so that one that came too late costs nothing.
func parseStateRing(p []byte) (evs.RingID, bool) {
	if len(p) < stateHeader || op(p[0]) != opState {
		return evs.RingID{}, false
	}
	le := binary.LittleEndian
	return evs.RingID{Seq: le.Uint64(p[8:]), Rep: evs.Incarnation(le.Uint64(p[16:]))}, true
}

// parseState reads one part for a configuration of n daemons. It checks all that can be seen in the part alone:
// bounds, order of daemons, groups and members, and that each member's daemon is one that the state speaks for.
func parseState(p []byte, n int) (s statePart, ok bool) {
	if s.ring, ok = parseStateRing(p); !ok || p[1]&^stateLast != 0 {
		return s, false
	}
	le := binary.LittleEndian
	s.last, s.part = p[1]&stateLast != 0, le.Uint32(p[4:])
	daemons := int(le.Uint16(p[2:]))
	rest := p[stateHeader:]
	if daemons == 0 || daemons > n || len(rest) < 2*daemons {
		return s, false
	}
	in := make([]bool, n)
	s.cover = make([]uint16, daemons)
	for i := range s.cover {
		d := le.Uint16(rest[2*i:])
		if int(d) >= n || i > 0 && d <= s.cover[i-1] {
			return s, false
		}
		s.cover[i], in[d] = d, true
	}
	for rest = rest[2*daemons:]; len(rest) > 0; {
		if len(rest) < stateGroupHeader || rest[1]&^groupSignalled != 0 {
			return s, false
		}
		name, count := int(rest[0]), int(le.Uint16(rest[2:]))
		g := stateGroup{
			signalled: rest[1]&groupSignalled != 0,
			id:        evs.ViewID{le.Uint32(rest[4:]), le.Uint32(rest[8:]), le.Uint32(rest[12:])},
		}
		rest = rest[stateGroupHeader:]
		if count == 0 || len(rest) < name+count*stateMemberHeader || !legalGroup(rest[:name]) {
			return s, false
		}
		g.name = string(rest[:name])
		if len(s.groups) > 0 && g.name <= s.groups[len(s.groups)-1].name {
			return s, false
		}
		rest = rest[name:]
		g.members = make([]stateMember, count)
		for i := range g.members {
			if len(rest) < stateMemberHeader || rest[3] != 0 {
				return s, false
			}
			d, user := le.Uint16(rest), int(rest[2])
			if int(d) >= n || !in[d] || user == 0 || len(rest) < stateMemberHeader+user {
				return s, false
			}
			g.members[i] = stateMember{d, le.Uint64(rest[4:]), string(rest[stateMemberHeader : stateMemberHeader+user])}
			if i > 0 && g.members[i].compare(g.members[i-1]) <= 0 {
				return s, false
			}
			rest = rest[stateMemberHeader+user:]
		}
		s.groups = append(s.groups, g)
	}
	return s, true
}

// stateWriter splits a table into parts of at most limit bytes; a single member always fits.
type stateWriter struct {
	ring  evs.RingID
	cover []uint16
	limit int
	parts [][]byte
	cur   []byte
	group int // where in cur the header of the open group is, or -1
}

func (w *stateWriter) begin() {
	w.cur = append(make([]byte, 0, 512), byte(opState), 0)
	w.cur = binary.LittleEndian.AppendUint16(w.cur, uint16(len(w.cover)))
	w.cur = binary.LittleEndian.AppendUint32(w.cur, uint32(len(w.parts)))
	w.cur = binary.LittleEndian.AppendUint64(w.cur, w.ring.Seq)
	w.cur = binary.LittleEndian.AppendUint64(w.cur, uint64(w.ring.Rep))
	for _, d := range w.cover {
		w.cur = binary.LittleEndian.AppendUint16(w.cur, d)
	}
	w.group = -1
}

func (w *stateWriter) add(g *stateGroup, m stateMember) {
	size := stateMemberHeader + len(m.user)
	if w.group < 0 {
		size += stateGroupHeader + len(g.name)
	}
	empty := len(w.cur) == stateHeader+2*len(w.cover)
	full := w.group >= 0 && binary.LittleEndian.Uint16(w.cur[w.group+2:]) == 1<<16-1
	if !empty && (len(w.cur)+size > w.limit || full) {
		w.parts = append(w.parts, w.cur)
		w.begin()
	}
	le := binary.LittleEndian
	if w.group < 0 {
		w.group = len(w.cur)
		flags := byte(0)
		if g.signalled {
			flags = groupSignalled
		}
		w.cur = append(w.cur, byte(len(g.name)), flags, 0, 0)
		for _, word := range g.id {
			w.cur = le.AppendUint32(w.cur, word)
		}
		w.cur = append(w.cur, g.name...)
	}
	le.PutUint16(w.cur[w.group+2:], le.Uint16(w.cur[w.group+2:])+1)
	w.cur = le.AppendUint16(w.cur, m.daemon)
	w.cur = append(w.cur, byte(len(m.user)), 0)
	w.cur = le.AppendUint64(w.cur, m.session)
	w.cur = append(w.cur, m.user...)
}

// encodeState encodes groups, which are in the order of their names, as the state of the daemons in cover.
func encodeState(ring evs.RingID, cover []uint16, groups []stateGroup, limit int) [][]byte {
	w := stateWriter{ring: ring, cover: cover, limit: limit}
	w.begin()
	for i := range groups {
		w.group = -1
		for _, m := range groups[i].members {
			w.add(&groups[i], m)
		}
	}
	w.cur[1] |= stateLast
	return append(w.parts, w.cur)
}

// legalGroup reports whether a group may have this name. A leading # would make it look like a private name, so that
// nobody could send to it (client-protocol 4.6). What characters are legal is the session's business.
func legalGroup[T string | []byte](name T) bool {
	return len(name) > 0 && len(name) <= MaxName && name[0] != '#'
}
