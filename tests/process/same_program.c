// SPDX-License-Identifier: GPL-2.0-only
/*
 * same_program - a guest goes on only with the files that it was started from, and on a processor that has what it
 * had; what is the same in all but its times is still the same.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "kselftest_harness.h"
#include "process/identity/identity.h"
#include "support.h"

FIXTURE(same_program)
{
	char *directory, *path;
	struct mapping mapping;
	struct mappings mappings;
	struct identity *identity;
	struct thaw_error error;
};

/* The mapping of the file as it is now. */
static struct mapping mapping_of(char *path)
{
	struct stat status;

	if (stat(path, &status))
		support_die(path);
	return (struct mapping){
		.start = 0x10000,
		.end = 0x11000,
		.kind = MAPPING_FILE,
		.name = path,
		.inode = status.st_ino,
		.file_bytes = (uint64_t)status.st_size,
		.modified_ns = (uint64_t)status.st_mtim.tv_sec * 1000000000u +
			       (uint64_t)status.st_mtim.tv_nsec,
	};
}

static void copy(const char *from, const char *to)
{
	char *command = support_format("cp --preserve=timestamps '%s' '%s.new' && mv '%s.new' '%s'",
				       from, to, to, to);

	if (system(command))
		support_die(command);
	free(command);
}

FIXTURE_SETUP(same_program)
{
	self->directory = support_directory();
	self->path = support_format("%s/file", self->directory);
	support_write(self->path, "contents of a file without a build-id");
	self->mapping = mapping_of(self->path);
	self->mappings = (struct mappings){.list = &self->mapping, .count = 1};
}

FIXTURE_TEARDOWN(same_program)
{
	identity_free(self->identity);
	free(self->path);
	support_remove(self->directory);
}

#define CAPTURE()                                                                            \
	ASSERT_EQ(identity_capture(NULL, &self->mappings, &self->identity, &self->error), 0) \
	{                                                                                    \
		TH_LOG("%s", self->error.text);                                              \
	}
#define CHECK() identity_check(self->identity, &self->mappings, &self->error)
#define EXPECT_REFUSED(why)                                    \
	do {                                                   \
		self->error.text[0] = 0;                       \
		EXPECT_EQ(CHECK(), THAW_EENGINE);              \
		EXPECT_NE(strstr(self->error.text, why), NULL) \
		{                                              \
			TH_LOG("%s", self->error.text);        \
		}                                              \
	} while (0)

TEST_F(same_program, nothing_has_changed)
{
	CAPTURE();
	EXPECT_EQ(CHECK(), 0);
}

TEST_F(same_program, a_copy_is_the_same_file)
{
	CAPTURE();
	copy(self->path, self->path);
	EXPECT_EQ(CHECK(), 0);
	ASSERT_EQ(utimensat(AT_FDCWD, self->path, NULL, 0), 0);
	EXPECT_EQ(CHECK(), 0)
	{
		TH_LOG("%s", self->error.text);
	}
}

TEST_F(same_program, other_contents_are_refused)
{
	CAPTURE();
	support_write(self->path, "contents of a file without a build-ID");
	EXPECT_REFUSED("has changed");
	support_write(self->path,
		      "something longer than the contents of a file without a build-id");
	EXPECT_REFUSED("was replaced");
	ASSERT_EQ(unlink(self->path), 0);
	EXPECT_REFUSED("is gone");
	ASSERT_EQ(mkdir(self->path, 0700), 0);
	EXPECT_REFUSED("cannot be read");
	ASSERT_EQ(rmdir(self->path), 0);
}

/* Of a large file only the ends are read, so its time must be the same, too. */
TEST_F(same_program, large_files_keep_their_time)
{
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	ASSERT_EQ(truncate(self->path, 8 << 20), 0);
	ASSERT_EQ(utimensat(AT_FDCWD, self->path, times, 0), 0);
	self->mapping = mapping_of(self->path);
	CAPTURE();
	copy(self->path, self->path);
	EXPECT_EQ(CHECK(), 0);
	ASSERT_EQ(utimensat(AT_FDCWD, self->path, NULL, 0), 0);
	EXPECT_REFUSED("has changed");
	support_flip(self->path, (8 << 20) - 1, 1);
	ASSERT_EQ(utimensat(AT_FDCWD, self->path, times, 0), 0);
	EXPECT_REFUSED("has changed");
}

TEST_F(same_program, a_build_id_is_compared)
{
	struct identity_file *file;

	copy("/proc/self/exe", self->path);
	self->mapping = mapping_of(self->path);
	CAPTURE();
	file = &self->identity->files[0];
	ASSERT_NE(file->build_id[0], 0);
	EXPECT_EQ(CHECK(), 0);
	ASSERT_EQ(utimensat(AT_FDCWD, self->path, NULL, 0), 0);
	EXPECT_EQ(CHECK(), 0);
	file->build_id[3] ^= 1;
	EXPECT_REFUSED("build-id");
}

/* The same path, another file: as after dlclose(), an update, dlopen(). */
TEST_F(same_program, files_mapped_later_are_known)
{
	char *other = support_format("%s/other", self->directory);
	struct mapping both[2];

	CAPTURE();
	support_write(self->path, "a new file under the old name");
	support_write(other, "another one");
	both[0] = mapping_of(self->path);
	both[1] = mapping_of(other);
	self->mappings = (struct mappings){.list = both, .count = 2};
	CAPTURE();
	EXPECT_EQ(self->identity->count, 2);
	EXPECT_EQ(CHECK(), 0);
	support_write(other, "another 1");
	EXPECT_REFUSED("other");
	free(other);
}

TEST_F(same_program, a_file_replaced_since_it_was_mapped_is_not_captured)
{
	support_write(self->path, "replaced");
	EXPECT_EQ(identity_capture(NULL, &self->mappings, &self->identity, &self->error),
		  PROCESS_EREFUSED);
	EXPECT_NE(strstr(self->error.text, self->path), NULL);
}

TEST_F(same_program, other_machines_are_refused)
{
	char *machine;

	CAPTURE();
	machine = self->identity->machine;
	self->identity->machine = "pdp11";
	EXPECT_REFUSED("pdp11");
	self->identity->machine = machine;
	self->identity->page_bytes *= 4;
	EXPECT_REFUSED("pages");
	self->identity->page_bytes /= 4;
	EXPECT_EQ(CHECK(), 0);
}

#if defined(__x86_64__)
TEST_F(same_program, a_lacking_feature_is_named)
{
	struct processor now, then;
	char lacks[256];

	processor_read(&now);
	then = now;
	EXPECT_FALSE(processor_lacks(&now, &then, lacks, sizeof(lacks)));
	now.words[2] |= 1u << 5; /* avx2 */
	now.words[0] |= 1u << 28;
	EXPECT_FALSE(processor_lacks(&now, &then, lacks, sizeof(lacks))); /* more is fine */
	then = now;
	now.words[2] &= ~(1u << 5);
	EXPECT_TRUE(processor_lacks(&now, &then, lacks, sizeof(lacks)));
	EXPECT_STREQ(lacks, "avx2");
	now.words[0] &= ~(1u << 28);
	EXPECT_TRUE(processor_lacks(&now, &then, lacks, sizeof(lacks)));
	EXPECT_STREQ(lacks, "avx, avx2");
	EXPECT_TRUE(processor_lacks(&now, &then, lacks, 6)); /* what has room */
	EXPECT_STREQ(lacks, "avx");
	then.words[5] |= 1u << 19; /* nobody knows what that is */
	now = then;
	now.words[5] ^= 1u << 19;
	EXPECT_TRUE(processor_lacks(&now, &then, lacks, sizeof(lacks)));

	CAPTURE();
	self->identity->processor.state_components |= 1u << 18;
	EXPECT_REFUSED("amx_tiledata");
}

TEST_F(same_program, saved_registers_lie_where_they_lay)
{
	struct processor now = {.state_components = 7}, then;
	char lacks[256];

	now.components[2].offset = 576;
	now.components[2].bytes = 256;
	then = now;
	EXPECT_FALSE(processor_lacks(&now, &then, lacks, sizeof(lacks)));
	then.components[2].offset = 512;
	EXPECT_TRUE(processor_lacks(&now, &then, lacks, sizeof(lacks)));
	EXPECT_NE(strstr(lacks, "avx"), NULL);
}
#endif

TEST_F(same_program, its_record)
{
	struct record_writer writer = {0};
	struct record_reader reader;
	struct identity *decoded;

	CAPTURE();
	identity_encode(self->identity, &writer);
	ASSERT_FALSE(writer.failed);
	reader = (struct record_reader){.at = writer.data, .end = writer.data + writer.bytes};
	ASSERT_TRUE(identity_decode(&decoded, &reader));
	EXPECT_EQ(reader.at, reader.end);
	EXPECT_STREQ(decoded->machine, self->identity->machine);
	EXPECT_EQ(
		memcmp(&decoded->processor, &self->identity->processor, sizeof(decoded->processor)),
		0);
	EXPECT_EQ(identity_check(decoded, &self->mappings, &self->error), 0);
	identity_free(decoded);
	for (size_t bytes = 0; bytes < writer.bytes; bytes++) {
		uint8_t *cut = malloc(bytes + !bytes);

		memcpy(cut, writer.data, bytes);
		reader = (struct record_reader){.at = cut, .end = cut + bytes};
		EXPECT_FALSE(identity_decode(&decoded, &reader));
		EXPECT_EQ(decoded, NULL);
		free(cut);
	}
	for (size_t bit = 0; bit < writer.bytes * 8; bit++) {
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		reader = (struct record_reader){.at = writer.data,
						.end = writer.data + writer.bytes};
		if (identity_decode(&decoded, &reader))
			identity_free(decoded);
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	free(writer.data);
}

TEST_HARNESS_MAIN
