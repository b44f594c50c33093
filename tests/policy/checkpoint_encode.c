// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpoint_encode.c - a generation whose state cannot be encoded fails like any other: it ends,
 * with its reason, and the next one that can be encoded holds everything.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "../../vm/js/state/blob.h"
#include "../../vm/policy/runtime.h"
#include "support.h"

static unsigned refusals; /* so many times there is no memory for it */
static unsigned attempts;

void *__real_js_blob_encode(const struct js_blob *blob, size_t *bytes);
void *__wrap_js_blob_encode(const struct js_blob *blob, size_t *bytes)
{
	attempts++;
	if (!refusals)
		return __real_js_blob_encode(blob, bytes);
	refusals--;
	return NULL;
}

static int evaluate(struct runtime *runtime, const char *code, struct runtime_answer *answer)
{
	return runtime_eval(runtime, code, strlen(code), "test", answer);
}

TEST(a_state_that_cannot_be_encoded_fails_its_checkpoint)
{
	char *directory = support_directory(), *image = support_format("%s/a.thaw", directory);
	struct runtime_options options = {.image = image, .keep_result = true};
	struct runtime *runtime;
	struct thaw_result result;
	struct thaw_error error;
	struct runtime_answer answer;

	ASSERT_EQ(0, runtime_open(&options, &runtime, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, evaluate(runtime, "globalThis.a = 7", &answer));
	free(answer.text);
	refusals = 1000;
	EXPECT_EQ(-ENOMEM, runtime_checkpoint(runtime, THAW_REASON_REQUEST, &result));
	EXPECT_NE(NULL, strstr(result.error.text, "no memory"));
	EXPECT_EQ(1, attempts);
	/* Whoever waits for one is told, and the program goes on. */
	ASSERT_EQ(
		0,
		evaluate(
			runtime,
			"await import('thaw').then(t => t.checkpoint()).then(() => 'made', e => e.code)",
			&answer));
	EXPECT_STREQ("'ENOMEM'", answer.text);
	free(answer.text);
	EXPECT_EQ(2, attempts);
	refusals = 0;
	EXPECT_EQ(0, runtime_checkpoint(runtime, THAW_REASON_REQUEST, &result));
	EXPECT_EQ(1, result.generation.number);
	runtime_close(runtime);
	free(image);
	support_remove(directory);
}

TEST_HARNESS_MAIN
