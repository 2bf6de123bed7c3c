/* SPDX-License-Identifier: Apache-2.0 */
/* test_json.c - JSON is taken strictly, and errors name what is wrong. */
#include "json.h"

#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"

static int parse_bytes(const char *text, size_t length, json_object **ret, struct error *err)
{
    *err = (struct error){0};
    return json_parse(text, length, ret, err);
}

static json_object *parsed(const char *text)
{
    json_object *o = NULL;
    struct error err;
    if (parse_bytes(text, strlen(text), &o, &err) < 0)
        fail_msg("'%s': %s", text, err.message);
    return o;
}

static void good_texts_are_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        " {} \n",
        "[]",
        "[1,2]",
        "{\"a\":null}",
        "\"x\"",
        "true",
        "7",
        "-7",
        "1.5",
        "{\"a\":\"\\u00e9 \\n\"}",
        "{\"a\":\"\xc3\xa9\"}",
        "{\"a\":\"\xf0\x9f\x98\x80\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        autojson *o = parsed(texts[i]);
        assert_non_null(o);
    }
}

static void bad_texts_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "{} x",
        "{}{}",
        "nul",
        "null",
        "tru",
        "{'a':1}",
        "{a:1}",
        "/* c */ {}",
        "NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "01",
        "[01]",
        "[+1]",
        "[1.]",
        "[.5]",
        "0x10",
        "TRUE",
        "[True]",
        "{\"a\":\"\n\"}",               /* a raw line break in a string */
        "{\"a\":\"\x01\"}",             /* a raw control character */
        "{\"a\":\"\\x\"}",              /* no such escape */
        "{\"a\":\"\\udc00\"}",          /* the other half */
        "{\"a\":\"\\ud800\\u0041\"}",   /* a half and a letter */
        "{\"a\":\"\\ud800\"}",          /* half a surrogate pair */
        "{\"a\":\"\xff\"}",             /* not UTF-8 */
        "{\"a\":\"\xc0\xaf\"}",         /* overlong */
        "{\"a\":\"\xed\xa0\x80\"}",     /* a surrogate in UTF-8 */
        "{\"a\":\"\xf4\x90\x80\x80\"}", /* above U+10FFFF */
        "{\"a\":\"\xe2\x82",            /* cut short */
        "\xef\xbb\xbf{}",               /* a byte order mark */
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        json_object *o = NULL;
        struct error err;
        if (parse_bytes(texts[i], strlen(texts[i]), &o, &err) == 0)
            fail_msg("text %zu '%s' was taken as %s", i, texts[i], json_object_to_json_string(o));
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(o);
    }
}

static void nul_bytes_do_not_end_a_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
    } rows[] = {
        {"{}\0{}",         5},
        {"{}\0",           3},
        {"{\"a\":\"\0\"}", 9},
        {"\0",             1},
        {"{\0}",           3},
        {"[1\0]",          4},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_object *o = NULL;
        struct error err;
        if (parse_bytes(rows[i].text, rows[i].length, &o, &err) == 0)
            fail_msg("row %zu was taken", i);
    }
}

static void depth_is_limited(void **state)
{
    (void)state;
    char text[2 * 10000 + 1];
    for (size_t depth = 1; depth <= 10000; depth = depth < 40 ? depth + 1 : depth * 5) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        json_object *o = NULL;
        struct error err;
        int rc = parse_bytes(text, 2 * depth, &o, &err);
        assert_int_equal(rc, depth <= JSON_DEPTH_MAX ? 0 : -1);
        json_object_put(o);
    }
}

static void long_and_repeated_members_are_bounded(void **state)
{
    (void)state;
    char *text = xmalloc(JSON_STRING_MAX + 64);
    size_t at = (size_t)sprintf(text, "{\"a\":\"");
    memset(text + at, 'x', JSON_STRING_MAX + 1);
    memcpy(text + at + JSON_STRING_MAX + 1, "\"}", 3);
    autojson *o = parsed(text);
    const char *value = NULL;
    struct error err = {0};
    assert_int_equal(json_get_str("m", o, "a", &value, &err), -1);
    assert_non_null(strstr(err.message, "m: a: 65537 bytes long"));
    free(text);
    autojson *array = parsed("{\"a\":[1,2,3]}");
    json_object *items = NULL;
    assert_int_equal(json_get_array("m", array, "a", 2, &items, &err), -1);
    assert_non_null(strstr(err.message, "3 items, at most 2"));
    assert_int_equal(json_get_array("m", array, "a", 3, &items, &err), 0);
    assert_int_equal(json_array_size(items), 3);
}

struct message {
    char *name, *note;
    bool on;
    uint32_t count;
    uint64_t bytes, mask;
    int64_t delta;
    json_object *extra;
};

static const struct json_field fields[] = {
    JSON_FIELD(message, name, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(message, note, JSON_STR, 0),
    JSON_FIELD(message, on, JSON_BOOL, 0),
    JSON_FIELD(message, count, JSON_U32, 0),
    JSON_FIELD(message, bytes, JSON_U64, 0),
    JSON_FIELD(message, mask, JSON_HEX64, 0),
    JSON_FIELD(message, delta, JSON_I64, 0),
    JSON_FIELD(message, extra, JSON_ANY, 0),
    {0},
};

static void messages_are_decoded_and_encoded(void **state)
{
    (void)state;
    autojson *o = parsed("{\"name\":\"w1\",\"on\":true,\"count\":4294967295,"
                         "\"bytes\":9007199254740991,\"mask\":\"0xfFffFfffFfffFfff\",\"delta\":-5,"
                         "\"extra\":{\"a\":[1]},\"unknown\":1,\"note\":null}");
    struct message m = {0};
    struct error err = {0};
    assert_int_equal(json_decode("message", o, fields, &m, &err), 0);
    assert_string_equal(m.name, "w1");
    assert_null(m.note);
    assert_true(m.on);
    assert_int_equal(m.count, UINT32_MAX);
    assert_int_equal(m.bytes, JSON_INTEGER_MAX);
    assert_true(m.mask == UINT64_MAX);
    assert_int_equal(m.delta, -5);
    autojson *again = json_encode(fields, &m);
    autofree char *text = json_text(again);
    assert_string_equal(text, "{\"name\":\"w1\",\"note\":null,\"on\":true,\"count\":4294967295,"
                              "\"bytes\":9007199254740991,\"mask\":\"0xffffffffffffffff\","
                              "\"delta\":-5,\"extra\":{\"a\":[1]}}");
    json_release(fields, &m);
    assert_null(m.name);
}

static void mistakes_name_the_member(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"[]",                                                  "message: expected an object, not array"           },
        {"{}",                                                  "message: name: missing"                           },
        {"{\"name\":null}",                                     "message: name: missing"                           },
        {"{\"name\":7}",                                        "message: name: expected a string, not int"        },
        {"{\"name\":\"a\\u0000b\"}",                            "message: name: holds a NUL character"             },
        {"{\"name\":\"a\",\"on\":1}",                           "message: on: expected true or false, not int"     },
        {"{\"name\":\"a\",\"count\":\"7\"}",                    "message: count: expected an integer 0..4294967295"},
        {"{\"name\":\"a\",\"count\":-1}",                       "message: count: expected 0..4294967295, not -1"   },
        {"{\"name\":\"a\",\"count\":4294967296}",               "not 4294967296"                                   },
        {"{\"name\":\"a\",\"count\":1.0}",                      "expected an integer"                              },
        {"{\"name\":\"a\",\"count\":1e3}",                      "expected an integer"                              },
        {"{\"name\":\"a\",\"bytes\":9007199254740992}",         "message: bytes: expected 0.."                     },
        {"{\"name\":\"a\",\"bytes\":99999999999999999999999}",  "message: bytes: expected 0.."                     },
        {"{\"name\":\"a\",\"delta\":-99999999999999999999999}", "message: delta: expected -"                       },
        {"{\"name\":\"a\",\"mask\":\"ff\"}",                    "message: mask: expected \"0x\""                   },
        {"{\"name\":\"a\",\"mask\":\"0x\"}",                    "message: mask: expected \"0x\""                   },
        {"{\"name\":\"a\",\"mask\":\"0x 1\"}",                  "message: mask: expected \"0x\""                   },
        {"{\"name\":\"a\",\"mask\":\"0x11111111111111111\"}",   "1 to 16 hex digits"                               },
        {"{\"name\":\"a\",\"mask\":255}",                       "message: mask: expected a string"                 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        autojson *o = parsed(rows[i].text);
        struct message m = {0}, zero = {0};
        struct error err = {0};
        assert_int_equal(json_decode("message", o, fields, &m, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' does not tell '%s'", err.message, rows[i].message);
        assert_memory_equal(&m, &zero, sizeof(m));
    }
}

static void optional_members_leave_the_default(void **state)
{
    (void)state;
    autojson *o = parsed("{\"a\":null,\"n\":5,\"s\":\"x\",\"b\":false,\"h\":\"0x1f\"}");
    struct error err = {0};
    const char *text = "default";
    int64_t number = 42;
    bool flag = true, present = true;
    uint64_t hex = 9;
    assert_int_equal(json_opt_str("m", o, "a", &text, &err), 0);
    assert_string_equal(text, "default");
    assert_int_equal(json_opt_i64("m", o, "none", &number, &err), 0);
    assert_int_equal(number, 42);
    assert_int_equal(json_opt_i64("m", o, "n", &number, &err), 0);
    assert_int_equal(number, 5);
    assert_int_equal(json_opt_bool("m", o, "b", &flag, &err), 0);
    assert_false(flag);
    assert_int_equal(json_opt_hex("m", o, "none", &hex, &present, &err), 0);
    assert_false(present);
    assert_int_equal(hex, 9);
    assert_int_equal(json_opt_hex("m", o, "h", &hex, &present, &err), 0);
    assert_true(present);
    assert_int_equal(hex, 0x1f);
    assert_int_equal(json_opt_bool("m", o, "s", &flag, &err), -1);
    assert_int_equal(json_get_object("m", o, "s", &(json_object *){NULL}, &err), -1);
    assert_string_equal(err.message, "m: s: expected an object, not string");
}

static void conveniences_never_fail(void **state)
{
    (void)state;
    autojson *o = parsed("{\"n\":5,\"s\":\"x\",\"b\":true,\"l\":[\"y\",3]}");
    assert_string_equal(json_str(o, "s"), "x");
    assert_string_equal(json_str(o, "n"), "");
    assert_string_equal(json_str(NULL, "n"), "");
    assert_int_equal(json_int(o, "n"), 5);
    assert_int_equal(json_int(o, "s"), 0);
    assert_true(json_flag(o, "b"));
    assert_false(json_flag(o, "n"));
    assert_null(json_member(o, "none"));
    assert_null(json_member(json_member(o, "l"), "x"));
    assert_string_equal(json_item_str(json_member(o, "l"), 0), "y");
    assert_string_equal(json_item_str(json_member(o, "l"), 1), "");
    assert_string_equal(json_item_str(json_member(o, "l"), 2), "");
    assert_int_equal(json_array_size(NULL), 0);
    assert_int_equal(json_array_size(o), 0);
}

static void canonical_text_is_sorted(void **state)
{
    (void)state;
    autojson *a = parsed("{\"b\":[{\"z\":1,\"a\":\"x/y\"}],\"a\":null}");
    autojson *b = parsed(" { \"a\" : null , \"b\" : [ { \"a\" : \"x\\/y\" , \"z\" : 1 } ] } ");
    autofree char *x = json_canonical(a);
    autofree char *y = json_canonical(b);
    assert_string_equal(x, "{\"a\":null,\"b\":[{\"a\":\"x/y\",\"z\":1}]}");
    assert_string_equal(x, y);
}

static void numbers_are_written_alike(void **state)
{
    (void)state;
    autojson *o = json_object_new_object();
    json_put_hex32(o, "a", 31);
    json_put_hex64(o, "b", 31);
    json_put_str(o, "c", NULL);
    autofree char *text = json_text(o);
    assert_string_equal(text, "{\"a\":\"0x0000001f\",\"b\":\"0x000000000000001f\",\"c\":null}");
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "node-a", "N1.example_x", "0"};
    static const char *const bad[] = {"",    ".a",  "-a",       "_a", "a b", "a/b",
                                      "a\n", "a\"", "\xc3\xa9", "..", "a%"};
    char longest[65];
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(name_check("node", good[i], &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(name_check("node", bad[i], &err), -1);
    memset(longest, 'a', 64);
    longest[64] = '\0';
    assert_int_equal(name_check("node", longest, &err), -1);
    longest[63] = '\0';
    assert_int_equal(name_check("node", longest, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_texts_are_taken),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(nul_bytes_do_not_end_a_text),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(long_and_repeated_members_are_bounded),
        cmocka_unit_test(messages_are_decoded_and_encoded),
        cmocka_unit_test(mistakes_name_the_member),
        cmocka_unit_test(optional_members_leave_the_default),
        cmocka_unit_test(conveniences_never_fail),
        cmocka_unit_test(canonical_text_is_sorted),
        cmocka_unit_test(numbers_are_written_alike),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
