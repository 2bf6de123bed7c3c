/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - what the broker counts, as OpenMetrics text. Safe from any
 * thread, without locks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "http.h"

struct broker;
struct metrics;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics); /* NULL is fine */
/* `route` is one of broker_routes, or NULL for a request that met none. */
void metrics_request(struct metrics *metrics, const struct http_route *route, unsigned status,
                     int64_t duration_us);
void metrics_verdict(struct metrics *metrics, bool rejected);
/* The whole exposition; the caller owns *ret. */
int metrics_text(struct broker *broker, char **ret, struct error *err);
