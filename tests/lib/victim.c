/* SPDX-License-Identifier: Apache-2.0 */
/* victim.c - the workload of the integration tests: three processes of two threads each that pass
 * a hash chain around in pipes, with timers, an open file, a shared mapping and memory.
 *
 *   victim run MIB STEP_MS     works in its folder: appends "step N HASH alarms=A ticks=T" to
 * chain.log victim check FILE MIB      proves that FILE holds each step once, in order, with the
 * right hash, and that the timers never went back; prints the last step
 *
 * A step starts at a timerfd in the root and goes root -> middle -> last -> root through pipes.
 * In each process a second thread does the hashing, handed over under a mutex. Every hash depends
 * on all steps before it and on the memory of all three, so what is lost, doubled or damaged in a
 * move shows in every later line. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PAGE_WORDS 512
#define PARTS      3 /* processes */
#define MIB_MAX    65536

static void die(const char *what)
{
    dprintf(2, "victim %d: %s: %s\n", (int)getpid(), what, strerror(errno));
    _exit(70);
}

/* The chain's link in one process. */

struct link {
    uint64_t *memory;
    size_t pages;
};

static uint64_t mixed(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static void link_init(struct link *link, unsigned part, unsigned long mib)
{
    size_t share = mib / PARTS ? mib / PARTS : 1;
    link->pages = share * 256;
    size_t bytes = link->pages * PAGE_WORDS * sizeof(uint64_t);
    link->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (link->memory == MAP_FAILED)
        die("mmap");
    for (size_t i = 0; i < link->pages * PAGE_WORDS; i++)
        link->memory[i] = mixed(i * PARTS + part + 1);
}

static uint64_t link_step(struct link *link, uint64_t step, uint64_t hash)
{
    uint64_t *page = link->memory + hash % link->pages * PAGE_WORDS;
    hash = mixed(hash + step);
    for (size_t i = 0; i < PAGE_WORDS; i++)
        hash = mixed(hash ^ page[i]);
    page[hash % PAGE_WORDS] ^= hash;
    return hash;
}

/* The thread that hashes. */

struct worker {
    struct link link;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool asked; /* step and hash are a question; else they are the answer */
    uint64_t step, hash;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    pthread_mutex_lock(&worker->mutex);
    for (;;) {
        while (!worker->asked)
            pthread_cond_wait(&worker->changed, &worker->mutex);
        worker->hash = link_step(&worker->link, worker->step, worker->hash);
        worker->asked = false;
        pthread_cond_broadcast(&worker->changed);
    }
    return NULL;
}

static void worker_start(struct worker *worker, unsigned part, unsigned long mib)
{
    link_init(&worker->link, part, mib);
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->changed, NULL);
    worker->asked = false;
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker_main, worker) != 0)
        die("pthread_create");
}

static uint64_t worker_step(struct worker *worker, uint64_t step, uint64_t hash)
{
    pthread_mutex_lock(&worker->mutex);
    worker->step = step;
    worker->hash = hash;
    worker->asked = true;
    pthread_cond_broadcast(&worker->changed);
    while (worker->asked)
        pthread_cond_wait(&worker->changed, &worker->mutex);
    hash = worker->hash;
    pthread_mutex_unlock(&worker->mutex);
    return hash;
}

/* The ring. */

struct message {
    uint64_t step, hash, alarms, ticks;
};

static bool receive(int fd, struct message *message)
{
    size_t have = 0;
    while (have < sizeof *message) {
        ssize_t n = read(fd, (char *)message + have, sizeof *message - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("read from the ring");
        if (n == 0)
            return false; /* the process before this one is gone */
        have += (size_t)n;
    }
    return true;
}

static void pass(int fd, const struct message *message)
{
    ssize_t n;
    do {
        n = write(fd, message, sizeof *message);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *message)
        die("write to the ring");
}

static volatile sig_atomic_t alarms; /* signal handlers take no argument */

static void on_alarm(int signal_number)
{
    (void)signal_number;
    alarms++;
}

static int timer_every(unsigned long ms)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec spec = {0};
    spec.it_interval.tv_sec = spec.it_value.tv_sec = (time_t)(ms / 1000);
    spec.it_interval.tv_nsec = spec.it_value.tv_nsec = (long)(ms % 1000) * 1000000L;
    if (fd < 0 || timerfd_settime(fd, 0, &spec, NULL) < 0)
        die("timerfd");
    return fd;
}

static uint64_t timer_wait(int fd)
{
    uint64_t expired = 0;
    while (read(fd, &expired, sizeof expired) < 0)
        if (errno != EINTR)
            die("read from the timer");
    return expired;
}

/* Counts SIGALRM from an interval timer. */
static void middle(int in, int out, unsigned long mib)
{
    struct worker worker;
    worker_start(&worker, 1, mib);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {
        {0, 20000},
        {0, 20000}
    };
    if (setitimer(ITIMER_REAL, &every, NULL) < 0)
        die("setitimer");
    struct message message;
    while (receive(in, &message)) {
        message.hash = worker_step(&worker, message.step, message.hash);
        message.alarms = (uint64_t)alarms;
        pass(out, &message);
    }
    _exit(0);
}

struct ticker {
    int fd;
    _Atomic uint64_t ticks;
};

static void *ticker_main(void *arg)
{
    struct ticker *ticker = arg;
    for (;;)
        atomic_fetch_add(&ticker->ticks, timer_wait(ticker->fd));
    return NULL;
}

/* Counts the expirations of a timerfd in a third thread. */
static void last(int in, int out, unsigned long mib)
{
    struct worker worker;
    worker_start(&worker, 2, mib);
    struct ticker ticker = {.fd = timer_every(20)};
    pthread_t thread;
    if (pthread_create(&thread, NULL, ticker_main, &ticker) != 0)
        die("pthread_create");
    struct message message;
    while (receive(in, &message)) {
        message.hash = worker_step(&worker, message.step, message.hash);
        message.ticks = atomic_load(&ticker.ticks);
        pass(out, &message);
    }
    _exit(0);
}

/* What the root keeps in its folder: each must have come along whole. */
struct folder {
    int log, counter;
    uint64_t *shared; /* a shared mapping of a file */
};

static void folder_open(struct folder *folder)
{
    folder->log = open("chain.log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    folder->counter = open("counter", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int mapped = open("mapped", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    uint64_t zero = 0;
    if (folder->log < 0 || folder->counter < 0 || mapped < 0 || ftruncate(mapped, 4096) < 0 ||
        pwrite(folder->counter, &zero, sizeof zero, 0) != (ssize_t)sizeof zero)
        die("files in the folder");
    folder->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
    if (folder->shared == MAP_FAILED)
        die("mmap of a file");
    close(mapped);
}

/* The counter in the file and the one in the mapping must be the step before this one. */
static void folder_step(struct folder *folder, const struct message *message)
{
    uint64_t counter = 0;
    if (pread(folder->counter, &counter, sizeof counter, 0) != (ssize_t)sizeof counter)
        die("read the counter");
    if (counter != message->step - 1 || *folder->shared != message->step - 1) {
        dprintf(folder->log, "WRONG at step %" PRIu64 ": file %" PRIu64 " mapping %" PRIu64 "\n",
                message->step, counter, *folder->shared);
        _exit(71);
    }
    *folder->shared = message->step;
    if (pwrite(folder->counter, &message->step, sizeof message->step, 0) !=
        (ssize_t)sizeof message->step)
        die("write the counter");
    char line[128];
    int length = snprintf(line, sizeof line,
                          "step %" PRIu64 " %016" PRIx64 " alarms=%" PRIu64 " ticks=%" PRIu64 "\n",
                          message->step, message->hash, message->alarms, message->ticks);
    if (write(folder->log, line, (size_t)length) != length)
        die("write the log");
}

static _Noreturn void run(unsigned long mib, unsigned long step_ms)
{
    int pipes[PARTS][2];
    for (unsigned i = 0; i < PARTS; i++)
        if (pipe2(pipes[i], O_CLOEXEC) < 0)
            die("pipe");
    for (unsigned part = 1; part < PARTS; part++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid > 0)
            continue;
        /* only its own two ends stay open, so that the end of one process ends the ring */
        for (unsigned i = 0; i < PARTS; i++) {
            if (i != part - 1)
                close(pipes[i][0]);
            if (i != part)
                close(pipes[i][1]);
        }
        (part == 1 ? middle : last)(pipes[part - 1][0], pipes[part][1], mib);
    }
    for (unsigned i = 0; i < PARTS; i++) {
        if (i != 0)
            close(pipes[i][1]);
        if (i != PARTS - 1)
            close(pipes[i][0]);
    }
    struct worker worker;
    worker_start(&worker, 0, mib);
    struct folder folder;
    folder_open(&folder);
    int clock = timer_every(step_ms);
    struct message message = {.hash = 1};
    for (;;) {
        timer_wait(clock);
        message.step++;
        message.hash = worker_step(&worker, message.step, message.hash);
        pass(pipes[0][1], &message);
        if (!receive(pipes[PARTS - 1][0], &message)) {
            errno = 0;
            die("the ring is broken");
        }
        folder_step(&folder, &message);
    }
}

static int check(const char *path, unsigned long mib)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        return 1;
    }
    struct link links[PARTS];
    for (unsigned part = 0; part < PARTS; part++)
        link_init(&links[part], part, mib);
    uint64_t step = 0, hash = 1, last_alarms = 0, last_ticks = 0;
    char line[160];
    while (fgets(line, sizeof line, file) && strchr(line, '\n')) {
        step++;
        for (unsigned part = 0; part < PARTS; part++)
            hash = link_step(&links[part], step, hash);
        uint64_t found_step = 0, found_hash = 0, found_alarms = 0, found_ticks = 0;
        int fields = sscanf(line, "step %" SCNu64 " %" SCNx64 " alarms=%" SCNu64 " ticks=%" SCNu64,
                            &found_step, &found_hash, &found_alarms, &found_ticks);
        if (fields != 4 || found_step != step || found_hash != hash) {
            printf("broken: expected step %" PRIu64 " %016" PRIx64 ", found %s", step, hash, line);
            return 1;
        }
        if (found_alarms < last_alarms || found_ticks < last_ticks) {
            printf("broken: a timer's count went back at %s", line);
            return 1;
        }
        last_alarms = found_alarms;
        last_ticks = found_ticks;
    }
    fclose(file);
    printf("%" PRIu64 " alarms=%" PRIu64 " ticks=%" PRIu64 "\n", step, last_alarms, last_ticks);
    return step ? 0 : 1;
}

static unsigned long number(const char *text, unsigned long most)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (!*text || *end || value < 1 || value > most) {
        fprintf(stderr, "victim: expected a number 1..%lu, not '%s'\n", most, text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "run") == 0)
        run(number(argv[2], MIB_MAX), number(argv[3], 60000));
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return check(argv[2], number(argv[3], MIB_MAX));
    fprintf(stderr, "usage: victim run MIB STEP_MS | victim check FILE MIB\n");
    return 2;
}
