/* SPDX-License-Identifier: Apache-2.0 */
/* engine_criu.c - CRIU as a checkpoint engine: always a child, always with a time limit. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "engine_private.h"
#include "file.h"
#include "log.h"

#define PRIVATE_PROGRAM "/opt/cpubroker/criu/criu"
#define CHECK_MS        20000
#define GRACE_MS        2000 /* between SIGTERM and SIGKILL */
#define CONTINUE_MS     5000 /* for tasks to be seen running again */
#define FREEZE_MS       2000
#define STOPPED_MS      1000 /* for tasks to be seen stopped after a dump */
#define ARGUMENTS_MAX   40
#define CMDLINE_MAX     (1024UL * 1024)
/* Beside CRIU's images: which of its options the restore needs as well, a word per line. */
#define NEEDS_NAME     "engine-options"
#define NEED_SHELL_JOB "shell-job"

struct arguments {
    char *items[ARGUMENTS_MAX + 1]; /* owned; NULL-terminated */
    size_t count;
};

static void add(struct arguments *a, const char *text)
{
    if (a->count < ARGUMENTS_MAX)
        a->items[a->count++] = xstrdup(text);
}

static void add_two(struct arguments *a, const char *option, const char *value)
{
    add(a, option);
    add(a, value);
}

static void arguments_done(struct arguments *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->items[i]);
}

static char **environment(const struct engine *engine)
{
    char **env = xcalloc(3, sizeof(*env));
    env[0] = xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if (engine->no_breakpoints)
        env[1] = xstrdup("CRIU_FAULT=130"); /* system-call stops, see engine_criu_probe.c */
    return env;
}

void engine_strv_free(char **strv)
{
    for (char **s = strv; s && *s; s++)
        free(*s);
    free(strv);
}

const char *engine_name(const struct engine *engine)
{
    (void)engine;
    return "criu";
}

const char *engine_version(const struct engine *engine)
{
    return engine->version;
}

unsigned engine_capabilities(const struct engine *engine)
{
    (void)engine;
    return ENGINE_LEAVE_STOPPED;
}

/* --- finding it ---------------------------------------------------------------------------- */

/* The first line that tells of an error, else the last line; without the log's own prefix. */
static const char *own_words(char *output)
{
    char *save = NULL, *chosen = "it said nothing";
    for (char *line = strtok_r(output, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        chosen = line;
        if (strstr(line, "Error"))
            break;
    }
    return chosen;
}

static int ask(const struct engine *engine, const char *argument, struct process_outcome *ret,
               struct error *err)
{
    char **env = environment(engine);
    char *argv[] = {engine->program, (char *)argument, NULL};
    struct process_job job = {.argv = argv, .env = env, .timeout_ms = CHECK_MS, .grace_ms = 500};
    int rc = process_run(&job, ret, err);
    engine_strv_free(env);
    if (rc == 0 && ret->timed_out)
        rc = error_set(err, ERROR_FAILED, "'%s %s' did not end within %d s", engine->program,
                       argument, CHECK_MS / 1000);
    return rc;
}

static int try_program(struct engine *engine, struct error *err)
{
    struct process_outcome out;
    if (ask(engine, "--version", &out, err) < 0)
        return -1;
    const char *version = strstr(out.output, "Version:");
    if (out.exit_status != 0 || !version || sscanf(version, "Version: %31s", engine->version) != 1)
        return error_set(err, ERROR_FAILED, "'%s --version' says no version: %s", engine->program,
                         own_words(out.output));
    if (ask(engine, "check", &out, err) < 0)
        return -1;
    if (out.exit_status != 0)
        return error_set(err, ERROR_FAILED, "criu %s (%s) does not work on this kernel: %s",
                         engine->version, engine->program, own_words(out.output));
    return 0;
}

/* The caller owns the result; NULL when PATH has none. */
static char *find_in_path(const char *name)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"; *at;) {
        size_t length = strcspn(at, ":");
        autofree char *candidate = xasprintf("%.*s/%s", (int)length, at, name);
        if (*candidate == '/' && access(candidate, X_OK) == 0)
            return steal_ptr(&candidate);
        at += length + (at[length] == ':');
    }
    return NULL;
}

/* The private folder first: it is there only where the system's own was found not to work. */
static int find_program(struct engine *engine, const char *program, struct error *err)
{
    if (program) {
        engine->program = strchr(program, '/') ? xstrdup(program) : find_in_path(program);
        if (!engine->program || *engine->program != '/' || access(engine->program, X_OK) < 0)
            return error_set(
                err, ERROR_NOT_FOUND,
                "criu: '%s' is no program here; expected an absolute path or a name in "
                "PATH",
                program);
        return try_program(engine, err);
    }
    struct error private_error = {0};
    if (access(PRIVATE_PROGRAM, X_OK) == 0) {
        engine->program = xstrdup(PRIVATE_PROGRAM);
        if (try_program(engine, &private_error) == 0)
            return 0;
        free(steal_ptr(&engine->program));
    }
    engine->program = find_in_path("criu");
    if (engine->program)
        return try_program(engine, err);
    if (*private_error.message)
        return error_set(err, private_error.kind, "%s", private_error.message);
    return error_set(err, ERROR_NOT_FOUND,
                     "no criu in PATH or in %s; deploy/get-criu.sh installs one that works",
                     PRIVATE_PROGRAM);
}

int engine_criu_new(const char *program, struct engine **ret, struct error *err)
{
    AUTO(engine) engine = xcalloc(1, sizeof(*engine));
    if (find_program(engine, program, err) < 0)
        return -1;
    engine->no_breakpoints = !criu_breakpoints_fire();
    log_debug("checkpoint engine found", LOG_STR("engine", "criu"),
              LOG_STR("version", engine->version), LOG_STR("program", engine->program),
              LOG_STR("breakpoints", engine->no_breakpoints ? "do not fire" : "fire"));
    *ret = steal_ptr(&engine);
    return 0;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    free(engine->program);
    free(engine);
}

/* --- dump and restore ---------------------------------------------------------------------- */

static void add_common(const struct engine *engine, struct arguments *a, const char *verb,
                       const char *log_name, const struct engine_job *job,
                       const struct criu_needs *needs)
{
    add(a, engine->program);
    add(a, verb);
    add(a, "--leave-stopped");
    add_two(a, "--images-dir", job->image_dir);
    add_two(a, "--work-dir", job->work_dir);
    add_two(a, "--log-file", log_name);
    add(a, "-v2");
    /* The shim puts restored tasks into the workload's cgroup; the source's means nothing there. */
    add(a, "--manage-cgroups=ignore");
    add(a, "--file-locks");
    /* Whether the CPUs fit is the broker's verdict, given before anything froze. CRIU's own
     * comparison is turned off in so many words, on both sides: it takes any difference in the
     * size of the xsave area and in hints for an obstacle, so it turns safe moves away with the
     * tasks already frozen, while it knows neither FMA, PKU nor anything of leaf 7.1, and would
     * add nothing to what the verdict has compared bit by bit. */
    add(a, "--cpu-cap=none");
    if (needs->shell_job)
        add(a, "--shell-job");
}

static int write_needs(const struct engine_job *job, const struct criu_needs *needs,
                       struct error *err)
{
    autofree char *path = xasprintf("%s/%s", job->image_dir, NEEDS_NAME);
    return file_replace(path, needs->shell_job ? NEED_SHELL_JOB "\n" : "", 0600, err);
}

/* It came with the image, from another machine: only known words count. */
static int read_needs(const struct engine_job *job, struct criu_needs *ret, struct error *err)
{
    autofree char *path = xasprintf("%s/%s", job->image_dir, NEEDS_NAME);
    autofree char *text = NULL;
    char *save = NULL;
    struct error why = {0};
    *ret = (struct criu_needs){0};
    if (file_read(path, 256, &text, NULL, &why) < 0)
        return why.kind == ERROR_NOT_FOUND ? 0 : error_set(err, why.kind, "%s", why.message);
    for (char *word = strtok_r(text, "\n", &save); word; word = strtok_r(NULL, "\n", &save)) {
        if (strcmp(word, NEED_SHELL_JOB) != 0)
            return error_set(err, ERROR_INVALID, "the image asks for '%.40s', which is not known",
                             word);
        ret->shell_job = true;
    }
    return 0;
}

int engine_preflight(struct engine *engine, const struct engine_job *job, struct error *err)
{
    (void)engine;
    struct criu_needs needs = {0};
    return criu_preflight(job, &needs, err);
}

static int run_dump(const struct engine *engine, const struct engine_job *job,
                    const struct criu_needs *needs, struct process_outcome *ret, struct error *err)
{
    struct arguments a = {0};
    char number[32];
    char **env = environment(engine);
    autofree char *output = xasprintf("%s/engine.out", job->work_dir);
    add_common(engine, &a, "dump", "dump.log", job, needs);
    snprintf(number, sizeof(number), "%d", job->root_pid);
    add_two(&a, "--tree", number);
    snprintf(number, sizeof(number), "%lu", CRIU_GHOST_LIMIT_BYTES);
    add_two(&a, "--ghost-limit", number);
    autofree char *tasks = xasprintf("%s/" CGROUP_TASKS, job->cgroup_dir);
    if (job->frozen)
        add_two(&a, "--freeze-cgroup", tasks);
    struct process_job child = {.argv = a.items,
                                .env = env,
                                .output_path = output,
                                .timeout_ms = job->timeout_ms,
                                .grace_ms = GRACE_MS};
    int rc = process_run(&child, ret, err);
    arguments_done(&a);
    engine_strv_free(env);
    return rc;
}

/* After a dump that failed: the tasks run again, and the error says so or says that it could not
 * be proved. */
static int dump_failed(struct engine *engine, const struct engine_job *job,
                       const struct process_list *stopped, struct error *err)
{
    struct error why = {0};
    if (job->frozen) {
        struct error first = *err;
        if (engine_abort(engine, job, stopped->pids, &why) < 0)
            error_set(err, first.kind, "%s; and its tasks could not be frozen again: %s",
                      first.message, why.message);
        return -1;
    }
    if (engine_abort(engine, job, stopped->pids, &why) < 0) {
        struct error first = *err;
        return error_set(
            err, first.kind,
            "%s; AND its tasks could not be proved to run again: %s. Look at them with "
            "`cpuagent ps`, and continue them with kill -CONT",
            first.message, why.message);
    }
    struct error first = *err;
    return error_set(err, first.kind, "%s; all its tasks run again here", first.message);
}

static int dump_stopped(struct engine *engine, const struct engine_job *job,
                        const struct criu_needs *needs, struct engine_result *result,
                        struct error *err)
{
    struct process_outcome out;
    if (run_dump(engine, job, needs, &out, err) < 0)
        return -1;
    criu_log_tail(job->work_dir, "dump.log", result->log_tail, sizeof(result->log_tail));
    if (!*result->log_tail)
        criu_log_tail(job->work_dir, "engine.out", result->log_tail, sizeof(result->log_tail));
    if (out.timed_out)
        return error_set(err, ERROR_TIMEOUT,
                         "criu did not finish the dump of process %d within %" PRIu64
                         " ms and was killed",
                         job->root_pid, job->timeout_ms);
    if (out.exit_status != 0)
        return error_set(err, ERROR_FAILED,
                         "criu could not dump process %d (exit status %d): %.400s", job->root_pid,
                         out.exit_status, result->log_tail);
    *result->log_tail = '\0';
    struct process_list tree = {0};
    autofree char *tasks = xasprintf("%s/" CGROUP_TASKS, job->cgroup_dir);
    int rc = criu_tree(job, &tree, err);
    if (rc == 0 && job->frozen)
        rc = cgroup_thaw(tasks, err); /* out of the freezer, straight into their stops */
    if (rc == 0)
        rc = process_wait_stopped(tree.pids, 0, STOPPED_MS, err);
    free(tree.pids);
    return rc < 0 ? error_wrap(err, "criu dumped, and left a task running") : 0;
}

int engine_dump(struct engine *engine, const struct engine_job *job, struct engine_result *result,
                struct error *err)
{
    struct criu_needs needs = {0};
    struct process_list tree = {0}, stopped = {0};
    memset(result, 0, sizeof(*result));
    if (criu_preflight(job, &needs, err) < 0 || criu_tree(job, &tree, err) < 0 ||
        write_needs(job, &needs, err) < 0) {
        free(tree.pids);
        return -1; /* nothing was touched */
    }
    process_list_stopped(tree.pids, &stopped);
    free(tree.pids);
    int rc = dump_stopped(engine, job, &needs, result, err);
    if (rc < 0)
        dump_failed(engine, job, &stopped, err);
    free(stopped.pids);
    if (rc < 0)
        return -1;
    autofree char *stats = xasprintf("%s/stats-dump", job->work_dir);
    result->image_bytes = criu_folder_bytes(job->image_dir);
    result->frozen_ms = criu_frozen_ms(stats);
    return 0;
}

int engine_restore_command(struct engine *engine, const struct engine_job *job, const char *pidfile,
                           char ***ret_argv, char ***ret_env, struct error *err)
{
    struct criu_needs needs;
    struct arguments a = {0};
    if (read_needs(job, &needs, err) < 0)
        return -1;
    add_common(engine, &a, "restore", "restore.log", job, &needs);
    add(&a, "--restore-detached");
    add_two(&a, "--pidfile", pidfile);
    *ret_argv = xcalloc(a.count + 1, sizeof(char *));
    memcpy(*ret_argv, a.items, a.count * sizeof(char *));
    *ret_env = environment(engine);
    return 0;
}

void engine_restore_result(struct engine *engine, const struct engine_job *job,
                           struct engine_result *result)
{
    (void)engine;
    memset(result, 0, sizeof(*result));
    criu_log_tail(job->work_dir, "restore.log", result->log_tail, sizeof(result->log_tail));
    result->image_bytes = criu_folder_bytes(job->image_dir);
}

/* An engine of this very job that outlived its agent, as its arguments show; a debugger that
 * somebody attached meanwhile is left alone, and then named by the proof that fails. */
static bool is_our_engine(pid_t pid, const struct engine_job *job)
{
    char path[64];
    autofree char *text = NULL;
    size_t length = 0;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (file_read(path, CMDLINE_MAX, &text, &length, NULL) < 0)
        return false;
    for (size_t i = 0; i < length; i += strlen(text + i) + 1)
        if (strcmp(text + i, job->image_dir) == 0)
            return true;
    return false;
}

static void kill_left_engines(const struct process_list *tree, const struct engine_job *job)
{
    for (size_t i = 0; i < tree->count; i++) {
        pid_t tracer = process_tracer(tree->pids[i]);
        if (tracer && is_our_engine(tracer, job)) {
            log_warn("killing an engine that outlived its agent", LOG_INT("pid", tracer));
            kill(tracer, SIGKILL);
        }
    }
}

/* What an engine may leave behind: itself, a frozen cgroup, and tasks in a group stop. */
int engine_abort(struct engine *engine, const struct engine_job *job, const pid_t *keep_stopped,
                 struct error *err)
{
    (void)engine;
    struct process_list tree = {0};
    autofree char *tasks =
        *job->cgroup_dir ? xasprintf("%s/%s", job->cgroup_dir, CGROUP_TASKS) : xstrdup("");
    int rc = criu_tree(job, &tree, err);
    if (rc == 0) {
        kill_left_engines(&tree, job);
        rc = job->frozen ? cgroup_freeze(tasks, FREEZE_MS, err) : cgroup_thaw(tasks, err);
    }
    if (rc == 0 && !job->frozen)
        rc = process_continue(tree.pids, keep_stopped, 0, CONTINUE_MS, err);
    free(tree.pids);
    return rc;
}
