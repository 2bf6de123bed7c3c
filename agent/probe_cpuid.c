/* SPDX-License-Identifier: Apache-2.0 */
/* probe_cpuid.c - reading CPUID, XGETBV and CPUID faulting; the one door to libcpuid. */
#include "probe_cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <libcpuid/libcpuid.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"

#ifndef ARCH_SET_CPUID
#define ARCH_SET_CPUID 0x1012
#endif

#define BASIC_MAX      0xffU /* leaves of a range that are read at most */
#define EXTENDED_FIRST 0x80000000U
#define SUBLEAVES_MAX  64U
#define OSXSAVE_BIT    (1U << 27) /* leaf 1 ECX */
#define HYBRID_BIT     (1U << 15) /* leaf 7 EDX */

/* --- which subleaves a leaf has ------------------------------------------------------------ */

enum subleaf_rule {
    ONE,        /* subleaf 0 alone */
    COUNT_EAX,  /* subleaf 0 EAX: the last one */
    BITS_EAX,   /* subleaf 0 EAX: a bit each */
    BITS_EBX,   /* subleaf 0 EBX: a bit each */
    XSAVE,      /* 0, 1, and a bit each of XCR0 and XSS */
    CACHE_TYPE, /* until EAX[4:0] is 0 */
    LEVEL_TYPE, /* until ECX[15:8] is 0 */
    SGX,        /* 0, 1, then until EAX[3:0] is 0 */
    TWO,        /* 0 and 1 */
};

static const struct {
    uint32_t leaf;
    enum subleaf_rule rule;
} rules[] = {
    {0x4,        CACHE_TYPE}, /* caches */
    {0x7,        COUNT_EAX }, /* structured features */
    {0xb,        LEVEL_TYPE}, /* topology */
    {0xd,        XSAVE     }, /* xsave */
    {0xf,        TWO       }, /* cache monitoring */
    {0x10,       BITS_EBX  }, /* cache allocation */
    {0x12,       SGX       }, /* SGX */
    {0x14,       COUNT_EAX }, /* Processor Trace */
    {0x17,       COUNT_EAX }, /* system on a chip */
    {0x18,       COUNT_EAX }, /* address translation */
    {0x1b,       SGX       }, /* PCONFIG: until EAX[3:0] is 0 does for its type field as well */
    {0x1d,       COUNT_EAX }, /* tiles */
    {0x1e,       TWO       }, /* tile multiplication */
    {0x1f,       LEVEL_TYPE}, /* topology, second version */
    {0x20,       COUNT_EAX }, /* history reset */
    {0x23,       BITS_EAX  }, /* performance monitoring */
    {0x24,       COUNT_EAX }, /* AVX10 */
    {0x8000001d, CACHE_TYPE}, /* AMD caches */
    {0x80000020, BITS_EBX  }, /* AMD quality of service */
    {0x80000026, LEVEL_TYPE}, /* AMD topology */
};

/* What tells one CPU from another of the same kind, and so makes no two unlike. */
static const struct {
    uint32_t leaf;
    uint32_t eax, ebx, ecx, edx; /* bits to ignore */
} identities[] = {
    {0x1,        0,          0xff000000, 0,          0         }, /* initial APIC id */
    {0xb,        0,          0,          0,          0xffffffff}, /* x2APIC id */
    {0x1f,       0,          0,          0,          0xffffffff}, /* x2APIC id */
    {0x8000001e, 0xffffffff, 0xffffffff, 0xffffffff, 0         }, /* APIC, core and node id */
    {0x80000026, 0,          0,          0,          0xffffffff}, /* x2APIC id */
};

struct collection {
    const struct probe_cpuid *cpuid;
    struct cpuid_leaf *leaves; /* owned */
    size_t count;
};

static struct cpuid_leaf look(const struct probe_cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_leaf l = {.leaf = leaf, .subleaf = subleaf};
    cpuid->read(cpuid->ctx, leaf, subleaf, &l);
    return l;
}

static struct cpuid_leaf take(struct collection *c, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_leaf l = look(c->cpuid, leaf, subleaf);
    if (c->count < CPU_REPORT_LEAVES_MAX)
        c->leaves[c->count++] = l;
    return l;
}

static void take_bits(struct collection *c, uint32_t leaf, uint64_t bits, unsigned first)
{
    for (unsigned i = first; i < 64; i++)
        if (bits >> i & 1)
            take(c, leaf, i);
}

static void take_xsave(struct collection *c, const struct cpuid_leaf *zero)
{
    struct cpuid_leaf one = take(c, zero->leaf, 1);
    uint64_t user = (uint64_t)zero->edx << 32 | zero->eax;
    uint64_t supervisor = (uint64_t)one.edx << 32 | one.ecx;
    take_bits(c, zero->leaf, user | supervisor, 2);
}

/* Subleaves 1 and on while `more` says that the one before was real. */
static void take_while(struct collection *c, struct cpuid_leaf last, enum subleaf_rule rule)
{
    for (unsigned i = 1; i < SUBLEAVES_MAX; i++) {
        bool real = rule == CACHE_TYPE   ? (last.eax & 0x1f) != 0
                    : rule == LEVEL_TYPE ? (last.ecx >> 8 & 0xff) != 0
                                         : i <= 2 || (last.eax & 0xf) != 0;
        if (!real)
            return;
        last = take(c, last.leaf, i);
    }
}

static enum subleaf_rule rule_of(uint32_t leaf)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].leaf == leaf)
            return rules[i].rule;
    return ONE;
}

static void take_leaf(struct collection *c, uint32_t leaf)
{
    struct cpuid_leaf zero = take(c, leaf, 0);
    enum subleaf_rule rule = rule_of(leaf);
    switch (rule) {
    case ONE:
        return;
    case TWO:
        take(c, leaf, 1);
        return;
    case COUNT_EAX:
        for (uint32_t i = 1; i <= zero.eax && i < SUBLEAVES_MAX; i++)
            take(c, leaf, i);
        return;
    case BITS_EAX:
        take_bits(c, leaf, zero.eax, 1);
        return;
    case BITS_EBX:
        take_bits(c, leaf, zero.ebx, 1);
        return;
    case XSAVE:
        take_xsave(c, &zero);
        return;
    case CACHE_TYPE:
    case LEVEL_TYPE:
    case SGX:
        take_while(c, zero, rule);
        return;
    }
}

static void take_range(struct collection *c, uint32_t first)
{
    uint32_t last = look(c->cpuid, first, 0).eax;
    if (last < first)
        return; /* no such range: the answer is some other leaf's */
    if (last > first + BASIC_MAX)
        last = first + BASIC_MAX;
    for (uint32_t leaf = first; leaf <= last; leaf++)
        take_leaf(c, leaf);
}

void probe_cpuid_all(const struct probe_cpuid *cpuid, struct cpuid_leaf **ret, size_t *ret_count)
{
    struct collection c = {.cpuid = cpuid,
                           .leaves = xcalloc(CPU_REPORT_LEAVES_MAX, sizeof(struct cpuid_leaf))};
    take_range(&c, 0);
    take_range(&c, EXTENDED_FIRST);
    *ret = xrealloc(c.leaves, (c.count ? c.count : 1) * sizeof(*c.leaves));
    *ret_count = c.count;
}

/* --- the CPU itself ------------------------------------------------------------------------ */

static void read_here(void *ctx, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *ret)
{
    (void)ctx;
    uint32_t regs[4] = {leaf, 0, subleaf, 0};
    cpu_exec_cpuid_ext(regs);
    ret->eax = regs[0];
    ret->ebx = regs[1];
    ret->ecx = regs[2];
    ret->edx = regs[3];
}

const struct probe_cpuid probe_cpuid_here = {read_here, NULL};

bool probe_xcr0(uint64_t *ret)
{
    struct cpuid_leaf one = look(&probe_cpuid_here, 1, 0);
    if (!(one.ecx & OSXSAVE_BIT))
        return false; /* XGETBV would be an invalid instruction */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    *ret = (uint64_t)high << 32 | low;
    return true;
}

/* In the child: dies of SIGSEGV if CPUID faults, else says so with its exit code. */
static _Noreturn void try_faulting(void)
{
    struct rlimit none = {0, 0};
    unsigned a, b, c, d;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGSEGV, SIG_DFL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) < 0)
        _exit(1);
    __cpuid(0, a, b, c, d);
    _exit((a | b | c | d) ? 2 : 3);
}

bool probe_cpuid_faulting(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        return false;
    if (pid == 0)
        try_faulting();
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

/* --- comparing ----------------------------------------------------------------------------- */

static struct cpuid_leaf without_identity(struct cpuid_leaf l)
{
    for (size_t i = 0; i < sizeof(identities) / sizeof(identities[0]); i++)
        if (identities[i].leaf == l.leaf) {
            l.eax &= ~identities[i].eax;
            l.ebx &= ~identities[i].ebx;
            l.ecx &= ~identities[i].ecx;
            l.edx &= ~identities[i].edx;
        }
    return l;
}

bool probe_cpuid_alike(const struct cpu_group *a, const struct cpu_group *b)
{
    if (a->leaf_count != b->leaf_count || a->xcr0_known != b->xcr0_known || a->xcr0 != b->xcr0)
        return false;
    for (size_t i = 0; i < a->leaf_count; i++) {
        struct cpuid_leaf x = without_identity(a->leaves[i]), y = without_identity(b->leaves[i]);
        if (memcmp(&x, &y, sizeof(x)) != 0)
            return false;
    }
    return true;
}

static const struct cpuid_leaf *find(const struct cpu_group *group, uint32_t leaf)
{
    for (size_t i = 0; i < group->leaf_count; i++)
        if (group->leaves[i].leaf == leaf && group->leaves[i].subleaf == 0)
            return &group->leaves[i];
    return NULL;
}

const char *probe_core_type(const struct cpu_group *group)
{
    const struct cpuid_leaf *seven = find(group, 0x7), *type = find(group, 0x1a);
    if (!seven || !(seven->edx & HYBRID_BIT) || !type)
        return NULL;
    switch (type->eax >> 24) {
    case 0x20:
        return "atom";
    case 0x40:
        return "core";
    default:
        return NULL;
    }
}
