/* SPDX-License-Identifier: Apache-2.0 */
/* model_mask.c - birth masks: taken, told of, shown. */
#include "model_mask.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "drift.h"
#include "format.h"
#include "log.h"
#include "model_internal.h"

#define SITES_SAVE_MS   60000 /* how often a number of sites alone reaches the database */
#define LACK_KINDS_MAX  32
#define LACK_KIND_BYTES 32

static const char other_kinds[] = "other";

/* ---- what the agent tells */

static int64_t *lack_of(struct mask_lacks *lacks, const char *kind)
{
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        if (strcmp(kind, mask_lack_name((enum mask_lack)i)) == 0)
            return &lacks->counts[i];
    return NULL;
}

/* A kind that this version does not know is a lack all the same. */
static int decode_lacks(const char *what, json_object *json, struct mask_lacks *ret,
                        struct error *err)
{
    char place[96];
    snprintf(place, sizeof(place), "%s: lacks", what);
    if (json_object_object_length(json) > LACK_KINDS_MAX)
        return error_set(err, ERROR_INVALID, "%s: %d kinds, at most %d are taken", place,
                         json_object_object_length(json), LACK_KINDS_MAX);
    json_object_object_foreach(json, kind, value)
    {
        int64_t count = 0;
        (void)value;
        if (json_get_i64(place, json, kind, &count, err) < 0)
            return -1;
        if (count < 0)
            return error_set(err, ERROR_INVALID, "%s: %.*s: expected 0 or more, not %" PRId64,
                             place, LACK_KIND_BYTES, kind, count);
        int64_t *known = lack_of(ret, kind);
        if (known)
            *known = count;
        else
            ret->other =
                count > JSON_INTEGER_MAX - ret->other ? JSON_INTEGER_MAX : ret->other + count;
    }
    return 0;
}

int mask_told_decode(const char *what, json_object *workload, struct mask_told *ret, bool *ret_told,
                     struct error *err)
{
    json_object *mask = NULL, *lacks = NULL;
    const char *grade = NULL;
    char place[80];
    *ret = (struct mask_told){0};
    *ret_told = json_member(workload, "mask") != NULL;
    if (!*ret_told)
        return 0;
    snprintf(place, sizeof(place), "%s: mask", what);
    if (json_get_object(what, workload, "mask", &mask, err) < 0 ||
        json_get_str(place, mask, "grade", &grade, err) < 0 ||
        json_get_i64(place, mask, "epoch", &ret->epoch, err) < 0 ||
        json_opt_i64(place, mask, "sites", &ret->sites, err) < 0)
        return -1;
    if (mask_grade_from_name(grade, &ret->grade, err) < 0)
        return error_wrap(err, "%s: grade", place);
    if (ret->epoch < 0)
        return error_set(err, ERROR_INVALID, "%s: epoch: expected 0 or more, not %" PRId64, place,
                         ret->epoch);
    if (ret->sites < 0)
        return error_set(err, ERROR_INVALID, "%s: sites: expected 0 or more, not %" PRId64, place,
                         ret->sites);
    if (!json_member(mask, "lacks"))
        return 0;
    return json_get_object(place, mask, "lacks", &lacks, err) < 0
               ? -1
               : decode_lacks(place, lacks, &ret->lacks, err);
}

static bool any_lacks(const struct mask_lacks *lacks)
{
    bool any = lacks->other > 0;
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        any = any || lacks->counts[i] > 0;
    return any;
}

bool workload_is_masked(const struct workload *workload)
{
    return mask_grade_binds(workload->mask.grade);
}

bool workload_is_held(const struct workload *workload)
{
    const struct workload_mask *mask = &workload->mask;
    return mask_grade_binds(mask->grade) && mask->record && !any_lacks(&mask->lacks);
}

/* ---- and what follows */

/* Most often it is one that is there already, and need not be hashed to be found. */
static const struct cpu_record *record_of(struct model *model, struct cpu_profile *cpu,
                                          const struct cpu_record *likely)
{
    return cpu == likely->cpu ? likely : model_cpu_record(model, cpu);
}

const struct cpu_record *model_mask_need(struct model *model, const struct workload_mask *mask,
                                         const struct cpu_record *before,
                                         const struct profile *profile, bool masked)
{
    AUTO(cpu_profile) need = NULL;
    if (!mask->record)
        return model_cpu_join(model, before, profile->record);
    if (!masked) {
        need = mask_advised(profile->cpu, mask->record->cpu);
        return model_cpu_join(model, before, record_of(model, need, profile->record));
    }
    need =
        before ? mask_moved(before->cpu, profile->cpu) : mask_born(mask->record->cpu, profile->cpu);
    return record_of(model, need, before ? before : mask->record);
}

/* Whether the workload may have had its first lack while it was on the node. */
static bool may_have_been(const struct workload *workload, const char *node)
{
    const struct workload_mask *mask = &workload->mask;
    return mask->gap || strcmp(node, workload->node) == 0 || same_text(node, mask->told_on);
}

/* The lines of the ledger that are exposures after all: they are added once more. */
struct exposures {
    const struct seen **lines; /* owned array; borrowed lines */
    size_t count;
    struct fleet_events events;
};

static void exposures_done(struct exposures *exposures)
{
    free(exposures->lines);
    fleet_events_done(&exposures->events);
}

static void find_exposures(struct model *model, const struct workload *workload,
                           struct exposures *ret)
{
    const struct cpu_record *need = workload->seen[workload->seen_count - 1].need;
    ret->lines = xcalloc(workload->seen_count, sizeof(struct seen *));
    for (size_t i = 0; i < workload->seen_count; i++)
        if (workload->seen[i].masked && may_have_been(workload, workload->seen[i].node))
            ret->lines[ret->count++] = &workload->seen[i];
    for (size_t i = 0; i < ret->count; i++)
        need = model_mask_need(model, &workload->mask, need, ret->lines[i]->profile, false);
    drift_workload(model, workload, need->cpu, &ret->events);
}

static int store_exposures(struct model *model, const struct workload *workload,
                           const struct exposures *exposures, int64_t now_ms, struct error *err)
{
    const struct cpu_record *need = workload->seen[workload->seen_count - 1].need;
    for (size_t i = 0; i < exposures->count; i++) {
        const struct seen *line = exposures->lines[i];
        need = model_mask_need(model, &workload->mask, need, line->profile, false);
        const struct store_seen row = {.workload = workload->name,
                                       .node = line->node,
                                       .report_sha256 = line->profile->sha256,
                                       .since_at_ms = now_ms,
                                       .need_sha256 = need->sha256,
                                       .need_rules = model_rules()};
        if (model_cpu_store(model, need, err) < 0 || store_seen_add(model->store, &row, err) < 0)
            return -1;
    }
    return 0;
}

static json_object *lacks_json(const struct mask_lacks *lacks)
{
    json_object *o = json_object_new_object();
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        if (lacks->counts[i] > 0)
            json_put_int(o, mask_lack_name((enum mask_lack)i), lacks->counts[i]);
    if (lacks->other > 0)
        json_put_int(o, other_kinds, lacks->other);
    return o;
}

static int store_told(struct model *model, const struct workload *workload,
                      const struct workload_mask *next, const struct exposures *exposures,
                      int64_t now_ms, struct error *err)
{
    autojson *lacks = lacks_json(&next->lacks);
    autofree char *text = json_text(lacks);
    if (store_begin(model->store, err) < 0)
        return -1;
    if (store_workload_mask(model->store, workload->name, next->sites, text, workload->node, err) <
            0 ||
        store_exposures(model, workload, exposures, now_ms, err) < 0 ||
        fleet_events_store(model, &exposures->events, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    return store_commit(model->store, err);
}

/* The most of both, since a count is one since birth. False: nothing is more. */
static bool grow(struct mask_lacks *lacks, const struct mask_lacks *told)
{
    bool grew = told->other > lacks->other;
    if (grew)
        lacks->other = told->other;
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        if (told->counts[i] > lacks->counts[i]) {
            lacks->counts[i] = told->counts[i];
            grew = true;
        }
    return grew;
}

/* An agent that tells of another mask than the one that was claimed holds the workload to nothing
 * that is known here. */
static void compare_claim(const struct workload *workload, struct mask_told *told)
{
    if (!workload_is_masked(workload) ||
        (told->grade >= workload->mask.grade && told->epoch == workload->epoch))
        return;
    if (workload->mask.lacks.other == 0)
        log_warn("a workload runs under another mask than was claimed for it: it is judged by the "
                 "CPUs that it has been on",
                 LOG_STR("workload", workload->name), LOG_STR("node", workload->node),
                 LOG_STR("grade", mask_grade_name(told->grade)), LOG_INT("epoch", told->epoch),
                 LOG_STR("claimed_grade", mask_grade_name(workload->mask.grade)),
                 LOG_INT("claimed_epoch", workload->epoch));
    told->lacks.other += told->lacks.other == 0;
}

static void apply(struct model *model, struct workload *workload, const struct workload_mask *next,
                  const struct exposures *exposures)
{
    struct workload_mask *mask = &workload->mask;
    autofree size_t *lines = xcalloc(exposures->count, sizeof(*lines));
    for (size_t i = 0; i < exposures->count; i++) /* the array may move */
        lines[i] = (size_t)(exposures->lines[i] - workload->seen);
    model_write_lock(model);
    mask->sites = next->sites;
    mask->lacks = next->lacks;
    mask->gap = false;
    mask->saved_at_ms = next->saved_at_ms;
    if (!same_text(mask->told_on, workload->node)) {
        free(mask->told_on);
        mask->told_on = xstrdup(workload->node);
    }
    for (size_t i = 0; i < exposures->count; i++) {
        autofree char *node = xstrdup(workload->seen[lines[i]].node);
        model_workload_expose(model, workload, node, workload->seen[lines[i]].profile,
                              next->saved_at_ms);
    }
    model->generation++;
    model_unlock(model);
}

int model_mask_tell_locked(struct model *model, struct workload *workload,
                           const struct mask_told *said, struct error *err)
{
    struct mask_told told = *said;
    struct workload_mask next = workload->mask;
    struct exposures exposures = {0};
    int64_t now_ms = clock_unix_ms(model->clock);
    if (next.grade == MASK_GRADE_OFF)
        return 0; /* nothing was claimed, so nothing hangs on it */
    compare_claim(workload, &told);
    bool lacks_more = grow(&next.lacks, &told.lacks);
    bool must_save =
        lacks_more || next.gap || next.sites < 0 || !same_text(next.told_on, workload->node);
    if (!must_save && (next.sites == told.sites ||
                       (now_ms >= next.saved_at_ms && now_ms - next.saved_at_ms < SITES_SAVE_MS)))
        return 0;
    next.sites = told.sites;
    next.saved_at_ms = now_ms;
    if (lacks_more && workload_is_held(workload))
        find_exposures(model, workload, &exposures);
    int rc = store_told(model, workload, &next, &exposures, now_ms, err);
    if (rc == 0) {
        if (exposures.count > 0)
            log_warn("the mask does not cover all of a workload: from now on it is judged by the "
                     "CPUs that it is on as well",
                     LOG_STR("workload", workload->name), LOG_STR("node", workload->node),
                     LOG_INT("epoch", workload->epoch),
                     LOG_STR("grade", mask_grade_name(workload->mask.grade)));
        apply(model, workload, &next, &exposures);
        fleet_events_tell(model, &exposures.events);
    }
    exposures_done(&exposures);
    return rc;
}

/* ---- from the database */

/* Lacks that cannot be read are lacks: nobody is held to a mask by a damaged record. */
static void load_lacks(const struct store_workload *row, struct mask_lacks *ret)
{
    autojson *json = NULL;
    struct error why = {0};
    if (!row->mask_lacks)
        return;
    if (json_parse(row->mask_lacks, strlen(row->mask_lacks), &json, &why) == 0 &&
        json_check_object("lacks", json, &why) == 0 &&
        decode_lacks("database", json, ret, &why) == 0)
        return;
    log_warn("what is told of a workload's mask cannot be read any more: it is judged by the CPUs "
             "that it has been on",
             LOG_STR("workload", row->name), LOG_STR("error", why.message));
    *ret = (struct mask_lacks){.other = 1};
}

/* The record is believed if it is what its name says, byte by byte. What this version would write
 * for the same mask may be another text: unlike a need, a mask cannot be reckoned anew. */
static int load_record(struct model *model, const char *sha256, const struct cpu_record **ret,
                       struct error *why, struct error *err)
{
    autofree char *text = NULL;
    autojson *json = NULL;
    AUTO(cpu_profile) cpu = NULL;
    char found[65];
    if (store_profile_get(model->store, sha256, &text, err) < 0)
        return -1;
    sha256_hex(text, strlen(text), found);
    if (strcmp(found, sha256) != 0)
        error_set(why, ERROR_INVALID, "its content has another hash, %s", found);
    else if (json_parse(text, strlen(text), &json, why) == 0 &&
             cpu_profile_from_record(json, &cpu, why) == 0)
        *ret = model_cpu_record(model, cpu);
    return 0;
}

int model_mask_load(struct model *model, const struct store_workload *row, struct workload *ret,
                    struct error *err)
{
    struct workload_mask *mask = &ret->mask;
    struct error why = {0};
    mask->sites = row->mask_sites;
    mask->told_on = xstrdup(row->mask_told_on);
    mask->gap = row->mask_gap;
    load_lacks(row, &mask->lacks);
    if (mask_grade_from_name(row->mask_grade, &mask->grade, err) < 0) {
        err->kind = ERROR_INTERNAL;
        return error_wrap(err, "database: workload '%s'", row->name);
    }
    if (!row->mask_sha256)
        return 0;
    if (load_record(model, row->mask_sha256, &mask->record, &why, err) < 0)
        return error_wrap(err, "workload '%s'", row->name);
    if (!mask->record)
        log_warn("the mask that a workload was born under cannot be read any more: it is judged by "
                 "the CPUs that it has been on",
                 LOG_STR("workload", row->name), LOG_STR("profile", row->mask_sha256),
                 LOG_STR("error", why.message));
    return 0;
}

void model_mask_settle(struct model *model, struct workload *workload)
{
    size_t count = workload->seen_count;
    if (!workload_is_masked(workload) || workload_is_held(workload))
        return;
    for (size_t i = 0; i < count; i++)
        if (!workload->seen[i].masked)
            return;
    for (size_t i = 0; i < count; i++) {
        autofree char *node = xstrdup(workload->seen[i].node); /* the array moves */
        model_workload_add_line(model, workload, node, workload->seen[i].profile,
                                workload->seen[i].since_at_ms, false);
    }
}

/* ---- shown */

json_object *workload_mask_json(const struct workload *workload)
{
    const struct workload_mask *mask = &workload->mask;
    if (mask->grade == MASK_GRADE_OFF)
        return NULL;
    json_object *o = json_object_new_object();
    json_put_str(o, "grade", mask_grade_name(mask->grade));
    json_put_int(o, "epoch", workload->epoch);
    json_put_str(o, "profile_sha256", mask->record ? mask->record->sha256 : NULL);
    json_put_bool(o, "holds", workload_is_held(workload));
    json_put(o, "sites", mask->sites < 0 ? NULL : json_object_new_int64(mask->sites));
    json_put(o, "lacks", mask->sites < 0 ? NULL : lacks_json(&mask->lacks));
    return o;
}

json_object *workload_mask_order(const struct workload *workload, bool env)
{
    const struct workload_mask *mask = &workload->mask;
    if (mask->grade == MASK_GRADE_OFF || !mask->record)
        return NULL;
    json_object *o = json_object_new_object();
    json_put_int(o, "epoch", workload->epoch);
    json_put_str(o, "grade", mask_grade_name(mask->grade));
    json_put(o, "profile", cpu_profile_record_json(mask->record->cpu));
    if (env)
        json_put(o, "env", format_environment(mask->record->cpu));
    return o;
}

static void add_words(char **text, char *more)
{
    char *longer = xasprintf("%s%s", *text, more);
    free(*text);
    free(more);
    *text = longer;
}

static bool is_first_of_node(const struct workload *workload, size_t line)
{
    for (size_t i = 0; i < line; i++)
        if (!workload->seen[i].masked &&
            strcmp(workload->seen[i].node, workload->seen[line].node) == 0)
            return false;
    return true;
}

/* " (1 doubtful, 4 hindered), so it may have seen the CPUs of node-a, node-b" */
static void add_lacks(const struct workload *workload, char **text)
{
    const struct mask_lacks *lacks = &workload->mask.lacks;
    const char *before = " (";
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        if (lacks->counts[i] > 0) {
            add_words(text, xasprintf("%s%" PRId64 " %s", before, lacks->counts[i],
                                      mask_lack_name((enum mask_lack)i)));
            before = ", ";
        }
    if (lacks->other > 0)
        add_words(text, xasprintf("%s%" PRId64 " %s", before, lacks->other, other_kinds));
    before = "), so it may have seen the CPUs of ";
    for (size_t i = 0; i < workload->seen_count; i++)
        if (!workload->seen[i].masked && is_first_of_node(workload, i)) {
            add_words(text, xasprintf("%s%s", before, workload->seen[i].node));
            before = ", ";
        }
}

char *workload_mask_sentence(const struct workload *workload)
{
    const struct workload_mask *mask = &workload->mask;
    if (mask->grade == MASK_GRADE_OFF)
        return NULL;
    char *text = xasprintf("masked at birth, epoch %" PRId64 ", grade %s", workload->epoch,
                           mask_grade_name(mask->grade));
    if (!mask_grade_binds(mask->grade))
        add_words(&text, xstrdup(", which holds nobody to the mask: it is judged by the CPUs that "
                                 "it has been on"));
    else if (!mask->record)
        add_words(&text,
                  xstrdup("; the record of that mask is damaged, so it is judged by the CPUs "
                          "that it has been on"));
    else if (any_lacks(&mask->lacks)) {
        add_words(&text, xstrdup("; not all of it is covered"));
        add_lacks(workload, &text);
    }
    return text;
}
