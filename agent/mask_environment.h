/* SPDX-License-Identifier: Apache-2.0 */
/* mask_environment.h - adds to a program's environment what holds its libraries to a pool's mask;
 * pure.
 *
 * Nothing that the user has set is overridden: what he says of the same thing stays, and his
 * settings of other things in the same variable stay beside ours. The variables and what they
 * reach are in docs/masks.md, "env". */
#pragma once

#include <json-c/json.h>

#include "error.h"

/* No program starts with more: the kernel's MAX_ARG_STRLEN, with the closing zero byte. */
#define MASK_ENVIRONMENT_STRING_MAX    131072
#define MASK_ENVIRONMENT_VARIABLES_MAX 64

/* `variables` is the broker's [{"name":…,"value":…},…] (NULL: none); `env` are "NAME=VALUE"
 * strings, NULL at the end. The caller owns *ret, of the same form, and frees it with
 * mask_environment_free; on failure it is untouched. The user's strings keep their order, new
 * ones follow. Errors: ERROR_INVALID (the variables are no such list, or set one of the dynamic
 * loader's), ERROR_TOO_LARGE (a merged string that no program could be started with). */
int mask_environment_merge(json_object *variables, const char *const *env, char ***ret,
                           struct error *err);
void mask_environment_free(char **env); /* NULL is fine */
