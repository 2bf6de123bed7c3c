/* SPDX-License-Identifier: Apache-2.0 */
/* door_world.h - a small invented fleet to ask the doors about, and their replies looked at.
 *
 *     pool default   node-a, node-b, node-c, node-w      pool single   node-a
 *     pool empty     nobody                              pool big      big-0000 … big-0599
 *     pool names     Node_Upper, node-a, bad-            pool plain    node-a, node-b; no env
 *     node-x exists in no pool.
 *     w1 lives in default, and on node-c lacks avx512f, avx512dq and an xsave layout
 *     w2 lives in single; stuck (default) fits nowhere; broken cannot be judged */
#pragma once

#include "door.h"

struct fake_world {
    int64_t now_ms, step_ms; /* each look at the clock moves it by step_ms */
    unsigned asked;          /* verdicts */
    bool moves;              /* the last subject's `move` */
};

/* The world over *fake, which has to stay. */
struct door_world fake_world(struct fake_world *fake);

/* A reply and its status; text is owned. */
struct reply {
    char *text;
    unsigned status;
    json_object *json; /* owned; of the text */
};
/* Calls a door with a fresh world; fails the test unless the reply is one JSON text. */
struct reply ask_door(door_function *door, const char *body, size_t length);
struct reply ask_door_of(door_function *door, struct fake_world *fake, const char *body,
                         size_t length);
void reply_done(struct reply *reply);

/* The member at a path of names and indices, "response|status|message"; NULL when absent. */
json_object *json_path(json_object *o, const char *path);
/* The string there; fails the test when it is none. */
const char *str_path(json_object *o, const char *path);

/* Decodes base64; fails the test when it is not canonical. The caller owns *ret. */
size_t base64_decode(const char *text, char **ret);
/* Applies a JSONPatch of `add` operations as RFC 6902 has it; fails the test on any other, or where
 * the parent is missing. */
void patch_apply(json_object *target, json_object *patch);
