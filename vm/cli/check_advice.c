/* SPDX-License-Identifier: MIT */
/*
 * check_advice.c - the end of thaw check: what somebody can do about what is missing. A line for each thing that would
 * make Thaw faster or let it do more here, and that a package, a setting, a privilege or another kernel brings; nothing
 * of what cannot be had. One thread.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_advice.h"
#include "check_exec.h"

#define KERNEL_67 \
	"Linux 6.7 or newer (Debian 12: apt install -t bookworm-backports linux-image-amd64)"

void advice_add(struct advice *advice, const char *thing, const char *gains, const char *todo)
{
	if (advice->count == ADVICE_MOST)
		return;
	/* One remedy may help several. */
	for (unsigned i = 0; i < advice->count; i++)
		if (!strcmp(advice->list[i].todo, todo))
			return;
	advice->list[advice->count++] = (struct advice_line){thing, gains, todo};
}

static long long setting(const char *path)
{
	return check_number(path, NULL, 10);
}

static bool filtered(void)
{
	return check_number("/proc/self/status", "Seccomp:", 10) == 2;
}

static const struct thaw_capability *capability_of(const char *name)
{
	const struct thaw_capability *list;
	int count = thaw_capabilities(&list);

	for (int i = 0; i < count; i++)
		if (!strcmp(list[i].name, name))
			return &list[i];
	return NULL;
}

/* Missing for want of a newer kernel. */
static bool too_old(const char *name)
{
	const struct thaw_capability *capability = capability_of(name);

	return capability && !capability->present &&
	       (strstr(capability->detail, "it takes Linux") ||
		strstr(capability->detail, "this kernel's userfaultfd lacks it"));
}

/* Missing, and not because THAW_WITHOUT says so. */
static bool lacks(const char *name)
{
	const struct thaw_capability *capability = capability_of(name);

	return capability && !capability->present && !strstr(capability->detail, "THAW_WITHOUT");
}

static void advise_userfaultfd(struct advice *advice)
{
	const char *gains =
		"a restored program goes on at once; its pages come when they are touched";

	if (!lacks("privileged-userfaultfd") || !lacks("dev-userfaultfd"))
		return;
	if (filtered())
		advice_add(advice, "userfaultfd", gains,
			   "allow userfaultfd(2) in the container (docker run --security-opt "
			   "seccomp=PROFILE, or --cap-add SYS_PTRACE)");
	else if (!access("/dev/userfaultfd", F_OK))
		advice_add(advice, "userfaultfd", gains,
			   "as root: setfacl -m u:USER:rw /dev/userfaultfd, or sysctl "
			   "vm.unprivileged_userfaultfd=1, or give CAP_SYS_PTRACE");
	else
		advice_add(advice, "userfaultfd", gains,
			   "as root: sysctl vm.unprivileged_userfaultfd=1, or give CAP_SYS_PTRACE");
}

static void advise_kernel(struct advice *advice)
{
	if (too_old("wp-async") || too_old("pagemap-scan"))
		advice_add(advice, "wp-async",
			   "written pages are found by the kernel, without a fault each",
			   KERNEL_67);
	if (!lacks("io_uring"))
		return;
	if (setting("/proc/sys/kernel/io_uring_disabled") > 0)
		advice_add(advice, "io_uring", "pages are read many at a time",
			   "as root: sysctl kernel.io_uring_disabled=0");
	else if (filtered())
		advice_add(advice, "io_uring", "pages are read many at a time",
			   "allow io_uring_setup(2) in the container");
}

/* Libraries that are loaded when they are needed, so that nobody has to have them. */
static void advise_library(struct advice *advice, const char *library, const char *gains,
			   const char *todo)
{
	void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);

	if (handle)
		dlclose(handle);
	else
		advice_add(advice, library, gains, todo);
}

static void advise_store(struct advice *advice)
{
	advise_library(advice, "libcurl.so.4", "images can be in an object store (s3://...)",
		       "apt install libcurl4");
	advise_library(advice, "libexpat.so.1", "images can be in an object store (s3://...)",
		       "apt install libexpat1");
}

void advise_run(struct advice *advice)
{
	advise_userfaultfd(advice);
	advise_kernel(advice);
	if (lacks("kmod") && access("/dev/thaw", F_OK))
		advice_add(advice, "kmod",
			   "large heaps of which little is written are checkpointed faster",
			   "optional: make kmod && insmod build/kmod/$(uname -r)/thaw.ko");
	else if (lacks("kmod") && access("/dev/thaw", R_OK | W_OK))
		advice_add(advice, "kmod",
			   "large heaps of which little is written are checkpointed faster",
			   "as root: chmod 666 /dev/thaw, or insmod thaw.ko mode=0666");
	advise_library(advice, "libmnl.so.0", "thaw top shows what programs wait for",
		       "apt install libmnl0");
	advise_store(advice);
	if (setting("/proc/sys/kernel/task_delayacct") == 0)
		advice_add(advice, "delays", "thaw top shows what programs wait for",
			   "as root: sysctl kernel.task_delayacct=1");
}

void advise_exec(struct advice *advice)
{
	advise_userfaultfd(advice);
	if (too_old("wp-async") || too_old("pagemap-scan"))
		advice_add(advice, "tracking",
			   "a generation costs what was written, not what there is", KERNEL_67);
	advise_library(advice, "libcrypto.so.3",
		       "checksums under your key take a quarter of the time",
		       "apt install libssl3");
	advise_store(advice);
}

void advice_print(const struct advice *advice)
{
	struct table table;

	if (!advice->count)
		return;
	fputs("\nIt could be better:\n", stdout);
	table_init(&table, "lll");
	for (unsigned i = 0; i < advice->count; i++) {
		table_cell(&table, "");
		table_cell(&table, advice->list[i].gains);
		table_cell(&table, advice->list[i].todo);
	}
	table_print(&table, stdout);
}

void advice_json(const struct advice *advice, struct json *json)
{
	json_open(json, "advice", '[');
	for (unsigned i = 0; i < advice->count; i++) {
		json_open(json, NULL, '{');
		json_text(json, "for", advice->list[i].thing);
		json_text(json, "gains", advice->list[i].gains);
		json_text(json, "do", advice->list[i].todo);
		json_close(json, '}');
	}
	json_close(json, ']');
}
