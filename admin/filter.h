/* filter.h - which usage is meant: the parameters that reports, records and exports have in common, and the rows that
 * their ids stand for.
 *
 * tenant, customer, key, channel, model, operation, size and quality may each have several values; start_time and
 * end_time one. A tenant's token means its own tenant, whatever else it names, and knows of no channels. Ids are looked
 * up on the loop where they are at hand, else in the store: revoked keys and closed customers have usage, too. An id
 * that is not there, or not the token's to see, is 404 naming the parameter.
 *
 * A route keeps a struct of its own that begins with a struct filter as the call's state (admin_keep). The call's loop.
 */
#ifndef TG_ADMIN_FILTER_H
#define TG_ADMIN_FILTER_H

#include "house.h"
#include "query.h"

_Static_assert((int)FILTER_VALUES == (int)QUERY_VALUES, "a parameter has as many values as a filter");

enum filter_kind { FILTER_TENANT = 0, FILTER_CUSTOMER, FILTER_KEY, FILTER_CHANNEL, FILTER_KINDS };

struct filter {
    struct store_filter of; /* what was asked for, in the store's terms */
    struct {
        const char *name; /* of the parameter */
        int n;
        char text[FILTER_VALUES][ID_TEXT * 2];
    } ids[FILTER_KINDS];
    int n_operations;
    char operations[FILTER_VALUES][LIMIT_QUALITY];
    char start_text[64], end_text[64];
    int kind, place;                       /* of the id that is looked up */
    void (*done)(struct admin_call *call); /* after filter_resolve */
};

/* A zeroed filter becomes one without conditions, with the parameters' own names. */
void filter_init(struct filter *f);

/* Adds the parameters to <fields>, at *n; the filter stays where it is while they are read. */
enum { FILTER_FIELDS = 10 };
void filter_add_fields(struct filter *f, struct query_field *fields, size_t *n);

/* After query_read: operations and times as values. INVALID_VALUE. */
TG_MUSTCHECK enum err_code filter_read(struct filter *f, struct err *err);

/* Finds the rows of the ids; then <done>, or the call is answered. call->state begins with the filter. */
void filter_resolve(struct admin_call *call, void (*done)(struct admin_call *call));

#endif
