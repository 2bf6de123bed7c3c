/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - calls over HTTP: the one file that knows libcurl.
 *
 * Every call is one easy handle driven by the client's own multi handle, since only a multi
 * handle can be woken from another thread (client_interrupt) and keeps the connection. */
#include "client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client_sse.h"

#ifndef CPUBROKER_VERSION
#define CPUBROKER_VERSION "0"
#endif
#define DEFAULT_CONNECT_TIMEOUT_MS 5000
#define DEFAULT_TIMEOUT_MS         30000
#define UPLOAD_BUFFER_BYTES        ((long)CLIENT_UPLOAD_STALL_BYTES) /* stays in the cache */
#define EXPECT_TIMEOUT_MS          5000L
#define TOKEN_MAX_BYTES            512

struct client {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;                         /* owned; sent with every call */
    char *base_url;                                     /* owned; no slash at the end */
    char *unix_socket, *ca_file, *cert_file, *key_file; /* owned; NULL when not set */
    long connect_timeout_ms;
    uint64_t timeout_ms;
    atomic_bool interrupted; /* the one member that other threads write */
};

/* One call: what goes out and what comes back. */
struct exchange {
    struct client *client;
    char problem[CURL_ERROR_SIZE];
    char *reply; /* owned; NUL-terminated when not NULL */
    size_t reply_length, reply_room;
    bool reply_too_large, discard;
    int64_t touched_ms; /* when a byte last came */
    uint64_t idle_timeout_ms;
    bool idle;
    struct sse *sse; /* NULL: the reply is collected */
    int sse_result;
    struct error sse_error;
    /* an upload's */
    const char *bytes;  /* borrowed; the next ones to send */
    size_t left, taken; /* taken: since it was last seen to go on */
    bool at_end, waits; /* no more will come; libcurl waits for more */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void global_init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int add_header(struct client *client, const char *name, const char *value, struct error *err)
{
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < 0x21 || (unsigned char)*p > 0x7e)
            return error_set(err, ERROR_INVALID,
                             "%s: holds a character that no header can carry, at byte %zd", name,
                             p - value);
    if (strlen(value) > TOKEN_MAX_BYTES)
        return error_set(err, ERROR_INVALID, "%s: longer than %d bytes", name, TOKEN_MAX_BYTES);
    bool secret = strcmp(name, "token") == 0;
    autofree char *line =
        secret ? xasprintf("Authorization: Bearer %s", value) : xasprintf("%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(client->headers, line);
    if (secret)
        explicit_bzero(line, strlen(line));
    if (!longer)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    client->headers = longer;
    return 0;
}

static int check_url(const char *url, struct error *err)
{
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;
    if (!scheme || url[scheme] == '\0' || url[scheme] == '/' || strpbrk(url, " \t\r\n?#"))
        return error_set(err, ERROR_INVALID,
                         "'%.200s' is no URL of a server: expected http://HOST:PORT or "
                         "https://HOST:PORT",
                         url);
    return 0;
}

int client_new(const struct client_config *config, struct client **ret, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    if (check_url(config->base_url, err) < 0)
        return -1;
    AUTO(client) client = xcalloc(1, sizeof(*client));
    atomic_init(&client->interrupted, false);
    client->multi = curl_multi_init();
    client->easy = curl_easy_init();
    if (!client->multi || !client->easy)
        return error_set(err, ERROR_INTERNAL, "libcurl could not be started");
    if ((config->token && add_header(client, "token", config->token, err) < 0) ||
        (config->node && add_header(client, "X-Cpubroker-Node", config->node, err) < 0) ||
        add_header(client, "Content-Type", "application/json", err) < 0 ||
        add_header(client, "Accept", "application/json", err) < 0)
        return -1;
    client->base_url = xstrdup(config->base_url);
    for (size_t n = strlen(client->base_url); n > 0 && client->base_url[n - 1] == '/'; n--)
        client->base_url[n - 1] = '\0';
    client->unix_socket = xstrdup(config->unix_socket);
    client->ca_file = xstrdup(config->ca_file);
    client->cert_file = xstrdup(config->cert_file);
    client->key_file = xstrdup(config->key_file);
    client->connect_timeout_ms =
        config->connect_timeout_ms ? (long)config->connect_timeout_ms : DEFAULT_CONNECT_TIMEOUT_MS;
    client->timeout_ms = config->timeout_ms ? config->timeout_ms : DEFAULT_TIMEOUT_MS;
    *ret = steal_ptr(&client);
    return 0;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    if (client->easy)
        curl_easy_cleanup(client->easy);
    if (client->multi)
        curl_multi_cleanup(client->multi);
    for (struct curl_slist *h = client->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(client->headers);
    free(client->base_url);
    free(client->unix_socket);
    free(client->ca_file);
    free(client->cert_file);
    free(client->key_file);
    free(client);
}

void client_interrupt(struct client *client)
{
    atomic_store(&client->interrupted, true);
    curl_multi_wakeup(client->multi);
}

/* libcurl's callbacks */

static long reply_status(const struct exchange *x)
{
    long status = 0;
    curl_easy_getinfo(x->client->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t on_reply(char *bytes, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    size_t length = size * count;
    x->touched_ms = now_ms();
    if (x->sse && reply_status(x) < 300) {
        x->sse_result = sse_feed(x->sse, bytes, length, &x->sse_error);
        return x->sse_result == 0 ? length : 0;
    }
    if (x->discard)
        return length;
    if (length > CLIENT_REPLY_MAX_BYTES - x->reply_length) {
        x->reply_too_large = true;
        return 0;
    }
    if (x->reply_length + length + 1 > x->reply_room) {
        x->reply_room = (x->reply_length + length) * 2 + 1;
        x->reply = xrealloc(x->reply, x->reply_room);
    }
    memcpy(x->reply + x->reply_length, bytes, length);
    x->reply_length += length;
    x->reply[x->reply_length] = '\0';
    return length;
}

static size_t on_read(char *buffer, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    size_t some = x->left < size * count ? x->left : size * count;
    /* It may still lie in libcurl's buffer; more than that buffer holds has gone out. */
    x->taken += some;
    if (x->taken >= CLIENT_UPLOAD_STALL_BYTES) {
        x->taken = 0;
        x->touched_ms = now_ms();
    }
    if (some == 0 && !x->at_end) {
        x->waits = true;
        return CURL_READFUNC_PAUSE;
    }
    if (some > 0)
        memcpy(buffer, x->bytes, some);
    x->bytes += some;
    x->left -= some;
    return some;
}

/* The exchange */

static void set_common(struct exchange *x, const char *url, struct curl_slist *headers)
{
    struct client *client = x->client;
    CURL *easy = client->easy;
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "cpubroker/" CPUBROKER_VERSION);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->problem);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    if (client->unix_socket)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->unix_socket);
    if (client->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (client->cert_file)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, client->cert_file);
    if (client->key_file)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, client->key_file);
}

static const char *place(const struct client *client)
{
    return client->unix_socket ? client->unix_socket : client->base_url;
}

static int interrupted(const struct client *client, struct error *err)
{
    return error_set(err, ERROR_TIMEOUT, "the call to %s was interrupted", place(client));
}

static int failure(const struct exchange *x, CURLcode code, struct error *err)
{
    const struct client *client = x->client;
    const char *problem = x->problem[0] ? x->problem : curl_easy_strerror(code);
    if (x->reply_too_large)
        return error_set(err, ERROR_UPSTREAM, "the reply of %s is larger than %lu bytes",
                         place(client), CLIENT_REPLY_MAX_BYTES);
    if (code == CURLE_OPERATION_TIMEDOUT) {
        curl_off_t connected = 0;
        curl_easy_getinfo(client->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
        if (connected > 0)
            return error_set(err, ERROR_TIMEOUT, "no answer from %s in time: %s", place(client),
                             problem);
    }
    if (code == CURLE_URL_MALFORMAT || code == CURLE_SSL_CERTPROBLEM ||
        code == CURLE_SSL_CACERT_BADFILE)
        return error_set(err, ERROR_INVALID, "cannot call %s: %s", place(client), problem);
    if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL)
        return error_set(err, ERROR_UPSTREAM, "%s does not speak HTTP: %s", place(client), problem);
    return error_set(err, ERROR_UNREACHABLE, "cannot reach %s: %s", place(client), problem);
}

/* One look at the transfer, and a wait of up to wait_ms if nothing was there to do. True when it
 * is over, with *ret_code. */
static bool step(struct exchange *x, CURLcode *ret_code)
{
    struct client *client = x->client;
    int running = 0, left = 0, wait_ms = 1000;
    *ret_code = CURLE_FAILED_INIT;
    if (curl_multi_perform(client->multi, &running) != CURLM_OK)
        return true;
    CURLMsg *message = curl_multi_info_read(client->multi, &left);
    if (message && message->msg == CURLMSG_DONE) {
        *ret_code = message->data.result;
        return true;
    }
    if (atomic_load(&client->interrupted)) {
        *ret_code = CURLE_ABORTED_BY_CALLBACK;
        return true;
    }
    if (x->waits)
        return false;
    if (x->idle_timeout_ms) {
        int64_t left_ms = x->touched_ms + (int64_t)x->idle_timeout_ms - now_ms();
        x->idle = left_ms <= 0;
        *ret_code = CURLE_OPERATION_TIMEDOUT;
        if (x->idle)
            return true;
        wait_ms = left_ms < wait_ms ? (int)left_ms : wait_ms;
    }
    *ret_code = CURLE_FAILED_INIT;
    return curl_multi_poll(client->multi, NULL, 0, wait_ms, NULL) != CURLM_OK;
}

static int begin(struct exchange *x, struct error *err)
{
    struct client *client = x->client;
    if (atomic_load(&client->interrupted))
        return interrupted(client, err);
    x->touched_ms = now_ms();
    if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK)
        return error_set(err, ERROR_INTERNAL, "libcurl takes no call");
    return 0;
}

/* What a transfer that is over came to: 0 when there is a reply, whatever its status. */
static int end(struct exchange *x, CURLcode code, struct error *err)
{
    struct client *client = x->client;
    curl_multi_remove_handle(client->multi, client->easy);
    if (code == CURLE_OK || x->sse_result > 0)
        return 0;
    if (x->sse_result < 0) {
        if (err)
            *err = x->sse_error;
        return -1;
    }
    if (atomic_load(&client->interrupted) && code == CURLE_ABORTED_BY_CALLBACK)
        return interrupted(client, err);
    if (x->idle)
        return error_set(err, ERROR_TIMEOUT, "nothing %s %s for %llu ms",
                         x->bytes ? "is taken by" : "came from", place(client),
                         (unsigned long long)x->idle_timeout_ms);
    return failure(x, code, err);
}

/* Runs what set_common and its caller set up. 0 when there is a reply, whatever its status. */
static int perform(struct exchange *x, struct error *err)
{
    CURLcode code = CURLE_OK;
    if (begin(x, err) < 0)
        return -1;
    while (!step(x, &code))
        ;
    return end(x, code, err);
}

static int parse_reply(const struct exchange *x, json_object **ret, struct error *err)
{
    if (x->reply_length == 0)
        return 0;
    struct error why;
    if (json_parse(x->reply, x->reply_length, ret, &why) < 0)
        return error_set(err, ERROR_UPSTREAM, "%s answered %ld with something else than JSON: %s",
                         place(x->client), reply_status(x), why.message);
    return 0;
}

static enum error_kind kind_of_status(long status)
{
    for (int kind = ERROR_INVALID; kind < ERROR_KIND_COUNT; kind++)
        if (error_http_status((enum error_kind)kind) == status)
            return (enum error_kind)kind;
    return status >= 500 ? ERROR_INTERNAL : ERROR_INVALID;
}

/* Errors are one line, and what comes from elsewhere may not steer a terminal. */
static void make_one_line(struct error *err)
{
    for (char *p = err->message; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

static int error_from_reply(const struct exchange *x, json_object *body, struct error *err)
{
    long status = reply_status(x);
    if (status < 400)
        return 0;
    if (!err)
        return -1;
    json_object *inner = json_member(body, "error");
    const char *code = json_str(inner, "code"), *message = json_str(inner, "message");
    enum error_kind kind = error_kind_from_code(code);
    if (strcmp(error_code(kind), code) != 0 || kind == ERROR_NONE)
        kind = kind_of_status(status);
    if (*message)
        error_set(err, kind, "%s", message);
    else if (strcmp(json_str(body, "verdict"), "reject") == 0)
        error_set(err, ERROR_REJECTED, "%s",
                  json_str(json_array_item(json_member(body, "reasons"), 0), "message"));
    else
        error_set(err, kind, "%s answered %ld without saying why", place(x->client), status);
    make_one_line(err);
    return -1;
}

static void set_method(CURL *easy, const char *method, const char *text)
{
    bool sends = text || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
    if (sends) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(text ? strlen(text) : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, text ? text : "");
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

static struct curl_slist *also(struct client *client, struct curl_slist *own)
{
    for (struct curl_slist *h = client->headers; h; h = h->next)
        own = curl_slist_append(own, h->data);
    return own;
}

static void headers_free(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

static int call(struct exchange *x, const char *method, const char *path, json_object *body,
                uint64_t timeout_ms, struct error *err)
{
    autofree char *url = xasprintf("%s%s", x->client->base_url, path);
    autofree char *text = body ? json_text(body) : NULL;
    struct curl_slist *headers = also(x->client, curl_slist_append(NULL, "Expect:"));
    set_common(x, url, headers);
    set_method(x->client->easy, method, text);
    curl_easy_setopt(x->client->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    int rc = perform(x, err);
    headers_free(headers);
    return rc;
}

int client_post(struct client *client, const char *path, const char *const *headers,
                const char *body, unsigned *ret_status, struct error *err)
{
    struct exchange x = {.client = client, .discard = true};
    autofree char *url = xasprintf("%s%s", client->base_url, path);
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; headers[i]; i++)
        list = curl_slist_append(list, headers[i]);
    list = also(client, list);
    set_common(&x, url, list);
    set_method(client->easy, "POST", body);
    curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, (long)client->timeout_ms);
    int rc = perform(&x, err);
    if (rc == 0)
        *ret_status = (unsigned)reply_status(&x);
    headers_free(list);
    return rc;
}

int client_call(struct client *client, const char *method, const char *path, json_object *body,
                unsigned *ret_status, json_object **ret_body, struct error *err)
{
    struct exchange x = {.client = client};
    autojson *reply = NULL;
    int rc = call(&x, method, path, body, client->timeout_ms, err);
    if (rc == 0)
        rc = parse_reply(&x, &reply, err);
    free(x.reply);
    if (rc < 0)
        return -1;
    *ret_status = (unsigned)reply_status(&x);
    if (ret_body)
        *ret_body = steal_ptr(&reply);
    return 0;
}

int client_request_timed(struct client *client, const char *method, const char *path,
                         json_object *body, uint64_t timeout_ms, json_object **ret_body,
                         struct error *err)
{
    struct exchange x = {.client = client};
    autojson *reply = NULL;
    int rc = call(&x, method, path, body, timeout_ms, err);
    if (rc == 0)
        rc = parse_reply(&x, &reply, err);
    if (rc == 0)
        rc = error_from_reply(&x, reply, err);
    free(x.reply);
    if (ret_body)
        *ret_body = steal_ptr(&reply);
    return rc;
}

int client_request(struct client *client, const char *method, const char *path, json_object *body,
                   json_object **ret_body, struct error *err)
{
    return client_request_timed(client, method, path, body, client->timeout_ms, ret_body, err);
}

int client_text(struct client *client, const char *path, char **ret_text, struct error *err)
{
    struct exchange x = {.client = client};
    autojson *reply = NULL;
    int rc = call(&x, "GET", path, NULL, client->timeout_ms, err);
    if (rc == 0 && reply_status(&x) >= 400) {
        json_parse(x.reply ? x.reply : "", x.reply_length, &reply, NULL);
        rc = error_from_reply(&x, reply, err);
    }
    if (rc == 0)
        *ret_text = x.reply ? steal_ptr(&x.reply) : xstrdup("");
    free(x.reply);
    return rc;
}

int client_events(struct client *client, const char *path, uint64_t idle_timeout_ms,
                  int (*event)(void *ctx, const char *id, const char *name, const char *data),
                  void *ctx, struct error *err)
{
    struct sse sse = {.event = event, .ctx = ctx};
    struct exchange x = {.client = client, .sse = &sse, .idle_timeout_ms = idle_timeout_ms};
    autojson *reply = NULL;
    int rc = call(&x, "GET", path, NULL, 0, err);
    if (rc == 0 && reply_status(&x) >= 400) {
        json_parse(x.reply ? x.reply : "", x.reply_length, &reply, NULL);
        rc = error_from_reply(&x, reply, err);
    }
    sse_done(&sse);
    free(x.reply);
    return rc;
}

struct client_upload {
    struct exchange x;
    struct curl_slist *headers; /* owned */
    bool over;                  /* the transfer is; x has its reply */
};

int client_upload_begin(struct client *client, const char *path, uint64_t stall_timeout_ms,
                        struct client_upload **ret, struct error *err)
{
    AUTO(client_upload) upload = xcalloc(1, sizeof(*upload));
    autofree char *url = xasprintf("%s%s", client->base_url, path);
    struct curl_slist *own = curl_slist_append(NULL, "Transfer-Encoding: chunked");
    upload->over = true;
    upload->x =
        (struct exchange){.client = client, .bytes = "", .idle_timeout_ms = stall_timeout_ms};
    /* A ticket that is not accepted is refused before a byte of the image is sent. */
    upload->headers = also(client, curl_slist_append(own, "Expect: 100-continue"));
    set_common(&upload->x, url, upload->headers);
    curl_easy_setopt(client->easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(client->easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(client->easy, CURLOPT_READDATA, &upload->x);
    curl_easy_setopt(client->easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
    curl_easy_setopt(client->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, EXPECT_TIMEOUT_MS);
    if (begin(&upload->x, err) < 0)
        return -1;
    upload->over = false;
    *ret = steal_ptr(&upload);
    return 0;
}

/* Lets libcurl take more, until all is taken or the transfer is over. */
static int push(struct client_upload *upload, struct error *err)
{
    struct exchange *x = &upload->x;
    CURLcode code = CURLE_OK;
    if (upload->over)
        return error_set(err, ERROR_CONFLICT, "the upload to %s is over already", place(x->client));
    x->touched_ms = now_ms();
    x->taken = 0;
    if (x->waits) {
        x->waits = false;
        curl_easy_pause(x->client->easy, CURLPAUSE_CONT);
    }
    while (x->at_end || x->left > 0) {
        if (!step(x, &code))
            continue;
        upload->over = true;
        return end(x, code, err);
    }
    return 0;
}

static int upload_reply(struct client_upload *upload, json_object **ret, struct error *err)
{
    autojson *reply = NULL;
    int rc = parse_reply(&upload->x, &reply, err);
    if (rc == 0)
        rc = error_from_reply(&upload->x, reply, err);
    if (ret)
        *ret = steal_ptr(&reply);
    return rc;
}

int client_upload_write(struct client_upload *upload, const void *data, size_t length,
                        struct error *err)
{
    upload->x.bytes = data;
    upload->x.left = length;
    if (push(upload, err) < 0)
        return -1;
    if (!upload->over)
        return 0;
    if (upload_reply(upload, NULL, err) < 0)
        return -1;
    return error_set(err, ERROR_UPSTREAM, "%s answered before it had all", place(upload->x.client));
}

int client_upload_finish(struct client_upload *upload, json_object **ret_body, struct error *err)
{
    upload->x.at_end = true;
    return push(upload, err) < 0 ? -1 : upload_reply(upload, ret_body, err);
}

void client_upload_free(struct client_upload *upload)
{
    if (!upload)
        return;
    if (!upload->over)
        curl_multi_remove_handle(upload->x.client->multi, upload->x.client->easy);
    headers_free(upload->headers);
    free(upload->x.reply);
    free(upload);
}

char *client_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *escaped = xmalloc(strlen(text) * 3 + 1), *to = escaped;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-._~", c)) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        }
    }
    *to = '\0';
    return escaped;
}
