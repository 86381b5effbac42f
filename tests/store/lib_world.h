/* lib_world.h - a store in a directory of its own, with someone in it, for the store tests.
 *
 * One thread waits in its mailbox for what it has asked; other threads may have mailboxes of their own. */
#ifndef TG_TESTS_LIB_WORLD_H
#define TG_TESTS_LIB_WORLD_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/store.h"

/* For what other threads may not leave by cmocka's long jump. */
#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ---- a mailbox with a condition variable ---- */

struct box {
    struct mailbox super;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *head, **tail;
};

void box_init(struct box *b);
void box_dispose(struct box *b);
void box_run(struct box *b); /* waits for at least one mail and delivers all there are */

/* ---- the world ---- */

#define USD INT64_C(1000000000)

struct world {
    char dir[64];
    char url[128];
    struct secrets *secrets;
    struct store *store;
    struct box box;
    int64_t tenant, customer, key, customer_key, channel; /* rows; the customer has an own wallet */
    struct id tenant_id, customer_id;
    int64_t keep; /* store_options.keep; set before world_open */
    int failures; /* how often `failed` ran */
    char why[LIMIT_ERROR_MESSAGE];
};

void world_init(struct world *w);    /* makes the directory and the secrets */
void world_dispose(struct world *w); /* closes, removes everything */
void world_open(struct world *w);    /* opens and starts the store; fails the test when it cannot */
void world_close(struct world *w);
void world_fill(struct world *w, int64_t tenant_credit, int64_t customer_credit); /* tenant, customer, keys, channel */

/* A test's tear-down: releases the clock, closes, runs fsck (a test whose store is not clean fails), disposes and frees
 * the struct world that *state is. */
int world_tear_down(void **state);

/* Submits one operation and waits for it. */
enum err_code world_do(struct world *w, struct store_op *op);
enum err_code world_do_in(struct store *s, struct box *box, struct store_op *op);
void world_ask(struct world *w, struct store_query *q);

/* Records with sensible values; the caller may change them before world_put. */
struct tenant *world_tenant(const char *name);
struct customer *world_customer(struct world *w, const char *name, bool own_wallet);
struct api_key *world_key(struct world *w, const char *name, int64_t customer);
struct channel *world_channel(const char *name, const char *credential);

/* Creates or replaces; returns the code. The stored record, borrowed until the next call, is in *out (may be NULL). */
enum err_code world_put(struct world *w, void *record, struct record **out, struct err *err);

enum err_code world_credit(struct world *w, bool customer, int64_t amount);
void world_hold_init(struct world *w, struct store_hold *op, int64_t wholesale,
                     int64_t retail); /* retail < 0: tenant's key */
/* Gives the hold an Idempotency-Key; <request> stands for what was asked for. <text> is borrowed. */
void world_hold_key(struct store_hold *op, const char *text, int request);
enum err_code world_hold(struct world *w, int64_t wholesale, int64_t retail, struct id *id);
void world_capture_init(struct store_capture *op, struct id hold, int64_t cost, int64_t wholesale, int64_t retail);
enum err_code world_capture(struct world *w, struct id hold, int64_t cost, int64_t wholesale, int64_t retail);
enum err_code world_void(struct world *w, struct id hold);
enum err_code world_doubt(struct world *w, struct id hold);
struct store_balance world_balance(struct world *w, bool customer);

/* Runs fsck; prints what is violated. Returns its result. */
int world_fsck(struct world *w);

#endif
