/* audit.c - who changed what: an entry for every change that somebody answers for, in the transaction of the change
 * itself.
 *
 * Invariants
 *  (1) A change by an actor leaves one entry for each thing it changed; a refused or repeated operation leaves none.
 *  (2) Entries are numbered without gaps, and each holds the hash of itself and all before it (chain.h); s->audit is
 *      the newest one, which the engine knows too: so what is changed, taken out or cut off is found.
 *  (3) No secret and no digest is in it: descriptions are what the API shows.
 * The writer's thread (store_open's before it starts). */
#include "chain.h"
#include "store_state.h"

#include "daemon/base/money.h"

enum { AUDIT_TEXT = 128 * 1024 }; /* bytes of a description; a longer one is left out */

/* ---- what it is about ---- */

/* What an entry says beside who did it. */
struct subject {
    int64_t tenant_row; /* 0: the platform's alone */
    char object[ID_TEXT];
};

static void name_record(const struct record *record, struct subject *out)
{
    (void)id_format(record_prefix(record->kind), record->id, out->object);
    switch (record->kind) {
    case RECORD_TENANT:
        out->tenant_row = record->row;
        break;
    case RECORD_CUSTOMER:
        out->tenant_row = ((const struct customer *)record)->tenant_row;
        break;
    case RECORD_KEY:
        out->tenant_row = ((const struct api_key *)record)->tenant_row;
        break;
    case RECORD_BOOK:
        out->tenant_row = ((const struct book *)record)->tenant_row;
        break;
    case RECORD_ADMIN_TOKEN:
        out->tenant_row = ((const struct admin_token *)record)->tenant_row;
        break;
    case RECORD_CHANNEL:
    case RECORD_KINDS:
        break;
    }
}

static void name_wallet(const struct store *s, const struct store_credit *credit, struct subject *out)
{
    bool customer = credit->customer_row != 0;
    const struct record *owner = directory_get(&s->directory, customer ? RECORD_CUSTOMER : RECORD_TENANT,
                                               customer ? credit->customer_row : credit->tenant_row);

    if (owner != NULL)
        name_record(owner, out);
}

static void name_subject(const struct store *s, const struct store_op *op, struct subject *out)
{
    switch (op->kind) {
    case STORE_PUT:
        name_record(((const struct store_put *)op)->record, out);
        break;
    case STORE_CREDIT:
        name_wallet(s, (const struct store_credit *)op, out);
        break;
    case STORE_HOLD:
        (void)id_format("hld", ((const struct store_hold *)op)->id, out->object);
        break;
    case STORE_CAPTURE:
        (void)id_format("hld", ((const struct store_capture *)op)->hold, out->object);
        break;
    case STORE_VOID:
        (void)id_format("hld", ((const struct store_void *)op)->hold, out->object);
        break;
    case STORE_DOUBT:
        (void)id_format("hld", ((const struct store_doubt *)op)->hold, out->object);
        break;
    case STORE_RESOLVE:
        (void)id_format("hld", ((const struct store_resolve *)op)->hold, out->object);
        break;
    case STORE_WITHDRAW: {
        const struct store_grant *grant = &((const struct store_withdraw *)op)->grant;
        (void)id_format("grt", id_from_seq(grant->created_at, grant->seq), out->object);
        out->tenant_row = grant->tenant_row;
        break;
    }
    case STORE_REFUND: {
        const struct usage_record *usage = &((const struct store_refund *)op)->usage;
        (void)id_format("use", id_from_seq(usage->created_at, usage->seq), out->object);
        out->tenant_row = usage->call.tenant_row;
        break;
    }
    case STORE_PUT_MANY: /* named one by one */
    case STORE_TOUCH:
    case STORE_STANDING:
    case STORE_PRUNE:
    case STORE_KEEP:
    case STORE_KINDS:
        break;
    }
}

int64_t audit_tenant_before(const struct store *s, const struct store_op *op)
{
    switch (op->kind) {
    case STORE_CAPTURE:
        return ledger_hold_tenant(s->ledger, ((const struct store_capture *)op)->hold);
    case STORE_VOID:
        return ledger_hold_tenant(s->ledger, ((const struct store_void *)op)->hold);
    case STORE_DOUBT:
        return ledger_hold_tenant(s->ledger, ((const struct store_doubt *)op)->hold);
    case STORE_RESOLVE:
        return ledger_hold_tenant(s->ledger, ((const struct store_resolve *)op)->hold);
    case STORE_HOLD:
        return ((const struct store_hold *)op)->call.tenant_row;
    default:
        return 0;
    }
}

/* ---- what it says ---- */

static void describe_credit(const struct store_credit *credit, struct buf *out)
{
    char grant[ID_TEXT], amount[MONEY_TEXT];

    buf_printf(out, "{\"grant\":\"%s\",\"amount\":\"%s\",\"category\":\"%s\",\"note\":",
               id_format("grt", credit->grant, grant), money_format_nano(credit->amount, amount),
               credit->category == CREDIT_PROMOTIONAL ? "promotional" : "paid");
    buf_append_json_string(out, slice_from(credit->note));
    buf_append_str(out, "}");
}

static void describe_capture(const struct store_capture *capture, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out, "{\"charged\":\"%s\"}", money_format_nano(capture->charged, amount));
}

static void describe_resolve(const struct store_resolve *resolve, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out, "{\"action\":\"%s\",\"charged\":\"%s\"}", resolve->capture ? "capture" : "void",
               money_format_nano(resolve->charged, amount));
}

static void describe_withdraw(const struct store_withdraw *withdraw, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out,
               "{\"status\":\"voided\",\"amount\":\"%s\",\"note\":", money_format_nano(withdraw->grant.amount, amount));
    buf_append_json_string(out, slice_from(withdraw->note));
    buf_append_str(out, "}");
}

static void describe_refund(const struct store_refund *refund, struct buf *out)
{
    char amount[MONEY_TEXT], total[MONEY_TEXT];

    buf_printf(out, "{\"amount\":\"%s\",\"refunded\":\"%s\",\"reason\":", money_format_nano(refund->refunded, amount),
               money_format_nano(refund->usage.refunded, total));
    buf_append_json_string(out, slice_from(refund->reason));
    buf_append_str(out, "}");
}

/* What the operation left, where it is no record. */
static void describe_money(const struct store_op *op, struct buf *out)
{
    switch (op->kind) {
    case STORE_CREDIT:
        describe_credit((const struct store_credit *)op, out);
        break;
    case STORE_CAPTURE:
        describe_capture((const struct store_capture *)op, out);
        break;
    case STORE_RESOLVE:
        describe_resolve((const struct store_resolve *)op, out);
        break;
    case STORE_WITHDRAW:
        describe_withdraw((const struct store_withdraw *)op, out);
        break;
    case STORE_REFUND:
        describe_refund((const struct store_refund *)op, out);
        break;
    case STORE_HOLD:
    case STORE_VOID:
    case STORE_DOUBT:
    case STORE_PUT:
    case STORE_PUT_MANY:
    case STORE_TOUCH:
    case STORE_STANDING:
    case STORE_PRUNE:
    case STORE_KEEP:
    case STORE_KINDS:
        break;
    }
}

static struct id name_row(const void *ctx, enum record_kind kind, int64_t row)
{
    const struct store *s = ctx;
    const struct record *record = directory_get(&s->directory, kind, row);

    return record != NULL ? record->id : (struct id){{0}};
}

static void describe_record(const struct store *s, const struct store_actor *actor, const struct record *record,
                            struct buf *out)
{
    const struct store_names names = {name_row, s};

    if (record != NULL && actor->describe != NULL)
        actor->describe(record, &names, out);
}

/* ---- writing ---- */

static struct slice text_of(const struct buf *text)
{
    return text->full ? SLICE("{\"too_long\":true}") : buf_slice(text);
}

static enum err_code write_entry(struct store *s, struct store_op *op, const struct subject *subject,
                                 const struct buf *before, const struct buf *after)
{
    const struct store_actor *actor = op->actor;
    struct audit_entry entry = {
        .head = {.seq = s->audit.seq + 1},
        .at = ledger_now(s->ledger),
        .token_row = actor->token_row,
        .tenant_row = subject->tenant_row,
        .request = actor->request,
        .action = actor->action != NULL ? actor->action : "",
        .object = subject->object,
        .peer = actor->peer != NULL ? actor->peer : "",
        .before = text_of(before),
        .after = text_of(after),
    };

    memcpy(entry.head.hash, s->audit.hash, SECRET_DIGEST);
    chain_audit(entry.head.hash, &entry);
    s->audit = entry.head;
    return s->engine->class->put_audit(s->engine, &entry, &op->err);
}

/* An operation that is about one thing. */
static enum err_code write_one(struct store *s, struct store_op *op, const struct record *before, int64_t tenant)
{
    struct subject subject = {.tenant_row = tenant};
    struct buf old_text, new_text;
    enum err_code code;

    buf_init(&old_text, AUDIT_TEXT);
    buf_init(&new_text, AUDIT_TEXT);
    describe_money(op, &new_text);
    if (op->kind == STORE_PUT)
        describe_record(s, op->actor, ((const struct store_put *)op)->record, &new_text);
    describe_record(s, op->actor, before, &old_text);
    name_subject(s, op, &subject);
    code = write_entry(s, op, &subject, &old_text, &new_text);
    buf_dispose(&old_text);
    buf_dispose(&new_text);
    return code;
}

static enum err_code write_many(struct store *s, struct store_put_many *op)
{
    struct buf none, text;
    enum err_code code = ERR_OK;

    buf_init(&none, AUDIT_TEXT);
    buf_init(&text, AUDIT_TEXT);
    for (int i = 0; code == ERR_OK && i < op->n; i++) {
        struct subject subject = {.tenant_row = 0};

        buf_clear(&text);
        describe_record(s, op->super.actor, op->records[i], &text);
        name_record(op->records[i], &subject);
        code = write_entry(s, &op->super, &subject, &none, &text);
    }
    buf_dispose(&none);
    buf_dispose(&text);
    return code;
}

enum err_code audit_write(struct store *s, struct store_op *op, const struct record *before, int64_t tenant)
{
    enum err_code code =
        op->kind == STORE_PUT_MANY ? write_many(s, (struct store_put_many *)op) : write_one(s, op, before, tenant);

    return code == ERR_OK ? s->engine->class->put_audit_head(s->engine, &s->audit, &op->err) : code;
}

enum err_code audit_load(struct store *s, struct err *err)
{
    return s->engine->class->get_audit_head(s->engine, &s->audit, err);
}
