/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_process.c - a stopped child gets the mask from outside, again and anew; what fails
 * leaves everything as it was. */
#include "cmocka_test.h"

#include <cpuid.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "mask_islands.h"
#include "mask_maps.h"
#include "mask_process.h"
#include "process.h"

#define AREA       0x60000000UL /* code without a file, in the child alone */
#define AREA_BYTES (512UL * 1024)
#define BLOCK      256UL /* from one CPUID in it to the next */
#define EBX_AVX2   (1U << 5)
#define EBX_BMI2   (1U << 8)

static union table {
    struct mask_island_table table;
    uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
} first, second;

static void hide(union table *table, uint32_t ebx)
{
    *table = (union table){
        .table = {.magic = MASK_ISLAND_MAGIC, .version = MASK_ISLAND_VERSION, .count = 1}
    };
    table->table.entries[0] = (struct mask_entry){
        .leaf = 7, .and_mask = {~0U, ~ebx, ~0U, ~0U}
    };
}

static uint32_t leaf7(void)
{
    uint32_t a = 0, b = 0, c = 0, d = 0;
    __cpuid_count(7, 0, a, b, c, d);
    return b;
}

/* ---- the child: tells leaf 7 whenever it is asked, in code of a file or of the area */

static void write_area(uint8_t *area)
{
    /* push rbx; mov eax,7; xor ecx,ecx; cpuid; mov eax,ebx; pop rbx; ret */
    static const uint8_t code[] = {0x53, 0xb8, 0x07, 0x00, 0x00, 0x00, 0x31,
                                   0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3};
    for (size_t i = 0; i + 3 <= AREA_BYTES; i += 3)
        memcpy(area + i, "\x83\xc2\x01", 3); /* add edx,1 */
    for (size_t i = BLOCK; i < AREA_BYTES - BLOCK; i += BLOCK)
        memcpy(area + i, code, sizeof(code));
}

static _Noreturn void answer(int in, int out)
{
    uint8_t *area = mmap((void *)AREA, AREA_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    uint32_t (*in_area)(void);
    write_area(area);
    mprotect(area, AREA_BYTES, PROT_READ | PROT_EXEC);
    area += 7 * BLOCK;
    memcpy(&in_area, &area, sizeof(in_area));
    for (char question; read(in, &question, 1) == 1;) {
        uint32_t told = question == 'a' ? in_area() : leaf7();
        if (write(out, &told, sizeof(told)) != sizeof(told))
            break;
    }
    _exit(0);
}

struct world {
    pid_t pid;
    int in, out;
    struct mask_tracee tracee;
    struct mask_process *process;
};

static uint32_t ask(struct world *w, char question)
{
    uint32_t told = 0;
    assert_int_equal(write(w->in, &question, 1), 1);
    assert_int_equal(read(w->out, &told, sizeof(told)), sizeof(told));
    return told;
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    w->pid = fork();
    if (w->pid == 0) {
        close(in[1]);
        answer(in[0], out[1]);
    }
    close(in[0]);
    close(out[1]);
    w->in = in[1];
    w->out = out[0];
    w->tracee.memory = -1;
    hide(&first, EBX_AVX2);
    hide(&second, EBX_BMI2);
    assert_int_equal(ptrace(PTRACE_SEIZE, w->pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
                     0);
    ask(w, 'f'); /* it has come so far */
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int status = 0;
    kill(w->pid, SIGKILL);
    while (waitpid(w->pid, &status, __WALL) == w->pid && WIFSTOPPED(status))
        ;
    mask_tracee_close(&w->tracee);
    mask_process_free(w->process);
    close(w->in);
    close(w->out);
    free(w);
    return 0;
}

/* While the child waits for a question. */
static void stop(struct world *w)
{
    int status = 0;
    assert_int_equal(ptrace(PTRACE_INTERRUPT, w->pid, NULL, NULL), 0);
    assert_int_equal(waitpid(w->pid, &status, __WALL), w->pid);
    assert_true(WIFSTOPPED(status));
    if (w->tracee.memory < 0)
        assert_int_equal(mask_tracee_open(w->pid, &w->tracee, NULL), 0);
}

static void go_on(struct world *w)
{
    assert_int_equal(ptrace(PTRACE_CONT, w->pid, NULL, NULL), 0);
}

static void cover(struct world *w, bool traps)
{
    const struct mask_process_options options = {.table = &first.table, .traps = traps};
    struct error err = {0};
    if (!w->process)
        w->process = mask_process_new(&options);
    if (mask_process_cover(w->process, &w->tracee, 0, UINT64_MAX, &err) < 0)
        fail_msg("%s", err.message);
}

static size_t patches(struct world *w)
{
    size_t count = 0;
    mask_process_patches(w->process, &count);
    return count;
}

/* ---- tests */

static void a_process_sees_the_table_and_then_another_one(void **state)
{
    struct world *w = *state;
    uint32_t here = leaf7();
    struct error err = {0};
    assert_int_equal(ask(w, 'f'), here);
    stop(w);
    cover(w, false);
    go_on(w);
    assert_int_equal(ask(w, 'f'), here & ~EBX_AVX2);
    stop(w);
    assert_int_equal(mask_process_replace_table(w->process, &w->tracee, &second.table, &err), 0);
    go_on(w);
    assert_int_equal(ask(w, 'f'), here & ~EBX_BMI2);
}

static void covering_again_changes_nothing(void **state)
{
    struct world *w = *state;
    stop(w);
    cover(w, false);
    size_t before = patches(w);
    struct mask_coverage coverage = mask_process_coverage(w->process);
    assert_true(before > 0);
    cover(w, false);
    assert_int_equal(patches(w), before);
    struct mask_coverage after = mask_process_coverage(w->process);
    assert_memory_equal(&after, &coverage, sizeof(after));
    go_on(w);
    assert_int_equal(ask(w, 'f'), leaf7() & ~EBX_AVX2);
}

/* The library was unmapped and came back to the same place. */
static void what_was_written_over_is_written_again(void **state)
{
    struct world *w = *state;
    size_t count = 0;
    stop(w);
    cover(w, false);
    const struct mask_patch *all = mask_process_patches(w->process, &count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(
            mask_tracee_write(&w->tracee, all[i].address, all[i].original, all[i].length, NULL), 0);
    cover(w, false);
    assert_int_equal(patches(w), count);
    go_on(w);
    assert_int_equal(ask(w, 'f'), leaf7() & ~EBX_AVX2);
}

static void what_takes_no_detour_is_told_or_trapped(void **state)
{
    struct world *w = *state;
    size_t count = 0, listed = 0;
    const size_t in_area = AREA_BYTES / BLOCK - 2;
    stop(w);
    cover(w, false);
    struct mask_coverage coverage = mask_process_coverage(w->process);
    assert_true(coverage.lacks[MASK_LACK_HINDERED] >= in_area);
    assert_int_equal(coverage.traps, 0);
    const struct mask_uncovered *u = mask_process_uncovered(w->process, &listed);
    size_t found = 0;
    for (size_t i = 0; i < listed; i++)
        found += u[i].address >= AREA && u[i].address < AREA + AREA_BYTES &&
                 u[i].lack == MASK_LACK_HINDERED && u[i].hindrance == MASK_HINDRANCE_COMPUTED;
    assert_int_equal(found, in_area);
    mask_process_free(w->process);
    w->process = NULL;
    /* A record that knows of nothing: what the other one wrote is not taken for a CPUID. */
    cover(w, true);
    const struct mask_patch *all = mask_process_patches(w->process, &count);
    found = 0;
    for (size_t i = 0; i < count; i++)
        found += all[i].trap && all[i].address >= AREA && all[i].address < AREA + AREA_BYTES;
    assert_int_equal(found, in_area);
    assert_true(mask_process_coverage(w->process).traps >= in_area);
    uint64_t site = AREA + 7 * BLOCK + 8;
    uint64_t stub = mask_process_trap(w->process, site);
    assert_true(stub != 0);
    assert_int_equal(mask_process_trap(w->process, site + 1), 0);
    assert_int_equal(mask_process_trap(w->process, AREA), 0);
    for (size_t i = 0; i < count; i++)
        if (all[i].address == site)
            assert_memory_equal(all[i].bytes, "\xf4\x90", 2);
    /* The tracer leads the fault to the stub. */
    go_on(w);
    assert_int_equal(write(w->in, "a", 1), 1);
    int status = 0;
    struct user_regs_struct registers;
    assert_int_equal(waitpid(w->pid, &status, __WALL), w->pid);
    assert_int_equal(status >> 8, SIGSEGV);
    assert_int_equal(mask_tracee_registers(&w->tracee, &registers, NULL), 0);
    assert_int_equal(registers.rip, site);
    registers.rip = stub;
    assert_int_equal(mask_tracee_set_registers(&w->tracee, &registers, NULL), 0);
    go_on(w);
    uint32_t told = 0;
    assert_int_equal(read(w->out, &told, sizeof(told)), sizeof(told));
    assert_int_equal(told, leaf7() & ~EBX_AVX2);
}

static uint64_t address_space(pid_t pid)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    assert_int_equal(file_read(path, 4096, &text, NULL, NULL), 0);
    return strtoull(text, NULL, 10) * 4096;
}

/* The area wants more stubs than an island holds, and there is room for one island. */
static void a_mapping_is_covered_whole_or_not_at_all(void **state)
{
    struct world *w = *state;
    const struct mask_process_options options = {.table = &first.table, .traps = true};
    autofree uint8_t *before = xmalloc(AREA_BYTES), *after = xmalloc(AREA_BYTES);
    struct error err = {0};
    assert_int_equal(ask(w, 'a'), leaf7()); /* the area is there */
    stop(w);
    uint64_t bytes = address_space(w->pid);
    const struct rlimit limit = {bytes + MASK_ISLAND_BYTES, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    assert_int_equal(mask_tracee_read(&w->tracee, AREA, before, AREA_BYTES, NULL), 0);
    assert_int_equal(prlimit(w->pid, RLIMIT_AS, &limit, NULL), 0);
    w->process = mask_process_new(&options);
    assert_int_equal(mask_process_cover(w->process, &w->tracee, AREA, AREA + AREA_BYTES, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.message, "Cannot allocate memory"));
    assert_int_equal(mask_tracee_read(&w->tracee, AREA, after, AREA_BYTES, NULL), 0);
    assert_memory_equal(before, after, AREA_BYTES);
    assert_int_equal(patches(w), 0);
    assert_int_equal(address_space(w->pid), bytes);
    /* With more room it is covered after all. */
    assert_int_equal(prlimit(w->pid, RLIMIT_AS, &none, NULL), 0);
    if (mask_process_cover(w->process, &w->tracee, AREA, AREA + AREA_BYTES, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(patches(w), AREA_BYTES / BLOCK - 2);
    assert_int_equal(address_space(w->pid), bytes + 2 * MASK_ISLAND_BYTES);
}

/* A byte beside a CPUID is not as in the file: somebody else has been there. */
static void changed_memory_is_left_alone(void **state)
{
    struct world *w = *state;
    size_t count = 0;
    stop(w);
    cover(w, false);
    struct mask_patch patch = mask_process_patches(w->process, &count)[count / 2];
    uint8_t changed[MASK_DETOUR_BYTES_MAX], now[MASK_DETOUR_BYTES_MAX];
    for (size_t i = 0; i < count; i++) { /* all as they were, and one of them not quite */
        const struct mask_patch *p = &mask_process_patches(w->process, &count)[i];
        assert_int_equal(mask_tracee_write(&w->tracee, p->address, p->original, p->length, NULL),
                         0);
    }
    memcpy(changed, patch.original, patch.length);
    changed[patch.length - 1] ^= 1;
    assert_int_equal(mask_tracee_write(&w->tracee, patch.address, changed, patch.length, NULL), 0);
    cover(w, true);
    assert_int_equal(mask_tracee_read(&w->tracee, patch.address, now, patch.length, NULL), 0);
    assert_memory_equal(now, changed, patch.length);
    assert_true(mask_process_coverage(w->process).lacks[MASK_LACK_CHANGED] >= 1);
}

/* The island is where the program can read it, and nowhere writable. */
static void islands_are_never_writable(void **state)
{
    struct world *w = *state;
    AUTO(mask_maps) maps = NULL;
    size_t count = 0, islands = 0;
    stop(w);
    cover(w, false);
    const struct mask_patch *all = mask_process_patches(w->process, &count);
    assert_int_equal(mask_maps_read(w->pid, &maps, NULL), 0);
    for (size_t i = 0; i < count; i++)
        for (size_t m = 0; m < maps->count; m++)
            if (all[i].stub >= maps->mappings[m].start && all[i].stub < maps->mappings[m].end) {
                islands++;
                assert_true(maps->mappings[m].executable && !maps->mappings[m].writable);
                assert_true(m > 0 && maps->mappings[m - 1].end == maps->mappings[m].start);
                assert_true(!maps->mappings[m - 1].executable && !maps->mappings[m - 1].writable);
            }
    assert_int_equal(islands, count);
}

static struct mask_process *recover(struct world *w)
{
    const struct mask_process_options options = {.table = &second.table};
    struct mask_process *again = mask_process_new(&options);
    struct error err = {0};
    if (mask_process_recover(again, &w->tracee, &err) < 0)
        fail_msg("%s", err.message);
    return again;
}

/* As after a restore, or when the tracer has ended: nothing but the memory tells. */
static void a_record_is_made_anew_from_memory(void **state)
{
    struct world *w = *state;
    size_t count = 0, again_count = 0;
    stop(w);
    cover(w, false);
    uint64_t bytes = address_space(w->pid);
    const struct mask_patch *all = mask_process_patches(w->process, &count);
    AUTO(mask_process) again = recover(w);
    const struct mask_patch *found = mask_process_patches(again, &again_count);
    assert_int_equal(again_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(found[i].address, all[i].address);
        assert_int_equal(found[i].length, all[i].length);
        assert_int_equal(found[i].stub, all[i].stub);
        assert_memory_equal(found[i].bytes, all[i].bytes, all[i].length);
        assert_memory_equal(found[i].original, all[i].original, all[i].length);
    }
    struct mask_coverage before = mask_process_coverage(w->process);
    struct mask_coverage after = mask_process_coverage(again);
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(address_space(w->pid), bytes); /* the islands serve again */
    assert_true(mask_process_splits(again, found[0].address + 1));
    assert_false(mask_process_splits(again, found[0].address));
    assert_false(mask_process_splits(again, found[0].address + found[0].length));
    struct error err = {0};
    assert_int_equal(mask_process_replace_table(again, &w->tracee, &second.table, &err), 0);
    go_on(w);
    assert_int_equal(ask(w, 'f'), leaf7() & ~EBX_BMI2);
}

static void what_came_while_nobody_looked_is_covered_and_told(void **state)
{
    struct world *w = *state;
    size_t count = 0;
    stop(w);
    cover(w, false);
    size_t changed = mask_process_coverage(w->process).lacks[MASK_LACK_CHANGED];
    const struct mask_patch *all = mask_process_patches(w->process, &count);
    const struct mask_patch bare = all[0], spoilt = all[count / 2];
    assert_int_equal(mask_tracee_write(&w->tracee, bare.address, bare.original, bare.length, NULL),
                     0);
    /* A jump that leads elsewhere is nothing of ours. */
    assert_int_equal(mask_tracee_write(&w->tracee, spoilt.address + 1, "\x7f", 1, NULL), 0);
    AUTO(mask_process) again = recover(w);
    struct mask_coverage coverage = mask_process_coverage(again);
    assert_int_equal(coverage.lacks[MASK_LACK_GAP], 1);
    assert_true(coverage.lacks[MASK_LACK_CHANGED] > changed);
    assert_int_equal(coverage.detours, count - 1);
    uint8_t now = 0;
    assert_int_equal(mask_tracee_read(&w->tracee, bare.address, &now, 1, NULL), 0);
    assert_int_equal(now, 0xe9);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_process_sees_the_table_and_then_another_one),
        TEST(covering_again_changes_nothing),
        TEST(what_was_written_over_is_written_again),
        TEST(what_takes_no_detour_is_told_or_trapped),
        TEST(a_mapping_is_covered_whole_or_not_at_all),
        TEST(changed_memory_is_left_alone),
        TEST(islands_are_never_writable),
        TEST(a_record_is_made_anew_from_memory),
        TEST(what_came_while_nobody_looked_is_covered_and_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
