/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_registry.c - what somebody might write into schema/features.txt: a mistake that is told with
 * its line, or a registry whose indices all lie within it and whose order puts needs first.
 *
 * The reader of registry_gen ends the program at the first mistake and gives no memory back; here
 * it is compiled with stand-ins that jump out and remember. */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "registry_read.h"

#define KEPT_MAX 65536

static struct {
    jmp_buf out;
    const uint8_t *data;
    size_t size;
    FILE *file, *told; /* told: what stderr would get */
    char said[4096];
    void *kept[KEPT_MAX];
    size_t kept_count;
} run;

static void *keep(void *memory)
{
    MUST(memory && run.kept_count < KEPT_MAX);
    return run.kept[run.kept_count++] = memory;
}

static void *kept_calloc(size_t count, size_t size)
{
    return keep(calloc(count, size));
}

static char *kept_strdup(const char *text)
{
    return keep(strdup(text));
}

static FILE *open_input(const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    /* fmemopen takes no empty buffer; a line feed is as good. */
    run.file =
        run.size ? fmemopen((void *)(uintptr_t)run.data, run.size, "r") : fmemopen("\n", 1, "r");
    return run.file;
}

__attribute__((noreturn)) static void jump_out(int code)
{
    MUST(code == 1);
    longjmp(run.out, 1);
}

static int close_later(FILE *file)
{
    (void)file;
    return 0;
}

#define calloc       kept_calloc
#define strdup       kept_strdup
#define free(memory) ((void)(memory))
#define exit         jump_out
#define fopen        open_input
#define fclose       close_later
#undef stderr
#define stderr run.told
#include "registry_read.c"
#undef calloc
#undef strdup
#undef free
#undef exit
#undef fopen
#undef fclose
#undef stderr

static void check_registry(const struct registry *r)
{
    int *place = calloc(r->feature_count + 1, sizeof(*place));
    for (size_t i = 0; i < r->feature_count; i++) {
        MUST(r->order[i] >= 0 && (size_t)r->order[i] < r->feature_count);
        place[r->order[i]] = (int)i;
    }
    for (size_t i = 0; i < r->feature_count; i++) {
        const struct feature *f = &r->features[i];
        MUST(f->bit < 32 && f->word >= 0 && (size_t)f->word < r->word_count);
        MUST(*f->name && f->title && *f->title && f->source);
        for (size_t k = 0; k < f->need_count; k++)
            MUST(f->needs[k] == -2 || (f->needs[k] >= 0 && (size_t)f->needs[k] < r->feature_count &&
                                       place[f->needs[k]] < place[i]));
    }
    for (size_t i = 0; i < r->field_count; i++) {
        const struct field *f = &r->fields[i];
        MUST(f->width >= 1 && f->low + f->width <= 32);
        MUST(f->feature >= -1 && f->feature < (int)r->feature_count);
    }
    for (size_t i = 0; i < r->component_count; i++)
        MUST(r->components[i].id < 63 && r->components[i].feature < (int)r->feature_count);
    free(place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct registry r;
    memset(&r, 0, sizeof(r));
    memset(run.said, 0, sizeof(run.said));
    r.path = "features.txt";
    run.data = data;
    run.size = size;
    run.file = NULL;
    run.kept_count = 0;
    run.told = fmemopen(run.said, sizeof(run.said) - 1, "w");
    MUST(run.told);
    if (setjmp(run.out) == 0) { /* NOLINT(cert-err52-cpp): the reader knows no other way out */
        registry_read(&r);
        check_registry(&r);
    } else {
        fflush(run.told);
        MUST(strncmp(run.said, "features.txt:", 13) == 0 && isdigit((unsigned char)run.said[13]));
    }
    fclose(run.told);
    if (run.file)
        fclose(run.file);
    for (size_t i = 0; i < run.kept_count; i++)
        free(run.kept[i]);
    return 0;
}
