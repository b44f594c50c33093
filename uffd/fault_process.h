/* SPDX-License-Identifier: MIT */
/*
 * fault_process.h - the fault service for the memory of other processes: the guest and its forked
 * children, each with a userfaultfd of its own. fault_process.c has their pages, fault_events.c what
 * they do to their memory. Everybody but the fault service uses fault.h.
 *
 *	stored page --read and checked, once, for all who miss it--> the guest, and each child that misses it
 *
 * Invariants, which fault_events.c explains:
 *  1. A page in a piece comes from the image until its bit in `arrived` is set; then never again.
 *  2. Before a generation is captured, no page depends on stored pages that are not the guest's own at the same
 *     place any more: those are `due`, and are read before.
 *  3. Each fault that is read is answered: its page is installed or woken, or its memory is gone.
 */
#ifndef UFFD_FAULT_PROCESS_H
#define UFFD_FAULT_PROCESS_H

#include "fault_service.h"
#include "install.h"
#include "pieces.h"

struct served {		      /* the memory of one process */
	struct region region; /* a copy, for its userfaultfd */
	struct pieces pieces;
	struct bitmap arrived;	/* by stored page: not from the image any more */
	struct pieces poisoned; /* the guest's */
	bool gone;		/* its memory is: it has exited, or run another program */
	bool loaded;		/* a child: nothing is missing */
	uint64_t born_ns;	/* a child */
	uint64_t load_next;	/* a child: stored pages before this one are there */
	uint64_t zero_next;	/* where a run of new pages would go on */
	unsigned zero_window;
};

struct waiting_fault {
	struct served *served;
	uint64_t page;
};

struct due { /* stored pages */
	uint64_t next, end, first;
};

struct fault_process {
	int epoll;	     /* of all userfaultfds, and the timer: what the reader waits for */
	int timer;	     /* when the youngest child is to be loaded */
	struct served **all; /* the guest is the first */
	size_t count, room;
	struct waiting_fault *faults; /* read and not answered yet */
	size_t fault_count, fault_room;
	struct due *due;
	size_t due_count, due_room;
	int write_code; /* eager: why the guest's memory could not be written; 0 */
	/* The thread waits for something to be told, and has done all that was told before; what it found is below. */
	_Atomic bool rests;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t settled;
	unsigned settle_asked, settle_done;
	bool settle_damaged, settle_gone;
};

/* ---- fault_process.c: pages */

int fault_process_start(struct fault_service *service, struct thaw_error *error);
/* NULL is fine; not while the service's thread runs. */
void fault_process_stop(struct fault_service *service);

/* Eager: all has been read. An error if something could not be, or not be written. */
int fault_process_loaded(struct fault_service *service, struct thaw_error *error);

/* Does anybody miss this stored page? */
bool fault_process_misses(const struct fault_service *service, uint64_t stored);
/* These stored pages appear wherever they are missed; source NULL: as zero. */
void fault_process_install(struct fault_service *service, enum install_operation operation,
			   uint64_t stored, uint64_t count, const char *source);
/* Answers all faults that were read. */
void fault_process_serve(struct fault_service *service);
/* A page of this served is never to come from the image again; its waiters try again. */
void served_give_up(struct fault_service *service, struct served *served, uint64_t first,
		    uint64_t end);
void served_wake(struct fault_service *service, struct served *served, uint64_t first,
		 uint64_t end);
struct served *served_add(struct fault_service *service, int userfaultfd);
static inline bool served_is_guest(const struct fault_service *service, const struct served *served)
{
	return served == service->process->all[0];
}

/* ---- fault_events.c */

/* Reads all that waits: events are done at once, faults are noted. False: there was nothing. */
bool fault_events_read(struct fault_service *service, struct served *served);
void fault_events_read_all(struct fault_service *service);
/* These stored pages are needed by others than the guest at their own place. */
void fault_events_due(struct fault_service *service, uint64_t first, uint64_t end);
/* What can be done while nobody asks for a page. true: there is more at once. */
bool fault_events_idle(struct fault_service *service);
/* Some of what is due. true: there may be more. */
bool fault_events_due_step(struct fault_service *service);
/* All that living children miss is brought: nobody will serve them any more. */
void fault_events_leave(struct fault_service *service);

/* ---- fault_settle.c */

/* For who waits in fault_service_settle(). */
void fault_events_settle(struct fault_service *service);
/* About to wait: who wants it to settle need not wake it, if there is nothing else to do. */
void fault_events_rest(struct fault_service *service);

#endif
