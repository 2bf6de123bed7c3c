/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - runs a fuzz target over the files and folders named, without libFuzzer. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "error.h"
#include "fuzz.h"

#define FILE_MAX (64L * 1024 * 1024)

/* An exact copy, so that a sanitizer sees every byte read beyond its end. */
static int replay_file(const char *path)
{
    FILE *file = fopen(path, "re");
    long size = 0;
    if (!file || fseek(file, 0, SEEK_END) < 0 || (size = ftell(file)) < 0 || size > FILE_MAX) {
        fprintf(stderr, "%s: %s\n", path, size > FILE_MAX ? "too large" : strerror(errno));
        if (file)
            fclose(file);
        return -1;
    }
    rewind(file);
    autofree uint8_t *data = xmalloc(size ? (size_t)size : 1);
    size_t got = fread(data, 1, (size_t)size, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, got);
    return 1;
}

/* How many files were run; -1 when one could not be read. */
static int replay(const char *path)
{
    struct stat st;
    int count = 0;
    if (stat(path, &st) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path);
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    for (struct dirent *e; count >= 0 && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        autofree char *child = xasprintf("%s/%s", path, e->d_name);
        int n = replay(child);
        count = n < 0 ? -1 : count + n;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') /* an option of libFuzzer's */
            continue;
        int n = replay(argv[i]);
        if (n < 0)
            return 1;
        count += n;
    }
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
