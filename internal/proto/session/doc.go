// SPDX-License-Identifier: Apache-2.0

// Package session is one client's conversation with its daemon as a pure machine: bytes and time go in, requests and
// answers come out. It implements the daemon's side of docs/wire/client-protocol.md:
//
//	2.1-2.6    handshake, for old clients too            handshake.go
//	4.1-4.6    what a client may send, odd input         message.go
//	6          limits of a session, in both directions   room of HandleInput; queue.go, pressure.go
//
// and of docs/wire/own-dialect.md, which the first three bytes choose: own.go, queue_own.go. What the operator's rules permit
// to a client is in access.go, why a session ends in reason.go.
//
// Below it are package frame, the encoding, and package access, which judges by rules. Above it package node decides what
// concerns several sessions: whether a name is free, what a join means, when there is room for more input, and what a
// session receives. For the way out the package has an Arena, in which node encodes each delivery at most once in each
// dialect, and a Queue per session that refers to it.
//
// # States and inputs
//
//	               Connect          Name       Auth, Credentials   Open             Closed
//	HandleInput    collect          take none  collect             requests         take all, ignore
//	NameDecided    bug              go on      bug                 bug              ignore
//	HandleClosed   close            close      close               close            ignore
//	Advance        close when due   nothing    close when due      nothing, ping    nothing
//	Close          close            close      close               close            ignore
//	Reconfigure    all new          all new    rules, once open    rules            ignore
//
// Connect waits for the connect message, Name for the node's decision about the private name, Auth for the choice of
// authentication methods, Credentials for what a method wants to see; Open is an accepted session. "Ignore" cells exist
// because a close may pass an input on its way. The handshake is liberal where the original is not: bytes may arrive in
// any pieces, and what follows is kept; the answers are the same (client-protocol 2.1).
//
// Two timers: ConnectTimeout until the connect message is complete, then AuthTimeout until the session is accepted. The
// node's time in Name counts for neither. An accepted session of the original has no timer: half a message may stay
// incomplete forever (client-protocol 1.4), at the cost of one buffer. One of the own dialect has a timer if it has asked
// for pings.
package session
