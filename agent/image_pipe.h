/* SPDX-License-Identifier: Apache-2.0 */
/* image_pipe.h - a bounded pipe of bytes between two threads, so that reading, hashing and
 * writing files go on while the network is busy. One writer, one reader. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

struct image_pipe;

struct image_pipe *image_pipe_new(void);
void image_pipe_free(struct image_pipe *pipe); /* both threads are done; NULL is fine */
DEFINE_AUTO(image_pipe)

/* Writer. Waits while the pipe is full; *ret is where up to *ret_length bytes may be put, which
 * image_pipe_write then takes without a copy. -1 when the pipe was broken, with that error. */
int image_pipe_room(struct image_pipe *pipe, void **ret, size_t *ret_length, struct error *err);
/* Writer. Waits while the pipe is full. -1 when the pipe was broken, with that error. The reader
 * gets whole blocks, and the rest with the next flush. */
int image_pipe_write(struct image_pipe *pipe, const void *data, size_t length, struct error *err);
/* Writer: the reader gets what there is. */
void image_pipe_flush(struct image_pipe *pipe);
/* Writer: no more will come. */
void image_pipe_close(struct image_pipe *pipe);
/* Reader. Copies up to `max` bytes, as many as there are once there are any; 0 at the end, -1
 * when the pipe was broken. */
ssize_t image_pipe_read(struct image_pipe *pipe, void *buffer, size_t max, struct error *err);
/* Reader, without a copy: *ret stays valid until the next call. */
ssize_t image_pipe_peek(struct image_pipe *pipe, const void **ret, struct error *err);
/* Either side, or a third: both sides fail from now on with this error; the first one counts. */
void image_pipe_break(struct image_pipe *pipe, const struct error *reason);
