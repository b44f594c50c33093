// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_credentials.c - who asks a store, and where that is: the environment, AWS's files, a command, a machine's metadata, in the order
 * of AWS's programs; and credentials that expire while they are used.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>

#include "base/clock.h"
#include "server/certificate.h"
#include "store/credentials.h"
#include "store/libcurl.h"
#include "store/s3.h"
#include "store_server.h"

FIXTURE(credentials)
{
	struct store_server server;
	char *directory, *file, *config;
	struct thaw_error error;
	struct credentials found;
	struct store_config where;
	uint64_t deadline_ns;
};

FIXTURE_SETUP(credentials)
{
	unsetenv("THAW_TEST_STORE"); /* of this one, what it says is known */
	store_server_begin(&self->server);
	self->directory = support_directory();
	self->file = support_format("%s/credentials", self->directory);
	self->config = support_format("%s/config", self->directory);
	setenv("AWS_SHARED_CREDENTIALS_FILE", self->file, 1);
	setenv("AWS_CONFIG_FILE", self->config, 1);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	unsetenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	self->found = (struct credentials){0};
	self->where = (struct store_config){0};
	self->deadline_ns = clock_monotonic_ns() + 100000000000ull;
	ASSERT_EQ(0, libcurl_load(&self->error));
}

FIXTURE_TEARDOWN(credentials)
{
	credentials_free(&self->found);
	store_config_free(&self->where);
	store_server_end(&self->server);
	free(self->file);
	free(self->config);
	support_remove(self->directory);
}

static int look(FIXTURE_DATA(credentials) * self)
{
	credentials_free(&self->found);
	return credentials_read(&self->found, &self->error);
}

static int look_where(FIXTURE_DATA(credentials) * self)
{
	store_config_free(&self->where);
	return store_config_read(&self->where, &self->error);
}

TEST_F(credentials, without_any_it_is_said_what_to_do)
{
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "set AWS_ACCESS_KEY_ID and"));
	setenv("AWS_ACCESS_KEY_ID", "one", 1);
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "AWS_SECRET_ACCESS_KEY is not"));
}

TEST_F(credentials, the_environment_comes_before_files)
{
	support_write(self->file, "[default]\naws_access_key_id = file\n"
				  "aws_secret_access_key = secret\n");
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("file", self->found.id);
	EXPECT_NE(NULL, strstr(self->found.from, self->file));
	setenv("AWS_ACCESS_KEY_ID", "environment", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "x", 1);
	setenv("AWS_SESSION_TOKEN", "token", 1);
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("environment", self->found.id);
	EXPECT_STREQ("token", self->found.token);
	EXPECT_STREQ("AWS_ACCESS_KEY_ID in the environment", self->found.from);
}

TEST_F(credentials, profiles)
{
	support_write(self->file,
		      "# a comment\n[default]\naws_access_key_id=a\n"
		      "aws_secret_access_key=b=c\n\n"
		      "[ other ]\n  \naws_access_key_id = o \naws_secret_access_key = p\n"
		      "aws_session_token = q\n");
	support_write(self->config,
		      "[default]\nregion = eu-central-1\naws_access_key_id = config\n"
		      "[profile other]\nregion = eu-north-1\nendpoint_url = https://all.example\n"
		      "ca_bundle = /ca.pem\n"
		      "s3 =\n  max_concurrent_requests = 5\n  addressing_style = virtual\n"
		      "output = json\n"
		      "[profile third]\naws_access_key_id = t\naws_secret_access_key = u\n"
		      "services = mine\n"
		      "[services mine]\ns3 =\n  endpoint_url = http://s3.example:9000\n"
		      "dynamodb =\n  endpoint_url = http://db.example\n");
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("a", self->found.id);
	EXPECT_STREQ("b=c", self->found.secret);
	EXPECT_EQ(NULL, self->found.token);
	unsetenv("AWS_ENDPOINT_URL");
	ASSERT_EQ(0, look_where(self));
	EXPECT_STREQ("eu-central-1", self->where.region);
	EXPECT_EQ(NULL, self->where.endpoint);

	setenv("AWS_PROFILE", "other", 1);
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("o", self->found.id);
	EXPECT_STREQ("q", self->found.token);
	ASSERT_EQ(0, look_where(self));
	EXPECT_STREQ("eu-north-1", self->where.region);
	EXPECT_STREQ("https://all.example", self->where.endpoint);
	EXPECT_STREQ("/ca.pem", self->where.ca_bundle);
	EXPECT_EQ(ADDRESSING_VIRTUAL, self->where.addressing);

	setenv("AWS_PROFILE", "third", 1);
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("t", self->found.id);
	ASSERT_EQ(0, look_where(self));
	EXPECT_STREQ("http://s3.example:9000", self->where.endpoint);
	setenv("AWS_ENDPOINT_URL", "http://of.the.environment", 1);
	setenv("AWS_REGION", "auto", 1);
	ASSERT_EQ(0, look_where(self));
	EXPECT_STREQ("http://of.the.environment", self->where.endpoint);
	EXPECT_STREQ("auto", self->where.region);

	setenv("AWS_PROFILE", "nobody", 1);
	EXPECT_EQ(-EINVAL, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "AWS_PROFILE=nobody: there is no such profile"));
}

TEST_F(credentials, what_is_not_understood_is_told_with_its_line)
{
	support_write(self->file, "[default]\naws_access_key_id a\n");
	EXPECT_EQ(-EINVAL, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "credentials, line 2"));
	support_write(self->file, "[default\n");
	EXPECT_EQ(-EINVAL, look(self));
	support_write(self->file, "[default]\naws_access_key_id = a\n");
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "no aws_secret_access_key"));
	support_write(self->file, "[default]\nrole_arn = arn:aws:iam::1:role/x\n"
				  "source_profile = y\n");
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "takes a role (role_arn)"));
}

TEST_F(credentials, of_a_command)
{
	support_write(
		self->config,
		"[default]\ncredential_process = printf "
		"'{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\","
		"\"SessionToken\":\"t\",\"Expiration\":\"2030-01-02T03:04:05Z\"}' \"it's me\"\n");
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("it's me", self->found.id);
	EXPECT_STREQ("t", self->found.token);
	EXPECT_EQ(1893553445000000000ull, self->found.expires_ns);
	support_write(self->config, "[default]\ncredential_process = echo '{}'\n");
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "credential_process does not print"));
	support_write(self->config, "[default]\ncredential_process = exit 3\n");
	EXPECT_EQ(-EACCES, look(self));
}

TEST_F(credentials, of_a_machine)
{
	char *endpoint = support_format("http://127.0.0.1:%u", self->server.control);

	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint, 1);
	EXPECT_EQ(-EACCES, look(self)); /* it is off */
	unsetenv("AWS_EC2_METADATA_DISABLED");
	store_server_order(&self->server, "/token?value=of-the-machine");
	ASSERT_EQ(0, look(self));
	EXPECT_STREQ("thaw-test", self->found.id);
	EXPECT_STREQ("of-the-machine", self->found.token);
	EXPECT_STREQ("this machine's metadata service", self->found.from);
	free(endpoint);
}

TEST_F(credentials, of_a_container)
{
	char *nobody = support_format("http://127.0.0.1:%u/nothing", self->server.control);

	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", nobody, 1);
	EXPECT_EQ(-EACCES, look(self));
	EXPECT_NE(NULL, strstr(self->error.text, "the container's agent"));
	free(nobody);
}

/* ---- While they are used */

static void write_token(FIXTURE_DATA(credentials) * self, const char *token)
{
	char *text = support_format("[default]\naws_access_key_id = thaw-test\n"
				    "aws_secret_access_key = thaw/test+secret\n"
				    "aws_session_token = %s\n",
				    token);
	char *part = support_format("%s.part", self->file);

	support_write(part, text);
	if (rename(part, self->file))
		support_die(part);
	free(part);
	free(text);
}

TEST_F(credentials, that_expire_are_read_again)
{
	const struct s3_settings settings = {.back_off_ns = 1000000, .back_off_most_ns = 20000000};
	struct s3_request head = {.verb = S3_HEAD, .key = "a", .deadline_ns = self->deadline_ns};
	struct s3 *s3;
	int code = 0;

	write_token(self, "first");
	store_server_order(&self->server, "/token?value=first");
	ASSERT_EQ(0, s3_open(self->server.place, &settings, &s3, &self->error));
	ASSERT_EQ(0, s3_put(s3, "a", "x", 1, S3_NEW, self->deadline_ns, &self->error));
	support_sleep(1.1); /* they are not read more often than once in a second */
	store_server_order(&self->server, "/token?value=second");
	write_token(self, "second");
	ASSERT_EQ(0, s3_put(s3, "b", "x", 1, S3_NEW, self->deadline_ns, &self->error));
	EXPECT_EQ(2, store_server_count(&self->server, "PUT", "/b"));
	/* An answer to HEAD does not say why. */
	store_server_order(&self->server, "/token?value=third");
	write_token(self, "third");
	ASSERT_EQ(0, s3_do(s3, &head, &self->error));
	EXPECT_EQ(1, head.object_bytes);
	s3_release(&head);
	/* Nobody renews them. */
	store_server_order(&self->server, "/token?value=fourth");
	for (double seconds = 0.2; code != -EACCES && seconds < 100; seconds *= 3)
		code = s3_put(s3, "c", "x", 1, S3_NEW,
			      clock_monotonic_ns() + (uint64_t)(seconds * 1e9), &self->error);
	EXPECT_EQ(-EACCES, code);
	EXPECT_NE(NULL, strstr(self->error.text, "have expired"));
	EXPECT_EQ(NULL, strstr(self->error.text, "third"));
	s3_close(s3);
}

static void nothing(struct s3_request *request)
{
	(void)request;
}

TEST_F(credentials, a_command_that_hangs_holds_nobody_up_who_closes)
{
	char *hangs = support_format("%s/hangs", self->directory),
	     *text = support_format(
		     "[default]\ncredential_process = echo '{\"AccessKeyId\":\"thaw-test\","
		     "\"SecretAccessKey\":\"thaw/test+secret\",\"SessionToken\":\"x\"}'; "
		     "test -e %s || exit 0; echo >> %s; exec sleep 1000\n",
		     hangs, hangs);
	struct s3_request request = {.verb = S3_HEAD, .key = "a", .done = nothing};
	double until = support_deadline(60), begun;
	struct s3 *s3;

	support_write(self->config, text);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &s3, &self->error));
	ASSERT_EQ(0, s3_put(s3, "a", "x", 1, 0, self->deadline_ns, &self->error));
	support_write(hangs, "");
	store_server_order(&self->server, "/token?value=y");
	s3_start(s3, &request);
	while (!support_size(hangs) && support_seconds() < until)
		support_sleep(0.01);
	EXPECT_LT(0, support_size(hangs));
	begun = support_seconds();
	s3_close(s3);
	EXPECT_GT(30, support_seconds() - begun);
	EXPECT_EQ(-ECANCELED, request.code);
	free(hangs);
	free(text);
}

/* ---- TLS */

TEST_F(credentials, a_certificate_that_is_not_trusted_ends_it)
{
	char *bundle = support_format("%s/ca.pem", self->directory);
	struct s3 *s3;
	void *bytes;
	size_t count;

	store_server_end(&self->server);
	setenv("STORE_SERVER_TLS", "1", 1);
	store_server_begin(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &s3, &self->error));
	EXPECT_NE(NULL, strstr(s3_place(s3), " at https://127.0.0.1:"));
	EXPECT_EQ(-EPROTO, s3_put(s3, "a", "secure", 6, S3_NEW, self->deadline_ns, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "is not trusted"));
	EXPECT_NE(NULL, strstr(self->error.text, "AWS_CA_BUNDLE"));
	s3_close(s3);
	support_write(bundle, CERTIFICATE);
	setenv("AWS_CA_BUNDLE", bundle, 1);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &s3, &self->error));
	EXPECT_EQ(0, s3_put(s3, "a", "secure", 6, S3_NEW, self->deadline_ns, &self->error));
	ASSERT_EQ(0, s3_get(s3, "a", 6, self->deadline_ns, &bytes, &count, &self->error));
	EXPECT_STREQ("secure", bytes);
	free(bytes);
	s3_close(s3);
	free(bundle);
}

/* ---- Places */

TEST_F(credentials, places)
{
	static const char *const wrong[] = {"s3:/a/b",
					    "http://bucket",
					    "s3://",
					    "s3:///a",
					    "s3://ab",
					    "s3://a b/c",
					    "s3://b..c/d",
					    "s3://buc//d",
					    "s3://bucket//d",
					    "s3://bucket/a b",
					    "s3://bucket/../d",
					    "s3://bucket/a?b",
					    "s3://bucket/\xc3\xa9"};
	static const struct {
		const char *place, *endpoint, *name;
	} right[] = {
		{"s3://bucket", "http://h:1", "s3://bucket at http://h:1"},
		{"s3://bucket/", "http://h:1/", "s3://bucket at http://h:1"},
		{"s3://bucket/a/b/", "https://[::1]:9000", "s3://bucket/a/b at https://[::1]:9000"},
		{"s3://bucket/x", NULL, "s3://bucket/x at https://s3.eu-west-3.amazonaws.com"},
		{"s3://bucket/x", "https://h/below/it", "s3://bucket/x at https://h"},
	};
	static const char *const endpoints[] = {"h:9000",	"ftp://h",    "http://",
						"http://u:p@h", "http://h?x", "http://h/a b"};
	struct s3 *s3;

	setenv("AWS_ACCESS_KEY_ID", "a", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "b", 1);
	setenv("AWS_REGION", "eu-west-3", 1);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_EQ(-EINVAL, s3_open(wrong[i], NULL, &s3, &self->error));
		EXPECT_EQ(NULL, s3);
	}
	for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		if (right[i].endpoint)
			setenv("AWS_ENDPOINT_URL", right[i].endpoint, 1);
		else
			unsetenv("AWS_ENDPOINT_URL");
		ASSERT_EQ(0, s3_open(right[i].place, NULL, &s3, &self->error));
		EXPECT_STREQ(right[i].name, s3_place(s3));
		s3_close(s3);
	}
	for (unsigned i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		setenv("AWS_ENDPOINT_URL", endpoints[i], 1);
		EXPECT_EQ(-EINVAL, s3_open("s3://bucket/x", NULL, &s3, &self->error));
		EXPECT_EQ(NULL, strstr(self->error.text, "u:p"));
	}
}

TEST_F(credentials, another_region_is_learnt_from_the_server)
{
	struct s3_request head = {.verb = S3_HEAD, .key = "a", .deadline_ns = self->deadline_ns};
	static const char *const keys[] = {"a", "b", "c", "d", "e", "f",
					   "g", "h", "i", "j", "k", "l"};
	struct s3 *s3;

	setenv("AWS_ACCESS_KEY_ID", "thaw-test", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "thaw/test+secret", 1);
	store_server_order(&self->server, "/region?value=mars-north-1");
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &s3, &self->error));
	EXPECT_EQ(0, s3_put(s3, "a", "x", 1, S3_NEW, self->deadline_ns, &self->error));
	EXPECT_EQ(2, store_server_count(&self->server, "PUT", "/a"));
	store_server_order(&self->server, "/region?value=mars-south-1");
	EXPECT_EQ(0, s3_do(s3, &head, &self->error)); /* whose answer has no text */
	s3_release(&head);
	EXPECT_EQ(0, s3_put(s3, "b", "x", 1, S3_NEW, self->deadline_ns, &self->error));
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", "/b"));
	/* Several at once. */
	store_server_order(&self->server, "/region?value=mars-west-1");
	EXPECT_EQ(0, s3_delete(s3, keys, 12, self->deadline_ns, &self->error));
	/* Whatever it is sent to, it is not right there. */
	store_server_order(&self->server, "/clear");
	store_server_order(&self->server,
			   "/fault?kind=answer&status=301&code=PermanentRedirect&count=1000");
	EXPECT_EQ(-EPROTO, s3_put(s3, "c", "x", 1, 0, self->deadline_ns, &self->error));
	s3_close(s3);
}

/* The bucket in the host's name: *.localhost is this machine. */
TEST_F(credentials, a_bucket_in_the_name_of_the_host)
{
	char *endpoint = support_format("http://s3.localhost:%u", self->server.port);
	struct s3 *s3;

	support_write(self->config, "[default]\ns3 =\n  addressing_style = virtual\n");
	setenv("AWS_ENDPOINT_URL", endpoint, 1);
	setenv("AWS_ACCESS_KEY_ID", "thaw-test", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "thaw/test+secret", 1);
	ASSERT_EQ(0, s3_open("s3://test/below", NULL, &s3, &self->error));
	/* The server knows buckets in paths only; that it was asked, signed for that name, is seen. */
	EXPECT_EQ(-ENODEV, s3_put(s3, "a", "x", 1, 0, self->deadline_ns, &self->error));
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", "below/a"));
	s3_close(s3);
	free(endpoint);
}

TEST_HARNESS_MAIN
