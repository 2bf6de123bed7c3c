/* SPDX-License-Identifier: Apache-2.0 */
/* family.c - threads that use libc's string functions, children that exec this program anew, and a
 * library that is loaded, asked and let go; all of it again and again, so after a move as well.
 *
 *   family LIBRARY          runs for ever
 *   family child            what it execs: tells by its exit code what it saw of the CPU */
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "steps.h"

#define THREADS     3
#define CHILD_EVERY 10 /* steps */
#define LOAD_EVERY  5

struct worker {
    _Atomic(uint64_t) rounds, wrong;
    unsigned number;
};

static uint32_t leaf7(void)
{
    uint32_t seen[2];
    step_see(seen);
    return seen[0];
}

static uint64_t letters(unsigned seed)
{
    char text[256], copy[256];
    size_t length = seed % 250;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)('a' + (i + seed) % 26);
    text[length] = 0;
    memcpy(copy, text, length + 1);
    return (strlen(copy) != length) + (strcmp(text, copy) != 0) +
           (memchr(copy, 0, 256) != copy + length);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    for (unsigned i = worker->number;; i++) {
        worker->wrong += letters(i);
        worker->rounds++;
        struct timespec pause = {0, STEP_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* A child that execs reports the six bits of leaf 7 that has AVX2 and BMI in it; 256: it died. */
static uint64_t child_sees(const char *program)
{
    char *const argv[] = {"family", "child", NULL};
    int status = 0;
    pid_t pid = 0;
    if (posix_spawn(&pid, program, NULL, NULL, argv, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 256;
    return (uint64_t)WEXITSTATUS(status);
}

static uint64_t library_sees(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        return UINT64_MAX;
    uint32_t (*ask)(void);
    *(void **)&ask = dlsym(library, "late_leaf7");
    uint64_t seen = ask ? ask() & LEAF7_EBX_USED : UINT64_MAX;
    dlclose(library);
    return seen;
}

/* Compared with what this thread sees: a mask holds everywhere or it is none. */
static void same_view(struct step *step, const char *what, uint64_t seen, uint32_t of)
{
    /* a move since the step before may have shown another CPU, which is told as such */
    if (seen != (step->seen[0] & of))
        step_expect(step, what, seen, leaf7() & of);
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS];
    struct step step = {0};
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "child") == 0)
        return letters(77) ? 254 : (int)(leaf7() & 0x3f);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_t thread;
        workers[i].number = i * 83;
        if (pthread_create(&thread, NULL, work, &workers[i]))
            return 1;
    }
    for (;;) {
        if (step.number % CHILD_EVERY == 0)
            same_view(&step, "what a child sees", child_sees("/proc/self/exe"), 0x3f);
        if (step.number % LOAD_EVERY == 0)
            same_view(&step, "what a library sees", library_sees(argv[1]), UINT32_MAX);
        for (unsigned i = 0; i < THREADS; i++)
            step_expect(&step, "a thread's wrong numbers", workers[i].wrong, 0);
        step_done(&step);
    }
}
