/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup.h - ownership that ends with the scope.
 *
 * AUTO(type), autofree and autoclose run their clean-up when the variable leaves scope;
 * steal_ptr() and steal_fd() hand ownership on. Clean-ups preserve errno. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define AUTO(T) __attribute__((cleanup(T##_freep))) struct T *
#define DEFINE_AUTO(T)                         \
    static inline void T##_freep(struct T **p) \
    {                                          \
        int saved_errno = errno;               \
        T##_free(*p);                          \
        errno = saved_errno;                   \
    }

static inline void cleanup_freep(void *p)
{
    int saved_errno = errno;
    free(*(void **)p);
    errno = saved_errno;
}

static inline void cleanup_closep(int *fd)
{
    int saved_errno = errno;
    if (*fd >= 0)
        close(*fd);
    errno = saved_errno;
}

#define autofree  __attribute__((cleanup(cleanup_freep)))
#define autoclose __attribute__((cleanup(cleanup_closep)))

/* The value of *p, which becomes NULL: the caller owns it now. */
#define steal_ptr(p)                     \
    ({                                   \
        __typeof__(*(p)) stolen_ = *(p); \
        *(p) = NULL;                     \
        stolen_;                         \
    })

static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
