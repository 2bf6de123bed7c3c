/* SPDX-License-Identifier: Apache-2.0 */
/* workload_record.c - run/NAME/workload.json: what a new agent has to know of a workload. */
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "workload_private.h"

#define RECORD_MAX_BYTES (8UL * 1024 * 1024)

struct record {
    char *name, *pool, *dir, *cgroup_dir, *state, *boot_id, *migration;
    json_object *command, *mask;
    int64_t root_pid, shim_pid, exit_status, started_at_ms;
    uint64_t root_ticks;
    uint32_t uid, gid;
    bool adopted;
};

static const struct json_field record_fields[] = {
    JSON_FIELD(record, name, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, pool, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, dir, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, cgroup_dir, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, state, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, boot_id, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(record, migration, JSON_STR, 0),
    JSON_FIELD(record, command, JSON_ANY, JSON_REQUIRED),
    JSON_FIELD(record, mask, JSON_ANY, 0),
    JSON_FIELD(record, root_pid, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(record, root_ticks, JSON_U64, JSON_REQUIRED),
    JSON_FIELD(record, shim_pid, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(record, exit_status, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(record, started_at_ms, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(record, uid, JSON_U32, JSON_REQUIRED),
    JSON_FIELD(record, gid, JSON_U32, JSON_REQUIRED),
    JSON_FIELD(record, adopted, JSON_BOOL, JSON_REQUIRED),
    {0},
};

static char *record_path(const struct workloads *w, const char *name)
{
    return xasprintf("%s/run/%s/workload.json", w->state_dir, name);
}

int workload_record_save(const struct workloads *w, const struct workload *x, struct error *err)
{
    autojson *mask = birth_mask_to_json(&x->mask);
    struct record r = {
        .mask = mask,
        .name = x->name,
        .pool = x->pool,
        .dir = x->dir,
        .cgroup_dir = x->cgroup_dir,
        .state = (char *)workload_state_name(x->state),
        .boot_id = (char *)w->boot_id,
        .migration = (char *)x->migration,
        .command = x->command,
        .root_pid = x->root_pid,
        .root_ticks = x->root_ticks,
        .shim_pid = x->shim_pid,
        .exit_status = x->exit_status,
        .started_at_ms = x->started_at_ms,
        .uid = x->uid,
        .gid = x->gid,
        .adopted = x->adopted,
    };
    autojson *json = json_encode(record_fields, &r);
    autofree char *text = json_text(json);
    autofree char *path = record_path(w, x->name);
    if (file_replace(path, text, 0600, err) < 0)
        return error_wrap(err, "keeping the record of workload '%s'", x->name);
    return 0;
}

static int state_from_name(const char *name, enum workload_state *ret)
{
    for (int i = 0; i < WORKLOAD_STATE_COUNT; i++)
        if (strcmp(workload_state_name((enum workload_state)i), name) == 0) {
            *ret = (enum workload_state)i;
            return 0;
        }
    return -1;
}

static struct workload *from_record(const struct workloads *w, const struct record *r,
                                    enum workload_state state, const struct birth_mask *mask)
{
    struct workload *x = xcalloc(1, sizeof(*x));
    x->name = xstrdup(r->name);
    x->pool = xstrdup(r->pool);
    x->dir = xstrdup(r->dir);
    x->cgroup_dir = xstrdup(r->cgroup_dir);
    x->run_dir = xasprintf("%s/run/%s", w->state_dir, r->name);
    x->command = json_object_get(r->command);
    x->state = state;
    x->root_pid = (pid_t)r->root_pid;
    x->root_ticks = r->root_ticks;
    x->shim_pid = (pid_t)r->shim_pid;
    x->exit_status = (int)r->exit_status;
    x->started_at_ms = r->started_at_ms;
    x->uid = r->uid;
    x->gid = r->gid;
    x->adopted = r->adopted;
    x->mask = *mask;
    x->shim_fd = -1;
    if (r->migration)
        snprintf(x->migration, sizeof(x->migration), "%s", r->migration);
    if (strcmp(r->boot_id, w->boot_id) != 0) { /* its pids mean others now */
        x->root_pid = x->shim_pid = 0;
        x->root_ticks = 0;
    }
    return x;
}

int workload_record_load(const struct workloads *w, const char *name, struct workload **ret,
                         struct error *err)
{
    autofree char *path = record_path(w, name);
    autofree char *text = NULL;
    autojson *json = NULL;
    size_t length = 0;
    struct record r = {0};
    struct birth_mask mask = {0};
    enum workload_state state = WORKLOAD_EXITED;
    if (file_read(path, RECORD_MAX_BYTES, &text, &length, err) < 0)
        return -1;
    if (json_parse(text, length, &json, err) < 0 ||
        json_decode("workload.json", json, record_fields, &r, err) < 0)
        return error_wrap(err, "%s", path);
    int rc = 0;
    if (strcmp(r.name, name) != 0 || state_from_name(r.state, &state) < 0)
        rc = error_set(err, ERROR_INVALID, "%s: does not describe workload '%s'", path, name);
    if (rc == 0)
        rc = birth_mask_decode(path, r.mask, &mask, err);
    if (rc == 0)
        *ret = from_record(w, &r, state, &mask);
    json_release(record_fields, &r);
    return rc;
}
