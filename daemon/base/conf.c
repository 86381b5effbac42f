/* conf.c - conf.def turned into a table, and everything that walks it: defaults, parser, comparison, help, manual.
 *
 * Invariants:
 *   1. a struct conf is filled with the defaults before the file is read, by the same code that reads the file, so a
 *      default that breaks its own rule cannot exist;
 *   2. every fault is reported, not the first alone; a conf is handed out only when there was none;
 *   3. the first entry of a list in the file replaces the default entries, the others are added.
 * Not on any hot path. Any thread, one conf in one thread until it is published. */
#include "conf.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>

#include "clock.h"
#include "ini.h"
#include "money.h"

enum type { TYPE_TEXT = 0, TYPE_LIST, TYPE_BOOL, TYPE_COUNT, TYPE_SIZE, TYPE_TIME, TYPE_IN_DOUBT, TYPE_LEVEL };
enum reload { RELOAD_LIVE = 0, RELOAD_RESTART };

enum key_index {
#define CONF(section, key, type, def, min, max, reload, help) KEY_##section##_##key,
#include "conf.def"
#undef CONF
    KEY_COUNT
};

struct key {
    const char *section;
    const char *name;
    enum type type;
    const char *def;
    int64_t min;
    int64_t max;
    enum reload reload;
    const char *help;
    size_t offset; /* in struct conf */
};

static const struct key keys[KEY_COUNT] = {
#define CONF(section, key, type, def, min, max, reload, help)                                                          \
    {#section, #key, TYPE_##type, def, min, max, RELOAD_##reload, help, offsetof(struct conf, section##_##key)},
#include "conf.def"
#undef CONF
};

static const char *const in_doubt_words[] = {"release", "charge", "keep", NULL};
static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};
static const char *const bool_words[] = {"off", "on", NULL};

/* Longer than an Idempotency-Key, which names its record, can be remembered, and than refunds of a month take. */
#define SHORTEST_RETENTION (35 * 24 * 3600 * CLOCK_SECOND)

enum { FILE_LIMIT = 1024 * 1024, SHOWN = 80, HELP_WIDTH = 100 };

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {{"", 1},          {"B", 1},         {"KiB", 1 << 10},
                                         {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0}};
static const struct unit time_units[] = {{"us", 1},
                                         {"ms", 1000},
                                         {"s", CLOCK_SECOND},
                                         {"m", 60 * CLOCK_SECOND},
                                         {"h", 3600 * CLOCK_SECOND},
                                         {"d", 24 * 3600 * CLOCK_SECOND},
                                         {NULL, 0}};

static void *member(const struct key *k, struct conf *conf)
{
    return (char *)conf + k->offset;
}

static const void *const_member(const struct key *k, const struct conf *conf)
{
    return (const char *)conf + k->offset;
}

static enum err_code refuse(struct err *err, const char *expected, struct slice value)
{
    int shown = value.len < SHOWN ? (int)value.len : SHOWN;

    return err_set(err, ERR_INVALID_VALUE, NULL, "expected %s, but got '%.*s'", expected, shown,
                   shown > 0 ? value.p : "");
}

/* A whole number and a unit; the product must fit. */
static bool parse_units(struct slice value, const struct unit *units, int64_t *out)
{
    size_t n = 0;
    unsigned long long number;

    while (n < value.len && value.p[n] >= '0' && value.p[n] <= '9')
        n++;
    if (!slice_to_u64((struct slice){value.p, n}, &number) || number > INT64_MAX)
        return false;
    value = slice_trim((struct slice){value.p + n, value.len - n});
    if (number == 0 && value.len == 0) {
        *out = 0;
        return true;
    }
    for (; units->name != NULL; units++) {
        if (slice_eq_str(value, units->name))
            return !__builtin_mul_overflow((int64_t)number, units->factor, out);
    }
    return false;
}

static int find_word(struct slice value, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (slice_eq_str(value, words[i]))
            return i;
    }
    return -1;
}

static enum err_code set_number(const struct key *k, struct conf *conf, struct slice value, struct err *err)
{
    static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
    int64_t scale = k->type == TYPE_TIME ? CLOCK_SECOND : 1;
    const char *unit = k->type == TYPE_TIME ? " seconds" : k->type == TYPE_SIZE ? " bytes" : "";
    const struct unit *units = k->type == TYPE_TIME ? time_units : k->type == TYPE_SIZE ? size_units : no_units;
    const char *form = k->type == TYPE_TIME   ? "a time with its unit (us, ms, s, m, h, d)"
                       : k->type == TYPE_SIZE ? "a size in bytes (B, KiB, MiB, GiB)"
                                              : "a whole number";
    int64_t number;

    if (!parse_units(value, units, &number))
        return refuse(err, form, value);
    if (number < k->min * scale || number > k->max * scale)
        return err_set(err, ERR_INVALID_VALUE, NULL, "out of range: %lld to %lld%s", (long long)k->min,
                       (long long)k->max, unit);
    *(int64_t *)member(k, conf) = number;
    return ERR_OK;
}

static char *copy_text(struct slice value)
{
    char *text = mem_alloc(value.len + 1);

    (void)slice_copy(value, text, value.len + 1);
    return text;
}

static void clear_list(struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->at[i]);
    list->n = 0;
}

static bool parse_port(struct slice text)
{
    unsigned long long port;

    return slice_to_u64(text, &port) && port >= 1 && port <= 65535;
}

static bool is_host(struct slice host)
{
    for (size_t i = 0; i < host.len; i++) {
        if (!isalnum((unsigned char)host.p[i]) && host.p[i] != '.' && host.p[i] != '-')
            return false;
    }
    return host.len > 0 && host.len < 256;
}

static bool is_ipv6(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    return slice_copy(host, text, sizeof(text)) && inet_pton(AF_INET6, text, &address) == 1;
}

static enum err_code check_listen(struct slice value, struct err *err)
{
    static const char form[] = "host:port, [v6]:port or unix:/path";
    struct slice host, port;
    struct sockaddr_un un;

    if (slice_starts(value, SLICE("unix:"))) {
        if (value.len < 7 || value.p[5] != '/' || value.len - 5 >= sizeof(un.sun_path))
            return refuse(err, "an absolute path of at most 107 bytes behind unix:", value);
        return ERR_OK;
    }
    if (value.len > 0 && value.p[0] == '[') {
        if (!slice_cut((struct slice){value.p + 1, value.len - 1}, ']', &host, &port) || !is_ipv6(host) ||
            port.len == 0 || port.p[0] != ':')
            return refuse(err, form, value);
        port = (struct slice){port.p + 1, port.len - 1};
    } else if (!slice_cut(value, ':', &host, &port) || !is_host(host)) {
        return refuse(err, form, value);
    }
    return parse_port(port) ? ERR_OK : refuse(err, "a port from 1 to 65535 at its end", value);
}

static enum err_code check_store_url(struct slice value, struct err *err)
{
    if (!slice_starts(value, SLICE("sqlite:")) || value.len == 7)
        return refuse(err, "sqlite:PATH", value);
    return ERR_OK;
}

/* Rules of single keys beyond their type. */
static enum err_code check_value(enum key_index index, struct slice value, struct err *err)
{
    switch (index) {
    case KEY_public_listen:
    case KEY_admin_listen:
        return check_listen(value, err);
    case KEY_store_url:
        return check_store_url(value, err);
    default:
        return ERR_OK;
    }
}

static enum err_code add_to_list(struct conf_list *list, struct slice value, struct err *err)
{
    if (list->n == CONF_LIST)
        return err_set(err, ERR_INVALID_VALUE, NULL, "more than %d entries", CONF_LIST);
    list->at[list->n++] = copy_text(value);
    return ERR_OK;
}

static bool holds_control(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7F)
            return true;
    }
    return false;
}

static enum err_code set_word(const struct key *k, struct conf *conf, struct slice value, struct err *err)
{
    const char *const *words = k->type == TYPE_BOOL       ? bool_words
                               : k->type == TYPE_IN_DOUBT ? in_doubt_words
                                                          : level_words;
    const char *form = k->type == TYPE_BOOL       ? "on or off"
                       : k->type == TYPE_IN_DOUBT ? "release, charge or keep"
                                                  : "debug, info, warn or error";
    int word = find_word(value, words);

    if (word < 0)
        return refuse(err, form, value);
    if (k->type == TYPE_BOOL)
        *(bool *)member(k, conf) = word == 1;
    else if (k->type == TYPE_IN_DOUBT)
        *(enum conf_in_doubt *)member(k, conf) = (enum conf_in_doubt)word;
    else
        *(enum conf_level *)member(k, conf) = (enum conf_level)word;
    return ERR_OK;
}

static enum err_code set_value(const struct key *k, struct conf *conf, struct slice value, struct err *err)
{
    char **text;
    enum err_code code;

    if (holds_control(value))
        return err_set(err, ERR_INVALID_VALUE, NULL, "the value holds a control character");
    code = check_value((enum key_index)(k - keys), value, err);
    if (code != ERR_OK)
        return code;
    switch (k->type) {
    case TYPE_TEXT:
        text = member(k, conf);
        free(*text);
        *text = copy_text(value);
        return ERR_OK;
    case TYPE_LIST:
        return add_to_list(member(k, conf), value, err);
    case TYPE_COUNT:
    case TYPE_SIZE:
    case TYPE_TIME:
        return set_number(k, conf, value, err);
    default:
        return set_word(k, conf, value, err);
    }
}

static struct conf *with_defaults(void)
{
    struct conf *conf = mem_zalloc(sizeof(*conf));

    for (size_t i = 0; i < KEY_COUNT; i++) {
        enum err_code code = set_value(&keys[i], conf, slice_from(keys[i].def), NULL);

        TG_ASSERT(code == ERR_OK);
    }
    return conf;
}

/* One reading of one file. */
struct reading {
    struct conf *conf;
    const char *path;
    FILE *faults; /* or NULL */
    int count;
    int line[KEY_COUNT]; /* where each key was first set; 0: not in the file */
};

static void report(struct reading *r, int line, const char *key, const char *what)
{
    r->count++;
    if (r->faults != NULL)
        fprintf(r->faults, "%s:%d: %s: %s\n", r->path, line, key, what);
}

static void report_line(void *ctx, int line, struct slice key, const char *what)
{
    char name[LIMIT_NAME];
    int shown = key.len < sizeof(name) ? (int)key.len : (int)sizeof(name) - 1;

    (void)snprintf(name, sizeof(name), "%.*s", shown, shown > 0 ? key.p : "");
    report(ctx, line, shown > 0 ? name : "syntax", what);
}

static bool known_section(struct slice section)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (slice_eq_str(section, keys[i].section))
            return true;
    }
    return false;
}

static const struct key *find_key(struct slice section, struct slice name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (slice_eq_str(section, keys[i].section) && slice_eq_str(name, keys[i].name))
            return &keys[i];
    }
    return NULL;
}

static enum err_code unknown(struct slice section, struct err *err)
{
    int shown = section.len < SHOWN ? (int)section.len : SHOWN;

    if (section.len == 0)
        return err_set(err, ERR_UNKNOWN_PARAMETER, NULL, "stands before the first [section]");
    if (!known_section(section))
        return err_set(err, ERR_UNKNOWN_PARAMETER, NULL, "unknown section [%.*s]", shown, section.p);
    return err_set(err, ERR_UNKNOWN_PARAMETER, NULL, "unknown key in section [%.*s]", shown, section.p);
}

static enum err_code read_key(void *ctx, struct slice section, struct slice name, struct slice value, int line,
                              struct err *err)
{
    struct reading *r = ctx;
    const struct key *k = find_key(section, name);
    int *first;

    if (k == NULL)
        return unknown(section, err);
    first = &r->line[k - keys];
    if (*first != 0 && k->type != TYPE_LIST)
        return err_set(err, ERR_INVALID_VALUE, NULL, "set twice, first in line %d", *first);
    if (*first == 0 && k->type == TYPE_LIST)
        clear_list(member(k, r->conf));
    if (*first == 0)
        *first = line;
    return set_value(k, r->conf, value, err);
}

/* Rules that span keys; the line told is that of the key that is there. */
static void check_together(struct reading *r)
{
    bool certificate = r->conf->public_tls_certificate[0] != '\0';
    bool key = r->conf->public_tls_key[0] != '\0';

    if (certificate && !key)
        report(r, r->line[KEY_public_tls_certificate], "tls_certificate", "needs tls_key beside it");
    if (key && !certificate)
        report(r, r->line[KEY_public_tls_key], "tls_key", "needs tls_certificate beside it");
    if (r->conf->retention_records > 0 && r->conf->retention_records < SHORTEST_RETENTION)
        report(r, r->line[KEY_retention_records], "records", "out of range: 0, or 35d to 3650d");
}

/* The whole file, NUL-terminated; NULL with errno when it cannot be read. */
static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "re");
    char *text;
    int failed;

    if (f == NULL)
        return NULL;
    text = mem_alloc(FILE_LIMIT + 1);
    *len = fread(text, 1, FILE_LIMIT + 1, f);
    failed = ferror(f) ? errno : *len > FILE_LIMIT ? EFBIG : 0;
    fclose(f);
    if (failed != 0) {
        free(text);
        errno = failed;
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

struct conf *conf_read(const char *path, FILE *faults)
{
    struct reading r = {.conf = with_defaults(), .path = path, .faults = faults};
    size_t len = 0;
    char *text = read_file(path, &len);

    if (text == NULL) {
        char what[LIMIT_ERROR_MESSAGE];

        (void)snprintf(what, sizeof(what), "cannot be read: %s", strerror(errno));
        report(&r, 0, "file", what);
    } else {
        (void)ini_read((struct slice){text, len}, read_key, report_line, &r);
        check_together(&r);
    }
    free(text);
    if (r.count > 0) {
        conf_destroy(r.conf);
        return NULL;
    }
    return r.conf;
}

void conf_destroy(struct conf *conf)
{
    if (conf == NULL)
        return;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].type == TYPE_TEXT)
            free(*(char **)member(&keys[i], conf));
        else if (keys[i].type == TYPE_LIST)
            clear_list(member(&keys[i], conf));
    }
    free(conf);
}

static bool same_list(const struct conf_list *a, const struct conf_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->at[i], b->at[i]) != 0)
            return false;
    }
    return true;
}

static bool same_value(const struct key *k, const struct conf *a, const struct conf *b)
{
    const void *left = const_member(k, a), *right = const_member(k, b);

    switch (k->type) {
    case TYPE_TEXT:
        return strcmp(*(char *const *)left, *(char *const *)right) == 0;
    case TYPE_LIST:
        return same_list(left, right);
    case TYPE_BOOL:
        return *(const bool *)left == *(const bool *)right;
    case TYPE_IN_DOUBT:
        return *(const enum conf_in_doubt *)left == *(const enum conf_in_doubt *)right;
    case TYPE_LEVEL:
        return *(const enum conf_level *)left == *(const enum conf_level *)right;
    default:
        return *(const int64_t *)left == *(const int64_t *)right;
    }
}

void conf_restart_keys(const struct conf *old, const struct conf *new_conf, struct buf *out)
{
    const char *comma = "";

    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].reload == RELOAD_LIVE || same_value(&keys[i], old, new_conf))
            continue;
        buf_printf(out, "%s%s.%s", comma, keys[i].section, keys[i].name);
        comma = ", ";
    }
}

static bool starts_section(size_t i)
{
    return i == 0 || strcmp(keys[i].section, keys[i - 1].section) != 0;
}

/* Prints <text> in lines of at most HELP_WIDTH characters, each behind "# ". */
static void print_wrapped(FILE *out, const char *text)
{
    while (*text != '\0') {
        size_t n = strlen(text);

        if (n > HELP_WIDTH) {
            n = HELP_WIDTH;
            while (n > 1 && text[n] != ' ')
                n--;
        }
        fprintf(out, "# %.*s\n", (int)n, text);
        text += n;
        while (*text == ' ')
            text++;
    }
}

/* "From 1 to 3600 seconds." for keys that have bounds. */
static void print_range(FILE *out, const struct key *k, const char *before, const char *after)
{
    const char *unit = k->type == TYPE_TIME ? " seconds" : k->type == TYPE_SIZE ? " bytes" : "";

    if (k->type == TYPE_TIME || k->type == TYPE_SIZE || k->type == TYPE_COUNT)
        fprintf(out, "%sFrom %lld to %lld%s.%s", before, (long long)k->min, (long long)k->max, unit, after);
}

void conf_print_help(FILE *out)
{
    fprintf(out, "# Tallygate's configuration. Every key is shown with its default.\n"
                 "# Times: us, ms, s, m, h, d. Sizes: B, KiB, MiB, GiB. A # behind white space starts a comment.\n");
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct key *k = &keys[i];

        if (starts_section(i))
            fprintf(out, "\n[%s]\n", k->section);
        else
            fprintf(out, "\n");
        print_wrapped(out, k->help);
        print_range(out, k, "# ", "\n");
        if (k->reload == RELOAD_LIVE)
            fprintf(out, "# Takes effect on reload.\n");
        fprintf(out, "# %s =%s%s\n", k->name, k->def[0] != '\0' ? " " : "", k->def);
    }
}

/* Text for man(7): a backslash and a hyphen have a meaning of their own there, and so has a dot that begins a line. */
static void print_roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

void conf_print_manual(FILE *out)
{
    fprintf(out,
            ".SH CONFIGURATION\nThe file is made of sections and keys. A # at the start of a line or behind white "
            "space starts a comment; an unknown key is an error.\nTimes carry a unit (us, ms, s, m, h, d), sizes may "
            "carry one (B, KiB, MiB, GiB).\n");
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct key *k = &keys[i];

        if (starts_section(i))
            fprintf(out, ".SS [%s]\n", k->section);
        fprintf(out, ".TP\n.BR %s \" = ", k->name);
        print_roff(out, k->def);
        fprintf(out, "\"\n");
        print_roff(out, k->help);
        fprintf(out, "\n");
        print_range(out, k, "", "\n");
        if (k->reload == RELOAD_LIVE)
            fprintf(out, "Takes effect on reload.\n");
    }
}

bool conf_beside_store(const struct conf *conf, const char *name, char *out, size_t cap)
{
    const char *path = strchr(conf->store_url, ':') + 1; /* conf_read saw to the scheme */
    const char *slash = strrchr(path, '/');
    int dir = slash != NULL ? (int)(slash - path) + 1 : 0;
    int n = snprintf(out, cap, "%.*s%s", dir, path, name);

    return n >= 0 && (size_t)n < cap;
}
