/* SPDX-License-Identifier: Apache-2.0 */
/* birth_mask.h - the mask that a workload was born under, as this node keeps it, and what is
 * told of it. */
#pragma once

#include <stdint.h>

#include "cpu_report.h"
#include "error.h"
#include "json.h"
#include "mask_grade.h"

#define BIRTH_MASK_TABLE_NAME "mask.table" /* in the run folder; what the tracer reads */

struct birth_mask { /* zeroed: none */
    enum mask_grade grade;
    int64_t epoch;        /* of the pool, at birth; 0 with OFF */
    json_object *profile; /* owned; cpubroker.profile/1, that epoch's mask; NULL with OFF */
};

void birth_mask_done(struct birth_mask *mask);
/* *ret owns copies; json-c's counts are not atomic. */
void birth_mask_copy(const struct birth_mask *mask, struct birth_mask *ret);
/* {"grade":...,"epoch":N,"profile":{...}}; NULL with OFF. The caller owns it. */
json_object *birth_mask_to_json(const struct birth_mask *mask);
/* Decodes that; NULL is OFF. Also the broker's answer to a claim, which has more members. The
 * caller owns *ret. Errors: ERROR_INVALID naming the member. */
int birth_mask_decode(const char *what, json_object *json, struct birth_mask *ret,
                      struct error *err);
/* Whether a tracer holds it to the mask. */
bool birth_mask_is_traced(const struct birth_mask *mask);

/* Writes the table for this node's CPUs into the run folder. Errors: ERROR_INVALID (the profile),
 * ERROR_TOO_LARGE, ERROR_FAILED. */
int birth_mask_write_table(const struct birth_mask *mask, const struct cpu_report *report,
                           const char *run_dir, struct error *err);
/* What people and the broker are told: {"grade","epoch","sites","traps","lacks","problem"}, with
 * what the tracer keeps in the run folder; NULL with OFF. The caller owns it. */
json_object *birth_mask_told(const struct birth_mask *mask, const char *run_dir);

/* The best grade that works here, by trying it with the tracer's program (`mask_program`), and why
 * not a better one. Takes some 20 ms; to be asked once. */
enum mask_grade birth_mask_try(const char *mask_program, bool has_cgroup, char *reason,
                               size_t reason_bytes);
/* From what is asked for ("auto", a grade's name, NULL for "auto"; `require`: NULL for none) and
 * what works here. Errors: ERROR_INVALID naming the member; ERROR_REJECTED saying why not. */
int birth_mask_choose(const char *wanted, const char *require, enum mask_grade best,
                      const char *reason, enum mask_grade *ret, struct error *err);
