// SPDX-License-Identifier: GPL-2.0-only
/*
 * thread_state.c - all that belongs to a thread of a guest is in another process as it was: registers with their
 * extended state, thread-local storage, names, masks, alternate stacks in use, signals that wait, robust mutexes; and
 * threads can be joined.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/resource.h>

#include "process/continued.h"

#define THREADS 30

/* ---- The guest */

/* Waits in the middle of registers with known values. */
#define HELD(load, store)                                                         \
	__asm__ volatile(load "1:	pause\n"                                        \
			      "	cmpq $0, %[go_on]\n"                              \
			      "	je 1b\n" store                                    \
			 :                                                        \
			 : [go_on] "m"(guest_go_on), [in] "r"(in), [out] "r"(out) \
			 : "memory", "cc", "xmm0", "xmm1", "xmm7", "xmm15")

static uint8_t in[512] __attribute__((aligned(64))), out[512] __attribute__((aligned(64)));

static void fill(void)
{
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7 + 3);
	guest_begin = 1;
}

static void compare(size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		GUEST_EXPECT_EQ(out[i], in[i]);
}

#define REGISTER(name, at) "	vmovdqu " at "(%[in]), %%" name "\n"
#define STORED(name, at) "	vmovdqu %%" name ", " at "(%[out])\n"

static void guest_role_ymm(void)
{
	fill();
	HELD(REGISTER("ymm0", "0") REGISTER("ymm1", "32") REGISTER("ymm7", "64")
		     REGISTER("ymm15", "96"),
	     STORED("ymm0", "0") STORED("ymm1", "32") STORED("ymm7", "64") STORED("ymm15", "96"));
	compare(128);
}

static void guest_role_xmm(void)
{
	fill();
	HELD("	movdqu (%[in]), %%xmm0\n	movdqu 16(%[in]), %%xmm15\n",
	     "	movdqu %%xmm0, (%[out])\n	movdqu %%xmm15, 16(%[out])\n");
	compare(32);
}

__attribute__((target("avx512f,avx512bw"))) static void guest_role_zmm(void)
{
	fill();
	HELD("	vmovdqu64 (%[in]), %%zmm0\n	vmovdqu64 64(%[in]), %%zmm31\n"
	     "	kmovq 128(%[in]), %%k1\n	kmovq 136(%[in]), %%k7\n",
	     "	vmovdqu64 %%zmm0, (%[out])\n	vmovdqu64 %%zmm31, 64(%[out])\n"
	     "	kmovq %%k1, 128(%[out])\n	kmovq %%k7, 136(%[out])\n");
	compare(144);
}

static void guest_role_x87(void)
{
	uint32_t mxcsr = 0x7f80, mxcsr_after = 0; /* rounds to zero */
	uint16_t control = 0x0e7f, control_after = 0;

	memcpy(in, &(double){3.14159265358979}, 8);
	memcpy(in + 8, &(double){2.71828182845905}, 8);
	guest_begin = 1;
	__asm__ volatile("	fldcw %[control]\n"
			 "	ldmxcsr %[mxcsr]\n"
			 "	fldl 8(%[in])\n"
			 "	fldl (%[in])\n"
			 "1:	pause\n"
			 "	cmpq $0, %[go_on]\n"
			 "	je 1b\n"
			 "	fstpl (%[out])\n"
			 "	fstpl 8(%[out])\n"
			 "	fnstcw %[control_after]\n"
			 "	stmxcsr %[mxcsr_after]\n"
			 "	fninit\n"
			 : [control_after] "=m"(control_after), [mxcsr_after] "=m"(mxcsr_after)
			 : [go_on] "m"(guest_go_on), [in] "r"(in), [out] "r"(out),
			   [control] "m"(control), [mxcsr] "m"(mxcsr)
			 : "memory", "cc");
	compare(16);
	GUEST_EXPECT_EQ(control_after, control);
	GUEST_EXPECT_EQ(mxcsr_after, mxcsr);
}

static void guest_role_integers(void)
{
	uint64_t flags;

	for (int i = 0; i < 8; i++)
		((uint64_t *)in)[i] = 0x0123456789abcdefull * (uint64_t)(i + 1);
	guest_begin = 1;
	__asm__ volatile("	mov (%[in]), %%rbx\n	mov 8(%[in]), %%r8\n"
			 "	mov 16(%[in]), %%r9\n	mov 24(%[in]), %%r12\n"
			 "	mov 32(%[in]), %%r13\n	mov 40(%[in]), %%r14\n"
			 "	mov 48(%[in]), %%r15\n	mov 56(%[in]), %%rdx\n"
			 "	std\n" /* a flag that is nearly never set */
			 "1:	pause\n"
			 "	cmpq $0, %[go_on]\n"
			 "	je 1b\n"
			 "	pushf\n	pop %[flags]\n	cld\n"
			 "	mov %%rbx, (%[out])\n	mov %%r8, 8(%[out])\n"
			 "	mov %%r9, 16(%[out])\n	mov %%r12, 24(%[out])\n"
			 "	mov %%r13, 32(%[out])\n	mov %%r14, 40(%[out])\n"
			 "	mov %%r15, 48(%[out])\n	mov %%rdx, 56(%[out])\n"
			 : [flags] "=&r"(flags)
			 : [go_on] "m"(guest_go_on), [in] "r"(in), [out] "r"(out)
			 : "memory", "cc", "rbx", "rdx", "r8", "r9", "r12", "r13", "r14", "r15");
	compare(64);
	GUEST_EXPECT_EQ(flags >> 10 & 1, 1);
}

/* ---- Thirty threads */

static __thread uint64_t local_value;
static volatile uint64_t ready;
static pthread_t threads[THREADS];
static pthread_mutex_t held = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void *one_thread(void *argument)
{
	uint64_t number = (uintptr_t)argument;
	pthread_t self = pthread_self();
	uint64_t on_stack[50];
	char name[16];

	local_value = number * 1000;
	for (int i = 0; i < 50; i++)
		on_stack[i] = number + (uint64_t)i;
	snprintf(name, sizeof(name), "thread %d", (int)number);
	pthread_setname_np(self, name);
	if (number == 5)
		pthread_mutex_lock(&held);
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (!guest_go_on)
		if (number & 1)
			sched_yield();
	GUEST_EXPECT_EQ(local_value, number * 1000);
	GUEST_EXPECT_EQ((uintptr_t)pthread_self(), (uintptr_t)self);
	for (int i = 0; i < 50; i++)
		GUEST_EXPECT_EQ(on_stack[i], number + (uint64_t)i);
	pthread_getname_np(self, name, sizeof(name));
	GUEST_EXPECT_EQ(strncmp(name, "thread ", 7) + atoi(name + 7), (int)number);
	if (number == 5) { /* its owner is remembered by its number */
		GUEST_EXPECT_EQ(pthread_mutex_lock(&held), 0);
		GUEST_EXPECT_EQ(pthread_mutex_unlock(&held), 0);
		GUEST_EXPECT_EQ(pthread_mutex_unlock(&held), 0);
	}
	errno = (int)number;
	return (void *)(number + 7);
}

static void guest_role_threads(void)
{
	void *result;

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, one_thread, (void *)i))
			_exit(50);
	local_value = 99;
	while (ready < THREADS)
		sched_yield();
	guest_capture_here();
	for (uintptr_t i = 0; i < THREADS; i++) {
		GUEST_EXPECT_EQ(pthread_join(threads[i], &result), 0);
		GUEST_EXPECT_EQ((uintptr_t)result, i + 7);
	}
	GUEST_EXPECT_EQ(local_value, 99);
	GUEST_EXPECT_EQ(pthread_create(&threads[0], NULL, one_thread, (void *)1), 0);
	GUEST_EXPECT_EQ(pthread_join(threads[0], &result), 0);
}

/* ---- On an alternate stack */

static uint8_t alternate[65536];
static uintptr_t inside, outside;

static void on_alternate(int number)
{
	volatile uint8_t here[1000];
	stack_t now;

	(void)number;
	memset((void *)here, 0x5a, sizeof(here));
	inside = (uintptr_t)here;
	guest_capture_here();
	for (int i = 0; i < 1000; i++)
		GUEST_EXPECT_EQ(here[i], 0x5a);
	sigaltstack(NULL, &now);
	GUEST_EXPECT_EQ(now.ss_flags, SS_ONSTACK);
}

static void find_stack(int number)
{
	volatile int here = number;

	outside = (uintptr_t)&here;
}

static bool is_alternate(uintptr_t address)
{
	return address >= (uintptr_t)alternate &&
	       address < (uintptr_t)(alternate + sizeof(alternate));
}

static void guest_role_alternate(void)
{
	struct sigaction action = {.sa_handler = on_alternate, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)}, now;

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	GUEST_EXPECT_EQ(is_alternate(inside), 1);
	sigaltstack(NULL, &now);
	GUEST_EXPECT_EQ((uintptr_t)now.ss_sp, (uintptr_t)alternate);
	GUEST_EXPECT_EQ(now.ss_size, sizeof(alternate));
	GUEST_EXPECT_EQ(now.ss_flags, 0);
	action.sa_handler = find_stack;
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	GUEST_EXPECT_EQ(is_alternate(outside), 1);
}

/* ---- Signals that wait */

static int arrived[16], arrived_values[16];
static unsigned arrived_count;

static void note_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	arrived[arrived_count] = number;
	arrived_values[arrived_count++ & 15] = info->si_value.sival_int;
}

static void guest_role_pending(void)
{
	struct sigaction action = {.sa_sigaction = note_signal, .sa_flags = SA_SIGINFO};
	sigset_t blocked, now, none;

	sigemptyset(&blocked);
	sigemptyset(&none);
	sigaddset(&blocked, SIGUSR2);
	sigaddset(&blocked, SIGRTMIN + 3);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGRTMIN + 3, &action, NULL);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	pthread_sigqueue(pthread_self(), SIGUSR2, (union sigval){.sival_int = 10});
	for (int i = 0; i < 3; i++)
		pthread_sigqueue(pthread_self(), SIGRTMIN + 3, (union sigval){.sival_int = 20 + i});
	guest_capture_here();
	sigprocmask(SIG_BLOCK, NULL, &now);
	GUEST_EXPECT_EQ(sigismember(&now, SIGUSR2), 1);
	GUEST_EXPECT_EQ(sigismember(&now, SIGRTMIN + 3), 1);
	GUEST_EXPECT_EQ(sigismember(&now, SIGUSR1), 0);
	GUEST_EXPECT_EQ(arrived_count, 0);
	sigprocmask(SIG_SETMASK, &none, NULL);
	GUEST_EXPECT_EQ(arrived_count, 4);
	GUEST_EXPECT_EQ(arrived[3], SIGUSR2);
	GUEST_EXPECT_EQ(arrived_values[3], 10);
	/* Each handler interrupts the one before: the last one runs first. */
	for (int i = 0; i < 3; i++)
		GUEST_EXPECT_EQ(arrived_values[i], 20 + i);
}

/* ---- What else belongs to a thread */

static void guest_role_attributes(void)
{
	struct robust_list_head *list, *list_now;
	size_t bytes, bytes_now;
	cpu_set_t set, now;
	int signal = 0;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	sched_setaffinity(0, sizeof(set), &set);
	setpriority(PRIO_PROCESS, 0, 7);
	prctl(PR_SET_TIMERSLACK, 123456);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_NAME, "a name");
	syscall(SYS_get_robust_list, 0, &list, &bytes);
	guest_capture_here();
	sched_getaffinity(0, sizeof(now), &now);
	GUEST_EXPECT_EQ(CPU_COUNT(&now), 1);
	GUEST_EXPECT_EQ(CPU_ISSET(0, &now), 1);
	GUEST_EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 7);
	GUEST_EXPECT_EQ(prctl(PR_GET_TIMERSLACK), 123456);
	GUEST_EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	prctl(PR_GET_NAME, (char *)in);
	GUEST_EXPECT_EQ(strcmp((char *)in, "a name"), 0);
	syscall(SYS_get_robust_list, 0, &list_now, &bytes_now);
	GUEST_EXPECT_EQ((uintptr_t)list_now, (uintptr_t)list);
	GUEST_EXPECT_EQ(bytes_now, bytes);
	prctl(PR_GET_PDEATHSIG, &signal);
	GUEST_EXPECT_EQ(signal, SIGKILL);
}

static void guest_role_rseq(void)
{
	extern const ptrdiff_t __rseq_offset __attribute__((weak));
	volatile uint32_t *area =
		(volatile uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset);

	guest_capture_here();
	area[1] = 1000; /* the kernel writes the processor's number again */
	for (int i = 0; i < 100000 && area[1] == 1000; i++)
		usleep(100);
	GUEST_EXPECT_EQ(area[1] < 1000, 1);
	GUEST_EXPECT_EQ(sched_getcpu() >= 0, 1);
}

static const struct guest_role guest_roles[] = {{"xmm", guest_role_xmm},
						{"ymm", guest_role_ymm},
						{"zmm", guest_role_zmm},
						{"x87", guest_role_x87},
						{"integers", guest_role_integers},
						{"threads", guest_role_threads},
						{"alternate", guest_role_alternate},
						{"pending", guest_role_pending},
						{"attributes", guest_role_attributes},
						{"rseq", guest_role_rseq},
						{NULL, NULL}};

/* ---- The supervisor */

FIXTURE(thread_state)
{
	struct continued guest;
};

FIXTURE_SETUP(thread_state)
{
	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
}

FIXTURE_TEARDOWN(thread_state)
{
	if (!continued_refusal())
		continued_free(&self->guest);
}

TEST_F(thread_state, integer_registers_and_flags)
{
	CONTINUE(&self->guest, "integers");
}

TEST_F(thread_state, xmm_registers)
{
	CONTINUE(&self->guest, "xmm");
}

TEST_F(thread_state, ymm_registers)
{
	if (!__builtin_cpu_supports("avx"))
		SKIP(return, "this processor has no AVX");
	CONTINUE(&self->guest, "ymm");
}

TEST_F(thread_state, zmm_and_mask_registers)
{
	if (!__builtin_cpu_supports("avx512bw"))
		SKIP(return, "this processor has no AVX-512");
	CONTINUE(&self->guest, "zmm");
	EXPECT_EQ(0xe0, self->guest.state.threads[0].xsave_features & 0xe0);
}

TEST_F(thread_state, x87_registers_and_rounding)
{
	CONTINUE(&self->guest, "x87");
}

TEST_F(thread_state, thirty_threads_with_storage_names_and_locks)
{
	struct stub_memory *memory = calloc(1, sizeof(*memory));

	CONTINUE(&self->guest, "threads");
	EXPECT_EQ(THREADS + 1, self->guest.state.thread_count);
	/* As root they have the numbers that they had; else each is in the list. */
	threads_fill_tids(&self->guest.process, memory);
	for (unsigned i = 0; i < self->guest.process.thread_count; i++) {
		const struct thread *thread = &self->guest.process.threads[i];
		unsigned found = 0;

		for (unsigned j = 0; j < memory->tid_count; j++)
			found += memory->tids[j].remembered == thread->remembered &&
				 memory->tids[j].now == thread->tid;
		EXPECT_EQ(thread->tid != thread->remembered, found);
	}
	TH_LOG("%u of %u threads have another number; capture %.2f ms, restore %.2f ms",
	       memory->tid_count, self->guest.process.thread_count,
	       1e-6 * (double)self->guest.capture_ns, 1e-6 * (double)self->guest.restore_ns);
	free(memory);
}

TEST_F(thread_state, alternate_stack_in_use)
{
	CONTINUE(&self->guest, "alternate");
}

TEST_F(thread_state, signals_that_wait_for_a_thread)
{
	CONTINUE(&self->guest, "pending");
}

/* A capture does not take them from the program. */
TEST_F(thread_state, signals_that_wait_are_there_after_a_capture)
{
	uint64_t go_on = 1;

	ASSERT_EQ(0, continued_start(&self->guest, "pending"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	EXPECT_EQ(4, self->guest.state.threads[0].pending_count);
	remote_write(&self->guest.process.remote, (uintptr_t)&guest_go_on, &go_on, sizeof(go_on));
	process_continue(&self->guest.process);
	EXPECT_TRUE(continued_wait(&self->guest, &guest_go_on, 2));
	remote_read(&self->guest.process.remote, (uintptr_t)guest_result, (char *)guest_result,
		    100);
	EXPECT_STREQ("fine", (char *)guest_result);
}

TEST_F(thread_state, attributes_and_robust_list)
{
	CONTINUE(&self->guest, "attributes");
}

TEST_F(thread_state, restartable_sequences_are_registered)
{
	CONTINUE(&self->guest, "rseq");
}

#else
TEST(guests)
{
	SKIP(return, "process guests are for x86-64");
}
#endif

TEST_HARNESS_MAIN
