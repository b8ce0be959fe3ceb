// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

// A message says: sender 8, its number 8, when it was sent 8 (or when it was due), and for each member the number of
// the last message that the sender has received from it, 8 each.
enum { HEADER = 24 + 8 * MAX_MEMBERS, MAX_BYTES = 1 << 20 };

static const int64_t silence = 10000000000;  // nothing may arrive for so long before a member gives up
static const int64_t lossy_silence = 10000000; // ... before what is under way counts as lost

static struct link *way;
static int me, members;

static bool sending, alone, stopping;
static uint64_t window, lead; // messages; window 0: by schedule
static int64_t first_due, interval;
static uint64_t scheduled;
static size_t bytes;
static char data[MAX_BYTES];

static uint64_t sent, got[MAX_MEMBERS], acked[MAX_MEMBERS], told[MAX_MEMBERS];
static int64_t since, last; // nanoseconds: of the mark, of the last message
static uint64_t count, own, lost;
static bool refused; // the link took no message the last time

// Times are counted with a relative error below one percent.
enum { FINE = 128, BUCKETS = 64 * FINE };
static uint64_t histogram[BUCKETS];

void die(int code, const char *format, ...) {
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(code);
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void record(int64_t v) {
	if (v < 0) v = 0;
	int shift = v < FINE ? 0 : 63 - __builtin_clzll(v) - 7;
	histogram[shift * FINE + (v >> shift)]++;
}

static double quantile(double q) { // microseconds
	uint64_t want = q * own, sum = 0;
	for (int i = 0; i < BUCKETS; i++) {
		sum += histogram[i];
		if (sum > want) {
			int shift = i < 2 * FINE ? 0 : i / FINE - 1;
			return (double)((uint64_t)(i - shift * FINE) << shift) / 1e3;
		}
	}
	return 0;
}

static void put(int64_t when) {
	uint64_t header[3 + MAX_MEMBERS] = {me, sent + 1, when};
	memcpy(header + 3, got, sizeof got);
	memcpy(data, header, HEADER);
}

static bool hand_over(int64_t when) {
	put(when);
	refused = !way->send(data, bytes);
	if (!refused) {
		sent++;
		memcpy(told, got, sizeof told);
	}
	return !refused;
}

static uint64_t slowest(void) {
	uint64_t least = sent;
	for (int i = 0; i < members; i++)
		if (i != me && acked[i] < least) least = acked[i];
	return least;
}

// is_awaited reports whether another member may be waiting to hear what we have: see run.Member.
static bool is_awaited(void) {
	for (int i = 0; i < members; i++)
		if (i != me && got[i] - told[i] >= lead) return true;
	return false;
}

// send_what_may sends what the window or the schedule allows.
static void send_what_may(void) {
	if (!sending) return;
	if (window == 0) {
		for (int64_t due; (due = first_due + (int64_t)scheduled * interval) <= now();) {
			if (!hand_over(due)) return; // it stays due since then
			scheduled++;
		}
		return;
	}
	for (;;) {
		uint64_t flying = sent - got[me];
		if (flying >= window || (!alone && sent - slowest() >= lead && (flying > 0 || !is_awaited()))) return;
		if (!hand_over(now())) return;
	}
}

void received(const void *d, size_t size) {
	uint64_t header[3 + MAX_MEMBERS];
	if (size < HEADER) die(1, "a message of %zu bytes is not ours", size);
	memcpy(header, d, HEADER);
	uint64_t from = header[0], number = header[1];
	if (from >= (uint64_t)members) die(1, "a message of member %llu", (unsigned long long)from);
	if (number != got[from] + 1) {
		if (!way->lossy) die(1, "message %llu of member %llu, want %llu: lost, or not ours", (unsigned long long)number, (unsigned long long)from, (unsigned long long)got[from] + 1);
		if (number <= got[from]) return;
		lost += number - got[from] - 1;
	}
	got[from] = number;
	count++;
	last = now();
	if (from == (uint64_t)me) {
		own++;
		record(last - (int64_t)header[2]);
	} else if (header[3 + me] > acked[from]) {
		acked[from] = header[3 + me];
	}
}

static void command(char *line) {
	char service[16], word[16];
	unsigned long b, w, l;
	double rate;
	if (sscanf(line, "send %15s %lu %lu %lu %15s", service, &b, &w, &l, word) == 5) {
		if (b < HEADER || b > MAX_BYTES || w == 0) die(1, "bad command %s", line);
		bytes = b, lead = l / b > 2 ? l / b : 2, alone = strcmp(word, "alone") == 0;
		window = w < lead / 2 ? w : lead / 2; // what the others have is known one window late
		for (int i = 0; i < members; i++)
			if (acked[i] < got[me]) acked[i] = got[me]; // all from before has been received by now
		sending = true;
		last = now();
		puts("sending");
	} else if (sscanf(line, "pace %15s %lu %lf", service, &b, &rate) == 3) {
		if (b < HEADER || b > MAX_BYTES || rate <= 0) die(1, "bad command %s", line);
		bytes = b, window = 0, scheduled = 0, interval = 1e9 / rate;
		if (interval == 0) interval = 1;
		last = now();
		first_due = last + interval * (me + 1) / members;
		sending = true;
		puts("sending");
	} else if (strcmp(line, "mark") == 0) {
		since = now(), count = own = lost = 0;
		memset(histogram, 0, sizeof histogram);
		puts("marked");
	} else if (strcmp(line, "report") == 0) {
		printf("{\"Seconds\":%.9f,\"Received\":%llu,\"Own\":%llu,\"Lost\":%llu,\"P50\":%.3f,\"P99\":%.3f}\n", (now() - since) / 1e9,
			(unsigned long long)count, (unsigned long long)own, (unsigned long long)lost, quantile(0.5), quantile(0.99));
	} else if (strcmp(line, "stop") == 0) {
		sending = false;
		stopping = true;
		last = now();
	} else {
		die(1, "unknown command %s", line);
	}
	fflush(stdout);
}

// commands obeys what stands on standard input, and reports whether there will be more.
static bool commands(void) {
	static char line[256];
	static size_t have;
	ssize_t k = read(0, line + have, sizeof line - 1 - have);
	if (k <= 0) return false;
	have += k;
	for (char *end; (end = memchr(line, '\n', have)) != NULL;) {
		*end = 0;
		command(line);
		have -= end + 1 - line;
		memmove(line, end + 1, have);
	}
	return true;
}

int load(struct link *l, int m, int n) {
	way = l, me = m, members = n;
	prctl(PR_SET_TIMERSLACK, 1UL); // due means due, as for our own members: by default the kernel may wake 50 us late
	puts("ready");
	fflush(stdout);
	struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = l->fd, .events = POLLIN}};
	for (;;) {
		// Wait for a message or a command; for the next time that something is due; a moment, if the link took nothing.
		int64_t t = now(), wait = 1000000000;
		if (sending && window == 0) {
			int64_t due = first_due + (int64_t)scheduled * interval - t;
			if (due < wait) wait = due;
		}
		if (way->lossy && (sending || stopping) && wait > lossy_silence) wait = lossy_silence;
		if (refused) wait = 200000;
		if (wait < 0) wait = 0;
		struct timespec timeout = {wait / 1000000000, wait % 1000000000};
		if (ppoll(fds, 2, &timeout, NULL) < 0 && errno != EINTR) die(1, "poll: %s", strerror(errno));
		if (fds[0].revents && !commands()) return 0;
		if (fds[1].revents) way->receive();
		t = now();
		if (way->lossy && t - last > lossy_silence) { // what is under way is lost
			got[me] = sent;
			for (int i = 0; i < members; i++) acked[i] = sent;
		}
		send_what_may();
		if (stopping && got[me] == sent) {
			stopping = false;
			puts("stopped");
			fflush(stdout);
		}
		if ((stopping || (sending && window != 0)) && t - last > silence)
			die(1, "stuck: %llu messages sent, %llu of them received, nothing arrives", (unsigned long long)sent, (unsigned long long)got[me]);
	}
}
