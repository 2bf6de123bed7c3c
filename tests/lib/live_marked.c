/* SPDX-License-Identifier: Apache-2.0 */
/* live_marked.c - a program all of whose code is marked with the instructions that it uses: no C
 * library, no start files. Compiled with -Wa,-mx86-used-note=yes; with -DUSES_AVX it holds an
 * instruction of AVX, with -DUSES_AVX512 one of AVX-512, neither of which is executed; with
 * -DMAPS_CODE it has a page of code without a file, as a just-in-time compiler would. With -DMOVES
 * it is a workload: it outlives its parent, has an alternate signal stack of 16 KiB, and writes a
 * line every 20 ms. */

#define SYS_WRITE       1
#define SYS_MMAP        9
#define SYS_PAUSE       34
#define SYS_NANOSLEEP   35
#define SYS_SIGALTSTACK 131
#define SYS_PRCTL       157
#define PDEATHSIG       1
#define KILL            9

static long call(long number, long a, long b, long c)
{
    long result;
    register long d __asm__("r10") = 0x22; /* of mmap: private, anonymous */
    register long e __asm__("r8") = -1;
    register long f __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d), "r"(e), "r"(f)
                     : "rcx", "r11", "memory");
    return result;
}

#ifdef USES_AVX
__asm__("vaddps %ymm0, %ymm1, %ymm2");
#endif
#ifdef USES_AVX512
__asm__("vpaddd %zmm0, %zmm1, %zmm2");
#endif

#ifdef MOVES
struct stack { /* the kernel's stack_t */
    void *at;
    int flags;
    unsigned long bytes;
};

static char stack_room[16384];

static void work(void)
{
    static const struct stack stack = {stack_room, 0, sizeof(stack_room)};
    static const long pause_time[2] = {0, 20000000};
    call(SYS_SIGALTSTACK, (long)&stack, 0, 0);
    for (;;) {
        call(SYS_NANOSLEEP, (long)pause_time, 0, 0);
        call(SYS_WRITE, 1, (long)"step\n", 5);
    }
}
#endif

void _start(void);
void _start(void)
{
    static const char text[] = "ready\n";
#ifdef MOVES
    work();
#endif
    call(SYS_PRCTL, PDEATHSIG, KILL, 0);
#ifdef MAPS_CODE
    call(SYS_MMAP, 0, 4096, 5); /* readable, executable */
#endif
    call(SYS_WRITE, 1, (long)text, sizeof(text) - 1);
    for (;;)
        call(SYS_PAUSE, 0, 0, 0);
}
