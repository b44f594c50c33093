/* SPDX-License-Identifier: MIT */
/*
 * microhttpd.h - the functions of libmicrohttpd, in a table that is filled when they are first needed (--metrics-listen): with
 * the library come those for TLS, which every other start would pay for, and could not begin without.
 *
 * microhttpd.NAME(...) is the library's MHD_NAME(...), with its types.
 */
#ifndef VM_CONTROL_MICROHTTPD_H
#define VM_CONTROL_MICROHTTPD_H

#include <microhttpd.h>

#include "thaw.h"

#define MICROHTTPD_FUNCTIONS(F)        \
	F(start_daemon)                \
	F(stop_daemon)                 \
	F(get_daemon_info)             \
	F(get_connection_info)         \
	F(get_timeout)                 \
	F(run)                         \
	F(create_response_from_buffer) \
	F(add_response_header)         \
	F(queue_response)              \
	F(destroy_response)

struct microhttpd {
#define MICROHTTPD_POINTER(name) __typeof__(MHD_##name) *name;
	MICROHTTPD_FUNCTIONS(MICROHTTPD_POINTER)
#undef MICROHTTPD_POINTER
};
extern struct microhttpd microhttpd; /* changed by nobody but microhttpd_load() */

/* Any number of times; one thread at a time. -ENOENT: it is not installed. */
int microhttpd_load(struct thaw_error *error);

#endif
