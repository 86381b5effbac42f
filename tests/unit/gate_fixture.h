/* gate_fixture.h - records as the store would hand them out, for the tests of the gate. */
#ifndef TG_TESTS_GATE_FIXTURE_H
#define TG_TESTS_GATE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/attrs.h"
#include "daemon/gate/catalog.h"

#define NOW (INT64_C(1795507200) * 1000000) /* any moment */

static inline struct secrets *fixture_secrets(void)
{
    char path[] = "/tmp/tallygate-test-XXXXXX";
    char file[64];
    struct secrets *s = NULL;
    struct err err;

    secret_init();
    if (mkdtemp(path) == NULL)
        abort();
    (void)snprintf(file, sizeof(file), "%s/master.key", path);
    if (secret_open(file, "", &s, &err) != ERR_OK)
        abort();
    (void)unlink(file);
    (void)rmdir(path);
    return s;
}

static inline void *fixture_record(enum record_kind kind, int64_t row, size_t extra)
{
    struct record *r = record_create(kind, extra);

    r->row = row;
    r->version = 1;
    r->id = id_make();
    r->created_at = NOW;
    return r;
}

static inline struct tenant *fixture_tenant(int64_t row)
{
    struct tenant *t = fixture_record(RECORD_TENANT, row, 0);

    t->in_doubt = -1;
    return t;
}

static inline struct customer *fixture_customer(int64_t row, int64_t tenant_row)
{
    struct customer *c = fixture_record(RECORD_CUSTOMER, row, 0);

    c->tenant_row = tenant_row;
    return c;
}

/* <text> gets the key; it may be NULL. */
static inline struct api_key *fixture_key(int64_t row, int64_t tenant_row, const struct secrets *s, bool test,
                                          char text[SECRET_KEY_TEXT])
{
    struct api_key *k = fixture_record(RECORD_KEY, row, 0);
    char own[SECRET_KEY_TEXT];

    k->tenant_row = tenant_row;
    k->test = test;
    secret_make_key(s, test ? SECRET_API_KEY_TEST : SECRET_API_KEY, text != NULL ? text : own, k->digest);
    return k;
}

/* What the store makes when a key is stored: the credential is the key as it is now. */
static inline struct credential *fixture_credential(struct api_key *k)
{
    credential_unref(k->credential);
    k->credential = credential_create(k);
    return k->credential;
}

/* A channel with one model, under its own name. */
static inline struct channel *fixture_channel(int64_t row, int64_t priority, const char *model)
{
    struct channel *c = fixture_record(RECORD_CHANNEL, row, sizeof(struct channel_model));

    c->priority = priority;
    c->weight = 1;
    c->n_models = 1;
    (void)snprintf(c->models[0].name, LIMIT_MODEL, "%s", model);
    (void)snprintf(c->models[0].upstream, LIMIT_MODEL, "up-%s", model);
    return c;
}

/* A book with one version, which it takes over and gives the row <row> * 10. */
static inline struct book *fixture_book(int64_t row, const char *name, struct price_version *version)
{
    struct book *b = fixture_record(RECORD_BOOK, row, 0);

    (void)snprintf(b->super.name, LIMIT_NAME, "%s", name);
    version->row = row * 10;
    b->prices = price_book_create(&version, 1);
    b->prices->row = row;
    return b;
}

/* One rate for a model's pictures. */
static inline struct price_version *fixture_image_price(const char *model, int64_t nano)
{
    struct price_rate rate = {.unit = PRICE_IMAGE, .pico = nano * 1000};

    (void)snprintf(rate.model, LIMIT_MODEL, "%s", model);
    return price_version_create(&rate, 1);
}

#endif
