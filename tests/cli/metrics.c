// SPDX-License-Identifier: GPL-2.0-only
/*
 * metrics.c - what a running program tells Prometheus: every line is of its text format, every name follows its conventions (the
 * rules of promtool check metrics), histograms add up, and the numbers grow with what the program does. Over the socket
 * and over HTTP, which other machines cannot reach.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <arpa/inet.h>

#include "support.h"

#define FAMILIES 64

struct family {
	char name[80], type[16];
	bool has_help;
	unsigned samples;
	double last, sum, count, infinite;
};

static struct family families[FAMILIES];
static unsigned family_count;

static struct family *find(const char *name, size_t bytes)
{
	for (unsigned i = 0; i < family_count; i++)
		if (strlen(families[i].name) == bytes && !strncmp(families[i].name, name, bytes))
			return &families[i];
	return NULL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && !strcmp(text + a - b, end);
}

/* What promtool complains of. NULL: nothing. */
static const char *complaint(const struct family *family)
{
	static const char *const units[] = {
		"milliseconds", "microseconds", "nanoseconds", "minutes", "hours",
		"days",		"kilobytes",	"megabytes",   "bits",	  "ms",
		"us",		"ns",		"kb",	       "mb"};
	static const char *const types[] = {"_counter", "_gauge", "_histogram", "_summary"};
	bool counts = !strcmp(family->type, "counter"), times = !strcmp(family->type, "histogram");

	for (const char *at = family->name; *at; at++)
		if (!islower((unsigned char)*at) && !isdigit((unsigned char)*at) && *at != '_')
			return "characters";
	if (!family->has_help)
		return "no help text";
	if (counts != ends_with(family->name, "_total"))
		return "_total is for counters, and for all of them";
	if (!times && (ends_with(family->name, "_count") || ends_with(family->name, "_sum") ||
		       ends_with(family->name, "_bucket")))
		return "a reserved end";
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strstr(family->name, types[i]))
			return "the type in the name";
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		char part[32];

		snprintf(part, sizeof(part), "_%s", units[i]);
		if (ends_with(family->name, part))
			return "no base unit";
	}
	if (times && (family->infinite != family->count || family->samples < 4))
		return "its buckets do not add up";
	return family->samples ? NULL : "no sample";
}

/* "# HELP name text" and "# TYPE name type". */
static bool take_comment(const char *line)
{
	char name[80], type[16], rest[200];
	struct family *family;

	if (sscanf(line, "# HELP %79s %199[^\n]", name, rest) == 2 && family_count < FAMILIES &&
	    !find(name, strlen(name))) {
		family = &families[family_count++];
		*family = (struct family){.has_help = true};
		strcpy(family->name, name);
		return true;
	}
	if (sscanf(line, "# TYPE %79s %15s", name, type) != 2 ||
	    !(family = find(name, strlen(name))))
		return false;
	strcpy(family->type, type);
	return !strcmp(type, "counter") || !strcmp(type, "gauge") || !strcmp(type, "histogram");
}

/* A sample belongs to the family above it. */
static bool take_sample(const char *line)
{
	struct family *family = family_count ? &families[family_count - 1] : NULL;
	size_t bytes = strcspn(line, "{ ");
	const char *value = strrchr(line, ' '), *labels = line + bytes;
	char *end;
	double number;

	if (!family || !*family->type || !value ||
	    strncmp(line, family->name, strlen(family->name)))
		return false;
	number = strtod(value + 1, &end);
	if (end == value + 1 || *end || number < 0)
		return false;
	if (*labels == '{' && !strstr(labels, "\"} "))
		return false;
	family->samples++;
	if (strcmp(family->type, "histogram")) {
		family->last = number;
		return bytes == strlen(family->name);
	}
	if (!strncmp(line + strlen(family->name), "_bucket{le=\"", 12)) {
		if (number < family->last)
			return false; /* they are cumulative */
		family->last = number;
		if (strstr(labels, "\"+Inf\""))
			family->infinite = number;
		return true;
	}
	*(ends_with(line, value) && !strncmp(line + strlen(family->name), "_sum ", 5)
		  ? &family->sum
		  : &family->count) = number;
	return true;
}

static bool parse(char *text)
{
	family_count = 0;
	if (!*text || !ends_with(text, "\n"))
		return false;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (*line == '#' ? !take_comment(line) : !take_sample(line)) {
			printf("# not of the format: %s\n", line);
			return false;
		}
	for (unsigned i = 0; i < family_count; i++)
		if (complaint(&families[i])) {
			printf("# %s: %s\n", families[i].name, complaint(&families[i]));
			return false;
		}
	return true;
}

static double value_of(const char *name)
{
	struct family *family = find(name, strlen(name));

	return !family ? -1 : strcmp(family->type, "histogram") ? family->last : family->count;
}

/* The rules themselves are able to fail. */
TEST(what_is_no_metric_is_found)
{
	static const char *const wrong[] = {
		"thaw_a 1\n",
		"# HELP thaw_a x\n# TYPE thaw_a counter\nthaw_a 1\n",
		"# HELP thaw_a_total x\n# TYPE thaw_a_total gauge\nthaw_a_total 1\n",
		"# HELP thaw_a_ms x\n# TYPE thaw_a_ms gauge\nthaw_a_ms 1\n",
		"# HELP thaw_a x\n# TYPE thaw_a gauge\nthaw_b 1\n",
		"# HELP thaw_a x\n# TYPE thaw_a gauge\nthaw_a one\n",
		"# HELP thaw_a x\n# TYPE thaw_a gauge\nthaw_a 1",
		"# HELP thaw_a x\n# TYPE thaw_a histogram\nthaw_a_bucket{le=\"1\"} 2\n"
		"thaw_a_bucket{le=\"2\"} 1\nthaw_a_bucket{le=\"+Inf\"} 2\nthaw_a_sum 1\nthaw_a_count 2\n",
		"# HELP thaw_a x\n# TYPE thaw_a histogram\nthaw_a_bucket{le=\"1\"} 1\n"
		"thaw_a_bucket{le=\"+Inf\"} 2\nthaw_a_sum 1\nthaw_a_count 3\n",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char *text = strdup(wrong[i]);

		EXPECT_FALSE(parse(text))
		{
			TH_LOG("%s", wrong[i]);
		}
		free(text);
	}
}

FIXTURE(metrics)
{
	char *directory, *script, *image, *socket;
	struct program program, ctl;
};
FIXTURE_SETUP(metrics)
{
	char *why;

	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->socket = support_format("%s/metrics", self->directory);
	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
	support_write(self->script,
		      "globalThis.n = []\nsetInterval(() => { n.push(`${n.length}`) }, 2)\n"
		      "console.log('it runs')\n");
}
FIXTURE_TEARDOWN(metrics)
{
	if (self->program.pid)
		program_kill(&self->program);
	program_free(&self->program);
	program_free(&self->ctl);
	free(self->script);
	free(self->image);
	free(self->socket);
	support_remove(self->directory);
}

#define CTL(...)                       \
	(program_free(&self->ctl),     \
	 program_run(&self->ctl, NULL, \
		     THAW("ctl", "--timeout", "1min", self->image, __VA_ARGS__)))

TEST_F(metrics, they_are_well_formed_and_grow_with_what_is_done)
{
	double checkpoints, pauses, written, dirty, generation;

	self->program =
		program_start(THAW("run", "--every", "0", "--commit", "output", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "it runs", 60));
	ASSERT_EQ(0, CTL("checkpoint"));
	ASSERT_EQ(0, CTL("metrics"));
	ASSERT_TRUE(parse(self->ctl.output));
	checkpoints = value_of("thaw_checkpoints_total");
	pauses = value_of("thaw_pause_seconds");
	written = value_of("thaw_written_bytes_total");
	dirty = value_of("thaw_dirty_bytes_total");
	generation = value_of("thaw_generation");
	EXPECT_LE(1, checkpoints);
	EXPECT_EQ(checkpoints, pauses);
	EXPECT_EQ(checkpoints, value_of("thaw_durable_seconds"));
	EXPECT_LT(0, written);
	EXPECT_LT(0, dirty);
	EXPECT_EQ(0, value_of("thaw_checkpoint_failures_total"));
	EXPECT_EQ(0, value_of("thaw_restarts_total"));
	EXPECT_LE(0, value_of("thaw_held_output_bytes"));
	EXPECT_LE(0, value_of("thaw_generation_age_seconds"));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, CTL("eval", "n.push('one more'); 0"));
	ASSERT_EQ(0, CTL("metrics"));
	ASSERT_TRUE(parse(self->ctl.output));
	EXPECT_LE(checkpoints + 3, value_of("thaw_checkpoints_total"));
	EXPECT_LE(pauses + 3, value_of("thaw_pause_seconds"));
	EXPECT_LT(written, value_of("thaw_written_bytes_total"));
	EXPECT_LT(dirty, value_of("thaw_dirty_bytes_total"));
	EXPECT_LT(generation, value_of("thaw_generation"));
}

/* The whole answer to a request, of which there is one for each connection. */
static char *http(const char *where, const char *request)
{
	struct sockaddr_in inet = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	bool is_local = *where == '/';
	int fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *text = calloc(1, 1 << 18);
	size_t bytes = 0;
	ssize_t got;

	snprintf(local.sun_path, sizeof(local.sun_path), "%s", where);
	inet.sin_port = htons((uint16_t)atoi(where));
	if (connect(fd, is_local ? (struct sockaddr *)&local : (struct sockaddr *)&inet,
		    is_local ? sizeof(local) : sizeof(inet)) ||
	    send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		support_die("connect");
	while (bytes < (1 << 18) - 1 &&
	       (got = recv(fd, text + bytes, (1 << 18) - 1 - bytes, 0)) > 0)
		bytes += (size_t)got;
	close(fd);
	return text;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

TEST_F(metrics, they_are_served_over_http_to_this_machine)
{
	char *port, *answer, *body, *where = support_format("unix:%s", self->socket);
	double end = support_deadline(60);
	bool restored;

	self->program = program_start(
		THAW("run", "--every", "20ms", "--metrics-listen", "127.0.0.1:0", self->script));
	if (program_wait_for_complaint(&self->program, "cannot be loaded", 0.1))
		SKIP(return, "libmicrohttpd is not on this machine");
	ASSERT_TRUE(program_wait_for(&self->program, "it runs", 60))
	TH_LOG("%s", self->program.errors);
	port = strstr(self->program.errors, "http://127.0.0.1:");
	ASSERT_NE(NULL, port);
	port = strdup(port + strlen("http://127.0.0.1:"));
	answer = http(port, GET("/metrics"));
	EXPECT_NE(NULL, strstr(answer, "200 OK"));
	EXPECT_NE(NULL, strstr(answer, "text/plain; version=0.0.4"));
	body = strstr(answer, "\r\n\r\n");
	ASSERT_NE(NULL, body);
	EXPECT_TRUE(parse(body + 4));
	EXPECT_LE(0, value_of("thaw_checkpoints_total"));
	free(answer);
	answer = http(port, GET("/"));
	EXPECT_NE(NULL, strstr(answer, "404 "));
	free(answer);
	answer = http(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: "
			    "close\r\n\r\nhi");
	EXPECT_NE(NULL, strstr(answer, "405 "));
	free(answer);
	free(port);
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	program_free(&self->program);
	self->program = program_start(
		THAW("run", "--every", "20ms", "--metrics-listen", where, self->script));
	while (access(self->socket, F_OK))
		support_sleep(0.01);
	/* It is served before the program is restored. */
	do {
		answer = http(self->socket, GET("/metrics"));
		restored = strstr(answer, "\nthaw_restores_total 1\n");
		free(answer);
	} while (!restored && support_seconds() < end);
	EXPECT_TRUE(restored);
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	EXPECT_NE(0, access(self->socket, F_OK));
	free(where);
}

#define SLOW 300
#define HALF "GET /metrics HTTP/1.1\r\nHost: x\r\nX"

/* -1: it is not taken within half a minute. */
static int connect_slowly(const char *where)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 30};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", where);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	/* One that has made room for others already is sent nothing. */
	if (send(fd, HALF, strlen(HALF), MSG_NOSIGNAL) < 0 && errno != EPIPE)
		support_die("send");
	return fd;
}

static bool is_answered(const char *where)
{
	static const char rest[] = ": y\r\n\r\n";
	int fd = connect_slowly(where);
	char text[64] = "";
	ssize_t got = -1;

	if (fd >= 0 && send(fd, rest, strlen(rest), MSG_NOSIGNAL) > 0)
		got = recv(fd, text, sizeof(text) - 1, 0);
	if (fd >= 0)
		close(fd);
	return got > 0 && strstr(text, " 200 OK");
}

/* A number that the kernel tells of the thread which serves them; -1: there is none. */
static long of_control_thread(pid_t pid, const char *file, const char *format)
{
	char path[300], text[4096];
	struct dirent *entry;
	long number = -1;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && number < 0 && (entry = readdir(tasks))) {
		const char *at = text;
		FILE *from;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, entry->d_name, file);
		from = fopen(path, "re");
		if (!from)
			continue;
		text[fread(text, 1, sizeof(text) - 1, from)] = '\0';
		fclose(from);
		if (!strstr(text, "thaw-control"))
			continue;
		while (sscanf(at, format, &number) != 1 && (at = strchr(at, '\n')))
			at++;
	}
	if (tasks)
		closedir(tasks);
	return number;
}

/* Seconds that it has run. */
static double control_seconds(pid_t pid)
{
	long ticks = of_control_thread(
		pid, "stat", "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld");

	return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* How often it has gone to sleep. */
static long control_sleeps(pid_t pid)
{
	return of_control_thread(pid, "status", "voluntary_ctxt_switches: %ld");
}

/* Whose request does not come to its end keeps nobody out: while all of them are there, when they go, and after that. */
TEST_F(metrics, who_asks_for_them_slowly_makes_room_and_has_an_end)
{
	char *where = support_format("unix:%s", self->socket);
	double begun, spent, end = support_deadline(60);
	static int fds[SLOW];
	char text[64];

	self->program =
		program_start(THAW("run", "--every", "0", "--metrics-listen", where, self->script));
	if (program_wait_for_complaint(&self->program, "cannot be loaded", 0.1))
		SKIP(return, "libmicrohttpd is not on this machine");
	ASSERT_TRUE(program_wait_for(&self->program, "it runs", 60));
	for (int i = 0; i < SLOW; i++) {
		fds[i] = connect_slowly(self->socket);
		ASSERT_LE(0, fds[i])
		TH_LOG("the connection %d is not taken", i);
	}
	EXPECT_TRUE(is_answered(self->socket));
	/* The first of them has made room, and the last one has its time: but no more, whatever it sends. */
	errno = 0;
	EXPECT_GE(0, recv(fds[0], text, sizeof(text), 0));
	EXPECT_NE(EAGAIN, errno);
	begun = support_seconds();
	spent = control_seconds(self->program.pid);
	while (send(fds[SLOW - 1], "y", 1, MSG_NOSIGNAL) == 1) {
		ASSERT_LT(support_seconds(), end);
		support_sleep(0.05);
	}
	EXPECT_LT(1, support_seconds() - begun);
	EXPECT_GT((support_seconds() - begun) / 4, control_seconds(self->program.pid) - spent);
	for (int i = 0; i < SLOW; i++)
		close(fds[i]);
	EXPECT_TRUE(is_answered(self->socket));
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	free(where);
}

/* It sleeps meanwhile, and they are answered when there is one again. */
TEST_F(metrics, who_comes_when_there_is_no_descriptor_waits_for_one)
{
	char *where = support_format("unix:%s", self->socket);
	static const char rest[] = ": y\r\n\r\n";
	char *path = support_format("%s.ctl", self->image), text[64] = "";
	double end = support_deadline(60);
	struct rlimit before, none;
	long sleeps;
	int http, ctl;

	self->program =
		program_start(THAW("run", "--every", "0", "--metrics-listen", where, self->script));
	if (program_wait_for_complaint(&self->program, "cannot be loaded", 0.1))
		SKIP(return, "libmicrohttpd is not on this machine");
	ASSERT_TRUE(program_wait_for(&self->program, "it runs", 60));
	ASSERT_EQ(0, CTL("status"));
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_NOFILE, NULL, &before));
	none = (struct rlimit){3, before.rlim_max}; /* what is open stays */
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_NOFILE, &none, NULL));
	for (int both = 0; both < 2; both++) {
		http = both ? connect_slowly(self->socket) : -1;
		ctl = connect_slowly(path);
		ASSERT_LE(0, ctl);
		sleeps = control_sleeps(self->program.pid);
		ASSERT_LT(0, sleeps);
		while (control_sleeps(self->program.pid) < sleeps + 4) {
			ASSERT_LT(support_seconds(), end);
			support_sleep(0.02);
		}
		if (!both)
			close(ctl);
	}
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_NOFILE, &before, NULL));
	ASSERT_LT(0, send(http, rest, strlen(rest), MSG_NOSIGNAL));
	ASSERT_LT(0, recv(http, text, sizeof(text) - 1, 0));
	EXPECT_NE(NULL, strstr(text, " 200 OK"));
	/* What that was sent is no command, which it is told. */
	ASSERT_LT(0, recv(ctl, text, sizeof(text) - 1, 0));
	EXPECT_NE(NULL, strstr(text, "{\"ok\":false,"));
	close(http);
	close(ctl);
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	free(path);
	free(where);
}

TEST_F(metrics, they_are_for_this_machine_alone)
{
	static const char *const wrong[] = {
		"0.0.0.0:9000", "192.168.1.1:9000", "[::]:9000",       ":9000", "9000",
		"localhost",	"127.0.0.1:",	    "127.0.0.1:70000", "unix:"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		program_free(&self->ctl);
		EXPECT_EQ(9, program_run(&self->ctl, NULL,
					 THAW("run", "--metrics-listen", wrong[i], self->script)));
		EXPECT_NE(NULL, strstr(self->ctl.errors, "--metrics-listen"));
		EXPECT_STREQ("", self->ctl.output);
	}
}

TEST_HARNESS_MAIN
