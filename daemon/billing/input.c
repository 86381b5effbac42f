/* input.c - how many tokens an input image is.
 *
 * gpt-image-1 and its kin: the picture is shrunk into 2048 x 2048, then until its shorter edge is 512, and counted in
 * tiles of 512 x 512; high fidelity adds a sum that knows only square and not square. gpt-image-2 and later: the longer
 * edge is shrunk to 512 (but never below half), the shorter is padded to a third of the longer, and the picture is
 * counted in patches of 16 x 16, at most 1536. Both in integers: every rounding here is one that was observed.
 *
 * Threads: any; no state. */
#include "model.h"

enum {
    TILE_FIT = 2048,   /* box that a picture is shrunk into first */
    TILE_EDGE = 512,   /* of a tile, and what the shorter edge is shrunk to */
    TILE_BASE = 65,    /* tokens of any picture */
    TILE_TOKENS = 129, /* tokens of a tile */
    TILES_MAX = 4,     /* 2048 x 512 */
    FIDELITY_SQUARE = 4160,
    FIDELITY_OTHER = 6240,
    PATCH_EDGE = 16,
    PATCH_FIT = 512, /* what the longer edge is shrunk to, if that is not below half of it */
    PATCH_RATIO = 3, /* longer to shorter edge at most, by padding */
    PATCHES_MAX = 1536
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The largest integer whose square is at most <x>, for 0 <= x < 2^62. */
static int64_t square_root(int64_t x)
{
    int64_t root = 0;

    for (int64_t bit = INT64_C(1) << 30; bit > 0; bit >>= 1) {
        if ((root + bit) * (root + bit) <= x)
            root += bit;
    }
    return root;
}

static int64_t tile_tokens(int64_t longer, int64_t shorter, bool high_fidelity)
{
    int64_t tokens;
    bool square = longer == shorter;

    if (longer > TILE_FIT) {
        shorter = shorter * TILE_FIT / longer;
        longer = TILE_FIT;
    }
    if (shorter > TILE_EDGE) {
        longer = longer * TILE_EDGE / shorter;
        shorter = TILE_EDGE;
    }
    tokens = TILE_BASE + TILE_TOKENS * divide_up(longer, TILE_EDGE);
    if (high_fidelity)
        tokens += square ? FIDELITY_SQUARE : FIDELITY_OTHER;
    return tokens;
}

static int64_t tile_tokens_max(bool high_fidelity)
{
    return TILE_BASE + TILE_TOKENS * TILES_MAX + (high_fidelity ? FIDELITY_OTHER : 0);
}

/* The scale is a fraction num/den; the padded shorter edge is kept in thirds of a pixel. Above the most patches the
 * area is scaled to exactly that many, which leaves only the ratio of the edges. */
static int64_t patch_tokens(int64_t longer, int64_t shorter)
{
    int64_t thirds = PATCH_RATIO * shorter > longer ? PATCH_RATIO * shorter : longer;
    int64_t num = 1;
    int64_t den = 1;
    int64_t patches;

    if (longer > 2 * PATCH_FIT) {
        den = 2;
    } else if (longer > PATCH_FIT) {
        num = PATCH_FIT;
        den = longer;
    }
    patches = divide_up(longer * num, PATCH_EDGE * den) * divide_up(thirds * num, PATCH_RATIO * PATCH_EDGE * den);
    if (patches <= PATCHES_MAX)
        return patches;
    return square_root(PATCHES_MAX * PATCH_RATIO * longer / thirds) *
           square_root(PATCHES_MAX / PATCH_RATIO * thirds / longer);
}

int64_t model_input_tokens(const struct model_card *card, int w, int h, bool high_fidelity)
{
    int64_t longer = w > h ? w : h;
    int64_t shorter = w > h ? h : w;
    bool known = w > 0 && h > 0;

    switch (card->family) {
    case MODEL_DALLE2:
    case MODEL_DALLE3:
        return 0;
    case MODEL_GPT_IMAGE_1:
        return known ? tile_tokens(longer, shorter, high_fidelity) : tile_tokens_max(high_fidelity);
    case MODEL_GPT_IMAGE_2:
        return known ? patch_tokens(longer, shorter) : PATCHES_MAX;
    }
    return 0;
}
