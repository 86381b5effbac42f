/* fields.c - two ways to a tree of small values: a form's parts, and JSON with its long inner texts cut.
 *
 * JSON is copied but for the ends of texts inside the members (an image_url of 20 MB), which leaves valid JSON:
 *
 *   OUTSIDE --quote--> TEXT --INNER_KEPT bytes, depth > 1--> CUT
 *      ^------quote-----'----------------quote---------------'
 *
 * One thread. */
#include "fields.h"

#include <stdlib.h>

#include "daemon/images/multipart.h"

enum {
    INNER_KEPT = 1024 /* bytes kept of a text inside a member */
};

enum json_state { OUTSIDE = 0, TEXT, CUT };

struct fields {
    struct json_object *tree; /* a form's */
    struct multipart *multipart;
    struct upload uploads[UPLOADS_MAX];
    size_t n_uploads;
    /* the part at hand */
    char name[LIMIT_PART_NAME];
    struct upload *upload; /* NULL: a field */
    bool ignored;          /* a file that none has asked for */
    struct buf text;       /* the field's; of JSON: the copy */
    /* JSON */
    enum json_state state;
    bool escaped;
    int depth;
    size_t kept; /* bytes of the text at hand */
};

/* ---- forms ---- */

static struct upload *add_upload(struct fields *f, const struct multipart_part *part, bool is_mask)
{
    struct upload *u = &f->uploads[f->n_uploads];

    TG_ASSERT(f->n_uploads < UPLOADS_MAX);
    f->n_uploads++;
    *u = (struct upload){.is_mask = is_mask, .has_type = part->type.len > 0};
    (void)slice_copy(part->type, u->type, sizeof(u->type));
    picture_size_init(&u->size);
    return u;
}

static enum err_code part_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    struct fields *f = ctx;
    bool is_mask = slice_eq_str(part->name, "mask");
    bool is_file = is_mask || slice_eq_str(part->name, "image") || slice_eq_str(part->name, "image[]");

    (void)err;
    (void)slice_copy(part->name, f->name, sizeof(f->name));
    buf_clear(&f->text);
    f->ignored = part->has_filename && !is_file;
    f->upload = is_file ? add_upload(f, part, is_mask) : NULL;
    return ERR_OK;
}

static void look_at_upload(struct upload *u, struct slice bytes)
{
    if (u->bytes < UPLOAD_HEAD) {
        size_t room = UPLOAD_HEAD - (size_t)u->bytes;

        memcpy(u->head + u->bytes, bytes.p, bytes.len < room ? bytes.len : room);
    }
    u->bytes += bytes.len;
    picture_size_feed(&u->size, bytes);
}

static enum err_code part_data(void *ctx, struct slice bytes, uint64_t offset, struct err *err)
{
    struct fields *f = ctx;

    (void)offset;
    (void)err;
    if (f->upload != NULL)
        look_at_upload(f->upload, bytes);
    else if (!f->ignored)
        buf_append_slice(&f->text, bytes);
    return ERR_OK;
}

static enum err_code part_end(void *ctx, uint64_t offset, struct err *err)
{
    struct fields *f = ctx;

    (void)offset;
    (void)err;
    if (f->upload == NULL)
        (void)json_object_object_add(f->tree, f->name,
                                     json_object_new_string_len(f->text.len > 0 ? f->text.p : "", (int)f->text.len));
    f->upload = NULL;
    return ERR_OK;
}

/* ---- JSON ---- */

static void copy(struct fields *f, const char *bytes, size_t len)
{
    buf_append(&f->text, bytes, len);
}

/* One byte outside of texts. */
static void copy_outside(struct fields *f, char c)
{
    if (c == '"') {
        f->state = TEXT;
        f->kept = 0;
    }
    f->depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    copy(f, &c, 1);
}

/* One byte of a text that is kept. It is cut between two characters, never behind a backslash. */
static void copy_text(struct fields *f, char c)
{
    bool starts = !f->escaped && ((unsigned char)c & 0xC0) != 0x80;

    if (c == '"' && !f->escaped) {
        f->state = OUTSIDE;
    } else if (f->depth > 1 && starts && f->kept >= INNER_KEPT && c != '\\') {
        f->state = CUT;
        return;
    }
    f->escaped = c == '\\' && !f->escaped;
    f->kept++;
    copy(f, &c, 1);
}

/* Bytes of <bytes> that belong to a text that is cut; stops before its quote. */
static size_t pass_text(struct fields *f, struct slice bytes)
{
    size_t at = 0;

    if (f->escaped && bytes.len > 0) {
        f->escaped = false;
        at = 1;
    }
    while (at < bytes.len) {
        const char *quote = memchr(bytes.p + at, '"', bytes.len - at);
        size_t end = quote != NULL ? (size_t)(quote - bytes.p) : bytes.len;
        const char *slash = memchr(bytes.p + at, '\\', end - at);

        if (slash == NULL)
            return end;
        at = (size_t)(slash - bytes.p) + 2;
        f->escaped = at > bytes.len;
    }
    return bytes.len;
}

static enum err_code feed_json(struct fields *f, struct slice bytes, struct err *err)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (f->state == CUT) {
            i += pass_text(f, (struct slice){bytes.p + i, bytes.len - i});
            if (i == bytes.len)
                break;
            f->state = TEXT; /* its quote */
        }
        if (f->state == OUTSIDE)
            copy_outside(f, bytes.p[i]);
        else
            copy_text(f, bytes.p[i]);
    }
    if (f->text.full)
        return err_set(err, ERR_TOO_LARGE, NULL, "The request's parameters are longer than %d bytes.",
                       LIMIT_GENERATION_BODY);
    return ERR_OK;
}

/* ---- both ---- */

struct fields *fields_create(const char *boundary)
{
    struct fields *f = mem_zalloc(sizeof(*f));
    const struct multipart_callbacks callbacks = {f, part_begin, part_data, part_end};

    buf_init(&f->text, LIMIT_GENERATION_BODY);
    if (boundary[0] != '\0') {
        f->tree = json_object_new_object();
        f->multipart = multipart_create(boundary, &callbacks);
    }
    return f;
}

void fields_destroy(struct fields *f)
{
    if (f == NULL)
        return;
    multipart_destroy(f->multipart);
    json_object_put(f->tree);
    buf_dispose(&f->text);
    free(f);
}

enum err_code fields_feed(struct fields *f, struct slice bytes, struct err *err)
{
    return f->multipart != NULL ? multipart_feed(f->multipart, bytes, err) : feed_json(f, bytes, err);
}

bool fields_early(const struct fields *f, const char *name, struct slice *out)
{
    return f->tree != NULL && json_get_slice(f->tree, name, true, out, NULL, NULL) == ERR_OK;
}

enum err_code fields_finish(struct fields *f, struct json_object **tree, struct err *err)
{
    enum err_code code;

    if (f->multipart == NULL)
        return json_read(buf_slice(&f->text), tree, err);
    code = multipart_finish(f->multipart, err);
    if (code == ERR_OK)
        *tree = json_object_get(f->tree);
    return code;
}

bool fields_is_form(const struct fields *f)
{
    return f->multipart != NULL;
}

size_t fields_uploads(const struct fields *f, const struct upload **out)
{
    *out = f->uploads;
    return f->n_uploads;
}

bool upload_size(const struct upload *u, bool png_only, int *w, int *h)
{
    picture_size_get(&u->size, w, h);
    return *w > 0 && *h > 0 && (!png_only || memcmp(u->head, "\x89PNG\r\n\x1a\n", UPLOAD_HEAD) == 0);
}
