/* ini.h - the line format of configuration and price data.
 *
 *   # comment        whole line, or after white space behind a value
 *   [section]        "[section name]" keeps the name
 *   key = value      value may be empty; trimmed at both ends
 *
 * Bounded: lines of at most INI_LINE bytes. */
#ifndef TG_BASE_INI_H
#define TG_BASE_INI_H

#include "err.h"

enum { INI_LINE = 4096 };

/* One key; <section> and <name>: empty before the first section header. Return an error to note a fault of this line;
 * reading goes on, so that every fault can be reported. */
typedef enum err_code ini_fn(void *ctx, struct slice section, struct slice key, struct slice value, int line,
                             struct err *err);

/* Called once for each fault with its line. */
typedef void ini_fault_fn(void *ctx, int line, struct slice key, const char *what);

/* Returns the number of faults. */
int ini_read(struct slice text, ini_fn *fn, ini_fault_fn *fault, void *ctx);

#endif
