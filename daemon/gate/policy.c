/* policy.c - policies: reading them with errors that name the parameter, and asking them.
 *
 * A policy is one block of memory: the struct, its networks, then its texts one after the other, each with its NUL,
 * models before sizes before qualities. Lists are short (a record's JSON is bounded), so they are walked.
 *
 * Invariants
 *   1. n_LIST is 0 when the list is absent, which allows everything; a list that is present has at least one element.
 *   2. A network's address has no bit set beyond its prefix, so one masked comparison decides.
 *   3. broken: the stored text could not be read; nothing is allowed.
 * Threads: any; the count is atomic, everything else immutable. */
#include "policy.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/utf8.h"
#include "db/record.h"

enum {
    N_MAX = 1000,               /* of max_n */
    ADDRESS = 16,               /* bytes; IPv4 as ::ffff:a.b.c.d */
    V4_PREFIX = 96,             /* bits of that form before the IPv4 address */
    LIST_MAX = RECORD_JSON / 4, /* elements: each takes at least two quotes, a character and a comma */
    CIDR_TEXT = INET6_ADDRSTRLEN + 4
};

struct network {
    uint8_t address[ADDRESS];
    int bits; /* of the 128 */
};

enum list { MODELS = 0, SIZES, QUALITIES, LISTS };

struct policy {
    atomic_int refs;
    bool broken;
    unsigned operations; /* bit 1 << enum image_operation; 0: all */
    int max_n;           /* 0: any */
    int n_networks;
    int n[LISTS];
    const char *texts; /* behind the networks, in this block */
    struct network networks[];
};

/* ---- networks ---- */

static bool parse_address(const char *text, uint8_t out[ADDRESS], bool *v4)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    *v4 = inet_pton(AF_INET, text, out + 12) == 1;
    if (*v4)
        memcpy(out, mapped, sizeof(mapped));
    return *v4 || inet_pton(AF_INET6, text, out) == 1;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, int bits)
{
    int whole = bits / 8;
    int rest = bits % 8;

    return memcmp(a, b, (size_t)whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

/* "10.0.0.0/8", "2001:db8::/32", or one address. */
static bool parse_network(struct slice text, struct network *out)
{
    char address[CIDR_TEXT];
    uint8_t masked[ADDRESS] = {0};
    struct slice head, tail;
    unsigned long long bits;
    bool v4;
    bool cut = slice_cut(text, '/', &head, &tail);

    if (memchr(text.p, '\0', text.len) != NULL || !slice_copy(head, address, sizeof(address)) ||
        !parse_address(address, out->address, &v4))
        return false;
    bits = v4 ? 32 : 128;
    if (cut && (!slice_to_u64(tail, &bits) || bits > (v4 ? 32 : 128)))
        return false;
    out->bits = (int)bits + (v4 ? V4_PREFIX : 0);
    memcpy(masked, out->address, (size_t)out->bits / 8);
    if (out->bits % 8 != 0)
        masked[out->bits / 8] = out->address[out->bits / 8] & (uint8_t)(0xFF << (8 - out->bits % 8));
    return memcmp(masked, out->address, ADDRESS) == 0;
}

/* ---- reading ---- */

/* What is gathered before the block can be made. */
struct draft {
    struct buf networks; /* struct network each */
    struct buf texts[LISTS];
    int n[LISTS];
    unsigned operations;
    int64_t max_n;
};

typedef enum err_code take_fn(struct draft *d, struct slice value, const char *param, struct err *err);

static enum err_code bad_value(const char *param, struct slice value, const char *expected, struct err *err)
{
    struct slice shown = utf8_head(value, 48);

    return err_set(err, ERR_INVALID_VALUE, param, "Invalid value in '%s': '%.*s'. Expected %s.", param, (int)shown.len,
                   shown.p, expected);
}

static enum err_code keep_text(struct draft *d, enum list list, struct slice value)
{
    buf_append_slice(&d->texts[list], value);
    buf_append_char(&d->texts[list], '\0');
    d->n[list]++;
    return ERR_OK;
}

static bool is_name(struct slice value, size_t cap)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
            return false;
    }
    return value.len > 0 && value.len < cap && utf8_valid(value);
}

static enum err_code take_model(struct draft *d, struct slice value, const char *param, struct err *err)
{
    if (!is_name(value, LIMIT_MODEL))
        return bad_value(param, value, "the name of a model", err);
    return keep_text(d, MODELS, value);
}

static enum err_code take_operation(struct draft *d, struct slice value, const char *param, struct err *err)
{
    enum image_operation op;

    if (!price_operation_parse(value, &op))
        return bad_value(param, value, "'generations', 'edits' or 'variations'", err);
    d->operations |= 1U << op;
    return ERR_OK;
}

static enum err_code take_size(struct draft *d, struct slice value, const char *param, struct err *err)
{
    int w, h;

    if (!slice_eq_str(value, "auto") && !(value.len < LIMIT_SIZE && model_parse_size(value, &w, &h)))
        return bad_value(param, value, "a size such as '1024x1024', or 'auto'", err);
    return keep_text(d, SIZES, value);
}

static enum err_code take_quality(struct draft *d, struct slice value, const char *param, struct err *err)
{
    if (!is_name(value, LIMIT_QUALITY))
        return bad_value(param, value, "a quality such as 'high', or 'auto'", err);
    return keep_text(d, QUALITIES, value);
}

static enum err_code take_network(struct draft *d, struct slice value, const char *param, struct err *err)
{
    struct network network;

    if (!parse_network(value, &network))
        return bad_value(param, value,
                         "an IP address or a network such as '203.0.113.0/24', without bits beyond its prefix", err);
    buf_append(&d->networks, &network, sizeof(network));
    return ERR_OK;
}

static enum err_code read_list(struct json_object *tree, const char *name, const char *param, take_fn *take,
                               struct draft *d, struct err *err)
{
    struct json_object *list;
    enum err_code code = ERR_OK;

    if (!json_find(tree, name, &list))
        return ERR_OK;
    if (!json_object_is_type(list, json_type_array))
        return err_set(err, ERR_INVALID_TYPE, param,
                       "Invalid type for '%s': expected an array of strings, but got %s instead.", param,
                       json_kind(list));
    if (json_object_array_length(list) == 0 || json_object_array_length(list) > LIST_MAX)
        return err_set(err, ERR_INVALID_VALUE, param, "'%s' must hold one to %d values; leave it out to allow all.",
                       param, LIST_MAX);
    for (size_t i = 0; i < json_object_array_length(list) && code == ERR_OK; i++) {
        struct json_object *value = json_object_array_get_idx(list, i);

        if (!json_object_is_type(value, json_type_string))
            return err_set(err, ERR_INVALID_TYPE, param,
                           "Invalid type for '%s': expected an array of strings, but one of its values is %s.", param,
                           json_kind(value));
        code = take(d, (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)}, param,
                    err);
    }
    return code;
}

/* The param of an error that a getter of json.h named by the member alone. */
static enum err_code under_policy(enum err_code code, struct err *err)
{
    char param[LIMIT_ERROR_PARAM];

    if (code == ERR_OK || err == NULL)
        return code;
    (void)snprintf(param, sizeof(param), "policy.%.50s", err->param);
    return err_set(err, code, param, "%s", err->message);
}

static enum err_code read_members(struct json_object *tree, struct draft *d, struct err *err)
{
    static const char *const names[] = {"models", "operations", "sizes", "qualities", "max_n", "ip_allow", NULL};
    static const struct {
        const char *name, *param;
        take_fn *take;
    } lists[] = {
        {"models", "policy.models", take_model},       {"operations", "policy.operations", take_operation},
        {"sizes", "policy.sizes", take_size},          {"qualities", "policy.qualities", take_quality},
        {"ip_allow", "policy.ip_allow", take_network},
    };
    enum err_code code = under_policy(json_only(tree, names, err), err);

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]) && code == ERR_OK; i++)
        code = read_list(tree, lists[i].name, lists[i].param, lists[i].take, d, err);
    return code == ERR_OK ? under_policy(json_get_int(tree, "max_n", 1, N_MAX, &d->max_n, NULL, err), err) : code;
}

static void draft_init(struct draft *d)
{
    *d = (struct draft){0};
    buf_init(&d->networks, LIST_MAX * sizeof(struct network));
    for (int i = 0; i < LISTS; i++)
        buf_init(&d->texts[i], (size_t)RECORD_JSON * 2);
}

static void draft_dispose(struct draft *d)
{
    buf_dispose(&d->networks);
    for (int i = 0; i < LISTS; i++)
        buf_dispose(&d->texts[i]);
}

/* Fills <d>, which the caller has made and disposes. */
static enum err_code read_policy(struct slice json, struct draft *d, struct err *err)
{
    struct json_object *tree;
    enum err_code code;

    if (json.len >= RECORD_JSON)
        return err_set(err, ERR_STRING_TOO_LONG, "policy", "'policy' is too long: at most %d bytes of JSON.",
                       RECORD_JSON - 1);
    if (json_read(json, &tree, NULL) != ERR_OK)
        return err_set(err, ERR_INVALID_TYPE, "policy", "Invalid type for 'policy': expected an object.");
    code = read_members(tree, d, err);
    json_object_put(tree);
    return code;
}

enum err_code policy_check(struct slice json, struct err *err)
{
    struct draft d;
    enum err_code code;

    draft_init(&d);
    code = read_policy(json, &d, err);
    draft_dispose(&d);
    return code;
}

/* ---- life ---- */

static struct policy *build(const struct draft *d)
{
    size_t texts = 0;
    struct policy *p;
    char *at;

    TG_ASSERT(!d->networks.full);
    for (int i = 0; i < LISTS; i++) {
        TG_ASSERT(!d->texts[i].full);
        texts += d->texts[i].len;
    }
    p = mem_zalloc(sizeof(*p) + d->networks.len + texts);
    atomic_init(&p->refs, 1);
    p->operations = d->operations;
    p->max_n = (int)d->max_n;
    p->n_networks = (int)(d->networks.len / sizeof(struct network));
    memcpy(p->n, d->n, sizeof(p->n));
    at = (char *)p->networks + d->networks.len;
    p->texts = at;
    if (d->networks.len > 0)
        memcpy(p->networks, d->networks.p, d->networks.len);
    for (int i = 0; i < LISTS; i++) {
        if (d->texts[i].len > 0)
            memcpy(at, d->texts[i].p, d->texts[i].len);
        at += d->texts[i].len;
    }
    return p;
}

struct policy *policy_create(const char *json)
{
    struct draft d;
    struct policy *p;
    bool broken;

    if (json == NULL || json[0] == '\0')
        return NULL;
    draft_init(&d);
    broken = read_policy(slice_from(json), &d, NULL) != ERR_OK;
    p = build(&d);
    p->broken = broken;
    draft_dispose(&d);
    return p;
}

struct policy *policy_ref(struct policy *p)
{
    if (p != NULL)
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void policy_unref(struct policy *p)
{
    if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
        free(p);
}

/* ---- asking ---- */

static bool allows_text(const struct policy *p, enum list list, struct slice value)
{
    const char *text = p->texts;
    int skip = 0;

    if (p->n[list] == 0)
        return true;
    for (int i = MODELS; i < (int)list; i++)
        skip += p->n[i];
    for (int i = 0; i < skip; i++)
        text += strlen(text) + 1;
    for (int i = 0; i < p->n[list]; i++) {
        if (slice_eq_str(value, text))
            return true;
        text += strlen(text) + 1;
    }
    return false;
}

bool policy_allows_model(const struct policy *p, struct slice model)
{
    return p == NULL || (!p->broken && allows_text(p, MODELS, model));
}

bool policy_allows_peer(const struct policy *p, const char *peer)
{
    uint8_t address[ADDRESS];
    bool v4;

    if (p == NULL || (!p->broken && p->n_networks == 0))
        return true;
    if (p->broken || !parse_address(peer, address, &v4))
        return false;
    for (int i = 0; i < p->n_networks; i++) {
        if (bits_equal(address, p->networks[i].address, p->networks[i].bits))
            return true;
    }
    return false;
}

static enum err_code violation(const char *param, const char *value, struct err *err)
{
    return err_set(err, ERR_POLICY_VIOLATION, param, "This API key's policy does not allow %s '%s'.", param, value);
}

/* <asked>, or what leaving it out means. Without a card nobody knows that, so a list cannot allow it: "auto". */
static const char *meant(const char *asked, const struct model_card *card, const char *otherwise)
{
    if (asked[0] != '\0')
        return asked;
    return card != NULL && otherwise[0] != '\0' ? otherwise : "auto";
}

enum err_code policy_check_spec(const struct policy *p, const struct image_spec *spec, struct err *err)
{
    const struct model_card *card = spec->card;
    const char *size = meant(spec->size, card, card != NULL ? card->default_size : "");
    const char *quality = meant(spec->quality, card, card != NULL ? card->default_quality : "");

    if (p == NULL)
        return ERR_OK;
    if (p->broken || (p->operations != 0 && (p->operations & 1U << spec->operation) == 0))
        return violation("operation", price_operation_name(spec->operation), err);
    if (!allows_text(p, SIZES, slice_from(size)))
        return violation("size", size, err);
    if (!allows_text(p, QUALITIES, slice_from(quality)))
        return violation("quality", quality, err);
    if (p->max_n > 0 && spec->n > p->max_n)
        return err_set(err, ERR_POLICY_VIOLATION, "n",
                       "This API key's policy allows at most %d images a request, but %d "
                       "were asked for.",
                       p->max_n, spec->n);
    return ERR_OK;
}
