/* SPDX-License-Identifier: Apache-2.0 */
/* btf.c - reads the kernel's type information. */
#include "btf.h"

#include <linux/btf.h>
#include <stddef.h>
#include <string.h>

#include "file.h"

#define BTF_BYTES_MAX (256UL << 20)
#define DEPTH_MAX     8 /* of nameless structs and of names for types */

_Static_assert((int)BTF_STRUCT == BTF_KIND_STRUCT && (int)BTF_FUNCTION == BTF_KIND_FUNC,
               "kinds are the kernel's");

struct btf {
    char *bytes; /* owned */
    const char *strings;
    size_t strings_length;
    const struct btf_type **types; /* owned array; [0] is void: NULL */
    uint32_t count;
};

/* What follows a type's record; -1 for a kind that is not known. */
static int64_t tail_bytes(const struct btf_type *type)
{
    int64_t count = BTF_INFO_VLEN(type->info);
    switch (BTF_INFO_KIND(type->info)) {
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case BTF_KIND_DECL_TAG:
        return 4;
    case BTF_KIND_ARRAY:
        return sizeof(struct btf_array);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
        return count * (int64_t)sizeof(struct btf_member);
    case BTF_KIND_ENUM:
    case BTF_KIND_FUNC_PROTO:
        return count * 8;
    case BTF_KIND_DATASEC:
    case BTF_KIND_ENUM64:
        return count * 12;
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_FLOAT:
    case BTF_KIND_TYPE_TAG:
        return 0;
    default:
        return -1;
    }
}

static int index_types(struct btf *btf, const char *bytes, size_t length)
{
    size_t room = 0;
    btf->count = 1;
    for (size_t at = 0; at < length;) {
        if (length - at < sizeof(struct btf_type))
            return -1;
        const struct btf_type *type = (const void *)(bytes + at);
        int64_t tail = tail_bytes(type);
        if (tail < 0 || (uint64_t)tail > length - at - sizeof(*type))
            return -1;
        if (btf->count >= room) {
            room = room ? 2 * room : 65536;
            /* NOLINTNEXTLINE(bugprone-sizeof-expression): it is an array of pointers */
            btf->types = xrealloc(btf->types, room * sizeof(*btf->types));
        }
        btf->types[0] = NULL;
        btf->types[btf->count++] = type;
        at += sizeof(*type) + (size_t)tail;
    }
    return btf->types ? 0 : -1;
}

static int parse(struct btf *btf, size_t length)
{
    struct btf_header header;
    if (length < sizeof(header))
        return -1;
    memcpy(&header, btf->bytes, sizeof(header));
    if (header.magic != BTF_MAGIC || header.hdr_len < sizeof(header) || header.hdr_len > length)
        return -1;
    size_t body = length - header.hdr_len;
    if (header.type_off % 4 || header.hdr_len % 4 || header.type_off > body ||
        header.type_len > body - header.type_off || header.str_off > body ||
        header.str_len > body - header.str_off || header.str_len == 0)
        return -1;
    btf->strings = btf->bytes + header.hdr_len + header.str_off;
    btf->strings_length = header.str_len;
    if (btf->strings[header.str_len - 1] != '\0')
        return -1;
    return index_types(btf, btf->bytes + header.hdr_len + header.type_off, header.type_len);
}

int btf_new(const char *path, struct btf **ret, struct error *err)
{
    AUTO(btf) btf = xcalloc(1, sizeof(*btf));
    size_t length = 0;
    if (file_read(path, BTF_BYTES_MAX, &btf->bytes, &length, err) < 0)
        return -1;
    if (parse(btf, length) < 0)
        return error_set(err, ERROR_FAILED, "%s has an unknown form", path);
    *ret = steal_ptr(&btf);
    return 0;
}

void btf_free(struct btf *btf)
{
    if (!btf)
        return;
    free(btf->bytes);
    free(btf->types);
    free(btf);
}

static const char *name_at(const struct btf *btf, uint32_t offset)
{
    return offset < btf->strings_length ? btf->strings + offset : "";
}

static const struct btf_type *type_of(const struct btf *btf, uint32_t type)
{
    return type < btf->count ? btf->types[type] : NULL;
}

uint32_t btf_find(const struct btf *btf, enum btf_kind kind, const char *name)
{
    for (uint32_t i = 1; i < btf->count; i++)
        if (BTF_INFO_KIND(btf->types[i]->info) == (unsigned)kind &&
            strcmp(name_at(btf, btf->types[i]->name_off), name) == 0)
            return i;
    return 0;
}

static bool has_members(const struct btf_type *type)
{
    return type && (BTF_INFO_KIND(type->info) == BTF_KIND_STRUCT ||
                    BTF_INFO_KIND(type->info) == BTF_KIND_UNION);
}

bool btf_is_struct(const struct btf *btf, uint32_t type)
{
    return has_members(type_of(btf, type));
}

uint32_t btf_struct_bytes(const struct btf *btf, uint32_t type)
{
    return btf_is_struct(btf, type) ? type_of(btf, type)->size : 0;
}

/* The type behind qualifiers and typedefs. */
static uint32_t plain_type(const struct btf *btf, uint32_t type)
{
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        const struct btf_type *t = type_of(btf, type);
        if (!t)
            return type;
        switch (BTF_INFO_KIND(t->info)) {
        case BTF_KIND_TYPEDEF:
        case BTF_KIND_CONST:
        case BTF_KIND_VOLATILE:
        case BTF_KIND_RESTRICT:
        case BTF_KIND_TYPE_TAG:
            type = t->type;
            break;
        default:
            return type;
        }
    }
    return type;
}

static bool find_member(const struct btf *btf, uint32_t type, const char *name, unsigned depth,
                        uint32_t *ret_offset_bits, uint32_t *ret_type)
{
    const struct btf_type *t = type_of(btf, type);
    if (!has_members(t) || depth > DEPTH_MAX)
        return false;
    const struct btf_member *members = (const void *)(t + 1);
    for (unsigned i = 0; i < BTF_INFO_VLEN(t->info); i++) {
        bool flagged = BTF_INFO_KFLAG(t->info);
        uint32_t offset = flagged ? BTF_MEMBER_BIT_OFFSET(members[i].offset) : members[i].offset;
        uint32_t inner = 0, plain = plain_type(btf, members[i].type);
        const char *member_name = name_at(btf, members[i].name_off);
        if (strcmp(member_name, name) == 0) {
            *ret_offset_bits = offset;
            *ret_type = plain;
            return !flagged || BTF_MEMBER_BITFIELD_SIZE(members[i].offset) == 0;
        }
        if (!*member_name && find_member(btf, plain, name, depth + 1, &inner, ret_type)) {
            *ret_offset_bits = offset + inner;
            return true;
        }
    }
    return false;
}

bool btf_member(const struct btf *btf, uint32_t type, const char *name, uint32_t *ret_offset_bytes,
                uint32_t *ret_type)
{
    uint32_t bits = 0, member_type = 0;
    if (!*name || !find_member(btf, type, name, 0, &bits, &member_type) || bits % 8)
        return false;
    *ret_offset_bytes = bits / 8;
    if (ret_type)
        *ret_type = member_type;
    return true;
}
