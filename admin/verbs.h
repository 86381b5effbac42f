/* verbs.h - inside the admin room: the table of `tallygate admin` and what its parts share.
 *
 *   command_admin.c   argv -> struct errand (what is to be asked)
 *   errand.c          an errand -> the daemon -> its answer
 *   columns.c         an answer -> a table, or lines of "member: value"
 *   completion.c      the table -> a script for bash
 *
 * One thread. */
#ifndef TG_ADMIN_VERBS_H
#define TG_ADMIN_VERBS_H

#include <stdio.h>

#include "daemon/base/json.h"

enum {
    VERB_OPTIONS = 24, /* options of one verb */
    VERB_OPTION = 32,  /* bytes of an option's name, with the NUL */
    VERB_CELL = 256,   /* bytes of a table's cell that are shown */
    VERB_COLUMNS = 24  /* columns of a table */
};

struct verb {
    const char *noun, *verb, *method, *path, *operands, *options, *columns, *summary;
};

extern const struct verb verbs[]; /* ends with a NULL noun */

enum verb_type { VERB_TEXT = 0, VERB_INT, VERB_JSON, VERB_LIST };

struct verb_option {
    char name[VERB_OPTION];
    enum verb_type type;
    bool required;
};

/* The options of a verb, in the order of the table; returns how many. */
int verb_options(const struct verb *verb, struct verb_option out[VERB_OPTIONS]);

const struct verb *verb_find(const char *noun, const char *verb); /* NULL: there is none */

/* All of them, for people. <noun> NULL: every noun. */
void verbs_print(FILE *out, const char *noun);
void verb_print(FILE *out, const struct verb *verb);

/* A script for bash that completes commands, nouns, verbs and options (completion.c). */
void completion_print(FILE *out);

/* A table with a line for each of <rows> (an array of objects); <columns>: paths of members ("balance.available"),
 * separated by blanks. <heading>: the line of names goes first. Column widths are those of the last call where the
 * cells fit, so that lines that come later stand below each other: <widths> keeps them, zeroed before the first. */
struct columns {
    int n;
    struct slice paths[VERB_COLUMNS];
    int widths[VERB_COLUMNS];
};
void columns_init(struct columns *c, const char *paths);
void columns_add(struct columns *c, struct slice path);
void columns_print(struct columns *c, struct json_object *rows, bool heading, FILE *out);

/* An object as lines of "member: value", inner ones indented. */
void object_print(struct json_object *object, FILE *out);

#endif
