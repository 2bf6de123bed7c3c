/* SPDX-License-Identifier: Apache-2.0 */
/* image_manifest.h - cpubroker.manifest/1: what an image stream held, with each file's checksum,
 * and what the target must find again after the restore. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "checksum.h"
#include "cleanup.h"
#include "error.h"
#include "json.h"
#include "timerfds.h"

#define IMAGE_MANIFEST_SCHEMA    "cpubroker.manifest/1"
#define IMAGE_MANIFEST_MAX_BYTES (48UL * 1024 * 1024)
#define IMAGE_PIDS_MAX           65536

struct image_file {
    char *name; /* owned; as in the stream, "image/pages-1.img" */
    uint64_t bytes;
    char checksum[CHECKSUM_HEX_BYTES]; /* "" while the file is under way */
};

struct image_manifest {
    char *workload; /* owned */
    pid_t pid;      /* the root task's */
    unsigned tasks, threads;
    pid_t *stopped_pids; /* owned; stopped before the dump, so to stay so; 0-terminated */
    struct timerfd_place *expired_timers; /* owned; after the dump; see timerfds.h */
    struct image_file *files;             /* owned */
    size_t file_count, file_room;
};

struct image_manifest *image_manifest_new(const char *workload, pid_t pid);
void image_manifest_free(struct image_manifest *manifest); /* NULL is fine */
DEFINE_AUTO(image_manifest)
/* Takes the stopped pids as a 0-terminated list; copied. */
void image_manifest_set_stopped(struct image_manifest *manifest, const pid_t *pids);
/* Takes a list as in timerfds.h; copied. */
void image_manifest_set_timers(struct image_manifest *manifest,
                               const struct timerfd_place *expired);
void image_manifest_add(struct image_manifest *manifest, const char *name, uint64_t bytes,
                        const char *checksum);
json_object *image_manifest_to_json(const struct image_manifest *manifest);
/* Decodes and checks; the caller owns *ret. Errors: ERROR_INVALID naming the member. */
int image_manifest_parse(json_object *json, struct image_manifest **ret, struct error *err);
/* Whether what arrived (`got`: only its files count) is exactly what was sent, in the same order.
 * Errors: ERROR_INVALID naming the file. */
int image_manifest_match(const struct image_manifest *sent, const struct image_manifest *got,
                         struct error *err);

/* Lists of pids: 0-terminated arrays, copied, from and to JSON. */
pid_t *pids_copy(const pid_t *pids);          /* NULL gives an empty list; owned by the caller */
json_object *pids_to_json(const pid_t *pids); /* NULL gives [] */
int pids_from_json(const char *what, json_object *object, const char *name, pid_t **ret,
                   struct error *err);
