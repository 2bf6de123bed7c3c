/* SPDX-License-Identifier: Apache-2.0 */
/* live.c - processes whose use of the CPU is known, for the tests of `cpuagent inspect`.
 *
 *   live threads N        N threads beside the first, asleep
 *   live compute N        N threads that compute the same thing over and over and compare; exit
 *                         code 3 as soon as one comes out differently
 *   live registers        a thread with every vector and mask register of this CPU in use
 *   live altstack BYTES   a thread with an alternate signal stack of that size
 *   live sleep            sleeps in several system calls; on SIGTERM exit code 0, or 3 when one of
 *                         them was cut short
 *   live signals          counts SIGRTMIN; on SIGTERM writes how many came
 *   live vfork [MS]       waits in vfork(2) for a child that pauses, or ends after MS; then writes
 *                         "back" and the monotonic time in ms
 *   live leaderless       its first thread has ended, another runs
 *   live child            has a child process
 *
 * "ready" is written to stdout once it is so. It dies with its parent. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COMPUTE_STEPS 20000

static void die(const char *what)
{
    dprintf(2, "live: %s: %s\n", what, strerror(errno));
    _exit(70);
}

static void start(void *(*run)(void *), void *ctx)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, ctx) != 0)
        die("cannot start a thread");
}

static void ready(void)
{
    if (write(1, "ready\n", 6) != 6)
        die("stdout");
}

static _Noreturn void sleep_for_ever(void)
{
    for (;;)
        pause();
}

static void *asleep(void *ctx)
{
    (void)ctx;
    sleep_for_ever();
}

static void *computing(void *ctx)
{
    (void)ctx;
    uint64_t first = 0, bits = 0;
    for (unsigned long round = 0;; round++) {
        double x = 1.25, y = 0;
        for (unsigned i = 1; i < COMPUTE_STEPS; i++) {
            x = x * 1.000001 + 1.0 / i;
            y += x / (y + 1);
        }
        memcpy(&bits, &y, sizeof(bits));
        if (round == 0)
            first = bits;
        else if (bits != first)
            _exit(3);
    }
}

static atomic_int registers_held;

/* Not to return: whatever is called next might clear registers again. */
static void *holding_registers(void *ctx)
{
    (void)ctx;
    if (__builtin_cpu_supports("avx512bw"))
        __asm__ volatile("kxnorq %%k1, %%k1, %%k1\n\t"
                         "kxnorq %%k7, %%k7, %%k7\n\t"
                         "vpternlogd $255, %%zmm0, %%zmm0, %%zmm0\n\t"
                         "vpternlogd $255, %%zmm31, %%zmm31, %%zmm31\n\t"
                         "movl $1, %0\n"
                         "1: movl $34, %%eax\n\t" /* pause */
                         "syscall\n\t"
                         "jmp 1b"
                         : "=m"(registers_held)
                         :
                         : "rax", "rcx", "r11", "memory");
    else if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vxorps %%ymm1, %%ymm1, %%ymm1\n\t"
                         "vcmptrueps %%ymm1, %%ymm1, %%ymm0\n\t"
                         "movl $1, %0\n"
                         "1: movl $34, %%eax\n\t"
                         "syscall\n\t"
                         "jmp 1b"
                         : "=m"(registers_held)
                         :
                         : "rax", "rcx", "r11", "memory");
    registers_held = 1;
    sleep_for_ever();
}

static void *with_altstack(void *ctx)
{
    stack_t stack = {.ss_size = *(size_t *)ctx};
    stack.ss_sp = malloc(stack.ss_size);
    if (!stack.ss_sp || sigaltstack(&stack, NULL) < 0)
        die("sigaltstack");
    ready();
    sleep_for_ever();
}

/* ---- what must not be disturbed */

static volatile sig_atomic_t told_to_end;
static volatile sig_atomic_t signal_count;

static void on_term(int number)
{
    (void)number;
    told_to_end = 1;
}

static void on_signal(int number)
{
    (void)number;
    signal_count++;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(number, &action, NULL);
}

static long elapsed_ms(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

/* A sleep of 20 ms in one of several system calls that the kernel restarts in unlike ways. */
static int one_sleep(unsigned which, int fd)
{
    const struct timespec span = {.tv_nsec = 20000000};
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    static uint32_t futex;
    switch (which % 4) {
    case 0:
        return nanosleep(&span, NULL);
    case 1:
        return poll(&poll_fd, 1, 20);
    case 2:
        return clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL) ? -1 : 0;
    default: /* FUTEX_WAIT: timing out is what it should do */
        return syscall(SYS_futex, &futex, 0, 0, &span, NULL, 0) < 0 && errno == ETIMEDOUT ? 0 : -1;
    }
}

static int sleep_and_watch(void)
{
    int fds[2];
    if (pipe(fds) < 0)
        die("pipe");
    handle(SIGTERM, on_term);
    ready();
    for (unsigned i = 0; !told_to_end; i++) {
        struct timespec since;
        clock_gettime(CLOCK_MONOTONIC, &since);
        int rc = one_sleep(i, fds[0]);
        if (told_to_end)
            break;
        if (rc != 0 || elapsed_ms(&since) < 19) {
            dprintf(2, "live: sleep %u was cut short: %s\n", i % 4, strerror(errno));
            return 3;
        }
    }
    return 0;
}

static int count_signals(void)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, NULL);
    handle(SIGTERM, on_term);
    handle(SIGRTMIN, on_signal);
    ready();
    while (!told_to_end)
        sigsuspend(&none); /* delivers what is pending, the lowest number first */
    while (sigtimedwait(&(sigset_t){{1UL << (SIGRTMIN - 1)}}, NULL, &(struct timespec){0}) > 0)
        signal_count++;
    dprintf(1, "%d\n", (int)signal_count);
    return 0;
}

/* ---- odd processes */

static void wait_in_vfork(unsigned long ms)
{
    const struct timespec span = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000) * 1000000};
    struct timespec now;
    ready(); /* not yet true; the test looks at the state */
    pid_t child =
        vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork): its wait is wanted */
    if (child == 0) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Vfork): a system call alone changes nothing here */
        syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (ms) {
            syscall(SYS_nanosleep, &span, NULL);
            syscall(SYS_exit_group, 0);
        }
        for (;;)
            syscall(SYS_pause);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(1, "back %ld\n", now.tv_sec * 1000 + now.tv_nsec / 1000000);
    sleep_for_ever();
}

static void *leave_leader_behind(void *ctx)
{
    pthread_join(*(pthread_t *)ctx, NULL);
    ready();
    sleep_for_ever();
}

static void have_child(void)
{
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "a (child)\n");
        ready();
    }
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    unsigned long number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    static pthread_t leader;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(mode, "threads") == 0 || strcmp(mode, "compute") == 0) {
        for (unsigned long i = 0; i < number; i++)
            start(*mode == 't' ? asleep : computing, NULL);
        ready();
    } else if (strcmp(mode, "registers") == 0) {
        start(holding_registers, NULL);
        while (!registers_held)
            usleep(100);
        ready();
    } else if (strcmp(mode, "altstack") == 0) {
        start(with_altstack, &number);
    } else if (strcmp(mode, "sleep") == 0) {
        return sleep_and_watch();
    } else if (strcmp(mode, "signals") == 0) {
        return count_signals();
    } else if (strcmp(mode, "vfork") == 0) {
        wait_in_vfork(number);
    } else if (strcmp(mode, "leaderless") == 0) {
        leader = pthread_self();
        start(leave_leader_behind, &leader);
        pthread_exit(NULL);
    } else if (strcmp(mode, "child") == 0) {
        have_child();
    } else {
        dprintf(2, "live: unknown mode '%s'\n", mode);
        return 2;
    }
    sleep_for_ever();
}
