/* rules.h - what may be asked of each route: its query parameters and the table of its body, from queries.def and
 * bodies.def.
 *
 * The same rows check a request and are printed by `help --routes`, against which a test holds the OpenAPI document.
 * All of it is constant; any thread. */
#ifndef TG_ADMIN_RULES_H
#define TG_ADMIN_RULES_H

#include <stdio.h>

#include "body.h"

/* One a ROUTE of routes.def. */
enum rule_name {
#define PLAIN(name, method, pattern, handler)
#define ROUTE(name, method, pattern, action, handler, noun, scope, access) RULE_##name,
#include "routes.def"
#undef PLAIN
#undef ROUTE
    RULES
};

enum param_type {
    PARAM_TEXT = 0, /* min..max bytes of UTF-8 without control characters */
    PARAM_INT,      /* in [min, max] */
    PARAM_TIME,     /* RFC 3339, or Unix seconds */
    PARAM_CHOICE,   /* one of the words of <extra>: "open|in_doubt" */
    PARAM_ID,       /* an id that begins with <extra>; one that is none is for the handler to refuse: 404 */
    PARAM_CURSOR    /* an id that begins with <extra> and stands in a list */
};

enum param_flags {
    PARAM_REQUIRED = 1,
    PARAM_MANY = 2,    /* may be repeated, written name[], or a comma list; each value is checked */
    PARAM_PLATFORM = 4 /* to a tenant's token there is no such parameter */
};

struct param_rule {
    enum rule_name route;
    const char *name; /* NULL: the end of param_rules */
    enum param_type type;
    unsigned flags;
    int64_t min, max;
    const char *extra;
};

extern const struct param_rule param_rules[];

/* Checks a whole query: UNKNOWN_PARAMETER, DUPLICATE_PARAMETER, MISSING_PARAMETER, and what each type says, naming the
 * parameter. <tenant>: the token is a tenant's. */
TG_MUSTCHECK enum err_code rules_check_query(enum rule_name route, bool tenant, struct slice query, struct err *err);

struct body_rule {
    const struct body_table *table; /* NULL: the route has no body */
    bool create;
};

const struct body_rule *rules_body(enum rule_name route);

/* Every route with its rules, as JSON (`tallygate help --routes`). */
void rules_print(FILE *out);

#endif
