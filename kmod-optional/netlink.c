// SPDX-License-Identifier: GPL-2.0-only
/*
 * netlink.c - the generic netlink family `thaw` (uffd/kmod_netlink.h, thaw.yaml): tells regions
 * and counters, takes tunables, sends events.
 *
 * Requests run in the process that asks, without a lock of this module: a region that is told is
 * held by its reference. Events come from wherever something happens, also under spinlocks: they
 * never sleep, and are lost rather than waited for. The family is not loaded by asking for it (no
 * MODULE_ALIAS_GENL_FAMILY): whether the module is there is the administrator's decision.
 *
 * What must never get out: regions, and so paths of images, of other users, or of processes
 * outside of the reader's pid namespace, to a reader without CAP_NET_ADMIN.
 */
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <net/genetlink.h>

#include "region.h"
#include "uffd/kmod_netlink.h"

/* A region's message without the path: 11 counters and 10 attributes, of 16 bytes at most. */
#define REGION_BYTES 1024
#define EVENT_BYTES 128

enum { GROUP_EVENTS };

static struct genl_family thaw_family;

/* ---- Who may see what ---- */

struct reader {
	bool everything;
	kuid_t uid;
	struct pid_namespace *pids;
	struct user_namespace *users;
};

/*
 * `request` is whose answer is wanted. A dump goes on in whoever reads the socket: the right to
 * see everything is that of the sender, of who opened the socket, and of who reads it now. The
 * user is the one who sent it, and not a program that was made to (its real uid).
 */
static struct reader reader_of(struct sk_buff *request)
{
	return (struct reader){
		.everything = netlink_capable(request, CAP_NET_ADMIN),
		.uid = NETLINK_CB(request).creds.uid,
		.pids = task_active_pid_ns(current),
		.users = current_user_ns(),
	};
}

static bool may_see(const struct reader *reader, const struct thaw_region *region)
{
	return reader->everything ||
	       (uid_eq(region->uid, reader->uid) && pid_nr_ns(region->owner, reader->pids));
}

/*
 * 0 where the process is not in the reader's namespace, or has ended: its number may be another
 * one's by now. A child may still have the region.
 */
static pid_t owner_of(const struct reader *reader, const struct thaw_region *region)
{
	return pid_has_task(region->owner, PIDTYPE_TGID) ?
		pid_nr_ns(region->owner, reader->pids) : 0;
}

/* ---- Regions ---- */

static int put_u64(struct sk_buff *skb, int type, u64 value)
{
	return nla_put_u64_64bit(skb, type, value, THAW_NETLINK_REGION_PAD);
}

static int put_counters(struct sk_buff *skb, const struct thaw_kmod_counters *counters)
{
	struct nlattr *nest = nla_nest_start(skb, THAW_NETLINK_REGION_COUNTERS);

	/* The same number as THAW_NETLINK_REGION_PAD, which put_u64() takes. */
	BUILD_BUG_ON((int)THAW_NETLINK_COUNTER_PAD != (int)THAW_NETLINK_REGION_PAD);
	if (!nest ||
	    put_u64(skb, THAW_NETLINK_COUNTER_FAULTS_SERVED, counters->faults_served) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_FAULTS_PASSED, counters->faults_passed) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_PAGES_RESTORED, counters->pages_restored) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_PAGES_POISONED, counters->pages_poisoned) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_BYTES_READ, counters->bytes_read) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_PAGES_DIRTIED, counters->pages_dirtied) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_HARVESTS, counters->harvests) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_PAGES_HARVESTED, counters->pages_harvested) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_OVERFLOWS, counters->overflows) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_READ_ERRORS, counters->read_errors) ||
	    put_u64(skb, THAW_NETLINK_COUNTER_RESIDENT_PAGES, counters->resident_pages))
		return -EMSGSIZE; /* the caller takes the whole message back */
	nla_nest_end(skb, nest);
	return 0;
}

/*
 * What REGISTER has set, if it was called. The path is as the reader sees it, and is left out where
 * it is too long. `room` has PATH_MAX bytes.
 */
static int put_registered(struct sk_buff *skb, struct thaw_region *region, char *room)
{
	char *path;

	if (!thaw_region_registered(region))
		return nla_put_u32(skb, THAW_NETLINK_REGION_PAGE_BYTES, 0) ||
		       put_u64(skb, THAW_NETLINK_REGION_RESTORED_BYTES, 0);
	if (nla_put_u32(skb, THAW_NETLINK_REGION_PAGE_BYTES, region->page_bytes) ||
	    put_u64(skb, THAW_NETLINK_REGION_RESTORED_BYTES, region->restored_bytes))
		return -EMSGSIZE;
	path = region->image ? file_path(region->image, room, PATH_MAX) : NULL;
	return IS_ERR_OR_NULL(path) ? 0 : nla_put_string(skb, THAW_NETLINK_REGION_IMAGE, path);
}

static int put_region(struct sk_buff *skb, const struct reader *reader, u32 portid, u32 seq,
		      int flags, struct thaw_region *region, char *room)
{
	struct thaw_kmod_counters counters;
	void *head = genlmsg_put(skb, portid, seq, &thaw_family, flags,
				 THAW_NETLINK_COMMAND_REGION_GET);

	if (!head)
		return -EMSGSIZE;
	memset(&counters, 0, sizeof(counters));
	thaw_region_counters(region, &counters);
	if (put_u64(skb, THAW_NETLINK_REGION_ID, region->id) ||
	    nla_put_u32(skb, THAW_NETLINK_REGION_OWNER_PID, owner_of(reader, region)) ||
	    nla_put_u32(skb, THAW_NETLINK_REGION_OWNER_UID,
			from_kuid_munged(reader->users, region->uid)) ||
	    nla_put_string(skb, THAW_NETLINK_REGION_OWNER_COMM, region->comm) ||
	    put_u64(skb, THAW_NETLINK_REGION_MAX_BYTES, region->max_bytes) ||
	    put_registered(skb, region, room) ||
	    put_u64(skb, THAW_NETLINK_REGION_RESIDENT_BYTES,
		    counters.resident_pages << PAGE_SHIFT) ||
	    put_counters(skb, &counters)) {
		genlmsg_cancel(skb, head);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, head);
	return 0;
}

static int region_get(struct sk_buff *request, struct genl_info *info)
{
	struct reader reader = reader_of(request);
	struct thaw_region *region;
	struct sk_buff *reply;
	char *room;
	u64 id;
	int err;

	if (GENL_REQ_ATTR_CHECK(info, THAW_NETLINK_REGION_ID)) {
		GENL_SET_ERR_MSG(info, "id: which region is missing (or ask for a dump)");
		return -EINVAL;
	}
	id = nla_get_u64(info->attrs[THAW_NETLINK_REGION_ID]);
	region = id ? thaw_region_next(id - 1) : NULL;
	if (!region || region->id != id || !may_see(&reader, region)) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[THAW_NETLINK_REGION_ID],
				    "there is no such region");
		err = -ENOENT;
		goto out_region;
	}
	err = -ENOMEM;
	room = kmalloc(PATH_MAX, GFP_KERNEL);
	reply = genlmsg_new(REGION_BYTES + PATH_MAX, GFP_KERNEL);
	if (!room || !reply)
		goto out_reply;
	err = put_region(reply, &reader, info->snd_portid, info->snd_seq, 0, region, room);
	if (!err) {
		err = genlmsg_reply(reply, info);
		reply = NULL;
	}
out_reply:
	nlmsg_free(reply);
	kfree(room);
out_region:
	if (region)
		thaw_region_put(region);
	return err;
}

/*
 * Ids only grow and are never used again: a region that lives from the start of a dump to its end
 * is told exactly once, whatever comes and goes meanwhile, so that no dump is ever interrupted
 * (NLM_F_DUMP_INTR).
 */
struct cursor {
	u64 told; /* the id of the last region that was told, or passed over */
};

static const struct nla_policy region_policy[] = {
	[THAW_NETLINK_REGION_ID] = { .type = NLA_U64 },
};

static int regions_start(struct netlink_callback *cb)
{
	struct nlattr *attributes[ARRAY_SIZE(region_policy)];
	int err = genlmsg_parse(cb->nlh, &thaw_family, attributes, ARRAY_SIZE(region_policy) - 1,
				region_policy, cb->extack);

	if (err)
		return err;
	if (attributes[THAW_NETLINK_REGION_ID]) {
		NL_SET_ERR_MSG_ATTR(cb->extack, attributes[THAW_NETLINK_REGION_ID],
				    "id: a dump tells every region");
		return -EINVAL;
	}
	BUILD_BUG_ON(sizeof(struct cursor) > sizeof(cb->ctx));
	/* Any one region fits. */
	cb->min_dump_alloc = NLMSG_ALIGN(REGION_BYTES + PATH_MAX + NLMSG_HDRLEN + GENL_HDRLEN);
	return 0;
}

static int regions_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader reader = reader_of(cb->skb);
	struct cursor *cursor = (struct cursor *)cb->ctx;
	struct thaw_region *region;
	char *room = kmalloc(PATH_MAX, GFP_KERNEL);
	int err = 0;

	if (!room)
		return -ENOMEM;
	while (!err && (region = thaw_region_next(cursor->told))) {
		if (may_see(&reader, region))
			err = put_region(skb, &reader, NETLINK_CB(cb->skb).portid,
					 cb->nlh->nlmsg_seq, NLM_F_MULTI, region, room);
		if (!err)
			cursor->told = region->id;
		thaw_region_put(region);
		cond_resched();
	}
	kfree(room);
	/* The rest comes with the next call, which is not made after an empty message. */
	return skb->len ? skb->len : err;
}

/* ---- Tunables ---- */

static int tunables_get(struct sk_buff *request, struct genl_info *info)
{
	struct sk_buff *reply = genlmsg_new(4 * nla_total_size(sizeof(u32)), GFP_KERNEL);
	void *head;

	if (!reply)
		return -ENOMEM;
	head = genlmsg_put_reply(reply, info, &thaw_family, 0, THAW_NETLINK_COMMAND_TUNABLES_GET);
	if (!head ||
	    nla_put_u32(reply, THAW_NETLINK_TUNABLE_CLUSTER_BYTES,
			READ_ONCE(thaw_tunables.cluster_bytes)) ||
	    nla_put_u32(reply, THAW_NETLINK_TUNABLE_RING_ENTRIES,
			READ_ONCE(thaw_tunables.ring_entries))) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	genlmsg_end(reply, head);
	return genlmsg_reply(reply, info);
}

/* Their ranges are in the policy. */
static int tunables_set(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *cluster = info->attrs[THAW_NETLINK_TUNABLE_CLUSTER_BYTES];
	struct nlattr *ring = info->attrs[THAW_NETLINK_TUNABLE_RING_ENTRIES];

	if (!cluster && !ring) {
		GENL_SET_ERR_MSG(info, "neither cluster-bytes nor ring-entries is given");
		return -EINVAL;
	}
	if (cluster && !is_power_of_2(nla_get_u32(cluster))) {
		NL_SET_ERR_MSG_ATTR(info->extack, cluster,
				    "cluster-bytes must be a power of two, 65536 to 2097152");
		return -EINVAL;
	}
	if (ring && !is_power_of_2(nla_get_u32(ring))) {
		NL_SET_ERR_MSG_ATTR(info->extack, ring,
				    "ring-entries must be a power of two, 64 to 1048576");
		return -EINVAL;
	}
	if (cluster)
		WRITE_ONCE(thaw_tunables.cluster_bytes, nla_get_u32(cluster));
	if (ring)
		WRITE_ONCE(thaw_tunables.ring_entries, nla_get_u32(ring));
	return 0;
}

/* ---- Events ---- */

static enum thaw_netlink_kind kind_of(enum thaw_event event)
{
	switch (event) {
	case THAW_EVENT_REGISTERED:
		return THAW_NETLINK_KIND_REGISTERED;
	case THAW_EVENT_GONE:
		return THAW_NETLINK_KIND_GONE;
	case THAW_EVENT_OVERFLOW:
		return THAW_NETLINK_KIND_OVERFLOW;
	case THAW_EVENT_READ_ERROR:
		return THAW_NETLINK_KIND_READ_ERROR;
	case THAW_EVENT_POISON:
		return THAW_NETLINK_KIND_POISON;
	}
	return THAW_NETLINK_KIND_END;
}

/*
 * Process context, or one that may hold spinlocks. To the first network namespace only: elsewhere
 * the group can be joined by who is root in a user namespace of his own.
 */
void thaw_event(struct thaw_region *region, enum thaw_event event, u64 page, int error)
{
	enum thaw_netlink_kind kind = kind_of(event);
	bool about_page = kind != THAW_NETLINK_KIND_REGISTERED && kind != THAW_NETLINK_KIND_GONE;
	struct sk_buff *skb;
	void *head;

	if (genl_has_listeners(&thaw_family, &init_net, GROUP_EVENTS) <= 0)
		return;
	skb = genlmsg_new(EVENT_BYTES, GFP_ATOMIC);
	if (!skb)
		goto lost;
	head = genlmsg_put(skb, 0, 0, &thaw_family, 0, THAW_NETLINK_COMMAND_EVENT);
	if (!head || nla_put_u32(skb, THAW_NETLINK_EVENT_KIND, kind) ||
	    nla_put_u64_64bit(skb, THAW_NETLINK_EVENT_REGION_ID, region->id,
			      THAW_NETLINK_EVENT_PAD) ||
	    nla_put_u32(skb, THAW_NETLINK_EVENT_OWNER_PID, pid_nr(region->owner)) ||
	    (about_page && nla_put_u64_64bit(skb, THAW_NETLINK_EVENT_PAGE, page,
					     THAW_NETLINK_EVENT_PAD)) ||
	    (kind == THAW_NETLINK_KIND_READ_ERROR &&
	     nla_put_u32(skb, THAW_NETLINK_EVENT_ERROR, -error))) {
		nlmsg_free(skb);
		goto lost;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast_netns(&thaw_family, &init_net, skb, 0, GROUP_EVENTS, GFP_ATOMIC);
	return;
lost:
	/* Those who listen are told by ENOBUFS, as where their own queue is full. */
	genl_set_err(&thaw_family, &init_net, 0, GROUP_EVENTS, -ENOBUFS);
}

/* ---- The family ---- */

/* Policies point to constant ranges since Linux 6.8 only. */
static struct netlink_range_validation cluster_range = {
	.min = THAW_NETLINK_CLUSTER_BYTES_MIN,
	.max = THAW_NETLINK_CLUSTER_BYTES_MAX,
};

static struct netlink_range_validation ring_range = {
	.min = THAW_NETLINK_RING_ENTRIES_MIN,
	.max = THAW_NETLINK_RING_ENTRIES_MAX,
};

static const struct nla_policy tunables_policy[] = {
	[THAW_NETLINK_TUNABLE_CLUSTER_BYTES] = NLA_POLICY_FULL_RANGE(NLA_U32, &cluster_range),
	[THAW_NETLINK_TUNABLE_RING_ENTRIES] = NLA_POLICY_FULL_RANGE(NLA_U32, &ring_range),
};

static const struct genl_ops thaw_ops[] = {
	{
		.cmd = THAW_NETLINK_COMMAND_REGION_GET,
		.doit = region_get,
		.start = regions_start,
		.dumpit = regions_dump,
		.policy = region_policy,
		.maxattr = ARRAY_SIZE(region_policy) - 1,
	},
	{
		.cmd = THAW_NETLINK_COMMAND_TUNABLES_GET,
		.doit = tunables_get,
	},
	{
		.cmd = THAW_NETLINK_COMMAND_TUNABLES_SET,
		.doit = tunables_set,
		.policy = tunables_policy,
		.maxattr = ARRAY_SIZE(tunables_policy) - 1,
		.flags = GENL_ADMIN_PERM,
	},
};

static const struct genl_multicast_group thaw_groups[] = {
	[GROUP_EVENTS] = {
		.name = THAW_NETLINK_GROUP_EVENTS,
		.flags = GENL_MCAST_CAP_NET_ADMIN,
	},
};

static struct genl_family thaw_family __ro_after_init = {
	.name = THAW_NETLINK_FAMILY,
	.version = THAW_NETLINK_VERSION,
	.module = THIS_MODULE,
	.netnsok = true,
	.parallel_ops = true,
	.ops = thaw_ops,
	.n_ops = ARRAY_SIZE(thaw_ops),
	.mcgrps = thaw_groups,
	.n_mcgrps = ARRAY_SIZE(thaw_groups),
};

int __init thaw_netlink_init(void)
{
	return genl_register_family(&thaw_family);
}

void thaw_netlink_exit(void)
{
	genl_unregister_family(&thaw_family);
}
