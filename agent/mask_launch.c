/* SPDX-License-Identifier: Apache-2.0 */
/* mask_launch.c - the child waits until it is traced, and becomes the program. */
#include "mask_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cleanup.h"
#include "mask_filter.h"
#include "process.h"

#define START_TIMEOUT_MS 60000 /* a first look at a large program takes a second */

/* Tells errno if it cannot. */
static _Noreturn void become(const struct mask_launch_options *options, int go, int result)
{
    char byte;
    if (read(go, &byte, 1) == 1 && mask_filter_install() == 0)
        execvpe(options->argv[0], options->argv, options->env);
    int failure = errno;
    if (write(result, &failure, sizeof(failure)) < 0)
        _exit(126);
    _exit(127);
}

static int start_error(const char *name, int result, struct error *err)
{
    int failure = 0;
    if (read(result, &failure, sizeof(failure)) != sizeof(failure))
        return error_set(err, ERROR_FAILED, "'%s' ended before it was started", name);
    errno = failure;
    return error_errno(err, failure == ENOENT ? ERROR_NOT_FOUND : ERROR_FAILED, "cannot start '%s'",
                       name);
}

static int wait_for_program(struct mask_tracer *tracer, const char *name, int result,
                            struct error *err)
{
    int64_t until_ms = process_now_ms() + START_TIMEOUT_MS;
    int status = 0;
    for (bool lives = true; !mask_tracer_is_masked(tracer);) {
        if (mask_tracer_attend(tracer, true, &lives, err) < 0)
            return -1;
        if (mask_tracer_ended(tracer, &status))
            return mask_tracer_is_masked(tracer) ? 0 : start_error(name, result, err);
        if (process_now_ms() > until_ms)
            return error_set(err, ERROR_TIMEOUT, "'%s' was not started within %d s", name,
                             START_TIMEOUT_MS / 1000);
    }
    return 0;
}

int mask_launch_start(const struct mask_launch_options *options, struct mask_tracer **ret,
                      struct error *err)
{
    const char *name = options->argv[0];
    const struct mask_tracer_options how = {
        .name = name, .mask = options->mask, .kill_at_end = true};
    int go[2], result[2];
    if (pipe2(go, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    autoclose int go_read = go[0], go_write = go[1];
    if (pipe2(result, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    autoclose int result_read = result[0], result_write = result[1];
    AUTO(mask_tracer) tracer = mask_tracer_new(&how);
    pid_t pid = fork();
    if (pid < 0)
        return error_errno(err, ERROR_FAILED, "cannot start '%s'", name);
    if (pid == 0) {
        close(go_write); /* else it would wait for itself when the parent is gone */
        become(options, go_read, result_write);
    }
    close(steal_fd(&result_write)); /* so that reading it ends with the child */
    if (mask_tracer_seize(tracer, pid, err) < 0)
        return -1;
    if (write(go_write, "", 1) != 1)
        return error_errno(err, ERROR_FAILED, "cannot start '%s'", name);
    if (wait_for_program(tracer, name, result_read, err) < 0)
        return -1;
    *ret = steal_ptr(&tracer);
    return 0;
}
