/* skeleton.c - just enough of a lexer to know strings from the rest, and one key from all others.
 *
 *    OUTSIDE --"--> KEPT (every other string) --"--> OUTSIDE          KEPT --\--> KEPT_ESCAPE --any--> KEPT
 *       `--"--> CUT (value of "image_url") --"--> OUTSIDE, and the number is written
 *               CUT --\--> CUT_ESCAPE --u--> CUT_HEX x 4 --> CUT       CUT --byte >= 80--> CUT_MULTI --> CUT
 *
 * Invariants
 *   1. Up to the first byte that breaks the grammar, strings are told apart as json_scan does; from there on the
 *      skeleton holds that byte too, so json_read refuses it and nothing that was made of the rest counts.
 *   2. Outside of CUT every byte goes into the text; in CUT each is checked.
 *   3. cuts[] is in the order of the text; shift is what to add to an offset behind the cut.
 * One reader, one thread. */
#include "skeleton.h"

#include <stdlib.h>

#include "daemon/base/json.h"
#include "daemon/base/utf8.h"
#include "data_url.h"
#include "member.h"

enum state { OUTSIDE = 0, KEPT, KEPT_ESCAPE, CUT, CUT_ESCAPE, CUT_HEX, CUT_MULTI };

enum { HEX_DIGITS = 4, CHUNK = 64 };

static const char cut_key[] = "image_url";

struct cut {
    size_t at; /* in the skeleton: behind the number and its quote */
    int64_t shift;
    int w, h;
};

struct skeleton {
    struct buf text;
    enum state state;
    bool cutting;
    size_t string_start, string_end; /* the last kept string's inside, in the text */
    bool after_string;               /* nothing but white space came since */
    bool after_colon;                /* likewise */
    bool after_key;                  /* that colon stands behind the key */
    uint64_t offset;
    /* the string that is being cut */
    uint64_t chars;
    int digits;
    unsigned unit; /* of \uXXXX */
    char multi[4]; /* a character of several bytes, as far as it has come */
    size_t n_multi, want_multi;
    struct data_url url;
    struct cut cuts[SKELETON_URLS];
    int n_cuts;
};

struct skeleton *skeleton_create(bool cut)
{
    struct skeleton *s = mem_zalloc(sizeof(*s));

    buf_init(&s->text, LIMIT_GENERATION_BODY);
    s->cutting = cut;
    return s;
}

void skeleton_destroy(struct skeleton *s)
{
    if (s == NULL)
        return;
    buf_dispose(&s->text);
    free(s);
}

struct slice skeleton_text(const struct skeleton *s)
{
    return buf_slice(&s->text);
}

uint64_t skeleton_offset(const struct skeleton *s, size_t at)
{
    int64_t shift = 0;

    for (int i = 0; i < s->n_cuts && s->cuts[i].at <= at; i++)
        shift = s->cuts[i].shift;
    return (uint64_t)((int64_t)at + shift);
}

void skeleton_size(const struct skeleton *s, struct slice number, int *w, int *h)
{
    unsigned long long i;
    bool good = slice_to_u64(number, &i) && i < (unsigned long long)s->n_cuts;

    TG_ASSERT(good);
    *w = s->cuts[i].w;
    *h = s->cuts[i].h;
}

/* The words are json_read's. */
static enum err_code refuse_text(struct err *err)
{
    struct json_object *none;

    return json_read(SLICE(""), &none, err);
}

/* ---- what is kept ---- */

static enum err_code begin_cut(struct skeleton *s, struct err *err)
{
    if (s->n_cuts == SKELETON_URLS)
        return err_set(err, ERR_BAD_REQUEST, "images", "Invalid 'images': more than %d members 'image_url'.",
                       SKELETON_URLS);
    s->state = CUT;
    s->chars = 0;
    data_url_init(&s->url);
    return ERR_OK;
}

/* Notes what a byte between strings means for the next string. */
static void note_outside(struct skeleton *s, char c)
{
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        return;
    s->after_colon = c == ':';
    s->after_key =
        s->after_colon && s->after_string &&
        member_is((struct slice){s->text.p + s->string_start, s->string_end - s->string_start}, true, cut_key);
    s->after_string = false;
}

/* Up to and with the next quote. */
static enum err_code step_outside(struct skeleton *s, struct slice *bytes, struct err *err)
{
    size_t n = 0;
    bool quote;

    while (n < bytes->len && bytes->p[n] != '"')
        note_outside(s, bytes->p[n++]);
    quote = n < bytes->len;
    n += quote;
    buf_append(&s->text, bytes->p, n);
    bytes->p += n;
    bytes->len -= n;
    if (!quote)
        return ERR_OK;
    if (s->cutting && s->after_colon && s->after_key)
        return begin_cut(s, err);
    s->state = KEPT;
    s->string_start = s->text.len;
    return ERR_OK;
}

static void end_string(struct skeleton *s)
{
    s->state = OUTSIDE;
    s->after_string = true;
    s->after_colon = s->after_key = false;
}

static enum err_code step_kept(struct skeleton *s, struct slice *bytes)
{
    const char *quote = memchr(bytes->p, '"', bytes->len);
    size_t n = quote != NULL ? (size_t)(quote - bytes->p) : bytes->len;
    const char *backslash = memchr(bytes->p, '\\', n);
    bool ended = backslash == NULL && quote != NULL;

    n = backslash != NULL ? (size_t)(backslash + 1 - bytes->p) : n + ended;
    buf_append(&s->text, bytes->p, n);
    bytes->p += n;
    bytes->len -= n;
    if (backslash != NULL)
        s->state = KEPT_ESCAPE;
    if (ended) {
        s->string_end = s->text.len - 1;
        end_string(s);
    }
    return ERR_OK;
}

static enum err_code step_kept_escape(struct skeleton *s, struct slice *bytes)
{
    buf_append_char(&s->text, *bytes->p);
    bytes->p++;
    bytes->len--;
    s->state = KEPT;
    return ERR_OK;
}

/* ---- what is cut ---- */

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* How many characters at the head are plain. The inner loop has no branch, so that it becomes vector code. */
static size_t plain_run(struct slice s)
{
    size_t i = 0;

    while (s.len - i >= CHUNK) {
        unsigned char special = 0;

        for (size_t k = 0; k < CHUNK; k++) {
            unsigned char c = (unsigned char)s.p[i + k];

            special |= (unsigned char)((c < 0x20) | (c >= 0x80) | (c == '"') | (c == '\\'));
        }
        if (special != 0)
            break;
        i += CHUNK;
    }
    while (i < s.len && is_plain((unsigned char)s.p[i]))
        i++;
    return i;
}

static enum err_code count(struct skeleton *s, size_t chars, struct err *err)
{
    s->chars += chars;
    if (s->chars <= SKELETON_URL_CHARS)
        return ERR_OK;
    return err_set(err, ERR_STRING_TOO_LONG, cut_key,
                   "Invalid 'image_url': string too long. Expected a string with maximum length %d, but got a longer "
                   "one instead.",
                   SKELETON_URL_CHARS);
}

/* The closing quote: the text gets the string's number and the quote. */
static void end_cut(struct skeleton *s)
{
    struct cut *cut = &s->cuts[s->n_cuts];

    buf_printf(&s->text, "%d\"", s->n_cuts);
    s->n_cuts++;
    cut->at = s->text.len;
    cut->shift = (int64_t)s->offset - (int64_t)s->text.len;
    data_url_size(&s->url, &cut->w, &cut->h);
    end_string(s);
    s->after_string = false; /* a value; what the text now ends with is no key */
}

/* A byte that is not plain; <s->offset> is already behind it. */
static enum err_code take_special(struct skeleton *s, char c, struct err *err)
{
    unsigned char first = (unsigned char)c;

    if (c == '"') {
        end_cut(s);
        return ERR_OK;
    }
    if (c == '\\') {
        s->state = CUT_ESCAPE;
        return count(s, 1, err);
    }
    if (first < 0xC2 || first > 0xF4)
        return refuse_text(err);
    data_url_spoil(&s->url);
    s->state = CUT_MULTI;
    s->want_multi = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    s->n_multi = 1;
    s->multi[0] = c;
    return count(s, 1, err);
}

static enum err_code step_cut(struct skeleton *s, struct slice *bytes, struct err *err)
{
    size_t n = plain_run(*bytes);
    struct slice run = {bytes->p, n};
    bool more = n < bytes->len;
    enum err_code code = count(s, n, err);

    bytes->p += n + more;
    bytes->len -= n + more;
    s->offset += n + more;
    if (code != ERR_OK)
        return code;
    if (!s->url.closed)
        data_url_feed(&s->url, run);
    return more ? take_special(s, run.p[n], err) : ERR_OK;
}

/* The character that an escape stands for, as far as URLs have such. */
static void tell_escaped(struct skeleton *s, unsigned unit)
{
    char c = (char)unit;

    if (unit > ' ' && unit < 0x7F)
        data_url_feed(&s->url, (struct slice){&c, 1});
    else
        data_url_spoil(&s->url);
}

static enum err_code take_escape(struct skeleton *s, char c, struct err *err)
{
    if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL)
        return refuse_text(err);
    s->state = c == 'u' ? CUT_HEX : CUT;
    s->digits = 0;
    s->unit = 0;
    if (c == '"' || c == '\\' || c == '/')
        tell_escaped(s, (unsigned char)c);
    else if (c != 'u')
        data_url_spoil(&s->url);
    return ERR_OK;
}

static enum err_code take_hex(struct skeleton *s, char c, struct err *err)
{
    int digit = slice_hex_byte('0', c);

    if (digit < 0)
        return refuse_text(err);
    s->unit = s->unit * 16 + (unsigned)digit;
    if (++s->digits == HEX_DIGITS) {
        s->state = CUT;
        tell_escaped(s, s->unit);
    }
    return ERR_OK;
}

static enum err_code take_multi(struct skeleton *s, char c, struct err *err)
{
    s->multi[s->n_multi++] = c;
    if (((unsigned char)c & 0xC0) != 0x80)
        return refuse_text(err);
    if (s->n_multi < s->want_multi)
        return ERR_OK;
    s->state = CUT;
    return utf8_length((struct slice){s->multi, s->n_multi}) == s->n_multi ? ERR_OK : refuse_text(err);
}

static enum err_code step_inside(struct skeleton *s, struct slice *bytes, struct err *err)
{
    char c = *bytes->p;

    bytes->p++;
    bytes->len--;
    s->offset++;
    switch (s->state) {
    case CUT_ESCAPE:
        return take_escape(s, c, err);
    case CUT_HEX:
        return take_hex(s, c, err);
    default:
        return take_multi(s, c, err);
    }
}

/* ---- the walk ---- */

static enum err_code step(struct skeleton *s, struct slice *bytes, struct err *err)
{
    size_t before = bytes->len;
    enum err_code code;

    switch (s->state) {
    case OUTSIDE:
        code = step_outside(s, bytes, err);
        break;
    case KEPT:
        code = step_kept(s, bytes);
        break;
    case KEPT_ESCAPE:
        code = step_kept_escape(s, bytes);
        break;
    case CUT:
        return step_cut(s, bytes, err);
    default:
        return step_inside(s, bytes, err);
    }
    s->offset += before - bytes->len;
    return code;
}

enum err_code skeleton_feed(struct skeleton *s, struct slice bytes, struct err *err)
{
    enum err_code code = ERR_OK;

    while (bytes.len > 0 && code == ERR_OK && !s->text.full)
        code = step(s, &bytes, err);
    if (s->text.full)
        return err_set(err, ERR_TOO_LARGE, NULL, "The request body is larger than %d bytes%s.", LIMIT_GENERATION_BODY,
                       s->cutting ? ", the members 'image_url' not counted" : "");
    return code;
}
