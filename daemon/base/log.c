/* log.c - one event, one line, one write(2).
 *
 * Invariants:
 *   1. a line never exceeds LOG_LINE bytes and is whole JSON (or whole text) all the same: a field that does not fit is
 *      taken back, and the line says "cut":true;
 *   2. nothing that looks like a key leaves: text is masked before it is shortened, so that a cut cannot leave a key
 *      too short to be recognised;
 *   3. control characters are escaped in both forms; a log cannot steer a terminal.
 * The mode is set once, before threads start; the level is an atomic. Any thread. */
#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "money.h"
#include "utf8.h"

enum {
    LOG_LINE = 4096, /* bytes of a line, with its newline */
    LOG_ROOM = 16,   /* kept free for the end of the line */
    LOG_VALUE = 1024 /* bytes of one text value, masked */
};

enum {
    KEY_RUN = 16, /* so many characters behind sk- or ta- make it a key */
    KEY_SHOWN = 4 /* of them are shown, at the end */
};

enum mode { MODE_JSON = 0, MODE_JOURNAL, MODE_TERMINAL };

struct event_row {
    const char *name;
    enum conf_level level;
    const char *text;
};

static const struct event_row events[LOG_EVENT_COUNT] = {
#define EVENT(name, level, text) [LOG_##name] = {#name, LEVEL_##level, text},
#include "events.def"
#undef EVENT
};

static const struct {
    const char *name;
    const char *label; /* of one width, for people */
    int priority;      /* syslog's */
} levels[] = {
    [LEVEL_DEBUG] = {"debug", "DEBUG", 7},
    [LEVEL_INFO] = {"info", "INFO ", 6},
    [LEVEL_WARN] = {"warn", "WARN ", 4},
    [LEVEL_ERROR] = {"error", "ERROR", 3},
};

static enum mode mode;
static _Atomic int least_level = LEVEL_INFO;

/* systemd names the stream that leads to the journal; another one may have been put in its place since. */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct slice left, right;
    struct stat st;

    return stream != NULL && slice_cut(slice_from(stream), ':', &left, &right) && slice_to_u64(left, &device) &&
           slice_to_u64(right, &inode) && fstat(fd, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_init(enum conf_level least)
{
    log_set_level(least);
    mode = isatty(STDERR_FILENO) ? MODE_TERMINAL : is_journal(STDERR_FILENO) ? MODE_JOURNAL : MODE_JSON;
}

void log_set_level(enum conf_level least)
{
    atomic_store_explicit(&least_level, (int)least, memory_order_relaxed);
}

bool log_enabled(enum log_event event)
{
    TG_ASSERT(event < LOG_EVENT_COUNT);
    return (int)events[event].level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

static bool is_key_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* Bytes of the key that <s> starts with, its "sk-" or "ta-" included; 0 when it starts with none. */
static size_t key_length(struct slice s)
{
    size_t n = 3;

    if (!slice_starts(s, SLICE("sk-")) && !slice_starts(s, SLICE("ta-")))
        return 0;
    while (n < s.len && is_key_char(s.p[n]))
        n++;
    return n >= 3 + KEY_RUN ? n : 0;
}

static void append_masked(struct buf *out, struct slice s)
{
    while (s.len > 0 && !out->full) {
        size_t n = key_length(s);

        if (n > 0) {
            buf_append(out, s.p, 3);
            buf_append_str(out, "...");
            buf_append(out, s.p + n - KEY_SHOWN, KEY_SHOWN);
        } else {
            n = 1;
            buf_append_char(out, s.p[0]);
        }
        s.p += n;
        s.len -= n;
    }
}

static bool needs_quotes(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\' || c == '=')
            return true;
    }
    return s.len == 0;
}

static void append_text(struct buf *line, struct slice text)
{
    struct buf masked;

    buf_init(&masked, LOG_VALUE);
    append_masked(&masked, text);
    if (masked.full) {
        masked.len = utf8_head(buf_slice(&masked), LOG_VALUE - 4).len;
        masked.full = false;
        buf_append_str(&masked, "...");
    }
    if (mode == MODE_TERMINAL && !needs_quotes(buf_slice(&masked)))
        buf_append_slice(line, buf_slice(&masked));
    else
        buf_append_json_string(line, buf_slice(&masked));
    buf_dispose(&masked);
}

static void append_quoted(struct buf *line, const char *text)
{
    const char *quote = mode == MODE_TERMINAL ? "" : "\"";

    buf_append_str(line, quote);
    buf_append_str(line, text);
    buf_append_str(line, quote);
}

static void append_millis(struct buf *line, int64_t micros)
{
    unsigned long long size = micros < 0 ? -(unsigned long long)micros : (unsigned long long)micros;

    buf_printf(line, "%s%llu.%03llu", micros < 0 ? "-" : "", size / 1000, size % 1000);
}

static void append_value(struct buf *line, const struct log_field *f)
{
    char money[MONEY_TEXT], id[ID_TEXT];

    switch (f->kind) {
    case LOG_TEXT:
        append_text(line, f->text);
        break;
    case LOG_INT:
        buf_printf(line, "%lld", (long long)f->number);
        break;
    case LOG_ID:
        append_quoted(line, id_format(f->prefix, f->id, id));
        break;
    case LOG_NANO:
        append_quoted(line, money_format_nano(f->number, money));
        break;
    case LOG_TIME_US:
        append_millis(line, f->number);
        break;
    }
}

static void append_field(struct buf *line, const struct log_field *f)
{
    const char *unit = f->kind == LOG_TIME_US ? "_ms" : "";

    if (mode == MODE_TERMINAL)
        buf_printf(line, " %s%s=", f->name, unit);
    else
        buf_printf(line, ",\"%s%s\":", f->name, unit);
    append_value(line, f);
}

static void append_lower(struct buf *line, const char *name)
{
    for (; *name != '\0'; name++)
        buf_append_char(line, *name >= 'A' && *name <= 'Z' ? (char)(*name + ('a' - 'A')) : *name);
}

static void append_head(struct buf *line, const struct event_row *event)
{
    char now[CLOCK_TEXT];

    clock_format(clock_wall(), now);
    if (mode == MODE_TERMINAL) {
        buf_printf(line, "%s %s %s", now, levels[event->level].label, event->text);
        return;
    }
    if (mode == MODE_JOURNAL)
        buf_printf(line, "<%d>", levels[event->level].priority);
    buf_printf(line, "{\"ts\":\"%s\",\"level\":\"%s\",\"event\":\"", now, levels[event->level].name);
    append_lower(line, event->name);
    buf_printf(line, "\",\"msg\":\"%s\"", event->text);
}

static void append_fields(struct buf *line, const struct log_field *fields, size_t n)
{
    bool cut = false;

    line->max = LOG_LINE - LOG_ROOM;
    for (size_t i = 0; i < n; i++) {
        size_t before = line->len;

        append_field(line, &fields[i]);
        if (line->full) {
            line->len = before;
            line->full = false;
            cut = true;
        }
    }
    line->max = LOG_LINE;
    if (cut)
        buf_append_str(line, mode == MODE_TERMINAL ? " cut=true" : ",\"cut\":true");
}

void log_write(enum log_event event, const struct log_field *fields, size_t n)
{
    struct buf line;
    ssize_t written;

    TG_ASSERT(event < LOG_EVENT_COUNT);
    buf_init(&line, LOG_LINE);
    append_head(&line, &events[event]);
    append_fields(&line, fields, n);
    buf_append_str(&line, mode == MODE_TERMINAL ? "\n" : "}\n");
    do
        written = write(STDERR_FILENO, line.p, line.len);
    while (written < 0 && errno == EINTR);
    /* A log that cannot be written must not stop the service; there is nowhere to say so. */
    buf_dispose(&line);
}
