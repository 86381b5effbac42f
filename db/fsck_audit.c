/* fsck_audit.c - the audit trail's chain, made again from its entries.
 *
 *   audit_chain 0 (seq = B)        entries up to B are from before the chain began, and have no hash
 *   entries B + 1, B + 2, ...      each with the hash of itself and all before it
 *   audit_chain 1 (seq, hash)      the newest of them
 *
 * After an entry that does not fit, the chain goes on from what that entry says: so a finding names the entry that was
 * changed, put in, or stands after one that was taken out. */
#include "chain.h"
#include "fsck_state.h"

struct trail {
    int64_t begin, seq; /* the last entry that is not in the chain; the one before */
    uint8_t hash[SECRET_DIGEST];
    struct audit_head end;
    int64_t checked;
    struct finding found;
};

static bool read_hash(sqlite3_stmt *s, int column, uint8_t out[SECRET_DIGEST])
{
    struct slice hash = sqlite_column_slice(s, column);

    if (hash.len != SECRET_DIGEST)
        return false;
    memcpy(out, hash.p, SECRET_DIGEST);
    return true;
}

static enum err_code read_ends(struct fsck *f, struct trail *t, struct err *err)
{
    static const uint8_t zeros[SECRET_DIGEST];
    uint8_t first[SECRET_DIGEST] = {1};
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(&f->conn, "SELECT place, seq, hash FROM audit_chain", &s, err);
    int rc, ends = 0;

    if (code != ERR_OK)
        return code;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        bool end = sqlite3_column_int64(s, 0) == 1;

        ends += read_hash(s, 2, end ? t->end.hash : first);
        *(end ? &t->end.seq : &t->begin) = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
    if (ends != 2 || memcmp(first, zeros, sizeof(zeros)) != 0)
        finding_add(&t->found, "it does not say where it begins and ends");
    t->seq = t->begin;
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(&f->conn, "Cannot read the audit trail", err);
}

static const char *text_at(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    return text != NULL ? text : "";
}

static void check_entry(struct trail *t, sqlite3_stmt *s)
{
    struct audit_entry e = {
        .head = {.seq = sqlite3_column_int64(s, 0)},
        .at = sqlite3_column_int64(s, 1),
        .token_row = sqlite3_column_int64(s, 2),
        .tenant_row = sqlite3_column_int64(s, 3),
        .action = text_at(s, 5),
        .object = text_at(s, 6),
        .peer = text_at(s, 7),
        .before = sqlite_column_slice(s, 8),
        .after = sqlite_column_slice(s, 9),
    };
    uint8_t stored[SECRET_DIGEST] = {0};
    bool chained = read_hash(s, 10, stored);

    t->checked++;
    if (e.head.seq <= t->begin) {
        if (chained)
            finding_add(&t->found, "entry %lld stands before its beginning", (long long)e.head.seq);
        return;
    }
    sqlite_column_id(s, 4, &e.request);
    if (e.head.seq != t->seq + 1)
        finding_add(&t->found, "entry %lld is missing", (long long)t->seq + 1);
    chain_audit(t->hash, &e);
    if (memcmp(t->hash, stored, SECRET_DIGEST) != 0)
        finding_add(&t->found, "entry %lld has another hash", (long long)e.head.seq);
    memcpy(t->hash, stored, SECRET_DIGEST);
    t->seq = e.head.seq;
}

static enum err_code walk_entries(struct fsck *f, struct trail *t, struct err *err)
{
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(&f->conn,
                                        "SELECT seq, at, token, coalesce(tenant, 0), request, action, object, peer,"
                                        " before_state, after_state, hash FROM audit ORDER BY seq",
                                        &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        check_entry(t, s);
        fsck_progress(f, t->seq, t->end.seq);
    }
    sqlite3_finalize(s);
    if (t->seq != t->end.seq || memcmp(t->hash, t->end.hash, SECRET_DIGEST) != 0)
        finding_add(&t->found, "it ends with entry %lld, not %lld, or with another hash", (long long)t->seq,
                    (long long)t->end.seq);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(&f->conn, "Cannot read the audit trail", err);
}

enum err_code fsck_audit(struct fsck *f, int begin, int end, struct err *err)
{
    struct trail t = {.begin = 0};
    enum err_code code;

    fsck_part(f, "the audit trail", begin, end);
    finding_init(&t.found);
    code = read_ends(f, &t, err);
    if (code == ERR_OK)
        code = walk_entries(f, &t, err);
    if (code == ERR_OK) {
        fsck_progress(f, 1, 1); /* even when it is empty */
        fsck_report(f, "the audit trail is a chain", &t.found, t.checked);
    }
    finding_dispose(&t.found);
    return code;
}
