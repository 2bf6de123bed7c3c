/* SPDX-License-Identifier: Apache-2.0 */
/* test_evidence.c - what a live process adds to a verdict, and when it may take something away. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "evidence.h"

#define OPMASK (UINT64_C(1) << 5)
#define PKRU   (UINT64_C(1) << 9)

/* ---- evidence and machines to order */

/* One process of one thread, of which everything is known and nothing is in use. */
static struct cpu_evidence quiet(void)
{
    struct cpu_evidence e = {.pid = 7, .at_ms = 1, .complete = true};
    struct cpu_evidence_task *t = cpu_evidence_add_task(&e, 7, "web");
    t->threads = xcalloc(2, sizeof(*t->threads));
    t->thread_count = 1;
    t->threads[0] =
        (struct cpu_evidence_thread){.tid = 7, .state_known = true, .xstate_bv = 3, .live = 3};
    t->amx = CPU_AMX_NO;
    t->shadow_stack = 0;
    t->glibc_known = true;
    t->code_marked = true;
    t->isa_used = 1;
    t->isa_needed = 1;
    return e;
}

static void set_active(struct cpu_evidence *e, enum cpu_feature_id id)
{
    e->tasks[0].active[cpu_features[id].word] |= UINT32_C(1) << cpu_features[id].bit;
}

struct trial {
    struct cpu_report *need, *source, *target; /* to be changed */
    struct cpu_evidence evidence;
    struct verdict verdict;
};

static struct trial new_trial(const char *from, const char *to)
{
    return (struct trial){.need = sample_report(from),
                          .source = sample_report(from),
                          .target = sample_report(to),
                          .evidence = quiet()};
}

static void judge(struct trial *c)
{
    AUTO(cpu_profile) need = profile_of(c->need);
    AUTO(cpu_profile) source = profile_of(c->source);
    AUTO(cpu_profile) target = profile_of(c->target);
    evidence_judge(&c->evidence, need, source, target, "node-a", "node-c", false, &c->verdict);
    verdict_sort(&c->verdict);
}

static void end(struct trial *c)
{
    cpu_evidence_done(&c->evidence);
    verdict_done(&c->verdict);
}

static const struct verdict_reason *find(const struct verdict *v, enum verdict_code code)
{
    for (size_t i = 0; i < v->reason_count; i++)
        if (v->reasons[i].code == code)
            return &v->reasons[i];
    return NULL;
}

static void assert_reason(const struct trial *c, enum verdict_code code,
                          enum verdict_severity severity, const char *part)
{
    const struct verdict_reason *r = find(&c->verdict, code);
    if (!r)
        fail_msg("no reason %s", verdict_code_name(code));
    assert_int_equal(r->severity, severity);
    if (!strstr(r->message, part))
        fail_msg("'%s' does not hold '%s'", r->message, part);
}

/* ---- stricter */

static void a_quiet_process_adds_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            struct trial c = new_trial(names[i], names[k]);
            judge(&c);
            assert_int_equal(c.verdict.reason_count, 0);
            end(&c);
        }
}

static void granted_amx_is_refused(void **state)
{
    (void)state;
    struct trial c = new_trial("zen4", "zen4");
    c.evidence.tasks[0].amx = CPU_AMX_GRANTED;
    judge(&c);
    assert_true(c.verdict.rejected);
    assert_reason(&c, VERDICT_AMX_PERMISSION, VERDICT_REJECT, "granted the use of AMX");
    end(&c);
}

/* Not knowing whether it was granted matters only where it could have been. */
static void unknown_amx_is_a_warning_where_there_is_amx(void **state)
{
    (void)state;
    struct trial c = new_trial("haswell", "haswell");
    c.evidence.tasks[0].amx = CPU_AMX_UNKNOWN;
    judge(&c);
    assert_int_equal(c.verdict.reason_count, 0);
    end(&c);
    c = new_trial("haswell", "haswell");
    c.evidence.tasks[0].amx = CPU_AMX_UNKNOWN;
    sample_set_component(c.source, 17, 64, 2752);
    sample_set_component(c.source, 18, 8192, 2816);
    sample_set(c.source, "amx_tile", true);
    sample_set(c.source, "xsavec", true);
    sample_set(c.source, "xgetbv1", true);
    sample_set_bit(c.source, 0xd, 1, CPU_EAX, 3, true);
    sample_set_bit(c.source, 0xd, 1, CPU_EAX, 4, true);
    judge(&c);
    assert_false(c.verdict.rejected);
    assert_reason(&c, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_WARN, "whether it was granted AMX");
    end(&c);
}

static void live_registers_need_their_component(void **state)
{
    (void)state;
    struct trial c = new_trial("zen4", "lesser-amd"); /* which lacks AVX-512 */
    c.evidence.tasks[0].threads[0].xstate_bv |= OPMASK | PKRU;
    c.evidence.tasks[0].threads[0].live |= OPMASK;
    judge(&c);
    assert_true(c.verdict.rejected);
    assert_reason(&c, VERDICT_LIVE_STATE, VERDICT_REJECT,
                  "component 5 (opmask) in its registers, and node-c does not enable it");
    assert_int_equal(c.verdict.reason_count, 1); /* PKRU as every process has it is not live */
    end(&c);
}

/* Born under a mask without AVX-512, and using it all the same. */
static void live_registers_that_the_need_lacks(void **state)
{
    (void)state;
    for (unsigned moved = 0; moved < 2; moved++) {
        struct trial c = new_trial("zen4", "zen4");
        c.need->groups[0].xcr0 &= ~UINT64_C(0xe0);
        c.evidence.tasks[0].threads[0].xstate_bv |= OPMASK;
        c.evidence.tasks[0].threads[0].live |= OPMASK;
        if (moved)
            sample_leaf(c.target, 0xd, 5)->ebx = 1088;
        judge(&c);
        assert_int_equal(c.verdict.rejected, moved);
        if (moved)
            assert_reason(&c, VERDICT_LIVE_STATE, VERDICT_REJECT, "its need does not list it");
        end(&c);
    }
    struct trial c = new_trial("zen4", "zen4"); /* and nobody says where it was looked at */
    c.need->groups[0].xcr0 &= ~UINT64_C(0xe0);
    c.evidence.tasks[0].threads[0].live |= OPMASK;
    AUTO(cpu_profile) need = profile_of(c.need);
    AUTO(cpu_profile) target = profile_of(c.target);
    cpu_report_free(c.source);
    evidence_judge(&c.evidence, need, NULL, target, "node-a", "node-c", false, &c.verdict);
    assert_true(c.verdict.rejected);
    end(&c);
}

static void set_minsigstksz(struct cpu_report *report, uint64_t bytes)
{
    report->os.minsigstksz_known = bytes != 0;
    report->os.minsigstksz = bytes;
}

static void small_stacks_are_refused_where_frames_grow(void **state)
{
    (void)state;
    static const struct {
        uint64_t source, target;
        int64_t stack;
        int refused;
    } cases[] = {
        {1776, 3632, 2048, 1},
        {1776, 3632, 3631, 1},
        {1776, 3632, 3632, 0},
        {1776, 3632, 0,    0}, /* none */
        {1776, 3632, -1,   0}, /* not known: a warning */
        {3632, 3632, 2048, 0}, /* was too small before */
        {3632, 1776, 2048, 0},
        {0,    3632, 2048, 1}, /* nobody says what it was before */
        {1776, 0,    2048, 0}, /* nor what it will be */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct trial c = new_trial("haswell", "haswell");
        set_minsigstksz(c.need, cases[i].source);
        set_minsigstksz(c.target, cases[i].target);
        c.evidence.tasks[0].threads[0].altstack_bytes = cases[i].stack;
        judge(&c);
        if ((int)c.verdict.rejected != cases[i].refused)
            fail_msg("case %zu", i);
        if (cases[i].refused) {
            const struct verdict_reason *r = find(&c.verdict, VERDICT_ALTERNATE_STACK);
            assert_non_null(r);
            assert_int_equal(r->source, cases[i].stack);
            assert_int_equal(r->target, cases[i].target);
        } else if (cases[i].stack < 0) {
            assert_reason(&c, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_WARN, "alternate signal stacks");
        } else {
            assert_int_equal(c.verdict.reason_count, 0);
        }
        end(&c);
    }
}

/* A mask says nothing of the frames that a process has had: those of its node do. */
static void frames_of_a_masked_process_are_its_nodes(void **state)
{
    (void)state;
    static const struct {
        uint64_t mask, source, target;
        bool refused;
    } cases[] = {
        {11000, 1776, 3632, true }, /* the largest of the pool's, which it was told and never had */
        {11000, 3632, 3632, false},
        {1776,  3632, 3632, false},
        {11000, 0,    3632, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct trial c = new_trial("haswell", "haswell");
        set_minsigstksz(c.need, cases[i].mask);
        set_minsigstksz(c.source, cases[i].source);
        set_minsigstksz(c.target, cases[i].target);
        AUTO(cpu_profile) need = profile_of(c.need);
        AUTO(cpu_profile) source = profile_of(c.source);
        AUTO(cpu_profile) target = profile_of(c.target);
        c.evidence.tasks[0].threads[0].altstack_bytes = 2048;
        evidence_judge(&c.evidence, need, source, target, "node-a", "node-c", true, &c.verdict);
        if (c.verdict.rejected != cases[i].refused)
            fail_msg("case %zu", i);
        verdict_done(&c.verdict);
        cpu_evidence_done(&c.evidence);
    }
}

/* Frames matter where they get smaller, and hold what the need has beside SSE. */
static void frames_shrink_where_components_go(void **state)
{
    (void)state;
    struct cpu_report *keys = sample_report("haswell"), *plain = sample_report("haswell");
    sample_set_component(keys, 9, 8, 2688);
    sample_set(keys, "pku", true);
    plain->groups[0].xcr0 = 3; /* x87 and SSE alone */
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) larger = profile_of(keys);
    AUTO(cpu_profile) sse = profile_of(plain);
    assert_true(evidence_frames_shrink(haswell, larger, haswell));
    assert_false(evidence_frames_shrink(haswell, haswell, larger));
    assert_false(evidence_frames_shrink(haswell, haswell, haswell));
    assert_false(evidence_frames_shrink(sse, larger, haswell));
    assert_true(evidence_frames_shrink(haswell, haswell, sse));
    assert_false(evidence_frames_shrink(haswell, sse, haswell));
}

static void the_smallest_stack_is_named(void **state)
{
    (void)state;
    struct trial c = new_trial("haswell", "haswell");
    set_minsigstksz(c.need, 1776);
    set_minsigstksz(c.target, 3632);
    c.evidence.tasks[0].thread_count = 2;
    c.evidence.tasks[0].threads[0].altstack_bytes = 3000;
    c.evidence.tasks[0].threads[1] =
        (struct cpu_evidence_thread){.tid = 9, .state_known = true, .altstack_bytes = 2048};
    c.evidence.tasks[0].threads[0].alike = 5; /* each of which is one more */
    judge(&c);
    assert_reason(
        &c, VERDICT_ALTERNATE_STACK, VERDICT_REJECT,
        "a signal needs 3632 bytes of stack on node-c, and the alternate signal stacks of "
        "7 threads are smaller, that of thread 9 of process 7 (web) 2048 bytes");
    end(&c);
}

/* Sapphire Rapids: AT_MINSIGSTKSZ counts tiles in, a process without them has smaller frames. */
static void tiles_do_not_count(void **state)
{
    (void)state;
    for (int64_t stack = 3000; stack <= 8192; stack += 8192 - 3000) {
        struct trial c = new_trial("haswell", "haswell");
        set_minsigstksz(c.need, 1776);
        set_minsigstksz(c.target, 11952);
        sample_set_component(c.target, 9, 8, 2688);
        sample_set_component(c.target, 17, 64, 2752);
        sample_set_component(c.target, 18, 8192, 2816); /* so 11952 - 8192 = 3760 remain */
        c.evidence.tasks[0].threads[0].altstack_bytes = stack;
        judge(&c);
        assert_int_equal(c.verdict.rejected, stack < 3760);
        if (stack < 3760)
            assert_int_equal(find(&c.verdict, VERDICT_ALTERNATE_STACK)->target, 3760);
        end(&c);
    }
}

static void shadow_stacks_need_shadow_stacks(void **state)
{
    (void)state;
    struct trial c = new_trial("haswell", "haswell");
    c.evidence.tasks[0].shadow_stack = 1;
    judge(&c);
    assert_true(c.verdict.rejected);
    assert_reason(&c, VERDICT_SHADOW_STACK, VERDICT_REJECT, "node-c has none");
    end(&c);
    c = new_trial("zen4", "zen4");
    c.evidence.tasks[0].shadow_stack = 1;
    sample_set(c.target, "shstk", true);
    sample_set_bit(c.target, 0xd, 1, CPU_EAX, 3, true); /* xsaves */
    judge(&c);
    assert_false(c.verdict.rejected);
    assert_reason(&c, VERDICT_SHADOW_STACK, VERDICT_WARN, "its kernel gives them");
    end(&c);
}

/* The need lists no AVX2, the C library uses it: the mask had a hole. */
static void a_hole_in_the_mask_is_seen(void **state)
{
    (void)state;
    struct trial c = new_trial("lesser-intel", "lesser-intel");
    set_active(&c.evidence, CPU_FEATURE_AVX2);
    set_active(&c.evidence, CPU_FEATURE_ERMS); /* a hint kills nobody */
    judge(&c);
    assert_true(c.verdict.rejected);
    assert_int_equal(c.verdict.reason_count, 1);
    assert_reason(&c, VERDICT_FEATURE_IN_USE, VERDICT_REJECT, "C library uses avx2");
    assert_int_equal(find(&c.verdict, VERDICT_FEATURE_IN_USE)->feature, CPU_FEATURE_AVX2);
    end(&c);
    c = new_trial("haswell", "lesser-intel"); /* the need has it: told there */
    set_active(&c.evidence, CPU_FEATURE_AVX2);
    judge(&c);
    assert_int_equal(c.verdict.reason_count, 0);
    end(&c);
}

static void needed_levels_are_compared(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 4; level++) {
        struct trial c = new_trial("lesser-intel", "lesser-intel"); /* x86-64-v2 */
        c.evidence.tasks[0].isa_needed = level;
        judge(&c);
        assert_int_equal(c.verdict.rejected, level > 2);
        if (level == 3)
            assert_reason(&c, VERDICT_FEATURE_IN_USE, VERDICT_REJECT,
                          "marked as needing x86-64-v3, and node-c is x86-64-v2");
        end(&c);
    }
}

static void what_was_not_seen_is_told(void **state)
{
    (void)state;
    struct trial c = new_trial("haswell", "haswell");
    c.evidence.complete = false;
    c.evidence.tasks[0].threads[0].state_known = false;
    c.evidence.tasks[0].shadow_stack = -1;
    judge(&c);
    assert_false(c.verdict.rejected);
    assert_reason(&c, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_WARN,
                  "did not show all of its processes and threads, the registers of every thread, "
                  "whether it uses shadow stacks");
    end(&c);
}

/* Evidence never takes a reason away by itself. */
static void alone_it_only_adds(void **state)
{
    (void)state;
    AUTO(cpu_profile) need = sample_profile("haswell");
    AUTO(cpu_profile) target = sample_profile("lesser-intel");
    struct verdict v = {0};
    const struct verdict_policy policy = {0};
    struct cpu_evidence e = quiet();
    verdict_judge(need, target, "node-a", "node-c", &policy, &v);
    size_t before = v.reason_count;
    assert_true(v.rejected);
    evidence_judge(&e, need, need, target, "node-a", "node-c", false, &v);
    assert_int_equal(v.reason_count, before);
    assert_true(v.rejected);
    cpu_evidence_done(&e);
    verdict_done(&v);
}

/* ---- relaxed */

static struct verdict relax(struct cpu_evidence *e, const char *from, const char *to)
{
    AUTO(cpu_profile) need = sample_profile(from);
    AUTO(cpu_profile) target = sample_profile(to);
    struct verdict v = {0};
    const struct verdict_policy policy = {0};
    AUTO(cpu_profile) relaxed = evidence_relax(e, need, target, "node-c", &v);
    verdict_judge(relaxed, target, "node-a", "node-c", &policy, &v);
    evidence_judge(e, relaxed, need, target, "node-a", "node-c", false, &v);
    verdict_sort(&v);
    cpu_evidence_done(e);
    return v;
}

/* AVX-512 is all that the target lacks. */
static struct verdict to_less(struct cpu_evidence *e)
{
    AUTO(cpu_profile) need = sample_profile("zen4");
    struct cpu_report *report = sample_report("zen4");
    report->groups[0].xcr0 &= ~UINT64_C(0xe0);
    AUTO(cpu_profile) target = profile_of(report);
    struct verdict v = {0};
    const struct verdict_policy policy = {0};
    assert_false(cpu_profile_has(target, CPU_FEATURE_AVX512F));
    AUTO(cpu_profile) relaxed = evidence_relax(e, need, target, "node-c", &v);
    verdict_judge(relaxed, target, "node-a", "node-c", &policy, &v);
    evidence_judge(e, relaxed, need, target, "node-a", "node-c", false, &v);
    verdict_sort(&v);
    cpu_evidence_done(e);
    return v;
}

static void unused_features_are_let_pass_and_told(void **state)
{
    (void)state;
    struct cpu_evidence e = quiet();
    struct verdict v = to_less(&e);
    assert_false(v.rejected);
    size_t unused = 0;
    for (size_t i = 0; i < v.reason_count; i++)
        unused += v.reasons[i].code == VERDICT_FEATURE_UNUSED;
    assert_true(unused >= 10);
    const struct verdict_reason *r = find(&v, VERDICT_FEATURE_UNUSED);
    assert_int_equal(r->severity, VERDICT_WARN);
    assert_true(r->has_bit);
    assert_non_null(strstr(r->message, "node-c lacks avx512f (leaf 7 EBX bit 16); let pass"));
    verdict_done(&v);
}

/* Each link of the proof alone. */
static void every_doubt_keeps_the_need(void **state)
{
    (void)state;
    enum doubt {
        INCOMPLETE,
        REGISTERS_UNKNOWN,
        UNMARKED,
        LEVEL,
        NEEDED,
        ZMM,
        MASK,
        ACTIVE,
        ACTIVE_OF_ITS_FAMILY,
        LIVE,
        ANOTHER_PROCESS,
        NO_THREAD,
        NO_PROCESS,
        DOUBTS
    };
    for (int doubt = 0; doubt < DOUBTS; doubt++) {
        struct cpu_evidence e = quiet();
        struct cpu_evidence_task *t = &e.tasks[0];
        switch ((enum doubt)doubt) {
        case INCOMPLETE:
            e.complete = false;
            break;
        case REGISTERS_UNKNOWN:
            t->threads[0].state_known = false;
            break;
        case UNMARKED:
            t->code_marked = false;
            break;
        case LEVEL:
            t->isa_used = 4;
            break;
        case NEEDED:
            t->isa_needed = 4;
            break;
        case ZMM:
            t->registers = CPU_CODE_ZMM;
            break;
        case MASK:
            t->registers = CPU_CODE_MASK;
            break;
        case ACTIVE:
            set_active(&e, CPU_FEATURE_AVX512F);
            break;
        case ACTIVE_OF_ITS_FAMILY:
            set_active(&e, CPU_FEATURE_AVX512_VNNI);
            break;
        case LIVE:
            t->threads[0].xstate_bv |= OPMASK;
            t->threads[0].live |= OPMASK;
            break;
        case ANOTHER_PROCESS:
            t = cpu_evidence_add_task(&e, 8, "other");
            t->threads = xcalloc(1, sizeof(*t->threads));
            t->thread_count = 1;
            t->threads[0] = (struct cpu_evidence_thread){.tid = 8, .state_known = true};
            break;
        case NO_THREAD:
            t->thread_count = 0;
            break;
        case NO_PROCESS:
            cpu_evidence_done(&e);
            e.complete = true;
            break;
        case DOUBTS:
            break;
        }
        struct verdict v = to_less(&e);
        if (!v.rejected)
            fail_msg("doubt %d was passed over", doubt);
        assert_null(find(&v, VERDICT_FEATURE_UNUSED));
        assert_non_null(find(&v, VERDICT_MISSING_FEATURE));
        verdict_done(&v);
    }
}

/* AVX in use does not stand in the way of AVX-512's going. */
static void classes_are_apart(void **state)
{
    (void)state;
    struct cpu_evidence e = quiet();
    e.tasks[0].isa_used = 3;
    e.tasks[0].registers = CPU_CODE_XMM | CPU_CODE_YMM;
    e.tasks[0].threads[0].xstate_bv |= 4;
    e.tasks[0].threads[0].live |= 4;
    set_active(&e, CPU_FEATURE_AVX2);
    assert_true(evidence_excludes(&e, CPU_FEATURE_AVX512F));
    assert_true(evidence_excludes(&e, CPU_FEATURE_AVX512_VNNI));
    assert_false(evidence_excludes(&e, CPU_FEATURE_AVX));
    assert_false(evidence_excludes(&e, CPU_FEATURE_FMA4));
    assert_false(evidence_excludes(&e, CPU_FEATURE_BMI2));
    struct verdict v = to_less(&e);
    assert_false(v.rejected);
    verdict_done(&v);
}

/* Of these no mark tells, or their lack is silent: no evidence is enough. */
static void some_are_never_let_pass(void **state)
{
    (void)state;
    static const enum cpu_feature_id never[] = {
        CPU_FEATURE_ABM,   CPU_FEATURE_BMI1,   CPU_FEATURE_AES,   CPU_FEATURE_PCLMULQDQ,
        CPU_FEATURE_ADX,   CPU_FEATURE_RDRAND, CPU_FEATURE_GFNI,  CPU_FEATURE_SHA_NI,
        CPU_FEATURE_XSAVE, CPU_FEATURE_XSAVEC, CPU_FEATURE_PKU,   CPU_FEATURE_FSGSBASE,
        CPU_FEATURE_TBM,   CPU_FEATURE_SSE4A,  CPU_FEATURE_SSE2,  CPU_FEATURE_SHSTK,
        CPU_FEATURE_APX,   CPU_FEATURE_LWP,    CPU_FEATURE_RDPID, CPU_FEATURE_MPX,
    };
    struct cpu_evidence e = quiet();
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        if (evidence_excludes(&e, never[i]))
            fail_msg("%s", cpu_features[never[i]].name);
    assert_true(evidence_excludes(&e, CPU_FEATURE_AVX2));
    assert_true(evidence_excludes(&e, CPU_FEATURE_XOP));
    assert_true(evidence_excludes(&e, CPU_FEATURE_SSE4_2));
    assert_true(evidence_excludes(&e, CPU_FEATURE_MOVBE));
    assert_true(evidence_excludes(&e, CPU_FEATURE_AMX_INT8));
    e.tasks[0].amx = CPU_AMX_UNKNOWN;
    assert_false(evidence_excludes(&e, CPU_FEATURE_AMX_INT8));
    e.tasks[0].amx = CPU_AMX_NO;
    e.tasks[0].registers = CPU_CODE_TMM;
    assert_false(evidence_excludes(&e, CPU_FEATURE_AMX_INT8));
    cpu_evidence_done(&e);

    e = quiet(); /* Haswell's LZCNT and TZCNT stay, so the way to a lesser Intel stays closed */
    struct verdict v = relax(&e, "haswell", "lesser-intel");
    assert_true(v.rejected);
    for (size_t i = 0; i < v.reason_count && v.reasons[i].severity == VERDICT_REJECT; i++)
        if (v.reasons[i].code == VERDICT_MISSING_FEATURE)
            assert_false(v.reasons[i].feature == CPU_FEATURE_AVX2);
    verdict_done(&v);
}

/* What the target has stays in the need, with its place in the area. */
static void only_what_the_target_lacks_goes(void **state)
{
    (void)state;
    struct cpu_evidence e = quiet();
    AUTO(cpu_profile) need = sample_profile("zen4");
    AUTO(cpu_profile) same = sample_profile("zen4");
    struct verdict v = {0};
    AUTO(cpu_profile) relaxed = evidence_relax(&e, need, same, "node-c", &v);
    assert_ptr_equal(relaxed, need);
    assert_int_equal(v.reason_count, 0);
    struct cpu_report *report = sample_report("zen4");
    sample_set(report, "avx512_vnni", false);
    AUTO(cpu_profile) target = profile_of(report);
    AUTO(cpu_profile) less = evidence_relax(&e, need, target, "node-c", &v);
    assert_false(cpu_profile_has(less, CPU_FEATURE_AVX512_VNNI));
    assert_true(cpu_profile_has(less, CPU_FEATURE_AVX512F));
    assert_true(cpu_profile_component(less, 5)->enabled);
    assert_int_equal(v.reason_count, 1);
    assert_true(cpu_profile_has(need, CPU_FEATURE_AVX512_VNNI)); /* the need itself is untouched */
    cpu_evidence_done(&e);
    verdict_done(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_process_adds_nothing),
        cmocka_unit_test(granted_amx_is_refused),
        cmocka_unit_test(unknown_amx_is_a_warning_where_there_is_amx),
        cmocka_unit_test(live_registers_need_their_component),
        cmocka_unit_test(live_registers_that_the_need_lacks),
        cmocka_unit_test(small_stacks_are_refused_where_frames_grow),
        cmocka_unit_test(frames_of_a_masked_process_are_its_nodes),
        cmocka_unit_test(frames_shrink_where_components_go),
        cmocka_unit_test(the_smallest_stack_is_named),
        cmocka_unit_test(tiles_do_not_count),
        cmocka_unit_test(shadow_stacks_need_shadow_stacks),
        cmocka_unit_test(a_hole_in_the_mask_is_seen),
        cmocka_unit_test(needed_levels_are_compared),
        cmocka_unit_test(what_was_not_seen_is_told),
        cmocka_unit_test(alone_it_only_adds),
        cmocka_unit_test(unused_features_are_let_pass_and_told),
        cmocka_unit_test(every_doubt_keeps_the_need),
        cmocka_unit_test(classes_are_apart),
        cmocka_unit_test(some_are_never_let_pass),
        cmocka_unit_test(only_what_the_target_lacks_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
