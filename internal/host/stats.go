// SPDX-License-Identifier: Apache-2.0

package host

import (
	"sync/atomic"
	"time"

	"evensong/internal/seal"
	"evensong/internal/transport"
)

// Stats counts what a host did. Any goroutine may read it at any time; counters only grow unless their comment says
// otherwise.
type Stats struct {
	// Transport counts datagrams. It is nil until Start returns, and never changes afterwards.
	Transport *transport.Stats
	// Sealing counts what became of the datagrams received, where daemons seal them.
	Sealing seal.Stats

	Wakeups atomic.Uint64 // how often the loop had slept and was woken
	Timers  atomic.Uint64 // how often the machine's deadline was due

	Accepts         atomic.Uint64 // connections accepted, refused ones included
	AcceptErrors    atomic.Uint64 // accept calls that failed
	RejectsSessions atomic.Uint64 // connections refused because MaxSessions exist
	RejectsFiles    atomic.Uint64 // connections refused because the process ran out of descriptors
	Sessions        atomic.Int64  // sessions now open; goes up and down
	Closing         atomic.Int64  // connections now on their way out; goes up and down
	ClosesCut       atomic.Uint64 // connections closed before all their bytes were written

	TLSHandshakes  atomic.Uint64 // begun with clients
	TLSFailures    atomic.Uint64 // that came to nothing
	TLSConnections atomic.Int64  // connections of clients now with TLS; goes up and down

	ClientReads, ClientWrites       atomic.Uint64 // system calls (the portable loop: operations)
	ClientBytesIn, ClientBytesOut   atomic.Uint64
	ClientWritesNoMemory            atomic.Uint64 // writes refused because the kernel was short of memory; they are repeated
	ClientsPaused                   atomic.Int64  // sessions not read now because the machine wants no input; goes up and down
	ClientsBlocked                  atomic.Int64  // sessions whose peer does not read now; goes up and down
	Stores                          atomic.Uint64 // files written for stable storage
	StoreErrors                     atomic.Uint64
	NotesSuppressed, NotesLost      atomic.Uint64 // log lines left out by the rate limit; because the log was too slow
	longestStall, lastStall, stalls atomic.Int64
}

// Stalls is how often the process was found not to have been scheduled for longer than half the token timeout.
func (s *Stats) Stalls() int64 { return s.stalls.Load() }

// LongestStall is the longest time that the process was found not to have been scheduled, LastStall the most recent
// one that counted. Both are zero if none was noticed.
func (s *Stats) LongestStall() time.Duration { return time.Duration(s.longestStall.Load()) }

// LastStall is described with LongestStall.
func (s *Stats) LastStall() time.Duration { return time.Duration(s.lastStall.Load()) }
