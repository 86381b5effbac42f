/* fuzz_multipart.c - any bytes as a form: any split tells the same parts, and their contents are those that a slow
 * reader finds by looking for lines. The first two bytes say how to split, the first line is the Content-Type. */
#include <stdlib.h>

#include "daemon/images/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTS = LIMIT_PARTS + 1 };

struct run {
    uint64_t start, end;
};

/* What was told. */
struct told {
    struct slice body;
    struct run contents[PARTS];
    int n;
    uint64_t at;
    bool open, started;
    struct buf heads;
    enum err_code code;
    uint64_t first;
};

static enum err_code on_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    struct told *t = ctx;

    (void)err;
    TG_ASSERT(!t->open && part->name.len > 0 && part->name.len < LIMIT_PART_NAME &&
              part->name.p[part->name.len] == '\0');
    t->open = true;
    t->started = false;
    buf_append_slice(&t->heads, part->name);
    buf_append_char(&t->heads, part->has_filename ? '|' : '/');
    buf_append_slice(&t->heads, part->filename);
    buf_append_char(&t->heads, '|');
    buf_append_slice(&t->heads, part->type);
    buf_append_char(&t->heads, '\n');
    return ERR_OK;
}

static enum err_code on_data(void *ctx, struct slice bytes, uint64_t offset, struct err *err)
{
    struct told *t = ctx;

    (void)err;
    TG_ASSERT(t->open && t->n < PARTS && bytes.len > 0 && offset + bytes.len <= t->body.len);
    TG_ASSERT(!t->started || offset == t->at);
    TG_ASSERT(memcmp(bytes.p, t->body.p + offset, bytes.len) == 0);
    if (!t->started)
        t->contents[t->n].start = offset;
    t->started = true;
    t->at = offset + bytes.len;
    return ERR_OK;
}

static enum err_code on_end(void *ctx, uint64_t offset, struct err *err)
{
    struct told *t = ctx;

    (void)err;
    TG_ASSERT(t->open && t->n < PARTS && (!t->started || offset == t->at));
    if (!t->started)
        t->contents[t->n].start = offset;
    t->contents[t->n++].end = offset;
    t->open = false;
    return ERR_OK;
}

static void split(const char *boundary, struct slice body, unsigned seed, struct told *t)
{
    const struct multipart_callbacks callbacks = {t, on_begin, on_data, on_end};
    struct multipart *m = multipart_create(boundary, &callbacks);
    struct err err = {.code = ERR_OK};
    size_t at = 0;
    unsigned x = seed;

    *t = (struct told){.body = body};
    buf_init(&t->heads, 1024 * 1024);
    while (at < body.len && t->code == ERR_OK) {
        size_t n = seed == 0 ? body.len : 1 + (x = x * 1103515245U + 12345U, x >> 16) % 40;
        char *copy;

        n = n < body.len - at ? n : body.len - at;
        copy = mem_alloc(n);
        memcpy(copy, body.p + at, n);
        t->code = multipart_feed(m, (struct slice){copy, n}, &err);
        free(copy);
        at += n;
    }
    if (t->code == ERR_OK)
        t->code = multipart_finish(m, &err);
    t->first = multipart_first(m);
    TG_ASSERT(t->code == err.code && (t->code == ERR_OK) == (err.message[0] == '\0'));
    multipart_destroy(m);
}

static bool stands_at(struct slice body, size_t at, const char *text)
{
    size_t n = strlen(text);

    return at <= body.len && n <= body.len - at && memcmp(body.p + at, text, n) == 0;
}

/* The next line from <from> that begins with the dashes and the boundary; body.len: none. */
static size_t find_line(struct slice body, size_t from, const char *dashes)
{
    for (size_t i = from; i < body.len; i++) {
        if ((i == from || body.p[i - 1] == '\n') && stands_at(body, i, dashes))
            return i;
    }
    return body.len;
}

/* The slow reader: the contents of a good form, one level. False when it is none. */
static bool find_contents(struct slice body, const char *boundary, struct run *out, int *n)
{
    char dashes[2 + MULTIPART_BOUNDARY];
    size_t len, line, content = 0;

    dashes[0] = dashes[1] = '-';
    (void)slice_copy(slice_from(boundary), dashes + 2, sizeof(dashes) - 2);
    len = strlen(dashes);
    *n = 0;
    line = find_line(body, 0, dashes);
    if (line != 0 && (line < 2 || !stands_at(body, line - 2, "\r\n")))
        return false;
    while (stands_at(body, line + len, "\r\n")) {
        size_t head = line + len;

        while (head < body.len && !stands_at(body, head, "\r\n\r\n"))
            head++;
        content = head + 4;
        line = find_line(body, content, dashes);
        if (*n == PARTS || line < content + 2 || line >= body.len || !stands_at(body, line - 2, "\r\n"))
            return false;
        out[(*n)++] = (struct run){content, line - 2};
    }
    if (line >= body.len || !stands_at(body, line + len, "--"))
        return false;
    line += len + 2;
    return stands_at(body, line, dashes) || find_line(body, line, dashes) == body.len;
}

/* A form without another inside has the same contents; else each told one lies in one of the slow reader's. */
static void check_contents(const struct told *t, const char *boundary)
{
    struct run slow[PARTS];
    int n;
    bool same = find_contents(t->body, boundary, slow, &n);

    TG_ASSERT(same);
    same = n == t->n;
    for (int i = 0; i < t->n; i++) {
        bool inside = false;

        for (int k = 0; k < n; k++)
            inside |= slow[k].start <= t->contents[i].start && t->contents[i].end <= slow[k].end;
        TG_ASSERT(inside);
        same = same && slow[i].start == t->contents[i].start && slow[i].end == t->contents[i].end;
    }
    if (!same) { /* then there is a multipart/mixed; any case, so its only sure letter is the slash */
        TG_ASSERT(memchr(t->body.p, '/', t->body.len) != NULL);
    }
    TG_ASSERT(t->n == 0 || (t->first < t->contents[0].start && stands_at(t->body, t->first, "--") &&
                            stands_at(t->body, t->first + 2, boundary)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct told whole, cut;
    struct slice all = {(const char *)data + 2, size - 2}, type, body;
    char boundary[MULTIPART_BOUNDARY];

    if (size < 3 || !slice_cut(all, '\n', &type, &body) || multipart_boundary(type, boundary, NULL) != ERR_OK)
        return 0;
    split(boundary, body, 0, &whole);
    split(boundary, body, 1U + data[0] + 256U * data[1], &cut);
    TG_ASSERT(whole.code == cut.code && whole.n == cut.n && whole.first == cut.first);
    TG_ASSERT(memcmp(whole.contents, cut.contents, sizeof(whole.contents[0]) * (size_t)whole.n) == 0);
    TG_ASSERT(slice_eq(buf_slice(&whole.heads), buf_slice(&cut.heads)));
    if (whole.code == ERR_OK)
        check_contents(&whole, boundary);
    buf_dispose(&whole.heads);
    buf_dispose(&cut.heads);
    return 0;
}
