/* SPDX-License-Identifier: Apache-2.0 */
/* mask_format.c - mask_format FORMAT FILE...: prints the mask of a pool of these machines; a FILE
 * is a report in JSON or what `cpuid -r` printed. Without a format it names them all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_import.h"
#include "format.h"
#include "mask.h"

__attribute__((noreturn)) static void give_up(const char *what, const struct error *err)
{
    fprintf(stderr, "mask_format: %s: %s\n", what, err->message);
    exit(error_exit_code(err->kind));
}

static int read_file(const char *path, char **ret, size_t *ret_length, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_errno(err, ERROR_NOT_FOUND, "cannot open");
    autofree char *text = xmalloc(CPU_IMPORT_MAX_BYTES + 1);
    *ret_length = fread(text, 1, CPU_IMPORT_MAX_BYTES + 1, file);
    fclose(file);
    *ret = steal_ptr(&text);
    return 0;
}

static int read_report(const char *path, struct cpu_report **ret, struct error *err)
{
    autofree char *text = NULL;
    autojson *json = NULL;
    size_t length = 0;
    if (read_file(path, &text, &length, err) < 0)
        return -1;
    if (cpu_import_looks_like_cpuid(text, length))
        return cpu_import_cpuid("machine", text, length, ret, err);
    if (json_parse(text, length, &json, err) < 0)
        return -1;
    return cpu_report_parse(json, ret, err);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    enum format format = FORMAT_ENV;
    if (argc < 3) {
        for (unsigned i = 0; i < FORMAT_COUNT; i++)
            printf("%s\t%s\t%s\n", format_name((enum format)i), format_media_type((enum format)i),
                   format_help((enum format)i));
        return argc == 1 ? 0 : 2;
    }
    if (format_from_name(argv[1], &format, &err) < 0)
        give_up("FORMAT", &err);
    AUTO(mask) mask = mask_new();
    for (int i = 2; i < argc; i++) {
        AUTO(cpu_report) report = NULL;
        AUTO(cpu_profile) profile = NULL;
        if (read_report(argv[i], &report, &err) < 0 ||
            cpu_profile_from_report(report, &profile, &err) < 0)
            give_up(argv[i], &err);
        mask_add(mask, profile);
    }
    AUTO(cpu_profile) pool = mask_profile(mask);
    autofree char *text = format_write(format, pool, &err);
    if (!text)
        give_up(argv[1], &err);
    fputs(text, stdout);
    return 0;
}
