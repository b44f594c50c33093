// SPDX-License-Identifier: MIT
/*
 * netlink.c - sockets, families, requests and their answers. The model is iproute2's
 * lib/mnl_utils.c.
 *
 * A request's answer is read to its end even if its reader wants no more, so that the next one
 * begins with an empty socket; where the kernel says that it had to drop something (ENOBUFS), the
 * socket is replaced, since nobody can tell what else will come. Called by the other files of
 * vm/top, from the thread that opened the socket. Waits for nothing but the kernel's answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "top/mnl.h"
#include "top/netlink.h"

#define ATTRIBUTE_BYTES 1024	  /* of a request */
#define RECEIVE_BYTES (32u << 10) /* the most that the kernel puts into one part of a dump */
#define GROUPS 8
#define DUMP_ATTEMPTS 10

struct group {
	char name[GENL_NAMSIZ];
	uint32_t id;
};

struct netlink {
	struct mnl_socket *socket; /* NULL: it must be opened again */
	char family[GENL_NAMSIZ];
	uint16_t id;
	uint8_t version;
	uint32_t sequence;
	unsigned group_count;
	struct group groups[GROUPS];
	_Alignas(struct nlmsghdr) char request[NLMSG_HDRLEN + GENL_HDRLEN + ATTRIBUTE_BYTES];
	_Alignas(struct nlmsghdr) char received[RECEIVE_BYTES];
};

/* ---- Attributes ---- */

static void attributes_of(const void *data, size_t bytes, const struct nlattr **table,
			  unsigned count)
{
	const char *end = (const char *)data + bytes;

	memset(table, 0, count * sizeof(*table));
	for (const struct nlattr *at = data; mnl.attr_ok(at, (int)(end - (const char *)at));
	     at = mnl.attr_next(at)) {
		unsigned type = mnl.attr_get_type(at);

		if (type < count)
			table[type] = at;
	}
}

void netlink_attributes(const struct nlmsghdr *message, const struct nlattr **table, unsigned count)
{
	size_t bytes = mnl.nlmsg_get_payload_len(message);

	attributes_of((const char *)mnl.nlmsg_get_payload(message) + GENL_HDRLEN,
		      bytes > GENL_HDRLEN ? bytes - GENL_HDRLEN : 0, table, count);
}

void netlink_nested(const struct nlattr *nest, const struct nlattr **table, unsigned count)
{
	attributes_of(nest ? mnl.attr_get_payload(nest) : NULL,
		      nest ? mnl.attr_get_payload_len(nest) : 0, table, count);
}

uint64_t netlink_number(const struct nlattr *attribute, uint64_t otherwise)
{
	const void *payload = attribute ? mnl.attr_get_payload(attribute) : NULL;
	uint64_t eight;
	uint32_t four;
	uint16_t two;

	switch (attribute ? mnl.attr_get_payload_len(attribute) : 0) {
	case sizeof(eight):
		return memcpy(&eight, payload, sizeof(eight)), eight;
	case sizeof(four):
		return memcpy(&four, payload, sizeof(four)), four;
	case sizeof(two):
		return memcpy(&two, payload, sizeof(two)), two;
	case 1:
		return *(const uint8_t *)payload;
	default:
		return otherwise;
	}
}

const char *netlink_text(const struct nlattr *attribute)
{
	const char *text = attribute ? mnl.attr_get_payload(attribute) : NULL;

	return text && memchr(text, '\0', mnl.attr_get_payload_len(attribute)) ? text : NULL;
}

/* ---- What the kernel says of a refusal ---- */

/* The attribute of the request that begins `offset` bytes behind its start. */
static const char *attribute_name(const struct nlmsghdr *request, uint64_t offset,
				  const struct netlink_names *names, char *room, size_t bytes)
{
	struct nlattr attribute;

	if (offset > request->nlmsg_len || request->nlmsg_len - offset < sizeof(attribute))
		return NULL;
	memcpy(&attribute, (const char *)request + offset, sizeof(attribute));
	attribute.nla_type &= NLA_TYPE_MASK;
	if (names && attribute.nla_type < names->count && names->names[attribute.nla_type])
		return names->names[attribute.nla_type];
	snprintf(room, bytes, "attribute %u", attribute.nla_type);
	return room;
}

static const char *missing_name(uint64_t type, const struct netlink_names *names, char *room,
				size_t bytes)
{
	if (names && type < names->count && names->names[type])
		return names->names[type];
	snprintf(room, bytes, "attribute %llu", (unsigned long long)type);
	return room;
}

/* " (64 to 128)", from the policy that the kernel attached; empty where there is no range in it. */
static void range_of(const struct nlattr *policy, char *range, size_t bytes)
{
	const struct nlattr *table[NL_POLICY_TYPE_ATTR_MAX + 1];

	*range = '\0';
	netlink_nested(policy, table, NL_POLICY_TYPE_ATTR_MAX + 1);
	if (table[NL_POLICY_TYPE_ATTR_MIN_VALUE_U] && table[NL_POLICY_TYPE_ATTR_MAX_VALUE_U])
		snprintf(range, bytes, " (%llu to %llu)",
			 (unsigned long long)netlink_number(table[NL_POLICY_TYPE_ATTR_MIN_VALUE_U],
							    0),
			 (unsigned long long)netlink_number(table[NL_POLICY_TYPE_ATTR_MAX_VALUE_U],
							    0));
}

static int refusal(const struct netlink *netlink, const struct nlattr *const *extended,
		   const struct netlink_names *names, int code, struct thaw_error *error)
{
	const struct nlmsghdr *request = (const void *)netlink->request;
	const char *text = netlink_text(extended[NLMSGERR_ATTR_MSG]), *name = NULL;
	char number[32], range[64];

	if (extended[NLMSGERR_ATTR_OFFS])
		name = attribute_name(request, netlink_number(extended[NLMSGERR_ATTR_OFFS], 0),
				      names, number, sizeof(number));
	else if (extended[NLMSGERR_ATTR_MISS_TYPE])
		name = missing_name(netlink_number(extended[NLMSGERR_ATTR_MISS_TYPE], 0), names,
				    number, sizeof(number));
	range_of(extended[NLMSGERR_ATTR_POLICY], range, sizeof(range));
	return failure(error, code, "the kernel (netlink family %s) refuses%s%s: %s%s%s",
		       netlink->family, name ? " " : "", name ? name : "",
		       text ? text : strerror(-code), range,
		       code == -EPERM ? "; it needs CAP_NET_ADMIN (be root, or setcap "
					"cap_net_admin+ep on this program)"
				      : "");
}

/*
 * The end of an answer, NLMSG_ERROR or NLMSG_DONE: its code, 0 or -errno, and what is behind it, up
 * to `extended`, a table of NLMSGERR_ATTR_MAX + 1.
 */
static int end_of_answer(const struct nlmsghdr *message, const struct nlattr **extended)
{
	const char *payload = mnl.nlmsg_get_payload(message);
	size_t bytes = mnl.nlmsg_get_payload_len(message), at = sizeof(int);
	int code;

	memset(extended, 0, (NLMSGERR_ATTR_MAX + 1) * sizeof(*extended));
	if (bytes < sizeof(code))
		return message->nlmsg_type == NLMSG_DONE ? 0 : -EPROTO;
	memcpy(&code, payload, sizeof(code));
	if (message->nlmsg_type == NLMSG_ERROR) {
		struct nlmsgerr head;

		if (bytes < sizeof(head))
			return -EPROTO;
		memcpy(&head, payload, sizeof(head));
		at = sizeof(head);
		if (!(message->nlmsg_flags & NLM_F_CAPPED) && head.msg.nlmsg_len >= NLMSG_HDRLEN)
			at += NLMSG_ALIGN(head.msg.nlmsg_len) - NLMSG_HDRLEN;
	}
	if ((message->nlmsg_flags & NLM_F_ACK_TLVS) && at < bytes)
		attributes_of(payload + at, bytes - at, extended, NLMSGERR_ATTR_MAX + 1);
	return code > 0 ? -code : code;
}

/* ---- Sockets ---- */

static void forget_socket(struct netlink *netlink)
{
	if (netlink->socket)
		mnl.socket_close(netlink->socket);
	netlink->socket = NULL;
}

static int open_socket(struct netlink *netlink, struct thaw_error *error)
{
	int code, one = 1;

	netlink->socket = mnl.socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!netlink->socket) {
		code = -errno;
		return failure(error, code, "cannot open a socket of generic netlink: %s",
			       strerror(-code));
	}
	/* Both since Linux 4.12; without them errors are an errno only. */
	mnl.socket_setsockopt(netlink->socket, NETLINK_CAP_ACK, &one, sizeof(one));
	mnl.socket_setsockopt(netlink->socket, NETLINK_EXT_ACK, &one, sizeof(one));
	if (mnl.socket_bind(netlink->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		code = -errno;
		forget_socket(netlink);
		return failure(error, code, "cannot bind a socket of generic netlink: %s",
			       strerror(-code));
	}
	return 0;
}

/* Bytes received, or -errno. */
static ssize_t receive(struct netlink *netlink)
{
	ssize_t bytes;

	do {
		bytes = mnl.socket_recvfrom(netlink->socket, netlink->received,
					    sizeof(netlink->received));
	} while (bytes < 0 && errno == EINTR);
	return bytes < 0 ? -errno : bytes;
}

int netlink_descriptor(const struct netlink *netlink)
{
	return netlink->socket ? mnl.socket_get_fd(netlink->socket) : -1;
}

/* ---- Requests ---- */

struct answer {
	const struct netlink_names *names;
	netlink_message *each;
	void *argument;
	struct thaw_error *error;
	int code;	  /* the first thing that went wrong */
	bool ended;	  /* all of it has come */
	bool interrupted; /* the kernel says that a dump is not consistent */
};

static void take_message(struct netlink *netlink, const struct nlmsghdr *message,
			 struct answer *answer)
{
	const struct nlattr *extended[NLMSGERR_ATTR_MAX + 1];
	int code;

	/* What is left of an answer that a signal or an error cut off. */
	if (message->nlmsg_seq != netlink->sequence ||
	    message->nlmsg_pid != mnl.socket_get_portid(netlink->socket))
		return;
	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		answer->interrupted = true;
	switch (message->nlmsg_type) {
	case NLMSG_NOOP:
		break;
	case NLMSG_OVERRUN:
		answer->interrupted = true;
		break;
	case NLMSG_ERROR:
	case NLMSG_DONE:
		answer->ended = true;
		code = end_of_answer(message, extended);
		if (code && !answer->code)
			answer->code =
				refusal(netlink, extended, answer->names, code, answer->error);
		break;
	default:
		if (!answer->code && answer->each)
			answer->code = answer->each(message, answer->argument);
	}
}

static int converse(struct netlink *netlink, struct nlmsghdr *request, struct answer *answer)
{
	ssize_t bytes;

	do {
		bytes = mnl.socket_sendto(netlink->socket, request, request->nlmsg_len);
	} while (bytes < 0 && errno == EINTR);
	if (bytes < 0)
		return failure(answer->error, -errno, "cannot ask the kernel over netlink: %s",
			       strerror(errno));
	while (!answer->ended) {
		bytes = receive(netlink);
		if (bytes == -ENOBUFS) {
			forget_socket(netlink);
			answer->interrupted = true;
			return failure(answer->error, -ENOBUFS,
				       "the kernel had no memory for its answer (netlink family "
				       "%s): try again",
				       netlink->family);
		}
		if (bytes <= 0) {
			forget_socket(netlink);
			return failure(answer->error, bytes ? (int)bytes : -EPROTO,
				       "cannot read the kernel's answer (netlink family %s): %s",
				       netlink->family,
				       bytes ? strerror((int)-bytes) : "it is empty");
		}
		int left = (int)bytes;

		for (const struct nlmsghdr *at = (const void *)netlink->received;
		     !answer->ended && mnl.nlmsg_ok(at, left); at = mnl.nlmsg_next(at, &left))
			take_message(netlink, at, answer);
	}
	return answer->code;
}

struct nlmsghdr *netlink_prepare(struct netlink *netlink, uint8_t command)
{
	struct nlmsghdr *message = mnl.nlmsg_put_header(netlink->request);
	struct genlmsghdr *generic = mnl.nlmsg_put_extra_header(message, sizeof(*generic));

	message->nlmsg_type = netlink->id;
	message->nlmsg_seq = ++netlink->sequence;
	generic->cmd = command;
	generic->version = netlink->version;
	return message;
}

int netlink_request(struct netlink *netlink, struct nlmsghdr *request,
		    const struct netlink_names *names, netlink_message *each, void *argument,
		    struct thaw_error *error)
{
	struct answer answer = {.names = names, .each = each, .argument = argument, .error = error};
	int code = netlink->socket ? 0 : open_socket(netlink, error);

	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	return code ? code : converse(netlink, request, &answer);
}

int netlink_dump(struct netlink *netlink, struct nlmsghdr *request, netlink_message *each,
		 void *argument, struct thaw_error *error)
{
	struct answer answer = {.each = each, .argument = argument, .error = error};
	int code = netlink->socket ? 0 : open_socket(netlink, error);

	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	code = code ? code : converse(netlink, request, &answer);
	if (answer.interrupted && (!code || code == -ENOBUFS))
		code = failure(error, -EAGAIN,
			       "the list changed while the kernel told it (netlink family %s): "
			       "try again",
			       netlink->family);
	return code;
}

/* ---- Families and groups ---- */

static void take_groups(struct netlink *netlink, const struct nlattr *groups)
{
	const struct nlattr *group[CTRL_ATTR_MCAST_GRP_MAX + 1], *at = mnl.attr_get_payload(groups);
	const char *end = (const char *)at + mnl.attr_get_payload_len(groups);

	for (; netlink->group_count < GROUPS && mnl.attr_ok(at, (int)(end - (const char *)at));
	     at = mnl.attr_next(at)) {
		struct group *to = &netlink->groups[netlink->group_count];
		const char *name;

		netlink_nested(at, group, CTRL_ATTR_MCAST_GRP_MAX + 1);
		name = netlink_text(group[CTRL_ATTR_MCAST_GRP_NAME]);
		to->id = (uint32_t)netlink_number(group[CTRL_ATTR_MCAST_GRP_ID], 0);
		if (!name || !to->id)
			continue;
		snprintf(to->name, sizeof(to->name), "%s", name);
		netlink->group_count++;
	}
}

static int take_family(const struct nlmsghdr *message, void *argument)
{
	const struct nlattr *table[CTRL_ATTR_MAX + 1];
	struct netlink *netlink = argument;
	const char *name;

	netlink_attributes(message, table, CTRL_ATTR_MAX + 1);
	name = netlink_text(table[CTRL_ATTR_FAMILY_NAME]);
	if (!name || strcmp(name, netlink->family))
		return 0;
	netlink->id = (uint16_t)netlink_number(table[CTRL_ATTR_FAMILY_ID], 0);
	netlink->group_count = 0;
	if (table[CTRL_ATTR_MCAST_GROUPS])
		take_groups(netlink, table[CTRL_ATTR_MCAST_GROUPS]);
	return 0;
}

/*
 * Looks through all families: whoever asks for one by its name, and it is not there, has the kernel
 * run modprobe, each time.
 */
static int find_family(struct netlink *netlink, struct thaw_error *error)
{
	struct nlmsghdr *request;
	int code = -EAGAIN;

	netlink->version = 1;
	for (unsigned i = 0; i < DUMP_ATTEMPTS && code == -EAGAIN; i++) {
		netlink->id = GENL_ID_CTRL;
		request = netlink_prepare(netlink, CTRL_CMD_GETFAMILY);
		netlink->id = 0;
		code = netlink_dump(netlink, request, take_family, netlink, error);
	}
	if (!code && !netlink->id)
		return failure(error, -ENOENT, "this kernel has no generic netlink family '%s'",
			       netlink->family);
	return code;
}

int netlink_open(const char *family, unsigned version, struct netlink **result,
		 struct thaw_error *error)
{
	struct netlink *netlink = calloc(1, sizeof(*netlink));
	int code;

	*result = NULL;
	if (!netlink)
		return failure(error, -ENOMEM, "no memory for a netlink socket");
	snprintf(netlink->family, sizeof(netlink->family), "%s", family);
	code = mnl_load(error);
	if (!code)
		code = open_socket(netlink, error);
	if (!code)
		code = find_family(netlink, error);
	if (code) {
		netlink_close(netlink);
		return code;
	}
	netlink->version = (uint8_t)version;
	*result = netlink;
	return 0;
}

void netlink_close(struct netlink *netlink)
{
	if (!netlink)
		return;
	forget_socket(netlink);
	free(netlink);
}

int netlink_join(struct netlink *netlink, const char *group, struct thaw_error *error)
{
	int descriptor = netlink_descriptor(netlink), code;
	const struct group *found = NULL;

	for (unsigned i = 0; i < netlink->group_count; i++)
		if (!strcmp(netlink->groups[i].name, group))
			found = &netlink->groups[i];
	if (!found)
		return failure(error, -ENOENT,
			       "the generic netlink family '%s' has no multicast group '%s'",
			       netlink->family, group);
	if (fcntl(descriptor, F_SETFL, O_NONBLOCK) ||
	    mnl.socket_setsockopt(netlink->socket, NETLINK_ADD_MEMBERSHIP, (void *)&found->id,
				  sizeof(found->id))) {
		code = -errno;
		return failure(error, code, "cannot listen to '%s' of the netlink family %s: %s%s",
			       group, netlink->family, strerror(-code),
			       code == -EPERM ? " (it needs CAP_NET_ADMIN)" : "");
	}
	return 0;
}

int netlink_receive(struct netlink *netlink, netlink_message *each, void *argument,
		    struct thaw_error *error)
{
	for (;;) {
		ssize_t bytes = receive(netlink);
		int left = (int)bytes, code = 0;

		if (bytes == -EAGAIN)
			return 0;
		if (bytes == -ENOBUFS)
			return failure(error, -ENOBUFS,
				       "messages of the netlink family %s were lost: they came "
				       "faster than they were read",
				       netlink->family);
		if (bytes < 0)
			return failure(error, (int)bytes, "cannot receive over netlink: %s",
				       strerror((int)-bytes));
		for (const struct nlmsghdr *at = (const void *)netlink->received;
		     !code && mnl.nlmsg_ok(at, left); at = mnl.nlmsg_next(at, &left))
			if (at->nlmsg_type == netlink->id)
				code = each(at, argument);
		if (code)
			return code;
	}
}
