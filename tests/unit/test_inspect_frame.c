/* SPDX-License-Identifier: Apache-2.0 */
/* test_inspect_frame.c - whether threads of real processes are seen to be within signal handlers,
 * and that what handlers leave behind is not taken for one. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "inspect.h"
#include "inspect_private.h"

#define STACK_BYTES 65536

static int report_fd;
static sigjmp_buf way_out;

static void say_ready(void)
{
    if (write(report_fd, "r", 1) != 1)
        _exit(9);
}

static void stay(int number)
{
    (void)number;
    say_ready();
    for (;;)
        pause();
}

static void pass(int number)
{
    (void)number;
}

static void jump(int number)
{
    (void)number;
    siglongjmp(way_out, 1);
}

static void handle(int number, void (*handler)(int), int flags)
{
    const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

/* Works deep in its own stack, as whoever interrupts it finds it. */
__attribute__((noinline)) static void go_deep(void (*then)(void))
{
    volatile char room[20000];
    for (size_t i = 0; i < sizeof(room); i += 512)
        room[i] = (char)i;
    then();
    room[0] = 1;
}

static void rest(void)
{
    stay(0);
}

static void raise_it(void)
{
    raise(SIGUSR1);
}

static void raise_second(int number)
{
    (void)number;
    raise(SIGUSR2); /* whose handler rests */
}

static void within_one(void)
{
    handle(SIGUSR1, stay, 0);
    raise_it();
}

static void deep_within_one(void)
{
    handle(SIGUSR1, stay, 0);
    go_deep(raise_it);
}

static void within_one_on_its_stack(void)
{
    handle(SIGUSR1, stay, SA_ONSTACK);
    raise_it();
}

static void within_one_in_one(void)
{
    handle(SIGUSR1, raise_second, SA_ONSTACK);
    handle(SIGUSR2, stay, SA_ONSTACK);
    raise_it();
}

static void within_none(void)
{
    handle(SIGUSR1, pass, 0);
    rest();
}

static void behind_one(void)
{
    handle(SIGUSR1, pass, 0);
    go_deep(raise_it);
    rest();
}

static void behind_one_on_its_stack(void)
{
    handle(SIGUSR1, pass, SA_ONSTACK);
    raise_it();
    rest();
}

static void out_of_one_on_its_stack(void)
{
    handle(SIGUSR1, jump, SA_ONSTACK);
    if (sigsetjmp(way_out, 1) == 0)
        raise_it();
    rest();
}

static int seen_of(void (*life)(void))
{
    int fds[2];
    char byte = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const stack_t alternate = {.ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES};
        report_fd = fds[1];
        sigaltstack(&alternate, NULL);
        life();
        _exit(8);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    struct cpu_evidence evidence;
    struct cpu_evidence_summary summary;
    struct error err = {0};
    if (inspect_tree(pid, &evidence, &err) < 0)
        fail_msg("%s", err.message);
    cpu_evidence_summarize(&evidence, &summary);
    cpu_evidence_done(&evidence);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return summary.signal_frame;
}

static void handlers_are_seen(void **state)
{
    (void)state;
    assert_int_equal(seen_of(within_one), 1);
    assert_int_equal(seen_of(deep_within_one), 1);
    assert_int_equal(seen_of(within_one_on_its_stack), 1);
    assert_int_equal(seen_of(within_one_in_one), 1);
}

static void none_is_none(void **state)
{
    (void)state;
    assert_int_equal(seen_of(within_none), 0);
}

static void what_is_left_of_one_is_none(void **state)
{
    (void)state;
    assert_int_equal(seen_of(behind_one), 0);
    assert_int_equal(seen_of(behind_one_on_its_stack), 0);
    assert_int_equal(seen_of(out_of_one_on_its_stack), 0);
}

/* ---- frames by hand */

#define FROM 0x7f0000001000 /* the stack pointer */

struct by_hand {
    unsigned char bytes[16384];
};

static void put(struct by_hand *m, size_t at, uint64_t value, size_t size)
{
    memcpy(m->bytes + at, &value, size);
}

/* The ucontext at 1024, the area at 2048, `size` bytes; interrupted 192 bytes behind it. */
static struct by_hand *made(uint32_t size)
{
    struct by_hand *m = xcalloc(1, sizeof(*m));
    put(m, 1024 + 160, FROM + 2048 + size + 192, 8);
    put(m, 1024 + 224, FROM + 2048, 8);
    put(m, 2048 + 464, 0x46505853, 4);
    put(m, 2048 + 468, size + 4, 4);
    put(m, 2048 + 480, size, 4);
    put(m, 2048 + size, 0x46505845, 4);
    return m;
}

static void what_is_no_frame_is_none(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
        size_t size;
        bool is_one;
    } cases[] = {
        {0,          0,                  0, true },
        {2048 + 464, 0x46505854,         4, false}, /* the first number */
        {2048 + 832, 0,                  4, false}, /* the last */
        {2048 + 468, 832,                4, false}, /* its size, twice told */
        {2048 + 480, 0xffffffff,         4, false},
        {1024 + 224, FROM + 2112,        8, false}, /* nobody points to it */
        {1024 + 160, FROM + 2048,        8, false}, /* interrupted further down */
        {1024 + 160, FROM + 2048 + 832,  8, true },
        {1024 + 160, FROM + 1024 * 1024, 8, false}, /* and elsewhere */
        {1024 + 160, UINT64_MAX,         8, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree struct by_hand *m = made(832);
        put(m, cases[i].at, cases[i].value, cases[i].size);
        if (frame_is_on(m->bytes, sizeof(m->bytes), FROM) != cases[i].is_one)
            fail_msg("case %zu", i);
    }
    /* Cut short anywhere, nothing is read behind the end. */
    for (size_t length = 0; length <= 2048 + 832 + 4; length++) {
        autofree struct by_hand *m = made(832);
        autofree unsigned char *exact = xmalloc(length + 1);
        memcpy(exact, m->bytes, length);
        assert_int_equal(frame_is_on(exact, length, FROM), length == 2048 + 832 + 4);
    }
}

static void the_alternate_stack_decides(void **state)
{
    (void)state;
    static const struct {
        uint64_t start, bytes, interrupted;
        bool is_one;
    } cases[] = {
        {FROM - 4096, 16384, 0x7fff00000000, true }, /* the thread is on it now */
        {FROM + 512,  16384, 0x7fff00000000, false}, /* it is not: the frame is an old one */
        {FROM + 8192, 4096,  0x7fff00000000, false}, /* the frame is not on it */
        {FROM - 8192, 4096,  0x7fff00000000, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree struct by_hand *m = made(2440);
        put(m, 1024 + 16, cases[i].start, 8);
        put(m, 1024 + 32, cases[i].bytes, 8);
        put(m, 1024 + 160, cases[i].interrupted, 8);
        if (frame_is_on(m->bytes, sizeof(m->bytes), FROM) != cases[i].is_one)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_are_seen),           cmocka_unit_test(none_is_none),
        cmocka_unit_test(what_is_left_of_one_is_none), cmocka_unit_test(what_is_no_frame_is_none),
        cmocka_unit_test(the_alternate_stack_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
