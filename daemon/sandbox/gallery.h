/* gallery.h - pictures in base64, made once and shared by all answers that show them. One thread. */
#ifndef TG_SANDBOX_GALLERY_H
#define TG_SANDBOX_GALLERY_H

#include "picture.h"

/* Pictures of one size and format that are told apart: prompts share them, so that ten thousand answers need no more
 * memory than a few. */
enum { GALLERY_SEEDS = 16 };

struct print;

/* The picture's file in base64; give it back. */
struct print *gallery_take(const struct picture *p);
void gallery_give(struct print *print); /* NULL-safe */
struct slice print_text(const struct print *print);

/* Bytes of that text. */
size_t gallery_length(const struct picture *p);

#endif
