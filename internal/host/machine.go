// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net/netip"
	"time"

	"evensong/internal/proto/node"
	"evensong/internal/proto/packet"
)

// Machine is what a host runs: a whole daemon without its sockets, clock and disk. One goroutine calls everything;
// now is the time since the host's start and never goes back. Each input appends to fx what must now be done.
type Machine interface {
	Start(now time.Duration, fx *Effects)
	// HandleDatagram borrows b, which is writable, until it returns; what lies in a room that is not nil it may keep there, for which it
	// keeps the room. What it makes deliverable is left to HandUp.
	HandleDatagram(now time.Duration, from netip.AddrPort, b []byte, room *packet.Room, fx *Effects)
	// HandleAccept opens a session and returns its number, which is never zero; local says that it came through a Unix
	// socket.
	HandleAccept(now time.Duration, local bool, remote netip.AddrPort, fx *Effects) (id uint64)
	// HandleUser tells the user of the system at the other end of a Unix socket, right behind HandleAccept, where the system
	// says so.
	HandleUser(id uint64, uid uint32)
	// HandleTLS tells that what a session says comes through TLS, and the name in the client's certificate if there is one,
	// before its first HandleInput.
	HandleTLS(id uint64, cert string)
	// RefuseTLS ends a session whose TLS handshake has failed, before its first HandleInput; why is for people.
	RefuseTLS(now time.Duration, id uint64, why string, fx *Effects)
	// HandleInput offers bytes of a session and returns how many were taken. If not all were, the host keeps the rest,
	// reads no more from this session until Effects.Resumes lists it, and then offers the rest again.
	HandleInput(now time.Duration, id uint64, b []byte, fx *Effects) int
	// HandleEnd tells that a client will say no more. It may still read: what Output has for it is written, then the
	// connection is closed.
	HandleEnd(now time.Duration, id uint64, fx *Effects)
	// HandleClosed reports the end of a session that the client caused, or that bytes of one that the machine closed
	// will not be written. Unknown sessions are ignored.
	HandleClosed(now time.Duration, id uint64, fx *Effects)
	// Output appends to dst at most limit slices that must be written next, in order. They do not change until
	// the next input or Output.
	Output(id uint64, dst [][]byte, limit int) [][]byte
	// HandleWritten tells that so many bytes of the last Output were written. It asks for no datagrams, and leaves the bytes of
	// those asked for by the input before as they are: the epoll loop may write to a client before it sends them.
	HandleWritten(now time.Duration, id uint64, n int, fx *Effects)
	// HandUp goes on with what inputs have made deliverable and reports whether there was anything. It is called until there is not, each
	// time after what Effects asked for was done; datagrams may come before, and those that are Calm are sent later. All other inputs with Effects begin with what is left, but
	// for HandleWritten.
	HandUp(now time.Duration, fx *Effects) bool
	HandleStored(now time.Duration, id uint64, err error, fx *Effects)
	// Leave begins the orderly exit, which ends with Effects.Stopped.
	Leave(now time.Duration, fx *Effects)
	Advance(now time.Duration, fx *Effects)
	// Deadline is when Advance must be called next; zero if never.
	Deadline() time.Duration
	// TokenNear reports whether the machine can do nothing with what clients say until a datagram comes, which should be within a
	// millisecond or two. The host may then leave clients' input where it is until a datagram, a timer or another goroutine wakes it.
	TokenNear(now time.Duration) bool
	// TokenAsked reports whether somebody was asked for the token that rests there, which should be here in less than a millisecond. The
	// host may look for it without sleeping for a moment.
	TokenAsked() bool
}

// Effects is what an input asks the host to do, Close the end of a connection among it: those of the daemon's machine.
type (
	Effects = node.Effects
	Close   = node.Close
)

var _ Machine = (*node.Machine)(nil)
