/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, at most U+10FFFF. Any thread. */
#ifndef TG_BASE_UTF8_H
#define TG_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "slice.h"

bool utf8_valid(struct slice s);
size_t utf8_count(struct slice s); /* code points of a valid string */

/* Bytes (1..4) of the well-formed character that <s> starts with; 0 when there is none. */
size_t utf8_length(struct slice s);

/* The longest head of <s> of at most <max> bytes that does not end inside a character. */
struct slice utf8_head(struct slice s, size_t max);

#endif
