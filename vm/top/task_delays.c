// SPDX-License-Identifier: MIT
/*
 * task_delays.c - asks TASKSTATS for the delays of a process, and finds out why where it cannot
 * tell. Called by `thaw top`, on its thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/taskstats.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "top/netlink.h"
#include "top/task_delays.h"

#define SYSCTL "/proc/sys/kernel/task_delayacct"

/* What each version of struct taskstats has brought (include/uapi/linux/taskstats.h). */
#define VERSION_THRASHING 9
#define VERSION_WRITE_PROTECT_COPY 13
/* Linux 6.14 put fields between the others; 6.16 took them to the end, and has 16. */
#define VERSION_MISPLACED 15

struct delay_reader {
	struct netlink *netlink;
};

/* Also where the kernel is older than the sysctl (5.14), and has it on. */
static bool accounting_is_on(void)
{
	char state = '1';
	int fd = open(SYSCTL, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return true;
	if (read(fd, &state, 1) != 1)
		state = '1';
	close(fd);
	return state != '0';
}

static int take_delays(const struct nlmsghdr *message, void *argument)
{
	const struct nlattr *table[TASKSTATS_TYPE_MAX + 1], *inner[TASKSTATS_TYPE_MAX + 1], *found;
	struct task_delays *delays = argument;
	struct taskstats stats = {0};
	size_t bytes;

	netlink_attributes(message, table, TASKSTATS_TYPE_MAX + 1);
	netlink_nested(table[TASKSTATS_TYPE_AGGR_TGID], inner, TASKSTATS_TYPE_MAX + 1);
	found = inner[TASKSTATS_TYPE_STATS];
	if (!found)
		return -EPROTO;
	/* An older kernel's is shorter, a newer one's longer. */
	bytes = mnl.attr_get_payload_len(found);
	memcpy(&stats, mnl.attr_get_payload(found), bytes < sizeof(stats) ? bytes : sizeof(stats));
	if (stats.version == VERSION_MISPLACED)
		return -EPROTO;
	*delays = (struct task_delays){
		.block_io = {stats.blkio_count, stats.blkio_delay_total},
		.swap_in = {stats.swapin_count, stats.swapin_delay_total},
		.thrashing = {stats.thrashing_count, stats.thrashing_delay_total},
		.reclaim = {stats.freepages_count, stats.freepages_delay_total},
		.write_protect_copy = {stats.wpcopy_count, stats.wpcopy_delay_total},
		.has_thrashing = stats.version >= VERSION_THRASHING,
		.has_write_protect_copy = stats.version >= VERSION_WRITE_PROTECT_COPY,
	};
	return 0;
}

int task_delays_read(struct delay_reader *reader, pid_t process, struct task_delays *delays,
		     struct thaw_error *error)
{
	struct nlmsghdr *request = netlink_prepare(reader->netlink, TASKSTATS_CMD_GET);
	int code;

	*delays = (struct task_delays){0};
	mnl.attr_put_u32(request, TASKSTATS_CMD_ATTR_TGID, (uint32_t)process);
	code = netlink_request(reader->netlink, request, NULL, take_delays, delays, error);
	switch (code) {
	case -EPROTO:
		return failure(error, code,
			       "this kernel tells delays (TASKSTATS) in a form that this program "
			       "does not know (that of Linux 6.14 and 6.15 is one of these)");
	case -ESRCH:
		return failure(error, code, "there is no process %d", (int)process);
	case -EPERM:
		return failure(error, code,
			       "the kernel tells delays of processes (TASKSTATS) to who has "
			       "CAP_NET_ADMIN only: be root, or setcap cap_net_admin+ep on this "
			       "program");
	default:
		return code;
	}
}

int delay_reader_open(struct delay_reader **result, struct thaw_error *error)
{
	struct delay_reader *reader = calloc(1, sizeof(*reader));
	struct task_delays own;
	int code;

	*result = NULL;
	if (!reader)
		return failure(error, -ENOMEM, "no memory to ask for delays of processes");
	code = netlink_open(TASKSTATS_GENL_NAME, TASKSTATS_GENL_VERSION, &reader->netlink, error);
	if (code == -ENOENT && mnl.socket_open2)
		failure(error, code,
			"this kernel does not tell delays of processes (CONFIG_TASKSTATS is off)");
	/* Whether it is allowed is known once it was tried. */
	if (!code)
		code = task_delays_read(reader, getpid(), &own, error);
	if (!code && !accounting_is_on())
		code = failure(error, -ENODATA,
			       "the kernel does not measure delays of processes now: sysctl "
			       "kernel.task_delayacct=1, and programs that start from then on are "
			       "measured");
	if (code)
		delay_reader_close(reader);
	else
		*result = reader;
	return code;
}

void delay_reader_close(struct delay_reader *reader)
{
	if (!reader)
		return;
	netlink_close(reader->netlink);
	free(reader);
}
