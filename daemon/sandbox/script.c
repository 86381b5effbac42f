/* script.c - an answer as runs of text and pictures, and a cursor that walks them.
 *
 * Invariant: runs[0..n) cover text[0..closed) without a gap; text behind that belongs to the run that is being written.
 * One thread. */
#include "script.h"

#include <stdlib.h>

void script_init(struct script *s)
{
    *s = (struct script){.closed = 0};
    buf_init(&s->text, SCRIPT_TEXT_MAX);
}

void script_dispose(struct script *s)
{
    buf_dispose(&s->text);
    free(s->runs);
    *s = (struct script){.closed = 0};
}

static struct script_run *close_run(struct script *s)
{
    struct script_run *run;

    TG_ASSERT(!s->text.full);
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 4 : s->cap * 2;
        s->runs = mem_realloc(s->runs, s->cap * sizeof(*s->runs));
    }
    run = &s->runs[s->n++];
    *run = (struct script_run){.text = s->text.len - s->closed};
    s->closed = s->text.len;
    s->length += run->text;
    return run;
}

void script_picture(struct script *s, const struct picture *p)
{
    struct script_run *run = close_run(s);

    run->has_picture = true;
    run->picture = *p;
    s->length += gallery_length(p);
}

void script_event_end(struct script *s)
{
    close_run(s)->event_end = true;
}

void script_finish(struct script *s)
{
    if (s->closed < s->text.len)
        (void)close_run(s);
}

static uint64_t run_length(const struct script_run *run)
{
    return run->text + (run->has_picture ? gallery_length(&run->picture) : 0);
}

uint64_t script_length_of(const struct script *s, int64_t events)
{
    uint64_t length = 0;

    for (size_t i = 0; i < s->n && events > 0; i++) {
        length += run_length(&s->runs[i]);
        events -= s->runs[i].event_end;
    }
    return length;
}

void script_flatten(const struct script *s, struct buf *out)
{
    struct script_cursor c = {.run = 0};
    struct slice bytes;

    while ((bytes = script_next(s, &c, SIZE_MAX)).len > 0)
        buf_append_slice(out, bytes);
    script_close(&c);
    TG_ASSERT(!out->full);
}

/* The rest of what the cursor's run says in one piece: its text, then its picture. */
static struct slice rest_of_run(const struct script *s, struct script_cursor *c)
{
    const struct script_run *run = &s->runs[c->run];
    struct slice picture;

    if (c->at < run->text)
        return (struct slice){s->text.p + c->text_at + c->at, run->text - c->at};
    if (!run->has_picture)
        return SLICE_NONE;
    if (c->print == NULL)
        c->print = gallery_take(&run->picture);
    picture = print_text(c->print);
    return (struct slice){picture.p + (c->at - run->text), picture.len - (c->at - run->text)};
}

struct slice script_next(const struct script *s, struct script_cursor *c, size_t max)
{
    struct slice bytes = SLICE_NONE;

    while (c->run < s->n && (bytes = rest_of_run(s, c)).len == 0) {
        c->text_at += s->runs[c->run++].text;
        c->at = 0;
        script_close(c);
    }
    if (bytes.len > max)
        bytes.len = max;
    c->at += bytes.len;
    return bytes;
}

bool script_between_events(const struct script *s, const struct script_cursor *c)
{
    return c->run < s->n && s->runs[c->run].event_end && c->at == s->runs[c->run].text;
}

void script_close(struct script_cursor *c)
{
    gallery_give(c->print);
    c->print = NULL;
}
