/* errand.c - asks an admin listener what a command wants to know, page by page where it is a list, and shows it.
 *
 * A POST carries an Idempotency-Key: when no answer came it is told, so that the command can be repeated without doing
 * its work twice. One thread. */
#include "errand.h"

#include <string.h>
#include <unistd.h>

#include "commands.h"

enum {
    ROWS = 50,          /* of a list when --limit does not say otherwise */
    ROWS_MAX = 1000000, /* that --limit may ask for */
    PAGE = 100,         /* of one call */
    PATH = 64 * 1024,   /* bytes of a path with its query */
    TAIL_SECONDS = 1    /* between two looks of `records tail` */
};

/* ---- asking ---- */

static int tell_refusal(int status, struct json_object *answer)
{
    static const char *const details[] = {"code", "param", "request_id"};
    struct json_object *error, *value;
    const char *separator = " (";

    if (!json_find(answer, "error", &error) || !json_find(error, "message", &value)) {
        fprintf(stderr, "tallygate admin: the daemon answered with status %d\n", status);
        return ADMIN_REFUSED;
    }
    fprintf(stderr, "tallygate admin: %s", json_object_get_string(value));
    for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
        if (!json_find(error, details[i], &value))
            continue;
        fprintf(stderr, "%s%s %s", separator, details[i], json_object_get_string(value));
        separator = ", ";
    }
    fprintf(stderr, "%s\n", separator[0] == ',' ? ")" : "");
    return ADMIN_REFUSED;
}

static const char *accept_of(const struct errand *e)
{
    if (e->format == NULL)
        return NULL;
    if (strcmp(e->format, "csv") == 0)
        return "text/csv";
    return strcmp(e->format, "html") == 0 ? "text/html" : "application/x-ndjson";
}

static int tell_failure(const struct errand *e, const struct client_request *request, const struct err *err)
{
    fprintf(stderr, "tallygate admin: %s\n", err->message);
    if (err->code == ERR_UNAVAILABLE && request->idempotency_key != NULL)
        fprintf(
            stderr,
            "It may have been done all the same. The same command with --idempotency-key %s does it once at most.\n",
            e->key);
    return ADMIN_UNREACHED;
}

/* One call; *answer is the caller's, NULL when it was streamed. */
static int ask(struct errand *e, const struct buf *path, struct json_object **answer)
{
    bool post = strcmp(e->verb->method, "POST") == 0;
    struct client_request request = {.server = e->server,
                                     .method = e->verb->method,
                                     .path = path->p,
                                     .token = e->token,
                                     .idempotency_key = post ? e->key : NULL,
                                     .accept = accept_of(e),
                                     .stream = e->format != NULL ? stdout : NULL};
    struct buf reply;
    struct err err;
    int status = 0, code = COMMAND_DONE;

    *answer = NULL;
    if (e->body != NULL)
        request.body = slice_from(json_object_to_json_string_ext(e->body, JSON_C_TO_STRING_PLAIN));
    buf_init(&reply, CLIENT_REPLY);
    if (client_call(&request, &status, &reply, &err) != ERR_OK)
        code = tell_failure(e, &request, &err);
    else if (reply.len > 0 && json_read(buf_slice(&reply), answer, &err) != ERR_OK)
        code = tell_refusal(status, NULL);
    else if (status < 200 || status > 299)
        code = tell_refusal(status, *answer);
    if (reply.p != NULL)
        secret_wipe(reply.p, reply.len);
    buf_dispose(&reply);
    return code;
}

/* ---- showing ---- */

static void print_json(struct json_object *value)
{
    printf("%s\n", json_object_to_json_string_ext(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* A report's buckets as rows: each result with the time of its bucket. */
static struct json_object *flatten(struct json_object *buckets)
{
    struct json_object *rows = json_object_new_array(), *results, *begin;

    for (size_t i = 0; i < json_object_array_length(buckets); i++) {
        struct json_object *bucket = json_object_array_get_idx(buckets, i);

        if (!json_find(bucket, "results", &results) || !json_find(bucket, "start_time", &begin))
            continue;
        for (size_t r = 0; r < json_object_array_length(results); r++) {
            struct json_object *row = json_object_array_get_idx(results, r);

            (void)json_object_object_add(row, "start_time", json_object_get(begin));
            (void)json_object_array_add(rows, json_object_get(row));
        }
    }
    return rows;
}

/* After the time: what was grouped by, then the figures that people look at first. */
static void report_columns(struct columns *columns, struct json_object *rows)
{
    static const char *const names[] = {"tenant",  "customer", "key",    "model", "operation", "size",   "quality",
                                        "channel", "requests", "images", "cost",  "wholesale", "retail", "margin"};
    struct json_object *first = json_object_array_get_idx(rows, 0);

    for (size_t i = 0; first != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        if (json_object_object_get_ex(first, names[i], NULL))
            columns_add(columns, slice_from(names[i]));
    }
}

static void show_rows(const struct errand *e, struct json_object *rows)
{
    struct columns columns;
    struct json_object *flat = NULL;

    columns_init(&columns, e->verb->columns);
    if (strcmp(e->verb->noun, "usage") == 0) {
        flat = flatten(rows);
        report_columns(&columns, flat);
    }
    columns_print(&columns, flat != NULL ? flat : rows, true, stdout);
    json_object_put(flat);
}

static void show(const struct errand *e, struct json_object *answer)
{
    struct json_object *rows;

    if (e->json)
        print_json(answer);
    else if (e->verb->columns[0] != '\0' && json_find(answer, "data", &rows))
        show_rows(e, rows);
    else
        object_print(answer, stdout);
}

/* ---- lists ---- */

static void page_path(const struct errand *e, int64_t limit, const char *cursor, const char *after, struct buf *out)
{
    char number[24];

    buf_clear(out);
    buf_append_slice(out, buf_slice(&e->path));
    (void)snprintf(number, sizeof(number), "%lld", (long long)limit);
    if (limit > 0)
        client_add_query(out, "limit", number);
    if (after[0] != '\0')
        client_add_query(out, cursor, after);
    buf_append_char(out, '\0');
}

static void add_rows(struct json_object *all, struct json_object *page)
{
    for (size_t i = 0; i < json_object_array_length(page); i++)
        (void)json_object_array_add(all, json_object_get(json_object_array_get_idx(page, i)));
}

/* The cursor of the next page; empty: there is none. */
static void next_cursor(struct json_object *answer, const char *name, char out[VERB_CELL])
{
    struct json_object *next;

    out[0] = '\0';
    if (json_find(answer, name, &next))
        (void)slice_copy(slice_from(json_object_get_string(next)), out, VERB_CELL);
}

/* Page after page, until there are <limit> rows or no more. The answer shown is one list of all of them. A report's
 * pages are of buckets, as many as the daemon gives. */
static int run_list(struct errand *e, int64_t limit)
{
    bool report = strcmp(e->verb->noun, "usage") == 0;
    struct json_object *all = json_object_new_array(), *answer, *page, *whole;
    char cursor[VERB_CELL] = "";
    struct buf path;
    int code;

    buf_init(&path, PATH);
    do {
        int64_t want = limit - (int64_t)json_object_array_length(all);

        page_path(e, report ? 0 : want > PAGE ? PAGE : want, report ? "page" : "after", cursor, &path);
        code = ask(e, &path, &answer);
        cursor[0] = '\0';
        if (code == COMMAND_DONE && json_find(answer, "data", &page))
            add_rows(all, page);
        if (code == COMMAND_DONE)
            next_cursor(answer, report ? "next_page" : "next", cursor);
        json_object_put(answer);
    } while (code == COMMAND_DONE && cursor[0] != '\0' && (int64_t)json_object_array_length(all) < limit);
    buf_dispose(&path);
    whole = json_object_new_object();
    (void)json_object_object_add(whole, "object", json_object_new_string(report ? "page" : "list"));
    (void)json_object_object_add(whole, "data", all);
    (void)json_object_object_add(whole, "has_more", json_object_new_boolean(cursor[0] != '\0'));
    if (code == COMMAND_DONE)
        show(e, whole);
    json_object_put(whole);
    return code;
}

/* ---- records as they come ---- */

struct tail {
    struct columns columns;
    char last[VERB_CELL]; /* id of the newest record that was shown */
    bool began;
};

static const char *id_of(struct json_object *row)
{
    struct json_object *id;

    return json_find(row, "id", &id) ? json_object_get_string(id) : "";
}

/* The rows newer than the last one, oldest first; true: the last one was among them, or the rows end. */
static bool gather(struct tail *t, struct json_object *page, struct json_object *fresh)
{
    for (size_t i = 0; i < json_object_array_length(page); i++) {
        struct json_object *row = json_object_array_get_idx(page, i);

        if (strcmp(id_of(row), t->last) <= 0) /* ids sort by time */
            return true;
        (void)json_object_array_add(fresh, json_object_get(row));
    }
    return false;
}

static void show_fresh(const struct errand *e, struct tail *t, struct json_object *fresh)
{
    size_t n = json_object_array_length(fresh);
    struct json_object *ordered = json_object_new_array();

    for (size_t i = n; i > 0; i--)
        (void)json_object_array_add(ordered, json_object_get(json_object_array_get_idx(fresh, i - 1)));
    for (size_t i = 0; e->json && i < n; i++)
        printf("%s\n", json_object_to_json_string_ext(json_object_array_get_idx(ordered, i),
                                                      JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    if (!e->json && (n > 0 || !t->began))
        columns_print(&t->columns, ordered, !t->began, stdout);
    if (n > 0)
        (void)slice_copy(slice_from(id_of(json_object_array_get_idx(fresh, 0))), t->last, sizeof(t->last));
    t->began = true;
    json_object_put(ordered);
}

/* One look: pages back to the last record that was shown; the first look shows the newest ten or --limit. */
static int look(struct errand *e, struct tail *t, int64_t first, struct buf *path)
{
    struct json_object *fresh = json_object_new_array(), *answer, *page;
    char cursor[VERB_CELL] = "";
    bool met = false;
    int code;

    do {
        page_path(e, t->began ? PAGE : first, "after", cursor, path);
        code = ask(e, path, &answer);
        cursor[0] = '\0';
        if (code == COMMAND_DONE && json_find(answer, "data", &page))
            met = gather(t, page, fresh);
        if (code == COMMAND_DONE && t->began && t->last[0] != '\0')
            next_cursor(answer, "next", cursor);
        json_object_put(answer);
    } while (code == COMMAND_DONE && !met && cursor[0] != '\0');
    if (code == COMMAND_DONE)
        show_fresh(e, t, fresh);
    json_object_put(fresh);
    return code;
}

static int run_tail(struct errand *e, int64_t first)
{
    struct tail t = {.began = false};
    struct buf path;
    int code;

    columns_init(&t.columns, e->verb->columns);
    buf_init(&path, PATH);
    while ((code = look(e, &t, first, &path)) == COMMAND_DONE && fflush(stdout) == 0)
        (void)sleep(TAIL_SECONDS);
    buf_dispose(&path);
    return code;
}

/* ---- the whole ---- */

static int run_single(struct errand *e)
{
    struct json_object *answer;
    int code;

    buf_append_char(&e->path, '\0');
    code = ask(e, &e->path, &answer);
    if (code == COMMAND_DONE && answer != NULL)
        show(e, answer);
    json_object_put(answer);
    return code;
}

int errand_run(struct errand *e)
{
    bool tail = strcmp(e->verb->verb, "tail") == 0;
    int64_t limit = tail ? 10 : ROWS;

    if (e->common[COMMON_LIMIT] != NULL &&
        (!errand_number(e->common[COMMON_LIMIT], &limit) || limit < 1 || limit > (tail ? PAGE : ROWS_MAX)))
        return errand_misuse(e, "no number of rows:", e->common[COMMON_LIMIT]);
    if (e->common[COMMON_KEY] != NULL)
        (void)slice_copy(slice_from(e->common[COMMON_KEY]), e->key, sizeof(e->key));
    if (e->key[0] == '\0')
        (void)id_format("cli", id_make(), e->key);
    if (tail)
        return run_tail(e, limit);
    return e->verb->columns[0] != '\0' && e->format == NULL ? run_list(e, limit) : run_single(e);
}
