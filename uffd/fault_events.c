/* SPDX-License-Identifier: MIT */
/*
 * fault_events.c - what the guest and its forked children do to their memory, as their userfaultfds tell it:
 * pages given up (madvise, munmap), moved (mremap) and inherited (fork). See fault_process.h. Service's thread.
 *
 * Whoever does such a thing waits until its event is read, and the kernel installs no page meanwhile (EAGAIN).
 * So what was installed before a fork is in both processes, and nothing that is installed after an event was
 * read is older than it.
 *
 * What was given up never comes from the image again. What was moved keeps coming from where it is stored, and a
 * child misses what its parent missed; but the next generation may store other contents there. So before it
 * is captured those stored pages are brought to all who miss them ("due").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "fault_process.h"
#include "sys.h"

#define MESSAGES 32u	    /* read from the kernel at once */
#define BATCH 256u	    /* events put into their order together */
#define STEP_CLUSTERS 8u    /* begun at once while nobody waits */
#define PROBE_PAGE 0x100ull /* any page that an address space can have */
#define FULL_NS 10000000    /* until descriptors are asked for again */
#define MORE_DESCRIPTORS 64u
#define CHILD_NS 100000000 /* a younger child may be about to run another program */
#define FINE_PAGES 65536u  /* a larger span is looked at by its first page alone */

struct batch {
	struct served *served;
	unsigned count;
	struct uffd_msg events[BATCH];
	bool begun[BATCH], done[BATCH];
};

/* In pages. */
struct span {
	uint64_t first, end;
};

static struct span span_of(const struct fault_service *service, uint64_t start, uint64_t end)
{
	uint64_t bytes = service->region->page_bytes;

	return (struct span){start / bytes, (end + bytes - 1) / bytes};
}

static bool overlap(struct span a, struct span b)
{
	return a.first < b.end && b.first < a.end;
}

/* The memory that is not where it was any more after this event; none: empty. */
static struct span left_by(const struct fault_service *service, const struct uffd_msg *event)
{
	switch (event->event) {
	case UFFD_EVENT_REMAP:
		return span_of(service, event->arg.remap.from,
			       event->arg.remap.from + event->arg.remap.len);
	case UFFD_EVENT_UNMAP:
		return span_of(service, event->arg.remove.start, event->arg.remove.end);
	default:
		return (struct span){0, 0};
	}
}

static struct span taken_by(const struct fault_service *service, const struct uffd_msg *event)
{
	if (event->event != UFFD_EVENT_REMAP)
		return (struct span){0, 0};
	return span_of(service, event->arg.remap.to, event->arg.remap.to + event->arg.remap.len);
}

/* ---- single events ---- */

static void do_remove(struct fault_service *service, struct served *served, struct span span)
{
	served_give_up(service, served, span.first, span.end);
	if (served_is_guest(service, served))
		tracker_removed(service->options.tracker, span.first, span.end - span.first);
	served_wake(service, served, span.first, span.end);
}

static void do_unmap(struct fault_service *service, struct served *served, struct span span)
{
	served_give_up(service, served, span.first, span.end);
	if (served_is_guest(service, served))
		tracker_unmapped(service->options.tracker, span.first, span.end - span.first);
	served_wake(service, served, span.first, span.end);
}

/* Without what is there, and what was never stored, at both ends. */
static struct piece trimmed(const struct fault_service *service, const struct served *served,
			    struct piece piece)
{
	uint64_t stored = piece.stored, end = piece_stored_end(&piece);

	while (stored < end) {
		uint64_t next = image_next(service->options.image, stored);

		stored = next < end ? bitmap_next_clear(&served->arrived, next, end) : end;
		if (stored == next)
			break;
	}
	while (end > stored && bitmap_test(&served->arrived, end - 1))
		end--;
	piece.first += stored - piece.stored;
	piece.stored = stored;
	piece.end = piece.first + (end - stored);
	return piece;
}

/* Pieces of [from, ...), or of what is poisoned there, go to `to`. */
static int move_pieces(struct fault_service *service, struct served *served, struct pieces *pieces,
		       struct span from, uint64_t to)
{
	struct pieces moving = {0};
	int code = pieces_cut(pieces, from.first, from.end, &moving);

	for (size_t i = 0; i < moving.count && !code; i++) {
		struct piece piece = moving.list[i];

		if (pieces == &served->pieces)
			piece = trimmed(service, served, piece);
		piece.first = piece.first - from.first + to;
		piece.end = piece.end - from.first + to;
		code = pieces_add(pieces, piece);
		if (pieces == &served->poisoned)
			tracker_forget(service->options.tracker, piece.first,
				       piece.end - piece.first);
		else if (served_is_guest(service, served))
			fault_events_due(service, piece.stored, piece_stored_end(&piece));
	}
	pieces_free(&moving);
	return code;
}

/* What was there is gone. Not only noted: other pieces are going to be there. */
static void begin_remap(struct fault_service *service, struct served *served, struct span from,
			struct span to)
{
	served_give_up(service, served, to.first, to.end);
	service_check(service, pieces_cut(&served->pieces, to.first, to.end, NULL),
		      "note what a process moved");
	if (served_is_guest(service, served))
		tracker_moved(service->options.tracker, from.first, to.first,
			      from.end - from.first);
}

static void do_remap(struct fault_service *service, struct served *served, struct span from,
		     uint64_t to)
{
	int code = move_pieces(service, served, &served->pieces, from, to);

	if (!code && served_is_guest(service, served))
		code = move_pieces(service, served, &served->poisoned, from, to);
	service_check(service, code, "note what a process moved");
	served_wake(service, served, from.first, from.end);
}

/* Children whose memory is gone, since they have ended or run another program. How many there were. */
static unsigned find_gone(struct fault_service *service)
{
	unsigned closed = 0;
	struct fault_process *process = service->process;

	for (size_t i = 1; i < process->count; i++) {
		struct served *served = process->all[i];

		served->gone |= install_probe(&served->region, PROBE_PAGE) == -ESRCH;
		if (!served->gone || served->region.uffd < 0)
			continue;
		close(served->region.uffd);
		served->region.uffd = -1;
		closed++;
	}
	return closed;
}

static struct served *do_fork(struct fault_service *service, struct served *served, int userfaultfd)
{
	struct served *child;

	find_gone(service);
	child = served_add(service, userfaultfd);
	if (!child || pieces_copy(&child->pieces, &served->pieces)) {
		struct thaw_error error;

		/* Closed, its missing pages would be zero. */
		error_set(&error, -ENOMEM, "no memory to serve a forked child of the guest");
		service_fatal(service, &error);
	}
	bitmap_merge(&child->arrived, &served->arrived);
	child->loaded = served->loaded;
	child->load_next = served->load_next;
	child->born_ns = sys_monotonic_ns();
	timerfd_settime(service->process->timer, 0,
			&(struct itimerspec){.it_value.tv_nsec = CHILD_NS + 1000000}, NULL);
	return child;
}

/* ---- events in their order ---- */

static void batch_do(struct fault_service *service, struct batch *batch, unsigned i);

/* Was this memory taken by an event that is done, and is by none that is still to come? */
static bool taken_before(const struct fault_service *service, const struct batch *batch, unsigned i,
			 struct span span)
{
	bool before = false;

	for (unsigned j = 0; j < batch->count; j++) {
		if (j == i || !overlap(taken_by(service, &batch->events[j]), span))
			continue;
		if (j > i && !batch->done[j])
			return false;
		before |= batch->done[j];
	}
	return before;
}

/*
 * An event is queued after the change, so two threads' events may come in the other order: memory was moved to
 * where, as it seems, something still is. What comes later and frees that place was first.
 */
static void free_target(struct fault_service *service, struct batch *batch, unsigned i)
{
	struct span target = taken_by(service, &batch->events[i]);
	const struct pieces *pieces = &batch->served->pieces;
	size_t piece = pieces_from(pieces, target.first);

	if (piece == pieces->count || pieces->list[piece].first >= target.end)
		return;
	for (unsigned j = i + 1; j < batch->count; j++)
		if (!batch->begun[j] && overlap(left_by(service, &batch->events[j]), target))
			batch_do(service, batch, j);
}

static bool has(const struct served *served, uint64_t page)
{
	return install_probe(&served->region, page) == 1;
}

/*
 * The same with a place from which nothing came: did this event free what was moved there before, or what was there
 * before that? Where memory is now, it is the moved one. So much of the span from *page on is to be looked at alike;
 * true: it was freed.
 */
static bool was_freed(struct fault_service *service, const struct batch *batch, unsigned i,
		      struct span left, uint64_t *page)
{
	bool there;

	if (!taken_before(service, batch, i, left)) {
		*page = left.end;
		return true;
	}
	there = has(batch->served, *page);
	if (left.end - left.first > FINE_PAGES) {
		*page = left.end;
		return !there;
	}
	while (++*page < left.end && has(batch->served, *page) == there)
		;
	return !there;
}

static void batch_do(struct fault_service *service, struct batch *batch, unsigned i)
{
	const struct uffd_msg *event = &batch->events[i];
	struct served *served = batch->served;
	struct span from = left_by(service, event), to = taken_by(service, event);

	batch->begun[i] = true;
	switch (event->event) {
	case UFFD_EVENT_REMOVE:
		do_remove(service, served,
			  span_of(service, event->arg.remove.start, event->arg.remove.end));
		break;
	case UFFD_EVENT_UNMAP:
		for (uint64_t at = from.first, end = at; at < from.end; at = end)
			if (was_freed(service, batch, i, from, &end))
				do_unmap(service, served, (struct span){at, end});
		break;
	case UFFD_EVENT_REMAP:
		free_target(service, batch, i);
		begin_remap(service, served, from, to);
		for (uint64_t at = from.first, end = at; at < from.end; at = end)
			if (was_freed(service, batch, i, from, &end))
				do_remap(service, served, (struct span){at, end},
					 to.first + (at - from.first));
		break;
	}
	batch->done[i] = true;
}

/*
 * A child has the memory of before this batch, and what was done to it until the fork. What other threads did about
 * that time was so much before or after it as the child's memory tells, page by page.
 */
static void child_follow(struct fault_service *service, struct batch *batch, unsigned fork,
			 struct served *child)
{
	for (unsigned i = 0; i < batch->count && !child->gone; i++) {
		const struct uffd_msg *event = &batch->events[i];
		struct span from = left_by(service, event), to = taken_by(service, event);
		uint64_t step = from.end - from.first > FINE_PAGES ? from.end - from.first : 1;

		if (event->event == UFFD_EVENT_REMOVE && i < fork)
			do_remove(service, child,
				  span_of(service, event->arg.remove.start, event->arg.remove.end));
		for (uint64_t page = from.first; page < from.end; page += step) {
			uint64_t at = to.first + (page - from.first);
			struct span one = {page, page + step}, there = {at, at + step};
			bool left = !has(child, page);

			if (event->event == UFFD_EVENT_UNMAP && left) {
				do_unmap(service, child, one);
			} else if (event->event == UFFD_EVENT_REMAP &&
				   (i < fork ? left || has(child, at) : left && has(child, at))) {
				begin_remap(service, child, one, there);
				do_remap(service, child, one, at);
			}
		}
	}
}

static void batch_do_all(struct fault_service *service, struct batch *batch)
{
	struct served *children[BATCH];

	/* First the children, as copies of what was. */
	for (unsigned i = 0; i < batch->count; i++)
		if (batch->events[i].event == UFFD_EVENT_FORK)
			children[i] =
				do_fork(service, batch->served, (int)batch->events[i].arg.fork.ufd);
	for (unsigned i = 0; i < batch->count; i++)
		if (!batch->begun[i])
			batch_do(service, batch, i);
	for (unsigned i = 0; batch->count > 1 && i < batch->count; i++)
		if (batch->events[i].event == UFFD_EVENT_FORK)
			child_follow(service, batch, i, children[i]);
}

static void note_fault(struct fault_service *service, struct served *served, uint64_t page)
{
	struct fault_process *process = service->process;

	if (process->fault_count == process->fault_room) {
		size_t room = process->fault_room ? 2 * process->fault_room : 64;
		struct waiting_fault *faults = realloc(process->faults, room * sizeof(*faults));

		if (!faults) { /* it is raised again */
			served_wake(service, served, page, page + 1);
			return;
		}
		process->faults = faults;
		process->fault_room = room;
	}
	process->faults[process->fault_count++] = (struct waiting_fault){served, page};
}

/*
 * No descriptor is left for a child's userfaultfd. fork(2) waits meanwhile, and with it all whose pages are missing.
 * Those of children that are gone are closed, and the soft limit is raised; else it is tried again.
 */
static void out_of_descriptors(struct fault_service *service, int error)
{
	struct timespec pause = {.tv_nsec = FULL_NS};
	struct rlimit limit;

	service->faults_wait = true;
	if (find_gone(service))
		return;
	if (error == EMFILE && !getrlimit(RLIMIT_NOFILE, &limit) &&
	    limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur += limit.rlim_max - limit.rlim_cur < MORE_DESCRIPTORS
					  ? limit.rlim_max - limit.rlim_cur
					  : MORE_DESCRIPTORS;
		if (!setrlimit(RLIMIT_NOFILE, &limit))
			return;
	}
	nanosleep(&pause, NULL);
}

/* Reads once. How many messages there were. */
static unsigned batch_read(struct fault_service *service, struct batch *batch)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got;
	unsigned count, room = BATCH - batch->count;

	do
		got = read(batch->served->region.uffd, messages,
			   (room < MESSAGES ? room : MESSAGES) * sizeof(messages[0]));
	while (got < 0 && errno == EINTR);
	if (got < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		out_of_descriptors(service, errno);
	else if (got < 0 && errno != EAGAIN)
		service_check(service, -errno, "read faults");
	count = got > 0 ? (unsigned)((size_t)got / sizeof(messages[0])) : 0;
	for (unsigned i = 0; i < count; i++) {
		if (messages[i].event == UFFD_EVENT_PAGEFAULT)
			note_fault(service, batch->served,
				   messages[i].arg.pagefault.address / service->region->page_bytes);
		else
			batch->events[batch->count++] = messages[i];
	}
	return count;
}

bool fault_events_read(struct fault_service *service, struct served *served)
{
	struct batch batch = {.served = served};
	unsigned read = 0, now;

	if (served->region.uffd < 0)
		return true;
	do {
		now = batch_read(service, &batch);
		read += now;
		if (now || !batch.count)
			continue;
		/* Until all changes that have begun are told. */
		if (install_probe(&served->region, PROBE_PAGE) != -EAGAIN)
			break;
		now = 1;
		poll(&(struct pollfd){.fd = served->region.uffd, .events = POLLIN}, 1, 1);
	} while (now && batch.count < BATCH);
	batch_do_all(service, &batch);
	return read;
}

void fault_events_read_all(struct fault_service *service)
{
	struct epoll_event ready[MESSAGES];
	uint64_t expired;
	int count;

	do {
		count = epoll_wait(service->process->epoll, ready, MESSAGES, 0);
		for (int i = 0; i < count; i++)
			if (ready[i].data.ptr)
				fault_events_read(service, ready[i].data.ptr);
			else /* fault_events_idle() looks what is to be done */
				(void)!read(service->process->timer, &expired, sizeof(expired));
	} while (count == (int)MESSAGES);
}

/* ---- what is due ---- */

void fault_events_due(struct fault_service *service, uint64_t first, uint64_t end)
{
	struct fault_process *process = service->process;

	if (first == end)
		return;
	if (process->due_count == process->due_room) {
		size_t room = process->due_room ? 2 * process->due_room : 16;
		struct due *due = realloc(process->due, room * sizeof(*due));

		service_check(service, due ? 0 : -ENOMEM, "note what has to be read");
		process->due = due;
		process->due_room = room;
	}
	process->due[process->due_count++] =
		(struct due){.next = first, .end = end, .first = first};
}

/* All of it has been brought: nobody's pages come from there any more, but the guest's at their own place. */
static void forget_stored(struct fault_service *service, uint64_t first, uint64_t end)
{
	struct fault_process *process = service->process;

	for (size_t i = 0; i < process->count; i++) {
		struct pieces *pieces = &process->all[i]->pieces;

		for (size_t j = 0; j < pieces->count;) {
			struct piece piece = pieces->list[j++];
			uint64_t begin = piece.stored > first ? piece.stored : first;
			uint64_t until = piece_stored_end(&piece);

			until = until < end ? until : end;
			if (begin >= until || (!i && !piece_moved(&piece)))
				continue;
			begin = piece.first + (begin - piece.stored);
			until = piece.first + (until - piece.stored);
			service_check(service, pieces_cut(pieces, begin, until, NULL),
				      "note what was read");
			j = pieces_from(pieces, until);
		}
	}
}

static bool busy(const struct fault_service *service)
{
	return service->in_flight > service->runs_most / 2 || service->prefetch_in_flight;
}

/* Some of the stored pages from *next on that are not there yet; false: there are none before `end`. */
static bool bring_some(struct fault_service *service, uint64_t *next, uint64_t end)
{
	uint64_t page = service->options.image ? image_next(service->options.image, *next)
					       : UINT64_MAX;
	uint64_t cluster = cluster_of(service, page), last;

	if (page >= end)
		return false;
	last = cluster_of(service, end - 1);
	last = last - cluster < STEP_CLUSTERS ? last : cluster + STEP_CLUSTERS - 1;
	*next = (last + 1) * service->cluster_pages;
	span_begin(service, cluster, (unsigned)(last - cluster + 1), true);
	return true;
}

bool fault_events_due_step(struct fault_service *service)
{
	struct fault_process *process = service->process;
	uint64_t next, end;

	if (!process->due_count || busy(service))
		return false;
	next = process->due[0].next;
	end = process->due[0].end;
	if (bring_some(service, &next, end)) {
		process->due[0].next = next; /* a read may have added to the list */
		return !service->prefetch_in_flight;
	}
	if (service->in_flight)
		return false;
	forget_stored(service, process->due[0].first, end);
	process->due_count--;
	for (size_t i = 0; i < process->due_count; i++)
		process->due[i] = process->due[i + 1];
	return true;
}

/* ---- children ---- */

/*
 * Most children run another program at once. One that goes on living is given all that it misses: when this process dies there is nobody to serve it,
 * and the kernel would give it zeros.
 */
static struct served *unloaded_child(struct fault_service *service, uint64_t age_ns)
{
	struct fault_process *process = service->process;

	for (size_t i = 1; i < process->count; i++) {
		struct served *child = process->all[i];

		if (!child->gone && !child->loaded &&
		    (!age_ns || sys_monotonic_ns() - child->born_ns >= age_ns))
			return child;
	}
	return NULL;
}

static bool child_step(struct fault_service *service, uint64_t age_ns)
{
	struct served *child = unloaded_child(service, age_ns);

	if (!child || busy(service))
		return false;
	if (install_probe(&child->region, PROBE_PAGE) == -ESRCH) {
		child->gone = true;
		return true;
	}
	if (bring_some(service, &child->load_next, service->restored_pages))
		return !service->prefetch_in_flight;
	if (service->in_flight)
		return false;
	pieces_free(&child->pieces); /* the rest is zero */
	child->loaded = true;
	return true;
}

/* Not while somebody walks the list. */
static void bury(struct fault_service *service)
{
	struct fault_process *process = service->process;
	size_t kept = 1;

	if (process->fault_count) /* perhaps theirs */
		return;
	for (size_t i = 1; i < process->count; i++) {
		struct served *served = process->all[i];

		if (!served->gone) {
			process->all[kept++] = served;
			continue;
		}
		if (served->region.uffd >= 0)
			close(served->region.uffd);
		pieces_free(&served->pieces);
		bitmap_free(&served->arrived);
		free(served);
	}
	process->count = kept;
}

bool fault_events_idle(struct fault_service *service)
{
	bury(service);
	return fault_events_due_step(service) || child_step(service, CHILD_NS);
}

void fault_events_leave(struct fault_service *service)
{
	while (unloaded_child(service, 0)) {
		bool more;

		bury(service);
		fault_events_read_all(service);
		fault_process_serve(service);
		more = child_step(service, 0);
		if (service->in_flight)
			service_wait(service, more ? READER_NOW : READER_READ);
	}
}
