// SPDX-License-Identifier: Apache-2.0

// Package link checks links and addresses with raw UDP packets, before any daemon runs: does a packet to this address,
// multicast too, arrive there, and how many are lost on the way. It does what the programs spsend and sprecv of the Spread
// toolkit do. Every packet has a number and a checksum, so the receiver says what was missed, came twice, out of order or
// corrupted.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A packet, in network byte order:
//
//	+0  magic 4   +4  checksum 4: CRC-32C of all behind it   +8  run 8   +16 number 8   +24 total 8
//	+32 filling: byte i is the low byte of number plus i
//
// Run tells one start of the sender from another. Numbers count from 1. Total is how many packets the sender will send; a
// number above it marks the end and is sent a few times.
const (
	magic     = 0x45565330 // "EVS0"
	headBytes = 32

	// MinBytes and MaxBytes bound the size of a packet: what its head needs, and what UDP can carry.
	MinBytes = headBytes
	MaxBytes = 65507
)

type packet struct{ run, number, total uint64 }

// last reports whether the packet says that there are no more.
func (p packet) last() bool { return p.number > p.total }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode fills buf, of MinBytes at least, with the packet.
func (p packet) encode(buf []byte) {
	be := binary.BigEndian
	be.PutUint32(buf, magic)
	be.PutUint64(buf[8:], p.run)
	be.PutUint64(buf[16:], p.number)
	be.PutUint64(buf[24:], p.total)
	for i := range buf[headBytes:] {
		buf[headBytes+i] = byte(p.number) + byte(i)
	}
	be.PutUint32(buf[4:], crc32.Checksum(buf[8:], castagnoli))
}

var errForeign = errors.New("not a packet of the link check")
var errCorrupt = errors.New("the checksum is wrong")

// decode reads a packet from the network. errForeign is for what was never one, errCorrupt for one that was changed.
func decode(buf []byte) (packet, error) {
	be := binary.BigEndian
	if len(buf) < headBytes || be.Uint32(buf) != magic {
		return packet{}, errForeign
	}
	if crc32.Checksum(buf[8:], castagnoli) != be.Uint32(buf[4:]) {
		return packet{}, errCorrupt
	}
	p := packet{be.Uint64(buf[8:]), be.Uint64(buf[16:]), be.Uint64(buf[24:])}
	if p.number == 0 || p.total == 0 || p.total > MaxCount || p.number > p.total+1 {
		return packet{}, fmt.Errorf("%w: number %d of %d", errForeign, p.number, p.total)
	}
	return p, nil
}

// MaxCount bounds the packets of one run, and with them the receiver's memory: a bit for each, 12.5 MB.
const MaxCount = 100_000_000

// tally counts the packets of one run.
type tally struct {
	total     uint64
	seen      []uint64 // a bit per number, grown as numbers arrive
	highest   uint64
	received  uint64
	duplicate uint64
	reordered uint64
}

// note counts a packet that is not the last one.
func (t *tally) note(p packet) {
	t.total = p.total
	word, bit := (p.number-1)/64, uint64(1)<<((p.number-1)%64)
	if word >= uint64(len(t.seen)) {
		t.seen = append(t.seen, make([]uint64, word+1-uint64(len(t.seen)))...)
	}
	if t.seen[word]&bit != 0 {
		t.duplicate++
		return
	}
	t.seen[word] |= bit
	t.received++
	if p.number < t.highest {
		t.reordered++
	} else {
		t.highest = p.number
	}
}

// missed is how many have not arrived: of all that the sender sends once it has ended, else of those below the highest.
func (t *tally) missed(ended bool) uint64 {
	if ended {
		return t.total - t.received
	}
	return t.highest - t.received
}
