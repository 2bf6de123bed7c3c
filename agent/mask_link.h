/* SPDX-License-Identifier: Apache-2.0 */
/* mask_link.h - what the shim and the tracer of its workload say to each other.
 *
 * The tracer (cpuagent-mask, mask_main.c) is a child of the shim. It is executed in the workload's
 * run folder as
 *
 *     cpuagent-mask NAME TABLE CACHE CGROUP
 *
 * with the workload's name, the table's file, the folder of the cache of sites ("" for none) and
 * the control group of the workload's tasks, and with one end of a pair of SOCK_SEQPACKET sockets
 * as descriptor MASK_LINK_FD. Each message is one text, at most MASK_LINK_MAX bytes:
 *
 *     shim: seize PID     it is yet to start its program         tracer: ok, or error CODE MESSAGE
 *     shim: attach PID    the root of a masked tree in CGROUP    tracer: likewise
 *     shim: restored PID  the same, where every CPUID that is in a file has its detour: else error
 *     shim: detach        into the frozen CGROUP                 tracer: likewise
 *     shim: yield         to a debugger; it runs on              tracer: likewise
 *                         tracer, by itself: masked              the program of `seize` is masked
 *                         tracer, by itself: failed CODE MESSAGE and the tree is killed
 *
 * When the shim's end closes the tracer lets go of what it traces, which runs on, and leaves. What
 * is covered stands in <run folder>/MASK_STATE_NAME, replaced whenever it changes:
 *
 *     {"sites":N,"traps":N,"lacks":{"hindered":N,...},"problem":TEXT}
 *
 * with the most that any process of the tree has had; `lacks` has those that are not 0, and
 * `problem`, why the tree was killed, is there only then.
 *
 * `cpuagent-mask --try` masks a child of its own for a trial: 0, or 1 with a line that says why
 * that does not work here. */
#pragma once

#define MASK_LINK_FD    3
#define MASK_LINK_MAX   1024
#define MASK_STATE_NAME "mask.json"
