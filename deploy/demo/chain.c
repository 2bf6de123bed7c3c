/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c - the demonstration's workload: a counter and a hash chain over its memory.
 *
 *   chain run [MIB [STEP_MS]]   prints "step N HASH" for ever; MIB of memory (default 16), a step
 *                               every STEP_MS (default 50)
 *   chain check FILE [MIB]      computes the chain anew and compares it with the lines in FILE:
 *                               each step must be there once, in order, with the right hash
 *
 * Every step reads and changes a page that depends on all steps before it, so a step that was
 * lost or done twice, or a page that came over wrong, shows in every later line. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_WORDS 512 /* 4096 bytes */
#define MIB_MAX    65536

struct chain {
    uint64_t *memory; /* owned */
    size_t pages;
    uint64_t step, hash;
};

static uint64_t mixed(uint64_t x)
{
    /* the finalizer of MurmurHash3: each bit of x reaches each bit of the result */
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static void chain_init(struct chain *chain, unsigned long mib)
{
    chain->pages = mib * 256;
    chain->memory = calloc(chain->pages, PAGE_WORDS * sizeof(uint64_t));
    if (!chain->memory) {
        fprintf(stderr, "chain: no memory for %lu MiB\n", mib);
        exit(1);
    }
    for (size_t i = 0; i < chain->pages * PAGE_WORDS; i++)
        chain->memory[i] = mixed(i + 1);
    chain->step = 0;
    chain->hash = 1;
}

static void chain_step(struct chain *chain)
{
    uint64_t *page = chain->memory + chain->hash % chain->pages * PAGE_WORDS;
    uint64_t hash = mixed(chain->hash + ++chain->step);
    for (size_t i = 0; i < PAGE_WORDS; i++)
        hash = mixed(hash ^ page[i]);
    page[hash % PAGE_WORDS] ^= hash;
    chain->hash = hash;
}

static int run(unsigned long mib, unsigned long step_ms)
{
    struct chain chain;
    chain_init(&chain, mib);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct timespec pause = {(time_t)(step_ms / 1000), (long)(step_ms % 1000) * 1000000L};
    for (;;) {
        chain_step(&chain);
        if (printf("step %" PRIu64 " %016" PRIx64 "\n", chain.step, chain.hash) < 0)
            return 1;
        nanosleep(&pause, NULL);
    }
}

static int check(const char *path, unsigned long mib)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        return 1;
    }
    struct chain chain;
    chain_init(&chain, mib);
    char line[128], expected[128];
    while (fgets(line, sizeof line, file) && strchr(line, '\n')) {
        chain_step(&chain);
        snprintf(expected, sizeof expected, "step %" PRIu64 " %016" PRIx64 "\n", chain.step,
                 chain.hash);
        if (strcmp(line, expected) != 0) {
            printf("the chain is broken: expected %.*s, found %.*s\n", (int)strcspn(expected, "\n"),
                   expected, (int)strcspn(line, "\n"), line);
            return 1;
        }
    }
    fclose(file);
    free(chain.memory);
    printf("%" PRIu64 " steps, each there once, in order, with the right hash\n", chain.step);
    return chain.step ? 0 : 1;
}

static unsigned long number(const char *text, unsigned long most)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (!*text || *end || value < 1 || value > most) {
        fprintf(stderr, "chain: expected a number 1..%lu, not '%s'\n", most, text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && argc <= 4 && strcmp(argv[1], "run") == 0)
        return run(argc > 2 ? number(argv[2], MIB_MAX) : 16,
                   argc > 3 ? number(argv[3], 60000) : 50);
    if (argc >= 3 && argc <= 4 && strcmp(argv[1], "check") == 0)
        return check(argv[2], argc > 3 ? number(argv[3], MIB_MAX) : 16);
    fprintf(stderr, "usage: chain run [MIB [STEP_MS]] | chain check FILE [MIB]\n");
    return 2;
}
