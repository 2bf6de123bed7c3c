/* SPDX-License-Identifier: Apache-2.0 */
/* test_error.c - errors carry their kind and a bounded message. */
#include "error.h"

#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "cmocka_test.h"

static void kinds_are_one_table(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ERROR_KIND_COUNT; i++) {
        enum error_kind kind = (enum error_kind)i;
        int status = error_http_status(kind);
        assert_true(status >= 200 && status < 600);
        assert_true(error_exit_code(kind) >= 0 && error_exit_code(kind) <= 6);
        assert_int_equal(error_kind_from_code(error_code(kind)), kind);
    }
    assert_int_equal(error_kind_from_code("nonsense"), ERROR_INTERNAL);
    assert_int_equal(error_kind_from_code(NULL), ERROR_INTERNAL);
    assert_string_equal(error_code((enum error_kind)999), "internal");
    assert_int_equal(error_http_status((enum error_kind)999), 500);
    /* what the command line promises */
    assert_int_equal(error_exit_code(ERROR_REJECTED), 1);
    assert_int_equal(error_exit_code(ERROR_INVALID), 2);
    assert_int_equal(error_exit_code(ERROR_UNREACHABLE), 3);
    assert_int_equal(error_exit_code(ERROR_NOT_FOUND), 4);
    assert_int_equal(error_exit_code(ERROR_FORBIDDEN), 5);
    assert_int_equal(error_exit_code(ERROR_FAILED), 6);
}

static void messages_are_set_and_wrapped(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(error_set(&err, ERROR_NOT_FOUND, "no node '%s'", "a"), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_string_equal(err.message, "no node 'a'");
    assert_int_equal(error_wrap(&err, "moving '%s'", "w1"), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_string_equal(err.message, "moving 'w1': no node 'a'");
    errno = ENOENT;
    assert_int_equal(error_errno(&err, ERROR_FAILED, "open '%s'", "x"), -1);
    assert_string_equal(err.message, "open 'x': No such file or directory");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(error_set(NULL, ERROR_INVALID, "nobody listens"), -1);
    assert_int_equal(error_wrap(NULL, "nobody"), -1);
    assert_int_equal(error_errno(NULL, ERROR_INVALID, "nobody"), -1);
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    struct error err = {0};
    char text[3 * ERROR_MESSAGE_BYTES];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    error_set(&err, ERROR_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
    error_wrap(&err, "%s", text);
    error_errno(&err, ERROR_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
}

static void ownership_moves(void **state)
{
    (void)state;
    char *a = xstrdup("a");
    char *b = steal_ptr(&a);
    assert_null(a);
    assert_string_equal(b, "a");
    free(b);
    assert_null(xstrdup(NULL));
    int fd = 7;
    assert_int_equal(steal_fd(&fd), 7);
    assert_int_equal(fd, -1);
    errno = EINTR;
    {
        autofree char *text = xasprintf("%d", 5);
        autoclose int none = -1;
        assert_string_equal(text, "5");
        assert_int_equal(none, -1);
    }
    assert_int_equal(errno, EINTR);
    void *zero = xmalloc(0);
    assert_non_null(zero);
    free(zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_one_table),
        cmocka_unit_test(messages_are_set_and_wrapped),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(ownership_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
