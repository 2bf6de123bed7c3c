/* SPDX-License-Identifier: Apache-2.0 */
/* embed_sql.c - writes numbered SQL files as a C table, for the build:
 *
 *     embed_sql OUT 0001_first.sql 0002_more.sql …
 *
 * The numbers must run from 1 without a gap, in the order given. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int complain(const char *path, const char *what)
{
    fprintf(stderr, "embed_sql: %s: %s\n", path, what);
    return -1;
}

static int embed(FILE *out, const char *path, long number)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    char *end = NULL;
    if (strtol(name, &end, 10) != number || end != name + 4 || *end != '_')
        return complain(path, "expected the next number, four digits and '_'");
    FILE *in = fopen(path, "re");
    if (!in)
        return complain(path, strerror(errno));
    fprintf(out, "{%ld, \"%s\",\n \"", number, name);
    for (int c; (c = getc(in)) != EOF;) {
        if (c == '\n')
            fputs("\\n\"\n \"", out);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c >= ' ' && c < 0x7f)
            putc(c, out);
        else
            fprintf(out, "\\%03o", (unsigned)c);
    }
    fputs("\"},\n", out);
    int rc = ferror(in) ? complain(path, "cannot be read") : 0;
    fclose(in);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: embed_sql OUT FILE…\n", stderr);
        return 2;
    }
    FILE *out = fopen(argv[1], "we");
    if (!out) {
        complain(argv[1], strerror(errno));
        return 1;
    }
    int rc = 0;
    for (int i = 2; rc == 0 && i < argc; i++)
        rc = embed(out, argv[i], i - 1);
    if (fclose(out) != 0)
        rc = complain(argv[1], strerror(errno));
    if (rc < 0)
        remove(argv[1]);
    return rc < 0;
}
