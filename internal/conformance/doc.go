// SPDX-License-Identifier: Apache-2.0

// Package conformance holds the client protocol against running daemons, byte by byte. Each case of its tests has a name,
// the place that it cites (a section of docs/wire/client-protocol.md, or a row of the original's features), and the bytes
// that must come.
//
// The suite reads and writes bytes with a few functions of its own, made from the document alone. It uses neither our
// codec nor our clients, so that a mistake in those cannot hide itself by being made twice; TestOwnBytes sees to that.
//
// Each case runs over TCP, over IPv6, over a Unix socket, and against the daemon's portable event loop, each once with
// what it sends in one write and once with one write per byte. A witness talks to itself at the same daemon all the time:
// whatever a case does, the witness must keep getting exactly its own messages.
//
// "go test" runs each case over TCP in one write and in one other way, another one for each case. All ways, and a group
// whose notices are larger than any of the original's, take some seconds more:
//
//	EVENSONG_CONFORMANCE=all go test ./internal/conformance
package conformance
