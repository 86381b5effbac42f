/* key_bulk.c - POST /keys/bulk: many keys in one call, all or none.
 *
 * Invariants
 *  (1) Each element is read by the table of POST /keys; the first fault names its place, "keys[17].expires_at", and
 *      nothing was made.
 *  (2) secrets[i] and refs[i] belong to records[i], in the order asked; they are set before the store gets the
 *      operation and not touched until it comes back.
 *  (3) Secrets are wiped when the call ends, whoever ends it.
 * The call's loop; `render_made` runs on the writer's thread while the call is pending. */
#include <stdlib.h>

#include "key.h"
#include "render.h"

struct key_bulk {
    int n;
    struct record *records[STORE_MANY]; /* the operation's while it is pending */
    struct refs refs[STORE_MANY];
    char secrets[STORE_MANY][SECRET_KEY_TEXT];
};

void key_bulk_destroy(struct key_bulk *bulk)
{
    if (bulk == NULL)
        return;
    for (int i = 0; i < bulk->n; i++) {
        record_unref(bulk->records[i]);
        refs_dispose(&bulk->refs[i]);
    }
    secret_wipe(bulk->secrets, sizeof(bulk->secrets));
    free(bulk);
}

/* ---- reading ---- */

/* A fault of one key becomes one of the call. */
static void name_place(int i, struct err *err)
{
    struct err inner = *err;
    char param[LIMIT_ERROR_PARAM + 32];

    (void)snprintf(param, sizeof(param), "keys[%d]%s%s", i, inner.param[0] != '\0' ? "." : "", inner.param);
    (void)err_set(err, inner.code, param, "keys[%d]: %s", i, inner.message);
}

/* The table reads call->body: each element stands there for its turn. */
static enum err_code read_key(struct admin_call *call, struct json_object *element, int i, struct err *err)
{
    struct key_bulk *bulk = call->bulk;
    struct json_object *whole = call->body;
    struct api_key *k;
    enum err_code code;
    char name[32];

    if (!json_object_is_type(element, json_type_object)) {
        (void)snprintf(name, sizeof(name), "keys[%d]", i);
        return body_wrong_type(name, "an object", element, err);
    }
    k = record_create(RECORD_KEY, 0);
    bulk->records[bulk->n++] = &k->super;
    call->body = element;
    code = key_read(call, k, err);
    call->body = whole;
    if (code != ERR_OK) {
        name_place(i, err);
        return code;
    }
    k->super.id = id_make();
    key_draw(call, k, bulk->secrets[i]);
    noun_refer(call, &k->super, &bulk->refs[i]);
    return ERR_OK;
}

/* Never for a null: the member is required. */
static enum err_code read_keys(struct admin_call *call, const char *name, struct json_object *value, void *target,
                               struct err *err)
{
    size_t n;
    enum err_code code = ERR_OK;

    (void)target;
    if (!json_object_is_type(value, json_type_array))
        return body_wrong_type(name, "an array of objects", value, err);
    n = json_object_array_length(value);
    if (n < 1 || n > STORE_MANY)
        return err_set(err, ERR_INVALID_VALUE, name,
                       "Invalid '%s': expected an array of 1 to %d keys, but got %zu instead.", name, STORE_MANY, n);
    call->bulk = mem_zalloc(sizeof(*call->bulk));
    for (size_t i = 0; i < n && code == ERR_OK; i++)
        code = read_key(call, json_object_array_get_idx(value, i), (int)i, err);
    return code;
}

static const struct body_field key_field = {.type = BODY_OBJECT, .members = &key_fields};
static const struct body_field fields[] = {
    {.name = "keys",
     .type = BODY_OWN,
     .flags = BODY_REQUIRED,
     .read = read_keys,
     .as = BODY_ARRAY,
     .min = 1,
     .max = STORE_MANY,
     .item = &key_field},
};
const struct body_table bulk_fields = BODY_TABLE(fields);

/* ---- making ---- */

static void render_made(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    const struct key_bulk *bulk = call->bulk;

    render_list_open(out);
    for (int i = 0; i < bulk->n; i++)
        noun_render_secret(&noun_key, bulk->records[i], &bulk->refs[i], bulk->secrets[i], out);
    render_list_close(out, false, NULL);
}

static bool refused(struct admin_call *call, const struct err *err)
{
    struct err copy = *err;

    if (call->op.put_many.failed >= 0)
        name_place(call->op.put_many.failed, &copy);
    admin_fail(call, &copy);
    return true;
}

void key_bulk_create(struct admin_call *call)
{
    struct store_put_many *many = &call->op.put_many;
    struct err err;

    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, NULL, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_PUT_MANY);
    many->n = call->bulk->n;
    many->records = call->bulk->records;
    many->failed = -1;
    call->failed = refused;
    admin_act(call, render_made);
    admin_submit(call, admin_reply_acted);
}
