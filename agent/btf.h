/* SPDX-License-Identifier: Apache-2.0 */
/* btf.h - the kernel's type information (Linux, Documentation/bpf/btf.rst): where a member of one
 * of its structs lies. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"

enum btf_kind { BTF_STRUCT = 4, BTF_FUNCTION = 12 };

struct btf; /* opaque */

/* Reads and checks a file like /sys/kernel/btf/vmlinux. Errors: ERROR_NOT_FOUND, ERROR_FAILED. */
int btf_new(const char *path, struct btf **ret, struct error *err);
void btf_free(struct btf *btf); /* NULL is fine */
DEFINE_AUTO(btf)

/* The first type of that kind and name; 0: there is none. */
uint32_t btf_find(const struct btf *btf, enum btf_kind kind, const char *name);
uint32_t btf_struct_bytes(const struct btf *btf, uint32_t type);
/* A member of a struct, or of a nameless struct or union in it; bit-fields are not found.
 * *ret_type (may be NULL) is its type without qualifiers and other names. */
bool btf_member(const struct btf *btf, uint32_t type, const char *name, uint32_t *ret_offset_bytes,
                uint32_t *ret_type);
bool btf_is_struct(const struct btf *btf, uint32_t type);
