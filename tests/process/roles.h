/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * roles.h - guests that are the test's own program, in a role: what the tests of parking and of the stub share.
 *
 * The program is linked at fixed addresses, so that the supervisor finds the variables of its guest at its own. A role
 * runs in a constructor, after the stub's. After kselftest_harness.h.
 */
#ifndef TESTS_PROCESS_ROLES_H
#define TESTS_PROCESS_ROLES_H

#include "process/process.h"
#include "process/stub/embedded.h"
#include "support.h"

#define ROLE "THAW_TEST_ROLE"

struct role {
	const char *name;
	void (*run)(void);
};

/* In the guest: never returns if it is one. */
SUPPORT void run_role(const struct role *roles, size_t count)
{
	const char *role = getenv(ROLE);

	for (size_t i = 0; role && i < count; i++)
		if (!strcmp(role, roles[i].name)) {
			roles[i].run();
			_exit(0);
		}
}

/* ---- The supervisor */

SUPPORT int start_role(struct process *process, const char *role, struct thaw_error *error)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	int result;

	*process = (struct process){0};
	setenv(ROLE, role, 1);
	result = process_spawn(process, arguments, environ, error);
	unsetenv(ROLE);
	return result;
}

/* What the guest's variable holds. */
SUPPORT uint64_t peek(struct process *process, volatile uint64_t *variable)
{
	uint64_t value = 0;

	if (remote_read(&process->remote, (uintptr_t)variable, &value, sizeof(value)))
		return ~0ull;
	return value;
}

SUPPORT bool wait_for(struct process *process, volatile uint64_t *variable, uint64_t least)
{
	double end = support_deadline(20);

	while (peek(process, variable) < least || peek(process, variable) == ~0ull) {
		if (support_seconds() > end || !remote_alive(&process->remote))
			return false;
		support_sleep(0.0005);
	}
	return true;
}

SUPPORT int end_of(struct process *process)
{
	int status = -1;

	waitpid(process->remote.pid, &status, 0);
	process->remote.pid = 0;
	return status;
}

FIXTURE(parked)
{
	struct process process;
	struct thaw_error error;
};

FIXTURE_SETUP(parked)
{
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
}

FIXTURE_TEARDOWN(parked)
{
	if (process_stub_bytes)
		process_close(&self->process);
}

#define START(role)                                                  \
	SKIP_SANITIZED();                                            \
	ASSERT_EQ(0, start_role(&self->process, role, &self->error)) \
	TH_LOG("%s", self->error.text)

#endif
