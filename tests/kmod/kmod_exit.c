// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes end, fork and become others in the middle of everything: while a page is read, while somebody waits for
 * an answer, while a harvest goes on, with several regions in a process and several processes at an image and at a
 * region. Nobody hangs, those that live on see what they must, and the module is let go at the end.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "device.h"

#define PAGES 512u
#define ROUNDS 40u
#define REGIONS 3

/* What the children tell, and are told, in memory that they share. */
struct told {
	_Atomic uint64_t progress;
	_Atomic bool stop;
};

FIXTURE(ending)
{
	char *directory;
	struct source source;
	struct device device;
	struct told *told;
	uint64_t random;
	long users;
};

FIXTURE_SETUP(ending)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->users = module_users();
	self->directory = support_directory();
	source_make(&self->source, self->directory, KERNEL_PAGE, PAGES, 4096 + 8);
	self->told = mmap(NULL, sizeof(*self->told), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->told);
	self->random = device_seed();
}
FIXTURE_TEARDOWN(ending)
{
	device_stop(&self->device);
	source_free(&self->source);
	support_remove(self->directory);
	EXPECT_TRUE(module_users_become(self->users));
}

/* Until the child has done so much more; it dies in the middle of what comes next. */
static void kill_after(struct told *told, pid_t child, uint64_t steps)
{
	double end = support_deadline(60);
	int status;

	while (atomic_load(&told->progress) < steps && support_seconds() < end)
		sched_yield();
	if (support_seconds() >= end)
		support_die("a child stands still");
	kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		support_die("a child has ended by itself");
	atomic_store(&told->progress, 0);
}

static unsigned wrong_pages(const struct device *device, const struct source *source)
{
	unsigned wrong = 0;

	for (uint64_t page = 0; page < source->pages; page++)
		wrong += !source_matches(source, page, device->base + page * source->page_bytes);
	return wrong;
}

/* ---- Children that never end by themselves ---- */

struct endless {
	pthread_t thread;
	struct told *told;
	const struct source *source;
	struct device *device;
	unsigned number;
};

/* Regions are made, restored page by page, and left, again and again. */
static _Noreturn void *restore_for_ever(void *argument)
{
	struct endless *endless = argument;

	for (uint64_t round = 0;; round++) {
		uint32_t *order = shuffled(PAGES, round + endless->number);
		struct device devices[REGIONS];

		for (int i = 0; i < REGIONS; i++)
			device_restore(&devices[i], endless->source, 0);
		for (uint32_t i = 0; i < PAGES; i++)
			for (int region = 0; region < REGIONS; region++) {
				if (!source_matches(endless->source, order[i],
						    devices[region].base + order[i] * KERNEL_PAGE))
					support_die("a wrong page");
				atomic_fetch_add(&endless->told->progress, 1);
			}
		for (int i = 0; i < REGIONS; i++)
			device_stop(&devices[i]);
		free(order);
	}
}

static _Noreturn void *write_for_ever(void *argument)
{
	struct endless *endless = argument;
	uint64_t random = endless->number + 1;

	for (;;) {
		endless->device->base[next_random(&random) % PAGES * KERNEL_PAGE]++;
		atomic_fetch_add(&endless->told->progress, 1);
	}
}

static _Noreturn void *harvest_for_ever(void *argument)
{
	struct endless *endless = argument;
	uint8_t set[2 * PAGES];

	for (;;) {
		if (device_harvest_set(endless->device, set) < 0)
			support_die("a harvest");
		atomic_fetch_add(&endless->told->progress, 1);
	}
}

/* Asks for pages nobody ever brings. */
static void *wait_for_ever(void *argument)
{
	struct endless *endless = argument;

	touch_read(endless->device->base + endless->number * KERNEL_PAGE);
	return NULL;
}

static void begin_all(struct endless *endless, unsigned count, void *(*what)(void *))
{
	for (unsigned i = 0; i < count; i++) {
		endless[i].number = endless->number + i;
		if (pthread_create(&endless[i].thread, NULL, what, &endless[i]))
			support_die("pthread_create");
	}
}

static pid_t child_that(struct endless endless, unsigned threads, void *(*what)(void *))
{
	pid_t child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);

	struct endless all[8];

	for (unsigned i = 0; i < threads; i++)
		all[i] = endless;
	begin_all(all, threads, what);
	for (;;)
		pause();
}

TEST_F(ending, killed_in_the_middle_of_restoring)
{
	struct endless endless = {.told = self->told, .source = &self->source};

	device_restore(&self->device, &self->source, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t other = child_that(endless, 1, restore_for_ever);

		/* Two processes at the image; the second is killed in the middle of the first one's work, too. */
		kill_after(self->told, child_that(endless, 2, restore_for_ever),
			   1 + next_random(&self->random) % (2 * PAGES));
		kill_after(self->told, other, 1);
	}
	EXPECT_EQ(0, wrong_pages(&self->device, &self->source));
}

TEST_F(ending, killed_in_the_middle_of_restoring_what_others_share)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t steps = next_random(&self->random) % PAGES;
		pid_t child;

		device_restore(&self->device, &self->source, 0);
		child = fork();
		if (!child) {
			for (unsigned page = 0;; page++) {
				touch_read(self->device.base + page % PAGES * KERNEL_PAGE);
				atomic_fetch_add(&self->told->progress, 1);
			}
		}
		kill_after(self->told, child, steps);
		/* What it had begun is finished by who comes next. */
		ASSERT_EQ(0, wrong_pages(&self->device, &self->source));
		device_stop(&self->device);
	}
}

TEST_F(ending, killed_in_the_middle_of_writes_and_harvests)
{
	struct endless endless = {
		.told = self->told, .source = &self->source, .device = &self->device};
	uint8_t *set = calloc(1, PAGES);

	device_restore(&self->device, &self->source, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct endless harvesting = endless;
		pid_t child = fork();

		if (!child) {
			struct endless writing[2] = {endless, endless};

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			begin_all(writing, 2, write_for_ever);
			harvest_for_ever(&harvesting);
		}
		kill_after(self->told, child, 1 + next_random(&self->random) % 20000);
		/*
		 * It may have died between marking entries and RESET: they are harvested here. Then the log works as
		 * if nothing had been.
		 */
		for (uint32_t i = self->device.ring->reset; i != self->device.ring->dirty; i++)
			self->device.entries[i % self->device.ring->entries].flags =
				THAW_KMOD_DIRTY;
		ASSERT_LE(0, device_harvest_set(&self->device, set));
		for (unsigned page = 0; page < PAGES; page += 7)
			self->device.base[page * KERNEL_PAGE]++;
		ASSERT_EQ((PAGES + 6) / 7, device_harvest_set(&self->device, set));
	}
	free(set);
}

TEST_F(ending, killed_while_threads_wait_for_answers)
{
	struct endless endless = {.told = self->told, .device = &self->device, .number = 100};
	struct thaw_kmod_request request;

	device_start(&self->device, PAGES * KERNEL_PAGE, KERNEL_PAGE, 64, PAGES * KERNEL_PAGE,
		     self->source.fd);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t child = child_that(endless, 6, wait_for_ever);
		unsigned taken = (unsigned)(next_random(&self->random) % 6);

		for (unsigned i = 0; i <= taken; i++)
			ASSERT_TRUE(device_request(&self->device, &request));
		kill_after(self->told, child, 0);
		/* Whoever was forgotten asks for nothing. */
		EXPECT_EQ(0, poll(&(struct pollfd){self->device.fd, POLLIN, 0}, 1, 0));
		EXPECT_EQ(-1, read(self->device.fd, &request, sizeof(request)));
	}
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	EXPECT_EQ(0, wrong_pages(&self->device, &self->source));
}

/* The region goes with its last user, who waits for it: nobody else holds it. */
TEST_F(ending, a_process_dies_with_all_its_regions)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t child = fork();

		if (!child) {
			struct device devices[REGIONS];
			struct endless waiting[8] = {{.told = self->told}},
				       writing[8] = {{.told = self->told}};

			for (int i = 0; i < REGIONS; i++)
				device_start(&devices[i], PAGES * KERNEL_PAGE, KERNEL_PAGE, 64,
					     PAGES * KERNEL_PAGE / 2, self->source.fd);
			for (int i = 0; i < 4; i++)
				waiting[i] = (struct endless){.told = self->told,
							      .device = &devices[i % REGIONS]};
			begin_all(waiting, 4, wait_for_ever);
			device_pages(&devices[0], THAW_KMOD_ZERO_PAGES, 0, PAGES / 2, NULL);
			writing[0] = writing[1] =
				(struct endless){.told = self->told, .device = &devices[0]};
			begin_all(writing, 2, write_for_ever);
			for (;;)
				pause();
		}
		kill_after(self->told, child, 1 + next_random(&self->random) % 5000);
		ASSERT_TRUE(module_users_become(self->users));
	}
}

/* ---- exec and fork ---- */

TEST_F(ending, exec_in_the_middle_of_everything)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t child = fork();
		int status;

		if (!child) {
			struct endless restoring[2] = {
				{.told = self->told, .source = &self->source}};
			struct endless waiting[2] = {{.told = self->told, .device = &self->device}};

			restoring[1] = restoring[0];
			device_start(&self->device, PAGES * KERNEL_PAGE, KERNEL_PAGE, 64,
				     PAGES * KERNEL_PAGE, -1);
			waiting[1] = waiting[0];
			begin_all(waiting, 2, wait_for_ever);
			begin_all(restoring, 2, restore_for_ever);
			while (atomic_load(&self->told->progress) < 20 * (round % 10))
				sched_yield();
			/* All threads end, all memory goes, and the descriptors are closed. */
			execl("/proc/self/exe", "kmod_exit", "--nothing", NULL);
			_exit(9);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		atomic_store(&self->told->progress, 0);
		ASSERT_TRUE(module_users_become(self->users));
	}
}

TEST_F(ending, forks_in_the_middle_of_everything)
{
	struct endless writing[2] = {{.told = self->told, .device = &self->device}};
	const uint64_t generation = 1000000;
	uint8_t *set = calloc(1, PAGES);
	pid_t child;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	device_restore(&self->device, &self->source, 0);
	writing[1] = writing[0];
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		begin_all(writing, 2, write_for_ever);
		for (;;) {
			child = fork();
			if (!child) {
				for (unsigned page = 0; page < PAGES; page += 5)
					self->device.base[page * KERNEL_PAGE + 1]++;
				_exit(0);
			}
			waitpid(child, NULL, 0);
			atomic_fetch_add(&self->told->progress, generation);
		}
	}
	while (atomic_load(&self->told->progress) < ROUNDS * generation)
		ASSERT_LE(0, device_harvest_set(&self->device, set));
	kill(child, SIGKILL);
	while (wait(NULL) > 0)
		; /* its last child, too */
	ASSERT_LE(0, device_harvest_set(&self->device, set));
	for (unsigned page = 0; page < PAGES; page += 7)
		self->device.base[page * KERNEL_PAGE]++;
	ASSERT_EQ((PAGES + 6) / 7, device_harvest_set(&self->device, set));
	free(set);
}

/* What exec starts here: proves that nothing of the region was left open. */
__attribute__((constructor)) static void end_at_once(int argc, char **argv)
{
	char link[64], name[256];

	if (argc < 2 || strcmp(argv[1], "--nothing"))
		return;
	for (int fd = 3; fd < 64; fd++) {
		ssize_t length;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, name, sizeof(name) - 1);
		if (length > 0 && (name[length] = 0, strstr(name, THAW_KMOD_DEVICE)))
			_exit(1);
	}
	_exit(0);
}

TEST_HARNESS_MAIN
