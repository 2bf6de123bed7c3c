/* SPDX-License-Identifier: Apache-2.0 */
/* format.h - a pool's mask as the tools that people run read it.
 *
 * docs/masks.md says for each format who reads it, how, and what it cannot express. Pure: no I/O,
 * no time; the same mask gives the same text. */
#pragma once

#include "cpu_profile.h"
#include "error.h"
#include "json.h"

/* Every format, once: command line, API and documentation read this table.
 *     format       name           written by           media type          one line of help */
#define FORMATS(X)                                                                        \
    X(ENV, "env", format_env, "text/plain",                                               \
      "environment variables for glibc, OpenSSL, Go, Java and OpenBLAS, as shell lines")  \
    X(OPENVZ, "openvz", format_openvz, "text/plain", "lines for /proc/vz/cpuid_override") \
    X(LIBVIRT, "libvirt", format_libvirt, "application/xml",                              \
      "the <cpu> element of a libvirt domain")                                            \
    X(QEMU, "qemu", format_qemu, "text/plain", "the argument of QEMU's -cpu")             \
    X(FIRECRACKER, "firecracker", format_firecracker, "application/json",                 \
      "a custom CPU template for Firecracker")                                            \
    X(GVISOR, "gvisor", format_gvisor, "application/json",                                \
      "the OCI annotation that gVisor's runsc reads")                                     \
    X(CRAC, "crac", format_crac, "text/plain",                                            \
      "the -XX:CPUFeatures option of a JVM with CRaC (JDK 17 to 22)")                     \
    X(XEN, "xen", format_xen, "text/plain",                                               \
      "the cpuid= setting of an xl.cfg, and the mask as a featureset")                    \
    X(FLAGS, "flags", format_flags, "text/plain",                                         \
      "the kernel's names, as on the flags line of /proc/cpuinfo")

enum format {
#define X(format, name, write, media_type, help) FORMAT_##format,
    FORMATS(X)
#undef X
        FORMAT_COUNT
};

const char *format_name(enum format format);
const char *format_media_type(enum format format); /* all are UTF-8; JSON and XML say so */
const char *format_help(enum format format);
/* Errors: ERROR_INVALID naming the formats that there are. */
int format_from_name(const char *name, enum format *ret, struct error *err);

/* The text, ending in a newline; the caller owns it. `pool_mask` is what mask_profile gives; NULL
 * (a pool without members) is ERROR_CONFLICT. NULL on failure. */
char *format_write(enum format format, const struct cpu_profile *pool_mask, struct error *err);

/* What FORMAT_ENV writes as [{"name":…,"value":…},…], as containers take it, for those who set an
 * environment themselves. A variable that needs no setting is not there. The caller owns it. */
json_object *format_environment(const struct cpu_profile *pool_mask);
