/* directives.c - finds [[...]] in a prompt; what it does not know it leaves alone. Pure. */
#include "directives.h"

#include <stddef.h>

/* A number and one of the units in <units> (ends with a NULL name); the unit's factor is applied. */
struct unit {
    const char *name;
    int64_t factor;
};

static bool read_amount(struct slice text, const struct unit *units, int64_t max, int64_t *out)
{
    size_t digits = 0;
    unsigned long long n;

    while (digits < text.len && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    if (!slice_to_u64((struct slice){text.p, digits}, &n))
        return false;
    for (; units->name != NULL; units++) {
        if (slice_eq_str((struct slice){text.p + digits, text.len - digits}, units->name)) {
            if (n > (unsigned long long)(max / units->factor))
                return false;
            *out = (int64_t)n * units->factor;
            return true;
        }
    }
    return false;
}

static bool read_count(struct slice text, int64_t max, int64_t *out)
{
    static const struct unit none[] = {{"", 1}, {NULL, 0}};

    return read_amount(text, none, max, out);
}

static void set_latency(struct directives *d, struct slice value)
{
    static const struct unit times[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {NULL, 0}};

    (void)read_amount(value, times, DIRECTIVE_LATENCY_MAX, &d->latency);
}

static void set_status(struct directives *d, struct slice value)
{
    int64_t status;

    if (read_count(value, 599, &status) && status >= 400)
        d->status = (int)status;
}

static void set_usage(struct directives *d, struct slice value)
{
    int64_t figures[3];
    struct slice head;

    if (slice_eq_str(value, "none")) {
        d->usage_none = true;
        return;
    }
    for (int i = 0; i < 3; i++) {
        bool more = slice_cut(value, ',', &head, &value);

        if (more != (i < 2) || !read_count(head, INT64_MAX, &figures[i]))
            return;
    }
    memcpy(d->usage, figures, sizeof(figures));
    d->usage_given = true;
}

static void set_images(struct directives *d, struct slice value)
{
    int64_t n;

    if (read_count(value, 10, &n))
        d->images = (int)n;
}

static const struct unit sizes[] = {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {NULL, 0}};

static void set_bytes(struct directives *d, struct slice value)
{
    (void)read_amount(value, sizes, DIRECTIVE_BYTES_MAX, &d->bytes);
}

static void set_die(struct directives *d, struct slice value)
{
    static const struct unit percent[] = {{"%", 1}, {NULL, 0}};
    int64_t share;

    if (slice_eq_str(value, "headers"))
        d->die = DIRECTIVE_DIE_HEADERS;
    else if (read_amount(value, percent, 100, &share))
        d->die = (int)share;
}

static void set_slow(struct directives *d, struct slice value)
{
    if (value.len > 2 && memcmp(value.p + value.len - 2, "/s", 2) == 0)
        (void)read_amount((struct slice){value.p, value.len - 2}, sizes, INT64_MAX / 1024, &d->slow);
}

static void set_split(struct directives *d, struct slice value)
{
    (void)read_amount(value, sizes, DIRECTIVE_BYTES_MAX, &d->split);
}

static void set_hang(struct directives *d, struct slice value)
{
    d->hang = value.len == 0;
}

static void set_moderation(struct directives *d, struct slice value)
{
    d->moderation = value.len == 0;
}

static void apply(struct directives *d, struct slice inside)
{
    static const struct {
        const char *name;
        void (*set)(struct directives *d, struct slice value);
    } known[] = {
        {"latency", set_latency}, {"status", set_status},
        {"usage", set_usage},     {"images", set_images},
        {"bytes", set_bytes},     {"die", set_die},
        {"slow", set_slow},       {"split", set_split},
        {"hang", set_hang},       {"moderation", set_moderation},
    };
    struct slice name, value;

    (void)slice_cut(inside, '=', &name, &value);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_eq_str(name, known[i].name))
            known[i].set(d, value);
    }
}

void directives_read(struct slice prompt, struct directives *out)
{
    *out = (struct directives){.images = -1, .die = DIRECTIVE_DIE_NEVER};
    for (size_t i = 0; i + 4 <= prompt.len; i++) {
        size_t end;

        if (prompt.p[i] != '[' || prompt.p[i + 1] != '[')
            continue;
        for (end = i + 2; end + 2 <= prompt.len && (prompt.p[end] != ']' || prompt.p[end + 1] != ']'); end++)
            continue;
        if (end + 2 > prompt.len)
            return;
        apply(out, (struct slice){prompt.p + i + 2, end - i - 2});
        i = end + 1;
    }
}
