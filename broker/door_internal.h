/* SPDX-License-Identifier: Apache-2.0 */
/* door_internal.h - what the doors share: what a pod means, and a verdict in a few words. */
#pragma once

#include "door.h"
#include "door_json.h"
#include "door_text.h"

#define DOOR_ANNOTATION_POOL     "cpubroker.dev/pool"
#define DOOR_ANNOTATION_WORKLOAD "cpubroker.dev/workload"
#define DOOR_ANNOTATION_LABEL    "cpubroker.dev/node-label"
#define DOOR_LABEL_DEFAULT       "kubernetes.io/hostname"

#define DOOR_LABEL_BYTES 318 /* 253 of a domain, a slash, 63 of a name, and the NUL */
#define DOOR_SCORE_MAX   10  /* kube-scheduler's MaxExtenderPriority */

/* What a pod's annotations say. */
struct door_claim {
    bool ours; /* a pool or a workload is named; else nothing below counts */
    struct door_subject subject;
    char pool[DOOR_NAME_BYTES];
    char label[DOOR_LABEL_BYTES]; /* the node label that holds the broker's names */
};

/* Reads the annotations of a pod. Errors: ERROR_INVALID. */
int door_claim_read(struct door_json pod, struct door_claim *claim, struct error *err);
/* Finds the pool of a claim that is ours. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT where the
 * workload belongs to another pool than the one named. */
int door_claim_resolve(const struct door_world *world, struct door_claim *claim, struct error *err);
/* What Kubernetes takes as a label's value, and as a node's name (a DNS subdomain, RFC 1123): a
 * broker's name need be neither. */
bool door_is_label_value(const char *text);
bool door_is_node_name(const char *text);

/* "workload w1", "pool p" */
const char *door_subject_words(const struct door_subject *subject, char *text, size_t size);

/* The verdict on a node by its name; -1 also where that can be no node of the broker's. */
int door_judge(const struct door_world *world, const struct door_subject *subject, const char *node,
               struct verdict *verdict, struct error *err);
/* 10 for an approval without warnings, one less for each warning but at least 1; 0: rejected. */
int door_score(const struct verdict *verdict);
/* What decided, by code: "missing_feature avx512f, avx512dq; vendor_differs". The same for every
 * node that lacks the same, since kube-scheduler counts equal reasons together. Owned. */
char *door_verdict_codes(const struct verdict *verdict);
/* What decided, in sentences; owned. */
char *door_verdict_sentences(const struct verdict *verdict);
