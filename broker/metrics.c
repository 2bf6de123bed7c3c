/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - counters of requests and verdicts, and the fleet in numbers. */
#include "metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"
#include "webhook.h"

#define ROUTES_MAX 64

/* Upper bounds of the duration buckets. */
static const struct {
    int64_t us;
    const char *seconds;
} buckets[] = {
    {100,     "0.0001"},
    {500,     "0.0005"},
    {1000,    "0.001" },
    {5000,    "0.005" },
    {10000,   "0.01"  },
    {50000,   "0.05"  },
    {100000,  "0.1"   },
    {1000000, "1.0"   },
};

struct route_metrics {
    atomic_uint_fast64_t by_status[6]; /* 1xx … 5xx; 0 is for what is none of them */
    atomic_uint_fast64_t by_duration[ARRAY_LEN(buckets) + 1];
    atomic_uint_fast64_t duration_us;
};

struct metrics {
    struct route_metrics routes[ROUTES_MAX + 1]; /* the last: no route */
    atomic_uint_fast64_t approved, rejected;
};

struct metrics *metrics_new(void)
{
    return xcalloc(1, sizeof(struct metrics));
}

void metrics_free(struct metrics *metrics)
{
    free(metrics);
}

static void count(atomic_uint_fast64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static uint64_t value(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_request(struct metrics *metrics, const struct http_route *route, unsigned status,
                     int64_t duration_us)
{
    size_t index = route ? (size_t)(route - broker_routes) : ROUTES_MAX;
    struct route_metrics *m = &metrics->routes[index < ROUTES_MAX ? index : ROUTES_MAX];
    size_t bucket = 0;
    while (bucket < ARRAY_LEN(buckets) && duration_us > buckets[bucket].us)
        bucket++;
    count(&m->by_status[status / 100 < 6 ? status / 100 : 0], 1);
    count(&m->by_duration[bucket], 1);
    count(&m->duration_us, duration_us > 0 ? (uint64_t)duration_us : 0);
}

void metrics_verdict(struct metrics *metrics, bool rejected)
{
    count(rejected ? &metrics->rejected : &metrics->approved, 1);
}

static void print_family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void print_request_counts(FILE *out, const struct route_metrics *m, const char *method,
                                 const char *path)
{
    for (unsigned class = 1; class < ARRAY_LEN(m->by_status); class ++) {
        uint64_t n = value(&m->by_status[class]);
        if (n)
            fprintf(out,
                    "cpubroker_http_requests_total{method=\"%s\",route=\"%s\",status="
                    "\"%uxx\"} "
                    "%" PRIu64 "\n",
                    method, path, class, n);
    }
}

static void print_requests(FILE *out, const struct metrics *metrics)
{
    print_family(out, "cpubroker_http_requests", "counter", "Requests answered.");
    for (size_t i = 0; i < ROUTES_MAX && broker_routes[i].method; i++)
        print_request_counts(out, &metrics->routes[i], broker_routes[i].method,
                             broker_routes[i].path);
    print_request_counts(out, &metrics->routes[ROUTES_MAX], "", "none");
}

static void print_durations(FILE *out, const struct metrics *metrics)
{
    print_family(out, "cpubroker_http_request_duration_seconds", "histogram",
                 "From a request's headers to its answer; long polls include the wait.");
    fputs("# UNIT cpubroker_http_request_duration_seconds seconds\n", out);
    for (size_t i = 0; i < ROUTES_MAX && broker_routes[i].method; i++) {
        const struct route_metrics *m = &metrics->routes[i];
        uint64_t counts[ARRAY_LEN(buckets) + 1], total = 0;
        for (size_t k = 0; k < ARRAY_LEN(counts); k++)
            total += counts[k] = value(&m->by_duration[k]);
        if (!total)
            continue;
        uint64_t sum = 0;
        for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
            sum += counts[k];
            fprintf(out,
                    "cpubroker_http_request_duration_seconds_bucket{method=\"%s\","
                    "route=\"%s\","
                    "le=\"%s\"} %" PRIu64 "\n",
                    broker_routes[i].method, broker_routes[i].path,
                    k < ARRAY_LEN(buckets) ? buckets[k].seconds : "+Inf", sum);
        }
        fprintf(out,
                "cpubroker_http_request_duration_seconds_count{method=\"%s\",route="
                "\"%s\"} %" PRIu64 "\n"
                "cpubroker_http_request_duration_seconds_sum{method=\"%s\",route="
                "\"%s\"} %.6f\n",
                broker_routes[i].method, broker_routes[i].path, total, broker_routes[i].method,
                broker_routes[i].path, (double)value(&m->duration_us) / 1e6);
    }
}

static void print_fleet(FILE *out, struct model *model)
{
    uint64_t nodes[NODE_STATUS_COUNT] = {0}, workloads[LIFE_STATE_COUNT] = {0};
    struct node *node = NULL;
    struct workload *workload = NULL;
    struct pool *pool = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->nodes, node)
    nodes[model_node_status(model, node)]++;
    SORTED_EACH(&model->workloads, workload)
    workloads[workload->state]++;
    print_family(out, "cpubroker_pool_epoch", "gauge", "The epoch of a pool's mask.");
    SORTED_EACH(&model->pools, pool)
    fprintf(out, "cpubroker_pool_epoch{pool=\"%s\"} %" PRId64 "\n", pool->name, pool->epoch);
    print_family(out, "cpubroker_pool_members", "gauge", "Members of a pool.");
    SORTED_EACH(&model->pools, pool)
    fprintf(out, "cpubroker_pool_members{pool=\"%s\"} %zu\n", pool->name, pool->members.count);
    model_unlock(model);
    print_family(out, "cpubroker_nodes", "gauge", "Nodes by status.");
    for (int i = 0; i < NODE_STATUS_COUNT; i++)
        fprintf(out, "cpubroker_nodes{status=\"%s\"} %" PRIu64 "\n",
                node_status_name((enum node_status)i), nodes[i]);
    print_family(out, "cpubroker_workloads", "gauge", "Workloads by state.");
    for (int i = 0; i < LIFE_STATE_COUNT; i++)
        fprintf(out, "cpubroker_workloads{state=\"%s\"} %" PRIu64 "\n",
                life_state_name((enum life_state)i), workloads[i]);
}

static int take_count(void *ctx, const char *name, int64_t number, struct error *err)
{
    (void)err;
    enum migration_state state;
    if (migration_state_from_name(name, &state) == 0)
        ((int64_t *)ctx)[state] = number;
    return 0;
}

static void print_events(FILE *out, const struct model *model)
{
    print_family(out, "cpubroker_fleet_events", "counter",
                 "What happened to the fleet since the broker started.");
    for (int i = 0; i < FLEET_EVENT_COUNT; i++)
        fprintf(out, "cpubroker_fleet_events_total{kind=\"%s\"} %" PRIu64 "\n",
                fleet_event_name((enum fleet_event)i), atomic_load(&model->event_counts[i]));
}

static void print_deliveries(FILE *out, const struct webhooks *webhooks)
{
    print_family(out, "cpubroker_webhook_tries", "counter",
                 "What became of webhooks' tries since the broker started.");
    for (int i = 0; i < WEBHOOK_RESULT_COUNT; i++)
        fprintf(out, "cpubroker_webhook_tries_total{result=\"%s\"} %" PRIu64 "\n",
                webhook_result_name((enum webhook_result)i),
                webhooks_count(webhooks, (enum webhook_result)i));
}

static int print_migrations(FILE *out, struct store *store, struct error *err)
{
    int64_t counts[MIGRATION_STATE_COUNT] = {0};
    if (store_migration_counts(store, take_count, counts, err) < 0)
        return -1;
    print_family(out, "cpubroker_migrations", "gauge",
                 "Migrations by state, all that the database holds.");
    for (int i = 0; i < MIGRATION_STATE_COUNT; i++)
        fprintf(out, "cpubroker_migrations{state=\"%s\"} %" PRId64 "\n",
                migration_state_name((enum migration_state)i), counts[i]);
    return 0;
}

int metrics_text(struct broker *broker, char **ret, struct error *err)
{
    const struct metrics *metrics = broker->metrics;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return error_errno(err, ERROR_INTERNAL, "metrics");
    print_family(out, "cpubroker_build", "info", "The version that runs.");
    fprintf(out, "cpubroker_build_info{version=\"%s\"} 1\n", CPUBROKER_VERSION);
    print_fleet(out, broker->model);
    print_events(out, broker->model);
    print_deliveries(out, broker->webhooks);
    int rc = print_migrations(out, broker->store, err);
    print_family(out, "cpubroker_verdicts", "counter", "Verdicts given, of checks and moves.");
    fprintf(out,
            "cpubroker_verdicts_total{verdict=\"approve\"} %" PRIu64 "\n"
            "cpubroker_verdicts_total{verdict=\"reject\"} %" PRIu64 "\n",
            value(&metrics->approved), value(&metrics->rejected));
    print_requests(out, metrics);
    print_durations(out, metrics);
    fputs("# EOF\n", out);
    if (fclose(out) != 0 && rc == 0)
        rc = error_errno(err, ERROR_INTERNAL, "metrics");
    if (rc < 0) {
        free(text);
        return -1;
    }
    *ret = text;
    return 0;
}
