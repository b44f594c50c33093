// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads of several processes do everything that can be done to the device, in random order and with random
 * arguments, most of them near the borders of what is right: calls, mappings of any place and length, touches, reads,
 * polls, forks, closes. Nothing is expected but that they come back, that the module is let go at the end, and
 * that the kernel has nothing to complain of. Some seconds, or THAW_TEST_MINUTES; THAW_TEST_SEED repeats it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/time.h>
#include <sys/uio.h>

#include "device.h"

#define FILES 6u
#define MAPPINGS 12u
#define THREADS 3u
#define PROCESSES 3u
#define BYTES ((size_t)8 << 20)
#define RING ((size_t)8192)
#define ROOM \
	(4 * \
	 BYTES) /* for each mapping, at a place of its own: nothing else of the process is ever there */

/* Of all processes: what was tried, and what came of it, so that it is known that it is not all refused. */
struct done {
	_Atomic uint64_t operations, registered, told, filled, harvested, answered, mapped, touched;
};

/* Of a process. Threads use it without locks: that a file is closed under another's feet is what is wanted. */
struct fuzz {
	struct source source;
	int files[FILES];
	char *rooms; /* MAPPINGS of them, side by side */
	double end;
	/*
	 * A room has holes at times: behind mremap(), and behind any mmap(MAP_FIXED) that the device refuses. What must
	 * stay is never in one: threads and what the C library keeps for them are there before anybody begins, and
	 * a ring that is written has a place of its own, which is emptied before anybody maps anywhere.
	 */
	pthread_barrier_t begin;
	pthread_mutex_t mapping;
	char *ring;
	struct done *done;
};

struct worker {
	pthread_t thread;
	timer_t timer;
	struct fuzz *fuzz;
	uint64_t random;
};

static uint64_t pick(struct worker *worker, uint64_t below)
{
	return below ? (next_random(&worker->random) >> 11) % below : 0;
}

/* Whoever waits in the kernel for what nobody brings is called away (a touch) or interrupted (a call). */
static void call_away(int signal_number)
{
	if (touching)
		siglongjmp(touch_escape, signal_number);
}

/* Near a border of something, mostly. */
static uint64_t number(struct worker *worker, uint64_t usual)
{
	static const uint64_t borders[] = {0,
					   1,
					   63,
					   64,
					   4095,
					   4096,
					   65535,
					   65536,
					   1u << 20,
					   BYTES,
					   THAW_KMOD_MAX_BYTES,
					   THAW_KMOD_RING_OFFSET,
					   INT32_MAX,
					   UINT32_MAX,
					   INT64_MAX,
					   UINT64_MAX};

	switch (pick(worker, 10)) {
	case 0:
		return borders[pick(worker, sizeof(borders) / sizeof(borders[0]))] +
		       pick(worker, 3) - 1;
	case 1:
		return next_random(&worker->random);
	case 2:
		return next_random(&worker->random) & -(uint64_t)4096;
	case 3:
		return usual;
	default:
		return pick(worker, usual + 1);
	}
}

static void count_if(bool right, _Atomic uint64_t *what)
{
	if (right)
		atomic_fetch_add(what, 1);
}

static int file_of(struct worker *worker)
{
	return worker->fuzz->files[pick(worker, FILES)];
}

static char *room_of(struct worker *worker)
{
	return worker->fuzz->rooms + pick(worker, MAPPINGS) * ROOM;
}

/* Mostly where something is mapped; never where the program itself is, which begins at 4 MiB. */
static char *place(struct worker *worker)
{
	if (pick(worker, 20) == 0)
		return (char *)(uintptr_t)number(worker, 1 << 20);
	return room_of(worker) + pick(worker, pick(worker, 4)	? BYTES
					      : pick(worker, 2) ? 65536
								: ROOM);
}

/* Like munmap(); but the place stays its own. */
static void empty(char *at, size_t bytes)
{
	if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		 0) == MAP_FAILED &&
	    errno != ENOMEM)
		support_die("a place cannot be emptied");
}

/* ---- What is done ---- */

static void open_one(struct worker *worker)
{
	int *file = &worker->fuzz->files[pick(worker, FILES)], before = *file;

	*file = pick(worker, 4) ? open(THAW_KMOD_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK)
				: dup(file_of(worker));
	if (before >= 0)
		close(before);
}

static void create(struct worker *worker)
{
	struct thaw_kmod_create call = {
		.version = pick(worker, 20) ? 1 : (uint32_t)number(worker, 2),
		.zero = !pick(worker, 30),
		.max_bytes = pick(worker, 3) ? BYTES : number(worker, BYTES)};

	device_call(file_of(worker), THAW_KMOD_CREATE, &call);
}

static void register_one(struct worker *worker)
{
	struct thaw_kmod_register call = {
		.page_bytes = pick(worker, 4) ? 4096u << pick(worker, 5)
					      : (uint32_t)number(worker, 65536),
		.ring_entries = pick(worker, 4) ? 64u << pick(worker, 5)
						: (uint32_t)number(worker, 4096),
		.restored_bytes = pick(worker, 4) ? BYTES / 2 : number(worker, BYTES),
		.image_fd = pick(worker, 4) ? worker->fuzz->source.fd : (int32_t)number(worker, 10),
		.zero = !pick(worker, 30)};

	count_if(!device_call(file_of(worker), THAW_KMOD_REGISTER, &call),
		 &worker->fuzz->done->registered);
}

/* All of it as it should be: what comes after that gets further. */
static void open_right(struct worker *worker)
{
	const struct source *source = &worker->fuzz->source;
	int *file = &worker->fuzz->files[pick(worker, FILES)], before = *file, after;
	size_t page_bytes = pick(worker, 3) ? source->page_bytes : 4096u << pick(worker, 5);
	struct device device;

	after = open(THAW_KMOD_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	device = (struct device){.fd = after};
	count_if(!device_create(after, BYTES) &&
			 !device_register(after, page_bytes, 64u << pick(worker, 3), BYTES / 2,
					  source->fd),
		 &worker->fuzz->done->registered);
	if (page_bytes == source->page_bytes)
		count_if(!device_extents(&device, 0, source->pages, source->extents),
			 &worker->fuzz->done->told);
	mmap(room_of(worker), BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, after,
	     (off_t)THAW_KMOD_MEMORY_OFFSET);
	*file = after;
	if (before >= 0)
		close(before);
}

static void tell_extents(struct worker *worker)
{
	const struct source *source = &worker->fuzz->source;
	struct thaw_kmod_extents call = {.first = number(worker, source->pages - 1)};
	static _Thread_local struct thaw_kmod_extent wrong[64];

	if (pick(worker, 3)) {
		call.first = pick(worker, source->pages);
		call.count = pick(worker, source->pages - call.first + 1);
		call.extents = (uintptr_t)(source->extents + call.first);
	} else {
		for (unsigned i = 0; i < 64; i++)
			wrong[i] = (struct thaw_kmod_extent){
				.offset = number(worker, BYTES),
				.encoding = (uint32_t)pick(worker, 4),
				.checksum = {number(worker, 9), number(worker, 9)}};
		call.count = number(worker, 64);
		call.extents = pick(worker, 8) ? (uintptr_t)wrong : (uintptr_t)place(worker);
	}
	count_if(!device_call(file_of(worker), THAW_KMOD_EXTENTS, &call),
		 &worker->fuzz->done->told);
}

static void change_pages(struct worker *worker)
{
	static const unsigned long calls[] = {THAW_KMOD_FILL, THAW_KMOD_ZERO_PAGES,
					      THAW_KMOD_POISON, THAW_KMOD_WAKE, THAW_KMOD_PREFETCH};
	unsigned long request = calls[pick(worker, 5)];
	struct thaw_kmod_pages call = {.first = number(worker, BYTES / 8192),
				       .count = number(worker, pick(worker, 4) ? 8 : BYTES / 4096)};

	/* Its own memory, a region's (which may be missing itself), or nothing. */
	if (request == THAW_KMOD_FILL)
		call.source = pick(worker, 2) ? (uintptr_t)worker->fuzz->source.extents
					      : (uintptr_t)place(worker);
	/* Poison spreads: little of it. */
	if (request != THAW_KMOD_POISON || !pick(worker, 8))
		count_if(!device_call(file_of(worker), request, &call) && call.done,
			 &worker->fuzz->done->filled);
}

/* As who harvests does; or anything else is written into the ring. */
static void mark_ring(struct worker *worker, int file)
{
	struct thaw_kmod_dirty *entries;
	struct thaw_kmod_ring *ring;

	pthread_mutex_lock(&worker->fuzz->mapping);
	ring = mmap(worker->fuzz->ring, RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
		    (off_t)THAW_KMOD_RING_OFFSET);
	if (ring != MAP_FAILED) {
		entries = (void *)((char *)ring + THAW_KMOD_ENTRIES_AT);
		for (size_t i = 0; i < 64; i++)
			entries[i].flags = THAW_KMOD_HARVESTED;
		if (!pick(worker, 4))
			((uint32_t *)ring)[pick(worker, 6)] = (uint32_t)number(worker, 64);
		if (!pick(worker, 4))
			entries[pick(worker, 64)].page = number(worker, BYTES / 4096);
	}
	empty(worker->fuzz->ring, RING);
	pthread_mutex_unlock(&worker->fuzz->mapping);
}

static void harvest(struct worker *worker)
{
	uint64_t pages[64];
	struct thaw_kmod_reset reset = {.most = (uint32_t)number(worker, 64)};
	struct thaw_kmod_overflow overflow = {.first = number(worker, 2048),
					      .pages = (uintptr_t)pages,
					      .room = (uint32_t)pick(worker, 65)};
	struct thaw_kmod_accessed accessed = {.pages = (uintptr_t)pages,
					      .room = (uint32_t)pick(worker, 65)};
	struct thaw_kmod_counters counters;
	int file = file_of(worker);

	if (!pick(worker, 10))
		overflow.pages = accessed.pages = (uintptr_t)place(worker);
	if (pick(worker, 4))
		mark_ring(worker, file);
	count_if(!device_call(file, THAW_KMOD_RESET, &reset) && reset.done,
		 &worker->fuzz->done->harvested);
	device_call(file, THAW_KMOD_OVERFLOW, &overflow);
	device_call(file, THAW_KMOD_ACCESSED, &accessed);
	device_call(file, THAW_KMOD_COUNTERS, &counters);
}

static void call_anything(struct worker *worker)
{
	uint64_t argument[32];
	unsigned long request = pick(worker, 2) ? _IOC(pick(worker, 4), 'T',
						       0xa0 + pick(worker, 14), pick(worker, 200))
						: next_random(&worker->random);

	for (unsigned i = 0; i < 32; i++)
		argument[i] = number(worker, BYTES);
	device_call(file_of(worker), request,
		    pick(worker, 2) ? (void *)argument : (void *)place(worker));
}

static void map(struct worker *worker)
{
	const bool ring = !pick(worker, 3), huge = !pick(worker, 8);
	size_t bytes = pick(worker, 3) ? (ring ? RING : BYTES) : number(worker, 2 * BYTES);
	uint64_t offset = (ring ? THAW_KMOD_RING_OFFSET : THAW_KMOD_MEMORY_OFFSET) +
			  (pick(worker, 3) ? 0 : number(worker, BYTES) & -4096ull);
	int protection = pick(worker, 8) ? PROT_READ | PROT_WRITE : (int)pick(worker, 8);
	int flags = (pick(worker, 10) ? MAP_SHARED : MAP_PRIVATE) |
		    (pick(worker, 8) ? 0 : MAP_POPULATE);
	char *at;

	/* Of any length, and gone again; or of one that the place has room for. */
	if (!huge)
		bytes = 1 + bytes % ROOM, flags |= MAP_FIXED;
	else
		flags &= ~MAP_POPULATE;
	if (huge)
		pthread_mutex_lock(&worker->fuzz->mapping);
	at = mmap(huge ? NULL : room_of(worker), bytes, protection, flags, file_of(worker),
		  (off_t)offset);
	if (huge && at != MAP_FAILED)
		munmap(at, bytes);
	if (huge)
		pthread_mutex_unlock(&worker->fuzz->mapping);
	count_if(at != MAP_FAILED, &worker->fuzz->done->mapped);
}

static void change_mapping(struct worker *worker)
{
	static const int advice[] = {MADV_NORMAL,
				     MADV_RANDOM,
				     MADV_WILLNEED,
				     MADV_DONTNEED,
				     MADV_FREE,
				     MADV_REMOVE,
				     MADV_DONTFORK,
				     MADV_DOFORK,
				     MADV_HUGEPAGE,
				     MADV_NOHUGEPAGE,
				     20,
				     21,
				     25 /* COLLAPSE */};
	size_t first = pick(worker, pick(worker, 2) ? 65536 : BYTES) & -4096ull;
	size_t bytes = (4096 + pick(worker, BYTES - first)) & -4096ull;
	size_t bytes_after = (4096 + number(worker, BYTES) % (ROOM - 4096)) & -4096ull;
	char *room = room_of(worker), *other = room_of(worker);

	switch (pick(worker, 6)) {
	case 0:
		empty(room + first, bytes);
		break;
	case 1:
		mprotect(room + first, bytes, (int)pick(worker, 8));
		break;
	case 2:
		/* The whole of it or a part, to any size. */
		pthread_mutex_lock(&worker->fuzz->mapping);
		if (room != other && mremap(room + first, bytes, bytes_after,
					    MREMAP_MAYMOVE | MREMAP_FIXED, other) != MAP_FAILED)
			empty(room + first, bytes);
		pthread_mutex_unlock(&worker->fuzz->mapping);
		break;
	case 3:
		if (!pick(worker, 4))
			mlock(room + first, bytes < 65536 ? bytes : 65536);
		munlock(room + first, bytes);
		break;
	case 4:
		msync(room + first, bytes, MS_SYNC);
		break;
	default:
		madvise(room + first, bytes,
			advice[pick(worker, sizeof(advice) / sizeof(advice[0]))]);
	}
}

static void touch(struct worker *worker)
{
	for (int i = 0; i < 20; i++) {
		char *at = room_of(worker) + pick(worker, i % 4 ? 262144 : ROOM);

		count_if(!(pick(worker, 2) ? touch_read(at) : touch_write(at, (char)i)),
			 &worker->fuzz->done->touched);
	}
}

static void touch_by_calls(struct worker *worker)
{
	struct iovec here = {place(worker), pick(worker, 65536)},
		     there = {place(worker), pick(worker, 65536)};
	int fd = worker->fuzz->source.fd;

	switch (pick(worker, 4)) {
	case 0:
		syscall(SYS_pread64, fd, place(worker), pick(worker, 65536), pick(worker, BYTES));
		break;
	case 1:
		process_vm_readv(getpid(), &here, 1, &there, 1, 0);
		break;
	case 2:
		process_vm_writev(getpid(), &here, 1, &there, 1, 0);
		break;
	default:
		syscall(SYS_getrandom, place(worker), pick(worker, 256), 0);
	}
}

static void answer(struct worker *worker, int file)
{
	struct thaw_kmod_request requests[4];
	ssize_t got = read(file, requests, sizeof(requests));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(requests[0]); i++) {
		struct thaw_kmod_pages call = {.first = requests[i].page,
					       .count = 1,
					       .source = (uintptr_t)worker->fuzz->source.extents};

		call.source = pick(worker, 2) ? call.source : 0;
		count_if(!device_call(file, call.source ? THAW_KMOD_FILL : THAW_KMOD_ZERO_PAGES,
				      &call),
			 &worker->fuzz->done->answered);
	}
}

static void listen_to(struct worker *worker)
{
	struct pollfd ready = {file_of(worker), (short)pick(worker, 65536), 0};
	char buffer[4096];

	poll(&ready, 1, pick(worker, 10) ? 0 : 1);
	if (pick(worker, 3))
		answer(worker, ready.fd);
	else
		syscall(SYS_read, ready.fd, pick(worker, 2) ? buffer : place(worker),
			number(worker, 64) % 4096);
}

static void fork_one(struct worker *worker)
{
	const struct itimerval soon = {.it_value = {.tv_usec = 200000}};
	pid_t child = fork();

	if (!child) {
		setitimer(ITIMER_REAL, &soon, NULL); /* the other timer stays with the parent */
		for (int i = 0; i < 50; i++)
			touch(worker);
		_exit(0);
	}
	if (child > 0 && pick(worker, 2))
		kill(child, SIGKILL);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static const struct {
	void (*does)(struct worker *worker);
	unsigned weight;
} operations[] = {{open_one, 3},     {open_right, 3},	  {create, 8},	{register_one, 8},
		  {tell_extents, 8}, {change_pages, 12},  {harvest, 8}, {call_anything, 6},
		  {map, 8},	     {change_mapping, 8}, {touch, 20},	{touch_by_calls, 8},
		  {listen_to, 10},   {fork_one, 1}};

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec often = {{0, 2000000}, {0, 2000000}};
	unsigned all = 0;

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		all += operations[i].weight;
	event._sigev_un._tid = (int)gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &worker->timer) ||
	    timer_settime(worker->timer, 0, &often, NULL))
		support_die("a timer");
	free(malloc(100));
	pthread_barrier_wait(&worker->fuzz->begin);
	while (support_seconds() < worker->fuzz->end) {
		unsigned at = (unsigned)pick(worker, all), i = 0;

		while (at >= operations[i].weight)
			at -= operations[i++].weight;
		operations[i].does(worker);
		atomic_fetch_add(&worker->fuzz->done->operations, 1);
	}
	timer_delete(worker->timer);
	return NULL;
}

/*
 * In a process of its own, which ends as it is: some threads still wait in the kernel for what nobody can answer any
 * more, because its descriptor is closed. What can be answered is, all the time.
 */
static int fuzz_process(const char *directory, uint64_t seed, double seconds, struct done *done)
{
	static struct fuzz fuzz;
	struct worker workers[THREADS + 1];
	struct sigaction action = {.sa_handler = call_away, .sa_flags = SA_NODEFER};

	touch_prepare();
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGALRM, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	source_make(&fuzz.source, directory, 4096, BYTES / 8192, 4096);
	unlink(fuzz.source.path);
	fuzz.rooms = mmap(NULL, MAPPINGS * ROOM, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fuzz.ring = mmap(NULL, RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fuzz.rooms == MAP_FAILED || fuzz.ring == MAP_FAILED)
		support_die("no room for mappings");
	for (unsigned i = 0; i < FILES; i++)
		fuzz.files[i] = -1;
	fuzz.end = support_seconds() + seconds;
	fuzz.done = done;
	pthread_mutex_init(&fuzz.mapping, NULL);
	pthread_barrier_init(&fuzz.begin, NULL, THREADS + 1);
	for (unsigned i = 0; i <= THREADS; i++) {
		workers[i] = (struct worker){.fuzz = &fuzz,
					     .random = (seed + i) * 0x9e3779b97f4a7c15ull | 1};
		if (i < THREADS && pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			support_die("pthread_create");
	}
	pthread_barrier_wait(&fuzz.begin);
	while (support_seconds() < fuzz.end) {
		for (unsigned i = 0; i < FILES; i++)
			answer(&workers[THREADS], fuzz.files[i]);
		support_sleep(0.005);
	}
	return 0;
}

FIXTURE(fuzz)
{
	char *directory;
	struct done *done;
	long users;
};
FIXTURE_SETUP(fuzz)
{
	NEEDS_DEVICE();
	self->directory = support_directory();
	self->users = module_users();
	self->done = mmap(NULL, sizeof(*self->done), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->done);
}
FIXTURE_TEARDOWN(fuzz)
{
	support_remove(self->directory);
}

/* Has everything been done at least once that there is to do? */
static bool all_done(const struct done *done)
{
	for (size_t i = 0; i < sizeof(*done) / sizeof(uint64_t); i++)
		if (!atomic_load((const _Atomic uint64_t *)done + i))
			return false;
	return atomic_load(&done->operations) > 1000;
}

#define DONE(what) (unsigned long long)atomic_load(&self->done->what)

TEST_F_TIMEOUT(fuzz, nothing_that_a_process_does_harms_the_kernel, 7200)
{
	double end = support_seconds() + device_duration(15), hang = support_deadline(60);
	uint64_t seed = device_seed();

	/* A slow machine takes longer to have done everything. */
	for (unsigned round = 0;
	     support_seconds() < end || (!all_done(self->done) && support_seconds() < hang);
	     round++) {
		pid_t children[PROCESSES];
		int status;

		for (unsigned i = 0; i < PROCESSES; i++) {
			children[i] = fork();
			ASSERT_LE(0, children[i]);
			if (!children[i])
				_exit(fuzz_process(self->directory, seed + round * 100 + i * 10, 3,
						   self->done));
		}
		for (unsigned i = 0; i < PROCESSES; i++) {
			ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
			EXPECT_EQ(0, status);
		}
		ASSERT_TRUE(module_users_become(self->users));
	}
	EXPECT_TRUE(all_done(self->done));
	TH_LOG("%llu operations; %llu registered, %llu told extents, %llu filled, %llu harvested, %llu answered, "
	       "%llu mapped, %llu touched",
	       DONE(operations), DONE(registered), DONE(told), DONE(filled), DONE(harvested),
	       DONE(answered), DONE(mapped), DONE(touched));
}

TEST_HARNESS_MAIN
