// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image on a file system whose reads never end, or fail in a way that looks like "try again": who touches a page of it
 * can be killed, and what cannot be read is asked for.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/fuse.h>
#include <sys/mount.h>

#include "device.h"

#define PAGES 64u
#define IMAGE 2u /* its inode */

/* Of an image: a file `image`, of which every read is answered by `error`, or never (0). */
static void answer(int fuse, const struct fuse_in_header *request, int error, int told)
{
	struct {
		struct fuse_out_header header;
		union {
			struct fuse_init_out init;
			struct fuse_entry_out entry;
			struct fuse_attr_out attributes;
			struct fuse_open_out opened;
		};
	} reply = {.header = {.unique = request->unique}};
	struct fuse_attr attributes = {.ino = request->nodeid, .mode = S_IFDIR | 0755, .nlink = 2};
	size_t bytes = 0;

	if (request->opcode == FUSE_LOOKUP || request->nodeid == IMAGE)
		attributes = (struct fuse_attr){
			.ino = IMAGE, .size = PAGES * 65536, .mode = S_IFREG | 0644, .nlink = 1};
	switch (request->opcode) {
	case FUSE_INIT:
		reply.init = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION,
						    .minor = 31,
						    .max_readahead = 131072,
						    .flags = FUSE_ASYNC_READ,
						    .max_write = 131072};
		bytes = sizeof(reply.init);
		break;
	case FUSE_LOOKUP:
		reply.entry = (struct fuse_entry_out){.nodeid = IMAGE,
						      .entry_valid = 1000,
						      .attr_valid = 1000,
						      .attr = attributes};
		bytes = sizeof(reply.entry);
		break;
	case FUSE_GETATTR:
		reply.attributes = (struct fuse_attr_out){.attr_valid = 1000, .attr = attributes};
		bytes = sizeof(reply.attributes);
		break;
	case FUSE_OPEN:
		bytes = sizeof(reply.opened);
		break;
	case FUSE_READ:
		if (write(told, "r", 1) != 1 || !error)
			return;
		reply.header.error = -error;
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;
	default:
		reply.header.error = -ENOSYS;
	}
	reply.header.len = (uint32_t)(sizeof(reply.header) + bytes);
	if (write(fuse, &reply, reply.header.len) < 0)
		perror("# an answer to fuse");
}

FIXTURE(image)
{
	char *directory;
	pid_t server;
	int told; /* a byte for each read */
	bool mounted;
	struct device device;
};
FIXTURE_SETUP(image)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->directory = support_directory();
}
FIXTURE_TEARDOWN(image)
{
	if (self->server > 0) {
		kill(self->server, SIGKILL);
		waitpid(self->server, NULL, 0);
	}
	device_stop(&self->device);
	if (self->mounted)
		umount2(self->directory, MNT_DETACH);
	support_remove(self->directory);
}

static void serve(int fuse, int error, int told)
{
	static char buffer[1 << 18] __attribute__((aligned(8)));

	while (read(fuse, buffer, sizeof(buffer)) > 0)
		answer(fuse, (const void *)buffer, error, told);
	_exit(0);
}

/* A region of such an image; what cannot be had here, or NULL. */
static const char *start(FIXTURE_DATA(image) * self, int error)
{
	struct thaw_kmod_extent extents[PAGES];
	char options[100], *path = support_format("%s/image", self->directory);
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC), image, told[2];

	if (fuse < 0)
		return "there is no /dev/fuse";
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (mount("thaw", self->directory, "fuse", 0, options))
		return "only root can mount a file system";
	self->mounted = true;
	if (pipe2(told, O_CLOEXEC))
		support_die("a pipe");
	self->told = told[0];
	self->server = fork();
	if (!self->server)
		serve(fuse, error, told[1]);
	close(fuse);
	close(told[1]);
	image = open(path, O_RDONLY | O_CLOEXEC);
	if (image < 0)
		support_die(path);
	device_start(&self->device, PAGES * KERNEL_PAGE, KERNEL_PAGE, 64, PAGES * KERNEL_PAGE,
		     image);
	close(image);
	for (unsigned i = 0; i < PAGES; i++)
		extents[i] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_RAW,
						       .offset = i * KERNEL_PAGE};
	if (device_extents(&self->device, 0, PAGES, extents))
		support_die("THAW_KMOD_EXTENTS");
	free(path);
	return NULL;
}

static pid_t child_that_touches(const struct device *device, unsigned page)
{
	pid_t child = fork();

	if (!child)
		_exit(touch_read(device->base + page * KERNEL_PAGE));
	return child;
}

/* False: it is still there, as long after that as a hang takes to be one. */
static bool ends(pid_t child, int *status)
{
	double end = support_deadline(10);

	while (support_seconds() < end) {
		if (waitpid(child, status, WNOHANG) == child)
			return true;
		support_sleep(0.01);
	}
	return false;
}

TEST_F(image, who_waits_for_a_read_that_never_ends_can_be_killed)
{
	const char *lacks = start(self, 0);
	pid_t child;
	int status = 0;
	char byte;

	if (lacks)
		SKIP(return, "%s", lacks);
	child = child_that_touches(&self->device, 3);
	ASSERT_EQ(1, read(self->told, &byte, 1));
	support_sleep(0.5);
	EXPECT_EQ(0, waitpid(child, &status, WNOHANG));
	kill(child, SIGKILL);
	EXPECT_TRUE(ends(child, &status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
}

TEST_F(image, a_read_that_fails_for_now_is_asked_for)
{
	const char *lacks = start(self, EAGAIN);
	struct thaw_kmod_request request;
	pid_t child;
	int status = 0;

	if (lacks)
		SKIP(return, "%s", lacks);
	child = child_that_touches(&self->device, 3);
	EXPECT_TRUE(device_request(&self->device, &request));
	EXPECT_EQ(3, request.page);
	EXPECT_EQ(THAW_KMOD_READ_FAILED, request.why);
	EXPECT_EQ(0, device_pages(&self->device, THAW_KMOD_ZERO_PAGES, 3, 1, NULL));
	if (!ends(child, &status))
		kill(child, SIGKILL);
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST_HARNESS_MAIN
