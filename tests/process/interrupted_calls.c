// SPDX-License-Identifier: GPL-2.0-only
/*
 * interrupted_calls - a program whose threads are stopped all the time sees no EINTR in what they wait in, its timeouts
 * end when they should, and its own signals interrupt as they do without us.
 *
 * The guest is this program with a role (guest_main()); it is linked at fixed addresses, so its variables are read at
 * the supervisor's own. A timeout that began anew with each stop would never end here.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#if defined(__x86_64__)

#include "interrupted_guest.h"
#include "process/process.h"

FIXTURE(guest)
{
	struct process process;
	struct thaw_error error;
	double end;
};

FIXTURE_SETUP(guest)
{
	SKIP_SANITIZED();
	self->end = support_deadline(40);
}

FIXTURE_TEARDOWN(guest)
{
	process_close(&self->process);
	interrupted_forget(&self->process);
}

static int start_role(struct process *process, const char *role, struct thaw_error *error)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	int result;

	setenv(ROLE, role, 1);
	result = process_spawn(process, arguments, environ, error);
	unsetenv(ROLE);
	if (!result)
		process_continue(process);
	return result;
}

static int peek(struct process *process, const void *variable, void *to, size_t bytes)
{
	return remote_read(&process->remote, (uintptr_t)variable, to, bytes);
}

/* One stop, as a capture does it; a few milliseconds to go on. */
static int stop_once(struct process *process, struct thaw_error *error, unsigned round)
{
	int result = process_stop(process, error);

	if (!result)
		result = interrupted_restart(process, error);
	remote_forget(&process->remote);
	process_continue(process);
	support_sleep(0.005 + 0.015 * (round * 7 % 16) / 16);
	return result;
}

#define STOP(round)                                                  \
	ASSERT_EQ(stop_once(&self->process, &self->error, round), 0) \
	{                                                            \
		TH_LOG("%s", self->error.text);                      \
	}

static bool all_ended(const struct outcome *seen, uint64_t times)
{
	for (size_t i = 0; i < TIMED; i++)
		if (seen[i].ended < times && seen[i].failure != ENOSYS)
			return false;
	return true;
}

TEST_F(guest, timeouts_end_under_stops)
{
	struct outcome seen[TIMED] = {{0}};

	ASSERT_EQ(start_role(&self->process, "timed", &self->error), 0);
	for (unsigned round = 0; !all_ended(seen, 3) && support_seconds() < self->end; round++) {
		STOP(round);
		ASSERT_EQ(peek(&self->process, outcomes, seen, sizeof(seen)), 0);
	}
	for (size_t i = 0; i < TIMED; i++) {
		EXPECT_TRUE(seen[i].ended >= 3 || seen[i].failure == ENOSYS)
		{
			TH_LOG("%s: %llu ended", timed[i].name, (unsigned long long)seen[i].ended);
		}
		EXPECT_EQ(seen[i].failed, 0)
		{
			TH_LOG("%s: %llu failed, %lld", timed[i].name,
			       (unsigned long long)seen[i].failed, (long long)seen[i].failure);
		}
		EXPECT_EQ(seen[i].early, 0)
		{
			TH_LOG("%s: %llu early", timed[i].name, (unsigned long long)seen[i].early);
		}
	}
}

TEST_F(guest, what_waits_goes_on_waiting)
{
	uint64_t since[UNTIMED] = {0}, now = 1;
	int64_t results[UNTIMED];
	siginfo_t info;

	ASSERT_EQ(start_role(&self->process, "untimed", &self->error), 0);
	for (size_t i = 0; i < UNTIMED; i++)
		while (!since[i] && support_seconds() < self->end) {
			ASSERT_EQ(peek(&self->process, waiting_since, since, sizeof(since)), 0);
		}
	for (unsigned round = 0; round < 40; round++) {
		STOP(round);
	}
	ASSERT_EQ(peek(&self->process, waited, results, sizeof(results)), 0);
	for (size_t i = 0; i < UNTIMED; i++) {
		EXPECT_EQ(results[i], 0)
		{
			TH_LOG("%s: %lld", untimed[i].name, (long long)results[i] - 1);
		}
	}
	ASSERT_EQ(remote_write(&self->process.remote, (uintptr_t)&give, &now, sizeof(now)), 0);
	ASSERT_EQ(waitid(P_PID, (id_t)self->process.remote.pid, &info, WEXITED | WNOWAIT), 0);
	EXPECT_EQ(info.si_code, CLD_EXITED);
	EXPECT_EQ(info.si_status, 0);
}

/* In the call that it shall be in, and not somewhere before it. */
static bool waits_in(const struct process *process, int32_t tid, long number)
{
	char *path = support_format("/proc/%d/task/%d/syscall", (int)process->remote.pid, (int)tid);
	FILE *file = fopen(path, "re");
	long now = -1;

	free(path);
	if (!file)
		return false;
	if (fscanf(file, "%ld", &now) != 1)
		now = -1;
	fclose(file);
	return now == number;
}

static const long signalled_calls[4] = {SYS_pause, SYS_poll, SYS_nanosleep, SYS_read};

/* nanosleep() of glibc is another call. */
static bool waits_as_it_should(const struct process *process, int32_t tid, size_t index)
{
	return waits_in(process, tid, signalled_calls[index]) ||
	       (index == 2 && waits_in(process, tid, SYS_clock_nanosleep));
}

/*
 * Has the handler run, and does the thread wait in its call again without having seen its end? A stop that comes when the
 * handler has just returned finds registers as if it had ended the call itself (thaw-exec(1)).
 */
static bool goes_on_after_its_handler(struct process *process, int32_t tid, size_t index,
				      uint64_t signals, uint64_t expected)
{
	uint64_t seen = 0, ended[4] = {0};

	return !peek(process, &handled, &seen, sizeof(seen)) && seen == signals &&
	       waits_as_it_should(process, tid, index) &&
	       !peek(process, interrupted, ended, sizeof(ended)) && ended[index] < expected;
}

/*
 * A signal to each thread, before a stop, during it, and after it: each ends one call, and no more. Only what is sent
 * to a thread that is in its call must end it: that is waited for.
 */
TEST_F(guest, its_own_signals_interrupt)
{
	struct process *process = &self->process;
	int32_t tids[4] = {0};
	uint64_t ended[4] = {0}, expected[4] = {0}, seen = 0;
	unsigned again = 0;

	ASSERT_EQ(start_role(process, "signalled", &self->error), 0);
	for (unsigned round = 0; round < 60; round++) {
		size_t index = round % 4;
		unsigned when = round / 4 % 3;

		while (!tids[index] || !waits_as_it_should(process, tids[index], index)) {
			ASSERT_LT(support_seconds(), self->end);
			ASSERT_EQ(peek(process, interrupted_tids, tids, sizeof(tids)), 0);
		}
		if (when == 0) {
			ASSERT_EQ(syscall(SYS_tgkill, process->remote.pid, tids[index], SIGUSR1),
				  0);
		}
		ASSERT_EQ(process_stop(process, &self->error), 0);
		ASSERT_EQ(interrupted_restart(process, &self->error), 0);
		if (when == 1) {
			ASSERT_EQ(syscall(SYS_tgkill, process->remote.pid, tids[index], SIGUSR1),
				  0);
		}
		process_continue(process);
		remote_forget(&process->remote);
		if (when == 2) {
			while (!waits_as_it_should(process, tids[index], index)) {
				ASSERT_LT(support_seconds(), self->end);
			}
			ASSERT_EQ(syscall(SYS_tgkill, process->remote.pid, tids[index], SIGUSR1),
				  0);
		}
		expected[index]++;
		while (ended[index] < expected[index]) {
			ASSERT_LT(support_seconds(), self->end)
			{
				TH_LOG("thread %zu lost signal %u", index, when);
			}
			ASSERT_EQ(peek(process, interrupted, ended, sizeof(ended)), 0);
			if (when == 0 &&
			    goes_on_after_its_handler(process, tids[index], index,
						      round + 1 + again, expected[index])) {
				again++;
				ASSERT_EQ(syscall(SYS_tgkill, process->remote.pid, tids[index],
						  SIGUSR1),
					  0);
			}
		}
	}
	for (unsigned round = 0; round < 5; round++) {
		STOP(round);
	}
	ASSERT_EQ(peek(process, interrupted, ended, sizeof(ended)), 0);
	ASSERT_EQ(peek(process, &handled, &seen, sizeof(seen)), 0);
	EXPECT_EQ(seen, 60 + again);
	EXPECT_LE(again, 3); /* of 20 */
	for (size_t i = 0; i < 4; i++) {
		EXPECT_EQ(ended[i], expected[i]);
	}
}

/*
 * A restored program with a signal that was pending: its handler runs when its thread goes on, so the call must end. It
 * is played by a guest that was only stopped, which so has no signal at all.
 */
TEST_F(guest, a_signal_of_the_image_interrupts)
{
	struct process *process = &self->process;
	siginfo_t usr1 = {.si_signo = SIGUSR1}, usr2 = {.si_signo = SIGUSR2};
	struct process_state state = {0};
	uint64_t ended[4] = {0};
	int32_t tids[4] = {0};

	ASSERT_EQ(start_role(process, "signalled", &self->error), 0);
	for (size_t i = 0; i < 4; i++) {
		while (!tids[i] || !waits_as_it_should(process, tids[i], i)) {
			ASSERT_LT(support_seconds(), self->end);
			ASSERT_EQ(peek(process, interrupted_tids, tids, sizeof(tids)), 0);
		}
	}
	ASSERT_EQ(process_stop(process, &self->error), 0);
	ASSERT_EQ(interrupted_restart(process, &self->error), 0);
	state.thread_count = process->thread_count;
	state.threads = calloc(state.thread_count, sizeof(*state.threads));
	for (unsigned i = 0; i < state.thread_count; i++) {
		state.threads[i] = process->threads[i];
		state.threads[i].pending = state.threads[i].tid == tids[0]   ? &usr1
					   : state.threads[i].tid == tids[1] ? &usr2
									     : NULL;
		state.threads[i].pending_count = !!state.threads[i].pending;
	}
	ASSERT_EQ(interrupted_restored(process, &state, 0, &self->error), 0);
	remote_forget(&process->remote);
	process_continue(process);
	while (!ended[0]) {
		ASSERT_LT(support_seconds(), self->end);
		ASSERT_EQ(peek(process, interrupted, ended, sizeof(ended)), 0);
	}
	for (unsigned round = 0; round < 5; round++)
		STOP(round);
	ASSERT_EQ(peek(process, interrupted, ended, sizeof(ended)), 0);
	EXPECT_EQ(ended[0], 1);
	for (size_t i = 1; i < 4; i++)
		EXPECT_EQ(ended[i], 0); /* nothing of it is for them, or has no handler */

	/* One for the process, which somebody sends. */
	ASSERT_EQ(process_stop(process, &self->error), 0);
	ASSERT_EQ(interrupted_restart(process, &self->error), 0);
	for (unsigned i = 0; i < state.thread_count; i++) {
		state.threads[i] = process->threads[i];
		state.threads[i].pending_count = 0;
	}
	ASSERT_EQ(interrupted_restored(process, &state, 1ull << (SIGUSR1 - 1), &self->error), 0);
	remote_forget(&process->remote);
	process_continue(process);
	while (!ended[1] || !ended[2] || !ended[3]) {
		ASSERT_LT(support_seconds(), self->end);
		ASSERT_EQ(peek(process, interrupted, ended, sizeof(ended)), 0);
	}
	free(state.threads);
}

#else
TEST(guests)
{
	SKIP(return, "process guests are for x86-64");
}
#endif

TEST_HARNESS_MAIN
