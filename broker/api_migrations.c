/* SPDX-License-Identifier: Apache-2.0 */
/* api_migrations.c - moves: asked for, looked at, followed, cancelled. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "metrics.h"

#define KEY_MAX_BYTES    128
#define LIST_LIMIT       100
#define LIST_LIMIT_MAX   1000
#define EVENTS_AT_A_TIME 32

static int decode_request(json_object *json, struct migrate_request *ret, struct error *err)
{
    if (json_get_str("migrate", json, "workload", &ret->workload, err) < 0 ||
        json_opt_str("migrate", json, "to", &ret->to, err) < 0 ||
        json_opt_str("migrate", json, "idempotency_key", &ret->key, err) < 0 ||
        json_opt_bool("migrate", json, "dry_run", &ret->dry_run, err) < 0)
        return -1;
    if (name_check("workload", ret->workload, err) < 0)
        return error_wrap(err, "migrate: workload");
    if (ret->to && name_check("node", ret->to, err) < 0)
        return error_wrap(err, "migrate: to");
    if (ret->key && (!*ret->key || strlen(ret->key) > KEY_MAX_BYTES))
        return error_set(err, ERROR_INVALID, "migrate: idempotency_key: expected 1 to %d bytes",
                         KEY_MAX_BYTES);
    return 0;
}

int api_migrate(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    autojson *json = NULL;
    struct migrate_request request = {0};
    struct migrate_result result;
    if (http_request_json(req, &json, err) < 0 || decode_request(json, &request, err) < 0 ||
        migrations_start(&broker->migrations, &request, &result, err) < 0)
        return -1;
    metrics_verdict(broker->metrics, result.rejected);
    if (!result.migration) {
        http_reply_json(reply, request.dry_run ? 200 : 409, steal_ptr(&result.verdict));
    } else {
        json_object *o = json_object_new_object();
        reply->location = xasprintf("/v1/migrations/%s", json_str(result.migration, "id"));
        json_put(o, "migration", steal_ptr(&result.migration));
        json_put(o, "verdict", steal_ptr(&result.verdict));
        http_reply_json(reply, 202, o);
    }
    migrate_result_done(&result);
    return 0;
}

int api_migrations_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *workload = http_request_query(req, "workload");
    uint64_t limit = 0;
    json_object *list = NULL;
    if (http_request_query_u64(req, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, &limit, err) < 0 ||
        (workload && name_check("workload", workload, err) < 0) ||
        migration_list(broker->store, workload, (int64_t)limit, &list, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put(o, "migrations", list);
    http_reply_json(reply, 200, o);
    return 0;
}

int api_migration_get(struct http_request *req, struct http_reply *reply, struct error *err)
{
    json_object *migration = NULL;
    if (migration_get(api_broker(req)->store, http_request_param(req, "id"), &migration, err) < 0)
        return -1;
    http_reply_json(reply, 200, migration);
    return 0;
}

int api_migration_cancel(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *id = http_request_param(req, "id");
    json_object *migration = NULL;
    if (migrations_cancel(&broker->migrations, id, err) < 0 ||
        migration_get(broker->store, id, &migration, err) < 0)
        return -1;
    http_reply_json(reply, 202, migration);
    return 0;
}

/* Server-sent events: what the database has, then what comes, until the
 * migration is over. */
struct event_stream {
    struct store *store;
    char *id;
    int64_t after;
    char *text; /* owned; not sent yet, from `sent` on */
    size_t length, sent;
};

static void stream_free(void *p)
{
    struct event_stream *stream = p;
    free(stream->text);
    free(stream->id);
    free(stream);
}

static int add_event(void *ctx, const struct store_event *row, struct error *err)
{
    (void)err;
    struct event_stream *stream = ctx;
    autofree char *event =
        xasprintf("id: %lld\nevent: %s\ndata: %s\n\n", (long long)row->seq, row->kind, row->json);
    size_t length = strlen(event);
    stream->text = xrealloc(stream->text, stream->length + length + 1);
    memcpy(stream->text + stream->length, event, length + 1);
    stream->length += length;
    stream->after = row->seq;
    return 0;
}

static int look_finished(void *ctx, const struct store_migration *row, struct error *err)
{
    (void)err;
    *(bool *)ctx = row->finished_at_ms >= 0;
    return 0;
}

static ssize_t send_text(struct event_stream *stream, char *buffer, size_t max)
{
    size_t left = stream->length - stream->sent;
    size_t now = left < max ? left : max;
    memcpy(buffer, stream->text + stream->sent, now);
    stream->sent += now;
    if (stream->sent == stream->length) {
        free(steal_ptr(&stream->text));
        stream->length = stream->sent = 0;
    }
    return (ssize_t)now;
}

static ssize_t stream_next(void *p, char *buffer, size_t max)
{
    struct event_stream *stream = p;
    bool finished = true; /* also when it is gone */
    if (stream->length)
        return send_text(stream, buffer, max);
    /* Whether it is over comes first: the event that ends it is then among those found. */
    if (store_migrations(stream->store, STORE_MIGRATIONS_BY_ID, stream->id, 1, look_finished,
                         &finished, NULL) < 0 ||
        store_events(stream->store, stream->id, stream->after, EVENTS_AT_A_TIME, add_event, stream,
                     NULL) < 0)
        return -1;
    if (stream->length)
        return send_text(stream, buffer, max);
    return finished ? -1 : 0;
}

int api_migration_events(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *id = http_request_param(req, "id");
    const char *last = http_request_header(req, "Last-Event-ID");
    uint64_t after = 0;
    autojson *migration = NULL;
    if (http_request_query_u64(req, "after", 0, JSON_INTEGER_MAX, 0, &after, err) < 0 ||
        migration_get(broker->store, id, &migration, err) < 0)
        return -1;
    if (last && strspn(last, "0123456789") == strlen(last) && strlen(last) <= 16)
        after = strtoull(last, NULL, 10);
    struct event_stream *stream = xcalloc(1, sizeof(*stream));
    stream->store = broker->store;
    stream->id = xstrdup(id);
    stream->after = (int64_t)after;
    reply->content_type = "text/event-stream";
    reply->stream_next = stream_next;
    reply->stream_free = stream_free;
    reply->stream = stream;
    reply->stream_key = xasprintf("migration/%s", id);
    return 0;
}
