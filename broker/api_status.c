/* SPDX-License-Identifier: Apache-2.0 */
/* api_status.c - for whoever watches the broker. */
#include "api.h"
#include "metrics.h"

static void reply_status(struct http_reply *reply, unsigned status, const char *word)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "status", word);
    json_put_str(o, "version", CPUBROKER_VERSION);
    http_reply_json(reply, status, o);
}

int api_healthz(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    (void)err;
    reply_status(reply, 200, "ok");
    return 0;
}

int api_readyz(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    bool ready = store_healthy(api_broker(req)->store);
    reply_status(reply, ready ? 200 : 503,
                 ready ? "ready" : "the last write to the database failed");
    return 0;
}

int api_metrics(struct http_request *req, struct http_reply *reply, struct error *err)
{
    char *text = NULL;
    if (metrics_text(api_broker(req), &text, err) < 0)
        return -1;
    http_reply_text(reply, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text);
    return 0;
}
