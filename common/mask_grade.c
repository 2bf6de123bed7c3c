/* SPDX-License-Identifier: Apache-2.0 */
/* mask_grade.c - look-ups in the tables of grades and lacks. */
#include "mask_grade.h"

#include <string.h>

static const struct {
    const char *name, *meaning;
} grades[] = {
#define X(grade, name, meaning) {name, meaning},
    MASK_GRADES(X)
#undef X
};

static const struct {
    const char *name, *meaning;
} lacks[] = {
#define X(lack, name, meaning) {name, meaning},
    MASK_LACKS(X)
#undef X
};

const char *mask_grade_name(enum mask_grade grade)
{
    return grades[grade].name;
}

const char *mask_grade_meaning(enum mask_grade grade)
{
    return grades[grade].meaning;
}

int mask_grade_from_name(const char *name, enum mask_grade *ret, struct error *err)
{
#define X(grade, name_, meaning) " " name_
    static const char names[] = MASK_GRADES(X);
#undef X
    for (unsigned i = 0; i < MASK_GRADE_COUNT; i++)
        if (strcmp(name, grades[i].name) == 0) {
            *ret = (enum mask_grade)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "no grade '%.40s', expected one of:%s", name, names);
}

bool mask_grade_binds(enum mask_grade grade)
{
    return grade >= MASK_GRADE_DETOUR;
}

const char *mask_lack_name(enum mask_lack lack)
{
    return lacks[lack].name;
}

const char *mask_lack_meaning(enum mask_lack lack)
{
    return lacks[lack].meaning;
}
