/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_json.c - what the doors take for JSON, and that slices are the very bytes. */
#include "door_json.h"

#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_text.h"

static int check_bytes(const char *text, size_t length, struct door_json *ret, struct error *err)
{
    /* no NUL behind it, and a sanitizer watches the byte behind the last */
    char *copy = xmalloc(length ? length : 1);
    memcpy(copy, text, length);
    *err = (struct error){0};
    int rc = door_json_check(copy, length, ret, err);
    free(copy);
    return rc;
}

static struct door_json checked(const char *text)
{
    struct door_json v = {0};
    struct error err = {0};
    if (door_json_check(text, strlen(text), &v, &err) < 0)
        fail_msg("'%s': %s", text, err.message);
    return v;
}

static void json_is_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[]",
        " \t\r\n[ ] \n",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0e-1",
        "1E+2",
        "123456789012345678901234567890",
        "1e400",
        "\"\"",
        "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u0000\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7\x7f\"",
        "{\"a\":{\"b\":[1,[2,{\"c\":null}]]},\"a\":3,\"\":\"\"}",
        "[[],{},[{}],\"]\",\"}\",\"\\\"\"]",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        checked(texts[i]);
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "nullx",
        "True",
        "{",
        "}",
        "[",
        "]",
        "{]",
        "[}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{'a':1}",
        "[1]]",
        "{}{}",
        "{} x",
        "01",
        "-",
        "+1",
        "1.",
        ".1",
        "1e",
        "1e+",
        "-a",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\t\"",
        "\"\\ud83d\"",
        "\"\\udc27\\ud83d\"",
        "\"\\ud83d\\u0041\"",
        "// x\n{}",
        "/* */{}",
        "\xef\xbb\xbf{}",
        "\"\xff\"",
        "\"\xc3\"",
        "\"\xed\xa0\x80\"",
        "\"\xc0\x80\"",
        "[1\x0b]",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{,}",
        "[\"a\":1]",
        "\"\\u",
        "[1,2",
        "{\"a\":1",
        "{\"a",
    };
    struct door_json v;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (check_bytes(texts[i], strlen(texts[i]), &v, &err) == 0)
            fail_msg("'%s' was taken", texts[i]);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_non_null(strstr(err.message, "not valid JSON"));
    }
    assert_int_equal(check_bytes("[1]\0", 4, &v, &err), -1);
    assert_int_equal(check_bytes("\"a\0b\"", 5, &v, &err), -1);
    assert_int_equal(check_bytes("1\0", 2, &v, &err), -1);
}

static void nesting_is_taken_as_deep_as_go_does(void **state)
{
    (void)state;
    static char text[2 * DOOR_JSON_DEPTH_MAX + 2];
    struct door_json v;
    struct error err;
    for (size_t depth = DOOR_JSON_DEPTH_MAX; depth <= DOOR_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(check_bytes(text, 2 * depth, &v, &err),
                         depth == DOOR_JSON_DEPTH_MAX ? 0 : -1);
    }
    assert_non_null(strstr(err.message, "too deep"));
    memset(text, '[', sizeof(text)); /* never closed: no byte of a stack goes with it */
    assert_int_equal(check_bytes(text, sizeof(text), &v, &err), -1);
}

static void slices_are_the_bytes_that_came(void **state)
{
    (void)state;
    const char *text =
        " { \"a\" : 9223372036854775808 , \"b\":[ 1.50 ,\"x\\u0041\",{ } , null],\"c\":true}";
    struct door_json root = checked(text), n, v;
    static const char *const want[] = {"9223372036854775808", "[ 1.50 ,\"x\\u0041\",{ } , null]",
                                       "true"};
    size_t i = 0;
    for (struct door_json_walk w = door_json_walk(root); door_json_next(&w, &n, &v); i++) {
        assert_int_equal(v.length, strlen(want[i]));
        assert_memory_equal(v.text, want[i], v.length);
        assert_int_equal(n.length, 3);
    }
    assert_int_equal(i, 3);
    static const char *const items[] = {"1.50", "\"x\\u0041\"", "{ }", "null"};
    i = 0;
    for (struct door_json_walk w = door_json_walk(door_json_member(root, "b"));
         door_json_next(&w, &n, &v); i++) {
        assert_int_equal(v.length, strlen(items[i]));
        assert_memory_equal(v.text, items[i], v.length);
        assert_null(n.text);
    }
    assert_int_equal(i, 4);
}

static void members_are_found(void **state)
{
    (void)state;
    struct door_json root =
        checked("{\"a\":1,\"\\u0062\":{\"c\":{\"d\":\"deep\"}},\"a\":2,\"Key\":3,"
                "\"kEY\":4,\"n\":null}");
    assert_memory_equal(door_json_member(root, "a").text, "2", 1); /* the last counts */
    assert_memory_equal(door_json_member_fold(root, "key").text, "4", 1);
    assert_memory_equal(door_json_member(root, "Key").text, "3", 1);
    assert_null(door_json_member(root, "key").text);
    assert_null(door_json_member(root, "").text);
    assert_true(door_json_equals(door_json_at(root, "b.c.d"), "deep"));
    assert_null(door_json_at(root, "b.x.d").text);
    assert_null(door_json_at(root, "a.x").text);
    assert_null(door_json_member(door_json_member(root, "a"), "x").text);
    assert_true(door_json_is_none(door_json_member(root, "n")));
    assert_true(door_json_is_none(door_json_member(root, "none")));
    assert_false(door_json_is_none(door_json_member(root, "a")));
    assert_string_equal(door_json_type_name(door_json_member(root, "n")), "null");
    assert_string_equal(door_json_type_name(door_json_member(root, "m")), "missing");
}

static void strings_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"\"\"",                            ""                     },
        {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t"     },
        {"\"\\u0041\\u00e9\\u20ac\"",       "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\udc27\"",              "\xf0\x9f\x90\xa7"     },
        {"\"\\uD83D\\uDC27\"",              "\xf0\x9f\x90\xa7"     },
        {"\"a\\u0000b\"",                   NULL                   },
        {"\"0123456789abcdef\"",            NULL                   },
        {"\"0123456789abcde\"",             "0123456789abcde"      },
        {"17",                              NULL                   },
        {"null",                            NULL                   },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[16];
        struct door_json v = checked(cases[i].text);
        long length = door_json_string(v, text, sizeof(text));
        autofree char *copy = door_json_string_dup(v, 15);
        if (!cases[i].want) {
            assert_int_equal(length, -1);
            assert_null(copy);
            continue;
        }
        assert_int_equal(length, strlen(cases[i].want));
        assert_string_equal(text, cases[i].want);
        assert_string_equal(copy, cases[i].want);
        assert_true(door_json_equals(v, cases[i].want));
        assert_false(door_json_equals(v, "no"));
    }
    assert_false(door_json_equals(checked("\"\\u0000\""), ""));
    assert_false(door_json_equals(checked("\"ab\""), "a"));
    assert_false(door_json_equals(checked("\"a\""), "ab"));
    assert_true(door_json_equals_fold(checked("\"NodeNames\""), "nodenames"));
    assert_false(door_json_equals_fold(checked("\"Node@\""), "node`"));
}

static void a_uid_is_found_in_a_broken_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* NULL: not there */
    } cases[] = {
        {"{\"request\":{\"uid\":\"u-1\"}}",                                                    "\"u-1\""      },
        {"{\"kind\":\"x\",\"request\":{\"a\":[{\"uid\":\"no\"}],\"uid\":\"u-1\",\"object\":{",
         "\"u-1\""                                                                                            },
        {"{\"request\":{\"uid\":\"u-1\" oops",                                                 "\"u-1\""      },
        {"{\"request\":{\"u\\u0069d\":\"u\\u002d1\",",                                         "\"u\\u002d1\""},
        {"{\"request\":{\"uid\":\"a\",\"uid\":\"b\",",                                         "\"b\""        },
        {"{\"request\":{\"uid\":\"a\"},\"request\":{\"uid\":\"b\"}",                           "\"b\""        },
        {"{\"request\":{\"uid\":\"a\"},\"request\":{}",                                        NULL           },
        {"{\"request\":{\"uid\":\"a\",\"uid\":7",                                              NULL           },
        {"{\"request\":{\"uid\":{\"uid\":\"no\"}",                                             NULL           },
        {"{\"request\":{\"uid\":[\"no\"]",                                                     NULL           },
        {"{\"request\":[{\"uid\":\"no\"}]",                                                    NULL           },
        {"{\"request\":{\"x\":{\"uid\":\"no\"}}",                                              NULL           },
        {"{\"other\":{\"uid\":\"no\"}",                                                        NULL           },
        {"[{\"request\":{\"uid\":\"no\"}}]",                                                   NULL           },
        {"{\"uid\":\"no\"",                                                                    NULL           },
        {"{\"request\":{\"uid\":\"broken",                                                     NULL           },
        {"{\"request\":{\"uid\":\"\xff\"",                                                     NULL           },
        {"",                                                                                   NULL           },
        {"\"request\"",                                                                        NULL           },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct door_json v =
            door_json_salvage(cases[i].text, strlen(cases[i].text), "request", "uid");
        if (!cases[i].want) {
            if (v.text)
                fail_msg("'%s': found %.*s", cases[i].text, (int)v.length, v.text);
            continue;
        }
        if (!v.text)
            fail_msg("'%s': not found", cases[i].text);
        assert_int_equal(v.length, strlen(cases[i].want));
        assert_memory_equal(v.text, cases[i].want, v.length);
    }
}

static void replies_are_always_text(void **state)
{
    (void)state;
    struct door_text t = {0};
    door_text_add_string(&t, "a\"\\\n\x01\x7f\xc3\xa9\xff\xe2\x82 \xf0\x9f\x90\xa7");
    autofree char *text = door_text_take(&t);
    assert_string_equal(
        text, "\"a\\\"\\\\\\u000a\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
              "\xf0\x9f\x90\xa7\"");
    checked(text);
    static const struct {
        const char *bytes, *want;
    } base64[] = {
        {"",             ""        },
        {"a",            "YQ=="    },
        {"ab",           "YWI="    },
        {"abc",          "YWJj"    },
        {"abcd",         "YWJjZA=="},
        {"abcde",        "YWJjZGU="},
        {"\xff\xfb\xef", "//vv"    }
    };
    for (size_t i = 0; i < ARRAY_LEN(base64); i++) {
        door_text_add_base64(&t, base64[i].bytes, strlen(base64[i].bytes));
        autofree char *out = door_text_take(&t);
        assert_string_equal(out, base64[i].want);
    }
}

static void messages_are_cut_and_cleaned(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"short",                                                                                    "short"       },
        {"0123456789",                                                                               "0123456789"  },
        {"0123456789a",                                                                              "0123456..."  },
        {"a\nb\tc\x7f"
         "d\xc2\x85"
         "e",                                                                               "a b c d e"   },
        {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9..."                                             },
        {"\xff",                                                                                     "\xef\xbf\xbd"},
        {"",                                                                                         ""            },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *out = door_text_clean(cases[i].text, 10);
        assert_string_equal(out, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_taken),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(nesting_is_taken_as_deep_as_go_does),
        cmocka_unit_test(slices_are_the_bytes_that_came),
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(a_uid_is_found_in_a_broken_text),
        cmocka_unit_test(replies_are_always_text),
        cmocka_unit_test(messages_are_cut_and_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
