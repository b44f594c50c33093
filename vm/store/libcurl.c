/* SPDX-License-Identifier: MIT */
/* libcurl.c - loads libcurl, which stays loaded, and expat (expat.h). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/failure.h"
#include "base/library.h"
#include "store/expat.h"
#include "store/libcurl.h"

struct libcurl curl;
struct expat expat;

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static int load_curl(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "curl_" #name,
		CURL_FUNCTIONS(NAME)
#undef NAME
	};
	static const struct library library = {
		.file = "libcurl.so.4", /* the ABI that curl.h describes */
		.package = "libcurl4",
		.least = "7.88",
		.names = names,
		.count = sizeof(names) / sizeof(names[0]),
	};
	static bool ready;
	int code;

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(curl),
		       "the table is function pointers only");
	code = library_load(&library, &curl, error);
	if (code || ready)
		return code;
	if (curl.global_init(CURL_GLOBAL_DEFAULT))
		return failure(error, -ENOMEM, "libcurl cannot begin: out of memory");
	ready = true;
	return 0;
}

static int load_expat(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "XML_" #name,
		EXPAT_FUNCTIONS(NAME)
#undef NAME
	};
	static const struct library library = {
		.file = "libexpat.so.1",
		.package = "libexpat1",
		.names = names,
		.count = sizeof(names) / sizeof(names[0]),
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(expat),
		       "the table is function pointers only");
	return library_load(&library, &expat, error);
}

int libcurl_load(struct thaw_error *error)
{
	int code;

	pthread_mutex_lock(&loading);
	code = load_curl(error);
	if (!code)
		code = load_expat(error);
	pthread_mutex_unlock(&loading);
	return code;
}

/* ---- What it opens for itself */

#define SLOTS 8u /* the lowest numbers that are free: a new descriptor gets one of them */
#define SLOTS_END 65536

struct slots {
	int fds[SLOTS];
	unsigned count;
};

static void note_free(struct slots *slots)
{
	slots->count = 0;
	for (int fd = 3; fd < SLOTS_END && slots->count < SLOTS; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			slots->fds[slots->count++] = fd;
}

static void close_on_exec(const struct slots *slots)
{
	for (unsigned i = 0; i < slots->count; i++) {
		int fd = slots->fds[i], flags = fcntl(fd, F_GETFD), domain = 0;
		socklen_t bytes = sizeof(domain);

		if (flags >= 0 && !(flags & FD_CLOEXEC) &&
		    !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) && domain == AF_UNIX)
			fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
	}
}

CURLM *libcurl_multi_init(void)
{
	struct slots slots;
	CURLM *multi;

	note_free(&slots);
	multi = curl.multi_init();
	close_on_exec(&slots);
	return multi;
}

CURLMcode libcurl_multi_perform(CURLM *multi, int *running)
{
	struct slots slots;
	CURLMcode code;

	note_free(&slots);
	code = curl.multi_perform(multi, running);
	close_on_exec(&slots);
	return code;
}
