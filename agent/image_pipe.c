/* SPDX-License-Identifier: Apache-2.0 */
/* image_pipe.c - a ring of blocks; a block belongs to the writer until it is full, then to the
 * reader until the next one is asked for, so the lock is taken once a block. */
#include "image_pipe.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define BLOCK_BYTES (256UL * 1024) /* stays in the second-level cache */
#define BLOCK_COUNT 8U

struct image_pipe {
    unsigned char *blocks; /* owned; BLOCK_COUNT of BLOCK_BYTES */
    size_t fill;           /* writer's: bytes in the block it fills */
    size_t taken;          /* reader's: bytes it took of its block */
    bool reading;          /* reader's: it holds a block */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    size_t lengths[BLOCK_COUNT];
    unsigned long written, read; /* blocks handed over, blocks given back */
    bool closed, broken;
    struct error reason;
};

struct image_pipe *image_pipe_new(void)
{
    struct image_pipe *pipe = xcalloc(1, sizeof(*pipe));
    pipe->blocks = xmalloc(BLOCK_BYTES * BLOCK_COUNT);
    pthread_mutex_init(&pipe->lock, NULL);
    pthread_cond_init(&pipe->changed, NULL);
    return pipe;
}

void image_pipe_free(struct image_pipe *pipe)
{
    if (!pipe)
        return;
    pthread_cond_destroy(&pipe->changed);
    pthread_mutex_destroy(&pipe->lock);
    free(pipe->blocks);
    free(pipe);
}

static unsigned char *block_at(struct image_pipe *pipe, unsigned long number)
{
    return pipe->blocks + (number % BLOCK_COUNT) * BLOCK_BYTES;
}

static int broken(struct image_pipe *pipe, struct error *err)
{
    if (err)
        *err = pipe->reason;
    return -1;
}

/* Hands the filled block over. Lock held. */
static void hand_over(struct image_pipe *pipe)
{
    pipe->lengths[pipe->written % BLOCK_COUNT] = pipe->fill;
    pipe->written++;
    pipe->fill = 0;
    pthread_cond_broadcast(&pipe->changed);
}

/* Waits until the block to fill is free. */
static int wait_for_room(struct image_pipe *pipe, struct error *err)
{
    pthread_mutex_lock(&pipe->lock);
    while (!pipe->broken && pipe->written - pipe->read >= BLOCK_COUNT)
        pthread_cond_wait(&pipe->changed, &pipe->lock);
    int rc = pipe->broken ? broken(pipe, err) : 0;
    pthread_mutex_unlock(&pipe->lock);
    return rc;
}

int image_pipe_room(struct image_pipe *pipe, void **ret, size_t *ret_length, struct error *err)
{
    if (pipe->fill == 0 && wait_for_room(pipe, err) < 0)
        return -1;
    /* only the writer changes `written`, so it may be read here without the lock */
    *ret = block_at(pipe, pipe->written) + pipe->fill;
    *ret_length = BLOCK_BYTES - pipe->fill;
    return 0;
}

int image_pipe_write(struct image_pipe *pipe, const void *data, size_t length, struct error *err)
{
    const unsigned char *bytes = data;
    while (length > 0) {
        void *room = NULL;
        size_t some = 0;
        if (image_pipe_room(pipe, &room, &some, err) < 0)
            return -1;
        if (some > length)
            some = length;
        if (room != bytes)
            memmove(room, bytes, some); /* they may lie further on in that very room */
        pipe->fill += some;
        bytes += some;
        length -= some;
        if (pipe->fill == BLOCK_BYTES) {
            pthread_mutex_lock(&pipe->lock);
            hand_over(pipe);
            pthread_mutex_unlock(&pipe->lock);
        }
    }
    return 0;
}

void image_pipe_flush(struct image_pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    if (pipe->fill > 0)
        hand_over(pipe);
    pthread_mutex_unlock(&pipe->lock);
}

void image_pipe_close(struct image_pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    if (pipe->fill > 0)
        hand_over(pipe);
    pipe->closed = true;
    pthread_cond_broadcast(&pipe->changed);
    pthread_mutex_unlock(&pipe->lock);
}

/* The reader's present block with bytes left in it; gives an emptied one back first. */
static ssize_t next_bytes(struct image_pipe *pipe, const unsigned char **ret, struct error *err)
{
    pthread_mutex_lock(&pipe->lock);
    if (pipe->reading && pipe->taken == pipe->lengths[pipe->read % BLOCK_COUNT]) {
        pipe->read++;
        pipe->reading = false;
        pthread_cond_broadcast(&pipe->changed);
    }
    if (!pipe->reading) {
        while (!pipe->broken && !pipe->closed && pipe->read == pipe->written)
            pthread_cond_wait(&pipe->changed, &pipe->lock);
        pipe->reading = pipe->read != pipe->written;
        pipe->taken = 0;
    }
    ssize_t rc = 0;
    if (pipe->broken)
        rc = broken(pipe, err);
    else if (pipe->reading) {
        *ret = block_at(pipe, pipe->read) + pipe->taken;
        rc = (ssize_t)(pipe->lengths[pipe->read % BLOCK_COUNT] - pipe->taken);
    }
    pthread_mutex_unlock(&pipe->lock);
    return rc;
}

ssize_t image_pipe_read(struct image_pipe *pipe, void *buffer, size_t max, struct error *err)
{
    const unsigned char *bytes = NULL;
    ssize_t n = next_bytes(pipe, &bytes, err);
    if (n <= 0)
        return n;
    if ((size_t)n > max)
        n = (ssize_t)max;
    memcpy(buffer, bytes, (size_t)n);
    pipe->taken += (size_t)n;
    return n;
}

ssize_t image_pipe_peek(struct image_pipe *pipe, const void **ret, struct error *err)
{
    const unsigned char *bytes = NULL;
    ssize_t n = next_bytes(pipe, &bytes, err);
    if (n <= 0)
        return n;
    *ret = bytes;
    pipe->taken += (size_t)n;
    return n;
}

void image_pipe_break(struct image_pipe *pipe, const struct error *reason)
{
    pthread_mutex_lock(&pipe->lock);
    if (!pipe->broken) {
        pipe->broken = true;
        pipe->reason = *reason;
    }
    pthread_cond_broadcast(&pipe->changed);
    pthread_mutex_unlock(&pipe->lock);
}
