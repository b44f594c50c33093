// SPDX-License-Identifier: MIT
/*
 * checkpoint_cost - a checkpoint of a 1 GiB heap with 0, 100 and 10,000 dirty pages spread at
 * random: how long the program is held, how long until it is durable, and what is written
 * (target: at most 1.3 times the dirty bytes plus 64 KiB). Interleaved; medians of several.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define HEAP (1u << 30)
#define PAGES (HEAP / PAGE)
#define RUNS 11

int main(void)
{
	static const unsigned dirty[] = {0, 100, 10000};
	double pause[3][RUNS], durable[3][RUNS], bytes[3][RUNS];
	char directory[] = "/tmp/thaw-bench-XXXXXX", image[64];
	struct thaw_options options = {
		.image = image, .flags = THAW_CREATE, .max_bytes = HEAP, .engine = "bench"};
	struct thaw_result result;
	struct thaw_error error;
	struct thaw *heap;
	unsigned random = 1;

	if (!mkdtemp(directory))
		die("mkdtemp");
	snprintf(image, sizeof(image), "%s/heap.thaw", directory);
	if (thaw_open(&options, &heap, &error) || thaw_resize(heap, HEAP))
		die(error.text);
	for (unsigned i = 0; i < HEAP / 4; i++)
		((unsigned *)thaw_base(heap))[i] = i * 2654435761u;
	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
	printf("the first checkpoint, all of 1 GiB: pause %.2f ms, durable after %.0f ms\n\n",
	       (double)result.generation.pause_ns * 1e-6, (double)result.durable_ns * 1e-6);

	for (int run = -2; run < RUNS; run++)
		for (int size = 0; size < 3; size++) {
			struct thaw_result *r = &result;

			for (unsigned i = 0; i < dirty[size]; i++) {
				random = random * 1664525u + 1013904223u;
				((unsigned *)thaw_base(
					heap))[(size_t)((random >> 4) % PAGES) * (PAGE / 4) + 77] +=
					1 + i;
			}
			if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, r))
				die(r->error.text);
			if (run < 0)
				continue;
			pause[size][run] = (double)r->generation.pause_ns * 1e-6;
			durable[size][run] = (double)r->durable_ns * 1e-6;
			bytes[size][run] = r->unchanged ? 0 : (double)r->generation.bytes_written;
			if (r->unchanged)
				pause[size][run] = 0;
		}
	printf("%-12s %26s %28s %14s %s\n", "dirty pages", "pause ms (min-max)",
	       "durable ms (min-max)", "bytes written", "of 1.3 x dirty + 64 KiB");
	for (int size = 0; size < 3; size++) {
		qsort(pause[size], RUNS, sizeof(double), compare);
		qsort(durable[size], RUNS, sizeof(double), compare);
		qsort(bytes[size], RUNS, sizeof(double), compare);
		printf("%-12u %8.2f (%6.2f-%7.2f) %10.2f (%6.2f-%7.2f) %14.0f %.2f\n", dirty[size],
		       pause[size][RUNS / 2], pause[size][0], pause[size][RUNS - 1],
		       durable[size][RUNS / 2], durable[size][0], durable[size][RUNS - 1],
		       bytes[size][RUNS / 2],
		       bytes[size][RUNS / 2] / (1.3 * dirty[size] * PAGE + 65536));
	}
	thaw_close(heap);
	unlink(image);
	rmdir(directory);
	return 0;
}
