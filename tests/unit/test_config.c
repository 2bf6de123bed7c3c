/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - configuration files by a table. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"

struct sample {
    char *name, *path;
    uint64_t port, limit;
    bool fast;
};

static const struct config_key keys[] = {
    {"name",                  CONFIG_STR, offsetof(struct sample, name), NULL, true, 0, 0, "who this is"},
    {"path", CONFIG_STR, offsetof(struct sample, path), "/var/x", false, 0, 0, "where it lives"},
    {"port",                   CONFIG_U64, offsetof(struct sample, port), "7070", false, 1, 65535, "the TCP port"},
    {"limit",                      CONFIG_U64, offsetof(struct sample, limit), NULL, false, 0, UINT64_MAX, "a limit"},
    {"fast",          CONFIG_BOOL, offsetof(struct sample, fast), "true", false, 0, 0, "hurry"},
    {0                 },
};

/* A file of that text; the caller unlinks and frees the path. */
static char *write_file(const char *text, size_t length)
{
    char *path = xstrdup("/tmp/test_config.XXXXXX");
    autoclose int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), (ssize_t)length);
    return path;
}

static int load(const char *text, struct sample *sample, struct error *err)
{
    autofree char *path = write_file(text, strlen(text));
    *sample = (struct sample){0};
    int rc = config_load(path, keys, sample, err);
    unlink(path);
    return rc;
}

static void files_are_read(void **state)
{
    (void)state;
    struct sample s;
    struct error err = {0};
    const char *text = "# a comment\n\n  name =  n 1 = x \t\nport=1\nlimit = 18446744073709551615\n"
                       "\tfast = false\n#path = /elsewhere\n";
    assert_int_equal(load(text, &s, &err), 0);
    assert_string_equal(s.name, "n 1 = x");
    assert_string_equal(s.path, "/var/x");
    assert_int_equal(s.port, 1);
    assert_true(s.limit == UINT64_MAX);
    assert_false(s.fast);
    config_release(keys, &s);
    assert_null(s.name);
    assert_int_equal(load("name = last line without an end", &s, &err), 0);
    assert_string_equal(s.name, "last line without an end");
    config_release(keys, &s);
}

static void defaults_do_without_a_file(void **state)
{
    (void)state;
    struct sample s = {0};
    struct error err = {0};
    assert_int_equal(config_load(NULL, keys, &s, &err), 0);
    assert_null(s.name);
    assert_string_equal(s.path, "/var/x");
    assert_int_equal(s.port, 7070);
    assert_true(s.fast);
    config_release(keys, &s);
}

static void mistakes_name_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"",                                         "'name' is missing (who this is)"              },
        {"name = x\nprot = 1\n",                     ":2: unknown key 'prot'"                       },
        {"name = x\nname = y\n",                     ":2: name: set twice"                          },
        {"name = x\njust words\n",                   ":2: expected 'key = value'"                   },
        {"= 5\n",                                    ":1: unknown key ''"                           },
        {"name = x\nport = 0\n",                     ":2: port: expected a number 1..65535, not '0'"},
        {"name = x\nport = 65536\n",                 "not '65536'"                                  },
        {"name = x\nport = 7070x\n",                 "not '7070x'"                                  },
        {"name = x\nport = -1\n",                    "not '-1'"                                     },
        {"name = x\nport = +1\n",                    "not '+1'"                                     },
        {"name = x\nport =\n",                       "not ''"                                       },
        {"name = x\nlimit = 18446744073709551616\n", "limit: expected a number"                     },
        {"name = x\nfast = yes\n",                   ":2: fast: expected true or false, not 'yes'"  },
        {"name =\n",                                 ":1: name: is empty"                           },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sample s, zero = {0};
        struct error err = {0};
        assert_int_equal(load(rows[i].text, &s, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' does not tell '%s'", err.message, rows[i].message);
        assert_ptr_equal(s.name, zero.name);
        assert_ptr_equal(s.path, zero.path);
    }
}

static void odd_files_are_refused(void **state)
{
    (void)state;
    struct sample s = {0};
    struct error err = {0};
    assert_int_equal(config_load("/nonexistent/x.conf", keys, &s, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(config_load("/tmp", keys, &s, &err), -1);
    char text[8000];
    memset(text, 'a', sizeof(text));
    memcpy(text, "name = ", 7);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(load(text, &s, &err), -1);
    assert_non_null(strstr(err.message, "line longer than"));
    /* a NUL would hide the rest of its line */
    autofree char *path = write_file("name = x\0y\nport = 9\n", 20);
    s = (struct sample){0};
    assert_int_equal(config_load(path, keys, &s, &err), -1);
    assert_non_null(strstr(err.message, ":1: holds a NUL byte"));
    unlink(path);
}

static void the_sample_is_a_file_that_loads(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    config_print_sample(out, keys);
    fclose(out);
    assert_non_null(strstr(text, "# the TCP port\n#port = 7070\n"));
    assert_non_null(strstr(text, "# who this is\nname = \n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(defaults_do_without_a_file),
        cmocka_unit_test(mistakes_name_file_and_line),
        cmocka_unit_test(odd_files_are_refused),
        cmocka_unit_test(the_sample_is_a_file_that_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
