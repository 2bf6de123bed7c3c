/* SPDX-License-Identifier: Apache-2.0 */
/* verdict_reason.h - adding reasons, between verdict.c and verdict_reason.c. */
#pragma once

#include "verdict.h"

/* A new reason at the end, without a feature, a bit or a message; borrowed until the next one is
 * added. The caller sets its message. */
struct verdict_reason *verdict_reason_add(struct verdict *verdict, enum verdict_code code,
                                          enum verdict_severity severity);
