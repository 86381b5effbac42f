/* noun_list.c - lists of nouns: their filters, their cursor, a page of them.
 *
 * A filter that names what is not there, or not the token's to see, is a 404 naming the filter: an empty list would
 * hide a typing error. The cursor is the last id of a page, and ids only grow: so what is made or deleted meanwhile
 * moves nothing, and the cursor's own object may be gone. The call's loop; no state. */
#include "body.h"
#include "page.h"
#include "render.h"

enum { CHOICE_TEXT = 64 };

/* What the query says, before it is understood. */
struct filters {
    char tenant[ID_TEXT * 2], customer[ID_TEXT * 2];
    char status[CHOICE_TEXT], mode[CHOICE_TEXT];
};

/* ---- the answer ---- */

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

        noun_refer_item(call, i, &refs);
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

/* The token's own tenant has come: whether the filters mean it. */
static void reply_own_tenant(struct admin_call *call)
{
    struct store_list *list = &call->op.list;
    const struct record *tenant = list->n == 1 ? list->items[0] : NULL;
    bool wanted = tenant != NULL &&
                  (list->external_id[0] == '\0' || strcmp(list->external_id, tenant->external_id) == 0) &&
                  (list->status == 0 || list->status == 1 + (int)tenant->status);

    if (tenant != NULL && !wanted) {
        record_unref(list->items[0]);
        list->n = 0;
    }
    reply_list(call);
}

/* A tenant's token sees one tenant: its own, when the cursor is not past it. */
static void list_own_tenant(struct admin_call *call, const struct page *page)
{
    struct id own = call->who.tenant;

    if (!id_is_zero(page->after) && memcmp(&own, &page->after, sizeof(own)) >= 0) {
        reply_list(call);
        return;
    }
    call->op.list.super.question = STORE_GET;
    call->op.list.id = own;
    admin_submit(call, reply_own_tenant);
}

/* ---- filters ---- */

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

/* Stands after the tenant's: a customer must be that tenant's. */
static enum err_code filter_customer(struct admin_call *call, const char *text, struct store_list *list,
                                     struct err *err)
{
    struct id id;
    const struct customer *customer = NULL;

    if (text[0] == '\0')
        return ERR_OK;
    if (id_parse("cus", slice_from(text), &id))
        customer = catalog_by_id(call->catalog, RECORD_CUSTOMER, id);
    if (customer == NULL || (list->tenant_row != 0 && customer->tenant_row != list->tenant_row))
        return admin_no_such(err, "customer", "customer", slice_from(text));
    list->customer_row = customer->super.row;
    return ERR_OK;
}

/* 1 + the choice's value; 0 when the query does not name one. */
static enum err_code filter_choice(const char *name, const char *text, const struct body_choice *choices, int *out,
                                   struct err *err)
{
    const struct body_field field = {.name = name, .choices = choices};
    struct json_object *value;
    int chosen = 0;
    enum err_code code;

    *out = 0;
    if (text[0] == '\0')
        return ERR_OK;
    value = json_object_new_string(text);
    TG_ASSERT(value != NULL);
    code = body_choose(&field, value, &chosen, err);
    json_object_put(value);
    *out = code == ERR_OK ? 1 + chosen : 0;
    return code;
}

static bool is_base62(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* What is visible of a key, or the begin of it. */
static enum err_code check_visible(const struct store_list *list, struct err *err)
{
    static const char head[] = "sk-tg-";

    if (list->prefix[0] != '\0') {
        bool good = strncmp(list->prefix, head, sizeof(head) - 1) == 0;

        for (const char *p = list->prefix; good && *p != '\0'; p++)
            good = is_base62(*p) || *p == '-';
        if (!good)
            return err_set(err, ERR_INVALID_VALUE, "prefix",
                           "Invalid value for 'prefix': expected what a key begins with, such as 'sk-tg-a1'.");
    }
    if (list->last4[0] == '\0')
        return ERR_OK;
    for (int i = 0; i < 4; i++) {
        if (!is_base62(list->last4[i]))
            return err_set(err, ERR_INVALID_VALUE, "last4",
                           "Invalid value for 'last4': expected the last four characters of a key.");
    }
    return ERR_OK;
}

static enum err_code apply_filters(struct admin_call *call, const struct filters *f, struct store_list *list,
                                   struct err *err)
{
    static const struct body_choice modes[] = {{"live", 0}, {"test", 1}, {NULL, 0}};
    enum err_code code = noun_filter_tenant(call, f->tenant, &list->tenant_row, err);

    if (code == ERR_OK)
        code = filter_customer(call, f->customer, list, err);
    if (code == ERR_OK)
        code = filter_choice("status", f->status, call->rule->noun->statuses, &list->status, err);
    if (code == ERR_OK)
        code = filter_choice("mode", f->mode, modes, &list->mode, err);
    return code == ERR_OK ? check_visible(list, err) : code;
}

/* The filters that the noun has, into <fields>; returns how many. */
static size_t name_filters(const struct noun *noun, struct filters *f, struct store_list *list,
                           struct page_field fields[PAGE_FIELDS])
{
    size_t n = 0;

    if (noun->has_external_id)
        fields[n++] = (struct page_field){"external_id", list->external_id, sizeof(list->external_id)};
    if (noun->has_tenant)
        fields[n++] = (struct page_field){"tenant", f->tenant, sizeof(f->tenant)};
    if (noun->statuses != NULL)
        fields[n++] = (struct page_field){"status", f->status, sizeof(f->status)};
    if (noun->kind != RECORD_KEY)
        return n;
    fields[n++] = (struct page_field){"customer", f->customer, sizeof(f->customer)};
    fields[n++] = (struct page_field){"mode", f->mode, sizeof(f->mode)};
    fields[n++] = (struct page_field){"prefix", list->prefix, sizeof(list->prefix)};
    fields[n++] = (struct page_field){"last4", list->last4, sizeof(list->last4)};
    return n;
}

void noun_list(struct admin_call *call)
{
    const struct noun *noun = call->rule->noun;
    struct store_list *list = &call->op.list;
    struct page_field fields[PAGE_FIELDS];
    struct filters filters = {{0}, {0}, {0}, {0}};
    struct page page;
    struct err err;
    size_t n;

    admin_begin(call, OP_LIST);
    n = name_filters(noun, &filters, list, fields);
    if (page_read(front_call_query(call->front), record_prefix(noun->kind), fields, n, &page, &err) != ERR_OK ||
        apply_filters(call, &filters, list, &err) != ERR_OK) {
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
