/* SPDX-License-Identifier: Apache-2.0 */
/* engine_criu_probe.c - whether hardware breakpoints fire here.
 *
 * CRIU stops a task at the end of its parasite with a hardware breakpoint. In some nested guests
 * the debug registers take the address and nothing ever fires: CRIU then waits for ever with the
 * task frozen. CRIU_FAULT=130 makes it use system-call stops; this decides whether that is
 * needed, by trying it on a child of our own. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_private.h"

#define STEP_MS 2000

/* The address that the breakpoint is set on; kept out of line so that there is one. */
static __attribute__((noinline)) void landmark(void)
{
    __asm__ volatile("nop");
}

static bool wait_stop(pid_t pid, int *status)
{
    int64_t deadline = process_now_ms() + STEP_MS;
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid)
            return true;
        if ((got < 0 && errno != EINTR) || process_now_ms() >= deadline)
            return false;
        process_sleep_ms(1);
    }
}

static bool set_debug_register(pid_t pid, unsigned number, uintptr_t value)
{
    size_t offset = offsetof(struct user, u_debugreg) + number * sizeof(long);
    return ptrace(PTRACE_POKEUSER, pid, (void *)offset, (void *)value) == 0;
}

/* True when it stopped at the landmark; *ret_ended when it needs no more reaping. */
static bool try_child(pid_t pid, bool *ret_ended)
{
    int status = 0;
    *ret_ended = false;
    if (!wait_stop(pid, &status))
        return false;
    if (!WIFSTOPPED(status)) {
        *ret_ended = true;
        return false;
    }
    /* DR7 bit 0 enables DR0 for this task; length and type 0 mean "on execution". */
    if (!set_debug_register(pid, 0, (uintptr_t)landmark) || !set_debug_register(pid, 7, 1) ||
        ptrace(PTRACE_CONT, pid, NULL, NULL) < 0 || !wait_stop(pid, &status))
        return false;
    *ret_ended = !WIFSTOPPED(status);
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
}

bool criu_breakpoints_fire(void)
{
    pid_t pid = fork();
    if (pid < 0)
        return false;
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(1);
        raise(SIGSTOP);
        landmark();
        _exit(0);
    }
    bool ended = false;
    bool fired = try_child(pid, &ended);
    if (!ended) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    return fired;
}
