// SPDX-License-Identifier: Apache-2.0

package frame

import "encoding/binary"

// A body longer than OwnFragment travels in pieces (own-dialect 3). The first frame has the body's own type, says that
// more follows, and begins with the length of the whole body in four bytes, which are part of no field; the pieces
// behind it have type PIECE, and the last of them says that no more follows.

// beginOwn starts a frame: append the body, then call endOwn.
func beginOwn(dst []byte, t OwnType) []byte {
	h := OwnHeader{Type: t}
	return h.Append(dst)
}

// OwnSize is how many bytes a body of n bytes takes on the wire, headers included.
func OwnSize(n int) int {
	if n <= OwnFragment {
		return OwnHeaderSize + n
	}
	n += 4
	return n + (n+OwnFragment-1)/OwnFragment*OwnHeaderSize
}

// endOwn completes the frame that begins at dst[at:]. A long body is cut into pieces where it lies, for which dst grows
// to OwnSize. stream is what the pieces are named by; it is not used for a body that fits one frame.
func endOwn(dst []byte, at int, stream uint16) []byte {
	t, n := OwnType(dst[at+4]), len(dst)-at-OwnHeaderSize
	if n <= OwnFragment {
		binary.LittleEndian.PutUint32(dst[at:], uint32(n))
		return dst
	}
	first := OwnFragment - 4 // bytes of the body in the first frame
	body := at + OwnHeaderSize
	pieces := (n - first + OwnFragment - 1) / OwnFragment
	for range 4 + pieces*OwnHeaderSize {
		dst = append(dst, 0)
	}
	// Pieces move towards the end, so the last one goes first.
	for i := pieces - 1; i >= 0; i-- {
		from := body + first + i*OwnFragment
		size := min(OwnFragment, n-first-i*OwnFragment)
		to := body + OwnFragment + i*(OwnHeaderSize+OwnFragment)
		copy(dst[to+OwnHeaderSize:], dst[from:from+size])
		h := OwnHeader{Length: size, Type: OwnPiece, More: i < pieces-1, Stream: stream}
		h.Append(dst[:to])
	}
	copy(dst[body+4:body+OwnFragment], dst[body:body+first])
	binary.LittleEndian.PutUint32(dst[body:], uint32(n))
	h := OwnHeader{Length: OwnFragment, Type: t, More: true, Stream: stream}
	h.Append(dst[:at])
	return dst
}

// OwnAssembly puts bodies together that arrive in pieces; it is the only thing in this package that remembers. The zero
// value with a Limit is ready to use. Memory is what has arrived, not what a length claims.
type OwnAssembly struct {
	// Limit bounds a body, and all that are under way together, in bytes.
	Limit int

	parts []ownPart
	bytes int // arrived, in all parts
	want  int // claimed, by all parts
}

type ownPart struct {
	stream uint16
	t      OwnType
	want   int
	buf    []byte
}

// Bytes is the memory that unfinished bodies hold.
func (a *OwnAssembly) Bytes() int { return a.bytes }

// Pending reports whether a body is unfinished.
func (a *OwnAssembly) Pending() bool { return len(a.parts) > 0 }

// Drop forgets what is unfinished.
func (a *OwnAssembly) Drop() { a.parts, a.bytes, a.want = nil, 0, 0 }

// Add takes the next frame, whose header ParseOwnHeader found fine and whose body is complete. done says that whole is
// a whole body of type t: body itself, if it came in one frame, else memory that is the caller's from here on. After a
// fault the connection is of no use.
func (a *OwnAssembly) Add(h OwnHeader, body []byte) (t OwnType, whole []byte, done bool, fault OwnFault) {
	if h.Stream == 0 {
		if len(body) > a.Limit {
			return h.Type, nil, false, OwnFaultTooLong
		}
		return h.Type, body, true, OwnFine
	}
	i := 0
	for i < len(a.parts) && a.parts[i].stream != h.Stream {
		i++
	}
	if h.Type != OwnPiece {
		if len(body) < 4 {
			return h.Type, nil, false, OwnFaultShort
		}
		want := binary.LittleEndian.Uint32(body)
		switch {
		case i < len(a.parts):
			return h.Type, nil, false, OwnFaultStream
		case len(a.parts) == OwnStreams:
			return h.Type, nil, false, OwnFaultStreams
		case int64(a.want)+int64(want) > int64(a.Limit):
			return h.Type, nil, false, OwnFaultTooLong
		}
		a.parts = append(a.parts, ownPart{stream: h.Stream, t: h.Type, want: int(want)})
		a.want += int(want)
		body = body[4:]
	}
	if i == len(a.parts) {
		return h.Type, nil, false, OwnFaultStream
	}
	p := &a.parts[i]
	if len(p.buf)+len(body) > p.want || !h.More && len(p.buf)+len(body) < p.want {
		return h.Type, nil, false, OwnFaultPiece
	}
	p.buf = append(p.buf, body...)
	a.bytes += len(body)
	if h.More {
		return h.Type, nil, false, OwnFine
	}
	t, whole = p.t, p.buf
	a.bytes -= p.want
	a.want -= p.want
	last := len(a.parts) - 1
	a.parts[i] = a.parts[last]
	a.parts[last] = ownPart{}
	a.parts = a.parts[:last]
	return t, whole, true, OwnFine
}
