/* body.h - reading the body of an admin request by a table: each noun says once what a member is and what it may be.
 *
 * A member that is absent changes nothing; an explicit null sets it back to its default; a required one must be there
 * when something is made, and never null. What the table does not name is UNKNOWN_PARAMETER. */
#ifndef TG_ADMIN_BODY_H
#define TG_ADMIN_BODY_H

#include "house.h"

enum body_type {
    BODY_TEXT = 0,    /* char[cap]; min: fewest bytes; no control characters */
    BODY_MONEY,       /* int64_t nano-dollars in [min, max] */
    BODY_PERCENT,     /* int64_t parts per million in [min, max] */
    BODY_INT,         /* int64_t in [min, max] */
    BODY_SECONDS,     /* int64_t microseconds; [min, max] in seconds */
    BODY_TIME,        /* int64_t wall microseconds in the future; null: 0 */
    BODY_RATE,        /* int64_t pico-dollars in [min, max]: a decimal with up to 12 digits behind the point */
    BODY_CHOICE,      /* int (an enum): the value that goes with one of <choices> */
    BODY_POLICY,      /* char *: canonical JSON that the gate accepts, or NULL */
    BODY_BUDGETS,     /* char *: canonical JSON of daemon/billing/budget.h, or NULL */
    BODY_LIMITS,      /* char *: canonical JSON of daemon/gate/limits.h, or NULL */
    BODY_UNSUPPORTED, /* nothing: refused unless null */
    BODY_OWN,         /* <read> does it; <as> says what it reads */
    /* The rest describes values that a BODY_OWN or a parser of its own reads. */
    BODY_ID,     /* an id that begins with <prefix>, or one of <choices>, when there are any */
    BODY_ARRAY,  /* [min, max] elements, each as <item> says */
    BODY_OBJECT, /* the members of <members> */
    BODY_MAP     /* [min, max] members with names of at most cap - 1 bytes, each as <item> says */
};

#define BODY_MONEY_MAX INT64_C(1000000000000000000) /* nano: a thousand million dollars; the most that is taken */

enum body_flags {
    BODY_REQUIRED = 1,
    BODY_FIXED = 2,    /* cannot be changed by a PATCH */
    BODY_PLATFORM = 4, /* a tenant's token may not set it: 403 */
    BODY_NONZERO = 8,  /* BODY_MONEY */
    BODY_NOT_NULL = 16 /* where it is not required: null is no value of it */
};

struct body_choice {
    const char *name;
    int value;
};

struct body_field {
    const char *name;
    enum body_type type;
    unsigned flags;
    size_t offset;                     /* in the target */
    size_t cap;                        /* BODY_TEXT */
    int64_t min, max, otherwise;       /* the last: what null and absence mean */
    const struct body_choice *choices; /* BODY_CHOICE; ends with a NULL name */
    enum body_type as;                 /* of a BODY_OWN; for the document, as are the next four */
    const char *prefix;                /* BODY_ID: "ten" */
    const char *pattern;               /* BODY_TEXT: what it looks like, as an ECMA 262 expression; NULL: any text */
    const struct body_field *item;     /* BODY_ARRAY, BODY_MAP */
    const struct body_table *members;  /* BODY_OBJECT */
    /* BODY_OWN: <value> is NULL for an explicit null. */
    enum err_code (*read)(struct admin_call *call, const char *name, struct json_object *value, void *target,
                          struct err *err);
};

/* The members of a body, as bodies.def names them for a route: what body_read gets and what the document says. */
struct body_table {
    const struct body_field *fields;
    size_t n;
};
#define BODY_TABLE(fields)                                                                                             \
    {                                                                                                                  \
        fields, sizeof(fields) / sizeof((fields)[0])                                                                   \
    }

extern const struct body_table tenant_fields, customer_fields, key_fields, channel_fields, book_fields, version_fields,
    token_fields, credit_fields, void_fields, resolve_fields, refund_fields, quote_fields, rotate_fields, bulk_fields;

extern const struct body_choice body_books[]; /* what a book may be called besides its id */

/* Puts what call->body says into <target>. <create>: required members must be there, and BODY_FIXED ones may. */
TG_MUSTCHECK enum err_code body_read(struct admin_call *call, const struct body_field *fields, size_t n, bool create,
                                     void *target, struct err *err);

/* The same with an object that stands somewhere in the body; errors name its members as if they stood at the top. */
TG_MUSTCHECK enum err_code body_read_object(struct admin_call *call, struct json_object *object,
                                            const struct body_field *fields, size_t n, bool create, void *target,
                                            struct err *err);

/* For BODY_OWN readers: a string value copied with its checks. */
TG_MUSTCHECK enum err_code body_text(const char *name, struct json_object *value, size_t min, char *out, size_t cap,
                                     struct err *err);

/* One of f->choices; f->name is for messages. */
TG_MUSTCHECK enum err_code body_choose(const struct body_field *f, struct json_object *value, int *out,
                                       struct err *err);

/* INVALID_TYPE in the usual words; <expected>: "an array". */
enum err_code body_wrong_type(const char *name, const char *expected, struct json_object *value, struct err *err);

/* Names of tenants and the like, kept as the noun's row. INVALID_TYPE or NOT_FOUND ("No such tenant: ...", param
 * <name>). */
TG_MUSTCHECK enum err_code body_record(struct admin_call *call, enum record_kind kind, const char *word,
                                       const char *name, struct json_object *value, const void **record,
                                       struct err *err);

/* The tenant that something new is to belong to: a tenant's token means its own, and need not say so. */
TG_MUSTCHECK enum err_code body_tenant(struct admin_call *call, const char *name, struct json_object *value,
                                       int64_t *row, struct err *err);

/* A price book of this kind by its id, or the default one by its name or id; null: row 0. The platform's, or one of
 * <tenant_row>'s own (0: none). Of the platform's books a tenant's token may name the retail ones. */
TG_MUSTCHECK enum err_code body_book(struct admin_call *call, enum price_kind kind, int64_t tenant_row,
                                     const char *name, struct json_object *value, int64_t *row, struct err *err);

#endif
