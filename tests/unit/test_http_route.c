/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_route.c - which route a path means, and how its escapes are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "http_route.h"

static const struct http_route routes[] = {
    {.method = "GET",                    .path = "/v1/nodes"},
    {.method = "GET",                                  .path = "/v1/nodes/{node}"},
    {.method = "DELETE",.path = "/v1/nodes/{node}"},
    {.method = "PUT",                 .path = "/v1/nodes/{node}/report"},
    {.method = "PUT",                                  .path = "/v1/pools/{pool}/nodes/{node}"},
    {.method = "POST",.path = "/migrate"},
    {0                   },
};

static const struct {
    const char *method, *path;
    enum http_match match;
    const char *route;          /* where OK */
    const char *first, *second; /* parameters, "" for none */
    const char *allow;
} cases[] = {
    {"GET",  "/v1/nodes",               HTTP_MATCH_OK,         "/v1/nodes",                     "",           "",    ""                 },
    {"HEAD", "/v1/nodes",               HTTP_MATCH_OK,         "/v1/nodes",                     "",           "",    ""                 },
    {"GET",  "/v1/nodes/a",             HTTP_MATCH_OK,         "/v1/nodes/{node}",              "a",          "",    ""                 },
    {"GET",  "/v1/nodes/report",        HTTP_MATCH_OK,         "/v1/nodes/{node}",              "report",     "",    ""                 },
    {"PUT",  "/v1/nodes/a/report",      HTTP_MATCH_OK,         "/v1/nodes/{node}/report",       "a",          "",    ""                 },
    {"PUT",  "/v1/pools/p.1/nodes/n-2", HTTP_MATCH_OK,         "/v1/pools/{pool}/nodes/{node}", "p.1",        "n-2",
     ""                                                                                                                                 },
    {"GET",  "/v1/nodes/a%2Fb",         HTTP_MATCH_OK,         "/v1/nodes/{node}",              "a/b",        "",    ""                 },
    {"GET",  "/v1/nodes/%c3%A9+x",      HTTP_MATCH_OK,         "/v1/nodes/{node}",              "\xc3\xa9+x", "",    ""                 },
    {"GET",  "/v1/nodes/a%00",          HTTP_MATCH_BAD_ESCAPE, NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodes/a%4",           HTTP_MATCH_BAD_ESCAPE, NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodes/%zz",           HTTP_MATCH_BAD_ESCAPE, NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodes/",              HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodes/a/",            HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodes/a/b/c",         HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/v1//nodes",              HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/node",                HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/v1/nodesX",              HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "/",                       HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"GET",  "",                        HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"PUT",  "/v1/pools//nodes/n",      HTTP_MATCH_NO_PATH,    NULL,                            "",           "",    ""                 },
    {"POST", "/v1/nodes/a",             HTTP_MATCH_NO_METHOD,  NULL,                            "",           "",    "GET, HEAD, DELETE"},
    {"HEAD", "/migrate",                HTTP_MATCH_NO_METHOD,  NULL,                            "",           "",    "POST"             },
    {"get",  "/v1/nodes",               HTTP_MATCH_NO_METHOD,  NULL,                            "",           "",    "GET, HEAD"        },
};

static void paths_mean_their_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_request req = {0};
        const struct http_route *route = NULL;
        char room[128], allow[64];
        enum http_match match = http_route_find(routes, cases[i].method, cases[i].path, &req, room,
                                                &route, allow, sizeof(allow));
        if (match != cases[i].match)
            fail_msg("%s %s: match %d, expected %d", cases[i].method, cases[i].path, (int)match,
                     (int)cases[i].match);
        assert_string_equal(allow, cases[i].allow);
        if (match != HTTP_MATCH_OK)
            continue;
        assert_string_equal(route->path, cases[i].route);
        const char *first = strstr(route->path, "{pool}") ? "pool" : "node";
        assert_string_equal(http_request_param(&req, first), cases[i].first);
        if (*cases[i].second)
            assert_string_equal(http_request_param(&req, "node"), cases[i].second);
        assert_string_equal(http_request_param(&req, "nod"), "");
    }
}

static void allow_never_overflows(void **state)
{
    (void)state;
    struct http_route many[40];
    for (size_t i = 0; i + 1 < ARRAY_LEN(many); i++)
        many[i] = (struct http_route){.method = "GET", .path = "/x"};
    many[ARRAY_LEN(many) - 1] = (struct http_route){0};
    struct http_request req = {0};
    const struct http_route *route = NULL;
    char room[8], allow[20];
    assert_int_equal(http_route_find(many, "PUT", "/x", &req, room, &route, allow, sizeof(allow)),
                     HTTP_MATCH_NO_METHOD);
    assert_int_equal(strlen(allow), sizeof(allow) - 1);
}

static void a_plus_is_a_space_in_queries_only(void **state)
{
    (void)state;
    char text[16];
    assert_true(http_percent_decode("a+b%2b", 6, true, text));
    assert_string_equal(text, "a b+");
    assert_true(http_percent_decode("a+b", 3, false, text));
    assert_string_equal(text, "a+b");
    assert_true(http_percent_decode("abc", 1, false, text));
    assert_string_equal(text, "a");
    assert_false(http_percent_decode("%41", 2, false, text)); /* cut off by the length */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_mean_their_routes),
        cmocka_unit_test(allow_never_overflows),
        cmocka_unit_test(a_plus_is_a_space_in_queries_only),
    };
    return cmocka_run_group_tests_name("http_route", tests, NULL, NULL);
}
