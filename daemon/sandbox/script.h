/* script.h - what an answer will say: text and pictures in their order. The pictures are only named until their turn
 * comes, so that an answer that waits is small, and one that is sent holds one picture at a time. */
#ifndef TG_SANDBOX_SCRIPT_H
#define TG_SANDBOX_SCRIPT_H

#include "gallery.h"

enum { SCRIPT_TEXT_MAX = 8 * 1024 * 1024 }; /* bytes of all text: ten revised prompts, escaped, and room to spare */

/* Some text, then perhaps a picture. */
struct script_run {
    size_t text; /* bytes */
    bool has_picture;
    bool event_end; /* an event of a stream ends here */
    struct picture picture;
};

struct script {
    struct buf text; /* append to it */
    size_t closed;   /* bytes of it that stand in runs */
    struct script_run *runs;
    size_t n, cap;
    uint64_t length; /* bytes of all runs */
};

void script_init(struct script *s);
void script_dispose(struct script *s);

/* The text so far is followed by a picture; an event ends; all is said. */
void script_picture(struct script *s, const struct picture *p);
void script_event_end(struct script *s);
void script_finish(struct script *s);

/* Bytes up to the end of the <events>th event, or of all when there are fewer. */
uint64_t script_length_of(const struct script *s, int64_t events);

/* Everything, as one text. <out> must have room. */
void script_flatten(const struct script *s, struct buf *out);

/* Where a reader stands. */
struct script_cursor {
    size_t run;
    size_t text_at; /* in the script's text */
    size_t at;      /* in the run, its text and picture counted */
    struct print *print;
};

/* The next bytes, at most <max>, never past the end of an event; borrowed until the next call. Empty: there are no
 * more. */
struct slice script_next(const struct script *s, struct script_cursor *c, size_t max);
bool script_between_events(const struct script *s, const struct script_cursor *c);
void script_close(struct script_cursor *c); /* gives back what it holds */

#endif
