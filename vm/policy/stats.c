/* SPDX-License-Identifier: MIT */
/*
 * stats.c - shows the numbers of a run: a table for people, or one JSON object.
 *
 * Owns nothing; called by the command line and by the repl. Must not allocate: it also runs when
 * memory has ended.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "control/numbers.h"
#include "runtime.h"

static void put(int fd, const char *text, int length, size_t room)
{
	size_t bytes = length < 0 ? 0 : (size_t)length < room ? (size_t)length : room - 1;

	while (bytes) {
		ssize_t done = write(fd, text, bytes);

		if (done <= 0)
			return;
		text += done;
		bytes -= (size_t)done;
	}
}

/* "1.5 MiB" */
static const char *amount(uint64_t bytes, char text[24])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	snprintf(text, 24, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}

/* "250 us" */
static const char *duration(uint64_t ns, char text[24])
{
	if (ns < 1000000)
		snprintf(text, 24, "%.0f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(text, 24, "%.2f ms", (double)ns / 1e6);
	else
		snprintf(text, 24, "%.2f s", (double)ns / 1e9);
	return text;
}

static void print_replica(const struct numbers_replica *replica, int fd)
{
	char a[24], b[24], text[1536];

	put(fd, text,
	    snprintf(text, sizeof(text),
		     "replica         %.255s: %s%s; generation %llu, after %s\n", replica->place,
		     replica->state, replica->durable ? ", decides what is durable" : "",
		     (unsigned long long)replica->generation, duration(replica->lag_ns, a)),
	    sizeof(text));
	put(fd, text,
	    snprintf(
		    text, sizeof(text),
		    "to the store    %llu records, %llu other objects, %llu requests, %s; it has %s\n",
		    (unsigned long long)replica->records, (unsigned long long)replica->objects,
		    (unsigned long long)replica->requests, amount(replica->bytes_sent, a),
		    amount(replica->bytes_stored, b)),
	    sizeof(text));
	if (replica->why[0])
		put(fd, text, snprintf(text, sizeof(text), "                %s\n", replica->why),
		    sizeof(text));
}

static void print_table(const struct runtime_stats *stats, int fd)
{
	const struct thaw_status *heap = &stats->heap;
	uint64_t pause_mean = heap->checkpoints ? heap->pause_ns_total / heap->checkpoints : 0;
	char a[24], b[24], text[4096];
	size_t used = 0;

#define LINE(...)                                                                          \
	(used += used < sizeof(text)                                                       \
			 ? (size_t)snprintf(text + used, sizeof(text) - used, __VA_ARGS__) \
			 : 0)
	if (stats->opened.number && stats->process)
		LINE("restored        generation %llu, %s until it ran\n",
		     (unsigned long long)stats->opened.number, duration(stats->first_turn_ns, a));
	else if (stats->opened.number)
		LINE("restored        generation %llu, %s to the first instruction, %s to the end of the first turn\n",
		     (unsigned long long)stats->opened.number, duration(stats->restore_ns, a),
		     duration(stats->first_turn_ns, b));
	else
		LINE("started         fresh, %s %s\n", duration(stats->first_turn_ns, a),
		     stats->process ? "until it ran" : "to the end of the first turn");
	LINE("restores        %llu in the life of this program\n",
	     (unsigned long long)stats->restores);
	LINE("%s%s%s\n", stats->process ? "memory          " : "heap            ",
	     amount(stats->heap_bytes, a), stats->process ? " mapped" : "");
	LINE("pages           %llu arrived from the image (%s read), %llu faults, %llu unreadable\n",
	     (unsigned long long)heap->pages_restored, amount(heap->restore_bytes, a),
	     (unsigned long long)heap->faults, (unsigned long long)heap->pages_poisoned);
	if (!stats->process)
		LINE("turns           %llu, %llu garbage collections\n",
		     (unsigned long long)stats->turns, (unsigned long long)stats->collections);
	LINE("generation      %llu; %llu checkpoints, %llu failed\n",
	     (unsigned long long)heap->generation, (unsigned long long)heap->checkpoints,
	     (unsigned long long)heap->checkpoints_failed);
	if (stats->achieved_ns)
		LINE("interval        %s asked for, %s on average\n", duration(stats->every_ns, a),
		     duration(stats->achieved_ns, b));
	if (stats->failing)
		LINE("failing         %llu in a row since %s: %s\n",
		     (unsigned long long)stats->failing, duration(stats->failing_ns, a),
		     stats->failure);
	LINE("stored          %llu pages, %s written; the image has",
	     (unsigned long long)heap->checkpoint_pages, amount(heap->checkpoint_bytes, a));
	LINE(" %s\n", amount(heap->image_bytes, a));
	LINE("pauses          %s on average, %s at most\n", duration(pause_mean, a),
	     duration(heap->pause_ns_max, b));
	if (stats->turn_stops)
		LINE("stopped turns   %llu, stacks of %s at most, %s to copy and sign one\n",
		     (unsigned long long)stats->turn_stops, amount(stats->stack_bytes_max, a),
		     duration(stats->stack_ns_total / stats->turn_stops, b));
	if (stats->commits_output)
		LINE("output          %s held, %llu generations for %s",
		     amount(stats->output_held, a), (unsigned long long)stats->output_generations,
		     amount(stats->output_committed, b));
	if (stats->commits_output && stats->held_ns_max)
		LINE(", held for %s (median)", duration(stats->held_ns_p50, a));
	if (stats->commits_output && stats->held_ns_max)
		LINE(", %s (99 of 100), %s at most", duration(stats->held_ns_p99, a),
		     duration(stats->held_ns_max, b));
	if (stats->commits_output)
		LINE("\n");
	LINE("mechanism       %s delivery, %s tracking, %s memory, %s reads\n",
	     heap->delivery ? heap->delivery : "no", heap->tracker ? heap->tracker : "no",
	     heap->backing ? heap->backing : "no", heap->reader ? heap->reader : "no");
#undef LINE
	put(fd, text, (int)used, sizeof(text));
}

/* A member of the object. */
static size_t json_replica(const struct numbers_replica *replica, char *text, size_t room)
{
	size_t used = 0;

	if (!replica || !replica->place)
		return 0;
	used += (size_t)snprintf(text + used, room - used, ",\"replica\":{\"place\":");
	used += json_quote(replica->place, text + used, room - used - 1024);
	used += (size_t)snprintf(
		text + used, room - used,
		",\"state\":\"%s\",\"durable\":\"%s\",\"generation\":%llu,\"lagNs\":%llu,"
		"\"behindNs\":%llu,\"epoch\":%llu,\"records\":%llu,\"objects\":%llu,"
		"\"requests\":%llu,\"bytesSent\":%llu,\"objectsStored\":%llu,\"bytesStored\":%llu}",
		replica->state, replica->durable ? "remote" : "local",
		(unsigned long long)replica->generation, (unsigned long long)replica->lag_ns,
		(unsigned long long)replica->behind_ns, (unsigned long long)replica->epoch,
		(unsigned long long)replica->records, (unsigned long long)replica->objects,
		(unsigned long long)replica->requests, (unsigned long long)replica->bytes_sent,
		(unsigned long long)replica->objects_stored,
		(unsigned long long)replica->bytes_stored);
	return used;
}

static void print_json(const struct runtime_stats *stats, const struct numbers_replica *replica,
		       int fd)
{
	const struct thaw_status *heap = &stats->heap;
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{"openedGeneration", stats->opened.number},
		{"restoreNs", stats->restore_ns},
		{"firstTurnNs", stats->first_turn_ns},
		{"restores", stats->restores},
		{"heapBytes", stats->heap_bytes},
		{"pagesRestored", heap->pages_restored},
		{"restoreBytes", heap->restore_bytes},
		{"faults", heap->faults},
		{"pagesPoisoned", heap->pages_poisoned},
		{"turns", stats->turns},
		{"collections", stats->collections},
		{"generation", heap->generation},
		{"checkpoints", heap->checkpoints},
		{"checkpointsFailed", heap->checkpoints_failed},
		{"checkpointsFailing", stats->failing},
		{"failingNs", stats->failing_ns},
		{"everyNs", stats->every_ns},
		{"achievedNs", stats->achieved_ns},
		{"checkpointPages", heap->checkpoint_pages},
		{"checkpointBytes", heap->checkpoint_bytes},
		{"imageBytes", heap->image_bytes},
		{"pauseNsTotal", heap->pause_ns_total},
		{"pauseNsMax", heap->pause_ns_max},
		{"turnStops", stats->turn_stops},
		{"stackBytesMax", stats->stack_bytes_max},
		{"stackNsTotal", stats->stack_ns_total},
		{"outputGenerations", stats->output_generations},
		{"outputHeld", stats->output_held},
		{"outputCommitted", stats->output_committed},
		{"heldNsP50", stats->held_ns_p50},
		{"heldNsP99", stats->held_ns_p99},
		{"heldNsMax", stats->held_ns_max},
	};
	char text[4096 + 2 * 6 * 1024 + 6 * sizeof(heap->checkpoint_error.text)];
	size_t used = 0;

	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\"%s\":%llu",
					 i ? "," : "{", fields[i].name,
					 (unsigned long long)fields[i].value);
	used += (size_t)snprintf(text + used, sizeof(text) - used, ",\"checkpointError\":");
	if (stats->failure[0])
		used += json_quote(stats->failure, text + used, sizeof(text) - used - 8192);
	else
		used += (size_t)snprintf(text + used, sizeof(text) - used, "null");
	used += json_replica(replica, text + used, sizeof(text) - used - 1024);
	used += (size_t)snprintf(
		text + used, sizeof(text) - used,
		",\"delivery\":\"%s\",\"tracker\":\"%s\",\"backing\":\"%s\","
		"\"reader\":\"%s\"}\n",
		heap->delivery ? heap->delivery : "", heap->tracker ? heap->tracker : "",
		heap->backing ? heap->backing : "", heap->reader ? heap->reader : "");
	put(fd, text, (int)used, sizeof(text));
}

void runtime_stats_print(const struct runtime_stats *stats, const struct numbers_replica *replica,
			 bool json, int fd)
{
	if (json)
		print_json(stats, replica, fd);
	else
		print_table(stats, fd);
	if (!json && replica && replica->place)
		print_replica(replica, fd);
}
