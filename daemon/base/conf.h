/* conf.h - the configuration: one struct, its parser, help and man page text, all from conf.def.
 *
 * A struct conf is immutable once read; main publishes a new one on reload. */
#ifndef TG_BASE_CONF_H
#define TG_BASE_CONF_H

#include <stdio.h>

#include "err.h"

enum { CONF_LIST = 16 }; /* entries of a repeatable key */

enum conf_in_doubt { IN_DOUBT_RELEASE = 0, IN_DOUBT_CHARGE, IN_DOUBT_KEEP };
enum conf_level { LEVEL_DEBUG = 0, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR };

struct conf_list {
    char *at[CONF_LIST];
    size_t n;
};

#define CONF_TYPE_TEXT char *
#define CONF_TYPE_LIST struct conf_list
#define CONF_TYPE_BOOL bool
#define CONF_TYPE_COUNT int64_t
#define CONF_TYPE_SIZE int64_t
#define CONF_TYPE_TIME int64_t /* microseconds */
#define CONF_TYPE_IN_DOUBT enum conf_in_doubt
#define CONF_TYPE_LEVEL enum conf_level

/* One member a key, named section_key: conf->relay_timeout. */
struct conf {
#define CONF(section, key, type, def, min, max, reload, help) CONF_TYPE_##type section##_##key;
#include "conf.def"
#undef CONF
};

/* Reads <path>; each fault goes to <faults> as "file:line: key: what is wrong" (NULL: nowhere). Returns a conf of the
 * caller's (conf_destroy), or NULL when there was any fault or the file could not be read. Cross-key rules (a
 * certificate needs its key, ...) are checked too. */
struct conf *conf_read(const char *path, FILE *faults);
void conf_destroy(struct conf *conf);

/* The names of keys that differ and need a restart, comma-separated, into <out>. */
void conf_restart_keys(const struct conf *old, const struct conf *new_conf, struct buf *out);

/* The path of a file beside the store's database: <name> in its directory. False when it does not fit in <cap> bytes.
 */
bool conf_beside_store(const struct conf *conf, const char *name, char *out, size_t cap);

void conf_print_help(FILE *out);   /* every key with default and help, as a commented sample configuration */
void conf_print_manual(FILE *out); /* the CONFIGURATION section of the man page, in man(7) markup */

#endif
