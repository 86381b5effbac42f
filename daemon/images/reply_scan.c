/* reply_scan.c - a reply's facts from the events of the JSON scanner.
 *
 *    level            opened by                            members that matter
 *    TOP              { at depth 0 of a reply              error data size quality usage
 *    EVENT            { at depth 0 of an event's data      the same and type b64_json url
 *    DATA             [ that is data in TOP or EVENT
 *    IMAGE            { in DATA                            b64_json url
 *    USAGE            { that is usage in TOP or EVENT      input_tokens output_tokens total_tokens *_details
 *    INPUT, OUTPUT    { that is USAGE.*_tokens_details     text_tokens image_tokens, INPUT: cached_tokens, its details
 *    CACHED           { that is INPUT.cached_tokens_details     text_tokens image_tokens
 *    OTHER            everything else; nothing below it matters
 *
 * Invariants
 *   1. at[d] is the level of the container open at depth d, for d < REPLY_LEVELS; no known level lies deeper than 3.
 *   2. member is the key of the value that comes next, and M_NONE inside arrays and right after any value.
 *   3. Facts depend on the scanner's events alone, and those not on how the reply was cut.
 * Threads: one a scan. */
#include "reply_scan.h"

#include <limits.h>

#include "daemon/base/attrs.h"
#include "member.h"

enum level { OTHER = 0, TOP, EVENT, DATA, IMAGE, USAGE, INPUT, CACHED, OUTPUT };

enum member {
    M_NONE = 0,
    M_ERROR,
    M_DATA,
    M_SIZE,
    M_QUALITY,
    M_USAGE,
    M_TYPE,
    M_PICTURE, /* b64_json, url */
    M_INPUT_TOKENS,
    M_OUTPUT_TOKENS,
    M_TOTAL_TOKENS,
    M_INPUT_DETAILS,
    M_OUTPUT_DETAILS,
    M_TEXT_TOKENS,
    M_IMAGE_TOKENS,
    M_CACHED_TOKENS,
    M_CACHED_DETAILS
};

static const struct known {
    enum level level;
    const char *name;
    enum member member;
} known[] = {
    {TOP, "error", M_ERROR},
    {TOP, "data", M_DATA},
    {TOP, "size", M_SIZE},
    {TOP, "quality", M_QUALITY},
    {TOP, "usage", M_USAGE},
    {EVENT, "error", M_ERROR},
    {EVENT, "data", M_DATA},
    {EVENT, "size", M_SIZE},
    {EVENT, "quality", M_QUALITY},
    {EVENT, "usage", M_USAGE},
    {EVENT, "type", M_TYPE},
    {EVENT, "b64_json", M_PICTURE},
    {EVENT, "url", M_PICTURE},
    {IMAGE, "b64_json", M_PICTURE},
    {IMAGE, "url", M_PICTURE},
    {USAGE, "input_tokens", M_INPUT_TOKENS},
    {USAGE, "output_tokens", M_OUTPUT_TOKENS},
    {USAGE, "total_tokens", M_TOTAL_TOKENS},
    {USAGE, "input_tokens_details", M_INPUT_DETAILS},
    {USAGE, "output_tokens_details", M_OUTPUT_DETAILS},
    {INPUT, "text_tokens", M_TEXT_TOKENS},
    {INPUT, "image_tokens", M_IMAGE_TOKENS},
    {INPUT, "cached_tokens", M_CACHED_TOKENS},
    {INPUT, "cached_tokens_details", M_CACHED_DETAILS},
    {CACHED, "text_tokens", M_TEXT_TOKENS},
    {CACHED, "image_tokens", M_IMAGE_TOKENS},
    {OUTPUT, "text_tokens", M_TEXT_TOKENS},
    {OUTPUT, "image_tokens", M_IMAGE_TOKENS},
};

static enum member find_member(enum level level, struct slice key, bool whole)
{
    if (level == OTHER || level == DATA)
        return M_NONE;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].level == level && member_is(key, whole, known[i].name))
            return known[i].member;
    }
    return M_NONE;
}

/* The level around a value at <depth>. */
static enum level level_around(const struct reply_scan *s, int depth)
{
    return depth >= 1 && depth <= REPLY_LEVELS ? (enum level)s->at[depth - 1] : OTHER;
}

/* What a container is that starts as the value of <member> inside <around>. */
static enum level level_of(const struct reply_scan *s, enum level around, enum member member, bool object, int depth)
{
    if (depth == 0)
        return !object ? OTHER : s->event ? EVENT : TOP;
    if (around == DATA)
        return object ? IMAGE : OTHER;
    switch (member) {
    case M_DATA:
        return object ? OTHER : DATA;
    case M_USAGE:
        return object ? USAGE : OTHER;
    case M_INPUT_DETAILS:
        return object ? INPUT : OTHER;
    case M_OUTPUT_DETAILS:
        return object ? OUTPUT : OTHER;
    case M_CACHED_DETAILS:
        return object ? CACHED : OTHER;
    default:
        return OTHER;
    }
}

/* Where the figure of a member inside <level> is kept; NULL: it has none. */
static int64_t *figure_of(struct reply_scan *s, enum level level, enum member member)
{
    switch (member) {
    case M_INPUT_TOKENS:
        return &s->input;
    case M_OUTPUT_TOKENS:
        return &s->output;
    case M_TOTAL_TOKENS:
        return &s->total;
    case M_CACHED_TOKENS:
        return &s->input_cached;
    case M_TEXT_TOKENS:
        return level == INPUT ? &s->input_text : level == CACHED ? &s->cached_text : &s->output_text;
    case M_IMAGE_TOKENS:
        return level == INPUT ? &s->input_image : level == CACHED ? &s->cached_image : &s->output_image;
    default:
        return NULL;
    }
}

static void take_figure(struct reply_scan *s, int64_t *figure, enum json_scan_event event, struct slice text,
                        bool whole)
{
    unsigned long long value;

    if (event != JSON_SCAN_NUMBER || !whole || !slice_to_u64(text, &value) || value > REPLY_TOKENS_MAX ||
        (*figure >= 0 && *figure != (int64_t)value))
        s->bad_usage = true;
    else
        *figure = (int64_t)value;
}

/* A value inside usage that is not null. */
static void take_usage_value(struct reply_scan *s, enum level around, enum member member, enum json_scan_event event,
                             struct slice text, bool whole)
{
    int64_t *figure = figure_of(s, around, member);

    if (figure != NULL)
        take_figure(s, figure, event, text, whole);
    else if (member != M_NONE && event != JSON_SCAN_OBJECT) /* details that are no object */
        s->bad_usage = true;
}

static bool ends_with(struct slice s, struct slice tail)
{
    return s.len >= tail.len && slice_eq((struct slice){s.p + s.len - tail.len, tail.len}, tail);
}

unsigned reply_type_of(struct slice name)
{
    if (name.len == 0)
        return 0;
    if (ends_with(name, SLICE(".completed")))
        return REPLY_TYPE_COMPLETED;
    if (ends_with(name, SLICE(".partial_image")))
        return REPLY_TYPE_PARTIAL;
    return slice_eq_str(name, "error") ? REPLY_TYPE_ERROR : REPLY_TYPE_OTHER;
}

static void take_type(struct reply_scan *s, struct slice text, bool whole)
{
    char name[JSON_SCAN_TEXT + 1];

    s->types |= member_text(text, whole, name, sizeof(name)) ? reply_type_of(slice_from(name)) : REPLY_TYPE_COMPLETED;
}

static void take_top_value(struct reply_scan *s, enum member member, enum json_scan_event event, struct slice text,
                           bool whole)
{
    bool is_text = event == JSON_SCAN_STRING;

    switch (member) {
    case M_ERROR:
        s->facts.has_error |= event != JSON_SCAN_NULL;
        break;
    case M_DATA:
        s->facts.has_data = event == JSON_SCAN_ARRAY;
        s->facts.images = 0;
        break;
    case M_SIZE:
        (void)member_text(text, whole && is_text, s->facts.size, sizeof(s->facts.size));
        break;
    case M_QUALITY:
        (void)member_text(text, whole && is_text, s->facts.quality, sizeof(s->facts.quality));
        break;
    case M_USAGE:
        s->seen_usage |= event != JSON_SCAN_NULL;
        s->bad_usage |= event != JSON_SCAN_NULL && event != JSON_SCAN_OBJECT;
        break;
    case M_TYPE:
        if (is_text)
            take_type(s, text, whole);
        break;
    case M_PICTURE:
        s->has_picture |= is_text && text.len > 0;
        break;
    default:
        break;
    }
}

static void take_picture(struct reply_scan *s, enum json_scan_event event, struct slice text)
{
    if (event != JSON_SCAN_STRING || text.len == 0 || s->image_counted)
        return;
    s->image_counted = true;
    if (s->facts.images < INT_MAX)
        s->facts.images++;
}

static void take_value(struct reply_scan *s, enum json_scan_event event, int depth, struct slice text, bool whole)
{
    enum level around = level_around(s, depth);
    enum member member = s->member;
    bool container = event == JSON_SCAN_OBJECT || event == JSON_SCAN_ARRAY;

    s->member = M_NONE;
    if (around == TOP || around == EVENT)
        take_top_value(s, member, event, text, whole);
    else if (around == IMAGE && member == M_PICTURE)
        take_picture(s, event, text);
    else if (around >= USAGE && event != JSON_SCAN_NULL)
        take_usage_value(s, around, member, event, text, whole);
    if (container && depth < REPLY_LEVELS)
        s->at[depth] = level_of(s, around, member, event == JSON_SCAN_OBJECT, depth);
    if (container && around == DATA)
        s->image_counted = false;
}

static bool reply_event(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole, uint64_t start,
                        uint64_t end)
{
    struct reply_scan *s = ctx;

    if (s->member == M_PICTURE && event == JSON_SCAN_STRING && level_around(s, depth) == EVENT) {
        s->picture_start = start;
        s->picture_end = end;
    }
    if (event == JSON_SCAN_KEY)
        s->member = find_member(level_around(s, depth), text, whole);
    else if (event != JSON_SCAN_END)
        take_value(s, event, depth, text, whole);
    return true;
}

void reply_scan_init(struct reply_scan *s)
{
    json_scan_init(&s->scan, JSON_SCAN_DEPTH, false, reply_event, s);
    s->facts = (struct reply_facts){0};
    memset(s->at, OTHER, sizeof(s->at));
    s->member = M_NONE;
    s->event = false;
    s->types = 0;
    s->has_picture = s->image_counted = s->seen_usage = s->bad_usage = false;
    s->input = s->output = s->total = -1;
    s->input_text = s->input_image = s->input_cached = s->cached_text = s->cached_image = -1;
    s->output_text = s->output_image = -1;
    s->result = JSON_SCAN_MORE;
}

void reply_scan_init_event(struct reply_scan *s)
{
    reply_scan_init(s);
    s->event = true;
}

void reply_scan_feed(struct reply_scan *s, const char *bytes, size_t len)
{
    if (s->result != JSON_SCAN_BAD)
        s->result = json_scan_feed(&s->scan, bytes, len);
}

bool reply_scan_in_picture(const struct reply_scan *s)
{
    return s->member == M_PICTURE && level_around(s, s->scan.depth) == EVENT;
}

/* ---- what the figures mean ---- */

/* Completes two parts of a whole: both unknown: all is the first; one unknown: it is the rest. False when they do not
 * make it up. */
static bool split(int64_t whole, int64_t *first, int64_t *second)
{
    if (*first < 0 && *second < 0)
        *second = 0;
    if (*first < 0)
        *first = whole - *second;
    if (*second < 0)
        *second = whole - *first;
    return *first >= 0 && *second >= 0 && *first + *second == whole;
}

/* Input and output from two of the three figures. */
static bool settle_totals(struct reply_scan *s)
{
    if (s->input < 0 && s->output >= 0 && s->total >= 0)
        s->input = s->total - s->output;
    if (s->output < 0 && s->input >= 0 && s->total >= 0)
        s->output = s->total - s->input;
    return s->input >= 0 && s->output >= 0 && (s->total < 0 || s->input + s->output == s->total);
}

static bool settle_cached(struct reply_scan *s)
{
    if (s->input_cached < 0) { /* only the split may be told */
        s->cached_text = s->cached_text < 0 ? 0 : s->cached_text;
        s->cached_image = s->cached_image < 0 ? 0 : s->cached_image;
        s->input_cached = s->cached_text + s->cached_image;
    }
    if (s->cached_text < 0 && s->cached_image < 0)
        s->cached_text = s->input_cached < s->input_text ? s->input_cached : s->input_text;
    return split(s->input_cached, &s->cached_text, &s->cached_image) && s->cached_text <= s->input_text &&
           s->cached_image <= s->input_image;
}

static bool tells_zeros_only(const struct reply_scan *s)
{
    return s->input <= 0 && s->output <= 0 && s->total <= 0;
}

/* The usage's worth; the figures are settled when it is good. */
static enum reply_usage judge_usage(struct reply_scan *s)
{
    if (!s->seen_usage)
        return REPLY_USAGE_NONE;
    if (s->bad_usage)
        return REPLY_USAGE_UNTRUSTED;
    if (tells_zeros_only(s))
        return REPLY_USAGE_NONE;
    if (!settle_totals(s) || (s->output == 0 && s->facts.images > 0))
        return REPLY_USAGE_UNTRUSTED;
    if (!split(s->input, &s->input_text, &s->input_image) || !settle_cached(s) ||
        !split(s->output, &s->output_image, &s->output_text))
        return REPLY_USAGE_UNTRUSTED;
    return REPLY_USAGE_GOOD;
}

static void fill_quantities(const struct reply_scan *s, struct price_quantities *q)
{
    q->of[PRICE_IMAGE] = s->facts.images;
    q->of[PRICE_REQUEST] = 1;
    q->of[PRICE_TEXT_INPUT] = s->input_text - s->cached_text;
    q->of[PRICE_CACHED_TEXT_INPUT] = s->cached_text;
    q->of[PRICE_IMAGE_INPUT] = s->input_image - s->cached_image;
    q->of[PRICE_CACHED_IMAGE_INPUT] = s->cached_image;
    q->of[PRICE_IMAGE_OUTPUT] = s->output_image;
    q->of[PRICE_TEXT_OUTPUT] = s->output_text;
}

void reply_scan_finish(struct reply_scan *s, struct reply_facts *out)
{
    s->result = json_scan_finish(&s->scan);
    s->facts.whole = s->result == JSON_SCAN_DONE && s->at[0] != OTHER;
    if (s->has_picture && s->facts.images == 0)
        s->facts.images = 1;
    if (s->facts.whole)
        s->facts.usage = judge_usage(s);
    if (s->facts.usage == REPLY_USAGE_GOOD)
        fill_quantities(s, &s->facts.quantities);
    s->facts.largest = s->facts.quantities;
    *out = s->facts;
}
