// SPDX-License-Identifier: MIT
/*
 * kernel_facts_record.c - what the kernel knows of a guest's process, as bytes. No process is needed for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "process/threads/pending.h"
#include "process/process.h"

#define SIGNALS 64u
#define LIMITS 16u
#define TIMERS_MOST 4096u

/* The addresses of prctl(PR_SET_MM_MAP), in the order of the record. */
static void list_addresses(struct kernel_facts *facts, uint64_t *list[static 11])
{
	uint64_t *const all[11] = {&facts->start_code,	&facts->end_code,  &facts->start_data,
				   &facts->end_data,	&facts->start_brk, &facts->brk,
				   &facts->start_stack, &facts->arg_start, &facts->arg_end,
				   &facts->env_start,	&facts->env_end};

	memcpy(list, all, sizeof(all));
}

static void encode_timer(const struct kernel_timer *timer, struct record_writer *writer)
{
	record_put(writer, (uint32_t)timer->id);
	record_put(writer, (uint32_t)timer->clock);
	record_put(writer, (uint32_t)timer->notify);
	record_put(writer, (uint32_t)timer->signal);
	record_put(writer, (uint32_t)timer->tid);
	record_put(writer, timer->value);
	record_put(writer, (uint64_t)timer->time.it_interval.tv_sec);
	record_put(writer, (uint64_t)timer->time.it_interval.tv_nsec);
	record_put(writer, (uint64_t)timer->time.it_value.tv_sec);
	record_put(writer, (uint64_t)timer->time.it_value.tv_nsec);
}

void kernel_facts_encode(const struct kernel_facts *facts, struct record_writer *writer)
{
	size_t section = record_section_begin(writer, RECORD_KERNEL);
	struct kernel_facts copy = *facts;
	uint64_t *addresses[11];

	list_addresses(&copy, addresses);
	for (unsigned i = 0; i < 11; i++)
		record_put(writer, *addresses[i]);
	record_put_bytes(writer, facts->auxv, facts->auxv_bytes);
	for (unsigned i = 1; i <= SIGNALS; i++) {
		record_put(writer, facts->actions[i].handler);
		record_put(writer, facts->actions[i].flags);
		record_put(writer, facts->actions[i].restorer);
		record_put(writer, facts->actions[i].mask);
	}
	for (unsigned i = 0; i < LIMITS; i++) {
		record_put(writer, facts->limits[i].soft);
		record_put(writer, facts->limits[i].hard);
	}
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 4; j++)
			record_put(writer, facts->timers[i][j]);
	record_put(writer, facts->posix_timer_count);
	for (unsigned i = 0; i < facts->posix_timer_count; i++)
		encode_timer(&facts->posix_timers[i], writer);
	pending_encode(facts->pending, facts->pending_count, writer);
	record_put_text(writer, facts->directory);
	record_put_text(writer, facts->executable);
	record_put(writer, facts->umask);
	record_put(writer, facts->dumpable);
	record_put(writer, facts->child_subreaper);
	record_put(writer, facts->no_new_privileges);
	record_put(writer, facts->personality);
	record_put(writer, (uint32_t)facts->pid);
	record_put(writer, (uint32_t)facts->parent);
	record_put(writer, (uint32_t)facts->group);
	record_put(writer, (uint32_t)facts->session);
	record_put(writer, facts->child_count);
	for (unsigned i = 0; i < facts->child_count; i++)
		record_put(writer, (uint32_t)facts->children[i]);
	record_put(writer, facts->oom_score_adj);
	record_section_end(writer, section);
}

static int32_t take_int(struct record_reader *reader)
{
	return (int32_t)record_take_up_to(reader, UINT32_MAX);
}

static void decode_timer(struct kernel_timer *timer, struct record_reader *reader)
{
	timer->id = (int32_t)record_take_up_to(reader, INT32_MAX);
	timer->clock = take_int(reader);
	timer->notify = take_int(reader);
	timer->signal = take_int(reader);
	timer->tid = take_int(reader);
	timer->value = record_take(reader);
	timer->time.it_interval.tv_sec = (time_t)record_take_up_to(reader, INT64_MAX);
	timer->time.it_interval.tv_nsec = (long)record_take_up_to(reader, 999999999);
	timer->time.it_value.tv_sec = (time_t)record_take_up_to(reader, INT64_MAX);
	timer->time.it_value.tv_nsec = (long)record_take_up_to(reader, 999999999);
}

static bool decode_auxv(struct kernel_facts *facts, struct record_reader *reader)
{
	size_t bytes;
	const void *data = record_take_bytes(reader, &bytes);

	if (reader->failed || bytes > sizeof(facts->auxv))
		return false;
	if (bytes)
		memcpy(facts->auxv, data, bytes);
	facts->auxv_bytes = (uint32_t)bytes;
	return true;
}

static bool decode_timers(struct kernel_facts *facts, struct record_reader *reader)
{
	uint64_t count;

	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 4; j++)
			facts->timers[i][j] = record_take_up_to(reader, INT64_MAX);
	count = record_take_count(reader, 80);
	if (reader->failed || count > TIMERS_MOST)
		return false;
	facts->posix_timers = calloc(count ? count : 1, sizeof(*facts->posix_timers));
	if (!facts->posix_timers)
		return false;
	for (; facts->posix_timer_count < count; facts->posix_timer_count++)
		decode_timer(&facts->posix_timers[facts->posix_timer_count], reader);
	return !reader->failed;
}

static bool decode_children(struct kernel_facts *facts, struct record_reader *reader)
{
	uint64_t count = record_take_count(reader, 8);

	if (reader->failed || count > UINT32_MAX)
		return false;
	facts->children = calloc(count ? count : 1, sizeof(*facts->children));
	if (!facts->children)
		return false;
	for (; facts->child_count < count; facts->child_count++)
		facts->children[facts->child_count] = (int32_t)record_take_up_to(reader, INT32_MAX);
	return !reader->failed;
}

static bool decode_rest(struct kernel_facts *facts, struct record_reader *reader)
{
	if (!pending_decode(&facts->pending, &facts->pending_count, reader))
		return false;
	facts->directory = record_take_text(reader);
	facts->executable = record_take_text(reader);
	if (!facts->directory || !facts->executable)
		return false;
	facts->umask = (uint32_t)record_take_up_to(reader, 0777);
	facts->dumpable = (uint32_t)record_take_up_to(reader, 2);
	facts->child_subreaper = (uint32_t)record_take_up_to(reader, 1);
	facts->no_new_privileges = (uint32_t)record_take_up_to(reader, 1);
	facts->personality = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	facts->pid = take_int(reader);
	facts->parent = take_int(reader);
	facts->group = take_int(reader);
	facts->session = take_int(reader);
	if (!decode_children(facts, reader))
		return false;
	facts->oom_score_adj = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	return !reader->failed;
}

bool kernel_facts_decode(struct kernel_facts *facts, struct record_reader *reader)
{
	struct record_reader section;
	uint64_t *addresses[11];
	bool good;

	*facts = (struct kernel_facts){0};
	if (!record_take_section(reader, RECORD_KERNEL, &section))
		return false;
	list_addresses(facts, addresses);
	for (unsigned i = 0; i < 11; i++)
		*addresses[i] = record_take(&section);
	good = decode_auxv(facts, &section);
	for (unsigned i = 1; i <= SIGNALS; i++) {
		facts->actions[i].handler = record_take(&section);
		facts->actions[i].flags = record_take(&section);
		facts->actions[i].restorer = record_take(&section);
		facts->actions[i].mask = record_take(&section);
	}
	for (unsigned i = 0; i < LIMITS; i++) {
		facts->limits[i].soft = record_take(&section);
		facts->limits[i].hard = record_take(&section);
	}
	good = good && decode_timers(facts, &section) && decode_rest(facts, &section);
	if (!good)
		kernel_facts_free(facts);
	return good;
}
