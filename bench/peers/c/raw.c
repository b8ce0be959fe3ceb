// SPDX-License-Identifier: Apache-2.0

// A member of nothing: what the sockets carry, one call for each message and receiver, without order or repair.
//
//	raw multicast GROUP PORT ME ADDRESS...   UDP, one send to a group
//	raw unicast - PORT ME ADDRESS...         UDP, one send to each
//	raw unix DIR - ME NAME...                Unix stream sockets between all, one write to each
//
// ADDRESS or NAME are those of all members, in order. Each also sends to itself.

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 32 << 20, MAX_MESSAGE = 1 << 20, BATCH = 64 };

static int in, out, ways;
static struct sockaddr_in to[MAX_MEMBERS];

static void must(int r, const char *what) {
	if (r < 0) die(1, "%s: %s", what, strerror(errno));
}

static int udp_send(const void *data, size_t bytes) {
	for (int i = 0; i < ways; i++)
		if (sendto(out, data, bytes, 0, (struct sockaddr *)&to[i], sizeof to[i]) < 0 && errno != ENOBUFS && errno != EAGAIN)
			die(1, "sendto: %s", strerror(errno));
	return 1;
}

static void udp_receive(void) {
	static char buf[1 << 16];
	for (int i = 0; i < BATCH; i++) {
		ssize_t k = recv(in, buf, sizeof buf, MSG_DONTWAIT);
		if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
		must(k, "recv");
		received(buf, k);
	}
}

static void big(int fd, int force, int plain) {
	int size = BUFFER;
	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof size) < 0) setsockopt(fd, SOL_SOCKET, plain, &size, sizeof size);
}

static void udp(bool group, char **argv, int me, int n) {
	int port = atoi(argv[3]), one = 1;
	in = socket(AF_INET, SOCK_DGRAM, 0);
	must(in, "socket");
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	at.sin_addr.s_addr = inet_addr(group ? argv[2] : argv[5 + me]);
	must(setsockopt(in, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	must(bind(in, (struct sockaddr *)&at, sizeof at), "bind");
	big(in, SO_RCVBUFFORCE, SO_RCVBUF);
	out = socket(AF_INET, SOCK_DGRAM, 0);
	must(out, "socket");
	big(out, SO_SNDBUFFORCE, SO_SNDBUF);
	if (!group) {
		ways = n;
		for (int i = 0; i < n; i++)
			to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(argv[5 + i])};
		return;
	}
	ways = 1;
	to[0] = at;
	struct ip_mreq m = {.imr_multiaddr = at.sin_addr, .imr_interface.s_addr = inet_addr(argv[5 + me])};
	must(setsockopt(in, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m), "IP_ADD_MEMBERSHIP");
	must(setsockopt(out, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_interface, sizeof m.imr_interface), "IP_MULTICAST_IF");
}

// What has come from each over a stream, not yet whole: four bytes of length and the message.
static int outs[MAX_MEMBERS];
static struct { char buf[2 * MAX_MESSAGE]; size_t have; } streams[MAX_MEMBERS];
static int ins[MAX_MEMBERS];

static int unix_send(const void *data, size_t bytes) {
	static char buf[4 + MAX_MESSAGE];
	uint32_t size = bytes;
	memcpy(buf, &size, 4);
	memcpy(buf + 4, data, bytes);
	for (int i = 0; i < ways; i++)
		for (size_t done = 0; done < 4 + bytes;) {
			ssize_t k = write(outs[i], buf + done, 4 + bytes - done);
			if (k < 0 && errno != EINTR) die(1, "write: %s", strerror(errno));
			if (k > 0) done += k;
		}
	return 1;
}

static void unix_receive(void) {
	struct epoll_event ev[MAX_MEMBERS];
	int n = epoll_wait(in, ev, MAX_MEMBERS, 0);
	for (int i = 0; i < n; i++) {
		int s = ev[i].data.u32;
		size_t at = 0;
		ssize_t k = recv(ins[s], streams[s].buf + streams[s].have, 256 << 10, MSG_DONTWAIT);
		if (k == 0) exit(0); // another one was stopped first
		if (k < 0) continue;
		streams[s].have += k;
		for (uint32_t size; streams[s].have - at >= 4; at += 4 + size) {
			memcpy(&size, streams[s].buf + at, 4);
			if (size > MAX_MESSAGE) die(1, "a message of %u bytes", size);
			if (streams[s].have - at - 4 < size) break;
			received(streams[s].buf + at + 4, size);
		}
		streams[s].have -= at;
		memmove(streams[s].buf, streams[s].buf + at, streams[s].have);
	}
}

static void unix_mesh(char **argv, int me, int n) {
	ways = n;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	must(l, "socket");
	snprintf(a.sun_path, sizeof a.sun_path, "%s/raw-%s.s", argv[2], argv[5 + me]);
	must(bind(l, (struct sockaddr *)&a, sizeof a), "bind");
	must(listen(l, MAX_MEMBERS), "listen");
	for (int i = 0; i < n; i++) {
		outs[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		must(outs[i], "socket");
		big(outs[i], SO_SNDBUFFORCE, SO_SNDBUF);
		snprintf(a.sun_path, sizeof a.sun_path, "%s/raw-%s.s", argv[2], argv[5 + i]);
		for (int tries = 0; connect(outs[i], (struct sockaddr *)&a, sizeof a) < 0; tries++) {
			if (tries == 500) die(1, "connect: %s", strerror(errno));
			nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); // it is starting
		}
	}
	in = epoll_create1(0);
	must(in, "epoll_create1");
	for (int i = 0; i < n; i++) {
		ins[i] = accept(l, NULL, NULL);
		must(ins[i], "accept");
		struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
		must(epoll_ctl(in, EPOLL_CTL_ADD, ins[i], &e), "epoll_ctl");
	}
}

int main(int argc, char **argv) {
	if (argc < 6 || argc - 5 > MAX_MEMBERS) die(2, "arguments: multicast|unicast|unix GROUP|DIR PORT ME ADDRESS...");
	int me = atoi(argv[4]), n = argc - 5;
	struct link l = {.lossy = true, .send = udp_send, .receive = udp_receive};
	if (strcmp(argv[1], "unix") == 0) {
		l = (struct link){.send = unix_send, .receive = unix_receive};
		unix_mesh(argv, me, n);
	} else {
		udp(strcmp(argv[1], "multicast") == 0, argv, me, n);
	}
	l.fd = in;
	return load(&l, me, n);
}
