// SPDX-License-Identifier: Apache-2.0

// A member of a closed process group of corosync: ME MEMBERS.

#define _GNU_SOURCE
#include "load.h"

#include <corosync/cpg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static cpg_handle_t handle;
static int want;      // members of the group
static bool complete; // all are there

static void deliver(cpg_handle_t h, const struct cpg_name *group, uint32_t node, uint32_t pid, void *msg, size_t bytes) {
	(void)h, (void)group, (void)node, (void)pid;
	received(msg, bytes);
}

static void change(cpg_handle_t h, const struct cpg_name *group, const struct cpg_address *list, size_t n,
	const struct cpg_address *left, size_t nleft, const struct cpg_address *joined, size_t njoined) {
	(void)h, (void)group, (void)list, (void)left, (void)joined, (void)njoined;
	if (complete || nleft > 0) die(EXIT_CHANGED, "the membership changed while it was measured");
	complete = n == (size_t)want;
}

static int mcast(const void *data, size_t bytes) {
	struct iovec v = {(void *)data, bytes};
	cs_error_t e = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &v, 1);
	if (e == CS_ERR_TRY_AGAIN) return 0;
	if (e != CS_OK) die(1, "cpg_mcast_joined: error %d", e);
	return 1;
}

static void dispatch(void) {
	cs_error_t e = cpg_dispatch(handle, CS_DISPATCH_ALL);
	if (e != CS_OK && e != CS_ERR_TRY_AGAIN) die(1, "cpg_dispatch: error %d", e);
}

// again waits a little, and ends the process if that has not helped for long.
static void again(const char *what, cs_error_t e, int *tries) {
	if (++*tries == 1500) die(1, "%s: error %d", what, e);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

int main(int argc, char **argv) {
	if (argc != 3) die(2, "arguments: ME MEMBERS");
	want = atoi(argv[2]);
	cpg_callbacks_t callbacks = {deliver, change};
	cs_error_t e;
	int tries = 0;
	while ((e = cpg_initialize(&handle, &callbacks)) != CS_OK) again("cpg_initialize", e, &tries);
	struct cpg_name group = {.length = 5, .value = "bench"};
	while ((e = cpg_join(handle, &group)) != CS_OK) again("cpg_join", e, &tries);
	while (!complete) {
		dispatch();
		if (!complete) again("wait for all members", 0, &tries);
	}
	struct link l = {.send = mcast, .receive = dispatch};
	if ((e = cpg_fd_get(handle, &l.fd)) != CS_OK) die(1, "cpg_fd_get: error %d", e);
	return load(&l, atoi(argv[1]), want);
}
