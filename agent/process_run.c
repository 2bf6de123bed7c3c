/* SPDX-License-Identifier: Apache-2.0 */
/* process_run.c - a child in a process group of its own, with a time limit. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "process.h"

/* Between fork and exec in a program with threads: only async-signal-safe calls. */
static _Noreturn void become(const struct process_job *job, pid_t parent, int in, int out,
                             int failure)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    /* It ends with us, rather than hold tasks frozen with nobody to look after it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
        dup2(out, STDERR_FILENO) >= 0 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        execve(job->argv[0], job->argv, job->env);
    int code = errno;
    ssize_t n = write(failure, &code, sizeof(code));
    (void)n; /* the parent then sees status 127 */
    _exit(127);
}

static void drain(int fd, struct process_outcome *out, size_t *used)
{
    char scrap[1024];
    for (;;) {
        size_t room = sizeof(out->output) - 1 - *used;
        ssize_t n = room ? read(fd, out->output + *used, room) : read(fd, scrap, sizeof(scrap));
        if (n <= 0)
            return;
        if (room)
            *used += (size_t)n;
    }
}

/* True when the child has ended within the time. */
static bool wait_end(int pidfd, int capture, int64_t deadline, struct process_outcome *out,
                     size_t *used)
{
    for (;;) {
        int64_t left = deadline - process_now_ms();
        struct pollfd fds[2] = {
            {.fd = pidfd,   .events = POLLIN},
            {.fd = capture, .events = POLLIN}
        };
        int n = poll(fds, 2, left > 0 ? (left < 60000 ? (int)left : 60000) : 0);
        if (fds[1].revents)
            drain(capture, out, used);
        if (fds[0].revents & POLLIN)
            return true;
        if (n <= 0 && left <= 0)
            return false;
        if (n > 0 && (fds[1].revents & POLLHUP))
            capture = -1; /* closed by the child; only its end is waited for now */
    }
}

static int open_output(const struct process_job *job, int *ret_read, int *ret_write,
                       struct error *err)
{
    if (job->output_path) {
        *ret_write =
            open(job->output_path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (*ret_write < 0)
            return error_errno(err, ERROR_FAILED, "cannot write %s", job->output_path);
        return 0;
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    *ret_read = ends[0];
    *ret_write = ends[1];
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, ERROR_FAILED, "cannot set up a pipe");
    return 0;
}

int process_run(const struct process_job *job, struct process_outcome *ret, struct error *err)
{
    memset(ret, 0, sizeof(*ret));
    autoclose int in = open("/dev/null", O_RDONLY | O_CLOEXEC), capture = -1, out = -1;
    autoclose int failure_read = -1, failure_write = -1;
    int ends[2];
    if (in < 0)
        return error_errno(err, ERROR_FAILED, "cannot open /dev/null");
    if (open_output(job, &capture, &out, err) < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    failure_read = ends[0];
    failure_write = ends[1];

    pid_t self = getpid(), pid = fork();
    if (pid < 0)
        return error_errno(err, ERROR_FAILED, "cannot fork for %s", job->argv[0]);
    if (pid == 0)
        become(job, self, in, out, failure_write);
    setpgid(pid, pid); /* in both, so that neither has to wait for the other */
    close(steal_fd(&out));
    close(steal_fd(&failure_write));

    int code = 0;
    ssize_t n = read(failure_read, &code, sizeof(code)); /* ends when the exec has happened */
    autoclose int pidfd = pidfd_open(pid, 0);
    size_t used = 0;
    int64_t deadline = process_now_ms() + (int64_t)job->timeout_ms;
    if (pidfd < 0 || !wait_end(pidfd, capture, deadline, ret, &used)) {
        ret->timed_out = true;
        kill(-pid, SIGTERM);
        if (pidfd >= 0)
            wait_end(pidfd, capture, process_now_ms() + (int64_t)job->grace_ms, ret, &used);
    }
    /* What the child left in its group ends with it; its pid is not reaped yet, so the group's
     * number cannot belong to somebody else. */
    kill(-pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (capture >= 0)
        drain(capture, ret, &used);
    ret->output[used] = '\0';
    ret->exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (n == (ssize_t)sizeof(code)) {
        errno = code;
        return error_errno(err, ERROR_NOT_FOUND, "cannot execute %s", job->argv[0]);
    }
    return 0;
}
