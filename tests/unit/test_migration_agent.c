/* SPDX-License-Identifier: Apache-2.0 */
/* test_migration_agent.c - whole moves between two nodes, and everything that can go wrong on the
 * way: whatever it is, exactly one copy runs in the end and nothing is left of the other. */
#include "migration_fixture.h"

#include "image_fixture.h"

static int setup(void **state)
{
    *state = world_new();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static bool is_there(const char *format_dir, const char *name)
{
    autofree char *path = xasprintf("%s/%s", format_dir, name);
    return access(path, F_OK) == 0;
}

static unsigned count_below(const char *dir)
{
    autofree char *command = xasprintf("find %s -mindepth 1 | wc -l", dir);
    FILE *pipe = popen(command, "re");
    unsigned count = 99;
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

/* The workload goes on at the source as if nothing had been. */
static void assert_runs_at_source(struct world *w)
{
    assert_true(w->a.workloads.here);
    assert_int_equal(w->a.workloads.state, WORKLOAD_RUNNING);
    assert_string_equal(w->a.workloads.migration, "");
    assert_false(world_child_stopped(w));
    assert_true(is_there(w->a.workloads.dir, "stdout.log"));
    assert_int_equal(w->a.workloads.destroys, 0);
    assert_int_equal(fixture_two_ran, 0);
    world_wait_forgotten(&w->a);
}

static void assert_nothing_at_target(struct world *w)
{
    autofree char *there = xasprintf("%s/there", w->top);
    world_wait_forgotten(&w->b);
    assert_false(w->b.workloads.here);
    assert_int_equal(w->b.workloads.continues, 0);
    assert_int_equal(count_below(there), 0);
}

/* Aborted: the source runs on, the target holds nothing. */
static void assert_undone(struct world *w)
{
    world_wait(w, MIGRATION_FAILED, "discarded");
    assert_runs_at_source(w);
    assert_nothing_at_target(w);
}

static void a_move_is_done(void **state)
{
    struct world *w = *state;
    world_start(w);
    world_wait(w, MIGRATION_DONE, NULL);
    world_wait_forgotten(&w->a);
    world_wait_forgotten(&w->b);
    assert_false(w->a.workloads.here);
    assert_true(w->a.workloads.dir_removed);
    assert_true(w->b.workloads.here);
    assert_int_equal(w->b.workloads.state, WORKLOAD_RUNNING);
    assert_false(world_child_stopped(w));
    assert_int_equal(fixture_two_ran, 0);
    assert_int_equal(w->b.workloads.continues, 1);
    assert_int_equal(w->a.workloads.continues, 0);
    assert_true(is_there(w->target_dir, "stdout.log"));
    assert_false(is_there(w->a.workloads.dir, "stdout.log"));
    /* `sent` comes from the other node, at any time */
    static const char *const reports[] = {"inspected", "dumped",  "received",
                                          "restored",  "running", "killed"};
    const char *at = w->broker.trail;
    for (size_t i = 0; i < ARRAY_LEN(reports); i++) {
        at = strstr(at, reports[i]);
        assert_non_null(at);
    }
    assert_null(strstr(w->broker.trail, "failure"));
}

static void a_large_image_moves(void **state)
{
    struct world *w = *state;
    w->a.engine.pages_bytes = 40UL * 1024 * 1024 + 17;
    world_start(w);
    world_wait(w, MIGRATION_DONE, NULL);
    assert_int_equal(fixture_two_ran, 0);
}

static void a_broker_that_is_away_is_waited_for(void **state)
{
    struct world *w = *state;
    w->broker.away = 3;
    world_start(w);
    world_wait(w, MIGRATION_DUMPING, NULL);
    pthread_mutex_lock(&w->broker.lock);
    w->broker.away = 3;
    pthread_mutex_unlock(&w->broker.lock);
    world_wait(w, MIGRATION_DONE, NULL);
    assert_int_equal(fixture_two_ran, 0);
    assert_int_equal(w->a.engine.dumps, 1); /* reported again, not done again */
    assert_int_equal(w->b.engine.restores, 1);
}

/* ---- the look at the workload ---- */

static void the_workload_is_looked_at_once(void **state)
{
    struct world *w = *state;
    fixture_inspect.processes = 2;
    fixture_inspect.threads = 300;
    w->broker.away = 3; /* told again, not done again */
    world_start(w);
    world_wait(w, MIGRATION_DONE, NULL);
    assert_int_equal(fixture_inspect.looks, 1);
    AUTO(cpu_evidence) evidence = NULL;
    assert_int_equal(cpu_evidence_parse(w->broker.evidence, &evidence, NULL), 0);
    assert_int_equal(evidence->pid, w->child);
    assert_true(evidence->complete);
    assert_int_equal(evidence->task_count, 2);
    assert_int_equal(evidence->tasks[0].thread_count, 1); /* told once, for they are alike */
    assert_int_equal(evidence->tasks[0].threads[0].alike, 299);
}

/* Where the broker's decision rests on it: a second look, at the stopped tasks, comes with the
 * dump. */
static void a_stopped_workload_is_looked_at_again_when_asked(void **state)
{
    (void)state;
    for (unsigned fails = 0; fails < 2; fails++) {
        struct world *w = world_new();
        w->broker.look_again = true;
        w->broker.cancel_at = MIGRATION_REPORT_DUMPED;
        fixture_inspect.fail_second = fails != 0;
        world_start(w);
        world_wait(w, MIGRATION_FAILED, NULL);
        assert_int_equal(fixture_inspect.looks, 2);
        AUTO(cpu_evidence) evidence = NULL;
        assert_int_equal(cpu_evidence_parse(w->broker.evidence, &evidence, NULL), 0);
        assert_int_equal(evidence->pid, w->child);
        assert_int_equal(evidence->complete, !fails); /* the second is what is told last */
        world_free(w);
    }
}

/* A look that fails keeps nobody from moving: the evidence says that nothing is known, and why. */
static void assert_evidence_unknown(struct world *w, const char *why)
{
    AUTO(cpu_evidence) evidence = NULL;
    assert_int_equal(cpu_evidence_parse(w->broker.evidence, &evidence, NULL), 0);
    assert_false(evidence->complete);
    assert_int_equal(evidence->task_count, 1);
    assert_int_equal(evidence->tasks[0].unknown_count, 1);
    if (!strstr(evidence->tasks[0].unknown[0], why))
        fail_msg("expected '%s', got '%s'", why, evidence->tasks[0].unknown[0]);
}

static void a_look_that_fails_is_unknown(void **state)
{
    struct world *w = *state;
    fixture_inspect.fail = true;
    world_start(w);
    world_wait(w, MIGRATION_DONE, NULL);
    assert_evidence_unknown(w, "everything: cannot look: made to fail");
}

static void evidence_that_is_too_large_is_unknown(void **state)
{
    struct world *w = *state;
    fixture_inspect.processes = 4096;
    world_start(w);
    world_wait(w, MIGRATION_DONE, NULL);
    assert_evidence_unknown(w, "at most 1048576 are told");
}

/* ---- refused before anything freezes ---- */

static void what_does_not_run_is_not_looked_at(void **state)
{
    struct world *w = *state;
    w->a.workloads.state = WORKLOAD_STOPPED;
    world_start(w);
    world_wait(w, MIGRATION_FAILED, "discarded");
    assert_int_equal(fixture_inspect.looks, 0);
    assert_int_equal(w->a.engine.dumps, 0);
    assert_non_null(
        strstr(w->broker.message, "'w1' was not frozen: it is stopped, and only a running"));
}

static void assert_never_frozen(struct world *w, const char *reason)
{
    assert_undone(w);
    assert_int_equal(w->a.engine.dumps, 0);
    if (!strstr(w->broker.message, reason))
        fail_msg("expected '%s', got '%s'", reason, w->broker.message);
}

static void an_engine_that_objects_freezes_nothing(void **state)
{
    struct world *w = *state;
    w->a.engine.fail_preflight = true;
    world_start(w);
    assert_never_frozen(w, "'w1' was not frozen: it uses io_uring");
}

static void an_unmovable_folder_freezes_nothing(void **state)
{
    struct world *w = *state;
    autofree char *link = xasprintf("%s/link", w->a.workloads.dir);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    world_start(w);
    assert_never_frozen(w, "'folder/link' is a symbolic link");
}

static void a_workload_that_has_exited_freezes_nothing(void **state)
{
    struct world *w = *state;
    w->a.workloads.state = WORKLOAD_EXITED;
    world_start(w);
    world_wait(w, MIGRATION_FAILED, "discarded");
    assert_int_equal(w->a.engine.dumps, 0);
    assert_non_null(
        strstr(w->broker.message, "it is exited, and only a running workload can move"));
}

static void a_folder_that_is_there_is_never_touched(void **state)
{
    struct world *w = *state;
    assert_int_equal(file_make_dirs(w->target_dir, 0755, NULL), 0);
    fixture_write(w->target_dir, "precious", 10);
    world_start(w);
    world_wait(w, MIGRATION_FAILED, "discarded");
    assert_non_null(strstr(w->broker.message, "is there already; move it away"));
    assert_runs_at_source(w);
    world_wait_forgotten(&w->b);
    assert_true(is_there(w->target_dir, "precious"));
    assert_int_equal(w->a.engine.dumps, 0);
}

static void a_node_without_an_engine_refuses(void **state)
{
    struct world *w = *state;
    fixture_start_node(w, &w->b);
    migrations_set_engine(w->b.migrations, NULL, "criu check fails: no");
    fixture_start_node(w, &w->a);
    w->broker.dirty = true;
    pthread_create(&w->broker.poller, NULL, fixture_poll, w);
    w->stop_polling = true;
    assert_never_frozen(w, "no checkpoint engine works on node node-b: criu check fails: no");
}

/* ---- undone ---- */

static void a_failed_dump_is_undone(void **state)
{
    struct world *w = *state;
    w->a.engine.fail_dump = true;
    world_start(w);
    assert_undone(w);
    assert_non_null(strstr(w->broker.message, "criu dump failed"));
    assert_non_null(strstr(w->broker.message, "'w1' runs on here"));
    assert_string_equal(w->broker.log, "Error (criu/mem.c:1): no\n");
}

static void a_failed_restore_is_undone(void **state)
{
    struct world *w = *state;
    w->b.workloads.fail_restore = true;
    world_start(w);
    assert_undone(w);
    assert_non_null(strstr(w->broker.message, "made to fail"));
    assert_string_equal(w->broker.log, "Error (criu/cr-restore.c:1): no\n");
    assert_int_equal(w->a.workloads.continues, 1);
}

static void a_restore_that_lost_a_task_is_undone(void **state)
{
    struct world *w = *state;
    w->b.workloads.exited_early = true; /* the restored root is not stopped */
    world_start(w);
    world_wait(w, MIGRATION_COMMITTING, NULL);
    /* it was stopped when it was looked at, and ended before it could run: nobody may resume */
    world_wait(w, MIGRATION_COMMITTING, "failure");
    assert_non_null(strstr(w->broker.message, "the source still holds its stopped copy"));
    assert_true(w->a.workloads.here);
    assert_int_equal(w->a.workloads.continues, 0);
    assert_true(world_child_stopped(w));
}

static void a_cancel_is_obeyed_at_each_report(void **state)
{
    static const enum migration_report reports[] = {
        MIGRATION_REPORT_PREPARED, MIGRATION_REPORT_INSPECTED, MIGRATION_REPORT_DUMPED,
        MIGRATION_REPORT_RECEIVED, MIGRATION_REPORT_RESTORED};
    for (size_t i = 0; i < ARRAY_LEN(reports); i++) {
        struct world *w = world_new();
        w->broker.cancel_at = reports[i];
        world_start(w);
        assert_undone(w);
        world_free(w);
    }
    (void)state;
}

/* ---- who may send ---- */

static void an_image_from_another_address_is_refused(void **state)
{
    struct world *w = *state;
    snprintf(w->a.address, sizeof(w->a.address), "10.99.99.99:7072"); /* it will come from here */
    world_start(w);
    assert_undone(w);
    assert_non_null(strstr(w->broker.message, "node node-a lives at 10.99.99.99:7072"));
}

static void an_unreachable_target_is_known_before_the_dump(void **state)
{
    struct world *w = *state;
    snprintf(w->b.address, sizeof(w->b.address), "127.0.0.1:1");
    world_start(w);
    assert_undone(w);
    assert_non_null(strstr(w->broker.message, "'w1' was not frozen: sending the image to node"));
    assert_non_null(strstr(w->broker.message, "127.0.0.1:1"));
    assert_int_equal(w->a.engine.dumps, 0);
    assert_int_equal(w->a.workloads.continues, 0);
}

/* One upload; returns the status. */
static unsigned put_image(struct world *w, const char *id, const char *ticket, const char *node,
                          const void *data, size_t length)
{
    autofree char *file = xasprintf("%s/upload", w->top);
    autofree char *out = xasprintf("%s/status", w->top);
    FILE *f = fopen(file, "we");
    fwrite(data, 1, length, f);
    fclose(f);
    autofree char *command =
        xasprintf("curl -s -o /dev/null -w '%%{http_code}' -T %s -H 'Authorization: Bearer %s' "
                  "-H 'X-Cpubroker-Node: %s' http://%s/v1/images/%s >%s",
                  file, ticket, node, image_server_address(w->b.images), id, out);
    (void)!system(command);
    char *text = NULL;
    assert_int_equal(file_read(out, 100, &text, NULL, NULL), 0);
    unsigned status = (unsigned)strtoul(text, NULL, 10);
    free(text);
    return status;
}

/* The target alone, prepared. */
static void prepare_target(struct world *w)
{
    w->broker.reports[FIXTURE_SOURCE] = MIGRATION_REPORT_INSPECTED; /* it only plays along */
    fixture_start_node(w, &w->b);
    snprintf(w->a.address, sizeof(w->a.address), "127.0.0.1:1");
    fixture_tell(w, &w->b, false);
    world_wait(w, MIGRATION_DUMPING, "prepared");
}

static void make_image(struct world *w, struct fixture_bytes *bytes)
{
    AUTO(image_manifest) manifest = image_manifest_new("w1", w->child);
    manifest->tasks = manifest->threads = 1;
    autofree char *image = xasprintf("%s/image", w->top);
    assert_int_equal(file_make_dirs(image, 0755, NULL), 0);
    fixture_write(image, "pages-1.img", 5000);
    const struct image_stream_job job = {.image_dir = image,
                                         .folder = w->a.workloads.dir,
                                         .manifest = manifest,
                                         .max_bytes = 1 << 20,
                                         .write = fixture_gather,
                                         .ctx = bytes};
    assert_int_equal(image_stream_write(&job, NULL), 0);
}

/* A place in the content of the first or the last file that fixture_write made. */
static unsigned char *content_of(struct fixture_bytes *bytes, bool last)
{
    unsigned char start[32], *at = bytes->data, *found = NULL;
    for (size_t i = 0; i < sizeof(start); i++)
        start[i] = (unsigned char)(i * 7 >> 3);
    while ((!found || last) &&
           (at = memmem(at, bytes->length - (size_t)(at - bytes->data), start, sizeof(start))))
        found = at++;
    assert_non_null(found);
    return found;
}

static void only_the_ticket_and_the_peer_open_the_door(void **state)
{
    struct world *w = *state;
    struct fixture_bytes bytes = {0};
    char wrong[] = FIXTURE_TICKET;
    wrong[63] = '0';
    prepare_target(w);
    make_image(w, &bytes);
    assert_int_equal(put_image(w, "m-1", FIXTURE_TICKET, "node-a", bytes.data, bytes.length), 401);
    assert_int_equal(put_image(w, FIXTURE_ID, wrong, "node-a", bytes.data, bytes.length), 401);
    assert_int_equal(put_image(w, FIXTURE_ID, "", "node-a", bytes.data, bytes.length), 401);
    assert_int_equal(put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-c", bytes.data, bytes.length),
                     403);
    assert_int_equal(put_image(w, FIXTURE_ID, FIXTURE_TICKET, "", bytes.data, bytes.length), 403);
    /* none of that used the ticket up */
    assert_int_equal(put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-a", bytes.data, bytes.length),
                     201);
    assert_int_equal(put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-a", bytes.data, bytes.length),
                     409);
    free(bytes.data);
}

static void a_ticket_serves_once_even_when_that_failed(void **state)
{
    struct world *w = *state;
    struct fixture_bytes bytes = {0};
    autofree char *there = xasprintf("%s/there", w->top);
    prepare_target(w);
    make_image(w, &bytes);
    unsigned char *log = content_of(&bytes, true); /* of stdout.log */
    log[5] ^= 1;
    assert_int_equal(
        put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-a", bytes.data, bytes.length) / 100, 4);
    log[5] ^= 1;
    /* 409 while the migration is there, 401 once it is forgotten */
    assert_int_equal(
        put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-a", bytes.data, bytes.length) / 100, 4);
    world_wait(w, MIGRATION_ABORTING, "failure");
    assert_int_equal(count_below(there), 0);
    free(bytes.data);
}

static void an_altered_page_is_found_before_anything_runs(void **state)
{
    struct world *w = *state;
    struct fixture_bytes bytes = {0};
    prepare_target(w);
    make_image(w, &bytes);
    content_of(&bytes, false)[100] ^= 1; /* of pages-1.img, which is compared beside the restore */
    world_set(w, MIGRATION_TRANSFERRING, true);
    kill(w->child, SIGSTOP);
    fixture_wait_state(w->child, true);
    unsigned status = put_image(w, FIXTURE_ID, FIXTURE_TICKET, "node-a", bytes.data, bytes.length);
    assert_true(status == 201 || status / 100 == 4);
    world_wait(w, MIGRATION_ABORTING, "failure");
    assert_int_equal(w->b.workloads.continues, 0);
    world_wait_forgotten(&w->b);
    assert_false(w->b.workloads.here);
    free(bytes.data);
}

static void nothing_else_is_served(void **state)
{
    struct world *w = *state;
    fixture_start_node(w, &w->b);
    AUTO(client) client = NULL;
    autofree char *url = xasprintf("http://%s", image_server_address(w->b.images));
    const struct client_config config = {.base_url = url};
    static const char *const paths[] = {"/",       "/healthz",       "/v1/images", "/v1/images/",
                                        "/v1/run", "/v1/images/a/b", "/metrics"};
    assert_int_equal(client_new(&config, &client, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        unsigned status = 0;
        autojson *body = NULL;
        assert_int_equal(client_call(client, "GET", paths[i], NULL, &status, &body, NULL), 0);
        assert_int_equal(status, 404);
    }
    unsigned status = 0;
    autojson *body = NULL;
    assert_int_equal(client_call(client, "GET", "/v1/images/m-1", NULL, &status, &body, NULL), 0);
    assert_int_equal(status, 405);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_move_is_done),
        TEST(a_large_image_moves),
        TEST(a_broker_that_is_away_is_waited_for),
        TEST(the_workload_is_looked_at_once),
        cmocka_unit_test(a_stopped_workload_is_looked_at_again_when_asked),
        TEST(a_look_that_fails_is_unknown),
        TEST(evidence_that_is_too_large_is_unknown),
        TEST(what_does_not_run_is_not_looked_at),
        TEST(an_engine_that_objects_freezes_nothing),
        TEST(an_unmovable_folder_freezes_nothing),
        TEST(a_workload_that_has_exited_freezes_nothing),
        TEST(a_folder_that_is_there_is_never_touched),
        TEST(a_node_without_an_engine_refuses),
        TEST(a_failed_dump_is_undone),
        TEST(a_failed_restore_is_undone),
        TEST(a_restore_that_lost_a_task_is_undone),
        cmocka_unit_test(a_cancel_is_obeyed_at_each_report),
        TEST(an_image_from_another_address_is_refused),
        TEST(an_unreachable_target_is_known_before_the_dump),
        TEST(only_the_ticket_and_the_peer_open_the_door),
        TEST(a_ticket_serves_once_even_when_that_failed),
        TEST(an_altered_page_is_found_before_anything_runs),
        TEST(nothing_else_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
