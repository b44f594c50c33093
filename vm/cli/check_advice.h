/* SPDX-License-Identifier: MIT */
/* check_advice.h - what can be done about what thaw check finds missing, see check_advice.c. */
#ifndef VM_CLI_CHECK_ADVICE_H
#define VM_CLI_CHECK_ADVICE_H

#include "cli.h"

#define ADVICE_MOST 12u

struct advice_line {
	const char *thing, *gains, *todo; /* static */
};
struct advice {
	struct advice_line list[ADVICE_MOST];
	unsigned count;
};

/* One more, unless that remedy is in it. */
void advice_add(struct advice *advice, const char *thing, const char *gains, const char *todo);
void advise_run(struct advice *advice);
void advise_exec(struct advice *advice);
void advice_print(const struct advice *advice);
void advice_json(const struct advice *advice, struct json *json);

#endif
