/* ledger_item.c - what can be sold: models in sizes and qualities, each combination once, by a number. One thread. */
#include "ledger_state.h"

struct item_key {
    struct slice model, size, quality;
    enum image_operation operation;
};

static bool match_item(const void *item, const void *key)
{
    const struct item *a = item;
    const struct item_key *b = key;

    return a->operation == b->operation && slice_eq_str(b->model, a->model) && slice_eq_str(b->size, a->size) &&
           slice_eq_str(b->quality, a->quality);
}

static uint64_t hash_item(const struct item_key *key)
{
    uint64_t hash = table_hash_bytes(key->model.p, key->model.len);

    hash = table_hash_u64(hash ^ table_hash_bytes(key->size.p, key->size.len));
    hash = table_hash_u64(hash ^ table_hash_bytes(key->quality.p, key->quality.len));
    return table_hash_u64(hash ^ (uint64_t)key->operation);
}

static const char *pack_text(char **at, struct slice text)
{
    char *start = *at;

    if (text.len != 0)
        memcpy(start, text.p, text.len);
    start[text.len] = '\0';
    *at = start + text.len + 1;
    return start;
}

static struct item *add_item(struct ledger *l, const struct item_key *key, int64_t row)
{
    struct item *item = mem_alloc(sizeof(*item) + key->model.len + key->size.len + key->quality.len + 3);
    char *at = (char *)(item + 1);

    TG_ASSERT(row == (int64_t)l->item_rows.n + 1);
    item->row = row;
    item->operation = key->operation;
    item->model = pack_text(&at, key->model);
    item->size = pack_text(&at, key->size);
    item->quality = pack_text(&at, key->quality);
    table_put(&l->items, hash_item(key), match_item, key, item);
    *(struct item **)list_add(&l->item_rows, sizeof(item)) = item;
    return item;
}

int64_t ledger_item(struct ledger *l, const struct store_call *call)
{
    struct item_key key = {slice_from(call->model), slice_from(call->size), slice_from(call->quality), call->operation};
    struct item *item = table_get(&l->items, hash_item(&key), match_item, &key);

    if (item == NULL && l->item_rows.n >= LEDGER_ITEMS) {
        /* Models are bounded by the price books; sizes and qualities come from strangers. */
        key.size = key.quality = SLICE("other");
        item = table_get(&l->items, hash_item(&key), match_item, &key);
    }
    if (item == NULL) {
        item = add_item(l, &key, (int64_t)l->item_rows.n + 1);
        *(struct item **)list_add(&l->new_items, sizeof(item)) = item;
    }
    return item->row;
}

const struct item *ledger_item_at(const struct ledger *l, int64_t row)
{
    TG_ASSERT(row >= 1 && (size_t)row <= l->item_rows.n);
    return ((struct item **)l->item_rows.at)[row - 1];
}

bool ledger_load_item(struct ledger *l, int64_t row, const char *model, enum image_operation operation,
                      const char *size, const char *quality)
{
    struct item_key key = {slice_from(model), slice_from(size), slice_from(quality), operation};

    if (row != (int64_t)l->item_rows.n + 1)
        return false;
    add_item(l, &key, row);
    return true;
}
