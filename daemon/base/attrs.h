/* attrs.h - compiler attributes used on prototypes, and assertions that stay on in production.
 *
 * A violated invariant stops the process (money is safer in a stopped daemon than in a wrong one); bad input never
 * reaches an assertion. */
#ifndef TG_BASE_ATTRS_H
#define TG_BASE_ATTRS_H

#include <stddef.h>

#define TG_MUSTCHECK __attribute__((warn_unused_result))
#define TG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define TG_NORETURN __attribute__((noreturn))
#define TG_UNUSED __attribute__((unused))

/* Ends the process with file:line and the text of the broken invariant on standard error. */
TG_NORETURN void assert_failed(const char *file, int line, const char *what);

/* Always compiled in; <cond> must be free of side effects. */
#define TG_ASSERT(cond) ((cond) ? (void)0 : assert_failed(__FILE__, __LINE__, #cond))

/* The member's enclosing object. */
#define TG_CONTAINER(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Memory that cannot be had ends the process (libh2o does the same); so callers need no check. */
void *mem_alloc(size_t size);  /* uninitialised */
void *mem_zalloc(size_t size); /* zeroed */
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *text);

#endif
