// SPDX-License-Identifier: Apache-2.0

// Package sim runs whole clusters in virtual time: real node machines, simulated clients that speak the real client
// protocol, and between them a network, disks and connections that fail on purpose. One number, the seed, decides
// everything, so a failure is repeated by its seed alone.
//
// A run has two phases. First a schedule of work and faults (profile.go); then all faults end, and within bounded
// virtual time there must be one configuration of all daemons, views that equal the truth, and every message delivered
// (LIVE-1, 2, 4; tail.go). The history of the whole run is judged by package check; after every input of a node its
// invariants are checked (world.go).
//
//	world.go    virtual time, the queue of events, the history
//	network.go  links between daemons: delay, loss, cuts
//	host.go     what package host does for a real daemon: performs effects, owns the disk and the connections
//	room.go     datagrams in rooms, which turn to garbage when they are left
//	client.go   a client: handshake, requests, what it received; own.go one that speaks the own dialect
//	profile.go  schedules from seeds; fault.go performs their faults
//	tail.go     the quiet end, and what must hold there
//	run.go      one run; batch.go many, added up
//	script.go   schedules written by hand: their language and a run; script_command.go what the commands do,
//	            script_expect.go what must be so
//
// Everything is single-threaded and never ranges over a map into effects. Batch runs many worlds side by side.
package sim
