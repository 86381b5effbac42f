/* member.h - JSON strings as json_scan tells them (still escaped), compared and decoded without memory. Any thread. */
#ifndef TG_IMAGES_MEMBER_H
#define TG_IMAGES_MEMBER_H

#include <stdbool.h>

#include "daemon/base/slice.h"

/* Whether the string is <name> (ASCII), however it was escaped. <whole> as json_scan told it. */
bool member_is(struct slice escaped, bool whole, const char *name);

/* Decodes a string of printable ASCII into <out> with its NUL; false (and an empty string) when it was cut, does not
 * fit in <cap> bytes, or holds anything else. */
bool member_text(struct slice escaped, bool whole, char *out, size_t cap);

#endif
