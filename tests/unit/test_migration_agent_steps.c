/* SPDX-License-Identifier: Apache-2.0 */
/* test_migration_agent_steps.c - an agent that was cut off at any step, and a broker that says
 * what is old or does not fit: the journal decides, and nothing is done twice or to the wrong
 * copy. */
#include "migration_fixture.h"
#include "migration_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

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

static struct node *node_of(struct world *w, bool source)
{
    return source ? &w->a : &w->b;
}

/* What a crash at that step leaves on that node. */
static void leave_journal(struct world *w, bool source, enum journal_step step)
{
    struct journal journal;
    struct assignment assignment = {0};
    struct error err = {0};
    autojson *json = fixture_assignment(w, source, MIGRATION_DO_HOLD);
    if (assignment_decode(json, &assignment, &err) < 0 ||
        journal_create(node_of(w, source)->state_dir, &assignment, &journal, &err) < 0)
        fail_msg("%s", err.message);
    assignment_done(&assignment);
    journal.step = step;
    journal.root_pid = w->child;
    const pid_t pids[] = {w->child, 0};
    journal.threads = migration_count_threads(pids, &journal.tasks); /* a sanitizer has its own */
    autofree char *image = xasprintf("%s/image", journal.dir);
    assert_int_equal(file_make_dirs(image, 0700, NULL), 0);
    fixture_write(image, "pages-1.img", 1000);
    if (!source && (step == JOURNAL_RECEIVED || step == JOURNAL_RECEIVING ||
                    step == JOURNAL_RESTORING || step == JOURNAL_RESTORED)) {
        /* the folder lies where it was received, or already in place */
        struct stat st;
        bool placed = step == JOURNAL_RESTORING || step == JOURNAL_RESTORED;
        autofree char *staging = xasprintf("%s/there/.w1." FIXTURE_ID ".incoming", w->top);
        const char *dir = placed ? w->target_dir : staging;
        assert_int_equal(mkdir(dir, 0700), 0);
        fixture_write(dir, "stdout.log", 1234);
        assert_int_equal(stat(dir, &st), 0);
        journal.folder_dev = (uint64_t)st.st_dev;
        journal.folder_ino = (uint64_t)st.st_ino;
    }
    assert_int_equal(journal_save(&journal, &err), 0);
    journal_done(&journal);
}

/* The workload as this migration holds it, stopped. */
static void hold_stopped(struct world *w, bool source)
{
    struct workloads *x = &node_of(w, source)->workloads;
    x->here = true;
    x->state = WORKLOAD_STOPPED;
    x->root = w->child;
    snprintf(x->migration, sizeof(x->migration), "%s", FIXTURE_ID);
    if (!source)
        snprintf(x->dir, sizeof(x->dir), "%s", w->target_dir);
    kill(w->child, SIGSTOP);
    fixture_wait_state(w->child, true);
}

/* Waits for the trail, whatever the state. */
static void wait_trail(struct world *w, const char *trail)
{
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&w->broker.lock);
        bool found = strcmp(w->broker.trail, trail) == 0;
        pthread_mutex_unlock(&w->broker.lock);
        if (found)
            return;
        usleep(5000);
    }
    fail_msg("expected the reports '%s', found '%s': %s", trail, w->broker.trail,
             w->broker.message);
}

static void never_more(struct world *w, const char *trail)
{
    usleep(150000);
    wait_trail(w, trail);
}

/* ---- the source ---- */

static void a_dump_that_was_cut_off_runs_again_before_it_is_reported(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_DUMPING);
    hold_stopped(w, true);
    w->broker.state = MIGRATION_DUMPING;
    fixture_start_node(w, &w->a);
    wait_trail(w, "failure resumed");
    assert_int_equal(w->a.engine.aborts, 1);
    assert_int_equal(w->a.workloads.state, WORKLOAD_RUNNING);
    assert_false(world_child_stopped(w));
    assert_non_null(strstr(w->broker.message, "cut off"));
    assert_non_null(strstr(w->broker.message, "'w1' runs on here"));
    world_wait_forgotten(&w->a);
}

/* Nobody can know whether the target has the whole image: only the broker lets the tasks run. */
static void a_sending_that_was_cut_off_stays_stopped(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_SENDING);
    hold_stopped(w, true);
    w->broker.state = MIGRATION_RESTORING;
    w->broker.away = 3;
    fixture_start_node(w, &w->a);
    usleep(300000);
    assert_true(world_child_stopped(w));
    assert_int_equal(w->a.workloads.continues, 0);
    wait_trail(w, "failure resumed"); /* this broker aborts then */
    assert_false(world_child_stopped(w));
}

static void a_sent_copy_is_killed_even_after_a_restart(void **state)
{
    static const enum journal_step steps[] = {JOURNAL_SENDING, JOURNAL_SENT, JOURNAL_UNSURE,
                                              JOURNAL_KILLING};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct world *w = world_new();
        leave_journal(w, true, steps[i]);
        hold_stopped(w, true);
        w->broker.state = MIGRATION_COMMITTING;
        w->broker.reports[FIXTURE_TARGET] = MIGRATION_REPORT_RUNNING;
        fixture_start_node(w, &w->a);
        fixture_tell(w, &w->a, true);
        world_wait(w, MIGRATION_DONE, "killed");
        assert_false(w->a.workloads.here);
        assert_int_equal(w->a.workloads.continues, 0);
        world_wait_forgotten(&w->a);
        world_free(w);
    }
}

static void a_resuming_that_was_cut_off_is_finished(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_RESUMING);
    hold_stopped(w, true);
    w->broker.state = MIGRATION_ABORTING;
    fixture_start_node(w, &w->a);
    wait_trail(w, "resumed");
    assert_false(world_child_stopped(w));
    world_wait_forgotten(&w->a);
}

static void a_resume_that_fails_is_tried_again_but_not_in_a_circle(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_DUMPED);
    hold_stopped(w, true);
    w->a.workloads.fail_continue = true;
    w->broker.state = MIGRATION_ABORTING;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    wait_trail(w, "failure");
    never_more(w, "failure");
    w->a.workloads.fail_continue = false;
    wait_trail(w, "failure resumed");
    assert_false(world_child_stopped(w));
}

/* It moved away, came back with another migration, and the old `kill` arrives late. */
static void an_old_kill_does_not_touch_a_workload_that_is_not_held(void **state)
{
    struct world *w = *state;
    w->broker.state = MIGRATION_COMMITTING;
    w->broker.reports[FIXTURE_TARGET] = MIGRATION_REPORT_RUNNING;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    world_wait(w, MIGRATION_DONE, "killed");
    assert_true(w->a.workloads.here);
    assert_int_equal(w->a.workloads.destroys, 0);
    assert_false(world_child_stopped(w));
}

static void a_copy_that_runs_again_is_not_killed(void **state)
{
    static const enum journal_step steps[] = {JOURNAL_FAILED, JOURNAL_RESUMED};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct world *w = world_new();
        leave_journal(w, true, steps[i]);
        w->broker.state = MIGRATION_COMMITTING;
        w->broker.reports[FIXTURE_TARGET] = MIGRATION_REPORT_RUNNING;
        fixture_start_node(w, &w->a);
        fixture_tell(w, &w->a, true);
        wait_trail(w, "failure");
        assert_non_null(strstr(w->broker.message, "disagree, look at both"));
        assert_true(w->a.workloads.here);
        world_free(w);
    }
}

static void a_killed_copy_is_not_resumed(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_KILLED);
    w->a.workloads.here = false;
    w->broker.state = MIGRATION_ABORTING;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    wait_trail(w, "failure");
    assert_int_equal(w->a.workloads.continues, 0);
}

static void a_doubled_dump_is_not_done_again(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_DUMPED);
    hold_stopped(w, true);
    w->broker.state = MIGRATION_DUMPING;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    usleep(100000);
    assert_int_equal(w->a.engine.dumps, 0);
    assert_true(world_child_stopped(w));
}

static void a_source_that_the_broker_forgot_keeps_what_it_stopped(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_DUMPED);
    hold_stopped(w, true);
    w->broker.listed = false;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    usleep(200000);
    assert_true(world_child_stopped(w));
    assert_true(w->a.workloads.here);
    autofree char *image =
        xasprintf("%s/migrations/" FIXTURE_ID "/image/pages-1.img", w->a.state_dir);
    assert_int_equal(access(image, F_OK), 0);
}

/* ---- sending to a peer that breaks off ---- */

struct peer {
    int fd;
    size_t limit; /* bytes taken before it hangs up; 0: all, and then no answer */
    size_t taken;
    char address[64];
    pthread_t thread;
};

static void *peer_main(void *ctx)
{
    struct peer *peer = ctx;
    autoclose int fd = accept4(peer->fd, NULL, NULL, SOCK_CLOEXEC);
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char buffer[65536], tail[8] = "";
    (void)!write(fd, go_on, sizeof(go_on) - 1);
    for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
        peer->taken += (size_t)n;
        if (n >= 5)
            memcpy(tail, buffer + n - 5, 5);
        if (peer->limit && peer->taken > peer->limit)
            break;
        if (memcmp(tail, "0\r\n\r\n", 5) == 0)
            break; /* all of it has come: end without a word */
    }
    return NULL;
}

static void peer_start(struct world *w, struct peer *peer, size_t limit)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    peer->limit = limit;
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(peer->fd, 1), 0);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&address, &length), 0);
    snprintf(w->b.address, sizeof(w->b.address), "127.0.0.1:%u", ntohs(address.sin_port));
    pthread_create(&peer->thread, NULL, peer_main, peer);
}

static void a_half_sent_image_lets_the_source_run_on_alone(void **state)
{
    struct world *w = *state;
    struct peer peer = {0};
    w->a.engine.pages_bytes = 30UL * 1024 * 1024;
    peer_start(w, &peer, 100000);
    w->broker.state = MIGRATION_DUMPING;
    w->broker.cancel_at = MIGRATION_REPORT_SENT;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    wait_trail(w, "dumped failure resumed");
    assert_int_equal(w->a.workloads.continues, 1); /* alone: the broker's word came later */
    assert_non_null(strstr(w->broker.message, "'w1' runs on here"));
    pthread_join(peer.thread, NULL);
    close(peer.fd);
}

static void a_wholly_sent_image_without_an_answer_waits_for_the_broker(void **state)
{
    struct world *w = *state;
    struct peer peer = {0};
    peer_start(w, &peer, 0);
    w->broker.state = MIGRATION_DUMPING;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    wait_trail(w, "dumped failure resumed");
    assert_non_null(strstr(w->broker.message, "stays stopped here until the broker decides"));
    pthread_join(peer.thread, NULL);
    close(peer.fd);
}

/* ---- the target ---- */

static void what_had_come_when_the_agent_ended_is_removed(void **state)
{
    static const enum journal_step steps[] = {JOURNAL_RECEIVING, JOURNAL_RESTORING,
                                              JOURNAL_DISCARDING};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct world *w = world_new();
        autofree char *there = xasprintf("%s/there", w->top);
        leave_journal(w, false, steps[i]);
        if (steps[i] == JOURNAL_RESTORING)
            hold_stopped(w, false);
        w->broker.state = steps[i] == JOURNAL_DISCARDING ? MIGRATION_ABORTING : MIGRATION_RESTORING;
        fixture_start_node(w, &w->b);
        wait_trail(w, steps[i] == JOURNAL_DISCARDING ? "discarded" : "failure discarded");
        world_wait_forgotten(&w->b);
        assert_false(w->b.workloads.here);
        assert_int_equal(w->b.workloads.continues, 0);
        assert_int_equal(rmdir(there), 0); /* empty */
        world_free(w);
    }
}

/* It was compared with its manifest as it came, before the journal said so. */
static void what_had_come_whole_is_restored_by_the_next_agent(void **state)
{
    struct world *w = *state;
    leave_journal(w, false, JOURNAL_RECEIVED);
    w->broker.state = MIGRATION_RESTORING;
    kill(w->child, SIGSTOP);
    fixture_wait_state(w->child, true);
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "restored running");
    assert_int_equal(w->b.engine.restores, 1);
}

static void a_restored_copy_waits_for_the_word(void **state)
{
    struct world *w = *state;
    leave_journal(w, false, JOURNAL_RESTORED);
    hold_stopped(w, false);
    w->broker.state = MIGRATION_RESTORING; /* its report is not in the journal of this test */
    fixture_start_node(w, &w->b);
    usleep(100000);
    assert_true(world_child_stopped(w));
    w->a.workloads.here = false;
    world_set(w, MIGRATION_COMMITTING, true);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "running");
    assert_false(world_child_stopped(w));
    world_wait_forgotten(&w->b);
    assert_int_equal(w->b.workloads.continues, 1);
}

static void a_copy_that_was_let_run_before_the_journal_knew_is_running(void **state)
{
    struct world *w = *state;
    leave_journal(w, false, JOURNAL_RESTORED);
    hold_stopped(w, false);
    w->b.workloads.state = WORKLOAD_RUNNING;
    *w->b.workloads.migration = '\0';
    kill(w->child, SIGCONT);
    w->a.workloads.here = false;
    w->broker.state = MIGRATION_COMMITTING;
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "running");
    assert_int_equal(w->b.workloads.continues, 0);
}

static void a_running_copy_is_not_discarded(void **state)
{
    struct world *w = *state;
    leave_journal(w, false, JOURNAL_RUNNING);
    hold_stopped(w, false);
    w->broker.state = MIGRATION_ABORTING;
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "failure");
    assert_true(w->b.workloads.here);
    assert_int_equal(w->b.workloads.destroys, 0);
}

static void an_old_discard_does_not_touch_a_workload_that_is_not_held(void **state)
{
    struct world *w = *state;
    struct workloads *x = &w->b.workloads;
    x->here = true;
    x->root = w->child;
    x->state = WORKLOAD_RUNNING;
    snprintf(x->dir, sizeof(x->dir), "%s", w->target_dir);
    assert_int_equal(mkdir(w->target_dir, 0700), 0);
    w->broker.state = MIGRATION_ABORTING;
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "discarded");
    world_wait_forgotten(&w->b);
    assert_true(x->here);
    assert_int_equal(access(w->target_dir, F_OK), 0);
}

static void a_look_is_not_taken_twice(void **state)
{
    struct world *w = *state;
    fixture_start_node(w, &w->a);
    fixture_tell(w, &w->a, true);
    wait_trail(w, "inspected");
    autojson *again = json_object_new_array(); /* old words */
    json_object_array_add(again, fixture_assignment(w, true, MIGRATION_DO_INSPECT));
    migrations_assign(w->a.migrations, again);
    never_more(w, "inspected");
    assert_int_equal(fixture_inspect.looks, 1);
}

static void a_target_that_the_broker_forgot_cleans_up_what_never_ran(void **state)
{
    struct world *w = *state;
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    wait_trail(w, "prepared");
    world_set(w, MIGRATION_DUMPING, false);
    fixture_tell(w, &w->b, false);
    world_wait_forgotten(&w->b);
    never_more(w, "prepared");
}

static void a_restored_copy_that_the_broker_forgot_is_kept(void **state)
{
    struct world *w = *state;
    leave_journal(w, false, JOURNAL_RESTORED);
    hold_stopped(w, false);
    w->broker.listed = false;
    fixture_start_node(w, &w->b);
    fixture_tell(w, &w->b, false);
    usleep(200000);
    assert_true(w->b.workloads.here);
    assert_true(world_child_stopped(w));
}

static void the_role_does_not_change(void **state)
{
    struct world *w = *state;
    leave_journal(w, true, JOURNAL_DUMPED);
    hold_stopped(w, true);
    fixture_start_node(w, &w->a);
    autojson *list = json_object_new_array();
    json_object_array_add(list, fixture_assignment(w, false, MIGRATION_DO_DISCARD));
    migrations_assign(w->a.migrations, list);
    never_more(w, "");
    assert_true(w->a.workloads.here);
}

static void forged_assignments_do_nothing(void **state)
{
    struct world *w = *state;
    static const char *const ids[] = {"../../escape", "", "a/b", ".."};
    fixture_start_node(w, &w->a);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        autojson *list = json_object_new_array();
        json_object *assignment = fixture_assignment(w, true, MIGRATION_DO_DUMP);
        json_put_str(assignment, "migration", ids[i]);
        json_object_array_add(list, assignment);
        migrations_assign(w->a.migrations, list);
    }
    never_more(w, "");
    assert_int_equal(w->a.engine.dumps, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_dump_that_was_cut_off_runs_again_before_it_is_reported),
        TEST(a_sending_that_was_cut_off_stays_stopped),
        cmocka_unit_test(a_sent_copy_is_killed_even_after_a_restart),
        TEST(a_resuming_that_was_cut_off_is_finished),
        TEST(a_resume_that_fails_is_tried_again_but_not_in_a_circle),
        TEST(an_old_kill_does_not_touch_a_workload_that_is_not_held),
        cmocka_unit_test(a_copy_that_runs_again_is_not_killed),
        TEST(a_killed_copy_is_not_resumed),
        TEST(a_doubled_dump_is_not_done_again),
        TEST(a_source_that_the_broker_forgot_keeps_what_it_stopped),
        TEST(a_half_sent_image_lets_the_source_run_on_alone),
        TEST(a_wholly_sent_image_without_an_answer_waits_for_the_broker),
        cmocka_unit_test(what_had_come_when_the_agent_ended_is_removed),
        TEST(what_had_come_whole_is_restored_by_the_next_agent),
        TEST(a_restored_copy_waits_for_the_word),
        TEST(a_copy_that_was_let_run_before_the_journal_knew_is_running),
        TEST(a_running_copy_is_not_discarded),
        TEST(an_old_discard_does_not_touch_a_workload_that_is_not_held),
        TEST(a_look_is_not_taken_twice),
        TEST(a_target_that_the_broker_forgot_cleans_up_what_never_ran),
        TEST(a_restored_copy_that_the_broker_forgot_is_kept),
        TEST(the_role_does_not_change),
        TEST(forged_assignments_do_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
