/* SPDX-License-Identifier: MIT */
/*
 * client.h - speaks to the program that runs from an image (protocol.h). One thread.
 */
#ifndef VM_CONTROL_CLIENT_H
#define VM_CONTROL_CLIENT_H

#include <sys/types.h>

#include "control/protocol.h"

struct control_reply {
	char *text; /* a line without its end, malloc'ed */
	size_t bytes;
	int pidfd; /* the process that has answered; -1: not known. The caller closes it */
};

/*
 * Ask it for what `members` say, the inside of an object: "\"command\":\"status\"". Waits so long for the answer. 0;
 * -ESRCH: nobody listens for this image; -EPERM: who listens is not to be trusted, or may not be asked; -ETIMEDOUT; -ECONNRESET: it has ended
 * without an answer; -errno of stat(2), where there is no image. `error` has a line.
 */
int control_ask(const char *image, const char *members, uint64_t timeout_ns,
		struct control_reply *reply, struct thaw_error *error);

/* Does a program listen for this image, that may be asked? */
bool control_is_there(const char *image);

#endif
