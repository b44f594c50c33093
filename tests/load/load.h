/* SPDX-License-Identifier: MIT */
/*
 * load.h - a client of many connections that remembers what was acknowledged to it: each connection asks, waits for the
 * answer, and asks again (a closed loop). The benchmarks measure with it how many answers a second there are and how long
 * each took; the tests of output commit kill the server meanwhile: a request whose answer did not come is asked once more
 * with the same id, and load_audit() compares what the server has with what it said.
 *
 * One thread; nothing blocks but load_run(). The requests are told in requests.c.
 */
#ifndef TESTS_LOAD_H
#define TESTS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum load_protocol {
	LOAD_HTTP, /* POST /count/KEY, POST /add/ID, GET /get/ID, GET /total: 200, and the number as the body */
	LOAD_LINE, /* "count KEY\n", "add ID\n", "get ID\n", "total\n": "NUMBER\n" */
	LOAD_REDIS /* INCR, and an EVAL that makes an id count once */
};
#define LOAD_PROTOCOLS 3
extern const char *const load_protocol_names[LOAD_PROTOCOLS];

enum load_request {
	LOAD_COUNT, /* add one to the counter of a key: the answer is what it has now */
	LOAD_ADD, /* add one to the total, unless this id did before: what the total came to when it did */
	LOAD_GET, /* what LOAD_ADD of this id was answered; 0: it never came */
	LOAD_TOTAL
};

struct load_options {
	enum load_protocol protocol;
	unsigned port; /* of 127.0.0.1 */
	unsigned connections;
	unsigned
		keys; /* LOAD_COUNT of one of so many at random; 0: LOAD_ADD, and lost connections are made again */
	uint64_t seed;
	const char
		*first; /* ids begin with it: those of two clients of one server are not the same */
};

struct load_counts {
	uint64_t acknowledged;
	uint64_t again; /* requests that were sent once more, because their answer did not come */
	uint64_t lost;	/* connections that ended */
	uint64_t missing, doubled,
		others; /* by the last audit: ids that are not there, numbers that two have, other numbers */
	uint64_t total; /* what the server has, by the last audit */
};

struct load;

/* NULL, with errno. */
struct load *load_open(const struct load_options *options);
void load_close(struct load *load);
/*
 * Go on for so long, or until so many more are acknowledged (0: no matter). False: an answer made no sense, or, with keys, a
 * connection was lost: load_wrong().
 */
bool load_run(struct load *load, double seconds, uint64_t acknowledgements);
/* Nothing new, until everything that was asked is acknowledged. False: that took longer, or as load_run(). */
bool load_settle(struct load *load, double seconds);
/*
 * After load_settle(): asks for every id that was acknowledged. True: each has its number, no two have the same, and the
 * server has no more than these.
 */
bool load_audit(struct load *load, double seconds);
/* All connections end here and now, and what was on its way to them is never read. */
void load_break(struct load *load);
const char *load_wrong(const struct load *load);
const struct load_counts *load_counts(const struct load *load);
/* How long the requests of load_run() took since the last call, microseconds, sorted; until the next load_run(). */
const uint32_t *load_times(struct load *load, size_t *count);

/* ---- requests.c */

/* The text of it; `id` is the id or the key. Bytes. */
size_t load_write(enum load_protocol protocol, enum load_request request, const char *id,
		  char *text, size_t room);
/* The next answer: bytes, 0: there is more to come, -1: it is none. */
long load_read(enum load_protocol protocol, const char *text, size_t bytes, uint64_t *number);

#endif
