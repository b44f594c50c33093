/* SPDX-License-Identifier: MIT */
/*
 * describe.c - what a generation of a process guest is, for people (describe.h).
 *
 * Mappings of one file, of which some pages are memory and others the file's, are put together again to what the
 * program mapped. The stack of a thread is where its thread pointer points to, as glibc has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/array.h"
#include "base/failure.h"
#include "guest.h"
#include "process/describe.h"
#include "process/descriptors/descriptors.h"
#include "process/identity/identity.h"

#define ENGINE "process-" /* and a version, as in process_guest.identity */
#define STUB "/memfd:thaw-stub"
#define SHARED_ZERO "/dev/zero" /* as the kernel calls memory that is shared and has no file */
#define DATA_MOST (256u << 10)
#define TEXT_MOST 2048u /* of the list of features */

bool process_is_engine(const char *engine)
{
	return !strncmp(engine, ENGINE, strlen(ENGINE));
}

/* ---- Areas */

static const char *const kind_names[AREA_KINDS] = {
	[AREA_HEAP] = "heap (brk)",
	[AREA_STACK] = "stack",
	[AREA_THREAD] = "stacks of threads",
	[AREA_MEMORY] = "anonymous memory",
	[AREA_CODE] = "code made while it ran",
	[AREA_RESERVED] = "reserved (no access)",
	[AREA_SHARED] = "shared within the process",
	[AREA_FILE] = "files, private",
	[AREA_SHARED_FILE] = "files, shared",
	[AREA_KERNEL] = "of the kernel",
};

const char *area_kind_name(enum area_kind kind)
{
	return kind_names[kind];
}

const char *area_short_name(const struct area *area)
{
	const char *slash = strrchr(area->name, '/');

	if (!strncmp(area->name, STUB, strlen(STUB)))
		return "stub of thaw";
	if (area->kind == AREA_SHARED && !strncmp(area->name, SHARED_ZERO, strlen(SHARED_ZERO)))
		return "shared memory";
	if (slash && slash[1] && area->name[0] == '/')
		return slash + 1;
	if (*area->name)
		return area->name;
	return area->kind == AREA_MEMORY ? "memory" : area_kind_name(area->kind);
}

struct area_protection area_protection(uint32_t protection)
{
	return (struct area_protection){{protection & PROT_READ ? 'r' : '-',
					 protection & PROT_WRITE ? 'w' : '-',
					 protection & PROT_EXEC ? 'x' : '-', 0}};
}

static const struct thread *thread_in(const struct process_state *state,
				      const struct mapping *mapping)
{
	for (unsigned i = 1; i < state->thread_count; i++)
		if (state->threads[i].thread_pointer >= mapping->start &&
		    state->threads[i].thread_pointer < mapping->end)
			return &state->threads[i];
	return NULL;
}

static bool is_path(const struct mapping *mapping)
{
	return mapping->name && mapping->name[0] == '/';
}

static enum area_kind kind_of(const struct process_state *state, const struct mapping *mapping)
{
	if (mapping->kind == MAPPING_SPECIAL)
		return AREA_KERNEL;
	if (mapping->kind == MAPPING_SHARED_FILE)
		return AREA_SHARED_FILE;
	if (mapping->flags & MAPPING_SHARED)
		return AREA_SHARED;
	if (mapping->kind == MAPPING_FILE || is_path(mapping))
		return AREA_FILE;
	if (mapping->flags & MAPPING_HEAP)
		return AREA_HEAP;
	if (mapping->name && !strcmp(mapping->name, "[stack]"))
		return AREA_STACK;
	if (thread_in(state, mapping))
		return AREA_THREAD;
	if (!mapping->protection)
		return AREA_RESERVED;
	return mapping->protection & PROT_EXEC ? AREA_CODE : AREA_MEMORY;
}

__attribute__((format(printf, 1, 2))) static char *format_name(const char *format, ...)
{
	va_list arguments;
	char *name;
	int bytes;

	va_start(arguments, format);
	bytes = vasprintf(&name, format, arguments);
	va_end(arguments);
	return bytes < 0 ? NULL : name;
}

/* `before`: the area before it; NULL: there is none. */
static char *name_of(const struct process_state *state, const struct mapping *mapping,
		     enum area_kind kind, const struct area *before)
{
	const struct thread *thread = kind == AREA_THREAD ? thread_in(state, mapping) : NULL;

	if (thread)
		return format_name("stack of %s (%d)", thread->name, thread->remembered);
	if (mapping->name)
		return strdup(mapping->name);
	/*
	 * What of an object's data is zero when it starts lies behind the rest of it. So may other memory, which is
	 * one with it then.
	 */
	if (kind == AREA_MEMORY && mapping->end - mapping->start <= DATA_MOST && before &&
	    before->kind == AREA_FILE && before->end == mapping->start &&
	    before->protection == mapping->protection)
		return format_name("data of %s", area_short_name(before));
	return strdup("");
}

/* Do they come from one mmap(2) of a file, or touch each other without any difference? */
static bool is_continued(const struct area *area, const struct mapping *last,
			 const struct mapping *mapping, enum area_kind kind)
{
	return area->kind == AREA_FILE && kind == AREA_FILE && area->end == mapping->start &&
	       area->protection == mapping->protection && last->inode == mapping->inode &&
	       last->device == mapping->device &&
	       last->offset + (last->end - last->start) == mapping->offset;
}

static void add_area(struct description *description, size_t index)
{
	const struct mapping *mapping = &description->state.mappings.list[index];
	enum area_kind kind = kind_of(&description->state, mapping);
	struct area *area =
		description->area_count ? &description->areas[description->area_count - 1] : NULL;

	if (!area || !is_continued(area, mapping - 1, mapping, kind)) {
		area = array_grow(description->areas, description->area_count,
				  &description->area_room, sizeof(*area));
		if (!area) {
			description->failed = true;
			return;
		}
		description->areas = area;
		area += description->area_count++;
		*area = (struct area){
			.start = mapping->start,
			.kind = kind,
			.protection = mapping->protection,
			.name = name_of(&description->state, mapping, kind,
					description->area_count > 1 ? area - 1 : NULL),
			.build_id = mapping->build_id,
		};
		description->failed |= !area->name;
	}
	area->end = mapping->end;
	if (mapping->kind == MAPPING_MEMORY)
		area->memory_bytes += mapping->end - mapping->start;
	else if (mapping->kind != MAPPING_SPECIAL)
		area->file_bytes += mapping->end - mapping->start;
	description->bytes += mapping->end - mapping->start;
}

void description_split(
	const struct description *description, uint32_t page_bytes, uint64_t first, uint64_t pages,
	void (*part)(void *arg, const struct area *area, uint64_t first, uint64_t pages), void *arg)
{
	uint64_t end = first + pages;
	size_t low = 0, high = description->area_count;

	while (low < high) { /* the first area that ends behind the first page's beginning */
		size_t middle = (low + high) / 2;

		if (description->areas[middle].end / page_bytes <= first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; first < end && low < description->area_count; low++) {
		const struct area *area = &description->areas[low];
		uint64_t from = area->start / page_bytes, to = area->end / page_bytes;

		if (from >= end)
			break;
		if (from > first)
			part(arg, NULL, first, from - first);
		first = from > first ? from : first;
		to = to < end ? to : end;
		if (to > first)
			part(arg, area, first, to - first);
		first = to > first ? to : first;
	}
	if (first < end)
		part(arg, NULL, first, end - first);
}

/* ---- Threads */

/* Those that threads wait in. */
static const struct {
	int64_t number;
	const char *name;
} calls[] = {
#define CALL(name)                \
	{                         \
		SYS_##name, #name \
	}
	CALL(read),	    CALL(write),	   CALL(readv),		CALL(writev),
	CALL(pread64),	    CALL(pwrite64),	   CALL(ppoll),		CALL(pselect6),
	CALL(epoll_pwait),  CALL(futex),	   CALL(nanosleep),	CALL(clock_nanosleep),
	CALL(wait4),	    CALL(waitid),	   CALL(accept),	CALL(accept4),
	CALL(connect),	    CALL(recvfrom),	   CALL(recvmsg),	CALL(sendto),
	CALL(sendmsg),	    CALL(rt_sigtimedwait), CALL(rt_sigsuspend), CALL(flock),
	CALL(fsync),	    CALL(fdatasync),	   CALL(openat),	CALL(ioctl),
	CALL(fcntl),	    CALL(io_getevents),	   CALL(semtimedop),	CALL(msgrcv),
	CALL(splice),	    CALL(restart_syscall), CALL(sched_yield),	CALL(madvise),
	CALL(mmap),	    CALL(munmap),	   CALL(mprotect),
#ifdef SYS_poll /* not on newer architectures */
	CALL(poll),	    CALL(select),	   CALL(epoll_wait),	CALL(pause),
#endif
#ifdef SYS_epoll_pwait2
	CALL(epoll_pwait2),
#endif
#undef CALL
};

struct call_name call_name(int64_t call)
{
	struct call_name name = {"-"};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i].number == call) {
			snprintf(name.s, sizeof(name.s), "%s", calls[i].name);
			return name;
		}
	if (call >= 0)
		snprintf(name.s, sizeof(name.s), "call %lld", (long long)call);
	return name;
}

/* ---- Descriptors */

static void add_descriptor(void *arg, int number, const char *kind, const char *what)
{
	struct description *description = arg;
	struct described_descriptor *list =
		array_grow(description->descriptors, description->descriptor_count,
			   &description->descriptor_room, sizeof(*list));

	if (!list) {
		description->failed = true;
		return;
	}
	description->descriptors = list;
	list += description->descriptor_count++;
	*list = (struct described_descriptor){number, strdup(kind), strdup(what)};
	description->failed |= !list->kind || !list->what;
}

/* ---- The command */

/* Nothing in it that a shell would not take as it is? */
static bool is_plain(const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789@%+=:,./_-";

	return *word && !word[strspn(word, plain)];
}

static void put_word(FILE *to, const char *word)
{
	if (is_plain(word)) {
		fputs(word, to);
		return;
	}
	fputc('\'', to);
	for (; *word; word++)
		if (*word == '\'')
			fputs("'\\''", to);
		else
			fputc(*word, to);
	fputc('\'', to);
}

static char *command_text(const struct process_state *state)
{
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);

	if (!to)
		return NULL;
	for (int i = 0; i < state->argument_count; i++) {
		if (i)
			fputc(' ', to);
		put_word(to, state->arguments[i]);
	}
	if (!fclose(to))
		return text;
	free(text);
	return NULL;
}

static char *processor_text(const struct process_state *state)
{
	static const struct processor none;
	char *text = state->identity ? malloc(TEXT_MOST) : NULL;

	if (text && !processor_lacks(&none, &state->identity->processor, text, TEXT_MOST)) {
		free(text);
		text = NULL;
	}
	return text;
}

/* ---- The whole */

int description_decode(const void *data, size_t bytes, struct description *description,
		       struct thaw_error *error)
{
	struct process_state *state = &description->state;
	int code;

	*description = (struct description){0};
	code = process_state_decode(state, data, bytes, error);
	if (code)
		return code;
	for (size_t i = 0; i < state->mappings.count && !description->failed; i++)
		add_area(description, i);
	if (state->descriptors && !description->failed)
		descriptors_describe(state->descriptors, add_descriptor, description);
	description->command = command_text(state);
	description->processor = processor_text(state);
	description->program = state->kernel.executable ? strdup(state->kernel.executable) : NULL;
	if (!description->failed && description->command)
		return 0;
	description_free(description);
	return failure(error, -ENOMEM, "no memory for what is in the image");
}

int description_read(struct thaw_image *image, uint64_t generation, const char *path,
		     struct description *description, struct thaw_error *error)
{
	struct thaw_view *view;
	const void *state;
	size_t bytes;
	int code = thaw_view_open(image, generation, &view, error);

	if (code)
		return code;
	generation = thaw_view_generation(view)->number;
	state = thaw_view_state(view, &bytes);
	code = description_decode(state, bytes, description, error);
	if (!code)
		description->generation = generation;
	else if (code == THAW_EDAMAGED)
		failure(error, code,
			"%s: the state of generation %llu cannot be one of a program: thaw verify "
			"tells whether it is damaged, or else another version of thaw made it",
			path, (unsigned long long)generation);
	thaw_view_close(view);
	return code;
}

void description_free(struct description *description)
{
	for (size_t i = 0; i < description->area_count; i++)
		free(description->areas[i].name);
	for (size_t i = 0; i < description->descriptor_count; i++) {
		free(description->descriptors[i].kind);
		free(description->descriptors[i].what);
	}
	free(description->areas);
	free(description->descriptors);
	free(description->program);
	free(description->command);
	free(description->processor);
	process_state_free(&description->state);
	*description = (struct description){0};
}
