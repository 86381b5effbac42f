/* noun.c - what every noun does alike: get, list, create, change, delete.
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

static void refer(struct admin_call *call, const struct record *record, struct refs *refs)
{
    *refs = (struct refs){0};
    if (call->rule->noun->refer != NULL)
        call->rule->noun->refer(call->catalog, record, refs);
}

/* The answer's references for one record of a list that the store brought. */
static void refer_item(struct admin_call *call, const struct store_list *list, int i, struct refs *refs)
{
    refer(call, list->items[i], refs);
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

    if (list->n != 1 || !noun_sees(&call->who, call->rule->noun, list->items[0]))
        admin_fail_no_such(call);
    else
        call->fetched(call, list->items[0]);
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
    refer_item(call, &call->op.list, 0, &refs);
    call->rule->noun->render(record, &refs, &out);
    refs_dispose(&refs);
    admin_reply(call, 200, &out, version);
    buf_dispose(&out);
}

void noun_get(struct admin_call *call)
{
    noun_fetch(call, reply_fetched);
}

/* ---- list ---- */

static void reply_list(struct admin_call *call)
{
    const struct noun *noun = call->rule->noun;
    const struct store_list *list = &call->op.list;
    noun_render *render = noun->summary != NULL ? noun->summary : noun->render;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < list->n; i++) {
        struct refs refs;

        refer_item(call, list, i, &refs);
        if (noun_sees(&call->who, noun, list->items[i]))
            render(list->items[i], &refs, &out);
        refs_dispose(&refs);
    }
    if (list->n > 0)
        id_format(record_prefix(noun->kind), list->items[list->n - 1]->id, next);
    render_list_close(&out, list->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

/* A tenant's token sees one tenant: its own, when the cursor is not past it. */
static void list_own_tenant(struct admin_call *call, const struct page *page)
{
    struct buf out;

    if (id_is_zero(page->after)) {
        call->op.list.super.question = STORE_GET;
        call->op.list.id = call->who.tenant;
        admin_submit(call, reply_list);
        return;
    }
    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    render_list_close(&out, false, NULL);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

enum err_code noun_filter_tenant(struct admin_call *call, const char *text, int64_t *row, struct err *err)
{
    struct id id;
    const struct record *tenant = NULL;

    *row = call->who.tenant_row;
    if (text[0] == '\0')
        return ERR_OK;
    if (id_parse("ten", slice_from(text), &id))
        tenant = catalog_by_id(call->catalog, RECORD_TENANT, id);
    if (tenant == NULL || !noun_sees(&call->who, &noun_tenant, tenant))
        return admin_no_such(err, "tenant", "tenant", slice_from(text));
    *row = tenant->row;
    return ERR_OK;
}

void noun_list(struct admin_call *call)
{
    const struct noun *noun = call->rule->noun;
    struct store_list *list = &call->op.list;
    char tenant[ID_TEXT * 2] = "";
    struct page_field fields[2];
    struct page page;
    struct err err;
    size_t n = 0;

    admin_begin(call, OP_LIST);
    if (noun->has_external_id)
        fields[n++] = (struct page_field){"external_id", list->external_id, sizeof(list->external_id)};
    if (noun->has_tenant)
        fields[n++] = (struct page_field){"tenant", tenant, sizeof(tenant)};
    if (page_read(front_call_query(call->front), record_prefix(noun->kind), fields, n, &page, &err) != ERR_OK ||
        noun_filter_tenant(call, tenant, &list->tenant_row, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    list->kind = noun->kind;
    list->id = page.after;
    list->limit = page.limit;
    if (noun->kind == RECORD_TENANT && call->who.tenant_row != 0)
        list_own_tenant(call, &page);
    else
        admin_submit(call, reply_list);
}

/* ---- put ---- */

static void render_stored(struct store_op *op, struct buf *out)
{
    struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    const struct record *record = call->op.put.record;

    call->rule->noun->render(record, &call->refs, out);
    if (call->secret[0] != '\0' && !out->full) {
        out->len--; /* the closing brace */
        render_text(out, "secret", slice_from(call->secret));
        render_close(out, '}');
    }
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
    refer(call, record, &call->refs);
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

static enum err_code check_changeable(const struct admin_call *call, const struct record *record, struct err *err)
{
    if (!matches(call, record->version))
        return err_set(err, ERR_PRECONDITION_FAILED, "If-Match", "The %s has changed: its etag is now \"%lld\".",
                       call->rule->noun->word, (long long)record->version);
    return ERR_OK;
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

    if (check_changeable(call, record, &err) != ERR_OK)
        goto fail;
    if (record->status == RECORD_REVOKED) {
        (void)err_set(&err, ERR_CONFLICT, NULL, "The %s is revoked and cannot be changed.", noun->word);
        goto fail;
    }
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

    if (check_changeable(call, record, &err) != ERR_OK) {
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
