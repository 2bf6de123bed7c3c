/* SPDX-License-Identifier: Apache-2.0 */
/* hang_engine.c - a checkpoint engine that freezes a whole tree of tasks as CRIU does, with ptrace,
 * and then hangs: `hang_engine dump -t PID ...`. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void freeze(pid_t process);

static void freeze_thread(pid_t process, pid_t thread)
{
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0) {
        perror("PTRACE_SEIZE");
        exit(1);
    }
    ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
    waitpid(thread, NULL, __WALL);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)process, (int)thread);
    FILE *children = fopen(path, "re");
    if (!children)
        return;
    int child;
    while (fscanf(children, "%d", &child) == 1)
        freeze((pid_t)child);
    fclose(children);
}

static void freeze(pid_t process)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *threads = opendir(path);
    if (!threads) {
        perror(path);
        exit(1);
    }
    for (struct dirent *entry = readdir(threads); entry; entry = readdir(threads))
        if (entry->d_name[0] != '.')
            freeze_thread(process, (pid_t)atoi(entry->d_name));
    closedir(threads);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "-t") != 0 && strcmp(argv[i], "--tree") != 0)
            continue;
        freeze((pid_t)atoi(argv[i + 1]));
        for (;;)
            pause();
    }
    fprintf(stderr, "usage: hang_engine dump -t PID\n");
    return 2;
}
