/* SPDX-License-Identifier: Apache-2.0 */
/* probe_system.c - what /proc and /sys tell of the machine. */
#include "probe_system.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include "cleanup.h"
#include "file.h"

#ifndef AT_HWCAP2
#define AT_HWCAP2 26
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define SMALL_FILE_MAX   65536
#define CPUINFO_FILE_MAX (64UL * 1024 * 1024) /* a few KiB a CPU */

int probe_online_cpus(const char *root, unsigned **ret, size_t *ret_count, struct error *err)
{
    autofree char *path = xasprintf("%s/sys/devices/system/cpu/online", root);
    autofree char *text = NULL;
    if (file_read(path, SMALL_FILE_MAX, &text, NULL, err) < 0)
        return -1;
    autofree unsigned *cpus = xcalloc(PROBE_CPUS_MAX, sizeof(*cpus));
    size_t count = 0;
    for (const char *p = text; isdigit((unsigned char)*p);) {
        char *end = NULL;
        unsigned long first = strtoul(p, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (last < first || last >= PROBE_CPUS_MAX)
            return error_set(err, ERROR_FAILED, "%s: '%.60s': expected CPUs below %d", path, p,
                             PROBE_CPUS_MAX);
        for (unsigned long cpu = first; cpu <= last && count < PROBE_CPUS_MAX; cpu++)
            cpus[count++] = (unsigned)cpu;
        p = *end == ',' ? end + 1 : end;
    }
    if (!count)
        return error_set(err, ERROR_FAILED, "%s names no CPU: '%.60s'", path, text);
    *ret = steal_ptr(&cpus);
    *ret_count = count;
    return 0;
}

char *probe_cpu_list(const unsigned *cpus, size_t count)
{
    char *list = xstrdup("");
    for (size_t i = 0; i < count;) {
        size_t last = i;
        while (last + 1 < count && cpus[last + 1] == cpus[last] + 1)
            last++;
        char range[32];
        if (last > i)
            snprintf(range, sizeof(range), "%u-%u", cpus[i], cpus[last]);
        else
            snprintf(range, sizeof(range), "%u", cpus[i]);
        char *longer = xasprintf("%s%s%s", list, *list ? "," : "", range);
        free(list);
        list = longer;
        i = last + 1;
    }
    return list;
}

/* The first line of a file; NULL when it cannot be read. The caller owns it. */
static char *first_line(const char *root, const char *name)
{
    autofree char *path = xasprintf("%s%s", root, name);
    autofree char *text = NULL;
    if (file_read(path, SMALL_FILE_MAX, &text, NULL, NULL) < 0)
        return NULL;
    text[strcspn(text, "\n")] = '\0';
    return *text ? steal_ptr(&text) : NULL;
}

/* "microcode\t: 0x1000065" of the first CPU. */
static void read_microcode(const char *root, struct cpu_report *report)
{
    autofree char *path = xasprintf("%s/proc/cpuinfo", root);
    autofree char *text = NULL;
    if (file_read(path, CPUINFO_FILE_MAX, &text, NULL, NULL) < 0)
        return;
    const char *line = strstr(text, "\nmicrocode");
    const char *value = line ? strchr(line, ':') : NULL;
    if (!value)
        return;
    char *end = NULL;
    report->os.microcode = strtoull(value + 1, &end, 0);
    report->os.microcode_known = end != value + 1 && *end == '\n';
}

static void take_entry(struct cpu_report *report, uint64_t type, uint64_t value)
{
    if (type == AT_HWCAP) {
        report->os.hwcap_known = true;
        report->os.hwcap = value;
    } else if (type == AT_HWCAP2) {
        report->os.hwcap2_known = true;
        report->os.hwcap2 = value;
    } else if (type == AT_MINSIGSTKSZ) {
        report->os.minsigstksz_known = true;
        report->os.minsigstksz = value;
    }
}

/* For the machine itself the C library's copy; a recorded tree holds proc/self/auxv. */
static void read_auxv(const char *root, struct cpu_report *report)
{
    static const unsigned long wanted[] = {AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ};
    if (!*root) {
        for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
            errno = 0;
            unsigned long value = getauxval(wanted[i]);
            if (errno == 0)
                take_entry(report, wanted[i], value);
        }
        return;
    }
    autofree char *path = xasprintf("%s/proc/self/auxv", root);
    autofree char *text = NULL;
    size_t length = 0;
    if (file_read(path, SMALL_FILE_MAX, &text, &length, NULL) < 0)
        return;
    for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= length; at += sizeof(Elf64_auxv_t)) {
        Elf64_auxv_t entry;
        memcpy(&entry, text + at, sizeof(entry));
        take_entry(report, entry.a_type, entry.a_un.a_val);
    }
}

void probe_system(const char *root, struct cpu_report *report)
{
    report->os.kernel = first_line(root, "/proc/sys/kernel/osrelease");
    report->os.boot_id = first_line(root, "/proc/sys/kernel/random/boot_id");
    read_microcode(root, report);
    read_auxv(root, report);
}
