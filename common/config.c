/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads `key = value` files by a table. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

#define CONFIG_LINE_MAX 4096

static int set_value(const struct config_key *key, const char *value, void *target,
                     struct error *err)
{
    void *at = (char *)target + key->offset;
    if (key->type == CONFIG_STR) {
        if (!*value)
            return error_set(err, ERROR_INVALID,
                             "%s: is empty (%s); leave the line out for the "
                             "default",
                             key->name, key->help);
        free(*(char **)at);
        *(char **)at = xstrdup(value);
        return 0;
    }
    if (key->type == CONFIG_BOOL) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return error_set(err, ERROR_INVALID, "%s: expected true or false, not '%s'", key->name,
                             value);
        *(bool *)at = strcmp(value, "true") == 0;
        return 0;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || number < key->least ||
        number > key->most)
        return error_set(err, ERROR_INVALID,
                         "%s: expected a number %" PRIu64 "..%" PRIu64 ", not '%s'", key->name,
                         key->least, key->most, value);
    *(uint64_t *)at = number;
    return 0;
}

static char *trimmed(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

static int read_line(char *line, const struct config_key *keys, bool *seen, void *target,
                     struct error *err)
{
    char *text = trimmed(line);
    if (!*text || *text == '#')
        return 0;
    char *equals = strchr(text, '=');
    if (!equals)
        return error_set(err, ERROR_INVALID, "expected 'key = value', not '%.60s'", text);
    *equals = '\0';
    const char *name = trimmed(text), *value = trimmed(equals + 1);
    for (size_t i = 0; keys[i].name; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (seen[i])
            return error_set(err, ERROR_INVALID, "%s: set twice", name);
        seen[i] = true;
        return set_value(&keys[i], value, target, err);
    }
    return error_set(err, ERROR_INVALID, "unknown key '%.60s'", name);
}

/* Reads one line without its end. 1: a line, 0: the end of the file, -1: no line that can be. */
static int next_line(FILE *file, char line[CONFIG_LINE_MAX], struct error *err)
{
    size_t length = 0;
    int c = getc(file);
    if (c == EOF)
        return ferror(file) ? error_errno(err, ERROR_INVALID, "cannot be read") : 0;
    for (; c != EOF && c != '\n'; c = getc(file)) {
        if (c == '\0')
            return error_set(err, ERROR_INVALID, "holds a NUL byte");
        if (length == CONFIG_LINE_MAX - 1)
            return error_set(err, ERROR_INVALID, "line longer than %d bytes", CONFIG_LINE_MAX - 1);
        line[length++] = (char)c;
    }
    line[length] = '\0';
    return 1;
}

static int read_file(const char *path, const struct config_key *keys, bool *seen, void *target,
                     struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_errno(err, ERROR_NOT_FOUND, "cannot read configuration '%s'", path);
    char line[CONFIG_LINE_MAX] = "";
    int rc = 1;
    for (unsigned number = 1; rc > 0; number++) {
        rc = next_line(file, line, err);
        if (rc > 0 && read_line(line, keys, seen, target, err) < 0)
            rc = -1;
        if (rc < 0)
            error_wrap(err, "%s:%u", path, number);
    }
    fclose(file);
    return rc;
}

int config_load(const char *path, const struct config_key *keys, void *target, struct error *err)
{
    size_t count = 0;
    while (keys[count].name)
        count++;
    autofree bool *seen = xcalloc(count, sizeof(*seen));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (keys[i].fallback)
            rc = set_value(&keys[i], keys[i].fallback, target, err);
    if (rc == 0 && path)
        rc = read_file(path, keys, seen, target, err);
    for (size_t i = 0; rc == 0 && path && i < count; i++)
        if (keys[i].required && !seen[i])
            rc = error_set(err, ERROR_INVALID, "%s: '%s' is missing (%s)", path, keys[i].name,
                           keys[i].help);
    if (rc < 0)
        config_release(keys, target);
    return rc;
}

void config_release(const struct config_key *keys, void *target)
{
    for (const struct config_key *key = keys; key->name; key++)
        if (key->type == CONFIG_STR) {
            char **at = (char **)((char *)target + key->offset);
            free(*at);
            *at = NULL;
        }
}

void config_print_sample(FILE *out, const struct config_key *keys)
{
    for (const struct config_key *key = keys; key->name; key++) {
        fprintf(out, "# %s\n", key->help);
        fprintf(out, "%s%s = %s\n\n", key->required ? "" : "#", key->name,
                key->fallback ? key->fallback : "");
    }
}
