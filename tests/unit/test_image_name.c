/* SPDX-License-Identifier: Apache-2.0 */
/* test_image_name.c - which names and types an image stream may hold. */
#include "cmocka_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "image_name.h"

struct name_case {
    const char *name;
    const char *refusal; /* part of the message; NULL: allowed */
    enum image_part part;
    const char *path;
};

static char long_piece[300], long_name[5000], deep_name[300];

static const struct name_case name_cases[] = {
    {"image/core-1.img",        NULL,                  IMAGE_PART_IMAGE,    "core-1.img"   },
    {"image/pages-1.img",       NULL,                  IMAGE_PART_IMAGE,    "pages-1.img"  },
    {"folder",                  NULL,                  IMAGE_PART_FOLDER,   ""             },
    {"folder/a",                NULL,                  IMAGE_PART_FOLDER,   "a"            },
    {"folder/a/b c/...",        NULL,                  IMAGE_PART_FOLDER,   "a/b c/..."    },
    {"folder/-rf",              NULL,                  IMAGE_PART_FOLDER,   "-rf"          },
    {"folder/\xc3\xbc\\n",      NULL,                  IMAGE_PART_FOLDER,   "\xc3\xbc\\n"  },
    {"manifest.json",           NULL,                  IMAGE_PART_MANIFEST, "manifest.json"},
    {"",                        "empty",               0,                   NULL           },
    {"/etc/passwd",             "absolute",            0,                   NULL           },
    {"/image/x",                "absolute",            0,                   NULL           },
    {"..",                      "'..'",                0,                   NULL           },
    {"../image/x",              "'..'",                0,                   NULL           },
    {"image/..",                "'..'",                0,                   NULL           },
    {"image/.",                 "'.'",                 0,                   NULL           },
    {"folder/../../etc/passwd", "'..'",                0,                   NULL           },
    {"folder/a/./b",            "'.'",                 0,                   NULL           },
    {"folder//a",               "empty piece",         0,                   NULL           },
    {"folder/a/",               "empty piece",         0,                   NULL           },
    {"image/",                  "empty piece",         0,                   NULL           },
    {"image/a/b",               "plain files only",    0,                   NULL           },
    {"image",                   "expected image/NAME", 0,                   NULL           },
    {"pages/pages-1.img@0",     NULL,                  IMAGE_PART_PAGES,    "pages-1.img@0"},
    {"pages",                   NULL,                  IMAGE_PART_PAGES,    ""             },
    {"pages/a/b",               "plain files",         0,                   NULL           },
    {"pagesx",                  "expected image/NAME", 0,                   NULL           },
    {"images/x",                "expected image/NAME", 0,                   NULL           },
    {"folders",                 "expected image/NAME", 0,                   NULL           },
    {"manifest.json/x",         "expected image/NAME", 0,                   NULL           },
    {"Manifest.json",           "expected image/NAME", 0,                   NULL           },
    {"folder/a\nb",             "control character",   0,                   NULL           },
    {"folder/a\x1b[2J",         "control character",   0,                   NULL           },
    {"image/a\x7f",             "control character",   0,                   NULL           },
    {"folder/\xff\xfe",         "not UTF-8",           0,                   NULL           },
    {"folder/\xc0\xaf",         "not UTF-8",           0,                   NULL           },
    {long_piece,                "longer than 255",     0,                   NULL           },
    {long_name,                 "longer than 4000",    0,                   NULL           },
    {deep_name,                 "64 pieces deep",      0,                   NULL           },
};

static void fill_long_names(void)
{
    memset(long_piece, 'x', sizeof(long_piece) - 1);
    memcpy(long_piece, "folder/", 7);
    for (size_t i = 0; i + 1 < sizeof(long_name); i++)
        long_name[i] = i % 100 == 99 ? '/' : 'y';
    memcpy(long_name, "folder/", 7);
    memset(deep_name, 0, sizeof(deep_name));
    strcpy(deep_name, "folder");
    for (int i = 0; i < 64; i++)
        strcat(deep_name, "/d");
}

static void names_are_allowed_or_refused(void **state)
{
    (void)state;
    fill_long_names();
    for (size_t i = 0; i < ARRAY_LEN(name_cases); i++) {
        const struct name_case *c = &name_cases[i];
        enum image_part part = IMAGE_PART_MANIFEST;
        const char *path = NULL;
        struct error err = {0};
        int rc = image_name_check(c->name, &part, &path, &err);
        if (!c->refusal) {
            if (rc < 0)
                fail_msg("'%s' was refused: %s", c->name, err.message);
            assert_int_equal(part, c->part);
            assert_string_equal(path, c->path);
            continue;
        }
        if (rc == 0 || !strstr(err.message, c->refusal))
            fail_msg("'%.80s': expected '%s', got '%s'", c->name, c->refusal, err.message);
        assert_int_equal(err.kind, ERROR_INVALID);
        for (const char *p = err.message; *p; p++)
            assert_true((unsigned char)*p >= 0x20); /* whatever the name holds */
    }
}

static void the_deepest_name_is_allowed(void **state)
{
    (void)state;
    char name[300] = "folder";
    enum image_part part;
    const char *path;
    for (int i = 0; i < IMAGE_DEPTH_MAX - 1; i++)
        strcat(name, "/d");
    assert_int_equal(image_name_check(name, &part, &path, NULL), 0);
    strcat(name, "/d");
    assert_int_equal(image_name_check(name, &part, &path, NULL), -1);
}

static void types_are_allowed_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum image_part part;
        mode_t mode;
        const char *refusal;
    } cases[] = {
        {"folder",        IMAGE_PART_FOLDER,   S_IFDIR | 0755,  NULL                 },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFREG | 0644,  NULL                 },
        {"folder/d",      IMAGE_PART_FOLDER,   S_IFDIR | 03777, NULL                 },
        {"image/a",       IMAGE_PART_IMAGE,    S_IFREG | 0600,  NULL                 },
        {"manifest.json", IMAGE_PART_MANIFEST, S_IFREG | 0600,  NULL                 },
        {"folder",        IMAGE_PART_FOLDER,   S_IFREG | 0644,  "must be a directory"},
        {"image/a",       IMAGE_PART_IMAGE,    S_IFDIR | 0755,  "a directory"        },
        {"manifest.json", IMAGE_PART_MANIFEST, S_IFDIR | 0755,  "a directory"        },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFLNK | 0777,  "a symbolic link"    },
        {"image/a",       IMAGE_PART_IMAGE,    S_IFLNK | 0777,  "a symbolic link"    },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFCHR | 0600,  "a device"           },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFBLK | 0600,  "a device"           },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFIFO | 0600,  "a FIFO"             },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFSOCK | 0600, "a socket"           },
        {"folder/a",      IMAGE_PART_FOLDER,   0644,            "unknown type"       },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFREG | 04755, "set-user-ID"        },
        {"folder/a",      IMAGE_PART_FOLDER,   S_IFREG | 02755, "set-group-ID"       },
        {"image/a",       IMAGE_PART_IMAGE,    S_IFREG | 04700, "set-user-ID"        },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        int rc = image_type_check(cases[i].name, cases[i].part, cases[i].mode, &err);
        assert_int_equal(rc, cases[i].refusal ? -1 : 0);
        if (cases[i].refusal)
            assert_non_null(strstr(err.message, cases[i].refusal));
    }
}

static void expect_refused(struct image_names *names, const char *name, bool directory,
                           const char *refusal)
{
    struct error err = {0};
    assert_int_equal(image_names_add(names, name, directory, &err), -1);
    if (!strstr(err.message, refusal))
        fail_msg("'%s': expected '%s', got '%s'", name, refusal, err.message);
}

static void doubles_and_clashes_are_refused(void **state)
{
    (void)state;
    AUTO(image_names) names = image_names_new();
    expect_refused(names, "folder/a", false, "not listed before");
    assert_int_equal(image_names_add(names, "folder", true, NULL), 0);
    assert_int_equal(image_names_add(names, "folder/a", false, NULL), 0);
    assert_int_equal(image_names_add(names, "folder/b", true, NULL), 0);
    assert_int_equal(image_names_add(names, "image/a", false, NULL), 0);
    assert_int_equal(image_names_add(names, "manifest.json", false, NULL), 0);
    expect_refused(names, "folder", true, "twice");
    expect_refused(names, "folder/a", false, "twice");
    expect_refused(names, "folder/a", true, "twice");
    expect_refused(names, "folder/b", false, "twice");
    expect_refused(names, "image/a", false, "twice");
    expect_refused(names, "folder/a/x", false, "beneath a file");
    expect_refused(names, "folder/c/x", false, "not listed before");
    assert_int_equal(image_names_add(names, "folder/b/a", false, NULL), 0);
    assert_int_equal(image_names_count(names), 6);
}

static void entries_are_bounded(void **state)
{
    (void)state;
    AUTO(image_names) names = image_names_new();
    char name[64];
    for (int i = 0; i < IMAGE_ENTRIES_MAX; i++) {
        snprintf(name, sizeof(name), "image/%d", i);
        if (image_names_add(names, name, false, NULL) < 0)
            fail_msg("entry %d was refused", i);
    }
    expect_refused(names, "image/one-more", false, "more than 100000 entries");
    expect_refused(names, "image/7", false, "more than 100000 entries");
}

static void the_bytes_of_names_are_bounded(void **state)
{
    (void)state;
    AUTO(image_names) names = image_names_new();
    char name[3000];
    int added = 0;
    for (; added < IMAGE_ENTRIES_MAX; added++) {
        int n = snprintf(name, sizeof(name), "image/%d-", added);
        memset(name + n, 'x', sizeof(name) - 1 - (size_t)n);
        name[sizeof(name) - 1] = '\0';
        if (image_names_add(names, name, false, NULL) < 0)
            break;
    }
    assert_in_range(added, 5000, 6000); /* 16 MiB of names */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_allowed_or_refused),
        cmocka_unit_test(the_deepest_name_is_allowed),
        cmocka_unit_test(types_are_allowed_or_refused),
        cmocka_unit_test(doubles_and_clashes_are_refused),
        cmocka_unit_test(entries_are_bounded),
        cmocka_unit_test(the_bytes_of_names_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
