/* SPDX-License-Identifier: Apache-2.0 */
/* test_inspect.c - `inspect` looks at real processes whose use of the CPU is known, and leaves them
 * as they were. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "inspect.h"
#include "inspect_kernel.h"
#include "process.h"

#define THREADS 100

/* Another C library than the system's, where run.sh has put one for CRIU. */
#define OTHER_ROOT   "/opt/cpubroker/criu/usr/lib/x86_64-linux-gnu"
#define OTHER_LOADER OTHER_ROOT "/ld-linux-x86-64.so.2"
#define OWN_LOADER   "/lib64/ld-linux-x86-64.so.2"

#define AVX        (UINT64_C(1) << 2)
#define OPMASK     (UINT64_C(1) << 5)
#define ZMM_HI256  (UINT64_C(1) << 6)
#define HI16_ZMM   (UINT64_C(1) << 7)
#define BEYOND_SSE (~UINT64_C(3))

/* ---- processes to look at */

struct victim {
    pid_t pid;
    int out; /* its stdout */
};

static const char *beside_us(const char *program, char *path, size_t size)
{
    char self[4096] = "";
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        fail_msg("no /proc/self/exe");
    snprintf(path, size, "%s/%s", dirname(self), program);
    return path;
}

static void read_line(int fd, char *line, size_t size)
{
    size_t at = 0;
    while (at + 1 < size && read(fd, line + at, 1) == 1 && line[at] != '\n')
        at++;
    line[at] = '\0';
}

/* Starts argv with one variable more (NULL for none) and waits for its "ready". */
static struct victim start_argv(char *const *argv, const char *variable)
{
    int fds[2];
    char *const env[] = {"PATH=/usr/bin:/bin", (char *)variable, NULL};
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    struct victim victim = {.pid = fork(), .out = fds[0]};
    if (victim.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* when a test fails */
        dup2(fds[1], 1);
        execve(argv[0], argv, env);
        fprintf(stderr, "cannot execute %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(fds[1]);
    char line[32];
    read_line(victim.out, line, sizeof(line));
    assert_string_equal(line, "ready");
    return victim;
}

static struct victim start_env(const char *program, const char *mode, const char *number,
                               const char *variable)
{
    char path[4096];
    char *const argv[] = {(char *)beside_us(program, path, sizeof(path)), (char *)mode,
                          (char *)number, NULL};
    return start_argv(argv, variable);
}

static struct victim start(const char *mode, const char *number)
{
    return start_env("live", mode, number, NULL);
}

/* Its wait status after a signal. */
static int end(struct victim *victim, int number)
{
    int status = 0;
    kill(victim->pid, number);
    assert_int_equal(waitpid(victim->pid, &status, 0), victim->pid);
    close(victim->out);
    return status;
}

static char state_of(pid_t pid)
{
    struct process_stat stat;
    assert_int_equal(process_stat_read(pid, &stat, NULL), 0);
    return stat.state;
}

static void wait_for_state(pid_t pid, char state)
{
    for (unsigned i = 0; i < 2000 && state_of(pid) != state; i++)
        process_sleep_ms(1);
    assert_int_equal(state_of(pid), state);
}

/* ---- what was seen */

static struct cpu_evidence look(pid_t pid)
{
    struct cpu_evidence evidence;
    struct error err = {0};
    if (inspect_tree(pid, &evidence, &err) < 0)
        fail_msg("inspect_tree: %s", err.message);
    assert_int_equal(evidence.pid, pid);
    assert_int_not_equal(evidence.task_count, 0);
    assert_int_equal(evidence.tasks[0].pid, pid);
    assert_int_equal(process_tracer(pid), 0);
    return evidence;
}

static const char *find_unknown(const struct cpu_evidence_task *task, const char *text)
{
    for (size_t i = 0; i < task->unknown_count; i++)
        if (strstr(task->unknown[i], text))
            return task->unknown[i];
    return NULL;
}

static bool is_active(const struct cpu_evidence_task *task, enum cpu_feature_id id)
{
    return task->active[cpu_features[id].word] >> cpu_features[id].bit & 1;
}

static uint64_t live_of_all(const struct cpu_evidence_task *task)
{
    uint64_t live = 0;
    for (size_t i = 0; i < task->thread_count; i++) {
        if (!task->threads[i].state_known)
            fail_msg("thread %d: %s", (int)task->threads[i].tid,
                     task->unknown_count ? task->unknown[0] : "nobody says why");
        live |= task->threads[i].live;
    }
    return live;
}

/* ---- registers */

static void registers_in_use_are_seen(void **state)
{
    (void)state;
    struct victim victim = start("registers", NULL);
    struct cpu_evidence e = look(victim.pid);
    assert_int_equal(e.tasks[0].thread_count, 2);
    const struct cpu_evidence_thread *holder = &e.tasks[0].threads[1];
    uint64_t expected = __builtin_cpu_supports("avx512bw") ? AVX | OPMASK | ZMM_HI256 | HI16_ZMM
                        : __builtin_cpu_supports("avx")    ? AVX
                                                           : 0;
    assert_true(holder->state_known);
    assert_int_equal(holder->live & expected, expected);
    assert_int_equal(holder->xstate_bv & expected, expected);
    /* The other thread has none of the upper halves. */
    assert_int_equal(e.tasks[0].threads[0].live & ZMM_HI256, 0);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void a_program_without_vectors_has_none(void **state)
{
    (void)state;
    struct victim victim = start_env("live_marked", NULL, NULL, NULL);
    struct cpu_evidence e = look(victim.pid);
    assert_int_equal(live_of_all(&e.tasks[0]) & BEYOND_SSE, 0);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void every_thread_is_seen(void **state)
{
    (void)state;
    struct victim victim = start("threads", "100");
    struct cpu_evidence e;
    struct inspect_cost cost;
    assert_int_equal(inspect_processes(victim.pid, NULL, 60000, &e, &cost, NULL), 0);
    assert_true(e.complete);
    assert_int_equal(e.tasks[0].thread_count, THREADS + 1);
    assert_int_equal(cost.threads, THREADS + 1);
    for (size_t i = 0; i < e.tasks[0].thread_count; i++) {
        char path[64];
        assert_true(e.tasks[0].threads[i].state_known);
        snprintf(path, sizeof(path), "/proc/%d/task/%d", victim.pid,
                 (int)e.tasks[0].threads[i].tid);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(process_tracer((pid_t)e.tasks[0].threads[i].tid), 0);
    }
    print_message("100 threads asleep: longest stop %lu us, all stops %lu us, the look %lu us\n",
                  cost.longest_stop_us, cost.total_stop_us, cost.elapsed_us);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* ---- what only the kernel knows */

static bool kernel_can_be_asked(void)
{
    struct inspect_kernel *kernel = NULL;
    bool can = inspect_kernel_new(&kernel, NULL) == 0;
    inspect_kernel_free(kernel);
    return can;
}

static void alternate_stacks_are_measured(void **state)
{
    (void)state;
    struct victim victim = start("altstack", "24576");
    struct cpu_evidence e = look(victim.pid);
    struct cpu_evidence_summary summary;
    cpu_evidence_summarize(&e, &summary);
    assert_int_equal(e.tasks[0].thread_count, 2);
    if (kernel_can_be_asked()) {
        assert_int_equal(e.tasks[0].threads[0].altstack_bytes, 0);
        assert_int_equal(e.tasks[0].threads[1].altstack_bytes, 24576);
        assert_int_equal(summary.smallest_altstack_bytes, 24576);
        assert_true(summary.altstack_known);
        assert_null(find_unknown(&e.tasks[0], "altstack_bytes"));
    } else {
        assert_int_equal(e.tasks[0].threads[1].altstack_bytes, -1);
        assert_false(summary.altstack_known);
        assert_non_null(find_unknown(&e.tasks[0], "altstack_bytes"));
    }
    assert_int_equal(e.tasks[0].minsigstksz, (int64_t)getauxval(51)); /* AT_MINSIGSTKSZ */
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* The kernel's record is found at the right place: it agrees with what the kernel says of
 * ourselves when we ask. */
static void the_kernels_record_is_the_threads(void **state)
{
    (void)state;
    AUTO(inspect_kernel) kernel = NULL;
    struct inspect_kernel_thread thread;
    struct error err = {0};
    if (inspect_kernel_new(&kernel, &err) < 0) {
        assert_true(err.kind == ERROR_FORBIDDEN || err.kind == ERROR_FAILED ||
                    err.kind == ERROR_NOT_FOUND);
        assert_int_not_equal(strlen(err.message), 0);
        return;
    }
    uint64_t permission = 0;
    stack_t stack = {.ss_size = 54321, .ss_sp = malloc(54321)}, none = {.ss_flags = SS_DISABLE};
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    assert_int_equal(inspect_kernel_read(kernel, (pid_t)syscall(SYS_gettid), &thread, &err), 0);
    assert_int_equal(thread.altstack_bytes, 54321);
    sigaltstack(&none, NULL);
    free(stack.ss_sp);
    if (syscall(SYS_arch_prctl, 0x1022, &permission) == 0) { /* ARCH_GET_XCOMP_PERM */
        assert_true(thread.permission_known);
        /* The record holds supervisor components as well. */
        assert_int_equal(thread.permission & permission, permission);
        assert_int_equal(thread.permission & UINT64_C(0x602ff) & ~permission, 0);
        assert_int_not_equal(permission, 0);
    }
    assert_int_equal(inspect_kernel_read(kernel, 0x3fffff, &thread, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void amx_is_answered(void **state)
{
    (void)state;
    struct victim victim = start("threads", "0");
    struct cpu_evidence e = look(victim.pid);
    uint64_t supported = 0;
    bool tiles = syscall(SYS_arch_prctl, 0x1021, &supported) == 0 && (supported >> 18 & 1);
    if (!tiles || kernel_can_be_asked())
        assert_int_equal(e.tasks[0].amx, CPU_AMX_NO);
    else
        assert_int_equal(e.tasks[0].amx, CPU_AMX_UNKNOWN);
    assert_int_equal(e.tasks[0].shadow_stack, 0);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* ---- the C library and the code */

static void glibc_tells_what_is_active(void **state)
{
    (void)state;
    struct victim victim = start("threads", "0");
    struct cpu_evidence e = look(victim.pid);
    const struct cpu_evidence_task *task = &e.tasks[0];
    assert_true(task->glibc_known);
    assert_non_null(task->glibc_version);
    assert_true(strncmp(task->glibc_version, "2.", 2) == 0);
    assert_true(is_active(task, CPU_FEATURE_SSE2));
    assert_int_equal(is_active(task, CPU_FEATURE_AVX2), __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(is_active(task, CPU_FEATURE_AVX512F), __builtin_cpu_supports("avx512f") != 0);
    assert_int_equal(is_active(task, CPU_FEATURE_FMA4), __builtin_cpu_supports("fma4") != 0);
    assert_null(task->glibc_tunables);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void tunables_are_seen_and_obeyed(void **state)
{
    (void)state;
    struct victim victim = start_env("live", "threads", "0",
                                     "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL");
    struct cpu_evidence e = look(victim.pid);
    const struct cpu_evidence_task *task = &e.tasks[0];
    assert_true(task->glibc_known);
    assert_false(is_active(task, CPU_FEATURE_AVX2));
    assert_false(is_active(task, CPU_FEATURE_AVX512F));
    assert_true(is_active(task, CPU_FEATURE_SSE2));
    assert_string_equal(task->glibc_tunables, "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL");
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void check_loader(const char *loader, const char *library_path, const char *version)
{
    char path[4096];
    char *const argv[] = {(char *)loader,
                          "--library-path",
                          (char *)library_path,
                          (char *)beside_us("live", path, sizeof(path)),
                          "threads",
                          "1",
                          NULL};
    struct victim victim = start_argv(argv, NULL);
    struct cpu_evidence e = look(victim.pid);
    assert_true(e.tasks[0].glibc_known);
    assert_int_equal(is_active(&e.tasks[0], CPU_FEATURE_AVX2), __builtin_cpu_supports("avx2") != 0);
    assert_true(is_active(&e.tasks[0], CPU_FEATURE_SSE2));
    if (version)
        assert_string_equal(e.tasks[0].glibc_version, version);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* The loader is then the program itself; and Debian 13's is another version. */
static void a_loader_run_as_a_program_is_found(void **state)
{
    (void)state;
    check_loader(OWN_LOADER, "/lib/x86_64-linux-gnu", NULL);
    if (access(OTHER_LOADER, X_OK) == 0)
        check_loader(OTHER_LOADER, OTHER_ROOT, "2.41");
}

static void a_static_program_keeps_its_secret(void **state)
{
    (void)state;
    struct victim victim = start_env("live_static", "threads", "1", NULL);
    struct cpu_evidence e = look(victim.pid);
    const struct cpu_evidence_task *task = &e.tasks[0];
    struct cpu_evidence_summary summary;
    cpu_evidence_summarize(&e, &summary);
    assert_false(task->glibc_known);
    assert_false(summary.active_known);
    assert_non_null(find_unknown(task, "glibc: it is a static program"));
    assert_int_equal(task->thread_count, 2);
    live_of_all(task); /* all known */
    assert_false(task->code_marked);
    assert_non_null(strstr(task->unmarked_code, "/live_static"));
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void marks_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *program;
        unsigned isa_used;
        uint32_t registers;
    } cases[] = {
        {"live_marked",        1, 0                                         },
        {"live_marked_avx",    3, CPU_CODE_XMM | CPU_CODE_YMM               },
        {"live_marked_avx512", 4, CPU_CODE_XMM | CPU_CODE_YMM | CPU_CODE_ZMM},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct victim victim = start_env(cases[i].program, NULL, NULL, NULL);
        struct cpu_evidence e = look(victim.pid);
        assert_true(e.tasks[0].code_marked);
        assert_null(e.tasks[0].unmarked_code);
        assert_int_equal(e.tasks[0].isa_used, cases[i].isa_used);
        assert_int_equal(e.tasks[0].registers & ~(uint32_t)CPU_CODE_X86, cases[i].registers);
        assert_int_equal(e.tasks[0].isa_needed, 2);
        cpu_evidence_done(&e);
        end(&victim, SIGKILL);
    }
}

static void code_without_a_file_is_told(void **state)
{
    (void)state;
    struct victim victim = start_env("live_marked_jit", NULL, NULL, NULL);
    struct cpu_evidence e = look(victim.pid);
    assert_false(e.tasks[0].code_marked);
    assert_int_equal(e.tasks[0].isa_used, 0);
    assert_string_equal(e.tasks[0].unmarked_code, "memory without a file");
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* ---- nothing is disturbed */

static void looks(pid_t pid, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct cpu_evidence e = look(pid);
        cpu_evidence_done(&e);
    }
}

static void sleeps_are_not_cut_short(void **state)
{
    (void)state;
    struct victim victim = start("sleep", NULL);
    looks(victim.pid, 60);
    int status = end(&victim, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void computations_come_out_the_same(void **state)
{
    (void)state;
    struct victim victim = start("compute", "20");
    struct cpu_evidence e;
    struct inspect_cost cost = {0};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(inspect_processes(victim.pid, NULL, 60000, &e, &cost, NULL), 0);
        assert_int_equal(e.tasks[0].thread_count, 21);
        live_of_all(&e.tasks[0]);
        cpu_evidence_done(&e);
    }
    print_message("20 threads computing: longest stop %lu us, all stops %lu us, the look %lu us\n",
                  cost.longest_stop_us, cost.total_stop_us, cost.elapsed_us);
    assert_int_equal(state_of(victim.pid), 'S'); /* its first thread waits */
    int status = end(&victim, SIGKILL);
    assert_true(WIFSIGNALED(status)); /* and did not exit with 3 before */
}

static void signals_are_not_lost(void **state)
{
    (void)state;
    enum { SENT = 300000 }; /* so many that a look often meets one that is being delivered */
    struct victim victim = start("signals", NULL);
    pid_t sender = fork();
    if (sender == 0) {
        for (unsigned i = 0; i < SENT; i++) {
            while (sigqueue(victim.pid, SIGRTMIN, (union sigval){.sival_int = (int)i}) < 0)
                sched_yield();
        }
        _exit(0);
    }
    int status = 0;
    while (waitpid(sender, &status, WNOHANG) == 0)
        looks(victim.pid, 1);
    kill(victim.pid, SIGTERM);
    char line[32];
    read_line(victim.out, line, sizeof(line));
    assert_int_equal(strtol(line, NULL, 10), SENT);
    status = end(&victim, 0);
    assert_true(WIFEXITED(status));
}

static void a_stopped_process_stays_stopped(void **state)
{
    (void)state;
    struct victim victim = start("threads", "3");
    kill(victim.pid, SIGSTOP);
    wait_for_state(victim.pid, 'T');
    struct cpu_evidence e = look(victim.pid);
    live_of_all(&e.tasks[0]);
    cpu_evidence_done(&e);
    wait_for_state(victim.pid, 'T');
    process_sleep_ms(20);
    assert_int_equal(state_of(victim.pid), 'T');
    kill(victim.pid, SIGCONT);
    wait_for_state(victim.pid, 'S');
    end(&victim, SIGKILL);
}

/* ---- what cannot be seen */

static void another_tracer_is_named_and_left_alone(void **state)
{
    (void)state;
    struct victim victim = start("threads", "0");
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t tracer = fork();
    if (tracer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "debugger");
        char ok = ptrace(PTRACE_SEIZE, victim.pid, NULL, NULL) == 0 ? 'y' : 'n';
        if (write(fds[1], &ok, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char ok = 'n';
    assert_int_equal(read(fds[0], &ok, 1), 1);
    assert_int_equal(ok, 'y');

    struct cpu_evidence e;
    struct cpu_evidence_summary summary;
    assert_int_equal(inspect_tree(victim.pid, &e, NULL), 0);
    cpu_evidence_summarize(&e, &summary);
    const char *why = find_unknown(&e.tasks[0], "xstate_bv");
    char expected[128];
    snprintf(expected, sizeof(expected),
             "xstate_bv: thread %d is traced by 'debugger' (process %d)", victim.pid, tracer);
    assert_non_null(why);
    assert_string_equal(why, expected);
    assert_false(e.tasks[0].threads[0].state_known);
    assert_false(summary.state_known);
    assert_true(e.tasks[0].glibc_known); /* needs no stop */
    assert_int_equal(process_tracer(victim.pid), tracer);
    cpu_evidence_done(&e);
    kill(tracer, SIGKILL);
    waitpid(tracer, NULL, 0);
    close(fds[0]);
    close(fds[1]);
    end(&victim, SIGKILL);
}

/* A parent in vfork(2) cannot be stopped before its child is through; then nothing may be left of
 * the attempt. */
static void what_does_not_stop_is_let_go(void **state)
{
    (void)state;
    struct victim victim = start("vfork", NULL);
    wait_for_state(victim.pid, 'D');
    int64_t before_ms = process_now_ms();
    struct cpu_evidence e = look(victim.pid);
    assert_true(process_now_ms() - before_ms < 2000);
    assert_int_equal(e.task_count, 2);
    assert_non_null(find_unknown(&e.tasks[0], "did not stop within 1"));
    assert_false(e.tasks[0].threads[0].state_known);
    live_of_all(&e.tasks[1]); /* its child could be stopped */
    pid_t child = (pid_t)e.tasks[1].pid;
    cpu_evidence_done(&e);
    kill(child, SIGKILL);
    char line[32];
    read_line(victim.out, line, sizeof(line)); /* the parent goes on by itself */
    assert_int_equal(strncmp(line, "back ", 5), 0);
    end(&victim, SIGKILL);
}

static unsigned count_in_state(pid_t root, char state)
{
    struct process_list tree = {0};
    struct process_stat stat;
    unsigned count = 0;
    assert_int_equal(process_list_tree(root, true, &tree, NULL), 0);
    for (size_t i = 0; i < tree.count; i++)
        count += process_stat_read(tree.pids[i], &stat, NULL) == 0 && stat.state == state;
    free(tree.pids);
    return count;
}

/* A process that did not stop in time, and does while others are being looked at, runs on at once
 * and not only at the end. */
static void what_stops_late_is_let_go_at_once(void **state)
{
    (void)state;
    char path[4096];
    autofree char *script = NULL;
    beside_us("live", path, sizeof(path));
    script = xasprintf("%s vfork 500 & exec 3>&1 >/dev/null; "
                       "for i in 1 2 3 4 5 6 7 8 9 10; do %s vfork & done; echo ready >&3; wait",
                       path, path);
    char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct victim victim = start_argv(argv, NULL); /* the shell's word or that of the first */
    while (count_in_state(victim.pid, 'D') < 10)
        process_sleep_ms(1);
    struct cpu_evidence e = look(victim.pid);
    int64_t end_ms = process_now_ms();
    char line[64] = "";
    while (strncmp(line, "back ", 5) != 0)
        read_line(victim.out, line, sizeof(line));
    int64_t back_ms = strtoll(line + 5, NULL, 10);
    if (back_ms > end_ms - 200)
        fail_msg("it came back %d ms before the look ended", (int)(end_ms - back_ms));
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void time_is_bounded(void **state)
{
    (void)state;
    struct victim victim = start("threads", "50");
    struct cpu_evidence e;
    struct cpu_evidence_summary summary;
    assert_int_equal(inspect_processes(victim.pid, NULL, 0, &e, NULL, NULL), 0);
    cpu_evidence_summarize(&e, &summary);
    assert_false(e.complete);
    assert_false(summary.state_known);
    assert_int_equal(summary.amx, CPU_AMX_UNKNOWN);
    assert_non_null(find_unknown(&e.tasks[0], "the time was over"));
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void the_whole_tree_is_seen(void **state)
{
    (void)state;
    struct victim victim = start("child", NULL);
    struct cpu_evidence e = look(victim.pid);
    assert_int_equal(e.task_count, 2);
    assert_string_equal(e.tasks[0].comm, "live");
    assert_string_equal(e.tasks[1].comm, "a (child)?"); /* a newline is no text */
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

/* What left the tree when its parent ended is of the workload still. */
static void others_are_looked_at_as_well(void **state)
{
    (void)state;
    struct victim victim = start("threads", "0"), other = start("child", NULL);
    const pid_t also[] = {other.pid, victim.pid, 0x3fffff, 0};
    struct cpu_evidence e;
    assert_int_equal(inspect_processes(victim.pid, also, 60000, &e, NULL, NULL), 0);
    assert_int_equal(e.task_count, 3);
    assert_int_equal(e.pid, victim.pid);
    assert_int_equal(e.tasks[0].pid, victim.pid);
    assert_int_equal(e.tasks[1].pid, other.pid);
    assert_string_equal(e.tasks[2].comm, "a (child)?");
    assert_true(e.complete);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
    end(&other, SIGKILL);
}

static void a_process_without_its_first_thread_is_seen(void **state)
{
    (void)state;
    struct victim victim = start("leaderless", NULL);
    wait_for_state(victim.pid, 'Z');
    struct cpu_evidence e = look(victim.pid);
    assert_int_equal(e.tasks[0].thread_count, 1);
    assert_true(e.tasks[0].threads[0].tid != victim.pid);
    assert_true(e.tasks[0].threads[0].state_known);
    assert_true(e.complete);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

static void what_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct cpu_evidence e;
    struct error err = {0};
    pid_t zombie = fork();
    if (zombie == 0)
        _exit(0);
    wait_for_state(zombie, 'Z');
    assert_int_equal(inspect_tree(zombie, &e, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "ended"));
    waitpid(zombie, NULL, 0);
    assert_int_equal(inspect_tree(zombie, &e, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(inspect_tree(0, &e, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

/* Processes that come and go under the look neither end it nor stay traced. */
static void a_busy_tree_is_survived(void **state)
{
    (void)state;
    char *const argv[] = {"/bin/sh", "-c",
                          "echo ready; while :; do /bin/true; /bin/sh -c /bin/true & wait; done",
                          NULL};
    struct victim victim = start_argv(argv, NULL);
    for (unsigned i = 0; i < 30; i++) {
        struct cpu_evidence e = look(victim.pid);
        cpu_evidence_done(&e);
    }
    end(&victim, SIGKILL);
}

static void the_message_survives_the_wire(void **state)
{
    (void)state;
    struct victim victim = start("altstack", "24576");
    struct cpu_evidence e = look(victim.pid);
    autojson *json = cpu_evidence_to_json(&e);
    autofree char *text = json_text(json);
    autojson *again = NULL;
    AUTO(cpu_evidence) parsed = NULL;
    struct error err = {0};
    assert_int_equal(json_parse(text, strlen(text), &again, &err), 0);
    if (cpu_evidence_parse(again, &parsed, &err) < 0)
        fail_msg("%s", err.message);
    autojson *second = cpu_evidence_to_json(parsed);
    autofree char *second_text = json_text(second);
    assert_string_equal(text, second_text);
    cpu_evidence_done(&e);
    end(&victim, SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_in_use_are_seen),
        cmocka_unit_test(a_program_without_vectors_has_none),
        cmocka_unit_test(every_thread_is_seen),
        cmocka_unit_test(alternate_stacks_are_measured),
        cmocka_unit_test(the_kernels_record_is_the_threads),
        cmocka_unit_test(amx_is_answered),
        cmocka_unit_test(glibc_tells_what_is_active),
        cmocka_unit_test(tunables_are_seen_and_obeyed),
        cmocka_unit_test(a_loader_run_as_a_program_is_found),
        cmocka_unit_test(a_static_program_keeps_its_secret),
        cmocka_unit_test(marks_are_read),
        cmocka_unit_test(code_without_a_file_is_told),
        cmocka_unit_test(sleeps_are_not_cut_short),
        cmocka_unit_test(computations_come_out_the_same),
        cmocka_unit_test(signals_are_not_lost),
        cmocka_unit_test(a_stopped_process_stays_stopped),
        cmocka_unit_test(another_tracer_is_named_and_left_alone),
        cmocka_unit_test(what_does_not_stop_is_let_go),
        cmocka_unit_test(what_stops_late_is_let_go_at_once),
        cmocka_unit_test(time_is_bounded),
        cmocka_unit_test(the_whole_tree_is_seen),
        cmocka_unit_test(others_are_looked_at_as_well),
        cmocka_unit_test(a_process_without_its_first_thread_is_seen),
        cmocka_unit_test(what_is_not_there_is_an_error),
        cmocka_unit_test(a_busy_tree_is_survived),
        cmocka_unit_test(the_message_survives_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
