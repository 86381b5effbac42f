/* record.c - usage records as the API shows them: JSON objects and CSV lines, from one table of columns. A tenant's
 * token sees neither cost nor channel, and its margin is retail - wholesale. No state but two constant tables, put
 * together once; any thread. */
#include <pthread.h>

#include "sheet.h"
#include "house.h"

enum audience { FOR_ALL = 0, FOR_PLATFORM = 1, FOR_TENANT = 2, JSON_ONLY = 4 };
enum { FLAGS_ROOM = 128, ATTEMPTS_ROOM = 256 };

/* ---- columns that are no plain members ---- */

static char *put_id(const void *row, bool csv, char *p)
{
    const struct usage_record *u = row;

    if (!csv)
        *p++ = '"';
    p = pen_id(p, "use", id_from_seq(u->created_at, u->seq));
    if (!csv)
        *p++ = '"';
    return p;
}

static char *put_operation(const void *row, bool csv, char *p)
{
    const struct usage_record *u = row;

    return sheet_own_text(slice_from(price_operation_name(u->call.operation)), csv, p);
}

/* All are charges, never negative: no difference of theirs overflows. */
static char *put_platform_margin(const void *row, bool csv, char *p)
{
    const struct usage_record *u = row;

    return sheet_own_nano(u->wholesale - u->cost, csv, p);
}

static char *put_tenant_margin(const void *row, bool csv, char *p)
{
    const struct usage_record *u = row;

    return sheet_own_nano(u->retail - u->wholesale, csv, p);
}

_Static_assert(USAGE_ESTIMATED == 1u << 0 && USAGE_UNTRUSTED == 1u << 1 && USAGE_FEWER_IMAGES == 1u << 2 &&
                   USAGE_IN_DOUBT == 1u << 3 && USAGE_CLIENT_GONE == 1u << 4 && USAGE_OVERAGE == 1u << 5 &&
                   USAGE_TEST == 1u << 6,
               "the flags' names stand in the order of their bits");

static char *put_flags(const void *row, bool csv, char *p)
{
    static const char *const names[] = {"estimated",   "untrusted_usage", "fewer_images", "in_doubt",
                                        "client_gone", "overage",         "test"};
    unsigned flags = ((const struct usage_record *)row)->flags;
    bool first = true;

    if (!csv)
        *p++ = '[';
    for (size_t i = 0; flags != 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        struct slice name = slice_from(names[i]);

        if ((flags & 1u << i) == 0)
            continue;
        if (!first)
            *p++ = csv ? ' ' : ',';
        first = false;
        p = csv ? pen_bytes(p, name.p, name.len) : pen_json(p, name);
    }
    if (!csv)
        *p++ = ']';
    return p;
}

static char *put_attempt(const struct usage_record *u, bool platform, char *p)
{
    p = PEN(p, "[{");
    if (platform && id_is_zero(u->channel_id)) {
        p = PEN(p, "\"channel\":null,");
    } else if (platform) {
        p = PEN(p, "\"channel\":\"");
        p = pen_id(p, "chn", u->channel_id);
        p = PEN(p, "\",");
    }
    p = PEN(p, "\"status\":");
    p = u->status != 0 ? pen_int(p, u->status) : PEN(p, "null");
    p = (u->flags & USAGE_IN_DOUBT) != 0 ? PEN(p, ",\"outcome\":\"in_doubt\",\"duration_ms\":")
                                         : PEN(p, ",\"outcome\":\"delivered\",\"duration_ms\":");
    p = pen_int(p, u->upstream_ms);
    return PEN(p, "}]");
}

static char *put_platform_attempts(const void *row, bool csv, char *p)
{
    (void)csv;
    return put_attempt(row, true, p);
}

static char *put_tenant_attempts(const void *row, bool csv, char *p)
{
    (void)csv;
    return put_attempt(row, false, p);
}

/* ---- the table ---- */

#define AT(member) offsetof(struct usage_record, member)
#define TEXT(name, member, room)                                                                                       \
    {                                                                                                                  \
        name, SHEET_TEXT, FOR_ALL, AT(member), NULL, room, NULL                                                        \
    }
#define ID(name, prefix, member, audience)                                                                             \
    {                                                                                                                  \
        name, SHEET_ID, audience, AT(member), prefix, 0, NULL                                                          \
    }
#define PLAIN(name, kind, member, audience)                                                                            \
    {                                                                                                                  \
        name, kind, audience, AT(member), NULL, 0, NULL                                                                \
    }
#define OWN(name, own, room, audience)                                                                                 \
    {                                                                                                                  \
        name, SHEET_OWN, audience, 0, NULL, room, own                                                                  \
    }
#define TOKENS(name, unit)                                                                                             \
    {                                                                                                                  \
        name, SHEET_LONG, FOR_ALL, AT(quantities.of[unit]), NULL, 0, NULL                                              \
    }

static const struct sheet_column columns[] = {
    OWN("id", put_id, PEN_NUMBER, FOR_ALL),
    {"object", SHEET_CONSTANT, FOR_ALL, 0, "usage_record", 0, NULL},
    PLAIN("created_at", SHEET_TIME, created_at, FOR_ALL),
    ID("request_id", "req", request, FOR_ALL),
    TEXT("upstream_request_id", upstream_request_id, LIMIT_UPSTREAM_ID),
    ID("tenant", "ten", tenant_id, FOR_ALL),
    ID("customer", "cus", customer_id, FOR_ALL),
    ID("key", "key", key_id, FOR_ALL),
    ID("channel", "chn", channel_id, FOR_PLATFORM),
    TEXT("model", call.model, LIMIT_MODEL),
    OWN("operation", put_operation, PEN_NUMBER, FOR_ALL),
    TEXT("size", call.size, LIMIT_SIZE),
    TEXT("quality", call.quality, LIMIT_QUALITY),
    PLAIN("stream", SHEET_BOOL, call.stream, FOR_ALL),
    PLAIN("n", SHEET_INT, call.n, FOR_ALL),
    PLAIN("images", SHEET_INT, images, FOR_ALL),
    PLAIN("partial_images", SHEET_INT, partial_images, FOR_ALL),
    TOKENS("text_input_tokens", PRICE_TEXT_INPUT),
    TOKENS("cached_text_input_tokens", PRICE_CACHED_TEXT_INPUT),
    TOKENS("image_input_tokens", PRICE_IMAGE_INPUT),
    TOKENS("cached_image_input_tokens", PRICE_CACHED_IMAGE_INPUT),
    TOKENS("image_output_tokens", PRICE_IMAGE_OUTPUT),
    TOKENS("text_output_tokens", PRICE_TEXT_OUTPUT),
    PLAIN("cost", SHEET_NANO, cost, FOR_PLATFORM),
    PLAIN("wholesale", SHEET_NANO, wholesale, FOR_ALL),
    PLAIN("retail", SHEET_NANO, retail, FOR_ALL),
    OWN("margin", put_platform_margin, PEN_NUMBER, FOR_PLATFORM),
    OWN("margin", put_tenant_margin, PEN_NUMBER, FOR_TENANT),
    PLAIN("refunded", SHEET_NANO, refunded, FOR_ALL),
    OWN("flags", put_flags, FLAGS_ROOM, FOR_ALL),
    OWN("attempts", put_platform_attempts, ATTEMPTS_ROOM, FOR_PLATFORM | JSON_ONLY),
    OWN("attempts", put_tenant_attempts, ATTEMPTS_ROOM, FOR_TENANT | JSON_ONLY),
    PLAIN("duration_ms", SHEET_LONG, duration_ms, FOR_ALL),
};

/* By [platform][csv]. */
static struct sheet sheets[2][2];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_sheet(struct sheet *sheet, bool platform, bool csv)
{
    unsigned other = platform ? FOR_TENANT : FOR_PLATFORM;

    sheet_init(sheet);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        if ((columns[i].flags & other) == 0 && (!csv || (columns[i].flags & JSON_ONLY) == 0))
            sheet_add(sheet, &columns[i]);
    }
}

static void make_sheets(void)
{
    for (int i = 0; i < 4; i++)
        make_sheet(&sheets[i / 2][i % 2], i / 2 != 0, i % 2 != 0);
}

static const struct sheet *sheet_of(bool platform, bool csv)
{
    (void)pthread_once(&once, make_sheets);
    return &sheets[platform][csv];
}

void usage_render(const struct usage_record *usage, bool platform, struct buf *out)
{
    sheet_json(sheet_of(platform, false), usage, out);
}

void usage_render_csv_head(bool platform, struct buf *out)
{
    sheet_csv_head(sheet_of(platform, true), out);
}

void usage_render_csv(const struct usage_record *usage, bool platform, struct buf *out)
{
    sheet_csv(sheet_of(platform, true), usage, out);
}
