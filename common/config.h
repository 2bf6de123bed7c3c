/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - configuration files: `key = value` lines, `#` comments, one table per program.
 *
 * The table gives the type, the default and the help text; the sample files, the man pages and
 * the tests are checked against it. Unknown and doubled keys are errors with file and line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

enum config_type {
    CONFIG_STR,  /* char *, owned; NULL when neither set nor defaulted */
    CONFIG_U64,  /* uint64_t, decimal */
    CONFIG_BOOL, /* bool: true or false */
};

/* Members stand in the order in which tables read well, whatever padding that costs. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;
    const char *fallback; /* as it would stand in the file; NULL for none */
    bool required;
    uint64_t least, most; /* CONFIG_U64 only */
    const char *help;
};

/* Fills *target (zeroed by the caller) from defaults and `path` (NULL: defaults only, required
 * keys are then not asked for). Errors: ERROR_INVALID, ERROR_NOT_FOUND. On failure *target is
 * released. */
int config_load(const char *path, const struct config_key *keys, void *target, struct error *err);
void config_release(const struct config_key *keys, void *target);
/* The sample configuration that the table describes. */
void config_print_sample(FILE *out, const struct config_key *keys);
