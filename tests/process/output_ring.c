// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_ring.c - bytes that a guest's threads hand over without a system call: each arrives once, in order, whatever is in
 * the middle of what when the guest stops, is restored, forks or gets a signal. What is not for a ring is the kernel's.
 *
 * Nobody filters calls here: the plain ones reach the socket `guest_outside`, whose other end this test reads.
 */
#define _GNU_SOURCE
#include <dirent.h>

#include "ring_guest.h"

#define OUTLET 0x30007u

/* ---- The supervisor */

#define NUMBERS 400000u

struct reader {
	uint8_t *seen[WRITERS]; /* how often a number was */
	uint64_t next[WRITERS], lines, pieces, bytes;
	unsigned wrong, unordered;
	uint8_t rest[1 << 20]; /* of what the socket has brought */
	size_t rest_bytes;
};

FIXTURE(ring)
{
	struct process process;
	struct thaw_error error;
	struct ring ring;
	struct output_memory *memory;
	struct reader *reader;
	int outside;
};

FIXTURE_SETUP(ring)
{
	int pair[2];

	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
	self->reader = calloc(1, sizeof(*self->reader));
	ASSERT_NE(NULL, self->reader);
	for (int i = 0; i < WRITERS; i++)
		ASSERT_NE(NULL, self->reader->seen[i] = calloc(1, NUMBERS));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ASSERT_EQ(OUTSIDE, dup2(pair[1], OUTSIDE));
	close(pair[1]);
	self->outside = pair[0];
}

FIXTURE_TEARDOWN(ring)
{
	if (!process_stub_bytes)
		return;
	process_close(&self->process);
	close(self->outside);
	for (int i = 0; i < WRITERS; i++)
		free(self->reader->seen[i]);
	free(self->reader);
}

static void note_held(FIXTURE_DATA(ring) * self)
{
	ring_held(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE), OUTLET, true);
	ring_fast(&self->ring, OUTLET, true);
}

#define BEGIN(role)                                           \
	START(role);                                          \
	close(OUTSIDE);                                       \
	self->memory = &self->process.remote.control->output; \
	ring_begin(&self->ring, self->memory);                \
	note_held(self)

static size_t take_line(struct reader *reader, const uint8_t *data, size_t bytes)
{
	struct line line;

	if (bytes < sizeof(line))
		return 0;
	memcpy(&line, data, sizeof(line));
	if (line.writer >= WRITERS || line.number >= NUMBERS || line.bytes > LINE_MOST ||
	    line.bytes < sizeof(line)) {
		reader->wrong++;
		return bytes;
	}
	if (line.bytes > bytes)
		return 0;
	for (uint32_t i = sizeof(line); i < line.bytes; i++)
		reader->wrong += data[i] != (uint8_t)(line.number * 7 + i + line.writer);
	if (reader->seen[line.writer][line.number]++)
		reader->wrong++;
	if (line.number < reader->next[line.writer])
		reader->unordered++;
	else
		reader->next[line.writer] = line.number + 1;
	reader->lines++;
	return line.bytes;
}

static int append(void *context, const struct ring_piece *piece)
{
	struct reader *reader = context;

	reader->pieces++;
	reader->bytes += piece->bytes;
	if (piece->outlet != OUTLET || take_line(reader, piece->data, piece->bytes) != piece->bytes)
		reader->wrong++;
	return 0;
}

/* What came by plain calls. */
static void read_socket(FIXTURE_DATA(ring) * self)
{
	struct reader *reader = self->reader;
	size_t at = 0, taken;
	ssize_t got;

	while ((got = recv(self->outside, reader->rest + reader->rest_bytes,
			   sizeof(reader->rest) - reader->rest_bytes, MSG_DONTWAIT)) > 0) {
		reader->rest_bytes += (size_t)got;
		for (at = 0;
		     (taken = take_line(reader, reader->rest + at, reader->rest_bytes - at));)
			at += taken;
		memmove(reader->rest, reader->rest + at, reader->rest_bytes - at);
		reader->rest_bytes -= at;
	}
}

static void let_go_on(FIXTURE_DATA(ring) * self)
{
	for (int i = 0; i < WRITERS; i++)
		remote_write(&self->process.remote, (uintptr_t)&guest_read[i],
			     &self->reader->next[i], sizeof(uint64_t));
}

static void poke(FIXTURE_DATA(ring) * self, volatile uint64_t *variable, uint64_t value)
{
	remote_write(&self->process.remote, (uintptr_t)variable, &value, sizeof(value));
}

/* Until it has come so far: reads what comes, in rings and by plain calls. */
static bool read_until(FIXTURE_DATA(ring) * self, volatile uint64_t *variable, uint64_t least)
{
	double end = support_deadline(60);
	bool there = false;

	while (!there && support_seconds() < end && remote_alive(&self->process.remote)) {
		there = peek(&self->process, variable) >= least;
		if (ring_drain(&self->ring, append, self->reader) < 0)
			return false;
		read_socket(self);
		let_go_on(self);
	}
	if (!there && !remote_alive(&self->process.remote))
		fprintf(stderr, "# the guest has ended: %x\n", (unsigned)end_of(&self->process));
	return there;
}

TEST_F(ring, what_was_written_before_a_stop_is_there_in_it_and_nothing_else)
{
	uint64_t before = 0;

	BEGIN("writers");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 150; i++) {
		ASSERT_TRUE(read_until(self, &guest_done[i % WRITERS],
				       peek(&self->process, &guest_done[i % WRITERS]) + 1));
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s", i, self->error.text);
		ASSERT_LE(0, ring_drain(&self->ring, append, self->reader));
		for (int writer = 0; writer < WRITERS; writer++) {
			uint64_t done = peek(&self->process, &guest_done[writer]);

			/* The call has returned, or is about to. */
			ASSERT_LE(done, self->reader->next[writer]);
			ASSERT_GE(done + 1, self->reader->next[writer]);
		}
		ASSERT_FALSE(ring_pending(&self->ring));
		process_continue(&self->process);
	}
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (int writer = 0; writer < WRITERS; writer++) {
		EXPECT_EQ(peek(&self->process, &guest_done[writer]), self->reader->next[writer]);
		before += self->reader->next[writer];
	}
	EXPECT_EQ(before, self->reader->lines);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_EQ(0, self->reader->unordered);
	/* All of it came by the ring. */
	EXPECT_EQ(self->reader->lines, self->reader->pieces);
	EXPECT_LT(6 * OUTPUT_SLOT_BYTES, self->reader->bytes);
}

/* Nothing is left of the ring in a restored process, as here: a new token, no entries, whoever was in the middle. */
TEST_F(ring, a_restored_thread_has_no_reservation_and_loses_nothing)
{
	uint64_t lines = 0;

	BEGIN("writers");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 150; i++) {
		ASSERT_TRUE(read_until(self, &guest_done[i % WRITERS],
				       peek(&self->process, &guest_done[i % WRITERS]) + 3));
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s", i, self->error.text);
		ASSERT_LE(0, ring_drain(&self->ring, append, self->reader));
		memset(self->memory, 0, sizeof(*self->memory));
		ring_begin(&self->ring, self->memory);
		if (i % 3)
			note_held(self);
		process_continue(&self->process);
		if (i % 3 == 0)
			note_held(self);
	}
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (int writer = 0; writer < WRITERS; writer++) {
		uint64_t done = peek(&self->process, &guest_done[writer]);

		lines += done;
		for (uint64_t number = 0; number < done; number++) {
			ASSERT_EQ(1, self->reader->seen[writer][number])
			TH_LOG("line %d of writer %d", (int)number, writer);
		}
	}
	EXPECT_EQ(lines, self->reader->lines);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(0, self->reader->pieces);
}

TEST_F(ring, what_happens_before_comes_before)
{
	BEGIN("turns");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	EXPECT_EQ(6000, self->reader->pieces);
	EXPECT_EQ(6000, self->reader->next[0]);
	EXPECT_EQ(0, self->reader->unordered);
	EXPECT_EQ(0, self->reader->wrong);
}

struct collected {
	unsigned count;
	uint32_t bytes[8], outlet[8];
};

static int collect(void *context, const struct ring_piece *piece)
{
	struct collected *collected = context;

	if (collected->count < 8) {
		collected->bytes[collected->count] = piece->bytes;
		collected->outlet[collected->count] = piece->outlet;
	}
	collected->count++;
	return 0;
}

TEST_F(ring, what_is_not_plain_success_is_the_kernels)
{
	static const int64_t wanted[] = {-EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 0,
					 OUTPUT_RECORD_BYTES + 1,
					 OUTPUT_RECORD_BYTES,
					 -EFAULT,
					 -ENOTSOCK,
					 4,
					 1,
					 0,
					 -EBADF};
	struct collected collected = {0};
	int ends[2], got = 0, part;

	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	ASSERT_EQ(OUTSIDE + 1, dup2(ends[1], OUTSIDE + 1));
	BEGIN("odd");
	close(OUTSIDE + 1);
	ring_held(&self->ring, OUTSIDE + 1, ring_seen(&self->ring, OUTSIDE + 1), OUTLET + 1, false);
	ring_fast(&self->ring, OUTLET + 1, true);
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		EXPECT_EQ(wanted[i],
			  (int64_t)peek(&self->process, (volatile uint64_t *)&guest_results[i]))
		TH_LOG("of call %d", (int)i);
	}
	EXPECT_EQ(2, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(OUTPUT_RECORD_BYTES, collected.bytes[0]);
	EXPECT_EQ(4, collected.bytes[1]);
	EXPECT_EQ(OUTLET + 1, collected.outlet[1]);
	while ((part = (int)recv(self->outside, self->reader->rest, sizeof(self->reader->rest),
				 MSG_DONTWAIT)) > 0)
		got += part;
	EXPECT_EQ((int)OUTPUT_RECORD_BYTES + 1, got);
	close(ends[0]);
	close(ends[1]);
}

TEST_F(ring, a_full_slot_and_an_outlet_without_room_leave_it_to_the_plain_call)
{
	BEGIN("writers");
	poke(self, &guest_read[0], NUMBERS / 2); /* the first of them is let run ahead */
	process_continue(&self->process);
	/* Nothing is drained: its slot fills, and then the kernel gets the rest. */
	ASSERT_TRUE(wait_for(&self->process, &guest_done[0], 2 * OUTPUT_SLOT_BYTES / LINE_MOST));
	while (recv(self->outside, self->reader->rest, 1, MSG_PEEK) != 1)
		;
	ring_fast(&self->ring, OUTLET, false);
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (uint64_t number = 0; number < peek(&self->process, &guest_done[0]); number++)
		ASSERT_EQ(1, self->reader->seen[0][number]);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(self->reader->pieces, self->reader->lines);
}

TEST_F(ring, handlers_of_signals_write_in_the_middle_of_a_record)
{
	BEGIN("handlers");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	for (int writer = 0; writer < 2; writer++)
		for (uint64_t number = 0; number < peek(&self->process, &guest_done[writer]);
		     number++)
			ASSERT_EQ(1, self->reader->seen[writer][number]);
	EXPECT_EQ(20000, peek(&self->process, &guest_done[0]));
	EXPECT_LT(0, peek(&self->process, &guest_done[1]));
	EXPECT_EQ(0, self->reader->wrong);
}

TEST_F(ring, a_handler_that_never_returns_leaves_nothing_behind)
{
	BEGIN("jumps");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	/* Of those that were jumped out of, each is there, or is not. */
	for (uint64_t number = 0; number < 20000; number++)
		ASSERT_GE(1, self->reader->seen[0][number]);
	for (uint64_t number = 0; number < peek(&self->process, &guest_done[1]); number++)
		ASSERT_EQ(1, self->reader->seen[1][number]);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_FALSE(ring_pending(&self->ring));
}

/* The child goes on in the middle of a record of its parent's, and its own lines are none of the ring's. */
TEST_F(ring, a_handler_may_fork_in_the_middle_of_a_record)
{
	BEGIN("forks");
	process_continue(&self->process);
	while (peek(&self->process, &guest_phase) != 1 && remote_alive(&self->process.remote)) {
		ring_drain(&self->ring, append, self->reader);
		while (recv(self->outside, self->reader->rest, sizeof(self->reader->rest),
			    MSG_DONTWAIT) > 0)
			; /* children's */
		let_go_on(self);
	}
	ASSERT_TRUE(remote_alive(&self->process.remote));
	EXPECT_LE(0, ring_drain(&self->ring, append, self->reader));
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(0, self->reader->pieces);
}

TEST_F(ring, a_child_of_vfork_writes_to_its_own_descriptors)
{
	struct collected collected = {0};

	BEGIN("vforks");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	EXPECT_EQ(5, peek(&self->process, (volatile uint64_t *)&guest_results[0]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[1]));
	EXPECT_EQ(6, peek(&self->process, (volatile uint64_t *)&guest_results[2]));
	EXPECT_EQ(1, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(6, collected.bytes[0]);
	EXPECT_EQ(ENTRY_HELD, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
}

/* Is the thread with this number, which is not the main one, in write(2)? */
static bool waits_in_write(FIXTURE_DATA(ring) * self)
{
	char path[64], text[64] = "";
	const struct dirent *entry;
	bool found = false;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", self->process.remote.pid);
	tasks = opendir(path);
	while (tasks && !found && (entry = readdir(tasks))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/syscall",
			 self->process.remote.pid, entry->d_name);
		file = fopen(path, "re");
		found = file && fgets(text, sizeof(text), file) && !strncmp(text, "1 0xc9", 6);
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

TEST_F(ring, a_thread_that_waits_in_the_gate_is_cancelled_and_unwound)
{
	static const int64_t wanted[] = {0, 1, 1, 0, 1};

	BEGIN("cancels");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_turn, 1));
	ring_direct(&self->ring, OUTSIDE + 1, ring_seen(&self->ring, OUTSIDE + 1));
	poke(self, &guest_turn, 2);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	while (!waits_in_write(self) && remote_alive(&self->process.remote))
		;
	poke(self, &guest_turn, 3);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 2));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		EXPECT_EQ(wanted[i],
			  (int64_t)peek(&self->process, (volatile uint64_t *)&guest_results[i]));
}

TEST_F(ring, what_was_known_of_a_number_ends_with_it)
{
	uint64_t seen;

	BEGIN("closes");
	process_continue(&self->process);
	for (uint64_t step = 1; step <= 3; step++) {
		ASSERT_TRUE(wait_for(&self->process, &guest_phase, step));
		seen = ring_seen(&self->ring, OUTSIDE);
		if (step > 1)
			ring_direct(&self->ring, OUTSIDE, seen);
		EXPECT_NE(ENTRY_UNKNOWN, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
		poke(self, &guest_turn, step);
		ASSERT_TRUE(wait_for(&self->process, &guest_phase, step + 1));
		EXPECT_EQ(ENTRY_UNKNOWN,
			  ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_CLOSERS));
		/* What was looked up before that is not noted. */
		ring_held(&self->ring, OUTSIDE, seen, OUTLET, true);
		EXPECT_EQ(ENTRY_UNKNOWN, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
	}
	EXPECT_EQ(OUTSIDE, peek(&self->process, (volatile uint64_t *)&guest_results[0]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[1]));
	EXPECT_EQ(OUTSIDE, peek(&self->process, (volatile uint64_t *)&guest_results[2]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[3]));
	/* One that the supervisor was asked about is asked about until a stop: nobody knows when it has happened. */
	seen = ring_seen(&self->ring, OUTSIDE);
	ring_forget(&self->ring, OUTSIDE, OUTSIDE);
	ring_direct(&self->ring, OUTSIDE, seen);
	ring_direct(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE));
	EXPECT_EQ(ENTRY_ASK, ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_ASK));
	ring_parked(&self->ring);
	ring_direct(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE));
	EXPECT_EQ(ENTRY_DIRECT, ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_ASK));
}

TEST_F(ring, the_first_who_publishes_wakes_a_supervisor_that_sleeps)
{
	uint32_t wakes = 0;

	BEGIN("writers");
	ASSERT_TRUE(ring_sleep(&self->ring));
	EXPECT_FALSE(ring_wait(&self->ring, &wakes, 1000000));
	process_continue(&self->process);
	ASSERT_TRUE(ring_wait(&self->ring, &wakes, 20000000000ull));
	/* That one has woken it; the others write on, and make no call for it. */
	ASSERT_TRUE(read_until(self, &guest_done[0], 1000));
	EXPECT_EQ(1, self->memory->wakes);
	/* There is something: no reason to sleep. */
	while (!ring_pending(&self->ring) && remote_alive(&self->process.remote))
		;
	EXPECT_FALSE(ring_sleep(&self->ring));
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	EXPECT_EQ(0, self->reader->wrong);
}

/* The guest can write there, too: whatever it says, the supervisor reads nothing but the slot. */
TEST_F(ring, what_the_guest_has_destroyed_is_an_error_and_no_crash)
{
	struct collected collected = {0};
	struct output_record *record;

	BEGIN("vforks");
	self->memory->slots = UINT32_MAX;
	self->memory->stamp = 10;
	record = (void *)self->memory->data[3];
	record->bytes = UINT32_MAX - 16;
	self->memory->slot[3].published += 64;
	EXPECT_EQ(-EIO, ring_drain(&self->ring, collect, &collected));
	self->memory->slot[4].published += OUTPUT_SLOT_BYTES + 32;
	self->memory->slot[5].published += 7;
	EXPECT_EQ(-EIO, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(0, collected.count);
	EXPECT_FALSE(ring_pending(&self->ring));
}

TEST_HARNESS_MAIN
