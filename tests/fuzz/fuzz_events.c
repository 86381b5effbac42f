/* fuzz_events.c - any bytes as an event stream: however it is cut the facts are the same, and the same as those of a
 * slow reader that has the whole stream before it; what may leave never falls and is never far behind. The first two
 * bytes say how to cut, the third how many completed events are expected. */
#include <limits.h>
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/base/buf.h"
#include "daemon/images/event_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EXPECTED = 4 };

struct told {
    struct reply_facts facts;
    uint64_t before, after;
    int completed;
    bool done, at_line;
};

/* ---- the scanner ---- */

static void feed_copy(struct event_scan *s, const uint8_t *data, size_t n)
{
    char *copy = mem_alloc(n);
    uint64_t before = event_scan_free(s);
    uint64_t offset = s->offset;

    memcpy(copy, data, n);
    event_scan_feed(s, copy, n);
    free(copy);
    TG_ASSERT(s->offset == offset + n);
    TG_ASSERT(event_scan_free(s) >= before && event_scan_free(s) <= s->offset);
    TG_ASSERT(s->offset - event_scan_free(s) <= EVENT_TAIL || event_scan_completed(s) >= s->expected);
}

/* A comment may stand where event_scan_at_line says so: not inside a line of an event. */
static void check_line(const struct event_scan *s, const uint8_t *data)
{
    uint64_t at = event_scan_free(s);

    if (event_scan_at_line(s) && at > 0)
        TG_ASSERT(data[at - 1] == '\n' || data[at - 1] == '\r' || (at == 3 && data[2] == 0xBF));
}

/* Pieces whose lengths a small generator gives; <seed> 0: in one piece. Each from memory of its own size. */
static struct told scan_events(const uint8_t *data, size_t size, unsigned seed, int expected)
{
    struct event_scan s;
    struct told t;
    size_t at = 0;
    unsigned x = seed;

    event_scan_init(&s);
    if (expected > 0)
        event_scan_expect(&s, expected);
    while (at < size) {
        size_t n = seed == 0 ? size : 1 + (x = x * 1103515245U + 12345U, x >> 16) % 40;

        n = n < size - at ? n : size - at;
        feed_copy(&s, data + at, n);
        check_line(&s, data);
        at += n;
    }
    t.before = event_scan_free(&s);
    t.at_line = event_scan_at_line(&s);
    event_scan_finish(&s, &t.facts);
    t.after = event_scan_free(&s);
    t.completed = event_scan_completed(&s);
    t.done = s.done;
    TG_ASSERT(t.before <= t.after && event_scan_ended(&s) == (t.done || t.facts.has_error));
    return t;
}

/* ---- the slow reader: line by line from the whole text, each event's data put together in memory ---- */

struct slow {
    struct buf data;
    unsigned types;
    bool has_data, in_event;
    int completed, images, partials;
    bool done, has_error, has_event;
};

static void slow_event(struct slow *w)
{
    struct reply_scan scan;
    struct reply_facts f;
    unsigned types;
    bool error;

    w->has_event = true;
    if (slice_starts(buf_slice(&w->data), SLICE("[DONE]"))) {
        w->done = true;
        return;
    }
    reply_scan_init_event(&scan);
    reply_scan_feed(&scan, w->data.p, w->data.len);
    reply_scan_finish(&scan, &f);
    types = w->types | scan.types;
    error = f.has_error || (types & REPLY_TYPE_ERROR);
    w->has_error |= error;
    if ((types & REPLY_TYPE_COMPLETED) ? f.images > 0 || !error : types == 0 && f.images > 0) {
        w->completed++;
        w->images += f.images > 0 ? f.images : f.whole ? 0 : 1;
    } else if (types & REPLY_TYPE_PARTIAL) {
        w->partials++;
    }
}

static void slow_blank(struct slow *w)
{
    if (w->has_data)
        slow_event(w);
    w->has_data = w->in_event = false;
    w->types = 0;
    buf_clear(&w->data);
}

static void slow_line(struct slow *w, struct slice line)
{
    struct slice name, value;

    if (line.len == 0) {
        slow_blank(w);
        return;
    }
    if (line.p[0] == ':')
        return;
    w->in_event = true;
    (void)slice_cut(line, ':', &name, &value);
    if (value.len > 0 && value.p[0] == ' ') {
        value.p++;
        value.len--;
    }
    if (slice_eq_str(name, "event"))
        w->types |= value.len > EVENT_TYPE ? REPLY_TYPE_COMPLETED : reply_type_of(slice_trim(value));
    if (!slice_eq_str(name, "data"))
        return;
    if (w->has_data)
        buf_append_char(&w->data, '\n');
    buf_append_slice(&w->data, value);
    w->has_data = true;
}

/* Whether an event that the stream's end cut off is whole but for its line ends. */
static bool slow_is_whole(const struct slow *w)
{
    struct reply_scan scan;

    if (slice_starts(buf_slice(&w->data), SLICE("[DONE]")))
        return true;
    reply_scan_init_event(&scan);
    reply_scan_feed(&scan, w->data.p, w->data.len);
    return scan.result == JSON_SCAN_DONE;
}

static void read_slowly(struct slow *w, struct slice text)
{
    size_t start = 0;

    if (slice_starts(text, SLICE("\xEF\xBB\xBF"))) {
        text.p += 3;
        text.len -= 3;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] != '\n' && text.p[i] != '\r')
            continue;
        slow_line(w, (struct slice){text.p + start, i - start});
        if (text.p[i] == '\r' && i + 1 < text.len && text.p[i + 1] == '\n')
            i++;
        start = i + 1;
    }
    if (start < text.len)
        slow_line(w, (struct slice){text.p + start, text.len - start});
}

static void check_slowly(const uint8_t *data, size_t size, const struct told *t)
{
    struct slow w = {0};
    bool cut_bom;

    buf_init(&w.data, size + 1);
    (void)buf_reserve(&w.data, 1); /* so that there is memory, if only empty */
    read_slowly(&w, (struct slice){(const char *)data, size});
    cut_bom = size > 0 && size < 3 && memcmp(data, "\xEF\xBB\xBF", size) == 0;
    TG_ASSERT(t->facts.whole == (!w.in_event && !cut_bom));
    if (w.in_event && w.has_data && slow_is_whole(&w))
        slow_blank(&w);
    TG_ASSERT(t->completed == w.completed && t->facts.images == w.images && t->facts.partial_images == w.partials);
    TG_ASSERT(t->done == w.done && t->facts.has_error == w.has_error && t->facts.has_data == w.has_event);
    buf_dispose(&w.data);
}

static void check_usage(const struct reply_facts *f)
{
    int64_t sum = 0;

    for (int i = 0; i < PRICE_UNITS; i++) {
        TG_ASSERT(f->largest.of[i] >= 0 && f->quantities.of[i] >= 0);
        sum += f->quantities.of[i] + f->largest.of[i];
    }
    TG_ASSERT(f->largest.of[PRICE_IMAGE_OUTPUT] + f->largest.of[PRICE_TEXT_OUTPUT] <=
              f->quantities.of[PRICE_IMAGE_OUTPUT] + f->quantities.of[PRICE_TEXT_OUTPUT]);
    TG_ASSERT(f->usage == REPLY_USAGE_GOOD || sum == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct told whole, cut;
    int expected;

    if (size < 3)
        return 0;
    expected = data[2] % EXPECTED;
    whole = scan_events(data + 3, size - 3, 0, expected);
    cut = scan_events(data + 3, size - 3, 1U + data[0] + 256U * data[1], expected);
    check_slowly(data + 3, size - 3, &whole);
    check_usage(&whole.facts);
    TG_ASSERT(whole.facts.whole == cut.facts.whole && whole.facts.has_error == cut.facts.has_error);
    TG_ASSERT(whole.facts.has_data == cut.facts.has_data && whole.facts.images == cut.facts.images);
    TG_ASSERT(whole.facts.partial_images == cut.facts.partial_images && whole.facts.usage == cut.facts.usage);
    TG_ASSERT(memcmp(&whole.facts.quantities, &cut.facts.quantities, sizeof(cut.facts.quantities)) == 0);
    TG_ASSERT(memcmp(&whole.facts.largest, &cut.facts.largest, sizeof(cut.facts.largest)) == 0);
    TG_ASSERT(strcmp(whole.facts.size, cut.facts.size) == 0 && strcmp(whole.facts.quality, cut.facts.quality) == 0);
    TG_ASSERT(whole.before == cut.before && whole.after == cut.after && whole.at_line == cut.at_line);
    TG_ASSERT(whole.completed == cut.completed && whole.done == cut.done);
    return 0;
}
