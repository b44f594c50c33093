/* SPDX-License-Identifier: MIT */
/*
 * fault_process.c - the fault service for the memory of other processes: which page comes from where, and
 * making it appear. See fault_process.h.
 *
 * The fault service's thread; with eager delivery the one that attaches the process. Any ioctl here may say
 * that the address space is changing (EAGAIN): then events wait, which are read before it is repeated, and
 * what they changed is looked up again. Must never: install a page that was given up meanwhile, keep a pointer
 * to a piece over an ioctl.
 */
#define _GNU_SOURCE
#include "fault_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "process_memory.h"

#define GIVE_UP_BITS \
	32768u		/* more pages are cut from the pieces: a bitmap of them would be large */
#define ZERO_WINDOW 64u /* new pages given at once to who writes one after the other */

/* ---- which page comes from where ---- */

static bool served_misses(const struct served *served, uint64_t stored)
{
	uint64_t page;

	return !served->gone && !bitmap_test(&served->arrived, stored) &&
	       pieces_with(&served->pieces, stored, &page);
}

bool fault_process_misses(const struct fault_service *service, uint64_t stored)
{
	const struct fault_process *process = service->process;

	for (size_t i = 0; i < process->count; i++)
		if (served_misses(process->all[i], stored))
			return true;
	return false;
}

static bool children_miss(const struct fault_process *process)
{
	for (size_t i = 1; i < process->count; i++)
		if (!process->all[i]->gone && !process->all[i]->loaded)
			return true;
	return false;
}

/* Another one may still need what is stored there, for which the image has no place in the next generation. */
static void note_due(struct fault_service *service, const struct pieces *pieces, uint64_t first,
		     uint64_t end)
{
	for (size_t i = pieces_from(pieces, first);
	     i < pieces->count && pieces->list[i].first < end; i++) {
		const struct piece *piece = &pieces->list[i];
		uint64_t begin = piece->first > first ? piece->first : first;
		uint64_t until = piece->end < end ? piece->end : end;

		fault_events_due(service, piece->stored + (begin - piece->first),
				 piece->stored + (until - piece->first));
	}
}

void served_give_up(struct fault_service *service, struct served *served, uint64_t first,
		    uint64_t end)
{
	struct pieces *pieces = &served->pieces;

	if (served_is_guest(service, served)) {
		service_check(service, pieces_cut(&served->poisoned, first, end, NULL),
			      "note what the guest gave up");
		if (children_miss(service->process))
			note_due(service, pieces, first, end);
	}
	if (end - first > GIVE_UP_BITS) {
		service_check(service, pieces_cut(pieces, first, end, NULL),
			      "note what a process gave up");
		return;
	}
	for (size_t i = pieces_from(pieces, first);
	     i < pieces->count && pieces->list[i].first < end; i++) {
		const struct piece *piece = &pieces->list[i];
		uint64_t begin = piece->first > first ? piece->first : first;
		uint64_t until = piece->end < end ? piece->end : end;

		bitmap_set_range(&served->arrived, piece->stored + (begin - piece->first),
				 until - begin);
	}
}

/* ---- making pages appear ---- */

void served_wake(struct fault_service *service, struct served *served, uint64_t first, uint64_t end)
{
	int code = served->region.uffd < 0 ? 0 : install_wake(&served->region, first, end - first);

	/* EINVAL: addresses that no process has. */
	if (code != -EINVAL)
		service_check(service, code, "wake a fault");
}

/* What an ioctl on a served said, other than that all is done. */
static void served_outcome(struct fault_service *service, struct served *served, int code)
{
	switch (code) {
	case 0:
		break;
	case -EAGAIN:
		/* Begun and not told yet, by a thread that runs. */
		if (!fault_events_read(service, served))
			poll(&(struct pollfd){.fd = served->region.uffd, .events = POLLIN}, 1, 1);
		break;
	case -ESRCH:
		served->gone = true;
		break;
	default:
		service_check(service, code, "install pages");
	}
}

/* At most `most` pages from this one on that are missing, too, and lie side by side. */
static uint64_t missing_run(const struct served *served, const struct piece *piece, uint64_t stored,
			    uint64_t most)
{
	uint64_t left = piece_stored_end(piece) - stored, count = 1;

	most = left < most ? left : most;
	while (count < most && !bitmap_test(&served->arrived, stored + count))
		count++;
	return count;
}

static int put_pages(struct fault_service *service, struct served *served,
		     enum install_operation operation, uint64_t page, uint64_t count,
		     const char *source, bool protect, uint64_t *done)
{
	const struct region *region = &served->region;
	int code = 0;

	if (region->backends.delivery != DELIVERY_EAGER)
		return install_some(region, operation, page, count, source, protect, done);
	*done = count;
	if (operation == INSTALL_COPY)
		code = process_memory_write(region->process, page * region->page_bytes, source,
					    count * region->page_bytes);
	if (code && !service->process->write_code)
		service->process->write_code = code;
	return 0;
}

/* The guest's page is poisoned: it is in no generation under another number than its own. */
static void note_poison(struct fault_service *service, struct served *served, uint64_t page,
			uint64_t count, uint64_t stored)
{
	struct piece piece = {.first = page, .end = page + count, .stored = stored};

	tracker_forget(service->options.tracker, page, count);
	service_check(service, pieces_cut(&served->poisoned, piece.first, piece.end, NULL),
		      "note a poisoned page");
	service_check(service, pieces_add(&served->poisoned, piece), "note a poisoned page");
}

static void served_install(struct fault_service *service, struct served *served,
			   enum install_operation operation, uint64_t first, uint64_t count,
			   const char *source)
{
	uint64_t stored = first, end = first + count;
	bool guest = served_is_guest(service, served);

	while (stored < end && !served->gone) {
		uint64_t page, run, done = 0;
		const struct piece *piece = pieces_with(&served->pieces, stored, &page);
		bool moved;
		int code;

		if (!piece || bitmap_test(&served->arrived, stored)) {
			stored++;
			continue;
		}
		run = missing_run(served, piece, stored, end - stored);
		moved = piece_moved(piece);
		if (guest && operation == INSTALL_POISON)
			note_poison(service, served, page, run, stored);
		/* What was moved is new where it is now: it counts as written. Nobody tracks children. */
		code = put_pages(
			service, served, operation, page, run,
			source ? source + (stored - first) * served->region.page_bytes : NULL,
			guest && !moved && served->region.backends.tracker == TRACKER_WP_ASYNC,
			&done);
		bitmap_set_range(&served->arrived, stored, done);
		stored += done;
		/* The kernel looks for the memory first: it may have been moved, which is still to be told. */
		if (code == -ENOENT && install_probe(&served->region, page + done) == -EAGAIN)
			code = -EAGAIN;
		if (code != -ENOENT) {
			served_outcome(service, served, code);
			continue;
		}
		/* Nothing is there any more, or what is there has nothing to do with us. */
		bitmap_set(&served->arrived, stored++);
		served_wake(service, served, page + done, page + done + 1);
	}
}

void fault_process_install(struct fault_service *service, enum install_operation operation,
			   uint64_t stored, uint64_t count, const char *source)
{
	struct fault_process *process = service->process;

	/* Reading events may add children, at the end. */
	for (size_t i = 0; i < process->count; i++)
		served_install(service, process->all[i], operation, stored, count, source);
}

/* ---- faults ---- */

static bool comes_from_image(const struct served *served, uint64_t page, uint64_t *stored)
{
	const struct piece *piece = pieces_at(&served->pieces, page);

	if (!piece)
		return false;
	*stored = piece->stored + (page - piece->first);
	return !bitmap_test(&served->arrived, *stored);
}

/*
 * A page that does not come from the image: it is there already, or new, or was given up. Those behind it
 * come, too, when one after the other is asked for.
 */
static void serve_zero(struct fault_service *service, struct served *served, uint64_t page)
{
	uint64_t done, stored, count = 1;
	int code;

	served->zero_window = page != served->zero_next		  ? 1
			      : served->zero_window < ZERO_WINDOW ? served->zero_window * 2
								  : ZERO_WINDOW;
	while (count < served->zero_window && !comes_from_image(served, page + count, &stored))
		count++;
	code = install_some(&served->region, INSTALL_ZERO, page, count, NULL, false, &done);
	served->zero_next = page + done;
	if (done && (code == -ENOENT || code == -EAGAIN))
		return;
	if (code == -ENOENT) { /* the memory is gone, or the kernel's own: its thread tries again */
		served_wake(service, served, page, page + 1);
		return;
	}
	served_outcome(service, served, code);
	if (code == -EAGAIN) /* it may come from the image now: memory that was moved here */
		served_wake(service, served, page, page + 1);
}

static void serve_fault(struct fault_service *service, struct served *served, uint64_t page)
{
	uint64_t stored;

	if (served->gone)
		return;
	if (!comes_from_image(served, page, &stored)) {
		serve_zero(service, served, page);
		return;
	}
	if (service->options.recorder && served_is_guest(service, served))
		service_note_access(service, stored);
	service_bring(service, stored);
}

void fault_process_serve(struct fault_service *service)
{
	struct fault_process *process = service->process;

	/* More may come while one is answered. */
	for (size_t i = 0; i < process->fault_count; i++) {
		struct waiting_fault fault = process->faults[i];

		count_up(&service->faults, 1);
		serve_fault(service, fault.served, fault.page);
	}
	process->fault_count = 0;
}

/* ---- start and stop ---- */

struct served *served_add(struct fault_service *service, int userfaultfd)
{
	struct fault_process *process = service->process;
	struct served *served = calloc(1, sizeof(*served));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = served};

	if (process->count == process->room) {
		size_t room = process->room ? 2 * process->room : 4;
		struct served **all = realloc(process->all, room * sizeof(struct served *));

		if (all) {
			process->all = all;
			process->room = room;
		}
	}
	if (!served || process->count == process->room ||
	    bitmap_init(&served->arrived, service->restored_pages + 1) ||
	    (userfaultfd >= 0 && epoll_ctl(process->epoll, EPOLL_CTL_ADD, userfaultfd, &event))) {
		if (served)
			bitmap_free(&served->arrived);
		free(served);
		return NULL;
	}
	served->region = *service->region;
	served->region.uffd = userfaultfd;
	served->zero_next = UINT64_MAX;
	process->all[process->count++] = served;
	return served;
}

static int guest_pieces(struct fault_service *service, struct served *guest)
{
	uint64_t bytes = service->region->page_bytes;
	int code = 0;

	for (size_t i = 0; i < service->options.range_count && !code; i++) {
		const struct thaw_range *range = &service->options.ranges[i];

		code = pieces_add(&guest->pieces, (struct piece){.first = range->start / bytes,
								 .end = range->end / bytes,
								 .stored = range->start / bytes});
	}
	return code;
}

int fault_process_start(struct fault_service *service, struct thaw_error *error)
{
	struct fault_process *process = calloc(1, sizeof(*process));
	int uffd = service->region->uffd, flags;
	struct served *guest;

	if (!process)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	service->process = process;
	pthread_mutex_init(&process->lock, NULL);
	pthread_cond_init(&process->settled, NULL);
	process->epoll = epoll_create1(EPOLL_CLOEXEC);
	process->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (process->epoll < 0 || process->timer < 0 ||
	    epoll_ctl(process->epoll, EPOLL_CTL_ADD, process->timer,
		      &(struct epoll_event){.events = EPOLLIN}))
		return error_set(error, -errno, "cannot wait for the guest's userfaultfd: %s",
				 strerror(errno));
	/* Without it there is nothing to wait for: poll(2) says that it cannot be read (userfaultfd_poll()). */
	flags = uffd >= 0 ? fcntl(uffd, F_GETFL) : 0;
	if (flags < 0 || (uffd >= 0 && fcntl(uffd, F_SETFL, flags | O_NONBLOCK)))
		return error_set(error, -errno, "cannot wait for the guest's userfaultfd: %s",
				 strerror(errno));
	guest = served_add(service, uffd);
	if (!guest || guest_pieces(service, guest))
		return error_set(error, -ENOMEM, "no memory for the fault service");
	return 0;
}

int fault_process_loaded(struct fault_service *service, struct thaw_error *error)
{
	int code = service->process->write_code;

	pieces_free(&service->process->all[0]->pieces);
	if (code)
		return error_set(error, code, "cannot write the memory of process %d: %s",
				 service->region->process->process.pid, thaw_strerror(code));
	return fault_service_last_poison(service, error) ? THAW_EDAMAGED : 0;
}

void fault_process_stop(struct fault_service *service)
{
	struct fault_process *process = service->process;

	if (!process)
		return;
	for (size_t i = 0; i < process->count; i++) {
		struct served *served = process->all[i];

		if (i && served->region.uffd >= 0)
			close(served->region.uffd);
		pieces_free(&served->pieces);
		pieces_free(&served->poisoned);
		bitmap_free(&served->arrived);
		free(served);
	}
	if (process->epoll >= 0)
		close(process->epoll);
	if (process->timer >= 0)
		close(process->timer);
	pthread_mutex_destroy(&process->lock);
	pthread_cond_destroy(&process->settled);
	free(process->all);
	free(process->faults);
	free(process->due);
	free(process);
	service->process = NULL;
}
