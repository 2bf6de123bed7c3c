/* SPDX-License-Identifier: Apache-2.0 */
/* mask_environment.c - for each variable, how its reader takes two settings of one thing. */
#include "mask_environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "json.h"

#define WHAT "mask: env"

struct text {
    const char *at;
    size_t length;
};

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

static bool text_is(struct text a, struct text b)
{
    return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

/* The next part of a list; false at its end. *rest is what is left behind the separator. */
static bool next_part(struct text *rest, char separator, struct text *ret)
{
    if (rest->length == 0)
        return false;
    const char *end = memchr(rest->at, separator, rest->length);
    size_t length = end ? (size_t)(end - rest->at) : rest->length;
    *ret = (struct text){rest->at, length};
    size_t used = end ? length + 1 : length;
    *rest = (struct text){rest->at + used, rest->length - used};
    return true;
}

/* Of "key=value" the key; of anything else all of it. */
static struct text key_of(struct text part)
{
    const char *end = memchr(part.at, '=', part.length);
    return (struct text){part.at, end ? (size_t)(end - part.at) : part.length};
}

static bool has_key(const char *list, char separator, struct text key)
{
    struct text rest = text_of(list), part;
    while (next_part(&rest, separator, &part))
        if (text_is(key_of(part), key))
            return true;
    return false;
}

/* Those of our settings whose key the user has not set, behind all of his. */
static char *add_keys(const char *ours, const char *his, char separator)
{
    char *merged = xstrdup(his);
    struct text rest = text_of(ours), part;
    while (next_part(&rest, separator, &part)) {
        if (part.length == 0 || has_key(his, separator, key_of(part)))
            continue;
        size_t length = strlen(merged);
        bool parted = length == 0 || merged[length - 1] == separator;
        char *longer = parted ? xasprintf("%s%.*s", merged, (int)part.length, part.at)
                              : xasprintf("%s%c%.*s", merged, separator, (int)part.length, part.at);
        free(merged);
        merged = longer;
    }
    return merged;
}

/* ---- the readers */

/* glibc reads "name=value:name=value" (manual, "Tunables"). One of ours is one tunable that lists
 * many features; where he has set it, it is his. */
static char *merge_glibc(const char *ours, const char *his)
{
    return add_keys(ours, his, ':');
}

/* Go reads "key=value,key=value", and of several settings of a key the last counts.
 * "cpu.all" is one of every feature (internal/cpu and golang.org/x/sys/cpu, processOptions). */
static char *merge_go(const char *ours, const char *his)
{
    return has_key(his, ',', text_of("cpu.all")) ? xstrdup(his) : add_keys(ours, his, ',');
}

/* HotSpot takes JAVA_TOOL_OPTIONS apart at blanks, and its options from first to last; one that
 * sets a flag anew replaces the value (arguments.cpp). So ours stand first, and whatever he says of
 * the same flag is later, here as on the command line, which comes behind all of it. */
static char *merge_java(const char *ours, const char *his)
{
    return his[strspn(his, " \t\r\n")] ? xasprintf("%s %s", ours, his) : xstrdup(ours);
}

/* Variables of one value: OPENSSL_ia32cap, OPENBLAS_CORETYPE and all that come to be known later.
 */
static char *keep_his(const char *ours, const char *his)
{
    (void)ours;
    return xstrdup(his);
}

typedef char *(*merge_function)(const char *ours, const char *his);

static merge_function merge_of(const char *name)
{
    static const struct {
        const char *name;
        merge_function merge;
    } readers[] = {
        {"GLIBC_TUNABLES",    merge_glibc},
        {"GODEBUG",           merge_go   },
        {"JAVA_TOOL_OPTIONS", merge_java },
    };
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        if (strcmp(readers[i].name, name) == 0)
            return readers[i].merge;
    return keep_his;
}

/* ---- the list */

static bool is_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return *name && strspn(name, allowed) == strlen(name) && !(*name >= '0' && *name <= '9');
}

static int check_name(const char *name, struct error *err)
{
    if (!is_name(name))
        return error_set(err, ERROR_INVALID,
                         WHAT ": name: \"%.64s\": expected a name of letters, digits and _", name);
    /* These choose what code a program loads, and that is no matter of its CPU. */
    if (strncmp(name, "LD_", 3) == 0)
        return error_set(err, ERROR_INVALID,
                         WHAT ": name: \"%.64s\": expected none of the dynamic loader's", name);
    return 0;
}

/* The first that is called so, as getenv() finds it; `count` when there is none. */
static size_t find(char *const *env, size_t count, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < count; i++)
        if (strncmp(env[i], name, length) == 0 && env[i][length] == '=')
            return i;
    return count;
}

/* Puts one variable in; `env` has room for one more. */
static int put(char **env, size_t *count, const char *name, const char *value, struct error *err)
{
    size_t at = find(env, *count, name);
    autofree char *merged =
        at == *count ? xstrdup(value) : merge_of(name)(value, env[at] + strlen(name) + 1);
    autofree char *string = xasprintf("%s=%s", name, merged);
    /* his own may be of any length: nothing was added to it */
    if (strlen(string) >= MASK_ENVIRONMENT_STRING_MAX &&
        (at == *count || strcmp(string, env[at]) != 0))
        return error_set(err, ERROR_TOO_LARGE,
                         "%s with the mask's part has %zu bytes, and no program starts with more "
                         "than %d in one variable: shorten it, or set the mask's part there "
                         "yourself",
                         name, strlen(string), MASK_ENVIRONMENT_STRING_MAX - 1);
    if (at == *count)
        (*count)++;
    else
        free(env[at]);
    env[at] = steal_ptr(&string);
    return 0;
}

static int put_all(json_object *variables, char **env, size_t *count, struct error *err)
{
    for (size_t i = 0; i < json_array_size(variables); i++) {
        json_object *variable = json_array_item(variables, i);
        const char *name = NULL, *value = NULL;
        if (json_check_object(WHAT, variable, err) < 0 ||
            json_get_str(WHAT, variable, "name", &name, err) < 0 ||
            json_get_str(WHAT, variable, "value", &value, err) < 0 || check_name(name, err) < 0 ||
            put(env, count, name, value, err) < 0)
            return -1;
    }
    return 0;
}

int mask_environment_merge(json_object *variables, const char *const *env, char ***ret,
                           struct error *err)
{
    size_t count = 0, added = json_array_size(variables);
    if (variables && !json_object_is_type(variables, json_type_array))
        return error_set(err, ERROR_INVALID, WHAT ": expected an array of variables");
    if (added > MASK_ENVIRONMENT_VARIABLES_MAX)
        return error_set(err, ERROR_INVALID, WHAT ": %zu variables: expected at most %d", added,
                         MASK_ENVIRONMENT_VARIABLES_MAX);
    while (env[count])
        count++;
    char **merged = xcalloc(count + added + 1, sizeof(*merged));
    for (size_t i = 0; i < count; i++)
        merged[i] = xstrdup(env[i]);
    if (put_all(variables, merged, &count, err) < 0) {
        mask_environment_free(merged);
        return -1;
    }
    *ret = merged;
    return 0;
}

void mask_environment_free(char **env)
{
    if (!env)
        return;
    for (char **s = env; *s; s++)
        free(*s);
    free(env);
}
