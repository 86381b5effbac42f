/* gallery.c - prints, found by what they show; those that nobody holds go, the oldest first, once they are many.
 *
 * Invariants
 *   1. A print that is held stays where it is; `users` counts its holders.
 *   2. Prints without holders weigh GALLERY_BYTES at most; a held one is never counted against that.
 *   3. No two prints show the same. One thread. */
#include "gallery.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define GALLERY_BYTES ((size_t)192 * 1024 * 1024) /* of prints that nobody holds */

struct print {
    struct print *next; /* the one used before */
    struct picture what;
    struct buf text;
    int users;
};

static struct print *latest;
static size_t idle_bytes;

static size_t base64_length(size_t bytes)
{
    return (bytes + 2) / 3 * 4;
}

/* The print of <p>, moved to the front; NULL when there is none. */
static struct print *find(const struct picture *p)
{
    struct print **at = &latest;
    struct print *found;

    while (*at != NULL && !picture_same(&(*at)->what, p))
        at = &(*at)->next;
    found = *at;
    if (found == NULL)
        return NULL;
    *at = found->next;
    found->next = latest;
    latest = found;
    return found;
}

/* Takes the oldest idle print out; false when there is none. */
static bool drop_oldest(void)
{
    struct print **at = NULL;
    struct print *old;

    for (struct print **p = &latest; *p != NULL; p = &(*p)->next) {
        if ((*p)->users == 0)
            at = p;
    }
    if (at == NULL)
        return false;
    old = *at;
    *at = old->next;
    idle_bytes -= old->text.len;
    buf_dispose(&old->text);
    free(old);
    return true;
}

static struct print *make(const struct picture *p)
{
    struct print *print = mem_zalloc(sizeof(*print));
    struct buf file;
    char *at;

    buf_init(&file, PICTURE_FILE_MAX);
    picture_write(p, &file);
    buf_init(&print->text, base64_length(file.len) + 1);
    at = buf_reserve(&print->text, base64_length(file.len) + 1);
    TG_ASSERT(at != NULL);
    buf_advance(&print->text,
                (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)file.p, (int)file.len));
    buf_dispose(&file);
    print->what = *p;
    print->next = latest;
    latest = print;
    return print;
}

struct print *gallery_take(const struct picture *p)
{
    struct print *print = find(p);

    if (print == NULL)
        print = make(p);
    else if (print->users == 0)
        idle_bytes -= print->text.len;
    print->users++;
    return print;
}

void gallery_give(struct print *print)
{
    if (print == NULL || --print->users > 0)
        return;
    idle_bytes += print->text.len;
    while (idle_bytes > GALLERY_BYTES && drop_oldest())
        continue;
}

struct slice print_text(const struct print *print)
{
    return buf_slice(&print->text);
}

size_t gallery_length(const struct picture *p)
{
    const struct print *print = find(p);

    return print != NULL ? print->text.len : base64_length(picture_length(p));
}
