/* part_head.c - header lines of a part, and what Content-Disposition and Content-Type say.
 *
 * Invariants
 *   1. A name that is told was read without a choice: its only escapes are \" and \\ and %22, each giving a character
 *      that no parameter of ours has, so decoding never makes a priced name out of another text.
 *   2. No line is folded, none holds a control character, so that all readers agree on where a line ends.
 * Threads: any; no state. */
#include "part_head.h"

#include "daemon/base/utf8.h"

enum { SHOWN = 48 }; /* bytes of a caller's value that a message repeats */

static enum err_code refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_BAD_REQUEST, NULL, "Invalid multipart body: %s.", why);
}

/* ---- parameters ---- */

struct param {
    struct slice name;
    struct slice value; /* without its quotes, escapes kept */
};

enum param_result { PARAM_BAD = -1, PARAM_END, PARAM_FOUND };

static struct slice skip(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.len - n};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* What RFC 9110 calls a token's characters; header and parameter names are made of them. */
static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c >= 0x7F || strchr("()<>@,;:\\\"/[]?={}", c) != NULL)
            return false;
    }
    return s.len > 0;
}

/* <s> begins behind the opening quote. A backslash takes the next character along. Readers that know no escapes would
 * end the string at an escaped quote and find parameters behind it; so one is only let be where no semicolon is. */
static bool take_quoted(struct slice *s, struct slice *value)
{
    bool escaped_quote = false;
    size_t i = 0;

    while (i < s->len && s->p[i] != '"') {
        if (s->p[i] == '\\' && ++i < s->len)
            escaped_quote |= s->p[i] == '"';
        i++;
    }
    if (i >= s->len)
        return false;
    *value = (struct slice){s->p, i};
    *s = skip(*s, i + 1);
    return !escaped_quote || value->len == 0 || memchr(value->p, ';', value->len) == NULL;
}

static bool take_unquoted(struct slice *s, struct slice *value)
{
    size_t i = 0;

    while (i < s->len && s->p[i] != ';' && s->p[i] != '"' && !is_blank(s->p[i]))
        i++;
    *value = (struct slice){s->p, i};
    *s = skip(*s, i);
    return true;
}

/* Takes "; name=value" off the head of *rest. */
static enum param_result next_param(struct slice *rest, struct param *out)
{
    struct slice s = slice_trim(*rest);
    bool good;

    if (s.len == 0)
        return PARAM_END;
    if (s.p[0] != ';')
        return PARAM_BAD;
    s = slice_trim(skip(s, 1));
    if (s.len == 0)
        return PARAM_END;
    if (!slice_cut(s, '=', &out->name, &s) || !is_token(out->name))
        return PARAM_BAD;
    good = s.len > 0 && s.p[0] == '"';
    if (good)
        s = skip(s, 1);
    good = good ? take_quoted(&s, &out->value) : take_unquoted(&s, &out->value);
    *rest = s;
    return good ? PARAM_FOUND : PARAM_BAD;
}

/* From a header's value to the text behind its first token. */
static struct slice params_of(struct slice value, struct slice *head)
{
    struct slice rest;

    (void)slice_cut(value, ';', head, &rest);
    *head = slice_trim(*head);
    return rest.p == NULL ? SLICE_NONE : (struct slice){rest.p - 1, rest.len + 1};
}

int part_head_param(struct slice value, const char *name, struct slice *out)
{
    struct slice head, rest = params_of(value, &head);
    struct param param;
    enum param_result result;
    int count = 0;

    while ((result = next_param(&rest, &param)) == PARAM_FOUND) {
        if (slice_eq_nocase(param.name, slice_from(name))) {
            *out = param.value;
            count++;
        }
    }
    return result == PARAM_BAD ? -1 : count;
}

/* RFC 2046's bchars; a space may stand inside only. */
static bool is_boundary(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!alnum && (c == '\0' || strchr("'()+_,-./:=? ", c) == NULL))
            return false;
    }
    return s.len > 0 && s.p[s.len - 1] != ' ';
}

enum err_code multipart_boundary(struct slice content_type, char out[MULTIPART_BOUNDARY], struct err *err)
{
    struct slice boundary, other;
    int count = part_head_param(content_type, "boundary", &boundary);

    if (count < 0)
        return refuse(err, "the parameters of its Content-Type cannot be read");
    if (count == 0 || part_head_param(content_type, "boundary*", &other) != 0 ||
        part_head_param(content_type, "boundary*0", &other) != 0)
        return refuse(err, "its Content-Type names no boundary");
    if (count > 1)
        return refuse(err, "its Content-Type names more than one boundary");
    if (boundary.len >= MULTIPART_BOUNDARY)
        return refuse(err, "its boundary is longer than 70 characters");
    if (!is_boundary(boundary))
        return refuse(err, "its boundary is empty or holds characters that a boundary cannot have");
    (void)slice_copy(boundary, out, MULTIPART_BOUNDARY);
    return ERR_OK;
}

/* ---- Content-Disposition ---- */

/* Decodes \" and \\ and %22; no other escape may stand in a name (invariant 1). */
static bool decode_name(struct slice raw, char out[LIMIT_PART_NAME])
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++) {
        struct slice rest = skip(raw, i);
        char c = raw.p[i];

        if (c == '\\') {
            if (rest.len < 2 || (rest.p[1] != '"' && rest.p[1] != '\\'))
                return false;
            c = rest.p[1];
            i++;
        } else if (c == '%' && rest.len >= 3 && slice_hex_byte(rest.p[1], rest.p[2]) >= 0) {
            c = (char)slice_hex_byte(rest.p[1], rest.p[2]);
            if (c != '"')
                return false;
            i += 2;
        }
        if (n + 1 >= LIMIT_PART_NAME)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0 && utf8_valid((struct slice){out, n});
}

static enum err_code read_name(struct slice raw, struct part_head *out, struct err *err)
{
    struct slice shown = utf8_head(raw, SHOWN);

    if (out->part.name.p != NULL)
        return refuse(err, "a part has two names");
    if (!decode_name(raw, out->name_text))
        return err_set(err, ERR_BAD_REQUEST, NULL,
                       "Invalid multipart body: a part's name '%.*s' is empty, longer than %d bytes, not UTF-8 or "
                       "escaped in a way that readers disagree on.",
                       utf8_valid(shown) ? (int)shown.len : 0, shown.p, LIMIT_PART_NAME - 1);
    out->part.name = slice_from(out->name_text);
    return ERR_OK;
}

static enum err_code read_disposition_param(const struct param *param, struct part_head *out, struct err *err)
{
    struct multipart_part *part = &out->part;
    struct slice head, rest;

    if (slice_eq_nocase(param->name, SLICE("name")))
        return read_name(param->value, out, err);
    if (slice_eq_nocase(param->name, SLICE("filename"))) {
        if (part->filename.p != NULL)
            return refuse(err, "a part has two file names");
        if (param->value.len > LIMIT_FILE_NAME)
            return refuse(err, "a file name is too long");
        part->has_filename = true;
        part->filename = param->value;
        return ERR_OK;
    }
    if (!slice_cut(param->name, '*', &head, &rest))
        return ERR_OK;
    if (slice_eq_nocase(head, SLICE("name")))
        return refuse(err, "a part's name is given as name*");
    part->has_filename |= slice_eq_nocase(head, SLICE("filename"));
    return ERR_OK;
}

static enum err_code read_disposition(struct slice value, const char *outer, struct part_head *out, struct err *err)
{
    struct slice type, rest = params_of(value, &type);
    struct param param;
    enum param_result result;
    bool good = outer == NULL ? slice_eq_nocase(type, SLICE("form-data"))
                              : slice_eq_nocase(type, SLICE("attachment")) || slice_eq_nocase(type, SLICE("file"));

    if (!good)
        return refuse(err, outer == NULL ? "a part's Content-Disposition is not form-data"
                                         : "the Content-Disposition of a file in a multipart/mixed is not attachment");
    while ((result = next_param(&rest, &param)) == PARAM_FOUND) {
        enum err_code code = read_disposition_param(&param, out, err);

        if (code != ERR_OK)
            return code;
    }
    return result == PARAM_END ? ERR_OK : refuse(err, "a part's Content-Disposition cannot be read");
}

/* ---- the other lines ---- */

/* Readers that take a file's parts apart would see what we told as one content. */
static enum err_code read_type(struct slice value, const char *outer, struct part_head *out, struct err *err)
{
    struct slice type, rest = params_of(value, &type);

    (void)rest;
    out->part.type = value;
    if (type.len < 10 || !slice_eq_nocase((struct slice){type.p, 10}, SLICE("multipart/")))
        return ERR_OK;
    if (outer != NULL || !slice_eq_nocase(type, SLICE("multipart/mixed")))
        return refuse(err, "a part is itself a multipart, other than a multipart/mixed of files");
    out->mixed = true;
    return multipart_boundary(value, out->boundary, err);
}

static enum err_code read_encoding(struct slice value, struct err *err)
{
    if (slice_eq_nocase(value, SLICE("binary")) || slice_eq_nocase(value, SLICE("8bit")) ||
        slice_eq_nocase(value, SLICE("7bit")))
        return ERR_OK;
    return refuse(err, "a part has a Content-Transfer-Encoding other than binary, 8bit or 7bit");
}

/* The lines that matter, to refuse a second of its kind. */
struct seen {
    bool disposition, type, encoding;
};

static bool once(bool *seen)
{
    bool first = !*seen;

    *seen = true;
    return first;
}

static enum err_code read_line(struct slice line, const char *outer, struct seen *seen, struct part_head *out,
                               struct err *err)
{
    struct slice name, value;

    for (size_t i = 0; i < line.len; i++) {
        if (((unsigned char)line.p[i] < ' ' && line.p[i] != '\t') || line.p[i] == 0x7F)
            return refuse(err, "a part's header holds a control character");
    }
    if (!slice_cut(line, ':', &name, &value) || !is_token(name))
        return refuse(err, "a line of a part's header is none");
    value = slice_trim(value);
    if (slice_eq_nocase(name, SLICE("content-disposition")))
        return once(&seen->disposition) ? read_disposition(value, outer, out, err)
                                        : refuse(err, "a part has two Content-Dispositions");
    if (slice_eq_nocase(name, SLICE("content-type")))
        return once(&seen->type) ? read_type(value, outer, out, err) : refuse(err, "a part has two Content-Types");
    if (slice_eq_nocase(name, SLICE("content-transfer-encoding")))
        return once(&seen->encoding) ? read_encoding(value, err)
                                     : refuse(err, "a part has two Content-Transfer-Encodings");
    return ERR_OK;
}

static enum err_code check_names(const char *outer, struct part_head *out, struct err *err)
{
    if (outer == NULL)
        return out->part.name.p != NULL ? ERR_OK : refuse(err, "a part has no name");
    if (out->part.name.p != NULL || !out->part.has_filename)
        return refuse(err, "a part of a multipart/mixed has a name of its own, or no file name");
    out->part.name = slice_from(outer);
    return ERR_OK;
}

enum err_code part_head_read(struct slice head, const char *outer, struct part_head *out, struct err *err)
{
    struct seen seen = {false, false, false};
    enum err_code code = ERR_OK;

    *out = (struct part_head){.mixed = false};
    while (head.len > 0 && code == ERR_OK) {
        struct slice line, rest;

        if (!slice_cut(head, '\n', &line, &rest) || line.len == 0 || line.p[line.len - 1] != '\r')
            return refuse(err, "a line of a part's header does not end with CR LF");
        line.len--;
        code = read_line(line, outer, &seen, out, err);
        head = rest;
    }
    return code == ERR_OK ? check_names(outer, out, err) : code;
}
