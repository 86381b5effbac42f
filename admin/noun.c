/* noun.c - what every noun does alike: get, create, change, delete. Lists are in noun_list.c.
 *
 * A change reads the record from the store, changes a copy and puts it back with the version it was made from. When
 * somebody else was faster the store refuses; without If-Match the whole step is then done again on the newer record,
 * so that two changes of different members both come to stand. Everything runs on the call's loop, but for
 * `render_stored` (the writer's thread, over values that were set before the operation was given away). */
#include "house.h"

#include <stdlib.h>

#include "page.h"
#include "render.h"

struct id catalog_id(const struct catalog *catalog, enum record_kind kind, int64_t row)
{
    const void *found = row != 0 ? catalog_by_row(catalog, kind, row) : NULL;

    /* A price book in the catalog is found like every other record. */
    return found != NULL ? ((const struct record *)found)->id : (struct id){{0}};
}

struct id names_id(const struct store_names *names, enum record_kind kind, int64_t row)
{
    return row != 0 ? names->id(names->ctx, kind, row) : (struct id){{0}};
}

static struct id name_from_catalog(const void *ctx, enum record_kind kind, int64_t row)
{
    return catalog_id(ctx, kind, row);
}

const char *noun_prefix(const struct noun *noun)
{
    return noun->prefix != NULL ? noun->prefix : record_prefix(noun->kind);
}

char *noun_copy_text(const char *text)
{
    return text != NULL ? mem_strdup(text) : NULL;
}

void noun_render_tail(const struct record *record, struct buf *out)
{
    char etag[32];

    render_time(out, "created_at", record->created_at);
    (void)snprintf(etag, sizeof(etag), "\"%lld\"", (long long)record->version);
    render_text(out, "etag", slice_from(etag));
    render_close(out, '}');
}

bool noun_sees(const struct who *who, const struct noun *noun, const struct record *record)
{
    return who->tenant_row == 0 || noun->owner(record) == who->tenant_row;
}

void noun_refer(struct admin_call *call, const struct record *record, struct refs *refs)
{
    const struct store_names names = {name_from_catalog, call->catalog};

    *refs = (struct refs){0};
    if (call->rule->noun->refer != NULL)
        call->rule->noun->refer(&names, record, refs);
}

void noun_refer_item(struct admin_call *call, int i, struct refs *refs)
{
    const struct store_list *list = &call->op.list;

    noun_refer(call, list->items[i], refs);
    refs->balance = list->balances[i];
    if (!id_is_zero(list->tenant_ids[i]))
        refs->tenant = list->tenant_ids[i];
    if (!id_is_zero(list->customer_ids[i]))
        refs->customer = list->customer_ids[i];
}

/* ---- get ---- */

static void fetched_from_store(struct admin_call *call)
{
    const struct store_list *list = &call->op.list;

    const struct noun *noun = call->rule->noun;
    struct err err;

    if (list->n == 1 && noun_sees(&call->who, noun, list->items[0])) {
        call->fetched(call, list->items[0]);
    } else if (list->n != 1 || noun->shown == NULL || !noun->shown(call, list->items[0])) {
        admin_fail_no_such(call);
    } else if (call->rule->access == ACCESS_READ) {
        call->fetched(call, list->items[0]);
    } else {
        (void)err_set(&err, ERR_FORBIDDEN, NULL, "Only the platform may change this %s; the token is a tenant's.",
                      noun->word);
        admin_fail(call, &err);
    }
}

void noun_fetch(struct admin_call *call, void (*fetched)(struct admin_call *call, const struct record *record))
{
    struct store_list *list = &call->op.list;

    admin_begin(call, OP_LIST);
    list->super.question = STORE_GET;
    list->kind = call->rule->noun->kind;
    list->id = call->id;
    list->limit = 1;
    call->fetched = fetched;
    admin_submit(call, fetched_from_store);
}

static void reply_fetched(struct admin_call *call, const struct record *record)
{
    struct buf out;
    struct refs refs;
    int64_t version = record->version;

    buf_init(&out, ADMIN_REPLY);
    noun_refer_item(call, 0, &refs);
    call->rule->noun->render(record, &refs, &out);
    refs_dispose(&refs);
    admin_reply(call, 200, &out, version);
    buf_dispose(&out);
}

void noun_get(struct admin_call *call)
{
    noun_fetch(call, reply_fetched);
}

/* ---- put ---- */

void noun_render_secret(const struct noun *noun, const struct record *record, const struct refs *refs,
                        const char *secret, struct buf *out)
{
    noun->render(record, refs, out);
    if (secret[0] != '\0' && !out->full) {
        out->len--; /* the closing brace */
        render_text(out, "secret", slice_from(secret));
        render_close(out, '}');
    }
}

static void render_stored(struct store_op *op, struct buf *out)
{
    struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    noun_render_secret(call->rule->noun, call->op.put.record, &call->refs, call->secret, out);
}

/* Whether the client named the version that it means to change. */
static bool has_if_match(const struct admin_call *call)
{
    struct slice value;

    return front_call_header(call->front, "if-match", &value, NULL);
}

static bool start_again(struct admin_call *call, const struct err *err)
{
    struct err conflict;

    if (err->code != ERR_PRECONDITION_FAILED || has_if_match(call))
        return false;
    if (++call->tries < ADMIN_TRIES) {
        noun_fetch(call, call->fetched);
        return true;
    }
    (void)err_set(&conflict, ERR_CONFLICT, NULL, "The %s is being changed by others; please try again.",
                  call->rule->noun->word);
    admin_fail(call, &conflict);
    return true;
}

void noun_submit(struct admin_call *call, struct record *record, void (*render)(struct store_op *op, struct buf *out),
                 void (*next)(struct admin_call *call))
{
    admin_begin(call, OP_PUT);
    call->op.put.record = record;
    call->failed = start_again;
    admin_act(call, render);
    admin_submit(call, next);
}

void noun_put(struct admin_call *call, struct record *record)
{
    refs_dispose(&call->refs);
    noun_refer(call, record, &call->refs);
    noun_submit(call, record, render_stored, admin_reply_acted);
}

void noun_create(struct admin_call *call, struct record *record)
{
    record->id = id_make();
    noun_put(call, record);
}

/* ---- change ---- */

/* If-Match: absent, "*", or a list of etags. */
static bool matches(const struct admin_call *call, int64_t version)
{
    char etag[32];
    struct slice rest, one;
    bool more = true;

    if (!front_call_header(call->front, "if-match", &rest, NULL))
        return true;
    (void)snprintf(etag, sizeof(etag), "\"%lld\"", (long long)version);
    while (more) {
        more = slice_cut(rest, ',', &one, &rest);
        one = slice_trim(one);
        if (slice_eq_str(one, "*") || slice_eq_str(one, etag))
            return true;
    }
    return false;
}

enum err_code noun_check_match(const struct admin_call *call, const struct record *record, struct err *err)
{
    if (!matches(call, record->version))
        return err_set(err, ERR_PRECONDITION_FAILED, "If-Match", "The %s has changed: its etag is now \"%lld\".",
                       call->rule->noun->word, (long long)record->version);
    return ERR_OK;
}

enum err_code noun_check_changeable(const struct admin_call *call, const struct record *record, struct err *err)
{
    enum err_code code = noun_check_match(call, record, err);

    if (code == ERR_OK && record->status == RECORD_REVOKED)
        code = err_set(err, ERR_CONFLICT, NULL, "The %s is revoked and cannot be changed.", call->rule->noun->word);
    return code;
}

static void read_back(struct admin_call *call)
{
    call->failed = NULL;
    noun_fetch(call, reply_fetched);
}

static void patch_fetched(struct admin_call *call, const struct record *record)
{
    const struct noun *noun = call->rule->noun;
    struct record *copy = NULL;
    struct err err;

    if (noun_check_changeable(call, record, &err) != ERR_OK)
        goto fail;
    copy = noun->copy(record);
    if (noun->change(call, &copy, &err) != ERR_OK)
        goto fail;
    noun_submit(call, copy, NULL, read_back);
    return;
fail:
    record_unref(copy);
    admin_fail(call, &err);
}

void noun_patch(struct admin_call *call)
{
    noun_fetch(call, patch_fetched);
}

/* ---- delete ---- */

static void reply_deleted(struct admin_call *call)
{
    enum record_kind kind = call->rule->noun->kind;
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_open(&out, NULL, '{');
    render_id(&out, "id", record_prefix(kind), call->id);
    render_text(&out, "object", slice_from(record_object(kind)));
    render_bool(&out, "deleted", true);
    render_close(&out, '}');
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

static void delete_fetched(struct admin_call *call, const struct record *record)
{
    struct record *copy;
    struct err err;

    if (noun_check_match(call, record, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    copy = call->rule->noun->copy(record);
    copy->status = RECORD_DELETED;
    noun_submit(call, copy, NULL, reply_deleted);
}

void noun_delete(struct admin_call *call)
{
    noun_fetch(call, delete_fetched);
}
