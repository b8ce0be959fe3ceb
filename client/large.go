// SPDX-License-Identifier: Apache-2.0

package client

import "net"

// A large message is not worth the way through the reader's buffer: the copy to Message.Data costs more than a read of its own.
// Once its header and its names are there, and much of its data is not, it is begun: it leaves the buffer with what is there, and
// the next reads go straight to the rest of its Data, and a little beyond, for what follows.

const (
	// directBytes is how much of its data a message must lack to be begun. With half or twice as much, messages of 20 to 50 KB cost
	// more.
	directBytes = 16 << 10
	// aheadBytes is how much of what follows is read with the end of a message: headers and small messages. More would be data of
	// the next large one, to be copied.
	aheadBytes = 8 << 10
	// claimBytes is how long a message may be of which only the header and the names are there: as long as any that clients of the
	// original send. A longer one is begun when half of its data is there, so that a header alone claims no more than this.
	claimBytes = MaxMessageEvensong
)

// largeMessage is a message that was begun.
type largeMessage struct {
	event   *Message // nil: there is none
	missing []byte   // the rest of its Data, which has not come
	counts  int      // what it counts for in the receive queue
}

// worthBeginning tells whether to begin a message with length bytes of data, of which got are there.
func worthBeginning(length, got int) bool {
	return length-got >= directBytes && length <= max(claimBytes, 2*got)
}

// begin takes ev, with got bytes of its data, off the buffer, where nothing is behind it. If the session is lost before the rest
// comes, ev is left to the garbage collector.
func (r *reader) begin(ev *Message, got, counts int) {
	r.large = largeMessage{event: ev, missing: ev.Data[got:], counts: counts}
	r.head, r.tail, r.need = 0, 0, 0
}

// fillLarge reads once for the message that was begun; the buffer is empty.
func (r *reader) fillLarge() (n int, err error) {
	missing := len(r.large.missing)
	n, err = r.read(r.large.missing, r.buf[:min(aheadBytes, len(r.buf))])
	r.large.missing = r.large.missing[min(n, missing):]
	r.tail = max(0, n-missing)
	return n, err
}

// event is the message that was begun, or else the frame at head, with the bytes that it counts for in the receive queue; nothing if
// it is not complete.
func (r *reader) event() (Event, int, error) {
	l := r.large
	switch {
	case l.event == nil:
		return r.decode()
	case len(l.missing) > 0:
		return nil, 0, nil
	}
	r.large = largeMessage{}
	return l.event, l.counts, nil
}

// plainReader reads from any connection; nothing goes to more.
func plainReader(nc net.Conn) func(b, more []byte) (int, error) {
	return func(b, _ []byte) (int, error) { return nc.Read(b) }
}
