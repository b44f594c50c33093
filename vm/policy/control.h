/* SPDX-License-Identifier: MIT */
/*
 * control.h - the part of a running program that others talk to (vm/control): what they ask of it, and who does it.
 *
 * One for the life of a supervisor, over all starts of its program. What can be answered without the program is answered by
 * the server's thread, whatever the program does; the rest waits for its owner, which looks between turns (control_advance())
 * and, for a checkpoint, in the middle of them.
 */
#ifndef VM_POLICY_CONTROL_H
#define VM_POLICY_CONTROL_H

#include <stdbool.h>

#include "thaw.h"

struct control;

struct control_options {
	const char *metrics; /* where they are served over HTTP; NULL: nowhere */
	bool quiet, verbose;
};

/* Nobody can ask before a runtime is opened with it (runtime_options.control). Says where metrics are. */
int control_open(const struct control_options *options, struct control **control,
		 struct thaw_error *error);
/* The program has ended for good, with this code. NULL is allowed. */
void control_close(struct control *control, int exit_code);

/*
 * Somebody has had the program ended so that something can be done with its image, which it goes on from then. The runtime is
 * closed: this does it. True: open it again, with the newest generation.
 */
bool control_resumes(struct control *control);

#endif
