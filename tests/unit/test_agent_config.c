/* SPDX-License-Identifier: Apache-2.0 */
/* test_agent_config.c - what the agent's configuration may say, and what it is told when it may
 * not. */
#include "cmocka_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_config.h"
#include "cleanup.h"
#include "file.h"

struct place {
    char dir[64], conf[96], token[96];
};

static void put(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/cpubroker-agent-config.XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    snprintf(p->conf, sizeof(p->conf), "%s/cpuagent.conf", p->dir);
    snprintf(p->token, sizeof(p->token), "%s/token", p->dir);
    put(p->token, "0123456789abcdef\n", 0600);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    file_remove_tree(p->dir, NULL);
    free(p);
    return 0;
}

static int load(const struct place *p, const char *lines, struct agent_config *config,
                struct error *err)
{
    autofree char *text = xasprintf("token_file = %s\n%s", p->token, lines);
    put(p->conf, text, 0644);
    *config = (struct agent_config){0};
    return agent_config_load(p->conf, config, err);
}

static void defaults_are_for_one_machine(void **state)
{
    struct agent_config config;
    struct error err = {0};
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    if (load(*state, "", &config, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(config.node, host);
    assert_string_equal(config.listen, "127.0.0.1:7072");
    assert_null(config.advertise);
    assert_string_equal(config.state_dir, "/var/lib/cpubroker");
    assert_string_equal(config.socket, "/run/cpubroker/agent.sock");
    assert_string_equal(config.pool, "default");
    assert_string_equal(config.token, "0123456789abcdef");
    autofree char *cgroup = xasprintf("cpubroker/%s", host);
    assert_string_equal(config.cgroup_parent, cgroup);
    agent_config_done(&config);
}

static void what_is_set_is_taken(void **state)
{
    static const char lines[] = "node = n1\nlisten = 0.0.0.0:9\nadvertise = 10.0.0.1:9\n"
                                "allow_plain_http = true\nbroker_url = http://10.0.0.9:7070\n"
                                "dump_timeout_ms = 5000\nstall_timeout_ms = 1000\n"
                                "log_level = debug\ncgroup_parent = x/y\n";
    struct agent_config config;
    struct error err = {0};
    if (load(*state, lines, &config, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(config.node, "n1");
    assert_string_equal(config.advertise, "10.0.0.1:9");
    assert_string_equal(config.cgroup_parent, "x/y");
    assert_int_equal(config.dump_timeout_ms, 5000);
    assert_int_equal(config.stall_timeout_ms, 1000);
    agent_config_done(&config);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct {
        const char *lines, *reason;
    } cases[] = {
        {"node = a/b\n",                                     "node"                                     },
        {"pool = ..\n",                                      "pool"                                     },
        {"log_level = loud\n",                               "expected debug, info, warn or error"      },
        {"state_dir = var\n",                                "state_dir: expected an absolute path"     },
        {"criu = criu\n",                                    "criu: expected an absolute path"          },
        {"listen = 7072\n",                                  "expected an address HOST:PORT"            },
        {"listen = 10.0.0.1:7072\n",                         "allow_plain_http = true"                  },
        {"listen = example.org:7072\n",                      "allow_plain_http = true"                  },
        {"listen = 0.0.0.0:7072\nallow_plain_http = true\n", "set `advertise`"                          },
        {"listen = [::]:7072\nallow_plain_http = true\n",    "set `advertise`"                          },
        {"advertise = here\n",                               "advertise: expected an address"           },
        {"broker_url = http://10.0.0.9:7070\n",              "token would cross the network unencrypted"},
        {"broker_url = ftp://x\n",                           "expected http://HOST:PORT"                },
        {"tls_cert = /a\n",                                  "tls_key is missing"                       },
        {"tls_key = /a\n",                                   "tls_cert is missing"                      },
        {"tls_cert = /a\ntls_key = /b\n",                    "tls_ca is missing"                        },
        {"dump_timeout_ms = 0\n",                            "dump_timeout_ms"                          },
        {"frobnicate = 1\n",                                 "unknown key"                              },
        {"node = a\nnode = b\n",                             "twice"                                    },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct agent_config config;
        struct error err = {0};
        if (load(*state, cases[i].lines, &config, &err) == 0)
            fail_msg("accepted: %s", cases[i].lines);
        if (!strstr(err.message, cases[i].reason) || !strstr(err.message, "cpuagent.conf"))
            fail_msg("expected '%s', got '%s'", cases[i].reason, err.message);
    }
}

static void loopback_and_tls_need_no_leave(void **state)
{
    static const char *const lines[] = {
        "listen = 127.5.5.5:1\n", "listen = [::1]:1\n",
        "listen = 10.0.0.1:1\ntls_cert = /a\ntls_key = /b\ntls_ca = /c\n",
        "broker_url = https://10.0.0.9:7070\n", "broker_url = http://[::1]:7070\n"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct agent_config config;
        struct error err = {0};
        if (load(*state, lines[i], &config, &err) < 0)
            fail_msg("%s: %s", lines[i], err.message);
        agent_config_done(&config);
    }
}

static void a_token_is_for_its_owner_only(void **state)
{
    struct place *p = *state;
    static const mode_t modes[] = {0640, 0604, 0644, 0660};
    struct agent_config config;
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        assert_int_equal(chmod(p->token, modes[i]), 0);
        assert_int_equal(load(p, "", &config, &err), -1);
        autofree char *cure = xasprintf("chmod 0600 %s", p->token);
        assert_non_null(strstr(err.message, cure));
    }
    assert_int_equal(unlink(p->token), 0);
    assert_int_equal(load(p, "", &config, &err), -1);
    assert_non_null(strstr(err.message, "cpubroker token create --role agent"));
}

static void a_token_is_one_word(void **state)
{
    struct place *p = *state;
    static const char *const texts[] = {"", "\n", "a b\n", "a\nb\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct agent_config config;
        struct error err = {0};
        put(p->token, texts[i], 0600);
        assert_int_equal(load(p, "", &config, &err), -1);
        assert_non_null(strstr(err.message, "expected one token"));
        assert_null(strstr(err.message, "a b")); /* never shown */
    }
}

/* Every key stands in the man page. */
static void the_man_page_tells_every_key(void **state)
{
    (void)state;
    char *page = NULL;
    assert_int_equal(file_read(SOURCE_DIR "/docs/man/cpuagent.conf.5", 1 << 20, &page, NULL, NULL),
                     0);
    for (const struct config_key *key = agent_config_keys; key->name; key++) {
        autofree char *alone = xasprintf("\n.B %s\n", key->name);
        autofree char *first = xasprintf("\n.BR %s ", key->name);
        autofree char *later = xasprintf(" \", \" %s", key->name);
        if (!strstr(page, alone) && !strstr(page, first) && !strstr(page, later))
            fail_msg("cpuagent.conf.5 does not tell of %s", key->name);
    }
    free(page);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_for_one_machine),
        TEST(what_is_set_is_taken),
        TEST(what_cannot_be_is_refused),
        TEST(loopback_and_tls_need_no_leave),
        TEST(a_token_is_for_its_owner_only),
        TEST(a_token_is_one_word),
        cmocka_unit_test(the_man_page_tells_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
