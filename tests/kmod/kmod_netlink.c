// SPDX-License-Identifier: GPL-2.0-only
/*
 * kmod_netlink.c - the kernel module's family of generic netlink, as `thaw top` asks it: regions
 * and counters in dumps, also while regions come and go; who may see what; tunables and their
 * refusals; events, in their order, and lost ones.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <grp.h>
#include <sched.h>
#include <sys/resource.h>

#include "device.h"
#include "kmod_netlink.h"
#include "top/kmod_regions.h"
#include "top/netlink.h"

#define PAGE 4096u
#define USER 65534

FIXTURE(module)
{
	char *directory;
	struct kmod *kmod;
	struct kmod_regions regions;
	struct kmod_tunables before;
	struct kmod_events *events;
	struct thaw_error error;
};

FIXTURE_SETUP(module)
{
	NEEDS_DEVICE();
	self->directory = support_directory();
	ASSERT_EQ(0, kmod_open(&self->kmod, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &self->before, &self->error));
}

FIXTURE_TEARDOWN(module)
{
	if (self->before.cluster_bytes)
		kmod_tunables_set(self->kmod, &self->before, &self->error);
	kmod_regions_free(&self->regions);
	kmod_events_close(self->events);
	kmod_close(self->kmod);
	if (self->directory)
		support_remove(self->directory);
}

/* Those of a process in the list; the first of them. */
static unsigned of_process(const struct kmod_regions *regions, pid_t pid,
			   const struct kmod_region **first)
{
	unsigned count = 0;

	for (size_t i = 0; i < regions->count; i++)
		if (regions->list[i].pid == pid && !count++ && first)
			*first = &regions->list[i];
	return count;
}

/* ---- Regions ---- */

TEST_F(module, a_region_is_told_from_its_making_to_its_end)
{
	const struct kmod_region *region = NULL;
	struct kmod_region one;
	struct device device;
	struct source source;
	char own[16] = "";
	uint64_t id;

	prctl(PR_GET_NAME, own);
	source_make(&source, self->directory, PAGE, 64, 0);
	device = (struct device){.fd = device_open(0)};
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	EXPECT_EQ(0, of_process(&self->regions, getpid(), NULL));

	ASSERT_EQ(0, device_create(device.fd, 1u << 20));
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	EXPECT_EQ(getuid(), region->uid);
	EXPECT_STREQ(own, region->comm);
	EXPECT_EQ(1u << 20, region->max_bytes);
	EXPECT_EQ(0, region->page_bytes);
	EXPECT_EQ(NULL, region->image);
	id = region->id;
	close(device.fd);

	device_restore(&device, &source, 1u << 20);
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	EXPECT_LT(id, region->id);
	id = region->id;
	EXPECT_EQ(PAGE, region->page_bytes);
	EXPECT_EQ(64 * PAGE, region->restored_bytes);
	EXPECT_EQ(64 * PAGE + (1u << 20), region->max_bytes);
	EXPECT_EQ(0, region->resident_bytes);
	EXPECT_STREQ(source.path, region->image);
	EXPECT_EQ(0, region->counters.faults_served);

	/* Counters are those that the descriptor tells. */
	for (unsigned i = 0; i < 64; i++)
		((volatile char *)device.base)[i * PAGE]++;
	struct thaw_kmod_counters right = device_counters(&device);

	ASSERT_EQ(0, kmod_region_read(self->kmod, id, &one, &self->error));
	EXPECT_LT(0, right.faults_served);
	EXPECT_EQ(64, right.pages_dirtied);
	EXPECT_EQ(0, memcmp(&right, &one.counters, sizeof(right)));
	EXPECT_EQ(right.resident_pages * KERNEL_PAGE, one.resident_bytes);
	EXPECT_LE(64 * PAGE, one.resident_bytes);
	EXPECT_STREQ(source.path, one.image);
	free(one.image);

	device_stop(&device);
	EXPECT_EQ(-ENOENT, kmod_region_read(self->kmod, id, &one, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, " id: there is no such region"))
	{
		TH_LOG("%s", self->error.text);
	}
	EXPECT_EQ(-ENOENT, kmod_region_read(self->kmod, 0, &one, &self->error));
	EXPECT_EQ(-ENOENT, kmod_region_read(self->kmod, UINT64_MAX, &one, &self->error));
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	EXPECT_EQ(0, of_process(&self->regions, getpid(), NULL));
	source_free(&source);
}

/* A path as long as they can be fits into a message; so does one whose file is gone. */
TEST_F(module, paths_of_any_length_are_told)
{
	char name[201], *at = self->directory, *next;
	struct source source;
	struct device device;
	const struct kmod_region *region = NULL;
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	memset(name, 'n', 200);
	name[200] = '\0';
	at = strdup(at);
	ASSERT_EQ(0, chdir(at));
	for (unsigned i = 0; i < 19; i++) { /* 3,800 bytes and more */
		ASSERT_EQ(0, mkdir(name, 0700));
		ASSERT_EQ(0, chdir(name));
		next = support_format("%s/%s", at, name);
		free(at);
		at = next;
	}
	source_make(&source, ".", PAGE, 16, 0);
	device_restore(&device, &source, 1u << 20);
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	next = support_format("%s/%s", at, source.path + 2);
	EXPECT_LT(3800, strlen(next));
	EXPECT_STREQ(next, region->image);
	unlink(source.path);
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	EXPECT_EQ(0, strncmp(next, region->image, strlen(next)));
	EXPECT_STREQ(" (deleted)", region->image + strlen(next));
	device_stop(&device);
	source_free(&source);
	ASSERT_EQ(0, fchdir(home));
	close(home);
	free(next);
	free(at);
}

#define STEADY 200u

static atomic_bool stop;

static void *come_and_go(void *argument)
{
	(void)argument;
	while (!stop) {
		int fd = device_open(0);

		if (device_create(fd, 65536))
			support_die("THAW_KMOD_CREATE");
		close(fd);
	}
	return NULL;
}

TEST_F(module, a_dump_has_each_region_that_stays_exactly_once)
{
	unsigned dumps = test_patience() > 1 ? 20 : 200;
	uint64_t ids[STEADY];
	int fds[STEADY];
	pthread_t thread;

	for (unsigned i = 0; i < STEADY; i++) {
		fds[i] = device_open(0);
		ASSERT_EQ(0, device_create(fds[i], 65536 * (i + 1)));
	}
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(STEADY, of_process(&self->regions, getpid(), NULL));
	for (unsigned i = 0, at = 0; i < self->regions.count; i++)
		if (self->regions.list[i].pid == getpid())
			ids[at++] = self->regions.list[i].id;
	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, come_and_go, NULL));
	for (unsigned i = 0; i < dumps; i++) {
		unsigned found = 0;
		uint64_t last = 0;

		ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
		for (unsigned j = 0; j < self->regions.count; j++) {
			EXPECT_LT(last, self->regions.list[j].id);
			last = self->regions.list[j].id;
			if (found < STEADY && last == ids[found])
				found++;
		}
		EXPECT_EQ(STEADY, found);
	}
	stop = true;
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < STEADY; i++)
		close(fds[i]);
}

/* ---- Who may see what ---- */

/* What as_user() returns where nothing can be tested. */
#define NO_USER 100
#define NO_NAMESPACE 102

/* Runs this as an ordinary user, in a process of its own. Returns what it does. */
static int as_user(int (*what)(void *argument), void *argument, int namespaces)
{
	pid_t child = fork();
	int status = 0;

	if (!child) {
		if (namespaces && unshare(namespaces))
			_exit(NO_NAMESPACE);
		if (setgroups(0, NULL) || setresgid(USER, USER, USER) ||
		    setresuid(USER, USER, USER))
			_exit(NO_USER);
		if (namespaces) { /* the new pid namespace is the children's */
			child = fork();
			if (!child)
				_exit(what(argument));
			waitpid(child, &status, 0);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 101);
		}
		_exit(what(argument));
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

struct other {
	int fd;	     /* not created yet */
	uint64_t id; /* of the first user's region */
	pid_t parent;
};

static int look_as_other(void *argument)
{
	struct other *other = argument;
	struct kmod_regions regions = {0};
	struct kmod_region one;
	struct thaw_error error;
	struct kmod *kmod;

	if (kmod_open(&kmod, &error) || kmod_regions_read(kmod, &regions, &error))
		return 1;
	if (regions.count)
		return 2;
	if (kmod_region_read(kmod, other->id, &one, &error) != -ENOENT)
		return 3;
	/* The same words as for one that is not there. */
	if (!strstr(error.text, "there is no such region"))
		return 4;
	if (device_create(other->fd, 65536) || kmod_regions_read(kmod, &regions, &error))
		return 5;
	if (regions.count != 1 || regions.list[0].pid != getpid() || regions.list[0].uid != USER)
		return 6;
	if (kmod_region_read(kmod, regions.list[0].id, &one, &error) || one.pid != getpid())
		return 7;
	free(one.image);
	kmod_regions_free(&regions);
	kmod_close(kmod);
	return 0;
}

TEST_F(module, another_user_sees_his_own_only)
{
	const struct kmod_region *region = NULL;
	struct other other = {.fd = device_open(0)};
	struct device device;
	struct source source;
	int result;

	if (geteuid())
		SKIP(close(other.fd); return, "only root sees the regions of others");
	source_make(&source, self->directory, PAGE, 16, 0);
	device_restore(&device, &source, 1u << 20);
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	other.id = region->id;
	result = as_user(look_as_other, &other, 0);
	if (result == NO_USER)
		SKIP(goto out, "this process cannot become an ordinary user");
	EXPECT_EQ(0, result);
	/* And the first one sees the other's, which is still there. */
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	result = 0;
	for (size_t i = 0; i < self->regions.count; i++)
		result += self->regions.list[i].uid == USER;
	EXPECT_EQ(1, result);
out:
	device_stop(&device);
	close(other.fd);
	source_free(&source);
}

/* Its user has a region, but its process is elsewhere. */
static int look_from_inside(void *argument)
{
	struct kmod_regions regions = {0};
	struct thaw_error error;
	struct kmod *kmod;
	int code;

	(void)argument;
	code = kmod_open(&kmod, &error) || kmod_regions_read(kmod, &regions, &error) ? 1
	       : regions.count							     ? 2
										     : 0;
	kmod_close(kmod);
	return code;
}

static int create_one(void *argument)
{
	return device_create(((struct other *)argument)->fd, 65536) ? 1 : 0;
}

TEST_F(module, a_pid_namespace_has_no_regions_of_outside)
{
	struct other other = {.fd = device_open(0)};
	int result;

	result = geteuid() ? NO_USER : as_user(create_one, &other, 0);
	if (result == NO_USER)
		SKIP(close(other.fd); return, "this process cannot become an ordinary user");
	ASSERT_EQ(0, result);
	result = as_user(look_from_inside, NULL, CLONE_NEWPID);
	if (result == NO_NAMESPACE)
		SKIP(close(other.fd); return, "no pid namespace can be made here");
	EXPECT_EQ(0, result);
	/* The same user outside does see it, though its process has ended. */
	EXPECT_EQ(2, as_user(look_from_inside, NULL, 0));
	close(other.fd);
}

/* ---- Tunables ---- */

TEST_F(module, tunables_are_set_and_told)
{
	struct kmod_tunables tunables = {.cluster_bytes = 131072}, now;
	struct device device;
	struct source source;

	ASSERT_EQ(0, kmod_tunables_set(self->kmod, &tunables, &self->error));
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &now, &self->error));
	EXPECT_EQ(131072, now.cluster_bytes);
	EXPECT_EQ(self->before.ring_entries, now.ring_entries);
	tunables = (struct kmod_tunables){.ring_entries = 128};
	ASSERT_EQ(0, kmod_tunables_set(self->kmod, &tunables, &self->error));
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &now, &self->error));
	EXPECT_EQ(131072, now.cluster_bytes);
	EXPECT_EQ(128, now.ring_entries);

	/* A region that does not say how large its ring is has that many. */
	source_make(&source, self->directory, PAGE, 16, 0);
	device = (struct device){.fd = device_open(0)};
	ASSERT_EQ(0, device_create(device.fd, 1u << 20));
	ASSERT_EQ(0, device_register(device.fd, PAGE, 0, 16 * PAGE, source.fd));
	device.ring = mmap(NULL, device_ring_bytes(128), PROT_READ | PROT_WRITE, MAP_SHARED,
			   device.fd, (off_t)THAW_KMOD_RING_OFFSET);
	ASSERT_NE(MAP_FAILED, device.ring);
	EXPECT_EQ(128, device.ring->entries);
	munmap(device.ring, device_ring_bytes(128));
	close(device.fd);
	source_free(&source);
}

TEST_F(module, what_is_out_of_range_is_refused_with_the_range)
{
	static const struct {
		struct kmod_tunables tunables;
		int code;
		const char *text;
	} wrong[] = {
		{{.cluster_bytes = 4096}, -ERANGE, " cluster-bytes: "},
		{{.cluster_bytes = 4096}, -ERANGE, "(65536 to 2097152)"},
		{{.cluster_bytes = 4u << 20}, -ERANGE, "(65536 to 2097152)"},
		{{.cluster_bytes = 98304},
		 -EINVAL,
		 " cluster-bytes: cluster-bytes must be a power of two"},
		{{.ring_entries = 32}, -ERANGE, " ring-entries: "},
		{{.ring_entries = UINT32_MAX}, -ERANGE, "(64 to 1048576)"},
		{{.ring_entries = 65}, -EINVAL, "ring-entries must be a power of two"},
		{{0}, -EINVAL, "neither cluster-bytes nor ring-entries"},
		/* Nothing of a request is done if a part of it is wrong. */
		{{.cluster_bytes = 131072, .ring_entries = 65}, -EINVAL, "ring-entries"},
	};
	struct kmod_tunables now;

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_EQ(wrong[i].code,
			  kmod_tunables_set(self->kmod, &wrong[i].tunables, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, wrong[i].text))
		{
			TH_LOG("%s", self->error.text);
		}
	}
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &now, &self->error));
	EXPECT_EQ(self->before.cluster_bytes, now.cluster_bytes);
	EXPECT_EQ(self->before.ring_entries, now.ring_entries);
}

/* Attributes that a request has not, too short ones, a dump of one: refused, each with words. */
TEST_F(module, requests_are_read_strictly)
{
	static const struct {
		uint8_t command;
		uint16_t type;
		bool dump;
		unsigned bytes;
	} wrong[] = {
		{THAW_NETLINK_COMMAND_REGION_GET, 0, false, 0}, /* no id */
		{THAW_NETLINK_COMMAND_REGION_GET, THAW_NETLINK_REGION_ID, false, 4},
		{THAW_NETLINK_COMMAND_REGION_GET, THAW_NETLINK_REGION_PAD, false, 8},
		{THAW_NETLINK_COMMAND_REGION_GET, THAW_NETLINK_REGION_IMAGE, false, 8},
		{THAW_NETLINK_COMMAND_REGION_GET, THAW_NETLINK_REGION_ID, true, 8},
		{THAW_NETLINK_COMMAND_REGION_GET, THAW_NETLINK_REGION_IMAGE, true, 8},
		{THAW_NETLINK_COMMAND_TUNABLES_GET, THAW_NETLINK_TUNABLE_RING_ENTRIES, false, 4},
		{THAW_NETLINK_COMMAND_TUNABLES_GET, 0, true, 0},
		{THAW_NETLINK_COMMAND_TUNABLES_SET, 3, false, 4},
		{THAW_NETLINK_COMMAND_TUNABLES_SET, THAW_NETLINK_TUNABLE_RING_ENTRIES, false, 8},
		{THAW_NETLINK_COMMAND_EVENT, 0, false, 0},
		{77, 0, false, 0},
	};
	struct netlink *netlink;

	ASSERT_EQ(0, netlink_open(THAW_NETLINK_FAMILY, 1, &netlink, &self->error));
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct nlmsghdr *request = netlink_prepare(netlink, wrong[i].command);
		int code;

		if (wrong[i].bytes == 4)
			mnl.attr_put_u32(request, wrong[i].type, 128);
		else if (wrong[i].bytes)
			mnl.attr_put_u64(request, wrong[i].type, 128);
		code = wrong[i].dump
			       ? netlink_dump(netlink, request, NULL, NULL, &self->error)
			       : netlink_request(netlink, request, NULL, NULL, NULL, &self->error);
		EXPECT_GT(0, code)
		{
			TH_LOG("request %u", i);
		}
		EXPECT_NE(-ENOENT, code);
		EXPECT_NE(NULL, strstr(self->error.text, "refuses"));
	}
	netlink_close(netlink);
}

static int set_as_other(void *argument)
{
	struct kmod_tunables tunables = {.cluster_bytes = 131072}, now;
	struct kmod_events *events;
	struct thaw_error error;
	struct kmod *kmod;

	(void)argument;
	if (kmod_open(&kmod, &error) || kmod_tunables_read(kmod, &now, &error))
		return 1;
	if (kmod_tunables_set(kmod, &tunables, &error) != -EPERM ||
	    !strstr(error.text, "CAP_NET_ADMIN"))
		return 2;
	if (kmod_events_open(&events, &error) != -EPERM || !strstr(error.text, "CAP_NET_ADMIN"))
		return 3;
	kmod_close(kmod);
	return 0;
}

TEST_F(module, an_ordinary_user_sets_nothing_and_hears_nothing)
{
	int result = geteuid() ? set_as_other(NULL) : as_user(set_as_other, NULL, 0);

	if (result == NO_USER)
		SKIP(return, "this process cannot become an ordinary user");
	EXPECT_EQ(0, result);
}

/* ---- Events ---- */

static void count_event(const struct kmod_event *event, void *argument)
{
	(void)event;
	++*(unsigned *)argument;
}

/* Who is root in namespaces of his own may join the group, and nothing comes. */
static int listen_as_namespace_root(void *argument)
{
	struct kmod_tunables tunables = {.cluster_bytes = 131072};
	struct kmod_regions regions = {0};
	struct other *other = argument;
	struct kmod_events *events;
	struct thaw_error error;
	unsigned count = 0;
	struct kmod *kmod;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return NO_NAMESPACE;
	if (kmod_open(&kmod, &error) || kmod_regions_read(kmod, &regions, &error))
		return 1;
	if (regions.count)
		return 2;
	if (kmod_tunables_set(kmod, &tunables, &error) != -EPERM)
		return 3;
	if (kmod_events_open(&events, &error))
		return 4;
	/* The event is with all who get it when the call returns. */
	if (device_create(other->fd, 1u << 20) || device_register(other->fd, PAGE, 64, PAGE, -1))
		return 5;
	if (kmod_events_read(events, count_event, &count, &error) || count)
		return 6;
	/* His own region is told in here, too. */
	if (kmod_regions_read(kmod, &regions, &error) || regions.count != 1)
		return 7;
	kmod_regions_free(&regions);
	kmod_events_close(events);
	kmod_close(kmod);
	return 0;
}

TEST_F(module, root_of_a_namespace_sees_what_its_user_sees)
{
	struct other other = {.fd = device_open(0)};
	int mine = device_open(0), result;
	unsigned count = 0;

	ASSERT_EQ(0, device_create(mine, 65536));
	if (kmod_events_open(&self->events, &self->error))
		SKIP(goto out, "%s", self->error.text);
	result = as_user(listen_as_namespace_root, &other, 0);
	if (result == NO_USER || result == NO_NAMESPACE)
		SKIP(goto out, "an ordinary user cannot make namespaces here");
	EXPECT_EQ(0, result);
	EXPECT_EQ(0, kmod_events_read(self->events, count_event, &count, &self->error));
	EXPECT_LT(0, count);
out:
	close(mine);
	close(other.fd);
}

struct heard {
	struct kmod_event events[64];
	unsigned count; /* of this process */
};

static void hear(const struct kmod_event *event, void *argument)
{
	struct heard *heard = argument;

	if (event->pid == getpid() && heard->count < 64)
		heard->events[heard->count++] = *event;
}

/* Until so many were heard. */
static void listen_for(struct kmod_events *events, struct heard *heard, unsigned wanted)
{
	double end = support_deadline(20);
	struct thaw_error error;

	while (heard->count < wanted && support_seconds() < end) {
		struct pollfd ready = {kmod_events_descriptor(events), POLLIN, 0};

		poll(&ready, 1, 100);
		if (kmod_events_read(events, hear, heard, &error)) {
			fprintf(stderr, "# %s\n", error.text);
			return;
		}
	}
}

#define EXPECT_EVENT(heard, i, what, of, which)         \
	EXPECT_EQ((what), (int)(heard).events[i].kind); \
	EXPECT_EQ((of), (heard).events[i].region);      \
	EXPECT_EQ((uint64_t)(which), (heard).events[i].page)

TEST_F(module, events_come_in_their_order)
{
	const struct kmod_region *region = NULL;
	struct thaw_kmod_request request;
	struct heard heard = {0};
	struct device device;
	struct source source;
	uint64_t id;

	if (kmod_events_open(&self->events, &self->error))
		SKIP(return, "%s", self->error.text);
	source_make(&source, self->directory, PAGE, 32, 0);
	/* A page whose checksum is wrong, and one that nobody wants any more. */
	source.extents[0] = source.extents[1];
	source.extents[0].checksum[0] ^= 1;
	source.extents[0].encoding = THAW_KMOD_RAW;
	device_start(&device, 32 * PAGE + (1u << 20), PAGE, 64, 32 * PAGE, source.fd);
	listen_for(self->events, &heard, 1);
	ASSERT_EQ(1, heard.count);
	ASSERT_EQ(0, kmod_regions_read(self->kmod, &self->regions, &self->error));
	ASSERT_EQ(1, of_process(&self->regions, getpid(), &region));
	id = region->id;
	EXPECT_EVENT(heard, 0, KMOD_EVENT_REGISTERED, id, 0);

	/* 65 pages for 64 entries, and some more, of which nobody is told again. */
	for (unsigned i = 0; i < 70; i++)
		((volatile char *)device.base)[(32 + i) * PAGE]++;
	listen_for(self->events, &heard, 2);
	ASSERT_EQ(2, heard.count);
	EXPECT_EVENT(heard, 1, KMOD_EVENT_OVERFLOW, id, 32 + 64);

	ASSERT_EQ(0, device_extents(&device, 0, 32, source.extents));
	pid_t child = fork();

	if (!child) {
		((volatile char *)device.base)[0]++;
		_exit(0);
	}
	ASSERT_TRUE(device_request(&device, &request));
	EXPECT_EQ(THAW_KMOD_WRONG_CHECKSUM, request.why);
	listen_for(self->events, &heard, 3);
	ASSERT_EQ(3, heard.count);
	EXPECT_EVENT(heard, 2, KMOD_EVENT_READ_ERROR, id, 0);
	EXPECT_EQ(EBADMSG, heard.events[2].error);

	ASSERT_EQ(0, device_pages(&device, THAW_KMOD_POISON, 0, 1, NULL));
	int status;

	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	listen_for(self->events, &heard, 4);
	ASSERT_EQ(4, heard.count);
	EXPECT_EVENT(heard, 3, KMOD_EVENT_POISON, id, 0);

	device_stop(&device);
	listen_for(self->events, &heard, 5);
	ASSERT_EQ(5, heard.count);
	EXPECT_EVENT(heard, 4, KMOD_EVENT_GONE, id, 0);
	source_free(&source);
}

/* Two events of each region; a socket holds some two hundred. */
static void make_events(unsigned regions)
{
	for (unsigned i = 0; i < regions; i++) {
		int fd = device_open(0);

		if (device_create(fd, 65536) || device_register(fd, PAGE, 64, 0, -1))
			support_die("a region cannot be made");
		close(fd);
	}
}

TEST_F(module, who_is_too_slow_is_told_that_events_were_lost)
{
	struct heard heard = {0};

	if (kmod_events_open(&self->events, &self->error))
		SKIP(return, "%s", self->error.text);
	make_events(1000);
	EXPECT_EQ(-ENOBUFS, kmod_events_read(self->events, hear, &heard, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "lost"));
	/* What the socket held is still there; then it goes on. */
	EXPECT_EQ(0, kmod_events_read(self->events, hear, &heard, &self->error));
	EXPECT_EQ(64, heard.count);
	heard.count = 0;
	make_events(1);
	EXPECT_EQ(0, kmod_events_read(self->events, hear, &heard, &self->error));
	ASSERT_EQ(2, heard.count);
	EXPECT_EQ(KMOD_EVENT_REGISTERED, (int)heard.events[0].kind);
	EXPECT_EQ(KMOD_EVENT_GONE, (int)heard.events[1].kind);
}

TEST_HARNESS_MAIN
