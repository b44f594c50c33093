// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_records.c - what is written of a process's mappings, threads and what the kernel knows of it is read again to the
 * byte; of damaged records nothing is read, or what keeps the rules. They need no process.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>

#include "process/memory/address_space.h"
#include "process/process.h"

static void encode_example(struct record_writer *writer)
{
	struct mapping list[] = {
		{.start = 0x1000,
		 .end = 0x3000,
		 .protection = PROT_READ,
		 .kind = MAPPING_FILE,
		 .name = "/bin/program",
		 .inode = 7,
		 .device = 8,
		 .file_bytes = 9,
		 .build_id = "abcd"},
		{.start = 0x3000, .end = 0x9000, .protection = PROT_READ | PROT_WRITE, .key = 3},
		{.start = 0xa000,
		 .end = 0xb000,
		 .flags = MAPPING_SHARED,
		 .object = 1,
		 .inode = 5,
		 .offset = 4096,
		 .name = "/memfd:x (deleted)"},
		{.start = 0x7f0000000000,
		 .end = 0x7f0000002000,
		 .kind = MAPPING_SPECIAL,
		 .name = "[vdso]"},
	};
	struct mappings mappings = {
		.list = list,
		.count = 4,
		.room = 4,
		.vdso = 0x7f0000000000,
		.vdso_bytes = 0x2000,
	};
	siginfo_t pending[2] = {{.si_signo = SIGUSR1}, {.si_signo = SIGRTMIN}};
	struct thread threads[2] = {
		{.tid = 11,
		 .remembered = 10,
		 .context = 0x5000,
		 .name = "main",
		 .pending = pending,
		 .pending_count = 2,
		 .affinity_bytes = 8,
		 .nice = (uint32_t)-5},
		{.tid = 12, .remembered = 12, .context = 0x6000, .alternate_flags = INT32_MIN},
	};
	struct kernel_timer timers[2] = {{.id = 3, .clock = -6}, {.id = 4, .notify = 4, .tid = 12}};
	int32_t children[2] = {100, 101};
	struct kernel_facts facts = {.posix_timers = timers,
				     .posix_timer_count = 2,
				     .pending = pending,
				     .pending_count = 1,
				     .directory = "/tmp",
				     .executable = "/bin/program",
				     .children = children,
				     .child_count = 2,
				     .oom_score_adj = (uint32_t)-7,
				     .auxv_bytes = 32,
				     .umask = 022,
				     .dumpable = 1};

	mappings_encode(&mappings, writer);
	threads_encode(threads, 2, writer);
	kernel_facts_encode(&facts, writer);
}

static unsigned decode_all(struct record_reader reader, struct record_writer *again)
{
	struct mappings mappings;
	struct kernel_facts facts;
	struct thread *threads;
	unsigned count, good = 0;

	if (mappings_decode(&mappings, &reader)) {
		uint64_t before = 0;

		for (size_t i = 0; i < mappings.count; i++) {
			if (mappings.list[i].start < before ||
			    mappings.list[i].end <= mappings.list[i].start ||
			    mappings.list[i].end > 1ull << 47)
				abort();
			before = mappings.list[i].end;
		}
		mappings_encode(&mappings, again);
		mappings_free(&mappings);
		good++;
	}
	if (threads_decode(&threads, &count, &reader)) {
		threads_encode(threads, count, again);
		threads_free(threads, count);
		good++;
	}
	if (kernel_facts_decode(&facts, &reader)) {
		kernel_facts_encode(&facts, again);
		kernel_facts_free(&facts);
		good++;
	}
	return good;
}

TEST(records_come_back_to_the_byte)
{
	struct record_writer writer = {0}, again = {0};

	encode_example(&writer);
	EXPECT_EQ(3,
		  decode_all((struct record_reader){writer.data, writer.data + writer.bytes, false},
			     &again));
	ASSERT_EQ(writer.bytes, again.bytes);
	EXPECT_EQ(0, memcmp(writer.data, again.data, writer.bytes));
	free(writer.data);
	free(again.data);
}

/* Each byte of a record is changed, and it is cut everywhere: what is decoded keeps the rules, or nothing is. */
TEST(damaged_records_are_refused_or_sound)
{
	struct record_writer writer = {0}, again = {0};
	unsigned whole = 0;

	encode_example(&writer);
	for (size_t i = 0; i < writer.bytes; i++) {
		uint8_t was = writer.data[i];

		EXPECT_GT(3, decode_all((struct record_reader){writer.data, writer.data + i, false},
					&again));
		for (unsigned j = 0; j < 3; j++) {
			writer.data[i] = j == 0 ? 0xff : j == 1 ? 0 : (uint8_t)(was + 1);
			whole += decode_all((struct record_reader){writer.data,
								   writer.data + writer.bytes,
								   false},
					    &again) == 3;
		}
		writer.data[i] = was;
		free(again.data);
		again = (struct record_writer){0};
	}
	EXPECT_LT(1000, whole);
	EXPECT_GT(3 * writer.bytes - 1000, whole);
	free(writer.data);
}

TEST_HARNESS_MAIN
