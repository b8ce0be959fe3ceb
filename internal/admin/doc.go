// SPDX-License-Identifier: Apache-2.0

// Package admin is how people and programs look at a running daemon and steer it: JSON over HTTP on a Unix socket that
// only the daemon's own user and root may use, and over TCP where a token file is configured. Commands, terminal UI and
// dashboard use the same API.
//
// The package knows the API, not the daemon: Daemon is what a host offers, Server puts it on the network, Client calls
// it. Everything is bounded: the size and the time of requests, the connections, and the pages of lists.
//
//	GET  /v1/status             one picture of the daemon            Status
//	GET  /v1/members            the configuration, where they are    Members
//	GET  /v1/groups             names and sizes, in pages            GroupPage
//	GET  /v1/groups/{name}      the members of one group             Group
//	GET  /v1/sessions           clients, in pages                    SessionPage
//	POST /v1/session/{id}/close end a client's session       (D)     Done
//	POST /v1/set                windows (D), log level               Settings -> Settings
//	POST /v1/partition          cut daemons off for a time   (D)     Partition -> Done
//	POST /v1/heal               end a partition              (D)     Done
//	POST /v1/reload             read the configuration again (T)     Reloaded
//	POST /v1/drain              no new clients, then leave   (T)     Drain -> Done
//	POST /v1/terminate          stop at once, say nothing    (D)     Done
//	GET  /metrics               Prometheus
//	GET  /livez, /readyz        200 or 503 and a line of text; they need no token
//	GET  /debug/pprof/          profiles of the Go runtime
//
// (D) are dangerous: they need DangerousMonitor in the daemon's configuration. (T) are dangerous over TCP. What is refused
// says so in a sentence, with status 403. Every command, done or refused, is a line in the log that says who asked.
package admin
