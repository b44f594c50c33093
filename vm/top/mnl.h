/* SPDX-License-Identifier: MIT */
/*
 * mnl.h - the functions of libmnl, in a table that is filled when they are first needed: only
 * `thaw top` talks to the kernel over netlink, and every other start of the program would pay for
 * linking with the library (60 us of 1.15 ms), and could not begin without it.
 *
 * mnl.NAME(...) is libmnl's mnl_NAME(...), with its types.
 */
#ifndef VM_TOP_MNL_H
#define VM_TOP_MNL_H

#include <libmnl/libmnl.h>

#include "thaw.h"

#define MNL_FUNCTIONS(F)          \
	F(socket_open2)           \
	F(socket_bind)            \
	F(socket_close)           \
	F(socket_get_fd)          \
	F(socket_get_portid)      \
	F(socket_setsockopt)      \
	F(socket_sendto)          \
	F(socket_recvfrom)        \
	F(nlmsg_put_header)       \
	F(nlmsg_put_extra_header) \
	F(nlmsg_ok)               \
	F(nlmsg_next)             \
	F(nlmsg_get_payload)      \
	F(nlmsg_get_payload_len)  \
	F(attr_ok)                \
	F(attr_next)              \
	F(attr_get_type)          \
	F(attr_get_payload)       \
	F(attr_get_payload_len)   \
	F(attr_put_u32)           \
	F(attr_put_u64)           \
	F(attr_put_strz)

struct mnl {
#define MNL_POINTER(name) __typeof__(mnl_##name) *name;
	MNL_FUNCTIONS(MNL_POINTER)
#undef MNL_POINTER
};
extern struct mnl mnl; /* changed by nobody but mnl_load(), and tests */

/* Any number of times; one thread at a time. -ENOENT: libmnl is not installed. */
int mnl_load(struct thaw_error *error);

#endif
