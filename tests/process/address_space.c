// SPDX-License-Identifier: GPL-2.0-only
/*
 * address_space.c - all memory of a guest is in another process as it was: private, shared, of files, with its
 * protection and its flags; what cannot be there is refused by name.
 */
#define _GNU_SOURCE
#include <sys/ipc.h>
#include <sys/shm.h>

#include "kselftest_harness.h"
#include "process/continued.h"
#include "process/memory/vdso.h"

#define MANY 1500

static char file_path[64] = "/tmp/p2-unset";

/* ---- The guest */

static uint8_t *map_pages(size_t pages, int protection, int flags, int fd)
{
	uint8_t *memory = mmap(NULL, pages * 4096, protection, flags, fd, 0);

	if (memory == MAP_FAILED)
		_exit(50);
	return memory;
}

static uint32_t smaps_flag(const void *address, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	char line[512];

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)address && (uintptr_t)address < end;
		if (inside && !strncmp(line, "VmFlags:", 8)) {
			fclose(file);
			return strstr(line, flag) != NULL;
		}
	}
	fclose(file);
	return 2;
}

static void guest_role_memory(void)
{
	uint8_t *plain = map_pages(64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *hidden = map_pages(4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *code = map_pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *reserved = mmap(NULL, 1ull << 40, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *wiped = map_pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *alone = map_pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *locked = map_pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *small = malloc(1000), *brk = sbrk(300000);
	uint8_t stack[200000];
	bool has_names = !prctl(0x53564d41 /* PR_SET_VMA */, 0, wiped, 4096, NULL);

	memset(plain, 0x11, 64 * 4096);
	memset(hidden, 0x22, 4 * 4096);
	mprotect(hidden, 4 * 4096, PROT_NONE);
	memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
	mprotect(code, 4096, PROT_READ | PROT_EXEC);
	mprotect(reserved + (1ull << 39), 4096, PROT_READ | PROT_WRITE);
	reserved[1ull << 39] = 0x33;
	madvise(wiped, 4096, MADV_WIPEONFORK);
	madvise(alone, 4096, MADV_DONTFORK);
	mlock(locked, 4096);
	*wiped = *alone = *locked = 0x44;
	memset(small, 0x55, 1000);
	memset(brk, 0x66, 300000);
	memset(stack, 0x77, sizeof(stack));
	guest_capture_here();
	for (size_t i = 0; i < 64 * 4096; i += 1000)
		GUEST_EXPECT_EQ(plain[i], 0x11);
	mprotect(hidden, 4 * 4096, PROT_READ);
	GUEST_EXPECT_EQ(hidden[4096 * 3 + 5], 0x22);
	GUEST_EXPECT_EQ(((int (*)(void))code)(), 42);
	GUEST_EXPECT_EQ(reserved[1ull << 39], 0x33);
	GUEST_EXPECT_EQ(mprotect(reserved + 4096, 4096, PROT_READ | PROT_WRITE), 0);
	GUEST_EXPECT_EQ(reserved[4096], 0);
	GUEST_EXPECT_EQ(smaps_flag(wiped, " wf"), 1);
	GUEST_EXPECT_EQ(smaps_flag(alone, " dc"), 1);
	GUEST_EXPECT_EQ(smaps_flag(locked, " lo"), 1);
	GUEST_EXPECT_EQ(smaps_flag(stack, " gd"), 1);
	GUEST_EXPECT_EQ(smaps_flag(plain, " gd"), 0);
	GUEST_EXPECT_EQ(*alone + *locked, 2 * 0x44);
	/* As in a forked child: what random generators must not share. */
	GUEST_EXPECT_EQ(*wiped, has_names ? 0 : 0x44);
	for (size_t i = 0; i < 1000; i++)
		GUEST_EXPECT_EQ(small[i], 0x55);
	for (size_t i = 0; i < 300000; i += 999)
		GUEST_EXPECT_EQ(brk[i], 0x66);
	for (size_t i = 0; i < sizeof(stack); i += 999)
		GUEST_EXPECT_EQ(stack[i], 0x77);
	/* The heap grows where it ended, and memory comes from where it came from. */
	GUEST_EXPECT_EQ((uintptr_t)sbrk(100000), (uintptr_t)brk + 300000);
	free(small);
	small = malloc(5000000);
	memset(small, 1, 5000000);
	free(small);
	alloca(1000000);
}

static int deep(int depth, int *sum)
{
	volatile int here[200];
	int below;

	for (int i = 0; i < 200; i++)
		here[i] = depth * 7 + i;
	if (!depth)
		guest_capture_here();
	below = depth ? deep(depth - 1, sum) : 0;
	for (int i = 0; i < 200; i++)
		*sum += here[i] == depth * 7 + i;
	return below + 1;
}

static void guest_role_deep(void)
{
	int sum = 0;

	GUEST_EXPECT_EQ(deep(5000, &sum), 5001);
	GUEST_EXPECT_EQ(sum, 5001 * 200);
}

static void guest_role_shared(void)
{
	int memory = memfd_create("two views", MFD_CLOEXEC);
	uint8_t *anonymous = map_pages(8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	uint8_t *one, *other;

	if (memory < 0 || ftruncate(memory, 8 * 4096))
		_exit(51);
	one = map_pages(8, PROT_READ | PROT_WRITE, MAP_SHARED, memory);
	other = mmap(NULL, 4 * 4096, PROT_READ, MAP_SHARED, memory, 4 * 4096);
	/* Through a descriptor: neither mapping has touched it. */
	if (pwrite(memory, "written", 7, 6 * 4096) != 7 || close(memory))
		_exit(52);
	memset(one, 0x31, 4096);
	memset(anonymous + 4096, 0x32, 4096);
	guest_capture_here();
	GUEST_EXPECT_EQ(one[100], 0x31);
	GUEST_EXPECT_EQ(anonymous[4096 + 100], 0x32);
	GUEST_EXPECT_EQ(anonymous[0], 0);
	GUEST_EXPECT_EQ(memcmp(one + 6 * 4096, "written", 7), 0);
	GUEST_EXPECT_EQ(memcmp(other + 2 * 4096, "written", 7), 0);
	one[5 * 4096] = 0x33;
	GUEST_EXPECT_EQ(other[4096], 0x33);
	if (!fork()) {
		anonymous[0] = 0x34;
		_exit(0);
	}
	while (anonymous[0] != 0x34)
		sched_yield();
}

/* 64 pages, each with its number; pages 3, 10 and 40 are written, and 10 is near 3. */
static void guest_role_file(void)
{
	const char *path = getenv("GUEST_FILE");
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t *private = map_pages(64, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	uint8_t *shared = map_pages(64, PROT_READ | PROT_WRITE, MAP_SHARED, fd), *gone;
	char *other = support_format("%s.gone", path);
	int deleted = open(other, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	private[3 * 4096] = private[10 * 4096] = private[40 * 4096] = 0xee;
	if (deleted < 0 || ftruncate(deleted, 4 * 4096) ||
	    pwrite(deleted, "deleted", 7, 2 * 4096) != 7)
		_exit(53);
	gone = map_pages(4, PROT_READ, MAP_PRIVATE, deleted);
	if (unlink(other) || close(fd) || close(deleted))
		_exit(54);
	guest_capture_here();
	for (int i = 0; i < 64; i++)
		GUEST_EXPECT_EQ(private[i * 4096], i == 3 || i == 10 || i == 40 ? 0xee : i);
	for (int i = 0; i < 64; i++)
		GUEST_EXPECT_EQ(shared[i * 4096 + 1], i);
	GUEST_EXPECT_EQ(memcmp(gone + 2 * 4096, "deleted", 7), 0);
	shared[63 * 4096 + 2] = 0xdd;
}

static void guest_role_many(void)
{
	uint8_t *memory[MANY];

	for (int i = 0; i < MANY; i++) {
		memory[i] = map_pages(2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		*memory[i] = (uint8_t)i;
		if (i & 1)
			mprotect(memory[i], 4096, PROT_READ);
	}
	guest_capture_here();
	for (int i = 0; i < MANY; i++)
		GUEST_EXPECT_EQ(*memory[i], (uint8_t)i);
}

static void guest_role_clock(void)
{
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	guest_capture_here();
	for (int i = 0; i < 1000; i++)
		clock_gettime(CLOCK_MONOTONIC, &after);
	GUEST_EXPECT_EQ(after.tv_sec >= before.tv_sec && after.tv_sec < before.tv_sec + 60, 1);
	GUEST_EXPECT_EQ(time(NULL) > 1600000000, 1);
	GUEST_EXPECT_EQ(sched_getcpu() >= 0, 1);
}

static volatile uint64_t guest_reused;

/* The same address, another mapping: what was known of the first does not count. */
static void guest_role_reused(void)
{
	uint8_t *memory = map_pages(2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	madvise(memory, 8192, MADV_WIPEONFORK);
	*memory = 1;
	guest_capture_here();
	mmap(memory, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	*memory = 2;
	guest_reused = (uintptr_t)memory;
}

static void guest_role_system_v(void)
{
	int number = shmget(IPC_PRIVATE, 4096, 0600);

	shmat(number, NULL, 0);
	shmctl(number, IPC_RMID, NULL);
	guest_capture_here();
}

static const struct guest_role guest_roles[] = {{"memory", guest_role_memory},
						{"deep", guest_role_deep},
						{"shared", guest_role_shared},
						{"file", guest_role_file},
						{"many", guest_role_many},
						{"clock", guest_role_clock},
						{"reused", guest_role_reused},
						{"system_v", guest_role_system_v},
						{NULL, NULL}};

/* ---- The supervisor */

FIXTURE(address_space)
{
	struct continued guest;
	char *directory;
};

FIXTURE_SETUP(address_space)
{
	uint8_t page[4096];
	int fd;

	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
	self->directory = support_directory();
	snprintf(file_path, sizeof(file_path), "%s/a\nfile", self->directory);
	fd = open(file_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 64; i++) {
		memset(page, i, sizeof(page));
		ASSERT_EQ(4096, write(fd, page, sizeof(page)));
	}
	close(fd);
	setenv("GUEST_FILE", file_path, 1);
}

FIXTURE_TEARDOWN(address_space)
{
	if (continued_refusal())
		return;
	continued_free(&self->guest);
	support_remove(self->directory);
}

static const struct mapping *mapping_at(const struct mappings *mappings, uint64_t address)
{
	for (size_t i = 0; i < mappings->count; i++)
		if (mappings->list[i].start <= address && address < mappings->list[i].end)
			return &mappings->list[i];
	return NULL;
}

TEST_F(address_space, private_memory_protection_and_flags_come_back)
{
	CONTINUE(&self->guest, "memory");
}

TEST_F(address_space, deep_stack_comes_back)
{
	CONTINUE(&self->guest, "deep");
}

TEST_F(address_space, shared_memory_stays_shared)
{
	CONTINUE(&self->guest, "shared");
}

TEST_F(address_space, written_pages_of_a_file_are_memory_and_others_are_the_files)
{
	const struct mappings *mappings = &self->guest.state.mappings;
	unsigned memory = 0, file = 0, shared = 0;
	uint8_t byte;
	int fd;

	CONTINUE(&self->guest, "file");
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (!mapping->name || strcmp(mapping->name, file_path))
			continue;
		shared += mapping->kind == MAPPING_SHARED_FILE;
		if (mapping->kind == MAPPING_FILE)
			file += (unsigned)((mapping->end - mapping->start) / 4096);
		if (mapping->kind == MAPPING_MEMORY)
			memory += (unsigned)((mapping->end - mapping->start) / 4096);
	}
	EXPECT_EQ(1, shared);
	EXPECT_EQ(9, memory); /* 3 to 10, and 40 */
	EXPECT_EQ(55, file);
	fd = open(file_path, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(1, pread(fd, &byte, 1, 63 * 4096 + 2));
	EXPECT_EQ(0xdd, byte);
	close(fd);
}

TEST_F(address_space, memory_in_the_place_of_wiped_memory_is_kept)
{
	uint64_t go_on = 1;

	ASSERT_EQ(0, continued_start(&self->guest, "reused"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	if (self->guest.process.space->no_marks)
		SKIP(return, "this kernel has no names for memory (CONFIG_ANON_VMA_NAME)");
	remote_write(&self->guest.process.remote, (uintptr_t)&guest_go_on, &go_on, sizeof(go_on));
	process_continue(&self->guest.process);
	ASSERT_TRUE(continued_wait(&self->guest, &guest_go_on, 2));
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error));
	mappings_free(&self->guest.state.mappings);
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &self->guest.state.mappings,
				      &self->guest.error));
	ASSERT_NE(NULL, mapping_at(&self->guest.state.mappings,
				   continued_peek(&self->guest, &guest_reused)));
	EXPECT_EQ(0, mapping_at(&self->guest.state.mappings,
				continued_peek(&self->guest, &guest_reused))
				     ->flags &
			     MAPPING_WIPE_ON_FORK);
}

TEST_F(address_space, pieces_of_a_file_stay_memory)
{
	struct mappings again;
	uint64_t address = 0;

	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	for (size_t i = 0; i < self->guest.state.mappings.count; i++) {
		const struct mapping *mapping = &self->guest.state.mappings.list[i];

		if (mapping->kind == MAPPING_MEMORY && mapping->name &&
		    !strcmp(mapping->name, file_path) && !address)
			address = mapping->start;
	}
	ASSERT_NE(0, address);
	/* Now all its pages are the file's again. */
	ASSERT_EQ(0, remote_call(&self->guest.process.remote, 0, SYS_madvise, address, 8 * 4096,
				 MADV_DONTNEED, 0, 0, 0));
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	ASSERT_NE(NULL, mapping_at(&again, address));
	EXPECT_EQ(MAPPING_MEMORY, mapping_at(&again, address)->kind);
	EXPECT_EQ(address + 8 * 4096, mapping_at(&again, address)->end);
	mappings_free(&again);
}

/* Captures until files are watched; the longest watched range. */
static struct thaw_range capture_often(struct continued *guest)
{
	struct thaw_range longest = {0};
	struct mappings mappings;

	for (int i = 0; i < 100 && !guest->process.space->watch.count; i++)
		if (!mappings_capture(&guest->process, &mappings, &guest->error))
			mappings_free(&mappings);
	for (size_t i = 0; i < guest->process.space->watch.count; i++) {
		const struct thaw_range *range = &guest->process.space->watch.list[i];

		if (range->end - range->start > longest.end - longest.start)
			longest = *range;
	}
	return longest;
}

static int64_t guest_call(struct continued *guest, int64_t number, uint64_t a, uint64_t b,
			  uint64_t c, uint64_t d)
{
	return remote_call(&guest->process.remote, 0, number, a, b, c, d, (uint64_t)-1, 0);
}

TEST_F(address_space, text_that_is_written_between_frequent_captures_is_memory)
{
	struct thaw_range watched;
	struct mappings again;
	uint64_t page;
	uint32_t was;

	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	watched = capture_often(&self->guest);
	if (self->guest.process.space->watch.useless || self->guest.process.space->no_scan)
		SKIP(return, "this kernel has no UFFD_FEATURE_WP_ASYNC for all memory (6.7)");
	ASSERT_NE(0, watched.end);
	page = watched.start + 4096 * 17;
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	ASSERT_EQ(MAPPING_FILE, mapping_at(&again, page)->kind);
	was = mapping_at(&again, page)->protection;
	mappings_free(&again);
	/* Its line in /proc/PID/maps is the same before and after. */
	ASSERT_EQ(0, guest_call(&self->guest, SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE, 0));
	ASSERT_EQ(8, guest_call(&self->guest, CALL_COPY, page, page, 8, 0));
	ASSERT_EQ(0, guest_call(&self->guest, SYS_mprotect, page, 4096, was, 0));
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	EXPECT_EQ(MAPPING_MEMORY, mapping_at(&again, page)->kind);
	EXPECT_EQ(page, mapping_at(&again, page)->start);
	EXPECT_EQ(page + 4096, mapping_at(&again, page)->end);
	EXPECT_EQ(MAPPING_FILE, mapping_at(&again, page - 4096)->kind);
	mappings_free(&again);
}

TEST_F(address_space, what_is_mapped_over_watched_files_is_seen)
{
	struct thaw_range watched;
	struct mappings again;
	uint64_t page;

	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	watched = capture_often(&self->guest);
	if (self->guest.process.space->watch.useless || self->guest.process.space->no_scan)
		SKIP(return, "this kernel has no UFFD_FEATURE_WP_ASYNC for all memory (6.7)");
	ASSERT_NE(0, watched.end);
	page = watched.end - 4096 * 5; /* of a program that is never run again */
	ASSERT_EQ((int64_t)page, guest_call(&self->guest, SYS_mmap, page, 4096, PROT_READ,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED));
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	EXPECT_EQ(MAPPING_MEMORY, mapping_at(&again, page)->kind);
	EXPECT_EQ(NULL, mapping_at(&again, page)->name);
	EXPECT_EQ(MAPPING_FILE, mapping_at(&again, page - 4096)->kind);
	mappings_free(&again);
	for (size_t i = 0; i < self->guest.process.space->watch.count; i++) {
		const struct thaw_range *range = &self->guest.process.space->watch.list[i];

		EXPECT_FALSE(range->start <= page && page < range->end);
	}
}

TEST_F(address_space, same_without_pagemap_scan)
{
	struct mappings again;

	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	self->guest.process.space->no_scan = true;
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	ASSERT_EQ(self->guest.state.mappings.count, again.count);
	for (size_t i = 0; i < again.count; i++) {
		EXPECT_EQ(self->guest.state.mappings.list[i].start, again.list[i].start);
		EXPECT_EQ(self->guest.state.mappings.list[i].kind, again.list[i].kind);
	}
	mappings_free(&again);
}

TEST_F(address_space, many_mappings_take_milliseconds)
{
	struct mappings again;
	uint64_t begun, second;

	CONTINUE(&self->guest, "many");
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error))
	TH_LOG("%s", self->guest.error.text);
	mappings_capture(&self->guest.process, &again, &self->guest.error);
	mappings_free(&again);
	begun = continued_now();
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &again, &self->guest.error));
	second = continued_now() - begun;
	EXPECT_LE(MANY, again.count);
	TH_LOG("%zu mappings: first capture of all %.2f ms, later of mappings %.2f ms, restore %.2f ms",
	       again.count, 1e-6 * (double)self->guest.capture_ns, 1e-6 * (double)second,
	       1e-6 * (double)self->guest.restore_ns);
	EXPECT_LE(second, 200000000 * test_patience_now());
	EXPECT_LE(self->guest.restore_ns, 1000000000 * test_patience_now());
	mappings_free(&again);
}

TEST_F(address_space, clock_of_the_same_kernel_comes_back)
{
	CONTINUE(&self->guest, "clock");
}

/* As if it had been started on another kernel: the vdso that it knows is a copy with jumps. */
TEST_F(address_space, clock_of_another_kernel_is_reached_by_jumps)
{
	struct clocks *clocks = &self->guest.state.clocks;
	const struct mappings *mappings = &self->guest.state.mappings;
	struct mappings now;
	const struct mapping *old;

	ASSERT_EQ(0, continued_start(&self->guest, "clock"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	clocks->vdso_bytes = mappings->vdso_bytes;
	clocks->vdso = malloc(clocks->vdso_bytes);
	ASSERT_EQ(0, remote_read(&self->guest.process.remote, mappings->vdso, clocks->vdso,
				 clocks->vdso_bytes));
	clocks->vdso[16 - 1] ^= 1; /* padding of its header */
	continued_kill(&self->guest);
	ASSERT_EQ(0, continued_restore(&self->guest))
	TH_LOG("%s", self->guest.error.text);
	ASSERT_STREQ("fine", continued_result(&self->guest));
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error));
	ASSERT_EQ(0, mappings_capture(&self->guest.process, &now, &self->guest.error));
	old = mapping_at(&now, mappings->vdso);
	ASSERT_NE(NULL, old);
	EXPECT_EQ(MAPPING_MEMORY, old->kind);
	EXPECT_NE(mappings->vdso, now.vdso);
	EXPECT_NE(0, now.vdso);
	mappings_free(&now);
	free(clocks->vdso);
	clocks->vdso = NULL;
}

TEST_F(address_space, file_of_another_size_is_refused_by_name)
{
	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	continued_kill(&self->guest);
	ASSERT_EQ(0, truncate(file_path, 63 * 4096));
	EXPECT_EQ(THAW_EENGINE, continued_restore(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, "a\\nfile"))
	TH_LOG("%s", self->guest.error.text);
}

TEST_F(address_space, file_that_is_gone_is_refused_by_name)
{
	ASSERT_EQ(0, continued_start(&self->guest, "file"));
	ASSERT_EQ(0, continued_capture(&self->guest));
	continued_kill(&self->guest);
	ASSERT_EQ(0, unlink(file_path));
	EXPECT_EQ(THAW_EENGINE, continued_restore(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, "a\\nfile"))
	TH_LOG("%s", self->guest.error.text);
}

TEST_F(address_space, system_v_memory_is_refused_by_name)
{
	ASSERT_EQ(0, continued_start(&self->guest, "system_v"));
	EXPECT_EQ(PROCESS_EREFUSED, continued_capture(&self->guest));
	EXPECT_NE(NULL, strstr(self->guest.error.text, "SYSV"))
	TH_LOG("%s", self->guest.error.text);
}

TEST_HARNESS_MAIN
