/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_migrate.c - `cpubroker migrate` and `cpubroker migrations`: moves, and how they go. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "migration_states.h"
#include "table.h"

#define EVENTS_IDLE_MS 60000 /* the broker says something every 15 s at least */
#define FOLLOW_TRIES   60    /* a second apart, without an event, before following is given up */

static void bytes_text(int64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
        value /= 1024;
    snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

struct follow {
    bool terminal;        /* one line that changes, else a line a phase */
    int64_t seq;          /* of the last event that was seen */
    char state[32];       /* the phase that runs */
    int64_t state_at_ms;  /* since when */
    int64_t bytes, total; /* sent of it; 0: not known */
    bool over;
};

static void show_line(const struct follow *f, int64_t now_ms)
{
    char bytes[32], total[32], rate[32];
    int64_t ms = now_ms - f->state_at_ms;
    bytes_text(f->bytes, bytes);
    bytes_text(f->total, total);
    bytes_text(ms > 0 ? f->bytes * 1000 / ms : 0, rate);
    fprintf(stderr, "\r\033[K%s", f->state);
    if (f->bytes > 0 && strcmp(f->state, "transferring") == 0)
        fprintf(stderr, " %s%s%s, %s/s", bytes, f->total ? " of " : "", f->total ? total : "",
                rate);
    fflush(stderr);
}

static void enter_phase(struct follow *f, json_object *event)
{
    if (!f->terminal && *f->state)
        fprintf(stderr, "%-13s %6" PRId64 " ms\n", f->state, json_int(event, "previous_ms"));
    snprintf(f->state, sizeof(f->state), "%s", json_str(event, "state"));
    f->state_at_ms = json_int(event, "at_ms");
    f->bytes = 0;
    enum migration_state state;
    f->over = migration_state_from_name(f->state, &state) == 0 && migration_state_is_final(state);
}

static int on_event(void *ctx, const char *id, const char *name, const char *data)
{
    struct follow *f = ctx;
    autojson *event = NULL;
    if (json_parse(data, strlen(data), &event, NULL) < 0)
        return 0;
    f->seq = strtoll(id, NULL, 10);
    if (strcmp(name, "phase") == 0)
        enter_phase(f, event);
    if (json_int(event, "bytes") > 0)
        f->bytes = json_int(event, "bytes");
    if (json_int(event, "total_bytes") > 0)
        f->total = json_int(event, "total_bytes");
    if (f->terminal)
        show_line(f, json_int(event, "at_ms"));
    return f->over;
}

/* Reads the events to the end; a broker that restarts meanwhile is waited for. */
static int follow_events(struct client *client, const char *id, struct follow *f, struct error *err)
{
    int64_t seen = -1;
    unsigned tries = 0;
    while (!f->over) {
        autofree char *after = xasprintf("/events?after=%" PRId64, f->seq);
        autofree char *path = cmd_path("/v1/migrations/", id, after);
        struct error why = {0};
        int rc = client_events(client, path, EVENTS_IDLE_MS, on_event, f, &why);
        tries = f->seq == seen ? tries + 1 : 0;
        seen = f->seq;
        bool again = rc == 0 || why.kind == ERROR_UNREACHABLE || why.kind == ERROR_TIMEOUT ||
                     why.kind == ERROR_BUSY;
        if (f->over || (again && tries < FOLLOW_TRIES)) {
            if (!f->over)
                sleep(1);
            continue;
        }
        if (err)
            *err = why;
        return rc < 0 ? -1 : error_set(err, ERROR_UNREACHABLE, "its events end too early");
    }
    return 0;
}

/* Follows the migration to its end; *ret_migration is what became of it. */
static int follow(struct client *client, const char *id, json_object **ret_migration,
                  struct error *err)
{
    struct follow f = {.terminal = isatty(STDERR_FILENO) == 1};
    autofree char *self = cmd_path("/v1/migrations/", id, "");
    int rc = follow_events(client, id, &f, err);
    if (f.terminal)
        fputs("\r\033[K", stderr);
    if (rc < 0)
        return error_wrap(err, "cannot follow migration %s, which goes on", id);
    return client_request(client, "GET", self, NULL, ret_migration, err);
}

static bool is_rejected(json_object *migration)
{
    return strcmp(json_str(json_member(migration, "verdict"), "verdict"), "reject") == 0;
}

/* How it ended, in a sentence; -1 when the workload is not where it was to go. `first` is the
 * verdict that was printed already. */
static int tell_end(json_object *migration, json_object *first, bool is_json, struct error *err)
{
    json_object *verdict = json_member(migration, "verdict");
    if (!is_json && !json_object_equal(first, verdict))
        cmd_print_verdict(verdict);
    if (is_rejected(migration))
        return error_set(err, ERROR_REJECTED, "migration %s was rejected on the way: %s",
                         json_str(migration, "id"),
                         json_str(json_member(migration, "error"), "message"));
    const char *state = json_str(migration, "state"), *workload = json_str(migration, "workload");
    if (strcmp(state, "done") != 0)
        return error_set(
            err, ERROR_FAILED, "migration %s is %s: %s%s'%s' stays on node '%s'",
            json_str(migration, "id"), state, json_str(json_member(migration, "error"), "message"),
            json_member(migration, "error") ? "; " : "", workload, json_str(migration, "from"));
    if (!is_json)
        printf("%s moved from %s to %s in %" PRId64 " ms, of which it stood still %" PRId64 " ms\n",
               workload, json_str(migration, "from"), json_str(migration, "to"),
               json_int(migration, "finished_at_ms") - json_int(migration, "created_at_ms"),
               json_int(migration, "downtime_ms"));
    return 0;
}

/* The API's answer to a request that began a migration; with --wait, once that is over. */
static int tell_started(const struct cli_args *args, json_object *reply, bool is_json,
                        struct error *err)
{
    json_object *migration = json_member(reply, "migration");
    AUTO(client) client = NULL;
    autojson *ended = NULL, *first = json_object_get(json_member(reply, "verdict"));
    bool printed = false;
    if (!is_json) {
        cmd_print_verdict(json_member(reply, "verdict"));
        printf("migration %s\n", json_str(migration, "id"));
        fflush(stdout);
    }
    if (!cli_flag(args, "wait"))
        return cmd_print_json(args, reply, &printed, err);
    if (cmd_client(args, &client, err) < 0 ||
        follow(client, json_str(migration, "id"), &ended, err) < 0)
        return -1;
    json_put(reply, "migration", json_object_get(ended));
    json_put(reply, "verdict", json_object_get(json_member(ended, "verdict")));
    if (cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    return tell_end(ended, first, is_json, err);
}

int cmd_migrate(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object(), *reply = NULL;
    bool rejected = false, is_json = false;
    json_put_str(body, "workload", args->rest[0]);
    if (cli_value(args, "to", NULL))
        json_put_str(body, "to", cli_value(args, "to", NULL));
    json_put_bool(body, "dry_run", cli_flag(args, "dry-run"));
    if (cli_value(args, "idempotency-key", NULL))
        json_put_str(body, "idempotency_key", cli_value(args, "idempotency-key", NULL));
    if (cmd_call(args, "POST", "/v1/migrate", body, &reply, &rejected, err) < 0 ||
        cli_output(args, &is_json, err) < 0)
        return -1;
    if (json_member(reply, "migration"))
        return tell_started(args, reply, is_json, err);
    /* The verdict alone: rejected, or a dry run. */
    if (is_json && cmd_print_json(args, reply, &is_json, err) < 0)
        return -1;
    if (!is_json)
        cmd_print_verdict(reply);
    return rejected || strcmp(json_str(reply, "verdict"), "approve") != 0 ? cmd_rejected(err) : 0;
}

/* The engine's lines, indented; nothing in them steers the terminal. */
static void print_log(const char *log)
{
    puts("its log ends with:");
    while (*log) {
        size_t length = strcspn(log, "\n");
        autofree char *line = xasprintf("%.*s", (int)length, log);
        fputs("  ", stdout);
        cli_print_plain(line);
        putchar('\n');
        log += length + (log[length] == '\n');
    }
}

static void print_one(json_object *m)
{
    json_object *phases = json_member(m, "phases"), *error = json_member(m, "error");
    char bytes[32];
    bytes_text(json_int(m, "bytes"), bytes);
    printf("%s: '%s' from %s to %s, %s, %s\n", json_str(m, "id"), json_str(m, "workload"),
           json_str(m, "from"), json_str(m, "to"), json_str(m, "state"), bytes);
    for (size_t i = 0; i < json_array_size(phases); i++) {
        json_object *p = json_array_item(phases, i);
        if (json_member(p, "duration_ms"))
            printf("  %-13s %8" PRId64 " ms\n", json_str(p, "state"), json_int(p, "duration_ms"));
        else
            printf("  %s\n", json_str(p, "state"));
    }
    if (json_member(m, "downtime_ms"))
        printf("stood still for %" PRId64 " ms\n", json_int(m, "downtime_ms"));
    if (json_array_size(json_member(json_member(m, "verdict"), "reasons")))
        cmd_print_verdict(json_member(m, "verdict"));
    if (error) {
        printf("error on %s: ", json_str(error, "node"));
        cli_print_plain(json_str(error, "message"));
        putchar('\n');
        if (*json_str(error, "log"))
            print_log(json_str(error, "log"));
    }
}

static int one_migration(const struct cli_args *args, struct error *err)
{
    autojson *reply = NULL;
    autofree char *path = cmd_path("/v1/migrations/", args->rest[0], "");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        print_one(reply);
    return 0;
}

int cmd_migrations(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"ID",      "WORKLOAD", "FROM",  "TO", "STATE",
                                         "STARTED", "DOWNTIME", "ERROR", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (args->rest_count == 1)
        return one_migration(args, err);
    if (cmd_call(args, "GET", "/v1/migrations", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *list = json_member(reply, "migrations");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *m = json_array_item(list, i);
        char age[32], downtime[32] = "";
        cmd_age(json_int(m, "created_at_ms"), age);
        if (json_member(m, "downtime_ms"))
            snprintf(downtime, sizeof(downtime), "%" PRId64 " ms", json_int(m, "downtime_ms"));
        table_cell(table, json_str(m, "id"));
        table_cell(table, json_str(m, "workload"));
        table_cell(table, json_str(m, "from"));
        table_cell(table, json_str(m, "to"));
        table_cell(table, json_str(m, "state"));
        table_cell(table, age);
        table_cell(table, downtime);
        table_cell(table, json_str(json_member(m, "error"), "message"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

int cmd_migrations_cancel(const struct cli_args *args, struct error *err)
{
    autofree char *path = cmd_path("/v1/migrations/", args->rest[0], "");
    return cmd_change(args, "DELETE", path, NULL, err,
                      "migration %s is being undone; its workload goes on where it was",
                      args->rest[0]);
}
