// SPDX-License-Identifier: GPL-2.0-only
/*
 * confine.c - see confine.h.
 *
 * The order matters: what needs privileges (a view of the file system of its own) comes first, the
 * filter, which forbids that, last. Nothing in here can be taken back by the process.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ORDINARY 65534u /* nobody, nogroup */

static int fail(char *why, size_t bytes, const char *what, int error)
{
	snprintf(why, bytes, "%s: %s", what, strerror(error));
	return -1;
}

/* ---- what it sees of the file system ---- */

/*
 * What is mounted from here on, at "." or below it, is nobody else's. Only a mount can be kept from the
 * others, so it has to be that which "." is in; 1: "." is in the middle of one.
 */
static int keep_mounts_here(void)
{
	if (!mount("none", ".", NULL, MS_REC | MS_SLAVE, NULL))
		return 0;
	return errno == EINVAL ? 1 : -1;
}

/*
 * The same for "/", which is no mount in a chroot: the one that it is in begins above it. Who has
 * made another directory the root can walk up from this one, and makes this one the root again.
 */
static int keep_mounts(int root)
{
	int error, kept = fchdir(root) ? -1 : keep_mounts_here();

	if (kept > 0 && !chroot("dev")) {
		for (int above = 0; kept > 0 && above < 4096 && !chdir(".."); above++)
			kept = keep_mounts_here();
		error = kept > 0 ? EINVAL : errno;
		if (fchdir(root) || chroot("."))
			return -1;
		errno = error;
	}
	return kept ? -1 : 0;
}

static int own_mounts(char *why, size_t bytes)
{
	int root, working, error = 0;

	if (unshare(CLONE_NEWNS))
		return fail(why, bytes, "cannot have a mount namespace", errno);
	/* Both of this namespace: what was opened before is in the mounts of the others. */
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	working = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || working < 0 || keep_mounts(root) || fchdir(working))
		error = errno;
	close(root);
	close(working);
	return error ? fail(why, bytes, "cannot keep mounts from the others", error) : 0;
}

/* What is at `from` also at `to`, a file or directory that is there. */
static int mount_also(int from, const char *to)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
	return mount(path, to, NULL, MS_BIND | MS_REC, NULL);
}

/* A device that a container has as well. */
static int keep_device(const char *path, int from)
{
	struct stat status;
	int fd;

	if (fstat(from, &status))
		return -1;
	if (S_ISDIR(status.st_mode))
		return mkdir(path, 0755) ? -1 : mount_also(from, path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	close(fd);
	return mount_also(from, path);
}

/*
 * /dev as an engine makes it. Where /dev/userfaultfd is not there, or not to be opened, nothing is
 * to be done, and no privilege needed.
 */
static int own_devices(char *why, size_t bytes)
{
	enum { KEPT = 8, LINKS = 5 };
	static const char *const kept[KEPT] = {"/dev/null",    "/dev/zero", "/dev/full",
					       "/dev/random",  "/dev/tty",  "/dev/pts",
					       "/dev/urandom", "/dev/shm"};
	static const char *const links[LINKS][2] = {{"/proc/self/fd", "/dev/fd"},
						    {"/proc/self/fd/0", "/dev/stdin"},
						    {"/proc/self/fd/1", "/dev/stdout"},
						    {"/proc/self/fd/2", "/dev/stderr"},
						    {"pts/ptmx", "/dev/ptmx"}};
	int from[KEPT];

	if (access("/dev/userfaultfd", R_OK | W_OK))
		return 0;
	if (own_mounts(why, bytes))
		return -1;
	for (int i = 0; i < KEPT; i++)
		from[i] = open(kept[i], O_PATH | O_CLOEXEC);
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"))
		return fail(why, bytes, "cannot cover /dev", errno);
	for (int i = 0; i < KEPT; i++) {
		if (from[i] < 0)
			continue; /* there was none */
		if (keep_device(kept[i], from[i]))
			return fail(why, bytes, kept[i], errno);
		close(from[i]);
	}
	for (int i = 0; i < LINKS; i++)
		if (symlink(links[i][0], links[i][1]))
			return fail(why, bytes, links[i][1], errno);
	return 0;
}

/* The first directory on the way to `path` that is closed to others; its length, or 0. */
static size_t closed_above(const char *path)
{
	char prefix[4096];

	for (const char *end = strchr(path + 1, '/'); end; end = strchr(end + 1, '/')) {
		size_t length = (size_t)(end - path);
		struct stat status;

		snprintf(prefix, sizeof(prefix), "%.*s", (int)length, path);
		if (!stat(prefix, &status) && !(status.st_mode & S_IXOTH))
			return length;
	}
	return 0;
}

/*
 * A clone may lie in /root, whose mode is 0700, and its programs know where they are: in a mount
 * namespace of its own an empty directory that everyone can enter covers the closed one, and in
 * that the clone is where it was.
 */
static int make_reachable(const char *reach, char *why, size_t bytes)
{
	char real[4096], path[4096], working[4096];
	size_t closed;
	int fd;

	if (!realpath(reach, real))
		return fail(why, bytes, reach, errno);
	closed = closed_above(real);
	if (!closed)
		return 0;
	if (!getcwd(working, sizeof(working)))
		strcpy(working, "/");
	if (own_mounts(why, bytes))
		return -1;
	/* After that: what was opened before is in the mounts of the others. */
	fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(why, bytes, real, errno);
	snprintf(path, sizeof(path), "%.*s", (int)closed, real);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k"))
		return fail(why, bytes, "cannot cover a closed directory", errno);
	for (const char *end = real + closed; end; end = strchr(end + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(end - real), real);
		if (mkdir(path, 0755) && errno != EEXIST)
			return fail(why, bytes, path, errno);
	}
	if ((mkdir(real, 0755) && errno != EEXIST) || mount_also(fd, real))
		return fail(why, bytes, real, errno);
	close(fd);
	/* The old working directory is below the cover. */
	if (chdir(working) && chdir("/"))
		return fail(why, bytes, "/", errno);
	return 0;
}

/* ---- who it is ---- */

/* What Docker, containerd and Podman leave to root in a container. */
#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)
#define CONTAINER_CAPABILITIES                                                                    \
	(CAPABILITY(CHOWN) | CAPABILITY(DAC_OVERRIDE) | CAPABILITY(FOWNER) | CAPABILITY(FSETID) | \
	 CAPABILITY(KILL) | CAPABILITY(SETGID) | CAPABILITY(SETUID) | CAPABILITY(SETPCAP) |       \
	 CAPABILITY(NET_BIND_SERVICE) | CAPABILITY(NET_RAW) | CAPABILITY(SYS_CHROOT) |            \
	 CAPABILITY(MKNOD) | CAPABILITY(AUDIT_WRITE) | CAPABILITY(SETFCAP))

/* No program that it starts gets others. Who lacks CAP_SETPCAP has none that could be dropped. */
static int bound_capabilities(uint64_t kept, char *why, size_t bytes)
{
	for (int capability = 0; capability < 64; capability++)
		if (!(kept >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) &&
		    errno != EINVAL && errno != EPERM)
			return fail(why, bytes, "the bounding set of capabilities", errno);
	return 0;
}

static int keep_capabilities(uint64_t kept, char *why, size_t bytes)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return fail(why, bytes, "capget", errno);
	for (int i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(kept >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	/* Ambient ones go with the inheritable. */
	if (syscall(SYS_capset, &header, data))
		return fail(why, bytes, "capset", errno);
	return 0;
}

static int become_ordinary(char *why, size_t bytes)
{
	if (setgroups(0, NULL) || setresgid(ORDINARY, ORDINARY, ORDINARY) ||
	    setresuid(ORDINARY, ORDINARY, ORDINARY))
		return fail(why, bytes, "cannot become user 65534", errno);
	return 0;
}

/* ---- what it may ask the kernel for ---- */

/*
 * What the engines' documentation says that their default profiles deny a container without
 * CAP_SYS_ADMIN and the like. A name that this architecture does not have is passed over.
 */
static const char *const denied[] = {
	/* memory and other processes */
	"userfaultfd", "kcmp", "process_vm_readv", "process_vm_writev", "process_madvise",
	"pidfd_getfd", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind",
	"move_pages", "migrate_pages",
	/* rings */
	"io_uring_setup", "io_uring_enter", "io_uring_register",
	/* the kernel's own insides */
	"bpf", "perf_event_open", "lookup_dcookie", "syslog", "kexec_load", "kexec_file_load",
	"create_module", "delete_module", "finit_module", "init_module", "query_module",
	"get_kernel_syms", "_sysctl", "sysfs", "uselib", "ustat", "nfsservctl",
	/* keys */
	"add_key", "keyctl", "request_key",
	/* namespaces and mounts; chroot is allowed, with its capability */
	"unshare", "setns", "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree",
	"fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at",
	"fanotify_init", "quotactl", "quotactl_fd", "acct", "swapon", "swapoff",
	/* the machine */
	"reboot", "settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime",
	"clock_adjtime64", "sethostname", "setdomainname", "vhangup", "iopl", "ioperm", "vm86",
	"vm86old"};

/* Also denied, but for some arguments; and where no argument can be seen, not there at all. */
static int add_conditions(scmp_filter_ctx filter)
{
	static const uint32_t personalities[] = {0, 0x8, 0x20000, 0x20008, 0xffffffff};
	const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	int error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces, 0));

	for (size_t i = 0; i < sizeof(personalities) / sizeof(personalities[0]) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1,
					 SCMP_A0(SCMP_CMP_EQ, personalities[i], 0));
	/* Its flags are in memory, where no filter sees them; the C library takes clone then. */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return error;
}

static bool is_denied(const char *name)
{
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
		if (!strcmp(denied[i], name))
			return true;
	return false;
}

/*
 * As the engines' are, a list of what is allowed: all that libseccomp knows, but for the above.
 * What is newer than it knows is not there (ENOSYS), so that programs take what came before.
 */
static int add_calls(scmp_filter_ctx filter)
{
	enum { LAST = 600 };
	int newest = 0, error = 0;

	for (int call = 0; call < LAST && !error; call++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

		if (!name)
			continue;
		newest = call;
		if (!is_denied(name) && strcmp(name, "clone") && strcmp(name, "clone3") &&
		    strcmp(name, "personality"))
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
		free(name);
	}
	for (int call = newest + 1; call < LAST && !error; call++)
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0);
	return error;
}

static int filter_calls(char *why, size_t bytes)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int error;

	if (!filter)
		return fail(why, bytes, "a filter for system calls", ENOMEM);
	error = add_conditions(filter);
	if (!error)
		error = add_calls(filter);
	/* A tree: a few comparisons for a call instead of hundreds. */
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error ? fail(why, bytes, "a filter for system calls", -error) : 0;
}

int confine(unsigned how, const char *reach, char *why, size_t bytes)
{
	bool root = !geteuid();
	uint64_t kept = how & CONFINE_USER ? 0 : CONTAINER_CAPABILITIES;

	if (how & CONFINE_SECCOMP && own_devices(why, bytes))
		return -1;
	if (how & CONFINE_USER && root && reach && make_reachable(reach, why, bytes))
		return -1;
	if (bound_capabilities(kept, why, bytes))
		return -1;
	if (how & CONFINE_USER && root && become_ordinary(why, bytes))
		return -1;
	if (keep_capabilities(kept, why, bytes))
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail(why, bytes, "PR_SET_NO_NEW_PRIVS", errno);
	return how & CONFINE_SECCOMP ? filter_calls(why, bytes) : 0;
}
