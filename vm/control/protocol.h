/* SPDX-License-Identifier: MIT */
/*
 * protocol.h - what is said between a program and who controls it: a line of JSON, and a line of JSON in answer (thaw(1),
 * CONTROL). This half: what a line asks for.
 */
#ifndef VM_CONTROL_PROTOCOL_H
#define VM_CONTROL_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/address.h"
#include "thaw.h"

#define CONTROL_PROTOCOL 1
/* A line; with its code. */
#define CONTROL_LINE_BYTES (1u << 20)
#define CONTROL_ANSWER_BYTES (64u << 20)
/* How long an answer may take, unless the line says. */
#define CONTROL_TIMEOUT_NS 10000000000ull
#define CONTROL_TIMEOUT_MOST_NS 3600000000000ull

enum control_command {
	CONTROL_STATUS,
	CONTROL_METRICS,
	CONTROL_CHECKPOINT,
	CONTROL_TAG,
	CONTROL_UNTAG,
	CONTROL_EVAL,
	CONTROL_ROLLBACK,
	CONTROL_COMPACT,
	CONTROL_UPGRADE,
	CONTROL_STOP,
	CONTROL_COMMANDS
};
/* As it is called in a line. */
const char *control_command_name(enum control_command command);

struct control_request {
	enum control_command command;
	char image[CONTROL_ID_ROOM]; /* control_id(); empty: whatever listens there */
	char name[64];		     /* of a generation; empty: none */
	char generation[64];	     /* a number, or a name; empty: the newest */
	char *code;		     /* of EVAL; malloc'ed */
	size_t code_bytes;
	bool move;   /* the name, if another generation has it */
	char *check; /* of UPGRADE: a module that has to run well; malloc'ed, NULL: none */
	bool force;  /* of UPGRADE: let state go about which nobody says anything */
	uint64_t timeout_ns;

	/* The server's. */
	struct connection *connection; /* NULL: nobody hears the answer */
	struct control_request *next;
	char *answer; /* malloc'ed, ends with a newline */
	size_t answer_bytes;
	/* The owner's, while it is asked. */
	void *job;
};

/* malloc'ed. NULL: `error` says what is wrong with the line. */
struct control_request *control_request_parse(const char *line, size_t bytes,
					      struct thaw_error *error);
void control_request_free(struct control_request *request);

#endif
