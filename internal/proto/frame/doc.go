// SPDX-License-Identifier: Apache-2.0

// Package frame is the encoding between client and daemon: every byte that travels on a client connection, in both
// directions, and the rules that one can check by looking at one unit of it. It keeps no state, except for OwnAssembly.
//
// Two dialects share the port. Names that begin with Own are about Evensong's own, docs/wire/own-dialect.md; own.go lists
// its files. All others are about the original's.
//
// Sections of docs/wire/client-protocol.md implemented here:
//
//	2.1-2.6   connect message, authentication list and choice, accept, reject   handshake.go
//	2.5, 7.2  result codes                                                      code.go
//	3.1-3.3   byte order and its marks, type word, hint word                    word.go
//	3.4       names                                                             name.go
//	3.5, 4.5  header, its limits and its checks                                 header.go
//	4.1-4.4   what a client sends                                               client.go
//	4.6, 5    what a daemon sends                                               daemon.go
//	5.7       what a client must be able to take apart                          membership.go
//
// A frame on the wire:
//
//	 0        4                 36           40     44         48
//	+--------+-----------------+------------+------+----------+------------------+---------+
//	| type   | name (32)       | num_groups | hint | data_len | num_groups x 32  | data    |
//	+--------+-----------------+------------+------+----------+------------------+---------+
//
// Functions that begin with Append add to a slice of the caller and do not allocate when its capacity suffices; the
// Size functions say how much is needed. Functions that begin with Parse never panic and never allocate in proportion
// to a number they read, only to bytes that are there. Results alias their input unless they are strings. Everything
// may be called concurrently.
package frame
