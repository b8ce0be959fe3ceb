// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/seq"
)

// DataHeaderSize is the length of a data packet's header behind the outer one.
const DataHeaderSize = 48

// Where the flags and the length of the filler are in that header.
const (
	dataFlagsAt  = 42
	dataFillerAt = 43
)

// DataOffset is where the pieces start in a whole data packet.
const DataOffset = HeaderSize + DataHeaderSize

// Flags of a data packet.
const (
	// FlagPostToken marks a packet sent after its visit's token (ARP14, III.B); a retransmission keeps it.
	FlagPostToken = 1 << iota
	// FlagRetransmit marks a copy that answers a request.
	FlagRetransmit
)

// MaxFiller bounds the zero bytes behind the pieces of a packet.
const MaxFiller = 64

var filler [MaxFiller]byte

// Data is one packet at one position of a ring. It carries pieces of messages (Piece).
//
//	+0  ring sequence   8    +8  ring representative 8
//	+16 seq             8    +24 visit               8   token sequence of the visit that originated it
//	+32 count           8    +40 sender 2 · flags 1 · length of the filler 1 · zero 4
//	+48 pieces, filler
//
// Count numbers the packets of one sender in one ring, from 1, so that a receiver behind a hole knows whether
// something of that sender is missing (EVS-10). Sender is the originator's index in the ring, not who sent this copy.
// Filler is zero bytes, at most MaxFiller, and means nothing: with it packets that lack a little to be as long as their
// neighbors are as long, and go through the system as one (UDP_SEGMENT).
type Data struct {
	Ring   evs.RingID
	Seq    seq.Num
	Visit  uint64
	Count  uint64
	Sender uint16
	Flags  uint8
	Filler uint8
	Pieces []byte
}

// PutDataHeader writes d's header into b, which is a whole packet; the pieces and the filler are taken to be in place already.
func PutDataHeader(b []byte, d *Data) {
	le := binary.LittleEndian
	h := b[HeaderSize:DataOffset]
	le.PutUint64(h[0:], d.Ring.Seq)
	le.PutUint64(h[8:], uint64(d.Ring.Rep))
	le.PutUint64(h[16:], uint64(d.Seq))
	le.PutUint64(h[24:], d.Visit)
	le.PutUint64(h[32:], d.Count)
	le.PutUint16(h[40:], d.Sender)
	h[dataFlagsAt], h[dataFillerAt] = d.Flags, d.Filler
	le.PutUint32(h[44:], 0)
}

// DataFlags are the flags in b, which is a whole data packet.
func DataFlags(b []byte) uint8 { return b[HeaderSize+dataFlagsAt] }

// AppendFiller appends n bytes of filler, at most MaxFiller, to b, which is a whole data packet.
func AppendFiller(b []byte, n int) []byte { return append(b, filler[:n]...) }

// ParseData reads a data packet's body. d.Pieces aliases body and is checked to be well-formed pieces; the filler is not
// among them.
func ParseData(body []byte, d *Data) error {
	if len(body) < DataHeaderSize {
		return ErrBody
	}
	le := binary.LittleEndian
	n := body[dataFillerAt]
	end := len(body) - int(n)
	if n > MaxFiller || end < DataHeaderSize || !bytes.Equal(body[end:], filler[:n]) {
		return ErrBody
	}
	// Field by field, as in Piece.Take.
	d.Ring.Seq, d.Ring.Rep = le.Uint64(body[0:]), evs.Incarnation(le.Uint64(body[8:]))
	d.Seq = seq.Num(le.Uint64(body[16:]))
	d.Visit = le.Uint64(body[24:])
	d.Count = le.Uint64(body[32:])
	d.Sender = le.Uint16(body[40:])
	d.Flags = body[dataFlagsAt]
	d.Filler = n
	d.Pieces = body[DataHeaderSize:end]
	if d.Seq == 0 || d.Count == 0 || le.Uint32(body[44:]) != 0 {
		return ErrBody
	}
	return CheckPieces(d.Pieces)
}

// PieceHeaderSize is the length of a piece's header.
const PieceHeaderSize = 4

// MaxPiece is the most bytes that one piece can carry.
const MaxPiece = 1<<16 - 1

// MaxMessage bounds a message on the ring, in bytes: the largest that a client may send, and its names. A receiver refuses to
// reassemble more.
const MaxMessage = 65 << 20

// Piece is a message or a part of one. Packing small messages into one packet and splitting large ones over several
// are one mechanism: each packet is a sequence of pieces.
//
//	+0 service 3 bits · first 1 · last 1 · recovery 1 · zero 2 bits
//	+1 stream: tells apart the messages of one sender that are under way at the same time
//	+2 length  2
//	+4 bytes; those of a first piece that is not the last begin with the length of the whole message, 4 bytes
//
// A message's place in the order is that of its last piece (M-6).
type Piece struct {
	Service  evs.Service
	First    bool
	Last     bool
	Recovery bool // an old packet that is rebroadcast in recovery, not a message of the application
	Stream   uint8
	Bytes    []byte
}

const (
	pieceFirst    = 1 << 3
	pieceLast     = 1 << 4
	pieceRecovery = 1 << 5
	pieceZero     = 0xC0
)

// AppendPieceHeader appends the header of p, with length n in place of len(p.Bytes).
func AppendPieceHeader(b []byte, p Piece, n int) []byte {
	f := byte(p.Service)
	if p.First {
		f |= pieceFirst
	}
	if p.Last {
		f |= pieceLast
	}
	if p.Recovery {
		f |= pieceRecovery
	}
	return append(b, f, p.Stream, byte(n), byte(n>>8))
}

// Take reads the first piece of b, which CheckPieces has accepted and which is not empty, and returns what is behind it.
func (p *Piece) Take(b []byte) (rest []byte) {
	// Field by field: a whole Piece would be written in small stores and copied in large loads, for which a processor waits.
	f := b[0]
	n := int(b[2]) | int(b[3])<<8
	p.Service = evs.Service(f & 7)
	p.First = f&pieceFirst != 0
	p.Last = f&pieceLast != 0
	p.Recovery = f&pieceRecovery != 0
	p.Stream = b[1]
	p.Bytes = b[PieceHeaderSize : PieceHeaderSize+n : PieceHeaderSize+n]
	return b[PieceHeaderSize+n:]
}

// CheckPieces reports whether b is a sequence of well-formed pieces. It may be empty.
func CheckPieces(b []byte) error {
	for len(b) > 0 {
		if len(b) < PieceHeaderSize {
			return ErrBody
		}
		f := b[0]
		n := int(b[2]) | int(b[3])<<8
		if f&pieceZero != 0 || !evs.Service(f&7).Valid() || len(b) < PieceHeaderSize+n {
			return ErrBody
		}
		if f&pieceFirst != 0 && f&pieceLast == 0 && n < 4 {
			return ErrBody
		}
		b = b[PieceHeaderSize+n:]
	}
	return nil
}
