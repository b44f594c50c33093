// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_failures.c - a store that fails, is slow, or is not there: requests go on until they succeed, or their time is over, or
 * nobody wants them any more; and what cannot succeed ends at once, with a line that says why.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "store/s3.h"
#include "store_server.h"

#define SECOND_NS 1000000000ull

FIXTURE(failing)
{
	struct store_server server;
	struct s3_settings settings;
	struct s3 *s3;
	struct thaw_error error;
	uint64_t deadline_ns;
};

static sem_t began_to_fail, works_again, ended;
static char reason[512];

static void note_trouble(void *arg, const struct thaw_error *why)
{
	(void)arg;
	if (why)
		snprintf(reason, sizeof(reason), "%s", why->text);
	sem_post(why ? &began_to_fail : &works_again);
}

static void note_end(struct s3_request *request)
{
	(void)request;
	sem_post(&ended);
}

static void wait_for(sem_t *event)
{
	while (sem_wait(event))
		;
}

static void reopen(FIXTURE_DATA(failing) * self)
{
	s3_close(self->s3);
	if (s3_open(self->server.place, &self->settings, &self->s3, &self->error))
		printf("# %s\n", self->error.text);
}

FIXTURE_SETUP(failing)
{
	sem_init(&began_to_fail, 0, 0);
	sem_init(&works_again, 0, 0);
	sem_init(&ended, 0, 0);
	self->settings = (struct s3_settings){.back_off_ns = 1000000,
					      .back_off_most_ns = 20000000,
					      .stall_ns = 30 * SECOND_NS * test_patience_now(),
					      .trouble = note_trouble,
					      .trouble_ns = 1};
	store_server_begin(&self->server);
	self->s3 = NULL;
	reopen(self);
	ASSERT_NE(NULL, self->s3);
	self->deadline_ns = clock_monotonic_ns() + 100 * SECOND_NS * test_patience_now();
}

FIXTURE_TEARDOWN(failing)
{
	s3_close(self->s3);
	store_server_end(&self->server);
}

static uint64_t soon(double seconds)
{
	return clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
}

/* With more and more time, until it has been tried at all: how busy the machine may be. */
static void put_in_little_time(FIXTURE_DATA(failing) * self, struct s3_request *request)
{
	for (double seconds = 0.2; seconds < 100; seconds *= 3) {
		request->deadline_ns = soon(seconds);
		if (s3_do(self->s3, request, &self->error) != -ETIMEDOUT || request->tries > 1)
			return;
	}
}

static int put(FIXTURE_DATA(failing) * self, const char *key, unsigned flags)
{
	return s3_put(self->s3, key, "body", 4, flags, self->deadline_ns, &self->error);
}

static struct s3_request putting(const char *key, unsigned flags, uint64_t deadline_ns)
{
	static const struct iovec piece = {"body", 4};

	return (struct s3_request){.verb = S3_PUT,
				   .key = key,
				   .flags = flags,
				   .pieces = &piece,
				   .piece_count = 1,
				   .deadline_ns = deadline_ns,
				   .done = note_end};
}

/* ---- What passes by itself */

TEST_F(failing, answers_that_pass_by_themselves_are_asked_for_again)
{
	static const struct {
		unsigned status;
		const char *code;
	} answers[] = {{500, "InternalError"},	{502, "BadGateway"},
		       {503, "SlowDown"},	{504, "Timeout"},
		       {429, "TooMany"},	{400, "RequestTimeout"},
		       {408, "RequestTimeout"}, {409, "ConditionalRequestConflict"}};
	struct s3_request request;
	char key[16];

	STORE_SKIP_REAL(&self->server);
	for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		store_server_order(&self->server, "/fault?kind=answer&status=%u&code=%s&count=3",
				   answers[i].status, answers[i].code);
		snprintf(key, sizeof(key), "k%u", i);
		request = putting(key, S3_NEW, self->deadline_ns);
		EXPECT_EQ(0, s3_do(self->s3, &request, &self->error));
		EXPECT_EQ(4, request.tries);
		s3_release(&request);
	}
}

/* The server did it, and answered 500, or nothing. */
TEST_F(failing, what_was_done_without_an_answer_is_found_to_be_done)
{
	struct s3_request request = putting("a", S3_NEW, self->deadline_ns);

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=answer&status=500&after=1&verb=PUT");
	EXPECT_EQ(0, s3_do(self->s3, &request, &self->error));
	s3_release(&request);
	request = putting("b", S3_NEW, self->deadline_ns);
	store_server_order(&self->server, "/fault?kind=lose&after=1&verb=PUT&count=2");
	store_server_order(&self->server, "/fault?kind=lose&verb=HEAD");
	EXPECT_EQ(0, s3_do(self->s3, &request, &self->error));
	EXPECT_NE(0, request.etag[0]);
	s3_release(&request);
	EXPECT_EQ(-EEXIST, put(self, "a", S3_NEW));
	EXPECT_EQ(-EEXIST, put(self, "b", S3_NEW));
}

TEST_F(failing, whether_it_was_done_is_told_to_be_unknown)
{
	struct s3_request request = putting("a", S3_NEW, 0);

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=lose&after=1&count=1000000");
	put_in_little_time(self, &request);
	EXPECT_EQ(-ETIMEDOUT, request.code);
	EXPECT_TRUE(request.unsure);
	s3_release(&request);
	store_server_order(&self->server, "/clear");
	store_server_order(&self->server, "/gone");
	request = putting("b", S3_NEW, soon(0.2));
	EXPECT_EQ(-ETIMEDOUT, s3_do(self->s3, &request, &self->error));
	EXPECT_FALSE(request.unsure);
	s3_release(&request);
}

TEST_F(failing, the_servers_wish_to_wait_is_kept_to)
{
	uint64_t begun = clock_monotonic_ns();

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server,
			   "/fault?kind=answer&status=503&code=SlowDown&retry=1&count=1");
	EXPECT_EQ(0, put(self, "a", 0));
	EXPECT_LE(SECOND_NS, clock_monotonic_ns() - begun);
}

TEST_F(failing, a_connection_that_was_closed_meanwhile_is_no_failure)
{
	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, put(self, "a", S3_NEW));
	store_server_restart(&self->server);
	ASSERT_EQ(0, put(self, "b", S3_NEW));
	EXPECT_EQ(-EEXIST, put(self, "a", S3_NEW));
}

/* ---- It hangs, or is gone */

TEST_F(failing, what_hangs_is_begun_again)
{
	struct s3_request request = putting("a", S3_NEW, self->deadline_ns);

	STORE_SKIP_REAL(&self->server);
	self->settings.stall_ns = SECOND_NS / 10;
	reopen(self);
	store_server_order(&self->server, "/fault?kind=hold&verb=PUT&key=a");
	EXPECT_EQ(0, s3_do(self->s3, &request, &self->error));
	EXPECT_LT(1, request.tries);
	s3_release(&request);
	for (unsigned after = 0; after < 400; after += 150) {
		char key[16];

		snprintf(key, sizeof(key), "k%u", after);
		store_server_order(&self->server, "/wire?direction=response&after=%u&action=hang",
				   after);
		EXPECT_EQ(0, put(self, key, S3_NEW));
	}
	store_server_order(&self->server, "/clear");
}

TEST_F(failing, a_store_that_is_gone_is_told_and_costs_nothing)
{
	struct s3_request requests[40];
	struct rusage before, after;
	struct s3_counts counts;
	char keys[40][8];
	double cpu;

	STORE_SKIP_REAL(&self->server);
	self->settings.back_off_most_ns = 200000000;
	reopen(self);
	ASSERT_EQ(0, put(self, "a", 0));
	store_server_order(&self->server, "/gone");
	getrusage(RUSAGE_SELF, &before);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%u", i);
		requests[i] = putting(keys[i], S3_NEW, 0);
		s3_start(self->s3, &requests[i]);
	}
	wait_for(&began_to_fail);
	EXPECT_NE(NULL, strstr(reason, "check the network"));
	support_sleep(0.5);
	getrusage(RUSAGE_SELF, &after);
	cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
	      (double)(after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
	      (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6 +
	      (double)(after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	EXPECT_GT(0.15, cpu);
	s3_count(self->s3, &counts);
	EXPECT_NE(0, counts.failing_since_ns);
	EXPECT_EQ(-1, sem_trywait(&ended));
	store_server_order(&self->server, "/back");
	wait_for(&works_again);
	for (unsigned i = 0; i < 40; i++)
		wait_for(&ended);
	for (unsigned i = 0; i < 40; i++) {
		EXPECT_EQ(0, requests[i].code);
		s3_release(&requests[i]);
	}
	s3_count(self->s3, &counts);
	EXPECT_EQ(0, counts.failing_since_ns);
}

TEST_F(failing, one_failure_that_passes_is_not_told)
{
	STORE_SKIP_REAL(&self->server);
	self->settings.trouble_ns = 1000 * SECOND_NS;
	reopen(self);
	store_server_order(&self->server, "/fault?kind=answer&status=500&count=3");
	EXPECT_EQ(0, put(self, "a", 0));
	EXPECT_EQ(-1, sem_trywait(&began_to_fail));
	EXPECT_EQ(-1, sem_trywait(&works_again));
}

/* Those that a program would get which this process executes, but for the standard streams. */
static unsigned inherited_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 3; fd < 256; fd++) {
		int flags = fcntl(fd, F_GETFD);

		count += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	return count;
}

/* What fails is told once, although other requests succeed meanwhile. */
TEST_F(failing, a_store_that_takes_nothing_is_told_once)
{
	struct s3_request stuck = putting("stuck", S3_NEW, 0);

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server,
			   "/fault?kind=answer&status=503&code=ReadOnly&key=stuck&count=1000000");
	s3_start(self->s3, &stuck);
	wait_for(&began_to_fail);
	EXPECT_NE(NULL, strstr(reason, "503 ReadOnly"));
	for (unsigned i = 0; i < 20; i++)
		EXPECT_EQ(0, put(self, "others", 0));
	EXPECT_EQ(-1, sem_trywait(&works_again));
	store_server_order(&self->server, "/clear");
	wait_for(&works_again);
	wait_for(&ended);
	EXPECT_EQ(0, stuck.code);
	EXPECT_EQ(-1, sem_trywait(&began_to_fail));
	s3_release(&stuck);
}

/* In a network of its own, with a name server that never answers. False: that is not allowed here. */
static bool enter_network_without_names(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(53),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	char *directory = support_directory(), *file = support_format("%s/resolv.conf", directory);
	bool entered;
	int fd;

	support_write(file, "nameserver 127.0.0.1\n");
	entered = !unshare(CLONE_NEWNET | CLONE_NEWNS) ||
		  !unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
	entered = entered && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		  !mount(file, "/etc/resolv.conf", NULL, MS_BIND, NULL);
	free(file);
	support_remove(directory);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return entered && !ioctl(fd, SIOCSIFFLAGS, &loopback) &&
	       !bind(fd, (struct sockaddr *)&address, sizeof(address));
}

TEST(a_name_server_that_does_not_answer_holds_nobody_up)
{
	struct s3_request request = putting("a", 0, 0);
	struct thaw_error error;
	unsigned before;
	struct s3 *s3;
	double begun;

	if (!enter_network_without_names())
		SKIP(return, "no network of one's own for this user");
	sem_init(&ended, 0, 0);
	setenv("AWS_ENDPOINT_URL", "http://store.example.org", 1);
	setenv("AWS_ACCESS_KEY_ID", "a", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "b", 1);
	unsetenv("AWS_ENDPOINT_URL_S3");
	before = inherited_descriptors();
	ASSERT_EQ(0, s3_open("s3://bucket/x", NULL, &s3, &error));
	begun = support_seconds();
	EXPECT_EQ(-ETIMEDOUT, s3_put(s3, "a", "b", 1, 0, soon(0.1), &error));
	s3_start(s3, &request);
	support_sleep(0.1); /* it is asked for by now, or will be */
	EXPECT_EQ(before, inherited_descriptors());
	s3_close(s3);
	wait_for(&ended);
	EXPECT_EQ(-ECANCELED, request.code);
	/* The resolver would wait 10 s, each time. */
	EXPECT_GT(9, support_seconds() - begun);
}

/* ---- The end of its time */

TEST_F(failing, the_end_of_the_time_says_what_failed)
{
	struct s3_request request = putting("a", 0, 0);
	uint64_t begun = clock_monotonic_ns();

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server,
			   "/fault?kind=answer&status=503&code=SlowDown&count=1000000");
	put_in_little_time(self, &request);
	EXPECT_EQ(-ETIMEDOUT, request.code);
	EXPECT_NE(NULL, strstr(self->error.text, "/a at http://127.0.0.1:"));
	EXPECT_NE(NULL, strstr(self->error.text, "it did not succeed in time, tried "));
	EXPECT_NE(NULL, strstr(self->error.text, "503 SlowDown"));
	s3_release(&request);
	store_server_order(&self->server, "/clear");
	store_server_order(&self->server, "/fault?kind=hold");
	request = putting("a", 0, soon(0.2));
	EXPECT_EQ(-ETIMEDOUT, s3_do(self->s3, &request, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "there was no answer in time"));
	s3_release(&request);
	EXPECT_LT(SECOND_NS / 10, clock_monotonic_ns() - begun);
}

/* ---- Nobody wants it */

TEST_F(failing, cancelled_requests_end_at_once)
{
	struct s3_request requests[30];

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=hold&count=20");
	for (unsigned i = 0; i < 30; i++) {
		requests[i] = putting(i < 20 ? "a" : "b", 0, 0);
		s3_start(self->s3, &requests[i]);
	}
	store_server_order(&self->server, "/wait?held=16");
	s3_cancel(self->s3);
	for (unsigned i = 0; i < 30; i++)
		wait_for(&ended);
	for (unsigned i = 0; i < 30; i++) {
		EXPECT_EQ(-ECANCELED, requests[i].code);
		EXPECT_EQ(i < 16, requests[i].unsure);
	}
	s3_start(self->s3, &requests[0]);
	wait_for(&ended);
	EXPECT_EQ(-ECANCELED, requests[0].code);
	EXPECT_EQ(-ECANCELED, put(self, "c", 0));
}

TEST_F(failing, one_that_is_stopped_ends_and_others_go_on)
{
	struct s3_request held = putting("held", 0, 0), other = putting("other", 0, 0);

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=hold&key=held");
	s3_start(self->s3, &held);
	store_server_order(&self->server, "/wait?held=1");
	s3_stop(self->s3, &held);
	wait_for(&ended);
	EXPECT_EQ(-ECANCELED, held.code);
	s3_start(self->s3, &other);
	wait_for(&ended);
	EXPECT_EQ(0, other.code);
	s3_release(&other);
}

static void *close_it(void *arg)
{
	s3_close(arg);
	return NULL;
}

TEST_F(failing, closing_ends_those_that_wait)
{
	struct s3_request request = putting("a", 0, 0);
	pthread_t thread;

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=hold");
	s3_start(self->s3, &request);
	store_server_order(&self->server, "/wait?held=1");
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_it, self->s3));
	wait_for(&ended);
	EXPECT_EQ(-ECANCELED, request.code);
	pthread_join(thread, NULL);
	self->s3 = NULL;
}

TEST_F(failing, what_is_urgent_does_not_wait_for_the_others)
{
	struct s3_request held = putting("held", 0, 0), waits = putting("waits", 0, 0),
			  urgent = putting("urgent", S3_URGENT, 0);

	STORE_SKIP_REAL(&self->server);
	self->settings.requests = 1;
	reopen(self);
	store_server_order(&self->server, "/fault?kind=hold&key=held");
	s3_start(self->s3, &held);
	store_server_order(&self->server, "/wait?held=1");
	s3_start(self->s3, &waits);
	s3_start(self->s3, &urgent);
	wait_for(&ended);
	EXPECT_EQ(0, urgent.code);
	EXPECT_NE(0, urgent.tries);
	EXPECT_EQ(0, store_server_count(&self->server, "PUT", "waits"));
	store_server_order(&self->server, "/release");
	wait_for(&ended);
	wait_for(&ended);
	EXPECT_EQ(0, waits.code);
	s3_release(&held), s3_release(&waits), s3_release(&urgent);
}

TEST_F(failing, connections_that_are_opened_in_advance_hold_up_nothing)
{
	STORE_SKIP_REAL(&self->server);
	self->settings.requests = 4;
	reopen(self);
	store_server_order(&self->server, "/fault?kind=hold&verb=HEAD&count=100");
	for (unsigned i = 0; i < 50; i++)
		s3_warm(self->s3, 4 + i);
	store_server_order(&self->server, "/wait?held=4");
	EXPECT_EQ(0, put(self, "a", S3_NEW));
	EXPECT_EQ(4, store_server_count(&self->server, "HEAD", ""));
	store_server_order(&self->server, "/clear");
}

/* ---- What cannot succeed */

TEST_F(failing, what_is_refused_ends_at_once)
{
	struct s3_request request = {.verb = S3_HEAD, .key = "a"};
	struct s3 *other;

	STORE_SKIP_REAL(&self->server);
	setenv("AWS_SECRET_ACCESS_KEY", "quite-another-secret", 1);
	reopen(self);
	EXPECT_EQ(-EACCES, put(self, "a", 0));
	EXPECT_NE(NULL, strstr(self->error.text, "SignatureDoesNotMatch"));
	EXPECT_NE(NULL, strstr(self->error.text, "AWS_ACCESS_KEY_ID in the environment"));
	EXPECT_EQ(NULL, strstr(self->error.text, "quite-another-secret"));
	EXPECT_EQ(-EACCES, s3_do(self->s3, &request, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "SignatureDoesNotMatch"));
	setenv("AWS_ACCESS_KEY_ID", "stranger", 1);
	reopen(self);
	EXPECT_EQ(-EACCES, put(self, "a", 0));
	EXPECT_NE(NULL, strstr(self->error.text, "InvalidAccessKeyId"));
	setenv("AWS_ACCESS_KEY_ID", "thaw-test", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "thaw/test+secret", 1);
	ASSERT_EQ(0, s3_open("s3://not-this-bucket/x", NULL, &other, &self->error));
	EXPECT_EQ(-ENODEV, s3_put(other, "a", "b", 1, 0, 0, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "there is no bucket not-this-bucket"));
	s3_close(other);
	reopen(self);
	store_server_order(&self->server,
			   "/fault?kind=answer&status=403&code=RequestTimeTooSkewed");
	EXPECT_EQ(-EACCES, put(self, "a", 0));
	EXPECT_NE(NULL, strstr(self->error.text, "clock"));
	store_server_order(&self->server, "/fault?kind=answer&status=403&code=AccessDenied");
	EXPECT_EQ(-EACCES, put(self, "a", 0));
	EXPECT_NE(NULL, strstr(self->error.text, "403 AccessDenied: of the test's server"));
	store_server_order(&self->server, "/fault?kind=answer&status=501&code=NotImplemented");
	EXPECT_EQ(-ENOTSUP, put(self, "a", 0));
	store_server_order(&self->server, "/fault?kind=answer&status=301&code=PermanentRedirect");
	EXPECT_EQ(-EPROTO, put(self, "a", 0));
	EXPECT_EQ(-1, sem_trywait(&began_to_fail));
}

/* ---- The thread */

static unsigned long long blocked_signals(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned long long blocked = 0;
	struct dirent *entry;

	while ((entry = readdir(tasks))) {
		char *path = support_format("/proc/self/task/%s/status", entry->d_name);
		char line[256], found[64] = "";
		FILE *file = fopen(path, "r");

		free(path);
		while (file && fgets(line, sizeof(line), file)) {
			sscanf(line, "Name: %63s", found);
			if (!strcmp(found, name))
				sscanf(line, "SigBlk: %llx", &blocked);
		}
		if (file)
			fclose(file);
	}
	closedir(tasks);
	return blocked;
}

TEST_F(failing, its_thread_takes_no_signals_and_its_descriptors_end_with_execve)
{
	unsigned before;

	s3_close(self->s3);
	self->s3 = NULL;
	before = inherited_descriptors(); /* what the test itself has inherited */
	reopen(self);
	ASSERT_EQ(0, put(self, "a", 0));
	EXPECT_EQ(before, inherited_descriptors());
	/* All but SIGKILL, SIGSTOP, and the two of the C library. */
	EXPECT_EQ(0xfffffffe7ffbfeffull, blocked_signals("thaw-store"));
}

TEST_HARNESS_MAIN
