/* SPDX-License-Identifier: Apache-2.0 */
/* shim_main.c - the shim: parent and subreaper of one workload's tasks. shim.h has its protocol.
 *
 * One thread, the C library and nothing else: it lives as long as the workload does, while agents
 * come and go, so it has to be small and dull. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "file.h"
#include "mask_filter.h"
#include "process.h"
#include "shim.h"
#include "shim_mask.h"

#define CLIENTS_MAX        8
#define LIST_MAX           65536 /* arguments, variables, groups: each */
#define KILL_MS            5000
#define EMPTY_POLL_MS      100 /* between looks whether an adopted or masked tree is empty */
#define MASK_ASK_MS        5000
#define MASK_START_MS      60000 /* a first look at a large program takes a second */
#define MASK_RETRY_POLL_MS 200

struct list {
    char **items; /* owned, NULL-terminated; the texts are borrowed from the orders */
    size_t count;
};

struct client {
    int fd; /* -1: free */
    char line[SHIM_LINE_MAX];
    size_t used;
};

struct shim {
    const char *order[SHIM_ORDER_COUNT]; /* borrowed from the orders; NULL when not given */
    struct list args, env, groups;
    int answer_fd;                     /* -1 once answered */
    int signal_fd, listen_fd, root_fd; /* root_fd: adopted only */
    bool adopted;
    pid_t root;   /* 0: not known yet */
    pid_t engine; /* restore: the engine while it runs */
    int64_t engine_deadline_ms;
    bool root_exited;
    int exit_status;
    struct shim_mask mask; /* program NULL: none of a kind that has a tracer */
    struct client clients[CLIENTS_MAX];
};

static const char *const order_keys[] = {
#define X(order, key) key,
    SHIM_ORDERS(X)
#undef X
};

static const char *order_of(const struct shim *s, enum shim_order key)
{
    return s->order[key] ? s->order[key] : "";
}

static long long number_of(const struct shim *s, enum shim_order key)
{
    return strtoll(order_of(s, key), NULL, 10);
}

/* --- the orders and the answer ------------------------------------------------------------- */

static void list_add(struct list *list, char *text)
{
    if (list->count >= LIST_MAX)
        return;
    list->items = xrealloc(list->items, (list->count + 2) * sizeof(*list->items));
    list->items[list->count++] = text;
    list->items[list->count] = NULL;
}

static void take_order(struct shim *s, const char *key, char *value)
{
    for (unsigned i = 0; i < SHIM_ORDER_COUNT; i++) {
        if (strcmp(order_keys[i], key) != 0)
            continue;
        if (i == SHIM_ORDER_ARG)
            list_add(&s->args, value);
        else if (i == SHIM_ORDER_ENV)
            list_add(&s->env, value);
        else if (i == SHIM_ORDER_GROUP)
            list_add(&s->groups, value);
        else
            s->order[i] = value;
    }
}

/* The text is kept until the end of the program: everything points into it. */
static int read_orders(struct shim *s)
{
    char *text = NULL;
    size_t length = 0;
    if (file_read("/proc/self/fd/3", SHIM_ORDERS_MAX, &text, &length, NULL) < 0)
        return -1;
    close(SHIM_ORDERS_FD);
    char *end = text + length;
    for (char *key = text; key < end;) {
        char *value = key + strlen(key) + 1;
        if (value >= end)
            break;
        take_order(s, key, value);
        key = value + strlen(value) + 1;
    }
    return s->order[SHIM_ORDER_MODE] && s->order[SHIM_ORDER_RUN_DIR] ? 0 : -1;
}

static void answer(struct shim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void answer(struct shim *s, const char *format, ...)
{
    char line[SHIM_LINE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(line, sizeof(line) - 1, format, ap);
    va_end(ap);
    for (char *p = line; *p; p++)
        if (*p == '\n')
            *p = ' ';
    size_t length = strlen(line);
    line[length++] = '\n';
    if (s->answer_fd < 0)
        return;
    ssize_t n = write(s->answer_fd, line, length);
    (void)n; /* an agent that has died reads exit.json and the socket instead */
    close(steal_fd(&s->answer_fd));
}

static bool is_masked(const struct shim *s)
{
    return s->mask.program != NULL;
}

static void kill_tree(struct shim *s)
{
    const char *tasks = order_of(s, SHIM_ORDER_TASKS_DIR);
    struct process_list list = {0};
    if (cgroup_kill(tasks, KILL_MS, NULL) == 0 && *tasks)
        return;
    process_list_tree(getpid(), false, &list, NULL);
    for (size_t i = 0; i < list.count; i++)
        kill(list.pids[i], SIGKILL);
    free(list.pids);
}

static _Noreturn void give_up(struct shim *s, const struct error *err)
{
    kill_tree(s);
    shim_mask_stop(&s->mask);
    unlink(SHIM_SOCKET_NAME);
    fprintf(stderr, "cpuagent-shim: %s\n", err->message);
    answer(s, "error %s %s", error_code(err->kind), err->message);
    exit(1);
}

/* --- starting ------------------------------------------------------------------------------ */

/* What a child that could not become the workload tells its parent. */
struct failure {
    int code;
    char what[64];
};

static _Noreturn void fail_child(int fd, const char *what)
{
    struct failure failure = {.code = errno};
    snprintf(failure.what, sizeof(failure.what), "%s", what);
    ssize_t n = write(fd, &failure, sizeof(failure));
    (void)n;
    _exit(127);
}

static void reset_signals(void)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int become_user(const struct shim *s)
{
    autofree gid_t *groups = xcalloc(s->groups.count, sizeof(*groups));
    for (size_t i = 0; i < s->groups.count; i++)
        groups[i] = (gid_t)strtoul(s->groups.items[i], NULL, 10);
    uid_t uid = (uid_t)number_of(s, SHIM_ORDER_UID);
    gid_t gid = (gid_t)number_of(s, SHIM_ORDER_GID);
    if (setgroups(s->groups.count, groups) < 0 || setresgid(gid, gid, gid) < 0)
        return -1;
    return setresuid(uid, uid, uid);
}

/* Opened by the workload's own user, so that nobody can make the shim write where he may not. */
static int open_log(const struct shim *s, const char *name, int as)
{
    autofree char *path = xasprintf("%s/%s", order_of(s, SHIM_ORDER_LOG_DIR), name);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    return fd < 0 ? -1 : dup2(fd, as);
}

/* What a child waits for before it becomes the workload: that its tracer has it. */
struct start {
    int failure_fd; /* the child's end: what went wrong */
    int go_fd;      /* the child's end: a byte when it may go on */
};

static _Noreturn void become_workload(const struct shim *s, const struct start *start)
{
    int failure_fd = start->failure_fd;
    char byte;
    umask(022);
    reset_signals();
    if (cgroup_join(order_of(s, SHIM_ORDER_TASKS_DIR), 0, NULL) < 0)
        fail_child(failure_fd, "cannot join its cgroup");
    if (setsid() < 0)
        fail_child(failure_fd, "cannot make a session");
    if (is_masked(s) && mask_filter_install() < 0)
        fail_child(failure_fd, "cannot install the mask's seccomp filter");
    if (become_user(s) < 0)
        fail_child(failure_fd, "cannot become its user");
    if (chdir(order_of(s, SHIM_ORDER_CWD)) < 0)
        fail_child(failure_fd, "cannot enter its working directory");
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0 || dup2(in, STDIN_FILENO) < 0)
        fail_child(failure_fd, "cannot open /dev/null");
    if (open_log(s, "stdout.log", STDOUT_FILENO) < 0)
        fail_child(failure_fd, "cannot open stdout.log in its folder");
    if (open_log(s, "stderr.log", STDERR_FILENO) < 0)
        fail_child(failure_fd, "cannot open stderr.log in its folder");
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        fail_child(failure_fd, "cannot close descriptors");
    if (read(start->go_fd, &byte, 1) != 1)
        fail_child(failure_fd, "cannot wait for its tracer");
    execvpe(s->args.items[0], s->args.items, s->env.items);
    fail_child(failure_fd, "cannot execute");
}

static _Noreturn void become_engine(const struct shim *s, const struct start *start)
{
    int failure_fd = start->failure_fd;
    reset_signals();
    if (cgroup_join(order_of(s, SHIM_ORDER_TASKS_DIR), 0, NULL) < 0)
        fail_child(failure_fd, "cannot join the workload's cgroup");
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(order_of(s, SHIM_ORDER_OUTPUT),
                   O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0)
        fail_child(failure_fd, "cannot open the engine's output");
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        fail_child(failure_fd, "cannot close descriptors");
    execve(s->args.items[0], s->args.items, s->env.items);
    fail_child(failure_fd, "cannot execute");
}

/* Forks; returns when the exec has happened, or gives up with the child's own words. */
static pid_t start_child(struct shim *s, void (*become)(const struct shim *, const struct start *),
                         bool traced)
{
    struct error err = {0};
    struct failure failure;
    int ends[2], go[2];
    if (!s->args.count) {
        error_set(&err, ERROR_INVALID, "the command is empty");
        give_up(s, &err);
    }
    if (pipe2(ends, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0) {
        error_errno(&err, ERROR_FAILED, "cannot make a pipe");
        give_up(s, &err);
    }
    pid_t pid = fork();
    if (pid < 0) {
        error_errno(&err, ERROR_FAILED, "cannot fork");
        give_up(s, &err);
    }
    if (pid == 0) {
        const struct start start = {.failure_fd = ends[1], .go_fd = go[0]};
        close(go[1]); /* else it would wait for itself when the shim is gone */
        become(s, &start);
    }
    close(ends[1]);
    close(go[0]);
    if (traced) {
        char request[32];
        snprintf(request, sizeof(request), "seize %d", pid);
        if (shim_mask_ask(&s->mask, request, MASK_ASK_MS, &err) < 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            error_wrap(&err, "'%s' was not started", s->args.items[0]);
            give_up(s, &err);
        }
    }
    ssize_t put = write(go[1], "", 1);
    (void)put; /* else the child says that it cannot wait */
    close(go[1]);
    ssize_t n = read(ends[0], &failure, sizeof(failure));
    close(ends[0]);
    if (n == (ssize_t)sizeof(failure)) {
        waitpid(pid, NULL, 0);
        errno = failure.code;
        error_errno(&err, ERROR_INVALID, "'%s': %s", s->args.items[0], failure.what);
        give_up(s, &err);
    }
    return pid;
}

static void start_run(struct shim *s)
{
    struct error err = {0};
    if (is_masked(s) && shim_mask_start(&s->mask, &err) < 0)
        give_up(s, &err);
    s->root = start_child(s, become_workload, is_masked(s));
    s->mask.attached = is_masked(s);
    if (is_masked(s) && shim_mask_wait(&s->mask, MASK_START_MS, &err) < 0)
        give_up(s, &err);
    answer(s, "ok %d", s->root);
}

static void start_restore(struct shim *s)
{
    s->engine = start_child(s, become_engine, false);
    s->engine_deadline_ms = process_now_ms() + number_of(s, SHIM_ORDER_TIMEOUT_MS);
}

static void start_adopt(struct shim *s)
{
    struct error err = {0};
    s->adopted = true;
    s->exit_status = -1;
    s->root = (pid_t)number_of(s, SHIM_ORDER_PID);
    s->root_fd = pidfd_open(s->root, 0);
    if (s->root_fd < 0) {
        error_errno(&err, ERROR_NOT_FOUND, "no process %d to watch", s->root);
        give_up(s, &err);
    }
    /* It lost its shim and, with that, its tracer; it runs masked without one meanwhile. */
    if (is_masked(s) && shim_mask_attach(&s->mask, s->root, false, &err) < 0)
        shim_mask_later(&s->mask, &err);
    answer(s, "ok %d", s->root);
}

/* The engine has ended: with success its tree is under us, stopped, and the pidfile names it. */
static void finish_restore(struct shim *s, int status)
{
    struct error err = {0};
    struct process_stat stat;
    autofree char *text = NULL;
    s->engine = 0;
    if (status != 0) {
        error_set(&err, ERROR_FAILED, "the engine's restore ended with status %d", status);
        give_up(s, &err);
    }
    if (file_read(order_of(s, SHIM_ORDER_PIDFILE), 64, &text, NULL, &err) < 0)
        give_up(s, &err);
    s->root = (pid_t)strtol(text, NULL, 10);
    if (process_stat_read(s->root, &stat, &err) < 0)
        give_up(s, &err);
    if (stat.ppid != getpid()) {
        error_set(&err, ERROR_FAILED, "the restored root %d came back under process %d, not here",
                  s->root, stat.ppid);
        s->root = 0;
        give_up(s, &err);
    }
    if (is_masked(s) && shim_mask_attach(&s->mask, s->root, true, &err) < 0) {
        error_wrap(&err, "the restored workload cannot be held to its mask");
        give_up(s, &err);
    }
    answer(s, "ok %d", s->root);
}

/* --- clients ------------------------------------------------------------------------------- */

static void drop_client(struct client *c)
{
    close(c->fd);
    c->fd = -1;
    c->used = 0;
}

static void say(struct client *c, const char *text)
{
    char line[SHIM_LINE_MAX];
    int n = snprintf(line, sizeof(line), "%s\n", text);
    if (n < 0 || send(c->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
        drop_client(c);
}

static void say_exit(const struct shim *s, struct client *c)
{
    char line[64];
    snprintf(line, sizeof(line), "exit %d", s->exit_status);
    say(c, line);
}

static void signal_root(struct shim *s, int number, char *reply, size_t size)
{
    int rc = -1;
    errno = ESRCH;
    if (number < 1 || number >= NSIG)
        errno = EINVAL;
    else if (s->root && !s->root_exited)
        /* A child of ours keeps its pid until we reap it, in this same thread. */
        rc = s->adopted ? pidfd_send_signal(s->root_fd, number, NULL, 0) : kill(s->root, number);
    if (rc == 0)
        snprintf(reply, size, "ok");
    else
        snprintf(reply, size, "error %s cannot signal the root: %s",
                 error_code(errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED), strerror(errno));
}

/* Who has the tree: an engine, its tracer, a debugger. Nothing else is done meanwhile. */
static void hand_over(struct shim *s, const char *request, char *reply, size_t size)
{
    struct shim_mask *mask = &s->mask;
    struct error err = {0};
    int rc = 0;
    if (!is_masked(s))
        rc = error_set(&err, ERROR_CONFLICT, "it has no tracer");
    else if (strcmp(request, "detach") == 0)
        rc = shim_mask_detach(mask, &err);
    else if (strcmp(request, "yield") == 0)
        rc = shim_mask_yield(mask, &err);
    else if (!mask->attached || !mask->pid || mask->retry_at_ms)
        rc = shim_mask_attach(mask, s->root, false, &err);
    if (rc == 0)
        snprintf(reply, size, "ok");
    else
        snprintf(reply, size, "error %s %s", error_code(err.kind), err.message);
}

static void obey(struct shim *s, struct client *c, const char *line)
{
    char reply[SHIM_LINE_MAX - 2];
    int number = 0;
    if (strcmp(line, "status") == 0) {
        if (s->root_exited)
            snprintf(reply, sizeof(reply), "exited %d", s->exit_status);
        else
            snprintf(reply, sizeof(reply), "running %d", s->root);
    } else if (sscanf(line, "signal %d", &number) == 1) {
        signal_root(s, number, reply, sizeof(reply));
    } else if (strcmp(line, "detach") == 0 || strcmp(line, "attach") == 0 ||
               strcmp(line, "yield") == 0) {
        hand_over(s, line, reply, sizeof(reply));
    } else {
        snprintf(reply, sizeof(reply), "error %s unknown request", error_code(ERROR_INVALID));
    }
    say(c, reply);
}

static void hear(struct shim *s, struct client *c)
{
    ssize_t n = recv(c->fd, c->line + c->used, sizeof(c->line) - 1 - c->used, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            drop_client(c);
        return;
    }
    c->used += (size_t)n;
    char *newline;
    while (c->fd >= 0 && (newline = memchr(c->line, '\n', c->used))) {
        *newline = '\0';
        obey(s, c, c->line);
        size_t taken = (size_t)(newline + 1 - c->line);
        if (c->fd < 0)
            return; /* dropped: it does not read */
        memmove(c->line, newline + 1, c->used - taken);
        c->used -= taken;
    }
    if (c->used == sizeof(c->line) - 1)
        drop_client(c); /* no line is that long */
}

static void take_client(struct shim *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < CLIENTS_MAX; i++)
        if (s->clients[i].fd < 0) {
            s->clients[i].fd = fd;
            if (s->root_exited) /* it connected, or was told to, before that */
                say_exit(s, &s->clients[i]);
            return;
        }
    if (fd >= 0)
        close(fd);
}

static int listen_here(struct shim *s, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SHIM_SOCKET_NAME};
    unlink(SHIM_SOCKET_NAME); /* the working directory is the run folder */
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0 ||
        bind(s->listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(s->listen_fd, CLIENTS_MAX) < 0)
        return error_errno(err, ERROR_FAILED, "cannot listen on %s/%s",
                           order_of(s, SHIM_ORDER_RUN_DIR), SHIM_SOCKET_NAME);
    return 0;
}

/* --- ends ---------------------------------------------------------------------------------- */

static void root_has_exited(struct shim *s, int status)
{
    struct error err = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    s->root_exited = true;
    s->exit_status = status;
    autofree char *text = xasprintf("{\"pid\":%d,\"status\":%d,\"at_ms\":%lld}\n", s->root, status,
                                    (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    if (file_replace(SHIM_EXIT_NAME, text, 0600, &err) < 0)
        fprintf(stderr, "cpuagent-shim: %s\n", err.message);
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[i].fd >= 0)
            say_exit(s, &s->clients[i]);
}

/* Reaps everything that has ended; false when there is no child left at all. */
static bool reap(struct shim *s)
{
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return false;
        if (pid == 0)
            return true;
        int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (pid == s->engine)
            finish_restore(s, code);
        else if (pid == s->mask.pid)
            shim_mask_ended(&s->mask, s->root);
        else if (pid == s->root && !s->adopted)
            root_has_exited(s, code);
    }
}

static bool tree_is_empty(struct shim *s)
{
    bool children = reap(s);
    if (!s->adopted && !is_masked(s))
        return !children;
    if (is_masked(s))
        children = false; /* its tracer is one, always */
    return s->root_exited && !children && !cgroup_populated(order_of(s, SHIM_ORDER_TASKS_DIR));
}

static int wait_ms(const struct shim *s)
{
    if ((s->adopted || is_masked(s)) && s->root_exited)
        return EMPTY_POLL_MS;
    if (s->mask.retry_at_ms)
        return MASK_RETRY_POLL_MS;
    if (!s->engine)
        return -1; /* every event has a descriptor */
    int64_t left = s->engine_deadline_ms - process_now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static void check_engine_time(struct shim *s)
{
    struct error err = {0};
    if (!s->engine || process_now_ms() < s->engine_deadline_ms)
        return;
    error_set(&err, ERROR_TIMEOUT, "the engine's restore did not end within %lld ms",
              number_of(s, SHIM_ORDER_TIMEOUT_MS));
    give_up(s, &err);
}

static void serve(struct shim *s)
{
    while (!tree_is_empty(s)) {
        struct pollfd fds[3 + CLIENTS_MAX] = {
            {.fd = s->signal_fd,                     .events = POLLIN},
            {.fd = s->listen_fd,                     .events = POLLIN},
            {.fd = s->root_exited ? -1 : s->root_fd, .events = POLLIN},
        };
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
            fds[3 + i] = (struct pollfd){.fd = s->clients[i].fd, .events = POLLIN};
        if (poll(fds, ARRAY_LEN(fds), wait_ms(s)) < 0 && errno != EINTR)
            return;
        check_engine_time(s);
        if (s->mask.retry_at_ms && process_now_ms() >= s->mask.retry_at_ms && !s->root_exited)
            shim_mask_retry(&s->mask, s->root);
        if (fds[0].revents) {
            struct signalfd_siginfo info; /* that a child ended is all it says; reap() asks */
            ssize_t n = read(s->signal_fd, &info, sizeof(info));
            (void)n;
        }
        if (fds[2].revents)
            root_has_exited(s, -1);
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
            if (fds[3 + i].revents && s->clients[i].fd >= 0)
                hear(s, &s->clients[i]);
        if (fds[1].revents)
            take_client(s);
    }
}

static int settle(struct shim *s, struct error *err)
{
    sigset_t children;
    const char *run_dir = order_of(s, SHIM_ORDER_RUN_DIR);
    umask(077);
    if (chdir(run_dir) < 0)
        return error_errno(err, ERROR_FAILED, "cannot enter %s", run_dir);
    int in = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(SHIM_LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (in < 0 || log < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(in, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        return error_errno(err, ERROR_FAILED, "cannot open %s/%s", run_dir, SHIM_LOG_NAME);
    close(in);
    close(log);
    if (setsid() < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a session");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return error_errno(err, ERROR_FAILED, "cannot become a subreaper");
    /* Whoever stops the agent's service or closes a terminal does not mean the workload. */
    static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGQUIT};
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &children, NULL) < 0)
        return error_errno(err, ERROR_FAILED, "cannot block SIGCHLD");
    s->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a signalfd");
    if (cgroup_join(order_of(s, SHIM_ORDER_SHIM_DIR), 0, err) < 0)
        return -1;
    return listen_here(s, err);
}

int main(int argc, char **argv)
{
    static struct shim s = {.answer_fd = SHIM_ANSWER_FD,
                            .signal_fd = -1,
                            .listen_fd = -1,
                            .root_fd = -1,
                            .mask = {.fd = -1}};
    struct error err = {0};
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("cpuagent-shim " CPUBROKER_VERSION);
        return 0;
    }
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        s.clients[i].fd = -1;
    if (fcntl(SHIM_ANSWER_FD, F_SETFD, FD_CLOEXEC) < 0 || read_orders(&s) < 0) {
        fputs("cpuagent-shim: started by cpuagent, with orders on descriptor 3; not by hand\n",
              stderr);
        return 2;
    }
    if (settle(&s, &err) < 0)
        give_up(&s, &err);
    if (*order_of(&s, SHIM_ORDER_MASK_PROGRAM)) {
        s.mask.name = argc > 1 ? argv[1] : "workload";
        s.mask.program = order_of(&s, SHIM_ORDER_MASK_PROGRAM);
        s.mask.table = order_of(&s, SHIM_ORDER_MASK_TABLE);
        s.mask.cache = order_of(&s, SHIM_ORDER_MASK_CACHE);
        s.mask.cgroup = order_of(&s, SHIM_ORDER_TASKS_DIR);
    }
    const char *mode = order_of(&s, SHIM_ORDER_MODE);
    if (strcmp(mode, SHIM_MODE_RUN) == 0) {
        start_run(&s);
    } else if (strcmp(mode, SHIM_MODE_RESTORE) == 0) {
        start_restore(&s);
    } else if (strcmp(mode, SHIM_MODE_ADOPT) == 0) {
        start_adopt(&s);
    } else {
        error_set(&err, ERROR_INVALID, "unknown mode '%s'", mode);
        give_up(&s, &err);
    }
    serve(&s);
    shim_mask_stop(&s.mask);
    unlink(SHIM_SOCKET_NAME);
    /* Nothing is left to flush. A leak sanitizer would look around by a child of its own, which
     * whoever removes the workload kills with the others, and would wait for it for ever. */
    _exit(0);
}
