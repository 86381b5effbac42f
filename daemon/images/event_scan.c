/* event_scan.c - an event stream's facts, line by line.
 *
 *    START  --the BOM, or another byte-->  LINE
 *    LINE   --:, a comment-->  VALUE          --another byte, of a field's name-->  NAME
 *           --line end: a blank line, the event is over-->  LINE
 *    NAME   --:-->  SPACE                     --line end: a field without a value-->  LINE
 *    SPACE  --one space, if there is one-->  VALUE
 *    VALUE  --line end-->  LINE
 *
 *    what leaves     |<------------ free ------------>|<-- at most EVENT_TAIL -->|
 *    of the stream   ... harmless | event at hand, or a completed one and after  | offset
 *                                 ^ held back from here, or from the tail on
 *
 * Invariants
 *   1. Facts change at the end of an event alone, and depend on its bytes, not on how they were cut.
 *   2. in_event: a line that is no comment has begun since the last blank line; start is where. Then data, types and
 *      done_len are of that event.
 *   3. pending: a completed event stands at held, and no image has followed it, in full.
 *   4. event_scan_free never falls: each term of it only grows, and where one takes another's place it is not smaller.
 *   5. offset - event_scan_free <= EVENT_TAIL unless frozen.
 *   6. Every byte is looked at a bounded number of times: the next LF, once found, is remembered.
 * Threads: one a scan. */
#include "event_scan.h"

#include <limits.h>

#include "daemon/base/attrs.h"

enum state { START = 0 /* of the stream: text_len bytes of a BOM */, LINE, NAME, SPACE, VALUE };

enum field { F_NONE = 0, F_DATA, F_EVENT };

static const struct slice bom = {"\xEF\xBB\xBF", 3};
static const struct slice end_mark = {"[DONE]", 6};

enum { NOT_DONE = UINT8_MAX }; /* done_len of data that begins otherwise */

/* What is left of one feed. */
struct cursor {
    const char *p;
    const char *end;
    const char *lf; /* the next LF (or end), valid while >= p; NULL: not looked for yet */
};

void event_scan_init(struct event_scan *s)
{
    memset(s, 0, sizeof(*s));
    s->expected = INT_MAX;
}

void event_scan_expect(struct event_scan *s, int completed)
{
    TG_ASSERT(completed >= 1 && s->offset == 0);
    s->expected = completed;
}

/* ---- events ---- */

static void begin_event(struct event_scan *s, uint64_t start)
{
    if (s->in_event)
        return;
    s->in_event = true;
    s->start = start;
    s->has_data = false;
    s->types = 0;
    s->done_len = 0;
}

static bool is_end_mark(const struct event_scan *s)
{
    return s->done_len == end_mark.len;
}

/* Sums, and whether they can be. */
static void add_usage(struct event_scan *s, const struct price_quantities *q)
{
    int64_t *sum = s->facts.quantities.of;

    for (int i = 0; i < PRICE_UNITS; i++) {
        sum[i] += q->of[i];
        if (sum[i] > REPLY_TOKENS_MAX) {
            sum[i] = REPLY_TOKENS_MAX;
            s->bad_usage = true;
        }
    }
    if (s->told == 0 || q->of[PRICE_IMAGE_OUTPUT] + q->of[PRICE_TEXT_OUTPUT] >
                            s->facts.largest.of[PRICE_IMAGE_OUTPUT] + s->facts.largest.of[PRICE_TEXT_OUTPUT])
        s->facts.largest = *q;
}

static void count(int *counter, int n)
{
    *counter = n > INT_MAX - *counter ? INT_MAX : *counter + n;
}

/* Keeps back from the event at hand on. */
static void hold_completed(struct event_scan *s)
{
    if (s->frozen)
        return;
    s->pending = true;
    s->held = s->start;
    if (s->completed < s->expected)
        return;
    s->released = event_scan_free(s);
    s->frozen = true;
}

static void take_completed(struct event_scan *s, const struct reply_facts *event)
{
    count(&s->facts.images, event->images > 0 ? event->images : !event->whole);
    s->bad_usage |= event->usage == REPLY_USAGE_UNTRUSTED;
    if (event->usage == REPLY_USAGE_GOOD) {
        add_usage(s, &event->quantities);
        count(&s->told, 1);
    }
    if (event->size[0] != '\0')
        (void)slice_copy(slice_from(event->size), s->facts.size, sizeof(s->facts.size));
    if (event->quality[0] != '\0')
        (void)slice_copy(slice_from(event->quality), s->facts.quality, sizeof(s->facts.quality));
    count(&s->completed, 1);
    hold_completed(s);
}

static bool is_completed(const struct reply_facts *event, unsigned types, bool error)
{
    if ((types & REPLY_TYPE_COMPLETED) != 0)
        return !error || event->images > 0;
    return types == 0 && event->images > 0;
}

static void take_event(struct event_scan *s)
{
    struct reply_facts event;
    unsigned types;
    bool error;

    s->facts.has_data = true;
    if (is_end_mark(s)) {
        s->done = true;
        return;
    }
    reply_scan_finish(&s->data, &event);
    types = s->types | s->data.types;
    error = event.has_error || (types & REPLY_TYPE_ERROR) != 0;
    s->facts.has_error |= error;
    if (is_completed(&event, types, error)) {
        take_completed(s, &event);
    } else if ((types & REPLY_TYPE_PARTIAL) != 0) {
        count(&s->facts.partial_images, 1);
        s->pending = false;
    }
}

static void end_event(struct event_scan *s)
{
    if (s->in_event && s->has_data)
        take_event(s);
    s->in_event = false;
}

/* ---- lines ---- */

static void keep_text(struct event_scan *s, const char *bytes, size_t n)
{
    size_t room = EVENT_TYPE - s->text_len;

    if (n > room) {
        n = room;
        s->cut = true;
    }
    if (n > 0)
        memcpy(s->text + s->text_len, bytes, n);
    s->text_len = (uint8_t)(s->text_len + n);
}

static struct slice text_of(const struct event_scan *s)
{
    return (struct slice){s->text, s->text_len};
}

static void take_data(struct event_scan *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && s->done_len < end_mark.len; i++)
        s->done_len = bytes[i] == end_mark.p[s->done_len] ? s->done_len + 1 : NOT_DONE;
    reply_scan_feed(&s->data, bytes, n);
}

/* The field's name is whole. */
static void start_value(struct event_scan *s)
{
    s->field = slice_eq_str(text_of(s), "data") ? F_DATA : slice_eq_str(text_of(s), "event") ? F_EVENT : F_NONE;
    s->state = SPACE;
    s->text_len = 0;
    s->cut = false;
    if (s->field != F_DATA)
        return;
    if (s->has_data)
        take_data(s, "\n", 1);
    else
        reply_scan_init_event(&s->data);
    s->has_data = true;
}

static void end_line(struct event_scan *s)
{
    if (s->state == NAME)
        start_value(s);
    if (s->field == F_EVENT)
        s->types |= s->cut ? REPLY_TYPE_COMPLETED : (uint8_t)reply_type_of(slice_trim(text_of(s)));
    s->field = F_NONE;
    s->state = LINE;
}

/* Passes n bytes. */
static void pass(struct event_scan *s, struct cursor *c, size_t n)
{
    c->p += n;
    s->offset += n;
}

static bool is_line_end(char b)
{
    return b == '\n' || b == '\r';
}

static void pass_line_end(struct event_scan *s, struct cursor *c)
{
    s->after_cr = *c->p == '\r';
    pass(s, c, 1);
}

/* The stream's first bytes: a BOM is no part of its first line, what only begins like one is. */
static void step_start(struct event_scan *s, struct cursor *c)
{
    if (*c->p == bom.p[s->text_len]) {
        keep_text(s, c->p, 1);
        pass(s, c, 1);
        s->state = s->text_len == bom.len ? LINE : START;
    } else if (s->text_len == 0) {
        s->state = LINE;
    } else {
        begin_event(s, 0);
        s->state = NAME;
    }
}

static void step_line(struct event_scan *s, struct cursor *c)
{
    bool second_half = s->after_cr && *c->p == '\n';

    s->after_cr = false;
    if (second_half) {
        pass(s, c, 1);
    } else if (is_line_end(*c->p)) {
        pass_line_end(s, c);
        end_event(s);
    } else if (*c->p == ':') {
        s->field = F_NONE;
        s->state = VALUE;
    } else {
        begin_event(s, s->offset);
        s->text_len = 0;
        s->state = NAME;
    }
}

static void step_name(struct event_scan *s, struct cursor *c)
{
    const char *p = c->p;

    while (p < c->end && *p != ':' && !is_line_end(*p))
        p++;
    keep_text(s, c->p, (size_t)(p - c->p));
    pass(s, c, (size_t)(p - c->p));
    if (p == c->end)
        return;
    if (*p == ':') {
        pass(s, c, 1);
        start_value(s);
    } else {
        end_line(s);
        pass_line_end(s, c);
    }
}

/* The line's end in this feed, or the feed's. */
static const char *find_line_end(struct cursor *c)
{
    const char *cr;

    if (c->lf == NULL || c->lf < c->p) {
        c->lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
        if (c->lf == NULL)
            c->lf = c->end;
    }
    cr = memchr(c->p, '\r', (size_t)(c->lf - c->p));
    return cr != NULL ? cr : c->lf;
}

static void step_value(struct event_scan *s, struct cursor *c)
{
    const char *stop = find_line_end(c);
    size_t n = (size_t)(stop - c->p);

    if (s->field == F_DATA)
        take_data(s, c->p, n);
    else if (s->field == F_EVENT)
        keep_text(s, c->p, n);
    pass(s, c, n);
    if (stop == c->end)
        return;
    end_line(s);
    pass_line_end(s, c);
}

static void step(struct event_scan *s, struct cursor *c)
{
    switch (s->state) {
    case START:
        step_start(s, c);
        break;
    case LINE:
        step_line(s, c);
        break;
    case NAME:
        step_name(s, c);
        break;
    case SPACE:
        s->state = VALUE;
        if (*c->p == ' ')
            pass(s, c, 1);
        break;
    default:
        step_value(s, c);
        break;
    }
}

void event_scan_feed(struct event_scan *s, const char *bytes, size_t len)
{
    struct cursor c = {.p = bytes, .end = bytes + len};

    while (c.p < c.end)
        step(s, &c);
}

/* ---- what may leave ---- */

/* Where that begins which must not be whole; offset: nothing is kept back. */
static uint64_t kept_from(const struct event_scan *s)
{
    if (s->pending)
        return s->held;
    if (s->in_event)
        return s->start;
    return s->state == START ? 0 : s->offset;
}

uint64_t event_scan_free(const struct event_scan *s)
{
    uint64_t from = kept_from(s);
    uint64_t tail = s->offset > EVENT_TAIL ? s->offset - EVENT_TAIL : 0;

    if (s->frozen)
        return s->released;
    return from > tail ? from : tail;
}

bool event_scan_at_line(const struct event_scan *s)
{
    uint64_t from = s->frozen ? s->held : kept_from(s);

    if (event_scan_free(s) != from)
        return false;
    if (s->state == START)
        return s->offset == 0;
    return s->frozen || from < s->offset || s->state == LINE;
}

bool event_scan_ended(const struct event_scan *s)
{
    return s->done || s->facts.has_error;
}

int event_scan_completed(const struct event_scan *s)
{
    return s->completed;
}

/* ---- the end ---- */

bool event_scan_mend(const struct event_scan *s, uint64_t *keep, struct slice *rest)
{
    const struct json_scan *json = &s->data.scan;
    uint64_t left = event_scan_free(s);
    uint64_t base = s->offset - json->offset; /* of the data, as it has been one line so far */
    uint64_t start;
    const char *text = json_scan_string_rest(json, &start);

    if (!s->in_event || left <= s->start || s->field != F_DATA || s->state != VALUE || s->data.result != JSON_SCAN_MORE)
        return false;
    if (text != NULL && !reply_scan_in_picture(&s->data)) {
        *keep = s->offset;
        *rest = slice_from(text);
        return true;
    }
    start = base + (text != NULL ? start : s->data.picture_start);
    *keep = left > start ? left : start + 1; /* base64 has no escapes that could be torn */
    *rest = SLICE("\"");
    return text != NULL || (s->data.has_picture && left > start && left < base + s->data.picture_end);
}

/* Whether the event at hand lacks its line ends alone. */
static bool lacks_its_end_alone(const struct event_scan *s)
{
    return s->in_event && s->has_data && (is_end_mark(s) || s->data.result == JSON_SCAN_DONE);
}

static enum reply_usage judge_usage(const struct event_scan *s)
{
    if (s->bad_usage || (s->told > 0 && s->told < s->completed))
        return REPLY_USAGE_UNTRUSTED;
    return s->told > 0 ? REPLY_USAGE_GOOD : REPLY_USAGE_NONE;
}

static void settle_quantities(struct price_quantities *q, const struct reply_facts *facts)
{
    if (facts->usage == REPLY_USAGE_GOOD) {
        q->of[PRICE_IMAGE] = facts->images;
        q->of[PRICE_REQUEST] = 1;
    } else {
        *q = (struct price_quantities){0};
    }
}

void event_scan_finish(struct event_scan *s, struct reply_facts *out)
{
    bool between = !s->in_event && (s->state != START || s->offset == 0);

    if (s->in_event && s->state != LINE)
        end_line(s);
    if (lacks_its_end_alone(s))
        end_event(s);
    *out = s->facts;
    out->whole = between;
    out->usage = judge_usage(s);
    settle_quantities(&out->quantities, out);
    settle_quantities(&out->largest, out);
}
