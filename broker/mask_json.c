/* SPDX-License-Identifier: Apache-2.0 */
/* mask_json.c - a mask as people and tools read it, and its digest. */
#include <stdio.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "digest.h"
#include "mask.h"

/* The row of a leaf and subleaf; made when it is the first register of it. */
static json_object *row_of(json_object *rows, uint32_t leaf, uint32_t subleaf)
{
    char wanted[2][16];
    snprintf(wanted[0], sizeof(wanted[0]), "0x%08x", leaf);
    snprintf(wanted[1], sizeof(wanted[1]), "0x%08x", subleaf);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_object *row = json_array_item(rows, i);
        if (strcmp(json_str(row, "leaf"), wanted[0]) == 0 &&
            strcmp(json_str(row, "subleaf"), wanted[1]) == 0)
            return row;
    }
    json_object *row = json_object_new_object();
    json_put_str(row, "leaf", wanted[0]);
    json_put_str(row, "subleaf", wanted[1]);
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        json_put_hex32(row, cpu_register_name(reg), 0);
    json_object_array_add(rows, row);
    return row;
}

static json_object *registers_to_json(const struct cpu_profile *profile)
{
    json_object *rows = json_object_new_array();
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        const struct cpu_word *w = &cpu_words[i];
        if (w->isa | w->hint)
            json_put_hex32(row_of(rows, w->leaf, w->subleaf), cpu_register_name(w->reg),
                           profile->words[i] & (w->isa | w->hint));
    }
    return rows;
}

static json_object *behaviours_to_json(const struct cpu_profile *profile)
{
    json_object *names = json_object_new_array();
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_features[i].kind == CPU_KIND_BEHAVIOUR &&
            cpu_profile_has_bit(profile, &cpu_features[i]))
            json_object_array_add(names, json_object_new_string(cpu_features[i].name));
    return names;
}

static json_object *xsave_to_json(const struct cpu_profile *profile)
{
    json_object *o = json_object_new_object();
    json_put_hex64(o, "xcr0", profile->enabled);
    json_put_int(o, "size", cpu_profile_xsave_size(profile));
    json_put_int(o, "area_bytes", profile->area_bytes);
    json_put_bool(o, "plain_xsave", profile->plain_xsave);
    json_object *components = json_object_new_array();
    for (uint64_t rest = profile->enabled; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(profile, id);
        const struct cpu_component_info *info = cpu_component_info_find(id);
        json_object *component = json_object_new_object();
        json_put_int(component, "id", id);
        json_put_str(component, "name", info ? info->name : "unknown");
        if (c->layout_known) {
            json_put_int(component, "size", c->size_bytes);
            json_put_int(component, "offset", c->offset_bytes);
        } else {
            json_put(component, "size", NULL);
            json_put(component, "offset", NULL);
        }
        json_object_array_add(components, component);
    }
    json_put(o, "components", components);
    return o;
}

static json_object *limits_to_json(const struct cpu_profile *profile)
{
    json_object *o = json_object_new_object();
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        const struct cpu_field *f = &cpu_fields[i];
        bool used = f->kind == CPU_KIND_LIMIT || f->kind == CPU_KIND_EQUAL;
        if (f->feature >= 0)
            used = used && cpu_profile_has_bit(profile, &cpu_features[f->feature]);
        if (used)
            json_put_int(o, f->name, profile->fields[i]);
    }
    return o;
}

json_object *mask_profile_to_json(const struct cpu_profile *profile)
{
    json_object *o = json_object_new_object();
    json_put(o, "registers", registers_to_json(profile));
    json_put(o, "features", cpu_profile_feature_names(profile));
    json_put(o, "behaviours", behaviours_to_json(profile));
    json_put(o, "values", limits_to_json(profile));
    json_put(o, "xsave", xsave_to_json(profile));
    json_put_str(o, "level", cpu_profile_level(profile));
    return o;
}

void mask_profile_digest(const struct cpu_profile *profile, char hex[65])
{
    autojson *o = mask_profile_to_json(profile);
    json_put_str(o, "vendor", profile->vendor);
    autofree char *text = json_canonical(o);
    sha256_hex(text, strlen(text), hex);
}

bool mask_loses(const struct cpu_profile *pool, const struct cpu_profile *member,
                enum cpu_feature_id feature)
{
    const struct cpu_feature *f = &cpu_features[feature];
    bool maskable =
        f->kind == CPU_KIND_ISA || f->kind == CPU_KIND_STATE || f->kind == CPU_KIND_HINT;
    return maskable && cpu_profile_has_bit(member, f) && !cpu_profile_has_bit(pool, f);
}

json_object *mask_lost(const struct cpu_profile *pool, const struct cpu_profile *member)
{
    json_object *names = json_object_new_array();
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++)
        if (mask_loses(pool, member, (enum cpu_feature_id)i))
            json_object_array_add(names, json_object_new_string(cpu_features[i].name));
    return names;
}
