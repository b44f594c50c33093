/* SPDX-License-Identifier: MIT */
/*
 * descriptors.c - the table of kinds of descriptors: what each is recognised by, recorded and made again with; and
 * the order of a capture and of a restore over all of them (descriptors.h).
 *
 * Called by guest.c on the owner's thread while all threads of the guest are parked. A descriptor of no kind in the
 * table is never guessed at: the capture is refused with its number and name. Files are not rolled back.
 */
#define _GNU_SOURCE
#include "process/descriptors/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/array.h"
#include "base/failure.h"

#define WAIT_MS 10u
#define WAIT_MOST_MS 10000u
#define WAIT_CHILD_MS 300u /* one of its children may be ending, which had the same */

#define KIND(number, prefix, called, becomes, ...)                                                 \
	{                                                                                          \
		.code = number, .name = called, .happens = becomes, .is = prefix##_is,             \
		.capture = prefix##_capture, .make = prefix##_make, .describe = prefix##_describe, \
		__VA_ARGS__                                                                        \
	}

/* The first row that recognises an object is its kind. */
static const struct descriptor_kind kinds[] = {
	KIND(1, stream, "standard stream",
	     "that of the new start, with every duplicate of it; a terminal, also where the program opened it again"),
	KIND(2, path, "path (O_PATH)", "opened again"),
	KIND(3, memfd, "memfd",
	     "made again with its contents (64 MiB at most), size, offset and seals",
	     .join = memfd_join),
	KIND(4, regular, "regular file",
	     "opened again at its path with its flags and offset, and locked again; contents are as they are "
	     "now; a deleted one is kept by copy (64 MiB at most)",
	     .place = regular_place),
	KIND(5, directory, "directory", "opened again at its path, with its offset"),
	KIND(6, device, "device",
	     "null, zero, full, random, urandom, tty: opened again; others are refused"),
	KIND(7, terminal, "terminal", "refused, unless it is the one of a standard stream"),
	KIND(8, pipe_end, "pipe",
	     "within the process: made again with its bytes and size; where the other end is elsewhere: end of "
	     "file, or EPIPE; a FIFO: opened again"),
	KIND(9, unix_socket, "Unix socket",
	     "a pair within the process: with its bytes, messages and shutdowns; a listener, bound datagrams: "
	     "bound again; a child's pair: closed by it; a connection: ECONNRESET",
	     .join = unix_socket_join, .place = unix_socket_place),
	KIND(10, tcp, "TCP socket",
	     "a listener: bound again with its options and backlog; a connection: ECONNRESET"),
	KIND(11, udp, "UDP socket",
	     "bound and connected again, with its options; what had arrived is lost",
	     .join = udp_join),
	KIND(12, netlink, "netlink socket", "bound again; refused while an answer is under way"),
	KIND(13, event, "eventfd", "with its count"),
	KIND(14, timer, "timerfd",
	     "with its clock, time, interval and ticks: it fires when it would have",
	     .place = timer_place),
	KIND(15, signals, "signalfd", "with its mask"),
	KIND(16, watches, "inotify",
	     "with its watches under their numbers; events that nobody has read are lost; refused where a "
	     "watched path is not found"),
	KIND(17, pidfd, "pidfd",
	     "of the process itself, of one that still lives, or of one that has ended"),
	KIND(18, epoll, "epoll",
	     "with every interest, also of duplicates, and of numbers closed meanwhile",
	     .place = epoll_place),
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

bool descriptors_table(unsigned index, const char **kind, const char **happens)
{
	if (index >= KINDS)
		return false;
	*kind = kinds[index].name;
	*happens = kinds[index].happens;
	return true;
}

static const struct descriptor_kind *kind_of_code(uint64_t code)
{
	for (size_t i = 0; i < KINDS; i++)
		if (kinds[i].code == code)
			return &kinds[i];
	return NULL;
}

bool descriptor_is_tcp(const struct descriptor_object *object)
{
	return object->kind && object->kind->capture == tcp_capture;
}

/* ---- Freed */

void descriptors_free(struct descriptors *descriptors)
{
	if (!descriptors)
		return;
	if (descriptors->users) {
		descriptors->users--;
		return;
	}
	for (size_t i = 0; i < descriptors->object_count; i++) {
		struct descriptor_object *object = &descriptors->objects[i];

		if (object->here >= 0)
			close(object->here);
		free(object->record);
		free(object->text);
		free(object->link);
	}
	free(descriptors->objects);
	free(descriptors->list);
	free(descriptors);
}

/* ---- Captured */

static int kind_capture(struct descriptor_capture *capture, struct descriptor_object *object)
{
	struct record_writer writer = {0};
	int code;

	for (size_t i = 0; i < KINDS && !object->kind; i++)
		if (kinds[i].is(capture, object))
			object->kind = &kinds[i];
	if (!object->kind)
		return descriptor_refuse(
			capture, object,
			"%s, which cannot be continued: the program has to close it", object->link);
	code = object->kind->capture(capture, object, &writer);
	if (!code && writer.failed)
		code = failure(capture->error, -ENOMEM, "descriptor %d: no memory", object->number);
	object->record = writer.data;
	object->bytes = writer.bytes;
	return code;
}

static int known_capture(struct descriptor_capture *capture, struct descriptor_object *object)
{
	const struct connection *known = object->known;

	for (size_t i = 0; i < KINDS; i++)
		if (kinds[i].capture == tcp_capture)
			object->kind = &kinds[i];
	object->record = malloc(known->bytes);
	if (!object->record)
		return failure(capture->error, -ENOMEM, "descriptor %d: no memory", object->number);
	memcpy(object->record, known->record, known->bytes);
	object->bytes = known->bytes;
	object->cookie = known->cookie;
	return 0;
}

static void owner_capture(struct descriptor_object *object)
{
	struct f_owner_ex owner;

	object->owner_kind = -1;
	if (fcntl(object->here, F_GETOWN_EX, &owner) || !owner.pid)
		return;
	object->owner_kind = owner.type;
	object->owner = owner.pid;
	object->owner_signal = fcntl(object->here, F_GETSIG);
}

int descriptor_capture_one(struct descriptor_capture *capture, struct descriptor_object *object)
{
	socklen_t bytes = sizeof(object->cookie);
	int code;

	owner_capture(object);
	code = kind_capture(capture, object);
	object->cookie = 0;
	if (!code && descriptor_is_tcp(object) &&
	    getsockopt(object->here, SOL_SOCKET, SO_COOKIE, &object->cookie, &bytes))
		object->cookie = 0;
	return code;
}

static int capture_all(struct descriptor_capture *capture)
{
	struct descriptors *descriptors = capture->descriptors;
	int code = descriptors_list(capture);

	for (size_t i = 0; i < descriptors->object_count && !code; i++) {
		struct descriptor_object *object = &descriptors->objects[i];

		if (object->known) {
			code = known_capture(capture, object);
		} else {
			object->text = unchanged_text(capture, object);
			code = descriptor_capture_one(capture, object);
		}
	}
	/* What is held here must not stay open when the program closes it. */
	for (size_t i = 0; i < descriptors->object_count; i++) {
		struct descriptor_object *object = &descriptors->objects[i];

		if (object->here >= 0)
			close(object->here);
		object->here = -1;
	}
	if (code)
		return code;
	connections_remember(capture->process, descriptors);
	unchanged_remember(capture, descriptors);
	return 0;
}

int descriptors_capture(struct process *process, struct descriptors **captured,
			struct thaw_error *error)
{
	struct descriptor_capture capture = {.process = process, .error = error, .netlink = -1};
	struct descriptors *descriptors;
	int code = 0;

	capture.mailbox = process->thread_count ? process->threads[0].mailbox : 0;
	descriptors = unchanged_capture(&capture);
	if (!descriptors) {
		unchanged_forget(process);
		descriptors = capture.descriptors = calloc(1, sizeof(*descriptors));
		code = descriptors ? capture_all(&capture)
				   : failure(error, -ENOMEM, "descriptors: no memory");
	}
	if (capture.netlink >= 0)
		close(capture.netlink);
	free(capture.locks);
	free(capture.text);
	if (code)
		descriptors_free(descriptors);
	else
		*captured = descriptors;
	return code;
}

/* ---- Bytes */

void descriptors_encode(const struct descriptors *descriptors, struct record_writer *writer)
{
	record_put(writer, (uint64_t)descriptors->pid);
	record_put(writer, descriptors->object_count);
	for (size_t i = 0; i < descriptors->object_count; i++) {
		const struct descriptor_object *object = &descriptors->objects[i];

		record_put(writer, object->kind->code);
		record_put(writer, object->flags);
		record_put(writer, (uint64_t)object->number);
		record_put(writer, (uint64_t)(object->owner_kind + 1));
		record_put(writer, (uint32_t)object->owner);
		record_put(writer, (uint32_t)object->owner_signal);
		record_put(writer, object->stat.st_dev);
		record_put(writer, object->stat.st_ino);
		record_put(writer, object->stat.st_mode);
		record_put_bytes(writer, object->record, object->bytes);
	}
	record_put(writer, descriptors->count);
	for (size_t i = 0; i < descriptors->count; i++) {
		record_put(writer, (uint64_t)descriptors->list[i].number);
		record_put(writer, descriptors->list[i].close_on_exec);
		record_put(writer, descriptors->list[i].object);
	}
}

static bool object_decode(struct descriptor_object *object, struct record_reader *reader)
{
	const void *bytes;

	object->here = -1;
	object->kind = kind_of_code(record_take(reader));
	object->flags = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	object->number = (int)record_take_up_to(reader, INT32_MAX);
	object->owner_kind = (int32_t)record_take_up_to(reader, 3) - 1;
	object->owner = (int32_t)record_take_up_to(reader, UINT32_MAX);
	object->owner_signal = (int32_t)record_take_up_to(reader, 64);
	object->stat.st_dev = record_take(reader);
	object->stat.st_ino = record_take(reader);
	object->stat.st_mode = (mode_t)record_take_up_to(reader, UINT32_MAX);
	bytes = record_take_bytes(reader, &object->bytes);
	if (reader->failed || !object->kind)
		return false;
	object->record = malloc(object->bytes ? object->bytes : 1);
	if (object->record && object->bytes)
		memcpy(object->record, bytes, object->bytes);
	return object->record;
}

static bool list_decode(struct descriptors *descriptors, struct record_reader *reader)
{
	size_t count = record_take_count(reader, 24);

	descriptors->list = calloc(count ? count : 1, sizeof(*descriptors->list));
	for (; descriptors->list && descriptors->count < count; descriptors->count++) {
		struct descriptor *entry = &descriptors->list[descriptors->count];

		entry->number = (int)record_take_up_to(reader, INT32_MAX);
		entry->close_on_exec = record_take_up_to(reader, 1);
		entry->object = (unsigned)record_take_up_to(reader, UINT32_MAX);
		if (reader->failed || entry->object >= descriptors->object_count ||
		    (descriptors->count && entry->number <= entry[-1].number))
			return false;
	}
	return descriptors->list;
}

bool descriptors_decode(struct descriptors **decoded, struct record_reader *reader)
{
	struct descriptors *descriptors = calloc(1, sizeof(*descriptors));
	uint64_t pid = record_take_up_to(reader, INT32_MAX);
	size_t count = record_take_count(reader, 80);

	if (!descriptors)
		return false;
	descriptors->pid = (pid_t)pid;
	descriptors->objects = calloc(count ? count : 1, sizeof(*descriptors->objects));
	while (descriptors->objects && descriptors->object_count < count &&
	       object_decode(&descriptors->objects[descriptors->object_count++], reader))
		;
	if (!descriptors->objects || descriptors->object_count < count || reader->failed ||
	    (count && !descriptors->objects[count - 1].record) ||
	    !list_decode(descriptors, reader)) {
		reader->failed = true;
		descriptors_free(descriptors);
		return false;
	}
	*decoded = descriptors;
	return true;
}

/* ---- Restored */

typedef int (*restore_step)(struct descriptor_restore *, struct descriptor_object *,
			    struct record_reader *);

static int step_over(struct descriptor_restore *restore, size_t which)
{
	const struct descriptors *descriptors = restore->descriptors;
	int code = 0;

	for (size_t i = 0; i < descriptors->object_count && !code; i++) {
		struct descriptor_object *object = &descriptors->objects[i];
		struct record_reader reader = {object->record, object->record + object->bytes,
					       false};
		const restore_step steps[] = {object->kind->make, object->kind->join,
					      object->kind->place};

		code = steps[which] ? steps[which](restore, object, &reader) : 0;
		if (!code && reader.failed)
			code = descriptor_fail(restore, object, THAW_EDAMAGED,
					       "its record is not one");
	}
	return code;
}

#define SET_FLAGS (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)

static void flags_restore(struct descriptor_object *object)
{
	int flags = fcntl(object->here, F_GETFL);

	if (flags >= 0 && !(flags & O_PATH) && ((uint32_t)flags ^ object->flags) & SET_FLAGS)
		fcntl(object->here, F_SETFL,
		      (flags & ~SET_FLAGS) | (int)(object->flags & SET_FLAGS));
}

/* Who gets its signals, SIGIO and SIGURG. */
static void owner_restore(struct descriptor_restore *restore, struct descriptor_object *object)
{
	struct f_owner_ex *owner;
	struct process *process = restore->process;
	uint64_t room;

	if (object->owner_kind < 0)
		return;
	remote_forget(&process->remote);
	room = remote_room(&process->remote, sizeof(*owner), (void **)&owner);
	if (!room)
		return;
	owner->type = object->owner_kind;
	owner->pid = object->owner == restore->old_pid ? process->remote.pid : object->owner;
	descriptor_call(process, 0, __NR_fcntl, (uint64_t)object->number, F_SETOWN_EX, room, 0);
	descriptor_call(process, 0, __NR_fcntl, (uint64_t)object->number, F_SETSIG,
			(uint64_t)object->owner_signal, 0);
	if (object->flags & O_ASYNC)
		descriptor_call(process, 0, __NR_fcntl, (uint64_t)object->number, F_SETFL,
				object->flags & (SET_FLAGS | O_ASYNC), 0);
}

static int give_all(struct descriptor_restore *restore)
{
	const struct descriptors *descriptors = restore->descriptors;
	size_t count = descriptors->count;
	int *here = calloc(count + 1, sizeof(*here)),
	    *numbers = calloc(count + 1, sizeof(*numbers));
	bool *closing = calloc(count + 1, sizeof(*closing));
	int code = -ENOMEM;

	if (here && numbers && closing) {
		for (size_t i = 0; i < count; i++) {
			const struct descriptor *entry = &descriptors->list[i];

			here[i] = descriptors->objects[entry->object].here;
			numbers[i] = entry->number;
			closing[i] = entry->close_on_exec;
		}
		code = descriptors_give(restore->process, 0, here, numbers, closing, count,
					restore->error);
	} else {
		failure(restore->error, code, "descriptors: no memory");
	}
	free(here);
	free(numbers);
	free(closing);
	return code;
}

int descriptors_restore(struct process *process, const struct descriptors *descriptors,
			struct thaw_error *error)
{
	struct descriptor_restore restore = {.process = process,
					     .descriptors = descriptors,
					     .error = error,
					     .listener = -1,
					     .old_pid = descriptors->pid};
	int code = descriptors_room(descriptors->object_count, error);

	if (!code && process->roll_back)
		rollback_look(&restore);
	if (!code)
		code = step_over(&restore, 0);
	if (!code)
		code = step_over(&restore, 1);
	for (size_t i = 0; i < descriptors->object_count && !code; i++)
		flags_restore(&descriptors->objects[i]);
	/* What is mapped shared, and a memfd, has been duplicated; its numbers in the guest may be wanted. */
	if (!code)
		code = mappings_close_objects(process, error);
	if (!code)
		code = give_all(&restore);
	if (!code)
		code = step_over(&restore, 2);
	for (size_t i = 0; i < descriptors->object_count && !code; i++)
		owner_restore(&restore, &descriptors->objects[i]);
	for (size_t i = 0; i < descriptors->object_count; i++) {
		if (!code && descriptors->objects[i].cut_from)
			continue; /* until it is cut, or freed */
		if (descriptors->objects[i].here >= 0)
			close(descriptors->objects[i].here);
		descriptors->objects[i].here = -1;
	}
	if (restore.listener >= 0)
		close(restore.listener);
	return code;
}

/* ---- For people */

void descriptors_describe(const struct descriptors *descriptors,
			  void (*row)(void *arg, int number, const char *kind, const char *what),
			  void *arg)
{
	for (size_t i = 0; descriptors && i < descriptors->count; i++) {
		const struct descriptor_object *object =
			&descriptors->objects[descriptors->list[i].object];
		struct record_reader reader = {object->record, object->record + object->bytes,
					       false};
		char what[600] = "", line[640];

		object->kind->describe(object, &reader, what, sizeof(what));
		if (reader.failed)
			snprintf(what, sizeof(what), "its record is damaged");
		if (object->number == descriptors->list[i].number)
			snprintf(line, sizeof(line), "%s", what);
		else
			snprintf(line, sizeof(line), "%s; the same as %d", what, object->number);
		row(arg, descriptors->list[i].number, object->kind->name, line);
	}
}

/* ---- What kinds ask for */

static const char *article(const struct descriptor_object *object)
{
	return object->kind ? object->kind->name : "descriptor";
}

int descriptor_refuse(struct descriptor_capture *capture, const struct descriptor_object *object,
		      const char *format, ...)
{
	char line[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	return failure(capture->error, PROCESS_EREFUSED, "descriptor %d is %s", object->number,
		       line);
}

int descriptor_fail(struct descriptor_restore *restore, const struct descriptor_object *object,
		    int code, const char *format, ...)
{
	char line[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	return failure(restore->error, code, "descriptor %d, a %s: %s", object->number,
		       article(object), line);
}

void descriptor_tell(struct descriptor_restore *restore, const struct descriptor_object *object,
		     const char *format, ...)
{
	char line[400], whole[480], escaped[504];
	va_list arguments;

	if (restore->process->quiet)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	snprintf(whole, sizeof(whole), "thaw: descriptor %d, a %s: %s", object->number,
		 article(object), line);
	thaw_escape(whole, escaped, sizeof(escaped));
	fprintf(stderr, "%s\n", escaped);
}

unsigned descriptor_first_of(const struct descriptors *descriptors,
			     const struct descriptor_object *object)
{
	unsigned i = 0;

	for (; &descriptors->objects[i] != object; i++)
		if (descriptors->objects[i].kind == object->kind &&
		    descriptors->objects[i].stat.st_ino == object->stat.st_ino &&
		    descriptors->objects[i].stat.st_dev == object->stat.st_dev)
			break;
	return i;
}

int descriptor_open_flags(const struct descriptor_object *object)
{
	return (int)(object->flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC |
				      O_DIRECT | O_NOATIME | O_PATH)) |
	       O_CLOEXEC | O_NOCTTY;
}

int descriptor_keep(int fd)
{
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return kept < 0 ? -errno : kept;
}

int descriptor_reopen(int fd, const struct descriptor_object *object)
{
	char path[48];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, descriptor_open_flags(object));
	/* Another owner's file; a pipe, whose packet mode is set later. */
	if (again < 0 && ((errno == EPERM && object->flags & O_NOATIME) ||
			  (errno == EINVAL && object->flags & O_DIRECT)))
		again = open(path, descriptor_open_flags(object) & ~(O_NOATIME | O_DIRECT));
	return again < 0 ? -errno : again;
}

/* Its memory goes before its files do, which takes a second for 10 GB. */
static bool is_ending(pid_t pid)
{
	char path[48], text[600];
	const char *state = NULL;
	struct stat tasks;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(text, sizeof(text), file))
		state = strrchr(text, ')');
	fclose(file);
	if (!state || strncmp(state, ") Z", 3))
		return state;
	/* Nobody has waited for it; of its threads others may be left. */
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	return !stat(path, &tasks) && tasks.st_nlink > 3;
}

bool descriptor_wait(struct descriptor_restore *restore)
{
	const struct timespec moment = {0, WAIT_MS * 1000000l};
	bool ending = restore->old_pid != restore->process->remote.pid &&
		      is_ending(restore->old_pid);

	if (restore->waited > (ending ? WAIT_MOST_MS : WAIT_CHILD_MS))
		return false;
	restore->waited += WAIT_MS;
	nanosleep(&moment, NULL);
	return true;
}

int64_t descriptor_call(struct process *process, unsigned mailbox, int64_t number, uint64_t a,
			uint64_t b, uint64_t c, uint64_t d)
{
	return remote_call(&process->remote, mailbox, number, a, b, c, d, 0, 0);
}
