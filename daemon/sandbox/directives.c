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

static const struct unit times[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {NULL, 0}};

static void set_latency(struct directives *d, struct slice value)
{
    (void)read_amount(value, times, DIRECTIVE_LATENCY_MAX, &d->latency);
}

static void set_pause(struct directives *d, struct slice value)
{
    (void)read_amount(value, times, DIRECTIVE_LATENCY_MAX, &d->pause);
}

static void set_status(struct directives *d, struct slice value)
{
    int64_t status;

    if (read_count(value, 599, &status) && status >= 400)
        d->status = (int)status;
}

/* A word and what it stands for; ends with a NULL word. */
struct word {
    const char *name;
    unsigned value;
};

static bool read_word(struct slice text, const struct word *words, unsigned *out)
{
    for (; words->name != NULL; words++) {
        if (slice_eq_str(text, words->name)) {
            *out = words->value;
            return true;
        }
    }
    return false;
}

static void set_figures(struct directives *d, struct slice value)
{
    int64_t figures[3];
    struct slice head;

    for (int i = 0; i < 3; i++) {
        bool more = slice_cut(value, ',', &head, &value);

        if (more != (i < 2) || !read_count(head, INT64_MAX, &figures[i]))
            return;
    }
    memcpy(d->usage, figures, sizeof(figures));
    d->usage_given = true;
}

static void set_usage(struct directives *d, struct slice value)
{
    static const struct word places[] = {
        {"none", USAGE_NONE}, {"last", USAGE_LAST}, {"repeated", USAGE_REPEATED}, {NULL, 0}};
    static const struct word lies[] = {{"negative", LIE_NEGATIVE}, {"fractional", LIE_FRACTIONAL},
                                       {"huge", LIE_HUGE},         {"inconsistent", LIE_INCONSISTENT},
                                       {"zero", LIE_ZERO},         {NULL, 0}};
    unsigned word;

    if (read_word(value, places, &word))
        d->usage_on = (enum directive_usage)word;
    else if (read_word(value, lies, &word))
        d->lie = (enum directive_lie)word;
    else
        set_figures(d, value);
}

static void set_images(struct directives *d, struct slice value)
{
    int64_t n;

    if (read_count(value, 10, &n))
        d->images = (int)n;
}

static void set_partials(struct directives *d, struct slice value)
{
    int64_t n;

    if (read_count(value, 3, &n))
        d->partials = (int)n;
}

static const struct unit sizes[] = {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {NULL, 0}};

static void set_bytes(struct directives *d, struct slice value)
{
    (void)read_amount(value, sizes, DIRECTIVE_BYTES_MAX, &d->bytes);
}

static void set_stop(struct directives *d, struct slice value, bool hang)
{
    static const struct unit percent[] = {{"%", 1}, {NULL, 0}};
    static const struct unit events[] = {{"events", 1}, {"event", 1}, {NULL, 0}};
    enum directive_stop stop = STOP_NEVER;
    int64_t at = 0;

    if (slice_eq_str(value, hang ? "" : "headers"))
        stop = STOP_HEADERS;
    else if (read_amount(value, percent, 100, &at))
        stop = STOP_PERCENT;
    else if (read_amount(value, events, 1000, &at))
        stop = STOP_EVENTS;
    if (stop == STOP_NEVER)
        return;
    d->stop = stop;
    d->stop_at = at;
    d->hang = hang;
}

static void set_die(struct directives *d, struct slice value)
{
    set_stop(d, value, false);
}

static void set_hang(struct directives *d, struct slice value)
{
    set_stop(d, value, true);
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

static void set_form(struct directives *d, struct slice value)
{
    static const struct word forms[] = {{"json", FORM_JSON}, {"events", FORM_EVENTS}, {"html", FORM_HTML},
                                        {"text", FORM_TEXT}, {"error", FORM_ERROR},   {"cut", FORM_CUT},
                                        {NULL, FORM_ASKED}};
    unsigned form;

    if (read_word(value, forms, &form))
        d->form = (enum directive_form)form;
}

static void set_events(struct directives *d, struct slice value)
{
    static const struct word manners[] = {{"crlf", EVENTS_CRLF},
                                          {"cr", EVENTS_CR},
                                          {"untyped", EVENTS_UNTYPED},
                                          {"done", EVENTS_DONE},
                                          {"lines", EVENTS_LINES},
                                          {"comments", EVENTS_COMMENTS},
                                          {"minimal", EVENTS_MINIMAL},
                                          {"unknown", EVENTS_UNKNOWN},
                                          {"open", EVENTS_OPEN},
                                          {"error", EVENTS_ERROR},
                                          {NULL, 0}};
    unsigned manner, all = 0;
    struct slice head;
    bool more;

    do {
        more = slice_cut(value, ',', &head, &value);
        if (!read_word(head, manners, &manner))
            return;
        all |= manner;
    } while (more);
    d->events = all;
}

static void set_retry_after(struct directives *d, struct slice value)
{
    (void)read_count(value, DIRECTIVE_LATENCY_MAX / 1000000, &d->retry_after);
}

static void set_moderation(struct directives *d, struct slice value)
{
    d->moderation = value.len == 0;
}

static void set_gzip(struct directives *d, struct slice value)
{
    d->gzip = value.len == 0;
}

static void set_chunked(struct directives *d, struct slice value)
{
    d->chunked = value.len == 0;
}

static void set_early(struct directives *d, struct slice value)
{
    d->early = value.len == 0;
}

static void apply(struct directives *d, struct slice inside)
{
    static const struct {
        const char *name;
        void (*set)(struct directives *d, struct slice value);
    } known[] = {
        {"latency", set_latency},   {"status", set_status},
        {"usage", set_usage},       {"images", set_images},
        {"partials", set_partials}, {"bytes", set_bytes},
        {"die", set_die},           {"hang", set_hang},
        {"slow", set_slow},         {"split", set_split},
        {"pause", set_pause},       {"as", set_form},
        {"events", set_events},     {"retry-after", set_retry_after},
        {"gzip", set_gzip},         {"moderation", set_moderation},
        {"chunked", set_chunked},   {"early", set_early},
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
    *out = (struct directives){.images = -1, .partials = -1, .retry_after = -1};
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
