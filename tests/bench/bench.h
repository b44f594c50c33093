/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the programs of `make bench` share: a clock, the middle of several runs and how far they
 * lie apart, random orders, and giving up. One thread.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <errno.h> /* program_invocation_short_name, with _GNU_SOURCE */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "thaw.h"

#define RUNS_MOST 101u

/* None of these programs hands its heap to a system call. A version before these flags is measured beside this one. */
#ifndef THAW_TOUCHES
#define THAW_TOUCHES 0u
#endif
#ifndef THAW_LOG
#define THAW_LOG 0u
#endif

static inline double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static inline int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct spread {
	double median, least, most;
};

/* Of at most RUNS_MOST values, whose order stays. */
static inline struct spread spread_of(const double *values, unsigned count)
{
	double sorted[RUNS_MOST];

	memcpy(sorted, values, count * sizeof(double));
	qsort(sorted, count, sizeof(double), compare);
	return (struct spread){(sorted[(count - 1) / 2] + sorted[count / 2]) / 2, sorted[0],
			       sorted[count - 1]};
}

static inline _Noreturn void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	exit(1);
}

/* What the first word of each page is in the files that `walk` makes. */
static inline uint64_t page_word(uint64_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15u;
}

/* `some` of the numbers below `count`, each once, in the same order every time, which is none. The caller frees them. */
static inline unsigned *some_of(unsigned count, unsigned some)
{
	static unsigned long long random = 88172645463325252ull;
	unsigned *numbers = calloc(count ? count : 1, sizeof(*numbers));

	if (!numbers || some > count)
		die("no memory, or not so many numbers");
	for (unsigned i = 0; i < count; i++)
		numbers[i] = i;
	for (unsigned i = 0; i < some; i++) {
		unsigned other, number = numbers[i];

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		other = i + (unsigned)(random % (count - i));
		numbers[i] = numbers[other];
		numbers[other] = number;
	}
	return numbers;
}

static inline unsigned *shuffled(unsigned count)
{
	return some_of(count, count);
}

#endif
