/* SPDX-License-Identifier: MIT */
/*
 * top_columns.c - the columns of `thaw top`: their names and keys, and what stands in them. One
 * thread.
 */
#include <ctype.h>
#include <math.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "top.h"

/* ---- Pieces of text ---- */

/* "1.2 MiB" as "1.2MiB": there is no room to give away. */
static const char *put_squeezed(char *cell, struct text text)
{
	char *to = cell;

	for (const char *from = text.s; *from; from++)
		if (*from != ' ')
			*to++ = *from;
	*to = '\0';
	return cell;
}

static const char *put_count(char *cell, double count)
{
	if (isnan(count))
		return "-";
	snprintf(cell, TOP_CELL_BYTES, "%.0f", count);
	return cell;
}

static const char *put_rate(char *cell, double rate)
{
	if (isnan(rate))
		return "-";
	snprintf(cell, TOP_CELL_BYTES, "%.*f", rate > 0 && rate < 9.95 ? 1 : 0, rate);
	return cell;
}

static const char *put_percent(char *cell, double percent)
{
	if (isnan(percent))
		return "-";
	snprintf(cell, TOP_CELL_BYTES, "%.1f", percent);
	return cell;
}

static const char *put_bytes(char *cell, double bytes)
{
	return isnan(bytes) ? "-" : put_squeezed(cell, format_bytes((uint64_t)(bytes + 0.5)));
}

static const char *put_duration(char *cell, uint64_t ns)
{
	return ns == UNKNOWN ? "-" : put_squeezed(cell, format_duration(ns));
}

static double number_of(uint64_t number)
{
	return number == UNKNOWN ? NAN : (double)number;
}

/* ---- Users ---- */

struct user {
	uid_t id;
	char *name;
};

/* Asked once each: it may be a question to a server. */
const char *top_user(uid_t id)
{
	static struct user *users;
	static size_t count, room;
	static char number[16];
	const struct passwd *entry;
	struct user *list;

	if (id == (uid_t)-1)
		return "-";
	snprintf(number, sizeof(number), "%lu", (unsigned long)id);
	for (size_t i = 0; i < count; i++)
		if (users[i].id == id)
			return users[i].name ? users[i].name : number;
	list = array_grow(users, count, &room, sizeof(*list));
	if (!list)
		return number;
	users = list;
	entry = getpwuid(id);
	users[count++] = (struct user){id, entry ? strdup(entry->pw_name) : NULL};
	return users[count - 1].name ? users[count - 1].name : number;
}

/* ---- The columns, one by one ---- */

#define TEXT_OF(name)                                                                             \
	static const char *name##_text(const struct sample *sample, const struct sample_row *row, \
				       char *cell)
#define VALUE_OF(name) \
	static double name##_value(const struct sample *sample, const struct sample_row *row)

VALUE_OF(pid)
{
	(void)sample;
	return (double)row->program->process.pid;
}

TEXT_OF(pid)
{
	return put_count(cell, pid_value(sample, row));
}

TEXT_OF(user)
{
	(void)sample, (void)cell;
	return top_user(row->program->user);
}

VALUE_OF(generation)
{
	(void)sample;
	return number_of(row->figures.generation);
}

TEXT_OF(generation)
{
	return put_count(cell, generation_value(sample, row));
}

/* The clock may have been set back since. */
VALUE_OF(age)
{
	uint64_t time = row->figures.generation_time_ns;

	if (time == UNKNOWN)
		return NAN;
	return sample->time_ns > time ? (double)(sample->time_ns - time) : 0;
}

TEXT_OF(age)
{
	uint64_t time = row->figures.generation_time_ns;

	(void)sample;
	return time == UNKNOWN ? "-" : put_squeezed(cell, format_age(time));
}

VALUE_OF(heap)
{
	(void)sample;
	return number_of(row->figures.heap_bytes);
}

TEXT_OF(heap)
{
	return put_bytes(cell, heap_value(sample, row));
}

VALUE_OF(resident)
{
	(void)sample;
	return number_of(row->figures.resident_bytes);
}

TEXT_OF(resident)
{
	return put_bytes(cell, resident_value(sample, row));
}

VALUE_OF(heap_resident)
{
	(void)sample;
	return number_of(row->figures.heap_resident_bytes);
}

TEXT_OF(heap_resident)
{
	return put_bytes(cell, heap_resident_value(sample, row));
}

VALUE_OF(dirty)
{
	(void)sample;
	return row->figures.dirty_pages;
}

TEXT_OF(dirty)
{
	return put_rate(cell, dirty_value(sample, row));
}

VALUE_OF(faults)
{
	return sample_rate(sample, row->figures.faults);
}

TEXT_OF(faults)
{
	return put_rate(cell, faults_value(sample, row));
}

VALUE_OF(served)
{
	return sample_rate(sample, row->figures.faults_served);
}

TEXT_OF(served)
{
	return put_rate(cell, served_value(sample, row));
}

VALUE_OF(passed)
{
	return sample_rate(sample, row->figures.faults_passed);
}

TEXT_OF(passed)
{
	return put_rate(cell, passed_value(sample, row));
}

VALUE_OF(pause)
{
	(void)sample;
	return number_of(row->figures.pause_ns);
}

TEXT_OF(pause)
{
	(void)sample;
	return put_duration(cell, row->figures.pause_ns);
}

VALUE_OF(mean)
{
	(void)sample;
	return number_of(row->figures.pause_mean_ns);
}

TEXT_OF(mean)
{
	(void)sample;
	return put_duration(cell, row->figures.pause_mean_ns);
}

VALUE_OF(every)
{
	(void)sample;
	return number_of(row->figures.every_ns);
}

TEXT_OF(every)
{
	(void)sample;
	return put_duration(cell, row->figures.every_ns);
}

VALUE_OF(checkpoint)
{
	(void)sample;
	return row->figures.checkpoint_bytes;
}

TEXT_OF(checkpoint)
{
	return put_bytes(cell, checkpoint_value(sample, row));
}

double top_delay_percent(const struct sample *sample, const struct sample_row *row,
			 enum delay delay)
{
	return sample_rate(sample, row->figures.delay_ns[delay]) / 1e9 * 100;
}

#define DELAY_COLUMN(name, delay)                                    \
	VALUE_OF(name)                                               \
	{                                                            \
		return top_delay_percent(sample, row, delay);        \
	}                                                            \
	TEXT_OF(name)                                                \
	{                                                            \
		return put_percent(cell, name##_value(sample, row)); \
	}

DELAY_COLUMN(block_io, DELAY_BLOCK_IO)
DELAY_COLUMN(swap_in, DELAY_SWAP_IN)
DELAY_COLUMN(thrashing, DELAY_THRASHING)
DELAY_COLUMN(copy, DELAY_WRITE_PROTECT_COPY)

/* Its path, and what is the matter with it. */
TEXT_OF(image)
{
	const struct running_program *program = row->program;
	const char *path = program->path;
	char inode[40];

	(void)sample;
	snprintf(inode, sizeof(inode), "(inode %llu)", (unsigned long long)program->inode);
	if (program->descriptor < 0)
		return "-";
	snprintf(cell, TOP_CELL_BYTES, "%s%s%s%s", path ? path : inode,
		 program->place == IMAGE_REMOVED ? " (removed)" : "", row->log.code ? ": " : "",
		 row->log.code ? thaw_strerror(row->log.code) : "");
	return cell;
}

TEXT_OF(replica)
{
	(void)sample, (void)cell;
	return row->replica[0] ? row->replica : "-";
}

TEXT_OF(command)
{
	(void)sample, (void)cell;
	return row->program->command ? row->program->command : "-";
}

const struct top_column top_columns[] = {
	{"pid", "PID", 'p', false, true, 7, 0, "the process", pid_text, pid_value},
	{"user", "USER", 'u', true, true, 8, 6, "its effective user", user_text, NULL},
	{"generation", "GEN", 'g', false, false, 6, 2, "number of the newest generation",
	 generation_text, generation_value},
	{"age", "AGE", 'a', false, false, 6, 1, "how long ago that was captured", age_text,
	 age_value},
	{"heap", "HEAP", 'z', false, false, 7, 10, "size of the heap in it", heap_text, heap_value},
	{"resident", "RES", 'm', false, false, 7, 3, "memory of the whole process", resident_text,
	 resident_value},
	{"heap-resident", "HEAPRES", 'y', false, false, 7, 7,
	 "memory of the heap, as the kernel module counts it", heap_resident_text,
	 heap_resident_value},
	{"dirty", "DIRTY/s", 'd', false, false, 7, 0, "pages of the heap written, a second",
	 dirty_text, dirty_value},
	{"faults", "FAULT/s", 'f', false, false, 7, 4, "page faults of the process, a second",
	 faults_text, faults_value},
	{"served", "SERVED/s", 'k', false, false, 8, 8,
	 "missing pages that the kernel module brought, a second", served_text, served_value},
	{"passed", "PASSED/s", 'x', false, false, 8, 9,
	 "missing pages that it left to the program, a second", passed_text, passed_value},
	{"pause", "PAUSE", 'l', false, false, 6, 2,
	 "how long the newest generation stopped the program", pause_text, pause_value},
	{"mean", "MEAN", 'e', false, false, 6, 11,
	 "the same, mean of the generations made while watching", mean_text, mean_value},
	{"every", "EVERY", 'v', false, false, 6, 16,
	 "time from the generation before to the newest one", every_text, every_value},
	{"checkpoint", "CKPT/s", 'c', false, false, 8, 1,
	 "bytes that checkpoints wrote to the image, a second", checkpoint_text, checkpoint_value},
	{"block-io", "%IO", 'b', false, false, 5, 5,
	 "time that its threads waited for disks, % of the interval", block_io_text,
	 block_io_value},
	{"swap-in", "%SWAP", 's', false, false, 5, 12, "... for pages from swap", swap_in_text,
	 swap_in_value},
	{"thrashing", "%THR", 't', false, false, 5, 13,
	 "... for pages of files that were in memory not long ago", thrashing_text,
	 thrashing_value},
	{"write-protect-copy", "%WPC", 'w', false, false, 5, 14,
	 "... for copies of write-protected pages", copy_text, copy_value},
	{"image", "IMAGE", 'i', true, true, 14, 0, "the path of the image", image_text, NULL},
	{"replica", "REPLICA", 'j', true, true, 14, 17,
	 "the object store that has a copy of the image", replica_text, NULL},
	{"command", "COMMAND", 'o', true, true, 12, 15, "how the program was called", command_text,
	 NULL},
};
const unsigned top_column_count = sizeof(top_columns) / sizeof(top_columns[0]);

const struct top_column *top_column_named(const char *name)
{
	for (unsigned i = 0; i < top_column_count; i++)
		if (!strcmp(top_columns[i].name, name))
			return &top_columns[i];
	return NULL;
}

const struct top_column *top_column_with_key(char key)
{
	for (unsigned i = 0; i < top_column_count; i++)
		if (top_columns[i].key == tolower((unsigned char)key))
			return &top_columns[i];
	return NULL;
}

bool top_column_is_used(const struct top_column *column, const struct sample *sample)
{
	bool of_module = column->value == heap_resident_value || column->value == served_value ||
			 column->value == passed_value;

	if (column->text != replica_text)
		return !of_module || sample->kernel.kmod;
	for (size_t i = 0; i < sample->count; i++)
		if (sample->rows[i].replica[0])
			return true;
	return false;
}
