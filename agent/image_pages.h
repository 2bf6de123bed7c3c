/* SPDX-License-Identifier: Apache-2.0 */
/* image_pages.h - the bulk of an image is memory pages, which no engine interprets; they are
 * hashed beside the work that takes time anyway, so that nothing stands still for it.
 *
 * The source hashes them from the moment the engine writes them, beside the sending (image_follow).
 * The target compares them with the manifest while the engine maps them back, and nothing is
 * reported as restored, or may run, before that is done (image_check). Every other file is hashed
 * on its way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "digest.h"
#include "error.h"
#include "image_manifest.h"

/* Whether a file of the stream holds nothing but memory: "image/pages-1.img". */
bool image_is_pages(const char *name);

struct image_follow;

/* Starts to hash the pages files that appear and grow in `image_dir`. NULL when there is no
 * thread for it: then they are hashed on their way. */
struct image_follow *image_follow_start(const char *image_dir);
/* The engine is done: no file appears or grows any more. Hashing goes on to their ends. */
void image_follow_settle(struct image_follow *follow);
/* Whether this file ("image/pages-1.img") is followed. After image_follow_settle only; NULL
 * follows nothing. */
bool image_follow_has(struct image_follow *follow, const char *name);
/* Waits until the whole file is hashed. Errors: ERROR_FAILED when it has not `bytes` bytes, or
 * hashing was stopped. */
int image_follow_hash(struct image_follow *follow, const char *name, uint64_t bytes,
                      char hex[SHA256_HEX_BYTES], struct error *err);
/* Ends it soon, from any thread. */
void image_follow_stop(struct image_follow *follow);
void image_follow_free(struct image_follow *follow); /* stops it; NULL is fine */
DEFINE_AUTO(image_follow)

struct image_check;

/* Starts to compare the pages files in `image_dir` with the manifest (borrowed until freed). */
int image_check_start(const char *image_dir, const struct image_manifest *manifest,
                      struct image_check **ret, struct error *err);
/* Waits for the end. Errors: ERROR_INVALID naming the file that was altered. */
int image_check_wait(struct image_check *check, struct error *err);
void image_check_free(struct image_check *check); /* gives up what is left; NULL is fine */
DEFINE_AUTO(image_check)
