// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/transport"
)

// udpSlots datagrams may wait between a reader and the loop; the kernel's buffer holds what comes beyond.
const udpSlots = 64

// datagram is one received packet in a slot that goes back to its reader.
type datagram struct {
	from netip.AddrPort
	b    []byte
	n    int
	free chan<- []byte
}

// Send implements shell.
func (l *portableLoop) Send(s []packet.Send) { l.conn.Send(s) }

// readDatagrams hands what one source receives to the loop.
func (l *portableLoop) readDatagrams(s transport.Source) {
	free := make(chan []byte, udpSlots)
	made := 0
	for {
		var b []byte
		select {
		case b = <-free:
		default:
			if made < udpSlots {
				made++
				b = make([]byte, packet.MaxDatagram)
				break
			}
			select {
			case b = <-free:
			case <-l.over:
				return
			}
		}
		n, from, err := s.Receive(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// A network that goes away comes back; meanwhile, do not spin.
			select {
			case free <- b:
			default:
			}
			select {
			case <-time.After(acceptPause):
				continue
			case <-l.over:
				return
			}
		}
		select {
		case l.udp <- datagram{from: from, b: b, n: n, free: free}:
		case <-l.over:
			return
		}
	}
}

// drainDatagrams takes the datagrams that wait, a bounded number.
func (l *portableLoop) drainDatagrams() {
	for range udpSlots {
		select {
		case d := <-l.udp:
			l.datagram(d)
		default:
			l.handUp()
			return
		}
	}
	l.handUp()
}

func (l *portableLoop) datagram(d datagram) {
	if !l.stopped {
		l.handleDatagram(d.from, d.b[:d.n], nil)
	}
	d.free <- d.b // has room for all slots there are
}
