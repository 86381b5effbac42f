/* columns.c - answers for people: tables with columns as wide as their cells need, and objects as lines.
 *
 * What comes from the daemon may hold text of strangers: nothing that a terminal could take for a command leaves here.
 * No state beside struct columns. */
#include <string.h>
#include <unistd.h>

#include "verbs.h"

#define BOLD "\033[1m"
#define PLAIN "\033[0m"

void columns_init(struct columns *c, const char *paths)
{
    struct slice rest = slice_from(paths), path;

    memset(c, 0, sizeof(*c));
    while (rest.len > 0) {
        (void)slice_cut(rest, ' ', &path, &rest);
        if (path.len > 0)
            columns_add(c, path);
    }
}

void columns_add(struct columns *c, struct slice path)
{
    if (c->n < VERB_COLUMNS)
        c->paths[c->n++] = path;
}

/* ---- one value ---- */

/* The member at "balance.available"; NULL when there is none, or it is null. */
static struct json_object *find(struct json_object *object, struct slice path)
{
    struct slice name;
    char key[VERB_OPTION];

    while (path.len > 0 && object != NULL) {
        (void)slice_cut(path, '.', &name, &path);
        if (!json_object_is_type(object, json_type_object) || !slice_copy(name, key, sizeof(key)) ||
            !json_object_object_get_ex(object, key, &object))
            return NULL;
    }
    return object;
}

/* Characters, not bytes: continuation bytes do not count. */
static int width(const char *text)
{
    int n = 0;

    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* How many bytes of <text> a terminal could take for a command: a control character, C1 ones in UTF-8 as well. */
static int control(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    if (p[0] < 0x20 || p[0] == 0x7f)
        return 1;
    return p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0 ? 2 : 0;
}

/* Controls become question marks; what does not fit goes, at a character's end. */
static void copy_plain(const char *text, char out[VERB_CELL])
{
    size_t n = 0;

    while (*text != '\0' && n + 5 < VERB_CELL) {
        int skip = control(text);

        out[n++] = skip > 0 ? '?' : *text;
        text += skip > 0 ? skip : 1;
    }
    while (*text != '\0' && n > 0 && ((unsigned char)*text & 0xc0) == 0x80) {
        text--;
        n--;
    }
    out[n] = '\0';
}

static void write_list(struct json_object *list, char out[VERB_CELL])
{
    char cell[VERB_CELL];
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        copy_plain(json_object_get_string(json_object_array_get_idx(list, i)), cell);
        used += (size_t)snprintf(out + used, VERB_CELL - used, "%s%s", i > 0 ? "," : "", cell);
        if (used >= VERB_CELL)
            return;
    }
}

static void write_cell(struct json_object *value, char out[VERB_CELL])
{
    if (value == NULL)
        (void)slice_copy(SLICE("-"), out, VERB_CELL);
    else if (json_object_is_type(value, json_type_array))
        write_list(value, out);
    else
        copy_plain(json_object_get_string(value), out);
    if (out[0] == '\0')
        (void)slice_copy(SLICE("-"), out, VERB_CELL);
}

/* ---- tables ---- */

/* The last name of a path, in capitals. */
static void write_heading(struct slice path, char out[VERB_CELL])
{
    struct slice name;

    while (slice_cut(path, '.', &name, &path))
        continue;
    (void)slice_copy(name, out, VERB_CELL);
    for (char *p = out; *p != '\0'; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
}

static void measure(struct columns *c, struct json_object *rows, bool heading)
{
    char cell[VERB_CELL];

    for (int i = 0; i < c->n; i++) {
        if (heading) {
            write_heading(c->paths[i], cell);
            c->widths[i] = width(cell) > c->widths[i] ? width(cell) : c->widths[i];
        }
        for (size_t r = 0; r < json_object_array_length(rows); r++) {
            write_cell(find(json_object_array_get_idx(rows, r), c->paths[i]), cell);
            c->widths[i] = width(cell) > c->widths[i] ? width(cell) : c->widths[i];
        }
    }
}

static void print_cell(const struct columns *c, int i, const char *cell, FILE *out)
{
    bool last = i == c->n - 1;

    fprintf(out, "%s%*s%s", cell, last ? 0 : c->widths[i] - width(cell), "", last ? "\n" : "  ");
}

void columns_print(struct columns *c, struct json_object *rows, bool heading, FILE *out)
{
    bool bold = heading && isatty(fileno(out)) == 1;
    char cell[VERB_CELL];

    measure(c, rows, heading);
    if (bold)
        fputs(BOLD, out);
    for (int i = 0; heading && i < c->n; i++) {
        write_heading(c->paths[i], cell);
        print_cell(c, i, cell, out);
    }
    if (bold)
        fputs(PLAIN, out);
    for (size_t r = 0; r < json_object_array_length(rows); r++)
        for (int i = 0; i < c->n; i++) {
            write_cell(find(json_object_array_get_idx(rows, r), c->paths[i]), cell);
            print_cell(c, i, cell, out);
        }
}

/* ---- objects ---- */

enum { DEPTH = 8, INDENT = 2 };

static void print_member(const char *name, struct json_object *value, int depth, FILE *out);

static void print_members(struct json_object *object, int depth, FILE *out)
{
    json_object_object_foreach(object, name, value)
    {
        print_member(name, value, depth, out);
    }
}

static bool is_table(struct json_object *value)
{
    return json_object_is_type(value, json_type_array) && json_object_array_length(value) > 0 &&
           json_object_is_type(json_object_array_get_idx(value, 0), json_type_object);
}

/* An array of objects: a table of the members of the first one. */
static void print_rows(struct json_object *rows, FILE *out)
{
    struct columns columns = {.n = 0};

    json_object_object_foreach(json_object_array_get_idx(rows, 0), name, value)
    {
        (void)value;
        columns_add(&columns, slice_from(name));
    }
    columns_print(&columns, rows, true, out);
}

static void print_plain(const char *text, FILE *out)
{
    while (*text != '\0') {
        int skip = control(text);

        fputc(skip > 0 ? '?' : *text, out);
        text += skip > 0 ? skip : 1;
    }
}

static void print_value(struct json_object *value, FILE *out)
{
    char cell[VERB_CELL];

    if (value != NULL && !json_object_is_type(value, json_type_array)) {
        print_plain(json_object_get_string(value), out);
        return;
    }
    write_cell(value, cell);
    fputs(cell, out);
}

static void print_member(const char *name, struct json_object *value, int depth, FILE *out)
{
    char key[VERB_CELL];

    copy_plain(name, key);
    if (json_object_is_type(value, json_type_object) && json_object_object_length(value) > 0 && depth < DEPTH) {
        fprintf(out, "%*s%s:\n", depth * INDENT, "", key);
        print_members(value, depth + 1, out);
    } else if (is_table(value)) {
        fprintf(out, "%*s%s:\n", depth * INDENT, "", key);
        print_rows(value, out);
    } else {
        fprintf(out, "%*s%s: ", depth * INDENT, "", key);
        print_value(value, out);
        fputc('\n', out);
    }
}

void object_print(struct json_object *object, FILE *out)
{
    print_members(object, 0, out);
}
