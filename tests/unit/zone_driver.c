/* zone_driver.c - time zones behind a pipe, for test_zone_oracle.py.
 *
 * Reads one question a line from standard input, writes one answer a line:
 *   ZONE SECONDS    the offset at that instant, in seconds
 *   ZONE day N      when day N since 1970 begins, in seconds since 1970
 * A line that it cannot read, or a zone that is none, ends it with status 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/zone.h"

enum { LINE = 256, OUTPUT_BUFFER = 1 << 20 };

static void give_up(const char *line, const char *what)
{
    fprintf(stderr, "zone_driver: %s: %s\n", line, what);
    exit(1);
}

/* Questions about one zone stand together. */
static const struct zone *zone_named(const char *name)
{
    static char last[ZONE_NAME];
    static struct zone *zone;
    struct err err = {0};

    if (strcmp(name, last) == 0)
        return zone;
    zone_unref(zone);
    zone = NULL;
    if (!slice_copy(slice_from(name), last, sizeof(last)))
        give_up(name, "too long");
    if (name[0] != '\0' && zone_open(name, &zone, &err) != ERR_OK)
        give_up(name, err.message);
    return zone;
}

static void answer(char *line)
{
    char *space = strchr(line, ' ');
    char *end;
    bool day;
    const struct zone *z;
    int64_t value;

    if (space == NULL || space == line)
        give_up(line, "no question");
    *space++ = '\0';
    z = zone_named(line);
    day = strncmp(space, "day ", 4) == 0;
    value = strtoll(space + (day ? 4 : 0), &end, 10);
    if (*end != '\n')
        give_up(line, "no number");
    if (day)
        printf("%" PRId64 "\n", zone_day_begins(z, value) / CLOCK_SECOND);
    else
        printf("%" PRId32 "\n", zone_offset(z, value * CLOCK_SECOND));
}

int main(void)
{
    static char line[LINE];
    static char output[OUTPUT_BUFFER];

    setvbuf(stdout, output, _IOFBF, sizeof(output));
    while (fgets(line, sizeof(line), stdin) != NULL)
        answer(line);
    (void)zone_named("");
    return ferror(stdin) || fflush(stdout) != 0;
}
