/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_report.c - reports are read strictly and written back as they were. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_report.h"
#include "cpu_samples.h"

#define LEAF(l, s, eax)                                        \
    "{\"leaf\":\"" l "\",\"subleaf\":\"" s "\",\"eax\":\"" eax \
    "\",\"ebx\":\"0x0\",\"ecx\":\"0x0\",\"edx\":\"0x0\"}"
#define REPORT(cpus) "{\"schema\":\"cpubroker.report/1\",\"node\":\"n1\",\"cpus\":[" cpus "]}"
#define GROUP(leaves) \
    "{\"cpus\":\"0-1\",\"core_type\":null,\"xcr0\":\"0x7\",\"leaves\":[" leaves "]}"

static int parse(const char *text, struct cpu_report **report, struct error *err)
{
    autojson *json = NULL;
    if (json_parse(text, strlen(text), &json, err) < 0)
        return -1;
    return cpu_report_parse(json, report, err);
}

static void a_small_report_is_read(void **state)
{
    (void)state;
    AUTO(cpu_report) r = NULL;
    struct error err = {0};
    assert_int_equal(
        parse(REPORT(GROUP(LEAF("0x1", "0x0", "0x2") "," LEAF("0x0", "0x0", "0x1"))), &r, &err), 0);
    assert_string_equal(r->node, "n1");
    assert_int_equal(r->group_count, 1);
    assert_true(r->groups[0].xcr0_known);
    assert_int_equal(r->groups[0].xcr0, 7);
    assert_null(r->groups[0].core_type);
    assert_int_equal(r->groups[0].leaves[0].leaf, 0); /* sorted */
    assert_int_equal(cpu_group_find(&r->groups[0], 1, 0)->eax, 2);
    assert_null(cpu_group_find(&r->groups[0], 1, 1));
    assert_false(r->os.hwcap2_known);
    assert_int_equal(r->os.cpuid_faulting, -1);
    assert_int_equal(strlen(r->sha256), 64);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"[]",                                                   "report: expected an object, not array"},
        {"{}",                                                   "report: schema: missing"              },
        {"{\"schema\":\"cpubroker.report/2\"}",                  "expected \"cpubroker.report/1\""      },
        {"{\"schema\":\"cpubroker.report/1\"}",                  "report: node: missing"                },
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"a/b\"}", "'a/b' is no name"                     },
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"n\"}",   "report: cpus: missing"                },
        {REPORT(""),                                             "at least one group"                   },
        {REPORT("1"),                                            "cpus[0]: expected an object"          },
        {REPORT("{}"),                                           "cpus[0]: cpus: missing"               },
        {REPORT("{\"cpus\":\"all\",\"leaves\":[]}"),             "expected a list like"                 },
        {REPORT("{\"cpus\":\"\",\"leaves\":[]}"),                "expected 1..8192"                     },
        {REPORT("{\"cpus\":\"0\"}"),                             "cpus[0]: leaves: missing"             },
        {REPORT("{\"cpus\":\"0\",\"xcr0\":7,\"leaves\":[]}"),    "xcr0: expected a string"              },
        {REPORT(GROUP("3")),                                     "cpus[0].leaves[0]: expected an object"},
        {REPORT(GROUP(LEAF("7",                                  "0x0",                                   "0x0"))), "leaves[0]: leaf: expected \"0x\""},
        {REPORT(GROUP(LEAF("0x7",                    "0x0",                                                           "0x100000000"))), "eax: expected at most 0xffffffff"},
        {REPORT(GROUP(LEAF("0x7",                              "0x0","0x0") "," LEAF("0x07", "0x0", "0x1"))),
         "leaf 0x00000007 subleaf 0x00000000 is there twice"},
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"n\",\"cpus\":[" GROUP("") "],\"os\":7}",
         "report: os: expected an object"                                                                      },
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"n\",\"cpus\":[" GROUP(
             "") "],\"os\":{\"minsigstksz\":-1}}",
         "minsigstksz: expected 0.."                                                                       },
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"n\",\"cpus\":[" GROUP(
             "") "],\"os\":{\"kernel\":\"a\\u0007\"}}",
         "kernel: holds a control character"                                          },
        {"{\"schema\":\"cpubroker.report/1\",\"node\":\"n\",\"cpus\":[" GROUP(
             "") "],\"engines\":[{\"name\":\"criu\"}]}",
         "engines[0]: version: missing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(cpu_report) r = NULL;
        struct error err = {0};
        assert_int_equal(parse(rows[i].text, &r, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' does not tell '%s'", err.message, rows[i].message);
        assert_null(r);
    }
}

static void too_many_groups_and_leaves_are_refused(void **state)
{
    (void)state;
    autojson *json = json_object_new_object();
    json_put_str(json, "schema", CPU_REPORT_SCHEMA);
    json_put_str(json, "node", "n");
    json_object *cpus = json_object_new_array();
    json_put(json, "cpus", cpus);
    for (int i = 0; i <= CPU_REPORT_GROUPS_MAX; i++)
        json_object_array_add(cpus, json_object_new_object());
    AUTO(cpu_report) r = NULL;
    struct error err = {0};
    assert_int_equal(cpu_report_parse(json, &r, &err), -1);
    assert_non_null(strstr(err.message, "257 items, at most 256"));
}

static void samples_survive_a_round_trip(void **state)
{
    (void)state;
    static const char *const names[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO(cpu_report) r = sample_report(names[i]);
        AUTO(cpu_report) again = NULL;
        autojson *json = cpu_report_to_json(r);
        struct error err = {0};
        assert_int_equal(cpu_report_parse(json, &again, &err), 0);
        assert_string_equal(r->sha256, again->sha256);
        autojson *json_again = cpu_report_to_json(again);
        assert_int_equal(json_object_equal(json, json_again), 1);
        assert_true(r->os.hwcap2_known);
        assert_true(r->os.minsigstksz_known);
    }
}

static void hash_is_of_the_content(void **state)
{
    (void)state;
    AUTO(cpu_report) a = NULL;
    AUTO(cpu_report) b = NULL;
    AUTO(cpu_report) c = NULL;
    struct error err = {0};
    /* the order of leaves and the case and length of numbers do not matter */
    assert_int_equal(
        parse(REPORT(GROUP(LEAF("0x0", "0x0", "0xA") "," LEAF("0x1", "0x0", "0x1"))), &a, &err), 0);
    assert_int_equal(
        parse(REPORT(GROUP(LEAF("0x01", "0x0", "0x1") "," LEAF("0x0", "0x0", "0x0a"))), &b, &err),
        0);
    assert_int_equal(
        parse(REPORT(GROUP(LEAF("0x0", "0x0", "0xB") "," LEAF("0x1", "0x0", "0x1"))), &c, &err), 0);
    assert_string_equal(a->sha256, b->sha256);
    assert_string_not_equal(a->sha256, c->sha256);
}

static void engines_are_found(void **state)
{
    (void)state;
    AUTO(cpu_report) r = sample_report("haswell");
    assert_false(cpu_report_has_engine(r, "criu"));
    r->engines = xrealloc(r->engines, sizeof(*r->engines));
    r->engines[0] = (struct cpu_engine){xstrdup("criu"), xstrdup("4.1.1")};
    r->engine_count = 1;
    assert_true(cpu_report_has_engine(r, "criu"));
    assert_false(cpu_report_has_engine(r, "cri"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_report_is_read),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(too_many_groups_and_leaves_are_refused),
        cmocka_unit_test(samples_survive_a_round_trip),
        cmocka_unit_test(hash_is_of_the_content),
        cmocka_unit_test(engines_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
