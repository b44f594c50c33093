// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_strangers.c - answers that the small store never gives: of who does not speak the protocol, or not as it should. Nothing of them is
 * taken for an object or a list, and nothing is asked for ever.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>

#include "base/clock.h"
#include "free_port.h"
#include "store/s3.h"
#include "store_server.h"

static struct thaw_error error;

/* Answers one request of each connection, whatever it is: with each of these in turn, and the last one for ever. */
static pid_t run_stranger(unsigned port, const char *const *says)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t child;

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 10))
		support_die("bind");
	child = support_fork();
	if (child) {
		close(fd);
		return child;
	}
	for (;;) {
		int connection = accept(fd, NULL, NULL);
		char rest[4096];

		if (write(connection, *says, strlen(*says)) < 0)
			_exit(1);
		says += says[1] != NULL;
		shutdown(connection, SHUT_WR);
		while (read(connection, rest, sizeof(rest)) > 0)
			;
		close(connection);
	}
}

static int ask_in_turn(const char *const *says, struct s3_request *request)
{
	unsigned port = find_free_port();
	pid_t stranger = run_stranger(port, says);
	const struct s3_settings settings = {.back_off_ns = 1000000};
	char endpoint[64];
	struct s3 *s3;
	int code;

	request->deadline_ns = clock_monotonic_ns() + 100000000000ull * test_patience_now();
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", port);
	setenv("AWS_ENDPOINT_URL", endpoint, 1);
	setenv("AWS_ACCESS_KEY_ID", "a", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "b", 1);
	setenv("NO_PROXY", "127.0.0.1", 1);
	unsetenv("AWS_ENDPOINT_URL_S3");
	if (s3_open("s3://bucket/place", &settings, &s3, &error))
		support_die(error.text);
	code = s3_do(s3, request, &error);
	s3_release(request);
	s3_close(s3);
	kill(stranger, SIGKILL);
	waitpid(stranger, NULL, 0);
	return code;
}

static int ask_stranger(const char *says, enum s3_verb verb)
{
	char into[16];
	struct s3_request request = {
		.verb = verb, .key = "a", .into = into, .length = sizeof(into)};

	return ask_in_turn((const char *const[]){says, NULL}, &request);
}

TEST(who_does_not_speak_the_protocol_is_found_out)
{
	EXPECT_EQ(-EPROTO, ask_stranger("SSH-2.0-OpenSSH_9.2\r\n", S3_GET));
	EXPECT_NE(NULL, strstr(error.text, "does not speak HTTP"));
	EXPECT_EQ(-EPROTO, ask_stranger("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"
					"<html>Hello</html",
					S3_LIST));
	/* Another part than was asked for, and none at all. */
	EXPECT_EQ(-EPROTO, ask_stranger("HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n"
					"Content-Range: bytes 100-115/200\r\n\r\n0123456789abcdef",
					S3_GET));
	EXPECT_EQ(-EPROTO, ask_stranger("HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n\r\n"
					"0123456789abcdef",
					S3_GET));
	EXPECT_EQ(-EPROTO, ask_stranger("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", S3_GET));
	EXPECT_EQ(-EPROTO, ask_stranger("HTTP/1.1 200 OK\r\n\r\n", S3_HEAD));
	/* All of it, instead of a part: that is right. */
	EXPECT_EQ(0, ask_stranger("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
				  "0123456789abcdefghij",
				  S3_GET));
}

#define LIST_HEAD "HTTP/1.1 200 OK\r\n\r\n<ListBucketResult><Name>b</Name>"
#define LIST_END "</ListBucketResult>"

TEST(lists_that_cannot_be_are_found_out)
{
	EXPECT_EQ(
		-EPROTO,
		ask_stranger(LIST_HEAD
			     "<Contents><Key>another/place</Key><Size>1</Size></Contents>" LIST_END,
			     S3_LIST));
	EXPECT_EQ(-EPROTO, ask_stranger(LIST_HEAD
					"<IsTruncated>true</IsTruncated>"
					"<NextContinuationToken>x</NextContinuationToken>" LIST_END,
					S3_LIST));
	EXPECT_NE(NULL, strstr(error.text, "does not come to an end"));
	EXPECT_EQ(-EPROTO,
		  ask_stranger(LIST_HEAD "<IsTruncated>true</IsTruncated>" LIST_END, S3_LIST));
	EXPECT_EQ(-EPROTO, ask_stranger(LIST_HEAD, S3_LIST));
	EXPECT_EQ(0, ask_stranger(LIST_HEAD LIST_END, S3_LIST));
}

/* Of a server that takes no notice of If-Match. */
TEST(parts_of_two_objects_are_not_joined)
{
	static const char *const says[] = {
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\nETag: \"1\"\r\n"
		"Content-Range: bytes 0-15/16\r\n\r\n01234567",
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 8\r\nETag: \"2\"\r\n"
		"Content-Range: bytes 8-15/16\r\n\r\nijklmnop",
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\nETag: \"2\"\r\n"
		"Content-Range: bytes 0-15/16\r\n\r\nabcdefghijklmnop",
		NULL};
	/* And of one that says nothing by which its objects are known. */
	static const char *const nameless[] = {
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n"
		"Content-Range: bytes 0-15/16\r\n\r\n01234567",
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n"
		"Content-Range: bytes 0-15/16\r\n\r\nabcdefghijklmnop",
		NULL};
	char into[17] = "";
	struct s3_request get = {.verb = S3_GET, .key = "a", .into = into, .length = 16};

	EXPECT_EQ(0, ask_in_turn(says, &get));
	EXPECT_STREQ("abcdefghijklmnop", into);
	EXPECT_EQ(3, get.tries);
	EXPECT_EQ(0, ask_in_turn(nameless, &get));
	EXPECT_STREQ("abcdefghijklmnop", into);
	EXPECT_EQ(2, get.tries);
}

TEST(what_was_there_and_is_gone_is_put)
{
	static const char *const says[] = {"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n",
					   "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
					   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL};
	struct s3_request put = {.verb = S3_PUT, .flags = S3_NEW, .key = "a"};

	EXPECT_EQ(0, ask_in_turn(says, &put));
	EXPECT_EQ(3, put.tries);
}

TEST_HARNESS_MAIN
