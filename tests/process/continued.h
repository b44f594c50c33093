// SPDX-License-Identifier: GPL-2.0-only
/*
 * continued.h - a guest is captured, killed, and goes on in a process made of what was captured: what guest.c does,
 * without an image, descriptors and laziness. The guests are the test program itself, in a role (an environment
 * variable, looked at before main()); it is linked at fixed addresses, so both sides know each other's variables.
 *
 *	guest_begin	1: it has prepared itself; the supervisor captures
 *	guest_go_on	1: written by the supervisor into the process that goes on, before anything of it runs
 *	guest_result	what is wrong, or "fine"
 */
#ifndef TESTS_PROCESS_CONTINUED_H
#define TESTS_PROCESS_CONTINUED_H

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "process/memory/address_space.h"
#include "process/process.h"
#include "process/stub/embedded.h"
#include "support.h"

#define ROLE "CONTINUED_ROLE"

static volatile uint64_t guest_begin, guest_go_on;
static volatile char guest_result[4096];
static volatile unsigned guest_wrong;

/* ---- The guest */

SUPPORT void guest_expect(const char *what, long long is, long long was)
{
	size_t used = strlen((char *)guest_result);

	if (is == was)
		return;
	guest_wrong++;
	snprintf((char *)guest_result + used, sizeof(guest_result) - used,
		 "%s: %lld (%#llx), not %lld (%#llx)\n", what, is, is, was, was);
}

#define GUEST_EXPECT_EQ(is, was) guest_expect(#is, (long long)(is), (long long)(was))

/* Prepared: from here on another process. */
SUPPORT void guest_capture_here(void)
{
	guest_begin = 1;
	while (!guest_go_on)
		sched_yield();
}

SUPPORT _Noreturn void guest_end(void)
{
	if (!guest_wrong)
		strcpy((char *)guest_result, "fine");
	guest_go_on = 2;
	for (;;)
		usleep(100000);
}

struct guest_role {
	const char *name;
	void (*run)(void);
};
static const struct guest_role guest_roles[]; /* ends with NULL */

__attribute__((constructor)) static void guest_main(void)
{
	const char *role = getenv(ROLE);

	for (const struct guest_role *known = guest_roles; role && known->name; known++)
		if (!strcmp(role, known->name)) {
			known->run();
			guest_end();
		}
}

/* ---- The supervisor */

/* Why this program cannot be a guest here; NULL: it can. */
SUPPORT const char *continued_refusal(void)
{
#ifdef __SANITIZE_ADDRESS__
	/* Its heap lies where the control block and the restorer do. */
	return "a program with AddressSanitizer cannot be a guest";
#else
	return process_stub_bytes ? NULL : "process guests are for x86-64";
#endif
}

struct saved_page {
	uint64_t address;
	uint8_t bytes[4096];
};

struct continued {
	struct process process;
	struct process_state state;
	struct thaw_error error;
	struct saved_page *pages;
	size_t page_count, page_room;
	uint64_t capture_ns, restore_ns; /* without memory */
	bool lost_reads;
};

SUPPORT uint64_t continued_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

SUPPORT uint64_t continued_peek(struct continued *guest, volatile uint64_t *variable)
{
	uint64_t value = ~0ull;

	remote_read(&guest->process.remote, (uintptr_t)variable, &value, sizeof(value));
	return value;
}

SUPPORT bool continued_wait(struct continued *guest, volatile uint64_t *variable, uint64_t wanted)
{
	double end = support_deadline(20);

	while (continued_peek(guest, variable) != wanted) {
		if (support_seconds() > end || !remote_alive(&guest->process.remote))
			return false;
		support_sleep(0.0005);
	}
	return true;
}

/* Started, and prepared. */
SUPPORT int continued_start(struct continued *guest, const char *role)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	int rc;

	memset(guest, 0, sizeof(*guest));
	setenv(ROLE, role, 1);
	rc = process_spawn(&guest->process, arguments, environ, &guest->error);
	unsetenv(ROLE);
	if (rc)
		return rc;
	process_continue(&guest->process);
	return continued_wait(guest, &guest_begin, 1) ? 0 : -ETIMEDOUT;
}

static int continued_save(struct continued *guest, const struct thaw_range *range, bool all)
{
	uint64_t entry;

	for (uint64_t at = range->start; at < range->end; at += 4096) {
		struct saved_page *more;

		if (pread(guest->process.space->pagemap, &entry, 8, (off_t)(at / 4096 * 8)) != 8)
			return -EIO;
		if (!(entry >> 62) && !all) {
			/* Large ranges without anything: the next two MiB, if they have no page either. */
			uint64_t entries[512];
			bool any = false;

			if (at % (2 << 20) || range->end - at < 2 << 20)
				continue;
			pread(guest->process.space->pagemap, entries, sizeof(entries),
			      (off_t)(at / 4096 * 8));
			for (int i = 0; i < 512; i++)
				any |= entries[i] >> 62;
			if (!any)
				at += (2 << 20) - 4096;
			continue;
		}
		if (guest->page_count == guest->page_room) {
			guest->page_room = guest->page_room ? guest->page_room * 2 : 1024;
			more = realloc(guest->pages, guest->page_room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			guest->pages = more;
		}
		guest->pages[guest->page_count].address = at;
		if (remote_read(&guest->process.remote, at, guest->pages[guest->page_count].bytes,
				4096)) {
			guest->lost_reads = true;
			return -EFAULT;
		}
		guest->page_count++;
	}
	return 0;
}

/* Captured through a record, as if it had been in an image. The guest is stopped after it. */
SUPPORT int continued_capture(struct continued *guest)
{
	struct process *process = &guest->process;
	struct record_writer writer = {0};
	struct process_state *state = &guest->state, seen = {0};
	struct record_reader reader;
	struct thaw_range *ranges;
	uint64_t begun;
	size_t count;
	int rc;

	rc = process_stop(process, &guest->error);
	begun = continued_now();
	if (!rc)
		rc = mappings_capture(process, &seen.mappings, &guest->error);
	if (!rc)
		rc = threads_capture(process, &guest->error);
	if (!rc)
		rc = kernel_facts_capture(process, &seen.kernel, &guest->error);
	guest->capture_ns = continued_now() - begun;
	if (rc)
		return rc;
	mappings_encode(&seen.mappings, &writer);
	threads_encode(process->threads, process->thread_count, &writer);
	kernel_facts_encode(&seen.kernel, &writer);
	mappings_free(&seen.mappings);
	kernel_facts_free(&seen.kernel);
	*state = (struct process_state){.stub = process->stub};
	reader = (struct record_reader){writer.data, writer.data + writer.bytes, writer.failed};
	if (!mappings_decode(&state->mappings, &reader))
		return -EPROTO;
	if (!threads_decode(&state->threads, &state->thread_count, &reader))
		return -EPROTO;
	if (!kernel_facts_decode(&state->kernel, &reader))
		return -EPROTO;
	free(writer.data);
	guest->page_count = 0;
	rc = mappings_ranges(&state->mappings, &ranges, &count);
	for (size_t i = 0; !rc && i < count; i++)
		rc = continued_save(guest, &ranges[i], false);
	free(ranges);
	/* Pages of shared memory, and of files, may be there, and not be mapped. */
	for (size_t i = 0; !rc && i < state->mappings.count; i++) {
		const struct mapping *mapping = &state->mappings.list[i];

		if (mapping->kind == MAPPING_MEMORY && mapping->inode)
			rc = continued_save(
				guest, &(struct thaw_range){mapping->start, mapping->end}, true);
	}
	return rc;
}

SUPPORT void continued_kill(struct continued *guest)
{
	mappings_forget(&guest->process);
	process_close(&guest->process);
}

/* A new process of what was captured; nothing of it runs. `before`: called when the memory is there. */
SUPPORT int continued_restore(struct continued *guest)
{
	struct process *process = &guest->process;
	const uint64_t go_on = 1;
	uint64_t begun;
	int rc;

	rc = process_spawn_restorer(process, guest->state.kernel.pid, &guest->error);
	if (rc)
		return rc;
	process->stub = guest->state.stub;
	begun = continued_now();
	rc = mappings_restore(process, &guest->state.mappings, &guest->state.clocks, true,
			      &guest->error);
	guest->restore_ns = continued_now() - begun;
	for (size_t i = 0; !rc && i < guest->page_count; i++)
		rc = remote_write(&process->remote, guest->pages[i].address, guest->pages[i].bytes,
				  4096);
	if (!rc)
		rc = remote_write(&process->remote, (uintptr_t)&guest_go_on, &go_on, sizeof(go_on));
	begun = continued_now();
	if (!rc)
		rc = mappings_protect(process, &guest->state.mappings, &guest->error);
	if (!rc)
		rc = kernel_facts_restore(process, &guest->state.kernel, &guest->error);
	if (!rc)
		rc = mappings_close_objects(process, &guest->error);
	if (!rc)
		rc = threads_restore(process, &guest->state, &guest->error);
	guest->restore_ns += continued_now() - begun;
	return rc;
}

/* It goes on, and says how it is. */
SUPPORT const char *continued_result(struct continued *guest)
{
	static char text[sizeof(guest_result)];
	int status = 0;

	if (threads_resume(&guest->process, &guest->error))
		return guest->error.text;
	if (!continued_wait(guest, &guest_go_on, 2)) {
		if (remote_alive(&guest->process.remote))
			return "it does not come to its end";
		waitpid(guest->process.remote.pid, &status, 0);
		guest->process.remote.pid = 0;
		snprintf(text, sizeof(text), "it ended with status %#x", status);
		return text;
	}
	remote_read(&guest->process.remote, (uintptr_t)guest_result, text, sizeof(text));
	return text;
}

SUPPORT void continued_free(struct continued *guest)
{
	continued_kill(guest);
	mappings_free(&guest->state.mappings);
	threads_free(guest->state.threads, guest->state.thread_count);
	kernel_facts_free(&guest->state.kernel);
	free(guest->pages);
}

/* In a TEST: all of it. */
#define CONTINUE(guest, role)                                  \
	do {                                                   \
		ASSERT_EQ(0, continued_start(guest, role))     \
		TH_LOG("start: %s", (guest)->error.text);      \
		ASSERT_EQ(0, continued_capture(guest))         \
		TH_LOG("capture: %s", (guest)->error.text);    \
		continued_kill(guest);                         \
		ASSERT_EQ(0, continued_restore(guest))         \
		TH_LOG("restore: %s", (guest)->error.text);    \
		ASSERT_STREQ("fine", continued_result(guest)); \
	} while (0)

#endif
