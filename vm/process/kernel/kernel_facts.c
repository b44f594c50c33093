// SPDX-License-Identifier: MIT
/*
 * kernel_facts.c - what the kernel knows of a guest's process as a whole. Called on the owner's thread while all
 * threads are parked: the main thread makes one or two batches of calls, the rest is read from /proc.
 *
 * What cannot be given back to another process is refused here: another user or fewer capabilities than the supervisor
 * has, and filters of system calls that the program has set. A restored program would have more rights.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/remote/batch.h"
#include "process/kernel/kernel_timers.h"
#include "process/threads/pending.h"
#include "process/process.h"

#define SIGNALS 64u
#define LIMITS 16u

struct answers { /* what the calls fill */
	struct kernel_action actions[SIGNALS + 1];
	struct itimerval timers[3];
	uint64_t pending;
	int32_t subreaper;
	siginfo_t child;
};

enum { CALL_BRK, CALL_PERSONALITY, CALL_DUMPABLE, CALL_PRIVILEGES, CALL_CHILDREN, CALLS };

struct kernel_asked {
	struct answers *answers; /* where the guest could change them */
	struct call *first;	 /* of those that must not fail */
	unsigned count;
	struct call *calls[CALLS];
	int64_t results[CALLS]; /* once it has settled */
	struct answers answered;
	int code;
	bool taken; /* by kernel_facts_capture(): it is asked anew */
};

static char *read_link(pid_t pid, const char *name)
{
	char path[64], target[PATH_MAX];
	ssize_t bytes;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	bytes = readlink(path, target, sizeof(target) - 1);
	return strndup(target, bytes < 0 ? 0 : (size_t)bytes);
}

/* ---- /proc/PID/status */

/* The rest of the line that begins so, up to its end. */
static const char *status_line(const char *status, const char *name, size_t *bytes)
{
	const char *at = strstr(status, name);

	if (!at)
		return NULL;
	at += strlen(name);
	*bytes = strcspn(at, "\n");
	return at;
}

static bool same_line(const char *one, const char *other, const char *name)
{
	size_t bytes, other_bytes;
	const char *line = status_line(one, name, &bytes);
	const char *other_line = status_line(other, name, &other_bytes);

	return !line || !other_line || (bytes == other_bytes && !memcmp(line, other_line, bytes));
}

static unsigned long filters(const char *status)
{
	size_t bytes;
	const char *line = status_line(status, "\nSeccomp_filters:", &bytes); /* 5.9 */

	return line ? strtoul(line, NULL, 10) : 0;
}

/* Rights that this process has, and the guest has given up. */
static int check_rights(const struct process *process, const char *status, struct thaw_error *error)
{
	static const char *const users[] = {"\nUid:", "\nGid:", "\nGroups:"};
	static const char *const rights[] = {"\nCapPrm:", "\nCapBnd:"};
	static char *own; /* this process changes neither */
	const char *what = NULL;
	int rc;

	if (!own)
		own = proc_read(getpid(), "status", NULL, &rc);
	if (!own)
		return failure(error, rc, "/proc/self/status: %s", thaw_strerror(rc));
	for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++)
		if (!same_line(own, status, users[i]))
			what = "it has changed its user or group";
	for (size_t i = 0; i < sizeof(rights) / sizeof(*rights) && !what; i++)
		if (!same_line(own, status, rights[i]))
			what = "it has given up capabilities";
	if (!what && filters(status) != filters(own) + process->filters)
		what = "it filters its system calls (seccomp)";
	if (!what)
		return 0;
	return failure(error, PROCESS_EREFUSED,
		       "the program cannot be in an image: %s, which a restored one could not be "
		       "held to; start it as the user that it should be",
		       what);
}

static int look_at_status(struct process *process, const char *status, int code,
			  struct thaw_error *error)
{
	return status ? check_rights(process, status, error)
		      : failure(error, code, "/proc/%d/status: %s", (int)process->remote.pid,
				thaw_strerror(code));
}

static int read_status(struct process *process, struct kernel_facts *facts,
		       struct thaw_error *error)
{
	int code;
	const char *status = proc_files_known(&process->files, PROC_STATUS, NULL, &code), *line;
	size_t bytes;

	line = status ? status_line(status, "\nUmask:", &bytes) : NULL;
	facts->umask = line ? (uint32_t)strtoul(line, NULL, 8) : 022;
	return look_at_status(process, status, code, error);
}

int kernel_facts_refusal(struct process *process, struct thaw_error *error)
{
	const char *status;
	int code;

	proc_files_of(&process->files, process->remote.pid);
	status = proc_files_read(&process->files, PROC_STATUS, NULL, &code);
	return look_at_status(process, status, code, error);
}

/* ---- /proc/PID/stat and others */

/* proc(5): the fields after the name, which is in parentheses and may have any in it; the first one is 3. */
static int read_stat(struct process *process, struct kernel_facts *facts)
{
	uint64_t fields[53] = {0};
	const char *stat, *at;
	int rc;

	stat = proc_files_read(&process->files, PROC_STAT, NULL, &rc);
	if (!stat)
		return rc;
	at = strrchr(stat, ')');
	at = at ? strchr(at, ' ') : NULL;
	for (unsigned i = 3; at && i < 53; i++) {
		fields[i] = strtoull(at + 1, NULL, 10); /* the first one is a letter: 0 */
		at = strchr(at + 1, ' ');
	}
	facts->parent = (int32_t)fields[4];
	facts->group = (int32_t)fields[5];
	facts->session = (int32_t)fields[6];
	facts->start_code = fields[26];
	facts->end_code = fields[27];
	facts->start_stack = fields[28];
	facts->start_data = fields[45];
	facts->end_data = fields[46];
	facts->start_brk = fields[47];
	facts->arg_start = fields[48];
	facts->arg_end = fields[49];
	facts->env_start = fields[50];
	facts->env_end = fields[51];
	return 0;
}

static int read_small_files(struct process *process, struct kernel_facts *facts)
{
	const char *text;
	size_t bytes;
	int rc;

	text = proc_files_read(&process->files, PROC_AUXV, &bytes, &rc);
	if (text && bytes <= sizeof(facts->auxv)) {
		memcpy(facts->auxv, text, bytes);
		facts->auxv_bytes = (uint32_t)bytes;
	}
	text = proc_files_read(&process->files, PROC_OOM, NULL, &rc);
	facts->oom_score_adj = text ? (uint32_t)atoi(text) : 0;
	facts->directory = read_link(process->remote.pid, "cwd");
	facts->executable = read_link(process->remote.pid, "exe");
	return facts->directory && facts->executable ? 0 : -ENOMEM;
}

static void read_limits(struct process *process, struct kernel_facts *facts)
{
	for (unsigned i = 0; i < LIMITS; i++) {
		struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

		prlimit(process->remote.pid, (enum __rlimit_resource)i, NULL, &limit);
		facts->limits[i].soft = limit.rlim_cur;
		facts->limits[i].hard = limit.rlim_max;
	}
}

/* ---- Children */

static int add_children(struct kernel_facts *facts, const char *text)
{
	for (char *end; *text; text = end) {
		long pid = strtol(text, &end, 10);
		int32_t *more;

		if (end == text || pid <= 0)
			break;
		more = reallocarray(facts->children, facts->child_count + 1, sizeof(*more));
		if (!more)
			return -ENOMEM;
		facts->children = more;
		more[facts->child_count++] = (int32_t)pid;
	}
	return 0;
}

/* There are some: each thread's own list (CONFIG_PROC_CHILDREN). */
static int read_children(struct process *process, struct kernel_facts *facts)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < process->thread_count; i++) {
		char name[48], *text;
		int missing;

		snprintf(name, sizeof(name), "task/%d/children", (int)process->threads[i].tid);
		text = proc_read(process->remote.pid, name, NULL, &missing);
		if (text)
			rc = add_children(facts, text);
		free(text);
	}
	return rc;
}

/* ---- Calls */

#define THERE(field) (there + offsetof(struct answers, field))

size_t kernel_facts_room(void)
{
	return sizeof(struct answers);
}

static struct call *add(struct process *process, int64_t number, uint64_t a, uint64_t b, uint64_t c,
			uint64_t d, uint64_t e)
{
	struct call *call =
		remote_add(&process->remote, process->threads[0].mailbox, number, a, b, c, d, e, 0);

	if (call)
		call->flags = CALL_MAY_FAIL; /* it is no reason not to make those after it */
	return call;
}

/* The main thread's: some of it is the thread's own. */
int kernel_facts_ask(struct process *process, uint64_t there, void *here)
{
	struct kernel_asked *asked = process->kernel_asked;
	struct call **calls;

	if (!asked)
		asked = process->kernel_asked = malloc(sizeof(*asked));
	if (!asked)
		return -ENOMEM;
	*asked = (struct kernel_asked){.answers = here};
	calls = asked->calls;
	memset(asked->answers, 0, sizeof(*asked->answers));
	for (uint64_t i = 1; i <= SIGNALS; i++) {
		struct call *call = add(process, SYS_rt_sigaction, i, 0,
					THERE(actions) + i * sizeof(struct kernel_action), 8, 0);

		asked->first = i == 1 ? call : asked->first;
		asked->count++;
	}
	for (uint64_t i = 0; i < 3; i++, asked->count++)
		add(process, SYS_getitimer, i, THERE(timers) + i * sizeof(struct itimerval), 0, 0,
		    0);
	if (add(process, SYS_rt_sigpending, THERE(pending), 8, 0, 0, 0))
		asked->count++;
	add(process, SYS_prctl, PR_GET_CHILD_SUBREAPER, THERE(subreaper), 0, 0, 0);
	calls[CALL_BRK] = add(process, SYS_brk, 0, 0, 0, 0, 0);
	calls[CALL_PERSONALITY] = add(process, SYS_personality, 0xffffffff, 0, 0, 0, 0);
	calls[CALL_DUMPABLE] = add(process, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
	calls[CALL_PRIVILEGES] = add(process, SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	/* Is there any child? It stays one to be waited for. */
	calls[CALL_CHILDREN] = add(process, SYS_waitid, P_ALL, 0, THERE(child),
				   WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT | __WALL, 0);
	return calls[CALL_CHILDREN] ? 0 : -ENOSPC;
}

void kernel_facts_answered(struct process *process, int code)
{
	struct kernel_asked *asked = process->kernel_asked;

	asked->code = code;
	for (unsigned i = 0; i < asked->count && !asked->code; i++)
		asked->code = asked->first[i].result < 0 ? (int)asked->first[i].result : 0;
	for (unsigned i = 0; i < CALLS; i++)
		asked->results[i] = asked->calls[i]->result;
	asked->answered = *asked->answers;
}

const struct kernel_action *kernel_facts_actions(struct process *process)
{
	if (!process->thread_asked)
		return NULL;
	remote_settle(&process->remote);
	return process->kernel_asked->code ? NULL : process->kernel_asked->answered.actions;
}

static int take_answers(struct process *process, struct kernel_facts *facts)
{
	const struct kernel_asked *asked = process->kernel_asked;
	const struct answers *answers = &asked->answered;
	int rc = asked->code;

	if (rc)
		return rc;
	memcpy(facts->actions, answers->actions, sizeof(facts->actions));
	for (unsigned i = 0; i < 3; i++) {
		facts->timers[i][0] = (uint64_t)answers->timers[i].it_interval.tv_sec;
		facts->timers[i][1] = (uint64_t)answers->timers[i].it_interval.tv_usec;
		facts->timers[i][2] = (uint64_t)answers->timers[i].it_value.tv_sec;
		facts->timers[i][3] = (uint64_t)answers->timers[i].it_value.tv_usec;
	}
	facts->child_subreaper = answers->subreaper != 0;
	facts->brk = (uint64_t)asked->results[CALL_BRK];
	facts->personality = (uint32_t)asked->results[CALL_PERSONALITY];
	facts->dumpable = process->hidden ? process->hidden - 1
					  : (uint32_t)asked->results[CALL_DUMPABLE];
	facts->no_new_privileges = asked->results[CALL_PRIVILEGES] == 1;
	facts->pid = process->threads[0].tid;
	if (asked->results[CALL_CHILDREN] != -ECHILD)
		rc = read_children(process, facts);
	if (!rc && answers->pending & ~(1ull << (CONTROL_SIGNAL - 1)))
		rc = pending_take(process, process->threads[0].mailbox, process->threads[0].tid,
				  true, &facts->pending, &facts->pending_count);
	return rc;
}

int kernel_facts_capture(struct process *process, struct kernel_facts *facts,
			 struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	int rc;

	*facts = (struct kernel_facts){0};
	proc_files_of(&process->files, remote->pid);
	rc = read_status(process, facts, error);
	if (rc)
		return rc;
	if (process->thread_asked && process->kernel_asked->taken)
		threads_forget_asked(process);
	rc = threads_ask(process);
	if (!rc) {
		remote_settle(remote);
		process->kernel_asked->taken = true;
	}
	if (!rc)
		rc = take_answers(process, facts);
	remote_forget(remote);
	if (!rc)
		rc = read_stat(process, facts);
	if (!rc)
		rc = read_small_files(process, facts);
	if (!rc) {
		read_limits(process, facts);
		rc = kernel_timers_capture(process, facts, error);
		if (rc == PROCESS_EREFUSED) {
			kernel_facts_free(facts);
			return rc;
		}
	}
	if (!rc)
		return 0;
	kernel_facts_free(facts);
	return failure(error, rc, "asking for the state of process %d: %s", (int)remote->pid,
		       thaw_strerror(rc));
}

void kernel_facts_free(struct kernel_facts *facts)
{
	free(facts->posix_timers);
	free(facts->pending);
	free(facts->directory);
	free(facts->executable);
	free(facts->children);
	*facts = (struct kernel_facts){0};
}
