/* attrs.c - the end of the process: broken invariants and memory that cannot be had.
 *
 * Both paths write one line with write(2) alone, so they work with any lock held and with no memory left.
 * Any thread. */
#include "attrs.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static TG_NORETURN void die(const char *line, int len, size_t cap)
{
    size_t n = len < 0 ? 0 : (size_t)len < cap ? (size_t)len : cap - 1;
    ssize_t written = write(STDERR_FILENO, line, n);

    (void)written; /* nobody is left to tell */
    abort();
}

void assert_failed(const char *file, int line, const char *what)
{
    char text[512];

    die(text, snprintf(text, sizeof(text), "tallygate: %s:%d: invariant broken: %s\n", file, line, what), sizeof(text));
}

static TG_NORETURN void out_of_memory(size_t size)
{
    char text[96];

    die(text, snprintf(text, sizeof(text), "tallygate: out of memory: %zu bytes\n", size), sizeof(text));
}

/* malloc(0) may return NULL, which callers must be able to take for failure alone. */
static size_t at_least_one(size_t size)
{
    return size > 0 ? size : 1;
}

void *mem_alloc(size_t size)
{
    void *p = malloc(at_least_one(size));

    if (p == NULL)
        out_of_memory(size);
    return p;
}

void *mem_zalloc(size_t size)
{
    void *p = calloc(1, at_least_one(size));

    if (p == NULL)
        out_of_memory(size);
    return p;
}

void *mem_realloc(void *p, size_t size)
{
    void *q = realloc(p, at_least_one(size));

    if (q == NULL)
        out_of_memory(size);
    return q;
}

char *mem_strdup(const char *text)
{
    size_t n = strlen(text) + 1;

    return memcpy(mem_alloc(n), text, n);
}
