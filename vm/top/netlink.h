/* SPDX-License-Identifier: MIT */
/*
 * netlink.h - a conversation with one family of generic netlink: requests, dumps and events. libmnl
 * puts messages together and takes them apart.
 *
 * A socket belongs to one thread. Every function that takes a struct thaw_error fills it with one
 * line when it returns a negative value; refusals of the kernel are told with its own text
 * (extended acks), with the name of the attribute that it did not like, and the range that it would
 * have taken.
 */
#ifndef VM_TOP_NETLINK_H
#define VM_TOP_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "thaw.h"
#include "top/mnl.h"

struct netlink; /* opaque; owned by who opened it */

/*
 * Opens a socket and finds the family. -ENOENT: this kernel, or this network namespace, has no such
 * family now. -EPROTONOSUPPORT: no generic netlink at all. -EMFILE and others: no socket.
 */
int netlink_open(const char *family, unsigned version, struct netlink **netlink,
		 struct thaw_error *error);
void netlink_close(struct netlink *netlink); /* NULL is allowed */
/* To poll(2). */
int netlink_descriptor(const struct netlink *netlink);

/*
 * A request, to be filled with mnl.attr_put_...() (at most 1 KiB of attributes). Valid until the
 * next call with this socket; at most one at a time.
 */
struct nlmsghdr *netlink_prepare(struct netlink *netlink, uint8_t command);

/* What to do with each message of an answer. Negative: stop, and return this. */
typedef int netlink_message(const struct nlmsghdr *message, void *argument);

/* Names of a request's attributes by their numbers, for errors; NULL at numbers without one. */
struct netlink_names {
	const char *const *names;
	unsigned count;
};

/*
 * Sends the request, and returns once all of its answer has come: 0; what `each` returned; or
 * -errno as the kernel says it. `each` may be NULL: nothing but the acknowledgment is expected.
 * `names` may be NULL.
 */
int netlink_request(struct netlink *netlink, struct nlmsghdr *request,
		    const struct netlink_names *names, netlink_message *each, void *argument,
		    struct thaw_error *error);
/*
 * The same for all objects (NLM_F_DUMP). -EAGAIN: the list changed while it was told, or parts of
 * it were lost: `each` may have seen an object twice or not at all; ask again.
 */
int netlink_dump(struct netlink *netlink, struct nlmsghdr *request, netlink_message *each,
		 void *argument, struct thaw_error *error);

/*
 * From now on the socket receives what is sent to this multicast group, for netlink_receive(); such
 * a socket takes no requests. -ENOENT: the family has no such group. -EPERM.
 */
int netlink_join(struct netlink *netlink, const char *group, struct thaw_error *error);
/*
 * Takes what has come, without waiting. 0; what `each` returned; -ENOBUFS: messages were lost (what
 * comes next is delivered by the next call).
 */
int netlink_receive(struct netlink *netlink, netlink_message *each, void *argument,
		    struct thaw_error *error);

/*
 * The attributes of a message behind its generic netlink header, by number: table[0] to table[count
 * - 1], NULL where there is none. Unknown ones are left out, and so are all after one that is cut
 * off.
 */
void netlink_attributes(const struct nlmsghdr *message, const struct nlattr **table,
			unsigned count);
void netlink_nested(const struct nlattr *nest, const struct nlattr **table, unsigned count);
/* An attribute's number or text; `otherwise` where it is missing or too short. */
uint64_t netlink_number(const struct nlattr *attribute, uint64_t otherwise);
/* NULL where it is missing or not terminated. Valid as long as the message. */
const char *netlink_text(const struct nlattr *attribute);

#endif
