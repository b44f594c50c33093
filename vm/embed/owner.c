/* SPDX-License-Identifier: MIT */
/*
 * owner.c - what a guest asks of its owner (guest.h, owner_*()), where that is another program: it has no streams, signals or
 * generations of its own, and ends nothing but the VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"

static struct thaw_vm *vm_of(const struct runtime *rt)
{
	return (struct thaw_vm *)rt;
}

/* Whole characters of it. */
static size_t fitting(const char *text, size_t bytes, uint64_t room)
{
	if (bytes <= room)
		return bytes;
	bytes = (size_t)room;
	while (bytes && ((unsigned char)text[bytes] & 0xc0) == 0x80)
		bytes--;
	return bytes;
}

static void print(struct thaw_vm *vm, int fd, const char *text, size_t bytes)
{
	const uint64_t limit = vm->options.max_log_bytes;
	size_t fits = limit ? fitting(text, bytes, limit - vm->logged) : bytes;

	if (fits && vm->options.log) {
		vm->options.log(vm->options.arg, fd, text, fits);
		vm_interrupted(vm);
	}
	vm->logged = fits < bytes ? limit : vm->logged + fits;
	if (fits < bytes)
		vm_cut(vm, "it prints more than max_log_bytes");
}

void owner_tell(struct runtime *rt, const char *format, ...)
{
	va_list arguments;
	char *text;
	int bytes;

	va_start(arguments, format);
	bytes = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (bytes < 0)
		return;
	print(vm_of(rt), STDERR_FILENO, text, (size_t)bytes);
	free(text);
}

void owner_write(struct runtime *rt, int fd, const char *data, size_t bytes)
{
	print(vm_of(rt), fd, data, bytes);
}

void owner_uncaught(struct runtime *rt, const char *prefix, const char *text)
{
	owner_tell(rt, "%s%s%s", prefix, text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
}

/* ---- The end, and what cuts a call short ---- */

bool owner_ended(const struct runtime *rt)
{
	return vm_of(rt)->ended || vm_of(rt)->cut;
}

bool owner_unwinding(const struct runtime *rt)
{
	return owner_ended(rt);
}

void owner_exit(struct runtime *rt, double code)
{
	struct guest_common *common = &vm_of(rt)->guest->common;

	common->finished = true;
	common->exit_code = code >= 0 && code <= 255 ? (int)code : 1;
}

void owner_exited(struct runtime *rt)
{
	vm_of(rt)->ended = true;
}

void owner_trapped(struct runtime *rt, const char *reason)
{
	(void)rt, (void)reason; /* vm_leave() looks at the engine */
}

static const char *reason_to_cut(struct thaw_vm *vm)
{
	uint64_t now;

	if (vm->uncut)
		return NULL;
	if (atomic_load(&vm->interrupt))
		return "it was interrupted";
	if (!vm->deadline_ns && !vm->poll_ns)
		return NULL;
	now = clock_monotonic_ns();
	if (vm->deadline_ns && now >= vm->deadline_ns)
		return "its time is over";
	if (!vm->poll_ns || now < vm->poll_ns)
		return NULL;
	vm->poll_ns = now + vm->options.poll_ns;
	return vm->options.poll(vm->options.arg) ? "the host has asked for its end" : NULL;
}

bool owner_poll(struct runtime *rt)
{
	struct thaw_vm *vm = vm_of(rt);
	const char *why = vm->cut ? NULL : reason_to_cut(vm);

	if (why)
		vm->cut_why = why;
	vm->cut |= why != NULL;
	return vm->cut;
}

bool owner_step_done(struct runtime *rt)
{
	return !owner_poll(rt);
}

bool owner_stops(struct runtime *rt)
{
	return owner_ended(rt);
}

bool owner_interrupted(const struct runtime *rt)
{
	return atomic_load(&vm_of(rt)->interrupt);
}

int owner_upgrade_over(struct runtime *rt, struct thaw_error *error)
{
	(void)rt, (void)error;
	return 0;
}

/* ---- What there is none of ---- */

void owner_advance(struct runtime *rt)
{
	(void)rt;
}

void owner_turn_begins(struct runtime *rt)
{
	(void)rt;
}

uint64_t owner_due_ns(const struct runtime *rt)
{
	(void)rt;
	return 0;
}

bool owner_has_work(const struct runtime *rt)
{
	(void)rt;
	return false;
}

void owner_hear(struct runtime *rt, int signo, bool hear)
{
	(void)rt, (void)signo, (void)hear;
}

int owner_take_signal(struct runtime *rt)
{
	(void)rt;
	return 0;
}

bool owner_output_full(struct runtime *rt)
{
	(void)rt;
	return false;
}

void owner_wait_output(struct runtime *rt)
{
	(void)rt;
}

void owner_output_held(struct runtime *rt, size_t bytes)
{
	(void)rt, (void)bytes;
}

void owner_branches(struct runtime *rt)
{
	(void)rt; /* of a process only */
}

void owner_branches_by(struct runtime *rt, const void *data, size_t bytes)
{
	(void)rt, (void)data, (void)bytes; /* in an upgrade only */
}

void guest_branch_text(const struct guest *guest, char text[GUEST_BRANCH_TEXT])
{
	for (unsigned i = 0; i < GUEST_BRANCH_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", guest->common.branch[i]);
}

void owner_stats(struct runtime *rt, struct runtime_stats *stats)
{
	struct thaw_vm *vm = vm_of(rt);

	*stats = (struct runtime_stats){
		.heap_bytes = js_heap_bytes(vm_engine(vm)),
		.turns = vm->guest->turns,
		.collections = vm_program(vm)->turn.collections,
		.restores = vm->guest->common.restores,
		.failure = "",
	};
	thaw_status(vm->heap, &stats->heap);
	stats->opened = *thaw_opened(vm->heap);
}
