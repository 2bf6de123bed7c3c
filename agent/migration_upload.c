/* SPDX-License-Identifier: Apache-2.0 */
/* migration_upload.c - an image on its way in: who may send it, and where it goes meanwhile. */
#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "digest.h"
#include "file.h"
#include "log.h"
#include "migration_internal.h"

struct migration_upload {
    struct migration *m;
    struct image_sink *sink; /* owned */
    int64_t begun_ms;
    bool whole;
    struct error reason; /* why it is not; the first thing that went wrong */
};

/* ---- who may ---- */

/* An address as 16 bytes, IPv4 mapped into IPv6. */
static int parse_ip(const char *text, struct in6_addr *ret)
{
    struct in_addr four;
    if (inet_pton(AF_INET6, text, ret) == 1)
        return 0;
    if (inet_pton(AF_INET, text, &four) != 1)
        return -1;
    memset(ret, 0, sizeof(*ret));
    ret->s6_addr[10] = ret->s6_addr[11] = 0xff;
    memcpy(ret->s6_addr + 12, &four, sizeof(four));
    return 0;
}

static bool name_has_ip(const char *host, const struct in6_addr *ip)
{
    const struct addrinfo hints = {
        .ai_family = AF_INET6, .ai_socktype = SOCK_STREAM, .ai_flags = AI_V4MAPPED | AI_ALL};
    struct addrinfo *list = NULL;
    bool found = false;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return false;
    for (struct addrinfo *a = list; a && !found; a = a->ai_next)
        found =
            a->ai_family == AF_INET6 &&
            memcmp(&((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr, ip, sizeof(*ip)) == 0;
    freeaddrinfo(list);
    return found;
}

/* Whether the sender's address is the one that the broker named for the peer. */
static bool is_peer(const char *peer_ip, const char *peer_address)
{
    char host[64];
    struct in6_addr ip, expected;
    if (address_host(peer_address, host, NULL) < 0 || parse_ip(peer_ip, &ip) < 0)
        return false;
    if (parse_ip(host, &expected) == 0)
        return memcmp(&ip, &expected, sizeof(ip)) == 0;
    return name_has_ip(host, &ip);
}

/* What the ticket's bearer must also be; lock held and the journal ours. */
static int check_sender(const struct migration *m, const char *node, const char *peer_ip,
                        struct error *err)
{
    const struct assignment *a = &m->journal.assignment;
    if (strcmp(node, a->peer_node) != 0)
        return error_set(err, ERROR_FORBIDDEN, "the image comes from node '%.63s', expected '%s'",
                         node, a->peer_node);
    if (!is_peer(peer_ip, a->peer_address))
        return error_set(err, ERROR_FORBIDDEN,
                         "the image comes from %s, but node %s lives at %s; if it has several "
                         "addresses, set `advertise` there to the one it sends from",
                         peer_ip, a->peer_node, a->peer_address ? a->peer_address : "nowhere");
    return 0;
}

static int check_time(const struct migration *m, struct error *err)
{
    enum journal_step step = m->journal.step;
    int64_t deadline_ms = m->journal.assignment.deadline_at_ms;
    if (step == JOURNAL_NONE)
        return error_set(err, ERROR_CONFLICT, "this node is not prepared yet");
    if (step != JOURNAL_PREPARED || m->receiving)
        return error_set(err, ERROR_CONFLICT, "the ticket was used already; each serves once");
    if (deadline_ms > 0 && clock_unix_ms(m->all->config.clock) > deadline_ms)
        return error_set(err, ERROR_TIMEOUT,
                         "the migration's deadline is over; do the nodes' clocks agree?");
    return 0;
}

/* ---- where it goes ---- */

static int make_staging(struct migration *m, const char *staging, const char *image_dir,
                        struct error *err)
{
    struct stat st;
    if (file_remove_tree(staging, err) < 0 || file_remove_tree(image_dir, err) < 0 ||
        file_make_dirs(image_dir, 0700, err) < 0)
        return -1;
    if (mkdir(staging, 0700) < 0 || lstat(staging, &st) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make the folder '%s'", staging);
    m->journal.folder_dev = (uint64_t)st.st_dev;
    m->journal.folder_ino = (uint64_t)st.st_ino;
    return 0;
}

/* What the image may take: what the broker reserved, and no more than there is. */
static uint64_t room_for(const struct migration *m)
{
    uint64_t most = m->journal.assignment.max_bytes;
    uint64_t slack = m->all->config.slack_bytes;
    struct statvfs vfs;
    if (most == 0)
        most = JSON_INTEGER_MAX;
    if (statvfs(m->journal.dir, &vfs) < 0)
        return most;
    uint64_t free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    uint64_t room = free_bytes > slack ? free_bytes - slack : 0;
    return room < most ? room : most;
}

/* With the journal ours and unlocked: the ticket is used up durably, then the sink made. */
static int begin_upload(struct migration_upload *upload, struct error *err)
{
    struct migration *m = upload->m;
    autofree char *staging = migration_staging_dir(m);
    autofree char *image_dir = migration_image_dir(m);
    if (make_staging(m, staging, image_dir, err) < 0 ||
        migration_begin(m, JOURNAL_RECEIVING, err) < 0)
        return -1;
    const struct image_sink_config config = {.image_dir = image_dir,
                                             .folder_dir = staging,
                                             .workload = m->journal.assignment.workload,
                                             .max_bytes = room_for(m),
                                             .slack_bytes = m->all->config.slack_bytes};
    return image_sink_new(&config, &upload->sink, err);
}

/* The migration whose ticket this is. An unknown id and a wrong ticket look alike from outside.
 * Lock held; waits until the journal may be read. */
static struct migration *find_by_ticket(struct migrations *all, const char *id, const char *ticket,
                                        struct error *err)
{
    struct migration *m;
    while ((m = migrations_find(all, id)) && m->acting)
        pthread_cond_wait(&all->changed, &all->lock); /* it may be gone then: look again */
    const char *expected = m && !m->journal.assignment.is_source && m->journal.assignment.ticket
                               ? m->journal.assignment.ticket
                               : NULL;
    if (!expected || strlen(expected) < 32 || !secret_equal(expected, ticket)) {
        error_set(err, ERROR_UNAUTHENTICATED, "no image is awaited here with that ticket");
        return NULL;
    }
    return m;
}

int migration_upload_open(struct migrations *all, const char *id, const char *ticket,
                          const char *node, const char *peer_ip, struct migration_upload **ret,
                          struct error *err)
{
    pthread_mutex_lock(&all->lock);
    struct migration *m = all->stopping ? NULL : find_by_ticket(all, id, ticket, err);
    if (!m || check_sender(m, node, peer_ip, err) < 0 || check_time(m, err) < 0) {
        if (all->stopping)
            error_set(err, ERROR_BUSY, "the agent is being stopped");
        pthread_mutex_unlock(&all->lock);
        return -1;
    }
    m->acting = m->receiving = true;
    pthread_mutex_unlock(&all->lock);

    struct migration_upload *upload = xcalloc(1, sizeof(*upload));
    upload->m = m;
    upload->begun_ms = migration_now_ms(m);
    int rc = begin_upload(upload, &upload->reason);

    pthread_mutex_lock(&all->lock);
    m->acting = false;
    if (rc == 0)
        m->sink = upload->sink;
    if (rc == 0 && all->stopping) {
        error_set(&upload->reason, ERROR_BUSY, "the agent is being stopped");
        image_sink_break(upload->sink, &upload->reason);
    }
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
    if (rc < 0) {
        if (err)
            *err = upload->reason;
        migration_upload_close(upload);
        return -1;
    }
    log_info("image comes in", LOG_STR("migration", m->id), LOG_STR("from", node),
             LOG_STR("address", peer_ip));
    *ret = upload;
    return 0;
}

int migration_upload_data(struct migration_upload *upload, const void *data, size_t length,
                          struct error *err)
{
    if (image_sink_data(upload->sink, data, length, &upload->reason) == 0)
        return 0;
    if (err)
        *err = upload->reason;
    return -1;
}

/* Waits until the worker lets go of the journal, and takes it. */
static void take(struct migration *m)
{
    pthread_mutex_lock(&m->all->lock);
    while (m->acting)
        pthread_cond_wait(&m->all->changed, &m->all->lock);
    m->acting = true;
    pthread_mutex_unlock(&m->all->lock);
}

/* Gives the journal back, the upload being over, with a report to send. */
static void give(struct migration *m)
{
    pthread_mutex_lock(&m->all->lock);
    m->acting = m->receiving = false;
    m->sink = NULL;
    m->unreported = true;
    migrations_wake(m->all);
    pthread_mutex_unlock(&m->all->lock);
}

static void note_manifest(struct migration *m, const struct image_manifest *manifest,
                          uint64_t bytes)
{
    m->journal.root_pid = manifest->pid;
    m->journal.tasks = manifest->tasks;
    m->journal.threads = manifest->threads;
    m->journal.bytes = bytes;
    free(m->journal.stopped_pids);
    m->journal.stopped_pids = pids_copy(manifest->stopped_pids);
    free(m->journal.expired_timers);
    m->journal.expired_timers = timerfds_copy(manifest->expired_timers);
}

int migration_upload_finish(struct migration_upload *upload, uint64_t *ret_bytes, size_t *ret_files,
                            struct error *err)
{
    struct migration *m = upload->m;
    AUTO(image_manifest) manifest = NULL;
    if (image_sink_finish(upload->sink, &manifest, ret_bytes, &upload->reason) < 0) {
        if (err)
            *err = upload->reason;
        return -1;
    }
    *ret_files = manifest->file_count;
    take(m);
    note_manifest(m, manifest, *ret_bytes);
    migration_step(m, JOURNAL_RECEIVED, MIGRATION_REPORT_RECEIVED, upload->begun_ms);
    /* The journal must hold it before the source is told; else close() reports the failure. */
    upload->whole = m->journal.step == JOURNAL_RECEIVED;
    if (upload->whole) {
        give(m);
        return 0;
    }
    pthread_mutex_lock(&m->all->lock);
    m->acting = false;
    pthread_cond_broadcast(&m->all->changed);
    pthread_mutex_unlock(&m->all->lock);
    error_set(&upload->reason, ERROR_FAILED, "the target's journal cannot be written");
    if (err)
        *err = upload->reason;
    return -1;
}

void migration_upload_close(struct migration_upload *upload)
{
    struct migration *m = upload->m;
    if (!upload->whole) {
        if (upload->reason.kind == ERROR_NONE)
            error_set(&upload->reason, ERROR_FAILED, "the connection was lost");
        pthread_mutex_lock(&m->all->lock);
        m->sink = NULL; /* nobody breaks it any more */
        pthread_mutex_unlock(&m->all->lock);
        image_sink_free(upload->sink);
        take(m);
        error_wrap(&upload->reason, "receiving the image of '%s'", m->journal.assignment.workload);
        migration_target_fail(m, upload->begun_ms, &upload->reason, NULL);
        give(m);
    } else {
        image_sink_free(upload->sink);
    }
    free(upload);
}
