/* multipart.c - the walk over a form: delimiters are found by their line feed, contents are told as they come.
 *
 *                 delimiter              CR LF            empty line
 *    PREAMBLE ----------------> BEHIND ---------> HEAD -----------------> CONTENT
 *                               ^  |                                        |
 *                               |  `-- "--" --> EPILOGUE --> end            |
 *                               `-------------------- delimiter ------------'
 *    anything else behind a delimiter; a delimiter in the epilogue; an end outside of it -> refused, for good
 *
 * The outer level walks the body. While a part of it is a multipart/mixed, its content goes through the inner level
 * (from PREAMBLE to EPILOGUE before the outer part ends).
 *
 * The delimiter is CR LF -- boundary. What has matched of it so far is not kept: it is the delimiter's own text, and is
 * told from there when the match breaks.
 *
 * Invariants
 *   1. held = delimiter[from..matched) are the last bytes of the walk, and not yet told. from: 0 the delimiter began
 *      with its CR; 1 with a bare LF; 2 with its first hyphen, at the start of a body or a content.
 *   2. A line that begins like a delimiter in the eyes of any reader (after a bare LF, at the start of a content, with
 *      more behind it) is a delimiter or refused; never content.
 *   3. Only the first bytes of a delimiter are CR and LF, so a match that broke holds no other start of one.
 * One reader, one thread. */
#include "multipart.h"

#include <stdio.h>
#include <stdlib.h>

#include "part_head.h"

enum state { PREAMBLE = 0, BEHIND, HEAD, CONTENT, EPILOGUE };

enum { LINE_END = 2, DASHES = 2, DELIMITER = LINE_END + DASHES + MULTIPART_BOUNDARY };

struct level {
    char delimiter[DELIMITER];
    size_t len; /* of the delimiter */
    enum state state;
    size_t from, matched;
    char behind; /* the first byte behind a delimiter; '\0': none came yet */
    struct buf head;
};

struct multipart {
    struct multipart_callbacks callbacks;
    struct level outer, inner;
    bool mixed;                 /* the outer part's content goes through the inner level */
    char name[LIMIT_PART_NAME]; /* of that part */
    int parts;
    uint64_t offset; /* bytes fed */
    uint64_t first;
    struct err failed;
};

static enum err_code feed_level(struct multipart *m, struct level *l, struct slice bytes, uint64_t offset,
                                struct err *err);

static enum err_code refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_BAD_REQUEST, NULL, "Invalid multipart body: %s.", why);
}

/* The next byte may be a delimiter's first hyphen. */
static void expect_dashes(struct level *l, enum state state)
{
    l->state = state;
    l->from = l->matched = LINE_END;
}

static void level_init(struct level *l, const char *boundary)
{
    int n = snprintf(l->delimiter, sizeof(l->delimiter), "\r\n--%s", boundary);

    TG_ASSERT(n > LINE_END + DASHES && (size_t)n < sizeof(l->delimiter));
    l->len = (size_t)n;
    expect_dashes(l, PREAMBLE);
}

struct multipart *multipart_create(const char *boundary, const struct multipart_callbacks *callbacks)
{
    struct multipart *m = mem_zalloc(sizeof(*m));

    m->callbacks = *callbacks;
    buf_init(&m->outer.head, LIMIT_PART_HEAD);
    buf_init(&m->inner.head, LIMIT_PART_HEAD);
    level_init(&m->outer, boundary);
    return m;
}

void multipart_destroy(struct multipart *m)
{
    if (m == NULL)
        return;
    buf_dispose(&m->outer.head);
    buf_dispose(&m->inner.head);
    free(m);
}

uint64_t multipart_first(const struct multipart *m)
{
    return m->first;
}

/* ---- contents ---- */

static enum err_code tell(struct multipart *m, struct level *l, struct slice content, uint64_t offset, struct err *err)
{
    if (content.len == 0 || l->state != CONTENT)
        return ERR_OK;
    if (l == &m->outer && m->mixed)
        return feed_level(m, &m->inner, content, offset, err);
    return m->callbacks.data(m->callbacks.ctx, content, offset, err);
}

/* A content ends at <offset>. */
static enum err_code end_content(struct multipart *m, struct level *l, uint64_t offset, struct err *err)
{
    if (l->state != CONTENT)
        return ERR_OK;
    if (l == &m->inner || !m->mixed)
        return m->callbacks.end(m->callbacks.ctx, offset, err);
    m->mixed = false;
    return m->inner.state == EPILOGUE ? ERR_OK : refuse(err, "a part ends before its last delimiter");
}

/* The delimiter is whole; <offset> is that of the byte behind it. */
static enum err_code end_match(struct multipart *m, struct level *l, uint64_t offset, struct err *err)
{
    uint64_t start = offset - (l->len - l->from);
    enum err_code code;

    if (l->state == EPILOGUE)
        return refuse(err, "there is a delimiter behind the last one");
    if (l->from > 0 && !(l->from == LINE_END && l->state == PREAMBLE))
        return refuse(err, "a line looks like a delimiter but does not begin behind a CR LF");
    if (l == &m->outer && l->state == PREAMBLE)
        m->first = offset - (l->len - LINE_END);
    code = end_content(m, l, start, err);
    l->state = BEHIND;
    l->behind = '\0';
    l->from = l->matched = 0;
    return code;
}

/* Goes on with the match under way, from the head of *bytes; what it held is told when it breaks. */
static enum err_code go_on(struct multipart *m, struct level *l, struct slice *bytes, uint64_t *offset, struct err *err)
{
    size_t n = 0;
    struct slice held;

    while (n < bytes->len && l->matched < l->len && bytes->p[n] == l->delimiter[l->matched]) {
        l->matched++;
        n++;
    }
    bytes->p += n;
    bytes->len -= n;
    *offset += n;
    if (l->matched == l->len)
        return end_match(m, l, *offset, err);
    if (bytes->len == 0)
        return ERR_OK;
    held = (struct slice){l->delimiter + l->from, l->matched - l->from};
    l->from = l->matched = 0;
    return tell(m, l, held, *offset - held.len, err);
}

/* Whether what follows a line feed may be a delimiter's rest, as far as it is there; <have> bytes of it are. */
static bool may_follow(const struct level *l, const char *p, const char *end, size_t *have)
{
    size_t rest = l->len - LINE_END;
    size_t there = (size_t)(end - p);

    *have = there < rest ? there : rest;
    return there == 0 || (*p == '-' && memcmp(p, l->delimiter + LINE_END, *have) == 0);
}

/* Where a delimiter begins in <bytes>, or may begin at their end, with from and matched set; else the end. */
static size_t find_delimiter(struct level *l, struct slice bytes)
{
    const char *end = bytes.p + bytes.len;
    const char *p = bytes.p;

    while (p < end) {
        size_t have;

        if (*p != '\n' && (p = memchr(p, '\n', (size_t)(end - p))) == NULL)
            break;
        if (may_follow(l, p + 1, end, &have)) {
            bool bare = p == bytes.p || p[-1] != '\r';

            l->from = bare;
            l->matched = LINE_END + have;
            return (size_t)(p - bytes.p) - !bare;
        }
        p++;
    }
    l->from = 0;
    l->matched = end[-1] == '\r';
    return bytes.len - l->matched;
}

/* A run of content, or of what stands around the parts. */
static enum err_code step_run(struct multipart *m, struct level *l, struct slice *bytes, uint64_t *offset,
                              struct err *err)
{
    size_t content, taken;
    enum err_code code;

    if (l->matched > 0)
        return go_on(m, l, bytes, offset, err);
    content = find_delimiter(l, *bytes);
    taken = content + l->matched - l->from;
    code = tell(m, l, (struct slice){bytes->p, content}, *offset, err);
    bytes->p += taken;
    bytes->len -= taken;
    *offset += taken;
    return code == ERR_OK && l->matched == l->len ? end_match(m, l, *offset, err) : code;
}

/* ---- heads ---- */

static enum err_code begin_part(struct multipart *m, struct level *l, struct err *err)
{
    struct slice lines = {l->head.p, l->head.len - LINE_END};
    struct part_head head;
    enum err_code code = part_head_read(lines, l == &m->inner ? m->name : NULL, &head, err);

    if (code != ERR_OK)
        return code;
    expect_dashes(l, CONTENT);
    if (!head.mixed)
        return m->callbacks.begin(m->callbacks.ctx, &head.part, err);
    m->mixed = true;
    (void)slice_copy(head.part.name, m->name, sizeof(m->name));
    level_init(&m->inner, head.boundary);
    return ERR_OK;
}

/* Takes a line, or what there is of it; the empty one ends the head. */
static enum err_code step_head(struct multipart *m, struct level *l, struct slice *bytes, uint64_t *offset,
                               struct err *err)
{
    const char *feed = memchr(bytes->p, '\n', bytes->len);
    size_t n = feed != NULL ? (size_t)(feed + 1 - bytes->p) : bytes->len;
    const struct buf *head = &l->head;

    buf_append(&l->head, bytes->p, n);
    if (head->full)
        return refuse(err, "a part's header is too long");
    bytes->p += n;
    bytes->len -= n;
    *offset += n;
    if (feed != NULL && (head->len < LINE_END || head->p[head->len - LINE_END] != '\r'))
        return refuse(err, "a line of a part's header does not end with CR LF");
    if (feed == NULL || (head->len > LINE_END && head->p[head->len - LINE_END - 1] != '\n'))
        return ERR_OK;
    return begin_part(m, l, err);
}

/* The two bytes behind a delimiter. */
static enum err_code step_behind(struct multipart *m, struct level *l, struct slice *bytes, uint64_t *offset,
                                 struct err *err)
{
    char c = *bytes->p;

    bytes->p++;
    bytes->len--;
    (*offset)++;
    if (l->behind == '\0' && (c == '\r' || c == '-')) {
        l->behind = c;
        return ERR_OK;
    }
    if (l->behind == '-' && c == '-') {
        l->state = EPILOGUE;
        return ERR_OK;
    }
    if (l->behind != '\r' || c != '\n')
        return refuse(err, "a line begins with the delimiter but goes on");
    if (++m->parts > LIMIT_PARTS)
        return err_set(err, ERR_BAD_REQUEST, NULL, "Invalid multipart body: it has more than %d parts.", LIMIT_PARTS);
    l->state = HEAD;
    buf_clear(&l->head);
    return ERR_OK;
}

/* ---- the walk ---- */

static enum err_code feed_level(struct multipart *m, struct level *l, struct slice bytes, uint64_t offset,
                                struct err *err)
{
    enum err_code code = ERR_OK;

    while (bytes.len > 0 && code == ERR_OK) {
        switch (l->state) {
        case BEHIND:
            code = step_behind(m, l, &bytes, &offset, err);
            break;
        case HEAD:
            code = step_head(m, l, &bytes, &offset, err);
            break;
        default:
            code = step_run(m, l, &bytes, &offset, err);
            break;
        }
    }
    return code;
}

static enum err_code remember(struct multipart *m, enum err_code code, struct err *err)
{
    if (code != ERR_OK && err != NULL)
        *err = m->failed;
    return code;
}

enum err_code multipart_feed(struct multipart *m, struct slice bytes, struct err *err)
{
    enum err_code code = m->failed.code;

    if (code == ERR_OK)
        code = feed_level(m, &m->outer, bytes, m->offset, &m->failed);
    m->offset += bytes.len;
    return remember(m, code, err);
}

enum err_code multipart_finish(struct multipart *m, struct err *err)
{
    enum err_code code = m->failed.code;

    if (code == ERR_OK && m->outer.state != EPILOGUE)
        code = refuse(&m->failed, "it ends before its last delimiter");
    return remember(m, code, err);
}
