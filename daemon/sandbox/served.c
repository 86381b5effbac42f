/* served.c - counters by key, in a small array: a sandbox sees few keys. The last place is shared by all that find no
 * place of their own. One thread. */
#include "served.h"

#include "daemon/base/secret.h"

struct served {
    char key[SECRET_KEY_TEXT]; /* masked */
    int64_t requests;
    int64_t images;
    int64_t partials;
};

static struct served total;
static struct served by_key[SERVED_KEYS];
static size_t n_keys;

static struct served *find(struct slice bearer)
{
    char masked[SECRET_KEY_TEXT];

    (void)secret_mask_key(bearer, masked);
    for (size_t i = 0; i < n_keys; i++) {
        if (strcmp(by_key[i].key, masked) == 0)
            return &by_key[i];
    }
    if (n_keys == SERVED_KEYS)
        return &by_key[SERVED_KEYS - 1];
    if (n_keys == SERVED_KEYS - 1)
        memcpy(masked, "other", sizeof("other"));
    memcpy(by_key[n_keys].key, masked, sizeof(masked));
    return &by_key[n_keys++];
}

static void count(struct served *s, int images, int partials)
{
    s->requests++;
    s->images += images;
    s->partials += partials;
}

void served_add(struct slice bearer, int images, int partials)
{
    count(&total, images, partials);
    count(find(bearer), images, partials);
}

static void print_counts(const struct served *s, struct buf *out)
{
    buf_printf(out, "\"requests\":%lld,\"images\":%lld,\"partial_images\":%lld", (long long)s->requests,
               (long long)s->images, (long long)s->partials);
}

void served_print(struct buf *out)
{
    buf_append_char(out, '{');
    print_counts(&total, out);
    buf_append_str(out, ",\"by_key\":{");
    for (size_t i = 0; i < n_keys; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        buf_append_json_string(out, slice_from(by_key[i].key));
        buf_append_str(out, ":{");
        print_counts(&by_key[i], out);
        buf_append_char(out, '}');
    }
    buf_append_str(out, "}}\n");
}
