// SPDX-License-Identifier: MIT
/*
 * turn.c - stops the VM in the middle of a turn, and continues the turn in another process.
 *
 * Owns: nothing. Owner's thread; js_poll_soon() and js_poll_here() in its signal handlers. What makes it possible is
 * in stack.h (what is on the turn stack) and state.h (where the engine lies). Must never say that a
 * turn is stoppable while a frame of a host function is below it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdlib.h>

#include "base/clock.h"
#include "state.h"

bool js_turn_restorable(const struct js_engine *engine)
{
	return engine->fixed && js_build_id();
}

bool js_turn_stoppable(const struct js_engine *engine)
{
	return js_turn_restorable(engine) && engine->polling && !engine->running &&
	       engine->turn_stack.depth == 1 && !engine->side_stack.depth;
}

const void *js_turn_stack(const struct js_engine *engine, size_t *bytes)
{
	if (!js_turn_stoppable(engine))
		abort(); /* a capture could not be continued: checked in every build */
	*bytes = (size_t)(engine->turn_stack.top - (uint8_t *)engine->turn_stack.vm_sp);
	return vm_stack_used(&engine->turn_stack, *bytes);
}

int js_turn_restore(struct js_engine *engine, const void *stack, size_t bytes)
{
	/* The stack has whole words, and at least a frame or two. */
	if (bytes < 64 || bytes % 8 || bytes > VM_STACK_BYTES - VM_STACK_GUARD)
		return THAW_EDAMAGED;
	engine->turn_stack.vm_sp = vm_stack_used(&engine->turn_stack, bytes);
	memcpy(engine->turn_stack.vm_sp, stack, bytes);
	return 0;
}

void js_turn_abandon(struct js_engine *engine, const char *reason)
{
	engine_trap(engine, reason);
}

void js_poll_soon(struct js_engine *engine)
{
	if (engine->running)
		js_poll_next(engine);
}

void js_poll_next(struct js_engine *engine)
{
	/* Each context counts for itself. */
	for (unsigned i = 0; i < engine->context_count; i++)
		vm_store32(engine, engine->contexts[i] + CONTEXT_POLL_COUNTER, 1);
}

/* ---- Polls ---- */

bool engine_poll(struct js_engine *engine)
{
	bool polling = engine->polling, end;

	engine->polling = true;
	end = engine->host.interrupt && engine->host.interrupt(engine->host.arg);
	engine->polling = polling;
	return end;
}

/* Since the end was asked for, a function of the engine's has so much processor time to come to its own, or to a poll. */
#define CUT_PATIENCE_NS 1000000000u

/* On the host's stack; the VM stands anywhere: in the middle of malloc(), of a collection. It must not be entered. */
static u64 poll_between_instructions(void *arg)
{
	struct js_engine *engine = arg;
	bool end;
	u64 now;

	engine->between = true;
	end = engine_poll(engine);
	engine->between = false;
	if (!end) {
		engine->cut_ns = 0;
		return 0;
	}
	now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (!engine->cut_ns)
		engine->cut_ns = now;
	else if (now - engine->cut_ns > CUT_PATIENCE_NS)
		engine_trap(engine, "a built-in function did not end when its time was over");
	js_poll_next(engine); /* an exception is better */
	return 0;
}

bool js_polls_here(const struct js_engine *engine)
{
	return engine->between;
}

static void call_poll(void *arg)
{
	engine_call_host(arg, poll_between_instructions, arg);
}

bool js_poll_here(struct js_engine *engine, void *context)
{
	struct vm_stack *stack = engine->running;

	return stack && engine == engine_current() &&
	       vm_stack_interrupt(stack, context, call_poll, engine);
}

/* ---- The build ---- */

#if VM_STACK_RELOCATES
const uint8_t *js_build_id(void)
{
	return NULL; /* what is on its stack is true in this process only */
}
#else
extern const ElfW(Ehdr) __ehdr_start;

/*
 * The linker's note in the program headers of this process; NULL: linked without --build-id=sha1.
 */
const uint8_t *js_build_id(void)
{
	const char *base = (const char *)&__ehdr_start;
	const ElfW(Phdr) *header = (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff);

	for (int i = 0; i < __ehdr_start.e_phnum; i++, header++) {
		/* The program is linked at fixed addresses: the header has the real one. */
		const char *at = (const char *)header->p_vaddr, *end = at + header->p_memsz;

		if (header->p_type != PT_NOTE)
			continue;
		while (end - at >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
			const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
			const char *name = at + sizeof(*note);
			const char *value = name + ((note->n_namesz + 3) & ~3u);

			if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
			    !memcmp(name, "GNU", 4) && note->n_descsz == 20)
				return (const uint8_t *)value;
			at = value + ((note->n_descsz + 3) & ~3u);
		}
	}
	return NULL;
}
#endif
