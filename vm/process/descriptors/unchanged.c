/* SPDX-License-Identifier: MIT */
/*
 * unchanged.c - descriptors that are as the capture before found them: most of a server's are, in most generations, and
 * what takes a capture long is to ask. So the guest's own main thread says of all numbers at once, while the supervisor
 * reads other things, what tells whether each still is what it was (CALL_LOOK). Beyond flags and owner:
 *
 *	connection	    the cookie of the socket, which no other one ever has, and its peer
 *	pipe		    device, inode and capacity, and that there is nothing in it
 *	eventfd, epoll ...  the text of /proc/PID/fdinfo, with the eventfd's id, and each interest
 *	standard stream	    kcmp(2) with the supervisor's
 *	all others	    are captured as if they were new
 *
 * As many descriptors as before, all of which are there, are the same numbers. Which of them are duplicates, kcmp(2) says
 * again, where it could be otherwise. If anything is not certain, everything is captured anew.
 *
 * The owner's thread, while all threads of the guest are parked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "process/descriptors/descriptors.h"

/* Inodes of pipes are used again after 2^32 others. */
#define KNOWN_NS 60000000000ull
/* What is asked at once has room in the memory that is shared with the guest. */
#define LOOKS_MOST 4096u
/* So many pairs may have to be compared. */
#define PAIRS_MOST 64u
#define PATH_ROOM 32u /* of /proc/self/fdinfo/N */

enum how {
	HOW_ANEW, /* it is captured each time */
	HOW_LOOK, /* what its number is asked says all */
	HOW_TEXT,
	HOW_STREAM,
	HOW_NEVER, /* with such a one everything is captured anew */
};

struct known { /* an object of `last` */
	enum how how;
	int stream; /* HOW_STREAM */
	char *text; /* HOW_TEXT; malloc'ed */
	/* What the guest's thread has read of it in this stop, with its terminator; NULL: it has not. */
	const char *read;
};

/* What of fdinfo the guest's thread reads for us. */
struct reading {
	struct known *known;
	struct call *calls[4]; /* openat, read, read, close */
	char *there;	       /* where the guest could change it */
};
#define READINGS_MOST 4u
#define READ_BYTES 16384u

struct unchanged {
	struct descriptors *last;
	struct known *objects;
	/* Numbers that are not the program's. */
	int others[CAPTURE_OTHERS];
	unsigned other_count;
	int directory; /* /proc/PID/fd; -1: not open yet */
	uint64_t seen_ns;
	/* Of this stop: by `last->list`, and then `others`. */
	bool answered;
	struct look *looks;
	struct look *there; /* where the guest could change them; NULL: none are under way */
	struct reading readings[READINGS_MOST];
	unsigned reading_count;
	char texts[READINGS_MOST][READ_BYTES];
	const struct call *call;
};

/* ---- What is remembered */

void unchanged_forget(struct process *process)
{
	struct unchanged *own = process->unchanged;

	if (!own)
		return;
	for (size_t i = 0; own->last && i < own->last->object_count; i++)
		free(own->objects[i].text);
	descriptors_free(own->last);
	free(own->objects);
	free(own->looks);
	if (own->directory >= 0)
		close(own->directory);
	free(own);
	process->unchanged = NULL;
}

char *unchanged_text(struct descriptor_capture *capture, const struct descriptor_object *object)
{
	static const char *const names[] = {"anon_inode:[eventfd]", "anon_inode:[signalfd]",
					    "anon_inode:[eventpoll]"};
	const char *text;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(object->link, names[i])) {
			text = descriptor_fdinfo(capture, object->number);
			return text ? strdup(text) : NULL;
		}
	return NULL;
}

/* Does the text tell this object from all others, and all of its state? */
static bool text_tells(const struct descriptors *descriptors,
		       const struct descriptor_object *object)
{
	if (!object->text)
		return false;
	if (object->kind->capture == event_capture)
		return strstr(object->text, "eventfd-id:") &&
		       strstr(object->text, "eventfd-semaphore:");
	if (object->kind->capture == epoll_capture)
		return epoll_is_plain(descriptors, object);
	return object->kind->capture == signals_capture;
}

static enum how how_of(const struct descriptors *descriptors,
		       const struct descriptor_object *object, int *stream)
{
	struct record_reader reader = {object->record, object->record + object->bytes, false};
	struct tcp_names names;

	if (object->owner_kind >= 0)
		return HOW_NEVER;
	if (descriptor_is_tcp(object) && object->cookie &&
	    tcp_is_connection(object->record, object->bytes, &names))
		return HOW_LOOK;
	if (object->kind->capture == pipe_end_capture && pipe_is_still(object, NULL))
		return HOW_LOOK;
	if (object->kind->capture == stream_capture) {
		*stream = (int)record_take(&reader);
		return record_take(&reader) ? HOW_STREAM : HOW_ANEW;
	}
	if (text_tells(descriptors, object))
		return HOW_TEXT;
	/* Those are captured beside all that they may wait for. */
	return object->kind->capture == epoll_capture || object->kind->capture == watches_capture
		       ? HOW_NEVER
		       : HOW_ANEW;
}

/* `text` is taken from the object. */
static void learn(struct known *known, const struct descriptors *descriptors,
		  struct descriptor_object *object)
{
	free(known->text);
	known->how = how_of(descriptors, object, &known->stream);
	known->text = object->text;
	object->text = NULL;
}

void unchanged_remember(struct descriptor_capture *capture, struct descriptors *descriptors)
{
	struct process *process = capture->process;
	struct unchanged *own;

	unchanged_forget(process);
	if (descriptors->count > LOOKS_MOST || capture->other_count > CAPTURE_OTHERS)
		return;
	own = calloc(1, sizeof(*own));
	if (!own)
		return;
	own->directory = -1;
	own->objects = calloc(descriptors->object_count + 1, sizeof(*own->objects));
	own->looks = calloc(descriptors->count + CAPTURE_OTHERS, sizeof(*own->looks));
	process->unchanged = own;
	if (!own->objects || !own->looks) {
		unchanged_forget(process);
		return;
	}
	own->other_count = capture->other_count;
	memcpy(own->others, capture->others, sizeof(own->others));
	own->seen_ns = clock_monotonic_ns();
	for (size_t i = 0; i < descriptors->object_count; i++)
		learn(&own->objects[i], descriptors, &descriptors->objects[i]);
	own->last = descriptors;
	descriptors->users++;
}

/* ---- Asked */

static size_t look_count(const struct unchanged *own)
{
	return own->last->count + own->other_count;
}

size_t unchanged_room(const struct process *process)
{
	return process->unchanged ? look_count(process->unchanged) * sizeof(struct look) +
					    READINGS_MOST * (READ_BYTES + PATH_ROOM)
				  : 0;
}

/* It reads the text while we do something else: that of an epoll is long. What it cannot read, we do. */
static void ask_texts(struct process *process, unsigned mailbox, uint64_t there, char *here)
{
	struct unchanged *own = process->unchanged;
	struct remote *remote = &process->remote;

	own->reading_count = 0;
	for (size_t i = 0; i < own->last->object_count && own->reading_count < READINGS_MOST; i++) {
		struct reading *reading = &own->readings[own->reading_count];
		uint64_t text = there + PATH_ROOM;
		uint8_t opened = (uint8_t)(remote->control->mailboxes[mailbox].count + 1);

		own->objects[i].read = NULL;
		if (own->objects[i].how != HOW_TEXT || opened + 4u > CONTROL_CALLS)
			continue;
		snprintf(here, PATH_ROOM, "/proc/self/fdinfo/%d", own->last->objects[i].number);
		*reading = (struct reading){
			.known = &own->objects[i],
			.calls = {remote_add(remote, mailbox, SYS_openat, (uint64_t)AT_FDCWD, there,
					     O_RDONLY | O_CLOEXEC, 0, 0, 0),
				  remote_add(remote, mailbox, SYS_read, 0, text, READ_BYTES, 0, 0,
					     0),
				  remote_add(remote, mailbox, SYS_read, 0, text, 1, 0, 0, 0),
				  remote_add(remote, mailbox, SYS_close, 0, 0, 0, 0, 0, 0)},
			.there = here + PATH_ROOM,
		};
		for (unsigned k = 0; k < 4; k++) {
			reading->calls[k]->flags = CALL_MAY_FAIL;
			reading->calls[k]->from[0] = k ? opened : 0;
		}
		here += PATH_ROOM + READ_BYTES;
		there += PATH_ROOM + READ_BYTES;
		own->reading_count++;
	}
}

static void take_texts(struct unchanged *own)
{
	for (unsigned i = 0; i < own->reading_count; i++) {
		struct reading *reading = &own->readings[i];
		int64_t bytes = reading->calls[1]->result;

		if (reading->calls[0]->result < 0 || bytes <= 0 || bytes >= READ_BYTES ||
		    reading->calls[2]->result)
			continue;
		memcpy(own->texts[i], reading->there, (size_t)bytes);
		own->texts[i][bytes] = '\0';
		reading->known->read = own->texts[i];
	}
	own->reading_count = 0;
}

static enum look_kind look_kind_of(const struct unchanged *own, const struct descriptor *entry)
{
	const struct descriptor_object *object = &own->last->objects[entry->object];

	if (own->objects[entry->object].how != HOW_LOOK)
		return LOOK_PLAIN;
	return S_ISSOCK(object->stat.st_mode) ? LOOK_SOCKET : LOOK_PIPE;
}

int unchanged_ask(struct process *process, unsigned mailbox, uint64_t there, void *here)
{
	struct unchanged *own = process->unchanged;
	struct look *looks = here;
	size_t count;

	if (!own)
		return 0;
	own->answered = false;
	count = look_count(own);
	memset(looks, 0, count * sizeof(*looks));
	for (size_t i = 0; i < own->last->count; i++) {
		looks[i].number = own->last->list[i].number;
		looks[i].kind = look_kind_of(own, &own->last->list[i]);
	}
	for (size_t i = own->last->count; i < count; i++)
		looks[i].number = own->others[i - own->last->count];
	own->call = remote_add(&process->remote, mailbox, CALL_LOOK, there, count, 0, 0, 0, 0);
	own->there = own->call ? looks : NULL;
	if (own->call)
		ask_texts(process, mailbox, there + count * sizeof(*looks),
			  (char *)(looks + count));
	return own->call ? 0 : -ENOSPC;
}

void unchanged_answered(struct process *process, int code)
{
	struct unchanged *own = process->unchanged;

	if (!own || !own->there)
		return;
	own->answered = !code && own->call->result >= 0;
	if (own->answered)
		take_texts(own);
	memcpy(own->looks, own->there, look_count(own) * sizeof(*own->looks));
	own->there = NULL;
}

void unchanged_forget_asked(struct process *process)
{
	if (process->unchanged) {
		process->unchanged->answered = false;
		process->unchanged->there = NULL;
	}
}

/* Nobody has asked in this stop. */
static bool ask_now(struct descriptor_capture *capture)
{
	struct process *process = capture->process;
	void *here;
	uint64_t there;

	remote_settle(&process->remote);
	if (process->unchanged->answered)
		return true;
	remote_forget(&process->remote);
	there = remote_room(&process->remote, unchanged_room(process), &here);
	if (!there || unchanged_ask(process, capture->mailbox, there, here))
		return false;
	unchanged_answered(process, remote_run(&process->remote, capture->mailbox));
	remote_forget(&process->remote);
	return process->unchanged->answered;
}

/* ---- Is it as it was? */

/* All that were there are, and no others. */
static bool same_numbers(struct process *process)
{
	struct unchanged *own = process->unchanged;
	size_t count = look_count(own);
	char path[48];
	struct stat stat;

	if (own->directory < 0) {
		snprintf(path, sizeof(path), "/proc/%d/fd", (int)process->remote.pid);
		own->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	/* Since Linux 6.2 it says how many there are. */
	if (own->directory < 0 || fstat(own->directory, &stat) || (size_t)stat.st_size != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (own->looks[i].descriptor_flags < 0)
			return false;
	return true;
}

static bool same_flags(const struct descriptor *entry, const struct descriptor_object *object,
		       const struct look *look)
{
	return !(look->descriptor_flags & FD_CLOEXEC) == !entry->close_on_exec &&
	       look->flags >= 0 && (uint32_t)look->flags == object->flags && !look->owned &&
	       !look->owner[1];
}

/* 0: the same open file description; 1: another one; -1: the kernel does not say. */
static int compare(pid_t one, int a, pid_t other, int b)
{
	long result = descriptors_forbidden.kcmp ? -1
						 : syscall(SYS_kcmp, one, other, KCMP_FILE, a, b);

	return result < 0 ? -1 : result != 0;
}

/* Duplicates are still that, and nothing else is. */
static bool same_duplicates(const struct process *process)
{
	const struct descriptors *last = process->unchanged->last;
	pid_t pid = process->remote.pid;
	unsigned pairs = 0;

	for (size_t i = 0; i < last->count; i++) {
		int first = last->objects[last->list[i].object].number;

		if (first != last->list[i].number && compare(pid, first, pid, last->list[i].number))
			return false;
	}
	for (size_t i = 0; i < last->object_count; i++) {
		const struct descriptor_object *one = &last->objects[i], *other = one + 1;

		/* A socket is opened once. */
		if (S_ISSOCK(one->stat.st_mode))
			continue;
		for (; other < last->objects + last->object_count; other++)
			if (one->flags == other->flags && one->stat.st_ino == other->stat.st_ino &&
			    one->stat.st_dev == other->stat.st_dev &&
			    (++pairs > PAIRS_MOST ||
			     compare(pid, one->number, pid, other->number) != 1))
				return false;
	}
	return true;
}

static bool same_socket(const struct descriptor_object *object, const struct look *look)
{
	struct tcp_names names;

	return !look->cookied && look->cookie_bytes == sizeof(look->cookie) &&
	       look->cookie == object->cookie && !look->named &&
	       tcp_is_connection(object->record, object->bytes, &names) &&
	       look->peer_bytes == names.peer_bytes && look->peer_bytes <= sizeof(look->peer) &&
	       !memcmp(look->peer, names.peer, names.peer_bytes);
}

/* *anew: it is that pipe, but not in that state. */
static bool same_pipe(const struct descriptor_object *object, const struct look *look, bool *anew)
{
	*anew = !pipe_is_still(object, look);
	return !look->stated && look->stat.st_ino == object->stat.st_ino &&
	       look->stat.st_dev == object->stat.st_dev &&
	       look->stat.st_mode == object->stat.st_mode;
}

static bool same_field(const char *one, const char *other, const char *name)
{
	uint64_t here, there;

	return descriptor_field(one, name, 10, &here) &&
	       descriptor_field(other, name, 10, &there) && here == there;
}

static bool is_named(const struct process *process, int number, const char *name)
{
	char path[48], link[64];
	ssize_t bytes;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)process->remote.pid, number);
	bytes = readlink(path, link, sizeof(link) - 1);
	if (bytes < 0)
		return false;
	link[bytes] = '\0';
	return !strcmp(link, name);
}

/* *anew: it is that eventfd, with another count. Of an epoll without interests the text says nothing. */
static bool same_text(struct descriptor_capture *capture, struct known *known,
		      const struct descriptor_object *object, bool *anew)
{
	const char *text = known->read ? known->read : descriptor_fdinfo(capture, object->number);
	char *copy;

	if (!text)
		return false;
	if (!strcmp(text, known->text))
		return object->kind->capture != epoll_capture || strstr(text, "tfd:") ||
		       is_named(capture->process, object->number, "anon_inode:[eventpoll]");
	if (object->kind->capture != event_capture || !same_field(text, known->text, "eventfd-id"))
		return false;
	copy = strdup(text);
	if (!copy)
		return false;
	free(known->text); /* before it is captured: what comes between is seen the next time */
	known->text = copy;
	*anew = true;
	return true;
}

/* False: it may be something else. */
static bool look_at(struct descriptor_capture *capture, size_t index, const struct look *look,
		    bool *anew)
{
	struct unchanged *own = capture->process->unchanged;
	const struct descriptor_object *object = &own->last->objects[index];
	struct known *known = &own->objects[index];

	switch (known->how) {
	case HOW_LOOK:
		return S_ISSOCK(object->stat.st_mode) ? same_socket(object, look)
						      : same_pipe(object, look, anew);
	case HOW_TEXT:
		return same_text(capture, known, object, anew);
	case HOW_STREAM:
		return !compare(capture->process->remote.pid, object->number, getpid(),
				known->stream);
	case HOW_ANEW:
		*anew = true;
		return true;
	default:
		return false;
	}
}

/* A pipe's bytes are with one of its ends, and are read through another. */
static void spread(const struct descriptors *last, bool *anew)
{
	for (size_t i = 0; i < last->object_count; i++)
		for (size_t k = 0;
		     anew[i] && S_ISFIFO(last->objects[i].stat.st_mode) && k < last->object_count;
		     k++)
			anew[k] |= last->objects[k].stat.st_ino == last->objects[i].stat.st_ino &&
				   last->objects[k].stat.st_dev == last->objects[i].stat.st_dev;
}

/* Which objects are to be captured anew. False: all. */
static bool look_at_all(struct descriptor_capture *capture, bool *anew)
{
	struct unchanged *own = capture->process->unchanged;
	const struct descriptors *last = own->last;

	if (clock_monotonic_ns() - own->seen_ns > KNOWN_NS || !same_numbers(capture->process) ||
	    !same_duplicates(capture->process))
		return false;
	for (size_t i = 0; i < last->count; i++) {
		const struct descriptor *entry = &last->list[i];
		const struct descriptor_object *object = &last->objects[entry->object];

		if (!same_flags(entry, object, &own->looks[i]))
			return false;
		if (entry->number == object->number &&
		    !look_at(capture, entry->object, &own->looks[i], &anew[entry->object]))
			return false;
	}
	spread(last, anew);
	own->seen_ns = clock_monotonic_ns();
	return true;
}

/* ---- What is captured anew */

/* As descriptors_list() has them. */
static bool take(struct descriptor_capture *capture, struct descriptors *working, const bool *anew)
{
	size_t count = 0;
	int *numbers = calloc(2 * working->object_count + 1, sizeof(*numbers)), *here;
	bool good = numbers;

	if (!good)
		return false;
	here = numbers + working->object_count;
	for (size_t i = 0; i < working->object_count; i++)
		if (anew[i])
			numbers[count++] = working->objects[i].number;
	if (count &&
	    descriptors_take(capture->process, capture->mailbox, numbers, count, here, NULL))
		good = false;
	for (size_t i = 0, k = 0; good && i < working->object_count; i++)
		if (anew[i])
			working->objects[i].here = here[k++];
	free(numbers);
	return good;
}

/* False: it cannot be, or it is something else by now. */
static bool capture_one(struct descriptor_capture *capture, struct descriptor_object *object)
{
	struct descriptor_object before = *object;

	object->kind = NULL;
	if (descriptor_look(capture, object) || object->stat.st_ino != before.stat.st_ino ||
	    object->stat.st_dev != before.stat.st_dev ||
	    object->stat.st_mode != before.stat.st_mode || object->flags != before.flags)
		return false;
	return !descriptor_capture_one(capture, object) && object->kind == before.kind &&
	       object->owner_kind < 0;
}

static bool same_record(const struct descriptor_object *one, const struct descriptor_object *other)
{
	return one->bytes == other->bytes && !memcmp(one->record, other->record, one->bytes);
}

/* `last`, of which only some objects are to be captured anew: the others' records are still its own. */
static struct descriptors *begin(const struct descriptors *last, const bool *anew)
{
	struct descriptors *working = calloc(1, sizeof(*working));

	if (!working)
		return NULL;
	*working = *last;
	working->users = 0;
	working->objects = malloc((last->object_count + 1) * sizeof(*working->objects));
	if (!working->objects) {
		free(working);
		return NULL;
	}
	working->object_room = last->object_count + 1;
	for (size_t i = 0; i < last->object_count; i++) {
		struct descriptor_object *object = &working->objects[i];

		*object = last->objects[i];
		object->link = object->text = NULL;
		if (anew[i])
			object->record = NULL;
	}
	return working;
}

static void discard(struct descriptors *working, const bool *anew)
{
	working->list = NULL;
	for (size_t i = 0; i < working->object_count; i++)
		if (!anew[i])
			working->objects[i].record = NULL;
	descriptors_free(working);
}

/* With a list and records of its own. */
static bool detach(struct descriptors *working, bool *anew)
{
	struct descriptor *list = malloc((working->count + 1) * sizeof(*list));

	for (size_t i = 0; list && i < working->object_count; i++) {
		struct descriptor_object *object = &working->objects[i];
		uint8_t *record = anew[i] ? object->record : malloc(object->bytes + 1);

		if (!record) {
			free(list);
			return false;
		}
		if (!anew[i])
			memcpy(record, object->record, object->bytes);
		object->record = record;
		anew[i] = true;
	}
	if (list)
		memcpy(list, working->list, working->count * sizeof(*list));
	working->list = list ? list : working->list;
	return list;
}

/* All that was captured anew is there: what this capture has. NULL: no memory. */
static struct descriptors *settle(struct unchanged *own, struct descriptors *working, bool *anew)
{
	bool same = true;

	for (size_t i = 0; i < working->object_count; i++)
		same = same &&
		       (!anew[i] || same_record(&working->objects[i], &own->last->objects[i]));
	if (same) {
		discard(working, anew);
	} else {
		if (!detach(working, anew)) {
			discard(working, anew);
			return NULL;
		}
		for (size_t i = 0; i < working->object_count; i++) {
			struct descriptor_object *object = &working->objects[i];

			object->text = own->objects[i].text;
			own->objects[i].text = NULL;
			learn(&own->objects[i], working, object);
			if (object->here >= 0)
				close(object->here);
			object->here = -1;
		}
		descriptors_free(own->last);
		own->last = working;
	}
	own->last->users++;
	return own->last;
}

/* NULL: all is to be captured. */
static struct descriptors *capture_some(struct descriptor_capture *capture, bool *anew)
{
	struct unchanged *own = capture->process->unchanged;
	struct descriptors *working = begin(own->last, anew);
	bool good = working && take(capture, working, anew);

	capture->descriptors = working;
	for (size_t i = 0; good && i < working->object_count; i++)
		if (anew[i])
			good = capture_one(capture, &working->objects[i]);
	capture->descriptors = NULL;
	if (good)
		return settle(own, working, anew);
	if (working)
		discard(working, anew);
	return NULL;
}

struct descriptors *unchanged_capture(struct descriptor_capture *capture)
{
	struct unchanged *own = capture->process->unchanged;
	struct thaw_error unused, *error = capture->error;
	struct descriptors *captured = NULL;
	bool *anew;

	if (!own || !ask_now(capture))
		return NULL;
	own->answered = false;
	capture->error = &unused; /* whoever captures all says it again */
	anew = calloc(own->last->object_count + 1, sizeof(*anew));
	if (anew && look_at_all(capture, anew))
		captured = capture_some(capture, anew);
	free(anew);
	capture->error = error;
	capture->copied = 0;
	return captured;
}
