/* SPDX-License-Identifier: Apache-2.0 */
/* shim_mask.c - the shim's side of the tracer. */
#include "shim_mask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "mask_link.h"
#include "process.h"

#define ATTACH_MS 15000
#define DETACH_MS 15000
#define STOP_MS   1000
#define RETRY_MS  1000

/* ---- starting and ending */

static _Noreturn void become_tracer(const struct shim_mask *mask, int fd)
{
    char *const argv[] = {(char *)mask->program, (char *)mask->name,   (char *)mask->table,
                          (char *)mask->cache,   (char *)mask->cgroup, NULL};
    static char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    if (dup2(fd, MASK_LINK_FD) >= 0 && fcntl(MASK_LINK_FD, F_SETFD, 0) == 0 &&
        close_range(MASK_LINK_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        execve(argv[0], argv, env);
    _exit(127);
}

int shim_mask_start(struct shim_mask *mask, struct error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a socket");
    pid_t pid = fork();
    if (pid == 0)
        become_tracer(mask, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return error_errno(err, ERROR_FAILED, "cannot fork for the tracer");
    }
    mask->pid = pid;
    mask->fd = ends[0];
    return 0;
}

static void forget(struct shim_mask *mask)
{
    if (mask->fd >= 0)
        close(mask->fd);
    mask->fd = -1;
    mask->pid = 0;
}

void shim_mask_stop(struct shim_mask *mask)
{
    pid_t pid = mask->pid;
    int64_t until_ms = process_now_ms() + STOP_MS;
    if (!pid)
        return;
    forget(mask); /* it leaves when the socket closes */
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (process_now_ms() > until_ms) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return;
        }
        process_sleep_ms(1);
    }
}

/* ---- talking */

/* "error CODE MESSAGE" and "failed CODE MESSAGE" */
static int said_error(const char *text, struct error *err)
{
    char code[32] = "";
    int at = 0;
    if (sscanf(text, "%*s %31s %n", code, &at) != 1 || !at)
        return error_set(err, ERROR_FAILED, "the tracer said '%.100s'", text);
    return error_set(err, error_kind_from_code(code), "%s", text + at);
}

/* The next message within the time. */
static int receive(const struct shim_mask *mask, int64_t until_ms, char *text, size_t size,
                   struct error *err)
{
    for (;;) {
        int64_t left_ms = until_ms - process_now_ms();
        struct pollfd p = {.fd = mask->fd, .events = POLLIN};
        if (left_ms <= 0)
            return error_set(err, ERROR_TIMEOUT, "the tracer of the mask did not answer in time");
        if (poll(&p, 1, left_ms < 60000 ? (int)left_ms : 60000) <= 0)
            continue;
        ssize_t n = recv(mask->fd, text, size - 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return error_set(err, ERROR_FAILED, "the tracer of the mask (%s) has ended",
                             mask->program);
        text[n] = '\0';
        return 0;
    }
}

int shim_mask_ask(struct shim_mask *mask, const char *request, uint64_t timeout_ms,
                  struct error *err)
{
    int64_t until_ms = process_now_ms() + (int64_t)timeout_ms;
    char text[MASK_LINK_MAX];
    if (send(mask->fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        return error_errno(err, ERROR_FAILED, "cannot talk to the tracer of the mask");
    for (;;) {
        if (receive(mask, until_ms, text, sizeof(text), err) < 0)
            return -1;
        if (strcmp(text, "ok") == 0)
            return 0;
        if (strncmp(text, "error ", 6) == 0)
            return said_error(text, err);
        if (strncmp(text, "failed ", 7) == 0)
            return said_error(text, err);
        snprintf(mask->said, sizeof(mask->said), "%s", text);
    }
}

int shim_mask_wait(struct shim_mask *mask, uint64_t timeout_ms, struct error *err)
{
    int64_t until_ms = process_now_ms() + (int64_t)timeout_ms;
    while (!*mask->said)
        if (receive(mask, until_ms, mask->said, sizeof(mask->said), err) < 0)
            return -1;
    int rc = strcmp(mask->said, "masked") == 0 ? 0 : said_error(mask->said, err);
    mask->said[0] = '\0';
    return rc;
}

/* ---- taking a tree */

int shim_mask_attach(struct shim_mask *mask, pid_t root, bool restored, struct error *err)
{
    char request[32];
    mask->attached = true;
    mask->retry_at_ms = 0;
    if (!mask->pid && shim_mask_start(mask, err) < 0)
        return -1;
    snprintf(request, sizeof(request), "%s %d", restored ? "restored" : "attach", root);
    return shim_mask_ask(mask, request, ATTACH_MS, err);
}

static int let_go(struct shim_mask *mask, const char *request, struct error *err)
{
    if (!mask->pid || !mask->attached || mask->retry_at_ms)
        return error_set(err, ERROR_CONFLICT,
                         "its tracer does not have it just now (a debugger may); try again in a "
                         "moment");
    return shim_mask_ask(mask, request, DETACH_MS, err);
}

int shim_mask_detach(struct shim_mask *mask, struct error *err)
{
    if (let_go(mask, "detach", err) < 0)
        return -1;
    mask->attached = false;
    return 0;
}

int shim_mask_yield(struct shim_mask *mask, struct error *err)
{
    if (let_go(mask, "yield", err) < 0)
        return -1;
    mask->retry_at_ms = process_now_ms() + SHIM_MASK_YIELD_MS;
    return 0;
}

void shim_mask_later(struct shim_mask *mask, const struct error *why)
{
    if (strncmp(mask->problem, why->message, sizeof(mask->problem) - 1) != 0)
        fprintf(stderr, "cpuagent-shim: the workload runs masked, and without a tracer: %s\n",
                why->message);
    snprintf(mask->problem, sizeof(mask->problem), "%s", why->message);
    mask->retry_at_ms = process_now_ms() + RETRY_MS;
}

static void attach_or_retry(struct shim_mask *mask, pid_t root)
{
    struct error err = {0};
    if (shim_mask_attach(mask, root, false, &err) == 0) {
        fprintf(stderr, "cpuagent-shim: the tracer of the mask is process %d now\n", mask->pid);
        mask->problem[0] = '\0';
        return;
    }
    shim_mask_later(mask, &err);
}

void shim_mask_ended(struct shim_mask *mask, pid_t root)
{
    fprintf(stderr, "cpuagent-shim: the tracer of the mask (process %d) has ended\n", mask->pid);
    forget(mask);
    if (mask->attached && !mask->retry_at_ms)
        attach_or_retry(mask, root);
}

void shim_mask_retry(struct shim_mask *mask, pid_t root)
{
    mask->retry_at_ms = 0;
    if (mask->attached)
        attach_or_retry(mask, root);
}
