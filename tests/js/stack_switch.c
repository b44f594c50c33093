// SPDX-License-Identifier: GPL-2.0-only
/*
 * stack_switch.c - onto the VM's stack and off it (vm/js/engine/stack.h): calls, nested calls, leaving from
 * anywhere, and a stack that is taken away, put back, and gone on with.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/stack.h"

#define ADDRESS ((void *)0x220000000000ull) /* as JS_PLACE_ADDRESS, out of everybody's way */

static struct vm_stack stack;
static struct vm_landing landing;
static unsigned host_calls;
static uint8_t copy[1 << 20];
static size_t copied;
static double outcome;

FIXTURE(stack)
{
	int unused;
};
FIXTURE_SETUP(stack)
{
	host_calls = 0;
	ASSERT_EQ(0, vm_stack_open(&stack, ADDRESS, 0));
}
FIXTURE_TEARDOWN(stack)
{
	vm_stack_close(&stack, 0);
}

static bool on_vm_stack(const void *address)
{
	return (uintptr_t)address - (uintptr_t)stack.mapping < VM_STACK_GUARD + VM_STACK_BYTES;
}

static uint64_t host_take_copy(void *arg)
{
	int here;

	if (on_vm_stack(&here) || !on_vm_stack(arg))
		abort();
	host_calls++;
	copied = (size_t)(stack.top - (uint8_t *)stack.vm_sp);
	memcpy(copy, vm_stack_used(&stack, copied), copied);
	return 1;
}

/* Recursion with values of every kind in its frames, in registers that calls preserve too. */
static double work(int depth, double factor)
{
	volatile long here = depth;
	double half = factor * 0.5, sum;

	if (!depth)
		return (double)vm_stack_call_host(&stack, host_take_copy, (void *)&here);
	sum = work(depth - 1, factor);
	return sum + half * (double)here + (on_vm_stack((void *)&here) ? 0 : 1e9);
}

static void run_work(void *arg)
{
	outcome = work(*(int *)arg, 3);
}

static double expected(int depth, int result)
{
	return result + 1.5 * depth * (depth + 1) / 2;
}

TEST_F(stack, calls_and_comes_back)
{
	int depth = 100;

	ASSERT_TRUE(vm_stack_run(&stack, &landing, run_work, &depth));
	EXPECT_EQ(expected(depth, 1), outcome);
	EXPECT_EQ(1, host_calls);
	EXPECT_EQ(0, stack.depth);
}

/* As another process does: the same bytes at the same address, and the host's half all new. */
TEST_F(stack, goes_on_from_a_copy)
{
	int depth = 100;

	ASSERT_TRUE(vm_stack_run(&stack, &landing, run_work, &depth));
	for (unsigned result = 5; result < 8; result++) {
		vm_stack_close(&stack, 0);
		memset(&landing, 0xee, sizeof(landing));
		ASSERT_EQ(0, vm_stack_open(&stack, ADDRESS, 0));
		stack.vm_sp = vm_stack_used(&stack, copied);
		memcpy(stack.vm_sp, copy, copied);
		outcome = 0;
		ASSERT_TRUE(vm_stack_resume(&stack, &landing, result));
		EXPECT_EQ(expected(depth, (int)result), outcome);
		EXPECT_EQ(0, stack.depth);
	}
}

/* It calls out again: where to, the first entry knew, and the last one knows. */
static void run_twice(void *arg)
{
	volatile long here = 0;

	(void)arg;
	outcome = (double)vm_stack_call_host(&stack, host_take_copy, (void *)&here);
	outcome += 10 * (double)vm_stack_call_host(&stack, host_take_copy, (void *)&here);
}

static __attribute__((noinline)) bool resume_from_elsewhere(unsigned levels)
{
	volatile char room[1000];

	room[0] = (char)levels;
	return levels ? resume_from_elsewhere(levels - 1) && room[0] == (char)levels
		      : vm_stack_resume(&stack, &landing, 7);
}

TEST_F(stack, calls_the_host_it_was_resumed_by)
{
	uint8_t *first;
	size_t bytes;

	ASSERT_TRUE(vm_stack_run(&stack, &landing, run_twice, NULL));
	EXPECT_EQ(11, outcome);
	/* The copy is of the second call; there, 10 * result is missing. */
	bytes = copied;
	first = malloc(bytes);
	memcpy(first, copy, bytes);
	stack.vm_sp = vm_stack_used(&stack, bytes);
	memcpy(stack.vm_sp, first, bytes);
	outcome = 1;
	ASSERT_TRUE(resume_from_elsewhere(50));
	EXPECT_EQ(71, outcome);
	free(first);
}

/* ---- Nesting, and leaving ---- */

static unsigned deepest;

static uint64_t host_nest(void *arg);

static void run_nested(void *arg)
{
	int level = *(int *)arg;
	int below = level - 1;

	if (stack.depth > deepest)
		deepest = stack.depth;
	if (level)
		outcome += (double)vm_stack_call_host(&stack, host_nest, &below);
}

static uint64_t host_nest(void *arg)
{
	struct vm_landing own;

	return vm_stack_run(&stack, &own, run_nested, arg);
}

TEST_F(stack, nests)
{
	int levels = 20;

	outcome = 0;
	deepest = 0;
	ASSERT_TRUE(vm_stack_run(&stack, &landing, run_nested, &levels));
	EXPECT_EQ(20, outcome);
	EXPECT_EQ(21, deepest);
	EXPECT_EQ(0, stack.depth);
}

static uint64_t host_leave(void *arg)
{
	(void)arg;
	vm_stack_leave(&stack, &landing);
}

static void run_and_leave(void *arg)
{
	if (arg)
		vm_stack_call_host(&stack, host_leave, NULL);
	vm_stack_leave(&stack, &landing);
}

TEST_F(stack, is_left_from_either_side)
{
	EXPECT_FALSE(vm_stack_run(&stack, &landing, run_and_leave, NULL));
	EXPECT_EQ(0, stack.depth);
	EXPECT_FALSE(vm_stack_run(&stack, &landing, run_and_leave, &stack));
	EXPECT_EQ(0, stack.depth);
}

static unsigned returned;

static void leave_at_once(void *arg)
{
	vm_stack_leave(&stack, arg);
}

static uint64_t host_nest_and_leave(void *arg)
{
	struct vm_landing own;

	(void)arg;
	returned += !vm_stack_run(&stack, &own, leave_at_once, &own) && stack.depth == 1;
	return 7;
}

static void run_beside_one_that_leaves(void *arg)
{
	int depth = 100;

	(void)arg;
	outcome = (double)vm_stack_call_host(&stack, host_nest_and_leave, NULL);
	outcome += work(depth, 3);
}

/* The host function whose entry was left goes on behind it, and so does who has called that. */
TEST_F(stack, who_was_left_alone_goes_on)
{
	returned = 0;
	ASSERT_TRUE(vm_stack_run(&stack, &landing, run_beside_one_that_leaves, NULL));
	EXPECT_EQ(1, returned);
	EXPECT_EQ(7 + expected(100, 1), outcome);
}

/* ---- Interrupts: by a signal, between any two instructions */

#define ENGINE __attribute__((section("engine_text"), noinline))
#define COPIES 8

static volatile unsigned interrupts;
static unsigned copies;
static struct {
	uint8_t bytes[16 << 10];
	size_t used;
} kept[COPIES];

static uint64_t host_keep(void *arg)
{
	size_t used = (size_t)(stack.top - (uint8_t *)stack.vm_sp);

	(void)arg;
	if (++interrupts % 16 || copies == COPIES || used > sizeof(kept[0].bytes))
		return 0;
	kept[copies].used = used;
	memcpy(kept[copies++].bytes, vm_stack_used(&stack, used), used);
	return 0;
}

static void call_keep(void *arg)
{
	vm_stack_call_host(&stack, host_keep, arg);
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info;
	vm_stack_interrupt(&stack, context, call_keep, NULL);
}

static volatile long rounds;

/* Whole numbers, floats, flags and the red zone, in as many registers as there are. */
ENGINE static long leaf(long a, long b)
{
	volatile long zone[8];

	for (int i = 0; i < 8; i++)
		zone[i] = a * (i + 1) ^ b;
	return zone[0] + zone[3] * zone[7];
}

ENGINE static void compute(void *arg)
{
	double f[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	long n[8] = {1, 2, 3, 4, 5, 6, 7, 8}, sum = 0;
	double *result = arg;

	for (long i = 0; i < rounds; i++) {
		for (int k = 0; k < 10; k++)
			f[k] = f[k] * 0.999 + f[(k + 3) % 10] * 0.001 + 1e-3 * (double)n[k % 8];
		for (int k = 0; k < 8; k++)
			n[k] = (n[k] * 31 + n[(k + 1) % 8] + (n[k] < i)) & 0xffffff;
		sum = (sum * 3 + leaf(n[0], sum)) & 0xffffffffff;
	}
	*result = (double)sum;
	for (int k = 0; k < 10; k++)
		*result += f[k];
}

TEST_F(stack, is_interrupted_anywhere)
{
	const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	static char room[64 << 10];
	const stack_t handlers = {.ss_sp = room, .ss_size = sizeof(room)};
	double undisturbed;

	if (!VM_STACK_INTERRUPTS)
		SKIP(return, "there is no such thing on this machine");
	rounds = 20000;
	ASSERT_TRUE(vm_stack_run(&stack, &landing, compute, &undisturbed));
	sigaltstack(&handlers, NULL);
	sigaction(SIGALRM, &action, NULL);
	interrupts = copies = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned run = 0; run < 10000 && copies < COPIES; run++) {
		ASSERT_TRUE(vm_stack_run(&stack, &landing, compute, &outcome));
		ASSERT_EQ(undisturbed, outcome);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	ASSERT_EQ(COPIES, copies);
	/* As in another process. (The result is at the address that the frames know.) */
	for (unsigned i = 0; i < copies; i++) {
		vm_stack_close(&stack, 0);
		ASSERT_EQ(0, vm_stack_open(&stack, ADDRESS, 0));
		stack.vm_sp = vm_stack_used(&stack, kept[i].used);
		memcpy(stack.vm_sp, kept[i].bytes, kept[i].used);
		outcome = 0;
		ASSERT_TRUE(vm_stack_resume(&stack, &landing, 0));
		EXPECT_EQ(undisturbed, outcome);
	}
}

TEST_F(stack, refuses_a_taken_address)
{
	struct vm_stack other;

	EXPECT_EQ(-EEXIST, vm_stack_open(&other, ADDRESS, 0));
	EXPECT_EQ(0, vm_stack_open(&other, NULL, 1 << 16));
	memset(other.top, 1, 1 << 16);
	EXPECT_TRUE(vm_stack_is_guard(&other, other.mapping + VM_STACK_GUARD - 1));
	EXPECT_FALSE(vm_stack_is_guard(&other, other.mapping + VM_STACK_GUARD));
	vm_stack_close(&other, 1 << 16);
}

TEST_HARNESS_MAIN
