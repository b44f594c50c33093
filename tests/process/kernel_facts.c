// SPDX-License-Identifier: GPL-2.0-only
/*
 * kernel_facts.c - what the kernel knows of a guest's process is known of the process that it goes on in: dispositions,
 * limits, timers with their numbers, signals that wait, directory, masks, children; what a new process cannot be held
 * to is refused.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "kselftest_harness.h"
#include "process/continued.h"

/* ---- The guest */

static volatile uint64_t alarms, timer_signals, timer_value, waiting_value;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
}

static void on_timer(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	timer_signals++;
	timer_value = (uint64_t)info->si_value.sival_int;
}

static void guest_role_signals(void)
{
	struct sigaction actions[65], now, action = {.sa_handler = on_alarm};

	action.sa_flags = SA_RESTART | SA_NODEFER;
	memset(actions, 0, sizeof(actions)); /* libc hides its own two */
	sigaddset(&action.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGRTMAX, &action, NULL);
	for (int i = 1; i <= 64; i++)
		sigaction(i, NULL, &actions[i]);
	guest_capture_here();
	for (int i = 1; i <= 64; i++) {
		memset(&now, 0, sizeof(now));
		sigaction(i, NULL, &now);
		GUEST_EXPECT_EQ((uintptr_t)now.sa_handler, (uintptr_t)actions[i].sa_handler);
		GUEST_EXPECT_EQ(now.sa_flags, actions[i].sa_flags);
		GUEST_EXPECT_EQ(sigismember(&now.sa_mask, SIGUSR2),
				sigismember(&actions[i].sa_mask, SIGUSR2));
	}
	raise(SIGUSR1);
	GUEST_EXPECT_EQ(alarms, 1);
}

/* CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN: it may change what /proc/self/exe is. */
static bool has_checkpoint_capability(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long effective = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "CapEff: %llx", &effective);
	if (file)
		fclose(file);
	return effective >> 40 & 1 || effective >> 21 & 1;
}

static void guest_role_facts(void)
{
	struct rlimit core = {1000, 2000}, files = {777, 888}, now;
	char directory[256], exe[256], exe_now[256];
	int subreaper = 0, persona;

	memset(exe, 0, sizeof(exe));
	memset(exe_now, 0, sizeof(exe_now));
	umask(0137);
	if (chdir(getenv("GUEST_DIRECTORY")))
		_exit(50);
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_NOFILE, &files);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_DUMPABLE, 0);
	personality(ADDR_NO_RANDOMIZE); /* a filter of a container's may not let it */
	persona = personality(0xffffffff);
	readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	guest_capture_here();
	GUEST_EXPECT_EQ(umask(0), 0137);
	GUEST_EXPECT_EQ(strcmp(getcwd(directory, sizeof(directory)), getenv("GUEST_DIRECTORY")), 0);
	getrlimit(RLIMIT_CORE, &now);
	GUEST_EXPECT_EQ(now.rlim_cur, 1000);
	GUEST_EXPECT_EQ(now.rlim_max, 2000);
	getrlimit(RLIMIT_NOFILE, &now);
	GUEST_EXPECT_EQ(now.rlim_cur, 777);
	GUEST_EXPECT_EQ(now.rlim_max, 888);
	prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
	GUEST_EXPECT_EQ(subreaper, 1);
	GUEST_EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
	GUEST_EXPECT_EQ(personality(0xffffffff), persona);
	readlink("/proc/self/exe", exe_now, sizeof(exe_now) - 1);
	if (has_checkpoint_capability())
		GUEST_EXPECT_EQ(strcmp(exe, exe_now), 0);
}

/* What the process was started with: ps(1) shows it, and debuggers look at the auxiliary vector. */
static void guest_role_map(void)
{
	static char before[3][4096], after[3][4096];
	static const char *const files[] = {"/proc/self/cmdline", "/proc/self/environ",
					    "/proc/self/auxv"};
	uintptr_t heap = (uintptr_t)sbrk(0);
	char name[16] = "";

	for (int i = 0; i < 3; i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);

		if (read(fd, before[i], sizeof(before[i])) <= 0)
			_exit(51);
		close(fd);
	}
	guest_capture_here();
	for (int i = 0; i < 3; i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);

		GUEST_EXPECT_EQ(read(fd, after[i], sizeof(after[i])) > 0, 1);
		close(fd);
		GUEST_EXPECT_EQ(memcmp(before[i], after[i], sizeof(after[i])), 0);
	}
	GUEST_EXPECT_EQ((uintptr_t)syscall(SYS_brk, 0), heap);
	GUEST_EXPECT_EQ((uintptr_t)syscall(SYS_brk, heap + 1000000), heap + 1000000);
	memset((void *)heap, 1, 1000000);
	GUEST_EXPECT_EQ((uintptr_t)syscall(SYS_brk, heap), heap);
	prctl(PR_GET_NAME, name);
	GUEST_EXPECT_EQ(strcmp(name, "exe"), 0);
}

static void guest_role_timers(void)
{
	struct itimerval interval = {{0, 20000}, {0, 20000}}, far = {{5, 6}, {1000, 0}}, now;
	struct itimerspec time = {{0, 30000000}, {0, 30000000}}, once = {{0, 0}, {500, 0}}, left;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
	struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
	int ids[4];
	uint64_t before;

	signal(SIGALRM, on_alarm);
	sigaction(SIGRTMIN + 1, &action, NULL);
	for (int i = 0; i < 4; i++) {
		event.sigev_value.sival_int = 70 + i;
		if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &ids[i]))
			_exit(52);
	}
	/* Numbers with a gap. */
	syscall(SYS_timer_delete, ids[0]);
	syscall(SYS_timer_delete, ids[2]);
	syscall(SYS_timer_settime, ids[1], 0, &time, NULL);
	syscall(SYS_timer_settime, ids[3], 0, &once, NULL);
	setitimer(ITIMER_REAL, &interval, NULL);
	setitimer(ITIMER_VIRTUAL, &far, NULL);
	guest_capture_here();
	before = alarms;
	for (int i = 0; i < 20000 && (alarms < before + 3 || timer_signals < 3); i++)
		usleep(1000);
	GUEST_EXPECT_EQ(alarms >= before + 3, 1);
	GUEST_EXPECT_EQ(timer_signals >= 3, 1);
	GUEST_EXPECT_EQ(timer_value, 71);
	getitimer(ITIMER_VIRTUAL, &now);
	GUEST_EXPECT_EQ(now.it_interval.tv_sec, 5);
	GUEST_EXPECT_EQ(now.it_interval.tv_usec >= 6, 1);
	GUEST_EXPECT_EQ(now.it_value.tv_sec > 900, 1);
	GUEST_EXPECT_EQ(syscall(SYS_timer_gettime, ids[3], &left), 0);
	GUEST_EXPECT_EQ(left.it_value.tv_sec > 400 && left.it_value.tv_sec < 500, 1);
	GUEST_EXPECT_EQ(syscall(SYS_timer_gettime, ids[2], &left), -1);
	GUEST_EXPECT_EQ(syscall(SYS_timer_delete, ids[1]), 0);
}

/* A timer that has run out, and waits for its signal to arrive before it goes on. */
static void guest_role_expired(void)
{
	struct itimerval interval = {{0, 10000}, {0, 10000}};
	sigset_t blocked, now;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &interval, NULL);
	do
		sigpending(&now);
	while (!sigismember(&now, SIGALRM));
	guest_capture_here();
	GUEST_EXPECT_EQ(alarms, 0);
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
	for (int i = 0; i < 20000 && alarms < 3; i++)
		usleep(1000);
	GUEST_EXPECT_EQ(alarms >= 3, 1);
}

static void note_waiting(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	waiting_value = waiting_value * 100 + (uint64_t)info->si_value.sival_int;
}

static void guest_role_pending(void)
{
	struct sigaction action = {.sa_sigaction = note_waiting, .sa_flags = SA_SIGINFO};
	sigset_t blocked, none;

	sigemptyset(&blocked);
	sigemptyset(&none);
	sigaddset(&blocked, SIGRTMIN + 4);
	sigaction(SIGRTMIN + 4, &action, NULL);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 4, (union sigval){.sival_int = 13 + i});
	/* The same signal, for this thread alone: these arrive first. */
	for (int i = 0; i < 2; i++)
		pthread_sigqueue(pthread_self(), SIGRTMIN + 4, (union sigval){.sival_int = 11 + i});
	guest_capture_here();
	GUEST_EXPECT_EQ(waiting_value, 0);
	sigprocmask(SIG_SETMASK, &none, NULL);
	GUEST_EXPECT_EQ(waiting_value, 1112131415);
}

static volatile uint64_t guest_children[2];

static void guest_role_children(void)
{
	for (int i = 0; i < 2; i++) {
		guest_children[i] = (uint64_t)support_fork();
		if (!guest_children[i]) {
			while (i)
				pause();
			_exit(0);
		}
	}
	guest_capture_here();
}

static void guest_role_user(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		_exit(53);
	prctl(PR_SET_DUMPABLE, 1);
	guest_capture_here();
}

static void guest_role_filter(void)
{
	struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
	struct sock_fprog program = {1, &allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(54);
	guest_capture_here();
}

static const struct guest_role guest_roles[] = {
	{"signals", guest_role_signals},   {"facts", guest_role_facts},
	{"map", guest_role_map},	   {"timers", guest_role_timers},
	{"expired", guest_role_expired},   {"pending", guest_role_pending},
	{"children", guest_role_children}, {"user", guest_role_user},
	{"filter", guest_role_filter},	   {NULL, NULL}};

/* ---- The supervisor */

FIXTURE(kernel_facts)
{
	struct continued guest;
	char *directory;
};

FIXTURE_SETUP(kernel_facts)
{
	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
	self->directory = support_directory();
	setenv("GUEST_DIRECTORY", self->directory, 1);
}

FIXTURE_TEARDOWN(kernel_facts)
{
	if (continued_refusal())
		return;
	continued_free(&self->guest);
	support_remove(self->directory);
}

TEST_F(kernel_facts, dispositions)
{
	CONTINUE(&self->guest, "signals");
}

TEST_F(kernel_facts, masks_directory_limits_and_program)
{
	CONTINUE(&self->guest, "facts");
}

TEST_F(kernel_facts, command_environment_and_heap)
{
	CONTINUE(&self->guest, "map");
}

TEST_F(kernel_facts, timers_keep_their_numbers)
{
	CONTINUE(&self->guest, "timers");
	EXPECT_EQ(2, self->guest.state.kernel.posix_timer_count);
}

TEST_F(kernel_facts, timer_that_has_run_out_goes_on)
{
	CONTINUE(&self->guest, "expired");
	EXPECT_EQ(1, self->guest.state.kernel.pending_count);
}

TEST_F(kernel_facts, signals_that_wait_for_the_process)
{
	CONTINUE(&self->guest, "pending");
	EXPECT_EQ(3, self->guest.state.kernel.pending_count);
	EXPECT_EQ(2, self->guest.state.threads[0].pending_count);
}

TEST_F(kernel_facts, children_that_nobody_has_waited_for)
{
	ASSERT_EQ(0, continued_start(&self->guest, "children"));
	ASSERT_EQ(0, continued_capture(&self->guest))
	TH_LOG("%s", self->guest.error.text);
	ASSERT_EQ(2, self->guest.state.kernel.child_count);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(continued_peek(&self->guest, &guest_children[i]),
			  (uint64_t)self->guest.state.kernel.children[i]);
	EXPECT_EQ(self->guest.process.remote.pid, self->guest.state.kernel.pid);
	EXPECT_EQ(getpid(), self->guest.state.kernel.parent);
}

TEST_F(kernel_facts, other_user_is_refused)
{
	if (geteuid())
		SKIP(return, "only root can become another user");
	ASSERT_EQ(0, continued_start(&self->guest, "user"));
	EXPECT_EQ(PROCESS_EREFUSED, continued_capture(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, "user"))
	TH_LOG("%s", self->guest.error.text);
}

TEST_F(kernel_facts, filter_of_system_calls_is_refused)
{
	ASSERT_EQ(0, continued_start(&self->guest, "filter"));
	EXPECT_EQ(PROCESS_EREFUSED, continued_capture(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, "seccomp"))
	TH_LOG("%s", self->guest.error.text);
}

TEST_F(kernel_facts, directory_that_is_gone_is_told)
{
	ASSERT_EQ(0, continued_start(&self->guest, "facts"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	continued_kill(&self->guest);
	ASSERT_EQ(0, rmdir(self->directory));
	EXPECT_EQ(-ENOENT, continued_restore(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, self->directory))
	TH_LOG("%s", self->guest.error.text);
}

TEST_HARNESS_MAIN
