/* SPDX-License-Identifier: Apache-2.0 */
/* migration_assignment.c - assignments to and from JSON. */
#include "migration_assignment.h"

#include <string.h>

#define DIR_MAX_BYTES 3800 /* with what is put behind it, it stays a path */

static const struct json_field fields[] = {
    JSON_FIELD(assignment, migration, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(assignment, workload, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(assignment, role, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(assignment, action, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(assignment, state, JSON_STR, 0),
    JSON_FIELD(assignment, peer, JSON_ANY, JSON_REQUIRED),
    JSON_FIELD(assignment, ticket, JSON_STR, 0),
    JSON_FIELD(assignment, dir, JSON_STR, 0),
    JSON_FIELD(assignment, pool, JSON_STR, 0),
    JSON_FIELD(assignment, command, JSON_ANY, 0),
    JSON_FIELD(assignment, mask, JSON_ANY, 0),
    JSON_FIELD(assignment, max_bytes, JSON_U64, 0),
    JSON_FIELD(assignment, deadline_at_ms, JSON_I64, 0),
    JSON_FIELD(assignment, look_again, JSON_BOOL, 0),
    {0},
};

/* Absolute, not the root, without '.', '..' or empty pieces. */
static bool is_plain_path(const char *path)
{
    if (*path != '/' || strlen(path) > DIR_MAX_BYTES)
        return false;
    while (*path) {
        const char *piece = path + 1;
        size_t length = strcspn(piece, "/");
        if (length == 0 || (length == 1 && *piece == '.') ||
            (length == 2 && strncmp(piece, "..", 2) == 0))
            return false;
        path = piece + length;
    }
    return true;
}

/* An id becomes the name of a folder, so it is held to the rules of names. */
static int check(struct assignment *a, struct error *err)
{
    if (name_check("migration", a->migration, err) < 0 ||
        name_check("workload", a->workload, err) < 0)
        return -1;
    if (strcmp(a->role, "source") != 0 && strcmp(a->role, "target") != 0)
        return error_set(err, ERROR_INVALID, "role: expected source or target, not '%.40s'",
                         a->role);
    a->is_source = strcmp(a->role, "source") == 0;
    if (migration_action_from_name(a->action, &a->what) < 0)
        return error_set(err, ERROR_INVALID,
                         "action: '%.40s' is not known; is this agent older "
                         "than the broker?",
                         a->action);
    if (a->dir && !is_plain_path(a->dir))
        return error_set(err, ERROR_INVALID,
                         "dir: expected an absolute path in its shortest form, not '%.80s'",
                         a->dir);
    if (json_get_str("peer", a->peer, "node", &a->peer_node, err) < 0 ||
        json_opt_str("peer", a->peer, "address", &a->peer_address, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(a->command); i++)
        if (!json_object_is_type(json_array_item(a->command, i), json_type_string))
            return error_set(err, ERROR_INVALID, "command: expected an array of strings");
    return birth_mask_decode("assignment", a->mask, &a->birth_mask, err);
}

int assignment_decode(json_object *json, struct assignment *ret, struct error *err)
{
    if (json_decode("assignment", json, fields, ret, err) < 0)
        return -1;
    if (check(ret, err) < 0) {
        assignment_done(ret);
        return error_wrap(err, "assignment");
    }
    return 0;
}

json_object *assignment_to_json(const struct assignment *assignment)
{
    return json_encode(fields, assignment);
}

void assignment_done(struct assignment *assignment)
{
    json_release(fields, assignment);
    birth_mask_done(&assignment->birth_mask);
    *assignment = (struct assignment){0};
}

int address_host(const char *address, char host[64], struct error *err)
{
    const char *colon = address ? strrchr(address, ':') : NULL;
    if (!colon || !colon[1] || colon == address)
        return error_set(err, ERROR_INVALID, "expected an address HOST:PORT, not '%.80s'",
                         address ? address : "");
    const char *start = address, *end = colon;
    if (*start == '[' && end[-1] == ']') {
        start++;
        end--;
    }
    size_t length = (size_t)(end - start);
    if (length == 0 || length > 63)
        return error_set(err, ERROR_INVALID, "expected an address HOST:PORT, not '%.80s'", address);
    memcpy(host, start, length);
    host[length] = '\0';
    return 0;
}
