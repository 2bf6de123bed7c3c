/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_profile_json.c - a profile as a record: whole, exact, and named by its hash. */
#include <string.h>

#include "cpu_profile.h"
#include "cpu_profile_data.h"
#include "digest.h"

#define UNKNOWNS_MAX 4096UL /* four registers of each leaf that a report may have */

static const char what[] = "profile";

static json_object *place_json(uint32_t leaf, uint32_t subleaf, unsigned reg, uint32_t bits)
{
    json_object *o = json_object_new_object();
    json_put_hex32(o, "leaf", leaf);
    json_put_hex32(o, "subleaf", subleaf);
    json_put_str(o, "register", cpu_register_name(reg));
    json_put_hex32(o, "bits", bits);
    return o;
}

static json_object *words_json(const struct cpu_profile *p)
{
    json_object *words = json_object_new_array();
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        const struct cpu_word *w = &cpu_words[i];
        if (p->words[i])
            json_object_array_add(words, place_json(w->leaf, w->subleaf, w->reg, p->words[i]));
    }
    return words;
}

static json_object *unknowns_json(const struct cpu_profile *p)
{
    json_object *list = json_object_new_array();
    for (uint32_t i = 0; i < p->unknown_count; i++) {
        const struct cpu_unknown *u = &p->unknowns[i];
        json_object_array_add(list, place_json(u->leaf, u->subleaf, u->reg, u->bits));
    }
    return list;
}

static json_object *components_json(const struct cpu_profile *p)
{
    json_object *list = json_object_new_array();
    for (uint64_t rest = p->enabled; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(p, id);
        json_object *o = json_object_new_object();
        json_put_int(o, "id", id);
        json_put_bool(o, "layout_known", c->layout_known);
        json_put_bool(o, "aligned", c->aligned);
        json_put_bool(o, "conflict", c->conflict);
        json_put_int(o, "size", c->size_bytes);
        json_put_int(o, "offset", c->offset_bytes);
        json_object_array_add(list, o);
    }
    return list;
}

json_object *cpu_profile_record_json(const struct cpu_profile *p)
{
    json_object *o = json_object_new_object(), *values = json_object_new_object();
    json_object *conflicts = json_object_new_array(), *xsave = json_object_new_object();
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        if (p->fields[i])
            json_put_int(values, cpu_fields[i].name, p->fields[i]);
        if (p->field_conflicts >> i & 1)
            json_object_array_add(conflicts, json_object_new_string(cpu_fields[i].name));
    }
    json_put_bool(xsave, "xcr0_known", p->xcr0_known);
    json_put_bool(xsave, "plain_xsave", p->plain_xsave);
    json_put_int(xsave, "area_bytes", p->area_bytes);
    json_put(xsave, "components", components_json(p));
    json_put_str(o, "schema", CPU_PROFILE_SCHEMA);
    json_put_str(o, "vendor", p->vendor);
    json_put_str(o, "brand", p->brand);
    json_put(o, "words", words_json(p));
    json_put(o, "values", values);
    json_put(o, "value_conflicts", conflicts);
    json_put(o, "xsave", xsave);
    json_put(o, "minsigstksz", p->minsigstksz_known ? json_object_new_int64(p->minsigstksz) : NULL);
    json_put(o, "unknown", unknowns_json(p));
    return o;
}

char *cpu_profile_record(const struct cpu_profile *profile, char sha256[65])
{
    autojson *json = cpu_profile_record_json(profile);
    char *text = json_canonical(json);
    sha256_hex(text, strlen(text), sha256);
    return text;
}

/* ---- and back */

static int read_u32(json_object *o, const char *name, uint32_t *ret, struct error *err)
{
    int64_t value = 0;
    if (json_get_i64(what, o, name, &value, err) < 0)
        return -1;
    if (value < 0 || value > UINT32_MAX)
        return error_set(err, ERROR_INVALID, "%s: %s: expected an integer 0..4294967295", what,
                         name);
    *ret = (uint32_t)value;
    return 0;
}

static int read_place(json_object *o, struct cpu_unknown *ret, struct error *err)
{
    uint64_t leaf = 0, subleaf = 0, bits = 0;
    const char *reg = NULL;
    if (json_check_object(what, o, err) < 0 || json_get_hex(what, o, "leaf", &leaf, err) < 0 ||
        json_get_hex(what, o, "subleaf", &subleaf, err) < 0 ||
        json_get_hex(what, o, "bits", &bits, err) < 0 ||
        json_get_str(what, o, "register", &reg, err) < 0)
        return -1;
    *ret = (struct cpu_unknown){(uint32_t)leaf, (uint32_t)subleaf, CPU_EAX, (uint32_t)bits};
    for (enum cpu_register r = CPU_EAX; r <= CPU_EDX; r++)
        if (strcmp(reg, cpu_register_name(r)) == 0) {
            ret->reg = r;
            return (leaf | subleaf | bits) <= UINT32_MAX
                       ? 0
                       : error_set(err, ERROR_INVALID, "%s: a register has 32 bits", what);
        }
    return error_set(err, ERROR_INVALID, "%s: register: expected eax, ebx, ecx or edx, not '%.8s'",
                     what, reg);
}

static int read_words(json_object *o, struct cpu_profile *p, struct error *err)
{
    json_object *list = NULL;
    struct cpu_unknown place;
    if (json_get_array(what, o, "words", CPU_WORD_COUNT, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (read_place(json_array_item(list, i), &place, err) < 0)
            return -1;
        int word = cpu_word_find(place.leaf, place.subleaf, place.reg);
        if (word < 0)
            return error_set(err, ERROR_INVALID, "%s: leaf 0x%x.%u %s holds no features", what,
                             place.leaf, place.subleaf, cpu_register_name(place.reg));
        p->words[word] = place.bits;
    }
    return 0;
}

static int read_unknowns(json_object *o, struct cpu_profile *p, struct error *err)
{
    json_object *list = NULL;
    if (json_get_array(what, o, "unknown", UNKNOWNS_MAX, &list, err) < 0)
        return -1;
    size_t count = json_array_size(list);
    p->unknowns = count ? xcalloc(count, sizeof(*p->unknowns)) : NULL;
    for (; p->unknown_count < count; p->unknown_count++)
        if (read_place(json_array_item(list, p->unknown_count), &p->unknowns[p->unknown_count],
                       err) < 0)
            return -1;
    return 0;
}

static int field_index(const char *name)
{
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++)
        if (strcmp(cpu_fields[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int read_values(json_object *o, struct cpu_profile *p, struct error *err)
{
    json_object *values = NULL, *conflicts = NULL;
    if (json_get_object(what, o, "values", &values, err) < 0 ||
        json_get_array(what, o, "value_conflicts", CPU_FIELD_COUNT, &conflicts, err) < 0)
        return -1;
    json_object_object_foreach(values, name, value)
    {
        int at = field_index(name);
        (void)value;
        if (at < 0)
            return error_set(err, ERROR_INVALID, "%s: values: '%.40s' is not known", what, name);
        if (read_u32(values, name, &p->fields[at], err) < 0)
            return -1;
    }
    for (size_t i = 0; i < json_array_size(conflicts); i++) {
        int at = field_index(json_item_str(conflicts, i));
        if (at < 0)
            return error_set(err, ERROR_INVALID, "%s: value_conflicts: '%.40s' is not known", what,
                             json_item_str(conflicts, i));
        p->field_conflicts |= UINT64_C(1) << at;
    }
    return 0;
}

static int read_component(json_object *o, struct cpu_profile *p, struct error *err)
{
    uint32_t id = 0, size = 0, offset = 0;
    if (read_u32(o, "id", &id, err) < 0 || read_u32(o, "size", &size, err) < 0 ||
        read_u32(o, "offset", &offset, err) < 0)
        return -1;
    if (id >= CPU_COMPONENT_MAX)
        return error_set(err, ERROR_INVALID, "%s: xsave: component %u: expected 0..62", what, id);
    cpu_profile_set_enabled(p, p->enabled | UINT64_C(1) << id);
    struct cpu_component *c = cpu_profile_slot(p, id);
    c->size_bytes = size;
    c->offset_bytes = offset;
    if (json_opt_bool(what, o, "layout_known", &c->layout_known, err) < 0 ||
        json_opt_bool(what, o, "aligned", &c->aligned, err) < 0 ||
        json_opt_bool(what, o, "conflict", &c->conflict, err) < 0)
        return -1;
    return 0;
}

static int read_xsave(json_object *o, struct cpu_profile *p, struct error *err)
{
    json_object *xsave = NULL, *list = NULL;
    if (json_get_object(what, o, "xsave", &xsave, err) < 0 ||
        json_get_array(what, xsave, "components", CPU_COMPONENT_MAX, &list, err) < 0 ||
        read_u32(xsave, "area_bytes", &p->area_bytes, err) < 0 ||
        json_opt_bool(what, xsave, "xcr0_known", &p->xcr0_known, err) < 0 ||
        json_opt_bool(what, xsave, "plain_xsave", &p->plain_xsave, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_component(json_array_item(list, i), p, err) < 0)
            return -1;
    return 0;
}

static int read_text(json_object *o, const char *name, char *text, size_t size, struct error *err)
{
    const char *value = NULL;
    if (json_get_str(what, o, name, &value, err) < 0)
        return -1;
    if (strlen(value) >= size)
        return error_set(err, ERROR_INVALID, "%s: %s: expected at most %zu bytes", what, name,
                         size - 1);
    memcpy(text, value, strlen(value) + 1);
    return 0;
}

int cpu_profile_from_record(json_object *json, struct cpu_profile **ret, struct error *err)
{
    AUTO(cpu_profile) p = cpu_profile_new();
    const char *schema = NULL;
    if (json_check_object(what, json, err) < 0 ||
        json_get_str(what, json, "schema", &schema, err) < 0)
        return -1;
    if (strcmp(schema, CPU_PROFILE_SCHEMA) != 0)
        return error_set(err, ERROR_INVALID, "%s: schema: expected '%s', not '%.40s'", what,
                         CPU_PROFILE_SCHEMA, schema);
    p->minsigstksz_known = json_member(json, "minsigstksz") != NULL;
    if (read_text(json, "vendor", p->vendor, sizeof(p->vendor), err) < 0 ||
        read_text(json, "brand", p->brand, sizeof(p->brand), err) < 0 ||
        read_words(json, p, err) < 0 || read_values(json, p, err) < 0 ||
        read_xsave(json, p, err) < 0 || read_unknowns(json, p, err) < 0 ||
        (p->minsigstksz_known && read_u32(json, "minsigstksz", &p->minsigstksz, err) < 0))
        return -1;
    *ret = steal_ptr(&p);
    return 0;
}
