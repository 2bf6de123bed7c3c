/* SPDX-License-Identifier: Apache-2.0 */
/* birth_mask.c - a workload's birth mask on this node. */
#include "birth_mask.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "cpu_profile.h"
#include "file.h"
#include "mask_link.h"
#include "mask_table.h"
#include "process.h"

#define STATE_MAX_BYTES 4096
#define TRY_MS          20000
#define TRY_GRACE_MS    1000

void birth_mask_done(struct birth_mask *mask)
{
    json_object_put(mask->profile);
    *mask = (struct birth_mask){0};
}

void birth_mask_copy(const struct birth_mask *mask, struct birth_mask *ret)
{
    *ret = (struct birth_mask){.grade = mask->grade, .epoch = mask->epoch};
    if (mask->profile)
        json_object_deep_copy(mask->profile, &ret->profile, NULL);
}

json_object *birth_mask_to_json(const struct birth_mask *mask)
{
    json_object *profile = NULL;
    if (mask->grade == MASK_GRADE_OFF)
        return NULL;
    json_object *o = json_object_new_object();
    json_object_deep_copy(mask->profile, &profile, NULL);
    json_put_str(o, "grade", mask_grade_name(mask->grade));
    json_put_int(o, "epoch", mask->epoch);
    json_put(o, "profile", profile);
    return o;
}

int birth_mask_decode(const char *what, json_object *json, struct birth_mask *ret,
                      struct error *err)
{
    const char *grade = NULL;
    json_object *profile = NULL;
    AUTO(cpu_profile) parsed = NULL;
    struct birth_mask mask = {0};
    if (!json) {
        *ret = mask;
        return 0;
    }
    autofree char *where = xasprintf("%s: mask", what);
    if (json_check_object(where, json, err) < 0 ||
        json_get_str(where, json, "grade", &grade, err) < 0 ||
        json_get_i64(where, json, "epoch", &mask.epoch, err) < 0 ||
        json_get_object(where, json, "profile", &profile, err) < 0)
        return -1;
    if (mask_grade_from_name(grade, &mask.grade, err) < 0 ||
        cpu_profile_from_record(profile, &parsed, err) < 0)
        return error_wrap(err, "%s", where);
    json_object_deep_copy(profile, &mask.profile, NULL);
    *ret = mask;
    return 0;
}

bool birth_mask_is_traced(const struct birth_mask *mask)
{
    return mask->grade == MASK_GRADE_DETOUR;
}

/* ---- for the tracer */

static int write_file(const char *path, const void *bytes, size_t length, struct error *err)
{
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
        return error_errno(err, ERROR_FAILED, "cannot write %s", path);
    return 0;
}

int birth_mask_write_table(const struct birth_mask *mask, const struct cpu_report *report,
                           const char *run_dir, struct error *err)
{
    union {
        struct mask_island_table table;
        uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
    } area = {0};
    AUTO(cpu_profile) profile = NULL;
    autofree char *path = xasprintf("%s/%s", run_dir, BIRTH_MASK_TABLE_NAME);
    if (!report)
        return error_set(err, ERROR_FAILED, "what this node's CPUs offer is not known yet");
    if (cpu_profile_from_record(mask->profile, &profile, err) < 0 ||
        mask_table_build(profile, report, &area.table, err) < 0)
        return error_wrap(err, "making the CPUID table for the mask of epoch %lld",
                          (long long)mask->epoch);
    return write_file(path, &area, sizeof(area), err);
}

/* ---- telling */

static json_object *tracer_state(const char *run_dir)
{
    autofree char *path = xasprintf("%s/%s", run_dir, MASK_STATE_NAME);
    autofree char *text = NULL;
    json_object *json = NULL;
    size_t length = 0;
    if (file_read(path, STATE_MAX_BYTES, &text, &length, NULL) < 0 ||
        json_parse(text, length, &json, NULL) < 0)
        return NULL;
    return json;
}

json_object *birth_mask_told(const struct birth_mask *mask, const char *run_dir)
{
    static const char *const members[] = {"sites", "traps", "lacks", "problem"};
    if (mask->grade == MASK_GRADE_OFF)
        return NULL;
    json_object *o = json_object_new_object();
    autojson *state = tracer_state(run_dir);
    json_put_str(o, "grade", mask_grade_name(mask->grade));
    json_put_int(o, "epoch", mask->epoch);
    for (unsigned i = 0; i < ARRAY_LEN(members); i++)
        if (json_member(state, members[i]))
            json_put(o, members[i], json_object_get(json_member(state, members[i])));
    return o;
}

/* ---- choosing */

enum mask_grade birth_mask_try(const char *mask_program, bool has_cgroup, char *reason,
                               size_t reason_bytes)
{
    char *const argv[] = {(char *)mask_program, "--try", NULL};
    char *const env[] = {NULL};
    const struct process_job job = {
        .argv = argv, .env = env, .timeout_ms = TRY_MS, .grace_ms = TRY_GRACE_MS};
    struct process_outcome out = {0};
    struct error err = {0};
    if (!has_cgroup) {
        snprintf(reason, reason_bytes, "there are no control groups (v2) here");
        return MASK_GRADE_ENVIRONMENT;
    }
    int rc = process_run(&job, &out, &err);
    if (rc == 0 && out.exit_status == 0 && !out.timed_out) {
        snprintf(reason, reason_bytes,
                 "this version does not use CPUID faulting, wherever it may be; ask for 'detour'");
        return MASK_GRADE_DETOUR;
    }
    if (rc < 0)
        snprintf(reason, reason_bytes, "%s", err.message);
    else
        snprintf(reason, reason_bytes, "trying it failed: %.*s", (int)strcspn(out.output, "\n"),
                 out.output);
    return MASK_GRADE_ENVIRONMENT;
}

static int grade_of(const char *member, const char *name, enum mask_grade *ret, struct error *err)
{
    return mask_grade_from_name(name, ret, err) < 0 ? error_wrap(err, "run: %s", member) : 0;
}

int birth_mask_choose(const char *wanted, const char *require, enum mask_grade best,
                      const char *reason, enum mask_grade *ret, struct error *err)
{
    enum mask_grade least = MASK_GRADE_OFF;
    *ret = best;
    if (wanted && strcmp(wanted, "auto") != 0 && grade_of("mask", wanted, ret, err) < 0)
        return -1;
    if (require && grade_of("mask_require", require, &least, err) < 0)
        return -1;
    if (*ret > best || least > best)
        return error_set(err, ERROR_REJECTED,
                         "the grade '%s' of the mask is not to be had on this node: %s",
                         mask_grade_name(*ret > best ? *ret : least), reason);
    if (*ret < least)
        return error_set(err, ERROR_INVALID,
                         "run: mask: '%s' is less than mask_require, which is '%s'",
                         mask_grade_name(*ret), mask_grade_name(least));
    return 0;
}
