/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tasks.c - a hash of threads by their number. */
#include "mask_tasks.h"

static size_t bucket(pid_t tid)
{
    return (size_t)tid % MASK_TASK_BUCKETS;
}

struct mask_task *mask_tasks_find(const struct mask_tasks *tasks, pid_t tid)
{
    struct mask_task *task = tasks->buckets[bucket(tid)];
    while (task && task->tid != tid)
        task = task->next;
    return task;
}

struct mask_task *mask_tasks_need(struct mask_tasks *tasks, pid_t tid)
{
    struct mask_task *task = mask_tasks_find(tasks, tid);
    if (task)
        return task;
    task = xcalloc(1, sizeof(*task));
    task->tid = tid;
    task->next = tasks->buckets[bucket(tid)];
    tasks->buckets[bucket(tid)] = task;
    tasks->count++;
    return task;
}

void mask_tasks_park(struct mask_tasks *tasks, struct mask_task *task, int signal)
{
    tasks->parked += !task->is_parked;
    task->is_parked = true;
    task->parked_signal = signal;
}

void mask_tasks_unpark(struct mask_tasks *tasks, struct mask_task *task)
{
    tasks->parked -= task->is_parked;
    task->is_parked = false;
}

void mask_tasks_drop(struct mask_tasks *tasks, pid_t tid)
{
    struct mask_task **at = &tasks->buckets[bucket(tid)];
    while (*at && (*at)->tid != tid)
        at = &(*at)->next;
    struct mask_task *task = *at;
    if (!task)
        return;
    *at = task->next;
    tasks->count--;
    tasks->held -= task->held_at_ms != 0;
    tasks->parked -= task->is_parked;
    mask_process_free(task->process);
    free(task);
}

void mask_tasks_done(struct mask_tasks *tasks)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        while (tasks->buckets[i])
            mask_tasks_drop(tasks, tasks->buckets[i]->tid);
}
