// SPDX-License-Identifier: MIT
/*
 * kmod_regions.c - reads regions, counters, tunables and events out of the messages of the family
 * `thaw` (uffd/kmod_netlink.h). Called by `thaw top`, on its thread. Never waits for anything but
 * the kernel's answers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/failure.h"
#include "base/format.h"
#include "kmod_netlink.h"
#include "top/kmod_regions.h"
#include "top/netlink.h"

#define DUMP_ATTEMPTS 10

struct kmod {
	struct netlink *netlink;
};

struct kmod_events {
	struct netlink *netlink;
	kmod_event_seen *seen;
	void *argument;
};

static const char *const region_names[] = {[THAW_NETLINK_REGION_ID] = "id"};
static const char *const tunable_names[] = {
	[THAW_NETLINK_TUNABLE_CLUSTER_BYTES] = "cluster-bytes",
	[THAW_NETLINK_TUNABLE_RING_ENTRIES] = "ring-entries",
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int open_family(struct netlink **netlink, struct thaw_error *error)
{
	int code = netlink_open(THAW_NETLINK_FAMILY, THAW_NETLINK_VERSION, netlink, error);

	/* Without libmnl the message is about that. */
	if (code == -ENOENT && mnl.socket_open2)
		failure(error, code,
			"the kernel module thaw is not loaded (there is no generic netlink family "
			"'%s'): build it with make kmod, and load it with insmod or modprobe",
			THAW_NETLINK_FAMILY);
	return code;
}

int kmod_open(struct kmod **result, struct thaw_error *error)
{
	struct kmod *kmod = calloc(1, sizeof(*kmod));
	int code;

	*result = NULL;
	if (!kmod)
		return failure(error, -ENOMEM, "no memory to ask the kernel module");
	code = open_family(&kmod->netlink, error);
	if (code)
		free(kmod);
	else
		*result = kmod;
	return code;
}

void kmod_close(struct kmod *kmod)
{
	if (!kmod)
		return;
	netlink_close(kmod->netlink);
	free(kmod);
}

/* ---- Regions ---- */

static void take_counters(const struct nlattr *nest, struct thaw_kmod_counters *counters)
{
	const struct nlattr *table[THAW_NETLINK_COUNTER_END];

	netlink_nested(nest, table, THAW_NETLINK_COUNTER_END);
#define TAKE(field, name) counters->field = netlink_number(table[THAW_NETLINK_COUNTER_##name], 0)
	TAKE(faults_served, FAULTS_SERVED);
	TAKE(faults_passed, FAULTS_PASSED);
	TAKE(pages_restored, PAGES_RESTORED);
	TAKE(pages_poisoned, PAGES_POISONED);
	TAKE(bytes_read, BYTES_READ);
	TAKE(pages_dirtied, PAGES_DIRTIED);
	TAKE(harvests, HARVESTS);
	TAKE(pages_harvested, PAGES_HARVESTED);
	TAKE(overflows, OVERFLOWS);
	TAKE(read_errors, READ_ERRORS);
	TAKE(resident_pages, RESIDENT_PAGES);
#undef TAKE
}

/* 0, -EPROTO, -ENOMEM. */
static int take_region(const struct nlmsghdr *message, struct kmod_region *region)
{
	const struct nlattr *table[THAW_NETLINK_REGION_END];
	const char *comm, *image;

	netlink_attributes(message, table, THAW_NETLINK_REGION_END);
	if (!table[THAW_NETLINK_REGION_ID])
		return -EPROTO;
#define NUMBER(name) netlink_number(table[THAW_NETLINK_REGION_##name], 0)
	*region = (struct kmod_region){
		.id = NUMBER(ID),
		.pid = (pid_t)NUMBER(OWNER_PID),
		.uid = (uid_t)NUMBER(OWNER_UID),
		.page_bytes = (uint32_t)NUMBER(PAGE_BYTES),
		.max_bytes = NUMBER(MAX_BYTES),
		.restored_bytes = NUMBER(RESTORED_BYTES),
		.resident_bytes = NUMBER(RESIDENT_BYTES),
	};
#undef NUMBER
	take_counters(table[THAW_NETLINK_REGION_COUNTERS], &region->counters);
	comm = netlink_text(table[THAW_NETLINK_REGION_OWNER_COMM]);
	snprintf(region->comm, sizeof(region->comm), "%s", comm ? comm : "");
	image = netlink_text(table[THAW_NETLINK_REGION_IMAGE]);
	region->image = image ? strdup(image) : NULL;
	return image && !region->image ? -ENOMEM : 0;
}

static int told(int code, struct thaw_error *error)
{
	if (code == -ENOMEM)
		return failure(error, code, "no memory for the kernel module's list of regions");
	if (code == -EPROTO)
		return failure(error, code,
			       "the kernel module's answer cannot be understood: it is of another "
			       "version than this program");
	return code;
}

struct growing {
	struct kmod_regions *regions;
	size_t room;
};

static int add_region(const struct nlmsghdr *message, void *argument)
{
	struct growing *growing = argument;
	struct kmod_regions *regions = growing->regions;
	struct kmod_region *list =
		array_grow(regions->list, regions->count, &growing->room, sizeof(*list));
	int code;

	if (!list)
		return -ENOMEM;
	regions->list = list;
	code = take_region(message, &list[regions->count]);
	if (!code)
		regions->count++;
	return code;
}

void kmod_regions_free(struct kmod_regions *regions)
{
	for (size_t i = 0; i < regions->count; i++)
		free(regions->list[i].image);
	free(regions->list);
	*regions = (struct kmod_regions){0};
}

int kmod_regions_read(struct kmod *kmod, struct kmod_regions *regions, struct thaw_error *error)
{
	int code = -EAGAIN;

	for (unsigned i = 0; i < DUMP_ATTEMPTS && code == -EAGAIN; i++) {
		struct growing growing = {.regions = regions};

		kmod_regions_free(regions);
		code = netlink_dump(kmod->netlink,
				    netlink_prepare(kmod->netlink, THAW_NETLINK_COMMAND_REGION_GET),
				    add_region, &growing, error);
	}
	if (code)
		kmod_regions_free(regions);
	return told(code, error);
}

static int one_region(const struct nlmsghdr *message, void *argument)
{
	struct kmod_region *region = argument;

	free(region->image);
	return take_region(message, region);
}

int kmod_region_read(struct kmod *kmod, uint64_t id, struct kmod_region *region,
		     struct thaw_error *error)
{
	const struct netlink_names names = {region_names, COUNT(region_names)};
	struct nlmsghdr *request = netlink_prepare(kmod->netlink, THAW_NETLINK_COMMAND_REGION_GET);
	int code;

	*region = (struct kmod_region){0};
	mnl.attr_put_u64(request, THAW_NETLINK_REGION_ID, id);
	code = netlink_request(kmod->netlink, request, &names, one_region, region, error);
	if (code) {
		free(region->image);
		region->image = NULL;
	}
	return told(code, error);
}

/* ---- Tunables ---- */

static int take_tunables(const struct nlmsghdr *message, void *argument)
{
	const struct nlattr *table[THAW_NETLINK_TUNABLE_END];
	struct kmod_tunables *tunables = argument;

	netlink_attributes(message, table, THAW_NETLINK_TUNABLE_END);
	tunables->cluster_bytes =
		(uint32_t)netlink_number(table[THAW_NETLINK_TUNABLE_CLUSTER_BYTES], 0);
	tunables->ring_entries =
		(uint32_t)netlink_number(table[THAW_NETLINK_TUNABLE_RING_ENTRIES], 0);
	return tunables->cluster_bytes && tunables->ring_entries ? 0 : -EPROTO;
}

int kmod_tunables_read(struct kmod *kmod, struct kmod_tunables *tunables, struct thaw_error *error)
{
	*tunables = (struct kmod_tunables){0};
	return told(
		netlink_request(kmod->netlink,
				netlink_prepare(kmod->netlink, THAW_NETLINK_COMMAND_TUNABLES_GET),
				NULL, take_tunables, tunables, error),
		error);
}

int kmod_tunables_set(struct kmod *kmod, const struct kmod_tunables *tunables,
		      struct thaw_error *error)
{
	const struct netlink_names names = {tunable_names, COUNT(tunable_names)};
	struct nlmsghdr *request =
		netlink_prepare(kmod->netlink, THAW_NETLINK_COMMAND_TUNABLES_SET);

	if (tunables->cluster_bytes)
		mnl.attr_put_u32(request, THAW_NETLINK_TUNABLE_CLUSTER_BYTES,
				 tunables->cluster_bytes);
	if (tunables->ring_entries)
		mnl.attr_put_u32(request, THAW_NETLINK_TUNABLE_RING_ENTRIES,
				 tunables->ring_entries);
	return netlink_request(kmod->netlink, request, &names, NULL, NULL, error);
}

/* One "name=value", which it may change. */
static int parse_tunable(char *word, struct kmod_tunables *tunables, struct thaw_error *error)
{
	char *equals = strchr(word, '=');
	uint64_t value;
	uint32_t *to;

	if (equals)
		*equals = '\0';
	to = !strcmp(word, "cluster-bytes")  ? &tunables->cluster_bytes
	     : !strcmp(word, "ring-entries") ? &tunables->ring_entries
					     : NULL;
	if (!to || !equals)
		return failure(error, -EINVAL,
			       "'%s' is no tunable with a value: the kernel module has "
			       "cluster-bytes=BYTES and ring-entries=NUMBER",
			       word);
	if (!parse_number(equals + 1, &value) || !value || value > UINT32_MAX)
		return failure(error, -EINVAL,
			       "'%s' is no value for %s: a number from 1 to 4294967295 is wanted",
			       equals + 1, word);
	*to = (uint32_t)value;
	return 0;
}

int kmod_tunables_parse(const char *text, struct kmod_tunables *tunables, struct thaw_error *error)
{
	char *copy = strdup(text), *rest = copy, *word;
	int code = 0;

	*tunables = (struct kmod_tunables){0};
	if (!copy)
		return failure(error, -ENOMEM, "no memory for an option");
	while (!code && (word = strsep(&rest, ",")))
		code = parse_tunable(word, tunables, error);
	free(copy);
	return code;
}

/* ---- Events ---- */

int kmod_events_open(struct kmod_events **result, struct thaw_error *error)
{
	struct kmod_events *events = calloc(1, sizeof(*events));
	int code;

	*result = NULL;
	if (!events)
		return failure(error, -ENOMEM, "no memory to listen to the kernel module");
	code = open_family(&events->netlink, error);
	if (!code)
		code = netlink_join(events->netlink, THAW_NETLINK_GROUP_EVENTS, error);
	if (code)
		kmod_events_close(events);
	else
		*result = events;
	return code;
}

int kmod_events_descriptor(const struct kmod_events *events)
{
	return netlink_descriptor(events->netlink);
}

static int take_event(const struct nlmsghdr *message, void *argument)
{
	/* In the order of enum kmod_event_kind. */
	_Static_assert((int)KMOD_EVENT_REGISTERED == THAW_NETLINK_KIND_REGISTERED &&
			       (int)KMOD_EVENT_POISON == THAW_NETLINK_KIND_POISON &&
			       (int)KMOD_EVENT_POISON + 1 == THAW_NETLINK_KIND_END,
		       "the same kinds");
	const struct nlattr *table[THAW_NETLINK_EVENT_END];
	struct kmod_events *events = argument;
	struct kmod_event event;
	uint64_t kind;

	netlink_attributes(message, table, THAW_NETLINK_EVENT_END);
	kind = netlink_number(table[THAW_NETLINK_EVENT_KIND], THAW_NETLINK_KIND_END);
	if (kind >= THAW_NETLINK_KIND_END)
		return 0; /* of a newer module */
	event = (struct kmod_event){
		.kind = (enum kmod_event_kind)kind,
		.region = netlink_number(table[THAW_NETLINK_EVENT_REGION_ID], 0),
		.pid = (pid_t)netlink_number(table[THAW_NETLINK_EVENT_OWNER_PID], 0),
		.page = netlink_number(table[THAW_NETLINK_EVENT_PAGE], 0),
		.error = (int)netlink_number(table[THAW_NETLINK_EVENT_ERROR], 0),
	};
	events->seen(&event, events->argument);
	return 0;
}

int kmod_events_read(struct kmod_events *events, kmod_event_seen *seen, void *argument,
		     struct thaw_error *error)
{
	events->seen = seen;
	events->argument = argument;
	return netlink_receive(events->netlink, take_event, events, error);
}

void kmod_events_close(struct kmod_events *events)
{
	if (!events)
		return;
	netlink_close(events->netlink);
	free(events);
}
