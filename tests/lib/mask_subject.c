/* SPDX-License-Identifier: Apache-2.0 */
/* mask_subject.c - what the tests of the mask run under it; the first argument says which. */
#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned leaf7(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    return b;
}

/* ---- asking without an end */

static unsigned expected_leaf7;
static _Atomic unsigned wrong_answers;
static _Atomic unsigned long answers;

static void *spin(void *ctx)
{
    (void)ctx;
    for (;;) {
        wrong_answers += leaf7() != expected_leaf7;
        answers++;
    }
    return NULL;
}

/* spin HEX THREADS: a line every 20 ms; "wrong N" when an answer was another one. */
static int spins(char **arguments)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    expected_leaf7 = (unsigned)strtoul(arguments[0], NULL, 16);
    for (long i = strtol(arguments[1], NULL, 10); i > 0; i--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, spin, NULL) != 0)
            return 1;
    }
    for (unsigned long n = 1;; n++) {
        nanosleep(&pause, NULL);
        wrong_answers += leaf7() != expected_leaf7;
        printf("%lu answers %lu wrong %u\n", n, answers, wrong_answers);
        fflush(stdout);
    }
}

static void *sleeps(void *ctx)
{
    for (;;)
        pause();
    return ctx;
}

/* idle THREADS */
static int idles(char **arguments)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (long i = strtol(arguments[0], NULL, 10); i > 0; i--) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, sleeps, NULL) != 0)
            return 1;
    }
    sleeps(NULL);
    return 0;
}

/* ---- asking */

static int ask(char **arguments)
{
    (void)arguments;
    printf("leaf7 %08x avx2 %d hwcap2 %lx\n", leaf7(), !!__builtin_cpu_supports("avx2"),
           getauxval(AT_HWCAP2));
    return 0;
}

static void *ask_often(void *ctx)
{
    unsigned *wrong = ctx, first = leaf7();
    for (int i = 0; i < 20000; i++)
        *wrong += leaf7() != first;
    return NULL;
}

static int threads(char **arguments)
{
    enum { COUNT = 32 };
    pthread_t all[COUNT];
    unsigned wrong[COUNT] = {0}, sum = 0;
    for (int i = 0; i < COUNT; i++)
        if (pthread_create(&all[i], NULL, ask_often, &wrong[i]) != 0)
            return 1;
    for (int i = 0; i < COUNT; i++) {
        pthread_join(all[i], NULL);
        sum += wrong[i];
    }
    printf("wrong %u\n", sum);
    return ask(arguments);
}

/* The function of such a library; NULL if it cannot be loaded, as in a static program. */
static unsigned (*load(const char *path))(void)
{
    unsigned (*asks)(void) = NULL;
#ifdef IS_STATIC
    fprintf(stderr, "%s: a static program loads no libraries\n", path);
#else
    void *library = dlopen(path, RTLD_NOW);
    if (library)
        *(void **)&asks = dlsym(library, "asks");
    if (!asks)
        fprintf(stderr, "%s\n", dlerror());
#endif
    return asks;
}

static int loads(char **arguments)
{
    unsigned (*asks)(void) = load(arguments[0]);
    if (!asks)
        return 1;
    printf("leaf7 %08x\n", asks());
    return 0;
}

/* Loads and unloads in one thread while another one forks; all children ask the library. */
static void *fork_often(void *ctx)
{
    unsigned (*asks)(void) = ctx;
    unsigned expected = asks();
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        int status = 0;
        if (child == 0)
            _exit(asks() == expected && leaf7() == expected ? 0 : 1);
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return "a child saw something else";
    }
    return NULL;
}

static int load_and_fork(char **arguments)
{
    pthread_t forks;
    void *failure = NULL;
    unsigned (*asks)(void) = load(arguments[0]);
    if (!asks || pthread_create(&forks, NULL, fork_often, *(void **)&asks) != 0)
        return 1;
#ifndef IS_STATIC
    for (int i = 0; i < 300; i++) {
        void *library = dlopen(arguments[1], RTLD_NOW);
        if (!library)
            return 1;
        dlclose(library);
    }
#endif
    pthread_join(forks, &failure);
    puts(failure ? failure : "all the same");
    return failure != NULL;
}

/* push rbx; mov eax,7; xor ecx,ecx; cpuid; mov eax,ebx; pop rbx; ret, amid code that no unwind
 * information tells of. */
static void write_code(unsigned char *page)
{
    static const unsigned char code[] = {0x53, 0xb8, 0x07, 0x00, 0x00, 0x00, 0x31,
                                         0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3};
    for (int i = 0; i < 4096; i += 3)
        memcpy(page + i, "\x83\xc2\x01", i + 3 <= 4096 ? 3 : (size_t)(4096 - i)); /* add edx,1 */
    memcpy(page + 2049, code, sizeof(code));
}

static int jit(char **arguments)
{
    (void)arguments;
    unsigned (*made)(void);
    unsigned char *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 1;
    write_code(page);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) < 0)
        return 1;
    unsigned char *entry = page + 2049;
    memcpy(&made, &entry, sizeof(made));
    printf("leaf7 %08x\n", made());
    return 0;
}

/* ---- children */

/* As vfork does it: the child borrows the memory until it executes. */
static int spawns(char **arguments)
{
    pid_t child = 0;
    int status = 0;
    if (posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) != 0)
        return 1;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int execs(char **arguments)
{
    execv(arguments[0], arguments);
    return 127;
}

static void *exec_it(void *ctx)
{
    char **arguments = ctx;
    execv(arguments[0], arguments);
    _exit(127);
}

static int thread_execs(char **arguments)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exec_it, arguments);
    pthread_join(thread, NULL);
    return 1;
}

/* From here on no island can be mapped: mmap with MAP_FIXED_NOREPLACE fails. */
static int denies(char **arguments)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_FIXED_NOREPLACE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
        return 1;
    if (fork() == 0)
        pause(); /* a second process, which has to go too */
    return execs(arguments);
}

/* ---- signals */

static volatile sig_atomic_t seen;

static void on_signal(int signal)
{
    seen = signal;
}

/* Waits in a sleep that signals interrupt; tells of them, and ends by SIGTERM. */
static int waits(char **arguments)
{
    (void)arguments;
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    puts("ready");
    fflush(stdout);
    for (int left = 30; left;) {
        left = (int)sleep((unsigned)left);
        if (seen)
            printf("signal %d\n", seen);
        fflush(stdout);
        seen = 0;
    }
    return 1;
}

/* Stops itself, and is continued by its parent, who sees both. */
static int stops(char **arguments)
{
    (void)arguments;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(7);
    }
    if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status) ||
        WSTOPSIG(status) != SIGSTOP)
        return 1;
    kill(child, SIGCONT);
    if (waitpid(child, &status, WCONTINUED) != child || !WIFCONTINUED(status))
        return 2;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        return 3;
    puts("stopped, continued, ended");
    return 0;
}

static int fails(char **arguments)
{
    if (arguments[0])
        raise((int)strtol(arguments[0], NULL, 10));
    return 42;
}

/* A segmentation fault of its own, handled by it. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (signal == SIGSEGV && info->si_addr == (void *)8)
        write(1, "its own\n", 8);
    _exit(0);
}

static int faults(char **arguments)
{
    (void)arguments;
    const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    const volatile uintptr_t nowhere = 8;
    return *(volatile int *)nowhere;
}

/* ---- what costs */

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int costs(char **arguments)
{
    (void)arguments;
    enum { CALLS = 200000, ASKS = 20000 };
    double best_call = 1e9, best_ask = 1e9;
    for (int round = 0; round < 5; round++) {
        double start = now_us();
        for (int i = 0; i < CALLS; i++)
            syscall(SYS_getpid);
        double middle = now_us();
        for (int i = 0; i < ASKS; i++)
            leaf7();
        double end = now_us();
        best_call = middle - start < best_call ? middle - start : best_call;
        best_ask = end - middle < best_ask ? end - middle : best_ask;
    }
    printf("getpid_ns %.1f\ncpuid_ns %.1f\n", best_call * 1e3 / CALLS, best_ask * 1e3 / ASKS);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(char **arguments);
    } subjects[] = {
        {"ask",           ask          },
        {"threads",       threads      },
        {"spin",          spins        },
        {"idle",          idles        },
        {"load",          loads        },
        {"load-and-fork", load_and_fork},
        {"jit",           jit          },
        {"spawn",         spawns       },
        {"exec",          execs        },
        {"thread-exec",   thread_execs },
        {"deny",          denies       },
        {"wait",          waits        },
        {"stop",          stops        },
        {"fail",          fails        },
        {"fault",         faults       },
        {"costs",         costs        },
    };
    for (size_t i = 0; argc > 1 && i < sizeof(subjects) / sizeof(subjects[0]); i++)
        if (strcmp(argv[1], subjects[i].name) == 0)
            return subjects[i].run(argv + 2);
    return 2;
}
