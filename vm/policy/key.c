/* SPDX-License-Identifier: MIT */
/*
 * key.c - finds, checks and makes the user's key file, and computes MACs under the key.
 *
 * Called by whoever takes or continues a generation in the middle of a turn; any thread. Its one state is
 * the value of THAW_KEY, once main() had it taken. Keys and their digits lie in memory that core dumps
 * leave out and that is zeroed when it is given back (sodium_malloc), or on a stack that is zeroed
 * behind them. Never prints, and never touches a heap.
 *
 * The file is 64 hexadecimal digits and a newline. It comes into being under its name complete
 * and durable (written and synced under another name, then link(2), which never replaces): a
 * reader sees no file or all of it, and of many makers one wins.
 */
#define _GNU_SOURCE
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "passphrase.h"

_Static_assert(KEY_BYTES == crypto_generichash_KEYBYTES, "libsodium's recommended key");
_Static_assert(KEY_BYTES == THAW_KEY_BYTES, "the library's length of a key");
_Static_assert(KEY_MAC_BYTES == crypto_generichash_BYTES, "libsodium's recommended MAC");

#define KEY_DIGITS (2 * KEY_BYTES)
/* More than what libsodium's frames below ours take: they hold the key while they use it. */
#define FRAMES_BYTES 4096

/* Of a key on its way. */
struct digits {
	struct key key;
	char text[KEY_DIGITS + 2]; /* a newline, and one more to know a file that is too long */
};

/* Taken from there; in guarded memory, for ever. */
static char *said_by_environment, *image_key_said;
static const char *said_by_option;

/* ---- Text ---- */

static bool parse(const char *text, size_t length, struct key *key)
{
	size_t bytes;

	return length == KEY_DIGITS &&
	       !sodium_hex2bin(key->bytes, KEY_BYTES, text, length, NULL, &bytes, NULL) &&
	       bytes == KEY_BYTES;
}

static int too_long(struct thaw_error *error)
{
	return failure(error, -ENAMETOOLONG, "the path of the key file is too long");
}

/* ---- Where the file is ---- */

static int home_from_passwd(char home[PATH_MAX], struct thaw_error *error)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];
	int code = getpwuid_r(geteuid(), &entry, buffer, sizeof(buffer), &found);

	if (code || !found || found->pw_dir[0] != '/')
		return failure(
			error, code ? -code : -ENOENT,
			"no place for a key: HOME is not set, and uid %u has no home directory: set THAW_KEY to the path of a key file",
			geteuid());
	return snprintf(home, PATH_MAX, "%s", found->pw_dir) < PATH_MAX ? 0 : too_long(error);
}

/*
 * Where the XDG base directory specification wants it: a value that is empty or not absolute
 * counts as unset.
 */
static int default_path(char path[PATH_MAX], struct thaw_error *error)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char entry[PATH_MAX];
	int code, length;

	if (config && config[0] == '/') {
		length = snprintf(path, PATH_MAX, "%s/thaw/key", config);
	} else {
		if (!home || home[0] != '/') {
			code = home_from_passwd(entry, error);
			if (code)
				return code;
			home = entry;
		}
		length = snprintf(path, PATH_MAX, "%s/.config/thaw/key", home);
	}
	return length < PATH_MAX ? 0 : too_long(error);
}

/* ---- Reading ---- */

/* May the open file be trusted to be ours alone? */
static int check_owner(int fd, const char *path, struct thaw_error *error)
{
	struct stat status;

	if (fstat(fd, &status))
		return failure(error, -errno, "cannot stat the key file %s: %s", path,
			       strerror(errno));
	if (!S_ISREG(status.st_mode))
		return failure(error, -EKEYREJECTED,
			       "the key file %s is not a regular file: remove it, or set THAW_KEY",
			       path);
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return failure(
			error, -EKEYREJECTED,
			"the key file %s belongs to uid %u, not to you (uid %u): remove it, or set THAW_KEY",
			path, status.st_uid, geteuid());
	if (status.st_mode & 077)
		return failure(
			error, -EKEYREJECTED,
			"the key file %s can be used by others (mode %04o): chmod 600 it if nobody has, else remove it",
			path, status.st_mode & 07777);
	return 0;
}

static int no_memory(struct thaw_error *error)
{
	return failure(error, -ENOMEM, "no memory for a key");
}

static int read_digits(int fd, const char *path, struct key *key, struct thaw_error *error)
{
	struct digits *digits = sodium_malloc(sizeof(*digits));
	size_t length = 0;
	ssize_t got;
	int code = 0;

	if (!digits)
		return no_memory(error);
	while (length < sizeof(digits->text)) {
		got = read(fd, digits->text + length, sizeof(digits->text) - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			code = failure(error, -errno, "cannot read the key file %s: %s", path,
				       strerror(errno));
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	/* Without its newline it is as good: secrets are mounted that way. */
	if (!code && length == KEY_DIGITS + 1 && digits->text[KEY_DIGITS] == '\n')
		length--;
	if (!code && !parse(digits->text, length, key))
		code = failure(
			error, -EKEYREJECTED,
			"the key file %s is %s, not %d hexadecimal digits and a newline: restore it, or remove it",
			path,
			length < KEY_DIGITS   ? "too short"
			: length > KEY_DIGITS ? "too long"
					      : "something else",
			KEY_DIGITS);
	sodium_free(digits);
	return code;
}

/* -ENOENT only if the file itself, or a directory on its way, is not there. */
static int read_file(const char *path, struct key *key, struct thaw_error *error)
{
	/* A symbolic link is followed: what it leads to is what is checked. A FIFO must not hang. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code;

	if (fd < 0)
		return failure(error, -errno, "cannot open the key file %s: %s", path,
			       strerror(errno));
	code = check_owner(fd, path, error);
	if (!code)
		code = read_digits(fd, path, key, error);
	close(fd);
	return code;
}

/* ---- Making ---- */

static int sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;

	if (fd < 0)
		return -errno;
	/* Some file systems cannot (EINVAL): then there is nothing that we could do better. */
	if (fsync(fd) && errno != EINVAL)
		code = -errno;
	close(fd);
	return code;
}

/* The directories of `path`, each durable in its own before the next. 0 or -errno. */
static int make_directories(const char *path)
{
	char part[PATH_MAX];
	int code;

	for (const char *slash = strchr(path + 1, '/'), *last = path; slash;
	     last = slash, slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0700)) {
			if (errno == EEXIST)
				continue;
			return -errno;
		}
		snprintf(part, sizeof(part), "%.*s", (int)(last - path + (last == path)), path);
		code = sync_directory(part);
		if (code)
			return code;
	}
	return 0;
}

/* A new key. */
static int write_digits(int fd, struct digits *digits)
{
	const size_t bytes = KEY_DIGITS + 1; /* the terminator's place is the newline's */
	size_t done = 0;
	int code = 0;

	randombytes_buf(digits->key.bytes, KEY_BYTES);
	sodium_bin2hex(digits->text, bytes, digits->key.bytes, KEY_BYTES);
	digits->text[KEY_DIGITS] = '\n';
	while (!code && done < bytes) {
		ssize_t wrote = write(fd, digits->text + done, bytes - done);

		if (wrote > 0)
			done += (size_t)wrote;
		else if (wrote == 0 || errno != EINTR)
			code = wrote ? -errno : -EIO;
	}
	/* The umask may have taken our own bits away. */
	if (!code && (fchmod(fd, 0600) || fsync(fd)))
		code = -errno;
	return code;
}

/* Put a new key at `path`, unless there is one by then. 0 (there is one now) or -errno. */
static int make_file(const char *path)
{
	char temporary[PATH_MAX], directory[PATH_MAX];
	struct digits *digits;
	int fd, code;

	snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path + 1), path);
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC); /* O_EXCL, 0600 */
	if (fd < 0)
		return -errno;
	digits = sodium_malloc(sizeof(*digits));
	code = digits ? write_digits(fd, digits) : -ENOMEM;
	sodium_free(digits);
	if (close(fd) && !code)
		code = -errno;
	if (!code && link(temporary, path) && errno != EEXIST)
		code = -errno;
	unlink(temporary);
	/* Also for who came second: an image must not be durable before the key that opens it. */
	return code ? code : sync_directory(directory);
}

static int load_file(const char *path, bool create, bool directories, struct key *key,
		     struct thaw_error *error)
{
	int code = read_file(path, key, error);

	if (code != -ENOENT)
		return code;
	if (!create)
		return failure(
			error, -ENOKEY,
			"there is no key file %s: THAW_KEY says where another is, or what the key is; --key names another",
			path);
	code = directories ? make_directories(path) : 0;
	if (!code)
		code = make_file(path);
	if (code)
		return failure(error, code,
			       "cannot make the key file %s: %s: set THAW_KEY to a better path",
			       path, strerror(-code));
	return read_file(path, key, error);
}

/* ---- The interface ---- */

struct key *key_new(void)
{
	struct key *key = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*key));

	if (key)
		key_clear(key);
	return key;
}

void key_free(struct key *key)
{
	sodium_free(key);
}

static void take(const char *name, char **to)
{
	char *said = getenv(name);
	size_t length = said ? strlen(said) : 0;

	/* A path is no secret. */
	if (!length || strchr(said, '/') || sodium_init() < 0)
		return;
	sodium_free(*to);
	*to = sodium_malloc(length + 1);
	if (!*to)
		return; /* better read from there than not at all */
	memcpy(*to, said, length + 1);
	sodium_memzero(said, length);
}

void key_take_environment(void)
{
	take("THAW_KEY", &said_by_environment);
	take("THAW_IMAGE_KEY", &image_key_said);
}

void key_use_file(const char *path)
{
	said_by_option = path;
}

static const char *what_is_said(void)
{
	return said_by_option	     ? said_by_option
	       : said_by_environment ? said_by_environment
				     : getenv("THAW_KEY");
}

/* Could a file be made there, in the first of its directories that there is? */
static int check_place(char path[PATH_MAX], struct thaw_error *error)
{
	char *slash = strrchr(path, '/');

	while (slash && slash > path) {
		*slash = '\0';
		if (!access(path, F_OK))
			break;
		slash = strrchr(path, '/');
	}
	if (slash == path)
		path[1] = '\0';
	if (!access(path, W_OK | X_OK))
		return 0;
	return failure(error, -errno,
		       "no key can be made in %s (%s): --key FILE, or THAW_KEY, says where one "
		       "is, or can be",
		       path, strerror(errno));
}

int key_check(struct thaw_error *error)
{
	const char *said = what_is_said();
	struct key *key = key_new();
	char path[PATH_MAX];
	int code = key ? key_load(false, key, error) : no_memory(error);

	key_free(key);
	if (code != -ENOKEY)
		return code;
	if (!said)
		code = default_path(path, error);
	else
		code = snprintf(path, sizeof(path), "%s", said) < PATH_MAX ? 0 : too_long(error);
	return code ? code : check_place(path, error);
}

/* What the variable `name`, or an option instead of it, says: the path of a file, or the key. */
static int load_said(const char *name, const char *said, bool create, struct key *key,
		     struct thaw_error *error)
{
	if (strchr(said, '/'))
		return load_file(said, create, false, key, error);
	/* An empty value too: a secret that could not be fetched is not the default. */
	if (parse(said, strlen(said), key))
		return 0;
	return failure(
		error, -EINVAL,
		"%s is neither %d hexadecimal digits nor the path of a key file (with a / in it)",
		name, KEY_DIGITS);
}

/* Leave nothing of it behind, and no key if there is none. */
static int loaded(struct key *key, int code)
{
	sodium_stackzero(FRAMES_BYTES);
	if (code)
		key_clear(key);
	return code;
}

int key_load(bool create, struct key *key, struct thaw_error *error)
{
	const char *said = what_is_said();
	char path[PATH_MAX];
	int code;

	/* Chooses among implementations for this CPU, and opens the source of randomness. */
	if (sodium_init() < 0) {
		key_clear(key);
		return failure(error, -EIO, "cannot initialise libsodium");
	}
	if (said)
		return loaded(key, load_said("THAW_KEY", said, create, key, error));
	code = default_path(path, error);
	if (!code)
		code = load_file(path, create, true, key, error);
	return loaded(key, code);
}

int key_load_file(const char *path, bool create, struct key *key, struct thaw_error *error)
{
	return loaded(key, load_file(path, create, false, key, error));
}

/* THAW_IMAGE_KEY. */
static int give_other(void *arg, uint8_t bytes[THAW_KEY_BYTES], struct thaw_error *error)
{
	const char *said = image_key_said ? image_key_said : getenv("THAW_IMAGE_KEY");
	struct key *key;
	int code;

	(void)arg;
	if (!said)
		return -ENOKEY;
	key = key_new();
	if (!key)
		return no_memory(error);
	code = loaded(key, load_said("THAW_IMAGE_KEY", said, false, key, error));
	if (!code)
		memcpy(bytes, key->bytes, KEY_BYTES);
	key_free(key);
	return code;
}

static bool asks;

void key_ask_for_passphrases(void)
{
	asks = true;
}

static int give_passphrase(void *arg, const char *image, unsigned attempt, char *to, size_t room,
			   struct thaw_error *error)
{
	static char given_up[PATH_MAX]; /* nobody knows that of this image */
	char prompt[PATH_MAX + 64], escaped[PATH_MAX];
	int code;

	(void)arg;
	if (!asks || !strcmp(image, given_up))
		return failure(error, -ENOKEY, "its passphrase was not given");
	thaw_escape(image, escaped, sizeof(escaped));
	snprintf(prompt, sizeof(prompt), "%sPassphrase of %s: ", attempt ? "That one is not. " : "",
		 escaped);
	code = passphrase_ask(prompt, to, room, error);
	if (code < 0 || attempt == 2)
		snprintf(given_up, sizeof(given_up), "%s", image);
	return code;
}

static int give(void *arg, bool make, uint8_t bytes[THAW_KEY_BYTES], struct thaw_error *error)
{
	struct key *key = key_new();
	int code;

	(void)arg;
	if (!key)
		return no_memory(error);
	code = key_load(make, key, error);
	if (!code)
		memcpy(bytes, key->bytes, KEY_BYTES);
	key_free(key);
	return code;
}

void key_serve_images(void)
{
	thaw_use_key(&(struct thaw_key_source){
		.get = give,
		.other = give_other,
		.passphrase = give_passphrase,
		.name = "yours: THAW_KEY says what it is or where, else it is in ~/.config/thaw/key"});
}

void key_clear(struct key *key)
{
	sodium_memzero(key, sizeof(*key));
}

void key_mac(const struct key *key, const void *data, size_t bytes, uint8_t mac[KEY_MAC_BYTES])
{
	crypto_generichash(mac, KEY_MAC_BYTES, data, bytes, key->bytes, KEY_BYTES);
	sodium_stackzero(FRAMES_BYTES);
}

bool key_matches(const struct key *key, const void *data, size_t bytes,
		 const uint8_t mac[KEY_MAC_BYTES])
{
	uint8_t right[KEY_MAC_BYTES];
	bool same;

	key_mac(key, data, bytes, right);
	same = !sodium_memcmp(mac, right, KEY_MAC_BYTES);
	sodium_memzero(right, sizeof(right)); /* it would open a forged image */
	return same;
}
