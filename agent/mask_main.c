/* SPDX-License-Identifier: Apache-2.0 */
/* mask_main.c - cpuagent-mask: the process that traces a masked workload. mask_link.h has how the
 * shim talks to it.
 *
 * One thread, which sleeps until a message or a stop of something traced comes. It holds nothing
 * that cannot be made anew from the workload's memory, so it may die at any time. */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "json.h"
#include "mask_launch.h"
#include "mask_link.h"
#include "mask_tracer.h"
#include "process.h"

#define HELD_POLL_MS 100 /* threads whose makers were killed have a limit */
#define STATE_MS     200 /* at least, between two writings of the state */

struct supervisor {
    struct mask_tracer *tracer;
    const char *cgroup;
    int signal_fd;
    bool was_masked; /* it was told so */
    bool is_spent;   /* an attach has failed half-way */
    bool has_told;   /* the state was written, as it was then: */
    struct mask_coverage told;
    int64_t told_at_ms;
};

static union {
    struct mask_island_table table;
    uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
} area;

/* ---- the state */

static char *state_text(const struct mask_coverage *most, const char *problem)
{
    autojson *state = json_object_new_object();
    json_object *lacks = json_object_new_object();
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        if (most->lacks[i])
            json_put_int(lacks, mask_lack_name((enum mask_lack)i), (int64_t)most->lacks[i]);
    json_put_int(state, "sites", (int64_t)(most->detours + most->traps));
    json_put_int(state, "traps", (int64_t)most->traps);
    json_put(state, "lacks", lacks);
    if (problem)
        json_put_str(state, "problem", problem);
    return json_text(state);
}

/* Not synced: after a crash of the machine there is no workload that it tells of. */
static int write_state(const struct mask_coverage *most, const char *problem, struct error *err)
{
    autofree char *text = state_text(most, problem);
    autoclose int fd =
        open(MASK_STATE_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t length = (ssize_t)strlen(text);
    if (fd < 0 || write(fd, text, (size_t)length) != length ||
        rename(MASK_STATE_NAME ".new", MASK_STATE_NAME) < 0)
        return error_errno(err, ERROR_FAILED, "cannot write " MASK_STATE_NAME);
    return 0;
}

/* Whether there is something new that had to wait. */
static bool tell_state(struct supervisor *s, bool at_once)
{
    struct error err = {0};
    struct mask_coverage most = mask_tracer_coverage(s->tracer);
    if (s->has_told && memcmp(&most, &s->told, sizeof(most)) == 0)
        return false;
    int64_t now_ms = process_now_ms();
    if (!at_once && now_ms - s->told_at_ms < STATE_MS)
        return true;
    if (write_state(&most, NULL, &err) < 0)
        fprintf(stderr, "cpuagent-mask: %s\n", err.message);
    s->has_told = true;
    s->told = most;
    s->told_at_ms = now_ms;
    return false;
}

/* ---- messages */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    char text[MASK_LINK_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    send(MASK_LINK_FD, text, strlen(text), MSG_NOSIGNAL); /* a shim that is gone needs no answer */
}

static int attach(struct supervisor *s, pid_t root, bool whole, struct error *err)
{
    if (mask_tracer_attach(s->tracer, s->cgroup, root, whole, err) == 0)
        return 0;
    s->is_spent = err->kind != ERROR_CONFLICT;
    return -1;
}

static void obey(struct supervisor *s, const char *request)
{
    struct error err = {0};
    int pid = 0, rc = -1;
    if (sscanf(request, "seize %d", &pid) == 1)
        rc = mask_tracer_seize(s->tracer, pid, &err);
    else if (sscanf(request, "attach %d", &pid) == 1)
        rc = attach(s, pid, false, &err);
    else if (sscanf(request, "restored %d", &pid) == 1)
        rc = attach(s, pid, true, &err);
    else if (strcmp(request, "yield") == 0)
        rc = mask_tracer_detach(s->tracer, s->cgroup, false, &err);
    else if (strcmp(request, "detach") == 0)
        rc = mask_tracer_detach(s->tracer, s->cgroup, true, &err);
    else
        error_set(&err, ERROR_INVALID, "unknown request '%.40s'", request);
    tell_state(s, true);
    if (rc == 0)
        say("ok");
    else
        say("error %s %s", error_code(err.kind), err.message);
    if (s->is_spent)
        _exit(1); /* lets go of what could not be stopped */
}

/* False when the shim is gone. */
static bool hear(struct supervisor *s)
{
    char request[MASK_LINK_MAX];
    ssize_t n = recv(MASK_LINK_FD, request, sizeof(request) - 1, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    request[n] = '\0';
    obey(s, request);
    return true;
}

/* ---- what is traced */

/* False when something could not be masked. */
static bool attend(struct supervisor *s)
{
    struct error err = {0};
    bool lives = true;
    if (mask_tracer_attend(s->tracer, false, &lives, &err) < 0) {
        const struct mask_coverage most = mask_tracer_coverage(s->tracer);
        write_state(&most, err.message, NULL);
        fprintf(stderr, "cpuagent-mask: %s\n", err.message);
        say("failed %s %s", error_code(err.kind), err.message);
        return false;
    }
    if (mask_tracer_is_masked(s->tracer) && !s->was_masked) {
        s->was_masked = true;
        tell_state(s, true);
        say("masked");
    }
    return true;
}

static int serve(struct supervisor *s)
{
    for (bool waits = false;;) {
        struct pollfd fds[] = {
            {.fd = s->signal_fd, .events = POLLIN},
            {.fd = MASK_LINK_FD, .events = POLLIN},
        };
        int timeout_ms = waits ? STATE_MS : mask_tracer_waits(s->tracer) ? HELD_POLL_MS : -1;
        if (poll(fds, ARRAY_LEN(fds), timeout_ms) < 0 && errno != EINTR)
            return 1;
        if (fds[0].revents) {
            struct signalfd_siginfo info; /* that there is something is all it says */
            ssize_t n = read(s->signal_fd, &info, sizeof(info));
            (void)n;
        }
        if (!attend(s))
            return 1;
        if (fds[1].revents && !hear(s))
            return 0;
        waits = tell_state(s, false);
    }
}

/* ---- a trial */

#define ASK        "--ask" /* what the trial's child is started with */
#define TRIED_LEAF 1U      /* every CPU has it */
#define TRIED_ECX  1U      /* SSE3: every x86-64 CPU of the last 20 years */
#define SAW_IT     3       /* the child's exit codes */
#define SAW_NOT    4

static int ask(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __cpuid(TRIED_LEAF, a, b, c, d);
    return c & TRIED_ECX ? SAW_IT : SAW_NOT;
}

static int try_it(struct error *err)
{
    char *const argv[] = {"/proc/self/exe", ASK, NULL};
    char *const env[] = {NULL};
    const struct mask_launch_options options = {
        .argv = argv, .env = env, .mask = {.table = &area.table}};
    AUTO(mask_tracer) tracer = NULL;
    int status = 0;
    area.table.magic = MASK_ISLAND_MAGIC;
    area.table.version = MASK_ISLAND_VERSION;
    area.table.count = 1;
    area.table.entries[0] = (struct mask_entry){
        .leaf = TRIED_LEAF, .subleaf_last = ~0U, .and_mask = {~0U, ~0U, ~TRIED_ECX, ~0U}
    };
    if (ask() != SAW_IT)
        return error_set(err, ERROR_FAILED, "this CPU has no SSE3");
    if (mask_launch_start(&options, &tracer, err) < 0)
        return -1;
    for (bool lives = true; lives;)
        if (mask_tracer_attend(tracer, true, &lives, err) < 0)
            return -1;
    if (mask_tracer_ended(tracer, &status) && WIFEXITED(status) && WEXITSTATUS(status) == SAW_NOT)
        return 0;
    return error_set(err, ERROR_FAILED, "a program saw what should be hidden, or died (status %d)",
                     status);
}

static int tried(void)
{
    struct error err = {0};
    if (try_it(&err) == 0)
        return 0;
    printf("%s\n", err.message);
    return 1;
}

/* ---- */

static int read_table(const char *path, struct error *err)
{
    autofree char *bytes = NULL;
    size_t length = 0;
    if (file_read(path, sizeof(area) + 1, &bytes, &length, err) < 0)
        return -1;
    if (length != sizeof(area))
        return error_set(err, ERROR_INVALID, "%s: expected %zu bytes, not %zu", path, sizeof(area),
                         length);
    memcpy(&area, bytes, sizeof(area));
    if (area.table.magic != MASK_ISLAND_MAGIC || area.table.version != MASK_ISLAND_VERSION ||
        area.table.count > MASK_ENTRIES_MAX)
        return error_set(err, ERROR_INVALID, "%s is no table of this version of cpuagent", path);
    return 0;
}

static int settle(struct supervisor *s, struct error *err)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGQUIT};
    sigset_t children;
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &children, NULL) < 0)
        return error_errno(err, ERROR_FAILED, "cannot block SIGCHLD");
    s->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0 || fcntl(MASK_LINK_FD, F_SETFD, FD_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a signalfd");
    return 0;
}

int main(int argc, char **argv)
{
    struct supervisor s = {0};
    struct error err = {0};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("cpuagent-mask " CPUBROKER_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], ASK) == 0)
        _exit(ask()); /* a leak sanitizer would trace it for a look, and it is traced already */
    if (argc == 2 && strcmp(argv[1], "--try") == 0)
        return tried();
    if (argc != 5) {
        fputs("cpuagent-mask: started by cpuagent-shim; not by hand\n", stderr);
        return 2;
    }
    if (settle(&s, &err) < 0 || read_table(argv[2], &err) < 0) {
        fprintf(stderr, "cpuagent-mask: %s\n", err.message);
        say("failed %s %s", error_code(err.kind), err.message);
        return 1;
    }
    const struct mask_tracer_options options = {
        .name = argv[1], .mask = {.table = &area.table, .cache_folder = *argv[3] ? argv[3] : NULL}
    };
    s.tracer = mask_tracer_new(&options);
    s.cgroup = argv[4];
    int status = serve(&s);
    /* The shim is gone, and not what it watched: that goes on, without new code, until the next
     * tracer takes it. */
    if (status == 0 && mask_tracer_threads(s.tracer) &&
        mask_tracer_detach(s.tracer, s.cgroup, false, &err) < 0)
        fprintf(stderr, "cpuagent-mask: %s\n", err.message);
    _exit(status); /* and nothing that is traced after all is killed */
}
