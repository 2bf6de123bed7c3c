/* SPDX-License-Identifier: Apache-2.0 */
/* test_image_sink.c - forged streams are refused, each for its reason, and nothing of them is left
 * outside of the two folders that they may be written to. The archives are made by hand, byte by
 * byte, since no archiver makes such ones. */
#include "cmocka_test.h"

#include <dirent.h>

#include "image_fixture.h"

#define KIB 1024UL
#define MIB (1024UL * KIB)

static int setup(void **state)
{
    struct image_fixture *f = xcalloc(1, sizeof(*f));
    image_fixture_init(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    image_fixture_done(*state);
    free(*state);
    return 0;
}

/* ---- tar, by hand ---- */

struct entry {
    const char *name;
    char type; /* '0' file, '5' directory, ... */
    unsigned mode;
    const char *content;
    const char *link;
    unsigned long long size; /* when it lies about its content; 0: what the content has */
};

static void finish_header(unsigned char header[512])
{
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
}

static void put_octal(unsigned char *at, size_t width, unsigned long long value)
{
    char text[32];
    snprintf(text, sizeof(text), "%0*llo", (int)width - 1, value);
    memcpy(at, text, width - 1);
}

static void put_header(struct fixture_bytes *bytes, const char *name, char type, unsigned mode,
                       unsigned long long size, const char *link)
{
    unsigned char header[512] = {0};
    memcpy(header, name, strlen(name) < 100 ? strlen(name) : 100);
    put_octal(header + 100, 8, mode);
    put_octal(header + 108, 8, geteuid());
    put_octal(header + 116, 8, getegid());
    put_octal(header + 124, 12, size);
    put_octal(header + 136, 12, 1000000000);
    header[156] = (unsigned char)type;
    if (link)
        memcpy(header + 157, link, strlen(link));
    memcpy(header + 257, "ustar\00000", 8);
    finish_header(header);
    fixture_gather(bytes, header, sizeof(header), NULL);
}

static void put_content(struct fixture_bytes *bytes, const void *content, size_t length)
{
    static const unsigned char zeros[512];
    fixture_gather(bytes, content, length, NULL);
    fixture_gather(bytes, zeros, (512 - length % 512) % 512, NULL);
}

static void put_entry(struct fixture_bytes *bytes, const struct entry *e)
{
    size_t length = e->content ? strlen(e->content) : 0;
    put_header(bytes, e->name, e->type, e->mode, e->size ? e->size : length, e->link);
    put_content(bytes, e->content ? e->content : "", length);
}

/* A pax header for the next entry: "path" may be longer than a plain header takes. */
static void put_pax(struct fixture_bytes *bytes, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3, length = body + 1;
    char digits[24];
    while (length != body + (size_t)snprintf(digits, sizeof(digits), "%zu", length))
        length = body + strlen(digits);
    autofree char *record = xasprintf("%zu %s=%s\n", length, key, value);
    put_header(bytes, "PaxHeader/x", 'x', 0644, strlen(record), NULL);
    put_content(bytes, record, strlen(record));
}

static void put_manifest(struct fixture_bytes *bytes, const struct image_manifest *manifest)
{
    autojson *json = image_manifest_to_json(manifest);
    autofree char *text = json_text(json);
    put_entry(bytes, &(struct entry){"manifest.json", '0', 0600, text, NULL, 0});
}

static void put_end(struct fixture_bytes *bytes)
{
    static const unsigned char zeros[1024];
    fixture_gather(bytes, zeros, sizeof(zeros), NULL);
}

static struct image_manifest *new_manifest(void)
{
    struct image_manifest *manifest = image_manifest_new("w1", 7);
    manifest->tasks = manifest->threads = 1;
    return manifest;
}

static void add_file(struct image_manifest *manifest, const char *name, const char *content)
{
    char hex[CHECKSUM_HEX_BYTES];
    fixture_checksum(content, strlen(content), hex);
    image_manifest_add(manifest, name, strlen(content), hex);
}

static const struct entry folder = {"folder/", '5', 0755, NULL, NULL, 0};

/* A stream that holds the entries, and a manifest that names each file, so that only what is wrong
 * with the entries is wrong. */
static void make_stream(struct fixture_bytes *bytes, const struct entry *entries, size_t count)
{
    AUTO(image_manifest) manifest = new_manifest();
    for (size_t i = 0; i < count; i++) {
        put_entry(bytes, &entries[i]);
        if (entries[i].type != '5')
            add_file(manifest, entries[i].name, entries[i].content ? entries[i].content : "");
    }
    put_manifest(bytes, manifest);
    put_end(bytes);
}

/* ---- refusing ---- */

/* Beside the four folders there is nothing, and "/etc" and the like are not ours to look at. */
static void assert_nothing_outside(struct image_fixture *f)
{
    DIR *dir = opendir(f->top);
    struct dirent *entry;
    unsigned count = 0;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') {
            count++;
            assert_true(strcmp(entry->d_name, "image") == 0 ||
                        strcmp(entry->d_name, "folder") == 0 ||
                        strcmp(entry->d_name, "got-image") == 0 ||
                        strcmp(entry->d_name, "got-folder") == 0);
        }
    closedir(dir);
    assert_int_equal(count, 4);
}

static void expect_refused_by(struct image_fixture *f, const void *data, size_t length,
                              enum error_kind kind, const char *reason)
{
    static const size_t pieces[] = {512, 64 * KIB};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct error err = {0};
        image_fixture_clear(f);
        if (fixture_feed(f, data, length, pieces[i], 10 * MIB, NULL, &err) == 0)
            fail_msg("accepted; expected '%s'", reason);
        if (!strstr(err.message, reason))
            fail_msg("expected '%s', got '%s'", reason, err.message);
        assert_int_equal(err.kind, kind);
        assert_nothing_outside(f);
    }
}

static void expect_refused(struct image_fixture *f, const struct fixture_bytes *bytes,
                           const char *reason)
{
    expect_refused_by(f, bytes->data, bytes->length, ERROR_INVALID, reason);
}

static void forged_entries_are_refused(void **state)
{
    static const struct {
        struct entry entries[3];
        size_t count;
        const char *reason;
    } cases[] = {
        {{{"/etc/cron.d/x", '0', 0644, "x", NULL, 0}},                                       1, "absolute"           },
        {{{"/folder/x", '0', 0644, "x", NULL, 0}},                                           1, "absolute"           },
        {{{"image/../../x", '0', 0644, "x", NULL, 0}},                                       1, "'..'"               },
        {{{"image/..", '0', 0644, "x", NULL, 0}},                                            1, "'..'"               },
        {{{"../x", '0', 0644, "x", NULL, 0}},                                                1, "'..'"               },
        {{{"./image/x", '0', 0644, "x", NULL, 0}},                                           1, "'.'"                },
        {{{"folder/../../x", '5', 0755, NULL, NULL, 0}},                                     1, "'..'"               },
        {{{"image//x", '0', 0644, "x", NULL, 0}},                                            1, "empty piece"        },
        {{{"image/a/b", '0', 0644, "x", NULL, 0}},                                           1, "plain files"        },
        {{{"image/a\tb", '0', 0644, "x", NULL, 0}},                                          1, "control character"  },
        {{{"image/a\033[31m", '0', 0644, "x", NULL, 0}},                                     1, "control character"  },
        {{{"image/\xff", '0', 0644, "x", NULL, 0}},                                          1, "not UTF-8"          },
        {{{"x", '0', 0644, "x", NULL, 0}},                                                   1, "expected image/NAME"},
        {{{"image", '0', 0644, "x", NULL, 0}},                                               1, "expected image/NAME"},
        {{{"image/x/", '5', 0755, NULL, NULL, 0}},                                           1, "a directory"        },
        {{{"folder", '0', 0644, "x", NULL, 0}},                                              1, "must be a directory"},
        {{{"image/x", '2', 0777, NULL, "/etc/passwd", 0}},                                   1, "a symbolic link"    },
        {{{"folder/", '5', 0755, NULL, NULL, 0}, {"folder/x", '2', 0777, NULL, "..", 0}},
         2,                                                                                     "a symbolic link"    },
        {{{"image/a", '0', 0644, "x", NULL, 0}, {"image/b", '1', 0644, NULL, "image/a", 0}},
         2,                                                                                     "a symbolic link"    },
        {{{"image/b", '1', 0644, NULL, "/etc/passwd", 0}},                                   1, "a symbolic link"    },
        {{{"image/x", '3', 0600, NULL, NULL, 0}},                                            1, "a device"           },
        {{{"image/x", '4', 0600, NULL, NULL, 0}},                                            1, "a device"           },
        {{{"image/x", '6', 0600, NULL, NULL, 0}},                                            1, "a FIFO"             },
        {{{"image/x", '0', 04755, "x", NULL, 0}},                                            1, "set-user-ID"        },
        {{{"folder/", '5', 0755, NULL, NULL, 0}, {"folder/x", '0', 02755, "x", NULL, 0}},
         2,                                                                                     "set-group-ID"       },
        {{{"folder/x", '0', 0644, "x", NULL, 0}},                                            1, "not listed before"  },
        {{{"folder/", '5', 0755, NULL, NULL, 0}, {"folder/a/x", '0', 0644, "x", NULL, 0}},
         2,                                                                                     "not listed before"  },
        {{{"image/a", '0', 0644, "x", NULL, 0}, {"image/a", '0', 0644, "y", NULL, 0}},       2, "twice"              },
        {{{"folder/", '5', 0755, NULL, NULL, 0}, {"folder/", '5', 0755, NULL, NULL, 0}},
         2,                                                                                     "twice"              },
        {{{"folder/", '5', 0755, NULL, NULL, 0},
          {"folder/a", '0', 0644, "x", NULL, 0},
          {"folder/a/", '5', 0755, NULL, NULL, 0}},
         3,                                                                                     "twice"              },
        {{{"folder/", '5', 0755, NULL, NULL, 0},
          {"folder/a/", '5', 0755, NULL, NULL, 0},
          {"folder/a", '0', 0644, "x", NULL, 0}},
         3,                                                                                     "twice"              },
        {{{"folder/", '5', 0755, NULL, NULL, 0},
          {"folder/a", '0', 0644, "x", NULL, 0},
          {"folder/a/b", '0', 0644, "x", NULL, 0}},
         3,                                                                                     "beneath a file"     },
        {{{"image/a", '0', 0644, "x", NULL, 0}},                                             1, "no 'folder'"        },
        {{{"pages", '0', 0644, "x", NULL, 0}},                                               1, "must be a directory"},
        {{{"pages", '2', 0777, NULL, "/etc", 0}},                                            1, "a symbolic link"    },
        {{{"pages/pages-1.img@0", '5', 0755, NULL, NULL, 0}},                                1, "a directory"        },
        {{{"pages/pages-1.img@0", '2', 0777, NULL, "/etc/passwd", 0}},                       1, "a symbolic link"    },
        {{{"pages/../x@0", '0', 0644, "x", NULL, 0}},                                        1, "'..'"               },
        {{{"pages/a/pages-1.img@0", '0', 0644, "x", NULL, 0}},                               1, "plain files"        },
        {{{"pages/core-1.img@0", '0', 0644, "x", NULL, 0}},                                  1, "no piece of memory" },
        {{{"pages/pages-1.img", '0', 0644, "x", NULL, 0}},                                   1, "no piece of memory" },
        {{{"pages/pages-1.img@", '0', 0644, "x", NULL, 0}},                                  1, "no piece of memory" },
        {{{"pages/pages-1.img@00", '0', 0644, "x", NULL, 0}},                                1, "no piece of memory" },
        {{{"pages/pages-1.img@-1", '0', 0644, "x", NULL, 0}},                                1, "no piece of memory" },
        {{{"pages/pages-1.img@9999999999999999999", '0', 0644, "x", NULL, 0}},
         1,                                                                                     "no piece of memory" },
        {{{"pages/pages-1.img@1", '0', 0644, "x", NULL, 0}},                                 1, "does not follow"    },
        {{{"pages/pages-1.img@0", '0', 0644, "xx", NULL, 0},
          {"pages/pages-1.img@1", '0', 0644, "x", NULL, 0}},
         2,                                                                                     "does not follow"    },
        {{{"pages/pages-1.img@0", '0', 0644, "x", NULL, 0},
          {"pages/pages-1.img@0", '0', 0644, "y", NULL, 0}},
         2,                                                                                     "does not follow"    },
        {{{"pages/pages-1.img@0", '0', 0644, "x", NULL, 0},
          {"image/pages-1.img", '0', 0644, "y", NULL, 0}},
         2,                                                                                     "twice"              },
        {{{"image/pages-1.img", '0', 0644, "x", NULL, 0},
          {"pages/pages-1.img@0", '0', 0644, "y", NULL, 0}},
         2,                                                                                     "twice"              },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture_bytes bytes = {0};
        make_stream(&bytes, cases[i].entries, cases[i].count);
        expect_refused(*state, &bytes, cases[i].reason);
        free(bytes.data);
    }
}

static void a_hand_made_stream_is_accepted(void **state)
{
    struct image_fixture *f = *state;
    const struct entry entries[] = {
        {"image/a",    '0', 0644,  "content", NULL, 0},
        folder,
        {"folder/d/",  '5', 02775, NULL,      NULL, 0},
        {"folder/d/x", '0', 0604,  "inside",  NULL, 0}
    };
    struct fixture_bytes bytes = {0};
    struct error err = {0};
    struct stat st;
    make_stream(&bytes, entries, ARRAY_LEN(entries));
    if (fixture_feed(f, bytes.data, bytes.length, 512, 10 * MIB, NULL, &err) < 0)
        fail_msg("%s", err.message);
    autofree char *x = xasprintf("%s/d/x", f->got_folder), *d = xasprintf("%s/d", f->got_folder);
    autofree char *a = xasprintf("%s/a", f->got_image);
    assert_int_equal(stat(x, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0604);
    assert_int_equal(stat(d, &st), 0);
    assert_int_equal(st.st_mode & 07777, 02775);
    assert_int_equal(stat(a, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600); /* whatever the stream said */
    /* padding behind the end does no harm */
    put_end(&bytes);
    put_end(&bytes);
    image_fixture_clear(f);
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 512, 10 * MIB, NULL, NULL), 0);
    free(bytes.data);
}

static void put_piece(struct fixture_bytes *bytes, const char *file, size_t offset,
                      const char *content)
{
    autofree char *name = xasprintf("pages/%s@%zu", file, offset);
    put_entry(bytes, &(struct entry){name, '0', 0600, content, NULL, 0});
}

/* Pieces of two files in turn, with signs of life between them, as a dump of two processes. */
static void pieces_become_files(void **state)
{
    struct image_fixture *f = *state;
    static const struct entry life = {"pages/", '5', 0700, NULL, NULL, 0};
    struct fixture_bytes bytes = {0};
    struct error err = {0};
    put_entry(&bytes, &life);
    put_piece(&bytes, "pages-1.img", 0, "one ");
    put_piece(&bytes, "pages-2.img", 0, "three ");
    put_entry(&bytes, &life);
    put_entry(&bytes, &life);
    put_piece(&bytes, "pages-1.img", 4, "");
    put_piece(&bytes, "pages-1.img", 4, "two");
    put_piece(&bytes, "pages-3.img", 0, "");
    put_piece(&bytes, "pages-2.img", 6, "four");
    put_entry(&bytes, &folder);
    AUTO(image_manifest) manifest = new_manifest();
    add_file(manifest, "image/pages-1.img", "one two");
    add_file(manifest, "image/pages-2.img", "three four");
    add_file(manifest, "image/pages-3.img", "");
    size_t before = bytes.length;
    put_manifest(&bytes, manifest);
    put_end(&bytes);
    if (fixture_feed(f, bytes.data, bytes.length, 333, 10 * MIB, NULL, &err) < 0)
        fail_msg("%s", err.message);
    static const char *const names[] = {"pages-1.img", "pages-2.img", "pages-3.img"};
    static const char *const contents[] = {"one two", "three four", ""};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        autofree char *path = xasprintf("%s/%s", f->got_image, names[i]), *text = NULL;
        assert_int_equal(file_read(path, KIB, &text, NULL, &err), 0);
        assert_string_equal(text, contents[i]);
    }
    /* One bit, and it is not taken. */
    bytes.length = before;
    bytes.data[2 * 512] ^= 1; /* behind the sign of life and a header */
    put_manifest(&bytes, manifest);
    put_end(&bytes);
    expect_refused(f, &bytes, "differs from the manifest's");
    free(bytes.data);
}

static void long_and_deep_names_are_refused(void **state)
{
    struct image_fixture *f = *state;
    char deep[1000] = "folder", piece[400] = "image/";
    for (int i = 0; i < 200; i++)
        strcat(deep, "/d");
    memset(piece + 6, 'p', 300);
    autofree char *whole = xmalloc(6000);
    for (size_t i = 0; i < 5999; i++)
        whole[i] = i % 50 == 49 ? '/' : 'w';
    whole[5999] = '\0';
    memcpy(whole, "folder/", 7);
    const char *const names[] = {deep, piece, whole, "image/../x"};
    const char *const reasons[] = {"64 pieces deep", "longer than 255", "longer than 4000", "'..'"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct fixture_bytes bytes = {0};
        put_pax(&bytes, "path", names[i]); /* the name in the plain header is harmless */
        make_stream(&bytes, &(struct entry){"image/fine", '0', 0644, "x", NULL, 0}, 1);
        expect_refused(f, &bytes, reasons[i]);
        free(bytes.data);
    }
}

static void a_link_hidden_in_pax_is_refused(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    put_pax(&bytes, "linkpath", "/etc/passwd");
    make_stream(&bytes, &(struct entry){"image/x", '2', 0777, NULL, "fine", 0}, 1);
    expect_refused(f, &bytes, "a symbolic link");
    free(bytes.data);
}

static void too_many_bytes_are_refused(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    put_header(&bytes, "image/x", '0', 0600, 10 * MIB + 1, NULL); /* refused by what it says */
    expect_refused_by(f, bytes.data, bytes.length, ERROR_TOO_LARGE, "that were reserved");
    bytes.length = 0;
    put_pax(&bytes, "size", "8000000000000");
    put_header(&bytes, "image/x", '0', 0600, 0, NULL);
    expect_refused_by(f, bytes.data, bytes.length, ERROR_TOO_LARGE, "that were reserved");
    free(bytes.data);
}

/* A file that claims a tebibyte and sends one block. */
static void sparse_bombs_are_refused(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    unsigned char header[512] = {0};
    strcpy((char *)header, "image/bomb");
    put_octal(header + 100, 8, 0600);
    put_octal(header + 124, 12, 512);
    header[156] = 'S';
    memcpy(header + 257, "ustar  ", 8);
    put_octal(header + 386, 12, 1ULL << 32); /* one piece of data, far away */
    put_octal(header + 398, 12, 512);
    header[483] = 0x80;  /* the real size, base 256 */
    header[483 + 6] = 1; /* 2^40 */
    finish_header(header);
    fixture_gather(&bytes, header, sizeof(header), NULL);
    put_content(&bytes, "boom", 4);
    expect_refused_by(f, bytes.data, bytes.length, ERROR_TOO_LARGE, "that were reserved");
    bytes.length = 0;
    put_pax(&bytes, "GNU.sparse.realsize", "1099511627776");
    put_pax(&bytes, "GNU.sparse.major", "1");
    put_header(&bytes, "image/bomb", '0', 0600, 512, NULL);
    put_content(&bytes, "1\n1099511627264\n512\n", 20);
    struct error err = {0};
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 512, 10 * MIB, NULL, &err), -1);
    assert_nothing_outside(f);
    free(bytes.data);
}

static void a_stream_without_end_is_ended(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    autofree char *value = xmalloc(900 * KIB);
    memset(value, 'x', 900 * KIB - 1);
    value[900 * KIB - 1] = '\0';
    put_pax(&bytes, "comment", value); /* headers count too */
    struct image_sink *sink = fixture_sink(f, MIB);
    struct error err = {0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2000; i++)
        rc = image_sink_data(sink, bytes.data, bytes.length, &err);
    assert_int_equal(rc, -1);
    image_sink_free(sink);
    free(bytes.data);
}

static void compressed_streams_are_refused(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    make_stream(&bytes, &folder, 1);
    autofree char *path = xasprintf("%s/image/x.tar", f->top);
    autofree char *command = xasprintf("gzip -f %s", path);
    FILE *file = fopen(path, "we");
    fwrite(bytes.data, 1, bytes.length, file);
    fclose(file);
    assert_int_equal(system(command), 0);
    autofree char *packed = xasprintf("%s.gz", path);
    char *data = NULL;
    size_t length = 0;
    assert_int_equal(file_read(packed, MIB, &data, &length, NULL), 0);
    expect_refused_by(f, data, length, ERROR_INVALID, "cannot be read");
    free(data);
    free(bytes.data);
}

/* ---- the manifest ---- */

static void expect_manifest_refused(struct image_fixture *f, const struct image_manifest *manifest,
                                    const char *reason)
{
    struct fixture_bytes bytes = {0};
    put_entry(&bytes, &(struct entry){"image/a", '0', 0644, "aaa", NULL, 0});
    put_entry(&bytes, &(struct entry){"image/b", '0', 0644, "bbb", NULL, 0});
    put_entry(&bytes, &folder);
    put_manifest(&bytes, manifest);
    put_end(&bytes);
    expect_refused(f, &bytes, reason);
    free(bytes.data);
}

static void manifests_that_do_not_match_are_refused(void **state)
{
    struct image_fixture *f = *state;
    AUTO(image_manifest) fewer = new_manifest();
    add_file(fewer, "image/a", "aaa");
    expect_manifest_refused(f, fewer, "2 files arrived, the manifest names 1");
    AUTO(image_manifest) more = new_manifest();
    add_file(more, "image/a", "aaa");
    add_file(more, "image/b", "bbb");
    add_file(more, "image/c", "ccc");
    expect_manifest_refused(f, more, "2 files arrived, the manifest names 3");
    AUTO(image_manifest) other_name = new_manifest();
    add_file(other_name, "image/a", "aaa");
    add_file(other_name, "image/c", "bbb");
    expect_manifest_refused(f, other_name, "differs from the manifest's");
    AUTO(image_manifest) other_size = new_manifest();
    add_file(other_size, "image/a", "aaa");
    add_file(other_size, "image/b", "bbbb");
    expect_manifest_refused(f, other_size, "has 3 bytes, the manifest says 4");
    AUTO(image_manifest) other_content = new_manifest();
    add_file(other_content, "image/a", "aaa");
    add_file(other_content, "image/b", "bbB");
    expect_manifest_refused(f, other_content, "checksum of 'image/b' differs");
    AUTO(image_manifest) unhashed = new_manifest();
    add_file(unhashed, "image/a", "aaa");
    image_manifest_add(unhashed, "image/b", 3, "");
    expect_manifest_refused(f, unhashed, "expected 32 hex digits");
    AUTO(image_manifest) other_workload = image_manifest_new("w2", 7);
    other_workload->tasks = other_workload->threads = 1;
    add_file(other_workload, "image/a", "aaa");
    add_file(other_workload, "image/b", "bbb");
    expect_manifest_refused(f, other_workload, "of workload 'w2', expected 'w1'");
}

static void manifests_that_are_none_are_refused(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"",                                                                                 "empty"                            },
        {"{",                                                                                "not valid JSON"                   },
        {"[]",                                                                               "expected an object"               },
        {"{}",                                                                               "schema: missing"                  },
        {"{\"schema\":\"cpubroker.manifest/2\"}",                                            "expected \"cpubroker.manifest/1\""},
        {"{\"schema\":\"cpubroker.manifest/1\",\"workload\":\"../w\",\"pid\":1}",            "name"                             },
        {"{\"schema\":\"cpubroker.manifest/1\",\"workload\":\"w1\",\"pid\":0,\"tasks\":1}",  "pid"                              },
        {"{\"schema\":\"cpubroker.manifest/1\",\"workload\":\"w1\",\"pid\":-1,\"tasks\":1}", "pid"                              },
        {"{\"schema\":\"cpubroker.manifest/"
         "1\",\"workload\":\"w1\",\"pid\":99999999999,\"tasks\":1}",                "pid"                              },
        {"{\"schema\":\"cpubroker.manifest/"
         "1\",\"workload\":\"w1\",\"pid\":1,\"tasks\":1,\"threads\":1,"
         "\"stopped_pids\":[0],\"files\":[]}",                                      "stopped_pids[0]"                  },
        {"{\"schema\":\"cpubroker.manifest/"
         "1\",\"workload\":\"w1\",\"pid\":1,\"tasks\":1,\"threads\":1,"
         "\"stopped_pids\":[],\"files\":[{\"name\":\"image/a\"}]}",                 "bytes: missing"                   },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture_bytes bytes = {0};
        put_entry(&bytes, &folder);
        put_entry(&bytes, &(struct entry){"manifest.json", '0', 0600, cases[i].text, NULL, 0});
        put_end(&bytes);
        expect_refused(*state, &bytes, cases[i].reason);
        free(bytes.data);
    }
}

static void the_manifest_must_be_last_and_there(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    AUTO(image_manifest) manifest = new_manifest();
    put_entry(&bytes, &folder);
    put_end(&bytes);
    expect_refused(f, &bytes, "without a manifest");
    bytes.length = 0;
    put_entry(&bytes, &folder);
    put_manifest(&bytes, manifest);
    put_entry(&bytes, &(struct entry){"image/a", '0', 0644, "late", NULL, 0});
    put_end(&bytes);
    expect_refused(f, &bytes, "goes on behind the manifest");
    bytes.length = 0;
    put_entry(&bytes, &folder);
    put_manifest(&bytes, manifest);
    put_manifest(&bytes, manifest);
    put_end(&bytes);
    expect_refused(f, &bytes, "goes on behind the manifest");
    free(bytes.data);
}

/* ---- on its way ---- */

static void make_valid(struct fixture_bytes *bytes)
{
    static char content[3000];
    memset(content, 'c', sizeof(content) - 1);
    const struct entry entries[] = {
        {"image/core-1.img", '0', 0600, content,  NULL, 0},
        folder,
        {"folder/log",       '0', 0644, "line\n", NULL, 0}
    };
    make_stream(bytes, entries, ARRAY_LEN(entries));
}

static void streams_cut_off_anywhere_are_refused(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    make_valid(&bytes);
    for (size_t length = 0; length < bytes.length - 1024; length += 97) {
        struct error err = {0};
        image_fixture_clear(f);
        if (fixture_feed(f, bytes.data, length, 512, 10 * MIB, NULL, &err) == 0)
            fail_msg("a stream of %zu bytes of %zu was accepted", length, bytes.length);
    }
    assert_int_equal(fixture_feed(f, bytes.data, 0, 512, 10 * MIB, NULL, NULL), -1);
    free(bytes.data);
}

/* Whichever byte is altered: refused, or (in padding, which is nobody's) without effect. */
static void altered_bytes_never_arrive(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    make_valid(&bytes);
    unsigned refused = 0;
    for (size_t at = 0; at < bytes.length; at += 13) {
        image_fixture_clear(f);
        bytes.data[at] ^= 0x20;
        int rc = fixture_feed(f, bytes.data, bytes.length, 4096, 10 * MIB, NULL, NULL);
        bytes.data[at] ^= 0x20;
        refused += rc < 0;
        if (rc < 0)
            continue;
        autofree char *log = xasprintf("%s/log", f->got_folder);
        autofree char *core = xasprintf("%s/core-1.img", f->got_image);
        char *text = NULL;
        assert_int_equal(file_read(log, KIB, &text, NULL, NULL), 0);
        assert_string_equal(text, "line\n");
        free(text);
        text = NULL;
        assert_int_equal(file_read(core, 4 * KIB, &text, NULL, NULL), 0);
        assert_int_equal(strspn(text, "c"), 2999);
        free(text);
    }
    assert_true(refused > 100);
    free(bytes.data);
}

static void what_is_there_already_is_not_overwritten(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    struct error err = {0};
    make_valid(&bytes);
    autofree char *log = xasprintf("%s/log", f->got_folder);
    autofree char *elsewhere = xasprintf("%s/elsewhere", f->top);
    assert_int_equal(symlink(elsewhere, log), 0); /* as if slipped in meanwhile */
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 4096, 10 * MIB, NULL, &err), -1);
    assert_int_equal(access(elsewhere, F_OK), -1);
    free(bytes.data);
}

static void a_broken_sink_says_why(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    struct error reason, err = {0};
    struct image_manifest *manifest = NULL;
    uint64_t count = 0;
    make_valid(&bytes);
    struct image_sink *sink = fixture_sink(f, 10 * MIB);
    assert_int_equal(image_sink_data(sink, bytes.data, 700, &err), 0);
    error_set(&reason, ERROR_CONFLICT, "the broker has ended this migration");
    image_sink_break(sink, &reason);
    assert_int_equal(image_sink_finish(sink, &manifest, &count, &err), -1);
    assert_string_equal(err.message, "the broker has ended this migration");
    image_sink_free(sink);
    free(bytes.data);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_hand_made_stream_is_accepted),
        TEST(forged_entries_are_refused),
        TEST(pieces_become_files),
        TEST(long_and_deep_names_are_refused),
        TEST(a_link_hidden_in_pax_is_refused),
        TEST(too_many_bytes_are_refused),
        TEST(sparse_bombs_are_refused),
        TEST(a_stream_without_end_is_ended),
        TEST(compressed_streams_are_refused),
        TEST(manifests_that_do_not_match_are_refused),
        TEST(manifests_that_are_none_are_refused),
        TEST(the_manifest_must_be_last_and_there),
        TEST(streams_cut_off_anywhere_are_refused),
        TEST(altered_bytes_never_arrive),
        TEST(what_is_there_already_is_not_overwritten),
        TEST(a_broken_sink_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
