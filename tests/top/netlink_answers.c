// SPDX-License-Identifier: GPL-2.0-only
/*
 * netlink_answers.c - what becomes of the kernel's answers over netlink: whole, interrupted, lost,
 * refused, cut off.
 *
 * The kernel's own controller of generic netlink is asked, which everybody may; what it does not do
 * on demand is done to its answers below libmnl (vm/top/mnl.h).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <string.h>

#include "kmod_netlink.h"
#include "support.h"
#include "top/kmod_regions.h"
#include "top/netlink.h"

static __typeof__(mnl.socket_recvfrom) real_receive;

FIXTURE(netlink)
{
	struct netlink *netlink;
	struct thaw_error error;
};

FIXTURE_SETUP(netlink)
{
	if (netlink_open("nlctrl", 1, &self->netlink, &self->error))
		SKIP(return, "%s", self->error.text);
	real_receive = mnl.socket_recvfrom;
}

FIXTURE_TEARDOWN(netlink)
{
	if (real_receive)
		mnl.socket_recvfrom = real_receive;
	netlink_close(self->netlink);
}

/* ---- Who asks ---- */

struct families {
	unsigned count, controllers;
	int answer; /* what to return */
};

static int count_family(const struct nlmsghdr *message, void *argument)
{
	const struct nlattr *table[CTRL_ATTR_MAX + 1];
	struct families *families = argument;
	const char *name;

	netlink_attributes(message, table, CTRL_ATTR_MAX + 1);
	name = netlink_text(table[CTRL_ATTR_FAMILY_NAME]);
	families->count++;
	families->controllers += name && !strcmp(name, "nlctrl") &&
				 netlink_number(table[CTRL_ATTR_FAMILY_ID], 0) == GENL_ID_CTRL;
	return families->answer;
}

static int dump(struct netlink *netlink, struct families *families, struct thaw_error *error)
{
	int answer = families->answer;

	*families = (struct families){.answer = answer};
	return netlink_dump(netlink, netlink_prepare(netlink, CTRL_CMD_GETFAMILY), count_family,
			    families, error);
}

/* ---- What happens below ---- */

static unsigned calls;

static ssize_t interrupted_receive(const struct mnl_socket *socket, void *buffer, size_t bytes)
{
	if (calls++ % 2 == 0) {
		errno = EINTR;
		return -1;
	}
	return real_receive(socket, buffer, bytes);
}

/* The second part of the first answer is lost. */
static ssize_t lossy_receive(const struct mnl_socket *socket, void *buffer, size_t bytes)
{
	if (calls++ == 0) {
		errno = ENOBUFS;
		return -1;
	}
	return real_receive(socket, buffer, bytes);
}

static ssize_t changing_receive(const struct mnl_socket *socket, void *buffer, size_t bytes)
{
	ssize_t got = real_receive(socket, buffer, bytes);

	if (got > 0 && calls++ == 0)
		((struct nlmsghdr *)buffer)->nlmsg_flags |= NLM_F_DUMP_INTR;
	return got;
}

/* Instead of the answer: what a test has made, for the request that it answers. */
static _Alignas(struct nlmsghdr) char made[4096], made_next[64];
static bool made_taken;

static ssize_t made_receive(const struct mnl_socket *socket, void *buffer, size_t bytes)
{
	static struct nlmsghdr head;
	struct nlmsghdr *message = (void *)made;
	size_t copied;

	if (!made_taken) {
		real_receive(socket, buffer, bytes);
		memcpy(&head, buffer, sizeof(head));
		message->nlmsg_seq = head.nlmsg_seq;
		message->nlmsg_pid = head.nlmsg_pid;
		made_taken = true;
		copied = calls; /* how much of it comes */
		memcpy(buffer, made, copied);
		return (ssize_t)copied;
	}
	message = (void *)made_next;
	message->nlmsg_seq = head.nlmsg_seq;
	message->nlmsg_pid = head.nlmsg_pid;
	memcpy(buffer, made_next, message->nlmsg_len);
	return message->nlmsg_len;
}

/* ---- Tests ---- */

TEST_F(netlink, a_family_that_does_not_exist_is_named)
{
	struct netlink *other;

	EXPECT_EQ(-ENOENT, netlink_open("no_such_family", 1, &other, &self->error));
	EXPECT_EQ(NULL, other);
	EXPECT_NE(NULL, strstr(self->error.text, "'no_such_family'"));
	EXPECT_EQ(-ENOENT, self->error.code);
}

TEST_F(netlink, without_the_module_it_is_said_what_is_missing)
{
	struct kmod *kmod;
	int code = kmod_open(&kmod, &self->error);

	kmod_close(kmod);
	if (!code)
		SKIP(return, "the kernel module is loaded");
	EXPECT_EQ(-ENOENT, code);
	EXPECT_NE(NULL, strstr(self->error.text, "module thaw is not loaded"));
}

TEST_F(netlink, a_dump_is_whole)
{
	struct families families = {0};

	ASSERT_EQ(0, dump(self->netlink, &families, &self->error));
	EXPECT_EQ(1, families.controllers);
	EXPECT_LE(1, families.count);
}

TEST_F(netlink, signals_do_not_end_an_answer)
{
	struct families quiet = {0}, families = {0};

	ASSERT_EQ(0, dump(self->netlink, &quiet, &self->error));
	calls = 0;
	mnl.socket_recvfrom = interrupted_receive;
	ASSERT_EQ(0, dump(self->netlink, &families, &self->error));
	EXPECT_LE(2, calls);
	EXPECT_EQ(quiet.count, families.count);
}

TEST_F(netlink, a_dump_that_lost_a_part_is_not_taken_for_whole)
{
	struct families families = {0};
	struct thaw_error error;

	calls = 0;
	mnl.socket_recvfrom = lossy_receive;
	EXPECT_EQ(-EAGAIN, dump(self->netlink, &families, &error));
	EXPECT_NE(NULL, strstr(error.text, "try again"));
	/* What is still on its way to the old socket does not disturb. */
	ASSERT_EQ(0, dump(self->netlink, &families, &error));
	EXPECT_EQ(1, families.controllers);
}

TEST_F(netlink, a_dump_whose_list_changed_is_not_taken_for_whole)
{
	struct families families = {0};

	calls = 0;
	mnl.socket_recvfrom = changing_receive;
	EXPECT_EQ(-EAGAIN, dump(self->netlink, &families, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "changed"));
	EXPECT_EQ(0, dump(self->netlink, &families, &self->error));
	EXPECT_EQ(1, families.controllers);
}

TEST_F(netlink, who_wants_no_more_leaves_nothing_behind)
{
	struct families families = {.answer = -ECANCELED};

	EXPECT_EQ(-ECANCELED, dump(self->netlink, &families, &self->error));
	EXPECT_EQ(1, families.count);
	families.answer = 0;
	EXPECT_EQ(0, dump(self->netlink, &families, &self->error));
	EXPECT_EQ(1, families.controllers);
}

TEST_F(netlink, a_refusal_names_the_attribute)
{
	static const char *const names[] = {[CTRL_ATTR_FAMILY_NAME] = "family-name"};
	const struct netlink_names known = {names, sizeof(names) / sizeof(names[0])};
	struct nlmsghdr *request = netlink_prepare(self->netlink, CTRL_CMD_GETFAMILY);

	mnl.attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, "a name that no family can have");
	EXPECT_GT(0, netlink_request(self->netlink, request, &known, NULL, NULL, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "nlctrl"));
	EXPECT_NE(NULL, strstr(self->error.text, " family-name: "))
	{
		TH_LOG("%s", self->error.text);
	}
	/* And without names. */
	request = netlink_prepare(self->netlink, CTRL_CMD_GETFAMILY);
	mnl.attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, "a name that no family can have");
	EXPECT_GT(0, netlink_request(self->netlink, request, NULL, NULL, NULL, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, " attribute 2: "));
}

/* An answer as the kernel makes it for a number that is out of a policy's range. */
static size_t make_refusal(void)
{
	struct nlmsghdr *message = mnl.nlmsg_put_header(made);
	struct nlmsgerr *head = mnl.nlmsg_put_extra_header(message, sizeof(*head));
	struct nlattr *policy;

	message->nlmsg_type = NLMSG_ERROR;
	message->nlmsg_flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
	head->error = -ERANGE;
	mnl.attr_put_strz(message, NLMSGERR_ATTR_MSG, "integer out of range");
	mnl.attr_put_u32(message, NLMSGERR_ATTR_OFFS, NLMSG_HDRLEN + GENL_HDRLEN);
	policy = (struct nlattr *)(made + message->nlmsg_len);
	mnl.attr_put_strz(message, NLMSGERR_ATTR_POLICY | NLA_F_NESTED, "");
	message->nlmsg_len -= 4; /* the text; the header stays */
	mnl.attr_put_u64(message, NL_POLICY_TYPE_ATTR_MIN_VALUE_U, 65536);
	mnl.attr_put_u64(message, NL_POLICY_TYPE_ATTR_MAX_VALUE_U, 2097152);
	policy->nla_len = (uint16_t)(made + message->nlmsg_len - (char *)policy);
	return message->nlmsg_len;
}

static struct nlmsghdr *tunable_request(struct netlink *netlink)
{
	struct nlmsghdr *request = netlink_prepare(netlink, CTRL_CMD_GETFAMILY);

	mnl.attr_put_u32(request, THAW_NETLINK_TUNABLE_CLUSTER_BYTES, 1);
	return request;
}

TEST_F(netlink, a_refusal_tells_the_range)
{
	static const char *const names[] = {NULL, "cluster-bytes"};
	const struct netlink_names known = {names, 2};

	calls = (unsigned)make_refusal();
	made_taken = false;
	mnl.socket_recvfrom = made_receive;
	EXPECT_EQ(-ERANGE, netlink_request(self->netlink, tunable_request(self->netlink), &known,
					   NULL, NULL, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text,
			       " cluster-bytes: integer out of range (65536 to 2097152)"))
	{
		TH_LOG("%s", self->error.text);
	}
}

/* Where it is cut off, and with any byte of it another one: no crash, no hang, and an error. */
TEST_F(netlink, an_answer_that_makes_no_sense_is_survived)
{
	size_t whole = make_refusal();
	struct nlmsghdr *end = mnl.nlmsg_put_header(made_next);
	struct nlmsgerr *head = mnl.nlmsg_put_extra_header(end, sizeof(*head));

	end->nlmsg_type = NLMSG_ERROR;
	end->nlmsg_flags = NLM_F_CAPPED;
	head->error = -EDOM;
	mnl.socket_recvfrom = made_receive;
	for (size_t bytes = 1; bytes < whole; bytes++) {
		make_refusal();
		calls = (unsigned)bytes;
		made_taken = false;
		EXPECT_GT(0, netlink_request(self->netlink, tunable_request(self->netlink), NULL,
					     NULL, NULL, &self->error));
	}
	for (size_t at = 0; at < whole * 3; at++) {
		static const unsigned char values[] = {0, 1, 0xff};

		make_refusal();
		made[at / 3] = (char)values[at % 3];
		calls = (unsigned)whole;
		made_taken = false;
		netlink_request(self->netlink, tunable_request(self->netlink), NULL, NULL, NULL,
				&self->error);
		EXPECT_NE(NULL, memchr(self->error.text, '\0', sizeof(self->error.text)));
	}
}

TEST_F(netlink, a_group_is_joined_or_named)
{
	struct families families = {0};

	EXPECT_EQ(-ENOENT, netlink_join(self->netlink, "no_such_group", &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "'no_such_group'"));
	ASSERT_EQ(0, netlink_join(self->netlink, "notify", &self->error));
	EXPECT_EQ(0, netlink_receive(self->netlink, count_family, &families,
				     &self->error)); /* at once */
	calls = 0;
	mnl.socket_recvfrom = lossy_receive;
	EXPECT_EQ(-ENOBUFS, netlink_receive(self->netlink, count_family, &families, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "lost"));
	EXPECT_EQ(0, netlink_receive(self->netlink, count_family, &families, &self->error));
}

TEST(tunables_are_read_from_words)
{
	struct kmod_tunables tunables;
	struct thaw_error error;

	EXPECT_EQ(0, kmod_tunables_parse("cluster-bytes=131072", &tunables, &error));
	EXPECT_EQ(131072, tunables.cluster_bytes);
	EXPECT_EQ(0, tunables.ring_entries);
	EXPECT_EQ(0, kmod_tunables_parse("ring-entries=64,cluster-bytes=65536", &tunables, &error));
	EXPECT_EQ(65536, tunables.cluster_bytes);
	EXPECT_EQ(64, tunables.ring_entries);
	static const char *const wrong[] = {"",
					    "cluster-bytes",
					    "cluster-bytes=",
					    "cluster-bytes=0",
					    "cluster-bytes=-1",
					    "cluster-bytes=64k",
					    "cluster-bytes=4294967296",
					    "ring=64",
					    "ring-entries=64,",
					    "ring-entries=64,,cluster-bytes=65536"};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_EQ(-EINVAL, kmod_tunables_parse(wrong[i], &tunables, &error))
		{
			TH_LOG("'%s'", wrong[i]);
		}
		EXPECT_LT(0, strlen(error.text));
	}
}

TEST_HARNESS_MAIN
