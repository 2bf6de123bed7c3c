/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_tracee.c - real children, stopped and made to do system calls: they go on as if nothing
 * had been. And gaps between mappings, of which none is real. */
#include "cmocka_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mask_maps.h"
#include "mask_tracee.h"
#include "process.h"

/* ---- children */

static pid_t child_of(int (*run)(int in, int out), int *ret_in, int *ret_out)
{
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(in[1]);
        close(out[0]);
        _exit(run(in[0], out[1]));
    }
    close(in[0]);
    close(out[1]);
    *ret_in = in[1];
    *ret_out = out[0];
    return pid;
}

static void wait_until_asleep(pid_t pid)
{
    struct process_stat stat = {0};
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(process_stat_read(pid, &stat, NULL), 0);
        if (stat.state == 'S')
            return;
        process_sleep_ms(1);
    }
    fail_msg("the child does not sleep");
}

/* Seized, and stopped in whatever it does. */
static struct mask_tracee stop(pid_t pid)
{
    struct mask_tracee tracee;
    int status = 0;
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(mask_tracee_open(pid, &tracee, NULL), 0);
    return tracee;
}

static int64_t call(struct mask_tracee *tracee, const struct mask_call *what)
{
    struct error err = {0};
    int64_t result = 0;
    if (mask_tracee_call(tracee, what, &result, &err) < 0)
        fail_msg("%s", err.message);
    return result;
}

/* Lets it run to its end; its exit code. Not detached before: that makes the kernel look at the
 * registers once more, as nothing does where a tracer stays. */
static int finish(struct mask_tracee *tracee)
{
    int status = 0;
    assert_int_equal(ptrace(PTRACE_CONT, tracee->tid, NULL, NULL), 0);
    mask_tracee_close(tracee);
    assert_int_equal(waitpid(tracee->tid, &status, __WALL), tracee->tid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const struct mask_call getpid_call = {.number = SYS_getpid};

/* A read that a stop cuts short is begun anew by the kernel (-ERESTARTSYS). */
static int reads(int in, int out)
{
    char byte = 0;
    (void)out;
    return read(in, &byte, 1) == 1 && byte == 'x' ? 11 : 1;
}

static void a_read_that_was_cut_short_goes_on(void **state)
{
    (void)state;
    int in, out;
    pid_t pid = child_of(reads, &in, &out);
    wait_until_asleep(pid);
    struct mask_tracee tracee = stop(pid);
    for (int i = 0; i < 3; i++)
        assert_int_equal(call(&tracee, &getpid_call), pid);
    assert_int_equal(write(in, "x", 1), 1);
    assert_int_equal(finish(&tracee), 11);
    close(in);
    close(out);
}

/* A relative sleep is taken up by restart_syscall (-ERESTART_RESTARTBLOCK), for what is left. */
static int sleeps(int in, int out)
{
    struct timespec nap = {.tv_nsec = 800000000}, left = {0};
    int64_t start_ms = process_now_ms();
    (void)in;
    (void)out;
    int rc = nanosleep(&nap, &left);
    int64_t took_ms = process_now_ms() - start_ms;
    return rc == 0 && took_ms >= 800 && took_ms < 1200 ? 12 : 1;
}

static void a_sleep_that_was_cut_short_lasts_as_long_as_it_should(void **state)
{
    (void)state;
    int in, out;
    pid_t pid = child_of(sleeps, &in, &out);
    wait_until_asleep(pid);
    process_sleep_ms(500);
    struct mask_tracee tracee = stop(pid);
    assert_int_equal(call(&tracee, &getpid_call), pid);
    assert_int_equal(finish(&tracee), 12);
    close(in);
    close(out);
}

/* In the middle of its own code there is no system call to be borrowed but the vdso's. */
static int spins(int in, int out)
{
    (void)in;
    (void)out;
    register uint64_t a __asm__("r12") = 0x1234567890abcdef;
    uint64_t counted = 0;
    volatile int *go = mmap((void *)0x60000000, 4096, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    while (!*go) {
        __asm__ volatile("" : "+r"(a));
        counted++;
    }
    return a == 0x1234567890abcdef && counted ? 13 : 1;
}

static void code_of_its_own_goes_on_with_its_registers(void **state)
{
    (void)state;
    int in, out, one = 1;
    pid_t pid = child_of(spins, &in, &out);
    process_sleep_ms(50);
    struct mask_tracee tracee = stop(pid);
    struct user_regs_struct before, after;
    assert_int_equal(mask_tracee_registers(&tracee, &before, NULL), 0);
    assert_int_equal(call(&tracee, &getpid_call), pid);
    assert_int_equal(mask_tracee_registers(&tracee, &after, NULL), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(mask_tracee_write(&tracee, 0x60000000, &one, sizeof(one), NULL), 0);
    assert_int_equal(finish(&tracee), 13);
    close(in);
    close(out);
}

/* A page that the child maps and may not write is written from outside; errors come as numbers. */
static void memory_is_mapped_and_written_from_outside(void **state)
{
    (void)state;
    int in, out;
    pid_t pid = child_of(reads, &in, &out);
    wait_until_asleep(pid);
    struct mask_tracee tracee = stop(pid);
    const struct mask_call map = {
        SYS_mmap,
        {0x50000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
          (uint64_t)-1, 0}
    };
    char text[8] = "";
    struct error err = {0};
    assert_int_equal(call(&tracee, &map), 0x50000000);
    assert_int_equal(call(&tracee, &map), -EEXIST);
    assert_int_equal(mask_tracee_write(&tracee, 0x50000ff8, "written", 8, NULL), 0);
    assert_int_equal(mask_tracee_read(&tracee, 0x50000ff8, text, 8, NULL), 0);
    assert_string_equal(text, "written");
    assert_int_equal(mask_tracee_write(&tracee, 0x50000ffc, "written", 8, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_int_equal(write(in, "x", 1), 1);
    assert_int_equal(finish(&tracee), 11);
    close(in);
    close(out);
}

/* A signal that comes in between waits until the call is over, and comes then. */
static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
    (void)signal;
    signals++;
}

static int counts(int in, int out)
{
    signal(SIGUSR1, count_signal); /* restarts */
    char byte;
    if (write(out, "r", 1) != 1 || read(in, &byte, 1) != 1)
        return 1;
    return signals == 1 ? 14 : 2;
}

static void a_signal_waits_for_the_call(void **state)
{
    (void)state;
    int in, out;
    char byte;
    pid_t pid = child_of(counts, &in, &out);
    assert_int_equal(read(out, &byte, 1), 1);
    wait_until_asleep(pid);
    struct mask_tracee tracee = stop(pid);
    kill(pid, SIGUSR1);
    assert_int_equal(call(&tracee, &getpid_call), pid);
    int status = 0;
    assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_int_equal(status >> 8, SIGUSR1);
    assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, SIGUSR1), 0);
    assert_int_equal(write(in, "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_int_equal(WEXITSTATUS(status), 14);
    mask_tracee_close(&tracee);
    close(in);
    close(out);
}

static void one_that_was_killed_is_gone(void **state)
{
    (void)state;
    int in, out, status = 0;
    struct error err = {0};
    int64_t result = 0;
    pid_t pid = child_of(reads, &in, &out);
    wait_until_asleep(pid);
    struct mask_tracee tracee = stop(pid);
    kill(pid, SIGKILL);
    assert_int_equal(mask_tracee_call(&tracee, &getpid_call, &result, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(waitpid(pid, &status, __WALL), pid); /* its end is left to be waited for */
    assert_true(WIFSIGNALED(status));
    mask_tracee_close(&tracee);
    close(in);
    close(out);
}

/* ---- gaps */

#define MIB 0x100000UL
#define GIB 0x40000000UL

static void gaps_are_near_and_below(void **state)
{
    (void)state;
    static const struct {
        struct mask_mapping mappings[4];
        size_t count, of; /* whose neighbourhood */
        uint64_t expected;
    } cases[] = {
  /* below the mapping, a page away */
        {{{.start = 0x555500000000, .end = 0x555500001000, .name = ""}},
         1,                                                                                       0,
         0x555500000000 - 4096 - 65536                                                                                           },
 /* no room directly below: below what lies there */
        {{{.start = 0x555500000000, .end = 0x555500001000, .name = ""},
          {.start = 0x555500010000, .end = 0x555500020000, .name = ""}},
         2,                                                                                       1,
         0x555500000000 - 4096 - 65536                                                                                           },
 /* nothing but the null page below: above, as far from the heap as a jump reaches */
        {{{.start = 0x10000, .end = 0x20000, .name = ""}},                                     1, 0, 0x10000 + MASK_REACH - 65536},
 /* the gap below the stack is the stack's */
        {{{.start = 0x10000, .end = 0x20000, .name = ""},
          {.start = 0x20000 + 4 * MIB, .end = 0x20000 + 5 * MIB, .name = "[stack]"}},
         2,                                                                                       0,
         0x10000 + MASK_REACH - 65536                                                                                            },
 /* everything within reach is taken */
        {{{.start = 0x10000, .end = 0x10000 + 3 * GIB, .name = ""},
          {.start = 0x10000 + 3 * GIB, .end = 0x20000 + 3 * GIB, .name = ""},
          {.start = 0x20000 + 3 * GIB, .end = 0x20000 + 6 * GIB, .name = ""}},
         3,                                                                                       1,
         0                                                                                                                       },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct mask_mapping mappings[4];
        memcpy(mappings, cases[i].mappings, sizeof(mappings));
        const struct mask_maps maps = {.mappings = mappings, .count = cases[i].count};
        const struct mask_mapping *m = &mappings[cases[i].of];
        assert_int_equal(mask_maps_gap(&maps, m->start, m->end, 65536), cases[i].expected);
    }
}

static void our_own_mappings_are_read(void **state)
{
    (void)state;
    AUTO(mask_maps) maps = NULL;
    struct error err = {0};
    if (mask_maps_read(getpid(), &maps, &err) < 0)
        fail_msg("%s", err.message);
    uint64_t here = (uint64_t)(uintptr_t)our_own_mappings_are_read;
    bool found = false;
    for (size_t i = 0; i < maps->count; i++) {
        const struct mask_mapping *m = &maps->mappings[i];
        if (here < m->start || here >= m->end)
            continue;
        found = m->executable && !m->writable && !m->shared && m->inode &&
                strstr(m->name, "test_mask_tracee");
    }
    assert_true(found);
    assert_non_null(mask_maps_named(maps, "[stack]"));
    assert_null(mask_maps_named(maps, "[nothing]"));
    assert_int_equal(mask_maps_read(1 << 30, &maps, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_was_cut_short_goes_on),
        cmocka_unit_test(a_sleep_that_was_cut_short_lasts_as_long_as_it_should),
        cmocka_unit_test(code_of_its_own_goes_on_with_its_registers),
        cmocka_unit_test(memory_is_mapped_and_written_from_outside),
        cmocka_unit_test(a_signal_waits_for_the_call),
        cmocka_unit_test(one_that_was_killed_is_gone),
        cmocka_unit_test(gaps_are_near_and_below),
        cmocka_unit_test(our_own_mappings_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
