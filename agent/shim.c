/* SPDX-License-Identifier: Apache-2.0 */
/* shim.c - the agent's side of the shim: starting one and talking to it. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "json.h"
#include "process.h"

#define ASK_TIMEOUT_MS 5000
#define HAND_OVER_MS   20000
#define HIGH_FD        16 /* out of the way of the numbers that the shim expects */

static const char *const order_keys[] = {
#define X(order, key) key,
    SHIM_ORDERS(X)
#undef X
};

struct shim_orders {
    char *text; /* owned; "key\0value\0" pairs */
    size_t length;
};

struct shim_orders *shim_orders_new(void)
{
    return xcalloc(1, sizeof(struct shim_orders));
}

static void append(struct shim_orders *orders, const char *text)
{
    size_t length = strlen(text) + 1;
    orders->text = xrealloc(orders->text, orders->length + length);
    memcpy(orders->text + orders->length, text, length);
    orders->length += length;
}

void shim_orders_put(struct shim_orders *orders, enum shim_order key, const char *value)
{
    append(orders, order_keys[key]);
    append(orders, value);
}

void shim_orders_put_number(struct shim_orders *orders, enum shim_order key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    shim_orders_put(orders, key, text);
}

void shim_orders_free(struct shim_orders *orders)
{
    if (!orders)
        return;
    free(orders->text);
    free(orders);
}

static int high_fd(int *fd)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, HIGH_FD);
    close(*fd);
    *fd = high;
    return high < 0 ? -1 : 0;
}

static int orders_fd(const struct shim_orders *orders, int *ret, struct error *err)
{
    if (orders->length > SHIM_ORDERS_MAX)
        return error_set(err, ERROR_TOO_LARGE,
                         "command and environment take %zu bytes, at most %lu are taken",
                         orders->length, SHIM_ORDERS_MAX);
    *ret = memfd_create("shim-orders", MFD_CLOEXEC);
    if (*ret < 0 || high_fd(ret) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a memory file");
    for (size_t done = 0; done < orders->length;) {
        ssize_t n = write(*ret, orders->text + done, orders->length - done);
        if (n <= 0)
            return error_errno(err, ERROR_FAILED, "cannot write a memory file");
        done += (size_t)n;
    }
    return 0;
}

/* Between fork and exec in a program with threads: only async-signal-safe calls. */
static _Noreturn void become_shim(char *const *argv, int orders, int answer)
{
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(orders, SHIM_ORDERS_FD) >= 0 && dup2(answer, SHIM_ANSWER_FD) >= 0 &&
        close_range(SHIM_ANSWER_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        execve(argv[0], argv, env);
    static const char sorry[] = "error failed the shim cannot be executed\n";
    ssize_t n = write(answer, sorry, sizeof(sorry) - 1);
    (void)n;
    _exit(127);
}

/* One line within the time. */
static int read_line(int fd, int64_t deadline, char *line, size_t size, struct error *err)
{
    size_t used = 0;
    for (;;) {
        int64_t left = deadline - process_now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = left > 0 ? poll(&p, 1, left < 60000 ? (int)left : 60000) : 0;
        if (n < 0 && errno != EINTR)
            return error_errno(err, ERROR_FAILED, "cannot wait for the shim");
        if (left <= 0)
            return error_set(err, ERROR_TIMEOUT, "the shim did not answer in time");
        if (n <= 0)
            continue;
        char c;
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return error_set(err, ERROR_FAILED, "the shim ended without an answer");
        if (c == '\n')
            break;
        if (used + 1 < size)
            line[used++] = c;
    }
    line[used] = '\0';
    return 0;
}

/* "error CODE MESSAGE" into *err. */
static int said_error(const char *line, struct error *err)
{
    char code[32] = "";
    int at = 0;
    if (sscanf(line, "error %31s %n", code, &at) != 1 || !at)
        return error_set(err, ERROR_FAILED, "the shim answered '%.100s'", line);
    return error_set(err, error_kind_from_code(code), "%s", line + at);
}

int shim_start(const char *program, const char *name, const struct shim_orders *orders,
               uint64_t timeout_ms, pid_t *ret_shim, pid_t *ret_root, struct error *err)
{
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    autoclose int orders_file = -1, answer_read = -1, answer_write = -1;
    if (orders_fd(orders, &orders_file, err) < 0)
        return -1;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    answer_read = ends[0];
    answer_write = ends[1];
    if (high_fd(&answer_write) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    char *argv[] = {(char *)program, (char *)name, NULL};
    pid_t pid = fork();
    if (pid < 0)
        return error_errno(err, ERROR_FAILED, "cannot fork for the shim");
    if (pid == 0)
        become_shim(argv, orders_file, answer_write);
    close(steal_fd(&answer_write));

    char line[SHIM_LINE_MAX];
    int rc = read_line(answer_read, deadline, line, sizeof(line), err);
    if (rc == 0 && sscanf(line, "ok %d", ret_root) == 1 && *ret_root > 0) {
        *ret_shim = pid;
        return 0;
    }
    if (rc == 0)
        rc = said_error(line, err);
    if (access(program, X_OK) < 0)
        error_errno(err, ERROR_FAILED, "cannot execute the shim %s", program);
    kill(pid, SIGKILL); /* it ends by itself after an error; a silent one does not */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}

int shim_connect(const char *run_dir, int *ret_fd, struct error *err)
{
    /* The folder's path may be longer than a socket address holds. */
    autoclose int folder = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_errno(err, ERROR_UNREACHABLE, "no folder %s", run_dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder,
             SHIM_SOCKET_NAME);
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(err, ERROR_UNREACHABLE, "no shim listens in %s", run_dir);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int ask(const char *run_dir, const char *request, uint64_t timeout_ms, char *line,
               size_t size, struct error *err)
{
    autoclose int fd = -1;
    if (shim_connect(run_dir, &fd, err) < 0)
        return -1;
    ssize_t length = (ssize_t)strlen(request);
    if (send(fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        return error_errno(err, ERROR_UNREACHABLE, "cannot talk to the shim of %s", run_dir);
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    do { /* its own news may come before the answer */
        if (read_line(fd, deadline, line, size, err) < 0)
            return error_wrap(err, "asking the shim of %s", run_dir);
    } while (strncmp(line, "exit ", 5) == 0);
    return 0;
}

int shim_ask_status(const char *run_dir, struct shim_status *ret, struct error *err)
{
    char line[SHIM_LINE_MAX];
    if (ask(run_dir, "status\n", ASK_TIMEOUT_MS, line, sizeof(line), err) < 0)
        return -1;
    *ret = (struct shim_status){.exit_status = -1};
    if (sscanf(line, "running %d", &ret->root) == 1) {
        ret->state = SHIM_RUNNING;
        return 0;
    }
    if (sscanf(line, "exited %d", &ret->exit_status) == 1) {
        ret->state = SHIM_ROOT_EXITED;
        return 0;
    }
    return said_error(line, err);
}

int shim_signal(const char *run_dir, int signal, struct error *err)
{
    char line[SHIM_LINE_MAX], request[32];
    snprintf(request, sizeof(request), "signal %d\n", signal);
    if (ask(run_dir, request, ASK_TIMEOUT_MS, line, sizeof(line), err) < 0)
        return -1;
    return strcmp(line, "ok") == 0 ? 0 : said_error(line, err);
}

static int hand_over(const char *run_dir, const char *request, struct error *err)
{
    char line[SHIM_LINE_MAX];
    if (ask(run_dir, request, HAND_OVER_MS, line, sizeof(line), err) < 0)
        return -1;
    return strcmp(line, "ok") == 0 ? 0 : said_error(line, err);
}

int shim_detach(const char *run_dir, struct error *err)
{
    return hand_over(run_dir, "detach\n", err);
}

int shim_yield(const char *run_dir, struct error *err)
{
    return hand_over(run_dir, "yield\n", err);
}

int shim_attach(const char *run_dir, struct error *err)
{
    return hand_over(run_dir, "attach\n", err);
}

int shim_read_exit(const char *run_dir, int *ret_status, struct error *err)
{
    autofree char *path = xasprintf("%s/%s", run_dir, SHIM_EXIT_NAME);
    autofree char *text = NULL;
    autojson *json = NULL;
    size_t length = 0;
    int64_t status = 0;
    if (file_read(path, SHIM_LINE_MAX, &text, &length, err) < 0)
        return -1;
    if (json_parse(text, length, &json, err) < 0 ||
        json_get_i64("exit.json", json, "status", &status, err) < 0)
        return error_wrap(err, "%s", path);
    *ret_status = (int)status;
    return 0;
}
