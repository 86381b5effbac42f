/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "daemon/base/clock.h"

enum { BAR = 30, PERMILLE = 1000 };

#define REDRAW (CLOCK_SECOND / 10)

void progress_init(struct progress *p)
{
    p->terminal = isatty(STDERR_FILENO) == 1;
    p->next = 0;
    p->last = -1;
}

void progress_draw(void *progress, const char *what, int permille)
{
    struct progress *p = progress;
    char bar[BAR + 1];

    if (!p->terminal || permille < 0 || permille > PERMILLE || clock_mono() < p->next)
        return;
    p->next = clock_mono() + REDRAW;
    p->last = permille;
    for (int i = 0; i < BAR; i++)
        bar[i] = i * PERMILLE < permille * BAR ? '#' : '.';
    bar[BAR] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3d %%  %s", bar, permille / 10, what);
    (void)fflush(stderr);
}

void progress_clear(struct progress *p)
{
    if (p->last >= 0)
        fputs("\r\033[K", stderr);
    p->last = -1;
}
