/* SPDX-License-Identifier: Apache-2.0 */
/* door_review.h - AdmissionReviews as the API server writes them, for tests. */
#pragma once

#include "door_world.h"

#define REVIEW_UID "705ab4f5-6393-11e8-b7cc-42010a800002"

/* A review of a pod in namespace "ns". `operation` CREATE, UPDATE, …; object and old_object are
 * JSON texts, NULL gives null. The caller owns it. */
char *review_text(const char *operation, const char *sub_resource, const char *object,
                  const char *old_object);
/* A pod "p" with these annotations and this spec, both JSON texts. The caller owns it. */
char *pod_text(const char *annotations, const char *spec);

/* Asks and checks what every answer has: status 200, apiVersion, kind, uid, allowed; a message and
 * a code of 400 or more where denied; patch and patchType both or neither; warnings that the API
 * server can pass on. `uid` NULL: any. */
struct reply review_pod(door_function *door, const char *operation, const char *annotations,
                        const char *spec);
struct reply review_body(door_function *door, const char *body, size_t length, const char *uid);
bool review_allowed(const struct reply *reply);
