/* fuzz_ini.c - any bytes read as INI: slices stay inside the text, lines count up, faults are counted as they are told.
 */
#include <stdint.h>
#include <string.h>

#include "daemon/base/ini.h"
#include "daemon/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct check {
    const char *start;
    const char *end;
    int line;
    int faults;
};

static void check_inside(const struct check *c, struct slice s)
{
    TG_ASSERT(s.len == 0 || (s.p >= c->start && s.p + s.len <= c->end));
    TG_ASSERT(s.len == 0 || (memchr(s.p, '\n', s.len) == NULL && memchr(s.p, '\0', s.len) == NULL));
    TG_ASSERT(utf8_valid(s) && slice_eq(slice_trim(s), s));
}

static enum err_code on_key(void *ctx, struct slice section, struct slice key, struct slice value, int line,
                            struct err *err)
{
    struct check *c = ctx;

    check_inside(c, section);
    check_inside(c, key);
    check_inside(c, value);
    TG_ASSERT(line > c->line && key.len > 0 && memchr(key.p, '=', key.len) == NULL);
    c->line = line;
    return value.len > 9 ? err_set(err, ERR_INVALID_VALUE, NULL, "long") : ERR_OK;
}

static void on_fault(void *ctx, int line, struct slice key, const char *what)
{
    struct check *c = ctx;

    check_inside(c, key);
    TG_ASSERT(line >= c->line && what[0] != '\0');
    c->line = line;
    c->faults++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct check c = {.start = text.p, .end = text.p + size};
    int faults = ini_read(text, on_key, on_fault, &c);

    TG_ASSERT(faults == c.faults);
    return 0;
}
