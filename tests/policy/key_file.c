// SPDX-License-Identifier: GPL-2.0-only
/*
 * The key file is made once, for its owner only, and whoever comes later or at the same time gets
 * the same key; what is wrong with a file or with THAW_KEY is said, never worked around, and never
 * with the key in it. The MAC is keyed BLAKE2b-256.
 */
#define _GNU_SOURCE

#include <sodium.h>

#include "../../vm/policy/key.h"
#include "kselftest_harness.h"

#include "support.h"

#define DIGITS "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0"
#define NOBODY 65534

FIXTURE(key_file)
{
	char *home, *directory, *path; /* HOME, its .config/thaw, and the key in there */
	struct key key, again;
	struct thaw_error error;
};
FIXTURE_SETUP(key_file)
{
	self->home = support_directory();
	self->directory = support_format("%s/.config/thaw", self->home);
	self->path = support_format("%s/key", self->directory);
	setenv("HOME", self->home, 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("THAW_KEY");
}
FIXTURE_TEARDOWN(key_file)
{
	free(self->path);
	free(self->directory);
	support_remove(self->home);
}

static bool same(const struct key *a, const struct key *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool is_zero(const struct key *key)
{
	return same(key, &(struct key){0});
}

static unsigned mode_of(const char *path)
{
	struct stat status;

	if (lstat(path, &status))
		support_die(path);
	return status.st_mode & 07777;
}

/* A file at `path` that would be a good key, were it not for its text or its mode. */
static void put(const char *path, const char *text, mode_t mode)
{
	unlink(path);
	support_write(path, text);
	if (chmod(path, mode))
		support_die(path);
}

TEST_F(key_file, is_made_for_its_owner_only)
{
	char text[80] = "";
	FILE *file;

	ASSERT_EQ(0, key_load(true, &self->key, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	EXPECT_FALSE(is_zero(&self->key));
	EXPECT_EQ(0600, mode_of(self->path));
	EXPECT_EQ(0700, mode_of(self->directory));
	EXPECT_EQ(1, support_files(self->directory));
	file = fopen(self->path, "r");
	ASSERT_NE(NULL, file);
	EXPECT_EQ(65, fread(text, 1, sizeof(text), file));
	fclose(file);
	EXPECT_EQ(64, strspn(text, "0123456789abcdef"));
	EXPECT_EQ('\n', text[64]);
}

TEST_F(key_file, is_the_same_the_second_time)
{
	ASSERT_EQ(0, key_load(true, &self->key, &self->error));
	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	EXPECT_TRUE(same(&self->key, &self->again));
	memset(&self->again, 0, sizeof(self->again));
	ASSERT_EQ(0, key_load(false, &self->again, &self->error));
	EXPECT_TRUE(same(&self->key, &self->again));
	/* and another one after it was removed */
	unlink(self->path);
	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	EXPECT_FALSE(same(&self->key, &self->again));
}

TEST_F(key_file, is_not_made_unless_asked_for)
{
	memset(&self->key, 1, sizeof(self->key));
	EXPECT_EQ(-ENOKEY, key_load(false, &self->key, &self->error));
	EXPECT_EQ(-ENOKEY, self->error.code);
	EXPECT_NE(NULL, strstr(self->error.text, self->path));
	EXPECT_TRUE(is_zero(&self->key));
	EXPECT_EQ(0, support_files(self->home));
	EXPECT_EQ(-ENOKEY, key_load(false, &self->key, NULL));
}

TEST_F(key_file, has_its_mode_whatever_the_umask)
{
	mode_t before = umask(0);

	EXPECT_EQ(0, key_load(true, &self->key, &self->error));
	EXPECT_EQ(0600, mode_of(self->path));
	EXPECT_EQ(0700, mode_of(self->directory));
	unlink(self->path);
	umask(0377);
	EXPECT_EQ(0, key_load(true, &self->key, &self->error));
	EXPECT_EQ(0600, mode_of(self->path));
	umask(before);
	EXPECT_EQ(0, key_load(false, &self->key, &self->error));
}

TEST_F(key_file, is_found_where_xdg_says)
{
	char *config = support_format("%s/elsewhere/config", self->home);
	char *path = support_format("%s/thaw/key", config);

	setenv("XDG_CONFIG_HOME", config, 1);
	ASSERT_EQ(0, key_load(true, &self->key, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	EXPECT_EQ(0600, mode_of(path));
	EXPECT_NE(0, access(self->path, F_OK));
	/* Neither of these is one, says the specification. */
	setenv("XDG_CONFIG_HOME", "", 1);
	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	EXPECT_FALSE(same(&self->key, &self->again));
	setenv("XDG_CONFIG_HOME", "not/absolute", 1);
	ASSERT_EQ(0, key_load(false, &self->key, &self->error));
	EXPECT_TRUE(same(&self->key, &self->again));
	free(path);
	free(config);
}

TEST_F(key_file, is_in_the_home_of_the_user_if_nothing_is_set)
{
	/* Not made here: it would be the real one. */
	unsetenv("HOME");
	self->error.text[0] = '\0';
	if (!key_load(false, &self->key, &self->error)) {
		EXPECT_FALSE(is_zero(&self->key));
	} else {
		EXPECT_NE(NULL, strstr(self->error.text, "/.config/thaw/key"))
		{
			TH_LOG("%s", self->error.text);
		}
	}
}

/*
 * Many processes that find no file, let go at the same moment: each tells the key it got through
 * a pipe.
 */
static bool one_key_for_all(const char *directory)
{
	enum { PROCESSES = 8 };
	struct key first = {0}, key;
	struct thaw_error error;
	int gate[2], told[2];
	bool good = true;
	char byte;

	if (pipe(gate) || pipe(told))
		support_die("pipe");
	for (int i = 0; i < PROCESSES; i++) {
		pid_t child = fork();

		if (child < 0)
			support_die("fork");
		if (child)
			continue;
		close(gate[1]);
		while (read(gate[0], &byte, 1) > 0)
			;
		if (key_load(true, &key, &error))
			fprintf(stderr, "# %s\n", error.text);
		_exit(write(told[1], &key, sizeof(key)) != sizeof(key));
	}
	close(gate[0]);
	close(gate[1]);
	close(told[1]);
	for (int i = 0; i < PROCESSES; i++) {
		good &= read(told[0], &key, sizeof(key)) == sizeof(key);
		if (!i)
			first = key;
		good &= same(&first, &key);
	}
	close(told[0]);
	while (waitpid(-1, NULL, 0) > 0)
		;
	return good && !is_zero(&first) && !key_load(false, &key, NULL) && same(&first, &key) &&
	       support_files(directory) == 1;
}

TEST_F(key_file, is_one_for_processes_that_make_it_at_once)
{
	for (int round = 0; round < 30; round++) {
		char *config = support_format("%s/%d", self->home, round);
		char *directory = support_format("%s/thaw", config);

		setenv("XDG_CONFIG_HOME", config, 1);
		EXPECT_TRUE(one_key_for_all(directory));
		free(directory);
		free(config);
	}
}

TEST_F(key_file, must_hold_a_key_and_nothing_else)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"", "too short"},
		{"\n", "too short"},
		{"001122\n", "too short"},
		{"00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f\n", "something"},
		{"00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1fg\n", "something"},
		{" 0112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0\n", "something"},
		{"0x112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0\n", "something"},
		{DIGITS "0\n", "too long"},
		{DIGITS "\n\n", "too long"},
		{DIGITS "\r\n", "too long"},
		{DIGITS DIGITS "\n", "too long"},
	};

	ASSERT_EQ(0, key_load(true, &self->again, &self->error)); /* the directories */
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(self->path, bad[i].text, 0600);
		EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, bad[i].says))
		{
			TH_LOG("%zu: %s", i, self->error.text);
		}
		EXPECT_NE(NULL, strstr(self->error.text, self->path));
		EXPECT_NE(NULL, strstr(self->error.text, "remove it"));
		EXPECT_EQ(NULL, strstr(self->error.text, "5a6978"));
		EXPECT_TRUE(is_zero(&self->key));
	}
	/* Capitals, and no newline, are as good. */
	put(self->path, DIGITS "\n", 0600);
	EXPECT_EQ(0, key_load(false, &self->again, &self->error));
	put(self->path, "00112233445566778899AABBCCDDEEFF0F1E2D3C4B5A69788796A5B4C3D2E1F0", 0400);
	EXPECT_EQ(0, key_load(false, &self->key, &self->error));
	EXPECT_TRUE(same(&self->key, &self->again));
	EXPECT_EQ(0x11, self->key.bytes[1]);
	EXPECT_EQ(0xf0, self->key.bytes[31]);
}

TEST_F(key_file, must_be_for_its_owner_only)
{
	static const mode_t bad[] = {0640, 0620, 0604, 0602, 0644, 0660, 0666, 0601, 0777};

	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(self->path, DIGITS "\n", bad[i]);
		EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, "chmod 600"))
		{
			TH_LOG("%04o: %s", bad[i], self->error.text);
		}
		EXPECT_TRUE(is_zero(&self->key));
	}
	put(self->path, DIGITS "\n", 0400);
	EXPECT_EQ(0, key_load(true, &self->key, &self->error));
}

TEST_F(key_file, must_be_a_regular_file)
{
	char *other = support_format("%s/other", self->home);

	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	unlink(self->path);
	ASSERT_EQ(0, mkdir(self->path, 0700));
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "not a regular file"));
	rmdir(self->path);
	/* Opening one with no writer would wait for ever. */
	ASSERT_EQ(0, mkfifo(self->path, 0600));
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
	unlink(self->path);
	ASSERT_EQ(0, symlink("/dev/zero", self->path));
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
	unlink(self->path);
	/* A link to a good one is good, one to nothing is not replaced. */
	ASSERT_EQ(0, symlink(other, self->path));
	EXPECT_EQ(-ENOENT, key_load(true, &self->key, &self->error));
	put(other, DIGITS "\n", 0600);
	EXPECT_EQ(0, key_load(true, &self->key, &self->error));
	put(other, DIGITS "\n", 0644);
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
	free(other);
}

TEST_F(key_file, must_belong_to_us_or_root)
{
	if (geteuid())
		SKIP(return, "only root can give a file away");
	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	ASSERT_EQ(0, chown(self->path, NOBODY, NOBODY));
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->key, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "belongs to uid 65534"))
	{
		TH_LOG("%s", self->error.text);
	}
	EXPECT_TRUE(is_zero(&self->key));
}

TEST_F(key_file, says_when_it_cannot_be_made)
{
	char *file = support_format("%s/file", self->home);
	int status;
	pid_t child;

	support_write(file, "");
	setenv("HOME", file, 1);
	EXPECT_EQ(-ENOTDIR, key_load(true, &self->key, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "Not a directory"));
	free(file);
	setenv("HOME", "/proc/nowhere", 1);
	EXPECT_EQ(-ENOENT, key_load(true, &self->key, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "set THAW_KEY"));
	EXPECT_TRUE(is_zero(&self->key));

	/* A directory that one may enter and not write to. */
	setenv("HOME", self->home, 1);
	ASSERT_EQ(0, chmod(self->home, 0555));
	child = fork();
	if (!child) {
		if (!geteuid() && setresuid(NOBODY, NOBODY, NOBODY))
			_exit(2);
		_exit(key_load(true, &self->key, &self->error) == -EACCES &&
				      strstr(self->error.text, "Permission denied")
			      ? 0
			      : 1);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	chmod(self->home, 0700);
}

TEST_F(key_file, thaw_key_is_a_key_or_a_path)
{
	static const char *const bad[] = {"",
					  "key",
					  "0011",
					  DIGITS "0",
					  DIGITS "\n",
					  " " DIGITS,
					  "z0112233445566778899aabbccddeeff"
					  "0f1e2d3c4b5a69788796a5b4c3d2e1f0"};
	char *path = support_format("%s/mine", self->home);
	char *missing = support_format("%s/no/directory", self->home);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("THAW_KEY", bad[i], 1);
		EXPECT_EQ(-EINVAL, key_load(true, &self->key, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, "THAW_KEY"));
		EXPECT_EQ(NULL, strstr(self->error.text, "5a6978"));
		EXPECT_TRUE(is_zero(&self->key));
	}
	setenv("THAW_KEY", DIGITS, 1);
	ASSERT_EQ(0, key_load(true, &self->key, &self->error));
	EXPECT_EQ(0x0f, self->key.bytes[16]);
	EXPECT_EQ(0, support_files(self->home)); /* nothing was made for it */

	setenv("THAW_KEY", path, 1);
	EXPECT_EQ(-ENOKEY, key_load(false, &self->key, &self->error));
	ASSERT_EQ(0, key_load(true, &self->key, &self->error));
	EXPECT_EQ(0600, mode_of(path));
	ASSERT_EQ(0, chdir(self->home));
	setenv("THAW_KEY", "./mine", 1);
	ASSERT_EQ(0, key_load(true, &self->again, &self->error));
	EXPECT_TRUE(same(&self->key, &self->again));
	put(path, DIGITS "\n", 0644);
	EXPECT_EQ(-EKEYREJECTED, key_load(true, &self->again, &self->error));

	/* A path that somebody named is not to be invented. */
	setenv("THAW_KEY", missing, 1);
	EXPECT_EQ(-ENOENT, key_load(true, &self->key, &self->error));
	EXPECT_EQ(1, support_files(self->home));
	EXPECT_EQ(0, chdir("/"));
	free(missing);
	free(path);
}

/* What python3's hashlib.blake2b(data, key=bytes(range(32)), digest_size=32) says. */
TEST(mac_is_keyed_blake2b)
{
	static const struct {
		size_t bytes;
		const char *mac;
	} known[] = {
		{0, "4e51e7a913fc80137da52880fecca175bf81e117d5c68126dc2774033517ea0d"},
		{1280, "afd68d2f976926816b014b33a982a9e9c484d09394f2593362f91249155cab10"},
	};
	uint8_t data[1280], mac[KEY_MAC_BYTES];
	struct key key;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	memcpy(key.bytes, data, sizeof(key.bytes));
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		char text[2 * KEY_MAC_BYTES + 1];

		key_mac(&key, data, known[i].bytes, mac);
		for (size_t byte = 0; byte < sizeof(mac); byte++)
			sprintf(text + 2 * byte, "%02x", mac[byte]);
		EXPECT_STREQ(known[i].mac, text);
		EXPECT_TRUE(key_matches(&key, data, known[i].bytes, mac));
	}
}

TEST(mac_differs_for_every_flipped_bit)
{
	uint8_t data[300] = {1, 2, 3}, mac[KEY_MAC_BYTES];
	struct key key = {.bytes = {9, 8, 7}};

	key_mac(&key, data, sizeof(data), mac);
	for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		EXPECT_FALSE(key_matches(&key, data, sizeof(data), mac));
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
		key.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		EXPECT_FALSE(key_matches(&key, data, sizeof(data), mac));
		key.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(mac); bit++) {
		mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
		EXPECT_FALSE(key_matches(&key, data, sizeof(data), mac));
		mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	EXPECT_TRUE(key_matches(&key, data, sizeof(data), mac));
	EXPECT_FALSE(key_matches(&key, data, sizeof(data) - 1, mac));
	key_clear(&key);
	EXPECT_TRUE(is_zero(&key));
	EXPECT_FALSE(key_matches(&key, data, sizeof(data), mac));
}

/* ---- Core dumps ---- */

/* Does that memory of the process hold those bytes? What is not there to be read holds nothing. */
static bool memory_holds(int memory, uint64_t from, uint64_t to, const void *bytes, size_t count)
{
	const size_t chunk = 1 << 20;
	char *buffer = malloc(chunk + count);
	bool found = false;

	if (!buffer)
		support_die("malloc");
	for (uint64_t at = from; at < to && !found; at += chunk) {
		size_t wanted = to - at < chunk + count ? (size_t)(to - at) : chunk + count;
		ssize_t got = pread(memory, buffer, wanted, (off_t)at);

		found = got > 0 && memmem(buffer, (size_t)got, bytes, count);
	}
	free(buffer);
	return found;
}

/* In which mapping of the process, of those that a core dump has, the bytes are; NULL: in none. */
static char *dump_holds(pid_t pid, const void *bytes, size_t count, unsigned *searched)
{
	char *path = support_format("/proc/%d/smaps", pid), line[512], name[512] = "",
	     *found = NULL;
	FILE *smaps = fopen(path, "re");
	int memory;
	uint64_t from = 0, to = 0;

	free(path);
	path = support_format("/proc/%d/mem", pid);
	memory = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	if (!smaps || memory < 0)
		support_die("/proc/PID");
	*searched = 0;
	while (!found && fgets(line, sizeof(line), smaps)) {
		unsigned long long first, last;
		char mode[8];

		if (sscanf(line, "%llx-%llx %7s", &first, &last, mode) == 3) {
			from = first;
			to = mode[0] == 'r' ? last : first;
			snprintf(name, sizeof(name), "%s", line);
		} else if (!strncmp(line, "VmFlags:", 8) && from != to && !strstr(line, " dd ") &&
			   !strstr(line, " io ")) {
			++*searched;
			if (memory_holds(memory, from, to, bytes, count))
				found = strdup(name);
		}
	}
	close(memory);
	fclose(smaps);
	return found;
}

static const char *const uses_its_key = "import { stats } from 'thaw'\n"
					"setInterval(() => {}, 1e6)\n"
					"while (!stats().turnStops);\n"
					"setTimeout(() => console.log('ready'))\n";

/* `said`: what THAW_KEY says. */
static void expect_no_key_in_a_dump(struct __test_metadata *_metadata, const char *home,
				    const char *said, const char *file)
{
	char *script = support_format("%s/app.js", home), *where, digits[65] = DIGITS;
	struct program program;
	uint8_t bytes[KEY_BYTES];
	size_t length;
	unsigned searched;

	support_write(script, uses_its_key);
	setenv("THAW_KEY", said, 1);
	program = program_start(THAW("run", "--every", "10ms", script));
	ASSERT_TRUE(program_wait_for(&program, "ready", 30))
	{
		TH_LOG("%s", program.errors);
	}
	if (file) {
		int fd = open(file, O_RDONLY | O_CLOEXEC);

		ASSERT_EQ(64, read(fd, digits, 64));
		close(fd);
	}
	ASSERT_EQ(0, sodium_hex2bin(bytes, sizeof(bytes), digits, 64, NULL, &length, NULL));
	/* Half of either would be too much, too. */
	where = dump_holds(program.pid, bytes, KEY_BYTES / 2, &searched);
	EXPECT_EQ(NULL, where)
	{
		TH_LOG("the key: %s", where);
	}
	EXPECT_LT(10, searched);
	free(where);
	where = dump_holds(program.pid, bytes + KEY_BYTES / 2, KEY_BYTES / 2, &searched);
	EXPECT_EQ(NULL, where)
	{
		TH_LOG("the key: %s", where);
	}
	free(where);
	where = dump_holds(program.pid, digits, 32, &searched);
	EXPECT_EQ(NULL, where)
	{
		TH_LOG("its digits: %s", where);
	}
	free(where);
	/* What is there is found: the search works. */
	where = dump_holds(program.pid, "stats().turnStops", 17, &searched);
	EXPECT_NE(NULL, where);
	free(where);
	program_kill(&program);
	program_free(&program);
	free(script);
}

TEST_F(key_file, is_in_no_core_dump)
{
	char *path = support_format("%s/elsewhere", self->home);

	expect_no_key_in_a_dump(_metadata, self->home, path, path);
	free(path);
}

TEST_F(key_file, a_key_of_the_environment_is_in_no_core_dump)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP(return, "a sanitizer copies the environment before main() does anything");
#endif
	expect_no_key_in_a_dump(_metadata, self->home, DIGITS, NULL);
}

/* ---- As the command line has it */

/* A turn without end, until it is in the image; then it is killed. What it has told is the caller's. */
static bool live(FIXTURE_DATA(key_file) * self, const char *script, const char *key, char **told)
{
	struct program program =
		program_start(THAW("run", "-v", "--every", "10ms", "--key", key, script));
	bool lives = program_wait_for_complaint(&program, "pages, ", 30);

	(void)self;
	program_kill(&program);
	*told = support_format("%s", program.errors);
	program_free(&program);
	return lives;
}

TEST_F(key_file, that_an_option_names_is_made_there_and_used)
{
	char *script = support_format("%s/a.js", self->home), *told, *other, *image;
	char *path = support_format("%s/there", self->home);
	struct program asked;
	struct stat status;

	support_write(script, "for (let n = 0; ; n++) globalThis.n = n\n");
	setenv("THAW_KEY", DIGITS, 1);
	EXPECT_TRUE(live(self, script, path, &told)) TH_LOG("%s", told);
	ASSERT_EQ(0, stat(path, &status));
	EXPECT_EQ(0600, status.st_mode & 07777);
	EXPECT_NE(0, access(self->path, F_OK));
	unsetenv("THAW_KEY");
	EXPECT_TRUE(live(self, script, path, &told)) TH_LOG("%s", told);
	EXPECT_NE(NULL, strstr(told, "restored")) TH_LOG("%s", told);
	image = support_format("%s/a.thaw", self->home);
	program_run(&asked, NULL, THAW("eval", "--key", path, image, "n >= 0"));
	EXPECT_STREQ("true\n", asked.output) TH_LOG("%s", asked.errors);
	program_free(&asked);
	/* With another one it does not go on. */
	other = support_format("%s/other", self->home);
	EXPECT_FALSE(live(self, script, other, &told)) TH_LOG("%s", told);
}

TEST_F(key_file, that_the_next_start_will_not_have_is_told_at_this_one)
{
	char *script = support_format("%s/a.js", self->home);
	struct program program;

	support_write(script, "1\n");
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", script)));
	EXPECT_EQ(NULL, strstr(program.errors, "key")) TH_LOG("%s", program.errors);
	EXPECT_NE(0, access(self->path, F_OK)); /* it is made when it is needed */
	program_free(&program);
	setenv("HOME", "/dev/null", 1);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", "--fresh", script)));
	EXPECT_NE(NULL, strstr(program.errors, "without it a turn is not checkpointed"))
	TH_LOG("%s", program.errors);
	program_free(&program);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", "-q", "--fresh", script)));
	EXPECT_STREQ("", program.errors);
	program_free(&program);
}

TEST_HARNESS_MAIN
