// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"net/netip"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/seal"
)

const (
	// sealChunk is how many bytes are sealed before they are sent: what is sealed is still in the processor's cache then, and
	// the first packets of a visit are on their way while the last are sealed. It is as much as the system takes as one run.
	sealChunk = 64 << 10
	// refusedNote is how often one address, whatever the port, is worth a line about datagrams that do not open, and refusedAddrs
	// how many are remembered; all are forgotten when there are more.
	refusedNote  = time.Minute
	refusedAddrs = 256
)

// Packets that are as long as can be have room for what sealing adds, or this does not compile.
const _ = uint(packet.SealRoom - seal.Overhead)

// sealing is what the core needs to seal and open datagrams.
type sealing struct {
	box   *seal.Box // nil: this daemon has no key
	buf   []byte    // of one chunk
	sends []packet.Send
	to    [1]netip.AddrPort
	noted map[refusedBy]time.Duration
}

// refusedBy is what a line was about. The port is no part of it: a sender can have a new one for each datagram.
type refusedBy struct {
	from    netip.Addr
	verdict seal.Verdict
}

// send seals datagrams and gives them to the transport. A datagram to many is sealed once. Lengths grow all alike, so that what
// was equally long stays so, and the order stays.
func (c *core) send(sends []packet.Send) {
	s := &c.sealing
	if s.box == nil {
		c.shell.Send(sends)
		return
	}
	for len(sends) > 0 {
		size, n := 0, 0
		for ; n < len(sends); n++ {
			more := len(sends[n].Bytes) + seal.Overhead
			if n > 0 && size+more > sealChunk {
				break
			}
			size += more
		}
		if cap(s.buf) < size { // the transport has let go of what was sealed before
			s.buf = make([]byte, 0, max(size, sealChunk))
		}
		s.buf, s.sends = s.buf[:0], append(s.sends[:0], sends[:n]...)
		for i := range s.sends {
			at := len(s.buf)
			s.buf = s.box.Seal(s.buf, s.sends[i].Bytes)
			s.sends[i].Bytes = s.buf[at:]
		}
		c.shell.Send(s.sends)
		sends = sends[n:]
	}
	clear(s.sends)
}

// handleDatagram opens a datagram and gives it to the machine. What is sealed is opened in place, so that it lies in the same room, if
// there is one. What it makes deliverable is handed up by handUp, which must follow.
func (c *core) handleDatagram(from netip.AddrPort, b []byte, room *packet.Room) {
	if c.sealing.box != nil {
		if b = c.open(from, b); b == nil {
			return
		}
	} else if seal.IsSealed(b) {
		c.stats.Sealing.Count(seal.Sealed)
		c.noteRefused(from, seal.Sealed, b)
		return
	}
	c.m.HandleDatagram(c.now, from, b, room, &c.fx)
	c.performOne()
	if c.stored += len(b); c.stored >= storedAtOnce {
		c.handUp()
	}
}

// open is the packet in a sealed datagram, or nil.
func (c *core) open(from netip.AddrPort, b []byte) []byte {
	s := &c.sealing
	p, hello, v := s.box.Open(c.now, from, b)
	c.stats.Sealing.Count(v)
	if v == seal.Opened {
		return p
	}
	if hello != nil {
		s.to[0] = from
		s.sends = append(s.sends[:0], packet.Send{To: s.to[:], Bytes: hello})
		c.shell.Send(s.sends)
	}
	c.noteRefused(from, v, b)
	return nil
}

// refusals are what is said of datagrams that do not open. A duplicate and a beginning are nothing to tell.
var refusals = map[seal.Verdict]string{
	seal.Sealed:    "sealed datagrams are ignored, because this daemon has no cluster key; if that daemon belongs here, give this one the same ClusterKeyFile and restart it",
	seal.Plain:     "unsealed datagrams are ignored, because this daemon has a cluster key; if that daemon belongs here, give it the same ClusterKeyFile and restart it",
	seal.OtherKey:  "datagrams sealed with another cluster key are ignored; if that daemon belongs here, give both the same ClusterKeyFile and reload",
	seal.Forged:    "datagrams that do not open with the cluster key are ignored; they were damaged on the way, or forged",
	seal.Malformed: "sealed datagrams of another format are ignored; if that daemon belongs here, it is of another version",
	seal.Silent:    "sealed datagrams of a daemon that does not answer are ignored; somebody sends old ones again, or what this daemon sends does not arrive there",
}

// noteRefused says once in a while per address why its datagrams are ignored, and what to do.
func (c *core) noteRefused(from netip.AddrPort, v seal.Verdict, b []byte) {
	text := refusals[v]
	s := &c.sealing
	key := refusedBy{from.Addr().Unmap(), v}
	if last, known := s.noted[key]; text == "" || known && c.now-last < refusedNote {
		return
	}
	if s.noted == nil || len(s.noted) >= refusedAddrs {
		s.noted = make(map[refusedBy]time.Duration)
	}
	s.noted[key] = c.now
	attrs := []slog.Attr{slog.String("peer", from.String())}
	if id, ok := seal.KeyOf(b); ok && v != seal.Plain {
		attrs = append(attrs, slog.String("key", id.String()))
	}
	if s.box != nil {
		attrs = append(attrs, slog.String("own", s.box.Keys().String()))
	}
	c.note(slog.LevelWarn, text, attrs...)
}
