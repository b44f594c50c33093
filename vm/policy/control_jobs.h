/* SPDX-License-Identifier: MIT */
/*
 * control_jobs.h - what the two halves of a program's control share: control.c, which hears and answers on the server's thread,
 * and control_jobs.c, which does what was asked, on the owner's.
 */
#ifndef VM_POLICY_CONTROL_JOBS_H
#define VM_POLICY_CONTROL_JOBS_H

#include "control/numbers.h"
#include "control/server.h"
#include "internal.h"

enum job_state {
	JOB_QUEUED,
	JOB_BEGUN, /* the owner has it; of code: it awaits something */
	JOB_WAITS, /* for a generation */
	JOB_RESTS, /* the program rests meanwhile */
};

struct job {
	struct job *next;
	struct control_request *request; /* NULL: nobody waits for the answer */
	enum control_command command;
	enum job_state state;
	uint64_t until_ns;
	uint64_t ticket;     /* which generation it waits for: WAITS */
	char *text;	     /* what it came to, malloc'ed */
	bool threw;	     /* it is an exception, */
	size_t head;	     /* ... which begins there */
	bool rested;	     /* of RESTS: it was done, */
	int failed;	     /* ... and has failed: an exit code; the text says why */
	uint64_t generation; /* the one that it is about; that was made */
	/* Of an upgrade: the request's own, and what it came to. */
	char *check;
	bool force;
	struct guest_changes changes;
	/* Of RESTS: the generation that it went back to; or the image's bytes, and then. */
	uint64_t before, after;
};

struct refusal {
	int code;
	char text[600];
};

struct control {
	struct control_server *server;	      /* NULL: nobody can ask */
	struct counters counters;	      /* the owner's; read by anybody */
	_Atomic bool asked, checkpoint_asked; /* there is a job that nobody has taken */
	int exit_code;

	pthread_mutex_t lock;		/* for what follows */
	struct runtime *rt;		/* NULL: there is none just now */
	struct runtime_options options; /* of the newest one */
	struct job *jobs;		/* the oldest first */
	struct job *evaluating;
	const char *kind;
	char *image, *program, id[CONTROL_ID_ROOM];
	char failure[504]; /* why the last checkpoint failed; empty: it did not */
	uint64_t started_ns, restores;
	struct thaw_counters before; /* of runtimes that are closed */
	bool stop_sent;

	/* The owner's. Tickets count who waits for a generation; a capture has all that were given out before it. */
	uint64_t tickets, captured;
	unsigned waiting;    /* jobs that have one */
	uint64_t counted_ns; /* up to when dirty pages were counted */
};

/* ---- control.c. With the lock; the job is gone. */

void control_answer(struct control *control, struct job *job,
		    void (*write)(FILE *to, const struct job *job, const void *what),
		    const void *what);
void control_answer_refused(struct control *control, struct job *job, int code, const char *format,
			    ...) __attribute__((format(printf, 4, 5)));
void control_free(struct control *control);

/* ---- control_jobs.c */

/* With the lock: there is a runtime again. */
void control_jobs_resumed(struct control *control);

#endif
