// SPDX-License-Identifier: Apache-2.0

// What all members written in C share: the load, its measurement, and the commands on standard input, which are those of
// run.Member in Go. So what differs between two systems is how messages travel, not how they are sent and counted.
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>

enum { MAX_MEMBERS = 8, EXIT_CHANGED = 3 };

// A link is a member's way to the others, itself included: each message also comes back to its sender.
struct link {
	int fd;     // readable while there is something to receive
	bool lossy; // messages may be missing; then nothing is said about order either
	// send hands a message over: 1 if it did, 0 if it must be tried again later. It ends the process on errors.
	int (*send)(const void *data, size_t bytes);
	// receive calls received for what is there, and does not wait.
	void (*receive)(void);
};

// load says "ready" and obeys commands until standard input ends.
int load(struct link *link, int me, int members);

// received takes a message in. Its bytes are not kept.
void received(const void *data, size_t bytes);

// die ends the process with a message.
void die(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
