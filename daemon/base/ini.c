/* ini.c - one pass over the lines; every fault is told, and reading goes on behind it.
 *
 * Invariants: slices given away point into the caller's text; nothing is allocated; a fault never changes how the
 * following lines are understood, except that a broken section header leaves the section before it in force.
 * Any thread. */
#include "ini.h"

#include "utf8.h"

struct reader {
    ini_fn *fn;
    ini_fault_fn *fault;
    void *ctx;
    struct slice section;
    int line;
    int faults;
};

static void fault(struct reader *r, struct slice key, const char *what)
{
    r->faults++;
    if (r->fault != NULL)
        r->fault(r->ctx, r->line, key, what);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Cuts a comment off: a # behind white space, or at the very start when <at_start>. */
static struct slice strip_comment(struct slice s, bool at_start)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '#' && (i > 0 ? is_blank(s.p[i - 1]) : at_start))
            return (struct slice){s.p, i};
    }
    return s;
}

static void read_section(struct reader *r, struct slice line)
{
    struct slice name = SLICE("");

    if (line.len > 2 && line.p[line.len - 1] == ']')
        name = slice_trim((struct slice){line.p + 1, line.len - 2});
    if (name.len == 0 || memchr(name.p, ']', name.len) != NULL)
        fault(r, SLICE_NONE, "a section is written [name]");
    else
        r->section = name;
}

static void read_pair(struct reader *r, struct slice line)
{
    struct err err = {0};
    struct slice key, value;

    if (!slice_cut(line, '=', &key, &value)) {
        fault(r, SLICE_NONE, "expected key = value");
        return;
    }
    key = slice_trim(key);
    value = slice_trim(strip_comment(value, false));
    if (key.len == 0)
        fault(r, key, "there is no key before the =");
    else if (r->fn(r->ctx, r->section, key, value, r->line, &err) != ERR_OK)
        fault(r, key, err.message);
}

static void read_line(struct reader *r, struct slice line)
{
    if (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;
    if (line.len > INI_LINE)
        fault(r, SLICE_NONE, "the line is too long");
    else if (!utf8_valid(line) || (line.len > 0 && memchr(line.p, '\0', line.len) != NULL))
        fault(r, SLICE_NONE, "the line is not UTF-8 text");
    else {
        line = slice_trim(line);
        if (line.len == 0 || line.p[0] == '#')
            return;
        if (line.p[0] == '[')
            read_section(r, slice_trim(strip_comment(line, true)));
        else
            read_pair(r, line);
    }
}

int ini_read(struct slice text, ini_fn *fn, ini_fault_fn *fault_fn, void *ctx)
{
    struct reader r = {.fn = fn, .fault = fault_fn, .ctx = ctx, .section = SLICE("")};

    if (slice_starts(text, SLICE("\xEF\xBB\xBF"))) /* some editors put a byte order mark there */
        text = (struct slice){text.p + 3, text.len - 3};
    while (text.len > 0) {
        struct slice line;

        (void)slice_cut(text, '\n', &line, &text);
        r.line++;
        read_line(&r, line);
    }
    return r.faults;
}
