/* metrics.c - the registry, and its Prometheus text.
 *
 * Every cell is a relaxed atomic: a scrape may see one metric a moment before another, but each number alone is
 * exact. A histogram's count is the sum of its buckets as they were read, so it always agrees with them. Times are
 * kept in microseconds and written as decimal seconds, so nothing here rounds. Any thread. */
#include "metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "money.h"

enum kind { COUNTER = 0, COUNTER_BY, GAUGE, HISTOGRAM };

struct row {
    enum kind kind;
    const char *text;
    const char *help;
    const char *label;
    const char *values[METRIC_LABELS];
};

static const struct row rows[METRIC_COUNT] = {
#define COUNTER(name, text, help) [METRIC_##name] = {COUNTER, text, help, NULL, {NULL}},
#define COUNTER_BY(name, text, label, help, ...) [METRIC_##name] = {COUNTER_BY, text, help, label, {__VA_ARGS__}},
#define GAUGE(name, text, help) [METRIC_##name] = {GAUGE, text, help, NULL, {NULL}},
#define HISTOGRAM(name, text, help) [METRIC_##name] = {HISTOGRAM, text, help, NULL, {NULL}},
#include "metrics.def"
#undef COUNTER
#undef COUNTER_BY
#undef GAUGE
#undef HISTOGRAM
};

/* Upper bounds of the buckets, in microseconds: 100 us to 600 s. */
static const int64_t bounds[] = {100,     250,      500,      1000,     2500,      5000,      10000,
                                 25000,   50000,    100000,   250000,   500000,    1000000,   2500000,
                                 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000};

enum { BOUNDS = sizeof(bounds) / sizeof(bounds[0]) };

struct cell {
    _Alignas(64) _Atomic int64_t values[METRIC_LABELS]; /* [0] alone for what has no label; a histogram's sum */
    _Atomic int64_t buckets[BOUNDS + 1];                /* the last: above every bound */
};

static struct cell cells[METRIC_COUNT];

static int64_t load(_Atomic int64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void add(_Atomic int64_t *value, int64_t by)
{
    atomic_fetch_add_explicit(value, by, memory_order_relaxed);
}

void metric_add(enum metric m, int64_t by)
{
    TG_ASSERT(m < METRIC_COUNT && (rows[m].kind == GAUGE || (rows[m].kind == COUNTER && by >= 0)));
    add(&cells[m].values[0], by);
}

void metric_add_label(enum metric m, unsigned value, int64_t by)
{
    TG_ASSERT(m < METRIC_COUNT && rows[m].kind == COUNTER_BY && by >= 0);
    TG_ASSERT(value < METRIC_LABELS && rows[m].values[value] != NULL);
    add(&cells[m].values[value], by);
}

void metric_set(enum metric m, int64_t value)
{
    TG_ASSERT(m < METRIC_COUNT && rows[m].kind == GAUGE);
    atomic_store_explicit(&cells[m].values[0], value, memory_order_relaxed);
}

void metric_observe(enum metric m, int64_t microseconds)
{
    size_t i = 0;

    TG_ASSERT(m < METRIC_COUNT && rows[m].kind == HISTOGRAM);
    while (i < BOUNDS && microseconds > bounds[i])
        i++;
    add(&cells[m].buckets[i], 1);
    add(&cells[m].values[0], microseconds);
}

int64_t metric_read(enum metric m)
{
    int64_t sum = 0;

    TG_ASSERT(m < METRIC_COUNT && rows[m].kind != HISTOGRAM);
    for (size_t i = 0; i < METRIC_LABELS; i++)
        sum += load(&cells[m].values[i]);
    return sum;
}

static void print_head(struct buf *out, const char *name, const char *help, const char *type)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *seconds(int64_t micros, char text[MONEY_TEXT])
{
    return money_format_scaled(micros, 6, text);
}

static void print_histogram(struct buf *out, enum metric m)
{
    const char *name = rows[m].text;
    char text[MONEY_TEXT];
    int64_t count = 0;

    for (size_t i = 0; i < BOUNDS; i++) {
        count += load(&cells[m].buckets[i]);
        buf_printf(out, "%s_bucket{le=\"%s\"} %lld\n", name, seconds(bounds[i], text), (long long)count);
    }
    count += load(&cells[m].buckets[BOUNDS]);
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %lld\n", name, (long long)count);
    buf_printf(out, "%s_sum %s\n", name, seconds(load(&cells[m].values[0]), text));
    buf_printf(out, "%s_count %lld\n", name, (long long)count);
}

static void print_metric(struct buf *out, enum metric m)
{
    static const char *const types[] = {"counter", "counter", "gauge", "histogram"};
    const struct row *r = &rows[m];

    print_head(out, r->text, r->help, types[r->kind]);
    if (r->kind == HISTOGRAM) {
        print_histogram(out, m);
    } else if (r->kind == COUNTER_BY) {
        for (size_t i = 0; i < METRIC_LABELS && r->values[i] != NULL; i++)
            buf_printf(out, "%s{%s=\"%s\"} %lld\n", r->text, r->label, r->values[i],
                       (long long)load(&cells[m].values[i]));
    } else {
        buf_printf(out, "%s %lld\n", r->text, (long long)load(&cells[m].values[0]));
    }
}

/* The head of a small file of /proc, with a NUL; false when it cannot be read. */
static bool read_head(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, out, cap - 1);
    close(fd);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

/* The <index>-th blank-separated number of <text>, from 0. */
static bool nth_number(const char *text, int index, unsigned long long *out)
{
    struct slice left = slice_from(text), word;

    for (int i = 0; i <= index; i++) {
        if (left.len == 0)
            return false;
        (void)slice_cut(left, ' ', &word, &left);
    }
    return slice_to_u64(word, out);
}

static void print_memory(struct buf *out)
{
    char text[256];
    unsigned long long pages;

    if (!read_head("/proc/self/statm", text, sizeof(text)) || !nth_number(text, 1, &pages))
        return;
    print_head(out, "process_resident_memory_bytes", "Resident memory size in bytes.", "gauge");
    buf_printf(out, "process_resident_memory_bytes %llu\n", pages * (unsigned long long)sysconf(_SC_PAGESIZE));
}

static int64_t micros_of(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

static void print_cpu(struct buf *out)
{
    struct rusage used;
    char text[MONEY_TEXT];

    if (getrusage(RUSAGE_SELF, &used) != 0)
        return;
    print_head(out, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter");
    buf_printf(out, "process_cpu_seconds_total %s\n",
               seconds(micros_of(used.ru_utime) + micros_of(used.ru_stime), text));
}

static void print_fds(struct buf *out)
{
    DIR *dir = opendir("/proc/self/fd");
    struct rlimit limit;
    int n = -1; /* the directory's own */

    if (dir == NULL)
        return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    print_head(out, "process_open_fds", "Number of open file descriptors.", "gauge");
    buf_printf(out, "process_open_fds %d\n", n);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    print_head(out, "process_max_fds", "Maximum number of open file descriptors.", "gauge");
    buf_printf(out, "process_max_fds %llu\n", (unsigned long long)limit.rlim_cur);
}

/* When the machine started, in seconds: the line "btime N" of /proc/stat, which stands behind lines of any length. */
static bool boot_time(unsigned long long *out)
{
    FILE *f = fopen("/proc/stat", "re");
    char *line = NULL;
    size_t cap = 0;
    bool found = false;

    if (f == NULL)
        return false;
    for (ssize_t n; !found && (n = getline(&line, &cap, f)) > 0;) {
        struct slice s = {line, (size_t)n - (line[n - 1] == '\n')};

        if (slice_starts(s, SLICE("btime ")))
            found = slice_to_u64((struct slice){s.p + 6, s.len - 6}, out);
    }
    free(line);
    fclose(f);
    return found;
}

static void print_start(struct buf *out)
{
    enum { START_TICKS = 20 }; /* blanks between the command's ")" and field 22 */
    char text[1024], shown[MONEY_TEXT];
    const char *after;
    unsigned long long boot, ticks;

    if (!read_head("/proc/self/stat", text, sizeof(text)) || !boot_time(&boot))
        return;
    after = strrchr(text, ')'); /* the command's name may hold blanks */
    if (after == NULL || !nth_number(after, START_TICKS, &ticks))
        return;
    print_head(out, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "gauge");
    buf_printf(out, "process_start_time_seconds %s\n",
               seconds((int64_t)(boot * 1000000 + ticks * 1000000 / (unsigned long long)sysconf(_SC_CLK_TCK)), shown));
}

void metrics_print(struct buf *out)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        print_metric(out, m);
    print_head(out, "tallygate_build_info", "The version that runs.", "gauge");
    buf_append_str(out, "tallygate_build_info{version=\"" TG_VERSION "\"} 1\n");
    print_memory(out);
    print_cpu(out);
    print_fds(out);
    print_start(out);
}
