// SPDX-License-Identifier: MIT
/*
 * engines.c - finds, checks and loads engines that are shared objects (engines.h). Owns those that are loaded: they stay.
 * Any thread. An object is code: must never load one by a name, only by the descriptor that was checked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "calls.h"
#include "engines.h"

#define DIRECTORIES 3u
/* What an object ends in; vm/engine.mk writes it. */
#define SUM_LINE "thaw engine "
#define SUM_BYTES ((off_t)sizeof(SUM_LINE) - 1 + 64 + 1)

struct loaded {
	struct loaded *next;
	void *handle;
	struct guest_type guest;   /* with NULL where an older object has nothing */
	const struct vm_table *vm; /* NULL: not asked for */
	char path[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *all;

static const struct engine_calls calls = {.size = sizeof(calls),
					  .abi = GUEST_ABI,
					  .owner_tell = owner_tell,
#define ENGINE_ADDRESS(type, name, parameters, arguments) .name = name,
					  ENGINE_CALLS(ENGINE_ADDRESS)};

void engines_file(const char *identity, char file[ENGINES_FILE_BYTES])
{
	unsigned char hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, (const unsigned char *)identity, strlen(identity));
	sodium_bin2hex(file, ENGINES_FILE_BYTES, hash, 8);
	strcpy(file + 16, ".so");
}

/* ---- Where ---- */

/* The file that this is part of: the program, or a library. */
static bool whereabouts(char path[PATH_MAX - 32], bool *library)
{
	struct link_map *object;
	char real[PATH_MAX];
	Dl_info info;

	*library = dladdr1(&lock, &info, (void **)&object, RTLD_DL_LINKMAP) && *object->l_name;
	if (!realpath(*library ? object->l_name : "/proc/self/exe", real) ||
	    strlen(real) >= PATH_MAX - 32)
		return false;
	strcpy(path, real);
	return true;
}

/* Returns how many. What is relative would depend on where the user stands: it is no directory of these. */
static unsigned directories(char list[DIRECTORIES][PATH_MAX])
{
	const char *said = secure_getenv("THAW_ENGINES");
	char program[PATH_MAX - 32], *slash;
	bool library;

	if (said && *said) {
		snprintf(list[0], PATH_MAX, "%s", said);
		return *said == '/' && strlen(said) < PATH_MAX;
	}
	if (!whereabouts(program, &library))
		return 0;
	slash = strrchr(program, '/');
	if (!slash)
		return 0;
	*slash = '\0';
	snprintf(list[0], PATH_MAX, "%s/engines", program);
	if (library)
		snprintf(list[1], PATH_MAX, "%s/thaw/engines", program);
	slash = strrchr(program, '/');
	if (!slash)
		return 1 + library;
	*slash = '\0';
	snprintf(list[1 + library], PATH_MAX, library ? "%s/thaw/engines" : "%s/lib/thaw/engines",
		 program);
	return 2 + library;
}

/* Could somebody else have written it? Where this process has more rights than who started it, only root is trusted. */
static bool is_ours(const struct stat *status)
{
	if (status->st_mode & (S_IWGRP | S_IWOTH))
		return false;
	return !status->st_uid || (status->st_uid == geteuid() && !getauxval(AT_SECURE));
}

/*
 * An object ends in a line with the BLAKE2b-256 of all before it: what was cut short, or has rotted on a disk, would else
 * crash this process, or compute something else. It says nothing of who has made it (is_ours()).
 */
static bool is_whole(int fd, const struct stat *status)
{
	unsigned char hash[32], buffer[65536];
	off_t at = 0, end = status->st_size - SUM_BYTES;
	char line[SUM_BYTES + 1] = "", wanted[SUM_BYTES + 1], hex[65];
	crypto_generichash_state state;
	ssize_t got;

	if (end <= 0 || pread(fd, line, SUM_BYTES, end) != SUM_BYTES ||
	    crypto_generichash_init(&state, NULL, 0, sizeof(hash)))
		return false;
	for (; at < end; at += got) {
		size_t part = end - at < (off_t)sizeof(buffer) ? (size_t)(end - at)
							       : sizeof(buffer);

		got = pread(fd, buffer, part, at);
		if (got <= 0)
			return false;
		crypto_generichash_update(&state, buffer, (unsigned long long)got);
	}
	crypto_generichash_final(&state, hash, sizeof(hash));
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	snprintf(wanted, sizeof(wanted), SUM_LINE "%s\n", hex);
	return !strcmp(line, wanted);
}

/* -ENOENT: it is not there; another code: it is, and may not be loaded. */
static int open_object(const char *directory, const char *file, int *fd, struct thaw_error *error)
{
	int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat status;
	int code = -errno;

	*fd = -1;
	if (at < 0)
		return failure(error, code == -ENOTDIR ? -ENOENT : code, "%s: %s", directory,
			       strerror(-code));
	*fd = openat(at, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	code = *fd < 0 ? -errno : 0;
	if (code) {
		failure(error, code, "%s/%s: %s", directory, file,
			code == -ELOOP ? "is a symbolic link" : strerror(-code));
	} else if (fstat(at, &status) || !is_ours(&status)) {
		code = failure(error, THAW_EENGINE,
			       "%s: others than root and this user may write there", directory);
	} else if (fstat(*fd, &status) || !S_ISREG(status.st_mode) || !is_ours(&status)) {
		code = failure(error, THAW_EENGINE,
			       "%s/%s: is no file that only root or this user may write", directory,
			       file);
	} else if (!is_whole(*fd, &status)) {
		code = failure(error, THAW_EENGINE, "%s/%s: is damaged: install it again",
			       directory, file);
	}
	close(at);
	if (code && *fd >= 0)
		close(*fd);
	return code;
}

/* ---- Loading ---- */

/* Does it fit, and is it what its name says? */
static int check_object(const struct engine_object *object, const char *identity, const char *path,
			struct thaw_error *error)
{
	if (object->abi != GUEST_ABI)
		return failure(error, THAW_EENGINE,
			       "%s: it is made for programs of interface %u, and this one has %u",
			       path, object->abi, GUEST_ABI);
	if (object->size < sizeof(*object) || !object->guest)
		return failure(error, THAW_EENGINE,
			       "%s: it is made for a newer program than this one", path);
	if (strcmp(object->identity, identity) || strcmp(object->guest->identity, identity) ||
	    object->guest->abi != GUEST_ABI)
		return failure(error, THAW_EENGINE, "%s: it is engine '%s'", path,
			       object->identity);
	return 0;
}

/*
 * `identity` NULL: whichever it is. `found` is told of it, also where it does not fit. The descriptor stays open: the dynamic
 * linker knows objects by the name that it was told, which has the number.
 */
static int load(int fd, const char *identity, const char *path, struct loaded **loaded,
		struct engines_found *found, struct thaw_error *error)
{
	const struct engine_object *object;
	engine_object_entry *entry;
	struct loaded *made;
	char name[40];
	void *handle, *function;
	int code;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		code = failure(error, THAW_EENGINE, "%s: %s", path, dlerror());
		close(fd);
		return code;
	}
	function = dlsym(handle, ENGINE_OBJECT_ENTRY);
	if (!function)
		return failure(error, THAW_EENGINE, "%s: it is no engine", path);
	memcpy(&entry, &function, sizeof(entry));
	object = entry(&calls);
	found->abi = object->abi;
	snprintf(found->identity, sizeof(found->identity), "%s", object->identity);
	code = check_object(object, identity ? identity : found->identity, path, error);
	if (code)
		return code;
	made = calloc(1, sizeof(*made) + strlen(path) + 1);
	if (!made)
		return failure(error, -ENOMEM, "out of memory");
	made->handle = handle;
	memcpy(&made->guest, object->guest,
	       object->guest->size < sizeof(made->guest) ? object->guest->size
							 : sizeof(made->guest));
	strcpy(made->path, path);
	*loaded = made;
	return 0;
}

/* `error`: that of the first place where there is one that may not be loaded, else of the last. */
static int find(const char *identity, struct loaded **loaded, struct thaw_error *error)
{
	char list[DIRECTORIES][PATH_MAX], path[PATH_MAX + 32], file[ENGINES_FILE_BYTES];
	unsigned count = directories(list);
	struct engines_found found;
	struct thaw_error why;
	int fd, code;

	engines_file(identity, file);
	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 1, list[i], file);
		code = open_object(list[i], file, &fd, &why);
		if (!code)
			code = load(fd, identity, path, loaded, &found, &why);
		if (!code)
			return 0;
		if (code != -ENOENT)
			return failure(error, THAW_EENGINE, "%s", why.text);
	}
	if (!count)
		return failure(error, THAW_EENGINE, "THAW_ENGINES must be an absolute path");
	return failure(
		error, THAW_EENGINE,
		"there is no %s%s%s: install the Thaw that made it beside this one, or name the "
		"directory with its engine (THAW_ENGINES)",
		path, count > 1 ? " nor in " : "", count > 1 ? list[0] : "");
}

/* Under the lock. */
static int find_once(const char *identity, struct loaded **loaded, struct thaw_error *error)
{
	int code;

	for (*loaded = all; *loaded; *loaded = (*loaded)->next)
		if (!strcmp((*loaded)->guest.identity, identity))
			return 0;
	code = find(identity, loaded, error);
	if (code)
		return code;
	(*loaded)->next = all;
	all = *loaded;
	return 0;
}

/* Its table may be smaller than this library's: dispatch.c looks at its size. */
static int ask_vm(struct loaded *loaded, struct thaw_error *error)
{
	void *function = dlsym(loaded->handle, ENGINE_VM_ENTRY);
	const struct vm_table *table;
	engine_vm_entry *entry;

	if (!function)
		return failure(error, THAW_EENGINE, "%s: only the program thaw goes on with it",
			       loaded->path);
	memcpy(&entry, &function, sizeof(entry));
	table = entry(&calls);
	if (!table)
		return failure(error, THAW_EENGINE,
			       "%s: it is made for a newer library than this one", loaded->path);
	loaded->vm = table;
	return 0;
}

int engines_load_vm(const char *identity, const struct vm_table **table, struct thaw_error *error)
{
	struct loaded *loaded;
	int code;

	pthread_mutex_lock(&lock);
	code = find_once(identity, &loaded, error);
	if (!code && !loaded->vm)
		code = ask_vm(loaded, error);
	if (!code)
		*table = loaded->vm;
	pthread_mutex_unlock(&lock);
	return code;
}

int engines_load(const char *identity, const struct guest_type **guest, const char **path,
		 struct thaw_error *error)
{
	struct loaded *loaded;
	int code;

	pthread_mutex_lock(&lock);
	code = find_once(identity, &loaded, error);
	pthread_mutex_unlock(&lock);
	if (code)
		return code;
	*guest = &loaded->guest;
	if (path)
		*path = loaded->path;
	return 0;
}

bool engines_left_threads(void)
{
	bool left = false;

	pthread_mutex_lock(&lock);
	for (struct loaded *loaded = all; loaded && !left; loaded = loaded->next)
		left = loaded->guest.left_threads && loaded->guest.left_threads();
	pthread_mutex_unlock(&lock);
	return left;
}

/* ---- What there is ---- */

static int is_object(const struct dirent *entry)
{
	return strspn(entry->d_name, "0123456789abcdef") == 16 &&
	       !strcmp(entry->d_name + 16, ".so");
}

static void look(const char *directory, const char *file, struct engines_found *found)
{
	char right[ENGINES_FILE_BYTES];
	struct loaded *loaded;
	int fd, code;

	*found = (struct engines_found){.path = ""};
	snprintf(found->path, sizeof(found->path), "%.*s/%.*s", PATH_MAX - 1, directory,
		 ENGINES_FILE_BYTES, file);
	code = open_object(directory, file, &fd, &found->why);
	if (!code)
		code = load(fd, NULL, found->path, &loaded, found, &found->why);
	if (code)
		return;
	free(loaded);
	found->why.code = 0;
	engines_file(found->identity, right);
	if (strcmp(file, right))
		failure(&found->why, THAW_EENGINE,
			"%s: it is engine '%s', which is looked for as %s", found->path,
			found->identity, right);
}

void engines_list(void (*visit)(void *arg, const struct engines_found *found), void *arg)
{
	char list[DIRECTORIES][PATH_MAX];
	unsigned count = directories(list);
	struct engines_found found;
	struct dirent **entries;
	int entry_count;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < count; i++) {
		entry_count = scandir(list[i], &entries, is_object, alphasort);
		for (int k = 0; k < entry_count; k++) {
			look(list[i], entries[k]->d_name, &found);
			visit(arg, &found);
			free(entries[k]);
		}
		if (entry_count >= 0)
			free(entries);
	}
	pthread_mutex_unlock(&lock);
}
