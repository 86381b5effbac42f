/* json_scan.c - the lexer as a state machine over bytes, with one fast road through strings.
 *
 *                 value                          , in [ ]
 *    VALUE ----------------------> AFTER -----------------------> VALUE
 *      | [ -> FIRST_VALUE ] -> AFTER |  \  , in { }
 *      | { -> FIRST_KEY   } -> AFTER |   `-----------> KEY
 *      |                             | ] or }, outermost
 *      | at the outermost level      v
 *      `--------------------------> DONE (white space only)
 *
 *    FIRST_KEY, KEY  --"-->  STRING (is_key)  --"-->  COLON  --:-->  VALUE
 *    VALUE, FIRST_VALUE  --"-->  STRING  --"-->  AFTER
 *    STRING  --\-->  ESCAPE  --u-->  HEX x 4  -->  STRING
 *    VALUE, FIRST_VALUE  -->  NUMBER (sub = where in the grammar)  -- first byte that is no part of it -->  AFTER
 *    VALUE, FIRST_VALUE  -->  LITERAL (sub = bytes matched of true, false, null)  -->  AFTER
 *    anything else -> BAD, for good
 *
 * Invariants:
 *   1. offset counts the bytes consumed since init; in BAD it is the offset of the byte that was refused;
 *   2. text holds the first min(length, JSON_SCAN_TEXT) bytes of the token under way, whatever the splits were, so
 *      events do not depend on how the text was cut into feeds;
 *   3. depth <= max_depth <= JSON_SCAN_DEPTH, and stack[0..depth) are the open containers;
 *   4. every byte is looked at a bounded number of times: the next quote, once found, is remembered across escapes.
 * One scanner, one thread. */
#include "json_scan.h"

#include "attrs.h"

enum state {
    VALUE = 0,
    FIRST_VALUE, /* after [ */
    FIRST_KEY,   /* after { */
    KEY,         /* after a comma in an object */
    COLON,
    AFTER, /* after a value inside a container */
    STRING,
    ESCAPE,
    HEX, /* sub: digits seen */
    NUMBER,
    LITERAL,
    DONE,
    BAD
};

enum number { MINUS = 0, ZERO, WHOLE, POINT, DECIMALS, EXPONENT, EXPONENT_SIGN, EXPONENT_DIGITS };

/* What is left of one feed. */
struct cursor {
    const char *p;
    const char *end;
    const char *quote; /* a quote ahead (or end) with none between, valid while >= p; NULL: not looked for yet */
    uint64_t base;     /* offset of the feed's first byte */
    const char *start; /* the feed's first byte */
};

static uint64_t offset_of(const struct cursor *c)
{
    return c->base + (uint64_t)(c->p - c->start);
}

void json_scan_init(struct json_scan *s, int max_depth, bool strict, json_scan_fn *fn, void *ctx)
{
    TG_ASSERT(max_depth >= 0 && max_depth <= JSON_SCAN_DEPTH);
    s->fn = fn;
    s->ctx = ctx;
    s->offset = 0;
    s->token_start = 0;
    s->depth = 0;
    s->max_depth = max_depth;
    s->state = VALUE;
    s->sub = 0;
    s->is_key = false;
    s->strict = strict;
    s->cut = false;
    s->text_len = 0;
}

static bool emit(struct json_scan *s, enum json_scan_event event, struct slice text, uint64_t start, uint64_t end)
{
    return s->fn == NULL || s->fn(s->ctx, event, s->depth, text, !s->cut, start, end);
}

static void start_token(struct json_scan *s, const struct cursor *c)
{
    s->token_start = offset_of(c);
    s->text_len = 0;
    s->cut = false;
}

static void keep(struct json_scan *s, const char *bytes, size_t n)
{
    size_t room = JSON_SCAN_TEXT - s->text_len;

    if (n > room) {
        n = room;
        s->cut = true;
    }
    if (n > 0)
        memcpy(s->text + s->text_len, bytes, n);
    s->text_len += n;
}

static bool emit_token(struct json_scan *s, enum json_scan_event event, uint64_t end)
{
    return emit(s, event, (struct slice){s->text, s->text_len}, s->token_start, end);
}

static void after_value(struct json_scan *s)
{
    s->state = s->depth > 0 ? AFTER : DONE;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool open_container(struct json_scan *s, struct cursor *c)
{
    char kind = *c->p;
    uint64_t at = offset_of(c);

    if (s->depth >= s->max_depth)
        return false;
    s->cut = false;
    if (!emit(s, kind == '{' ? JSON_SCAN_OBJECT : JSON_SCAN_ARRAY, SLICE_NONE, at, at + 1))
        return false;
    s->stack[s->depth++] = (uint8_t)kind;
    s->state = kind == '{' ? FIRST_KEY : FIRST_VALUE;
    c->p++;
    return true;
}

static bool close_container(struct json_scan *s, struct cursor *c)
{
    char open = *c->p == '}' ? '{' : '[';
    uint64_t at = offset_of(c);

    if (s->depth == 0 || s->stack[s->depth - 1] != (uint8_t)open)
        return false;
    s->depth--;
    s->cut = false;
    if (!emit(s, JSON_SCAN_END, SLICE_NONE, at, at + 1))
        return false;
    after_value(s);
    c->p++;
    return true;
}

static bool start_string(struct json_scan *s, struct cursor *c, bool is_key)
{
    start_token(s, c);
    s->is_key = is_key;
    s->state = STRING;
    c->p++;
    return true;
}

static bool start_value(struct json_scan *s, struct cursor *c)
{
    switch (*c->p) {
    case '"':
        return start_string(s, c, false);
    case '{':
    case '[':
        return open_container(s, c);
    case 't':
    case 'f':
    case 'n':
        s->state = LITERAL;
        s->sub = 0;
        start_token(s, c);
        return true;
    default:
        if (*c->p != '-' && (*c->p < '0' || *c->p > '9'))
            return false;
        s->state = NUMBER;
        s->sub = *c->p == '-' ? MINUS : *c->p == '0' ? ZERO : WHOLE;
        start_token(s, c);
        keep(s, c->p++, 1);
        return true;
    }
}

/* One byte between tokens. */
static bool step_between(struct json_scan *s, struct cursor *c)
{
    char b = *c->p;

    if (is_space(b)) {
        c->p++;
        return true;
    }
    switch (s->state) {
    case FIRST_VALUE:
        return b == ']' ? close_container(s, c) : start_value(s, c);
    case VALUE:
        return start_value(s, c);
    case FIRST_KEY:
        if (b == '}')
            return close_container(s, c);
        return b == '"' && start_string(s, c, true);
    case KEY:
        return b == '"' && start_string(s, c, true);
    case COLON:
        s->state = VALUE;
        c->p++;
        return b == ':';
    case AFTER:
        if (b != ',')
            return (b == '}' || b == ']') && close_container(s, c);
        s->state = s->stack[s->depth - 1] == '{' ? KEY : VALUE;
        c->p++;
        return true;
    default:
        return false; /* after the end of the document */
    }
}

/* The first control character of a run, or its end. The first loop has no branch, so that it becomes vector code. */
static const char *find_control(const char *p, const char *end)
{
    unsigned found = 0;

    for (const char *q = p; q < end; q++)
        found |= (unsigned char)*q < 0x20;
    if (found == 0)
        return end;
    while ((unsigned char)*p >= 0x20)
        p++;
    return p;
}

static bool end_string(struct json_scan *s, struct cursor *c)
{
    c->p++;
    if (!emit_token(s, s->is_key ? JSON_SCAN_KEY : JSON_SCAN_STRING, offset_of(c)))
        return false;
    if (s->is_key)
        s->state = COLON;
    else
        after_value(s);
    return true;
}

/* A run of a string up to its quote, its next backslash or the end of the feed. */
static bool step_string(struct json_scan *s, struct cursor *c)
{
    const char *stop, *backslash;

    if (c->quote == NULL || c->quote < c->p) {
        c->quote = memchr(c->p, '"', (size_t)(c->end - c->p));
        if (c->quote == NULL)
            c->quote = c->end;
    }
    backslash = memchr(c->p, '\\', (size_t)(c->quote - c->p));
    stop = backslash != NULL ? backslash : c->quote;
    if (s->strict) {
        const char *control = find_control(c->p, stop);

        if (control != stop) {
            c->p = control;
            return false;
        }
    }
    keep(s, c->p, (size_t)(stop - c->p));
    c->p = stop;
    if (backslash != NULL) {
        keep(s, c->p++, 1);
        s->state = ESCAPE;
        return true;
    }
    return stop == c->end || end_string(s, c);
}

static bool step_escape(struct json_scan *s, struct cursor *c)
{
    char b = *c->p;

    if (b == '\0' || strchr("\"\\/bfnrtu", b) == NULL)
        return false;
    keep(s, c->p++, 1);
    s->sub = 0;
    s->state = b == 'u' ? HEX : STRING;
    return true;
}

static bool step_hex(struct json_scan *s, struct cursor *c)
{
    char b = *c->p;

    if (!((b >= '0' && b <= '9') || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F')))
        return false;
    keep(s, c->p++, 1);
    if (++s->sub == 4)
        s->state = STRING;
    return true;
}

static bool step_literal(struct json_scan *s, struct cursor *c)
{
    static const struct {
        const char *text;
        enum json_scan_event event;
    } literals[] = {{"true", JSON_SCAN_TRUE}, {"false", JSON_SCAN_FALSE}, {"null", JSON_SCAN_NULL}};
    char first = s->sub == 0 ? *c->p : s->text[0];
    size_t which = first == 't' ? 0 : first == 'f' ? 1 : 2;

    if (*c->p != literals[which].text[s->sub])
        return false;
    keep(s, c->p++, 1);
    s->sub++;
    if (literals[which].text[s->sub] != '\0')
        return true;
    if (!emit_token(s, literals[which].event, offset_of(c)))
        return false;
    after_value(s);
    return true;
}

/* Where in a number's grammar the byte leads to; -1: it is no part of the number. */
static int next_in_number(enum number at, char b)
{
    bool digit = b >= '0' && b <= '9';
    bool exponent = b == 'e' || b == 'E';

    switch (at) {
    case MINUS:
        return !digit ? -1 : b == '0' ? ZERO : WHOLE;
    case ZERO:
    case WHOLE:
        if (digit)
            return at == WHOLE ? WHOLE : -1;
        return b == '.' ? POINT : exponent ? EXPONENT : -1;
    case POINT:
        return digit ? DECIMALS : -1;
    case DECIMALS:
        return digit ? DECIMALS : exponent ? EXPONENT : -1;
    case EXPONENT:
        if (b == '+' || b == '-')
            return EXPONENT_SIGN;
        return digit ? EXPONENT_DIGITS : -1;
    default:
        return digit ? EXPONENT_DIGITS : -1;
    }
}

/* The number ends before offset <end>, if it may. */
static bool end_number(struct json_scan *s, uint64_t end)
{
    if (s->sub != ZERO && s->sub != WHOLE && s->sub != DECIMALS && s->sub != EXPONENT_DIGITS)
        return false;
    if (!emit_token(s, JSON_SCAN_NUMBER, end))
        return false;
    after_value(s);
    return true;
}

static bool step_number(struct json_scan *s, struct cursor *c)
{
    while (c->p < c->end) {
        int next = next_in_number(s->sub, *c->p);

        if (next < 0)
            return end_number(s, offset_of(c)); /* the byte itself is for the next state */
        s->sub = (uint8_t)next;
        keep(s, c->p++, 1);
    }
    return true;
}

static bool step(struct json_scan *s, struct cursor *c)
{
    switch (s->state) {
    case STRING:
        return step_string(s, c);
    case ESCAPE:
        return step_escape(s, c);
    case HEX:
        return step_hex(s, c);
    case NUMBER:
        return step_number(s, c);
    case LITERAL:
        return step_literal(s, c);
    default:
        return step_between(s, c);
    }
}

enum json_scan_result json_scan_feed(struct json_scan *s, const char *bytes, size_t len)
{
    struct cursor c = {.p = bytes, .end = bytes + len, .base = s->offset, .start = bytes};

    if (s->state == BAD)
        return JSON_SCAN_BAD;
    while (c.p < c.end) {
        if (!step(s, &c)) {
            s->state = BAD;
            break;
        }
    }
    s->offset = offset_of(&c);
    return s->state == BAD ? JSON_SCAN_BAD : s->state == DONE ? JSON_SCAN_DONE : JSON_SCAN_MORE;
}

enum json_scan_result json_scan_finish(struct json_scan *s)
{
    if (s->state == NUMBER && s->depth == 0 && !end_number(s, s->offset))
        s->state = BAD;
    if (s->state != DONE)
        s->state = BAD;
    return s->state == DONE ? JSON_SCAN_DONE : JSON_SCAN_BAD;
}

const char *json_scan_string_rest(const struct json_scan *s, uint64_t *start)
{
    static const char *const hex_rests[] = {"0000\"", "000\"", "00\"", "0\""};

    if (s->depth != 1 || s->stack[0] != '{' || s->is_key)
        return NULL;
    *start = s->token_start;
    switch (s->state) {
    case STRING:
        return "\"";
    case ESCAPE:
        return "\\\"";
    case HEX:
        return hex_rests[s->sub];
    default:
        return NULL;
    }
}
