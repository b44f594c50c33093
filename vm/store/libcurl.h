/* SPDX-License-Identifier: MIT */
/*
 * libcurl.h - the functions of libcurl, in a table that is filled when a store is first opened: with the library come thirty
 * others, which every other start would pay for, and could not begin without.
 *
 * curl.NAME(...) is the library's curl_NAME(...), with its types; what takes any number of arguments of any type, too.
 */
#ifndef VM_STORE_LIBCURL_H
#define VM_STORE_LIBCURL_H

#include <curl/curl.h>

#include "thaw.h"

/* They are macros, which check types: of no use for a pointer. */
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#define CURL_FUNCTIONS(F)      \
	F(global_init)         \
	F(slist_append)        \
	F(slist_free_all)      \
	F(easy_init)           \
	F(easy_setopt)         \
	F(easy_getinfo)        \
	F(easy_reset)          \
	F(easy_cleanup)        \
	F(easy_strerror)       \
	F(multi_init)          \
	F(multi_setopt)        \
	F(multi_add_handle)    \
	F(multi_remove_handle) \
	F(multi_perform)       \
	F(multi_poll)          \
	F(multi_wakeup)        \
	F(multi_info_read)     \
	F(multi_cleanup)

struct libcurl {
#define CURL_POINTER(name) __typeof__(curl_##name) *name;
	CURL_FUNCTIONS(CURL_POINTER)
#undef CURL_POINTER
};
extern struct libcurl curl; /* changed by nobody but libcurl_load() */

/* Any number of times, any thread. -ENOENT: it is not installed. */
int libcurl_load(struct thaw_error *error);

/*
 * curl_multi_init() and curl_multi_perform(), after which what they have opened for themselves (a pair of sockets to be woken by,
 * another one for each look-up of a name) is closed by execve(2): libcurl 7.88 does not ask for that.
 */
CURLM *libcurl_multi_init(void);
CURLMcode libcurl_multi_perform(CURLM *multi, int *running);

#endif
