/* SPDX-License-Identifier: Apache-2.0 */
/* image_manifest.c - the manifest to and from JSON. */
#include "image_manifest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "image_name.h"

struct image_manifest *image_manifest_new(const char *workload, pid_t pid)
{
    struct image_manifest *manifest = xcalloc(1, sizeof(*manifest));
    manifest->workload = xstrdup(workload);
    manifest->pid = pid;
    manifest->stopped_pids = pids_copy(NULL);
    manifest->expired_timers = timerfds_copy(NULL);
    return manifest;
}

void image_manifest_free(struct image_manifest *manifest)
{
    if (!manifest)
        return;
    for (size_t i = 0; i < manifest->file_count; i++)
        free(manifest->files[i].name);
    free(manifest->files);
    free(manifest->stopped_pids);
    free(manifest->expired_timers);
    free(manifest->workload);
    free(manifest);
}

void image_manifest_set_stopped(struct image_manifest *manifest, const pid_t *pids)
{
    free(manifest->stopped_pids);
    manifest->stopped_pids = pids_copy(pids);
}

void image_manifest_set_timers(struct image_manifest *manifest, const struct timerfd_place *expired)
{
    free(manifest->expired_timers);
    manifest->expired_timers = timerfds_copy(expired);
}

void image_manifest_add(struct image_manifest *manifest, const char *name, uint64_t bytes,
                        const char *checksum)
{
    if (manifest->file_count == manifest->file_room) {
        manifest->file_room = manifest->file_room ? manifest->file_room * 2 : 64;
        manifest->files = xrealloc(manifest->files, manifest->file_room * sizeof(*manifest->files));
    }
    struct image_file *file = &manifest->files[manifest->file_count++];
    *file = (struct image_file){.name = xstrdup(name), .bytes = bytes};
    snprintf(file->checksum, sizeof(file->checksum), "%s", checksum);
}

pid_t *pids_copy(const pid_t *pids)
{
    size_t count = 0;
    while (pids && pids[count])
        count++;
    pid_t *copy = xcalloc(count + 1, sizeof(*copy));
    if (count)
        memcpy(copy, pids, count * sizeof(*copy));
    return copy;
}

json_object *pids_to_json(const pid_t *pids)
{
    json_object *array = json_object_new_array();
    for (; pids && *pids; pids++)
        json_object_array_add(array, json_object_new_int64(*pids));
    return array;
}

int pids_from_json(const char *what, json_object *object, const char *name, pid_t **ret,
                   struct error *err)
{
    json_object *array = NULL;
    if (json_get_array(what, object, name, IMAGE_PIDS_MAX, &array, err) < 0)
        return -1;
    size_t count = json_array_size(array);
    autofree pid_t *pids = xcalloc(count + 1, sizeof(*pids));
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_array_item(array, i);
        int64_t pid = json_object_is_type(item, json_type_int) ? json_object_get_int64(item) : 0;
        if (pid < 1 || pid > INT_MAX)
            return error_set(err, ERROR_INVALID, "%s: %s[%zu]: expected a pid", what, name, i);
        pids[i] = (pid_t)pid;
    }
    *ret = steal_ptr(&pids);
    return 0;
}

json_object *image_manifest_to_json(const struct image_manifest *manifest)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "schema", IMAGE_MANIFEST_SCHEMA);
    json_put_str(o, "workload", manifest->workload);
    json_put_int(o, "pid", manifest->pid);
    json_put_int(o, "tasks", manifest->tasks);
    json_put_int(o, "threads", manifest->threads);
    json_put(o, "stopped_pids", pids_to_json(manifest->stopped_pids));
    json_put(o, "expired_timers", timerfds_to_json(manifest->expired_timers));
    json_object *files = json_object_new_array_ext((int)manifest->file_count + 1);
    for (size_t i = 0; i < manifest->file_count; i++) {
        json_object *file = json_object_new_object();
        json_put_str(file, "name", manifest->files[i].name);
        json_put_int(file, "bytes", (int64_t)manifest->files[i].bytes);
        json_put_str(file, "xxh128", manifest->files[i].checksum);
        json_object_array_add(files, file);
    }
    json_put(o, "files", files);
    return o;
}

static int parse_file(struct image_manifest *manifest, json_object *item, struct error *err)
{
    const char *name = NULL, *checksum = NULL;
    int64_t bytes = 0;
    if (json_get_str("manifest: files", item, "name", &name, err) < 0 ||
        json_get_i64("manifest: files", item, "bytes", &bytes, err) < 0 ||
        json_get_str("manifest: files", item, "xxh128", &checksum, err) < 0)
        return -1;
    if (bytes < 0)
        return error_set(err, ERROR_INVALID, "manifest: files: bytes: expected 0 or more");
    if (strlen(checksum) != CHECKSUM_HEX_BYTES - 1)
        return error_set(err, ERROR_INVALID, "manifest: files: xxh128: expected 32 hex digits");
    image_manifest_add(manifest, name, (uint64_t)bytes, checksum);
    return 0;
}

static int parse_number(json_object *json, const char *name, int64_t least, int64_t *ret,
                        struct error *err)
{
    if (json_get_i64("manifest", json, name, ret, err) < 0)
        return -1;
    if (*ret < least || *ret > INT_MAX)
        return error_set(err, ERROR_INVALID, "manifest: %s: expected a number from %lld", name,
                         (long long)least);
    return 0;
}

int image_manifest_parse(json_object *json, struct image_manifest **ret, struct error *err)
{
    const char *schema = NULL, *workload = NULL;
    int64_t pid = 0, tasks = 0, threads = 0;
    json_object *files = NULL;
    if (json_check_object("manifest", json, err) < 0 ||
        json_get_str("manifest", json, "schema", &schema, err) < 0)
        return -1;
    if (strcmp(schema, IMAGE_MANIFEST_SCHEMA) != 0)
        return error_set(err, ERROR_INVALID, "manifest: schema: expected \"%s\", not \"%.60s\"",
                         IMAGE_MANIFEST_SCHEMA, schema);
    if (json_get_str("manifest", json, "workload", &workload, err) < 0 ||
        name_check("workload", workload, err) < 0 || parse_number(json, "pid", 1, &pid, err) < 0 ||
        parse_number(json, "tasks", 1, &tasks, err) < 0 ||
        parse_number(json, "threads", 1, &threads, err) < 0 ||
        json_get_array("manifest", json, "files", IMAGE_ENTRIES_MAX, &files, err) < 0)
        return -1;
    AUTO(image_manifest) manifest = image_manifest_new(workload, (pid_t)pid);
    manifest->tasks = (unsigned)tasks;
    manifest->threads = (unsigned)threads;
    pid_t *stopped = NULL;
    if (pids_from_json("manifest", json, "stopped_pids", &stopped, err) < 0)
        return -1;
    free(manifest->stopped_pids);
    manifest->stopped_pids = stopped;
    struct timerfd_place *expired = NULL;
    if (timerfds_from_json("manifest", json, "expired_timers", &expired, err) < 0)
        return -1;
    free(manifest->expired_timers);
    manifest->expired_timers = expired;
    for (size_t i = 0; i < json_array_size(files); i++)
        if (parse_file(manifest, json_array_item(files, i), err) < 0)
            return -1;
    *ret = steal_ptr(&manifest);
    return 0;
}

int image_manifest_match(const struct image_manifest *sent, const struct image_manifest *got,
                         struct error *err)
{
    for (size_t i = 0; i < sent->file_count && i < got->file_count; i++) {
        const struct image_file *a = &sent->files[i], *b = &got->files[i];
        if (strcmp(a->name, b->name) != 0)
            return error_set(err, ERROR_INVALID,
                             "file %zu of the stream differs from the manifest's", i);
        if (a->bytes != b->bytes)
            return error_set(err, ERROR_INVALID, "'%.200s' has %llu bytes, the manifest says %llu",
                             b->name, (unsigned long long)b->bytes, (unsigned long long)a->bytes);
        if (strcmp(a->checksum, b->checksum) != 0)
            return error_set(err, ERROR_INVALID,
                             "the checksum of '%.200s' differs from the manifest's: it was altered "
                             "on its way",
                             b->name);
    }
    if (sent->file_count != got->file_count)
        return error_set(err, ERROR_INVALID, "%zu files arrived, the manifest names %zu",
                         got->file_count, sent->file_count);
    return 0;
}
